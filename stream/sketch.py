"""What is kept of one (upstream, model)'s requests: a few hundred observations, however many come.

The latest ones are kept as they came, in a ring. What leaves the ring goes to a sample: those whose hash is smallest,
so that all are as likely to stay, the order does not matter, and two samples joined are the sample of both.
Whatever is absurd stays as rare as it was, and no timing is preferred for being low or high.

Ring and sample are saved in chunks, of which each save writes those that changed: a few of the ring's, and the end of
the sample, which only grows until it is trimmed.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from stream.observation import HASH, PACKED, ended

__all__ = ["LARGEST", "Shape", "Sketch", "pieces", "ring_size", "size_among"]

LARGEST = 640
_SIZES = ((1536, LARGEST), (3072, 320), (6144, 160))
"""Up to so many sketches each has so many observations ..."""
_SMALLEST = 64
"""... and this many above: 10,000 of them take 60 MB, however many requests they have seen"""

_CHUNK = 32 * PACKED
_NO_THRESHOLD = b"\xff" * HASH
_OVERFULL = 1.25
"""A sample may grow to so many times its size before it is trimmed"""


def size_among(sketches: int) -> int:
    """How many observations each of so many sketches may hold."""
    return next((size for most, size in _SIZES if sketches <= most), _SMALLEST)


def ring_size(size: int) -> int:
    """How many of a sketch's observations are the latest ones."""
    return size * 2 // 5


class Shape(NamedTuple):
    """A sketch but for its observations. `head` is where the ring begins; lengths in bytes."""

    size: int
    head: int
    ring: int
    sample: int
    threshold: bytes


class Sketch:
    """A ring of the latest observations, and a sample of those before: `size` of them, two fifths in the ring."""

    __slots__ = (
        *("_head", "_most_recent", "_most_sampled", "_ring", "_sample", "_saved", "_threshold", "_unsaved"),
        "size",
    )

    def __init__(self, size: int) -> None:
        """Begin with nothing."""
        self._resize(size)
        self._ring, self._head = bytearray(), 0
        self._sample, self._threshold = bytearray(), _NO_THRESHOLD
        self._unsaved = 0
        """how many of the latest were not saved since"""
        self._saved = 0
        """how many bytes of the sample were, and have not changed"""

    @classmethod
    def restored(cls, shape: Shape, slot: int, read: Callable[[str], bytes]) -> "Sketch":
        """Go on from a `shape` and the `rows` that `read` gives; KeyError or ValueError if they do not fit."""
        found = cls(shape.size)
        found._ring = _joined(f"ring/{slot}", shape.ring, read)
        found._sample = _joined(f"sample/{slot}", shape.sample, read)
        found._head, found._threshold, found._saved = shape.head, shape.threshold, shape.sample
        return found

    @classmethod
    def of(cls, size: int, recent: bytes, sample: bytes, threshold: bytes) -> "Sketch":
        """Go on from what `recent`, `sample` and `shape` gave of one of this size."""
        found = cls(size)
        found._set_ring(recent)
        found._sample, found._threshold = bytearray(sample), threshold
        return found

    def __len__(self) -> int:
        """Count the observations."""
        return (len(self._ring) + len(self._sample)) // PACKED

    @property
    def shape(self) -> Shape:
        """What `restored` needs beside the rows."""
        return Shape(self.size, self._head, len(self._ring), len(self._sample), self._threshold)

    def rows(self, slot: int) -> Iterator[tuple[str, bytes]]:
        """Give the chunks that changed since the last call."""
        count = len(self._ring) // PACKED
        newest = self._head // PACKED - 1
        for chunk in {(newest - age) % count * PACKED // _CHUNK for age in range(min(self._unsaved, count))}:
            yield f"ring/{slot}/{chunk}", bytes(self._ring[chunk * _CHUNK : (chunk + 1) * _CHUNK])
        if self._saved < len(self._sample):
            for start in range(self._saved - self._saved % _CHUNK, len(self._sample), _CHUNK):
                yield f"sample/{slot}/{start // _CHUNK}", bytes(self._sample[start : start + _CHUNK])
        self._unsaved, self._saved = 0, len(self._sample)

    def add(self, packed: bytes) -> None:
        """Take one observation."""
        ring, head = self._ring, self._head
        self._unsaved += 1
        if len(ring) < self._most_recent:
            ring += packed
            return
        end = head + PACKED
        if ring[head : head + HASH] <= self._threshold:
            self._keep(bytes(ring[head:end]))
        ring[head:end] = packed
        self._head = end if end < self._most_recent else 0

    def recent(self, most: int | None = None) -> bytes:
        """Return the latest observations, oldest first."""
        ordered = bytes(self._ring[self._head :] + self._ring[: self._head])
        return ordered if most is None else ordered[max(len(ordered) - most * PACKED, 0) :]

    @property
    def sample(self) -> bytes:
        """The sample of those before them, by hash."""
        self._trim()
        return bytes(self._sample)

    def forget_all_but(self, latest: int) -> None:
        """Keep the latest observations alone."""
        self._set_ring(self.recent(latest))
        self._set_sample([])

    def forget_times_outside(self, first: float, last: float) -> None:
        """Drop of the sample what ended before `first` or after `last`."""
        sampled = pieces(self.sample)
        kept = [piece for piece in sampled if first <= ended(piece) <= last]
        if len(kept) < len(sampled):
            self._set_sample(kept)

    def shrink(self, size: int) -> bool:
        """Make do with fewer; whether anything changed."""
        if size >= self.size:
            return False
        ring = pieces(self.recent())
        self._resize(size)
        keep = self._most_recent // PACKED
        for leaving in ring[:-keep]:
            self._keep(leaving)
        self._set_ring(b"".join(ring[-keep:]))
        self._trim()
        return True

    def merge(self, other: "Sketch") -> None:
        """Take in what another one holds: the latest of both by time, and the sample of all others."""
        joined = {*pieces(self.recent()), *pieces(other.recent()), *pieces(self._sample), *pieces(other.sample)}
        ordered = sorted(joined, key=lambda piece: (piece[HASH : 2 * HASH], piece))
        latest = self._most_recent // PACKED
        self._set_ring(b"".join(ordered[-latest:]))
        self._set_sample(ordered[:-latest])
        self._trim()

    def _resize(self, size: int) -> None:
        """Set what ring and sample hold at most, in bytes."""
        self.size = size
        self._most_recent = ring_size(size) * PACKED
        self._most_sampled = size * PACKED - self._most_recent

    def _set_ring(self, ordered: bytes) -> None:
        self._ring, self._head = bytearray(ordered), 0
        self._unsaved = len(ordered) // PACKED

    def _set_sample(self, pieces: list[bytes]) -> None:
        self._sample, self._threshold = bytearray(b"".join(pieces)), _NO_THRESHOLD
        self._saved = 0

    def _keep(self, packed: bytes) -> None:
        if packed[:HASH] <= self._threshold:
            self._sample += packed
            if len(self._sample) > _OVERFULL * self._most_sampled:
                self._trim()

    def _trim(self) -> None:
        """Keep those with the smallest hashes."""
        if len(self._sample) > self._most_sampled:
            kept = sorted(set(pieces(self._sample)))[: self._most_sampled // PACKED]
            self._set_sample(kept)
            self._threshold = kept[-1][:HASH]


def pieces(packed: bytes | bytearray) -> list[bytes]:
    """Cut observations apart that lie one after the other."""
    data = bytes(packed)
    return [data[start : start + PACKED] for start in range(0, len(data), PACKED)]


def _joined(name: str, length: int, read: Callable[[str], bytes]) -> bytearray:
    """Join the chunks of a row's name; those past `length` are of before something shrank."""
    found = bytearray().join(read(f"{name}/{chunk}") for chunk in range(-(-length // _CHUNK)))
    if len(found) < length or length % PACKED:
        raise ValueError(f"{name}: {len(found)} bytes instead of {length}")
    return found[:length]
