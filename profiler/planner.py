"""Adaptive measurement of one model on one hardware, from nothing to the promise: the entry of the planner.

    planned = plan(oracle, points, unmeasured("a100", "mine", architecture), others, p95=0.05)

`oracle` makes the runs: a machine, or a file that remembers them (`profiler.offline`). Where nothing can be expected of
the model (no architecture, or hardware that is not known), a few runs come first that show the growth: they are charged
like all others.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from profiler.architectures import Architecture
from profiler.expectation import expect, expect_after, scouts
from profiler.planning import Expectation, Oracle, Plan, Points, adapt, follow
from profiler.samples import Measured

__all__ = ["FIXED_POINTS", "Oracle", "Plan", "Planner", "Points", "fixed_design", "plan", "unmeasured"]

_FIXED_SIZES = 8
_FIXED_OUTPUTS = (2, 4)
FIXED_POINTS = _FIXED_SIZES + len(_FIXED_OUTPUTS)


def plan(
    oracle: Oracle,
    points: Points,
    model: Measured,
    others: Sequence[Measured] = (),
    p95: float = 0.05,
    first: Sequence[int] = (),
) -> Plan:
    """Make the runs that tell most, until 95 % of `points` are known to within `p95`, or all were made.

    `first` are points (their numbers) that are run in any case, before all others.

    `model` says which it is (`unmeasured`); its runtimes, if it has any, are not looked at. `others` are measured
    models on the same hardware, if there are any: they make the first guess better, and so the runs fewer.
    """
    return Planner.of(points, model, others).run(oracle, p95, first)


def unmeasured(hardware: str, model: str, architecture: Architecture | None = None, tensor: int = 1) -> Measured:
    """A model without runs, on a hardware, with so many devices sharing each layer."""
    none = np.zeros(0, np.int64)
    return Measured(hardware, model, tensor, none, none, none.astype(np.float64), none, architecture)


@dataclass(frozen=True, slots=True)
class Planner:
    """A model (without runtimes), the points that are wanted of it, the others, and what they make one expect."""

    points: Points
    model: Measured
    others: tuple[Measured, ...]
    expected: Expectation | None

    @classmethod
    def of(cls, points: Points, model: Measured, others: Sequence[Measured]) -> "Planner":
        """What is known before the first run."""
        unknown, ones = np.full(len(points.prompt), np.inf), np.ones_like(points.prompt)
        blank = replace(model, prompt=points.prompt, output=points.output, seconds=unknown, batch=ones)
        return cls(points, blank, tuple(others), expect(blank, others))

    def run(self, oracle: Oracle, p95: float, first: Sequence[int] = ()) -> Plan:
        """The runs that tell most, after those of `first`."""
        made, expected = self._start(oracle, first)
        return adapt(oracle, self.points, expected, p95, made)

    def run_fixed(self, oracle: Oracle) -> Plan:
        """The fixed design instead, with the same expectation."""
        made, expected = self._start(oracle, ())
        return follow(oracle, self.points, expected, fixed_design(self.points), made)

    def _start(self, oracle: Oracle, first: Sequence[int]) -> tuple[list[tuple[int, float]], Expectation]:
        wanted = first if self.expected is not None else dict.fromkeys([*first, *scouts(self.points)])
        made = [(index, oracle.read(*self.points.at(index))) for index in wanted]
        if self.expected is not None:
            return made, self.expected
        seen, seconds = (np.array(column) for column in zip(*made, strict=True))
        prompt, output = self.points.prompt[seen], self.points.output[seen]
        runs = replace(self.model, prompt=prompt, output=output, batch=np.ones_like(prompt), seconds=seconds)
        return made, expect_after(runs, self.model, self.others)


def fixed_design(points: Points) -> list[int]:
    """Ten points chosen beforehand (their numbers): eight prompt sizes with one output token, and two more outputs."""
    sizes = np.unique(points.prompt)
    places = np.unique(np.round(np.linspace(0, len(sizes) - 1, _FIXED_SIZES)).astype(int))
    wanted = [(float(sizes[place]), 1.0) for place in places]
    wanted += [(float(sizes[0]), float(output)) for output in _FIXED_OUTPUTS]
    away = [np.abs(np.log(points.prompt / p)) + np.abs(np.log(points.output / o)) for p, o in wanted]
    return list(dict.fromkeys(int(np.argmin(each)) for each in away))
