"""Plots as one HTML file that needs nothing else: what was measured, the curves that say so, and their bands."""

import html
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from itertools import groupby
from pathlib import Path
from typing import Any, TypeGuard

__all__ = ["COLOURS", "Figure", "Folded", "Series", "described", "page", "page_of", "write_page"]

_MANY = 50  # an axis is logarithmic if its largest value is so many times the smallest
_DIGITS = 6  # more cannot be seen


COLOURS = 8
"""How many the page has; more series repeat them."""


@dataclass(frozen=True, slots=True)
class Series:
    """One curve, or with `points` one cloud of them. `y` is None where there is nothing.

    `low` and `high` bound a band around it, point for point; of a cloud, a bar through each of its points. `x` is the
    series' own, if it is not the figure's; it may repeat. Series of one `colour` (any whole number) are drawn alike;
    None gives each one of its own. `dash` breaks the line, and leaves points hollow. One that is not `drawn` is only in
    the table. Of a cloud of one point that is `beside` it the label is written there, and not in the legend.
    """

    label: str
    y: Sequence[float | None]
    low: Sequence[float | None] | None = None
    high: Sequence[float | None] | None = None
    points: bool = False
    x: Sequence[float] | None = None
    colour: int | None = None
    dash: bool = False
    drawn: bool = True
    beside: bool = False


@dataclass(frozen=True, slots=True)
class Figure:
    """A chart, with a `note` of one or several lines below its title.

    An axis is logarithmic if `log_x` or `log_y` says so, and by default where its values span decades; a linear y axis
    begins at 0 unless there are values below, or it is not `from_zero`. Figures of a page with the same `y_scale` share
    their y axis.

    With `names` x is the place of one of them, from 0: names stand below each other, the first on top, and the values
    of their points lie beside them on a horizontal y axis.
    """

    title: str
    x: Sequence[float]
    series: Sequence[Series]
    x_label: str = "prompt tokens"
    y_label: str = "seconds"
    note: str = ""
    log_x: bool | None = None
    log_y: bool | None = None
    y_scale: str | None = None
    names: Sequence[str] | None = None
    from_zero: bool = True


@dataclass(frozen=True, slots=True)
class Folded:
    """Figures that a page holds small, behind their title: they are drawn when somebody opens it."""

    title: str
    figures: Sequence[Figure]


def page(figures: Iterable[Figure], title: str = "trueclock", before: str = "", after: str = "") -> str:
    """The HTML of a page with these figures: light or dark as the reader prefers, each with its values as a table.

    `before` and `after` are HTML around the figures.
    """
    shown = list(figures)
    return _page(f"{_words(before)}\n<main>{_room(len(shown))}</main>\n{_words(after)}", shown, title)


def page_of(parts: Iterable[str | Figure | Folded], title: str) -> str:
    """The same with HTML and figures following each other in any order; figures in a row stand beside each other."""
    body, shown = list[str](), list[Figure]()
    for kind, group in groupby(parts, type):
        held = list(group)
        figures = [part for part in held if isinstance(part, Figure)]
        body += [_room(len(figures))] if kind is Figure else [_fold(part) for part in held if isinstance(part, Folded)]
        body.append(_words("".join(part for part in held if isinstance(part, str))))
        shown += [*figures, *(figure for part in held if isinstance(part, Folded) for figure in part.figures)]
    return _page(f"<main>{''.join(body)}</main>", shown, title)


def write_page(path: Path, figures: Iterable[Figure], title: str = "trueclock") -> None:
    """Write `page` to a file; OSError where that cannot be."""
    path.write_text(page(figures, title), encoding="utf-8")


def _words(text: str) -> str:
    return f'<div class="report">{text}</div>' if text else ""


def _room(count: int) -> str:
    return f'<div class="figures" data-count="{count}"></div>'


def _fold(folded: Folded) -> str:
    title = f"{html.escape(folded.title)} ({len(folded.figures)})"
    return f'<details class="folded"><summary>{title}</summary>{_room(len(folded.figures))}</details>'


def _page(body: str, figures: Sequence[Figure], title: str) -> str:
    data = json.dumps(described(figures), separators=(",", ":"), allow_nan=False)
    vendored = next(iter(sorted(Path(str(files("gateway"))).glob("page/vendor/uplot-*"))))
    parts = {
        "uplot.css": (vendored / "uPlot.min.css").read_text(encoding="utf-8"),
        "uplot.js": (vendored / "uPlot.iife.min.js").read_text(encoding="utf-8"),
        "plot.js": (files("profiler") / "plot.js").read_text(encoding="utf-8"),
        "figures": data.replace("<", "\\u003c"),  # no text of theirs can end the script
        "title": html.escape(title),
        "body": body,
    }
    first, *rest = (files("profiler") / "plot.html").read_text(encoding="utf-8").split("{{")
    pieces = (piece.split("}}", 1) for piece in rest)
    return first + "".join(parts[name] + text for name, text in pieces)


def described(figures: Sequence[Figure]) -> list[dict[str, Any]]:
    """What is drawn of figures, here or in pictures: the fields of the page's JSON, a dict a figure.

    `data` is one ascending x for all, then a column for each of `series`: a line's or cloud's bounds ("edge" high, then
    low) stand before it; a series without any value is left out. A legend tells those that are `told`: a line's tells
    its points too (line; line, measured). `y_range` is the ends of the y scale that a figure shares with others (None:
    its own).
    """
    made = [_figure(each) for each in figures]
    scales: dict[str | int, list[dict[str, Any]]] = {}
    for place, (figure, drawn) in enumerate(zip(figures, made, strict=True)):
        scales.setdefault(place if figure.y_scale is None else figure.y_scale, []).append(drawn)
    for together in scales.values():
        columns = [column for drawn in together for column in _drawn(drawn)]
        present = [value for column in columns for value in column if value is not None]
        asked = [drawn["log_y"] for drawn in together if drawn["log_y"] is not None]
        is_log = all(asked) and _positive(columns) if asked else _spans_decades(columns)
        for drawn in together:
            drawn["log_y"] = is_log
            drawn["y_range"] = [min(present), max(present)] if present and len(together) > 1 else None
    return made


def _drawn(figure: dict[str, Any]) -> list[list[float | None]]:
    described = zip(figure["series"], figure["data"][1:], strict=True)
    return [column for series, column in described if series["drawn"]]


def _figure(figure: Figure) -> dict[str, Any]:
    held = [(place, each) for place, each in enumerate(figure.series) if any(map(_is_there, each.y))]
    curves = [curve for place, each in held for curve in _curves(each, place, figure.x)]
    lines = {(each["colour"], each["label"]) for *_, each in curves if not each["points"]}
    for *_, each in curves:
        goes_along = each["points"] and (each["colour"], each["label"].rpartition(", ")[0]) in lines
        each["told"] = each["drawn"] and "edge" not in each and not each["beside"] and not goes_along
    xs, columns = _aligned([(x, y) for x, y, _ in curves])
    return {
        "title": figure.title,
        "note": figure.note,
        "x_label": figure.x_label,
        "y_label": figure.y_label,
        "names": figure.names,
        "log_x": figure.names is None and _is_log(figure.log_x, xs),
        "log_y": figure.log_y,
        "from_zero": figure.from_zero,
        "series": [described for *_, described in curves],
        "data": [xs, *columns],
    }


def _is_log(asked: bool | None, xs: Sequence[float]) -> bool:
    return _spans_decades([xs]) if asked is None else asked and min(xs, default=0) > 0


_Curve = tuple[Sequence[float], Sequence[float | None], dict[str, Any]]


def _curves(series: Series, place: int, shared: Sequence[float]) -> list[_Curve]:
    """What is drawn of a series: its band's edges, high before low as uPlot wants them, and itself above them."""
    x = shared if series.x is None else series.x
    colour = (place if series.colour is None else series.colour) % COLOURS
    shared_by_all = {"colour": colour, "drawn": series.drawn, "beside": series.beside}
    described = {"label": series.label, "points": series.points, "dash": series.dash, **shared_by_all}
    edges: list[_Curve] = []
    if series.low is not None and series.high is not None:
        for edge, values in (("high", series.high), ("low", series.low)):
            bound = {"label": f"{series.label}, {edge}", "edge": edge, "points": series.points}
            edges.append((x, values, {**bound, **shared_by_all}))
    return [*edges, (x, series.y, described)]


def _aligned(
    curves: Sequence[tuple[Sequence[float], Sequence[float | None]]],
) -> tuple[list[float], list[list[float | None]]]:
    """One ascending x for all, as uPlot wants it: an x is there as often as any curve has it, gaps are None."""
    values: list[dict[float, list[float]]] = []
    for x, y in curves:
        held: dict[float, list[float]] = {}
        for at, value in zip(x, y, strict=True):
            if _is_there(value) and math.isfinite(at):
                held.setdefault(_short(at), []).append(_short(value))
        values.append(held)
    times = {at: max(len(held.get(at, ())) for held in values) for at in set().union(*values)}
    places = [(at, number) for at in sorted(times) for number in range(times[at])]
    columns = [[_nth(held.get(at, []), number) for at, number in places] for held in values]
    return [at for at, _ in places], columns


def _is_there(value: float | None) -> TypeGuard[float]:
    return value is not None and math.isfinite(value)


def _nth(values: list[float], number: int) -> float | None:
    return values[number] if number < len(values) else None


def _short(number: float) -> float:
    rounded = float(f"{number:.{_DIGITS}g}")
    return int(rounded) if rounded.is_integer() and abs(rounded) < 1e15 else rounded


def _spans_decades(columns: Sequence[Sequence[float | None]]) -> bool:
    present = [value for column in columns for value in column if value is not None]
    return _positive(columns) and max(present) >= _MANY * min(present)


def _positive(columns: Sequence[Sequence[float | None]]) -> bool:
    present = [value for column in columns for value in column if value is not None]
    return bool(present) and min(present) > 0
