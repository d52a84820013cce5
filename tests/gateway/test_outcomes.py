"""Outcomes over HTTP: taken whole or not at all, never lost after the 202, never counted twice, and what they add up to."""

import asyncio
import json
import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway.log import LogReader, LogWriter, NewerLogError, Retention, outcome_log
from stream.outcomes import decode_outcome
from tests.gateway.test_own_paths import samples
from tests.gateway.test_workers import Workers
from tests.harness import (
    GatewayProcess,
    RawClient,
    RawReply,
    ServedGateway,
    ask,
    chat,
    command,
    recorded,
    request_bytes,
    run,
    serve,
    until,
    within,
)
from tests.servers.openai_like import OpenAILike

OUTCOMES, STRATEGIES, SUMMARY = (f"/trueclock/v1/{name}" for name in ("outcomes", "strategies", "summary"))
NOWHERE = "http://127.0.0.1:9"
MODEL = "openai/davinci"
JSON = ("Content-Type", "application/json")


def outcome(number: int = 1, *, correct: bool = True, **more: Any) -> dict[str, Any]:
    return {"problem": f"p{number}", "correct": correct, **more}


def lines(outcomes: Iterable[Any]) -> bytes:
    return b"\n".join(json.dumps(each).encode() for each in outcomes)


async def post(url: str, body: Any, headers: Sequence[tuple[str, str]] = ()) -> RawReply:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return await ask(url, "POST", OUTCOMES, data, [JSON, *headers])


async def solve(url: str, problem: str, strategy: str = "greedy", model: str = MODEL) -> None:
    """One request that works on a problem."""
    reply = await chat(url, model, headers=[("x-trueclock-problem", problem), ("x-trueclock-strategy", strategy)])
    assert reply.status == 200


def rows(data_dir: Path) -> list[bytes]:
    """The outcomes in the log."""
    if not outcome_log(data_dir).exists():
        return []
    with closing(LogReader(outcome_log(data_dir))) as reader:
        return [data for _, data in reader.read(0, 10**6).rows]


async def strategies(url: str, query: str = "") -> Any:
    reply = await ask(url, target=STRATEGIES + query)
    assert reply.status == 200, reply.body
    return reply.json


async def judged(gateway: ServedGateway, count: int) -> None:
    """Wait until the stream has taken `count` outcomes."""
    await until(lambda: gateway.control.stream.outcomes.row >= count)


# --- what is taken, and what not


@pytest.mark.parametrize(
    "body",
    [
        json.dumps([outcome(1), outcome(2, correct=False, id="a"), {"problem": "p3", "score": 0.25}]).encode(),
        lines([outcome(1), outcome(2, correct=False, id="a"), {"problem": "p3", "score": 0.25}]),
        b"\xef\xbb\xbf\r\n" + lines([outcome(1), outcome(2, id="a"), outcome(3)]).replace(b"\n", b"\r\n\r\n") + b"\r\n",
        json.dumps([outcome(1), outcome(2), outcome(3)], indent=2).encode(),
    ],
    ids=["array", "lines", "odd lines", "pretty array"],
)
def test_a_batch_is_taken_and_stored_before_the_answer(body: bytes) -> None:
    async def scenario() -> None:
        async with serve(NOWHERE) as gateway:
            reply = await post(gateway.url, body)
            assert (reply.status, reply.json) == (202, {"accepted": 3})
            stored = [json.loads(row) for row in rows(gateway.settings.data_dir)]
            assert [each["problem"] for each in stored] == ["p1", "p2", "p3"]
            moments = {each["recorded_at"] for each in stored}
            assert len(moments) == 1, "of the request"
            age = datetime.now(UTC) - datetime.fromisoformat(moments.pop())
            assert timedelta(0) <= age < timedelta(minutes=1)

    run(scenario())


def test_a_single_outcome_keeps_its_moment_and_nothing_at_all_is_nothing() -> None:
    async def scenario() -> None:
        async with serve(NOWHERE) as gateway:
            at = "2026-05-31T12:00:00.250000Z"
            reply = await post(gateway.url, outcome(7, id="x", model="m", strategy="s", recorded_at=at))
            assert (reply.status, reply.json) == (202, {"accepted": 1})
            assert [json.loads(row) for row in rows(gateway.settings.data_dir)] == [
                {"id": "x", "problem": "p7", "strategy": "s", "model": "m", "correct": True, "recorded_at": at}
            ]
            reply = await post(gateway.url, [])
            assert (reply.status, reply.json) == (202, {"accepted": 0})

    run(scenario())


GOOD = [outcome(1), outcome(2)]
BAD = {
    "nothing": (b"", "no outcome in it: expected a JSON object, an array of them, or one a line"),
    "blank": (b" \n ", "no outcome in it"),
    "no JSON": (b"correct=true", "line 1: not valid JSON"),
    "cut off": (b'{"problem": "p1", "corr', "line 1: not valid JSON"),
    "a number": (b"7", "the outcome: an outcome is a JSON object"),
    "a bad object": (json.dumps({"problem": "p"}).encode(), "the outcome: expected either correct"),
    "a bad entry": (json.dumps([*GOOD, {"problem": "p", "score": 2}]).encode(), "entry 3: score: expected a number"),
    "a bad line": (lines([*GOOD, {"problem": "p", "correct": 1}]), "line 3: correct: expected true or false"),
    "the future": (
        lines([*GOOD, outcome(3, recorded_at="2999-01-01T00:00:00Z")]),
        "line 3: recorded_at: more than a day after now",
    ),
    "a slip": (
        lines([*GOOD, {"problem": "p", "corect": True}]),
        "line 3: unknown field 'corect'; did you mean correct?",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_nothing_of_a_bad_batch_is_taken_and_one_line_says_why(name: str) -> None:
    body, message = BAD[name]

    async def scenario() -> None:
        async with serve(NOWHERE) as gateway:
            reply = await post(gateway.url, body)
            assert (reply.status, reply.error_code) == (400, "bad_outcomes")
            assert message in reply.json["error"]["message"]
            assert len(reply.json["error"]["message"]) < 300
            assert not outcome_log(gateway.settings.data_dir).exists()

    run(scenario())


def test_what_is_too_much_for_one_request_is_refused_whole() -> None:
    async def scenario() -> None:
        async with serve(NOWHERE) as gateway:
            host = gateway.url.removeprefix("http://")
            large = await post(gateway.url, lines([outcome(1)]) + b" " * (1 << 20))
            assert (large.status, large.error_code) == (413, "body_too_large")
            assert "larger than 1048576 bytes (send outcomes in several requests)" in large.json["error"]["message"]
            async with RawClient(gateway.url) as client:  # in chunks: its size is known at its end alone
                await client.send(request_bytes("POST", OUTCOMES, host, [("Transfer-Encoding", "chunked")]))
                for _ in range(17):
                    await client.send(b"10000\r\n" + b" " * 0x10000 + b"\r\n")
                assert (await client.reply()).status == 413
            many = await post(gateway.url, b"[" + b",".join([b'{"problem":"p","correct":true}'] * 10_001) + b"]")
            assert (many.status, many.error_code) == (413, "too_many_outcomes")
            packed = await post(gateway.url, outcome(), [("Content-Encoding", "gzip")])
            assert (packed.status, packed.error_code) == (415, "unsupported_encoding")
            assert not rows(gateway.settings.data_dir)
            full = await post(gateway.url, b"[" + b",".join([b'{"problem":"p","correct":true}'] * 10_000) + b"]")
            assert (full.status, full.json) == (202, {"accepted": 10_000})
            metrics = (await ask(gateway.url, target="/metrics")).body
            assert samples(metrics, "trueclock_outcomes_total") == {("accepted",): 10_000, ("refused",): 10_001}

    run(scenario())


def test_a_body_that_does_not_come_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.outcomes._BODY_SECONDS", 0.05)

    async def scenario() -> None:
        async with serve(NOWHERE) as gateway, RawClient(gateway.url) as client:
            await client.send(request_bytes("POST", OUTCOMES, "localhost", [("Content-Length", "9")]) + b'{"')
            reply = await client.reply()
            assert (reply.status, reply.error_code) == (408, "body_too_slow")
            assert not rows(gateway.settings.data_dir)

    run(scenario())


def test_a_client_that_asks_first_may_go_on() -> None:
    async def scenario() -> None:
        body = json.dumps(outcome()).encode()
        async with serve(NOWHERE) as gateway, RawClient(gateway.url) as client:
            head = request_bytes("POST", OUTCOMES, "localhost", [("Expect", "100-continue")], body)
            await client.send(head[: -len(body)])
            assert (await client.head()).startswith(b"HTTP/1.1 100 ")
            await client.send(body)
            assert (await client.reply()).status == 202

    run(scenario())


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"])
def test_other_methods_are_refused_with_those_that_do(method: str) -> None:
    async def scenario() -> None:
        async with serve(NOWHERE) as gateway:
            reply = await ask(gateway.url, method, OUTCOMES)
            assert (reply.status, reply.header(b"allow")) == (405, b"POST")
            other = await ask(gateway.url, "POST", SUMMARY, b"{}")
            assert (other.status, other.header(b"allow")) == (405, b"GET, HEAD")

    run(scenario())


def test_pages_of_other_origins_post_nothing() -> None:
    async def scenario() -> None:
        async with serve(NOWHERE) as gateway:
            for origin in ("https://evil.example", "null"):
                reply = await post(gateway.url, outcome(), [("Origin", origin)])
                assert (reply.status, reply.error_code) == (403, "origin_not_allowed")
            async with RawClient(gateway.url) as client:
                await client.send(request_bytes("POST", OUTCOMES, "evil.example", (), b"{}"))
                assert (await client.reply()).error_code == "host_not_allowed"
            assert (await post(gateway.url, outcome(), [("Origin", gateway.url)])).status == 202
        async with serve(NOWHERE, host="0.0.0.0", admin=("0.0.0.0", 0)) as gateway:
            assert (await post(gateway.url, outcome())).error_code == "not_found", "own paths are apart"
            evil = await post(gateway.admin_url, outcome(), [("Origin", "https://evil.example")])
            assert (evil.status, evil.error_code) == (403, "origin_not_allowed")
            assert (await post(gateway.admin_url, outcome(), [("Origin", gateway.admin_url)])).status == 202
            assert (
                await ask(gateway.admin_url, target=SUMMARY, headers=[("Origin", "https://a.example")])
            ).status == 200

    run(scenario())


# --- what becomes of them


def test_outcomes_and_requests_meet_in_any_order() -> None:
    async def scenario() -> None:
        async with OpenAILike() as upstream, serve(upstream.url) as gateway:
            await post(gateway.url, outcome(1))  # before the request
            for number in (1, 2, 2):
                await solve(gateway.url, f"p{number}")
            await chat(gateway.url, MODEL)  # of no problem
            events = await gateway.events(4)
            await gateway.counted(4)
            second = [event.id for event in events if event.problem == "p2"]
            await post(gateway.url, [outcome(2, id=each, correct=False) for each in second])
            await post(gateway.url, [outcome(2, id=second[1])])  # it was right after all
            await post(gateway.url, [outcome(2, id=second[1], correct=False, recorded_at="2020-01-01T00:00:00Z")])
            await post(gateway.url, [outcome(9)])  # of a problem that nobody tried
            await judged(gateway, 6)
            found = await strategies(gateway.url)
            assert (found["problems"], found["judged"], found["requests"], found["without_requests"]) == (2, 2, 3, 1)
            (greedy,) = found["strategies"]
            assert (greedy["model"], greedy["strategy"]) == (MODEL, "greedy")
            assert (greedy["attempts"], greedy["correct"], greedy["accuracy"]) == (3, 2, 0.75)
            assert found["stack"] == gateway.settings.tables.reference
            seconds = greedy["measures"]["idealized_seconds"]
            assert seconds["total"] > 0
            assert seconds["per_correct"] == pytest.approx(seconds["total"] / 2)
            other = await strategies(gateway.url, "?stack=v100-megatron&human_dollars=0.5")
            assert other["stack"] == "v100-megatron"
            assert other["frontier"]["dedicated_dollars"]["human"] == 0.5
            assert other["frontier"]["flops"]["human"] is None
            summary = (await ask(gateway.url, target=SUMMARY)).json
            assert summary["problems"] == {"held": 3, "outcomes": 6}
            assert summary["total"]["requests"] == summary["log"]["rows"] == 4
            metrics = (await ask(gateway.url, target="/metrics")).body
            assert samples(metrics, "trueclock_problems") == {(): 3}
            assert samples(metrics, "trueclock_outcomes_total") == {("accepted",): 6, ("refused",): 0}
            assert samples(metrics, "trueclock_event_log_rows") == {(): 4}
            assert len(recorded(gateway.settings.data_dir)) == 4

    run(scenario())


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("?stack=abacus", "stack=abacus: expected one of"),
        ("?human_dollars=much", "human_dollars=much: expected a number from 0 on"),
        ("?human_dollars=-1", "human_dollars=-1: expected"),
        ("?by=model", "unknown parameter 'by': there are stack, human_dollars"),
    ],
)
def test_what_is_asked_wrongly_is_said(query: str, message: str) -> None:
    async def scenario() -> None:
        async with serve(NOWHERE) as gateway:
            reply = await ask(gateway.url, target=STRATEGIES + query)
            assert (reply.status, reply.error_code) == (400, "bad_parameter")
            assert message in reply.json["error"]["message"]

    run(scenario())


def test_a_gateway_without_outcomes_has_no_log_of_them_and_an_answer_all_the_same() -> None:
    async def scenario() -> None:
        async with serve(NOWHERE) as gateway:
            assert (await strategies(gateway.url))["strategies"] == []
            await ask(gateway.url, target="/metrics")
            assert not list(gateway.settings.data_dir.glob("outcomes*"))

    run(scenario())


def test_outcomes_stay_out_of_all_that_is_about_events(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with OpenAILike() as upstream, serve(upstream.url, data_dir=tmp_path) as gateway:
            await solve(gateway.url, "p1")
            (event,) = await gateway.events(1)
            await post(gateway.url, outcome(1, id=event.id))
            await judged(gateway, 1)
        printed = await command("gateway.cli", "events", "--data-dir", str(tmp_path))
        out, errors = await within(printed.communicate())
        assert (len(out.splitlines()), errors) == (1, b"")
        explained = await command("gateway.cli", "explain", event.id, "--json", "--data-dir", str(tmp_path))
        out, errors = await within(explained.communicate())
        assert (json.loads(out)["event"]["id"], errors) == (event.id, b"")

    run(scenario())


def test_it_goes_on_after_a_restart_with_what_it_knew(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with OpenAILike() as upstream:
            async with serve(upstream.url, data_dir=tmp_path) as gateway:
                for number in range(5):
                    await solve(gateway.url, f"p{number}", "greedy" if number % 2 else "majority")
                await gateway.counted(5)
                await post(gateway.url, [outcome(number, correct=number > 1) for number in range(4)])
                await judged(gateway, 4)
                before = await strategies(gateway.url)
            assert before["judged"] == 4
            async with serve(upstream.url, data_dir=tmp_path) as gateway:
                assert await strategies(gateway.url) == before
                await post(gateway.url, outcome(4))
                await judged(gateway, 5)
                assert (await strategies(gateway.url))["judged"] == 5

    run(scenario())


# --- trouble


def test_a_full_disk_takes_nothing_and_says_so_and_later_all_is_well(monkeypatch: pytest.MonkeyPatch) -> None:
    commit = LogWriter._commit

    def full(writer: LogWriter, rows: Any) -> None:
        if writer.path.stem == "outcomes":
            raise sqlite3.OperationalError("database or disk is full")
        commit(writer, rows)

    async def scenario() -> None:
        async with OpenAILike() as upstream, serve(upstream.url) as gateway:
            monkeypatch.setattr(LogWriter, "_commit", full)
            reply = await post(gateway.url, GOOD)
            assert (reply.status, reply.error_code) == (503, "outcomes_not_stored")
            assert "outcomes.sqlite: database or disk is full; send them again later" in reply.json["error"]["message"]
            log = (await ask(gateway.url, target=SUMMARY)).json["log"]
            assert log["failing"].endswith("outcomes.sqlite: database or disk is full")
            assert log["dropped"] == {"disk": 0, "retention": 0, "unreadable": 0}, "the client still has them"
            assert (await chat(gateway.url)).status == 200
            assert not rows(gateway.settings.data_dir)
            monkeypatch.setattr(LogWriter, "_commit", commit)
            assert (await post(gateway.url, GOOD)).status == 202
            assert (await ask(gateway.url, target=SUMMARY)).json["log"]["failing"] is None
            assert len(rows(gateway.settings.data_dir)) == 2

    run(scenario())


def test_a_refusal_of_the_disk_is_a_state_for_a_minute_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        async with serve(NOWHERE) as gateway:
            outcome_log(gateway.settings.data_dir).mkdir()  # no log can be there
            assert (await post(gateway.url, outcome())).status == 503
            assert gateway.control.outcomes.failing
            monkeypatch.setattr("gateway.outcomes._TELL_SECONDS", 0.0)
            assert gateway.control.outcomes.failing is None

    run(scenario())


def test_problems_that_are_long_over_go_and_are_counted() -> None:
    async def scenario() -> None:
        async with serve(NOWHERE) as gateway:
            await post(gateway.url, [outcome(1, recorded_at="2020-01-01T00:00:00Z"), outcome(2)])
            await judged(gateway, 2)
            ledger = gateway.control.stream.ledger
            await until(lambda: ledger.dropped)
            assert (ledger.problems, ledger.dropped) == (1, {"expired": 1})
            metrics = (await ask(gateway.url, target="/metrics")).body
            assert samples(metrics, "trueclock_problems_dropped_total")["expired",] == 1

    run(scenario())


def test_what_cannot_be_read_is_counted_and_passed(tmp_path: Path) -> None:
    async def scenario() -> None:
        writer = LogWriter(outcome_log(tmp_path), Retention(30.0))
        assert await writer.append(4e9, None, b"no outcome", json.dumps(outcome(1)).encode())
        writer.close()
        async with serve(NOWHERE, data_dir=tmp_path) as gateway:
            await judged(gateway, 2)
            metrics = (await ask(gateway.url, target="/metrics")).body
            dropped = samples(metrics, "trueclock_outcomes_dropped_total")
            assert dropped == {("retention",): 0, ("unreadable",): 1}
            assert samples(metrics, "trueclock_problems") == {(): 1}

    run(scenario())


def test_outcomes_of_before_thirty_days_leave_the_log_though_none_come(tmp_path: Path) -> None:
    async def scenario() -> None:
        writer = LogWriter(outcome_log(tmp_path), Retention(1e6))
        assert await writer.append(1e9, None, *(json.dumps(outcome(number)).encode() for number in range(3)))
        writer.close()
        async with serve(NOWHERE, data_dir=tmp_path) as gateway:
            await judged(gateway, 3)
            await until(lambda: not rows(tmp_path))

    run(scenario())


def test_a_log_of_a_newer_program_stops_the_start(tmp_path: Path) -> None:
    with closing(sqlite3.connect(outcome_log(tmp_path))) as db:
        db.execute("PRAGMA user_version=99")

    async def scenario() -> None:
        with pytest.raises(NewerLogError, match=r"outcomes\.sqlite: written by a newer trueclock"):
            async with serve(NOWHERE, data_dir=tmp_path):
                pass

    run(scenario())


def test_a_damaged_log_is_told_of_and_outcomes_are_refused(tmp_path: Path) -> None:
    outcome_log(tmp_path).write_bytes(b"this is no database " * 100)

    async def scenario() -> None:
        async with OpenAILike() as upstream, serve(upstream.url, data_dir=tmp_path) as gateway:
            reply = await post(gateway.url, outcome())
            assert (reply.status, reply.error_code) == (503, "outcomes_not_stored")
            assert "outcomes.sqlite: the event log cannot be opened: file is not a database" in str(reply.json)
            assert (await chat(gateway.url)).status == 200

    run(scenario())


# --- with workers, and kills


def test_workers_pass_outcomes_on_and_the_control_process_may_die(tmp_path: Path) -> None:
    async def found(gateway: Workers, attempts: int) -> Any:
        for _ in range(1000):
            reply = await ask(gateway.url, target=STRATEGIES)
            if reply.status == 200 and sum(each["attempts"] for each in reply.json["strategies"]) >= attempts:
                return reply.json
            await asyncio.sleep(0.02)
        raise AssertionError("not judged")

    async def scenario() -> None:
        async with OpenAILike() as upstream, Workers("--upstream", upstream.url, data_dir=tmp_path) as gateway:
            for number in range(6):
                await solve(gateway.url, f"p{number}")
            reply = await post(gateway.url, [outcome(number, correct=number > 2) for number in range(4)])
            assert (reply.status, reply.json) == (202, {"accepted": 4})
            refused = await post(gateway.url, [outcome(1), {"problem": 3}])
            assert (refused.status, refused.error_code) == (400, "bad_outcomes")
            assert (await post(gateway.url, b" " * ((1 << 20) + 1))).status == 413
            before = await found(gateway, 4)
            await gateway.kill("control")
            again = None
            while again is None or again.status == 503:
                again = await post(gateway.url, lines([outcome(4), outcome(5)]))
                await asyncio.sleep(0.02)
            assert (again.status, again.json) == (202, {"accepted": 2})
            after = await found(gateway, 6)
            assert (before["judged"], after["judged"], after["requests"]) == (4, 6, 6)
            assert after["strategies"][0]["correct"] == 3

    run(scenario())


def test_an_outcome_that_was_accepted_survives_a_kill_and_counts_once(tmp_path: Path) -> None:
    async def scenario() -> None:
        accepted: set[int] = set()
        async with OpenAILike() as upstream, GatewayProcess("--upstream", upstream.url, data_dir=tmp_path) as gateway:
            await solve(gateway.url, "p0")

            async def send() -> None:
                for number in range(10_000):
                    try:
                        reply = await post(gateway.url, outcome(0, id=f"a{number}"))
                    except (OSError, asyncio.IncompleteReadError):
                        return
                    if reply.status == 202:
                        accepted.add(number)

            sending = asyncio.create_task(send())
            await until(lambda: len(accepted) > 30)
            gateway.process.kill()
            await sending
            await gateway.process.communicate()
            await gateway.start()
            stored = [decode_outcome(row, 0.0).id for row in rows(tmp_path)]
            assert {f"a{number}" for number in accepted} <= set(stored)
            assert len(stored) == len(set(stored)) <= len(accepted) + 1
            while (found := await strategies(gateway.url))["outcomes"] < len(stored):
                await asyncio.sleep(0.02)
            assert found["outcomes"] == len(stored)

    run(scenario())
