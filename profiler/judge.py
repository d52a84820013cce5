"""How far predictions lie from the truth: the same summary for everything that was left out of a fit."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Judged", "errors_of", "judge", "summary_lines"]


@dataclass(frozen=True, slots=True)
class Judged:
    """One model's predictions of what had been left out: signed relative errors, prediction / truth - 1.

    `inside` tells of each whether the truth lies in the 80 % interval of its prediction, where there is one; `prompt`
    of how many prompt tokens it is.
    """

    model: str
    errors: NDArray[np.float64]
    inside: NDArray[np.bool_] | None = None
    prompt: NDArray[np.int64] | None = None


def judge(judged: Sequence[Judged]) -> dict[str, Any]:
    """The summary of relative errors (fractions, without their sign), as `crossval --json` prints it.

    {"models": {M: {"mean", "median", "p90", "p95", "points"}}, "overall": {"mean", "p95", "median_model",
    "worst_model"}}: overall mean and p95 are over all points, median_model and worst_model the median and the
    largest of the models' medians. Where intervals are known, "coverage" is the share of points within them:
    {"level", "mean" (over models), "models": {M: share}}. Models of one name are judged together; those without
    points are left out. All None without any points.
    """
    together: dict[str, list[Judged]] = {}
    for each in judged:
        if len(each.errors):
            together.setdefault(each.model, []).append(each)
    errors = {model: np.abs(np.concatenate([part.errors for part in parts])) for model, parts in together.items()}
    medians = [float(np.median(off)) for off in errors.values()]
    every = np.concatenate([*errors.values(), np.zeros(0)])
    overall = {
        "mean": _of(every, np.mean),
        "p95": _of(every, lambda off: np.quantile(off, 0.95)),
        "median_model": _of(np.array(medians), np.median),
        "worst_model": _of(np.array(medians), np.max),
    }
    found: dict[str, Any] = {"models": {model: errors_of(off) for model, off in errors.items()}, "overall": overall}
    inside = {
        model: float(np.mean(np.concatenate([part.inside for part in parts if part.inside is not None])))
        for model, parts in together.items()
        if all(part.inside is not None for part in parts)
    }
    if inside:
        found["coverage"] = {"level": 0.8, "mean": float(np.mean(list(inside.values()))), "models": inside}
    return found


def errors_of(errors: NDArray[np.float64]) -> dict[str, float | int]:
    """Mean, median, 90 % and 95 % quantile of errors without their sign, and how many there are."""
    off = np.abs(errors)
    median, p90, p95 = (float(each) for each in np.quantile(off, [0.5, 0.9, 0.95]))
    return {"mean": float(off.mean()), "median": median, "p90": p90, "p95": p95, "points": len(off)}


def summary_lines(found: dict[str, Any]) -> list[str]:
    """The summary as a table for people, a line a model."""
    models, overall = found["models"], found["overall"]
    width = max([len(model) for model in models] + [len("models: median, worst")])
    lines = [f"{'':{width}}    mean  median     p90     p95  points"]
    for model, off in models.items():
        numbers = "".join(f"{off[name]:8.1%}" for name in ("mean", "median", "p90", "p95"))
        lines.append(f"{model:{width}}{numbers}{off['points']:8}")
    if not models:
        return ["nothing could be left out"]
    lines.append(f"{'all':{width}}{overall['mean']:8.1%}{'':16}{overall['p95']:8.1%}")
    lines.append(f"{'models: median, worst':{width}}{overall['median_model']:8.1%}{overall['worst_model']:8.1%}")
    if "coverage" in found:
        lines.append(f"80 % intervals held {found['coverage']['mean']:.0%} of the truth, on average over models")
    return lines


def _of(values: NDArray[np.float64], what: Any) -> float | None:
    return float(what(values)) if len(values) else None
