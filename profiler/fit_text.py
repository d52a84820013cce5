"""What a fit found, as lines for people."""

from collections.abc import Iterator, Sequence

from profiler.fitted import row_names
from profiler.fitting import Fitted

__all__ = ["fit_lines"]


def fit_lines(fitted: Sequence[Fitted]) -> Iterator[str]:
    """A line for each model, below a head, and what the columns mean."""
    names = row_names([each.measured for each in fitted])
    width = max(map(len, names), default=0)
    yield f"{'':{width}}  {_HEAD}"
    for name, each in zip(names, fitted, strict=True):
        yield f"{name:{width}}  {_cells(each)}"
    yield "R2 and errors are of T over all points; +-: 80 % of the truth lies so near"


_HEAD = (
    f"{'hardware':9}{'tp':>3}{'points':>7}{'R2':>8}{'median':>8}{'p95':>7}{'max':>7}"
    f"{'beta, s':>11}{'+-':>7}{'gamma, s':>10}   F, s {'+-':>29}"
)


def _cells(fitted: Fitted) -> str:
    numbers, errors = fitted.coefficients, fitted.errors
    first, last = numbers.prompt_seconds[0], numbers.prompt_seconds[-1]
    course = f"{first:.4g} at {numbers.knots[0]:,} to {last:.4g} at {numbers.last_knot:,}"
    return (
        f"{fitted.measured.hardware:9}{fitted.measured.tensor:3}{errors.points:7}{errors.r2:8.4f}"
        f"{errors.median:8.1%}{errors.p95:7.1%}{errors.largest:7.1%}{numbers.per_output_token:11.4g}"
        f"{_spread(fitted, 'runtime_per_output_token'):>7}{numbers.context:10.2g}   {course:27}"
        f"{_spread(fitted, 'runtime_for_prompt_tokens'):>7}"
    )


def _spread(fitted: Fitted, name: str) -> str:
    """How far the further end of an interval lies from the value."""
    found = fitted.intervals.get(name)
    return f"{max(1 - found[0], found[1] - 1):.1%}" if isinstance(found, list) else "-"
