"""`profiler plan`: which runs tell most, tried on a file that remembers them all."""

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stream.command import UsageError

if TYPE_CHECKING:
    from profiler.planning import Plan
    from profiler.samples import Measured

__all__ = ["add"]

_DESCRIPTION = """\
Choose the next most informative (p, o) to run, until 95 % of all points are known to within --p95.

--oracle SAMPLES.csv: of every model in the file only the runs that are chosen are looked at, one a point, as if they
were made then; what the planner expects beforehand is what the other models on the hardware say, and the model's
architecture on the hardware. Where neither tells anything, a few runs that show the growth come first; they count like
all others. Then a judge looks at all runs. For each model:
  points         the runs, in order: [prompt tokens, output tokens]
  seconds_used   what they took, seconds_full what all points take, ratio the second by the first;
                 ratio_with_1s_a_point: the same with one second more for every run
  promised_p95   within which 95 % of all points are measured, with 90 % certainty, as the planner estimates. More than
                 --p95 where runs scatter so much that no coefficients could keep it, or nothing is left to run
  reached_p95    within which 95 % of all points really are; all_points_p95 the same of a fit to all points
Beside it stands a fixed design of ten points with the same expectations."""

_EXAMPLES = """\
examples:
  profiler plan --oracle samples.csv --hardware a100
  profiler plan --oracle samples.csv --p95 0.03 --model openai/davinci --json
  profiler plan --oracle samples.csv --noise 0.03 --seed 7"""


def add(commands: Any) -> None:
    """Add it to the subparsers of the `profiler` command."""
    command: argparse.ArgumentParser = commands.add_parser(
        "plan", help="which runs tell most, and when they are enough", description=_DESCRIPTION, epilog=_EXAMPLES
    )
    command.add_argument("--oracle", type=Path, required=True, metavar="SAMPLES.csv", help="what remembers all runs")
    command.add_argument(
        "--p95", type=_number(0.001, 1), default=0.05, metavar="X", help="error to reach, a fraction (default: 0.05)"
    )
    command.add_argument("--hardware", help="only this hardware of the file (a100 also finds a100-80gb)")
    command.add_argument("--model", action="append", default=[], help="plan this model (repeatable; default: all)")
    command.add_argument(
        "--noise",
        type=_number(0, 0.5),
        default=0.0,
        metavar="X",
        help="multiply every runtime that the planner sees, the other models' too, by 1 + X times a normal number",
    )
    command.add_argument("--seed", type=_whole, default=0, help="of the noise (default: 0)")
    command.add_argument("--json", action="store_true", help="print JSON")
    command.add_argument("--plot", type=Path, metavar="FILE.html", help="F as believed, and the runs, to look at")
    command.set_defaults(run=_run)


def _number(low: float, high: float) -> Callable[[str], float]:
    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = -1.0
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"expected a number from {low} to {high}, found {text!r}")
        return value

    return parse


def _whole(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"expected a whole number, 0 or more, found {text!r}")
    return int(text)


def _run(options: argparse.Namespace) -> int:
    # NumPy comes with these: only now, so that --help answers at once.
    from profiler.fitted import called
    from profiler.offline import judged, overall, trial
    from profiler.samples import choose_hardware, read_samples

    samples = choose_hardware(read_samples(options.oracle), options.hardware, str(options.oracle))
    names = called(samples)
    planned, found, fixed = {}, {}, []
    for number in _wanted(samples, options):
        planner, oracle = trial(samples, number, options.noise, options.seed)
        planned[number] = planner.run(oracle, options.p95)
        found[names[number]] = judged(planned[number], samples[number], oracle)
        fixed.append(judged(planner.run_fixed(oracle), samples[number], oracle))
    together = {**overall(list(found.values()), options.p95), "fixed_design": overall(fixed, options.p95)}
    if options.json:
        print(json.dumps({"p95": options.p95, "models": found, "overall": together}, indent=1))
    else:
        for line in _lines(found, together, options.p95):
            print(line)
    if (warning := _above(found, options.p95)) is not None:
        print(f"profiler plan: warning: {warning}", file=sys.stderr)
    if options.plot is not None:
        _plot(options, [(planned[number], samples[number]) for number in planned])
    return 0


def _above(found: dict[str, Any], p95: float) -> str | None:
    """What is to be said of models of which less is promised than was asked for."""
    promised = [each["promised_p95"] for each in found.values() if each["promised_p95"] > p95]
    if not promised:
        return None
    most = f"{min(promised):.1%}" if len(promised) == 1 else f"{min(promised):.1%} to {max(promised):.1%}"
    return (
        f"{len(promised)} of {len(found)} models: promised {most}, more than {p95:.1%}: single runs scatter too much"
        " for less, or nothing is left to run"
    )


def _wanted(samples: Sequence["Measured"], options: argparse.Namespace) -> list[int]:
    known = [each.model for each in samples]
    missing = [model for model in options.model if model not in known]
    if missing:
        raise UsageError(f"{options.oracle}: no model {missing[0]!r}: it has {', '.join(dict.fromkeys(known))}")
    alone = [bool((each.batch == 1).any()) for each in samples]
    if not any(alone):
        raise UsageError(f"{options.oracle}: no runs of batch size 1, which are what is planned")
    return [at for at, model in enumerate(known) if alone[at] and (not options.model or model in options.model)]


def _lines(found: dict[str, Any], together: dict[str, Any], p95: float) -> Iterator[str]:
    width = max(map(len, found))
    yield f"{'':{width}}  runs  seconds     full   ratio  +1 s each  promised  reached  all points"
    for name, each in found.items():
        ratios = f"{_ratio(each['ratio']):>8}{_ratio(each['ratio_with_1s_a_point']):>11}"
        errors = f"{each['promised_p95']:10.1%}{each['reached_p95']:9.1%}{each['all_points_p95']:12.1%}"
        seconds = f"{each['seconds_used']:9.2f}{each['seconds_full']:9.1f}"
        yield f"{name:{width}}{len(each['points']):6}{seconds}{ratios}{errors}"
    yield "seconds: of these runs; full: of one run at every point; ratio: full / seconds (and with 1 s more a run)"
    yield "promised, reached: 95 % of the points lie within it, as planned and in truth; all points: after a fit to all"
    yield ""
    yield "runs to make, in this order, as prompt tokens x output tokens:"
    for name, each in found.items():
        yield f"{name:{width}}  {' '.join(f'{prompt}x{output}' for prompt, output in each['points']) or 'none'}"
    yield ""
    for what, each in (("adaptive", together), ("fixed design", together["fixed_design"])):
        mean, median, least, dearer = (
            _ratio(each[key]) for key in ("mean_ratio", "median_ratio", "least_ratio", "mean_ratio_with_1s_a_point")
        )
        yield (
            f"{what}: {each['mean_points']:.1f} runs (most {each['most_points']}), mean ratio {mean} (median {median},"
            f" least {least}; with 1 s a run {dearer}), p95 within {p95:.1%}: {each['kept']:.0%} of {each['models']},"
            f" within what was promised: {each['promise_kept']:.0%}"
        )


def _ratio(number: float | None) -> str:
    """Without any run there is no ratio."""
    return "-" if number is None else f"{number:.0f}"


def _plot(options: argparse.Namespace, planned: Sequence[tuple["Plan", "Measured"]]) -> None:
    from profiler.judge_figures import plan_figure
    from profiler.plot import write_page

    figures = [plan_figure(each, measured) for each, measured in planned]
    write_page(options.plot, figures, f"{options.oracle.name}: planned runs")
