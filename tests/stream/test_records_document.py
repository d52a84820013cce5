"""docs/records.md says what is so, and its example runs."""

import contextlib
import re
from pathlib import Path
from typing import Any

import pytest

from stream import records, rollup, seen, topic_creation, windows
from stream.events import RequestEvent, decode_event, encode_event
from stream.topics import Topics
from tests.kafka_broker import Broker
from tests.kafka_topics import KafkaConsumer, New, create_topic, write

TEXT = (Path(__file__).parents[2] / "docs" / "records.md").read_text(encoding="utf-8")


def test_it_names_every_topic() -> None:
    assert sorted(re.findall(r"^\| `(llm\.[\w.]+)` \|", TEXT, flags=re.MULTILINE)) == sorted(Topics())
    assert [name for name in Topics() if f"\n## {name}\n" not in TEXT] == []


def test_it_names_every_header() -> None:
    (packed,) = records.pack("log", [(1, b"{}")])
    names = [name for name, _ in (*packed.headers, *records.output_headers(1, 1))]
    assert set(re.findall(r"^\| `([\w-]+)` \| `?[\w`]", TEXT, flags=re.MULTILINE)) >= set(names) - {"trueclock-events"}
    assert "| `trueclock-events` |" in TEXT


def test_it_names_every_field_of_dead_letters() -> None:
    letters = (
        records.dead_letter("r", "t", 0, 0, 1, b"\xff"),
        records.dead_letter_of_log("r", "l", 1, "e", b"x" * 10**5),
    )
    for name in {name for letter in letters for name in re.findall(rb'"(\w+)":', letter)}:
        assert f"`{name.decode()}`" in TEXT


@pytest.mark.parametrize(
    ("said", "value"),
    [
        ("within 50 ms", records.LINGER_MS == 50),
        ("at most 500 events or 256 KiB", (records.MOST_EVENTS, records.MOST_BYTES) == (500, 256 * 1024)),
        ("its rows by 256", next(records.pack("log", [(700, b"")])).key == b"log:2"),
        ("after 250,000 events", seen.CAPACITY == 500_000),
        ("of one longer than 256 bytes", records.event_key("x" * 257).startswith(b"sha256:")),
        ("60, 300 or 3600 seconds", windows.LENGTHS == (60, 300, 3600)),
        ("over ten minutes before", windows.LATENESS == 600),
        ("`llm.baselines` has one", topic_creation.PARTITIONS > 1),
        ("each minute, five minutes and hour", len(windows.LENGTHS) == 3 != rollup.LENGTHS),
    ],
)
def test_it_gives_the_right_figures(said: str, value: bool) -> None:
    assert said in TEXT
    assert value


def test_its_smallest_event_is_one() -> None:
    (event,) = re.findall(r'`(\{"model".*?\})`', TEXT)
    assert decode_event(event).raw_seconds == 1.5


class Enough(Exception):
    pass


def test_its_example_reads_events(broker: Broker, prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)
    topic = f"{prefix}llm.requests.enriched"
    create_topic(broker.bootstrap, topic)
    events = [RequestEvent(model="m", id=f"e{number}", raw_runtime_seconds=1.5) for number in range(3)]
    values = [encode_event(event)[:-1] + b',"idealized_runtime_seconds":null}' for event in events]
    write(broker.bootstrap, topic, [New(value) for value in values])
    for before, after in (('"llm.requests.enriched"', repr(topic)), ("localhost:9092", broker.bootstrap)):
        assert before in example
        example = example.replace(before, after)
    shown: list[tuple[object, ...]] = []

    def show(*values: object) -> None:
        shown.append(values)
        if len(shown) == len(events):
            raise Enough

    with contextlib.ExitStack() as opened:

        def consumer(*topics: str, **settings: Any) -> Any:
            return opened.enter_context(contextlib.closing(KafkaConsumer(*topics, **settings)))

        monkeypatch.setattr("kafka.KafkaConsumer", consumer)
        with pytest.raises(Enough):
            exec(compile(example, "docs/records.md", "exec"), {"print": show})
    assert shown == [(f"e{number}", "m", 1.5, None) for number in range(3)]
