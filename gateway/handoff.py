"""A reply handed from a coroutine on one event loop to a reader on another, without a lock.

One writer, one reader, each on the loop of its own thread: first the head, then pieces
of the body, then the end. The writer waits while `LIMIT` pieces lie unread, so that a
slow reader slows the source down instead of filling memory.
"""

import asyncio
import contextlib
from collections import deque
from dataclasses import dataclass

__all__ = ["LIMIT", "Handoff", "Head"]

LIMIT = 64


@dataclass(frozen=True, slots=True)
class Head:
    """A reply's status and headers."""

    status: int
    headers: tuple[tuple[str, str], ...]


class Handoff:
    """Made on the reader's loop; `start`, `put` and `finish` are called on `writer_loop`."""

    def __init__(self, writer_loop: asyncio.AbstractEventLoop) -> None:
        self._reader_loop = asyncio.get_running_loop()
        self._writer_loop = writer_loop
        self._head: Head | None = None
        self._pieces: deque[bytes] = deque()
        self._ready = asyncio.Event()
        self._room = asyncio.Event()
        self._writer_waits = False
        self._ended = False
        self._error: Exception | None = None

    def start(self, head: Head) -> None:
        """Give the head (once, before all pieces)."""
        self._head = head
        self._reader_loop.call_soon_threadsafe(self._ready.set)

    async def put(self, piece: bytes) -> None:
        """Give one piece; waits while the reader is behind."""
        self._pieces.append(piece)
        self._reader_loop.call_soon_threadsafe(self._ready.set)
        # The flag goes up before the length is looked at, and the reader takes pieces before it
        # looks at the flag: in any order of the two threads one of them sees the other.
        self._writer_waits = True
        while len(self._pieces) >= LIMIT:
            self._room.clear()
            if len(self._pieces) >= LIMIT:
                await self._room.wait()
        self._writer_waits = False

    def finish(self, error: Exception | None = None) -> None:
        """End it; the reader gets `error`, if any, after the pieces there are. The first end counts."""
        if not self._ended:
            self._error, self._ended = error, True
        _wake(self._reader_loop, self._ready)

    async def head(self) -> Head:
        """Wait for the head; raises the error of an end that came before it (reader's side)."""
        while self._head is None:
            if self._ended:
                raise self._error or ConnectionError("ended before it began")
            await self._wait()
        return self._head

    async def get(self) -> bytes:
        """What was given since the last call, waited for; b"" at the end (reader's side)."""
        while not self._pieces:
            if self._ended:
                return self._end()
            await self._wait()
        taken = b"".join([self._pieces.popleft() for _ in range(len(self._pieces))])
        if self._writer_waits:
            _wake(self._writer_loop, self._room)
        return taken

    async def _wait(self) -> None:
        # What is given from here on sets the event by a callback of this loop, so after the clear.
        self._ready.clear()
        await self._ready.wait()

    def _end(self) -> bytes:
        if self._error is not None:
            raise self._error
        return b""


def _wake(loop: asyncio.AbstractEventLoop, event: asyncio.Event) -> None:
    """Set an event of another loop; where that is closed already, nobody waits for it."""
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(event.set)
