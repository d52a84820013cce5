"""The embedded stream: event logs and outcomes in, enriched counts out, all in one process and without Kafka.

Counts, cursors, rolling sums, sketches, problems and new baselines are saved together, in one transaction of the
state's own SQLite file: after a crash the stream goes on from there, and every event is counted exactly once.
Baselines change at a save alone, and are stored with the first row of each log that they apply to: so a recount of
the log, which reads them, gives every event the same values.
"""

import logging
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

import msgspec

from stream.baselines import Baseline, Baselines, Key
from stream.coefficients import Tables, tables_to_json
from stream.denoise import Denoiser
from stream.enrich import enrich
from stream.events import EnrichedEvent, InvalidEvent, decode_event
from stream.fleet import source_of
from stream.metrics import Metrics, StateError
from stream.outcomes import InvalidOutcome, Outcome, decode_outcome
from stream.problem_requests import ProblemRequest
from stream.problems import Ledger, LedgerError
from stream.recent import Recent
from stream.rollup import Rollup, RollupError, by_slot
from stream.state import OUTCOMES, STATE_VERSION, Cursor, Saved, StateFile, StreamStateError

__all__ = ["OUTCOMES", "RECENT", "STATE_VERSION", "Cursor", "EmbeddedStream", "StreamStateError"]

RECENT = 20
_REFITS = 2  # baselines worked out anew at one save: a few milliseconds each
_MOST_BASELINES = 10_000

Thing = TypeVar("Thing")

logger = logging.getLogger("trueclock.stream")


def _decode_outcome(data: bytes) -> Outcome:
    return decode_outcome(data, 0.0)  # each says when it was recorded


class EmbeddedStream:
    """Enriches, denoises and counts events; its attributes are what it knows.

    `metrics` counts since ever, `rollup` by time; `requests` has the last ones in columns, `recent` the very last
    whole. `cursors` says how far each log was read, and `outcomes` how far the log of those; `baselines` are those in
    force; the `ledger` has the requests and outcomes of each problem.
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
        self.ledger = Ledger()
        self.recent: deque[EnrichedEvent] = deque(maxlen=RECENT)
        self.refits = 0
        self.refit_seconds = 0.0
        self._under_way: Generator[None, None, None] | None = None
        """the latest save"""
        self._waiting: dict[Key, Baseline] = {}
        """new, and to be in force once they are stored"""
        self._next: tuple[Tables, bytes] | None = None
        """tables that are to be in use once they are stored, and those packed"""
        self._state = StateFile(state)
        self._changed = self._state.use_tables(tables_to_json(tables), before)
        try:
            self._restore(self._state.saved)
        except (StateError, RollupError, LedgerError, msgspec.MsgspecError, ValueError, TypeError, KeyError) as error:
            self._state.close()
            raise self._state.damaged(error) from None
        self.requests = Recent()
        self.requests.number(self.counted)

    def _restore(self, saved: Saved) -> None:
        self.metrics.restore(saved.series)
        self.rollup.restore(saved.slots)
        self.denoiser.restore(saved.sketches)
        self.ledger.restore(saved.problems)
        self.cursors, self.outcomes = saved.cursors, saved.outcomes
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
        return self.outcomes if log == OUTCOMES else self.cursors.setdefault(log, Cursor())

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
        events = self._decoded(log, rows, missed, decode_event)
        self._count([enrich(event, self.tables, self.baselines) for event in events])

    def take_outcomes(self, rows: Iterable[tuple[int, bytes]], missed: int = 0) -> None:
        """Judge problems by rows (number, outcome) of the log of outcomes; `missed` as for `take`."""
        for outcome in self._decoded(OUTCOMES, rows, missed, _decode_outcome):
            self.ledger.judge(outcome)

    def _decoded(
        self, log: str, rows: Iterable[tuple[int, bytes]], missed: int, decode: Callable[[bytes], Thing]
    ) -> Iterator[Thing]:
        """Yield what can be read of a log's rows, and move its cursor past all of them."""
        cursor = self.cursor(log)
        if missed:
            cursor.missed += missed
            cursor.row += missed
            self._changed = True
        row = cursor.row
        for row, data in rows:
            try:
                yield decode(data)
            except (InvalidEvent, InvalidOutcome) as error:
                cursor.unreadable += 1
                logger.warning("%s: row %d cannot be read: %s", log, row, error)
        self._changed = self._changed or row > cursor.row
        cursor.row = row

    def _count(self, batch: list[EnrichedEvent]) -> None:
        """Count events in their order; one kind of count after the other, as that is what caches like."""
        for events in by_slot(batch):
            seen = self.metrics.observe(*events)
            self.rollup.observe(seen)
            self.requests.observe(*seen.labelled)
        for enriched in batch:
            self.denoiser.observe(enriched)
            if enriched.event.problem is not None:
                self._note(enriched)
        self.recent.extend(batch)

    def _note(self, enriched: EnrichedEvent) -> None:
        request = ProblemRequest.of(enriched)
        if request is not None:
            self.ledger.observe(request)

    def remember(self, enriched: EnrichedEvent) -> None:
        """Show an event that was counted before among the latest ones; those come in their order."""
        stacks = tuple(dict.fromkeys((self.tables.reference, *self.tables.references)))
        self.requests.remember(enriched, self.metrics.label, stacks)
        self.recent.append(enriched)

    def use(self, tables: Tables, packed: bytes) -> None:
        """Have other tables in use from the next save on, which stores them (`packed`) with the rows they apply to."""
        self._next = None if tables is self.tables else (tables, packed)

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
        sketches, problems = self.denoiser.changed(), self.ledger.changed()
        # Some pairs' turn may come in a quiet moment, and the end of some problems.
        self._changed = self._changed or bool(self._waiting or self._next or sketches or problems)
        if not self._changed:
            return
        self._state.put("sketches", sketches)
        self._state.put("problems", problems)
        self._state.put("slots", self.rollup.changed())
        cursors = {**self.cursors, OUTCOMES: self.outcomes} if self.outcomes.log_id else self.cursors
        self._state.put("cursors", [(log, msgspec.json.encode(cursor)) for log, cursor in cursors.items()])
        yield
        self._state.put("series", self.metrics.changed())
        yield
        applies = {cursor.log_id: cursor.row + 1 for cursor in self.cursors.values()}
        fresh = self._next
        if (yield from self._state.saving(self._waiting.values(), applies, fresh and fresh[1])):
            self._changed = False
            self._put_in_force()
            if fresh is not None:
                self._show(fresh[0])
                self._next = None if self._next is fresh else self._next

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

    def _show(self, tables: Tables) -> None:
        """Use tables that are stored."""
        self.tables = tables
        self.requests.restack(tuple(dict.fromkeys((tables.reference, *tables.references))))

    def prune(self, oldest: Mapping[str, int]) -> None:
        """Remove superseded baselines; `oldest` is the first row held of every log that is followed, by its id."""
        if {cursor.log_id for cursor in self.cursors.values()} <= oldest.keys():
            self._state.prune(oldest)

    def close(self) -> None:
        """Save, and close the file."""
        self._state.be_patient()
        self.save()
        self._state.close()
