"""What is expected of a model before it has run: the roofline, and how the other models on its hardware deviate.

The roofline's constants are calibrated on the other models of the file, or as shipped where there are none; rows of
tables are never looked at. Where architecture or hardware is not known there is nothing to expect: then a few runs
come first (`scouts`), and their growth is the mean.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from profiler.calibrate import calibrate, plausible
from profiler.choice import Seen, choose, scales_of, see, stacks_on
from profiler.hardware import Hardware, HardwareError, hardware
from profiler.planning import Expectation, Points
from profiler.posterior import Belief, Noise, posterior
from profiler.prior import GROWTH, ROOFLINE, Mean, Places, covariance, growth, roofline
from profiler.samples import Measured

__all__ = ["expect", "expect_after", "scouts"]

_NEW = {"own_level": 0.05, "own": 0.04, "step": 0.02}
"""Scales of a model's own deviations where the calibration has not seen it."""

_SCOUTED = {"own_level": 0.05, "own": 0.1, "own_reach": 1.0}
"""And where its mean is the growth of a few runs."""

_FEWEST = 2  # other models, to calibrate a roofline on
_USUAL = Noise(scatter=0.01, rounding=0.0)
_TAIL = np.sqrt(2.0)  # standard deviation of Student's t with 4 degrees of freedom
_SCOUT_SIZES = (0.0, 0.33, 0.67, 1.0)
_SCOUT_OUTPUT = 8


def expect(model: Measured, others: Sequence[Measured]) -> Expectation | None:
    """What is expected of a blank model from its architecture, the hardware and `others` on it; None: nothing.

    Which stack's roofline it is, the others say; without any it is that which the hardware's name means.
    """
    voting = [each for each in others if each.architecture is not None]
    stack, like = _voted(voting) if voting else (_named(model.hardware), [])
    if stack is None:
        return None
    like = [plausible(each, stack) for each in like]
    calibrated = calibrate(like, stack) if len(like) >= _FEWEST else stack
    mean = roofline(model, calibrated)
    seen = [each for each in (see(each, [calibrated]) for each in like) if mean is not None and mean.name in each.parts]
    return None if mean is None else _around(mean, model, seen, _NEW)


def expect_after(runs: Measured, model: Measured, others: Sequence[Measured]) -> Expectation:
    """What is expected of a blank model of which nothing but a few `runs` is known; what they say is not yet in it.

    Its mean is their growth, which is only a centre: each part of it is as unknown as it is large.
    """
    mean = growth(runs)
    seen = [each for each in (see(each, []) for each in others) if mean.name in each.parts]
    return _around(mean, model, seen, _SCOUTED)


def scouts(points: Points) -> list[int]:
    """A few points (their numbers) that show the growth of F and beta: four sizes, and one with further tokens."""
    sizes, fewest = np.unique(points.prompt), int(points.output.min())
    wanted = [(int(sizes[round(share * (len(sizes) - 1))]), fewest) for share in _SCOUT_SIZES]
    found = [_nearest(points, *each, least=fewest) for each in wanted]
    if points.output.max() > fewest:
        found.append(_nearest(points, int(sizes[0]), _SCOUT_OUTPUT, least=fewest + 1))
    return list(dict.fromkeys(found))


def _nearest(points: Points, prompt: int, output: int, least: int) -> int:
    """The point nearest to (prompt, output), by ratios, of those with `least` output tokens or more."""
    away = np.abs(np.log(points.prompt / prompt)) + np.abs(np.log(points.output / output))
    return int(np.argmin(np.where(points.output >= least, away, np.inf)))


def _named(name: str) -> Hardware | None:
    try:
        return hardware(name)
    except HardwareError:
        return None


def _voted(others: Sequence[Measured]) -> tuple[Hardware | None, list[Measured]]:
    """The stack whose roofline most of the others have as their mean, and which do; None where they have growth."""
    names = [choice.part.mean.name for choice in choose([see(each) for each in others])]
    most = max(names, key=names.count)
    stacks = {f"roofline {stack.name}": stack for stack in stacks_on(others[0].hardware)}
    return stacks.get(most), [each for each, name in zip(others, names, strict=True) if name == most]


def _around(mean: Mean, model: Measured, others: Sequence[Seen], wider: Mapping[str, float]) -> Expectation:
    sizes = np.unique(model.prompt).astype(np.float64)
    if not others:
        place, scales = Places.of(0, mean, sizes), replace(GROWTH if mean.smooth else ROOFLINE, **wider)
        return Expectation(mean, sizes, Belief(np.zeros(len(place.size)), covariance(place, place, scales)), _USUAL)
    parts = [each.parts[mean.name] for each in others]
    scatter = float(_TAIL * np.sqrt(np.mean([part.noise.scatter**2 for part in parts])))
    shared = posterior(parts, replace(scales_of(others, mean.name), **wider))
    return Expectation(
        mean=mean,
        sizes=sizes,
        belief=shared.believe(mean, sizes),
        noise=Noise(scatter, max(part.noise.rounding for part in parts)),
        scatters=tuple(part.unexplained for part in parts),
    )
