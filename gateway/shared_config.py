"""The configuration that a gateway's processes share: the supervisor reads the files, and the others take what it read.

It lies in memory that no file is behind, as there are keys in it. A checksum tells whether what is read is whole.
"""

import asyncio
import mmap
import pickle
import struct
import zlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

from gateway.reload import Loaded, telling_what_fails
from gateway.routes import Config

__all__ = ["Fresh", "SharedConfig"]

_MOST_BYTES = 64 << 20  # of addresses: memory is taken as it is written
_LOOK_SECONDS = 0.1
_HEAD = struct.Struct("<III")  # number, checksum, length


@dataclass(frozen=True)
class Fresh:
    """A configuration and its tables, packed."""

    config: Config
    packed: bytes


class SharedConfig:
    """Made before the processes are forked; one of them writes."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, _MOST_BYTES)
        self._number = 0
        """of the latest that this process has: a child begins with that of its parent"""

    def write(self, loaded: Loaded) -> None:
        """Have the other processes take this; raise ValueError for what there is no room for."""
        config = replace(loaded.config, kafka=None)  # which is the start's affair
        data = pickle.dumps(Fresh(config, loaded.packed))
        if len(data) > _MOST_BYTES - _HEAD.size:
            raise ValueError(f"the configuration takes {len(data) >> 20} MiB, more than there is room for")
        self._number += 1
        before = _HEAD.unpack_from(self._memory)[-1]
        rest = max(before - len(data), 0)  # there may be keys in it
        self._memory[_HEAD.size : _HEAD.size + len(data) + rest] = data + bytes(rest)
        self._memory[: _HEAD.size] = _HEAD.pack(self._number, zlib.crc32(data), len(data))

    async def following(self) -> AsyncIterator[Fresh]:
        """Give each that is written from now on, a tenth of a second later; the latest where there are several."""
        while True:
            fresh = None
            if _HEAD.unpack_from(self._memory)[0] != self._number:
                with telling_what_fails():
                    fresh = await asyncio.to_thread(self.fresh)  # 5,000 entries take 0.2 s
            if fresh is not None:
                yield fresh
            await asyncio.sleep(_LOOK_SECONDS)

    def fresh(self) -> Fresh | None:
        """What was written since this process last asked, or was forked; None: nothing, or it is not whole yet."""
        number, checksum, length = _HEAD.unpack_from(self._memory)
        if number == self._number:
            return None
        data = self._memory[_HEAD.size : _HEAD.size + min(length, _MOST_BYTES - _HEAD.size)]
        if zlib.crc32(data) != checksum:
            return None
        self._number = number
        fresh: Fresh = pickle.loads(data)  # noqa: S301 - from the parent alone
        return fresh
