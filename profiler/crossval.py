"""Cross-validation over prompt sizes: what a fit says of sizes it has not seen.

One prompt size of one model is left out at a time, with all its output tokens; the rest is fitted, other models
included, and T(p, 1) of the row that comes out is compared with the mean runtime measured at (p, 1). Only interior
sizes are left out: the smallest and the largest of a model are not interpolated. Mean and multiplier of the fit
(`profiler.choice`) are chosen anew without what is left out.

On the published measurements the errors are somewhat flattered: the roofline's constants that ship with the program,
about ten numbers for a hardware, were calibrated on these very runtimes, the left-out sizes among them; so were the
scales of deviations (`profiler.prior.Scales`, some dozen numbers, common to both hardware), the knots' and the noise's
constants, and the form of all that.

Beside the default method stand the published coefficients, read as HELM reads them and with straight lines; and the
default method for a size that was measured on no model.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from profiler.choice import Seen, see
from profiler.fitted import called
from profiler.fitting import elsewhere, row
from profiler.judge import Judged
from profiler.learned import learn_one
from profiler.paper import paper_coefficients
from profiler.samples import Measured, SamplesError
from stream.runtime import Coefficients, Interpolation, prompt_function

__all__ = ["Cases", "Gain", "gain", "interior_sizes", "leave_out_everywhere", "leave_out_published", "leave_out_sizes"]

Cases = Collection[tuple[int, int]]
"""Which sizes to leave out: (place of the model among the samples, prompt tokens)"""

_MOST = 24  # sizes of a gain: each is a fit of its own, half a second for all of them
_MANY_RUNS = 1000  # of one model, where a fit takes longer


def interior_sizes(measured: Measured) -> list[int]:
    """The prompt sizes of a model that can be left out: neither the smallest nor the largest, measured at o = 1."""
    alone = measured.where(measured.batch == 1)
    interior = np.unique(alone.prompt)[1:-1]
    return [int(size) for size in np.intersect1d(interior, alone.prompt[alone.output == 1])]


def leave_out_sizes(samples: Sequence[Measured], only: Cases | None = None) -> list[Judged]:
    """The default method: a size of one model left out at a time; with `only` those. All must have runs of batch 1."""
    seen = [see(each) for each in samples]

    def predict(number: int, size: int) -> Coefficients:
        return _row([*seen[:number], _without(samples[number], size), *seen[number + 1 :]], number)

    return [_judged(name, each, predict, number, only=only) for number, (name, each) in enumerate(_named(samples))]


def leave_out_everywhere(samples: Sequence[Measured]) -> list[Judged]:
    """The default method: a size left out of all models of a hardware at once."""
    kept: dict[tuple[str, int], dict[int, Seen]] = {}

    def predict(number: int, size: int) -> Coefficients:
        hardware = samples[number].hardware
        if (hardware, size) not in kept:
            there = [(other, each) for other, each in enumerate(samples) if each.hardware == hardware]
            kept[hardware, size] = {other: _without(each, size) for other, each in there if (each.prompt != size).any()}
        return _row([*kept[hardware, size].values()], [*kept[hardware, size]].index(number))

    return [_judged(name, each, predict, number) for number, (name, each) in enumerate(_named(samples))]


def leave_out_published(samples: Sequence[Measured], only: Cases | None = None) -> dict[str, list[Judged]]:
    """The published coefficients without the size, read in two ways: `paper` as HELM does, `linear` by lines.

    A model of which that method finds no coefficients has no errors.
    """

    @cache
    def predict(number: int, size: int) -> Coefficients:
        return paper_coefficients(samples[number].where(samples[number].prompt != size))

    def judged(number: int, name: str, read: Interpolation) -> Judged:
        try:
            return _judged(name, samples[number], predict, number, read, only)
        except SamplesError:
            return Judged(name, np.zeros(0))

    ways: dict[str, Interpolation] = {"paper": "helm", "linear": "linear"}
    named = called(samples)
    return {way: [judged(number, name, read) for number, name in enumerate(named)] for way, read in ways.items()}


@dataclass(frozen=True, slots=True)
class Gain:
    """Mean relative errors of F at `sizes` of the `interior` prompt sizes, each left out of its own model's samples.

    `published` is the published method's, with straight lines between its prompt sizes; `published_helm` the same as
    HELM reads it. None where it finds no coefficients.
    """

    sizes: int
    interior: int
    default: float
    published: float | None
    published_helm: float | None


def gain(samples: Sequence[Measured]) -> Gain | None:
    """Leave out some prompt sizes, spread over models and sizes, one at a time; None where there are none."""
    cases = [(number, size) for number, each in enumerate(samples) for size in interior_sizes(each)]
    if not cases:
        return None
    most = max(_MOST // 4, _MOST * _MANY_RUNS // max(_MANY_RUNS, *(len(each.prompt) for each in samples)))
    chosen = {cases[place] for place in np.linspace(0, len(cases) - 1, min(most, len(cases))).round().astype(int)}
    published = leave_out_published(samples, chosen)
    return Gain(
        sizes=len(chosen),
        interior=len(cases),
        default=float(np.mean(_errors(leave_out_sizes(samples, chosen)))),
        published=_mean_error(published["linear"], len(chosen)),
        published_helm=_mean_error(published["paper"], len(chosen)),
    )


def _mean_error(judged: Sequence[Judged], wanted: int) -> float | None:
    """The mean error; None where some could not be predicted, as the comparison would be of different sizes."""
    errors = _errors(judged)
    return float(errors.mean()) if len(errors) == wanted else None


def _errors(judged: Sequence[Judged]) -> NDArray[np.float64]:
    errors: NDArray[np.float64] = np.abs(np.concatenate([each.errors for each in judged]))
    return errors


def _named(samples: Sequence[Measured]) -> Iterator[tuple[str, Measured]]:
    return zip(called(samples), samples, strict=True)


def _judged(
    name: str,
    measured: Measured,
    predict: Callable[[int, int], Coefficients],
    number: int,
    read: Interpolation = "linear",
    only: Cases | None = None,
) -> Judged:
    first = measured.where((measured.batch == 1) & (measured.output == 1))
    sizes = [size for size in interior_sizes(measured) if only is None or (number, size) in only]
    errors = []
    for size in sizes:
        truth = float(first.seconds[first.prompt == size].mean()) * measured.scale
        function = prompt_function(predict(number, size), read)
        errors.append(function(size) / truth - 1)
    return Judged(name, np.array(errors, dtype=np.float64), prompt=np.array(sizes, dtype=np.int64))


def _without(measured: Measured, size: int) -> Seen:
    keep: NDArray[np.bool_] = measured.prompt != size
    return see(measured.where(keep))


def _row(seen: Sequence[Seen], at: int) -> Coefficients:
    samples = [each.measured for each in seen]
    return row(learn_one(seen, at), elsewhere(samples, samples[at])).coefficients
