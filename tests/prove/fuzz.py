#!/usr/bin/env python3
"""Garbage from both sides: the gateway never dies, never answers 5xx without saying why, and does not grow.

    python tests/prove/fuzz.py                 # 120 s
    python tests/prove/fuzz.py --seconds 10    # the same as --short

Clients send noise, broken frames, odd bodies and hostile headers, some stall or leave; the upstream answers
with broken frames, lies about lengths, malformed events and decompression bombs. A canary listens where
targets such as `@127.0.0.1:PORT/` point: nobody may ever call there.
"""

import argparse
import asyncio
import contextlib
import json
import random
import re
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hostile_requests import TARGETS, canary_targets, hostile_request
from hostile_upstream import HostileUpstream
from proving import (
    Claims,
    Gateway,
    ProofError,
    end_on_sigterm,
    numbers,
    stored,
    unreadable,
    wait_total,
    workplace,
)

READ_LIMIT = 1 << 20
HANG_SECONDS = 3.0
STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})")
HONEST_NUMBER = 1_000_000
PEAK_MB, GROWTH_MB, MORE_FILES = 512, 60, 10


@dataclass(slots=True)
class Seen:
    """What the fuzzing saw."""

    sent: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    mute: list[str] = field(default_factory=list)  # 5xx of the gateway's own without a JSON error
    ready: Counter[int | None] = field(default_factory=Counter)
    slowest_ready: float = 0.0
    peak_mb: float = 0.0
    strangers: int = 0  # calls to the canary


def judge(reply: bytes, seen: Seen, sent: bytes) -> None:
    """Note a reply's status, and whether an error of the gateway's own explains itself."""
    if not (found := STATUS.match(reply)):
        return
    status = int(found[1])
    seen.statuses[status] += 1
    head, _, body = reply.partition(b"\r\n\r\n")
    if status < 500 or b"x-evil" in head.lower() or sent.startswith(b"HEAD"):
        return
    if length := re.search(rb"(?i)content-length: (\d+)", head):
        body = body[: int(length[1])]
    try:
        explained = "error" in json.loads(body)
    except ValueError:
        explained = False
    if not explained:
        seen.mute.append(f"{reply[:150]!r} to {sent[:200]!r}")


async def annoy(gateway: Gateway, seen: Seen, rng: random.Random, targets: tuple[str, ...]) -> None:
    """Send one hostile request, read some of the reply, leave."""
    data = hostile_request(rng, targets)
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port, limit=READ_LIMIT)
    seen.sent += 1
    try:
        cut = rng.randrange(len(data) + 1) if rng.random() < 0.2 else len(data)
        writer.write(data[:cut])
        if cut < len(data):
            await asyncio.sleep(rng.choice((0, 0.05, 0.5)))
            writer.write(data[cut:] if rng.random() < 0.5 else b"")
        if rng.random() < 0.8:
            judge(await read_some(reader, rng), seen, data)
    finally:
        writer.transport.abort() if rng.random() < 0.5 else writer.close()


async def read_some(reader: asyncio.StreamReader, rng: random.Random) -> bytes:
    """Read until the end, a limit, or impatience: the connection stays open, so silence must end it, too."""
    data, patience = bytearray(), rng.choice((0.1, 0.5, 1.0))
    with contextlib.suppress(TimeoutError):
        while len(data) < READ_LIMIT:
            part = await asyncio.wait_for(reader.read(65536), 0.04 if data else patience)
            if not part:
                break
            data += part
    return bytes(data)


async def annoy_until(deadline: float, gateway: Gateway, seen: Seen, seed: int, targets: tuple[str, ...]) -> None:
    """Be one hostile client until the time is up."""
    rng = random.Random(seed)
    while time.monotonic() < deadline and gateway.alive():
        with contextlib.suppress(OSError):
            await annoy(gateway, seen, rng, targets)


async def watch(deadline: float, gateway: Gateway, seen: Seen) -> None:
    """Ask for readiness and look at the memory, four times a second."""
    while time.monotonic() < deadline and gateway.alive():
        began = time.monotonic()
        status = await asyncio.to_thread(gateway.ready)
        seen.ready[status] += 1
        seen.slowest_ready = max(seen.slowest_ready, time.monotonic() - began)
        if gateway.alive():
            seen.peak_mb = max(seen.peak_mb, gateway.rss_mb())
        await asyncio.sleep(0.25)


async def start_canary(seen: Seen) -> tuple[asyncio.Server, int]:
    """Listen where nobody should call."""

    def called(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.strangers += 1
        writer.close()

    server = await asyncio.start_server(called, "127.0.0.1", 0)
    port: int = server.sockets[0].getsockname()[1]
    return server, port


async def normal_request(gateway: Gateway, number: int) -> bytes:
    """Send an honest request; return the head of its reply."""
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    body = b'{"model":"openai/davinci","messages":[]}'
    head = "POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n"
    writer.write(f"{head}x-trueclock-tags: n={number}\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body)
    reply = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    return reply.partition(b"\r\n")[0]


async def prove(options: argparse.Namespace, work: Path) -> int:
    """Carry out the proof; return the exit status."""
    claims, seen, upstream = Claims("fuzz"), Seen(), HostileUpstream()
    canary, canary_port = await start_canary(seen)
    gateway = Gateway(f"http://127.0.0.1:{await upstream.start()}", work / "data", work / "gateway.log")
    await asyncio.to_thread(gateway.start)
    try:
        await fuzz(options, gateway, seen, options.seconds / 5, TARGETS + canary_targets(canary_port))
        await hostile_replies(claims, gateway, 200 if options.short else 1000)
        files, memory = await quiet(gateway, upstream)
        await fuzz(options, gateway, seen, options.seconds * 4 / 5, TARGETS + canary_targets(canary_port))
        check(claims, gateway, seen, await quiet(gateway, upstream), (files, memory))
        honest = await normal_request(gateway, HONEST_NUMBER) if gateway.alive() else b"dead"
        claims.claim(
            "an honest request is answered and recorded afterwards",
            await served(gateway, honest, HONEST_NUMBER),
            honest,
        )
    finally:
        canary.close()
        upstream.close()
        gateway.kill()
    spread = ", ".join(f"{status}: {count}" for status, count in sorted(seen.statuses.items()))
    return claims.finish(
        f"{seen.sent} hostile requests in {options.seconds:.0f} s; replies {spread}; seed {options.seed}"
    )


async def fuzz(
    options: argparse.Namespace, gateway: Gateway, seen: Seen, seconds: float, targets: tuple[str, ...]
) -> None:
    """Let all clients be hostile for some seconds, watched."""
    deadline = time.monotonic() + seconds
    clients = (
        annoy_until(deadline, gateway, seen, hash((options.seed, seen.sent, client)), targets)
        for client in range(options.clients)
    )
    await asyncio.gather(watch(deadline, gateway, seen), *clients)


async def ended(gateway: Gateway, evil: int) -> bool:
    """Ask honestly for one hostile reply; tell whether it came to an end, of whatever kind, soon."""
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    body = b'{"model":"openai/davinci","messages":[],"stream":%s}' % (b"true" if evil % 2 else b"false")
    head = f"POST /v1/chat/completions?evil={evil} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n"
    writer.write(f"{head}x-trueclock-tags: n={evil}\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body)
    size = 0
    try:
        async with asyncio.timeout(HANG_SECONDS):
            while size < READ_LIMIT and (part := await reader.read(65536)):
                size += len(part)
    except ConnectionError:
        pass  # a break is an end
    except TimeoutError:
        return False
    finally:
        writer.transport.abort()
    return True


async def hostile_replies(claims: Claims, gateway: Gateway, count: int) -> None:
    """Ask for so many hostile replies: each must end when the upstream does, and have its one event."""
    hanging: list[int] = []
    limit = asyncio.Semaphore(8)

    async def one(evil: int) -> None:
        async with limit:
            if not await ended(gateway, evil):
                hanging.append(evil)

    await asyncio.gather(*(one(evil) for evil in range(1, count + 1)))
    text = f"evil={sorted(hanging)[:5]}, {len(hanging)} of {count}" if hanging else f"all {count}"
    claims.claim(f"a hostile reply ends within {HANG_SECONDS:.0f} s of the upstream's end", not hanging, text)
    counted = numbers(await asyncio.to_thread(gateway.events))
    without = [evil for evil in range(1, count + 1) if counted[evil] != 1]
    text = f"evil={without[:5]}, {len(without)} of {count}" if without else f"all {count}"
    claims.claim("each hostile reply has its one event", not without, text)


async def quiet(gateway: Gateway, upstream: HostileUpstream) -> tuple[int, float]:
    """Let everything end; return the open files and the memory that are left."""
    for writer in list(upstream.writers):
        writer.transport.abort()
    if not gateway.alive():
        return 0, 0.0
    least = gateway.open_files()
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        await asyncio.sleep(0.25)
        least = min(least, gateway.open_files())
    return least, gateway.rss_mb()


async def served(gateway: Gateway, head: bytes, number: int) -> bool:
    """Tell whether an honest request was answered, and is among the events."""
    events = await asyncio.to_thread(gateway.events)
    return head.startswith(b"HTTP/1.1 200") and numbers(events)[number] == 1


def check(claims: Claims, gateway: Gateway, seen: Seen, after: tuple[int, float], before: tuple[int, float]) -> None:
    """State the claims."""
    claims.claim("the gateway is alive", gateway.alive(), "" if gateway.alive() else gateway.tail())
    claims.claim("5xx without a JSON error: 0", not seen.mute, seen.mute[:3] or sum(seen.statuses.values()))
    text = f"{seen.ready.total()} asked, slowest {1000 * seen.slowest_ready:.0f} ms; {dict(seen.ready)}"
    claims.claim("/health/ready stayed 200", set(seen.ready) == {200}, text)
    claims.claim(f"memory peaks below {PEAK_MB} MB", seen.peak_mb < PEAK_MB, f"{seen.peak_mb:.0f} MB")
    text = f"{before[1]:.0f} MB after a fifth of it, {after[1]:.0f} MB after all"
    claims.claim(f"memory grows by less than {GROWTH_MB} MB", after[1] - before[1] < GROWTH_MB, text)
    claims.claim("no file descriptors leak", after[0] <= before[0] + MORE_FILES, f"{before[0]}, then {after[0]}")
    claims.claim("nobody called the canary", seen.strangers == 0, seen.strangers)
    tracebacks = gateway.log.read_text(errors="replace").count("Traceback (most recent call last)")
    claims.claim("no traceback in its log", tracebacks == 0, tracebacks)
    models = (
        {dict(labels)["model"] for labels in gateway.totals().get("trueclock_requests_total", {})}
        if gateway.alive()
        else set()
    )
    claims.claim("the label `model` is bounded", len(models) <= 102, f"{len(models)} values")
    check_records(claims, gateway)


def check_records(claims: Claims, gateway: Gateway) -> None:
    """State the claims about what was recorded of all that."""
    refused = unreadable(gateway.data)
    claims.claim("every recorded event can be read", not refused, sorted(set(refused))[:3] or "no complaint")
    recorded = stored(gateway.data)
    counted = (
        sum(wait_total(gateway, recorded, 5).get("trueclock_requests_total", {}).values()) if gateway.alive() else 0
    )
    claims.claim("every recorded event is counted", counted == recorded, f"{recorded} recorded, {counted:.0f} counted")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the proof; return 0 when every claim holds, 1 when one fails, 2 when it cannot be carried out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--short", action="store_true", help="10 seconds")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    parser.add_argument("--keep", type=Path, metavar="DIR", help="work in this directory and leave it there")
    options = parser.parse_args(argv)
    options.seconds = options.seconds or (10 if options.short else 120)
    end_on_sigterm()
    try:
        with workplace(options.keep) as work:
            return asyncio.run(prove(options, work))
    except ProofError as error:
        print(f"fuzz: FAILED: {error}")
        return 2


if __name__ == "__main__":
    sys.exit(main())
