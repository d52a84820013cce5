"""Measuring one model: the planner asks for points, each is run until it is known tightly, and every run is kept.

What the file of runs already holds is not run again: the planner decides the same from the same answers, so that a
measurement that was killed goes on where it was. A budget of seconds is looked at before every run.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import numpy as np
from scipy.special import stdtrit

from profiler.machine import Machine
from profiler.measured import Measured
from profiler.planner import Plan, Points, plan, unmeasured
from profiler.runs import Point, Runs, whole_seconds

__all__ = ["Budget", "BudgetSpent", "Repeated", "Watch", "grid", "half_width", "measure"]

OUTPUTS = (1, 9, 33, 129)
"""Numbers of output tokens of the points that a measurement wants to know."""

_SIZES = (1, 4, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768)
_LEAST, _MOST = 3, 12  # runs of a point
_LONG = 30.0  # seconds at one point, after which the least number of runs is enough
_WARM_OUTPUT = 4  # tokens of a run that only warms up
_HALF = 0.9  # the chance that a median lies within its half-width
_NORMAL = 1.4826  # standard deviations of a normal distribution in its median absolute deviation,
_FEW = (1.196, 1.495, 1.363, 1.206, 1.2, 1.14, 1.129, 1.107)  # and more of 2 to 9 values (Croux and Rousseeuw, 1992)
_MEDIAN = 1.2533  # how much less sure a median is than a mean

Watch = Callable[[Point, int, float], None]
"""Told after each run: its point, how many there are of it, and the relative half-width of its median."""


class BudgetSpent(Exception):
    """The next run would not be over in time."""


@dataclass(slots=True)
class Budget:
    """Seconds that may be spent, from now on; None: as many as it takes."""

    seconds: float | None = None
    clock: Callable[[], float] = time.monotonic
    began: float = field(init=False)

    def __post_init__(self) -> None:
        """Begin now."""
        self.began = self.clock()

    @property
    def left(self) -> float:
        """What is left of them."""
        return float("inf") if self.seconds is None else self.seconds - (self.clock() - self.began)

    def check(self, needed: float) -> None:
        """BudgetSpent if there is not so much left."""
        if self.left < needed:
            raise BudgetSpent


@dataclass(slots=True)
class Repeated:
    """An oracle for the planner: the median of as many runs of a point as it takes, of the whole model.

    `machines` gives the machine of a depth; it is asked for the first time when a run has to be made. `clocks` are
    kept with each run.
    """

    runs: Runs
    machines: Callable[[int], Machine]
    tight: float
    budget: Budget
    watch: Watch = lambda *_: None
    clocks: Callable[[], Mapping[str, Any]] = dict
    warmed: set[tuple[int, int]] = field(default_factory=set)

    def read(self, prompt_tokens: int, output_tokens: int) -> float:
        """Seconds of the whole model; BudgetSpent, MachineError or JournalError where it cannot be had."""
        point = prompt_tokens, output_tokens
        while not self._known(point):
            # Depths take turns: a machine that grows slower meanwhile is slower for all of them.
            layers = min(self.runs.setup.depths, key=lambda layers: len(self.runs.at(point, layers)))
            self.budget.check(max((run.seconds for run in self.runs.at(point, layers)), default=0.0))
            self._warm(layers, prompt_tokens, output_tokens)
            self.runs.add(point, self.machines(layers).run(*point), layers, **self.clocks())
            self.watch(point, len(self.runs.at(point, layers)), self.spread(point))
        depths = self.runs.setup.depths
        return whole_seconds(
            list(depths.values()), [median(run.seconds for run in self.runs.at(point, layers)) for layers in depths]
        )

    def spread(self, point: Point) -> float:
        """The relative half-width of the whole model's median."""
        depths = self.runs.setup.depths
        there = {layers: [run.seconds for run in self.runs.at(point, layers)] for layers in depths}
        if not all(there.values()):
            return float("inf")
        middle = whole_seconds(list(depths.values()), [median(seconds) for seconds in there.values()])
        widths = [factor * half_width(there[layers]) for layers, factor in depths.items()]
        return float(np.hypot.reduce(widths)) / middle

    def _known(self, point: Point) -> bool:
        made = [self.runs.at(point, layers) for layers in self.runs.setup.depths]
        number = min(map(len, made))
        if number < _LEAST or len({len(runs) for runs in made}) > 1:
            return False
        long = sum(run.seconds for runs in made for run in runs) > _LONG
        return number >= _MOST or long or self.spread(point) <= self.tight

    def _warm(self, layers: int, prompt: int, output: int) -> None:
        """A run of a size that this process has not run before chooses kernels and makes room: it is not kept."""
        if (layers, prompt) not in self.warmed:
            self.machines(layers).run(prompt, min(output, _WARM_OUTPUT))
            self.warmed.add((layers, prompt))


def half_width(seconds: Sequence[float]) -> float:
    """Half of the interval that holds the median of such runs with a chance of 90 %, in seconds."""
    if len(seconds) < 2:
        return float("inf")
    middle, number = median(seconds), len(seconds)
    factor = _FEW[number - 2] if number - 2 < len(_FEW) else number / (number - 0.8)
    deviation = _NORMAL * factor * median(abs(each - middle) for each in seconds)
    certain = float(stdtrit(number - 1, (1 + _HALF) / 2))
    return certain * _MEDIAN * float(deviation) / float(np.sqrt(number))


def grid(longest: int, shortest: int = 1) -> Points:
    """The points to be known: prompt sizes in octaves from `shortest` to `longest`, each with all OUTPUTS."""
    sizes = sorted({shortest, *(size for size in _SIZES if shortest < size < longest), longest})
    prompt, output = np.meshgrid(np.array(sizes, np.int64), np.array(OUTPUTS, np.int64), indexing="ij")
    return Points(prompt.ravel(), output.ravel())


def measure(oracle: Repeated, points: Points, others: Sequence[Measured], p95: float) -> Plan | None:
    """Make the runs that tell most until 95 % of `points` are known to within `p95`; None: the budget was spent first.

    Decoding at several contexts comes first, whatever else is asked for: the planner may believe that context costs
    nothing, and then never look. `others` are models measured on the same stack.
    """
    setup = oracle.runs.setup
    blank = unmeasured(setup.stack, setup.model, setup.architecture, setup.tensor_parallel)
    try:
        return plan(oracle, points, blank, others, p95, _contexts(points))
    except BudgetSpent:
        return None


def _contexts(points: Points) -> list[int]:
    """The points (their numbers) of the most output tokens after the shortest, a middle and the longest prompt."""
    sizes, most = np.unique(points.prompt), points.output.max()
    there = {int(size): int(np.flatnonzero((points.prompt == size) & (points.output == most))[0]) for size in sizes}
    return list(dict.fromkeys(there[int(sizes[place])] for place in (0, -1, len(sizes) // 2)))
