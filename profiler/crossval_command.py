"""`profiler crossval`: how far off the numbers are for what was left out."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from profiler.judge import Judged
    from profiler.samples import Measured

__all__ = ["add"]

_DESCRIPTION = """\
Leave out a part of measured runtimes, predict it from the rest, and print relative errors.

--leave-out prompt-size: one prompt size of one model at a time (interior sizes only); what `profiler fit` makes of
the rest, other models included, is compared with the runtime measured at one output token. Beside it stand the
published method (paper) as HELM reads its tables, the same with straight lines between sizes (linear), and sizes
that were left out of all models at once.
--leave-out model: one model at a time; the roofline is calibrated on the others, and predicts all runtimes. Beside it
stand models that were left out together with those of nearly their shape.
--leave-out tensor-parallel: one tensor-parallel degree at a time, likewise.

JSON: {"models": {MODEL: {"mean", "median", "p90", "p95", "points"}}, "overall": {"mean", "p95", "median_model",
"worst_model"}}, and more beside it; errors are fractions, median_model and worst_model are of the models' medians.
Of several hardware in one file a model is called HARDWARE/MODEL."""

_EXAMPLES = """\
examples:
  profiler crossval samples.csv --leave-out prompt-size --hardware a100
  profiler crossval samples.csv --leave-out model --hardware a100 --json"""

_PARTS = ("prompt-size", "model", "tensor-parallel")

_NOTHING = {
    "prompt-size": "no model has runs of batch size 1 at three prompt sizes, an inner one with one output token: the"
    " smallest and the largest stay, and the truth is the runtime at one output token",
    "model": "of no model with an architecture another one is left",
    "tensor-parallel": "of no model with an architecture another degree is left",
}


def add(commands: Any) -> None:
    """Add it to the subparsers of the `profiler` command."""
    command: argparse.ArgumentParser = commands.add_parser(
        "crossval", help="errors for what was left out of a fit", description=_DESCRIPTION, epilog=_EXAMPLES
    )
    command.add_argument("samples", type=Path, metavar="SAMPLES.csv", help="measured runtimes")
    command.add_argument("--leave-out", choices=_PARTS, required=True, help="what is left out")
    command.add_argument("--hardware", help="only this hardware of the file (a100 also finds a100-80gb)")
    command.add_argument("--json", action="store_true", help="print JSON")
    command.add_argument("--plot", type=Path, metavar="FILE.html", help="the errors, to look at")
    command.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    # NumPy comes with these: only now, so that --help answers at once.
    from profiler.judge import judge, summary_lines
    from profiler.samples import choose_hardware, read_samples

    samples = choose_hardware(read_samples(options.samples), options.hardware, str(options.samples))
    judged, beside = _prompt_size(samples) if options.leave_out == "prompt-size" else _roofline(options, samples)
    found = {"leave_out": options.leave_out, **judge(judged)}
    others = {name: judge(each) for name, each in beside.items()}
    if options.json:
        print(json.dumps({**found, "beside": others} if others else found, indent=1))
    else:
        for line in [*summary_lines(found), *_compared(others)]:
            print(line)
        if not found["models"]:
            print(_NOTHING[options.leave_out])
    if options.plot is not None:
        _plot(options, judged)
    return 0


def _prompt_size(samples: Sequence["Measured"]) -> tuple[list["Judged"], dict[str, list["Judged"]]]:
    from profiler.crossval import leave_out_everywhere, leave_out_published, leave_out_sizes

    alone = [each.where(each.batch == 1) for each in samples if (each.batch == 1).any()]
    return leave_out_sizes(alone), {**leave_out_published(alone), "on no model": leave_out_everywhere(alone)}


def _roofline(
    options: argparse.Namespace, samples: Sequence["Measured"]
) -> tuple[list["Judged"], dict[str, list["Judged"]]]:
    from profiler.leave_out import leave_out_degrees, leave_out_models, leave_out_shapes

    if options.leave_out == "tensor-parallel":
        return leave_out_degrees(samples), {}
    return leave_out_models(samples), {"shape": leave_out_shapes(samples)}


def _compared(others: dict[str, dict[str, Any]]) -> list[str]:
    said = {
        "paper": "the published method, read as HELM reads it",
        "linear": "the published method, straight lines between sizes",
        "on no model": "sizes that were left out of all models",
        "shape": "models left out together with those of nearly their shape",
    }
    lines = []
    for name, found in others.items():
        overall = found["overall"]
        if overall["mean"] is not None:
            numbers = f"mean {overall['mean']:.1%}, p95 {overall['p95']:.1%}"
            medians = f"median and worst model {overall['median_model']:.1%}, {overall['worst_model']:.1%}"
            lines.append(f"beside: {said.get(name, name)}: {numbers}, {medians}")
    return lines


def _plot(options: argparse.Namespace, judged: Sequence["Judged"]) -> None:
    from profiler.judge_figures import error_figures
    from profiler.plot import write_page

    title = f"{options.samples.name}: errors with a {options.leave_out.replace('-', ' ')} left out"
    write_page(options.plot, error_figures(judged), title)
