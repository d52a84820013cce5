"""Cross-validation over prompt sizes: what a fit says of sizes it has not seen.

One prompt size of one model is left out at a time, with all its output tokens; the rest is fitted, other models
included, and T(p, 1) of the row that comes out is compared with the mean runtime measured at (p, 1). Only interior
sizes are left out: the smallest and the largest of a model are not interpolated. The roofline's constants, which ship
with the program, were calibrated on the published measurements: about ten numbers for a hardware.

Beside the default method stand the published coefficients, read as HELM reads them and with straight lines; and the
default method for a size that was measured on no model.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from profiler.fit import elsewhere, row
from profiler.fitted import row_names
from profiler.judge import Judged
from profiler.learned import learned_with, look
from profiler.paper import paper_coefficients
from profiler.posterior import Evidence
from profiler.samples import Measured, SamplesError
from stream.runtime import Coefficients, Interpolation, prompt_function

__all__ = ["Cases", "interior_sizes", "leave_out_everywhere", "leave_out_published", "leave_out_sizes", "names"]

Cases = Collection[tuple[int, int]]
"""Which sizes to leave out: (place of the model among the samples, prompt tokens)"""


def names(samples: Sequence[Measured]) -> list[str]:
    """What each is called: its row's name, and before it the hardware where there are several."""
    several = len({each.hardware for each in samples}) > 1
    return [
        f"{each.hardware}/{name}" if several else name for each, name in zip(samples, row_names(samples), strict=True)
    ]


def interior_sizes(measured: Measured) -> list[int]:
    """The prompt sizes of a model that can be left out: neither the smallest nor the largest, measured at o = 1."""
    alone = measured.where(measured.batch == 1)
    interior = np.unique(alone.prompt)[1:-1]
    return [int(size) for size in np.intersect1d(interior, alone.prompt[alone.output == 1])]


def leave_out_sizes(samples: Sequence[Measured], only: Cases | None = None) -> list[Judged]:
    """The default method: a size of one model left out at a time; with `only` those."""
    parts = [look(each, number) for number, each in enumerate(samples)]

    def predict(number: int, size: int) -> Coefficients:
        return _row([*parts[:number], _without(samples[number], number, size), *parts[number + 1 :]], number)

    return [_judged(name, each, predict, number, only=only) for number, (name, each) in enumerate(_named(samples))]


def leave_out_everywhere(samples: Sequence[Measured]) -> list[Judged]:
    """The default method: a size left out of all models of a hardware at once."""
    kept: dict[tuple[str, int], list[Evidence]] = {}

    def predict(number: int, size: int) -> Coefficients:
        hardware = samples[number].hardware
        if (hardware, size) not in kept:
            there = [(other, each) for other, each in enumerate(samples) if each.hardware == hardware]
            kept[hardware, size] = [_without(each, other, size) for other, each in there if (each.prompt != size).any()]
        parts = kept[hardware, size]
        return _row(parts, next(at for at, part in enumerate(parts) if part.places.model[0] == number))

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
    called = names(samples)
    return {way: [judged(number, name, read) for number, name in enumerate(called)] for way, read in ways.items()}


def _named(samples: Sequence[Measured]) -> Iterator[tuple[str, Measured]]:
    return zip(names(samples), samples, strict=True)


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


def _without(measured: Measured, number: int, size: int) -> Evidence:
    keep: NDArray[np.bool_] = measured.prompt != size
    return look(measured.where(keep), number)


def _row(parts: Sequence[Evidence], at: int) -> Coefficients:
    return row(parts[at], learned_with(parts, parts[at]), elsewhere(parts, parts[at])).coefficients
