"""Adaptive measurement: which (p, o) to run next, and when enough is known.

Before the first run T(p, o) of a model is believed to be what the roofline and the other models on the hardware say,
give or take their deviations (`profiler.expectation`). The next run is the one that takes away most of the expected
squared relative error of T over all points wanted, per second that it is expected to take. It is over when, with 90 %
certainty, 95 % of the points are within the error asked for: what is not known of F, beta and gamma, and the scatter
of single runs that no coefficients explain, as the other models show it. How noisy the runs are, and whether the model
deviates more than others did, is learned from the runs themselves: hypotheses of both (`_NOISES`, `_SPREADS`) are
carried along and weighed by how well each foretold every run.

The planner sees runtimes through an `Oracle` only, one run at a time. `profiler.planner` is its entry.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from profiler.learned import Line, settle
from profiler.posterior import Belief, Noise, design
from profiler.prior import Floats, Mean

__all__ = ["Expectation", "Oracle", "Plan", "Points", "adapt", "follow"]

_NOISES = ((0.0, 0.2), (0.01, 0.1), (0.02, 0.2), (0.035, 0.25), (0.06, 0.15), (0.1, 0.1))
"""Scatter of single runs besides that of the other models' (a fraction of T), and how likely it is beforehand."""

_SPREADS = ((1.0, 0.5), (1.6, 0.3), (2.5, 0.15), (6.0, 0.05))
"""How many times further off the mean the model may be than others were, and how likely."""

_CERTAINTY = 0.9
_SHARE = 0.95  # of the points, that are to be within the error asked for
_REACHABLE = 0.8  # of the error asked for: scatter above it leaves no room, and T alone has to be as good
_PER_RUN = 0.3  # seconds that a run costs besides its own, in the choice of the next
_DRAWS = 400


class Oracle(Protocol):
    """What answers a question with a run: a machine, or a file that remembers one."""

    def read(self, prompt_tokens: int, output_tokens: int) -> float:
        """Seconds of one run."""


@dataclass(frozen=True, slots=True)
class Points:
    """Prompt and output tokens, arrays of one length: what can be run, and is wanted."""

    prompt: NDArray[np.int64]
    output: NDArray[np.int64]

    def at(self, index: int) -> tuple[int, int]:
        """One of them."""
        return int(self.prompt[index]), int(self.output[index])


@dataclass(frozen=True, slots=True)
class Expectation:
    """What is known before the first run: deviations (`belief`) around `mean`, F at `sizes`, beta, gamma.

    `noise` is a single run's; `scatters` are the relative errors that the best coefficients of each other model left.
    """

    mean: Mean
    sizes: Floats
    belief: Belief
    noise: Noise
    scatters: tuple[Floats, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """The runs that were made, in order, what they took, and what was known then.

    `promised_p95`: with 90 % certainty, 95 % of all points are measured within it. `known_p95` is the same of T alone,
    without the scatter of single runs. The promise is above what was asked for where the other models' runs scatter so
    much that no T could keep it, and where there was nothing left to run. `line` is T as it is then believed to be.
    """

    points: tuple[tuple[int, int], ...]
    seconds: tuple[float, ...]
    promised_p95: float
    known_p95: float
    line: Line


def adapt(
    oracle: Oracle, points: Points, expected: Expectation, p95: float, made: Sequence[tuple[int, float]] = ()
) -> Plan:
    """Run what tells most until 95 % of `points` are known to within `p95` (a fraction), or all were run.

    `made` are runs that there are already: the number of the point, and its seconds.
    """
    hypotheses = _Hypotheses(points, expected, made)
    runs = list(made)
    promised, known = hypotheses.errors()
    while (promised if hypotheses.floor <= _REACHABLE * p95 else known) > p95 and len(runs) < len(points.prompt):
        index = hypotheses.most_telling()
        runs.append((index, oracle.read(*points.at(index))))
        hypotheses.learn(*runs[-1])
        promised, known = hypotheses.errors()
    return _planned(hypotheses, points, expected, runs)


def follow(
    oracle: Oracle,
    points: Points,
    expected: Expectation,
    design_of: Sequence[int],
    made: Sequence[tuple[int, float]] = (),
) -> Plan:
    """Run exactly these points (their numbers), whatever they tell: a design that was fixed beforehand.

    Those that were `made` already are not run again, and count like the others.
    """
    there = {index for index, _ in made}
    runs = [*made, *((index, oracle.read(*points.at(index))) for index in design_of if index not in there)]
    return _planned(_Hypotheses(points, expected, runs), points, expected, runs)


def _planned(
    hypotheses: "_Hypotheses", points: Points, expected: Expectation, runs: Sequence[tuple[int, float]]
) -> Plan:
    promised, known = hypotheses.errors()
    made = points.prompt[[index for index, _ in runs]]
    return Plan(
        points=tuple(points.at(index) for index, _ in runs),
        seconds=tuple(seconds for _, seconds in runs),
        promised_p95=promised,
        known_p95=known,
        line=settle(expected.mean, expected.sizes, hypotheses.belief(), expected.noise, made, points.output),
    )


class _Hypotheses:
    """Hypotheses of noise and spread, one an element of the first axis: how likely each is, and what it believes."""

    def __init__(self, points: Points, expected: Expectation, made: Sequence[tuple[int, float]]) -> None:
        self.base, self.matrix = design(points.prompt, points.output, expected.sizes, expected.mean)
        self.noise = expected.noise
        pairs = [(noise, spread) for noise in _NOISES for spread in _SPREADS]
        self.extra = np.array([noise for (noise, _), _ in pairs])
        self.likely = np.array([noise * spread for (_, noise), (_, spread) in pairs])
        self.value = np.tile(expected.belief.value, (len(pairs), 1))
        spreads = np.array([spread for _, (spread, _) in pairs])
        self.covariance = np.multiply.outer(spreads**2, expected.belief.covariance)
        self.unread = np.ones(len(points.prompt), dtype=np.bool_)
        random = np.random.default_rng(0)  # the same draws for every decision: they differ by what was learned
        self.normal = random.standard_normal((_DRAWS, len(expected.sizes) + 2))
        self.scatter = _scatter(expected, len(points.prompt), random)
        self.rounded = random.uniform(-np.sqrt(3), np.sqrt(3), (_DRAWS, len(points.prompt))) * self.noise.rounding
        self.floor = _certain(self.scatter + self.rounded / self.seconds())
        for index, seconds in made:
            self.learn(index, seconds)

    def seconds(self) -> Floats:
        """T of every point."""
        return np.maximum(self.base + self.matrix @ (self.likely @ self.value), 1e-9)

    def errors(self) -> tuple[float, float]:
        """The error that 95 % of the points are within, with 90 % certainty: as single runs are, and of T itself."""
        chosen = np.searchsorted(np.cumsum(self.likely), (np.arange(_DRAWS) + 0.5) / _DRAWS)
        chosen = np.minimum(chosen, len(self.likely) - 1)
        middle, seconds = self.likely @ self.value, self.seconds()
        off = np.empty((_DRAWS, len(seconds)))
        for number in np.unique(chosen):
            mine = chosen == number
            root = np.linalg.cholesky(self.covariance[number] + 1e-12 * np.eye(len(middle)))
            off[mine] = (self.value[number] - middle + self.normal[mine] @ root.T) @ self.matrix.T / seconds
        return _certain(off + self.scatter + self.rounded / seconds), _certain(off)

    def most_telling(self) -> int:
        """The point to run next."""
        seconds = self.seconds()
        joint = self.matrix @ np.tensordot(self.likely, self.covariance, 1) @ self.matrix.T
        noise = self.noise.variance(seconds) + float(self.likely @ self.extra**2) * seconds**2
        gain = ((joint / seconds[:, None]) ** 2).sum(axis=0) / (np.diag(joint) + noise)
        return int(np.argmax(np.where(self.unread, gain / (seconds + _PER_RUN), -1.0)))

    def learn(self, index: int, seconds: float) -> None:
        """Take in one run."""
        row = self.matrix[index]
        reach = self.covariance @ row
        noise = self.noise.variance(np.array(seconds)) + (self.extra * seconds) ** 2
        variance = reach @ row + noise
        surprise = seconds - self.base[index] - self.value @ row
        foretold = -0.5 * (surprise**2 / variance + np.log(variance))
        likely = self.likely * np.exp(foretold - foretold.max())
        self.likely = likely / likely.sum()
        self.value = self.value + reach * (surprise / variance)[:, None]
        self.covariance = self.covariance - reach[:, :, None] * reach[:, None, :] / variance[:, None, None]
        self.unread[index] = False

    def belief(self) -> Belief:
        """All hypotheses as one."""
        middle = self.likely @ self.value
        apart = self.value - middle
        around = np.tensordot(self.likely, self.covariance, 1) + (self.likely[:, None] * apart).T @ apart
        return Belief(middle, around)


def _scatter(expected: Expectation, points: int, random: np.random.Generator) -> Floats:
    """Relative errors of single runs, draw by draw those of one other model: an array of (draws, points)."""
    if not expected.scatters:
        return expected.noise.scatter * random.standard_normal((_DRAWS, points))
    models = random.permutation(np.arange(_DRAWS) % len(expected.scatters))
    return np.array([random.choice(expected.scatters[model], points) for model in models])


def _certain(off: Floats) -> float:
    return float(np.quantile(np.quantile(np.abs(off), _SHARE, axis=1), _CERTAINTY))
