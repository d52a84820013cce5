"""The embedded stream: event logs in, enriched counts out, all in one process and without Kafka.

Counts, cursors, rolling sums, sketches and new baselines are saved together, in one transaction of the state's own
SQLite file: after a crash the stream goes on from there, and every event is counted exactly once. Baselines change at
a save alone, and are stored with the first row of each log that they apply to: so a recount of the log, which reads
them, gives every event the same values.
"""

import logging
import time
from collections import deque
from collections.abc import Generator, Iterable, Mapping
from pathlib import Path

import msgspec

from stream.baselines import Baseline, Baselines, Key
from stream.coefficients import Tables, tables_to_json
from stream.denoise import Denoiser
from stream.enrich import enrich
from stream.events import EnrichedEvent, InvalidEvent, decode_event
from stream.fleet import source_of
from stream.metrics import Metrics, StateError
from stream.recent import Recent
from stream.rollup import Rollup, RollupError, by_slot
from stream.state import STATE_VERSION, Cursor, Saved, StateFile, StreamStateError

__all__ = ["RECENT", "STATE_VERSION", "Cursor", "EmbeddedStream", "StreamStateError"]

RECENT = 20
_REFITS = 2  # baselines worked out anew at one save: a few milliseconds each
_MOST_BASELINES = 10_000

logger = logging.getLogger("trueclock.stream")


class EmbeddedStream:
    """Enriches, denoises and counts events; its attributes are what it knows.

    `metrics` counts since ever, `rollup` by time; `requests` has the last ones in columns, `recent` the very last
    whole. `cursors` says how far each log was read; `baselines` are those in force.
    """

    def __init__(
        self, state: Path, tables: Tables, denoiser: Denoiser | None = None, *, before: bytes | None = None
    ) -> None:
        """Go on from the state file, or begin; raise StreamStateError for one that cannot be used.

        `tables` are stored with the first row of each log that they apply to. `before` are those that all was counted
        with of which a state file of an older version does not say it.
        """
        self.tables = tables
        self.metrics = Metrics()
        self.rollup = Rollup()
        self.denoiser = denoiser or Denoiser()
        self.recent: deque[EnrichedEvent] = deque(maxlen=RECENT)
        self.refits = 0
        self.refit_seconds = 0.0
        self._under_way: Generator[None, None, None] | None = None
        """the latest save"""
        self._waiting: dict[Key, Baseline] = {}
        """new, and to be in force once they are stored"""
        self._state = StateFile(state)
        self._changed = self._state.use_tables(tables_to_json(tables), before)
        try:
            self._restore(self._state.saved)
        except (StateError, RollupError, msgspec.MsgspecError, ValueError, TypeError, KeyError) as error:
            self._state.close()
            raise self._state.damaged(error) from None
        self.requests = Recent()
        self.requests.number(self.counted)

    def _restore(self, saved: Saved) -> None:
        self.metrics.restore(saved.series)
        self.rollup.restore(saved.slots)
        self.denoiser.restore(saved.sketches)
        self.cursors = saved.cursors
        self.baselines = Baselines(saved.baselines)
        self.metrics.put_in_force(saved.baselines)
        self._state.saved = Saved()

    @property
    def failing(self) -> str | None:
        """Why the state cannot be saved; None while it can."""
        return self._state.failing

    @property
    def counted(self) -> int:
        """Requests counted since ever."""
        return sum(pair.sums.requests for _, _, pair in self.metrics.pairs())

    def cursor(self, log: str) -> Cursor:
        """The cursor of one log, by its name."""
        return self.cursors.setdefault(log, Cursor())

    def resume(self, log: str, log_id: str, last_row: int) -> None:
        """Go on with a log: from its beginning when it is another file than before, else where we were.

        `last_row` is its last row number; after a power loss that may lie before what was counted already.
        """
        cursor = self.cursor(log)
        if cursor.log_id != log_id:
            if cursor.log_id:
                logger.warning("%s is a new log: reading it from its beginning", log)
            cursor.log_id, cursor.row = log_id, 0
        elif last_row < cursor.row:
            logger.warning("%s ends %d events before what was counted of it", log, cursor.row - last_row)
            cursor.row = last_row
            self._state.rewind(log_id, last_row + 1)

    def take(self, log: str, rows: Iterable[tuple[int, bytes]], missed: int = 0) -> None:
        """Enrich and count rows (number, event) of one log; `missed` were deleted before they could be read."""
        cursor = self.cursor(log)
        if missed:
            cursor.missed += missed
            cursor.row += missed
            self._changed = True
        batch, row = [], cursor.row
        for row, data in rows:
            try:
                batch.append(enrich(decode_event(data), self.tables, self.baselines))
            except InvalidEvent as error:
                cursor.unreadable += 1
                logger.warning("%s: row %d cannot be read: %s", log, row, error)
        self._changed = self._changed or row > cursor.row
        cursor.row = row
        self._count(batch)

    def _count(self, batch: list[EnrichedEvent]) -> None:
        """Count events in their order; one kind of count after the other, as that is what caches like."""
        for events in by_slot(batch):
            seen = self.metrics.observe(*events)
            self.rollup.observe(seen)
            self.requests.observe(*seen.labelled)
        for enriched in batch:
            self.denoiser.observe(enriched)
        self.recent.extend(batch)

    def remember(self, enriched: EnrichedEvent) -> None:
        """Show an event that was counted before among the latest ones; those come in their order."""
        stacks = tuple(dict.fromkeys((self.tables.reference, *self.tables.references)))
        self.requests.remember(enriched, self.metrics.label, stacks)
        self.recent.append(enriched)

    def share(self, records: Iterable[tuple[bytes, bytes | None]]) -> None:
        """Take in (key, value) of what denoisers elsewhere published; it counts for the baselines of the next saves."""
        for key, value in records:
            self.denoiser.share(source_of(key) or "", key, value)

    def save(self) -> None:
        """Write all that changed, together, and put new baselines in force.

        A disk that refuses is told of, and tried again next time; the baselines of before stay in force until then.
        """
        for _ in self.saving():
            pass

    def saving(self) -> Generator[None, None, None]:
        """Save in steps of a few milliseconds at most, between which others may go on, but no event may be taken.

        Left half-way, as it is when another one begins, nothing of it was done.
        """
        if self._under_way is not None:
            self._under_way.close()
        self._under_way = self._steps()
        return self._under_way

    def _steps(self) -> Generator[None, None, None]:
        for _ in range(_REFITS):
            self._waiting.update(self._refit())
            yield
        sketches = self.denoiser.changed()
        self._changed = self._changed or bool(self._waiting or sketches)  # some pairs' turn may come in a quiet moment
        if not self._changed:
            return
        self._state.put("sketches", sketches)
        self._state.put("slots", self.rollup.changed())
        self._state.put("cursors", [(log, msgspec.json.encode(cursor)) for log, cursor in self.cursors.items()])
        yield
        self._state.put("series", self.metrics.changed())
        yield
        applies = {cursor.log_id: cursor.row + 1 for cursor in self.cursors.values()}
        if (yield from self._state.saving(self._waiting.values(), applies)):
            self._changed = False
            self._put_in_force()

    def _refit(self) -> dict[Key, Baseline]:
        """Have a baseline worked out anew; count the lasting changes that it knows of."""
        began = time.perf_counter()
        fresh = self.denoiser.refresh(1)
        self.refit_seconds += time.perf_counter() - began
        self.refits += len(fresh)
        self.metrics.count_steps(fresh)
        found = {(each.upstream, each.model): each for each in fresh}
        room = _MOST_BASELINES - len(self.baselines)
        return {key: each for key, each in found.items() if room > 0 or key in self.baselines}

    def _put_in_force(self) -> None:
        for key, baseline in self._waiting.items():
            before = self.baselines.get(key)
            for step in baseline.steps:
                if before is None or step.version > before.version:
                    logger.info(
                        "%s of %s: its best changed to %.2f times the runtime of before, at %s",
                        baseline.model, baseline.upstream, step.factor, step.at.isoformat(timespec="seconds"),
                    )  # fmt: skip
        if self._waiting:
            self.baselines = self.baselines.with_(self._waiting.values())
            self.metrics.put_in_force(self._waiting.values())
            self._waiting = {}

    def prune(self, oldest: Mapping[str, int]) -> None:
        """Remove superseded baselines; `oldest` is the first row held of every log that is followed, by its id."""
        if {cursor.log_id for cursor in self.cursors.values()} <= oldest.keys():
            self._state.prune(oldest)

    def close(self) -> None:
        """Save, and close the file."""
        self._state.be_patient()
        self.save()
        self._state.close()
