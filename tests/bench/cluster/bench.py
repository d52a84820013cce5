#!/usr/bin/env python3
"""Measure the scaled-out form on a broker of its own: throughput, lag, and what it costs the gateway.

Everything that is compared is measured in the same run, in every round in another order; the figures are medians.

    python tests/bench/cluster/bench.py                        # 3 rounds, some 20 minutes
    python tests/bench/cluster/bench.py --short                # 1 round, two minutes; targets are only shown
    python tests/bench/cluster/bench.py --only throughput,lag
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

sys.path.extend(str(Path(__file__).resolve().parents[3] / each) for each in ("", "tests/bench/gateway", "tests/prove"))

from bench_gateway import forwarding, lag, scaling, scripted_upstream
from bench_peers import Setting, start_mock
from bench_processes import BenchError, build_go, cores, end_on_sigterm, free_port, pinned
from bench_throughput import CONTENDERS, FAUST, FORMS, QUIX, TRUECLOCK, Contender, Sample, measure, quix_python

from tests.kafka_broker import Broker, missing

ROOT = Path(__file__).resolve().parents[3]
BUILD = Path(__file__).resolve().parent / "build"
PARTS = ("throughput", "forwarding", "lag", "workers")
Samples = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Claim:
    """One line of the result: what was measured, and what it should be."""

    title: str
    value: float
    shown: str
    target: str = ""
    holds: bool = True
    beyond: str = ""


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, help="default 3; 1 with --short")
    parser.add_argument("--seconds", type=float, help="of each load; default 5; 2 with --short")
    parser.add_argument("--events", type=float, help="times the usual number of events; default 1; 0.1 with --short")
    parser.add_argument("--lag-seconds", type=float, help="default 60; 10 with --short")
    parser.add_argument("--only", default=",".join(PARTS), help=f"some of {', '.join(PARTS)}")
    parser.add_argument("--contenders", help=f"some of {', '.join(one.name for one in CONTENDERS)}")
    parser.add_argument("--short", action="store_true", help="quick: results are checked, targets only shown")
    parser.add_argument("--json", type=Path, default=BUILD / "bench.json", metavar="FILE", help="where all samples go")
    options = parser.parse_args(argv)
    usual = (1, 2.0, 0.1, 10.0) if options.short else (3, 5.0, 1.0, 60.0)
    for name, value in zip(("rounds", "seconds", "events", "lag_seconds"), usual, strict=True):
        setattr(options, name, getattr(options, name) or value)
    options.only = options.only.split(",")
    if unknown := set(options.only) - set(PARTS):
        parser.error(f"unknown part {min(unknown)!r}: there are {', '.join(PARTS)}")
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Run the bench; return 0, 1 when a claim fails, 2 when the bench cannot run."""
    options = arguments(argv)
    end_on_sigterm()
    BUILD.mkdir(exist_ok=True)
    try:
        if reason := missing():
            raise BenchError(reason)
        with tempfile.TemporaryDirectory(dir=BUILD, prefix="run-", ignore_cleanup_errors=True) as work:
            return bench(options, Path(work))
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2


def bench(options: argparse.Namespace, work: Path) -> int:
    """Measure all parts, one after the other; report."""
    first, second = cores()
    samples: Samples = {}
    wrong: list[str] = []
    with broker(work, second) as served:
        brokers = served.bootstrap
        if "throughput" in options.only:
            samples["throughput"] = throughput(options, served, work)
            wrong += [f"{name}: {each['wrong']:.0f} events are wrong" for one in samples["throughput"] for name, each in one.items() if each.get("wrong")]  # fmt: skip
        if {"forwarding", "workers"} & set(options.only):
            with mock(work, first, second) as setting:
                for name, part in (("forwarding", on_and_off(brokers)), ("workers", scaling)):
                    if name in options.only:
                        samples[name], found = part(setting, options.rounds, options.seconds)
                        wrong += found
        if "lag" in options.only:
            with scripted_upstream(work, second) as port:
                samples["lag"], found = lag(Setting(port, first, work, None), brokers, 200.0, options.lag_seconds)
                wrong += found
    return report(options, samples, wrong)


@contextmanager
def broker(work: Path, core: int) -> Iterator[Broker]:
    """A broker on a core of its own, which stamps records when it has them."""
    with pinned(core):
        made = Broker(work / "kafka", heap="1g", properties={"log.message.timestamp.type": "LogAppendTime"})
        made.start()
    try:
        yield made
    finally:
        made.close()


@contextmanager
def mock(work: Path, gateway_core: int, core: int) -> Iterator[Setting]:
    """The gateway bench's mock upstream."""
    setting = Setting(free_port(), gateway_core, work, None)
    build_go("load")
    process = start_mock(setting, build_go("mock"), core)
    try:
        process.wait_ready()
        yield setting
    finally:
        process.stop()


def on_and_off(brokers: str) -> Callable[..., Any]:
    """The part `forwarding`, with its broker."""
    return lambda setting, rounds, seconds: forwarding(setting, brokers, rounds, seconds)


def throughput(options: argparse.Namespace, served: Broker, work: Path) -> list[dict[str, Sample]]:
    """Measure every contender on both forms of records in every round."""
    core, own = cores()
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {own})
    rounds: list[dict[str, Sample]] = []
    chosen = [one for one in CONTENDERS if usable(one, options.contenders)]
    number = 0
    for turn in range(options.rounds):
        each: dict[str, Sample] = {}
        shift = turn % len(chosen)
        for contender in [*chosen[shift:], *chosen[:shift]]:
            for form in FORMS:
                number += 1
                sample = measure(contender, form, served, core, work, number, options.events)
                each[f"{contender.name}, {form}"] = sample
                rate, cpu = sample["per_second"], sample["cpu_us"]
                print(f"round {turn + 1}: {contender.name}, {form}: {rate:,.0f} events/s, {cpu:.1f} us CPU", flush=True)
        rounds.append(each)
    os.sched_setaffinity(0, before)
    return rounds


def usable(contender: Contender, chosen: str | None) -> bool:
    """Whether a contender is asked for and can run; says why not."""
    if chosen and contender.name not in chosen.split(","):
        return False
    if contender.name == QUIX and quix_python() is None:
        print("skipped: quixstreams is not installed (make bench-peers)", flush=True)
        return False
    return True


# --- report


def claims(samples: Samples) -> Iterator[Claim]:
    """What the samples say."""
    yield from _throughput_claims(samples.get("throughput") or [])
    if "forwarding" in samples:
        yield from _forwarding_claims(samples["forwarding"])
    if "workers" in samples:
        ratio = median(each["2"]["per_second"] / each["1"]["per_second"] for each in samples["workers"])
        cpu = median(each["2"]["cpu_us_per_request"] / each["1"]["cpu_us_per_request"] for each in samples["workers"])
        yield Claim("2 gateway workers against 1, requests/s", ratio, f"{ratio:.2f}x", ">= 1.7x", ratio >= 1.7)
        yield Claim("  CPU a request", cpu, f"{cpu:.2f}x")
    if "lag" in samples:
        for name in ("p50", "p95", "p99"):
            value = samples["lag"][name]
            target = ("< 500 ms", value < 500) if name == "p99" else ("", True)
            yield Claim(f"lag at 200 requests/s, {name}", value, f"{value:.0f} ms", *target)


def _throughput_claims(rounds: Sequence[dict[str, Sample]]) -> Iterator[Claim]:
    for name in rounds[0] if rounds else ():
        rate, cpu = (median(each[name][field] for each in rounds) for field in ("per_second", "cpu_us"))
        least, beyond = {FORMS[0]: (30_000, "50,000"), FORMS[1]: (9_000, "")}[name.partition(", ")[2]]
        own = name.startswith(TRUECLOCK)
        target = (f">= {least:,}", rate >= least, beyond) if own else ()
        yield Claim(f"{name}, events/s", rate, f"{rate:,.0f} ({cpu:.1f} us CPU)", *target)
    names = [f"{one}, {FORMS[1]}" for one in (TRUECLOCK, FAUST)]
    if rounds and all(name in rounds[0] for name in names):
        ratio = median(each[names[0]]["per_second"] / each[names[1]]["per_second"] for each in rounds)
        yield Claim("  single events, against plain Faust", ratio, f"{ratio:.2f}x", ">= 2.5x", ratio >= 2.5)


def _forwarding_claims(rounds: Sequence[dict[str, Sample]]) -> Iterator[Claim]:
    fields = (("requests/s, 64 clients", "json_c64", "per_second"), ("p50, 64 clients", "json_c64", "p50_us"),
              ("p99, 64 clients", "json_c64", "p99_us"), ("p50, 1 client", "json_c1", "p50_us"),
              ("p99, 1 client", "json_c1", "p99_us"))  # fmt: skip
    for title, phase, field in fields:
        ratios = [each[f"on {phase}"][field] / each[f"off {phase}"][field] for each in rounds]
        change = 100 * (median(ratios) - 1)
        good = change >= -5 if field == "per_second" else change <= 5
        yield Claim(f"forwarding on against off, {title}", change, f"{change:+.1f}%", "5% at most", good)
    for state in ("off", "on"):
        used = {name: median(each[f"{state} cpu"][name] for each in rounds) for name in rounds[0]["on cpu"]}
        shown = " + ".join(f"{value:.0f}" for value in used.values())
        yield Claim(f"  CPU us a request, {state}: worker + control", sum(used.values()), shown)


def report(options: argparse.Namespace, samples: Samples, wrong: Sequence[str]) -> int:
    """Print the table, write the JSON file, and say in the last line what holds."""
    found = list(claims(samples))
    version = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False).stdout
    content = {
        "when": datetime.now(UTC).isoformat(), "machine": platform.platform(), "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(), "commit": version.strip(), "samples": samples, "wrong": list(wrong),
        "claims": {claim.title.strip(): claim.value for claim in found},
    }  # fmt: skip
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(content, indent=1) + "\n")
    width = max(len(claim.title) for claim in found)
    print()
    for claim in found:
        mark = "" if claim.holds else "  MISSED"
        beyond = f" (beyond: {claim.beyond})" if claim.beyond else ""
        print(f"{claim.title:{width}}  {claim.shown:>24}   {claim.target}{beyond}{mark}")
    for line in wrong:
        print(f"wrong: {line}")
    missed = [claim.title.strip() for claim in found if not claim.holds]
    failed = bool(wrong) or (bool(missed) and not options.short)
    verdict = (
        f"targets missed{' (shown only)' if options.short else ''}: {'; '.join(missed)}" if missed else "targets met"
    )
    print(f"bench: {'FAILED' if failed else 'ok'}: {verdict}; wrong results: {len(wrong)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
