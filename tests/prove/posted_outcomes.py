"""Outcomes that are posted while the gateway is killed: each is sent until it was accepted, and counts once."""

import asyncio
import http.client
import json
import sqlite3
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from proving import Claims, Gateway

AT_ONCE = 3
MODEL = "openai/davinci"
PROBLEMS = 40
PATIENCE_SECONDS = 30.0


def problem_of(number: int) -> str:
    """Which problem a request or an outcome of this number is of."""
    return f"problem-{number % PROBLEMS}"


def strategy_of(number: int) -> str:
    """Which strategy it is of."""
    return f"strategy-{number % 3}"


def outcome(number: int) -> dict[str, Any]:
    """The outcome of this number, the same whenever it is sent."""
    return {
        "id": f"outcome-{number}", "problem": problem_of(number), "strategy": strategy_of(number),
        "model": MODEL, "correct": number % 4 > 0,
    }  # fmt: skip


class Posting:
    """Posts outcomes in batches until told to stop. `accepted` had their 202; `again` were sent more than once."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.accepted: set[int] = set()
        self.again = 0

    async def run(self, running: Callable[[], bool]) -> None:
        """Post on, whatever happens to the gateway."""
        first = 0
        while running():
            batch = range(first, first + AT_ONCE)
            if await asyncio.to_thread(self._post, batch):
                self.accepted.update(batch)
                first += AT_ONCE
            else:
                self.again += AT_ONCE
            await asyncio.sleep(0.002)

    def _post(self, batch: range) -> bool:
        body = json.dumps([outcome(number) for number in batch])
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)) as connection:
            try:
                connection.request("POST", "/trueclock/v1/outcomes", body)
                return connection.getresponse().status == 202
            except (OSError, http.client.HTTPException):
                return False

    def check(self, claims: Claims, gateway: Gateway, events: Sequence[dict[str, Any]]) -> None:
        """State the claims about outcomes and problems."""
        numbers = Counter(int(each["id"].removeprefix("outcome-")) for each in rows(gateway.data))
        lost = self.accepted - numbers.keys()
        said = f"of {len(self.accepted)}, {self.again} sent again"
        claims.claim("accepted outcomes that are not in the log: 0", not lost, said)
        found = settled(gateway, len(numbers))
        claims.claim("each counts once", found["outcomes"] == len(numbers), found["outcomes"])
        requests = sum(event["problem"] is not None for event in events)
        claims.claim("every request of a problem counts once", found["requests"] == requests, requests)
        tried = {(each["problem"], each["strategy"]) for each in events if each["model"] == MODEL}
        sent = [each for each in map(outcome, numbers) if (each["problem"], each["strategy"]) in tried]
        right, expected = sum(each["correct"] for each in found["strategies"]), sum(each["correct"] for each in sent)
        claims.claim("right answers are those that were sent", right == expected, f"{right:g} of {len(sent)}")


def rows(data: Path) -> list[dict[str, Any]]:
    """Read the outcomes in the log of a data directory."""
    with closing(sqlite3.connect(f"file:{data / 'outcomes.sqlite'}?mode=ro", uri=True)) as db:
        return [json.loads(row) for (row,) in db.execute("SELECT event FROM events ORDER BY row")]


def settled(gateway: Gateway, outcomes: int) -> dict[str, Any]:
    """Return what the gateway says of strategies, once it has so many outcomes, or the time is up."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        with urllib.request.urlopen(f"{gateway.address}/trueclock/v1/strategies", timeout=30) as reply:
            found: dict[str, Any] = json.load(reply)
        if found["outcomes"] >= outcomes or time.monotonic() > deadline:
            return found
        time.sleep(0.05)
