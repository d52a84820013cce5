"""`profiler fit`: coefficients from samples, with their errors, into a table."""

import argparse
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stream.command import UsageError

if TYPE_CHECKING:
    from profiler.fitting import Fitted
    from profiler.samples import Measured

__all__ = ["add"]

_DESCRIPTION = """\
Fit the coefficients of every model in a file of measured runtimes, and write them as a table.

SAMPLES.csv has the columns hardware, model, prompt_tokens, output_tokens and runtime_seconds, one row a run;
and, where known, tensor_parallel, batch_size (only runs of 1 are fitted), layers_profiled and layers_total (of
a model too large to run whole), hidden_size, attention_heads, ffn_hidden_size. Splitwise's files are read too.

Methods: posterior (the default) learns from the roofline of the model's architecture, where that is known and makes
the samples likelier than a growth of their own does, and from what all models of a hardware have in common, and has an
interval for every number. paper is the published
method of Narayanan et al. (arXiv 2305.02440), exactly, with its three decimals.

A hardware becomes a stack of its name, or --stack. A table already at --out keeps its other stacks and rows. A
model measured at several degrees of tensor parallelism gets a row for each: MODEL@tp2, MODEL@tp8."""

_EXAMPLES = """\
examples:
  profiler fit samples.csv --out my_table.json
  profiler fit samples.csv --hardware a100 --stack my-a100 --software "vLLM 0.9" --out my_table.json
  profiler fit samples.csv --method paper --out published.json --plot fit.html"""


_SLOW = 1.0  # seconds for an output token


def add(commands: Any) -> None:
    """Add it to the subparsers of the `profiler` command."""
    command: argparse.ArgumentParser = commands.add_parser(
        "fit", help="coefficients from measured runtimes", description=_DESCRIPTION, epilog=_EXAMPLES
    )
    command.add_argument("samples", type=Path, metavar="SAMPLES.csv", help="measured runtimes")
    command.add_argument("--out", type=Path, metavar="TABLE.json", help="the table to write or to add to")
    command.add_argument(
        "--method", choices=("posterior", "paper"), default="posterior", help="how to fit (default: posterior)"
    )
    command.add_argument("--hardware", help="only this hardware of the file (a100 also finds a100-80gb)")
    command.add_argument("--stack", help="the stack's name in the table (default: the hardware's)")
    command.add_argument("--software", help="what ran the models, for the table")
    command.add_argument("--plot", type=Path, metavar="FILE.html", help="measured points and fitted curves, to look at")
    command.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    # NumPy comes with these: only now, so that --help answers at once.
    from profiler.fit_text import fit_lines
    from profiler.fitting import fit
    from profiler.samples import choose_hardware, read_samples

    samples = choose_hardware(read_samples(options.samples), options.hardware, str(options.samples))
    described = _described(options, samples)
    alone = _alone(samples, str(options.samples))
    fitted = fit(alone, options.method)
    print("\n".join(fit_lines(fitted)))
    if options.method != "paper":
        print("\n".join(_compared(alone)))
    for warning in _doubts(fitted):
        _warn(warning)
    if options.out is not None:
        for line in _written(options.out, fitted, described):
            print(line)
    if options.plot is not None:
        _plot(options, fitted)
    return 0


def _written(path: Path, fitted: Sequence["Fitted"], described: dict[str, Any]) -> Iterator[str]:
    """Write the table, and tell what was written and what had been there."""
    from profiler.fitted import stacks_of
    from profiler.tables import write_stack
    from stream.table_format import read_table

    before = {stack.name: stack.rows for stack in read_table(path).stacks} if path.exists() else {}
    for stack in stacks_of(fitted, **described):
        write_stack(path, stack)
        replaced = [name for name in stack.rows if name in before.get(stack.name, {})]
        some = f", replacing {', '.join(replaced)}" if replaced else ""
        yield f"{path}: stack {stack.name}: {len(stack.rows)} row{'s'[: len(stack.rows) != 1]} written{some}"


def _doubts(fitted: Sequence["Fitted"]) -> Iterator[str]:
    """What the numbers make one doubt of the samples."""
    from profiler.prior import BENT, SMOOTH

    for each in fitted:
        beta = each.coefficients.per_output_token
        if beta > _SLOW:
            yield f"{each.measured.name}: {beta:.4g} s for each output token: are the runtimes in milliseconds?"
    unused = [each for each in fitted if each.measured.architecture is not None and each.mean in {SMOOTH, BENT}]
    for hardware in dict.fromkeys(each.measured.hardware for each in unused):
        models = ", ".join(each.measured.model for each in unused if each.measured.hardware == hardware)
        yield f"{hardware}: architecture not used of {models}: {_why_not(hardware)}"


def _why_not(hardware: str) -> str:
    from profiler.choice import stacks_on

    known = [stack.name for stack in stacks_on(hardware)]
    if not known:
        return "no roofline is known of this hardware"
    return f"no roofline there is ({', '.join(known)}) makes these samples likelier than growth of their own does"


def _described(options: argparse.Namespace, samples: Sequence["Measured"]) -> dict[str, Any]:
    hardware = list(dict.fromkeys(each.hardware for each in samples))
    if options.stack is not None and len(hardware) > 1:
        raise UsageError(f"--stack names one stack, the samples are of {', '.join(hardware)}: choose with --hardware")
    described = {
        "name": options.stack,
        "software": options.software,
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "source": f"fitted to {options.samples.name} by trueclock (profiler fit, method {options.method})",
    }
    return {key: value for key, value in described.items() if value is not None}


def _alone(samples: Sequence["Measured"], file: str) -> list["Measured"]:
    """Those that have runs of batch size 1; what is left out is said."""
    for each in samples:
        others = int((each.batch != 1).sum())
        if others:
            _warn(f"{each.name}: {others} of {len(each.batch)} runs left out: their batch size is not 1")
    alone = [each for each in samples if (each.batch == 1).any()]
    if not alone:
        raise UsageError(f"{file}: no runs of batch size 1, which coefficients are of")
    return alone


def _compared(samples: Sequence["Measured"]) -> Iterator[str]:
    """How much better this is than the published method, by what neither has seen."""
    from profiler.crossval import gain

    found = gain(samples)
    if found is None:
        return
    some = "" if found.sizes == found.interior else f", {found.sizes} of {found.interior}; all: profiler crossval"
    yield ""
    yield f"prompt sizes left out (interior ones{some}): mean error of F"
    yield f"  this method                              {found.default:6.1%}"
    if found.published is not None:
        yield f"  method paper, straight lines between     {found.published:6.1%}"
        yield f"  method paper, as HELM reads its tables   {found.published_helm:6.1%}"


def _plot(options: argparse.Namespace, fitted: Sequence["Fitted"]) -> None:
    from profiler.fit_figures import fit_figures
    from profiler.plot import write_page

    title = f"{options.samples.name}: measured runtimes and their fit, method {options.method}"
    write_page(options.plot, fit_figures(fitted), title)


def _warn(text: str) -> None:
    print(f"profiler fit: warning: {text}", file=sys.stderr)
