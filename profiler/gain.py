"""How much better the default fit is than the published one: by what neither has seen, a few prompt sizes of many."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from profiler.crossval import interior_sizes, leave_out_published, leave_out_sizes
from profiler.judge import Judged
from profiler.samples import Measured

__all__ = ["Gain", "gain"]

_MOST = 24  # each is a fit of its own: half a second for all of them
_MANY_RUNS = 1000  # of one model, where a fit takes longer


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
        published=_mean(published["linear"], len(chosen)),
        published_helm=_mean(published["paper"], len(chosen)),
    )


def _mean(judged: Sequence[Judged], wanted: int) -> float | None:
    """The mean error; None where some could not be predicted, as the comparison would be of different sizes."""
    errors = _errors(judged)
    return float(errors.mean()) if len(errors) == wanted else None


def _errors(judged: Sequence[Judged]) -> NDArray[np.float64]:
    errors: NDArray[np.float64] = np.abs(np.concatenate([each.errors for each in judged]))
    return errors
