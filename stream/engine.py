"""What a stream worker makes of input records: enriched events, dead letters, and counts. Pure: no Kafka, no clock.

A *step* is what some records of one partition become. It is counted only when it is settled, which is after its output
was written; a step that could not be written is released, and nothing of it was ever counted.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import msgspec
from msgspec import structs

from stream.baselines import Baseline, Baselines
from stream.coefficients import Tables
from stream.denoise import Denoiser
from stream.enrich import enrich
from stream.events import EnrichedEvent, InvalidEvent, RequestEvent, decode_event, encode_enriched
from stream.metrics import Metrics
from stream.problem_requests import ProblemRequest, encode_problem_request
from stream.records import (
    JSON_HEADERS,
    Headers,
    Position,
    dead_letter,
    event_key,
    lines_of,
    output_headers,
    unreadable,
)
from stream.rollup import by_slot
from stream.seen import Seen
from stream.windows import LENGTHS, Windows

__all__ = ["Counts", "Engine", "Input", "Output", "Step"]

MINUTE = LENGTHS[0]
_NESTED = "nested too deeply"


class Input(NamedTuple):
    """An input record."""

    offset: int
    key: bytes | None
    value: bytes | None
    headers: Iterable[tuple[str, bytes | None]] = ()


class Output(NamedTuple):
    """An output record."""

    key: bytes | None
    value: bytes
    headers: Headers


class Step(msgspec.Struct):
    """What some records of one partition become; `outputs` and `events` belong together, one by one."""

    partition: int
    end: Position
    """the last line that is dealt with"""
    outputs: list[Output] = []
    events: list[EnrichedEvent] = []
    dead: list[Output] = []
    problems: list[Output] = []
    """of those events that were attempts at problems, for the topic of those"""
    keys: set[bytes] = set()
    duplicates: int = 0
    records: int = 0


class Counts(msgspec.Struct):
    """What was settled since the start."""

    records: int = 0
    enriched: int = 0
    dead: int = 0
    duplicate: int = 0
    """events"""


class Engine:
    """Enriches, denoises and counts what several partitions bring.

    `metrics`, `windows` and `denoiser` know what was settled; `baselines` are those in force, and stay as they are
    where they are `pinned`. `done` says of each partition up to where its input is dealt with.
    """

    def __init__(
        self,
        tables: Tables,
        windows: Windows,
        denoiser: Denoiser,
        topic: str,
        *,
        pinned: Baselines | None = None,
        seen: Seen | None = None,
    ) -> None:
        """Begin with nothing; `topic` is where the records come from, for the dead letters to say."""
        self.tables = tables
        self.windows = windows
        self.denoiser = denoiser
        self.metrics = Metrics()
        self.counts = Counts()
        self.done: dict[int, Position] = {}
        self.pinned = pinned
        self.seen = seen or Seen()
        self._topic = topic
        self._pending: set[bytes] = set()
        """keys of steps that are not settled yet, of whatever partition"""

    @property
    def baselines(self) -> Baselines:
        """The snapshot that events are enriched with."""
        return self.denoiser.baselines if self.pinned is None else self.pinned

    def resume(self, partition: int, position: Position, keys: Iterable[bytes]) -> None:
        """Go on with a partition after this line of it; `keys` are those of its latest output."""
        self.done[partition] = position
        self.seen.add(keys)

    def step(self, partition: int, inputs: Iterable[Input]) -> Step:
        """Work out what some records become; those that were dealt with before become nothing."""
        step = Step(partition, self.done[partition])
        found: list[tuple[bytes, RequestEvent, Input, int]] = []
        for record in inputs:
            if record.offset >= step.end.offset:
                self._read(record, step, found)
                step.records += 1
        self._enrich(found, step)
        return step

    def _read(self, record: Input, step: Step, found: list[tuple[bytes, RequestEvent, Input, int]]) -> None:
        offset, after = record.offset, step.end
        first = after.line if offset == after.offset else 0
        refused = unreadable(record.headers)
        if refused is not None:
            if not first:
                self._bury(record, step, 0, refused, record.value or b"")
            step.end = Position(offset, 1)
            return
        lines = lines_of(record.value)
        for number, line in enumerate(lines[first:], start=first + 1):
            try:
                event = decode_event(line)
                found.append((event_key(event.id), event, record, number))
            except InvalidEvent as error:
                self._bury(record, step, number, str(error), line)
            except RecursionError:
                self._bury(record, step, number, _NESTED, line)
        step.end = Position(offset, max(len(lines), first))

    def _bury(self, record: Input, step: Step, line: int, reason: str, data: bytes) -> None:
        letter = dead_letter(reason, self._topic, step.partition, record.offset, line, data)
        step.dead.append(Output(record.key, letter, JSON_HEADERS))

    def _enrich(self, found: list[tuple[bytes, RequestEvent, Input, int]], step: Step) -> None:
        """Enrich the events that were not seen before."""
        keys = {key for key, *_ in found}
        known = self.seen.known(keys) | self._pending & keys
        tables, baselines = self.tables, self.baselines
        fresh, events, outputs = step.keys, step.events, step.outputs
        for key, event, record, line in found:
            if key in known or key in fresh:
                step.duplicates += 1
                continue
            enriched = enrich(event, tables, baselines)
            try:
                value = encode_enriched(enriched)
            except RecursionError:  # what could just be read can be too deep to be written
                self._bury(record, step, line, _NESTED, lines_of(record.value)[line - 1])
                continue
            if key:
                fresh.add(key)
            events.append(enriched)
            outputs.append(Output(key, value, output_headers(record.offset, line)))
            if event.problem:
                step.problems += self._attempts(enriched, f"{step.partition}/{record.offset}.{line}")
        self._pending |= fresh

    def _attempts(self, enriched: EnrichedEvent, place: str) -> Iterator[Output]:
        """Make the record of an attempt at a problem; one without an id has its place for one, to be known again."""
        request = ProblemRequest.of(enriched)
        if request is not None:
            request = request if request.id else structs.replace(request, id=f"{self._topic}/{place}")
            yield Output(request.problem.encode(), encode_problem_request(request), JSON_HEADERS)

    def drop(self, step: Step, place: int, reason: str) -> Output:
        """Take one event out of a step, as its output cannot be written; return the dead letter for it."""
        output, event = step.outputs.pop(place), step.events.pop(place)
        step.keys.discard(output.key or b"")
        self._pending.discard(output.key or b"")
        position = Position(*map(int, output.headers[-1][1].split(b".")))
        letter = dead_letter(reason, self._topic, step.partition, *position, encode_enriched(event))
        found = Output(output.key, letter, JSON_HEADERS)
        step.dead.append(found)
        return found

    def settle(self, step: Step, now: float) -> None:
        """Count a step, all of whose output is written; `now` in seconds since 1970."""
        self.done[step.partition] = step.end
        self._pending -= step.keys
        self.seen.add(step.keys)
        counts = self.counts
        counts.records += step.records
        counts.enriched += len(step.events)
        counts.dead += len(step.dead)
        counts.duplicate += step.duplicates
        for events in by_slot(step.events, MINUTE):
            self.windows.observe(step.partition, self.metrics.observe(*events), now)
        if self.pinned is None:
            for enriched in step.events:
                self.denoiser.observe(enriched)

    def recount(self, partition: int, events: Iterable[EnrichedEvent], now: float) -> None:
        """Add to a partition's windows what a former owner wrote and did not store the sums of."""
        uncounted = Metrics()
        for run in by_slot(events, MINUTE):
            self.windows.observe(partition, uncounted.observe(*run), now)

    def release(self, step: Step) -> None:
        """Give up a step that could not be written: another worker takes its records."""
        self._pending -= step.keys

    def forget(self, partition: int) -> None:
        """Leave a partition to others; its keys stay known, as what was written stays so."""
        self.done.pop(partition, None)
        self.windows.forget(partition)

    def refresh(self, limit: int) -> list[Baseline]:
        """Work out baselines anew that are due, at most so many (a few milliseconds each), and put them in force."""
        if self.pinned is not None:
            return []
        fresh = self.denoiser.refresh(limit)
        self.metrics.count_steps(fresh)
        self.metrics.put_in_force(fresh)
        return fresh
