"""A comparison as a plot: T over prompt tokens, a figure a stack and output size, a curve a model."""

from collections.abc import Iterator, Mapping, Sequence

from profiler.compare import Compared, bounds
from profiler.compare_text import origin_notes
from profiler.plot import COLOURS, Figure, Series
from stream.coefficients import Tables

__all__ = ["DRAWN", "figures"]

DRAWN = 10
"""How many curves a figure shows at most: more cannot be told apart."""

_LOOKS = 2 * COLOURS  # a colour, and past the last one broken lines


def figures(tables: Tables, by_output: Mapping[float, Sequence[Compared]], by: str) -> Iterator[Figure]:
    """A figure for each number of output tokens and stack of its comparison, on one scale of seconds for all stacks.

    Curves, with their bands, are in the order of the comparison, which is that of `by`; a figure draws the first
    `DRAWN` models of its stack, and its table holds all.
    """
    parts = [(round(output), here) for output, compared in by_output.items() for here in _by_stack(compared)]
    looks = _looks([[each.model for each in here[:DRAWN]] for _, here in parts])
    for (output, here), look in zip(parts, looks, strict=True):
        rows = (tables.stacks[each.stack].rows[each.row] for each in here)
        knots = sorted({knot for row in rows for knot in row.coefficients.knots})
        series = [_series(tables, each, knots, output, look.get(each.model)) for each in here]
        title = f"{here[0].stack}: runtime of {output:,} output token{'' if output == 1 else 's'}"
        note = "\n".join(_notes(tables, here, by))
        yield Figure(title, knots, series, note=note, y_scale=f"{output} output tokens")


def _by_stack(compared: Sequence[Compared]) -> list[list[Compared]]:
    stacks = dict.fromkeys(each.stack for each in compared)
    return [[each for each in compared if each.stack == stack] for stack in stacks]


def _looks(drawn: Sequence[Sequence[str]]) -> list[dict[str, int]]:
    """How each model is drawn in each figure: in all figures alike, as far as no two of one figure look the same."""
    kept: dict[str, int] = {}
    found = []
    for models in drawn:
        look: dict[str, int] = {}
        for model in (each for each in models if each in kept):
            if kept[model] not in look.values():
                look[model] = kept[model]
        free = iter([place for place in range(_LOOKS) if place not in look.values()])
        look |= {model: next(free) for model in models if model not in look}
        kept = look | kept
        found.append(look)
    return found


def _notes(tables: Tables, here: Sequence[Compared], by: str) -> Iterator[str]:
    stack = tables.stacks[here[0].stack]
    if stack.hardware:
        yield stack.hardware
    if len(here) > DRAWN:
        best = "cheapest" if by == "dollars" else "fastest"
        yield f"Drawn are the {best} {DRAWN} of {len(here)} models; the table below holds all."
    yield from (f"{note[0].upper()}{note[1:]}." for note in origin_notes(here))
    levels = sorted({each.interval_level for each in here if each.interval_level is not None})
    if levels:
        yield f"Bands hold {' or '.join(f'{level:.0%}' for level in levels)}."


def _series(tables: Tables, each: Compared, knots: Sequence[int], output: int, look: int | None) -> Series:
    """One curve; one without a look is only in the table."""
    row = tables.stacks[each.stack].rows[each.row]
    runtime, within = tables.runtime(each.stack, row), bounds(tables, each.stack, row)
    edges = None if within is None else [within(knot, output) for knot in knots]
    return Series(
        label=each.model,
        y=[runtime(knot, output) for knot in knots],
        low=None if edges is None else [low for low, _ in edges],
        high=None if edges is None else [high for _, high in edges],
        colour=look,
        dash=look is not None and look >= COLOURS,
        drawn=look is not None,
    )
