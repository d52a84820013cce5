"""Deadlines of requests in flight: one sweep for all of them, as a timer a request costs 20 µs."""

import asyncio
from typing import Any

SWEEP_SECONDS = 0.1


class Deadlines:
    """Cancels tasks that are past their time. A task asks `expired` to tell that from another cancellation."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._due: dict[asyncio.Task[Any], float] = {}
        self._expired: set[asyncio.Task[Any]] = set()
        self._timer = self._loop.call_later(SWEEP_SECONDS, self._sweep)

    def set(self, task: asyncio.Task[Any], seconds: float) -> None:
        """The task is to be done, or to set a new deadline, within `seconds` (to a sweep's precision)."""
        self._due[task] = self._loop.time() + seconds

    def clear(self, task: asyncio.Task[Any]) -> None:
        """The task has no deadline any more."""
        self._due.pop(task, None)
        if self._expired:
            self._expired.discard(task)

    def expired(self, task: asyncio.Task[Any]) -> bool:
        """Whether the task's cancellation was its deadline's; takes the cancellation back if so."""
        if task not in self._expired:
            return False
        self._expired.discard(task)
        return task.uncancel() == 0

    def _sweep(self) -> None:
        now = self._loop.time()
        for task in [task for task, due in self._due.items() if due <= now]:
            del self._due[task]
            if task.cancel():
                self._expired.add(task)
        self._timer = self._loop.call_later(SWEEP_SECONDS, self._sweep)

    def close(self) -> None:
        """Stop sweeping."""
        self._timer.cancel()
