"""Quantiles of values that are counted in buckets, 32 to each power of two: bounded, mergeable, deterministic.

A bucket is found from the value's own exponent and leading bits (no logarithm, no rounding), so that every machine and
every recount finds the same one. A quantile is the middle of its bucket: off by at most 1 / 64, or 1.6 %.
"""

import math
from collections.abc import Mapping, Sequence

import msgspec

__all__ = ["SMALLEST", "Spread", "add_counts", "bucket_of", "quantile"]

_STEPS = 32
SMALLEST = 2.0**-20
"""Values below it (a microsecond, where they are seconds) share one bucket, whose quantile is 0."""

_BELOW = -20 * _STEPS  # one less than the bucket of SMALLEST, whose exponent is -19

_frexp = math.frexp


def bucket_of(value: float) -> int:
    """Return the number of the bucket that `value` (finite, not negative) belongs to."""
    if value < SMALLEST:
        return _BELOW
    mantissa, exponent = _frexp(value)
    return exponent * _STEPS + int(mantissa * (2 * _STEPS)) - _STEPS


def _middle(bucket: int) -> float:
    if bucket <= _BELOW:
        return 0.0
    exponent, step = divmod(bucket, _STEPS)
    return math.ldexp((2 * (_STEPS + step) + 1) / (4 * _STEPS), min(exponent, 1024))  # a stored row may say anything


def quantile(counts: Mapping[int, int], share: float) -> float | None:
    """Return the value that `share` (0 to 1) of the counted ones do not exceed; None where nothing was counted."""
    rank = max(math.ceil(share * sum(counts.values())), 1)
    for bucket in sorted(counts):
        rank -= counts[bucket]
        if rank <= 0:
            return _middle(bucket)
    return None


def add_counts(into: dict[int, int], more: Mapping[int, int]) -> None:
    """Add the counts of `more`, each to its own."""
    for bucket, number in more.items():
        into[bucket] = into.get(bucket, 0) + number


class Spread(msgspec.Struct, array_like=True):
    """How values are spread: their number, sum and buckets."""

    number: int = 0
    sum: float = 0.0
    buckets: dict[int, int] = {}

    def count(self, values: Sequence[tuple[float, int]]) -> None:
        """Count values, each given with its bucket: whoever counts them in several places finds that once."""
        total, buckets = self.sum, self.buckets
        for value, bucket in values:
            total += value
            buckets[bucket] = buckets.get(bucket, 0) + 1
        self.number, self.sum = self.number + len(values), total

    def add(self, more: "Spread") -> None:
        """Count all that `more` has counted."""
        self.number += more.number
        self.sum += more.sum
        add_counts(self.buckets, more.buckets)

    def summary(self) -> dict[str, float | None]:
        """Return mean, p50 and p95, for JSON; null of nothing."""
        mean = self.sum / self.number if self.number else None
        return {"mean": mean, "p50": quantile(self.buckets, 0.5), "p95": quantile(self.buckets, 0.95)}
