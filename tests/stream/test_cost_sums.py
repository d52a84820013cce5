"""Sums of costs: what is known of which requests, and bands that stay those of their requests."""

import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.cost import Bands
from stream.cost_summary import cost_figures
from stream.cost_sums import Costed, CostSums, bands_of, whole
from stream.events import Cost
from stream.sums import Sums

NARROW = msgspec.Raw(msgspec.json.encode({name: [0.9, 1.1] for name in Bands._fields}))
WIDE = msgspec.Raw(msgspec.json.encode({name: [0.5, 2.0] for name in Bands._fields}))


def cost(dollars: float, bands: msgspec.Raw = NARROW, joules: float | None = 10.0) -> Cost:
    return Cost(1, bands, 2 * dollars, dollars, joules, joules and joules / 4, joules and joules / 8)


def counted(*costs: Cost) -> CostSums:
    sums = CostSums()
    sums.count([Costed(None, each, None, None) for each in costs])
    return sums


def figures(sums: CostSums) -> dict[str, object]:
    found: dict[str, object] = cost_figures(Sums(costs={"s": sums}), "s")["dedicated"]
    return found


def test_bands_stay_those_of_their_requests() -> None:
    sums = counted(cost(1.0), cost(1.0), cost(2.0, WIDE))
    assert len(sums.dedicated) == 2
    found = figures(sums)
    assert (found["requests"], found["dollars"]) == (3, 4.0)
    assert found["bands"]["dollars"] == pytest.approx([(2 * 0.9 + 2 * 0.5) / 4, (2 * 1.1 + 2 * 2.0) / 4])  # type: ignore[index]
    assert found["bands"]["energy_joules"] == pytest.approx([(20 * 0.9 + 10 * 0.5) / 30, (20 * 1.1 + 10 * 2) / 30])  # type: ignore[index]


def test_a_sum_of_which_a_part_is_unknown_is_unknown() -> None:
    found = figures(counted(cost(1.0), cost(1.0, joules=None)))
    assert (found["dollars"], found["energy_joules"], found["carbon_grams"]) == (2.0, None, None)


def test_without_bands_the_factors_are_one() -> None:
    (key,) = counted(cost(1.0, msgspec.Raw(b"null"))).dedicated
    assert set(bands_of(key)) == {(1.0, 1.0)}


def test_nothing_known_is_null() -> None:
    assert figures(CostSums()) is None
    assert cost_figures(Sums(), "s")["margin"] is None


@given(st.lists(st.tuples(st.integers(0, 1000), st.booleans()), max_size=30), st.integers(0, 30))
def test_sums_are_added_and_stored(drawn: list[tuple[int, bool]], cut: int) -> None:
    costs = [cost(float(dollars), WIDE if wide else NARROW) for dollars, wide in drawn]
    together, first, second = counted(*costs), counted(*costs[:cut]), counted(*costs[cut:])
    first.add(second)
    again = msgspec.json.decode(msgspec.json.encode(first), type=CostSums)
    assert again == first
    assert whole(again.dedicated).requests == len(costs)
    assert math.isclose(whole(again.dedicated).dollars, whole(together.dedicated).dollars)
    assert {key: each.requests for key, each in again.dedicated.items()} == {
        key: each.requests for key, each in together.dedicated.items()
    }
