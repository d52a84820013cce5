"""Records that no reader of `llm.requests` should fall over: made from a seed, with what should become of them.

Every record is what a broken, old, new or hostile producer might write. `Hostile.dead` says how many dead letters it
must lead to, `Hostile.good` which ids of it are events all the same.
"""

import json
import random
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from tests.kafka_topics import New

LONE = "\ud800"
"""A lone surrogate: as an escape it is JSON to some, and no text to anybody"""

BINARY_KEY = b"\xff\x00\xfe"


class Hostile(NamedTuple):
    """A record, how many dead letters it leads to, and the ids that are good in it."""

    record: New
    dead: int
    good: tuple[str, ...] = ()


def event(event_id: str, **more: Any) -> dict[str, Any]:
    """A good event, as a dict; `more` goes over it."""
    return {
        "schema_version": 1, "id": event_id, "model": "openai/davinci", "upstream": "up:443", "status": 200,
        "started_at": "2026-11-21T12:00:00.000001Z", "ended_at": "2026-11-21T12:00:02.000001Z", "stream": False,
        "prompt_tokens": 300, "completion_tokens": 20, "raw_runtime_seconds": 2.0, "duration_seconds": 2.1, **more,
    }  # fmt: skip


def line(event_id: str, **more: Any) -> bytes:
    """The same as a line of JSON."""
    return json.dumps(event(event_id, **more)).encode()


def nested(depth: int, inner: str = "1", kind: str = "[") -> str:
    """JSON of so many arrays, or objects, one in the other."""
    return "[" * depth + inner + "]" * depth if kind == "[" else '{"a":' * depth + inner + "}" * depth


def with_field(event_id: str, name: str, value: str) -> bytes:
    """An event with one more field, whose JSON is written as it is."""
    return line(event_id)[:-1] + f', "{name}": {value}}}'.encode()


WRONG: dict[str, list[Any]] = {
    "model": [1, [], {}, True, LONE],
    "id": [7, None, ["x"], {}],
    "status": ["200", -1, 1000, 200.5, True],
    "prompt_tokens": [-1, 1.5, "many", 10**13, 10**40, 1e300, [], True],
    "completion_tokens": [-5, "3", 2.25],
    "duration_seconds": [-0.1, "2", 1e10, [1], True],
    "raw_runtime_seconds": [-1e-9, {}, "fast"],
    "ended_at": ["yesterday", 12, "2026-11-21", "2026-11-21T12:00:00", "2026-13-01T00:00:00Z", []],
    "started_at": ["0001-01-01T00:00:00+05:00", "9999-12-31T23:59:59-01:00", "10000-01-01T00:00:00Z"],
    "stream": ["yes", 1, []],
    "tags": ["tag", [1], {"a": 1}],
    "attempts": [{}, [1], "x"],
    "chunk_gaps": [[], "x", 3],
    "choices": [0, 10**7, "1"],
    "usage_source": ["guess", 1],
    "schema_version": [0, -1, 2, 99, "1", None],
}
"""Values that no event may have, by field"""

ODD: list[dict[str, Any]] = [
    {"ended_at": "0001-01-01T00:00:00Z", "started_at": "0001-01-01T00:00:00Z"},
    {"ended_at": "9999-12-31T23:59:59.999999Z"},
    {"ended_at": "1970-01-01T00:00:00Z"},
    {"ended_at": "2026-11-14T12:00:00Z"},
    {"ended_at": "2026-11-28T12:00:00Z"},
    {"ended_at": "2026-11-21T17:30:00+05:30", "started_at": None},
    {"ended_at": None, "started_at": None},
    {"model": None},
    {"model": ""},
    {"model": "m" * 5000},
    {"model": 'quote"newline\nnull\x00', "upstream": "\x1b[31m"},
    {"upstream": None, "status": None, "raw_runtime_seconds": None},
    {"duration_seconds": 0, "raw_runtime_seconds": 0},
    {"duration_seconds": 5e-324, "raw_runtime_seconds": 5e-324},
    {"duration_seconds": 1e9, "raw_runtime_seconds": 1e9},
    {"prompt_tokens": 10**12, "completion_tokens": 10**12},
    {"prompt_tokens": 0, "completion_tokens": 0},
    {"prompt_tokens": 300.0, "completion_tokens": 20.0},
    {"chunk_gaps": {"count": 1e308, "mean": None, "p50": "x", "more": [[]]}},
    {"attempts": [{}, {"status": {"x": 1}}]},
    {"extra": {"extra": {"extra": 1}}, "event": {"schema_version": 7}, "stacks": "none"},
    {"denoised_runtime_seconds": "x", "slowdown": []},
    {"tags": ["t" * 1000] * 200},
    {"status": 0, "error_class": "upstream_broken"},
]
"""What an event may have, strange as it is: each is enriched"""

NO_EVENTS = [
    b"",
    b" ",
    b"null",
    b"[]",
    b"{}",
    b"1",
    b'"text"',
    b"true",
    b"NaN",
    b"\xff\xfe",
    b"\x00" * 500,
    b"{",
    b'{"model"',
    b"}{",
]


def hostile(seed: int, count: int) -> Iterator[Hostile]:
    """Make so many; ids of good events in them begin with `odd-`."""
    rng = random.Random(seed)
    makers: list[Callable[[random.Random, str], Hostile]] = [
        _truncated, _wrong, _odd, _no_event, _binary, _deep, _huge, _newer, _many, _tombstone, _keyed, _wrong, _truncated,
    ]  # fmt: skip
    for number in range(count):
        yield rng.choice(makers)(rng, f"odd-{number}")


def _record(value: bytes | None, rng: random.Random, **more: Any) -> New:
    return New(value, key=rng.choice([None, b"", b"log:1", BINARY_KEY]), partition=rng.randrange(2), **more)


def _truncated(rng: random.Random, event_id: str) -> Hostile:
    whole = line(event_id)
    return Hostile(_record(whole[: rng.randrange(1, len(whole) - 1)], rng), 1)


def _wrong(rng: random.Random, event_id: str) -> Hostile:
    field = rng.choice(sorted(WRONG))
    return Hostile(_record(line(event_id, **{field: rng.choice(WRONG[field])}), rng), 1)


def _odd(rng: random.Random, event_id: str) -> Hostile:
    return Hostile(_record(line(event_id, **rng.choice(ODD)), rng), 0, (event_id,))


def _no_event(rng: random.Random, _: str) -> Hostile:
    return Hostile(_record(rng.choice(NO_EVENTS), rng), 1)


def _binary(rng: random.Random, _: str) -> Hostile:
    return Hostile(_record(b"\xfe" + rng.randbytes(rng.randrange(1, 2000)).replace(b"\n", b""), rng), 1)


def _deep(rng: random.Random, event_id: str) -> Hostile:
    inner, kind = rng.choice(["1", json.dumps(LONE)]), rng.choice("[{")
    depth = rng.choice([100_000, 50_000, 20_000])  # Python 3.12 and later read some thousands
    return Hostile(_record(with_field(event_id, "odd", nested(depth, inner, kind)), rng), 1)


def _huge(rng: random.Random, event_id: str) -> Hostile:
    return Hostile(_record(line(event_id, problem="x" * rng.choice([70_000, 300_000])), rng), 0, (event_id,))


def _newer(rng: random.Random, event_id: str) -> Hostile:
    version = rng.choice([b"2", b"", b"one", b"\xff"])
    return Hostile(_record(b"\n".join([line(event_id), b"{"]), rng, headers=[("schema-version", version)]), 1)


def _many(rng: random.Random, event_id: str) -> Hostile:
    """Good and bad lines in one record."""
    lines, dead, good = [], 0, []
    for number in range(rng.randrange(2, 20)):
        if rng.random() < 0.5:
            lines.append(rng.choice([each for each in NO_EVENTS if each != b""]))
            dead += 1
        else:
            good.append(f"{event_id}-{number}")
            lines.append(line(good[-1]))
    return Hostile(_record(b"\n".join(lines), rng), dead, tuple(good))


def _tombstone(rng: random.Random, _: str) -> Hostile:
    return Hostile(New(None, key=b"k", partition=rng.randrange(2)), 1)


def _keyed(rng: random.Random, event_id: str) -> Hostile:
    headers = [("trueclock-input", b"9.9"), ("content-type", b"\xff"), ("trueclock-events", b"-1"), ("x" * 50, b"")]
    return Hostile(_record(line(event_id), rng, headers=headers), 0, (event_id,))
