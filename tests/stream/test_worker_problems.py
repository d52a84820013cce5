"""A fleet's problems: what workers write of them, what each knows of all, and that nothing of it is in the way."""

import asyncio
import json
import random
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import kafka_topics
import pytest
from kafka_broker import GUARDED, Broker, Served
from kafka_topics import New
from worker_process import WorkerProcess

from stream.cli import main
from stream.coefficients import load_tables
from stream.denoise import Denoiser
from stream.engine import Engine, Input, Output
from stream.events import RequestEvent, encode_event
from stream.fleet_problems import FleetProblems, NotThere
from stream.kafka import KafkaSettings
from stream.problem_requests import decode_problem_request
from stream.query import QueryError
from stream.records import JSON_HEADERS, Position, pack
from stream.topics import Topics
from stream.windows import Windows
from stream.writer import TOO_LARGE, Refusals, Writer

NOW = datetime.now(UTC)
TABLES = load_tables()
SOON = "from stream import fleet_problems\nfleet_problems._LOOK_SECONDS = fleet_problems._AGAIN_SECONDS = 0.3"


def attempt(number: int, problem: str | None, strategy: str = "greedy", model: str = "davinci") -> RequestEvent:
    return RequestEvent(
        id=f"r{number}", ended_at=NOW - timedelta(seconds=number), upstream="one", model=model, status=200,
        prompt_tokens=100 + number, completion_tokens=10 + number, raw_runtime_seconds=1.0, problem=problem,
        strategy=strategy,
    )  # fmt: skip


def attempts() -> list[RequestEvent]:
    """Four strategies and models at eight problems, and requests of none."""
    ways = [(model, strategy) for model in ("davinci", "curie") for strategy in ("greedy", "majority")]
    found = []
    for number in range(96):
        model, strategy = ways[number // 8 % 4]
        found.append(attempt(number, f"p{number % 8}", strategy, f"openai/{model}"))
    return [*found, *(attempt(1000 + number, None) for number in range(20))]


def outcomes() -> list[dict[str, Any]]:
    """One for nearly every request, some of them recorded again, and some that fit nothing."""
    chance = random.Random(7)
    found: list[dict[str, Any]] = []
    for number in range(90):
        judged: dict[str, Any] = {"problem": f"p{number % 8}", "id": f"r{number}", "recorded_at": moment(number)}
        found.append({**judged, "score": round(chance.random(), 3)})
        if number % 5 == 0:
            found.append({**judged, "recorded_at": moment(number - 50), "correct": number % 10 == 0})
    return [*found, {"problem": "p1", "correct": True, "recorded_at": moment(1)}, {"problem": "unheard", "score": 0.5}]


def moment(seconds: float) -> str:
    return (NOW - timedelta(seconds=seconds)).isoformat()


def put(broker: Served, prefix: str, events: Sequence[RequestEvent], log: str = "log") -> None:
    rows = list(enumerate(map(encode_event, events), start=1))
    kafka_topics.write(
        broker.bootstrap, f"{prefix}llm.requests", [New(each.value, each.key) for each in pack(log, rows, 5)]
    )


def judge(broker: Served, prefix: str, found: Sequence[dict[str, Any]]) -> None:
    records = [New(json.dumps(each).encode(), each["problem"].encode(), headers=JSON_HEADERS) for each in found]
    kafka_topics.write(broker.bootstrap, f"{prefix}llm.outcomes", records)


def strategies(worker: WorkerProcess, query: str = "") -> dict[str, Any]:
    found: dict[str, Any] = json.loads(worker.ask(f"/trueclock/v1/strategies{query}") or b"{}")
    return found


def refused(worker: WorkerProcess, query: str = "") -> tuple[int, str]:
    """Status and message of an answer that is none."""
    with pytest.raises(urllib.error.HTTPError) as raised:
        urllib.request.urlopen(f"{worker.address}/trueclock/v1/strategies{query}", timeout=10)
    with closing(raised.value) as answer:
        return answer.code, json.loads(answer.read())["error"]["message"]


def soon(wanted: Callable[[], object], good: object = True) -> None:
    deadline = time.monotonic() + 60
    while (found := wanted()) != good:
        assert time.monotonic() < deadline, f"{found} is not {good}"
        time.sleep(0.1)


def offline(
    broker: Served, prefix: str, found: Sequence[dict[str, Any]], folder: Path, capfd: pytest.CaptureFixture[str]
) -> dict[str, Any]:
    """What `stream outcomes` makes of the enriched events and of these outcomes."""
    events = kafka_topics.read_topic(broker.bootstrap, f"{prefix}llm.requests.enriched")
    (folder / "events.jsonl").write_bytes(b"\n".join(each.value for each in events))
    (folder / "outcomes.json").write_text(json.dumps(found))
    capfd.readouterr()
    files = ["--events", str(folder / "events.jsonl"), "--outcomes", str(folder / "outcomes.json")]
    assert main(["outcomes", *files, "--json", "--human-dollars", "2.5"]) == 0
    answer: dict[str, Any] = json.loads(capfd.readouterr().out)
    return answer


@pytest.fixture
def topics(broker: Served, prefix: str) -> Topics:
    found = Topics(prefix)
    kafka_topics.create_topic(broker.bootstrap, found.requests, 4)
    return found


@pytest.fixture
def workers(broker: Served, prefix: str, topics: Topics, tmp_path: Path) -> Iterator[list[WorkerProcess]]:
    made = [WorkerProcess(broker.bootstrap, tmp_path, "--topic-prefix", prefix, name=name) for name in ("w1", "w2")]
    with made[0], made[1]:
        for each in made:
            each.ready(2)
        yield made


def test_every_worker_answers_as_a_recount_of_the_fleet_does(
    workers: list[WorkerProcess], broker: Served, prefix: str, topics: Topics, tmp_path: Path, capfd: Any
) -> None:
    judged, asked = outcomes(), attempts()
    half = len(judged) // 2
    judge(broker, prefix, [*judged[:half], *judged[:9]])
    put(broker, prefix, asked)
    put(broker, prefix, asked[:30], "log")  # again, as a gateway does that was killed
    judge(broker, prefix, [*judged[half:], *judged[half : half + 9]])
    kafka_topics.write(broker.bootstrap, topics.outcomes, [New(b"{"), New(None, b"p1"), New(b'{"problem": "p1"}')])
    kafka_topics.write(
        broker.bootstrap, topics.problems, [New(b'{"id":"x"}'), New(b"{}", headers=[("schema-version", b"9")])]
    )
    soon(lambda: [(found.get("requests"), found.get("outcomes")) for found in map(strategies, workers)], [(96, 92)] * 2)
    assert sum(each.status()["enriched"] for each in workers) == 116
    wanted = offline(broker, prefix, judged, tmp_path, capfd)
    assert {each["strategy"] for each in wanted["strategies"]} == {"greedy", "majority"}
    assert wanted["without_requests"] == wanted["ambiguous"] == 1
    for each in workers:
        assert strategies(each, "?human_dollars=2.5") == wanted
        assert strategies(each, "?stack=v100-megatron")["stack"] == "v100-megatron"
        assert refused(each, "?stack=none")[0] == refused(each, "?human_dollars=-1")[0] == 400
        assert (each.status()["problems"], each.status()["problems_failing"]) == (9, None)
        metrics = (each.ask("/metrics") or b"").decode()
        assert "trueclock_problems 9.0" in metrics
        assert 'trueclock_stream_problem_records_unreadable_total{topic="outcomes"} 3.0' in metrics
        assert 'trueclock_stream_problem_records_unreadable_total{topic="problems"} 2.0' in metrics
        assert gauges(wanted) <= set(metrics.splitlines())
    written = kafka_topics.read_topic(broker.bootstrap, topics.problems)
    assert len(written) == 96 + 2
    assert all(each.partition == murmur(each.key, 4) for each in written if each.key)


def gauges(answer: dict[str, Any]) -> set[str]:
    """What `/metrics` says of the strategies of an answer: how many problems were judged, and what they cost."""
    found = {"trueclock_strategies_left_out 0.0"}
    for each in answer["strategies"]:
        model, strategy = f'model="{each["model"]}"', f'strategy="{each["strategy"]}"'
        judged, dollars = each["problems"] - each["unjudged"], each["measures"]["dedicated_dollars"]["total"]
        found.add(f"trueclock_strategy_judged_problems{{{model},{strategy}}} {float(judged)}")
        place = f'basis="dedicated",{model},stack="{answer["stack"]}",{strategy}'
        found.add(f"trueclock_strategy_cost_dollars{{{place}}} {dollars}")
    return found


def murmur(key: bytes, partitions: int) -> int:
    return int((kafka_topics.murmur2(key) & 0x7FFFFFFF) % partitions)


KILLED = """
import os
from stream import lane
_append = lane.Lane._append
async def append(self, step, *rest):
    if step.problems:
        os._exit(9)
    return await _append(self, step, *rest)
lane.Lane._append = append
"""


def test_a_worker_that_dies_between_a_problem_and_its_event_counts_it_once(
    broker: Served, prefix: str, topics: Topics, tmp_path: Path, capfd: Any
) -> None:
    asked = [attempt(number, "p1" if number % 2 else "p2") for number in range(12)]
    asked += [RequestEvent(problem="p1", model="davinci", prompt_tokens=9, completion_tokens=9, ended_at=NOW)] * 3
    judged = [{"problem": "p1", "correct": True, "recorded_at": moment(0)}]
    put(broker, prefix, asked)
    options = ["--topic-prefix", prefix]
    for _ in range(2):
        with WorkerProcess(broker.bootstrap, tmp_path, *options, name="w1", preamble=KILLED) as dying:
            assert dying.process.wait(60) == 9
    assert not kafka_topics.read_topic(broker.bootstrap, topics.enriched)
    assert kafka_topics.read_topic(broker.bootstrap, topics.problems)
    with WorkerProcess(broker.bootstrap, tmp_path, *options, name="w1") as worker:
        worker.wait(lambda status: status["enriched"] == 15)
        judge(broker, prefix, judged)
        soon(lambda: [strategies(worker).get(each) for each in ("requests", "outcomes")], [15, 1])
        written = [
            decode_problem_request(each.value) for each in kafka_topics.read_topic(broker.bootstrap, topics.problems)
        ]
        assert len(written) > 15 == len({each.id for each in written})
        assert strategies(worker, "?human_dollars=2.5") == offline(broker, prefix, judged, tmp_path, capfd)


def test_a_topic_that_is_refused_is_in_nobodys_way(own_broker: None, tmp_path: Path) -> None:
    from kafka.admin import ACL, ACLOperation, ACLPermissionType, ResourcePattern, ResourceType

    def rule(operation: str, kind: str, name: str, verdict: str = "ALLOW") -> Any:
        place = ResourcePattern(ResourceType[kind], name)
        return ACL("User:bob", "*", ACLOperation[operation], ACLPermissionType[verdict], place)

    topics, users = Topics(), {"bob": "the-secret"}
    with (
        Broker(tmp_path / "broker", users=users, properties=GUARDED) as broker,
        closing(kafka_topics.KafkaAdminClient(bootstrap_servers=broker.bootstrap)) as admin,
    ):
        everything = [rule("ALL", "GROUP", "*"), rule("ALL", "TRANSACTIONAL_ID", "*")]
        everything += [rule(each, "TOPIC", "*") for each in ("READ", "WRITE", "DESCRIBE")]
        unwritten = rule("WRITE", "TOPIC", topics.problems, "DENY")
        assert not admin.create_acls([*everything, unwritten])["failed"]
        for name in set(topics) - {topics.problems}:
            kafka_topics.create_topic(broker.bootstrap, name, 1)
        address = broker.address("SASL_PLAINTEXT")
        lines = {
            "bootstrap.servers": address, "security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "PLAIN",
            "sasl.username": "bob", "sasl.password": "the-secret",
        }  # fmt: skip
        file = tmp_path / "kafka.properties"
        file.write_text("".join(f"{name}={value}\n" for name, value in lines.items()))
        with WorkerProcess(address, tmp_path, "--kafka-properties", str(file), preamble=SOON) as worker:
            worker.ready(1)
            missing = f"there is no topic {topics.problems}, and it cannot be created: have that done"
            put(broker, "", [attempt(1, "p1")])
            status = worker.wait(lambda status: status["enriched"] == 1)
            assert (status["failing"], status["problems_failing"]) == (None, missing)
            assert refused(worker) == (503, missing)
            kafka_topics.create_topic(broker.bootstrap, topics.problems, 3)
            worker.wait(lambda status: not status["problems_failing"])
            put(broker, "", [attempt(2, "p1")])
            status = worker.wait(lambda status: status["enriched"] == 2)
            assert (status["failing"], topics.problems in status["problems_failing"]) == (None, True)
            soon(lambda: b'requests_total{result="unwritten"} 2.0' in (worker.ask("/metrics") or b""))
            admin.delete_acls([unwritten])
            put(broker, "", [attempt(3, "p1")])
            worker.wait(lambda status: status["enriched"] == 3 and not status["problems_failing"])
            soon(lambda: strategies(worker).get("requests"), 1)
            assert worker.stop() == 0
        said = [json.loads(line)["message"] for line in worker.log.read_text().splitlines() if '"warning"' in line]
        assert [line for line in said if topics.problems in line][1:] == [
            f"requests of problems are not written: {missing}",
            f"requests of problems are not written: {topics.problems} is refused: TopicAuthorizationFailedError",
        ]


# --- without a broker


def run(scenario: Coroutine[Any, Any, None]) -> None:
    asyncio.run(scenario)


def engine_of() -> Engine:
    engine = Engine(TABLES, Windows(), Denoiser(origin="test"), "llm.requests")
    engine.resume(3, Position(-1, 0), ())
    return engine


def test_only_requests_of_problems_leave_something() -> None:
    nameless = RequestEvent(problem="p2", model="m", prompt_tokens=1, completion_tokens=1)
    events = [attempt(1, "p1"), attempt(2, None), attempt(1, "p1"), nameless, nameless]
    step = engine_of().step(3, [Input(7, b"key", b"\n".join(map(encode_event, events)))])
    found = [decode_problem_request(each.value) for each in step.problems]
    assert [each.id for each in found] == ["r1", "llm.requests/3/7.4", "llm.requests/3/7.5"]
    assert [each.key for each in step.problems] == [b"p1", b"p2", b"p2"]
    assert found[0].stacks["a100-megatron"].idealized_seconds == step.events[0].idealized_runtime_seconds
    again = engine_of().step(3, [Input(7, b"key", b"\n".join(map(encode_event, events)))])
    assert again.problems == step.problems
    assert engine_of().step(3, [Input(0, b"key", encode_event(attempt(2, None)))]).problems == []


class Producer:
    """Answers each record with what is next in a script, the last for ever."""

    def __init__(self, *script: BaseException | None) -> None:
        self.script = list(script)
        self.sent: list[bytes] = []

    async def send(self, topic: str, value: bytes, *_: Any, **__: Any) -> asyncio.Future[Any]:
        self.sent.append(value)
        answer = asyncio.get_running_loop().create_future()
        failure = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        if failure is None:
            answer.set_result(topic)
        else:
            answer.set_exception(failure)
        return answer


def writer_of(*script: BaseException | None) -> tuple[Writer, Producer]:
    producer = Producer(*script)
    made: Any = producer
    return Writer(made), producer


RECORDS = [Output(b"p", b"%d" % number, JSON_HEADERS) for number in range(3)]


def test_what_may_pass_is_written_again_and_what_may_not_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    from aiokafka.errors import KafkaTimeoutError, MessageSizeTooLargeError

    monkeypatch.setattr("stream.writer._AGAIN_SECONDS", 0.0)
    too_large = MessageSizeTooLargeError()

    async def scenario() -> None:
        writer, producer = writer_of(KafkaTimeoutError(), too_large, None)
        assert await writer.write("t", RECORDS) == [too_large]
        assert producer.sent == [b"0", b"1", b"2", b"0"]
        assert writer.failing is None

    run(scenario())


def test_what_is_hopeless_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    from aiokafka.errors import UnknownTopicOrPartitionError

    monkeypatch.setattr("stream.writer._AGAIN_SECONDS", 0.0)
    unknown, asked = UnknownTopicOrPartitionError(), list[str | None]()

    async def scenario() -> None:
        writer, _ = writer_of(unknown)

        async def hopeless() -> bool:
            asked.append(writer.failing)
            return len(asked) == 2

        assert await writer.write("t", RECORDS, refusals=Refusals(TOO_LARGE.errors, hopeless)) == [unknown] * 3
        assert asked == [f"t: {unknown}"] * 2
        assert writer.failing is None

    run(scenario())


HOSTILE = [
    None, b"", b"{", b"[]", b"null", b'{"problem":"p"}', b'{"id":"a","problem":""}', b'{"id":"\\ud800","problem":"p"}',
    b'{"id":"a","problem":"p","samples":0}', b'{"id":"a","problem":"p","stacks":{"s":[1e999]}}', b"[" * 100_000,
    b'{"id":"a","problem":"p","at":-1}', b'{"id":"a","problem":"%b"}' % (b"x" * 501), b"\xff",
    b'{"problem":"p","correct":true,"recorded_at":"2999-01-01T00:00:00Z"}',
]  # fmt: skip


def test_records_that_are_none_are_counted_and_passed_over() -> None:
    async def scenario() -> None:
        problems = FleetProblems(KafkaSettings(("localhost:1",)), writer_of(None)[0])
        for value in HOSTILE:
            for take in (problems._request, problems._outcome):
                take(record(value))
        assert problems.unreadable == {"problems": len(HOSTILE), "outcomes": len(HOSTILE)}
        good = b'{"id":"","problem":"p","correct":true}', b'{"problem":"p","correct":true}'
        for taken in (problems._request, problems._outcome):
            for value in good:
                taken(record(value, headers=[("schema-version", b"2")]))
        assert problems.ledger.problems == 0
        for timestamp in (-1, 10**18, -(10**18)):
            problems._outcome(record(good[1], timestamp=timestamp))
        for offset in (1, 1, 2):
            problems._request(record(b'{"id":"","problem":"p"}', offset=offset))
        assert [each.cells[0].requests for _, each in problems.ledger.each()] == [2], (
            "a record without an id is one too"
        )
        await problems.stop()

    run(scenario())


def record(value: bytes | None, **more: Any) -> Any:
    usual = {"topic": "t", "partition": 0, "offset": 0, "key": b"", "headers": (), "timestamp": 1_800_000_000_000}
    return SimpleNamespace(value=value, **{**usual, **more})


def test_before_all_is_read_there_is_no_answer() -> None:
    async def scenario() -> None:
        problems = FleetProblems(KafkaSettings(("localhost:1",)), writer_of(None)[0])
        with pytest.raises(NotThere, match=r"there is no topic llm\.problems"):
            problems.answer("", TABLES, 0.0)
        with pytest.raises(QueryError, match="human_dollars=x"):
            problems.answer("human_dollars=x", TABLES, 0.0)
        problems._counts = dict.fromkeys(Topics(), 1)
        with pytest.raises(NotThere, match="are being read"):
            problems.answer("", TABLES, 0.0)
        await problems.write(RECORDS)
        assert (problems.written, problems.unwritten) == (3, 0)
        await problems.stop()

    run(scenario())
