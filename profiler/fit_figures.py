"""A fit to look at: of every row what was measured, T's curves through it, and the band they claim."""

from collections.abc import Iterator, Sequence

import numpy as np

from profiler.fitted import row_names
from profiler.fitting import Fitted
from profiler.plot import Figure, Series
from stream.runtime import runtime_function

__all__ = ["fit_figures"]

_BETWEEN = 60  # places between the smallest and the largest prompt, besides the knots
_CURVES = 3


def fit_figures(fitted: Sequence[Fitted]) -> list[Figure]:
    """One figure a row: T by prompt tokens for the fewest, some and the most output tokens that were measured."""
    names = row_names([each.measured for each in fitted])
    return [_figure(name, each) for name, each in zip(names, fitted, strict=True)]


def _figure(name: str, fitted: Fitted) -> Figure:
    errors, level = fitted.errors, fitted.intervals.get("level")
    note = f"R² {errors.r2:.4f}; error of T: median {errors.median:.1%}, p95 {errors.p95:.1%}, max {errors.largest:.1%}"
    band = f"; bands hold {level:.0%}" if isinstance(level, float) else ""
    prompts = _prompts(fitted)
    return Figure(f"{name} on {fitted.measured.hardware}", prompts, list(_series(fitted, prompts)), note=note + band)


def _prompts(fitted: Fitted) -> list[int]:
    knots, prompt = fitted.coefficients.knots, fitted.measured.prompt
    low, high = min(knots[0], int(prompt.min())), max(knots[-1], int(prompt.max()))
    between = np.geomspace(low, high, _BETWEEN).round().astype(int).tolist()
    return sorted({*knots, *between})


def _series(fitted: Fitted, prompts: Sequence[int]) -> Iterator[Series]:
    measured, runtime = fitted.measured, runtime_function(fitted.coefficients)
    for colour, output in enumerate(_outputs(fitted)):
        tokens = f"{output} output token{'s' if output > 1 else ''}"
        curve = [runtime(prompt, output) for prompt in prompts]
        low, high = _band(fitted, output)
        below, above = [low * seconds for seconds in curve], [high * seconds for seconds in curve]
        yield Series(f"fit, {tokens}", curve, below, above, colour=colour)
        there = (measured.output == output) & (measured.batch == 1)
        seconds = (measured.seconds[there] * measured.scale).tolist()
        points = measured.prompt[there].tolist()
        yield Series(f"measured, {tokens}", seconds, points=True, x=points, colour=colour)


def _outputs(fitted: Fitted) -> list[int]:
    measured = fitted.measured
    known = np.unique(measured.output[measured.batch == 1])
    places = np.unique(np.linspace(0, len(known) - 1, _CURVES).round().astype(int))
    return [int(known[place]) for place in places]


def _band(fitted: Fitted, output: int) -> tuple[float, float]:
    band = fitted.intervals.get("runtime_for_prompt_tokens" if output == 1 else "runtime")
    return (band[0], band[1]) if isinstance(band, list) else (1.0, 1.0)
