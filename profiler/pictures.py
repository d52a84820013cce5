"""Figures as SVG pictures, drawn by matplotlib from what the page draws, as near to it as can be.

The same figure gives the same bytes (of one release of matplotlib). The panel is white whatever is around it.
matplotlib comes with the extra `report`, and is imported when the first picture is drawn: nothing else needs it.
"""

import io
import itertools
import math
import re
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from profiler.plot import COLOURS, Figure, described

__all__ = ["INKS", "MissingLibrary", "svg_pictures"]

INKS = ("#1f63ad", "#b8490a", "#0b7f86", "#b0408f", "#6b7f12", "#b5283f", "#3d3f99", "#5d6875")
"""The page's colours, as it has them by day."""

_TEXT, _FAINT, _LINE = "#18202b", "#58626f", "#e1e5ea"
_STYLE: dict[Any, Any] = {
    "svg.hashsalt": "trueclock",
    "svg.fonttype": "none",  # text stays text: small, and found by a search
    "font.family": ["DejaVu Sans"],
    "font.size": 9,
    "text.color": _TEXT,
    "axes.edgecolor": _LINE,
    "axes.labelcolor": _FAINT,
    "axes.unicode_minus": True,
    "text.parse_math": False,  # a price is no formula
    "xtick.bottom": False,  # the grid says where
    "ytick.left": False,
    "xtick.color": _FAINT,
    "ytick.color": _FAINT,
    "grid.color": _LINE,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "lines.linewidth": 1.5,
    "lines.markersize": 3.5,
}
_POINTS = 72  # of an inch: sizes are in points
_WIDTH, _PLOT, _NAMED = (
    518.0,
    216.0,
    19.5,
)  # all of it; the height of a plot, and of each name's line where it has names
_LABEL, _TITLE, _BELOW = 30.0, 22.0, 42.0  # room for an axis' label, a title, and a label with its numbers
_PAD, _LEGEND_ROW, _WIDE_CHARACTER = 6.0, 13.0, 5.7
_LINE_CHARACTERS = 105  # of a note
_SLIM = 4  # more bands than these lie upon each other
_MOST = {"points": 5.0, "named": 7.0}
_GAP, _ROW, _CHARACTER = 6.0, 10.0, 4.9  # points: from a point to its label, and the size of that
_SIDES = (
    *((1, 0), (-1, 0), (1, 1), (1, -1), (-1, 1), (-1, -1), (0, 1), (0, -1)),
    *((across, up) for far in (2, 3) for across in (1, -1) for up in (far, -far)),
)
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")

_CLOUD = re.compile(r'(<g clip-path="[^"]*")>((?:\s*<use [^>]*/>)+)')
_LOOK = re.compile(r'style="([^"]*)"')
_POINT = re.compile(r' *<use (xlink:href="#\w+") x="(-?[\d.]+)" y="(-?[\d.]+)" style="[^"]*"/>')


class MissingLibrary(ValueError):
    """matplotlib is not installed. One line: what to do."""


def svg_pictures(figures: Sequence[Figure]) -> Iterator[str]:
    """Each figure as the text of an SVG file, in their order. Raises MissingLibrary before the first."""
    try:
        import matplotlib as mpl
    except ModuleNotFoundError as error:
        if error.name != "matplotlib":
            raise
        raise MissingLibrary("pictures need matplotlib: pip install 'trueclock[report]'") from None
    for figure in described(figures):
        with mpl.rc_context(_STYLE):
            yield _drawn(figure)


def _drawn(figure: dict[str, Any]) -> str:
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure as Canvas

    curves = [_Curve(figure, place) for place in range(len(figure["series"]))]
    shown = [curve for curve in curves if curve.series["drawn"] and "edge" not in curve.series]
    told = [curve.series["label"] for curve in shown if curve.series["told"]]
    beside = [curve for curve in shown if curve.series["beside"]]
    columns = _legend_columns(told)
    rows = math.ceil(len(told) / columns) if len(told) > 1 or beside else 0
    canvas = Canvas(dpi=_POINTS, facecolor="white")  # a pixel is a point
    axes = _axes_within(canvas, figure, rows)
    bands = sum("edge" in curve.series and not curve.series["points"] for curve in curves) // 2
    for curve in shown:
        curve.draw(axes, 0.1 if bands > _SLIM else 0.2)
    _dress(axes, figure)
    if rows:
        handles = dict(zip(*axes.get_legend_handles_labels()[::-1], strict=True))
        canvas.legend([handles[label] for label in told], told, loc="lower left", ncols=columns, borderaxespad=0.2)
    _names(axes, beside, [curve for curve in shown if not curve.series["points"]])
    out = io.StringIO()
    drawn: Any = FigureCanvasSVG(canvas)
    drawn.print_svg(out, metadata={"Date": None, "Creator": None})  # `savefig` would draw it twice
    return _CLOUD.sub(_slim, out.getvalue())


def _axes_within(canvas: Any, figure: dict[str, Any], legend_rows: int) -> Any:
    """Axes below the title and the note, and above so many rows of a legend: matplotlib's layouts take far longer."""
    names, note = figure["names"], _note(figure["note"])
    lines = note.count("\n") + 1 if note else 0
    numbers = [_written(float(f"{end:.1g}")) for end in _ends(figure) if end is not None]
    left = _PAD + _WIDE_CHARACTER * max(map(len, numbers if names is None else names), default=0)
    left += _LABEL if names is None else 0
    top, bottom = _TITLE + _ROW * lines, _BELOW + _LEGEND_ROW * legend_rows
    plot = _PLOT if names is None else _NAMED * max(len(names), 1)
    height = top + plot + bottom
    canvas.set_size_inches(_WIDTH / _POINTS, height / _POINTS)
    text = {"x": _PAD / _WIDTH, "ha": "left", "va": "top"}
    canvas.text(y=1 - _PAD / height, s=figure["title"], fontsize=10, fontweight="bold", **text)
    canvas.text(y=1 - (_TITLE - _ROW / 2) / height, s=note, fontsize=8, color=_FAINT, **text)
    return canvas.add_axes((left / _WIDTH, bottom / height, (_WIDTH - left - 2 * _PAD) / _WIDTH, plot / height))


def _slim(cloud: re.Match[str]) -> str:
    """Points that look alike in a group that says so once, two decimals of each place: a third of the bytes."""
    looks = set(_LOOK.findall(cloud[2]))
    if len(looks) != 1:
        return cloud[0]
    points = _POINT.sub(lambda at: f'<use {at[1]} x="{float(at[2]):.2f}" y="{float(at[3]):.2f}"/>', cloud[2])
    return f'{cloud[1]} style="{looks.pop()}">{points}'


def _names(axes: Any, curves: Sequence["_Curve"], lines: Sequence["_Curve"]) -> None:
    """Labels beside their points: where they hide no other label, no point and no line, as far as there is a place."""
    if not curves:
        return
    crossed = [
        box for line in lines for box in _boxes(axes.transData.transform(list(zip(line.x, line.y, strict=True))))
    ]
    frame = _Box(*axes.get_window_extent().extents)
    points = [axes.transData.transform((curve.x[0], curve.y[0])) for curve in curves]
    taken = [_Box(x - _GAP / 2, y - _GAP / 2, x + _GAP / 2, y + _GAP / 2) for x, y in points]
    for curve, (x, y) in zip(curves, points, strict=True):
        width = _CHARACTER * len(curve.series["label"])
        boxes = [_beside(x, y, width, *side) for side in _SIDES]
        inside = [box for box in boxes if frame.holds(box)]
        free = [box for box in inside if not any(map(box.meets, taken))]
        best = [box for box in free if not any(map(box.meets, crossed))]
        taken.append(next(iter([*best, *free, *inside, *boxes])))
        left, low, _, high = taken[-1]
        look = {"color": curve.ink, "fontsize": 8, "va": "center"}
        axes.text(left, (low + high) / 2, curve.series["label"], transform=None, **look)


def _boxes(places: Sequence[tuple[float, float]]) -> Iterator["_Box"]:
    """What a line runs through, in small boxes."""
    for (x, y), (end, top) in itertools.pairwise(places):
        steps = math.ceil(math.hypot(end - x, top - y) / _GAP) or 1
        for step in range(steps):
            at, up = x + (end - x) * step / steps, y + (top - y) * step / steps
            yield _Box(at - _GAP / 4, up - _GAP / 4, at + _GAP / 4, up + _GAP / 4)


def _beside(x: float, y: float, width: float, across: int, up: int) -> "_Box":
    left = x + across * _GAP - width * (1 - across) / 2
    return _Box(left, y + (up - 0.5) * _ROW, left + width, y + (up + 0.5) * _ROW)


class _Box(NamedTuple):
    left: float
    low: float
    right: float
    high: float

    def meets(self, other: "_Box") -> bool:
        """Whether they share any place."""
        return self.left < other.right and other.left < self.right and self.low < other.high and other.low < self.high

    def holds(self, other: "_Box") -> bool:
        """Whether all of the other is within."""
        low, high = self.low <= other.low, other.high <= self.high
        return low and high and self.left <= other.left and other.right <= self.right


class _Curve:
    """One series of a described figure, with its bounds if there are any."""

    def __init__(self, figure: dict[str, Any], place: int) -> None:
        self.series = figure["series"][place]
        self.ink = INKS[self.series["colour"] % COLOURS]
        self.named = figure["names"] is not None
        columns = figure["data"]
        bounded = place >= 2 and figure["series"][place - 1].get("edge") == "low"  # high and low stand before it
        low, high = (columns[place], columns[place - 1]) if bounded else (None, None)
        values = columns[place + 1]
        present = [at for at, value in enumerate(values) if value is not None]
        self.x = [columns[0][at] for at in present]
        self.y = [values[at] for at in present]
        self.low = None if low is None else [_or(low[at], values[at]) for at in present]
        self.high = None if high is None else [_or(high[at], values[at]) for at in present]

    def draw(self, axes: Any, opacity: float) -> None:
        """Put it on the axes."""
        if self.series["points"]:
            self._points(axes)
            return
        if self.low is not None:
            axes.fill_between(self.x, self.low, self.high, color=self.ink, alpha=opacity, linewidth=0)
        dash = "--" if self.series["dash"] else "-"
        axes.plot(self.x, self.y, dash, color=self.ink, label=self.series["label"])

    def _points(self, axes: Any) -> None:
        along, across = (self.y, self.x) if self.named else (self.x, self.y)
        fill = "white" if self.series["dash"] else f"{self.ink}99"
        if self.low is not None and self.high is not None:
            bars = axes.hlines if self.named else axes.vlines
            bars(self.x, self.low, self.high, color=self.ink, linewidth=1.2)
        size = _MOST["named" if self.named else "points"]
        look = {"markerfacecolor": fill, "markeredgecolor": self.ink, "markersize": size, "markeredgewidth": 0.8}
        axes.plot(along, across, "o", label=self.series["label"], **look)


def _dress(axes: Any, figure: dict[str, Any]) -> None:
    names = figure["names"]
    along, across = (axes.xaxis, axes.yaxis) if names is None else (axes.yaxis, axes.xaxis)
    axes.grid(visible=True, linewidth=0.6)
    axes.set_axisbelow(True)
    across.set_label_text(figure["y_label"])
    if names is None:
        along.set_label_text(figure["x_label"])
        _scale(axes.set_xscale, along, is_log=figure["log_x"])
    else:
        axes.set_yticks(range(len(names)), names)
        axes.set_ylim(len(names) - 0.5, -0.5)
    _scale(axes.set_yscale if names is None else axes.set_xscale, across, is_log=figure["log_y"])
    low, high = _ends(figure)
    (axes.set_ylim if names is None else axes.set_xlim)(low, high)


def _note(text: str) -> str:
    return "\n".join(line for given in text.splitlines() for line in textwrap.wrap(given, _LINE_CHARACTERS))


def _scale(setter: Any, axis: Any, *, is_log: bool) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    if is_log:
        setter("log")
        low, high = axis.get_data_interval()
        frame = axis.axes.get_window_extent()
        is_upright = axis is axis.axes.yaxis
        decade = (frame.height if is_upright else frame.width) / (math.log10(high / low) or 1)
        longest = max(len(_written(10.0 ** math.floor(math.log10(end)))) for end in (low, high))
        needed = _ROW if is_upright else _ROW + _WIDE_CHARACTER * longest
        has_room = decade * math.log10(2) >= needed
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if has_room else (1.0,)))
        axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(_written))


def _written(value: float, _place: int | None = None) -> str:
    """A number as the page writes it."""
    if value == 0:
        return "0"
    if 1e-4 <= abs(value) < 1e7:
        return f"{float(f'{value:.4g}'):,.10g}"
    digits, _, power = f"{value:.2e}".partition("e")
    raised = f"10{str(int(power)).translate(_SUPERSCRIPTS)}"
    return raised if float(digits) == 1 else f"{float(digits):g} \N{MULTIPLICATION SIGN} {raised}"


def _ends(figure: dict[str, Any]) -> tuple[float | None, float | None]:
    """The ends of the y axis: as the page has them."""
    shown = zip(figure["series"], figure["data"][1:], strict=True)
    values = [value for series, column in shown if series["drawn"] for value in column if value is not None]
    if not values:
        return None, None
    low, high = figure["y_range"] or (min(values), max(values))
    if figure["log_y"]:
        decade = 10 ** math.floor(math.log10(low))
        return max(1, math.floor(low / decade / 1.02)) * decade, high * 1.08
    if low < 0 or not figure["from_zero"]:
        room = 0.1 * (high - low)
        return low - room, high + room
    return 0.0, high * 1.05 or 1.0


def _legend_columns(labels: Sequence[str]) -> int:
    longest = max(map(len, labels), default=1)
    return max(1, min(len(labels), int(100 / (longest + 6))))


def _or(value: float | None, other: float) -> float:
    return other if value is None else value
