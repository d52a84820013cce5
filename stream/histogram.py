"""Histograms as plain lists: `[sum, count of bucket 0, count of bucket 1, ..., count above the last bound]`.

A list costs 0.15 us an observation, encodes to JSON exactly, and becomes Prometheus' cumulative buckets only
when somebody scrapes. Counts are floats: exact up to 2**53.
"""

from bisect import bisect_left
from collections.abc import Sequence
from functools import cache
from itertools import accumulate

OPERATION_SECONDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
"""Seconds: OpenTelemetry's buckets for `gen_ai.client.operation.duration` and the server's."""

TOKENS = tuple(float(4**power) for power in range(14))
"""Tokens: OpenTelemetry's buckets for `gen_ai.client.token.usage`, 1 to 67,108,864."""

FIRST_TOKEN_SECONDS = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
    *(15.0, 20.0, 30.0, 45.0, 60.0),
)
"""Seconds: OpenTelemetry's buckets up to 10, then ours: hidden reasoning delays a first token."""

OUTPUT_TOKEN_SECONDS = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)
"""Seconds: OpenTelemetry's buckets for `gen_ai.server.time_per_output_token`."""

RATIO = (
    *(0.0625, 0.125, 0.25, 0.354, 0.5, 0.595, 0.707, 0.841),
    *(1.0, 1.19, 1.41, 1.68, 2.0, 2.38, 2.83, 4.0, 5.66, 8.0, 16.0, 32.0, 64.0),
)
"""Ratios, log-spaced around 1: quarter octaves (2**(1/4)) from 1/2 to 2.83, then half and whole octaves."""

OVERHEAD_SECONDS = (
    *(0.00005, 0.0001, 0.0002, 0.0003, 0.0005, 0.001, 0.002, 0.003, 0.005),
    *(0.01, 0.02, 0.05, 0.1, 0.5, 1.0),
)
"""Seconds that the gateway itself adds to a request: 50 us to 1 s."""


def new(bounds: Sequence[float]) -> list[float]:
    """Return an empty histogram over `bounds`: upper bounds, ascending; the last bucket is above them."""
    return [0.0] * (len(bounds) + 2)


def check(histogram: Sequence[float] | None, bounds: Sequence[float]) -> None:
    """Raise ValueError unless `histogram`, if there is one, has the buckets of `bounds`."""
    if histogram is not None and len(histogram) != len(bounds) + 2:
        raise ValueError(f"a histogram of {len(histogram) - 2} bounds instead of {len(bounds)}")


def observe(histogram: list[float] | None, bounds: Sequence[float], value: float) -> list[float]:
    """Count `value` once, in a new histogram if there is none; return the histogram.

    A value equal to a bound belongs to that bound's bucket (Prometheus' `le`).
    """
    if histogram is None:
        histogram = new(bounds)
    histogram[0] += value
    histogram[bisect_left(bounds, value) + 1] += 1.0
    return histogram


def observe_in(histograms: dict[str, list[float]], key: str, bounds: Sequence[float], value: float) -> None:
    """Count `value` in the histogram at `key`, made when it is the first."""
    histogram = histograms.get(key)
    if histogram is None:
        histogram = histograms[key] = new(bounds)
    observe(histogram, bounds, value)


def cumulative(histogram: Sequence[float], bounds: Sequence[float]) -> list[tuple[str, float]]:
    """Return Prometheus' `(le, count of values <= le)` pairs, ending with `+Inf`."""
    return list(zip(_labels(tuple(bounds)), accumulate(histogram[1:]), strict=True))


@cache
def _labels(bounds: tuple[float, ...]) -> tuple[str, ...]:
    return (*map(repr, bounds), "+Inf")
