"""Coefficients fitted to samples: the default method, the published one, and what either leaves unexplained.

`posterior`, the default, learns all models of a hardware together, around the roofline where it is known
(`profiler.choice`, `profiler.learned`); `paper` is the published method, exactly (`profiler.paper`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from profiler.choice import Seen, see
from profiler.learned import Learned, Line, learn, line
from profiler.paper import paper_coefficients, paper_intervals
from profiler.prior import Floats, total_seconds
from profiler.samples import Measured
from profiler.tables import LEVEL, significant
from stream.runtime import Coefficients, prompt_function

__all__ = [
    "METHODS",
    "FitErrors",
    "FitFault",
    "Fitted",
    "elsewhere",
    "enough",
    "fit",
    "fit_errors",
    "line_coefficients",
    "row",
    "runtimes",
]

METHODS = ("posterior", "paper")

_DIGITS = 6  # a runtime is never known to more
_FACTOR_DIGITS = 4
_NARROWEST = 1e-3
_IN_SAMPLE = "intervals are those of the samples themselves, not of what was not measured"


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
    is left out. `mean` is what the numbers were learned around ("roofline STACK", "smooth growth", "bent growth"; None:
    nothing), `note` says what else to know of them.
    """

    measured: Measured
    method: str
    coefficients: Coefficients
    errors: FitErrors
    intervals: dict[str, float | list[float]]
    mean: str | None = None
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
    seen = [_seen(each) for each in samples]
    return tuple(row(learned, elsewhere(samples, each)) for each, learned in zip(samples, learn(seen), strict=True))


def enough(measured: Measured) -> bool:
    """Whether its runs can tell F and beta apart: `fit` takes it."""
    try:
        return bool(_seen(measured).parts)
    except FitFault:
        return False


def row(learned: Learned, sizes: Floats) -> Fitted:
    """One model's row; `sizes` are those at which F is wanted besides the model's own."""
    found, measured = line(learned, sizes), learned.part.measured
    coefficients = line_coefficients(found, measured.scale)
    intervals: dict[str, float | list[float]] = {
        "level": LEVEL,
        "runtime_per_output_token": _around(*found.step_band),
        "runtime_for_prompt_tokens": _around(*found.prompt_band),
        "runtime": _around(*found.runtime_band),
    }
    errors = fit_errors(coefficients, measured)
    return Fitted(measured, "posterior", coefficients, errors, intervals, learned.part.mean.name, _note(measured))


def elsewhere(samples: Sequence[Measured], one: Measured) -> Floats:
    """The prompt sizes of runs of batch size 1 on the hardware of `one`, of any model."""
    there = [each.prompt[each.batch == 1] for each in samples if each.hardware == one.hardware]
    return np.unique(np.concatenate(there)).astype(np.float64)


def fit_errors(coefficients: Coefficients, measured: Measured) -> FitErrors:
    """Errors of `coefficients` (of the whole model) against the runs of batch size 1, scaled to the whole model."""
    alone = measured.where(measured.batch == 1)
    seconds = alone.seconds * alone.scale
    found = runtimes(coefficients, alone)
    spread = float(np.sum((seconds - seconds.mean()) ** 2))
    r2 = 1 - float(np.sum((found - seconds) ** 2)) / spread if spread > 0 else 1.0
    median, p95, largest = (float(each) for each in np.quantile(np.abs(found / seconds - 1), [0.5, 0.95, 1]))
    return FitErrors(len(seconds), r2, median, p95, largest)


def runtimes(coefficients: Coefficients, measured: Measured) -> Floats:
    """T(p, o) of every run, in seconds of the whole model."""
    function = prompt_function(coefficients)
    sizes, at = np.unique(measured.prompt, return_inverse=True)
    first = np.array([function(int(size)) for size in sizes])[at] + coefficients.overhead
    step, context = coefficients.per_output_token, coefficients.context
    return total_seconds(first, step, context, measured.prompt.astype(np.float64), measured.output.astype(np.float64))


def _published(measured: Measured) -> Fitted:
    coefficients = paper_coefficients(measured)
    intervals = paper_intervals(coefficients, measured)
    errors = fit_errors(coefficients, measured)
    return Fitted(measured, "paper", coefficients, errors, intervals, note=_IN_SAMPLE)


def _seen(measured: Measured) -> Seen:
    """What one model's samples say, if it is enough to tell F and beta apart."""
    alone = measured.where(measured.batch == 1)
    if not len(alone.prompt):
        raise FitFault(f"{measured.name}: no runs of batch size 1, which coefficients are of")
    seen, outputs = see(alone), np.unique(alone.output)
    if len(outputs) == 1 and all(part.mean.smooth for part in seen.parts.values()):
        raise FitFault(
            f"{measured.name}: output_tokens is {int(outputs[0])} in every run: F and beta cannot be told apart;"
            " measure another number of them, too"
        )
    if _one_line(alone) and all(part.mean.smooth for part in seen.parts.values()):
        raise FitFault(
            f"{measured.name}: prompt and output tokens grow together in its {len(alone.prompt)} runs: F and beta"
            " cannot be told apart; measure another number of output tokens at one of its prompt sizes"
        )
    return seen


def _one_line(measured: Measured) -> bool:
    """Whether all points lie on one line of prompt and output tokens, both of which vary."""
    points = np.unique(np.stack([measured.prompt, measured.output]), axis=1).astype(np.float64)
    away = (points - points[:, :1]) / np.maximum(points.max(axis=1, keepdims=True), 1)
    return bool(np.all(away.max(axis=1) > 0) and np.linalg.matrix_rank(away) < len(points))


def _note(measured: Measured) -> str | None:
    if len(np.unique(measured.output)) > 1:
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


def _around(low: float, high: float) -> list[float]:
    """An interval of factors that holds 1."""
    low, high = max(0.0, min(low, 1 - _NARROWEST)), max(high, 1 + _NARROWEST)
    return [round(each, _FACTOR_DIGITS) for each in (low, high)]


def _short(number: float) -> float:
    return significant(number, _DIGITS)
