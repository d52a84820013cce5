"""Hostile records between good ones: all that is good is enriched once, all that is bad is a dead letter, nothing stops."""

import base64
import json
import os
from bisect import bisect_left
from collections import Counter
from pathlib import Path

import msgspec

from stream.coefficients import load_tables
from stream.denoise import Denoiser
from stream.engine import Engine, Input
from stream.records import Position
from stream.windows import Windows
from tests.hostile_records import hostile, line, nested, with_field
from tests.kafka_broker import Broker
from tests.kafka_topics import New, create_topic, read_topic, write
from tests.worker_process import WorkerProcess

COUNT = 10_000 if os.environ.get("TRUECLOCK_THOROUGH") == "1" else 500
SEED = 6


def test_hostile_records_between_good_ones(broker: Broker, prefix: str, tmp_path: Path) -> None:
    requests, records, dead = f"{prefix}llm.requests", list[New](), 0
    good: set[str] = set()
    for number, each in enumerate(hostile(SEED, COUNT)):
        records += [each.record, New(line(f"good-{number}"), partition=each.record.partition)]
        dead += each.dead
        good |= {f"good-{number}", *each.good}
    again = [New(line(f"good-{number}"), partition=number % 2) for number in range(0, COUNT, 7)]
    create_topic(broker.bootstrap, requests, 2)
    write(broker.bootstrap, requests, records, max_request_size=1 << 20)
    with WorkerProcess(broker.bootstrap, tmp_path, "--topic-prefix", prefix) as worker:
        worker.wait(lambda status: status["records"] == len(records))
        write(broker.bootstrap, requests, again)
        status = worker.wait(
            lambda status: status["records"] == len(records) + len(again) and status["lag_records"] == 0
        )
        last = worker.ask("/metrics")
        assert worker.stop() == 0, worker.tail()
    assert "Traceback" not in worker.tail(1_000_000)
    assert last is not None
    assert b'trueclock_stream_events_total{outcome="dead"}' in last
    found = Counter(json.loads(record.value)["id"] for record in read_topic(broker.bootstrap, f"{requests}.enriched"))
    assert found.keys() == good
    assert set(found.values()) == {1}
    letters = [json.loads(record.value) for record in read_topic(broker.bootstrap, f"{requests}.dead")]
    assert (len(letters), status["dead"]) == (dead, dead)
    assert status["enriched"] == len(good)
    sent = {(record.partition, record.offset): record.value for record in read_topic(broker.bootstrap, requests)}
    for letter in letters:
        assert letter["reason"]
        value = sent[letter["partition"], letter["offset"]] or b""
        whole = value.split(b"\n")[letter["line"] - 1] if letter["line"] else value
        kept = letter["record"].encode() if "record" in letter else base64.b64decode(letter["record_base64"])
        assert whole.startswith(kept)
        assert (len(kept) < len(whole)) == letter.get("truncated", False)


def is_too_deep(depth: int) -> bool:
    try:
        msgspec.json.decode(nested(depth))
    except RecursionError:
        return True
    return False


def test_what_can_just_be_read_and_no_more_be_written_stops_nothing() -> None:
    """Reading and writing reach the depth that is too much at depths of their own."""
    engine = Engine(load_tables(), Windows(), Denoiser(), "topic")
    engine.resume(0, Position(-1, 0), [])
    least = bisect_left(range(100_000), True, key=is_too_deep)
    depths = range(least - 150, least + 50)
    records = [
        Input(0, None, b"\n".join([with_field(f"deep-{depth}-{field}", field, nested(depth, kind=kind)), line(f"good-{depth}-{field}")]))
        for depth in depths
        for field, kind in (("odd", "["), ("chunk_gaps", "{"))
    ]  # fmt: skip
    ids = []
    for offset, record in enumerate(records):
        step = engine.step(0, [record._replace(offset=offset)])
        engine.settle(step, 1.8e9)
        ids += [event.event.id for event in step.events]
    assert {each for each in ids if each.startswith("good")} == {
        f"good-{depth}-{field}" for depth in depths for field in ("odd", "chunk_gaps")
    }
    assert engine.counts.dead + engine.counts.enriched == 2 * len(records)
    assert engine.counts.dead > 0
    assert len(ids) > len(records)
