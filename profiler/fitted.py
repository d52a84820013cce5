"""What a fit found as a coefficient table: one stack a hardware, one row a model (and degree), with its errors."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from profiler.fitting import Fitted
from profiler.samples import Measured
from profiler.tables import rounded, significant
from stream.table_format import Fit, Row, Stack

__all__ = ["called", "row_names", "stacks_of"]

_DIGITS = 6  # a runtime is never known to more
_ERROR_DIGITS = 4


def stacks_of(fitted: Sequence[Fitted], **described: Any) -> tuple[Stack, ...]:
    """One stack for each hardware, called by its name; `described` are further fields of `Stack`, for all."""
    names = row_names([each.measured for each in fitted])
    rows: dict[str, dict[str, Row]] = {}
    for name, each in zip(names, fitted, strict=True):
        rows.setdefault(each.measured.hardware, {})[name] = _row(name, each)
    return tuple(
        Stack(**{"name": hardware, "rows": found, "hardware": hardware, **described})
        for hardware, found in rows.items()
    )


def row_names(measured: Sequence[Measured]) -> list[str]:
    """What each one's row is called: its model; MODEL@tpN where one hardware ran it with several degrees.

    Whatever still has one name on one hardware (shapes that differ) is numbered: MODEL, MODEL#2.
    """
    degrees: dict[tuple[str, str], set[int]] = {}
    for each in measured:
        degrees.setdefault((each.hardware, each.model), set()).add(each.tensor)
    seen: Counter[tuple[str, str]] = Counter()
    names = []
    for each in measured:
        several = len(degrees[each.hardware, each.model]) > 1
        name = f"{each.model}@tp{each.tensor}" if several else each.model
        seen[each.hardware, name] += 1
        number = seen[each.hardware, name]
        names.append(name if number == 1 else f"{name}#{number}")
    return names


def called(samples: Sequence[Measured]) -> list[str]:
    """What each is called among results: its row's name, and before it the hardware where there are several."""
    several = len({each.hardware for each in samples}) > 1
    return [
        f"{each.hardware}/{name}" if several else name for each, name in zip(samples, row_names(samples), strict=True)
    ]


def _row(name: str, fitted: Fitted) -> Row:
    measured, errors = fitted.measured, fitted.errors
    # The published method has three decimals, however large the number: those are kept.
    numbers = fitted.coefficients if fitted.method == "paper" else rounded(fitted.coefficients, _DIGITS)
    fit = Fit(
        method=fitted.method,
        points=errors.points,
        r2=round(errors.r2, _DIGITS),
        median_error=_short(errors.median),
        p95_error=_short(errors.p95),
        max_error=_short(errors.largest),
    )
    return Row(
        name=name,
        coefficients=numbers,
        fit=fit,
        fit_error=fit.median_error,
        intervals=fitted.intervals,
        # Of a model too large to run whole, the rest runs on as many devices again for each part.
        accelerators=math.ceil(round(measured.tensor * measured.scale, 6)),
        note="; ".join(_notes(fitted)),
    )


def _notes(fitted: Fitted) -> Iterable[str]:
    measured = fitted.measured
    yield f"tensor parallel {measured.tensor}"
    if measured.scale != 1:
        yield f"some of the layers ran, times {measured.scale:g} is the whole model"
    if fitted.mean:
        yield f"mean: {fitted.mean}"
    if fitted.note:
        yield fitted.note


def _short(number: float) -> float:
    return significant(number, _ERROR_DIGITS)
