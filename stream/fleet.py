"""What the denoisers of a fleet tell each other, so that all learn from the traffic of all. Pure.

Each publishes a record a pair: its own sketch, never what it heard from others, with its counts and its baseline. The
others fit it together with their own (`stream.pool`). A worker that begins again under its name takes its own records
back, and needs no disk.

A record is JSON, the observations in base64 as `stream.observation` packs them; its key is [source, upstream, model].
"""

from collections.abc import Iterable
from math import isfinite
from typing import Annotated

import msgspec
from msgspec import Meta, structs

from stream.baselines import Baseline, Key
from stream.observation import HASH, PACKED, are_sound
from stream.pair import Counts, Learned, Pair, Told
from stream.runtime import runtime_function
from stream.sketch import LARGEST, Sketch, ring_size

__all__ = [
    "Published",
    "UnreadableRecord",
    "announced",
    "check_baseline",
    "key_of",
    "news_first",
    "pair_of",
    "read_own",
    "read_record",
    "source_of",
    "take_back",
]

FORMAT = 1
_LONGEST_KEY = 4096
"""Bytes; gateways cut models' names short"""
_OVERFULL = 2
_MOST_NEW = 64
"""Requests of a pair after which others are told of them at the latest; with few an eighth more is new"""

_decode_key = msgspec.json.Decoder(tuple[str, str | None, str]).decode
_encode = msgspec.json.Encoder().encode


class Published(msgspec.Struct):
    """A record: one pair as its source knows it. Of a later `format` nothing else is read."""

    format: int
    size: Annotated[int, Meta(ge=5, le=LARGEST)]
    """of the sketch"""
    counts: Counts
    learned: Learned
    recent: bytes
    sample: bytes
    threshold: bytes
    clock: int = 0
    """the source's denoiser's, as `version` is"""
    version: int = 0


class _Format(msgspec.Struct):
    format: int


_decode_format = msgspec.json.Decoder(_Format).decode
_decode = msgspec.json.Decoder(Published).decode


class UnreadableRecord(ValueError):
    """A record that is none, or of a later format."""


def source_of(key: bytes | None) -> str | None:
    """Return who published a record, by its key; None of a key that cannot be read."""
    try:
        return _read_key(key or b"")[0]
    except UnreadableRecord:
        return None


def announced(source: str, pair: Pair, version: int, clock: int, others: int) -> tuple[bytes, bytes]:
    """Return a pair's record, key and value; what `others` have seen is left out of when it is due."""
    sketch, counts = pair.sketch, pair.counts
    pair.told = Told(counts.seen, pair.learned.baseline, max(clock, 1))
    published = Published(
        format=FORMAT,
        size=sketch.size,
        counts=structs.replace(counts, due=counts.due + others),
        learned=pair.learned,
        recent=sketch.recent(),
        sample=sketch.sample,
        threshold=sketch.shape.threshold,
        clock=clock,
        version=version,
    )
    return key_of(source, pair.key), _encode(published)


def key_of(source: str, key: Key) -> bytes:
    """Return the key of a pair's record."""
    return _encode([source, *key])


def news_first(pairs: Iterable[Pair], limit: int, *, force: bool) -> list[Pair]:
    """Return the pairs that others are to be told of: all with a new baseline, then those told longest ago."""
    found = [pair for pair in pairs if _is_news(pair, force=force)]
    found.sort(key=lambda pair: (pair.learned.baseline is pair.told.baseline, pair.told.clock))
    new = sum(pair.learned.baseline is not pair.told.baseline for pair in found)
    return found if force else found[: max(limit, new)]


def _is_news(pair: Pair, *, force: bool) -> bool:
    told = pair.told
    enough = 1 if force or pair.counts.onset else max(1, min(told.seen // 8, _MOST_NEW))
    return pair.learned.baseline is not told.baseline or abs(pair.counts.seen - told.seen) >= enough


def read_record(key: bytes, value: bytes) -> tuple[Key, Published]:
    """Read a record, whose observations and lasting changes can be used; else raise UnreadableRecord."""
    pair = pair_of(key)
    try:
        if _decode_format(value).format != FORMAT:
            raise UnreadableRecord
        found = _decode(value)
        _check(found)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        raise UnreadableRecord from None
    return pair, found


def read_own(key: bytes, value: bytes) -> tuple[Key, Published]:
    """Read a record, all of which can be used; else raise UnreadableRecord."""
    pair, found = read_record(key, value)
    for baseline in (found.learned.baseline, found.learned.former):
        if baseline is not None:
            check_baseline(baseline, pair)
    return pair, found


def pair_of(key: bytes) -> Key:
    """Return which pair a record is of, by its key; raise UnreadableRecord."""
    _, upstream, model = _read_key(key)
    return upstream, model


def _read_key(key: bytes) -> tuple[str, str | None, str]:
    try:
        found = _decode_key(key)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise UnreadableRecord from None
    if not found[0] or len(key) > _LONGEST_KEY:
        raise UnreadableRecord
    return found


def _check(found: Published) -> None:
    counts, baseline, ring = found.counts, found.learned.baseline, ring_size(found.size)
    lengths = len(found.recent) <= ring * PACKED and len(found.sample) <= _OVERFULL * (found.size - ring) * PACKED
    if not lengths or not are_sound(found.recent) or not are_sound(found.sample):
        raise UnreadableRecord
    if len(found.threshold) != HASH or min(counts.seen, counts.last, found.clock, found.version) < 0:
        raise UnreadableRecord
    if baseline is not None and any(step.at.tzinfo is None for step in baseline.steps):
        raise UnreadableRecord


def check_baseline(baseline: Baseline, key: Key) -> None:
    """Raise UnreadableRecord for a baseline that is of another pair, or gives no runtime."""
    knots, seconds = baseline.knots, baseline.prompt_seconds
    fits = len(knots) == len(seconds) > 0 < knots[0] and list(knots) == sorted(set(knots))
    if not fits or (baseline.upstream, baseline.model) != key or min(baseline.prompt_range) < 0:
        raise UnreadableRecord
    try:
        bounded = isfinite(runtime_function(baseline.coefficients)(knots[-1] + 1, 2))
    except ArithmeticError:
        bounded = False
    if not bounded:
        raise UnreadableRecord


def take_back(pair: Pair, published: Published, others: int) -> None:
    """Have a pair go on from what was published of it; what `others` have seen counts for when it is due."""
    counts, learned = published.counts, published.learned
    counts.due -= others
    pair.counts, pair.learned, pair.relearned = counts, learned, True
    pair.sketch = Sketch.of(published.size, published.recent, published.sample, published.threshold)
    pair.told = Told(counts.seen, learned.baseline, max(published.clock, 1))
