"""Strategies compared, as JSON: worked out in turns with the requests on the same loop, one comparison at a time."""

import asyncio
import time

import msgspec

from gateway.turns import Turns
from stream.problems import Ledger
from stream.strategies import in_dollars, strategies_in_steps

__all__ = ["Comparisons"]

_SHARE = 0.1  # of a core, at most, for answers that are asked for again and again: 100,000 problems take two seconds
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
            answer = await self._worked_out(stack, human)
            now = time.monotonic()
            self._kept = {asked: kept for asked, kept in self._kept.items() if now < kept[0]}
            if len(self._kept) < _MOST_KEPT:
                self._kept[stack, human] = now + (now - began) / _SHARE, answer
            return answer

    async def _worked_out(self, stack: str, human: float | None) -> bytes:
        turns, found = Turns(), None
        for step in strategies_in_steps(self._ledger.copy(), stack, in_dollars(human)):
            found = step
            await turns.pause()
        return _encode(found)
