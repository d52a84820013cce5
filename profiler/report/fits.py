"""Measured runtimes and the curves fitted to them, and what the curves leave unexplained."""

from collections.abc import Iterator, Sequence

import numpy as np

from profiler.document import Heading, Part, Section, Table, Text
from profiler.fitted import row_names
from profiler.fitting import Fitted, fit, runtimes
from profiler.plot import COLOURS, Figure, Folded, Series
from profiler.report.inputs import Inputs
from profiler.report.words import UNKNOWN, number, percent, plural, spread
from stream.runtime import prompt_function, runtime_function

__all__ = ["section"]

_SIZES = 4  # prompt sizes that are drawn against output tokens
_BETWEEN = 40
_DRAWN = 2 * COLOURS  # more models cannot be told apart
_NAMED = 2  # stacks in the finding


def section(inputs: Inputs) -> Section:
    """One's own measurements, and the paper's."""
    stacks: dict[str, dict[str, Fitted]] = {}
    for path, samples in inputs.own.items():
        alone = [each for each in samples if (each.batch == 1).any()]
        stacks |= _stacks(fit(alone), f"{path.name}: ") if alone else {}
    stacks |= _stacks(inputs.fitted, "")
    parts: list[Part] = [
        Text(
            "T(p, o) = overhead + F(p) + (o - 1) beta + gamma Σ (p + i): points are measured runs, curves the fit."
            " A residual is how far the curve lies above (+) or below (-) a run, as a share of the run. The fit has"
            " seen these runs: how far off it is where it has seen none is told under “Where nothing was measured”."
        )
    ]
    for title, fitted in stacks.items():
        parts += _hardware(title, fitted)
    few = list(stacks)[:_NAMED]
    finding = "; ".join(f"{title}: {_within(stacks[title])}" for title in few)
    return Section("Fits and their residuals", parts, f"{finding}.")


def _stacks(fitted: Sequence[Fitted], prefix: str) -> dict[str, dict[str, Fitted]]:
    """By hardware and row."""
    names = row_names([each.measured for each in fitted])
    found: dict[str, dict[str, Fitted]] = {}
    for row, each in zip(names, fitted, strict=True):
        found.setdefault(f"{prefix}{each.measured.hardware}", {})[row] = each
    return found


def _hardware(title: str, fitted: dict[str, Fitted]) -> Iterator[Part]:
    yield Heading(title)
    worst = min(fitted, key=lambda name: fitted[name].errors.r2)
    within = _within(fitted)
    least = f"the least R² is {fitted[worst].errors.r2:.4f} ({worst})"
    yield Text(f"{within[0].upper()}{within[1:]}; {least}.")
    yield Table(_HEAD, [_row(name, each) for name, each in fitted.items()])
    yield _prompts(title, fitted)
    yield from _residuals(title, fitted)
    drawn = [_outputs(f"{title}: {name}", each) for name, each in list(fitted.items())[:_DRAWN]]
    yield Folded(f"{title}: T against output tokens, by model", drawn)


def _within(fitted: dict[str, Fitted]) -> str:
    errors = np.abs(np.concatenate([_errors(each) for each in fitted.values()]))
    median, p95 = (percent(float(each)) for each in np.quantile(errors, [0.5, 0.95]))
    runs = f"of {plural(len(errors), 'run')} of {plural(len(fitted), 'model')}"
    return f"{runs} half lie within {median} of the fit, and 95% within {p95}"


_HEAD = ("model", "runs", "R²", "median error", "p95", "largest", "beta, ms", "beta, 80% band", "gamma, µs", "F, ms")


def _row(name: str, fitted: Fitted) -> Sequence[str]:
    numbers, errors = fitted.coefficients, fitted.errors
    band = fitted.intervals.get("runtime_per_output_token")
    first, last = (number(1000 * each) for each in (numbers.prompt_seconds[0], numbers.prompt_seconds[-1]))
    return [
        name,
        f"{errors.points:,}",
        f"{errors.r2:.4f}",
        *(percent(each) for each in (errors.median, errors.p95, errors.largest)),
        number(1000 * numbers.per_output_token),
        f"{band[0] - 1:+.1%} to {band[1] - 1:+.1%}" if isinstance(band, list) else UNKNOWN,
        number(1e6 * numbers.context),
        f"{first} at {numbers.knots[0]:,} to {last} at {numbers.last_knot:,}",
    ]


def _outputs(title: str, fitted: Fitted) -> Figure:
    """T against output tokens, at some prompt sizes."""
    measured, runtime = fitted.measured, runtime_function(fitted.coefficients)
    alone = measured.where(measured.batch == 1)
    outputs, series = sorted({int(each) for each in alone.output}), []
    for colour, size in enumerate(spread([int(each) for each in alone.prompt], _SIZES)):
        there = alone.where(alone.prompt == size)
        tokens = plural(size, "prompt token")
        seconds = (there.seconds * there.scale).tolist()
        series.append(Series(tokens, [runtime(size, output) for output in outputs], colour=colour))
        series.append(Series(f"{tokens}, measured", seconds, points=True, x=there.output.tolist(), colour=colour))
    errors = fitted.errors
    note = f"R² {errors.r2:.4f}; error: median {percent(errors.median)}, p95 {percent(errors.p95)}"
    return Figure(title, outputs, series, x_label="output tokens", note=note, log_x=False, log_y=False)


def _prompts(title: str, fitted: dict[str, Fitted]) -> Figure:
    """F(p) of all models, and what was measured at one output token."""
    low = min(each.coefficients.knots[0] for each in fitted.values())
    high = max(each.coefficients.last_knot for each in fitted.values())
    sizes = sorted({round(each) for each in np.geomspace(max(low, 1), max(high, 2), _BETWEEN)})
    series = []
    for place, (name, each) in enumerate(fitted.items()):
        function, measured = prompt_function(each.coefficients), each.measured
        first = measured.where((measured.output == 1) & (measured.batch == 1))
        overhead = each.coefficients.overhead
        within = [size for size in sizes if size <= each.coefficients.last_knot]
        seconds = [overhead + function(size) for size in within]
        drawn, dash = place < _DRAWN, place >= COLOURS
        series.append(Series(name, seconds, x=within, colour=place, drawn=drawn, dash=dash))
        if not dash:  # more points hide each other
            seconds = (first.seconds * first.scale).tolist()
            points = Series(f"{name}, measured", seconds, points=True, x=first.prompt.tolist(), colour=place)
            series.append(points)
    note = "The first output token's time. Points were measured with one output token."
    return Figure(f"{title}: F(p)", sizes, series, note=note)


def _residuals(title: str, fitted: dict[str, Fitted]) -> Iterator[Figure]:
    for label in ("prompt tokens", "output tokens"):
        series = []
        for place, (name, each) in enumerate(fitted.items()):
            alone = each.measured.where(each.measured.batch == 1)
            x = (alone.prompt if label == "prompt tokens" else alone.output).tolist()
            off = (100 * _errors(each)).tolist()
            series.append(Series(name, off, points=True, x=x, drawn=place < _DRAWN, dash=place >= COLOURS))
        yield Figure(
            f"{title}: residuals by {label}",
            [],
            series,
            x_label=label,
            y_label="fit over measured, %",
            log_y=False,
            y_scale=f"{title}, residuals",
        )


def _errors(fitted: Fitted) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    """Signed relative errors of the fit, run by run."""
    alone = fitted.measured.where(fitted.measured.batch == 1)
    return runtimes(fitted.coefficients, alone) / (alone.seconds * alone.scale) - 1
