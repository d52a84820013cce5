"""The published method: the coefficients of Narayanan et al. (arXiv 2305.02440), to the last of their three decimals.

At every prompt size the runtime is regressed on the output tokens, F is slope + intercept, each rounded first, and no
F lies below that of the smallest prompt. beta is the slope of runtime - F(p) on o - 1 over all points. A point that
was measured twice counts twice; of a model too large to run whole, the runtimes are scaled up before anything else.

Sums are done as the authors' tools do them (least squares by singular values after centring, then NumPy's rounding
of halves): to three decimals some slopes are ties, where the last bit decides what is printed.
"""

import numpy as np
from numpy.typing import NDArray

from profiler.samples import Measured, SamplesError
from profiler.tables import LEVEL
from stream.runtime import Coefficients

__all__ = ["DECIMALS", "paper_coefficients", "paper_intervals"]

DECIMALS = 3
Floats = NDArray[np.float64]


def paper_coefficients(measured: Measured) -> Coefficients:
    """The published coefficients of the whole model: F at every measured prompt size and beta, in whole milliseconds.

    Only runs of batch size 1 count. Raises SamplesError where there are none, where all gave the same number of output
    tokens (there is no slope then), and where noise makes a time negative.
    """
    prompt, output, seconds = _alone(measured)
    if len(np.unique(output)) == 1:
        raise SamplesError(
            f"{measured.name}: every run gave {int(output[0])} output tokens: the method paper needs at least two"
            " different numbers of them"
        )
    by_prompt = np.argsort(prompt, kind="stable")  # the order of sums, too, is the authors'
    prompt, output, seconds = prompt[by_prompt], output[by_prompt], seconds[by_prompt]
    knots, at = np.unique(prompt, return_inverse=True)
    first = _first_tokens(_groups(at, len(knots)), output, seconds)
    beta = float(np.round(_line(output - 1, seconds - first[at])[0], DECIMALS))
    if min(beta, first[0]) < 0:
        raise SamplesError(f"{measured.name}: the method paper finds a negative time: measure again, or more points")
    return Coefficients(beta, tuple(int(knot) for knot in knots), tuple(float(f) for f in first))


def paper_intervals(coefficients: Coefficients, measured: Measured) -> dict[str, float | list[float]]:
    """Between which multiples of F, of beta and of T 80 % of what was measured lies (the published ones give none).

    beta's are those of the slopes at single prompt sizes. Each interval holds 1. What nothing was measured of (no
    run with one output token, beta rounded to 0) is left out.
    """
    prompt, output, seconds = _alone(measured)
    knots, at = np.unique(prompt, return_inverse=True)
    known = dict(zip(coefficients.knots, coefficients.prompt_seconds, strict=True))
    first = np.array([known[knot] for knot in knots.tolist()])
    beta = coefficients.per_output_token
    groups = _groups(at, len(knots))
    slopes = [_line(output[group], seconds[group])[0] for group in groups if np.ptp(output[group]) > 0]
    factors = {
        "runtime_per_output_token": np.array(slopes) / beta if beta > 0 else np.array([]),
        "runtime_for_prompt_tokens": (seconds / np.maximum(first[at], 1e-12))[output == 1],
        "runtime": seconds / np.maximum(first[at] + (output - 1) * beta, 1e-12),
    }
    return {"level": LEVEL, **{name: _between(each) for name, each in factors.items() if len(each)}}


def _alone(measured: Measured) -> tuple[NDArray[np.int64], NDArray[np.int64], Floats]:
    alone = measured.where(measured.batch == 1)
    if not len(alone.prompt):
        raise SamplesError(f"{measured.name}: no runs of batch size 1, which coefficients are of")
    return alone.prompt, alone.output, alone.seconds * alone.scale


def _groups(at: NDArray[np.intp], sizes: int) -> list[NDArray[np.intp]]:
    """The places of each size's runs, in the order of the file."""
    return np.split(np.argsort(at, kind="stable"), np.cumsum(np.bincount(at, minlength=sizes))[:-1])


def _first_tokens(groups: list[NDArray[np.intp]], output: NDArray[np.int64], seconds: Floats) -> Floats:
    lines = np.round([_line(output[group], seconds[group]) for group in groups], DECIMALS)
    first = np.round(lines.sum(axis=1), DECIMALS)
    floored: Floats = np.maximum(first, first[0])
    return floored


def _line(x: NDArray[np.int64], y: Floats) -> tuple[float, float]:
    """Slope and intercept of the least squares line; of one x alone a slope of 0."""
    if len(x) == 1:
        return 0.0, float(y[0])
    x_mean, y_mean = x.mean(), y.mean()
    slope = np.linalg.lstsq((x - x_mean)[:, np.newaxis], y - y_mean, rcond=None)[0][0]
    return float(slope), float(y_mean - x_mean * slope)


def _between(factors: Floats) -> list[float]:
    low, high = np.quantile(factors, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return [float(f"{min(low, 1.0):.4g}"), float(f"{max(high, 1.0):.4g}")]
