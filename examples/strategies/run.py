"""The example, start to end: two models, a gateway, strategies at several budgets, and what a right answer costs.

`make example`, or `python -m examples.strategies.run`, from the root of the repository.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep
from typing import Any
from urllib.parse import urljoin
from urllib.request import urlopen

from examples.strategies.measure import STACK, make_table
from examples.strategies.model import MODELS, load
from examples.strategies.picture import write_picture
from examples.strategies.strategies import Attempt, Client, StrategyError
from examples.strategies.sums import answer_of, problems, right

__all__ = ["main"]

_DIGITS = 6
_CONSTANTS = Path(__file__).with_name("constants.json")
_MEASURES = ("flops", "idealized_seconds", "dedicated_dollars")
_AT_ONCE = 4
_PATIENCE = 60.0  # seconds, for a process to start, and for the gateway to have counted everything

Strategy = Callable[[Client, str, str], Attempt]
Outcome = dict[str, Any]


def main() -> None:
    """Run it."""
    options = _options()
    folder: Path = options.out.resolve()
    shutil.rmtree(folder / "data", ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1"
    print("measuring how long the models take here, alone", flush=True)
    table = make_table({name: load(name) for name in MODELS}, folder)
    with _started("examples.strategies.server", log=folder / "server.log") as upstream:
        files = ("--config", _config(folder, upstream, table), "--data-dir", folder / "data")
        with _started("gateway.cli", "run", "--port", "0", *files, log=folder / "gateway.log") as gateway:
            print(f"the page, while this runs: {gateway}", flush=True)
            outcomes = _attempts(f"{gateway}/v1", options.problems or (24 if options.short else 100), options.short)
            (folder / "outcomes.jsonl").write_text("".join(json.dumps(outcome) + "\n" for outcome in outcomes))
            _compare(folder, table, gateway)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make example EXAMPLE=", description=__doc__)
    parser.add_argument("--short", action="store_true", help="fewer problems and budgets")
    parser.add_argument("--problems", type=int, help="how many (default: 100, or 24)")
    parser.add_argument("--out", type=Path, default=Path("build/example"), help="folder (default: build/example)")
    return parser.parse_args()


# --- what is tried


def _strategies(short: bool) -> list[Strategy]:
    """Each strategy at each of its budgets, in samples."""

    def made(name: str, budget: int, **more: Any) -> Strategy:
        def attempt(client: Client, problem: str, asked: str) -> Attempt:
            seed = zlib.crc32(f"{problem} {name} {budget}".encode())  # the same each time this runs
            found: Attempt = getattr(client, name)(problem, asked, budget, seed=seed, **more)
            return found

        return attempt

    budgets = (4, 16) if short else (2, 4, 8, 16)
    sampled = [made(name, budget) for name in ("majority", "weighted", "best_of") for budget in budgets]
    searched = [made("tree_search", budget, step=" = ") for budget in budgets[:-1]]
    return [lambda client, problem, asked: client.greedy(problem, asked), *sampled, *searched]


def _attempts(base_url: str, number: int, short: bool) -> list[Outcome]:
    """Have every model try every strategy on every problem; post what came of it, and return that."""
    strategies, questions = _strategies(short), problems(number, _DIGITS)
    clients = [Client(base_url, name, answer_of=answer_of) for name in MODELS]

    def solve(problem: str) -> list[Outcome]:
        asked = questions[problem]
        attempts = [strategy(client, problem, asked) for client in clients for strategy in strategies]
        outcomes = [attempt.outcome(correct=right(asked, attempt.answer)) for attempt in attempts]
        clients[0].post_outcomes(outcomes)
        return outcomes

    found: list[Outcome] = []
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for done, outcomes in enumerate(pool.map(solve, questions), 1):
            found += outcomes
            if sys.stdout.isatty():
                print(f"\r{done} of {number} problems", end="\n" if done == number else "", flush=True)
    return found


# --- what came of it


def _compare(folder: Path, table: Path, gateway: str) -> None:
    """Print and draw what the recorded events and the outcomes say, which is also what the gateway says."""
    recorded = _said("gateway.cli", "events", "--data-dir", folder / "data")
    (folder / "events.jsonl").write_bytes(recorded)
    told = ("outcomes", "--events", folder / "events.jsonl", "--outcomes", folder / "outcomes.jsonl")
    tables = ("--table", table, "--stack", STACK, "--constants", _CONSTANTS)
    text = _said("stream.cli", *told, *tables, *(f"--measure={name}" for name in _MEASURES))
    details = _said("stream.cli", *told, *tables, "--json")
    (folder / "strategies.json").write_bytes(details)
    write_picture(folder / "strategies.html", json.loads(details))
    print(f"\n{text.decode()}")
    _agreed(gateway, json.loads(details))
    print(f"the gateway says the same; accuracy against cost, drawn: {folder / 'strategies.html'}")
    print(f"its page again: gateway run --config {folder / 'config.yaml'} --data-dir {folder / 'data'}")


def _agreed(gateway: str, found: Mapping[str, Any]) -> None:
    """Wait until the gateway has counted everything, and says the same."""
    deadline = monotonic() + _PATIENCE
    while True:
        with urlopen(urljoin(gateway, "/trueclock/v1/strategies")) as reply:  # noqa: S310 - our own address
            if json.load(reply) == found:
                return
        if monotonic() > deadline:
            sys.exit("the gateway's strategies differ from those of the recorded events")
        sleep(0.2)


# --- processes


def _command(module: str, *arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", module, *map(str, arguments)]


def _said(module: str, *arguments: str | Path) -> bytes:
    """What a command of ours prints."""
    return subprocess.run(_command(module, *arguments), stdout=subprocess.PIPE, check=True).stdout  # noqa: S603


def _config(folder: Path, upstream: str, table: Path) -> Path:
    own = {"upstream": upstream, "tables": [str(table)], "stack": STACK, "constants": str(_CONSTANTS)}
    path = folder / "config.yaml"
    path.write_text(json.dumps({"trueclock": own}, indent=1))  # JSON is YAML
    return path


@contextmanager
def _started(module: str, *arguments: str | Path, log: Path) -> Iterator[str]:
    """A process of ours, whose first line holds its address; it is ended afterwards."""
    with log.open("wb") as errors:
        process = subprocess.Popen(  # noqa: S603 - ours
            _command(module, *arguments), stdout=subprocess.PIPE, stderr=errors, text=True
        )
    with process:
        try:
            assert process.stdout is not None
            address = re.search(r"http://127\.0\.0\.1:\d+(/v1)?", process.stdout.readline())
            if address is None:
                sys.exit(f"{module} does not start: see {log}")
            yield address[0]
        finally:
            process.terminate()


if __name__ == "__main__":
    try:
        main()
    except (StrategyError, subprocess.CalledProcessError) as error:
        sys.exit(f"example: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
