"""A comparison as a plot: T over prompt tokens, a figure a stack and output size, a curve a model."""

from collections.abc import Iterable, Iterator, Sequence

from profiler.compare import Compared
from profiler.plot import Figure, Series
from stream.coefficients import Tables

__all__ = ["figures"]

_COLOURS = 8


def figures(tables: Tables, compared: Sequence[Compared], outputs: Iterable[float]) -> Iterator[Figure]:
    """A figure for each stack and number of output tokens; curves in the order of `compared`, with their bands."""
    stacks = dict.fromkeys(each.stack for each in compared)
    models = list(dict.fromkeys(each.model for each in compared))
    for output in outputs:
        for stack in stacks:
            here = [each for each in compared if each.stack == stack]
            rows = (tables.stacks[stack].rows[each.row] for each in here)
            knots = sorted({knot for row in rows for knot in row.coefficients.knots})
            series = [_series(tables, each, knots, round(output), models.index(each.model)) for each in here]
            title = f"{stack}: runtime of {round(output):,} output tokens"
            yield Figure(title, knots, series, note=tables.stacks[stack].hardware or "")


def _series(tables: Tables, each: Compared, knots: Sequence[int], output: int, place: int) -> Series:
    """A model has its colour in every figure; past the last colour lines are broken."""
    runtime = tables.runtime(each.stack, tables.stacks[each.stack].rows[each.row])
    seconds = [runtime(knot, output) for knot in knots]
    low, high = _band(each)
    return Series(
        label=each.model,
        y=seconds,
        low=None if low is None else [low * value for value in seconds],
        high=None if high is None else [high * value for value in seconds],
        colour=place,
        dash=place >= _COLOURS,
    )


def _band(each: Compared) -> tuple[float | None, float | None]:
    if each.low_seconds is None or each.high_seconds is None or not each.mean_runtime_seconds:
        return None, None
    return each.low_seconds / each.mean_runtime_seconds, each.high_seconds / each.mean_runtime_seconds
