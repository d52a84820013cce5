"""Models learned together: each has evidence of its own, and those of one hardware share a posterior.

A model's mean is the roofline where its architecture and hardware are known and its samples agree with it, else the
growth of its samples. Models of either sort learn from their like. Everything is pure.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np

from profiler.calibrate import stack_of
from profiler.hardware import Hardware, HardwareError
from profiler.posterior import Belief, Evidence, Posterior, design, evidence, posterior
from profiler.prior import (
    CONTEXT_UNIT,
    GROWTH,
    ROOFLINE,
    Floats,
    Mean,
    Places,
    Scales,
    growth,
    known_hardware,
    roofline,
)
from profiler.samples import Measured

__all__ = ["Line", "agrees", "learn", "learned_with", "line", "look", "scales_of", "settle"]

_AGREES = 1.5  # by what factor samples may lie off a roofline that is theirs
_ROUGH = 4.0  # what is rough from size to size, in units of the scatter of single runs
_LEAST_ROUGH = 0.006
_BENT = 0.01  # of F: where straight lines between knots would be further off, there is a knot
_MOST_KNOTS = 96
_MOST_UNKNOWNS = 800  # of models that learn from each other
_NOTHING = 1e-12
_SHOWN = 3.0  # standard deviations by which gamma must lie above 0 to be given


def look(measured: Measured, number: int) -> Evidence:
    """What one model's samples say around the mean that suits it; `number` tells it from others."""
    lines = (roofline(measured, stack) for stack in _stacks(measured))
    mean = next((line for line in lines if line is not None and agrees(line, measured)), None)
    return evidence(measured, mean or growth(measured), number)


def _stacks(measured: Measured) -> Iterator[Hardware]:
    """The shipped stack that the samples' hardware names; or else, of those on that device, the one that fits best."""
    named = known_hardware(measured.hardware)
    if named is not None:
        yield named
    if measured.architecture is not None:
        with suppress(HardwareError):
            yield stack_of([measured])


def agrees(mean: Mean, measured: Measured) -> bool:
    """Whether samples are about what a roofline says: else it is that of other software, or of another degree."""
    alone = measured.where(measured.batch == 1)
    expected, _ = design(alone.prompt, alone.output, np.unique(alone.prompt).astype(np.float64), mean)
    return bool(abs(np.log(np.median(alone.seconds / expected))) < np.log(_AGREES))


def learn(parts: Sequence[Evidence]) -> list[Posterior]:
    """The posterior of each of `parts`."""
    found: list[Posterior | None] = [None] * len(parts)
    for group in dict.fromkeys(_group(part) for part in parts):
        members = [at for at, part in enumerate(parts) if _group(part) == group]
        for some in _chunks(members, parts):
            shared = posterior([parts[at] for at in some], scales_of([parts[at] for at in members]))
            for at in some:
                found[at] = shared
    return [each for each in found if each is not None]


def learned_with(parts: Sequence[Evidence], part: Evidence) -> Posterior:
    """The posterior that `part` shares with those of `parts` that are on its hardware and have a mean of its sort."""
    members = [at for at, each in enumerate(parts) if _group(each) == _group(part)]
    some = next(chunk for chunk in _chunks(members, parts) if any(parts[at] is part for at in chunk))
    return posterior([parts[at] for at in some], scales_of([parts[at] for at in members]))


def _chunks(members: list[int], parts: Sequence[Evidence]) -> list[list[int]]:
    """Models in the order of the file, as many together as are quickly solved for."""
    chunks: list[list[int]] = [[]]
    unknowns = 0
    for at in members:
        unknowns += len(parts[at].force)
        if chunks[-1] and unknowns > _MOST_UNKNOWNS:
            chunks.append([])
            unknowns = len(parts[at].force)
        chunks[-1].append(at)
    return chunks


def scales_of(parts: Sequence[Evidence]) -> Scales:
    """The scales of deviations for these: noisy machines are rough from size to size, too."""
    scatter = float(np.median([part.noise.scatter for part in parts]))
    return replace(GROWTH if parts[0].mean.smooth else ROOFLINE, rough=max(_LEAST_ROUGH, _ROUGH * scatter))


def _group(part: Evidence) -> tuple[str, bool]:
    return part.measured.hardware, part.mean.smooth


@dataclass(frozen=True, slots=True)
class Line:
    """What is believed of one model: F at `sizes`, beta and gamma, in seconds of what ran.

    F never falls with p, gamma is 0 unless the samples show it. The errors are standard deviations, fractions: of F
    over sizes whether measured or not, and of beta.
    """

    sizes: Floats
    prompt: Floats
    step: float
    context: float
    prompt_error: float
    step_error: float


def line(part: Evidence, learned: Posterior, elsewhere: Floats) -> Line:
    """The line of one model. Sizes are those measured, those of others (`elsewhere`) in between, and where F bends."""
    sizes = _sizes(part.knots, elsewhere)
    every = np.unique(np.concatenate([sizes, _between(sizes)]))
    found = settle(part.mean, every, learned.believe(Places.of(int(part.places.model[0]), part.mean, every)))
    given = np.isin(every, sizes)
    straight = np.interp(every, sizes, found.prompt[given])
    kept = given | (np.abs(straight / found.prompt - 1) > _BENT)
    return replace(found, sizes=every[kept], prompt=found.prompt[kept])


def settle(mean: Mean, sizes: Floats, belief: Belief) -> Line:
    """The line of what is believed of F at `sizes`, beta and gamma."""
    belief = _context_settled(mean, belief)
    deviation = np.sqrt(np.maximum(np.diag(belief.covariance), 1e-12))
    first = mean.prompt(sizes) * np.maximum(1 + belief.value[:-2], 1e-3)
    return Line(
        sizes=sizes,
        prompt=_rising(first, 1 / (first * deviation[:-2]) ** 2),
        step=mean.step * max(0.0, 1 + float(belief.value[-2])),
        context=_context(mean, belief),
        prompt_error=float(np.sqrt(np.mean(deviation[:-2] ** 2))),
        step_error=float(deviation[-2]),
    )


def _sizes(own: Floats, elsewhere: Floats) -> Floats:
    inside = elsewhere[(elsewhere > own[0]) & (elsewhere < own[-1])]
    every = np.unique(np.concatenate([own, inside]))
    return every if len(every) <= _MOST_KNOTS else own


def _between(sizes: Floats) -> Floats:
    """Whole numbers at a quarter, half and three quarters of the way from each size to the next."""
    quarters = [np.round(sizes[:-1] + share * np.diff(sizes)) for share in (0.25, 0.5, 0.75)]
    return np.concatenate(quarters)


def _context_settled(mean: Mean, belief: Belief) -> Belief:
    """The same with gamma 0 unless it is clearly above."""
    size = CONTEXT_UNIT * mean.step
    certain = _context(mean, belief) > _SHOWN * size * np.sqrt(belief.covariance[-1, -1])
    return belief if certain or not size else belief.known(len(belief.value) - 1, -mean.context / size)


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
