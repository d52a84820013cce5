"""One partition's lane, with a log in memory in place of Kafka."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import pytest

from stream import lane as lanes
from stream.coefficients import load_tables
from stream.denoise import Denoiser
from stream.engine import Engine, Input, Output
from stream.events import RequestEvent, encode_event
from stream.fenced import ClaimLost, Record, TooLarge
from stream.lane import Lane, Tail
from stream.records import Position, position_of
from stream.topics import Topics
from stream.windows import Windows

TABLES = load_tables()


class Log:
    """The output and what is kept of windows, as a broker has them; `trouble` comes before each append."""

    failing = None
    claimed_at = 0.0

    def __init__(self) -> None:
        self.output: list[Record] = []
        self.windows: list[Record] = []
        self.dead: list[Output] = []
        self.problems: list[Output] = []
        self.taken = 0
        self.most = 10_000
        self.trouble: list[Exception] = []

    async def take(self) -> None:
        self.taken += 1
        self.claimed_at = asyncio.get_running_loop().time()

    async def append(self, topic: str, records: Sequence[Record]) -> int:
        await asyncio.sleep(0)
        if self.trouble:
            raise self.trouble.pop(0)
        if len(records) > self.most or any(record.key == b"huge" for record in records):
            raise TooLarge("too large")
        kept = self.windows if topic.endswith("windows") else self.output
        kept += records
        return len(kept) - len(records)


class Worker:
    """What a lane asks for, answered from a log."""

    def __init__(self, log: Log, committed: int = 0) -> None:
        self.log = log
        self.topics = Topics()
        self.turn = asyncio.Lock()
        self.engine = Engine(TABLES, Windows(), Denoiser(origin="test"), "llm.requests")
        self._committed = committed

    def claim(self, _: int) -> Any:
        return self.log

    async def tail(self, _: int, after: Position) -> Tail:
        positions = [position_of(record.headers) or Position(-1, 0) for record in self.log.output]
        return Tail(max(positions, default=Position(-1, 0)), {record.key or b"" for record in self.log.output}, [])

    async def committed(self, _: int) -> int:
        return self._committed

    async def bury(self, _: int, letters: Sequence[Output]) -> None:
        self.log.dead += letters

    async def announce(self, requests: Sequence[Output]) -> None:
        assert not {each.value for each in requests} & {each.value for each in self.log.output}
        self.log.problems += requests

    async def stored(self, _: int) -> list[tuple[str, bytes | None]]:
        return [((record.key or b"").decode(), record.value) for record in self.log.windows]


def record(offset: int, *names: str) -> Input:
    events = (RequestEvent(id=name, model="davinci", prompt_tokens=9, completion_tokens=9) for name in names)
    return Input(offset, b"key", b"\n".join(map(encode_event, events)))


def written(log: Log) -> list[str]:
    return [(each.key or b"").decode() for each in log.output]


async def until(done: Callable[[], object]) -> None:
    for _ in range(2000):
        if done():
            return
        await asyncio.sleep(0.002)
    raise AssertionError("never so")


async def opened(worker: Worker) -> Lane:
    lane = Lane(0, worker)
    await until(lambda: lane.ready)
    return lane


def run(scenario: Coroutine[Any, Any, None]) -> None:
    asyncio.run(scenario)


def test_what_is_put_is_written_and_may_be_committed() -> None:
    async def scenario() -> None:
        lane = await opened(Worker(log := Log()))
        assert lane.put([record(0, "a", "b"), record(1, "c")]) is None
        await until(lambda: lane.done == 2)
        assert written(log) == ["a", "b", "c"]
        await lane.stop(1.0)

    run(scenario())


def test_missing_records_are_asked_for_once() -> None:
    async def scenario() -> None:
        lane = await opened(Worker(log := Log()))
        assert lane.put([record(0, "a"), record(3, "d")]) == 1
        assert lane.put([record(1, "b"), record(2, "c"), record(3, "d")]) is None
        assert lane.put([record(6, "g")]) == 4
        assert lane.put([record(6, "g")]) is None, "retention has deleted what was before"
        await until(lambda: lane.done == 7)
        assert written(log) == ["a", "b", "c", "d", "g"]
        await lane.stop(1.0)

    run(scenario())


def test_records_that_come_again_are_passed_over() -> None:
    async def scenario() -> None:
        lane = await opened(Worker(log := Log()))
        assert lane.put([record(0, "a"), record(1, "b")]) is None
        assert lane.put([record(0, "a"), record(1, "b"), record(2, "c")]) is None
        await until(lambda: lane.done == 3)
        assert written(log) == ["a", "b", "c"]
        await lane.stop(1.0)

    run(scenario())


def test_the_output_says_where_to_go_on_and_a_half_written_record_is_finished() -> None:
    async def scenario() -> None:
        log = Log()
        first = await opened(Worker(log))
        first.put([record(0, "a"), record(1, "b", "c")])
        await until(lambda: first.done == 2)
        await first.stop(1.0)
        log.output.pop()  # as though only half of the last record's output had been written
        lane = await opened(Worker(log, committed=1))
        assert lane.rewind == lane.done == 1, "the record is not to be committed before it is finished"
        lane.put([record(1, "b", "c"), record(2, "d")])
        await until(lambda: lane.done == 3)
        assert written(log) == ["a", "b", "c", "d"]
        await lane.stop(1.0)

    run(scenario())


def test_nothing_is_committed_of_a_partition_that_has_nothing() -> None:
    async def scenario() -> None:
        lane = await opened(Worker(Log()))
        assert lane.done == lane.next == 0
        await lane.stop()

    run(scenario())


def test_a_lost_claim_is_taken_again_and_what_was_given_up_is_fetched_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "_AGAIN_SECONDS", 0.01)

    async def scenario() -> None:
        log = Log()
        lane = await opened(worker := Worker(log))
        log.trouble.append(ClaimLost("claimed"))
        lane.put([record(0, "a"), record(1, "b")])
        await until(lambda: log.taken == 2 and lane.ready)
        assert (written(log), lane.lost, lane.rewind) == ([], 1, 0)
        assert worker.engine.counts.enriched == 0
        lane.put([record(0, "a"), record(1, "b")])
        await until(lambda: lane.done == 2)
        assert written(log) == ["a", "b"]
        await lane.stop(1.0)

    run(scenario())


def test_a_claim_that_is_in_doubt_is_confirmed_without_records(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "_AGAIN_SECONDS", 0.01)

    async def scenario() -> None:
        log = Log()
        lane = await opened(Worker(log))
        await until(lambda: log.windows)
        log.trouble.append(ClaimLost("claimed"))
        lane.confirm()
        await until(lambda: log.taken == 2 and lane.ready)
        await lane.stop(1.0)

    run(scenario())


def test_windows_too_many_for_one_batch_are_stored_in_parts() -> None:
    async def scenario() -> None:
        log = Log()
        log.most = 1
        lane = await opened(Worker(log))
        lane.put([record(0, "a")])
        await until(lambda: lane.done == 1)
        await lane.stop(1.0)
        assert len(log.windows) >= 1

    run(scenario())


@pytest.mark.parametrize("most", [1, 2, 3, 100])
def test_too_much_for_one_batch_goes_in_parts_and_what_fits_nowhere_is_buried(most: int) -> None:
    async def scenario() -> None:
        log = Log()
        log.most = most
        lane = await opened(Worker(log))
        lane.put([record(0, "a", "b", "huge", "c", "d"), record(1, "e")])
        await until(lambda: lane.done == 2)
        assert written(log) == ["a", "b", "c", "d", "e"]
        assert len(log.dead) == 1
        await lane.stop(1.0)

    run(scenario())


def test_a_lane_that_is_full_says_so_and_goes_on() -> None:
    async def scenario() -> None:
        log = Log()
        lane = await opened(Worker(log))
        large = b" " * (1 << 20)
        lane.put([Input(each, b"", encode_event(RequestEvent(id=str(each), model="m")) + large) for each in range(3)])
        assert not lane.has_room
        await until(lambda: lane.done == 3)
        assert lane.has_room
        await lane.stop(1.0)

    run(scenario())


def test_windows_are_stored_at_the_end_with_what_they_count() -> None:
    async def scenario() -> None:
        log = Log()
        lane = await opened(Worker(log))
        lane.put([record(0, "a")])
        await until(lambda: lane.done == 1)
        await lane.stop(1.0)
        again = Worker(log)
        await (await opened(again)).stop()
        assert again.engine.windows.own()[0].offset == 0
        assert again.engine.windows.own()[0].undated == 1

    run(scenario())
