"""What a probe asked for, got and paid, in a file that outlives it: no repeat is asked for twice, no budget is passed.

A request is written down, with the most it may cost, before it is sent. Its reply takes the place of that with what
was billed; one that failed, or whose end nobody saw, stays at the most it may have cost.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec

from profiler.journal import Journal
from profiler.machine import Run
from profiler.probe_plan import Point, Repeat
from profiler.runs import Runs, Setup
from stream.events import RequestEvent, decode_event, encode_event
from stream.prices import Prices

__all__ = ["BudgetSpent", "Ledger", "Sample", "Tariff", "setup_of"]


class BudgetSpent(Exception):
    """The next request might cost more than is left."""


class Tariff:
    """What one model's requests cost at one provider's prices."""

    def __init__(self, prices: Prices, provider: str | None, model: str) -> None:
        self._prices, self._provider, self._model = prices, provider, model

    def dollars(self, prompt_tokens: int, output_tokens: int) -> float | None:
        """Dollars of such a request; None where the prices do not name the model."""
        event = RequestEvent(model=self._model, prompt_tokens=prompt_tokens, completion_tokens=output_tokens)
        return self.billed(event)

    def billed(self, event: RequestEvent) -> float | None:
        """Dollars that a request's own tokens came to."""
        return self._prices.bill(msgspec.structs.replace(event, provider=self._provider)).dollars

    @property
    def source(self) -> str:
        """Which entry of the prices that is."""
        found = self._prices.entry(self._model, self._provider)
        return "" if found is None else found[0]


class Sample(NamedTuple):
    """One reply: the point it was asked for (None: it calibrated), and what the gateway would have recorded of it."""

    point: Point | None
    event: RequestEvent


class Ledger:
    """A probe's file, as the purse that its endpoint asks. `budget` is what all requests in the file may cost."""

    def __init__(self, journal: Journal, setup: Setup, tariff: Tariff, budget: float) -> None:
        self.budget = budget
        self.taken: set[Repeat] = set()
        self.samples: list[Sample] = []
        self._journal, self._tariff = journal, tariff
        self._runs = Runs(journal, setup, {"began": _now()})
        self._paid: dict[int, float] = {}
        self._repeat: Repeat | None = None
        for entry in journal.entries:
            self._take(entry, setup.id)

    @property
    def spent(self) -> float:
        """Dollars of everything in the file, what is not known at the most that it may have cost."""
        return sum(self._paid.values())

    @property
    def requests(self) -> int:
        """How many requests were sent."""
        return len(self._paid)

    def next(self, repeat: Repeat | None) -> None:
        """The requests that follow are for this repeat; None: they calibrate."""
        self._repeat = repeat

    def reserve(self, prompt_tokens: int, output_tokens: int) -> None:
        """Write down that a request is about to be sent; BudgetSpent if it might cost more than is left."""
        most = self._tariff.dollars(prompt_tokens, output_tokens) or 0.0
        if self.spent + most > self.budget:
            raise BudgetSpent(
                f"the next request may cost ${most:.4f}, and ${self.spent:.4f} of ${self.budget:g} is spent"
            )
        number = len(self._paid)
        asked = {"request": number, "dollars": most, "at": _now(), **_asked_for(self._repeat)}
        self._journal.append({"kind": "asked", "setup": self._runs.setup.id, **asked})
        self._paid[number] = most
        if self._repeat is not None:
            self.taken.add(self._repeat)

    def settle(self, event: RequestEvent) -> None:
        """Write down the reply to the last request, and what was billed for it."""
        number = len(self._paid) - 1
        billed = self._tariff.billed(event)
        dollars = self._paid[number] if billed is None else billed
        run = _run(event)
        point = (run.prompt_tokens, run.output_tokens) if self._repeat is None else self._repeat[1]
        record = {name: value for name, value in msgspec.json.decode(encode_event(event)).items() if value is not None}
        more = {"request": number, "dollars": dollars, "event": record, **_asked_for(self._repeat)}
        self._runs.add(point, run, **more)
        self._paid[number] = dollars
        self.samples.append(Sample(None if self._repeat is None else point, event))

    def _take(self, entry: Mapping[str, Any], setup: str) -> None:
        """Go on from one entry of the file: what it cost counts whatever it was for."""
        kind = entry.get("kind")
        if "request" not in entry or kind not in {"asked", "run"}:
            return
        number = int(entry["request"])
        self._paid[number] = float(entry["dollars"])
        if entry.get("setup") != setup:
            return
        point: Point | None = None
        if "repeat" in entry:
            number, prompt, output = map(int, entry["repeat"])
            point = prompt, output
            self.taken.add((number, point))
        if kind == "run":
            self.samples.append(Sample(point, decode_event(msgspec.json.encode(entry["event"]))))


def setup_of(host: str, model: str, route: str) -> Setup:
    """What decides how long a black box takes, as far as anyone outside knows."""
    return Setup(model=model, stack=host, hardware={"endpoint": host}, software={"route": route})


def _asked_for(repeat: Repeat | None) -> dict[str, Any]:
    return {} if repeat is None else {"repeat": [repeat[0], *repeat[1]]}


def _run(event: RequestEvent) -> Run:
    seconds = event.raw_runtime_seconds or 0.0
    first = event.time_to_first_token_seconds
    return Run(
        event.prompt_tokens or 0,
        event.completion_tokens or 0,
        seconds if first is None else min(first, seconds),
        seconds,
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
