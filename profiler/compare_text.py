"""A comparison as people read it: a line a model, the stacks side by side, and what to know of the numbers below."""

from collections.abc import Iterator, Sequence

from profiler.compare import Compared, price_of
from stream.coefficients import Tables

__all__ = ["comparison_notes", "comparison_text", "line", "origin_notes"]

_HEADS = ("seconds", "n", "rank", "$/1,000 requests", "rank")
_NOTHING = ("-", *("" for _ in _HEADS[1:]))
_GAP = "   "
_LISTED = 4


def comparison_text(tables: Tables, described: str, stacks: Sequence[str], compared: Sequence[Compared]) -> str:
    """The table of one comparison, in the order of the first stack that has a model.

    n is the accelerators that a model ran on, dollars are of 1,000 requests.
    """
    by_place = {(each.stack, each.model): each for each in compared}
    models = dict.fromkeys(each.model for each in compared)
    rows = [[model, *_cells(by_place, stacks, model)] for model in models]
    heads = ["model", *(_HEADS * len(stacks))]
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    widths = _room_for(stacks, widths)
    lines = [described, _above(stacks, widths), line(heads, widths), *(line(row, widths) for row in rows)]
    return "\n".join([*lines, *comparison_notes(tables, stacks, compared)])


def _cells(by_place: dict[tuple[str, str], Compared], stacks: Sequence[str], model: str) -> Iterator[str]:
    for stack in stacks:
        each = by_place.get((stack, model))
        yield from _NOTHING if each is None else _of(each)


def _of(each: Compared) -> tuple[str, ...]:
    seconds = f"{each.mean_runtime_seconds:.3f}"
    if each.low_seconds is not None and each.high_seconds is not None:
        seconds += f" ({each.low_seconds:.3f}-{each.high_seconds:.3f})"
    dollars = "-" if each.mean_dollars is None else f"{1000 * each.mean_dollars:.3f}"
    return seconds, str(each.accelerators or "-"), str(each.runtime_rank), dollars, str(each.dollars_rank or "")


def _room_for(stacks: Sequence[str], widths: list[int]) -> list[int]:
    """Widen the first column of a stack whose name is wider than its columns."""
    for place, stack in enumerate(stacks):
        first = 1 + place * len(_HEADS)
        width = sum(widths[first : first + len(_HEADS)]) + len(_GAP) * (len(_HEADS) - 1)
        widths[first] += max(0, len(stack) - width)
    return widths


def _above(stacks: Sequence[str], widths: Sequence[int]) -> str:
    cells = [" " * widths[0]]
    for place, stack in enumerate(stacks):
        first = 1 + place * len(_HEADS)
        cells.append(stack.ljust(sum(widths[first : first + len(_HEADS)]) + len(_GAP) * (len(_HEADS) - 1)))
    return _GAP.join(cells).rstrip()


def line(cells: Sequence[str], widths: Sequence[int]) -> str:
    """A line of a table: the first cell begins at the left, the others end at the right."""
    first, *others = (cell.rjust(width) for cell, width in zip(cells, widths, strict=True))
    return _GAP.join([first.strip().ljust(widths[0]), *others]).rstrip()


def comparison_notes(tables: Tables, stacks: Sequence[str], compared: Sequence[Compared]) -> Iterator[str]:
    """What to know of the numbers: whose they are, how well they are known, and what is missing."""
    counts = {each.accelerators for each in compared if each.accelerators is not None}
    if len(counts) > 1:
        on = f"{min(counts)} to {max(counts)} accelerators (n)"
        yield f"seconds are of models on {on}, each as it was run: rank them by dollars to count what they take"
    for stack in stacks:
        here = [each for each in compared if each.stack == stack]
        said = (*origin_notes(here), *_number_notes(here), *_price_notes(tables, stack, here))
        yield from (f"{stack}: {note}" for note in said)


def origin_notes(here: Sequence[Compared]) -> Iterator[str]:
    """Whose numbers those of one stack are, where they are not the models' own measurements."""
    proxies = dict.fromkeys(f"{each.model} = {each.proxy_of}" for each in here if each.proxy_of)
    if proxies:
        yield f"numbers of another model's measurement (proxies): {', '.join(proxies)}"
    if any(each.provenance == "predicted" for each in here):
        yield "predicted, not measured"


def _number_notes(here: Sequence[Compared]) -> Iterator[str]:
    if any(each.low_seconds is not None for each in here):
        levels = sorted({each.interval_level for each in here if each.interval_level is not None})
        yield " ".join(["in brackets", *(f"{level:.0%}" for level in levels), "intervals"])
    past = max((each.extrapolated for each in here), default=0.0)
    if past:
        share = "" if past == 1 else f" for {past:.1%} of the requests"
        yield f"extrapolated beyond the profiled prompt sizes{share}"


def _price_notes(tables: Tables, stack: str, here: Sequence[Compared]) -> Iterator[str]:
    """What an accelerator-hour costs; or which half of the dollars is missing, and how to give it."""
    price, option = price_of(tables, stack), f"--dollars-per-hour {stack}=X"
    if price is None and here:
        yield f"no dollars where the price of an accelerator-hour is not known: {option} gives it"
    if price is not None and any(each.mean_dollars is not None for each in here):
        known = "" if price.low == price.high else f" ({price.low:g} to {price.high:g}; {option} changes it)"
        yield f"dollars at {price.value:g} an accelerator-hour{known}"
    uncounted = list(dict.fromkeys(each.model for each in here if each.accelerators is None))
    if uncounted:
        others = f" and {len(uncounted) - _LISTED} more" if uncounted[_LISTED:] else ""
        how = "a --table whose rows have `accelerators` gives it"
        models = f"{', '.join(uncounted[:_LISTED])}{others}"
        yield f"no dollars where the number of accelerators is not known ({models}): {how}"
