"""`profiler measure`: coefficients of models on the hardware at hand, or behind an URL, measured."""

import argparse
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from profiler.endpoint_options import add_endpoint_options, key_of
from stream.command import UsageError
from stream.table_format import read_table

if TYPE_CHECKING:
    from profiler.measure_session import Session
    from profiler.nvml import Board
    from profiler.shapes import Shape
    from profiler.subjects import Subject

__all__ = ["EXIT_INTERRUPTED", "EXIT_UNFINISHED", "add"]

EXIT_UNFINISHED = 3
EXIT_INTERRUPTED = 130
_INTERRUPTED = "interrupted"

_DESCRIPTION = """\
Measure how long models take, alone, and write their coefficients as a table.

SPEC is a shipped model's name, a Hugging Face config.json (or its directory), or numbers
(layers=24,hidden=1024,heads=16,ffn=4096,vocabulary=50304). Weights are random and made on the device; nothing is
downloaded. The planner chooses the runs that tell most; each is repeated until its median is known to --tight.
Of a model that does not fit, some of its layers run at two or more depths, from which the whole is extrapolated.

Every run is kept in --samples, with what it ran on; what is there is not run again, so that the same command goes on
after a kill or when its budget was spent (exit status 3: there is more to do)."""

_EXAMPLES = """\
examples:
  profiler measure --arch llama-3.1-8b --out mine.json
  profiler measure --arch layers=8,hidden=512,heads=8,ffn=1408,vocabulary=4000 --device cpu --out mine.json
  profiler measure --arch llama-3.1-70b --layers 4,12 --stack compiled --out mine.json
  profiler measure --suite modern --budget 8m --out h200.json
  profiler measure --endpoint http://localhost:8000 --name my-vllm --out mine.json"""

_LONGEST = {"cpu": 1024}  # prompt tokens, unless --max-prompt says otherwise
_LONGEST_OTHERWISE = 4096
_DTYPES = ("bfloat16", "float16", "float32")
_BUSY = 0.1  # of the machine, that others use


def add(commands: Any) -> None:
    """Add it to the subparsers of the `profiler` command."""
    command: argparse.ArgumentParser = commands.add_parser(
        "measure", help="coefficients measured on this machine, or of an endpoint", description=_DESCRIPTION,
        epilog=_EXAMPLES,
    )  # fmt: skip
    what = command.add_argument_group("what to measure")
    what.add_argument("--arch", action="append", default=[], metavar="SPEC", help="an architecture; several one by one")
    what.add_argument("--suite", metavar="NAME", help="the shapes of a suite: modern, or a file of one's own")
    what.add_argument("--small", action="store_true", help="of each shape a small one of its family, to try a suite")
    what.add_argument("--endpoint", metavar="URL", help="any running OpenAI-compatible server instead")
    add_endpoint_options(command)
    how = command.add_argument_group("how")
    how.add_argument(
        "--stack", choices=("transformers", "compiled"), default="transformers",
        help="eager, or steps compiled (torch.compile, on a GPU with CUDA graphs) (default: transformers)",
    )  # fmt: skip
    how.add_argument("--device", help="cpu, cuda:0, .. (default: the first GPU, else cpu)")
    how.add_argument("--dtype", choices=_DTYPES, help="of the weights (default: bfloat16; on a CPU float32)")
    how.add_argument("--threads", type=_count, metavar="N", help="processor threads (default: torch's)")
    how.add_argument("--layers", type=_depths, default=(), metavar="K1,K2", help="run so many layers, and extrapolate")
    how.add_argument("--check", action="store_true", help="run the whole model too, and hold the extrapolation to it")
    how.add_argument(
        "--tensor-parallel", type=_count, default=1, metavar="N", help="devices of the endpoint (recorded)"
    )
    how.add_argument("--max-prompt", type=_count, metavar="N", help="longest prompt (default: 4096; on a CPU 1024)")
    how.add_argument(
        "--p95", type=_share, default=0.05, metavar="X", help="error that 95 %% of points keep (default: 0.05)"
    )
    how.add_argument("--tight", type=_share, default=0.02, metavar="X", help="and of a point's median (default: 0.02)")
    how.add_argument(
        "--budget", type=_seconds, metavar="TIME", help="stop in time: 8m, 90s, 1h (default: when all is measured)"
    )
    out = command.add_argument_group("results")
    out.add_argument("--samples", type=Path, metavar="FILE.jsonl", help="every run (default: --out's name + .jsonl)")
    out.add_argument("--out", type=Path, metavar="TABLE.json", help="the table to write or to add to")
    out.add_argument("--name", metavar="STACK", help="the stack's name (default: HARDWARE-transformers, ..)")
    command.set_defaults(run=_run)


def _count(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and int(text[:9])):
        raise argparse.ArgumentTypeError(f"expected a whole number, 1 or more: found {text!r}")
    return int(text[:9])


def _share(text: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = 0.0
    if not 0 < found < 1:
        raise argparse.ArgumentTypeError(f"expected a fraction between 0 and 1, as 0.05: found {text!r}")
    return found


def _depths(text: str) -> tuple[int, ...]:
    try:
        found = tuple(int(each) for each in text.split(","))
    except ValueError:
        found = ()
    if not found or min(found) < 1 or list(found) != sorted(set(found)):
        raise argparse.ArgumentTypeError(f"expected rising numbers of layers, as 4,8: found {text!r}")
    return found


def _seconds(text: str) -> float:
    from profiler.progress import DurationError, parse_duration

    try:
        return parse_duration(text)
    except DurationError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _run(options: argparse.Namespace) -> int:
    samples = _samples(options)
    from profiler.journal import Journal
    from profiler.measure_session import Rules, Session
    from profiler.measuring import Budget
    from profiler.progress import Progress
    from profiler.this_machine import told

    budget = Budget(options.budget)
    board, subjects = _subjects(options)
    about = told(board)
    if about["others_share"] > _BUSY:
        print(f"profiler measure: warning: others use {about['others_share']:.0%} of this machine", file=sys.stderr)
    with _closed(subjects), Journal(samples) as journal, Progress("profiler measure") as progress:
        rules = Rules(options.p95, options.tight)
        session = Session(journal, rules, budget, progress, about, len(subjects), board)
        faults: list[str | None] = []
        try:
            faults += [_measured(session, subject) for subject in subjects]
            if options.check:
                faults += [_held(session, subject) for subject in subjects]
        except KeyboardInterrupt:
            faults = [_INTERRUPTED]
    status = _status([fault for fault in faults if fault is not None], samples)
    _finish(session, options, samples)
    return status


@contextmanager
def _closed(subjects: "Sequence[Subject]") -> Iterator[None]:
    """Close them at the end, however it ends."""
    try:
        yield
    finally:
        for subject in subjects:
            subject.close()


def _samples(options: argparse.Namespace) -> Path:
    """The file of samples, if the options go together, and if what is at --out can be added to."""
    ways = [f"--{name}" for name in ("arch", "suite", "endpoint") if getattr(options, name)]
    if len(ways) != 1:
        found = f", not {' and '.join(ways)}" if ways else ""
        raise UsageError(f"say what to measure: one of --arch, --suite and --endpoint{found}")
    if options.layers and options.endpoint:
        raise UsageError("--layers is of models in this process: an endpoint has all its layers")
    if options.endpoint and not options.name:
        raise UsageError("--endpoint needs --name STACK: what hardware and software it runs on, as h100-vllm")
    if options.tensor_parallel != 1 and not options.endpoint:
        raise UsageError("--tensor-parallel records an endpoint's devices: in this process one device runs a model")
    if options.out is None and options.samples is None:
        raise UsageError("say where results go: --out TABLE.json, or --samples FILE.jsonl for the runs alone")
    if options.out is not None and options.out.exists() and options.out.suffix != ".jsonl":
        read_table(options.out)
    samples: Path = options.samples or options.out.with_suffix(".jsonl")
    if samples.suffix != ".jsonl":
        raise UsageError(f"--samples {samples}: its name has to end in .jsonl")
    if samples == options.out:
        raise UsageError(
            f"--out {options.out}: that is the file of the runs: give the table another name, as mine.json"
        )
    return samples


# --- what is measured


def _subjects(options: argparse.Namespace) -> "tuple[Board | None, list[Subject]]":
    if options.endpoint:
        return None, [_remote(options)]
    from profiler.subjects import local
    from profiler.this_machine import this_stack

    shapes = _shapes(options)
    compiled = options.stack == "compiled"
    stack, board = this_stack(options.device, options.dtype, options.name, compiled=compiled, threads=options.threads)
    longest = options.max_prompt or _LONGEST.get(stack.device, _LONGEST_OTHERWISE)
    return board, [local(shape, stack, longest, options.layers) for shape in shapes]


def _shapes(options: argparse.Namespace) -> "list[Shape]":
    from profiler.shapes import shape
    from profiler.suite import small, suite

    found = list(suite(options.suite)) if options.suite else [shape(spec) for spec in options.arch]
    return [small(each) for each in found] if options.small else found


def _remote(options: argparse.Namespace) -> "Subject":
    from profiler.endpoint import Endpoint
    from profiler.machine import MachineError
    from profiler.runs import Setup
    from profiler.subjects import Remote

    key = key_of(options.key_env)
    endpoint = Endpoint(options.endpoint, options.model, key, route=options.route, timeout=options.timeout)
    try:
        endpoint.calibrate()
    except MachineError:
        endpoint.close()
        raise
    setup = Setup(
        model=endpoint.model,
        stack=options.name,
        hardware={"name": options.name},
        software=endpoint.describe(),
        tensor_parallel=options.tensor_parallel,
        notes=("F holds what network and server add",),
    )
    return Remote(setup, endpoint, options.max_prompt or _LONGEST["cpu"])


# --- how


def _measured(session: "Session", subject: "Subject") -> str | None:
    """Measure one; None, or what was wrong: "" if the budget was spent first. The next one is measured in any case."""
    from profiler.machine import MachineError

    try:
        planned = session.measure(subject)
    except MachineError as error:
        return f"{subject.setup.model}: {error}"
    if planned is None:
        return ""
    runs = session.measured[-1]
    depths = [layers for layers in runs.setup.depths if layers]
    ran = f" of {' and '.join(map(str, depths))} layers" if depths else ""
    found = f"{len(runs.points())} points, {runs.number} runs{ran}; of all points' medians 95 % are known to"
    session.progress.say(f"{subject.setup.model}: {found} {planned.promised_p95:.1%}")
    return None


def _held(session: "Session", subject: "Subject") -> str | None:
    """Hold what was extrapolated from some layers to all of them; as `_measured`."""
    from profiler.machine import MachineError
    from profiler.subjects import Local

    if not isinstance(subject, Local) or not any(subject.setup.depths):
        return None
    try:
        off = session.check(subject)
    except MachineError as error:
        return f"{subject.setup.model}, all layers: {error}"
    if off is None:
        return ""
    session.progress.say(
        f"{subject.setup.model}: extrapolated against all layers, {len(off)} points: median {median(off):.1%}, most"
        f" {max(off):.1%} off"
    )
    return None


def _finish(session: "Session", options: argparse.Namespace, samples: Path) -> None:
    from profiler.fit_text import fit_lines
    from profiler.measured_table import against_predictions, measured_stack
    from profiler.tables import write_stack

    date = f"{datetime.now(UTC):%Y-%m-%d}"
    found = measured_stack(session.complete, date, f"measured by trueclock (profiler measure), runs in {samples.name}")
    if found is None:
        return
    print("\n".join([*fit_lines(found.fitted), *against_predictions(found)]))
    if options.out is not None:
        write_stack(options.out, found.stack)
        rows = len(found.stack.rows)
        print(f"{options.out}: stack {found.stack.name}: {rows} row{'s'[: rows != 1]} written")


def _status(faults: Sequence[str], samples: Path) -> int:
    for fault in filter(None, faults):
        print(f"profiler measure: {fault}", file=sys.stderr)
    if "" in faults:
        print(f"profiler measure: the budget is spent: the same command goes on from {samples}", file=sys.stderr)
        return EXIT_UNFINISHED
    if _INTERRUPTED in faults:
        print(f"profiler measure: the same command goes on from {samples}", file=sys.stderr)
        return EXIT_INTERRUPTED
    return 1 if faults else 0
