"""A comparison as people read it: a line a model, the stacks side by side, and what to know of the numbers below."""

from collections.abc import Iterator, Sequence

from profiler.compare import Compared

__all__ = ["comparison_text"]

_NOTHING = ("-", "", "", "")
_HEADS = ("seconds", "rank", "$/1,000", "rank")
_GAP = "   "


def comparison_text(described: str, stacks: Sequence[str], compared: Sequence[Compared]) -> str:
    """The table of one comparison, in the order of the first stack that has a model; dollars are for 1,000 requests."""
    by_place = {(each.stack, each.model): each for each in compared}
    models = dict.fromkeys(each.model for each in compared)
    rows = [[model, *_cells(by_place, stacks, model)] for model in models]
    heads = ["model", *(_HEADS * len(stacks))]
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    widths = _room_for(stacks, widths)
    lines = [described, _above(stacks, widths), _line(heads, widths), *(_line(row, widths) for row in rows)]
    return "\n".join([*lines, *_notes(stacks, compared)])


def _cells(by_place: dict[tuple[str, str], Compared], stacks: Sequence[str], model: str) -> Iterator[str]:
    for stack in stacks:
        each = by_place.get((stack, model))
        yield from _NOTHING if each is None else _of(each)


def _of(each: Compared) -> tuple[str, str, str, str]:
    seconds = f"{each.mean_runtime_seconds:.3f}"
    if each.low_seconds is not None and each.high_seconds is not None:
        seconds += f" ({each.low_seconds:.3f}-{each.high_seconds:.3f})"
    dollars = "-" if each.mean_dollars is None else f"{1000 * each.mean_dollars:.3f}"
    return seconds, str(each.runtime_rank), dollars, str(each.dollars_rank or "")


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


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = (cell.rjust(width) for cell, width in zip(cells, widths, strict=True))
    return _GAP.join([first.strip().ljust(widths[0]), *others]).rstrip()


def _notes(stacks: Sequence[str], compared: Sequence[Compared]) -> Iterator[str]:
    for stack in stacks:
        here = [each for each in compared if each.stack == stack]
        proxies = dict.fromkeys(f"{each.model} = {each.proxy_of}" for each in here if each.proxy_of)
        if proxies:
            yield f"{stack}: numbers of another model's measurement (proxies): {', '.join(proxies)}"
        if any(each.provenance == "predicted" for each in here):
            yield f"{stack}: predicted, not measured"
        if any(each.low_seconds is not None for each in here):
            levels = sorted({each.interval_level for each in here if each.interval_level is not None})
            yield " ".join([f"{stack}: in brackets", *(f"{level:.0%}" for level in levels), "intervals"])
        past = max((each.extrapolated for each in here), default=0.0)
        if past:
            share = "" if past == 1 else f" for {past:.1%} of the requests"
            yield f"{stack}: extrapolated beyond the profiled prompt sizes{share}"
        if any(each.mean_dollars is None for each in here):
            yield f"{stack}: no dollars where accelerators or their price are not known"
