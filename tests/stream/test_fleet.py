"""Denoisers that tell each other what they saw: records, laws of their union, restarts, steps, what is hostile."""

import json
import random
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.baselines import Baseline, Baselines, baselines_to_json, load_baselines
from stream.coefficients import load_tables
from stream.denoise import Denoiser
from stream.embedded import EmbeddedStream
from stream.enrich import enrich
from stream.events import EnrichedEvent, RequestEvent, encode_event
from stream.fleet import source_of
from stream.observation import are_sound, pack, packed_time, unpack, when
from stream.simulate import Simulation
from tests.prove.joining import Topic, Worker, Workers
from tests.prove.judging import judge

TABLES = load_tables()
BEGAN = datetime(2026, 1, 5, 8, tzinfo=UTC)
PAIR = ("host", "m")
Record = tuple[bytes, bytes | None]


def event(number: int, factor: float = 1.0, **fields: Any) -> EnrichedEvent:
    rng = random.Random(number)
    prompt, output = rng.randint(50, 2000), rng.randint(20, 300)
    held = factor * max(1.0, rng.lognormvariate(0.1, 0.3)) * rng.gauss(1.0, 0.01)
    first, pace = (0.05 + 1e-4 * prompt) * held, 0.01 * held
    given = RequestEvent(
        **{
            "id": f"{number:08x}",
            "model": "m",
            "upstream": "host",
            "ended_at": BEGAN + timedelta(seconds=number),
            "prompt_tokens": prompt,
            "completion_tokens": output,
            "raw_runtime_seconds": first + pace * (output - 1),
            "time_to_first_token_seconds": first,
            "time_per_output_token_seconds": pace,
            **fields,
        }
    )
    return enrich(given, TABLES)


def fed(origin: str | None, numbers: Iterable[int], factor: float = 1.0, **fields: Any) -> Denoiser:
    denoiser = Denoiser(origin=origin)
    for number in numbers:
        denoiser.observe(event(number, factor, **fields))
    return denoiser


def told(denoiser: Denoiser, records: Iterable[Record]) -> Denoiser:
    for key, value in records:
        denoiser.share(source_of(key) or "", key, value)
    return denoiser


def record(origin: str, numbers: Iterable[int], factor: float = 1.0) -> Record:
    denoiser = fed(origin, numbers, factor)
    denoiser.refresh(force=True)
    (found,) = denoiser.publish(force=True)
    return found


def spoiled(**fields: Any) -> Record:
    key, value = record("other", range(40))
    return key, json.dumps({**json.loads(value or b""), **fields}).encode()


def test_two_that_saw_too_little_alone_know_enough_together() -> None:
    left, right = fed("left", range(0, 40, 2)), fed("right", range(1, 40, 2))
    assert not left.refresh()
    told(left, right.publish())
    told(right, left.publish())
    (one,), (other,) = left.refresh(), right.refresh()
    assert (one.n, one.version_name, other.version_name) == (40, "left:1", "right:1")
    assert one.per_output_token == other.per_output_token == pytest.approx(0.01, rel=0.1)


def test_one_that_saw_nothing_knows_what_others_do() -> None:
    denoiser = told(Denoiser(origin="new"), [record("old", range(200))])
    (baseline,) = denoiser.refresh()
    assert (baseline.n, baseline.upstream, baseline.model) == (200, *PAIR)
    assert denoiser.missing(*PAIR) is None


def test_what_several_saw_counts_once() -> None:
    alone = fed(None, range(300))
    (wanted,) = alone.refresh()
    whole = told(fed("a", range(300)), [record("b", range(300)), record("c", range(100, 200))])
    (found,) = whole.refresh()
    assert found.n == wanted.n == 300
    assert found.per_output_token == pytest.approx(wanted.per_output_token, rel=0.01)


def test_a_union_is_no_larger_than_one_sketch() -> None:
    records = [record(f"worker-{number}", range(number, 4000, 4)) for number in range(4)]
    (baseline,) = told(Denoiser(origin="w"), records).refresh()
    assert baseline.n == 640
    latest = BEGAN + timedelta(seconds=3999)
    assert baseline.until == latest


@given(st.permutations(range(4)), st.lists(st.integers(0, 3), max_size=3))
def test_order_and_repetition_do_not_matter(order: Sequence[int], again: Sequence[int]) -> None:
    records = [record(f"worker-{number}", range(number, 60 * (number + 1), 3)) for number in range(4)]
    one, other = fed("w", range(30)), fed("w", range(30))
    told(one, records)
    told(other, [*(records[number] for number in order), *(records[number] for number in again)])
    assert one.refresh() == other.refresh()
    assert dict(one.changed()) == dict(other.changed())


def test_of_one_source_the_latest_record_counts() -> None:
    denoiser = told(Denoiser(origin="w"), [record("a", range(100)), record("a", range(500, 540))])
    (baseline,) = denoiser.refresh()
    assert (baseline.n, baseline.since) == (40, BEGAN + timedelta(seconds=500))


def test_a_source_that_is_taken_back_is_forgotten() -> None:
    key, value = record("a", range(100))
    denoiser = told(Denoiser(origin="w"), [(key, value), record("b", range(100, 140)), (key, None), (key, b"")])
    (baseline,) = denoiser.refresh()
    assert baseline.n == 40
    alone = told(Denoiser(), [(key, value), (key, None)])
    assert not alone.refresh()
    assert "not enough" in (alone.missing(*PAIR) or "")
    assert not denoiser.ignored


def test_sources_that_stopped_fade_with_the_window_and_put_nothing_off() -> None:
    day = 86_400
    denoiser = told(fed("w", range(2 * day, 2 * day + 60)), [record("gone", range(5000))])
    (baseline,) = denoiser.refresh()
    assert (baseline.n, baseline.since) == (60, BEGAN + timedelta(days=2))
    for number in range(2 * day + 60, 2 * day + 130):
        denoiser.observe(event(number))
    (baseline,) = denoiser.refresh()  # as many again: one that has seen 60 is due
    assert baseline.n == 130


def test_only_what_is_new_is_published_and_new_baselines_always_are() -> None:
    denoiser = Denoiser(origin="w")
    for number in range(800):
        denoiser.observe(event(number, model=f"m{number % 8}"))
    assert len(denoiser.publish(3)) == 3
    assert len(denoiser.publish(3)) == 3
    assert len(denoiser.publish(3)) == 2
    assert not denoiser.publish()
    assert len(denoiser.refresh()) == 8
    assert len(denoiser.publish(3)) == 8
    denoiser.observe(event(900, model="m1"))
    assert not denoiser.publish()
    ((key, _),) = denoiser.publish(force=True)
    assert key == b'["w","host","m1"]'
    assert not denoiser.publish(force=True)
    for number in range(12):
        denoiser.observe(event(1000 + number, model="m2"))
    assert [key for key, _ in denoiser.publish()] == [b'["w","host","m2"]']


def test_what_is_heard_is_not_told_again() -> None:
    denoiser = told(fed("w", range(30)), [record("a", range(30, 300))])
    ((_, value),) = denoiser.publish()
    found = json.loads(value or b"")
    assert found["counts"][0] == 30
    again = told(Denoiser(), [(b'["w","host","m"]', value)])
    again.refresh()
    assert again.baselines[PAIR].n == 30


def test_pairs_that_are_given_up_are_taken_back() -> None:
    denoiser = Denoiser(origin="w", max_pairs=10)
    for number in range(10):
        denoiser.observe(event(number, model=f"m{number}"))
    assert len(denoiser.publish()) == 10
    denoiser.observe(event(20, model="another"))
    gone, (key, value) = denoiser.publish()
    assert gone == (b'["w","host","m0"]', None)
    assert key == b'["w","host","another"]'
    assert value


def test_nobody_publishes_without_a_name() -> None:
    denoiser = fed(None, range(100))
    denoiser.refresh()
    assert not denoiser.publish(force=True)
    assert denoiser.baselines[PAIR].version_name == "1"


@pytest.mark.parametrize("taken_back_first", [True, False])
def test_a_worker_that_begins_again_goes_on_with_what_it_knew(taken_back_first: bool) -> None:
    events = [enrich(each.event, TABLES) for each in Simulation(3, 900, "many")]
    other = [enrich(each.event, TABLES) for each in Simulation(4, 300, "many")]
    through, helper = Denoiser(origin="w"), Denoiser(origin="helper")
    for each in other:
        helper.observe(each)
    shared = helper.publish(force=True)
    told(through, shared)
    topic: dict[bytes, bytes | None] = {}
    for number, each in enumerate(events[:600], 1):
        through.observe(each)
        if number % 50 == 0:
            through.refresh()
            topic.update(through.publish())
    topic.update(through.publish(force=True))
    again = Denoiser(origin="w")
    if not taken_back_first:
        told(again, shared)
    for key, value in topic.items():
        again.own(key, value or b"")
    if taken_back_first:
        told(again, shared)
    assert dict(again.baselines) == dict(through.baselines)
    assert not again.refresh()
    for number, each in enumerate(events[600:], 1):
        for denoiser in (through, again):
            denoiser.observe(each)
            if number % 50 == 0:
                denoiser.refresh()
    assert {key: learned(again.baselines[key]) for key in through.baselines} == {
        key: learned(each) for key, each in through.baselines.items()
    }
    before, after = ({each.version for each in denoiser.baselines.values()} for denoiser in (through, again))
    assert min(after - before) > 1000  # no number is given twice, whatever was not published


def learned(baseline: Baseline) -> tuple[float, ...]:
    return (baseline.n, baseline.per_output_token, baseline.overhead, *baseline.prompt_seconds)


def test_its_own_records_change_nothing_while_it_runs() -> None:
    denoiser = fed("w", range(100))
    denoiser.refresh()
    ((key, value),) = denoiser.publish()
    before = denoiser.baselines
    denoiser.observe(event(100))
    denoiser.changed()
    denoiser.own(key, value or b"")
    assert denoiser.baselines is before
    assert not denoiser.changed()


def test_a_lasting_change_that_one_finds_is_everybodys() -> None:
    workers = Workers(Simulation(1, 1, "default"), 2)
    one, other = (worker.denoiser for worker in workers.workers)
    for number in range(2000):
        for denoiser in (one, other):
            denoiser.observe(event(number + (denoiser is other) * 10_000, ended_at=BEGAN + timedelta(seconds=number)))
        if number % 50 == 0:
            workers.refresh()
    for number in range(2000, 3000):
        one.observe(event(number, 2.0))
        if number % 50 == 0:
            workers.refresh()
    steps = [denoiser.baselines[PAIR].steps for denoiser in (one, other)]
    assert [[step.factor for step in each] for each in steps] == [[pytest.approx(2.0, rel=0.1)]] * 2
    assert steps[0][0].at == steps[1][0].at
    for denoiser in (one, other):
        assert denoiser.baselines[PAIR].per_output_token == pytest.approx(0.02, rel=0.1)


@pytest.mark.parametrize("count", [2, 4])
def test_workers_that_share_the_traffic_learn_as_one_does(count: int) -> None:
    for seed in range(1, 4):
        verdict = judge(seed, "default", 600, lambda simulation: Workers(simulation, count, restart_every=5))
        assert verdict.broke is None
        ((errors,),) = verdict.at.values()
        assert errors is not None
        assert errors.worst <= 0.10
        assert verdict.wrong <= 0.01 * verdict.given


def test_all_of_a_fleet_come_to_the_same() -> None:
    workers = Workers(Simulation(1, 1, "default"), 3)
    for number in range(600):
        workers.observe(event(number))
    for worker in workers.workers:
        workers.topic.publish(worker.denoiser, force=True)
    found = [worker.denoiser.refresh(force=True) for worker in workers.workers]
    assert {each.n for (each,) in found} == {600}
    first, *rest = ((each.per_output_token, each.overhead, *each.prompt_seconds) for (each,) in found)
    assert all(each == first for each in rest)


def test_who_joins_later_learns_from_the_topic() -> None:
    topic = Topic()
    early = Worker("early", topic)
    for number in range(100):
        early.denoiser.observe(event(number))
    early.denoiser.refresh()
    topic.publish(early.denoiser)
    late = Worker("late", topic)
    (baseline,) = late.denoiser.refresh()
    assert (baseline.n, baseline.version_name) == (100, "late:1")
    again = Worker("early", topic)
    assert again.denoiser.baselines[PAIR].version_name == "early:1"


NOT_RECORDS = {
    "empty": b"{}",
    "no JSON": b"\xff\x00",
    "deep": b"[" * 100_000,
    "a later format": spoiled(format=2)[1],
    "no format": spoiled(format="1")[1],
    "odd bytes": spoiled(recent="AAAA")[1],
    "no base64": spoiled(sample="?")[1],
    "a threshold of another size": spoiled(threshold="AA==")[1],
    "size": spoiled(size=10**9)[1],
    "too small": spoiled(size=1)[1],
    "too many": spoiled(recent=spoiled()[1] and "A" * 4 * 28 * 300)[1],
    "negative": spoiled(counts=[-1, 0, 0, 0, 0, 0, 0, 0, 0])[1],
    "not a number": spoiled(recent="AAAAAQAAAAEAAAABAAAAAX/AAAB/wAAAf8AAAA==")[1],
    "counts": spoiled(counts="many")[1],
}


@pytest.mark.parametrize("value", NOT_RECORDS.values(), ids=NOT_RECORDS)
def test_what_is_no_record_is_ignored_and_counted(value: bytes) -> None:
    denoiser = fed("w", range(40))
    key = b'["other","host","m"]'
    denoiser.share("other", key, value)
    denoiser.own(b'["w","host","n"]', value)
    assert denoiser.ignored == 2
    assert denoiser.pairs == 1
    (baseline,) = denoiser.refresh()
    assert baseline.n == 40


@pytest.mark.parametrize("key", [b"", b"x", b"{}", b'["a"]', b'["","host","m"]', b'["a",1,"m"]', b"\xff", b"[" * 9999])
def test_keys_that_cannot_be_read_are_ignored(key: bytes) -> None:
    denoiser = Denoiser(origin="w")
    assert source_of(key) is None
    for value in (record("other", range(40))[1], None):
        denoiser.share("", key, value)
        denoiser.own(key, value or b"")
    assert (denoiser.ignored, denoiser.pairs) == (4, 0)


def baseline_of(key: tuple[str | None, str | None] = PAIR, **fields: Any) -> dict[str, Any]:
    whole = json.loads(record("other", range(100))[1] or b"")["learned"]
    assert whole["baseline"]["model"] == "m"
    return {**whole, "baseline": {**whole["baseline"], "upstream": key[0], "model": key[1], **fields}}


@pytest.mark.parametrize(
    "learned",
    [
        baseline_of(("host", "n")),
        baseline_of(knots=[], prompt_seconds=[]),
        baseline_of(knots=[5, 1], prompt_seconds=[0.1, 0.1]),
        baseline_of(knots=[0], prompt_seconds=[0.1]),
        baseline_of(knots=[1, 2], prompt_seconds=[0.1]),
        baseline_of(prompt_range=[-5, 100]),
        baseline_of(per_output_token=-1.0),
        baseline_of(context=1e308),
        baseline_of(steps=[{"at": "2026-01-05T08:00:00", "factor": 2.0, "version": 1}]),
        baseline_of(steps=[{"at": "never", "factor": 2.0, "version": 1}]),
    ],
    ids=str,
)
def test_a_baseline_that_cannot_be_used_is_ignored(learned: dict[str, Any]) -> None:
    key, value = spoiled(learned=learned)
    denoiser = told(fed("w", range(100)), [(key, value)])
    denoiser.own(b'["w","host","m2"]', value or b"")
    assert denoiser.ignored == 2
    assert denoiser.pairs == 1


@given(st.binary(max_size=60), st.none() | st.binary(max_size=200))
def test_nothing_in_the_topic_stops_anybody(key: bytes, value: bytes | None) -> None:
    denoiser = Denoiser(origin="w")
    denoiser.share(source_of(key) or "", key, value)
    denoiser.own(key, value or b"")
    denoiser.share("other", b'["other","host","m"]', value)
    assert denoiser.pairs == 0


@pytest.mark.parametrize("at", [BEGAN + timedelta(days=4000), datetime(1, 1, 1, tzinfo=UTC)])
def test_a_change_of_an_absurd_date_takes_nothing_away(at: datetime) -> None:
    step = {"at": at.isoformat(), "factor": 2.0, "version": 1}
    denoiser = told(fed("w", range(60)), [spoiled(learned=baseline_of(steps=[step]))])
    (baseline,) = denoiser.refresh()
    assert baseline.n == 60
    assert not baseline.steps


def test_others_never_take_the_place_of_what_passes_here() -> None:
    denoiser = Denoiser(origin="w", max_pairs=10)
    for number in range(10):
        denoiser.observe(event(number, model=f"m{number}"))
    told(denoiser, [record("other", range(100))])
    assert denoiser.pairs == 10
    denoiser.observe(event(20))
    (baseline,) = denoiser.refresh()  # but once it passes here too, all is there
    assert (baseline.model, baseline.n) == ("m", 100)


def test_records_are_bounded_by_shrinking() -> None:
    denoiser = Denoiser(origin="w")
    _, value = record("other", range(800))
    for number in range(1700):
        denoiser.share(f"other-{number}", b'["x","host","m"]', value)
    held = denoiser._others._held[PAIR]
    assert len(held) == 1700
    assert {len(each.recent + each.sample) for each in held.values()} == {320 * 28}


def test_a_baseline_keeps_its_origin_in_a_file(tmp_path: Any) -> None:
    denoiser = fed("w", range(100))
    denoiser.refresh()
    path = tmp_path / "baselines.json"
    path.write_bytes(baselines_to_json(denoiser.baselines.values()))
    loaded = load_baselines(path)
    assert loaded.denoised(PAIR, 100, 0, 10) == denoiser.baselines.denoised(PAIR, 100, 0, 10)
    assert loaded.denoised(PAIR, 100, 0, 10)[0] == "w:1"
    assert Baselines(loaded.values())[PAIR].origin == "w"


def test_a_gateway_takes_from_a_fleet_at_a_save_and_keeps_versions_of_its_own(tmp_path: Any) -> None:
    stream = EmbeddedStream(tmp_path / "stream.sqlite", TABLES)
    stream.share([record("worker-1", range(200)), (b"x", b"y")])
    assert stream.denoiser.ignored == 1
    assert not stream.baselines
    stream.save()
    assert stream.baselines[PAIR].version_name == "1"
    stream.take("events-0", [(1, encode_event(event(300).event))])
    assert stream.recent[-1].baseline_version == "1"
    stream.close()
    again = EmbeddedStream(tmp_path / "stream.sqlite", TABLES)
    assert dict(again.baselines) == dict(stream.baselines)
    assert dict(again.denoiser.baselines) == dict(stream.denoiser.baselines)
    again.close()


def test_observations_are_sound_as_packed_and_as_times() -> None:
    packed = pack(event(1).event) or b""
    assert are_sound(packed * 3)
    assert are_sound(b"")
    assert not are_sound(packed[:-1])
    assert not are_sound(packed + packed[:16] + b"\xbf\x80\x00\x00" + packed[20:])
    (found,) = unpack(packed)
    assert packed_time(found.at) == when(packed)
    assert packed_time(-1.0) == bytes(4)
    assert packed_time(float("inf")) == b"\xff" * 4
