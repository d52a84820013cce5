"""Which events were there before: the last so many keys, in little memory, and found fast. Pure."""

from collections.abc import Iterable

__all__ = ["CAPACITY", "Seen"]

CAPACITY = 500_000
"""Keys remembered at most; half of them at least: a hundred times what a sender has under way"""


class Seen:
    """The latest keys of events (`records.event_key`), in two generations: the elder one goes as a whole.

    The empty key, of an event without an id, is never seen.
    """

    __slots__ = ("_elder", "_half", "_young")

    def __init__(self, capacity: int = CAPACITY) -> None:
        """Start with none; of `capacity` keys at most, the last `capacity // 2` are remembered in any case."""
        self._half = max(capacity // 2, 1)
        self._young: set[bytes] = set()
        self._elder: set[bytes] = set()

    def __contains__(self, key: bytes) -> bool:
        return key in self._young or key in self._elder

    @property
    def size(self) -> int:
        """Keys held, those in both generations counted twice."""
        return len(self._young) + len(self._elder)

    def known(self, keys: Iterable[bytes]) -> set[bytes]:
        """Return those of `keys` that were seen: for a whole batch a third of the time."""
        keys = set(keys)
        return self._young & keys | self._elder & keys

    def add(self, keys: Iterable[bytes]) -> None:
        """Remember a batch of keys, much smaller than the capacity."""
        self._young.update(keys)
        self._young.discard(b"")
        if len(self._young) >= self._half:
            self._elder, self._young = self._young, set()
