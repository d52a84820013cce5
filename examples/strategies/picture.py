"""Draws strategies: accuracy against what an attempt costs, one figure a measure, with the Pareto frontier."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from profiler.plot import Figure, Series, write_page

__all__ = ["write_picture"]

_AXES = {"flops": "FLOPs a problem", "dedicated_dollars": "dollars a problem"}
_GREY = 7


def write_picture(path: Path, found: Mapping[str, Any]) -> None:
    """Write a page of what `stream outcomes --json` found."""
    write_page(path, [_figure(found, name) for name in _AXES], "What a right answer costs")


def _figure(found: Mapping[str, Any], measure: str) -> Figure:
    best = sorted(_point(each, measure) for each in found["strategies"] if each["measures"][measure]["pareto"])
    corners = [corner for (_, before), (x, y) in pairwise(best) for corner in ((x, before), (x, y))]
    return Figure(
        title=f"Accuracy against {_AXES[measure]}",
        x=[],
        series=[_joined("Pareto frontier", [*best[:1], *corners], colour=_GREY), *_series(found, measure)],
        x_label=_AXES[measure],
        y_label="accuracy",
        note="A line joins the budgets of a strategy. Pareto frontier: the most that could be had for so much.",
        log_x=True,
        log_y=False,
    )


def _series(found: Mapping[str, Any], measure: str) -> Iterator[Series]:
    """A line for each strategy and model, over its budgets: a colour a strategy, broken but for the first model."""
    lines: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for each in found["strategies"]:
        name = each["strategy"].rstrip("0123456789").rstrip("-@")
        lines.setdefault((name, each["model"]), []).append(_point(each, measure))
    names, models = (sorted({key[place] for key in lines}) for place in (0, 1))
    for name, model in sorted(lines):
        places = sorted(lines[name, model])
        look = {"colour": names.index(name), "dash": model != models[0], "points": len(places) == 1}
        yield _joined(f"{name}, {model}", places, **look)


def _point(strategy: Mapping[str, Any], measure: str) -> tuple[float, float]:
    return strategy["measures"][measure]["per_problem"], strategy["accuracy"]


def _joined(label: str, places: Sequence[tuple[float, float]], **look: Any) -> Series:
    return Series(label, [y for _, y in places], x=[x for x, _ in places], **look)
