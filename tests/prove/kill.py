#!/usr/bin/env python3
"""Nothing lost, nothing twice: kill -9 at random moments under load, restart at once, and count.

    python tests/prove/kill.py                            # 20 kills, 20,000 whole replies or more
    python tests/prove/kill.py --kills 3 --requests 2000  # the same as --short

Every request carries its number in `x-trueclock-tags`. Afterwards: no reply that the client had whole is
without its event; no number has two; what /metrics shows equals a recount of the log, denoised runtimes too,
though baselines changed meanwhile. Outcomes are posted all the while: each that was accepted is there, and counts
once, and so does every request of a problem. Then the same check is made to fail, thrice: with events deleted, with one
doubled, and with replies counted as whole that were cut.
"""

import argparse
import asyncio
import random
import shutil
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from numbered_load import Load, Outcome
from posted_outcomes import Posting
from proving import (
    ENV,
    ROOT,
    Claims,
    Gateway,
    ProofError,
    Totals,
    end_on_sigterm,
    events_of,
    numbers,
    parse_totals,
    stored,
    wait_total,
    workplace,
)

HERE = Path(__file__).resolve().parent
PATIENCE_SECONDS = 120.0


async def punish(gateway: Gateway, load: Load, posting: Posting, options: argparse.Namespace) -> list[float]:
    """Kill and restart the gateway under load; return the seconds that each restart took."""
    clients = asyncio.gather(load.run(options.clients), posting.run(lambda: load.running))
    restarts = []
    for kill in range(1, options.kills + 1):
        await reach(load, options.requests * kill // options.kills)
        await asyncio.sleep(load.rng.uniform(0, 0.05))  # any moment, not one that the count picks
        await asyncio.to_thread(gateway.kill)
        began = time.monotonic()
        await asyncio.to_thread(gateway.start)
        restarts.append(time.monotonic() - began)
    load.running = False
    await asyncio.wait_for(clients, PATIENCE_SECONDS)
    return restarts


async def reach(load: Load, whole: int) -> None:
    """Wait until so many replies came whole."""
    before, deadline = -1, time.monotonic() + PATIENCE_SECONDS
    while len(load.outcome.whole) < whole:
        if len(load.outcome.whole) != before:
            before, deadline = len(load.outcome.whole), time.monotonic() + PATIENCE_SECONDS
        if time.monotonic() > deadline:
            raise ProofError(f"no reply for {PATIENCE_SECONDS:.0f} s after {before} whole ones")
        await asyncio.sleep(0.01)


def start_upstream(work: Path) -> tuple[subprocess.Popen[bytes], str]:
    """Start the scripted upstream in its own process; return it and its address."""
    command = [sys.executable, str(HERE / "scripted_upstream.py")]
    with (work / "upstream.log").open("wb") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, env=ENV)
    assert process.stdout is not None
    return process, process.stdout.readline().decode().strip()


def lost(outcome: Outcome, counted: Counter[int], *, cut_too: bool = False) -> int:
    """Count the replies received whole whose request has no event."""
    return len((outcome.whole | outcome.cut if cut_too else outcome.whole) - counted.keys())


def twice(counted: Counter[int]) -> int:
    """Count the request numbers that have more than one event."""
    return sum(count > 1 for count in counted.values())


def recount(data: Path) -> Totals:
    """Count the log of a data directory again: `gateway events`, enriched and summed from nothing."""
    listing = subprocess.Popen(
        [sys.executable, "-m", "gateway.cli", "events", "--data-dir", str(data)],
        stdout=subprocess.PIPE,
        cwd=ROOT,
        env=ENV,
    )
    command = [sys.executable, str(HERE / "recount.py")]
    done = subprocess.run(command, stdin=listing.stdout, capture_output=True, text=True, cwd=ROOT, env=ENV, check=False)
    if listing.wait() or done.returncode:
        raise ProofError(f"the recount failed: {done.stderr.strip()[-500:]}")
    return parse_totals(done.stdout)


def differences(shown: Totals, counted: Totals) -> list[str]:
    """Return the counters of a recount that /metrics shows otherwise; equal means to the last bit.

    Changes of baselines are no events, so that no recount of events can count them.
    """
    return [
        f"{name}{dict(labels)}: shown {shown.get(name, {}).get(labels)}, counted {value}"
        for name, series in counted.items()
        if not name.startswith("trueclock_baseline_")
        for labels, value in series.items()
        if shown.get(name, {}).get(labels) != value
    ]


def plain_sums(events: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Sum the enriched events as they were printed, without any code of the stream."""
    both = [e for e in events if e["raw_runtime_seconds"] is not None and e["idealized_runtime_seconds"] is not None]
    covered = [e for e in both if e["exclusion_reason"] is None]
    denoised = [e for e in events if e["denoised_runtime_seconds"] is not None and e["exclusion_reason"] is None]
    both = [e for e in denoised if e["idealized_runtime_seconds"] is not None]
    return {
        "trueclock_requests_total": len(events),
        "trueclock_raw_runtime_seconds_total": sum(e["raw_runtime_seconds"] for e in covered),
        "trueclock_idealized_runtime_seconds_total": sum(e["idealized_runtime_seconds"] for e in covered),
        "trueclock_raw_of_denoised_runtime_seconds_total": sum(e["raw_runtime_seconds"] for e in denoised),
        "trueclock_denoised_runtime_seconds_total": sum(e["denoised_runtime_seconds"] for e in denoised),
        "trueclock_decomposed_requests_total": len(both),
        "trueclock_denoised_of_decomposed_runtime_seconds_total": sum(e["denoised_runtime_seconds"] for e in both),
    }


def sums_differ(shown: Totals, events: Sequence[dict[str, Any]]) -> list[str]:
    """Compare /metrics with the plain sums, on the primary stack, to 1e-9."""
    primary = {event["stack"] for event in events if event["stack"]}
    found = []
    for name, value in plain_sums(events).items():
        series = shown.get(name, {}).items()
        total = sum(v for labels, v in series if dict(labels).get("stack") in {None, *primary})
        if abs(total - value) > 1e-9 * max(1.0, value):
            found.append(f"{name}: shown {total}, summed {value}")
    return found


def check(claims: Claims, gateway: Gateway, outcome: Outcome, options: argparse.Namespace) -> None:
    """State the claims of the proof itself."""
    events = gateway.events()
    counted, totals = numbers(events), wait_total(gateway, len(events))
    claims.claim("every row of the log is printed", len(events) == stored(gateway.data), stored(gateway.data))
    claims.claim("enough replies came whole", len(outcome.whole) >= options.requests, len(outcome.whole))
    claims.claim("replies received whole without an event: 0", lost(outcome, counted) == 0, lost(outcome, counted))
    claims.claim("request numbers with two events: 0", twice(counted) == 0, twice(counted))
    claims.claim("events of requests never sent: 0", not counted.keys() - outcome.sent)
    claims.claim("every whole reply was the upstream's", not outcome.odd, list(outcome.odd.values())[:2] or "all 200")
    wrong = [e for e in events if numbers([e]).keys() & outcome.whole and (e["status"] != 200 or e["exclusion_reason"])]
    claims.claim("whole replies are recorded as completed", not wrong, [brief(e) for e in wrong[:3]] or len(events))
    versions = {e["baseline_version"] for e in events if e["denoised_runtime_seconds"] is not None}
    claims.claim("events were denoised, by several baselines", len(versions) > 1, f"{len(versions)} versions")
    apart = differences(totals, recount(gateway.data))
    claims.claim("/metrics equals a recount of the log, bit for bit", not apart, apart[:3] or f"{len(events)} events")
    apart = sums_differ(totals, events)
    claims.claim("/metrics equals the sums of the printed events", not apart, apart[:3] or plain_sums(events))


def brief(event: dict[str, Any]) -> dict[str, Any]:
    """Pick the fields that say what became of a request."""
    return {key: event[key] for key in ("status", "error_class", "exclusion_reason", "finish_reason", "tags")}


def controls(claims: Claims, gateway: Gateway, outcome: Outcome, work: Path) -> None:
    """Make the check fail: a check that cannot fail proves nothing."""
    copy = Gateway(gateway.upstream, work / "tampered", work / "tampered.log")
    shutil.copytree(gateway.data, copy.data)
    tamper(copy.data, outcome)
    events = events_of(copy.data)
    counted = numbers(events)
    claims.claim("control: 7 deleted events are found missing", lost(outcome, counted) == 7, lost(outcome, counted))
    claims.claim("control: a doubled event is found", twice(counted) == 1, twice(counted))
    copy.start()
    try:
        apart = differences(copy.totals(), recount(copy.data))
    finally:
        copy.stop()
    claims.claim("control: a tampered log no longer equals the totals", bool(apart), f"{len(apart)} series differ")
    cut = lost(outcome, numbers(gateway.events()), cut_too=True)
    claims.claim("control: counting cut replies as whole finds some without an event", cut > 0, cut)


def tamper(data: Path, outcome: Outcome) -> None:
    """Delete the events of 7 whole replies, and write that of another one again."""
    files = sorted(data.glob("events-*.sqlite"))
    with sqlite3.connect(files[0]) as db:
        rows = db.execute("SELECT row, event FROM events ORDER BY row").fetchall()
        whole = [row for row, event in rows if find_numbers(event) & outcome.whole]
        db.executemany("DELETE FROM events WHERE row = ?", [(row,) for row in whole[:7]])
        db.execute(
            "INSERT INTO events (ended, caller, event) SELECT ended, caller, event FROM events WHERE row = ?",
            (whole[7],),
        )
    db.close()


def find_numbers(event: bytes) -> set[int]:
    """Return the request numbers in a stored event."""
    return {int(part.split(b'"', 1)[0]) for part in event.split(b'"n=')[1:]}


def prove(options: argparse.Namespace, work: Path) -> int:
    """Carry out the proof; return the exit status."""
    claims, load_rng = Claims("kill"), random.Random(options.seed)
    upstream, address = start_upstream(work)
    gateway = Gateway(address, work / "data", work / "gateway.log")
    try:
        gateway.start()
        load = Load(gateway.port, load_rng)
        posting = Posting(gateway.port)
        restarts = asyncio.run(punish(gateway, load, posting, options))
        check(claims, gateway, load.outcome, options)
        posting.check(claims, gateway, gateway.events())
        gateway.stop()
        controls(claims, gateway, load.outcome, work)
    finally:
        upstream.kill()
        if hasattr(gateway, "process"):
            gateway.kill()
    outcome, slowest = load.outcome, max(restarts)
    summary = f"{options.kills} kills, {len(outcome.sent)} sent, {len(outcome.whole)} whole, {len(outcome.cut)} cut"
    return claims.finish(f"{summary}; slowest restart {slowest:.2f} s; seed {options.seed}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the proof; return 0 when every claim holds, 1 when one fails, 2 when it cannot be carried out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int)
    parser.add_argument("--requests", type=int, help="whole replies in all")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--short", action="store_true", help="3 kills, 2,000 requests")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    parser.add_argument("--keep", type=Path, metavar="DIR", help="work in this directory and leave it there")
    options = parser.parse_args(argv)
    options.kills = options.kills or (3 if options.short else 20)
    options.requests = options.requests or (2000 if options.short else 20_000)
    end_on_sigterm()
    try:
        with workplace(options.keep) as work:
            return prove(options, work)
    except ProofError as error:
        print(f"kill: FAILED: {error}")
        return 2


if __name__ == "__main__":
    sys.exit(main())
