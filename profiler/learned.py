"""Models learned together: each has evidence of its own, and those of one hardware and one mean share a posterior.

What is then believed of one model becomes a line: F that never falls, beta, gamma where it shows, and their bands.
Everything is pure.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from profiler.choice import Choice, Seen, choose
from profiler.posterior import Belief, Evidence, Noise, Posterior, design, posterior
from profiler.prior import CONTEXT_UNIT, GROWTH, ROOFLINE, Floats, Mean, total_seconds
from profiler.spread import Band, band

__all__ = ["Learned", "Line", "learn", "learn_one", "line", "settle"]

_BENT = 0.01  # of F: where straight lines between knots would be further off, there is a knot
_MOST_KNOTS = 96
_MOST_UNKNOWNS = 800  # of models that learn from each other
_NOTHING = 1e-12
_SHOWN = 3.0  # standard deviations by which gamma must lie above 0 to be given
_BEFOREHAND = -1.4  # log odds of a gamma of 0, one in five: more context is more to read
_OUTPUTS = 6  # numbers of output tokens, and prompt sizes, at which the band of T is taken
_SIZES = 60
_TAILS = 1.43  # variance of a Gaussian that has as much outside of 80 % as Student's t with 4 degrees of freedom


@dataclass(frozen=True, slots=True)
class Learned:
    """One model among those it learned from."""

    part: Evidence
    posterior: Posterior


def learn(seen: Sequence[Seen]) -> list[Learned]:
    """What is learned of each."""
    choices, found = choose(seen), dict[int, Learned]()
    for some in _together(choices):
        shared = posterior([choices[at].part for at in some], choices[some[0]].scales)
        found.update((at, Learned(choices[at].part, shared)) for at in some)
    return [found[at] for at in range(len(seen))]


def learn_one(seen: Sequence[Seen], at: int) -> Learned:
    """What is learned of one of them: the same as `learn` says, sooner."""
    choices = choose(seen)
    some = next(some for some in _together(choices) if at in some)
    return Learned(choices[at].part, posterior([choices[each].part for each in some], choices[at].scales))


def _together(choices: Sequence[Choice]) -> list[list[int]]:
    """Those of one hardware and mean, in the order of the file, as many together as are quickly solved for."""
    groups: dict[tuple[str, str], list[list[int]]] = {}
    unknowns: dict[tuple[str, str], int] = {}
    for at, choice in enumerate(choices):
        group = choice.part.measured.hardware, choice.part.mean.name
        chunks = groups.setdefault(group, [[]])
        unknowns[group] = unknowns.get(group, 0) + len(choice.part.force)
        if chunks[-1] and unknowns[group] > _MOST_UNKNOWNS:
            chunks.append([])
            unknowns[group] = len(choice.part.force)
        chunks[-1].append(at)
    return [chunk for chunks in groups.values() for chunk in chunks]


@dataclass(frozen=True, slots=True)
class Line:
    """What is believed of one model: F at `sizes`, beta and gamma, in seconds of what ran.

    F never falls with p, gamma is 0 unless the samples show it. The bands are factors that hold 80 % of the truth: of F
    over sizes whether measured or not, of beta, and of single runs.
    """

    sizes: Floats
    prompt: Floats
    step: float
    context: float
    prompt_band: Band = (1.0, 1.0)
    step_band: Band = (1.0, 1.0)
    runtime_band: Band = (1.0, 1.0)


def line(learned: Learned, elsewhere: Floats) -> Line:
    """The line of one model. Sizes are those measured, those of others (`elsewhere`) in between, and where F bends."""
    part = learned.part
    sizes = _sizes(part.knots, elsewhere)
    every = np.unique(np.concatenate([sizes, _between(sizes)]))
    belief = learned.posterior.believe(part.mean, every, part)
    found = settle(part.mean, every, belief, part.noise, part.measured.prompt, part.measured.output)
    given = np.isin(every, sizes)
    straight = np.interp(every, sizes, found.prompt[given])
    kept = given | (np.abs(straight / found.prompt - 1) > _BENT)
    return replace(found, sizes=every[kept], prompt=found.prompt[kept])


def settle(
    mean: Mean, sizes: Floats, belief: Belief, noise: Noise, measured: NDArray[np.int64], outputs: NDArray[np.int64]
) -> Line:
    """The line of what is believed of F at `sizes`, beta and gamma; single runs of `outputs` tokens have this `noise`.

    gamma is 0 unless it is clearly above. The bands do not take that for granted: they are those of either case, each
    as likely as the samples make it. That of F is over sizes other than those `measured`, where there are some.
    """
    absent, without = _no_context(mean, belief)
    shown = _context(mean, belief) > _SHOWN * CONTEXT_UNIT * mean.step * np.sqrt(belief.covariance[-1, -1])
    settled = belief if shown else without
    first = mean.prompt(sizes)
    weights = 1 / (first**2 * np.maximum(np.diag(settled.covariance)[:-2], 1e-12))
    found = Line(
        sizes=sizes,
        prompt=_rising(first * np.maximum(1 + settled.value[:-2], 1e-3), weights),
        step=mean.step * max(0.0, 1 + float(settled.value[-2])),
        context=_context(mean, settled),
    )
    unmeasured = ~np.isin(sizes, measured)
    there = unmeasured if unmeasured.any() else ~unmeasured
    return _with_bands(found, mean, [(absent, without), (1 - absent, belief)], noise, outputs, there)


def _no_context(mean: Mean, belief: Belief) -> tuple[float, Belief]:
    """How likely gamma is 0 (by the densities there before and after the samples), and what is believed then."""
    size = CONTEXT_UNIT * mean.step
    if not size:
        return 1.0, belief
    none, around = -mean.context / size, (GROWTH if mean.smooth else ROOFLINE).context
    known, variance = float(belief.value[-1]), max(float(belief.covariance[-1, -1]), 1e-12)
    odds = -0.5 * ((none - known) ** 2 / variance - (none / around) ** 2 + np.log(variance / around**2))
    return float(expit(odds + _BEFOREHAND)), belief.known(len(belief.value) - 1, none)


def _with_bands(
    found: Line,
    mean: Mean,
    beliefs: Sequence[tuple[float, Belief]],
    noise: Noise,
    outputs: NDArray[np.int64],
    there: NDArray[np.bool_],
) -> Line:
    """The same with its bands; `beliefs` are cases and how likely each is, `there` the sizes of the band of F."""
    prompt, output = _grid(found.sizes, outputs)
    base, matrix = design(prompt, output, found.sizes, mean)
    between = np.interp(prompt, found.sizes, found.prompt)
    given = total_seconds(between, found.step, found.context, prompt, output.astype(np.float64))
    first, step = mean.prompt(found.sizes) / found.prompt, np.array([mean.step / (found.step or 1.0)])
    of_prompt, of_step, of_runtime = [], [], []
    for share, belief in beliefs:
        deviation = np.sqrt(np.maximum(np.diag(belief.covariance), 0))
        spread = np.einsum("ij,ij->i", matrix @ belief.covariance, matrix) + _TAILS * noise.variance(given)
        of_prompt.append(((first * (1 + belief.value[:-2]))[there], (first * deviation[:-2])[there], share))
        of_step.append((step * (1 + belief.value[-2:-1]), step * deviation[-2:-1], share))
        of_runtime.append(((base + matrix @ belief.value) / given, np.sqrt(spread) / given, share))
    return replace(found, prompt_band=band(of_prompt), step_band=band(of_step), runtime_band=band(of_runtime))


def _grid(sizes: Floats, outputs: NDArray[np.int64]) -> tuple[Floats, NDArray[np.int64]]:
    """Some sizes with some numbers of output tokens, each with each."""
    some = _some(np.unique(outputs), _OUTPUTS)
    prompt = _some(sizes, _SIZES)
    return np.repeat(prompt, len(some)), np.tile(some, len(prompt))


def _some(values: NDArray[Any], most: int) -> NDArray[Any]:
    some: NDArray[Any] = values[np.unique(np.linspace(0, len(values) - 1, min(most, len(values))).round().astype(int))]
    return some


def _sizes(own: Floats, elsewhere: Floats) -> Floats:
    inside = elsewhere[(elsewhere > own[0]) & (elsewhere < own[-1])]
    every = np.unique(np.concatenate([own, inside]))
    return every if len(every) <= _MOST_KNOTS else own


def _between(sizes: Floats) -> Floats:
    """Whole numbers at a quarter, half and three quarters of the way from each size to the next."""
    quarters = [np.round(sizes[:-1] + share * np.diff(sizes)) for share in (0.25, 0.5, 0.75)]
    return np.concatenate(quarters)


def _context(mean: Mean, belief: Belief) -> float:
    """gamma; what rounding alone leaves of a gamma of 0 is 0."""
    context = mean.context + CONTEXT_UNIT * mean.step * float(belief.value[-1])
    return context if context > _NOTHING * mean.step else 0.0


def _rising(values: Floats, weights: Floats) -> Floats:
    """The nearest values that never fall (weighted least squares, by pooling neighbours that do)."""
    pools: list[tuple[float, float, int]] = []
    for value, weight in zip(values.tolist(), weights.tolist(), strict=True):
        pools.append((value, weight, 1))
        while len(pools) > 1 and pools[-2][0] > pools[-1][0]:
            (low, low_weight, low_count), (high, high_weight, high_count) = pools.pop(), pools.pop()
            total = low_weight + high_weight
            pools.append(((low * low_weight + high * high_weight) / total, total, low_count + high_count))
    return np.repeat([value for value, _, _ in pools], [count for _, _, count in pools])
