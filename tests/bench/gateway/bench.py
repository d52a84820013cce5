#!/usr/bin/env python3
"""Compare trueclock with bare aiohttp, nginx, Go's ReverseProxy and LiteLLM proxy, in one run.

Mock upstream and load generator (Go) have one core, the gateway that is measured the other; those that are
not measured are paused. Every round measures every gateway, in another order, so that a drift of the machine
hits all alike; ratios are taken within a round, and the table shows their median.

    python tests/bench/gateway/bench.py           # 5 rounds, some 6 minutes
    python tests/bench/gateway/bench.py --short   # 1 round, half a minute; targets are only shown
    python tests/bench/gateway/bench.py --peers trueclock,bare_aiohttp --rounds 3
"""

import argparse
import json
import os
import platform
import re
import sys
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from bench_peers import BARE, PEERS, TRUECLOCK, Setting, Skip, start_mock, start_peer
from bench_phases import FULL_SPEED, PHASES, Phase, Sample, control, run_load, run_phase
from bench_processes import BUILD, BenchError, Process, build_go, cores, end_on_sigterm, free_port
from bench_report import Round, figures, missed, table, wrong

WARM_UP = Phase("warm", 8)


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, help="default 5; 1 with --short")
    parser.add_argument("--seconds", type=float, help="of each phase; default 4; 1.5 with --short")
    parser.add_argument("--peers", default=",".join(PEERS), help=f"of {', '.join(PEERS)}; {BARE} is always in")
    parser.add_argument(
        "--short", action="store_true", help="quick: replies and records are checked, targets only shown"
    )
    parser.add_argument("--litellm-python", type=Path, default=BUILD / "litellm" / "bin" / "python", metavar="PATH")
    parser.add_argument("--json", type=Path, default=BUILD / "bench.json", metavar="FILE", help="where all samples go")
    options = parser.parse_args(argv)
    options.rounds = options.rounds or (1 if options.short else 5)
    options.seconds = options.seconds or (1.5 if options.short else 4)
    options.peers = list(dict.fromkeys([BARE, *filter(None, options.peers.split(","))]))
    if unknown := [name for name in options.peers if name not in PEERS]:
        parser.error(f"unknown peer {unknown[0]!r}: there are {', '.join(PEERS)}")
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Run the bench; return 0, 1 when a claim fails, 2 when the bench cannot run."""
    options = arguments(argv)
    end_on_sigterm()
    BUILD.mkdir(exist_ok=True)
    try:
        # beside the binaries, not in /tmp, which may be memory: the log shall be on a real disk
        with tempfile.TemporaryDirectory(dir=BUILD, prefix="run-") as work:
            return bench(options, Path(work))
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2


def bench(options: argparse.Namespace, work: Path) -> int:
    """Build, start, measure, report."""
    binaries = {name: build_go(name) for name in ("mock", "load", "goproxy")}
    gateway_core, load_core = cores()
    setting = Setting(free_port(), gateway_core, work, options.litellm_python)
    started: list[Process] = []
    try:
        mock = start_mock(setting, binaries["mock"], load_core)
        started.append(mock)
        mock.wait_ready()
        skipped = start_all(options.peers, setting, started)
        rounds, checks = measure(options, setting, started[1:], load_core)
    finally:
        for process in started:
            process.stop()
    return report(options, rounds, skipped, checks)


def start_all(names: Sequence[str], setting: Setting, started: list[Process]) -> dict[str, str]:
    """Start and pause every peer, adding it to `started`; return those that are skipped, with the reason."""
    skipped: dict[str, str] = {}
    for name in names:
        try:
            started.append(start_peer(name, setting))
            started[-1].pause()
        except Skip as reason:
            skipped[name] = str(reason)
            print(f"skipped: {name}: {reason}", flush=True)
    return skipped


def measure(
    options: argparse.Namespace, setting: Setting, gateways: Sequence[Process], load_core: int
) -> tuple[list[Round], list[str]]:
    """Measure every gateway in every round; return the samples and what was found wrong with the records."""
    os.sched_setaffinity(0, {load_core})  # this process and the load generators that it starts
    sent = dict.fromkeys((gateway.name for gateway in gateways), 0)
    rounds: list[Round] = []
    checks: list[str] = []
    for number in range(options.rounds):
        shift = number % len(gateways)
        each: dict[str, dict[str, Sample]] = {}
        for gateway in [*gateways[shift:], *gateways[:shift]]:
            gateway.resume()
            each[gateway.name] = phases = measure_one(gateway, setting, options.seconds)
            sent[gateway.name] += int(sum(sample.get("requests", 0) for sample in phases.values()))
            if gateway.name == TRUECLOCK:
                checks += recorded(gateway, sent[TRUECLOCK])
            gateway.pause()
            print(
                f"round {number + 1}: {gateway.name} {phases['json_c64']['per_second']:,.0f} requests/s",
                flush=True,
            )
        rounds.append(each)
    return rounds, checks


def measure_one(gateway: Process, setting: Setting, seconds: float) -> dict[str, Sample]:
    """Run all phases against one gateway."""
    time.sleep(0.2)  # what it had to catch up with after its pause
    samples: dict[str, Sample] = {"idle": {"rss_mb": gateway.rss_mb()}}
    control(setting.upstream_port, FULL_SPEED)
    samples["warm"] = run_load(WARM_UP, gateway.port, min(1.0, seconds))
    for phase in PHASES:
        samples[phase.name] = run_phase(phase, gateway, setting.upstream_port, seconds, setting.work)
    samples["end"] = {"rss_mb": gateway.rss_mb()}
    return samples


def recorded(gateway: Process, sent: int, seconds: float = 20) -> list[str]:
    """Check that trueclock recorded what it was measured with: every request is in its totals soon after."""
    deadline, total = time.monotonic() + seconds, 0
    while time.monotonic() < deadline:
        with urllib.request.urlopen(f"http://127.0.0.1:{gateway.port}/metrics", timeout=10) as reply:
            text = reply.read().decode()
        samples = re.findall(r"^trueclock_requests_total(?:\{.*\})? (\S+)$", text, re.MULTILINE)
        total = int(sum(map(float, samples)))
        if total >= sent:  # wrk cuts its last requests: recorded, but not in its count
            return []
        time.sleep(0.05)
    return [f"trueclock's totals show {total} of {sent} requests {seconds:.0f} s after the load"]


def report(options: argparse.Namespace, rounds: list[Round], skipped: dict[str, str], checks: list[str]) -> int:
    """Print the table, write the JSON file, and say in the last line what holds."""
    names = [name for name in options.peers if name not in skipped]
    faults, misses = wrong(rounds) + checks, missed(rounds)
    content = {
        "when": datetime.now(UTC).isoformat(),
        "machine": platform.platform(),
        "python": platform.python_version(),
        "seconds": options.seconds,
        "skipped": skipped,
        "figures": figures(rounds, names),
        "rounds": rounds,
        "wrong": faults,
        "missed": misses,
    }
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(content, indent=1) + "\n")
    print(f"\nagainst {BARE}, medians of {len(rounds)} rounds of {options.seconds:g} s; in brackets the figure itself")
    print(table(rounds, names))
    print(f"all samples: {options.json}")
    for line in faults:
        print(f"wrong: {line}")
    if TRUECLOCK not in names:
        print("bench: trueclock was not among the peers: nothing to claim")
        return 1 if faults else 0
    failed = bool(faults) or (bool(misses) and not options.short)
    verdict = (
        f"targets missed{' (shown only)' if options.short else ''}: {'; '.join(misses)}" if misses else "targets met"
    )
    print(f"bench: {'FAILED' if failed else 'ok'}: {verdict}; wrong replies or records: {len(faults)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
