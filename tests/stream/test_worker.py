"""`stream worker` as its users meet it: a process, a broker, HTTP."""

import json
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import kafka_topics
import pytest
from kafka_broker import Broker, Served
from kafka_topics import New
from worker_process import WorkerProcess

from stream.cli import main
from stream.events import RequestEvent, encode_event
from stream.records import pack

ROW = {"runtime_per_output_token": 0.01, "runtime_for_prompt_tokens": {"1": 0.02, "1000": 0.2}}


@pytest.fixture
def requests(broker: Served, prefix: str) -> str:
    name = f"{prefix}llm.requests"
    kafka_topics.create_topic(broker.bootstrap, name, 2)
    return name


@pytest.fixture
def worker(broker: Served, prefix: str, requests: str, tmp_path: Path) -> Iterator[WorkerProcess]:
    with WorkerProcess(broker.bootstrap, tmp_path, "--topic-prefix", prefix, name="w1") as process:
        process.ready(2)
        yield process


def event(name: str, ended: datetime, model: str = "davinci", raw: float = 1.0, **more: Any) -> bytes:
    return encode_event(
        RequestEvent(
            id=name, ended_at=ended, upstream="one", model=model, status=200, stream=False, prompt_tokens=100,
            completion_tokens=10, raw_runtime_seconds=raw, **more,
        )
    )  # fmt: skip


def streamed(name: str, ended: datetime, prompt: int, output: int) -> bytes:
    first, each = 0.1 + 1e-4 * prompt, 0.02
    return encode_event(
        RequestEvent(
            id=name, ended_at=ended, upstream="one", model="davinci", status=200, stream=True, prompt_tokens=prompt,
            completion_tokens=output, raw_runtime_seconds=first + each * (output - 1),
            time_to_first_token_seconds=first, time_per_output_token_seconds=each,
        )
    )  # fmt: skip


def put(broker: Served, requests: str, events: list[bytes], log: str = "log") -> None:
    rows = list(enumerate(events, start=1))
    records = [New(each.value, each.key, headers=each.headers) for each in pack(log, rows, 7)]
    kafka_topics.write(broker.bootstrap, requests, records)


def enriched(broker: Served, requests: str, count: int) -> list[dict[str, Any]]:
    records = kafka_topics.read_until(broker.bootstrap, f"{requests}.enriched", lambda found: len(found) >= count)
    return [json.loads(record.value) for record in records]


def windows(worker: WorkerProcess, **asked: Any) -> dict[str, Any]:
    query = "&".join(f"{name}={value}" for name, value in asked.items())
    return json.loads(worker.ask(f"/trueclock/v1/windows?{query}") or b"{}")


def requests_in(answer: dict[str, Any]) -> int:
    return sum(window["total"]["requests"] for window in answer["windows"])


def test_its_first_line_and_its_answers(worker: WorkerProcess, broker: Served, requests: str) -> None:
    assert worker.output.read_text() == (
        f"stream worker w1 is at {worker.address} and reads {requests} from {broker.bootstrap}\n"
    )
    assert worker.ask("/health/live") == worker.ask("/health/ready") == b"ok\n"
    retried = {"attempts": ({"status": 400}, {"status": 200})}
    put(broker, requests, [event(str(number), datetime.now(UTC), **retried) for number in range(20)])
    status = worker.wait(lambda found: found["enriched"] == 20 and found["lag_records"] == 0)
    assert (status["name"], status["dead"], status["duplicate"], status["failing"]) == ("w1", 0, 0, None)
    worker.wait(lambda _: b"trueclock_stream_lag_records{" in (worker.ask("/metrics") or b""))
    metrics = (worker.ask("/metrics") or b"").decode()
    for line in (
        'trueclock_requests_total{exclusion_reason="",model="davinci",status_class="2xx",upstream="one"} 20.0',
        'trueclock_retries_total{model="davinci",upstream="one"} 20.0',
        'trueclock_stream_events_total{outcome="enriched"} 20.0',
        'trueclock_stream_lag_records{partition="0"} 0.0',
        "trueclock_stream_failing 0.0",
        "trueclock_stream_partitions 2.0",
        "trueclock_stream_topic_partitions 2.0",
    ):
        assert line in metrics
    for path, code in (("/trueclock/v1/windows?length=7", 400), ("/trueclock/v1/nothing", 404)):
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(worker.address + path, timeout=10)
        assert refused.value.code == code
        assert json.loads(refused.value.read())["error"]["message"]
        refused.value.close()


def test_no_web_page_reaches_it(worker: WorkerProcess) -> None:
    for headers in ({"Host": "evil.example"}, {"Origin": "http://evil.example"}):
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(urllib.request.Request(f"{worker.address}/metrics", headers=headers), timeout=10)
        assert refused.value.code == 403
        refused.value.close()


def test_windows_survive_a_kill_and_are_the_fleets(
    worker: WorkerProcess, broker: Served, requests: str, prefix: str, tmp_path: Path
) -> None:
    now = datetime.now(UTC)
    moments = [now - timedelta(seconds=30 * number) for number in range(60)]
    put(broker, requests, [event(f"a{number}", moment) for number, moment in enumerate(reversed(moments))])
    worker.wait(lambda found: found["enriched"] == 60)
    whole = {length: requests_in(windows(worker, length=length, since="2h")) for length in (60, 300, 3600)}
    assert all(count + windows(worker, length=60)["not_added"]["late"] == 60 for count in whole.values())
    worker.kill()
    put(broker, requests, [event(f"b{number}", now) for number in range(9)], "other")
    worker.start()
    worker.wait(lambda found: found["ready"] and found["enriched"] == 9)
    for length, before in whole.items():
        assert requests_in(windows(worker, length=length, since="2h")) == before + 9
    with WorkerProcess(broker.bootstrap, tmp_path, "--topic-prefix", prefix, name="w2") as second:
        second.ready(1)
        deadline = time.monotonic() + 30
        while requests_in(windows(second, length=300, since="2h")) != whole[300] + 9:
            assert time.monotonic() < deadline, windows(second, length=300, since="2h")
            time.sleep(0.1)
        assert second.stop() == 0


def test_changed_tables_are_taken_up_while_it_runs(broker: Served, requests: str, prefix: str, tmp_path: Path) -> None:
    table = tmp_path / "ours.json"
    table.write_text(json.dumps({"models": {"davinci": ROW}}))
    with WorkerProcess(
        broker.bootstrap, tmp_path, "--topic-prefix", prefix, "--table", str(table), name="w1"
    ) as worker:
        worker.ready(2)
        before = worker.status()["table_version"]
        put(broker, requests, [event("before", datetime.now(UTC))])
        worker.wait(lambda found: found["enriched"] == 1)
        table.write_text("{")
        worker.wait(lambda found: found["tables_failing"])
        assert "trueclock_stream_tables_failing 1.0" in (worker.ask("/metrics") or b"").decode()
        table.write_text(json.dumps({"models": {"davinci": {**ROW, "runtime_per_output_token": 0.1}}}))
        worker.wait(lambda found: found["table_version"] != before and not found["tables_failing"])
        put(broker, requests, [event("after", datetime.now(UTC))], "other")
        found = {each["id"]: each for each in enriched(broker, requests, 2)}
    assert found["before"]["table_version"] == before != found["after"]["table_version"]
    assert found["after"]["idealized_runtime_seconds"] > 2 * found["before"]["idealized_runtime_seconds"]


def test_what_it_learned_is_published_and_taken_back(worker: WorkerProcess, broker: Served, requests: str) -> None:
    now = datetime.now(UTC)
    put(
        broker,
        requests,
        [streamed(str(number), now, 50 * (1 + number % 19), 10 + number % 90) for number in range(400)],
    )
    worker.wait(lambda found: found["baselines"] == 1)
    topic = requests.replace("requests", "baselines")
    records = kafka_topics.read_until(broker.bootstrap, topic, lambda found: len(found) > 0)
    assert json.loads(records[-1].key) == ["w1", "one", "davinci"]
    assert worker.stop() == 0
    worker.start()
    assert worker.wait(lambda found: found["ready"])["baselines"] == 1
    put(broker, requests, [streamed("later", now, 500, 50)], "other")
    (last,) = [each for each in enriched(broker, requests, 401) if each["id"] == "later"]
    assert last["baseline_version"].startswith("w1:")
    assert last["contention_factor"] is not None


def test_it_stops_in_order(worker: WorkerProcess, broker: Served, requests: str, prefix: str) -> None:
    put(broker, requests, [event(str(number), datetime.now(UTC)) for number in range(30)])
    worker.wait(lambda found: found["enriched"] == 30)
    worker.signal(signal.SIGTERM)
    assert worker.process.wait(20) == 0
    done = kafka_topics.committed(broker.bootstrap, f"{prefix}trueclock-stream")
    ends = {each.partition: 0 for each in done} | {
        record.partition: record.offset + 1 for record in kafka_topics.read_topic(broker.bootstrap, requests)
    }
    assert {each.partition: offset for each, offset in done.items()} == ends
    assert "Traceback" not in worker.tail()


def test_a_broker_that_is_away_at_the_start_is_waited_for(own_broker: None, tmp_path: Path) -> None:
    with Broker(tmp_path / "broker") as broker:
        broker.kill()
        with WorkerProcess(broker.bootstrap, tmp_path, name="w1") as worker:
            worker.wait(lambda found: found["failing"])
            assert worker.ask("/health/live") == b"ok\n"
            assert worker.ask("/health/ready") is None
            broker.start()
            worker.ready(12)
            assert worker.log.read_text().count("waiting for Kafka") == 1
            assert worker.stop() == 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], "--kafka"),
        (["--kafka", "localhost:9092", "--name", "a b"], "--name"),
        (["--kafka", "http://x"], "HOST:PORT"),
        (["--kafka", "localhost:9092", "--table", "/nowhere.json"], "/nowhere.json"),
        (["--kafka", "localhost:9092", "--baselines", "/nowhere.json"], "/nowhere.json"),
        (["--kafka", "localhost:9092", "--port", "99999"], "99999"),
    ],
    ids=["no-broker", "name", "address", "table", "baselines", "port"],
)
def test_wrong_use_is_one_line(options: list[str], words: str, capfd: pytest.CaptureFixture[str]) -> None:
    try:
        status = main(["worker", *options])
    except SystemExit as exited:
        status = exited.code
    assert status == 2
    error = capfd.readouterr().err
    assert error.count("\n") == 1
    assert words in error
