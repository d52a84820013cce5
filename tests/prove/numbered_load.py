"""A load of numbered requests that knows of each whether its reply came whole, was cut, or never came.

Whole means: the last byte of Content-Length, the last chunk, or, for a stream that has one, `data: [DONE]`.
"""

import asyncio
import contextlib
import random
from dataclasses import dataclass, field

from posted_outcomes import problem_of, strategy_of

STEADY = "openai/curie"  # its streams take what their size says, so that a baseline can be told
MODELS = (STEADY, STEADY, "openai/davinci", "ai21/j1-jumbo", "nobody/knows-this-one")
KINDS = ("json", "chunked", "stream", "stream", "undone")


@dataclass(slots=True)
class Outcome:
    """Request numbers by what became of them."""

    sent: set[int] = field(default_factory=set)
    whole: set[int] = field(default_factory=set)
    cut: set[int] = field(default_factory=set)  # some bytes of the reply came, the end did not
    odd: dict[int, bytes] = field(default_factory=dict)  # whole, but not 200: the first bytes


def request(number: int, rng: random.Random) -> tuple[bytes, str]:
    """Make one numbered request: its bytes, and the kind of reply it asks for."""
    model = rng.choice(MODELS)
    kind = "stream" if model == STEADY else rng.choice(KINDS)
    usage = ',"stream_options":{"include_usage":true}' if model == STEADY or rng.random() < 0.5 else ""
    stream = f',"stream":true{usage}' if kind in {"stream", "undone"} else ""
    pad = "x" * rng.randrange(10, 2000)
    body = f'{{"model":"{model}","messages":[{{"role":"user","content":"{pad}"}}]{stream}}}'
    pace = f"delay={rng.choice((0, 0, 0.002, 0.02))}&chunks={rng.choice((2, 8, 30))}"
    pace += f"&gap={rng.choice((0, 0.001, 0.004))}"
    pace += f"&cut={rng.choice((0, 0, rng.randrange(1, 60)))}"
    if model == STEADY:
        pace = f"delay=0.08&chunks={rng.choice((10, 15, 20))}&gap=0.008"
    target = f"/v1/chat/completions?kind={kind}&{pace}"
    head = f"POST {target} HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer sk-prove\r\n"
    head += "content-type: application/json\r\n"
    return (
        f"{head}x-trueclock-tags: proof,n={number}\r\nx-trueclock-problem: {problem_of(number)}\r\n"
        f"x-trueclock-strategy: {strategy_of(number)}\r\ncontent-length: {len(body)}\r\n\r\n{body}".encode(),
        kind,
    )


class Connection(asyncio.Protocol):
    """One keep-alive connection to the gateway; one request at a time."""

    def __init__(self) -> None:
        self.buffer = bytearray()
        self.waiter: asyncio.Future[bool] | None = None
        self.kind = ""
        self.whole = False  # as early as it can be said: `[DONE]` counts even if the last chunk never comes
        self.usable = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        ended = reply_ended(self.buffer)
        self.whole = self.whole or ended or (self.kind == "stream" and b"data: [DONE]" in self.buffer)
        if ended and self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(True)

    def connection_lost(self, _error: Exception | None) -> None:
        self.usable = False
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(False)

    async def ask(self, data: bytes, kind: str) -> None:
        """Send one request and wait for its reply's end, or the connection's."""
        self.buffer.clear()
        self.kind, self.whole = kind, False
        self.waiter = asyncio.get_running_loop().create_future()
        self.transport.write(data)
        await self.waiter


def reply_ended(data: bytearray) -> bool:
    """Tell whether the reply is complete by its framing; payloads here never hold `0 CRLF CRLF`."""
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return False
    head = bytes(data[:end]).lower()
    at = head.find(b"content-length:")
    if at < 0:
        return data.endswith(b"0\r\n\r\n", end + 2)
    length = int(head[at + 15 :].split(b"\r\n", 1)[0])
    return len(data) - end - 4 >= length


@dataclass(slots=True)
class Load:
    """Some clients that send numbered requests until told to stop, whatever happens to the gateway."""

    port: int
    rng: random.Random
    outcome: Outcome = field(default_factory=Outcome)
    running: bool = True

    async def run(self, clients: int) -> None:
        """Run all clients."""
        await asyncio.gather(*(self._client() for _ in range(clients)))

    async def _client(self) -> None:
        while self.running:
            with contextlib.suppress(OSError):
                _, connection = await asyncio.get_running_loop().create_connection(Connection, "127.0.0.1", self.port)
                await self._talk(connection)
                connection.transport.abort()
            await asyncio.sleep(0.01)  # the gateway is down for a moment

    async def _talk(self, connection: Connection) -> None:
        while self.running and connection.usable:
            number = len(self.outcome.sent)
            self.outcome.sent.add(number)
            data, kind = request(number, self.rng)
            await connection.ask(data, kind)
            if connection.whole:
                self.outcome.whole.add(number)
                if not connection.buffer.startswith(b"HTTP/1.1 200"):
                    self.outcome.odd[number] = bytes(connection.buffer[:200])
            elif connection.buffer:
                self.outcome.cut.add(number)
