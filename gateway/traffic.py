"""The demo's client: arrivals and sizes of a production trace, sent through the real gateway.

Arrivals are the trace's, divided by `speed`; sizes are kept as they are, also beyond what the replayed models
were measured at. At most `MAX_IN_FLIGHT` requests are open: when all are, arrivals wait, so that any speed is
safe for the machine. The trace is cycled.
"""

import asyncio
import csv
import random
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import aiohttp

MAX_IN_FLIGHT = 128
"""Some 30% of a core in all; the trace at its own speed needs about 70."""
STREAMED_SHARE = 0.7
EXTRACT = Path(__file__).parent / "replay_data" / "azure_conv_extract.csv"


@dataclass(frozen=True, slots=True)
class Arrival:
    """One request of a trace: seconds after its first, and sizes in tokens."""

    seconds: float
    prompt_tokens: int
    output_tokens: int


@dataclass(slots=True)
class TrafficCounts:
    """What became of the requests; `failures` by status or by the kind of error."""

    sent: int = 0
    completed: int = 0
    in_flight: int = 0
    failures: Counter[str] = field(default_factory=Counter)


def read_trace(path: Path = EXTRACT) -> list[Arrival]:
    """Read a trace: columns TIMESTAMP, ContextTokens, GeneratedTokens; lines with `#` are comments."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(line for line in file if not line.startswith("#")))
    # The trace's stamps have seven decimals, one more than Python reads.
    moments = [datetime.fromisoformat(row["TIMESTAMP"][:26]) for row in rows]
    return [
        Arrival((moment - moments[0]).total_seconds(), int(row["ContextTokens"]), int(row["GeneratedTokens"]))
        for moment, row in zip(moments, rows, strict=True)
    ]


def cycled(trace: Sequence[Arrival]) -> Iterator[Arrival]:
    """Repeat the trace without end; a repetition begins one mean gap after the last arrival."""
    period = trace[-1].seconds * len(trace) / max(len(trace) - 1, 1)
    offset = 0.0
    while True:
        for arrival in trace:
            yield Arrival(arrival.seconds + offset, arrival.prompt_tokens, arrival.output_tokens)
        offset += period


class Traffic:
    """Sends the trace to a gateway, over `models` at random, until told to stop."""

    def __init__(
        self,
        models: Sequence[str],
        speed: float = 1.0,
        seed: int | None = None,
        trace: Sequence[Arrival] | None = None,
    ) -> None:
        """Compress arrivals by `speed` (> 0), never service times."""
        if not speed > 0:
            raise ValueError(f"speed must be above 0, not {speed:g}")
        self.counts = TrafficCounts()
        self._models = tuple(models)
        self._speed = speed
        self._random = random.Random(seed)  # noqa: S311 - a replay, no secret
        self._trace = list(trace) if trace is not None else read_trace()
        self._places = asyncio.Semaphore(MAX_IN_FLIGHT)

    async def run(self, gateway_url: str, stop: asyncio.Event) -> None:
        """Send until `stop` is set; then cancel what is open, wait for it to end, and return."""
        connector = aiohttp.TCPConnector(limit=MAX_IN_FLIGHT)
        timeout = aiohttp.ClientTimeout(total=None)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
            sender = asyncio.ensure_future(self._send_all(session, f"{gateway_url}/v1/chat/completions"))
            stopped = asyncio.ensure_future(stop.wait())
            try:
                await asyncio.wait((sender, stopped), return_when=asyncio.FIRST_COMPLETED)
                if sender.done():
                    sender.result()
            finally:
                for task in (sender, stopped):
                    task.cancel()
                await asyncio.gather(sender, stopped, return_exceptions=True)

    async def _send_all(self, session: aiohttp.ClientSession, url: str) -> None:
        began = time.monotonic()
        async with asyncio.TaskGroup() as requests:
            for arrival in cycled(self._trace):
                await asyncio.sleep(max(0.0, began + arrival.seconds / self._speed - time.monotonic()))
                await self._places.acquire()
                requests.create_task(self._send(session, url, self.body(arrival)))

    def body(self, arrival: Arrival) -> dict[str, Any]:
        """Return the next request of this size: its model and whether it streams are drawn at random."""
        body = {
            "model": self._random.choice(self._models),
            "messages": [{"role": "user", "content": " ".join(["word"] * arrival.prompt_tokens)}],
            "max_tokens": max(arrival.output_tokens, 1),
        }
        return {**body, "stream": True} if self._random.random() < STREAMED_SHARE else body

    async def _send(self, session: aiohttp.ClientSession, url: str, body: dict[str, Any]) -> None:
        counts = self.counts
        counts.sent += 1
        counts.in_flight += 1
        try:
            async with session.post(url, json=body) as response:
                async for _ in response.content.iter_any():
                    pass
                if response.ok:
                    counts.completed += 1
                else:
                    counts.failures[str(response.status)] += 1
        except (aiohttp.ClientError, OSError) as error:
            counts.failures[type(error).__name__] += 1
        finally:
            counts.in_flight -= 1
            self._places.release()
