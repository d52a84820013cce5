"""What is expected of a model before it has run: the roofline, and how the other models on its hardware deviate.

The roofline's constants are calibrated on the other models of the file, or as shipped where there are none; rows of
tables are never looked at. Where architecture or hardware is not known there is nothing to expect: then a few runs
come first (`scouts`), and their growth is the mean.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from profiler.calibrate import calibrate, plausible, stack_of
from profiler.hardware import Hardware, HardwareError, hardware
from profiler.learned import agrees, look, scales_of
from profiler.plan import Expectation, Points
from profiler.posterior import Belief, Evidence, Noise, evidence, posterior
from profiler.prior import GROWTH, ROOFLINE, Mean, Places, covariance, growth, roofline
from profiler.samples import Measured

__all__ = ["blank", "expect", "expect_after", "scouts"]

_NEW = {"own_level": 0.05, "own": 0.04, "step": 0.02}
"""Scales of a model's own deviations where the calibration has not seen it."""

_SCOUTED = {"own_level": 0.05, "own": 0.1, "own_reach": 1.0}
"""And where its mean is the growth of a few runs."""

_FEWEST = 2  # other models, to calibrate a roofline on
_USUAL = Noise(scatter=0.01, rounding=0.0)
_TAIL = np.sqrt(2.0)  # standard deviation of Student's t with 4 degrees of freedom
_SCOUT_SIZES = (0.0, 0.33, 0.67, 1.0)
_SCOUT_OUTPUT = 8


def blank(measured: Measured) -> tuple[Measured, Points]:
    """A model as it is before any run, its runtimes unknown, and the points of batch size 1 that can be run."""
    alone = measured.where(measured.batch == 1)
    prompt, output = np.unique(np.stack([alone.prompt, alone.output]), axis=1)
    unknown = np.full(len(prompt), np.inf)
    empty = replace(alone, prompt=prompt, output=output, seconds=unknown, batch=np.ones_like(prompt))
    return empty, Points(prompt, output)


def expect(model: Measured, others: Sequence[Measured]) -> Expectation | None:
    """What is expected of a blank model from its architecture, the hardware and `others` on it; None: nothing."""
    stack = _stack(model, others)
    mean = roofline(model, stack) if stack is not None else None
    if stack is None or mean is None:
        return None
    looks = [(each, roofline(each, stack)) for each in others]
    known = [(each, line) for each, line in looks if line is not None]
    alike = [evidence(each, line, number) for number, (each, line) in enumerate(known) if agrees(line, each)]
    if len(alike) < len(known) / 2:
        return None
    return _around(mean, model, alike, _NEW)


def expect_after(runs: Measured, model: Measured, others: Sequence[Measured]) -> Expectation:
    """What is expected of a blank model of which nothing but a few `runs` is known; what they say is not yet in it."""
    alike = [part for part in (look(each, number) for number, each in enumerate(others)) if part.mean.smooth]
    return _around(growth(runs), model, alike, _SCOUTED)


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


def _stack(model: Measured, others: Sequence[Measured]) -> Hardware | None:
    seen = [each for each in others if each.architecture is not None]
    try:
        stack = stack_of(seen) if seen else hardware(model.hardware)
    except HardwareError:
        return None
    seen = [plausible(each, stack) for each in seen]
    return calibrate(seen, stack) if len(seen) >= _FEWEST else stack


def _around(mean: Mean, model: Measured, others: Sequence[Evidence], wider: Mapping[str, float]) -> Expectation:
    sizes = np.unique(model.prompt).astype(np.float64)
    place = Places.of(len(others), mean, sizes)
    if not others:
        scales = replace(GROWTH if mean.smooth else ROOFLINE, **wider)
        return Expectation(mean, sizes, Belief(np.zeros(len(place.size)), covariance(place, place, scales)), _USUAL)
    scatter = float(_TAIL * np.sqrt(np.mean([each.noise.scatter**2 for each in others])))
    return Expectation(
        mean=mean,
        sizes=sizes,
        belief=posterior(others, replace(scales_of(others), **wider)).believe(place),
        noise=Noise(scatter, max(each.noise.rounding for each in others)),
        scatters=tuple(each.unexplained for each in others),
    )
