"""A call of `profiler measure`: one model after the other, until all are measured or the budget is spent."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from profiler.journal import Journal
from profiler.machine import Machine
from profiler.measured import Measured
from profiler.measuring import OUTPUTS, Budget, BudgetSpent, Repeated, grid, measure
from profiler.nvml import Board, BoardError, Meter
from profiler.planning import Plan
from profiler.progress import Progress
from profiler.runs import Point, Runs
from profiler.subjects import Local, Subject

__all__ = ["Rules", "Session"]

_USUAL_POINTS = 14  # of a model, for the progress that is shown
_ALMOST = 0.95
_TO_MAKE = 15.0  # seconds that making a model may take
_POWER_SECONDS = 2.0
_ENCODED = 1024
_DECODED = 16, max(OUTPUTS)


@dataclass(frozen=True, slots=True)
class Rules:
    """When enough is known: 95 % of the points within `p95`, each run until its median is known to within `tight`."""

    p95: float
    tight: float


@dataclass(slots=True)
class Session:
    """What is common to all models of a call. `told` is what to remember of this time, `models` how many there are.

    `measured` are the runs of those that were begun, `complete` of those of which enough is known.
    """

    journal: Journal
    rules: Rules
    budget: Budget
    progress: Progress
    told: Mapping[str, Any]
    models: int
    board: Board | None = None
    measured: list[Runs] = field(default_factory=list)
    complete: list[Runs] = field(default_factory=list)

    def measure(self, subject: Subject) -> Plan | None:
        """Measure a model, as far as it is not yet; None: the budget was spent first."""
        runs = Runs(self.journal, subject.setup, self.told)
        others = [samples for each in self.measured if (samples := each.medians()) is not None]
        self.measured.append(runs)
        try:
            return self._measured(subject, self.oracle(runs, subject), others)
        except BudgetSpent:
            return None
        finally:
            subject.close()

    def check(self, subject: Local) -> list[float] | None:
        """How far what was extrapolated lies off the whole model, at each point (a fraction); None: out of budget.

        The whole model runs the points that its parts ran.
        """
        parts = next(each for each in self.measured if each.setup == subject.setup)
        extrapolated = self.oracle(parts, subject)
        whole = subject.whole()
        oracle = self.oracle(Runs(self.journal, whole.setup, self.told), whole)
        try:
            return [abs(extrapolated.read(*point) / oracle.read(*point) - 1) for point in parts.points()]
        except BudgetSpent:
            return None
        finally:
            whole.close()

    def oracle(self, runs: Runs, subject: Subject) -> Repeated:
        """What answers for a subject, from its runs and by making more of them."""

        def machine(layers: int) -> Machine:
            if not made:
                self.progress.update(self._share(0), f"{subject.setup.model}: making it")
                self.budget.check(_TO_MAKE)
                made.append(layers)
            return subject.machine(layers)

        made: list[int] = []
        return Repeated(runs, machine, self.rules.tight, self.budget, self._watching(runs), self._clocks)

    def _measured(self, subject: Subject, oracle: Repeated, others: list[Measured]) -> Plan | None:
        points = grid(subject.longest, subject.shortest)
        planned = measure(oracle, points, others, self.rules.p95)
        if planned is not None:
            self.complete.append(oracle.runs)
        if planned is not None and self.board is not None:
            try:
                self._power(oracle, subject, self.board)
            except BoardError as error:  # seconds are worth having without joules
                self.progress.say(f"{subject.setup.model}: no energy: {error}")
        return planned

    def _power(self, oracle: Repeated, subject: Subject, board: Board) -> None:
        """Joules of both phases: runs of almost nothing else, over some seconds."""
        runs, layers = oracle.runs, max(subject.setup.depths)
        phases = {"prompt": (min(_ENCODED, subject.longest), 1), "output": _DECODED}
        for phase in [phase for phase in phases if phase not in runs.powers()]:
            point = phases[phase]
            self.budget.check(_TO_MAKE)
            machine = oracle.machines(layers)
            used = Meter(board).measure(partial(machine.run, *point), _POWER_SECONDS)
            runs.add_power(phase, point, used.seconds, used.joules, layers=layers)

    def _clocks(self) -> Mapping[str, Any]:
        try:
            return {} if self.board is None else {"clocks": self.board.clocks()}
        except BoardError:
            return {}

    def _watching(self, runs: Runs) -> Callable[[Point, int, float], None]:
        began, points = time.monotonic(), dict[Point, None]()

        def watch(point: Point, number: int, spread: float) -> None:
            points[point] = None
            share = self._share(len(points))
            so_far = time.monotonic() - began
            left = min(self.budget.left, so_far / len(points) * max(1, _USUAL_POINTS - len(points)))
            known = "" if spread == float("inf") else f", within {spread:.1%}"
            prompt, output = point
            self.progress.update(share, f"{runs.setup.model}: {prompt} + {output} tokens, run {number}{known}", left)

        return watch

    def _share(self, points: int) -> float:
        """Of all models: those that are done, and what may be done of this one."""
        return (len(self.measured) - 1 + _ALMOST * min(1.0, points / _USUAL_POINTS)) / self.models
