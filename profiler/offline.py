"""The planner tried on a file of samples: an oracle that remembers, and a judge that knows all.

The oracle gives one run a point, and counts. Nothing else of the planned model's runtimes reaches the planner. What
was promised is then held against all its runs.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from profiler.expectation import blank, expect, expect_after, scouts
from profiler.fit import fit, fit_errors, line_coefficients
from profiler.plan import Expectation, Plan, Points, follow, plan
from profiler.samples import Measured

__all__ = ["FIXED_POINTS", "FileOracle", "Trial", "fixed_design", "judged", "overall", "trial"]

FIXED_POINTS = 10
_FIXED_SIZES = 8
_FIXED_OUTPUTS = (2, 4)
_A_POINT = 1.0  # seconds that a run may cost besides its own: the start of a request, its set-up


class FileOracle:
    """The runs of a file: the first of each point, multiplied by 1 + `noise` times a normal number (of `seed`)."""

    def __init__(self, measured: Measured, noise: float = 0.0, seed: int = 0) -> None:
        alone = measured.where(measured.batch == 1)
        self.points: dict[tuple[int, int], float] = {}
        for prompt, output, seconds in zip(alone.prompt.tolist(), alone.output.tolist(), alone.seconds, strict=True):
            self.points.setdefault((prompt, output), float(seconds))
        factors = 1 + noise * np.random.default_rng(seed).standard_normal(len(self.points))
        # A run never takes less than nothing, however noisy.
        self._runs = {
            point: seconds * max(float(factor), 0.01)
            for (point, seconds), factor in zip(self.points.items(), factors, strict=True)
        }
        self.reads = 0

    def read(self, prompt_tokens: int, output_tokens: int) -> float:
        """Seconds of one run."""
        self.reads += 1
        return self._runs[prompt_tokens, output_tokens]


@dataclass(frozen=True, slots=True)
class Trial:
    """What the planner is told of a model: its shape, the points, and what the other models make it expect."""

    model: Measured
    points: Points
    others: tuple[Measured, ...]
    expected: Expectation | None

    def run(self, oracle: FileOracle, p95: float) -> Plan:
        """Plan and measure; where nothing can be expected, after a few runs that show the growth."""
        if self.expected is not None:
            return plan(oracle, self.points, self.expected, p95)
        made, expected = self._scouted(oracle)
        return plan(oracle, self.points, expected, p95, made)

    def run_fixed(self, oracle: FileOracle) -> Plan:
        """The fixed design instead, with the same expectation."""
        if self.expected is not None:
            return follow(oracle, self.points, self.expected, fixed_design(self.points))
        return follow(oracle, self.points, self._scouted(oracle)[1], fixed_design(self.points))

    def _scouted(self, oracle: FileOracle) -> tuple[list[tuple[int, float]], Expectation]:
        made = [(index, oracle.read(*self.points.at(index))) for index in scouts(self.points)]
        seen = np.array([index for index, _ in made])
        model = self.model
        runs = replace(
            model,
            prompt=model.prompt[seen],
            output=model.output[seen],
            batch=model.batch[seen],
            seconds=np.array([seconds for _, seconds in made]),
        )
        return made, expect_after(runs, model, self.others)


def trial(samples: Sequence[Measured], number: int) -> Trial:
    """The trial of one model of a file; the others are those of other names on its hardware."""
    wanted = samples[number]
    others = tuple(each for each in samples if each.hardware == wanted.hardware and each.model != wanted.model)
    model, points = blank(wanted)
    return Trial(model, points, others, expect(model, others))


def fixed_design(points: Points) -> list[int]:
    """Ten points chosen beforehand (their numbers): eight prompt sizes with one output token, and two more outputs."""
    sizes = np.unique(points.prompt)
    places = np.unique(np.round(np.linspace(0, len(sizes) - 1, _FIXED_SIZES)).astype(int))
    wanted = [(float(sizes[place]), 1.0) for place in places]
    wanted += [(float(sizes[0]), float(output)) for output in _FIXED_OUTPUTS]
    away = [np.abs(np.log(points.prompt / p)) + np.abs(np.log(points.output / o)) for p, o in wanted]
    return list(dict.fromkeys(int(np.argmin(each)) for each in away))


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
        "mean_ratio_with_1s_a_point": mean("ratio_with_1s_a_point"),
        "worst_reached_p95": max(each["reached_p95"] for each in records),
        "kept": float(np.mean([each["reached_p95"] <= p95 for each in records])),
        "promise_kept": float(np.mean([each["reached_p95"] <= each["promised_p95"] for each in records])),
    }
