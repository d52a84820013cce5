"""What a probe found, for others: a denoised stack of a coefficient table, a file of baselines, and lines to read."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from profiler.probe_fit import PointSeen
from profiler.tables import rounded, significant
from stream.baselines import Baseline
from stream.runtime import runtime_function
from stream.table_format import Fit, Row, Stack

__all__ = ["About", "found_lines", "seen_lines", "stack_of"]

_DIGITS = 6
_SECONDS = ("overhead", "runtime_per_output_token", "context_seconds_per_token2")


@dataclass(frozen=True, slots=True)
class About:
    """Where a stack of a provider's own comes from."""

    stack: str
    host: str
    source: str
    software: str = "unknown: the provider's own"
    note: str | None = None


def stack_of(about: About, rows: Sequence[tuple[Baseline, Fit | None]]) -> Stack:
    """The stack of one provider: a row a model, intervals those of its baseline (95 %)."""
    until = max((baseline.until for baseline, _ in rows if baseline.until is not None), default=None)
    return Stack(
        name=about.stack,
        kind="denoised",
        hardware=f"unknown: whatever serves {about.host}",
        software=about.software,
        date=_date(until),
        source=about.source,
        note=about.note,
        rows={baseline.model: _row(baseline, fit) for baseline, fit in rows},
    )


def _date(moment: datetime | None) -> str | None:
    return None if moment is None else f"{moment:%Y-%m-%d}"


def _row(baseline: Baseline, fit: Fit | None) -> Row:
    numbers = rounded(baseline.coefficients, _DIGITS)
    values = (numbers.overhead, numbers.per_output_token, numbers.context)
    # Bounds are rounded, too, and hold the value all the same.
    middle = {**dict.fromkeys(baseline.intervals, 1.0), **dict(zip(_SECONDS, values, strict=True))}
    intervals = {
        name: [min(significant(low, 4), middle[name]), max(significant(high, 4), middle[name])]
        for name, (low, high) in baseline.intervals.items()
    }
    low, high = baseline.prompt_range
    return Row(
        name=baseline.model,
        coefficients=numbers,
        fit=fit,
        fit_error=None if fit is None else fit.median_error,
        intervals={"level": 0.95, **intervals},
        note=f"{baseline.n} requests of {low} to {high} prompt tokens, their lower edge (basis: {baseline.basis})",
    )


def seen_lines(seen: Sequence[PointSeen], baseline: Baseline | None) -> Iterator[str]:
    """A line a point: what was seen, and T beside it."""
    runtime = None if baseline is None else runtime_function(baseline.coefficients)
    yield f"{'prompt':>8}{'output':>8}{'replies':>9}{'low, s':>11}{'median, s':>11}{'T, s' if runtime else '':>11}"
    for each in seen:
        prompt, output = round(each.prompt_tokens), round(each.output_tokens)
        alone = f"{runtime(prompt, output):11.4g}" if runtime else ""
        yield f"{prompt:8,}{output:8,}{each.replies:9,}{each.low:11.4g}{each.median:11.4g}{alone}"


def found_lines(baseline: Baseline) -> Iterator[str]:
    """The coefficients with their intervals."""
    intervals: Mapping[str, Any] = baseline.intervals
    yield f"beta      {_between(baseline.per_output_token, intervals['runtime_per_output_token'])} an output token"
    yield f"overhead  {_between(baseline.overhead, intervals['overhead'])}"
    if baseline.context:
        yield f"gamma     {baseline.context:.3g} s an output token for each token of context"
    low, high = intervals["runtime_for_prompt_tokens"]
    points = list(zip(baseline.knots, baseline.prompt_seconds, strict=True))
    some = points if len(points) <= 4 else [points[0], points[len(points) // 2], points[-1]]
    course = ", ".join(f"F({knot:,}) = {_milliseconds(seconds)}" for knot, seconds in some)
    yield f"F         {course} (x {low:.2f} to {high:.2f})"


def _between(seconds: float, interval: tuple[float, float]) -> str:
    return f"{_milliseconds(seconds)} ({interval[0] * 1000:.3g} to {interval[1] * 1000:.3g})"


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.3g} ms"
