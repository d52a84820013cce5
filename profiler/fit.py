"""Coefficients fitted to samples: the default method, the published one, and what either leaves unexplained.

`posterior`, the default, learns all models of a hardware together, around the roofline where it is known
(`profiler.learned`); `paper` is the published method, exactly (`profiler.paper`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from profiler.learned import Line, learn, line, look
from profiler.paper import LEVEL, paper_coefficients, paper_intervals
from profiler.posterior import Evidence, Posterior
from profiler.prior import Floats
from profiler.samples import Measured
from stream.runtime import Coefficients, prompt_function

__all__ = [
    "METHODS",
    "FitErrors",
    "FitFault",
    "Fitted",
    "elsewhere",
    "fit",
    "fit_errors",
    "line_coefficients",
    "row",
    "runtimes",
]

METHODS = ("posterior", "paper")

_DIGITS = 6  # a runtime is never known to more
_WITHIN = 1.2816  # standard deviations that hold 80 %
_FACTOR_DIGITS = 4
_NARROWEST = 1e-3


class FitFault(ValueError):
    """Samples that no coefficients can be fitted to. One line: which model, what is missing, what to do."""


@dataclass(frozen=True, slots=True)
class FitErrors:
    """How far T lies from what was measured, over all points of batch size 1: R^2, and |T / measured - 1|."""

    points: int
    r2: float
    median: float
    p95: float
    largest: float


@dataclass(frozen=True, slots=True)
class Fitted:
    """One model's row: coefficients of the whole model (`scale` applied), seconds.

    `intervals` is what a table row holds: {"level": 0.8, "runtime_per_output_token": [low, high],
    "runtime_for_prompt_tokens": [low, high], "runtime": [low, high]}, factors of the value; what nothing is known of
    is left out. `note` says what the numbers stand on where samples alone did not determine them (None: they did).
    """

    measured: Measured
    method: str
    coefficients: Coefficients
    errors: FitErrors
    intervals: dict[str, float | list[float]]
    note: str | None = None


def fit(samples: Sequence[Measured], method: str = "posterior") -> tuple[Fitted, ...]:
    """Fit every `Measured` of `samples`, in their order; FitFault (or SamplesError) where one cannot be fitted.

    Models of one hardware are fitted together with the default method: each learns from the others. Only runs of
    batch size 1 are used.
    """
    if method not in METHODS:
        raise FitFault(f"method {method!r} is not known: there are {', '.join(METHODS)}")
    if method == "paper":
        return tuple(_published(each) for each in samples)
    parts = [_seen(each, number) for number, each in enumerate(samples)]
    return tuple(row(part, learned, elsewhere(parts, part)) for part, learned in zip(parts, learn(parts), strict=True))


def row(part: Evidence, learned: Posterior, sizes: Floats) -> Fitted:
    """One model's row; `sizes` are those at which F is wanted besides the model's own."""
    found = line(part, learned, sizes)
    coefficients = line_coefficients(found, part.measured.scale)
    errors, off = _errors(coefficients, part.measured)
    low, high = np.quantile(1 / (1 + off), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    intervals: dict[str, float | list[float]] = {
        "level": LEVEL,
        "runtime_per_output_token": _around(1 - _WITHIN * found.step_error, 1 + _WITHIN * found.step_error),
        "runtime_for_prompt_tokens": _around(1 - _WITHIN * found.prompt_error, 1 + _WITHIN * found.prompt_error),
        "runtime": _around(float(low), float(high)),
    }
    return Fitted(part.measured, "posterior", coefficients, errors, intervals, _note(part))


def elsewhere(parts: Sequence[Evidence], part: Evidence) -> Floats:
    """The prompt sizes measured on the hardware of `part`, of any model."""
    return np.unique(np.concatenate([each.knots for each in parts if each.measured.hardware == part.measured.hardware]))


def fit_errors(coefficients: Coefficients, measured: Measured) -> FitErrors:
    """Errors of `coefficients` (of the whole model) against the runs of batch size 1, scaled to the whole model."""
    return _errors(coefficients, measured)[0]


def runtimes(coefficients: Coefficients, measured: Measured) -> Floats:
    """T(p, o) of every run, in seconds of the whole model."""
    function = prompt_function(coefficients)
    sizes, at = np.unique(measured.prompt, return_inverse=True)
    first = np.array([function(int(size)) for size in sizes])[at] + coefficients.overhead
    further = np.maximum(measured.output - 1, 0)
    tokens = further * (2 * measured.prompt + measured.output) / 2
    seconds: Floats = first + further * coefficients.per_output_token + tokens * coefficients.context
    return seconds


def _published(measured: Measured) -> Fitted:
    coefficients = paper_coefficients(measured)
    intervals = paper_intervals(coefficients, measured)
    return Fitted(measured, "paper", coefficients, fit_errors(coefficients, measured), intervals)


def _seen(measured: Measured, number: int) -> Evidence:
    """The evidence of one model, if it is enough to tell F and beta apart."""
    alone = measured.where(measured.batch == 1)
    if not len(alone.prompt):
        raise FitFault(f"{measured.name}: no runs of batch size 1, which coefficients are of")
    part = look(alone, number)
    outputs = np.unique(alone.output)
    if part.mean.smooth and len(outputs) == 1:
        raise FitFault(
            f"{measured.name}: output_tokens is {int(outputs[0])} in every run: F and beta cannot be told apart;"
            " measure another number of them, too"
        )
    return part


def _note(part: Evidence) -> str | None:
    outputs = np.unique(part.measured.output)
    if len(outputs) > 1:
        return None
    return "all runs have one number of output tokens: F and beta are told apart by the roofline"


def line_coefficients(found: Line, scale: float) -> Coefficients:
    """A line as coefficients of the whole model, to six digits."""
    return Coefficients(
        per_output_token=_short(found.step * scale),
        knots=tuple(int(size) for size in found.sizes),
        prompt_seconds=tuple(_short(seconds * scale) for seconds in found.prompt.tolist()),
        context=_short(found.context * scale),
    )


def _errors(coefficients: Coefficients, measured: Measured) -> tuple[FitErrors, Floats]:
    alone = measured.where(measured.batch == 1)
    seconds = alone.seconds * alone.scale
    found = runtimes(coefficients, alone)
    off = found / seconds - 1
    spread = float(np.sum((seconds - seconds.mean()) ** 2))
    r2 = 1 - float(np.sum((found - seconds) ** 2)) / spread if spread > 0 else 1.0
    median, p95, largest = (float(each) for each in np.quantile(np.abs(off), [0.5, 0.95, 1]))
    return FitErrors(len(seconds), r2, median, p95, largest), off


def _around(low: float, high: float) -> list[float]:
    """An interval of factors that holds 1."""
    low, high = max(0.0, min(low, 1 - _NARROWEST)), max(high, 1 + _NARROWEST)
    return [round(each, _FACTOR_DIGITS) for each in (low, high)]


def _short(number: float) -> float:
    return float(f"{number:.{_DIGITS}g}")
