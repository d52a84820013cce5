"""Leave-one-out: how far off the roofline is for a model, or a tensor-parallel degree, that its calibration never saw.

The constants are calibrated anew without what is left out; the form of the roofline is fixed, and so is the prior.
Which stack of the device it is, and on how many devices the others can have run, is decided from the others too; on
how many what was left out ran, from what is recorded and from what its weights need. (The constants that stacks ship
with, by which one is chosen, are those of the shipped samples.) The measured runtimes of what was left out, all of
them, are then compared with the prediction.

Intervals are conformal, over models: what was left out is as likely as any of the others to be the one that is far
off, so that the factor which holds 80 % (n + 1) / n of the n others' left-out runtimes, each counted the same, holds
about 80 % of its own on average over models. About, since it is cross-conformal: that of a model is made of the others'
errors alone, but the calibrations which these come from had seen the model. With four others or fewer it is the largest
of their errors. Within a single model it may hold all or nothing: models differ as a whole.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from profiler.calibrate import calibrate, plausible, runtimes, stack_of
from profiler.fitted import called
from profiler.hardware import Hardware, HardwareError, LeftOut, Of, Part
from profiler.judge import Judged
from profiler.samples import Measured, SamplesError
from profiler.tables import LEVEL

__all__ = ["conformal", "leave_out_degrees", "leave_out_models", "leave_out_shapes", "left_out"]

_ALIKE = 1.2  # hidden sizes and feed-forwards of twins differ less
_ALIKE_LAYERS = 1.4

Rule = Callable[[Measured, Measured], bool]
"""Whether the second may stay in the calibration when the first is left out."""


def leave_out_models(samples: Sequence[Measured], start: Hardware | None = None) -> list[Judged]:
    """Each model left out at a time, of its own hardware: signed relative errors of all its runtimes.

    `start` is the stack to calibrate (by default the one of the samples' hardware that fits the others best). Raises
    SamplesError where there is nothing to calibrate on, HardwareError for hardware that is not known.
    """
    return _judged(samples, start, _another_model)


def leave_out_shapes(samples: Sequence[Measured], start: Hardware | None = None) -> list[Judged]:
    """The same, leaving out with each model its twins: models of nearly its shape under another name.

    Models without others than twins are passed over; where there are no others at all, nothing is judged.
    """
    judged = [
        each
        for each in samples
        if any(_another_shape(each, other) for other in samples if other.hardware == each.hardware)
    ]
    return _judged(judged, start, _another_shape) if judged else []


def leave_out_degrees(samples: Sequence[Measured], start: Hardware | None = None) -> list[Judged]:
    """The same, leaving out with each model all that ran with the same tensor-parallel degree."""
    return _judged(samples, start, _another_degree)


def conformal(errors: Sequence[NDArray[np.float64]], level: float = LEVEL) -> float:
    """The w for which errors of a further model lie within [-w, w] with a chance of about `level`, over models.

    `errors` are those of models left out, an array each. With four models or fewer it is the largest error of all.
    """
    size = np.concatenate([np.abs(each) for each in errors])
    weight = np.concatenate([np.full(len(each), 1 / len(each)) for each in errors])
    order = np.argsort(size)
    held = np.cumsum(weight[order]) / len(errors)
    wanted = min(1.0, level * (len(errors) + 1) / len(errors))
    return float(size[order][min(int(np.searchsorted(held, wanted - 1e-9)), len(size) - 1)])


def left_out(of: Of, part: Part, judged: Sequence[Judged], rows: Sequence[NDArray[np.bool_]] | None = None) -> LeftOut:
    """The summary of a leave-one-out that ships with a stack, of these `rows` of each (None: of all)."""
    chosen = rows or [np.ones(len(each.errors), np.bool_) for each in judged]
    errors = [each.errors[some] for each, some in zip(judged, chosen, strict=True)]
    medians = [float(np.median(np.abs(each))) for each in errors]
    wide = conformal([np.log1p(each) for each in errors])
    interval = float(np.exp(-wide)), float(np.exp(wide))
    return LeftOut(of, part, float(np.median(medians)), max(medians), interval, len(errors))


def _another_model(left: Measured, other: Measured) -> bool:
    return other.model != left.model


def _another_shape(left: Measured, other: Measured) -> bool:
    one, two = left.architecture, other.architecture
    if one is None or two is None:
        return False
    sizes = ((one.hidden, two.hidden, _ALIKE), (one.ffn, two.ffn, _ALIKE), (one.layers, two.layers, _ALIKE_LAYERS))
    twins = all(max(first, second) <= most * min(first, second) for first, second, most in sizes)
    return other.model != left.model and not twins


def _another_degree(left: Measured, other: Measured) -> bool:
    return other.tensor != left.tensor


def _judged(samples: Sequence[Measured], start: Hardware | None, stays: Rule) -> list[Judged]:
    _check(samples, start)
    names = called(samples)
    by_hardware: dict[str, list[int]] = {}
    for number, each in enumerate(samples):
        if each.architecture is not None:
            by_hardware.setdefault(each.hardware, []).append(number)
    found: dict[int, Judged] = {}
    for numbers in by_hardware.values():
        group = [samples[number] for number in numbers]
        judged = _on_one_hardware(group, [names[number] for number in numbers], start, stays)
        found.update(zip(numbers, judged, strict=True))
    return [found[number] for number in sorted(found)]


def _check(samples: Sequence[Measured], start: Hardware | None) -> None:
    """All that stands in the way, at once."""
    known = [each for each in samples if each.architecture is not None]
    said = "the architecture of no model is known (layers_total, hidden_size, attention_heads and ffn_hidden_size tell)"
    missing = [] if known else [said]
    try:
        for name in {} if start else dict.fromkeys(each.hardware for each in known or samples):
            stack_of([each for each in samples if each.hardware == name])
    except HardwareError as error:
        if known:
            raise
        missing.append(str(error))
    if missing:
        raise SamplesError(f"nothing can be predicted: {'; and '.join(missing)}")


def _on_one_hardware(
    samples: Sequence[Measured], names: Sequence[str], start: Hardware | None, stays: Rule
) -> list[Judged]:
    errors = [_errors(each, samples, start, stays) for each in samples]
    wholes = [np.log1p(each) for each in errors]
    found = []
    for number, each in enumerate(samples):
        others = wholes[:number] + wholes[number + 1 :]
        inside = np.abs(wholes[number]) <= conformal(others) if others else None
        found.append(Judged(names[number], errors[number], inside, each.prompt))
    return found


def _errors(left: Measured, samples: Sequence[Measured], start: Hardware | None, stays: Rule) -> NDArray[np.float64]:
    rest = _staying(left, samples, stays)
    stack = start or stack_of(rest)
    blank = replace(left, seconds=np.full(len(left.seconds), np.inf))
    mended = plausible(blank, stack)
    rest = _staying(mended, [plausible(each, stack) for each in rest], stays)
    found: NDArray[np.float64] = runtimes(mended, calibrate(rest, stack)) / left.seconds - 1
    return found


def _staying(left: Measured, others: Sequence[Measured], stays: Rule) -> list[Measured]:
    rest = [other for other in others if stays(left, other)]
    if not rest:
        raise SamplesError(f"{left.name}: nothing is left to calibrate on without it")
    return rest
