#!/usr/bin/env python3
"""What one event costs on the gateway's core, and what 10,000 (upstream, model) pairs need.

    python tests/bench/stream/bench.py           # 3 rounds of 20,000 events; 10,000 pairs; four minutes
    python tests/bench/stream/bench.py --short   # 2 rounds of 3,000 events; 2,000 pairs; targets are only shown

Costs and prices may at most double what enrichment takes without them: that row is of models that are billed and
served, the most there is to work out.

Every round measures every step, so that a drift of the machine hits all alike; the figure is the best round's, as
whatever else the machine does can only add to it. Times are the process's own (CPU), the garbage collector's share
included. A pair is refitted often while it is new, so the first half of the events and the second are told apart: the
target is the second's. The models have rows in the shipped tables.
"""

import argparse
import gc
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path
from typing import Any

from msgspec import structs
from pairs import memory

from stream.coefficients import load_tables
from stream.denoise import Denoiser
from stream.embedded import EmbeddedStream
from stream.enrich import enrich
from stream.events import decode_event, encode_event
from stream.metrics import Metrics
from stream.rollup import Rollup
from stream.simulate import Simulation

TARGET_US = 10.0
SAVED_EVERY = 50  # events: a gateway saves once a second
REFITS = 5  # at a save, as the embedded stream
MODELS = {"sim-large": "openai/davinci", "sim-small": "ai21/j1-jumbo", "sim-code": "ai21/j1-grande"}
BILLED = {"sim-large": "gpt-4o", "sim-small": "gpt-4o-mini", "sim-code": "gpt-4.1"}
TABLES = load_tables(assume={"gpt-4o": "llama-3.1-405b", "gpt-4o-mini": "llama-3.1-8b", "gpt-4.1": "llama-3.1-70b"})
BARE = replace(TABLES, constants=None, prices=None, found={}, functions={}, known_costs={})
MOST_TIMES = 2.0
Take = Callable[[bytes], object]
Save = Callable[[], object]
Make = Callable[[Path], tuple[Take, Save]]
"""What is done with each event, and at each save; given a directory for files"""


def nothing() -> None:
    """Save nothing."""


def lines(events: int, scenario: str, models: Mapping[str, str]) -> list[bytes]:
    """Simulated events as the log holds them, of models that have rows."""
    found = []
    for simulated in Simulation(1, events, scenario, rate=10.0):
        event = simulated.event
        model = models.get(event.model or "", event.model)
        found.append(encode_event(structs.replace(event, model=model, provider="openai")))
    return found


def decode_alone(_work: Path) -> tuple[Take, Save]:
    """The floor: every event has to be read."""
    return decode_event, nothing


def and_enrich_bare(_work: Path) -> tuple[Take, Save]:
    """Add the idealized runtimes alone: no costs, no prices."""
    return lambda line: enrich(decode_event(line), BARE), nothing


def and_enrich(_work: Path) -> tuple[Take, Save]:
    """Add the idealized runtimes on the shipped stacks, costs and prices; no baselines."""
    return lambda line: enrich(decode_event(line), TABLES), nothing


def and_denoise(_work: Path) -> tuple[Take, Save]:
    """Add the denoised runtime too, learn from it, and refit at every save."""
    denoiser = Denoiser()

    def take(line: bytes) -> None:
        denoiser.observe(enrich(decode_event(line), TABLES, denoiser.baselines))

    return take, lambda: denoiser.refresh(REFITS)


def and_count(_work: Path) -> tuple[Take, Save]:
    """Count it for /metrics and by time."""
    denoiser, metrics, rollup = Denoiser(), Metrics(), Rollup()

    def take(line: bytes) -> None:
        enriched = enrich(decode_event(line), TABLES, denoiser.baselines)
        rollup.observe(metrics.observe(enriched))
        denoiser.observe(enriched)

    return take, lambda: denoiser.refresh(REFITS)


def whole_stream(work: Path) -> tuple[Take, Save]:
    """The embedded stream as it runs in the gateway: all of it, with its saves to disk."""
    stream = EmbeddedStream(work / "stream.sqlite", TABLES)
    stream.resume("events-0", "bench", 0)
    waiting: list[bytes] = []

    def save() -> None:
        row = stream.cursor("events-0").row
        stream.take("events-0", enumerate(waiting, row + 1))
        waiting.clear()
        stream.save()

    return waiting.append, save


STEPS: dict[str, Make] = {
    "decode (the floor)": decode_alone,
    "+ enrich, runtimes alone": and_enrich_bare,
    "+ enrich": and_enrich,
    "+ enrich, denoise": and_denoise,
    "+ enrich, denoise, count": and_count,
    "the embedded stream, saves too": whole_stream,
}
FLOOR, BARELY, ENRICHED, DENOISED = list(STEPS)[:4]


@dataclass(frozen=True, slots=True)
class Cost:
    """Microseconds per event of the first half and of the second; milliseconds of the longest save."""

    first: float = inf
    second: float = inf
    save: float = inf

    def better(self, other: "Cost") -> "Cost":
        """The smaller one of each."""
        return Cost(min(self.first, other.first), min(self.second, other.second), min(self.save, other.save))


def once(make: Make, batch: list[bytes]) -> Cost:
    """Measure one step once."""
    with tempfile.TemporaryDirectory(prefix="trueclock-bench-") as work:
        take, save = make(Path(work))
        gc.collect()
        halves, longest = [], 0.0
        middle = len(batch) // 2
        for half in (batch[:middle], batch[middle:]):
            began = time.process_time()
            for start in range(0, len(half), SAVED_EVERY):
                for line in half[start : start + SAVED_EVERY]:
                    take(line)
                saving = time.process_time()
                save()
                longest = max(longest, time.process_time() - saving)
            halves.append((time.process_time() - began) / len(half) * 1e6)
        return Cost(halves[0], halves[1], longest * 1e3)


def measure(batch: list[bytes], rounds: int) -> dict[str, Cost]:
    """Measure every step in every round; return the best of each."""
    best = dict.fromkeys(STEPS, Cost())
    for _ in range(rounds):
        for name, make in STEPS.items():
            best[name] = best[name].better(once(make, batch))
    return best


def memory_apart(pairs: int, each: int, most: int) -> dict[str, float]:
    """Measure memory in a process of its own, as a big one hardly gives any back."""
    command = [sys.executable, __file__, "--memory", f"{pairs},{each},{most}"]
    done = subprocess.run(command, capture_output=True, check=True, text=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def report(options: argparse.Namespace) -> int:
    """Measure, print and judge; return the exit status."""
    missed: list[str] = []
    for scenario, models in (("default", MODELS), ("many", MODELS), ("mixed", MODELS), ("default", BILLED)):
        batch = lines(options.events, scenario, models)
        costs = measure(batch, options.rounds)
        print(f"\n{scenario}{', billed' if models is BILLED else ''}: {len(batch):,} events, us per event")
        print(f"  {'':32}{'first half':>12}{'second half':>13}{'over the floor':>16}{'longest save, ms':>18}")
        for name, cost in costs.items():
            over = cost.second - costs[FLOOR].second
            print(f"  {name:32}{cost.first:12.2f}{cost.second:13.2f}{over:16.2f}{cost.save:18.2f}", flush=True)
        alone = costs[BARELY].second - costs[FLOOR].second
        times = (costs[ENRICHED].second - costs[FLOOR].second) / alone
        print(f"  enrichment with costs and prices: {times:.2f}x of runtimes alone")
        if models is BILLED and times > MOST_TIMES and not options.short:
            missed.append(f"costs and prices make enrichment {times:.2f}x")
        own = costs[DENOISED].second - costs[FLOOR].second
        if own > TARGET_US and not options.short:
            missed.append(f"{scenario}: enrich and denoise {own:.2f} us")
    print(
        f"\nmemory of pairs in a Denoiser\n  {'pairs':>8}{'events each':>13}{'MB':>8}{'KB a pair':>11}{'saved MB':>10}"
    )
    for pairs, each in options.memory_rows:
        found = memory_apart(pairs, each, options.most_pairs)
        kept = min(pairs, options.most_pairs)
        print(f"  {pairs:8,}{each:13,}{found['mb']:8.1f}{found['mb'] / kept * 1024:11.2f}{found['saved_mb']:10.1f}")
    verdict = f"FAILED: {'; '.join(missed)}" if missed else "ok"
    print(f"bench: {verdict}: enrich and denoise at most {TARGET_US:.0f} us an event on top of decoding")
    return 1 if missed else 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run it; return 0, or 1 when the target is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="2 rounds, 2,000 pairs; targets are only shown")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--memory", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.memory:
        pairs, each, most = map(int, options.memory.split(","))
        result: dict[str, Any] = memory(pairs, each, most)
        print(json.dumps(result))
        return 0
    options.rounds = options.rounds or (2 if options.short else 3)
    options.events = 3000 if options.short else 20_000
    options.most_pairs = 2000 if options.short else 10_000
    most = options.most_pairs
    options.memory_rows = [(most, 1), (most, 40), (most * 6 // 5, 10)]
    if not options.short:
        options.memory_rows.append((most, 400))
    return report(options)


if __name__ == "__main__":
    sys.exit(main())
