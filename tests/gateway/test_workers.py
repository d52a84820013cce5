"""`gateway run --workers N`: several processes that are one gateway to whoever asks, whichever of them ends, and how."""

import asyncio
import json
import os
import signal
import socket
import sqlite3
import time
from collections import Counter
from contextlib import AsyncExitStack, closing, suppress
from pathlib import Path
from typing import Any

import pytest

from gateway.log import LogReader
from stream.state import StateFile
from tests.gateway.test_own_paths import samples
from tests.harness import (
    CHAT,
    GatewayProcess,
    RawClient,
    RawReply,
    ask,
    chat,
    command,
    events_of,
    recorded,
    request_bytes,
    run,
    serve,
    until,
    within,
)
from tests.servers.openai_like import OpenAILike

STREAM = json.dumps({"model": "gpt-4o", "messages": [], "stream": True, "max_tokens": 30}).encode()


class Workers(GatewayProcess):
    """`gateway run --workers 2` (0: what the other options make of it), and its processes by name."""

    def __init__(self, *options: str, data_dir: Path, port: int = 0, workers: int = 2) -> None:
        asked = ("--workers", str(workers)) if workers else ()
        super().__init__(*asked, *options, data_dir=data_dir, port=port)

    @property
    def pids(self) -> dict[str, int]:
        """Process numbers: "worker 0", "control", ..."""
        return {name_of(pid): pid for pid in children_of(self.process.pid)}

    async def kill(self, name: str) -> int:
        """Kill one process, and wait until another has its place; that one's number."""
        before = self.pids[name]
        os.kill(before, signal.SIGKILL)
        await until(lambda: self.pids.get(name, before) != before)
        return self.pids[name]

    async def counted(self, count: int) -> RawReply:
        """/metrics, once they count so many requests."""
        deadline = time.monotonic() + 20
        while True:
            metrics = await ask(self.url, target="/metrics")
            if metrics.status == 200:
                shown = sum(samples(metrics.body, "trueclock_requests_total").values())
                if shown >= count:
                    assert shown == count
                    return metrics
            assert time.monotonic() < deadline
            await asyncio.sleep(0.02)


def children_of(pid: int) -> list[int]:
    """The processes whose parent a process is."""
    found = []
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            if entry.name.isdigit() and int((entry / "stat").read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(int(entry.name))
    return found


def name_of(pid: int) -> str:
    """What ps shows of a process, less the beginning that all of a gateway's have in common."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().strip().removeprefix("gw ")
    return ""


def runs(pid: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


async def spread(gateway: Workers, workers: int = 2) -> int:
    """Ask on connections of their own until every worker has had some; how many requests that took."""
    before, asked = Counter(by_log(gateway.data_dir)), 0
    while len(Counter(by_log(gateway.data_dir)) - before) < workers:
        assert asked < 200
        assert (await chat(gateway.url, f"model-{asked % 3}")).status == 200
        asked += 1
    return asked


def by_log(data_dir: Path) -> dict[str, int]:
    """Events in each log."""
    found = {}
    for path in sorted(data_dir.glob("events-*.sqlite")):
        reader = LogReader(path, patience=5.0)
        found[path.stem] = len(reader.read(0, 1_000_000).rows)
        reader.close()
    return found


def lines_of(errors: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in errors.splitlines()]


# --- one gateway


def test_metrics_summary_and_commands_are_right_over_all_workers(tmp_path: Path) -> None:
    async def scenario() -> int:
        async with OpenAILike() as upstream, Workers("--upstream", upstream.url, data_dir=tmp_path) as gateway:
            assert gateway.first_line == f"trueclock is at {gateway.url} and passes requests on to {upstream.url}\n"
            assert set(gateway.pids) == {"worker 0", "worker 1", "control"}
            count = await spread(gateway)
            metrics = (await gateway.counted(count)).body
            summary = (await ask(gateway.url, target="/trueclock/v1/summary?by=model")).json
            assert samples(metrics, "trueclock_gateway_workers") == {(): 2}
            assert samples(metrics, "trueclock_gateway_restarts_total") == {("worker",): 0, ("control",): 0}
            assert samples(metrics, "trueclock_event_log_rows") == {(): count}
            assert samples(metrics, "trueclock_events_dropped_total") == {
                ("disk",): 0, ("retention",): 0, ("unreadable",): 0,
            }  # fmt: skip
            assert samples(metrics, "trueclock_event_log_slowest_commit_seconds")[()] > 0
            assert summary["total"]["requests"] == summary["log"]["rows"] == count
            assert summary["address"] == gateway.url
            assert {group["model"] for group in summary["groups"]} <= {"model-0", "model-1", "model-2"}
            assert len({recent["id"] for recent in summary["recent"]}) == min(count, 20)
            status, errors = await gateway.end()
            assert (status, [line["level"] for line in lines_of(errors)]) == (0, ["info"])
            return count

    count = run(scenario())
    ids = [event.id for event in recorded(tmp_path)]
    assert len(set(ids)) == len(ids) == count

    async def commands() -> None:
        printed = await command("gateway.cli", "events", "--data-dir", str(tmp_path))
        out, errors = await within(printed.communicate())
        assert errors == b""
        shown = [json.loads(line) for line in out.splitlines()]
        assert [event["id"] for event in shown] == sorted(ids)
        for event in (shown[0], shown[-1]):
            explained = await command("gateway.cli", "explain", event["id"], "--json", "--data-dir", str(tmp_path))
            out, _ = await within(explained.communicate())
            assert json.loads(out)["event"]["id"] == event["id"]

    run(commands())


def test_it_is_one_process_unless_workers_are_asked_for(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with GatewayProcess(data_dir=tmp_path) as gateway:
            assert children_of(gateway.process.pid) == []
            metrics = (await ask(gateway.url, target="/metrics")).body
            assert samples(metrics, "trueclock_gateway_workers") == {(): 1}
            assert samples(metrics, "trueclock_gateway_restarts_total") == {("worker",): 0, ("control",): 0}
        async with Workers(data_dir=tmp_path, workers=1) as gateway:
            assert set(gateway.pids) == {"worker 0", "control"}
            assert (await gateway.end())[0] == 0

    run(scenario())


def test_requests_in_flight_are_summed_and_a_killed_workers_are_no_more(tmp_path: Path) -> None:
    async def flying(gateway: Workers) -> float:
        return samples((await ask(gateway.url, target="/metrics")).body, "trueclock_requests_in_flight")[()]

    async def until_flying(gateway: Workers, count: float) -> None:
        while await flying(gateway) != count:
            await asyncio.sleep(0.02)

    async def scenario() -> None:
        async with OpenAILike() as upstream, Workers("--upstream", upstream.url, data_dir=tmp_path) as gateway:
            async with AsyncExitStack() as stack:
                clients = [await stack.enter_async_context(RawClient(gateway.url)) for _ in range(6)]
                for client in clients:
                    await client.send(request_bytes("POST", CHAT, "localhost", [("x-delay", "30")], STREAM))
                    await within(client.reader.readuntil(b'"content":""'))
                await within(until_flying(gateway, 6))
                for number in range(2):
                    await gateway.kill(f"worker {number}")
                for client in clients:
                    await client.rest()
                await within(until_flying(gateway, 0))
            metrics = (await ask(gateway.url, target="/metrics")).body
            assert samples(metrics, "trueclock_gateway_restarts_total") == {("worker",): 2, ("control",): 0}

    run(scenario())


def test_with_kafka_there_is_a_control_process_and_a_broker_that_is_away_harms_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        with socket.create_server(("127.0.0.1", 0)) as nobody:
            broker = f"127.0.0.1:{nobody.getsockname()[1]}"
        async with OpenAILike() as upstream:
            async with Workers("--upstream", upstream.url, "--kafka", broker, data_dir=tmp_path, workers=0) as gateway:
                assert set(gateway.pids) == {"worker 0", "control"}
                for _ in range(5):
                    assert (await chat(gateway.url)).status == 200
                await until_gauge(gateway, "trueclock_forwarder_failing", 1)
                metrics = (await gateway.counted(5)).body
                assert samples(metrics, "trueclock_event_log_failing") == {(): 0}
                log = (await ask(gateway.url, target="/trueclock/v1/summary")).json["log"]
                assert log["failing"] is None
                assert log["forwarder"]["failing"]
                assert (await ask(gateway.url, target="/health/ready")).status == 200
                assert (await gateway.end())[0] == 0

    run(scenario())


# --- own paths, asked of a worker


async def _answers(gateway: GatewayProcess) -> list[RawReply]:
    asked = [
        ("GET", "/"), ("HEAD", "/"), ("GET", "/trueclock/v1/page/page.js"), ("GET", "/health/live"),
        ("GET", "/health/ready"), ("HEAD", "/health/live"), ("POST", "/health/live"), ("POST", "/metrics"),
        ("GET", "/trueclock/v1/nothing"), ("GET", "/trueclock/v1/series?by=colour"), ("GET", "/trueclock"),
        ("GET", "/trueclock/v1/requests?limit=3&limit=4"), ("GET", "/trueclock/v1/explain/%2F..%2F"),
        ("GET", "/trueclock/v1/outcomes"), ("POST", "/trueclock/v1/outcomes"), ("GET", "/trueclock/v1/strategies"),
        ("PURGE", "/metrics"), ("GET", "/trueclock/v1/explain/0123456789abcdef?stack=v100-megatron"),
    ]  # fmt: skip
    return [await ask(gateway.url, method, target) for method, target in asked]


def _bare(reply: RawReply) -> tuple[bytes, list[tuple[bytes, bytes]], bytes, str]:
    headers = [pair for pair in reply.headers if pair[0] != b"Date"]
    return reply.status_line, headers, reply.body, reply.framing


def test_own_paths_answer_byte_for_byte_as_one_process_does(tmp_path: Path) -> None:
    async def scenario() -> None:
        # Names of one length, as an answer may say where it looked.
        async with GatewayProcess(data_dir=tmp_path / "solo") as one, Workers(data_dir=tmp_path / "many") as many:
            for single, relayed in zip(await _answers(one), await _answers(many), strict=True):
                status, headers, body, framing = _bare(relayed)
                assert (status, headers, body.replace(b"/many:", b"/solo:"), framing) == _bare(single)
            for _ in range(20):  # on connections kept open, too
                async with RawClient(many.url) as client:
                    for target in ("/metrics", "/", "/health/live"):
                        await client.send(request_bytes("GET", target, "localhost"))
                        assert (await client.reply()).status == 200
            forbidden = await ask(many.url, target="/metrics", headers=[("Origin", "https://evil.example")])
            assert (forbidden.status, forbidden.error_code) == (403, "origin_not_allowed")

    run(scenario())


def test_a_wide_bind_serves_own_paths_on_the_admin_address_alone(tmp_path: Path) -> None:
    async def scenario() -> None:
        options = ("--host", "0.0.0.0", "--allowed-host", "api.test")
        async with OpenAILike() as upstream, AsyncExitStack() as stack:
            gateway = Workers("--upstream", upstream.url, *options, data_dir=tmp_path)
            await stack.enter_async_context(gateway)
            assert gateway.process.stdout is not None
            second = (await within(gateway.process.stdout.readline())).decode()
            admin = second.split("open ")[1].split("/ ")[0]
            assert admin != gateway.url
            assert (await ask(gateway.url, target="/metrics")).error_code == "not_found"
            assert (await ask(admin, target="/v1/models")).error_code == "not_found"
            assert (await ask(gateway.url, target="/v1/models")).status == 200
            for url in (gateway.url, admin):
                origin = [("Origin", "http://localhost")]
                assert (await ask(url, target="/health/ready", headers=origin)).status == 200
                assert (await ask(url, target="/health/live")).status == 200
            await gateway.kill("control")
            await until_status(admin, 200)
            assert (await ask(admin, target="/metrics")).status == 200
            status, errors = await gateway.end()
            assert status == 0
            assert "reachable from outside" in errors

    run(scenario())


async def until_status(url: str, status: int, target: str = "/health/ready") -> RawReply:
    deadline = time.monotonic() + 20
    while True:
        with suppress(OSError, asyncio.IncompleteReadError):
            reply = await ask(url, target=target)
            if reply.status == status:
                return reply
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


# --- processes that end


def test_a_killed_worker_is_replaced_and_loses_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with OpenAILike() as upstream, Workers("--upstream", upstream.url, data_dir=tmp_path) as gateway:
            whole, stop = 0, asyncio.Event()

            async def load() -> None:
                nonlocal whole
                while not stop.is_set():
                    with suppress(OSError, asyncio.IncompleteReadError):
                        reply = await chat(gateway.url, stream=True)
                        whole += reply.body.endswith(b"0\r\n\r\n") or b"[DONE]" in reply.body

            clients = [asyncio.create_task(load()) for _ in range(8)]
            for number in (0, 1, 0):
                reached = whole + 30
                await until(lambda reached=reached: whole >= reached)
                await gateway.kill(f"worker {number}")
            reached = whole + 30
            await until(lambda: whole >= reached)
            stop.set()
            await within(asyncio.gather(*clients))
            events = recorded(tmp_path)
            assert whole <= len(events) <= whole + 3 * 8
            metrics = (await gateway.counted(len(events))).body
            assert samples(metrics, "trueclock_gateway_restarts_total") == {("worker",): 3, ("control",): 0}
            await until_gauge(gateway, "trueclock_gateway_workers", 2)
            status, errors = await gateway.end()
            assert status == 0
            said = [line["message"] for line in lines_of(errors) if line["level"] == "warning"]
            assert len(said) == 3
            assert all("has ended (killed by SIGKILL): it is replaced" in message for message in said)

    run(scenario())


async def until_gauge(gateway: Workers, name: str, value: float) -> None:
    deadline = time.monotonic() + 20
    while samples((await ask(gateway.url, target="/metrics")).body, name) != {(): value}:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


def test_connections_outlive_the_worker_that_was_to_accept_them(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with OpenAILike() as upstream, AsyncExitStack() as stack:
            gateway = Workers("--upstream", upstream.url, data_dir=tmp_path, workers=1)
            await stack.enter_async_context(gateway)
            os.kill(gateway.pids["worker 0"], signal.SIGSTOP)
            clients = [await stack.enter_async_context(RawClient(gateway.url)) for _ in range(5)]
            for client in clients:
                await client.send(request_bytes("GET", "/v1/models", "localhost"))
            await gateway.kill("worker 0")
            assert [(await client.reply()).status for client in clients] == [200] * 5

    run(scenario())


def test_a_killed_control_process_goes_on_where_it_was_and_traffic_does_meanwhile(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with OpenAILike() as upstream, Workers("--upstream", upstream.url, data_dir=tmp_path) as gateway:
            count = await spread(gateway)
            await gateway.counted(count)
            for _ in range(3):
                await asyncio.sleep(0.3)  # some of it is saved by then, some is not
                os.kill(gateway.pids["control"], signal.SIGKILL)
                for _ in range(10):
                    assert (await chat(gateway.url)).status == 200
                    assert (await ask(gateway.url, target="/health/live")).status == 200
                count += 10
                metrics = await gateway.counted(count)
            assert samples(metrics.body, "trueclock_gateway_restarts_total") == {("worker",): 0, ("control",): 3}
            assert samples(metrics.body, "trueclock_gateway_workers") == {(): 2}
            assert (await gateway.end())[0] == 0
            await gateway.start()
            await gateway.counted(count)

    run(scenario())


def test_without_a_control_process_own_paths_are_503_on_one_line(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with OpenAILike() as upstream, Workers("--upstream", upstream.url, data_dir=tmp_path) as gateway:
            os.kill(gateway.process.pid, signal.SIGSTOP)  # so that nothing is replaced
            control = gateway.pids["control"]
            os.kill(control, signal.SIGKILL)
            await until(lambda: not runs(control))
            for target in ("/", "/metrics", "/health/ready", "/trueclock/v1/summary"):
                reply = await ask(gateway.url, target=target)
                assert (reply.status, reply.body.count(b"\n")) == (503, 1)
                assert b"control process" in reply.body
            assert (await ask(gateway.url, target="/health/live")).body == b"ok\n"
            for _ in range(5):
                assert (await chat(gateway.url)).status == 200
            os.kill(gateway.process.pid, signal.SIGCONT)
            await until_status(gateway.url, 200)
            await gateway.counted(5)
            assert (await gateway.end())[0] == 0

    run(scenario())


def test_a_worker_that_keeps_ending_is_told_of_a_few_times_and_the_others_serve(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with (
            OpenAILike() as upstream,
            Workers("--upstream", upstream.url, data_dir=tmp_path) as gateway,
            RawClient(gateway.url) as client,
        ):
            await client.send(request_bytes("GET", "/v1/models", "localhost"))
            assert (await client.reply()).status == 200
            (busy, _), (idle, _) = Counter(by_log(tmp_path)).most_common()
            broken = idle.replace("events-", "worker ")
            for path in tmp_path.glob(f"{idle}.sqlite*"):
                path.rename(tmp_path / f"aside-{path.name}")
            newer(tmp_path / f"{idle}.sqlite")
            os.kill(gateway.pids[broken], signal.SIGKILL)
            assert gateway.process.stderr is not None
            said = [""]
            while "keeps ending" not in said[-1]:
                message = json.loads(await within(gateway.process.stderr.readline()))["message"]
                said += [message] if message.startswith(broken) else []
            assert said[1].endswith("has ended (killed by SIGKILL): it is replaced")
            assert all("written by a newer trueclock" in message for message in said[2:])
            assert len(said) == 5
            for _ in range(5):
                await client.send(request_bytes("GET", "/v1/models", "localhost"))
                assert (await client.reply()).status == 200
            with closing(LogReader(tmp_path / f"{busy}.sqlite")) as reader:
                assert len(reader.read(0, 100).rows) == 6
            for path in tmp_path.glob(f"{idle}.sqlite*"):
                path.unlink()
            await until((tmp_path / f"{idle}.sqlite").exists)
            await spread(gateway)

    run(scenario())


def newer(path: Path) -> None:
    """A log of a later version."""
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version=99")


def test_a_killed_supervisor_ends_all_and_who_has_the_directory_meanwhile_is_said(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with OpenAILike() as upstream, Workers("--upstream", upstream.url, data_dir=tmp_path) as gateway:
            pids = list(gateway.pids.values())
            async with RawClient(gateway.url) as client:
                await client.send(request_bytes("POST", CHAT, "localhost", [("x-delay", "0.05")], STREAM))
                await within(client.reader.readuntil(b'"content":" what"'))
                gateway.process.send_signal(signal.SIGKILL)
                await within(gateway.process.wait())
                errors = await refused_start(tmp_path)
                assert f"(process {gateway.process.pid}) was using it and has ended" in errors
                assert "still finish their requests" in errors
                await client.rest_of_chunks()
            await until(lambda: not any(runs(pid) for pid in pids))
            (event,) = await events_of(tmp_path, 1)
            assert (event.error_class, event.completion_tokens) == (None, 30)
            await gateway.process.communicate()
            await gateway.start()
            await gateway.counted(1)
            errors = await refused_start(tmp_path)
            assert f"another gateway is using it (process {gateway.process.pid})" in errors
            assert (await gateway.end())[0] == 0

    run(scenario())


async def refused_start(data_dir: Path) -> str:
    second = await command("gateway.cli", "run", "--workers", "2", "--port", "0", "--data-dir", str(data_dir))
    out, errors = await within(second.communicate())
    assert (second.returncode, out, errors.count(b"\n")) == (2, b"", 1)
    return errors.decode()


def test_no_descriptors_are_left_behind_by_those_that_were_replaced(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with Workers(data_dir=tmp_path) as gateway:
            held = Path(f"/proc/{gateway.process.pid}/fd")
            before = len(list(held.iterdir()))
            for name in ("worker 0", "worker 1", "control", "worker 0"):
                await gateway.kill(name)
            await until_status(gateway.url, 200)
            assert len(list(held.iterdir())) == before
            assert (await gateway.end())[0] == 0

    run(scenario())


# --- the end, and the beginning


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("all_of_them", [False, True])
def test_a_signal_lets_running_streams_finish_and_all_is_counted(
    tmp_path: Path, number: signal.Signals, *, all_of_them: bool
) -> None:
    async def scenario() -> None:
        async with OpenAILike() as upstream, Workers("--upstream", upstream.url, data_dir=tmp_path) as gateway:
            async with AsyncExitStack() as stack:
                clients = [await stack.enter_async_context(RawClient(gateway.url)) for _ in range(6)]
                for client in clients:
                    await client.send(request_bytes("POST", CHAT, "localhost", [("x-delay", "0.03")], STREAM))
                    await within(client.reader.readuntil(b'"content":" what"'))
                for pid in gateway.pids.values() if all_of_them else ():
                    os.kill(pid, number)  # as a terminal and some service managers do
                gateway.process.send_signal(number)
                await until_refused(gateway.port)
                for client in clients:
                    await client.rest_of_chunks()
                    assert await client.rest() == b""
            status, errors = await gateway.ended()
            assert (status, [line["level"] for line in lines_of(errors)]) == (0, ["info"]), errors
            assert {event.error_class for event in await events_of(tmp_path, 6)} == {None}
            with closing(StateFile(tmp_path / "stream.sqlite")) as state:
                assert sum(cursor.row for cursor in state.saved.cursors.values()) == 6
            assert not list(tmp_path.glob("*-wal"))

    run(scenario())


def test_processes_that_end_with_the_gateway_are_no_restarts(tmp_path: Path) -> None:
    async def scenario() -> None:
        options = ("--host", "0.0.0.0", "--allowed-host", "localhost")
        async with OpenAILike() as upstream, AsyncExitStack() as stack:
            gateway = Workers("--upstream", upstream.url, *options, data_dir=tmp_path)
            await stack.enter_async_context(gateway)
            assert gateway.process.stdout is not None
            admin = (await within(gateway.process.stdout.readline())).decode().split("open ")[1].split("/ ")[0]
            client = await stack.enter_async_context(RawClient(gateway.url))
            await client.send(request_bytes("POST", CHAT, "localhost", [("x-delay", "1")], STREAM))
            await within(client.reader.readuntil(b'"content":" what"'))
            gateway.process.send_signal(signal.SIGTERM)
            await until(lambda: len(gateway.pids) == 2)  # the other worker has nothing to finish
            while samples(metrics := (await ask(admin, target="/metrics")).body, "trueclock_gateway_workers") != {
                (): 1
            }:
                pass
            assert set(samples(metrics, "trueclock_gateway_restarts_total").values()) == {0}
            gateway.process.send_signal(signal.SIGTERM)
            assert (await gateway.ended())[0] == -signal.SIGTERM

    run(scenario())


async def until_refused(port: int) -> None:
    deadline = time.monotonic() + 20
    with suppress(OSError):
        while time.monotonic() < deadline:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            await asyncio.sleep(0.01)
        raise AssertionError("connections are still taken")


def test_a_second_signal_ends_all_at_once(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with (
            OpenAILike() as upstream,
            Workers("--upstream", upstream.url, data_dir=tmp_path) as gateway,
            RawClient(gateway.url) as client,
        ):
            pids = list(gateway.pids.values())
            await client.send(request_bytes("POST", CHAT, "localhost", [("x-delay", "30")], STREAM))
            await within(client.reader.readuntil(b'"content":""'))
            gateway.process.send_signal(signal.SIGTERM)
            await until_refused(gateway.port)
            status, _ = await gateway.end(signal.SIGINT)
            assert status == -signal.SIGINT
            await until(lambda: not any(runs(pid) for pid in pids))

    run(scenario())


def test_an_address_in_use_is_one_line_even_where_it_would_be_shared(tmp_path: Path) -> None:
    async def start(*options: str) -> str:
        process = await command("gateway.cli", "run", "--workers", "2", "--data-dir", str(tmp_path), *options)
        out, errors = await within(process.communicate())
        assert (process.returncode, out, errors.count(b"\n")) == (2, b"", 1)
        assert [path.name for path in tmp_path.iterdir()] == ["gateway.lock"]
        return errors.decode()

    async def scenario() -> None:
        with socket.create_server(("127.0.0.1", 0), reuse_port=True) as taken:
            port = taken.getsockname()[1]
            assert f"cannot listen on 127.0.0.1:{port}: Address already in use; choose" in await start(
                "--port", str(port)
            )
            options = ("--host", "0.0.0.0", "--port", "0", "--admin", f"127.0.0.1:{port}")
            assert f"cannot listen on 127.0.0.1:{port}: Address already in use; choose" in await start(*options)
        for host in ("203.0.113.7", "no such host"):
            assert f"cannot listen on {host}:0: " in await start("--host", host, "--port", "0")

    run(scenario())


@pytest.mark.parametrize("file", ["events-1.sqlite", "stream.sqlite"])
def test_what_keeps_a_process_from_starting_is_one_line(tmp_path: Path, file: str) -> None:
    newer(tmp_path / file)

    async def scenario() -> None:
        process = await command("gateway.cli", "run", "--workers", "2", "--port", "0", "--data-dir", str(tmp_path))
        out, errors = await within(process.communicate())
        assert (process.returncode, out) == (2, b"")
        *warnings, line = errors.decode().splitlines()
        assert line.startswith("gateway run: ")
        assert file in line
        assert "newer trueclock" in line
        assert all("newer trueclock" in json.loads(warning)["message"] for warning in warnings)

    run(scenario())


# --- the number of workers changes


def test_a_log_that_no_worker_writes_any_more_is_read_to_its_end_and_grows_old(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with OpenAILike() as upstream:
            async with Workers("--upstream", upstream.url, data_dir=tmp_path) as gateway:
                os.kill(gateway.process.pid, signal.SIGSTOP)
                control = gateway.pids["control"]
                os.kill(control, signal.SIGKILL)  # nothing of it is counted yet
                await until(lambda: not runs(control))
                count = await spread(gateway)
                os.kill(gateway.process.pid, signal.SIGKILL)
                await gateway.process.communicate()
            held = by_log(tmp_path)
            async with Workers("--upstream", upstream.url, data_dir=tmp_path, workers=1) as gateway:
                await gateway.counted(count)
                assert by_log(tmp_path) == held
                assert (await gateway.end())[0] == 0
            with closing(sqlite3.connect(tmp_path / "events-1.sqlite")) as db, db:
                db.execute("UPDATE events SET ended = ended - 8 * 86400 WHERE row = 1")
            async with serve(upstream.url, data_dir=tmp_path):  # and one process does the same
                await until(lambda: by_log(tmp_path)["events-1"] == held["events-1"] - 1)
            assert by_log(tmp_path)["events-0"] == held["events-0"]

    run(scenario())
