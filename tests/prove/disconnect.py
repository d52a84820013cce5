#!/usr/bin/env python3
"""A client that leaves takes its upstream request with it, within 0.2 s, and leaves its event behind.

    python tests/prove/disconnect.py           # 20 clients in each phase, one by one, then 20 at once
    python tests/prove/disconnect.py --short   # 5

Phases: before a stream's first byte, after its head but before its first token, in mid-stream, in a
non-streamed call. Half of the clients close, half reset. The upstream is a raw server in this process, so
that both times are of one clock: from the client's close to the upstream's end of the connection.
"""

import argparse
import asyncio
import contextlib
import socket
import struct
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proving import ROOT, Claims, Gateway, ProofError, end_on_sigterm, numbers, workplace
from scripted_upstream import Seen, Upstream

LIMIT_SECONDS = 0.2
BARE = ROOT / "tests" / "bench" / "gateway" / "gateways" / "bare_aiohttp.py"
WAIT_SECONDS = 3.0
SEEN_CHUNKS = 5


@dataclass(frozen=True, slots=True)
class Phase:
    """A moment to leave at: the reply asked for, and what the client waits for first."""

    name: str
    query: str
    stream: bool
    awaited: bytes = b""  # the client leaves once its reply holds this; else once the upstream has the request


PHASES = (
    Phase("before the first byte of a stream", "kind=silent", stream=True),
    Phase("after the head, before the first token", "kind=head", stream=True, awaited=b"\r\n\r\n"),
    Phase("in mid-stream", "kind=stream&chunks=10000&gap=0.01", stream=True, awaited=f" w{SEEN_CHUNKS}".encode()),
    Phase("in a non-streamed call", "kind=silent", stream=False),
)


async def leave(gateway_port: int, upstream: Upstream, phase: Phase, number: int) -> float:
    """Send one request and leave in the phase; return the seconds until the upstream's connection closed."""
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway_port)
    body = b'{"model":"openai/davinci","messages":[{"role":"user","content":"hello"}]%s}'
    body %= b',"stream":true' if phase.stream else b""
    head = f"POST /v1/chat/completions?n={number}&{phase.query} HTTP/1.1\r\nhost: 127.0.0.1\r\n"
    head += f"content-type: application/json\r\nx-trueclock-tags: n={number}\r\n"
    head += f"content-length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    seen = await asyncio.wait_for(upstream.arrival(str(number)), WAIT_SECONDS)
    if phase.awaited:
        await asyncio.wait_for(reader.readuntil(phase.awaited), WAIT_SECONDS)
    if number % 2:  # a reset instead of an orderly close
        linger: socket.socket = writer.get_extra_info("socket")
        linger.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    left = time.monotonic()
    writer.transport.abort() if number % 2 else writer.close()
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(seen.closed.wait(), WAIT_SECONDS)
    return (seen.gone or float("inf")) - left


async def events_of_all(gateway: Gateway, expected: int) -> dict[int, list[dict[str, Any]]]:
    """Return the events by request number, once all are there or some seconds have passed."""
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        events = await asyncio.to_thread(gateway.events)
        if len(events) >= expected or time.monotonic() > deadline:
            break
    by_number: dict[int, list[dict[str, Any]]] = {}
    for event in events:
        for number in numbers([event]):
            by_number.setdefault(number, []).append(event)
    return by_number


def judge(phase: Phase, seen: Seen, events: Sequence[dict[str, Any]]) -> str:
    """Return what is wrong with the event of a request whose client left; empty when nothing is."""
    if len(events) != 1:
        return f"{len(events)} events"
    event = events[0]
    if event["exclusion_reason"] is None:
        return "recorded as completed"
    if event["finish_reason"] is not None:
        return f"finish_reason {event['finish_reason']!r} that nobody sent"
    tokens, least = event["completion_tokens"], SEEN_CHUNKS + 1 if phase.awaited.startswith(b" w") else 0
    if least and not (tokens is not None and least <= tokens <= seen.chunks):
        return f"{tokens} completion tokens; the client saw {least}, the upstream sent {seen.chunks}"
    if not least and tokens:
        return f"{tokens} completion tokens where none was sent"
    return ""


async def prove(options: argparse.Namespace, work: Path) -> int:
    """Carry out the proof; return the exit status."""
    claims, upstream = Claims("disconnect"), Upstream()
    _, port = await upstream.start()
    gateway = Gateway(f"http://127.0.0.1:{port}", work / "data", work / "gateway.log")
    await asyncio.to_thread(gateway.start)
    try:
        number, slowest = 0, 0.0
        phase_of: dict[int, Phase] = {}
        for phase in PHASES:
            for way in ("one by one", "all at once"):
                mine = range(number, number + options.clients)
                phase_of |= dict.fromkeys(mine, phase)
                number += options.clients
                seconds = await leave_all(gateway, upstream, phase, mine, together=way == "all at once")
                slowest = max(slowest, *seconds)
                detail = f"{len(seconds)} clients, slowest {1000 * max(seconds):.1f} ms"
                claims.claim(f"{phase.name}, {way}: cancelled within 0.2 s", max(seconds) <= LIMIT_SECONDS, detail)
        kept = await events_of_all(gateway, number)
        for phase in PHASES:
            each = {n: judge(phase, upstream.seen[str(n)], kept.get(n, ())) for n in phase_of if phase_of[n] is phase}
            wrong = {n: text for n, text in each.items() if text}
            claims.claim(f"{phase.name}: every event kept, as left", not wrong, list(wrong.items())[:3] or len(each))
        claims.claim("the gateway serves on", await asyncio.to_thread(gateway.ready) == 200)
        await control(claims, upstream, port, number)
    finally:
        gateway.kill()
    return claims.finish(f"{number} clients left, slowest cancellation {1000 * slowest:.1f} ms")


async def control(claims: Claims, upstream: Upstream, upstream_port: int, number: int) -> None:
    """Measure a gateway that does not cancel (aiohttp's default, in a call that is not streamed)."""
    with contextlib.closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    address = f"http://127.0.0.1:{upstream_port}"
    bare = await asyncio.create_subprocess_exec(sys.executable, str(BARE), str(port), address)
    try:
        await wait_port(port)
        seconds = await leave(port, upstream, PHASES[-1], number)
        claims.claim("control: bare aiohttp, which does not cancel, is found out", seconds > LIMIT_SECONDS, seconds)
    finally:
        bare.kill()
        await bare.wait()


async def wait_port(port: int) -> None:
    """Wait until something listens on a port of 127.0.0.1."""
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            return
        await asyncio.sleep(0.01)
    raise ProofError(f"nothing listens on port {port}")


async def leave_all(gateway: Gateway, upstream: Upstream, phase: Phase, mine: range, *, together: bool) -> list[float]:
    """Let clients leave one after the other, or all at the same time."""
    if together:
        return await asyncio.gather(*(leave(gateway.port, upstream, phase, number) for number in mine))
    return [await leave(gateway.port, upstream, phase, number) for number in mine]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the proof; return 0 when every claim holds, 1 when one fails, 2 when it cannot be carried out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, help="in each phase and way; default 20")
    parser.add_argument("--short", action="store_true", help="5 clients")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="work in this directory and leave it there")
    options = parser.parse_args(argv)
    options.clients = options.clients or (5 if options.short else 20)
    end_on_sigterm()
    try:
        with workplace(options.keep) as work:
            return asyncio.run(prove(options, work))
    except (ProofError, TimeoutError, OSError) as error:
        print(f"disconnect: FAILED: {type(error).__name__} {error}")
        return 2


if __name__ == "__main__":
    sys.exit(main())
