#!/usr/bin/env python3
"""How long the profiler's commands take on much data: whole commands, start of the interpreter included.

    python tests/bench/profiler/bench.py           # 3 rounds of each; targets enforced
    python tests/bench/profiler/bench.py --short   # 1 round; targets only shown

Wall time, the best round's, as whatever else the machine does can only add to it.
"""

import argparse
import csv
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).parents[3]
SAMPLES = ROOT / "profiler" / "samples" / "measured-runtimes.csv"
MODELS = ("openai/davinci", "ai21/j1-jumbo", "openai/ada", "together/gpt-j-6b")
REQUESTS = 1_000_000
RUNS = 4_000
FIT_SECONDS, ESTIMATE_SECONDS = 2.0, 3.0
Make = Callable[[Path], list[str]]
"""Writes what a command needs into a directory, and gives its arguments."""


def requests(work: Path) -> list[str]:
    """A million requests, prompts and outputs spread as in production: a few hundred tokens, some of them thousands."""
    number = random.Random(1)
    with (work / "requests.csv").open("w", encoding="utf-8") as file:
        file.write("model,prompt_tokens,output_tokens\n")
        for _ in range(REQUESTS):
            prompt = min(int(number.lognormvariate(6.5, 1.2)) + 1, 60_000)
            output = min(int(number.lognormvariate(4.5, 1.0)) + 1, 4_000)
            file.write(f"{number.choice(MODELS)},{prompt},{output}\n")
    return ["estimate", "--csv", str(work / "requests.csv")]


def published(method: str) -> Make:
    """The paper's runs, some of them twice."""

    def make(work: Path) -> list[str]:
        with SAMPLES.open(encoding="utf-8", newline="") as file:
            header, *rows = csv.reader(file)
        return fit(work, [header, *rows, *rows[: RUNS - len(rows)]], method)

    return make


def one_model(method: str) -> Make:
    """One model at prompt sizes all over, as production has them, and 3 % noise."""

    def runs() -> Iterator[list[str]]:
        number = random.Random(2)
        yield ["hardware", "model", "prompt_tokens", "output_tokens", "runtime_seconds"]
        for _ in range(RUNS):
            prompt, output = number.randint(1, 8_000), number.choice((1, 2, 4, 8, 16, 32, 64))
            seconds = (0.02 + prompt * 2e-5 + prompt**2 * 1e-9 + (output - 1) * 0.015) * number.gauss(1, 0.03)
            yield ["mine", "m", str(prompt), str(output), f"{seconds:.4f}"]

    return lambda work: fit(work, list(runs()), method)


def fit(work: Path, rows: list[list[str]], method: str) -> list[str]:
    """The arguments of a fit of these rows."""
    with (work / "samples.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)
    return ["fit", str(work / "samples.csv"), "--method", method, "--out", str(work / "table.json")]


CASES: dict[str, tuple[Make, float]] = {
    f"estimate --csv, {REQUESTS:,} rows": (requests, ESTIMATE_SECONDS),
    f"fit, {RUNS:,} runs of 16 models": (published("posterior"), FIT_SECONDS),
    f"fit, {RUNS:,} runs of one model, all prompt sizes": (one_model("posterior"), FIT_SECONDS),
    f"fit --method paper, {RUNS:,} runs of 16 models": (published("paper"), FIT_SECONDS),
    f"fit --method paper, {RUNS:,} runs of one model": (one_model("paper"), FIT_SECONDS),
}


def best(make: Make, rounds: int) -> float:
    """Seconds of the quickest of so many runs of the command."""
    with tempfile.TemporaryDirectory(prefix="trueclock-bench-") as work:
        command = [sys.executable, "-m", "profiler.cli", *make(Path(work))]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        return min(once(command, environment, Path(work)) for _ in range(rounds))


def once(command: list[str], environment: dict[str, str], work: Path) -> float:
    """Run it once; its output goes to a file, as people would have it."""
    (work / "table.json").unlink(missing_ok=True)
    with (work / "out").open("wb") as out, (work / "err").open("wb") as err:
        began = time.perf_counter()
        done = subprocess.run(command, stdout=out, stderr=err, env=environment, cwd=work, check=False)
        seconds = time.perf_counter() - began
    if done.returncode:
        sys.exit(f"{' '.join(command)}:\n{(work / 'err').read_text(errors='replace')[-2000:]}")
    return seconds


def main() -> int:
    """Run all cases; give 1 if a target is missed and targets count."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--short", action="store_true", help="one round; targets are only shown")
    short = parser.parse_args().short
    missed = 0
    for name, (make, target) in CASES.items():
        seconds = best(make, 1 if short else 3)
        missed += seconds >= target
        print(f"{name:52} {seconds:6.2f} s   target < {target:g} s{'   MISSED' if seconds >= target else ''}")
    return 1 if missed and not short else 0


if __name__ == "__main__":
    sys.exit(main())
