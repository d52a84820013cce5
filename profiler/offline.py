"""The planner tried on a file of samples: an oracle that remembers, and a judge that knows all.

The oracle gives one run a point, and counts. Nothing else of the planned model's runtimes reaches the planner. What
was promised is then held against all its runs.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from profiler.fitting import fit, fit_errors, line_coefficients
from profiler.planner import Planner
from profiler.planning import Plan, Points
from profiler.samples import Measured

__all__ = ["FileOracle", "judged", "noisy", "overall", "points_of", "trial"]

Seed = int | tuple[int, ...]

_LEAST = 0.01  # a run never takes less than nothing, however noisy
_A_POINT = 1.0  # seconds that a run may cost besides its own: the start of a request, its set-up


class FileOracle:
    """The runs of a file: the first of each point, multiplied by 1 + `noise` times a normal number (of `seed`).

    `points` are they without noise, `reads` how many were asked for.
    """

    def __init__(self, measured: Measured, noise: float = 0.0, seed: Seed = 0) -> None:
        alone = measured.where(measured.batch == 1)
        self.points: dict[tuple[int, int], float] = {}
        for prompt, output, seconds in zip(alone.prompt.tolist(), alone.output.tolist(), alone.seconds, strict=True):
            self.points.setdefault((prompt, output), float(seconds))
        factors = 1 + noise * np.random.default_rng(seed).standard_normal(len(self.points))
        clipped = np.maximum(factors, _LEAST).tolist()
        self._runs = {point: self.points[point] * factor for point, factor in zip(self.points, clipped, strict=True)}
        self.reads = 0

    def read(self, prompt_tokens: int, output_tokens: int) -> float:
        """Seconds of one run."""
        self.reads += 1
        seconds: float = self._runs[prompt_tokens, output_tokens]
        return seconds


def noisy(measured: Measured, noise: float, seed: Seed) -> Measured:
    """The same with every runtime multiplied by 1 + `noise` times a normal number."""
    factors = 1 + noise * np.random.default_rng(seed).standard_normal(len(measured.seconds))
    return replace(measured, seconds=measured.seconds * np.maximum(factors, _LEAST))


def trial(samples: Sequence[Measured], number: int, noise: float = 0.0, seed: int = 0) -> tuple[Planner, FileOracle]:
    """The planner for one model of a file, and its oracle; the others are those of other names on its hardware.

    With `noise` all that it ever sees is noisy, the others' runs as well as those that it makes. Every model's noise
    is its own.
    """
    wanted = samples[number]
    others = [
        noisy(each, noise, (seed, at))
        for at, each in enumerate(samples)
        if each.hardware == wanted.hardware and each.model != wanted.model and (each.batch == 1).any()
    ]
    return Planner.of(points_of(wanted), wanted, others), FileOracle(wanted, noise, (seed, number))


def points_of(measured: Measured) -> Points:
    """The points of batch size 1 that a file has of a model."""
    alone = measured.where(measured.batch == 1)
    return Points(*np.unique(np.stack([alone.prompt, alone.output]), axis=1))


def judged(planned: Plan, measured: Measured, oracle: FileOracle) -> dict[str, Any]:
    """What a plan cost and kept, from all runs of the model (`measured`): the record of one model."""
    coefficients = line_coefficients(planned.line, measured.scale)
    used, full = sum(planned.seconds), sum(oracle.points.values())
    runs, every = len(planned.points), len(oracle.points)
    return {
        "points": [list(point) for point in planned.points],
        "seconds_used": used,
        "seconds_full": full,
        "ratio": full / used if used else None,
        "ratio_with_1s_a_point": (full + _A_POINT * every) / (used + _A_POINT * runs) if runs else None,
        "promised_p95": planned.promised_p95,
        "reached_p95": fit_errors(coefficients, measured).p95,
        "all_points_p95": fit((measured,))[0].errors.p95,
    }


def overall(records: Sequence[dict[str, Any]], p95: float) -> dict[str, Any]:
    """Several models' records in one: means, the largest errors, and how many kept what was asked for and promised.

    `kept` is the share of models that reached the error asked for, `promise_kept` of those that reached their own.
    """

    def mean(key: str) -> float | None:
        values = [each[key] for each in records if each[key] is not None]
        return float(np.mean(values)) if values else None

    ratios = [each["ratio"] for each in records if each["ratio"] is not None]
    runs = [len(each["points"]) for each in records]
    return {
        "models": len(records),
        "mean_points": float(np.mean(runs)),
        "most_points": max(runs),
        "mean_ratio": mean("ratio"),
        "median_ratio": float(np.median(ratios)) if ratios else None,
        "least_ratio": min(ratios) if ratios else None,
        "mean_ratio_with_1s_a_point": mean("ratio_with_1s_a_point"),
        "worst_reached_p95": max(each["reached_p95"] for each in records),
        "kept": float(np.mean([each["reached_p95"] <= p95 for each in records])),
        "promise_kept": float(np.mean([each["reached_p95"] <= each["promised_p95"] for each in records])),
    }
