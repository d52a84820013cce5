"""What exporters of spans and of metrics have in common: a thread of their own, and how it goes on after a failure."""

import logging
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import ClassVar, Generic, TypeVar

from gateway.otlp_post import NOT_OTLP, Post, Refused, Unavailable, one_line
from gateway.otlp_settings import OtlpSettings

__all__ = ["Exporter"]

_TIMEOUT_SECONDS = 10.0
_LEAST_TIMEOUT_SECONDS = 0.1
_AGAIN_SECONDS = (0.5, 1.0, 2.0, 5.0, 15.0, 60.0)  # until the next try after so many that failed
_REFUSED_SECONDS = 60.0  # until the next try after one that took a message for each span
_COLLECTOR = "collector"

Item = TypeVar("Item")

logger = logging.getLogger("trueclock.otlp")


class Exporter(ABC, Generic[Item]):
    """Exports until it is closed. `start`, then `close`; the rest may be asked from any thread."""

    signal: ClassVar[str]
    """OpenTelemetry's word for what it exports"""
    what: ClassVar[str]
    """what the collector counts of it"""
    failure: ClassVar[str]
    """what is logged while it fails, before and after the reason"""

    def __init__(self, settings: OtlpSettings) -> None:
        self.exported_at: float | None = None
        """when the collector took something last, in seconds since 1970"""
        self.counts = {"exported": 0, "dropped": 0}
        self._faults: dict[object, str] = {}
        """what is wrong: with the collector, or with the log of a path"""
        self._refusing = False
        """whether all that was sent last was refused"""
        self._settings = settings
        self._post = Post(f"{settings.endpoint}/v1/{self.signal}", settings.headers)
        self._stop = threading.Event()
        self._give_up_at = float("inf")
        self._thread = threading.Thread(target=self._run, name=f"otlp {self.signal}", daemon=True)

    def start(self) -> None:
        """Begin; a collector that cannot be reached is told of in `failing`, and tried again."""
        self._thread.start()

    def close(self, grace_seconds: float = 3.0) -> None:
        """Export what is left, as far as that can be done in time, and end; blocks for little more than that time."""
        self._give_up_at = time.monotonic() + grace_seconds
        self._stop.set()
        self._thread.join(grace_seconds + 1.0)

    @property
    def failing(self) -> str | None:
        """Why nothing, or not all, gets on, in one line; None while it does."""
        return next(iter(list(self._faults.values())), None)

    # --- the thread

    @abstractmethod
    def _export(self) -> float | None:
        """Export once; return the seconds until it is to be done again, None once there is nothing left at the end.

        Raise Unavailable, and OSError for what is wrong on this side.
        """

    @abstractmethod
    def _end(self) -> None:
        """Let go of what the thread has opened."""

    def _run(self) -> None:
        tries = 0
        try:
            while (pause := self._try(tries)) is not None:
                failed = _COLLECTOR in self._faults
                tries = tries + 1 if failed else 0
                if self._stop.is_set() and (failed or time.monotonic() > self._give_up_at):
                    break
                self._stop.wait(pause)
        finally:
            self._end()

    def _try(self, tries: int) -> float | None:
        """Export once and note whether it worked; return the seconds until the next time."""
        again = _AGAIN_SECONDS[min(tries, len(_AGAIN_SECONDS) - 1)]
        try:
            pause = self._export()
        except Unavailable as error:
            self._fail(str(error))
            return max(again, error.wait)
        except OSError as error:
            self._fail(str(error) or type(error).__name__)
            return again
        except Exception as error:  # noqa: BLE001 - whatever it is, requests go on, and so do we
            self._fail(f"{type(error).__name__}: {error}", error)
            return again
        if self._faults.pop(_COLLECTOR, None) is not None:
            logger.info("%s get to the collector again", self.signal)
        return pause

    def _fail(self, reason: str, error: Exception | None = None) -> None:
        self._tell(_COLLECTOR, reason, self.failure, error)

    def _tell(self, what: object, reason: str, text: str = "%s", error: Exception | None = None) -> None:
        """Note what is wrong, and log it when it begins."""
        if what not in self._faults:
            logger.warning(text, reason, exc_info=error)
        self._faults[what] = reason

    # --- one message

    @abstractmethod
    def _body(self, items: Sequence[Item]) -> bytes:
        """The message that holds these items."""

    @abstractmethod
    def _size(self, items: Sequence[Item]) -> int:
        """How many spans or points these items are."""

    @abstractmethod
    def _refused(self, reply: bytes) -> tuple[int, str]:
        """How many of them a reply says were refused all the same, and why; raise ValueError for what is no reply."""

    @abstractmethod
    def _done(self, items: Sequence[Item]) -> None:
        """These have been dealt with, and counted."""

    def _send(self, items: Sequence[Item]) -> None:
        """Send items, and count what becomes of them; raise Unavailable, also after some of them are done.

        What is refused even alone is dropped only once the collector took others with it: who refuses all may be no
        collector, and be put right.
        """
        held: list[tuple[Sequence[Item], int]] = []
        took, dropped, reason = False, 0, ""
        try:
            for part, reply in self._post_parts(items):
                refused, why = self._answer(self._size(part), reply)
                held.append((part, refused))
                reason = why or reason
                took = took or (self._size(part) > 0 and not isinstance(reply, Refused))
                if took or not reason:
                    dropped += self._settle(held)
                    held.clear()
        finally:
            if dropped:
                text = "the collector refused %d of %d %s: %s"
                logger.warning(text, dropped, self._size(items), self.what, one_line(reason))
        self._refusing = bool(held)
        if held:
            raise Unavailable(f"it refuses all {self.what} ({reason})", _REFUSED_SECONDS)

    def _answer(self, number: int, reply: bytes | Refused) -> tuple[int, str]:
        """How many of so many a reply refuses, and why; raise Unavailable for what is no reply."""
        if isinstance(reply, Refused):
            return number, str(reply)
        try:
            refused, why = self._refused(reply)
        except ValueError:
            raise Unavailable(f"{self._post.url}: {NOT_OTLP}") from None
        return min(refused, number), why

    def _settle(self, parts: Sequence[tuple[Sequence[Item], int]]) -> int:
        """Count parts, of each of which so many were refused, and be done with them; return how many were refused."""
        for part, refused in parts:
            taken = self._size(part) - refused
            self.counts["exported"] += taken
            self.counts["dropped"] += refused
            if taken:
                self.exported_at = time.time()
            self._done(part)
        return sum(refused for _, refused in parts)

    def _post_parts(self, items: Sequence[Item]) -> Iterator[tuple[Sequence[Item], bytes | Refused]]:
        """Post items as one message, or as several where that is refused; give each part with its reply, in order."""
        if not self._size(items):  # a part that is left of them may hold none
            yield items, b""
            return
        left = max(min(_TIMEOUT_SECONDS, self._give_up_at - time.monotonic()), _LEAST_TIMEOUT_SECONDS)
        try:
            reply: bytes | Refused = self._post.send(self._body(items), left)
        except Refused as refused:
            if len(items) > 1:
                half = len(items) // 2
                yield from self._post_parts(items[:half])
                yield from self._post_parts(items[half:])
                return
            reply = refused
        yield items, reply
