"""A load of numbered requests that keeps its pace, whatever becomes of them: so many a second, each sent when it is due.

Unlike clients that wait for each other, it does not fall silent while the gateway is slow: what a fault holds up, it
held up under load.
"""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from numbered_load import Connection, Outcome

MODELS = ("openai/curie", "openai/davinci", "ai21/j1-jumbo", "nobody/knows-this-one")
MOST_UNDER_WAY = 1000
"""Requests that wait for their reply; more are not sent, but skipped"""

_BEAT_SECONDS = 0.01
_BODY = '{{"model":"{}","messages":[{{"role":"user","content":"How long should this take?"}}]{}}}'


def paced_request(number: int) -> tuple[bytes, str]:
    """Make one numbered request: its bytes, and the kind of reply it asks for. Every fourth is a stream."""
    kind = "json" if number % 4 else "stream"
    stream = ',"stream":true,"stream_options":{"include_usage":true}' if kind == "stream" else ""
    body = _BODY.format(MODELS[number // 4 % len(MODELS)], stream)
    head = (
        f"POST /v1/chat/completions?kind={kind}&chunks=3 HTTP/1.1\r\nhost: 127.0.0.1\r\n"
        f"authorization: Bearer sk-prove\r\ncontent-type: application/json\r\nx-trueclock-tags: n={number}\r\n"
        f"{_labels(number)}content-length: {len(body)}\r\n\r\n"
    )
    return f"{head}{body}".encode(), kind


def _labels(number: int) -> str:
    """Make every fifth request an attempt at one of sixty problems."""
    if number % 5:
        return ""
    return f"x-trueclock-problem: {problem_of(number)}\r\nx-trueclock-strategy: s{number % 3}\r\n"


def problem_of(number: int) -> str:
    """Return the problem that a numbered request with one is of."""
    return f"p{number // 5 % 60}"


@dataclass(slots=True)
class PacedLoad:
    """Sends `rate` requests a second to the gateway at `port` until `running` is False."""

    port: int
    rate: float
    outcome: Outcome = field(default_factory=Outcome)
    whole_at: deque[tuple[float, int]] = field(default_factory=deque)
    """when (time.monotonic) which reply came whole, in order"""
    running: bool = True
    skipped: int = 0
    _idle: list[Connection] = field(default_factory=list)
    _under_way: set[asyncio.Task[None]] = field(default_factory=set)

    async def run(self) -> None:
        """Send until told to stop; returns when the last reply is there."""
        for due in self._beats():
            await asyncio.sleep(_BEAT_SECONDS)
            for _ in range(due):
                if len(self._under_way) >= MOST_UNDER_WAY:
                    self.skipped += 1
                    continue
                task = asyncio.create_task(self._ask())
                self._under_way.add(task)
                task.add_done_callback(self._under_way.discard)
        await asyncio.gather(*self._under_way)
        for connection in self._idle:
            connection.transport.abort()

    def _beats(self) -> Iterator[int]:
        """Give, again and again, how many requests are due by now."""
        began, sent = time.monotonic(), 0
        while self.running:
            due = int((time.monotonic() - began) * self.rate) - sent
            yield due
            sent += due

    async def _ask(self) -> None:
        with contextlib.suppress(OSError):
            connection = await self._connection()
            number = len(self.outcome.sent)
            self.outcome.sent.add(number)
            data, kind = paced_request(number)
            await connection.ask(data, kind)
            self._note(number, connection)
            if connection.usable:
                self._idle.append(connection)

    async def _connection(self) -> Connection:
        while self._idle:
            connection = self._idle.pop()
            if connection.usable:
                return connection
        _, connection = await asyncio.get_running_loop().create_connection(Connection, "127.0.0.1", self.port)
        return connection

    def _note(self, number: int, connection: Connection) -> None:
        if connection.whole:
            self.outcome.whole.add(number)
            self.whole_at.append((time.monotonic(), number))
            if not connection.buffer.startswith(b"HTTP/1.1 200"):
                self.outcome.odd[number] = bytes(connection.buffer[:200])
        elif connection.buffer:
            self.outcome.cut.add(number)
