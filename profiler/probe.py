"""Asking an API again and again: the repeats of a plan, spread over some minutes, until all are there or the money is.

Time and sleep are passed in.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from profiler.endpoint import Endpoint
from profiler.endpoint_error import EndpointError
from profiler.probe_ledger import BudgetSpent, Ledger
from profiler.probe_plan import Repeat

__all__ = ["Stopped", "Watch", "ask"]

Watch = Callable[[int, float], None]
"""Told how many repeats have been asked for, and seconds until the last one is due."""

_FAILURES = 5
_LONGEST_WAIT = 60.0
_AFTER_FAILURE = 1.0


@dataclass(frozen=True, slots=True)
class Stopped:
    """How asking ended. `reason` is None when everything was asked for; `failed` counts requests without a reply."""

    reason: str | None
    failed: int = 0
    last_error: str | None = None
    money: bool = False


def ask(
    endpoint: Endpoint,
    ledger: Ledger,
    repeats: Sequence[Repeat],
    seconds: float,
    watch: Watch = lambda *_: None,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Stopped:
    """Ask for all repeats over so many seconds, one at a time; raises EndpointError where none will ever do.

    What fails is not asked for again: a repeat more or less is nothing, and a provider in trouble is left alone.
    """
    began, patience = clock(), _Patience(sleep)
    try:
        ledger.next(None)
        while repeats and not patience.tries(endpoint.calibrate):
            if patience.lost:
                return patience.stopped()
        for place, repeat in enumerate(repeats):
            pause = began + seconds * place / len(repeats) - clock()
            if pause > 0:
                sleep(pause)
            watch(place, max(began + seconds - clock(), 0.0))
            ledger.next(repeat)
            patience.tries(partial(endpoint.request, *repeat[1]))
            if patience.lost:
                return patience.stopped()
    except BudgetSpent as spent:
        return Stopped(str(spent), patience.failed, patience.last_error, money=True)
    return Stopped(None, patience.failed, patience.last_error)


class _Patience:
    """With a provider that fails now and then, while calibrating or later: up to some failures one after the other."""

    def __init__(self, sleep: Callable[[float], None]) -> None:
        self.failed = 0
        self.last_error: str | None = None
        self._sleep, self._in_a_row = sleep, 0

    @property
    def lost(self) -> bool:
        return self._in_a_row >= _FAILURES

    def tries(self, call: Callable[[], object]) -> bool:
        """Whether it worked; after a failure wait as long as the server wants. Raises what no other try will mend."""
        try:
            call()
        except EndpointError as error:
            if error.fatal:
                raise
            self.failed, self._in_a_row, self.last_error = self.failed + 1, self._in_a_row + 1, str(error)
            if not self.lost:
                self._sleep(min(error.retry_after or _AFTER_FAILURE, _LONGEST_WAIT))
            return False
        self._in_a_row = 0
        return True

    def stopped(self) -> Stopped:
        return Stopped(f"{_FAILURES} requests failed one after the other", self.failed, self.last_error)
