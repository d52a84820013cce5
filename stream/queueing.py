"""How long requests wait for a few identical servers that take them first come, first served. Pure and exact.

Nothing is assumed of arrivals or of service times: each request is followed, so that bursts count as they came. Times
are seconds; `arrivals` ascend, and a request's service time does not depend on who serves it. The law behind the
search: with one server more nobody waits longer (Kiefer and Wolfowitz, Trans. Amer. Math. Soc. 78, 1955).
"""

from bisect import bisect_left
from collections.abc import Sequence
from heapq import heapreplace
from math import ceil, inf
from typing import NamedTuple

__all__ = ["Served", "at_share", "fewest", "serve"]

_ROUNDING = 1e-9  # 0.95 * 20 must not be the 20th of 20


class Served(NamedTuple):
    """What became of a recording: each request's wait, in the order of arrival, and when the last one was done."""

    waits: list[float]
    end: float


def serve(arrivals: Sequence[float], services: Sequence[float], servers: int) -> Served:
    """Follow every request. O(n log servers)."""
    free, waits, end = _idle(servers, arrivals), [], -inf
    for at, service in zip(arrivals, services, strict=True):
        start = max(free[0], at)
        done = start + service
        heapreplace(free, done)
        waits.append(start - at)
        end = max(end, done)
    return Served(waits, end)


def at_share(ordered: Sequence[float], share: float) -> float:
    """The least of some ascending values (at least one) that this share of them does not exceed."""
    return ordered[_rank(len(ordered), share) - 1]


def fewest(
    arrivals: Sequence[float],
    services: Sequence[float],
    limit: float,
    *,
    share: float = 0.95,
    slots: int = 1,
    near: int = 1,
) -> int:
    """The fewest groups of `slots` servers with which at most `limit` seconds are waited by this share of requests.

    `near` is where to begin: the search takes two log2 of how far that is off, so many runs through the recording.
    """
    late = len(arrivals) - _rank(len(arrivals), share)

    def enough(groups: int) -> bool:
        return _keeps(arrivals, services, groups * slots, limit, late)

    step, high = 1, max(min(near, -(-len(arrivals) // slots)), 1)
    if enough(high):
        low = high - 1
        while low and enough(low):
            step *= 2
            low, high = max(low - step, 0), low
    else:
        low, high = high, high + 1
        while not enough(high):
            step *= 2
            low, high = high, high + step
    return bisect_left(range(high), True, lo=low + 1, key=enough)


def _keeps(arrivals: Sequence[float], services: Sequence[float], servers: int, limit: float, late: int) -> bool:
    """Whether no more than `late` requests wait longer than `limit`; given up at the first one too many."""
    free = _idle(servers, arrivals)
    for at, service in zip(arrivals, services, strict=True):
        start = free[0]
        if start <= at:
            heapreplace(free, at + service)
            continue
        if start - at > limit:
            late -= 1
            if late < 0:
                return False
        heapreplace(free, start + service)
    return True


def _idle(servers: int, arrivals: Sequence[float]) -> list[float]:
    """Since when servers are free, the first one first; those beyond one for each request would never be asked."""
    return [-inf] * min(servers, len(arrivals))


def _rank(number: int, share: float) -> int:
    return max(ceil(share * number - _ROUNDING), 1)
