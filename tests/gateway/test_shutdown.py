"""How `gateway run` ends and begins again: streams are finished, the grace is bounded, nothing recorded is lost."""

import asyncio
import json
import os
import signal
import time
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.harness import (
    CHAT,
    GatewayProcess,
    RawClient,
    ask,
    chat,
    command,
    events_of,
    request_bytes,
    run,
    serve,
    until,
    within,
)
from tests.servers.openai_like import OpenAILike

STREAM = json.dumps({"model": "gpt-4o", "messages": [], "stream": True, "max_tokens": 30}).encode()


def stream_request(delay: str) -> bytes:
    return request_bytes("POST", CHAT, "localhost", [("x-delay", delay)], STREAM)


async def refused(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return True
    writer.close()
    return False


async def until_refused(port: int) -> None:
    deadline = time.monotonic() + 10
    while not await refused(port):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_a_running_stream_finish_and_takes_no_more_connections(
    tmp_path: Path, number: signal.Signals
) -> None:
    async def scenario() -> None:
        async with OpenAILike() as upstream, GatewayProcess("--upstream", upstream.url, data_dir=tmp_path) as gateway:
            async with RawClient(gateway.url) as client, RawClient(gateway.url) as idle:
                await idle.send(request_bytes("GET", "/v1/models", "localhost"))
                assert (await idle.reply()).status == 200
                await client.send(stream_request("0.03"))
                await within(client.reader.readuntil(b'"content":" what"'))
                gateway.process.send_signal(number)
                await until_refused(gateway.port)
                assert await idle.rest() == b""
                await client.rest_of_chunks()
                assert await client.rest() == b""  # and no further request on this connection
            status, errors = await gateway.ended()
            events = await events_of(tmp_path, 2)
        assert status == 0
        assert [json.loads(line)["level"] for line in errors.splitlines()] == ["info"]
        assert (events[1].error_class, events[1].completion_tokens, events[1].finish_reason) == (None, 30, "length")

    run(scenario())


def test_the_grace_is_bounded_and_what_it_cuts_off_is_recorded_as_that(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with OpenAILike() as upstream, AsyncExitStack() as stack:
            async with serve(upstream.url, grace_seconds=0.3, data_dir=tmp_path) as gateway:
                client = await stack.enter_async_context(RawClient(gateway.url))
                await client.send(stream_request("5"))
                await within(client.reader.readuntil(b'"content":""'))
                began = time.monotonic()
            assert 0.29 <= time.monotonic() - began < 3
            assert not (await client.rest()).endswith(b"0\r\n\r\n")
            (event,) = await events_of(tmp_path, 1)
            assert (event.error_class, event.status, event.finish_reason) == ("gateway_stopped", 200, None)
            await within((await upstream.received(1)).gone.wait())

    run(scenario())


@pytest.mark.parametrize("workers", [(), ("--workers", "2")])
def test_the_grace_is_an_option(tmp_path: Path, workers: tuple[str, ...]) -> None:
    async def scenario() -> None:
        options = ("--grace-seconds", "0.3", *workers)
        async with (
            OpenAILike() as upstream,
            GatewayProcess("--upstream", upstream.url, *options, data_dir=tmp_path) as gateway,
            RawClient(gateway.url) as client,
        ):
            await client.send(stream_request("5"))
            await within(client.reader.readuntil(b'"content":""'))
            status, errors = await gateway.end()
            assert not (await client.rest()).endswith(b"0\r\n\r\n")
        assert status == 0
        assert "requests in flight have 0.3 s to finish" in errors
        (event,) = await events_of(tmp_path, 1)
        assert event.error_class == "gateway_stopped"

    run(scenario())


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_it_at_once(tmp_path: Path, second: signal.Signals) -> None:
    async def scenario() -> None:
        async with OpenAILike() as upstream, GatewayProcess("--upstream", upstream.url, data_dir=tmp_path) as gateway:
            async with RawClient(gateway.url) as client:
                await client.send(stream_request("5"))
                await within(client.reader.readuntil(b'"content":""'))
                gateway.process.send_signal(signal.SIGTERM)
                await until_refused(gateway.port)
                status, _ = await gateway.end(second)
        assert status == -second

    run(scenario())


def test_a_second_gateway_on_one_data_directory_is_refused(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with GatewayProcess(data_dir=tmp_path) as gateway:
            second = await command("gateway.cli", "run", "--port", "0", "--data-dir", str(tmp_path))
            out, errors = await within(second.communicate())
            assert (second.returncode, out) == (2, b"")
            assert errors.decode().count("\n") == 1
            assert "another gateway is using it" in errors.decode()
            assert (await ask(gateway.url, target="/health/ready")).status == 200

    run(scenario())


def test_a_restart_straight_after_kill_9_works_and_has_every_event(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with OpenAILike() as upstream, GatewayProcess("--upstream", upstream.url, data_dir=tmp_path) as gateway:
            for count in range(1, 4):
                for _ in range(5):
                    assert (await chat(gateway.url, stream=True)).status == 200
                assert (await gateway.end(signal.SIGKILL))[0] == -signal.SIGKILL
                await gateway.start()
                await events_of(tmp_path, 5 * count)
            assert (await gateway.end())[0] == 0

    run(scenario())


def test_a_port_in_use_is_one_line(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with OpenAILike() as upstream:
            process = await command("gateway.cli", "run", "--port", str(upstream.port), "--data-dir", str(tmp_path))
            out, errors = await within(process.communicate())
        assert (process.returncode, out) == (2, b"")
        (line,) = errors.decode().splitlines()
        assert f"cannot listen on 127.0.0.1:{upstream.port}" in line
        assert "choose another" in line

    run(scenario())


def test_the_first_line_is_the_address_and_so_is_the_file(tmp_path: Path) -> None:
    async def scenario() -> None:
        file = tmp_path / "address.txt"
        async with GatewayProcess("--address-file", str(file), data_dir=tmp_path / "data") as gateway:
            assert file.read_text() == gateway.url + "\n"
            assert (tmp_path / "data" / "address").read_text() == gateway.url + "\n"
            assert gateway.first_line.startswith("trueclock")
            status, _ = await gateway.end()
            assert status == 0

    run(scenario())


def test_private_files_are_private(tmp_path: Path) -> None:
    async def scenario() -> None:
        data_dir = tmp_path / "data"
        async with OpenAILike() as upstream, serve(upstream.url, data_dir=data_dir) as gateway:
            await chat(gateway.url, headers=(("Authorization", "Bearer sk-very-secret"),))
            (event,) = await gateway.events(1)
            assert event.caller is not None
            assert event.caller.startswith("c_")
        assert data_dir.stat().st_mode & 0o077 == 0
        assert (data_dir / "salt").stat().st_mode & 0o077 == 0
        for path in data_dir.iterdir():
            assert b"sk-very-secret" not in path.read_bytes()

    run(scenario())


def test_no_descriptors_and_no_tasks_are_left_behind() -> None:
    async def scenario() -> None:
        async with OpenAILike() as upstream:
            async with serve(upstream.url) as gateway:
                await chat(gateway.url)
            before = len(os.listdir("/proc/self/fd"))
            for _ in range(3):
                async with serve(upstream.url) as gateway:
                    await chat(gateway.url, stream=True)
                    await chat(gateway.url)
            await until(lambda: len(os.listdir("/proc/self/fd")) <= before)

    run(scenario())
