"""Bands: factors of a number between which 80 % of the truth lies, from what is believed of the truth.

A row of a table has one band for all sizes, so that it is that of a mixture: of the truth at every size, Gaussian,
relative to the number that is given there.
"""

from collections.abc import Sequence

import numpy as np
from scipy.special import ndtr

from profiler.prior import Floats
from profiler.tables import LEVEL

__all__ = ["Band", "band"]

_HALVINGS = 40
_FAR = 10.0  # standard deviations

Band = tuple[float, float]


def band(cases: Sequence[tuple[Floats, Floats, float]]) -> Band:
    """The factors below and above which a mixture of Gaussians has a tenth each.

    Each case is centres and standard deviations (arrays of one length), and how likely it is.
    """
    centres, deviations = (np.concatenate([case[at] for case in cases]) for at in (0, 1))
    weights = np.concatenate([np.full(len(case[0]), case[2]) for case in cases])
    wide = np.maximum(deviations, 1e-9)
    return _quantile(centres, wide, weights, (1 - LEVEL) / 2), _quantile(centres, wide, weights, (1 + LEVEL) / 2)


def _quantile(centres: Floats, deviations: Floats, weights: Floats, wanted: float) -> float:
    low, high = float((centres - _FAR * deviations).min()), float((centres + _FAR * deviations).max())
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        below = float(np.average(ndtr((middle - centres) / deviations), weights=weights))
        low, high = (middle, high) if below < wanted else (low, middle)
    return (low + high) / 2
