"""What one request tells of its upstream, in 28 bytes: sizes, and the times that are its provider's own."""

from collections.abc import Iterator
from datetime import UTC, datetime
from math import ceil, isfinite
from struct import Struct
from struct import unpack as unpack_all
from typing import NamedTuple
from zlib import crc32

from stream.enrich import output_tokens
from stream.events import RequestEvent

__all__ = [
    "HASH",
    "PACKED",
    "Fields",
    "Observation",
    "are_sound",
    "ended",
    "fields",
    "pack",
    "packed_time",
    "unpack",
    "when",
]

_LARGEST = 2**32 - 1
_MOST_SECONDS = 1e9  # that an event may have
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAY = 86_400

_BURST = 16
"""A stream with more tokens a chunk than this, on average, came in bursts: its times are those of a buffer"""

_TIMES_APART = 1.05, 0.05
"""A stream's parts may add up to its raw runtime times this, and seconds more; else one of them is wrong"""

_LAYOUT = Struct(">IIIIfff")
PACKED = _LAYOUT.size
"""Bytes of an observation; the first HASH of them are its hash"""
HASH = 4


class Observation(NamedTuple):
    """One request. Seconds; 0 stands for what it does not tell."""

    hash: int
    at: int
    """end of the request, seconds since 1970"""
    prompt_tokens: int
    output_tokens: int
    first_token: float
    """request sent until the first output token; only of streams that told, with a prompt computed in full"""
    per_output_token: float
    """for each further output token; only of streams that told"""
    whole: float
    """raw runtime, of a prompt computed in full"""


Fields = tuple[int, int, int, int, float, float, float]
"""An observation's, in their order"""


def pack(event: RequestEvent) -> bytes | None:
    """Return what a completed request tells, as `unpack` reads it; None if that is nothing.

    An event without a time ended in 1970. Prompts that came from a cache tell of output alone, and so
    of no whole duration; streams whose first visible token came late, for hidden reasoning or a buffer, only of that.
    """
    prompt, output, raw = event.prompt_tokens, output_tokens(event), event.raw_runtime_seconds
    if raw is None:
        raw = event.duration_seconds
    if prompt is None or output is None or not raw or prompt > _LARGEST or output > _LARGEST:
        return None
    first, pace = event.time_to_first_token_seconds, 0.0
    if first is None:
        first = 0.0
    else:
        times = _stream_times(event, first, output, raw)
        if times is None:
            return None
        first, pace = times
    if event.cached_tokens:
        if not pace:
            return None
        first = raw = 0.0
    at, moment = 0, event.ended_at or event.started_at
    if moment is not None:
        since = moment - _EPOCH
        at = since.days * _DAY + since.seconds
        if not 0 <= at <= _LARGEST:
            at = 0 if at < 0 else _LARGEST
    name = event.id.encode("utf-8", "replace") or _LAYOUT.pack(0, at, prompt, output, first, pace, raw)
    return _LAYOUT.pack(crc32(name), at, prompt, output, first, pace, raw)


_NOTHING = (0.0, 0.0)


def _stream_times(event: RequestEvent, first: float, output: int, raw: float) -> tuple[float, float] | None:
    """Return times to first token and per further one; 0 where they say nothing, None where they cannot be."""
    pace = event.time_per_output_token_seconds
    if output < 2:
        return (first, 0.0) if first <= raw * _TIMES_APART[0] + _TIMES_APART[1] else None
    if pace is None:
        return _NOTHING  # all came in one read
    # Tokens that were not shown took their time before the first that was: counted again, there is too much of it.
    total = first + pace * (output - 1)
    if total > raw:
        if event.reasoning_tokens:
            return _NOTHING
        if total > raw * _TIMES_APART[0] + _TIMES_APART[1]:
            return None
    gaps = event.chunk_gaps
    if gaps:
        chunks = gaps.get("count")
        if isinstance(chunks, int) and (chunks + 1) * _BURST < output:
            return _NOTHING
    return first, pace


def unpack(packed: bytes | bytearray) -> Iterator[Observation]:
    """Read observations that lie one after the other."""
    return map(Observation._make, _LAYOUT.iter_unpack(packed))


def fields(packed: bytes | bytearray) -> Iterator[Fields]:
    """Read them as plain tuples: for what goes through many, often."""
    return _LAYOUT.iter_unpack(packed)


def are_sound(packed: bytes) -> bool:
    """Whether these are observations whose seconds `pack` may have written: neither negative nor endless."""
    count, rest = divmod(len(packed), PACKED)
    if rest:
        return False
    seconds = unpack_all(f">{'16x3f' * count}", packed) or (0.0,)
    return isfinite(sum(seconds)) and min(seconds) >= 0.0 and max(seconds) <= _MOST_SECONDS  # nor NaN, in the sum


def when(packed: bytes) -> bytes:
    """When one packed request ended, as it is packed: later is larger."""
    return packed[HASH : 2 * HASH]


def packed_time(seconds: float) -> bytes:
    """A time, seconds since 1970, rounded up, as `when` gives it."""
    return ceil(min(max(seconds, 0.0), _LARGEST)).to_bytes(4, "big")


def ended(packed: bytes) -> int:
    """When one packed request ended, seconds since 1970."""
    return int.from_bytes(packed[HASH : 2 * HASH], "big")
