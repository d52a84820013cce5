"""Strategies as gauges: what `stream.strategies` finds on each reference stack, kept for as long as it took to find.

A comparison of 100,000 problems takes seconds, and a scrape must hold up nothing: so it is worked out beside whatever
else goes on, by `compare`, and a scrape shows the last one. Label values come from clients and are bounded: pairs of
model and strategy that few problems were judged of are left out, and counted.
"""

import asyncio
import heapq
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from typing import Any

from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from stream import families as f
from stream.exposition import gauge
from stream.labels import clean_label

__all__ = ["MOST_STACKS", "StrategyMetrics", "kept_until", "strategy_metrics"]

MOST_STACKS = 10
"""reference stacks that are compared on: the leading ones"""
_MOST_PAIRS = 50
_SHARE = 0.1  # of a core, at most, for what is asked for again and again: 100,000 problems take two seconds
_LEAST_SECONDS = 5.0  # that what was found is shown
_PATIENCE_SECONDS = 0.5  # for which a scrape waits for what is being worked out

_BASES = ("dedicated", "served", "billed")

_Answer = Mapping[str, Any]
_NOTHING: _Answer = {"strategies": (), "unlisted": 0}
Compare = Callable[[], Awaitable[Mapping[str, _Answer]]]
"""Work out what is known now: the answers of `strategies` by stack, none where they cannot be told."""


logger = logging.getLogger("trueclock.stream")


def kept_until(began: float, now: float) -> float:
    """Until when what was worked out between two moments is given again: for ten times as long as that took."""
    return now + (now - began) / _SHARE


class StrategyMetrics(Collector):
    """The gauges of the last comparison. Call `refresh` before a scrape, on the loop, and `stop` in the end."""

    def __init__(self, compare: Compare) -> None:
        """Show nothing yet."""
        self._compare = compare
        self._families = list(strategy_metrics({}))
        self._until = 0.0
        self._working: asyncio.Task[None] | None = None
        self._failing = False

    async def refresh(self) -> None:
        """Have it worked out anew if it is time to; wait for that for a moment, but no longer."""
        if self._working is None and time.monotonic() >= self._until:
            self._working = asyncio.create_task(self._renew())
        if self._working is not None:
            await asyncio.wait([self._working], timeout=_PATIENCE_SECONDS)

    async def _renew(self) -> None:
        began = time.monotonic()
        try:
            self._families = list(strategy_metrics(await self._compare()))
            self._failing = False
        except Exception:
            if not self._failing:
                logger.exception("strategies cannot be compared for the metrics, which stay as they were")
            self._failing = True
        finally:
            now = time.monotonic()
            self._until = max(kept_until(began, now), now + _LEAST_SECONDS)
            self._working = None

    def collect(self) -> Iterable[Metric]:
        """Return every family, as last worked out."""
        return self._families

    def stop(self) -> None:
        """Leave what is being worked out."""
        if self._working is not None:
            self._working.cancel()


def strategy_metrics(answers: Mapping[str, _Answer]) -> Iterator[Metric]:
    """Yield every family of `stream.families.STRATEGIES` of the answers of `strategies`, by stack; of one moment.

    What is not known has no sample. None at all stands for: nothing can be told.
    """
    by_label: dict[str, _Answer] = {}
    for stack, answer in answers.items():
        by_label.setdefault(clean_label(stack), answer)
    first = next(iter(by_label.values()), _NOTHING)
    pairs, left_out = _shown(first)
    yield gauge(f.JUDGED, _by_pair(pairs, first, _judged))
    yield gauge(f.UNSOLVED, _by_pair(pairs, first, lambda found: round(found["unsolved_share"] * _judged(found))))
    yield gauge(f.SUCCESS_RATES, _by_pair(pairs, first, lambda found: found["accuracy"] * _judged(found)))
    yield gauge(f.CORRECT, _by_pair(pairs, first, lambda found: found["correct"]))
    totals = _Totals(pairs, by_label)
    yield gauge(f.STRATEGY_DOLLARS, totals.by_basis("dollars", *_BASES))
    yield gauge(f.STRATEGY_ENERGY, totals.by_basis("energy_joules", "dedicated", "served"))
    yield gauge(f.STRATEGY_FLOPS, totals.of("flops"))
    yield gauge(f.STRATEGY_SECONDS, totals.of("idealized_seconds"))
    yield gauge(f.FRONTIER_DOLLARS, _frontier(by_label, "solved_mean"))
    yield gauge(f.FRONTIER_UNSOLVED, _frontier(by_label, "unsolved"))
    yield gauge(f.JUDGED_PROBLEMS, [((), first["judged"])] if answers else [])
    reasons = ("ambiguous", "without_requests") if answers else ()
    yield gauge(f.UNMATCHED, (((reason,), first[reason]) for reason in reasons))
    yield gauge(f.STRATEGIES_LEFT_OUT, [((), left_out)] if answers else [])


_Pairs = dict[tuple[str, str], int]
"""the labels of the pairs that are shown, and each one's place among the strategies: on every stack the same"""
_Numbers = Iterator[tuple[tuple[str, ...], float]]


def _judged(found: _Answer) -> int:
    return int(found["problems"] - found["unjudged"])


def _shown(answer: _Answer) -> tuple[_Pairs, int]:
    """The pairs to show, and how many others there are; of two that would look alike the one judged more."""
    ranked = enumerate(answer["strategies"])
    known = [(_judged(found), -place, _labels(found)) for place, found in ranked if _judged(found)]
    pairs: _Pairs = {}
    for _, place, labels in heapq.nlargest(_MOST_PAIRS, known):
        pairs.setdefault(labels, -place)
    return dict(sorted(pairs.items())), answer["unlisted"] + len(known) - len(pairs)


def _labels(found: _Answer) -> tuple[str, str]:
    return clean_label(found["model"]), clean_label(found["strategy"])


def _by_pair(pairs: _Pairs, answer: _Answer, number: Callable[[_Answer], float]) -> _Numbers:
    return ((labels, number(answer["strategies"][place])) for labels, place in pairs.items())


class _Totals:
    """What the judged problems of each pair cost, on each stack."""

    def __init__(self, pairs: _Pairs, answers: Mapping[str, _Answer]) -> None:
        self._found = [
            ((*pair, stack), answer["strategies"][place]["measures"])
            for stack, answer in answers.items()
            for pair, place in pairs.items()
        ]

    def of(self, measure: str, *labels: str) -> _Numbers:
        """One measure where it is known."""
        for pair, measures in self._found:
            total = measures[measure]["total"]
            if total is not None:
                yield (*pair, *labels), total

    def by_basis(self, unit: str, *bases: str) -> _Numbers:
        """Amounts of a unit where they are known."""
        for basis in bases:
            yield from self.of(f"{basis}_{unit}", basis)


def _frontier(answers: Mapping[str, _Answer], what: str) -> _Numbers:
    """A figure of the frontiers in dollars, where a problem was judged."""
    for stack, answer in answers.items():
        for basis in _BASES:
            number = answer["frontier"][f"{basis}_dollars"][what]
            if answer["judged"] and number is not None:
                yield (stack, basis), number
