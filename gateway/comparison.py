"""Strategies compared, as JSON: worked out in turns with the requests on the same loop, one comparison at a time."""

import asyncio
import time
from collections.abc import Iterable
from typing import Any

import msgspec

from gateway.turns import Turns
from stream.problems import Ledger
from stream.strategies import in_dollars, strategies_by_stack
from stream.strategy_metrics import kept_until

__all__ = ["Comparisons", "compared"]

_MOST_KEPT = 16

_Asked = tuple[str, float | None]
_encode = msgspec.json.Encoder().encode


class Comparisons:
    """Answers from a ledger that goes on; what took long to work out is given again for a while."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._working = asyncio.Lock()
        self._kept: dict[_Asked, tuple[float, bytes]] = {}
        """until when, and the answer"""

    async def answer(self, stack: str, human: float | None) -> bytes:
        """Return the strategies on a stack; `human` is what a person costs for each problem, in dollars."""
        async with self._working:
            until, answer = self._kept.get((stack, human), (0.0, b""))
            began = time.monotonic()
            if began < until:
                return answer
            answer = _encode((await compared(self._ledger, (stack,), human))[stack])
            now = time.monotonic()
            self._kept = {asked: kept for asked, kept in self._kept.items() if now < kept[0]}
            if len(self._kept) < _MOST_KEPT:
                self._kept[stack, human] = kept_until(began, now), answer
            return answer


async def compared(
    ledger: Ledger, stacks: Iterable[str], human: float | None = None, *, rest: float = 0.0
) -> dict[str, dict[str, Any]]:
    """Return the strategies on each stack, all of one moment, in turns with the requests on the loop (see Turns)."""
    turns, found = Turns(rest), dict[str, dict[str, Any]]()
    for step in strategies_by_stack(ledger.copy(), stacks, in_dollars(human)):
        found = step or found
        await turns.pause()
    return found
