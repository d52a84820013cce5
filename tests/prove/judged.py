"""Outcomes for the numbered requests of a load, posted while faults happen, and what they must come to in the end.

Whatever was answered with 202 has to count, once; what was not is posted again, as evaluators do.
"""

import asyncio
import json
import time
import urllib.request
from collections.abc import Iterable
from typing import Any

from paced_load import MODELS, problem_of

from stream.coefficients import load_tables
from stream.events import decode_enriched
from stream.problems import Ledger, ProblemRequest, decode_outcome
from stream.strategies import strategies

_PAUSE_SECONDS = 0.5
_EVERY = 50


class Judge:
    """Posts outcomes to the gateway at `url` until `running` is False; `accepted` are those that it took."""

    def __init__(self, url: str) -> None:
        self.running = True
        self.accepted: list[dict[str, Any]] = []
        self.refused = 0
        self._url = f"{url}/trueclock/v1/outcomes"
        self._next = 0

    async def run(self, sent: set[int]) -> None:
        """Judge every fiftieth request that was sent, answered or not."""
        while self.running:
            await asyncio.sleep(_PAUSE_SECONDS)
            batch = [self._outcome(number) for number in range(self._next, len(sent), _EVERY)]
            if batch and await asyncio.to_thread(self._post, batch):
                self.accepted += batch
                self._next += _EVERY * len(batch)

    def _outcome(self, number: int) -> dict[str, Any]:
        moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        model = MODELS[number // 4 % len(MODELS)]
        known = {"problem": problem_of(number), "strategy": f"s{number % 3}", "model": model}
        return {**known, "id": f"judged {number}", "correct": number % 7 < 4, "recorded_at": moment}

    def _post(self, batch: list[dict[str, Any]]) -> bool:
        """Post some; whether they were taken, as far as can be known."""
        asked = urllib.request.Request(self._url, json.dumps(batch).encode(), {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(asked, timeout=5) as answer:
                return bool(answer.status == 202)
        except OSError:
            self.refused += 1
            return False


def recounted(records: Iterable[Any], outcomes: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Return the strategies of enriched records and outcomes, worked out anew."""
    ledger = Ledger()
    for record in records:
        if (request := ProblemRequest.of(decode_enriched(record.value))) is not None:
            ledger.observe(request)
    for outcome in outcomes:
        ledger.judge(decode_outcome(json.dumps(outcome), 0.0))
    return strategies(ledger, load_tables().reference)
