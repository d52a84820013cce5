"""Event logs and stored baselines for tests, written as the gateway writes them."""

import asyncio
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from gateway.log import LogReader, LogWriter, Retention
from stream.baselines import Baseline
from stream.events import RequestEvent, encode_event
from stream.state import Cursor, StateFile

FOREVER = Retention(days=1e6)
LATER = 1.8e9  # seconds since 1970


def event(number: int, ended: float = LATER, **fields: Any) -> RequestEvent:
    """A completed request whose id is of the gateway's own kind."""
    usual: dict[str, Any] = {
        "id": f"{round(ended * 1000):012x}{number:020x}", "model": "openai/davinci", "upstream": "u", "status": 200,
        "prompt_tokens": 100, "completion_tokens": 10, "raw_runtime_seconds": 2.0,
        "ended_at": datetime.fromtimestamp(ended, UTC),
    }  # fmt: skip
    return RequestEvent(**{**usual, **fields})


def record(data_dir: Path, *events: RequestEvent | bytes, worker: int = 0) -> str:
    """Append events to a worker's log; the log's id."""

    async def append() -> None:
        writer = LogWriter(data_dir / f"events-{worker}.sqlite", FOREVER)
        for each in events:
            data = each if isinstance(each, bytes) else encode_event(each)
            ended = LATER if isinstance(each, bytes) or each.ended_at is None else each.ended_at.timestamp()
            await writer.append(ended, None, data)
        writer.close()

    asyncio.run(append())
    with closing(LogReader(data_dir / f"events-{worker}.sqlite")) as reader:
        return reader.identity()


def baseline(version: int, seconds: float = 1.0, model: str = "openai/davinci", upstream: str | None = "u") -> Baseline:
    """One whose T(p, o) is `seconds` for prompts up to 2,000 tokens."""
    return Baseline(
        version=version, upstream=upstream, model=model, per_output_token=0.0, knots=(1, 2000), prompt_seconds=(seconds, seconds),
        n=100, prompt_range=(1, 1000), intervals={"runtime": (0.9, 1.1)}, basis="whole",
    )  # fmt: skip


def store(
    data_dir: Path, *versions: tuple[Baseline, Mapping[str, int]], taken: Mapping[str, int] | None = None
) -> None:
    """Store baselines, each with the first row that it applies to by log id, and how far logs have been taken."""
    state = StateFile(data_dir / "stream.sqlite")
    cursors = {f"log {log_id}": msgspec.json.encode(Cursor(log_id, row)) for log_id, row in (taken or {}).items()}
    state.put("cursors", cursors.items())
    for made, applies in [(None, {}), *versions]:
        list(state.saving([made] if made else [], applies))
        assert state.failing is None
    state.close()


def state_version(data_dir: Path, version: int) -> None:
    """Make the stored state look as if another program had written it."""
    with closing(sqlite3.connect(data_dir / "stream.sqlite")) as db:
        db.execute(f"PRAGMA user_version={version}")
