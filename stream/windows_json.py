"""A fleet's windows as JSON, for `GET /trueclock/v1/windows`: the summary's figures, one window after the other."""

from collections.abc import Callable, Iterable
from itertools import groupby
from typing import Any

import msgspec

from stream.coefficients import Tables
from stream.cost_summary import cost_figures
from stream.query import Query, moment
from stream.rollup import Slot, read_slot
from stream.summary import Group, figures, grouped
from stream.sums import Sums
from stream.windows import LATENESS, LENGTHS, Wholes, Windows

__all__ = ["windows_answer"]

_SINCE = {60: 900.0, 300: 3600.0, 3600: 86_400.0}
"""seconds back, by default"""

_encode = msgspec.json.Encoder().encode


def windows_answer(windows: Windows, query: str, tables: Tables, now: float) -> Callable[[], bytes]:
    """Look up what a query asks for, and return what makes the answer of it; raise QueryError.

    The making takes its time, and may happen in a thread: it looks at nothing that changes meanwhile.
    """
    asked = Query(query, ("length", "since", "by", "stack"), tables.references, tables.reference, now)
    length = asked.one_of("length", LENGTHS)
    since = now - _SINCE[length] if asked.since is None else asked.since
    view, own = windows.view(length, since, now), sorted(windows.own())
    return lambda: _answer(asked, length, view, own)


def _answer(asked: Query, length: int, view: Wholes, own: list[int]) -> bytes:
    shown = [
        _window(start, length, [packed for _, packed in parts], asked)
        for start, parts in groupby(view.slots, lambda slot: slot[0] // length * length)
    ]
    return _encode(
        {
            "length_seconds": length,
            "lateness_seconds": LATENESS,
            "since": moment(view.start),
            "until": moment(asked.now),
            "watermark": moment(view.head.watermark) if view.head.watermark else None,
            "by": asked.by,
            "stack": asked.stack,
            "own_partitions": own,
            "not_added": {"late": view.head.late, "future": view.head.future, "undated": view.head.undated},
            "windows": shown,
        }
    )


def _window(start: int, length: int, packed: Iterable[bytes], asked: Query) -> dict[str, Any]:
    whole = Slot()
    for part in packed:
        whole.add(read_slot(part))
    pairs = list(whole.groups())
    total = next(iter(grouped(pairs, ())), Group({}, Sums(), []))
    return {
        "start": moment(start),
        "end": moment(start + length),
        "total": _figures(total, asked.stack),
        "groups": [_figures(group, asked.stack) for group in grouped(pairs, asked.by)] if asked.by else [],
        "gateway_overhead": whole.overhead.summary(),
    }


def _figures(group: Group, stack: str) -> dict[str, Any]:
    """The summary's figures, costs too."""
    return {**figures(group, stack), "cost": cost_figures(group.sums, stack)}
