"""Waits for identical servers, first come, first served: by hand, against a slow simulator, and the laws they keep."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.queueing import Served, at_share, fewest, serve

TIMES = st.integers(0, 400).map(lambda number: number / 8)  # sums of such are exact, so that nothing is nearly equal
REQUESTS = st.lists(st.tuples(TIMES, TIMES), min_size=1, max_size=40).map(sorted)


def split(requests: list[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [at for at, _ in requests], [service for _, service in requests]


def slowly(arrivals: list[float], services: list[float], servers: int) -> Served:
    """Every server by name: whoever is next goes to the one that is free first."""
    free = dict.fromkeys(range(servers), 0.0)
    waits = []
    for at, service in zip(arrivals, services, strict=True):
        server = min(free, key=lambda each: free[each])
        start = max(at, free[server])
        waits.append(start - at)
        free[server] = start + service
    return Served(waits, max(free.values()))


def test_an_example_by_hand() -> None:
    arrivals, services = [0, 1, 2, 3, 10], [4, 4, 1, 1, 2]
    assert serve(arrivals, services, 1) == Served([0, 3, 6, 6, 0], 12)
    assert serve(arrivals, services, 2) == Served([0, 0, 2, 2, 0], 12)
    assert serve(arrivals, services, 3) == Served([0, 0, 0, 0, 0], 12)


def test_the_fewest_by_hand() -> None:
    arrivals, services = [0, 1, 2, 3, 10], [4, 4, 1, 1, 2]
    assert [fewest(arrivals, services, limit, share=1.0) for limit in (0, 1.9, 2, 5.9, 6)] == [3, 3, 2, 2, 1]
    assert fewest(arrivals, services, 3, share=0.6) == 1, "two of five may wait longer"
    assert [fewest(arrivals, services, 0, share=1.0, slots=slots) for slots in (1, 2, 3, 4)] == [3, 2, 1, 1]


@pytest.mark.parametrize(("share", "value"), [(0.0, 1), (0.05, 1), (0.5, 10), (0.95, 19), (0.951, 20), (1.0, 20)])
def test_a_percentile_is_one_of_the_values(share: float, value: int) -> None:
    assert at_share(range(1, 21), share) == value


@given(REQUESTS, st.integers(1, 8))
def test_as_a_slow_simulator_has_it(requests: list[tuple[float, float]], servers: int) -> None:
    assert serve(*split(requests), servers) == slowly(*split(requests), servers)


@given(REQUESTS)
def test_nobody_waits_longer_with_one_server_more_and_nobody_at_all_with_as_many_as_requests(
    requests: list[tuple[float, float]],
) -> None:
    found = [serve(*split(requests), servers).waits for servers in range(1, len(requests) + 1)]
    for fewer, more in pairwise(found):
        assert all(less <= wait for wait, less in zip(fewer, more, strict=True))
    assert not any(found[-1])


@given(REQUESTS, st.integers(1, 4))
def test_nobody_waits_longer_with_more_slots_of_the_same_speed(requests: list[tuple[float, float]], slots: int) -> None:
    arrivals, services = split(requests)
    fewer, more = (serve(arrivals, services, 2 * each).waits for each in (slots, slots + 1))
    assert all(less <= wait for wait, less in zip(fewer, more, strict=True))


@given(REQUESTS, TIMES, st.sampled_from([0.5, 0.8, 0.95, 1.0]), st.integers(1, 3), st.integers(1, 60))
def test_the_fewest_are_the_first_that_keep_the_limit_wherever_the_search_begins(
    requests: list[tuple[float, float]], limit: float, share: float, slots: int, near: int
) -> None:
    arrivals, services = split(requests)

    def percentile(groups: int) -> float:
        return at_share(sorted(slowly(arrivals, services, groups * slots).waits), share)

    expected = next(groups for groups in range(1, len(requests) + 1) if percentile(groups) <= limit)
    assert fewest(arrivals, services, limit, share=share, slots=slots, near=near) == expected


@given(REQUESTS, TIMES, TIMES)
def test_more_patience_and_faster_service_never_take_more(
    requests: list[tuple[float, float]], limit: float, more: float
) -> None:
    arrivals, services = split(requests)
    found = fewest(arrivals, services, limit)
    assert fewest(arrivals, services, limit + more) <= found
    assert fewest(arrivals, [service / 2 for service in services], limit) <= found


@given(REQUESTS, st.integers(1, 8))
def test_work_is_neither_lost_nor_made(requests: list[tuple[float, float]], servers: int) -> None:
    arrivals, services = split(requests)
    end = serve(arrivals, services, servers).end
    assert sum(services) <= servers * (end - arrivals[0])
    assert end >= max(at + service for at, service in requests)
