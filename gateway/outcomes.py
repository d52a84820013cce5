"""Outcomes: taken as they are posted, committed to a log of their own, and followed into the embedded stream.

The log is made by the first outcome that comes, so that whoever never judges anything pays nothing for it.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path

from aiohttp.web_request import BaseRequest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from gateway.body import read_body
from gateway.log import LogError, LogReader, LogWriter, Retention, outcome_log
from gateway.refusal import Refusal
from gateway.turns import Turns
from stream.embedded import OUTCOMES, EmbeddedStream
from stream.outcomes import InvalidOutcome, decode_outcome, encode_outcome, split_outcomes
from stream.problems import REASONS

__all__ = ["OUTCOMES_PATH", "Outcomes", "read_outcomes"]

OUTCOMES_PATH = "/trueclock/v1/outcomes"
_MOST_BYTES = 1 << 20
_MOST_OUTCOMES = 10_000  # of one request: they are one commit, of 20 ms
_BODY_SECONDS = 60.0
_KEPT = Retention(days=30.0)
_SLICE = 150  # taken before the loop gets its turn
_TELL_SECONDS = 60.0  # for which a refusal is a state of the gateway, not only an answer

logger = logging.getLogger("trueclock.control")


async def read_outcomes(request: BaseRequest) -> bytes:
    """Return the body of a request for OUTCOMES_PATH; raise Refusal for one that cannot be taken."""
    if request.method != "POST":
        raise Refusal(405, "method_not_allowed", f"{OUTCOMES_PATH} takes POST", allow="POST")
    coding = request.headers.get("Content-Encoding", "identity").strip().lower()
    if coding != "identity":
        raise Refusal(415, "unsupported_encoding", f"Content-Encoding {coding[:40]}: send outcomes as they are")
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            return await read_body(request, _MOST_BYTES, "send outcomes in several requests")
    except TimeoutError:
        raise Refusal(408, "body_too_slow", f"the outcomes did not come within {_BODY_SECONDS:g} s") from None


class Outcomes(Collector):
    """The outcomes of a data directory. `accepted` and `refused` count since the process started."""

    def __init__(self, data_dir: Path, stream: EmbeddedStream, wall: Callable[[], float] = time.time) -> None:
        self.accepted = self.refused = 0
        self._path = outcome_log(data_dir)
        self._stream = stream
        self._wall = wall
        self._writer: LogWriter | None = None
        self._reader: LogReader | None = None
        self._unreadable: str | None = None
        self._fault = ""
        """why outcomes could not be stored, the last time"""
        self._failed_at = float("-inf")

    def open(self) -> None:
        """Have retention go on in the log, if there is one; on this loop. Raise LogError for a newer program's."""
        if self._path.exists():
            self._written()

    def _written(self) -> LogWriter:
        if self._writer is None:
            self._writer = LogWriter(self._path, _KEPT, self._wall, loss="outcomes are refused")
        return self._writer

    # --- what is posted

    async def post(self, body: bytes) -> int:
        """Take a batch, or nothing of it: its number of outcomes, once they are committed; raise Refusal."""
        entries = list(islice(split_outcomes(body), _MOST_OUTCOMES + 1))
        if not body.strip():
            text = "no outcome in it: expected a JSON object, an array of them, or one a line"
            raise self._refusal(0, 400, "bad_outcomes", text)
        number = len(entries)
        if number > _MOST_OUTCOMES:
            text = f"more than {_MOST_OUTCOMES} outcomes in one request: send them in several"
            raise self._refusal(number, 413, "too_many_outcomes", text)
        rows, turns, now = [], Turns(), self._wall()
        for place, data in entries:
            try:
                rows.append(encode_outcome(decode_outcome(data, now, now)))
            except InvalidOutcome as error:
                text = f"{place or 'the outcome'}: {error}; nothing of this request was taken"
                raise self._refusal(number, 400, "bad_outcomes", text) from None
            await turns.pause()
        if rows and not await self._committed(now, rows):
            text = f"outcomes cannot be stored just now: {self._fault}; send them again later"
            raise self._refusal(number, 503, "outcomes_not_stored", text)
        self.accepted += number
        return number

    async def _committed(self, now: float, rows: list[bytes]) -> bool:
        try:
            writer = self._written()
            if await writer.append(now, None, *rows):
                self._failed_at = float("-inf")
                return True
            self._fault = writer.counts.failing or f"{self._path}: it could not be written for a moment"
        except LogError as error:
            self._fault = str(error)
        self._failed_at = time.monotonic()
        return False

    def _refusal(self, number: int, status: int, code: str, message: str) -> Refusal:
        self.refused += number
        return Refusal(status, code, message)

    # --- what the stream makes of them

    def take_slice(self) -> bool:
        """Have the stream take some of what is in the log; whether there is more, perhaps."""
        reader = self._reader or self._opened()
        if reader is None:
            return False
        batch = reader.read(self._stream.cursor(OUTCOMES).row, _SLICE)
        if reader.damage:
            self._tell(reader.damage)
        if batch.rows or batch.missed:
            self._stream.take_outcomes(batch.rows, batch.missed)
        return len(batch.rows) == _SLICE

    def _opened(self) -> LogReader | None:
        if self._writer is None or self._writer.counts.failing:
            return None
        try:
            reader = LogReader(self._path)
        except LogError as error:
            self._tell(str(error))
            return None
        log_id = reader.identity()
        if not log_id:
            self._tell(reader.damage or f"{self._path}: the log of outcomes cannot be read just now")
            reader.close()
            return None
        self._unreadable = None
        self._stream.resume(OUTCOMES, log_id, reader.status()["last_row"])
        self._reader = reader
        return reader

    def _tell(self, reason: str) -> None:
        if self._unreadable is None:
            logger.warning("%s", reason)
        self._unreadable = reason

    # --- how it is with them

    @property
    def backlog(self) -> int:
        """Outcomes in the log that the stream has not taken yet."""
        if self._reader is None:
            return 0
        return max(self._reader.status()["last_row"] - self._stream.cursor(OUTCOMES).row, 0)

    @property
    def failing(self) -> str | None:
        """Why outcomes cannot be read, or could not be stored a moment ago; None while they can."""
        return self._unreadable or (self._fault if time.monotonic() - self._failed_at < _TELL_SECONDS else None)

    def collect(self) -> Iterable[Metric]:
        """Return the metrics of outcomes and problems."""
        taken = CounterMetricFamily("trueclock_outcomes", "Outcomes that were posted, by result.", labels=["result"])
        taken.add_metric(["accepted"], self.accepted)
        taken.add_metric(["refused"], self.refused)
        yield taken
        cursor, ledger = self._stream.cursor(OUTCOMES), self._stream.ledger
        yield _dropped("outcomes", {"retention": cursor.missed, "unreadable": cursor.unreadable})
        yield GaugeMetricFamily("trueclock_problems", "Problems with requests or outcomes.", ledger.problems)
        yield _dropped("problems", {reason: ledger.dropped.get(reason, 0) for reason in REASONS})

    def close(self) -> None:
        """Commit what waits, have the stream take it, and close."""
        if self._writer is not None:
            self._writer.close()
        while self.take_slice():
            pass
        if self._reader is not None:
            self._reader.close()


def _dropped(what: str, reasons: dict[str, int]) -> Metric:
    name, text = f"trueclock_{what}_dropped", f"{what.capitalize()} lost, by reason."
    family = CounterMetricFamily(name, text, labels=["reason"])
    for reason, number in reasons.items():
        family.add_metric([reason], number)
    return family
