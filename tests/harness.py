"""What the integration tests share: a gateway on a free port, and a client that shows a reply's exact bytes.

async with serve(upstream.url) as gateway:              # in this process, on this loop
    reply = await ask(gateway.url, POST, "/v1/chat/completions", {"model": "m"})
    (event,) = await gateway.events(1)                   # waited for

async with GatewayProcess("--upstream", upstream.url) as gateway:   # `gateway run`
    ...
"""

import asyncio
import json
import os
import re
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import uvloop

from gateway.app import Gateway, Settings
from gateway.config import Config, Timeouts, default_config
from gateway.log import LogReader
from stream.coefficients import Tables, load_tables
from stream.events import RequestEvent, decode_event

ROOT = Path(__file__).resolve().parents[1]
WAIT_SECONDS = 20.0
_WARNINGS = "error,ignore:read_text is deprecated,ignore:open_text is deprecated"  # kafka-python's, of its own files
CHAT = "/v1/chat/completions"
CONNECTION_HEADERS = frozenset({b"connection", b"transfer-encoding", b"content-length", b"keep-alive", b"trailer"})
Pairs = Sequence[tuple[bytes | str, bytes | str]]


def run(scenario: Coroutine[Any, Any, Any]) -> Any:
    """Run a scenario on the loop that `gateway run` uses."""
    return uvloop.run(scenario)


async def until(done: Callable[[], Any], seconds: float = WAIT_SECONDS) -> Any:
    """Wait until `done()` is true, and return it."""
    deadline = asyncio.get_running_loop().time() + seconds
    while not (value := done()):
        assert asyncio.get_running_loop().time() < deadline, f"still not so after {seconds} s"
        await asyncio.sleep(0.005)
    return value


def within(awaited: Awaitable[Any], seconds: float = WAIT_SECONDS) -> Any:
    """Wait for something no longer than a test may take."""
    return asyncio.wait_for(awaited, seconds)


# --- gateways


def recorded(data_dir: Path) -> list[RequestEvent]:
    """Every event in a data directory's logs, in order."""
    events = []
    for path in sorted(data_dir.glob("events-*.sqlite")):
        reader = LogReader(path)
        events += [decode_event(event) for _, event in reader.read(0, 1_000_000).rows]
        reader.close()
    return events


async def events_of(data_dir: Path, count: int) -> list[RequestEvent]:
    """The events of a data directory, once there are `count`; more than that is a failure."""
    await until(lambda: len(recorded(data_dir)) >= count)
    events = recorded(data_dir)
    assert len(events) == count, [event.route for event in events]
    return events


class ServedGateway(Gateway):
    """A gateway in the test's own process and loop."""

    async def events(self, count: int) -> list[RequestEvent]:
        """All events so far, once there are `count`."""
        return await events_of(self.settings.data_dir, count)

    async def counted(self, count: int) -> None:
        """Wait until the embedded stream has taken `count` events."""
        cursor = self.control.stream.cursor
        await until(lambda: cursor("events-0").row >= count)


_tables: list[Tables] = []


@asynccontextmanager
async def serve(upstream: str | Config | None = None, **settings: Any) -> AsyncIterator[ServedGateway]:
    """A gateway that passes requests on to the URL (or as the Config says), on a free port, data in a new directory."""
    if not _tables:
        _tables.append(load_tables())
    config = upstream if isinstance(upstream, Config) else default_config(upstream)
    with tempfile.TemporaryDirectory(prefix="trueclock-test-") as folder:
        base = Settings(config, _tables[0], Path(folder), port=0, grace_seconds=2.0)
        gateway = ServedGateway(replace(base, **settings))
        await gateway.start()
        try:
            yield gateway
        finally:
            await gateway.close()


def limited(url: str, *, body_limit_bytes: int = 64 << 20, **timeouts: float) -> Config:
    """A configuration with one upstream, its timeouts (connect, first_byte, total) and a body limit."""
    config = default_config(url)
    assert config.default is not None
    upstream = replace(config.default, timeouts=Timeouts(**timeouts))
    return replace(config, default=upstream, body_limit_bytes=body_limit_bytes)


class GatewayProcess:
    """`gateway run` in a process of its own. Its data directory outlives it, so that it can be started again."""

    def __init__(self, *options: str, data_dir: Path, port: int = 0) -> None:
        self.options = options
        self.data_dir = data_dir
        self.port = port
        self.process: asyncio.subprocess.Process
        self.first_line = ""

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self.process.returncode is None:
            self.process.kill()
        await self.process.communicate()

    async def start(self) -> None:
        """Start it, and wait for its first line."""
        options = ("run", "--port", str(self.port), "--data-dir", str(self.data_dir), *self.options)
        self.process = await command("gateway.cli", *options)
        assert self.process.stdout is not None
        self.first_line = (await within(self.process.stdout.readline())).decode()
        found = re.search(r"http://127\.0\.0\.1:(\d+)", self.first_line)
        if found is None:
            _, errors = await self.process.communicate()
            raise AssertionError(f"it did not start: {errors.decode()}")
        self.port = int(found[1])

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    async def end(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, str]:
        """Send a signal and wait for the end: exit status, standard error."""
        self.process.send_signal(number)
        return await self.ended()

    async def ended(self) -> tuple[int, str]:
        """Wait for the end: exit status, standard error."""
        _, errors = await within(self.process.communicate())
        assert self.process.returncode is not None
        return self.process.returncode, errors.decode()


async def command(module: str, *options: str, **more: str) -> asyncio.subprocess.Process:
    """Start one of the product's commands."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": _WARNINGS, **more}
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, *options,
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        cwd=ROOT, env=environment,
    )  # fmt: skip


# --- a client that hides nothing


@dataclass(frozen=True)
class RawReply:
    """A reply as received. `framing`: none, length, chunked or close; `broken`: it ended before its end."""

    head: bytes
    body: bytes
    framing: str
    broken: bool = False
    interim: tuple[bytes, ...] = ()

    @property
    def status(self) -> int:
        return int(self.head.split(b" ", 2)[1])

    @property
    def status_line(self) -> bytes:
        """Status and reason, less the version, which is the connection's."""
        return self.head.split(b"\r\n", 1)[0].partition(b" ")[2]

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """In order, names as sent."""
        lines = self.head.split(b"\r\n")[1:-2]
        return [(name, value.strip(b" \t")) for name, _, value in (line.partition(b":") for line in lines)]

    @property
    def end_to_end(self) -> list[tuple[bytes, bytes]]:
        """The headers that are not one connection's affair."""
        return [pair for pair in self.headers if pair[0].lower() not in CONNECTION_HEADERS]

    def header(self, name: bytes) -> bytes | None:
        """The first value of `name`, whatever its case."""
        return next((value for key, value in self.headers if key.lower() == name), None)

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error_code(self) -> str:
        """The code in the gateway's own error body."""
        error = self.json["error"]
        assert error["type"] == "trueclock_error"
        assert error["message"].startswith("trueclock: ")
        assert "\n" not in error["message"]
        return str(error["code"])


class RawClient:
    """One connection. `async with RawClient(url) as client: await client.send(…); await client.reply()`."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.host, self.port = parts.hostname or "", parts.port or 80
        self.reader: asyncio.StreamReader
        self.writer: asyncio.StreamWriter

    async def __aenter__(self) -> Self:
        self.reader, self.writer = await asyncio.open_connection(self.host, self.port, limit=1 << 20)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.close()
        with suppress(OSError):
            await self.writer.wait_closed()

    async def send(self, data: bytes) -> None:
        """Write, and wait until it is mostly out."""
        self.writer.write(data)
        await self.writer.drain()

    async def reply(self, method: str = "GET") -> RawReply:
        """The next reply, whole, however it ends."""
        return await within(self._reply(method))

    async def head(self) -> bytes:
        """The next head: status line and headers with the blank line."""
        return await within(self.reader.readuntil(b"\r\n\r\n"))

    async def _reply(self, method: str) -> RawReply:
        interim = []
        while (head := await self.head()).split(b" ", 2)[1].startswith(b"1"):
            interim.append(head)
        bare = RawReply(head, b"", "none", interim=tuple(interim))
        if method == "HEAD" or bare.status in (204, 304):
            return bare
        if (bare.header(b"transfer-encoding") or b"").lower() == b"chunked":
            body, broken = await self._chunks()
            return replace(bare, body=body, framing="chunked", broken=broken)
        length = bare.header(b"content-length")
        if length is None:
            return replace(bare, body=await self.rest(), framing="close")
        body = b""
        with suppress(ConnectionError):
            while len(body) < int(length) and (data := await self.reader.read(int(length) - len(body))):
                body += data
        return replace(bare, body=body, framing="length", broken=len(body) < int(length))

    async def _chunks(self) -> tuple[bytes, bool]:
        body = bytearray()
        try:
            while True:
                size = int((await self.reader.readuntil(b"\r\n")).split(b";")[0], 16)
                if not size:
                    while (await self.reader.readuntil(b"\r\n")) != b"\r\n":
                        pass
                    return bytes(body), False
                left = size
                while left:
                    data = await self.reader.read(left)
                    if not data:
                        return bytes(body), True
                    body += data
                    left -= len(data)
                assert await self.reader.readexactly(2) == b"\r\n"
        except (asyncio.IncompleteReadError, ConnectionError):
            return bytes(body), True

    async def rest_of_chunks(self) -> None:
        """Read up to the end of a chunked body."""
        await within(self.reader.readuntil(b"\r\n0\r\n\r\n"))

    async def rest(self) -> bytes:
        """Everything until the other side closes."""
        parts = []
        with suppress(ConnectionError):
            while data := await within(self.reader.read(1 << 16)):
                parts.append(data)
        return b"".join(parts)


def request_bytes(
    method: str, target: str | bytes, host: str, headers: Pairs = (), body: bytes | None = None, version: str = "1.1"
) -> bytes:
    """A request: `headers` after Host, Content-Length last where there is a body."""
    lines = [method.encode() + b" " + _bytes(target) + b" HTTP/" + version.encode(), b"Host: " + host.encode()]
    lines += [_bytes(name) + b": " + _bytes(value) for name, value in headers]
    if body is not None:
        lines.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join([*lines, b"", b""]) + (body or b"")


def _bytes(value: bytes | str) -> bytes:
    return value if isinstance(value, bytes) else value.encode("latin-1")


async def ask(
    url: str,
    method: str = "GET",
    target: str | bytes = "/v1/models",
    body: bytes | Mapping[str, Any] | None = None,
    headers: Pairs = (),
    version: str = "1.1",
) -> RawReply:
    """One request on a connection of its own."""
    data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
    kind: Pairs = () if isinstance(body, bytes | None) else (("Content-Type", "application/json"),)
    async with RawClient(url) as client:
        host = f"{client.host}:{client.port}"
        await client.send(request_bytes(method, target, host, (*kind, *headers), data, version))
        return await client.reply(method)


async def chat(url: str, model: str = "gpt-4o", *, headers: Pairs = (), **more: Any) -> RawReply:
    """One chat completion."""
    body = {"model": model, "messages": [{"role": "user", "content": "hello there"}], **more}
    return await ask(url, "POST", CHAT, body, headers)
