#!/usr/bin/env python3
"""How long trueclock takes to start, what it imports, and whether its memory stays flat.

python tests/bench/gateway/start_memory.py           # 15 starts, 2 x 100,000 requests, 2 x 64 streams
python tests/bench/gateway/start_memory.py --short   # 3 starts, 2 x 5,000 requests; timings only shown
"""

import argparse
import http.client
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from bench_peers import KEY, MODEL, TRUECLOCK, Setting, start_mock, start_peer, trueclock
from bench_phases import FULL_SPEED, PACED, PATH, Phase, control, run_load
from bench_processes import (
    BUILD,
    BenchError,
    Process,
    build_go,
    cores,
    end_on_sigterm,
    free_port,
    pinned,
    start,
)

START_SECONDS, RSS_MB, GROWTH_MB = 1.0, 120.0, 6.0
FORBIDDEN = ("litellm", "torch", "faust", "transformers", "numpy", "aiokafka", "kafka")
REQUESTS = Phase("requests", 64)
STREAMS = Phase("streams", 64, stream=True, usage=False, pacing=PACED)


def first_request(port: int, deadline: float) -> None:
    """Send proxied requests until one succeeds."""
    body = json.dumps({"model": MODEL, "messages": [{"role": "user", "content": "hello"}]})
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
    while time.monotonic() < deadline:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("POST", PATH, body, headers)
            if connection.getresponse().status == 200:
                return
        except OSError:
            time.sleep(0.002)
        finally:
            connection.close()
    raise BenchError(f"no proxied request succeeded on port {port}")


def start_seconds(setting: Setting, number: int) -> float:
    """Start a gateway on a fresh data directory; return the seconds to its first proxied request."""
    port = free_port()
    fresh = Setting(setting.upstream_port, setting.core, setting.work / f"start-{number}", None)
    command = trueclock(fresh, port)
    began = time.monotonic()
    with pinned(setting.core):
        process = start(TRUECLOCK, command, port=port, log=fresh.work / "log")
    try:
        first_request(port, began + 30)
        return time.monotonic() - began
    finally:
        process.stop()


def imported(setting: Setting) -> set[str]:
    """Return the top-level packages that a gateway has imported once it has served a request and is idle."""
    port, log = free_port(), setting.work / "imports.log"
    fresh = Setting(setting.upstream_port, setting.core, setting.work / "imports", None)
    python, *rest = trueclock(fresh, port)
    with pinned(setting.core):
        process = start(TRUECLOCK, [python, "-X", "importtime", *rest], port=port, log=log)
    try:
        first_request(port, time.monotonic() + 30)
        time.sleep(1)  # for what would be imported late, by a timer or a thread
    finally:
        process.stop()
    lines = (line for line in log.read_text(errors="replace").splitlines() if line.startswith("import time:"))
    return {line.rsplit("|", 1)[1].strip().split(".")[0] for line in lines}


def memory(setting: Setting, requests: int) -> dict[str, float]:
    """Return the memory in MB: idle, and after each of two equal loads of requests and 64 streams."""
    process = start_peer(TRUECLOCK, setting)
    try:
        first_request(process.port, time.monotonic() + 30)
        time.sleep(1)
        sizes = {"idle": rss(process)}
        for half in (requests, 2 * requests):
            control(setting.upstream_port, FULL_SPEED)
            done = run_load(REQUESTS, process.port, 600, requests)
            control(setting.upstream_port, PACED)
            run_load(STREAMS, process.port, 3)
            if done["failed"] or done["requests"] != requests:
                raise BenchError(f"{done['failed']:.0f} of {requests} requests failed")
            time.sleep(2)  # the enrichment's rest
            sizes[f"after {half:,} requests"] = rss(process)
        return sizes
    finally:
        process.stop()


def rss(process: Process) -> float:
    """Return the resident MB of the process tree, as `ps` shows it."""
    texts = [Path(f"/proc/{pid}/status").read_text() for pid in process.tree()]
    return sum(int(text.split("VmRSS:")[1].split()[0]) for text in texts) / 1024


def run(options: argparse.Namespace, work: Path) -> int:
    """Measure and report; return the exit status."""
    mock_binary, _ = build_go("mock"), build_go("load")
    gateway_core, load_core = cores()
    setting = Setting(free_port(), gateway_core, work, None)
    mock = start_mock(setting, mock_binary, load_core)
    try:
        mock.wait_ready()
        seconds = [start_seconds(setting, number) for number in range(options.starts)]
        packages = imported(setting)
        sizes = memory(setting, options.requests)
    finally:
        mock.stop()
    return report(options, seconds, packages, sizes)


def report(options: argparse.Namespace, seconds: list[float], packages: set[str], sizes: dict[str, float]) -> int:
    """Print each claim and the summary; write the JSON file."""
    idle, first, last = sizes.values()
    found = sorted(packages.intersection(FORBIDDEN))
    start_text = f"median {median(seconds):.2f} s of {len(seconds)} ({min(seconds):.2f} to {max(seconds):.2f})"
    claims: list[tuple[str, bool, Any]] = [
        (
            f"start to first proxied request < {START_SECONDS} s",
            options.short or median(seconds) < START_SECONDS,
            start_text,
        ),
        ("imports are known", "aiohttp" in packages, f"{len(packages)} packages"),
        (f"none of {', '.join(FORBIDDEN)} imported", not found, found or "none"),
        (f"RSS idle < {RSS_MB:.0f} MB", idle < RSS_MB, f"{idle:.0f} MB"),
        (
            f"RSS under load < {RSS_MB:.0f} MB",
            max(first, last) < RSS_MB,
            f"{first:.0f} MB, then {last:.0f} MB",
        ),
        (
            f"RSS flat: the second half adds < {GROWTH_MB:.0f} MB",
            last - first < GROWTH_MB,
            f"{last - first:+.1f} MB",
        ),
    ]
    for text, holds, detail in claims:
        print(f"{'ok    ' if holds else 'FAILED'} {text}: {detail}", flush=True)
    options.json.write_text(
        json.dumps({"start_seconds": seconds, "rss_mb": sizes, "forbidden": found}, indent=1) + "\n"
    )
    failed = [text for text, holds, _ in claims if not holds]
    sizes_text = ", ".join(f"{name} {size:.0f} MB" for name, size in sizes.items())
    print(f"start_memory: {'FAILED: ' + '; '.join(failed) if failed else 'ok'}: start {start_text}; RSS {sizes_text}")
    return 1 if failed else 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run it; return 0 when every claim holds, 1 when one fails, 2 when it cannot run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--starts", type=int)
    parser.add_argument("--requests", type=int, help="of each half")
    parser.add_argument("--short", action="store_true", help="3 starts, 2 x 5,000 requests; the start is only shown")
    parser.add_argument("--json", type=Path, default=BUILD / "start_memory.json", metavar="FILE")
    options = parser.parse_args(argv)
    options.starts = options.starts or (3 if options.short else 15)
    options.requests = options.requests or (5000 if options.short else 100_000)
    end_on_sigterm()
    BUILD.mkdir(exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(dir=BUILD, prefix="run-") as work:
            return run(options, Path(work))
    except (BenchError, subprocess.SubprocessError, OSError) as error:
        print(f"start_memory: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
