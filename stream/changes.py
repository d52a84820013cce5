"""Lasting changes of a provider's own best, found in the latest requests: another hardware or software. Pure.

Both are judged by the lower edge of raw over denoised runtime. Faster: requests that no baseline allows, again and
again, from some request on. Slower: for all of the latest requests none comes near the old edge, and their own edge
is about as sharp as the old one was. That last point tells hardware from load, as far as it can be told: requests that
share a busy machine differ in how much they share. A load that slows all requests by the same factor, for as long as
that, looks exactly like slower hardware; it is reported as a step, and so is its end.
"""

from collections.abc import Sequence
from math import exp, log
from typing import NamedTuple

from stream.estimate import Profile, profile
from stream.observation import Observation
from stream.regression import at_rank

__all__ = ["SLOWER", "Change", "Excesses", "find_change", "is_suspicious", "onset"]

Excesses = Sequence[tuple[int, float]]
"""(place, logarithm of raw over denoised runtime) of requests, oldest first"""

SLOWER = log(1.15)
FASTER = log(0.87)

ENOUGH_SLOWER = 150
"""Requests, none of which comes near the old edge; one or two in a hundred may be absurd"""
ENOUGH_FASTER = 80
LOW_SHARE = 0.12
"""Share of the requests since a change for the faster that must lie below what was possible before"""

_ABSURD = 0.02
_BLUR = 0.04
"""A change need not be of the same factor for all sizes of requests"""
_ONSET = 20
_ONSET_LOW = 4


class Change(NamedTuple):
    """`place` of the first request after it; runtime after it over runtime before it."""

    place: int
    factor: float


def is_suspicious(excesses: Excesses, before: Profile) -> bool:
    """Whether a few requests look as though something had changed: a cheap first look."""
    ordered = sorted(value for _, value in excesses)
    if not ordered:
        return False
    low = sum(value < before.low + FASTER for value in ordered)
    return low > LOW_SHARE / 2 * len(ordered) or at_rank(ordered, 0.1) > before.low + SLOWER


def onset(excesses: Excesses, observations: Sequence[Observation], edge: float) -> int:
    """Return the time of the first of some observations after which none comes near an edge."""
    near = [place for place, value in excesses if value <= edge]
    return observations[min(near[-1] + 1, len(observations) - 1) if near else 0].at


def find_change(excesses: Excesses, before: Profile) -> Change | None:
    """Find a lasting change among the latest requests; `before` is what the baseline was found with."""
    return _slower(excesses, before) or _faster(excesses, before)


def _slower(excesses: Excesses, before: Profile) -> Change | None:
    if len(excesses) < ENOUGH_SLOWER:
        return None
    ordered = sorted(value for _, value in excesses)
    after = profile(excesses)
    near = at_rank(ordered, _ABSURD) <= before.low + SLOWER
    if near or after.spread > 1.5 * before.spread + _BLUR:
        return None
    # The last ones of before may still be among the first of these; later ones as low are absurd.
    early = excesses[: len(excesses) // 2]
    first = max((number + 1 for number, (_, value) in enumerate(early) if value <= before.low + SLOWER), default=0)
    return Change(excesses[first][0], exp(after.low - before.low))


def _faster(excesses: Excesses, before: Profile) -> Change | None:
    low = [number for number, (_, value) in enumerate(excesses) if value < before.low + FASTER]
    onset = next(
        (first for first, last in zip(low, low[_ONSET_LOW - 1 :], strict=False) if last - first < _ONSET), None
    )
    if onset is None:
        return None
    since = excesses[onset:]
    below = sum(number >= onset for number in low)
    if len(since) < ENOUGH_FASTER or below < LOW_SHARE * len(since):
        return None
    return Change(since[0][0], exp(profile(since).low - before.low))
