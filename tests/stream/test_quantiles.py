"""Quantiles from buckets: near enough, the same whatever the order, and the same when merged."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.quantiles import SMALLEST, Spread, add_counts, bucket_of, quantile

values = st.lists(st.floats(SMALLEST, 1e9), min_size=1, max_size=50)


def counted(numbers: list[float]) -> Spread:
    spread = Spread()
    for number in numbers:
        spread.count([(number, bucket_of(number))])
    return spread


@given(values, st.sampled_from([0.0, 0.05, 0.5, 0.95, 1.0]))
def test_a_quantile_is_off_by_less_than_two_percent(numbers: list[float], share: float) -> None:
    exact = sorted(numbers)[max(math.ceil(share * len(numbers)), 1) - 1]
    found = quantile(counted(numbers).buckets, share)
    assert found is not None
    assert abs(found / exact - 1) <= 1 / 64


@given(values, values)
def test_merged_counts_are_those_of_all_values(some: list[float], others: list[float]) -> None:
    merged, whole = dict(counted(some).buckets), counted(others + some)
    add_counts(merged, counted(others).buckets)
    assert merged == whole.buckets
    spread = counted(some)
    spread.add(counted(others))
    assert (spread.number, spread.buckets) == (whole.number, whole.buckets)
    assert spread.sum == pytest.approx(whole.sum)


@given(st.floats(SMALLEST, 1e9), st.floats(SMALLEST, 1e9))
def test_buckets_ascend_with_their_values(one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert bucket_of(low) <= bucket_of(high)


def test_few_buckets_hold_whatever_comes() -> None:
    rng = random.Random(3)
    assert len({bucket_of(10 ** rng.uniform(-12, 9)) for _ in range(100_000)}) <= 50 * 32


def test_what_is_too_small_counts_as_nothing() -> None:
    assert quantile({bucket_of(0.0): 1, bucket_of(1e-9): 1}, 0.5) == 0.0
    assert bucket_of(math.nextafter(SMALLEST, 0)) < bucket_of(SMALLEST)


def test_nothing_has_no_quantile() -> None:
    assert quantile({}, 0.5) is None
    assert Spread().summary() == {"mean": None, "p50": None, "p95": None}
    assert counted([1.0, 3.0]).summary()["mean"] == 2.0
