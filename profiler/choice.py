"""Which mean a model's samples have, and how far off it they lie: chosen by how likely each makes the samples.

Candidates are the roofline of every shipped stack on the device (one device runs software of several kinds), and the
growth of the samples, smooth or bent; with each, some multipliers of the prior's scales. `profiler.posterior.score`
says how likely a model's samples are under one of them (marginal likelihood). The models of a hardware should agree,
since they learn from each other: the mean is the one under which all together are the most likely, except for models
that clearly have another; the multiplier is common to those of one mean. Everything is pure.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from profiler.hardware import Hardware, HardwareError, hardware, stacks
from profiler.posterior import Evidence, evidence, score
from profiler.prior import BENT, GROWTH, ROOFLINE, Floats, Mean, Scales, bent_growth, growth, roofline
from profiler.samples import Measured

__all__ = ["MULTIPLIERS", "Choice", "Seen", "agrees", "choose", "scales_of", "see", "stacks_on"]

MULTIPLIERS = (0.0625, 0.125, 0.25, 0.5, 1.0, 2.0, 4.0)
"""How many times further off the mean than on the published measurements."""

_BEFOREHAND = -0.5 * (np.log2(MULTIPLIERS) / 2.0) ** 2  # log densities: few samples do not decide it
_CLEARLY = 20.0  # difference of log likelihoods at which a model has another mean than those beside it
_CLOSE = 15.0  # the same for each model, within which it is looked at what models have in common
_BENT = 6.0  # what a bend must gain: it is put where it fits best, at one of a dozen or two sizes
_MOST_UNKNOWNS = 800  # with which that is quickly done
_AGREES = 1.5  # by what factor samples may lie off a roofline that is theirs


@dataclass(frozen=True, slots=True)
class Seen:
    """What one model's samples say around every mean that may be theirs, and how likely they are (`scores`).

    Both by the mean's name; a score is an array over MULTIPLIERS.
    """

    measured: Measured
    parts: dict[str, Evidence]
    scores: dict[str, Floats]


@dataclass(frozen=True, slots=True)
class Choice:
    """The mean of one model (as its evidence), and the scales of deviations from it."""

    part: Evidence
    scales: Scales


def stacks_on(name: str) -> list[Hardware]:
    """The shipped stacks on the device that a hardware's name tells: a100 may be any of three."""
    try:
        device = hardware(name).device
    except HardwareError:
        return []
    return [each for each in stacks().values() if each.device == device]


def see(measured: Measured, on: Iterable[Hardware] | None = None) -> Seen:
    """Look at one model's samples around the roofline of each stack of `on` (default: all on its device), and growth.

    Where all runs have one number of output tokens, and a roofline agrees, growth is left out: it would not tell F
    and beta apart.
    """
    lines = (roofline(measured, stack) for stack in (stacks_on(measured.hardware) if on is None else on))
    means = [line for line in lines if line is not None and agrees(line, measured)]
    if not means or len(np.unique(measured.output[measured.batch == 1])) > 1:
        alone = measured.where(measured.batch == 1)
        means += [growth(alone), *filter(None, [bent_growth(alone)])]
    parts = {mean.name: evidence(measured, mean) for mean in means}
    scores = {name: score([part], _usual(part.mean), MULTIPLIERS) - _odds(part.mean) for name, part in parts.items()}
    return Seen(measured, parts, scores)


def agrees(mean: Mean, measured: Measured) -> bool:
    """Whether samples are about what a roofline says: else it is that of other software, or of another degree."""
    alone = measured.where(measured.batch == 1)
    expected = mean.runtime(alone.prompt.astype(np.float64), alone.output.astype(np.float64))
    return bool(abs(np.log(np.median(alone.seconds / expected))) < np.log(_AGREES))


def choose(seen: Sequence[Seen]) -> list[Choice]:
    """The mean and the scales of each, those of one hardware being chosen together."""
    found: dict[int, Choice] = {}
    for device in dict.fromkeys(each.measured.hardware for each in seen):
        there = [at for at, each in enumerate(seen) if each.measured.hardware == device]
        found.update(zip(there, _on_one([seen[at] for at in there]), strict=True))
    return [found[at] for at in range(len(seen))]


def _on_one(seen: Sequence[Seen]) -> list[Choice]:
    common = _common(seen)
    at = _multiplier(seen, common)
    names = []
    for each in seen:
        own = {name: float(np.max(scores)) for name, scores in each.scores.items()}
        best = max(own, key=own.__getitem__)
        agreed = common in own and each.scores[common][at] > own[best] - _CLEARLY
        names.append(common if agreed else best)
    groups = {name: [each for each, its in zip(seen, names, strict=True) if its == name] for name in names}
    scales = {name: scales_of(members, name) for name, members in groups.items()}
    return [Choice(each.parts[name], scales[name]) for each, name in zip(seen, names, strict=True)]


def scales_of(seen: Sequence[Seen], name: str) -> Scales:
    """The scales of models' deviations from the mean of this name, which some of them must have been seen around."""
    mean = next(each.parts[name].mean for each in seen if name in each.parts)
    return _usual(mean).times(MULTIPLIERS[_multiplier(seen, name)])


def _multiplier(seen: Sequence[Seen], name: str) -> int:
    """The place in MULTIPLIERS of the likeliest one under this mean."""
    scores = [each.scores[name] for each in seen if name in each.scores]
    return int(np.argmax(np.sum([_BEFOREHAND, *scores], axis=0)))


def _common(seen: Sequence[Seen]) -> str:
    """The name of the mean under which models on one hardware are together the most likely.

    By the sum of their own scores; where that is close, what they have in common counts too, which takes longer.
    """
    names = list(dict.fromkeys(name for each in seen for name in each.scores))
    alone = {name: _likely(seen, name, _multiplier(seen, name)) for name in names}
    best = max(names, key=alone.__getitem__)
    close = [name for name in names if alone[name] > alone[best] - _CLOSE * len(seen)]
    few = sum(len(part.force) for each in seen for part in list(each.parts.values())[:1]) <= _MOST_UNKNOWNS
    if len(close) == 1 or len(seen) == 1 or not few:
        return best
    return max(close, key=lambda name: alone[name] + _together(seen, name))


def _likely(seen: Sequence[Seen], name: str, at: int) -> float:
    """The sum of models' own scores; of one that this mean cannot be of, its best with another one, less the odds."""
    others = [max(float(np.max(scores)) for scores in each.scores.values()) - _CLEARLY for each in seen]
    return sum(
        float(each.scores[name][at]) if name in each.scores else other for each, other in zip(seen, others, strict=True)
    )


def _together(seen: Sequence[Seen], name: str) -> float:
    """How much likelier models are together than each alone."""
    at = _multiplier(seen, name)
    having = [each for each in seen if name in each.parts]
    joint = score([each.parts[name] for each in having], scales_of(having, name), [1.0])
    return float(joint[0]) - sum(float(each.scores[name][at]) for each in having)


def _odds(mean: Mean) -> float:
    return _BENT if mean.name == BENT else 0.0


def _usual(mean: Mean) -> Scales:
    return GROWTH if mean.smooth else ROOFLINE
