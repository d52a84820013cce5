"""Requests of made-up providers, written into an event log as a worker would: what tests and benches of the page show.

A request takes `overhead + prompt * prompt_seconds + (output - 1) * per_token`, times a contention of at least 1.
"""

import random
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from gateway.log import open_log
from stream.events import RequestEvent, encode_event


@dataclass(frozen=True)
class Provider:
    """Who serves a model, and how fast when nobody else is there: seconds."""

    model: str
    upstream: str = "api.test"
    overhead: float = 0.15
    prompt_seconds: float = 0.0002
    per_token: float = 0.02
    contention: float = 0.3
    failing: float = 0.0


JUMBO = Provider("ai21/j1-jumbo", overhead=0.3, per_token=0.06)
LARGE = Provider("ai21/j1-large", per_token=0.05, contention=1.5)
DAVINCI = Provider("openai/davinci", "openai.test", per_token=0.025)
UNKNOWN = Provider("acme/secret-1", "acme.test", per_token=0.01)


def requests(
    providers: Sequence[Provider], number: int, *, seed: int = 1, seconds: float = 600.0, until: float | None = None
) -> Iterator[RequestEvent]:
    """So many requests, evenly over the `seconds` before `until` (Unix time; now)."""
    rng = random.Random(seed)
    last = time.time() if until is None else until
    for index in range(number):
        ended = last - seconds * (number - 1 - index) / max(number, 1)
        yield request(rng, rng.choice(providers), ended)


def request(rng: random.Random, provider: Provider, ended: float) -> RequestEvent:
    """One request that ended then."""
    prompt, output = rng.randint(20, 1500), rng.randint(2, 120)
    factor = 1 + rng.expovariate(1 / provider.contention)
    first = (provider.overhead + prompt * provider.prompt_seconds) * factor
    per_token = provider.per_token * factor
    raw = first + (output - 1) * per_token
    failed = rng.random() < provider.failing
    at = datetime.fromtimestamp(ended, UTC)
    return RequestEvent(
        id=f"{rng.getrandbits(128):032x}",
        started_at=at - timedelta(seconds=raw),
        ended_at=at,
        route="/v1/chat/completions",
        provider="openai",
        upstream=provider.upstream,
        model=provider.model,
        stream=True,
        status=503 if failed else 200,
        prompt_tokens=prompt,
        completion_tokens=output,
        longest_choice_tokens=output,
        usage_source="upstream",
        time_to_first_token_seconds=first,
        time_per_output_token_seconds=per_token,
        raw_runtime_seconds=raw,
        duration_seconds=raw + 0.0002,
        gateway_overhead_seconds=0.0002,
    )


def write(data_dir: Path, events: Iterator[RequestEvent] | Sequence[RequestEvent]) -> int:
    """Append events to the log of worker 0, in one commit; how many."""
    rows = [(event.ended_at.timestamp(), None, encode_event(event)) for event in events if event.ended_at]
    with closing(open_log(data_dir / "events-0.sqlite", patience=5.0)) as db, db:
        db.executemany("INSERT INTO events (ended, caller, event) VALUES (?, ?, ?)", rows)
    return len(rows)
