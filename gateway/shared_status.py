"""What the processes of a gateway tell each other: a few counts in memory that they share, one writer a slot.

A slot is read while it may be written, or its writer may have been killed half-way: a checksum tells whether it is
whole; if not it is looked at again, and the last whole one stands until the next is there.
"""

import mmap
import struct
import zlib
from typing import Generic, TypeVar

import msgspec

from gateway.log import LogCounts
from gateway.reload import Reloads

__all__ = ["Restarts", "SharedStatus", "Slot", "WorkerReport"]

_SLOT = 1024
_HEAD = struct.Struct("<IH")  # checksum and length
_MOST_TEXT = 200  # characters, of at most four bytes each
_LOOKS = 20

_encode = msgspec.msgpack.Encoder().encode
T = TypeVar("T")


def fitting(text: str) -> str:
    """A reason as a slot has room for it; a path in it may hold anything."""
    text = text if len(text) <= _MOST_TEXT else text[: _MOST_TEXT - 1] + "…"
    return text.encode("utf-8", "replace").decode()


class WorkerReport(msgspec.Struct, array_like=True):
    """What one worker tells: its process (0: none), requests in flight, and its log writer's counts."""

    process: int = 0
    active: int = 0
    written: int = 0
    dropped: int = 0
    commits: int = 0
    slowest_commit_seconds: float = 0.0
    failing: str | None = None

    @classmethod
    def of(cls, process: int, active: int, counts: LogCounts) -> "WorkerReport":
        """Return what is to be told of a worker."""
        failing = None if counts.failing is None else fitting(counts.failing)
        slowest = counts.slowest_commit_seconds
        return cls(process, active, counts.written, counts.dropped, counts.commits, slowest, failing)

    @property
    def counts(self) -> LogCounts:
        """The log writer's counts."""
        return LogCounts(self.written, self.dropped, self.commits, self.slowest_commit_seconds, self.failing)


class Restarts(msgspec.Struct, array_like=True):
    """How often a process of each role was started again."""

    worker: int = 0
    control: int = 0


class Slot(Generic[T]):
    """A value of one kind in the shared memory: one process writes it, all may read it."""

    def __init__(self, memory: mmap.mmap, number: int, empty: T) -> None:
        self._memory = memory
        self._start = number * _SLOT
        self._last = empty
        self._decode = msgspec.msgpack.Decoder(type(empty)).decode
        self.write(empty)

    def write(self, value: T) -> None:
        """Put a value there."""
        data = _encode(value)
        whole = _HEAD.pack(zlib.crc32(data), len(data)) + data
        self._memory[self._start : self._start + len(whole)] = whole

    def read(self) -> T:
        """The value; the last one that was whole where its writer ended half-way."""
        for _ in range(_LOOKS):
            checksum, length = _HEAD.unpack_from(self._memory, self._start)
            begin = self._start + _HEAD.size
            data = self._memory[begin : begin + min(length, _SLOT - _HEAD.size)]
            if zlib.crc32(data) == checksum:
                self._last = self._decode(data)
                break
        return self._last


class SharedStatus:
    """The slots of a gateway, made before its processes are forked: each worker's, and the supervisor's own.

    `spent` has the CPU seconds of the processes that have ended: each worker's, and last the control process's.
    """

    def __init__(self, workers: int) -> None:
        memory = mmap.mmap(-1, (2 * workers + 3) * _SLOT)
        self.workers = [Slot(memory, number, WorkerReport()) for number in range(workers)]
        self.restarts = Slot(memory, workers, Restarts())
        self.reloads = Slot(memory, workers + 1, Reloads())
        self.spent = [Slot(memory, workers + 2 + number, 0.0) for number in range(workers + 1)]
