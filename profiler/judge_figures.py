"""Errors and plans to look at."""

from collections.abc import Sequence

import numpy as np

from profiler.judge import Judged
from profiler.planning import Plan
from profiler.plot import Figure, Series
from profiler.samples import Measured

__all__ = ["error_figures", "plan_figure"]


def error_figures(judged: Sequence[Judged]) -> list[Figure]:
    """One figure: the error of every left-out point by prompt tokens, in percent, above 0 where it is predicted."""
    shown = [each for each in judged if each.prompt is not None and len(each.errors)]
    sizes = sorted({int(size) for each in shown if each.prompt is not None for size in each.prompt})
    series = [
        Series(each.model, (100 * each.errors).tolist(), points=True, x=each.prompt.tolist())
        for each in shown
        if each.prompt is not None
    ]
    note = "Above 0 the prediction is too long, below too short."
    return [Figure("Error of what was left out", sizes, series, y_label="error, %", note=note, log_y=False)]


def plan_figure(planned: Plan, measured: Measured) -> Figure:
    """F as it is believed after the plan, the runs that were made, and all that the file holds."""
    found, scale = planned.line, measured.scale
    first = (measured.output == 1) & (measured.batch == 1)
    seconds = found.prompt * scale
    low, high = found.prompt_band
    run = [
        (prompt, took) for (prompt, output), took in zip(planned.points, planned.seconds, strict=True) if output == 1
    ]
    chosen = Series(
        "run, 1 output token", [took * scale for _, took in run], points=True, x=[prompt for prompt, _ in run]
    )
    every = Series(
        "measured, 1 output token",
        (measured.seconds[first] * scale).tolist(),
        points=True,
        x=measured.prompt[first].tolist(),
    )
    band = (seconds * low).tolist(), (seconds * high).tolist()
    sizes = np.round(found.sizes).astype(int).tolist()
    title = f"{measured.model} on {measured.hardware}: {len(planned.points)} runs, {sum(planned.seconds):.1f} s"
    note = f"promised: 95 % of all points within {planned.promised_p95:.1%}"
    return Figure(title, sizes, [Series("believed", seconds.tolist(), *band), every, chosen], note=note)
