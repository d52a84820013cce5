"""A configuration that follows its files: what is taken, when, and that nobody notices but by what was asked for."""

import asyncio
import json
import logging
import os
import pty
import re
import signal
import sqlite3
import sys
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.config import Config, ConfigError
from gateway.reload import ConfigWatch, Loaded
from gateway.settings_file import load_settings_file
from stream.coefficients import load_tables
from stream.kafka import KafkaSettings
from tests.gateway.test_own_paths import samples
from tests.gateway.test_workers import Workers
from tests.harness import (
    ROOT,
    GatewayProcess,
    RawClient,
    ask,
    chat,
    command,
    recorded,
    request_bytes,
    run,
    until,
    within,
)
from tests.servers.openai_like import OpenAILike

# --- what is taken, and when


class Files:
    """A configuration file, and a watch over it that takes every change at once."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "config.yaml"
        self.write(upstream="http://127.0.0.1:9001")
        self.reads = 0
        self.watch = ConfigWatch(self._load, [self.path], settled=0.0)

    def _load(self) -> Loaded:
        self.reads += 1
        return Loaded(*load_settings_file(self.path))

    def write(self, **own: Any) -> None:
        """Replace the file, as `mv` does: it never is there in part."""
        fresh = self.path.with_suffix(".new")
        fresh.write_text(yaml.safe_dump({"trueclock": own}))
        fresh.rename(self.path)

    def look(self) -> Loaded | None:
        return self.watch.look()


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if record.name == "trueclock.gateway"]


@pytest.mark.parametrize(
    ("own", "told"),
    [
        ({"upstream": "http://127.0.0.1:9002"}, "upstream"),
        ({"body_limit_bytes": 5}, "body_limit_bytes"),
        ({"callers": {"checkout": "key"}}, "callers"),
        ({"retention": {"days": 1, "bytes": 9}}, "retention"),
        ({"assume": {"gpt-4o": "davinci"}}, "assume, table version {}"),
        ({"stack": "v100-megatron"}, "stack, table version {}"),
        ({"region": "se"}, "constants, region or prices, table version {}"),
    ],
)
def test_a_change_is_taken_once_and_named(
    files: Files, own: dict[str, Any], told: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    files.write(**{"upstream": "http://127.0.0.1:9001", **own})
    loaded = files.look()
    assert loaded is not None
    assert files.watch.loaded is loaded
    if "{}" in told:
        told = told.format(loaded.tables.version) + " for what is counted from now on"
    assert messages(caplog) == [f"the configuration has changed: {told}"]
    assert (files.look(), files.look(), files.reads) == (None, None, 2)
    assert (files.watch.reloads.applied, files.watch.reloads.refused) == (1, 0)


def test_a_file_that_is_still_being_written_is_not_read(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    """However often somebody looks: a supervisor does so whenever a worker ends."""
    now = time.monotonic()
    monkeypatch.setattr("gateway.reload.time.monotonic", lambda: now)
    watch = ConfigWatch(files._load, [files.path], settled=0.4)
    for port in range(9002, 9010):
        files.write(upstream=f"http://127.0.0.1:{port}")
        assert [watch.look() for _ in range(3)] == [None] * 3
        now += 0.3
        assert watch.look() is None
    assert files.reads == 2
    now += 0.2
    loaded = watch.look()
    assert loaded is not None
    assert loaded.config.default is not None
    assert loaded.config.default.root == "http://127.0.0.1:9009"


def test_what_cannot_be_used_changes_nothing_and_is_told_once(files: Files, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    before = files.watch.loaded
    files.write(upstreams="http://127.0.0.1:9002")
    assert [files.look() for _ in range(4)] == [None] * 4
    assert files.watch.loaded is before
    failing = files.watch.reloads.failing
    assert failing is not None
    assert failing.startswith(f"{files.path}:2:")
    assert messages(caplog) == [f"the configuration stays as it was: {failing}"]
    assert (files.watch.reloads.applied, files.watch.reloads.refused) == (0, 1)
    files.write(upstream="http://127.0.0.1:9001")
    assert files.look() is None  # the same as before
    assert files.watch.reloads.failing is None
    assert messages(caplog)[1:] == ["the configuration is the one that is in use already"]


def test_what_it_lacked_may_come_later(
    files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    files.write(upstream="http://127.0.0.1:9001", tables=["mine.json"])
    assert files.look() is None
    assert files.watch.reloads.failing is not None
    table = {
        "models": {"mine": {"runtime_per_output_token": 0.1, "runtime_for_prompt_tokens": {"1": 0.2}, "overhead": 0}}
    }
    (tmp_path / "mine.json").write_text(json.dumps(table))
    assert files.look() is None  # nothing of the configuration's own has changed
    now = time.monotonic()
    monkeypatch.setattr("gateway.reload.time.monotonic", lambda: now + 6)
    loaded = files.look()
    assert loaded is not None
    assert loaded.tables.reference == "mine"
    # From then on that file is one of those that are followed.
    table["models"]["mine"]["overhead"] = 1
    (tmp_path / "mine.json").write_text(json.dumps(table))
    assert files.look() is not None
    assert files.watch.reloads.applied == 2
    assert len([line for line in messages(caplog) if "stays as it was" in line]) == 1
    # The same table under another name is no change, but that name is followed then.
    (tmp_path / "moved.json").write_text((tmp_path / "mine.json").read_text().replace("mine", "moved"))
    files.write(upstream="http://127.0.0.1:9001", tables=["moved.json"], stack="moved")
    assert files.look() is not None
    table["models"]["mine"]["overhead"] = 2
    (tmp_path / "moved.json").write_text(json.dumps(table))
    assert files.look() is not None


def test_what_cannot_be_used_is_tried_again_less_and_less_often(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.monotonic()
    monkeypatch.setattr("gateway.reload.time.monotonic", lambda: now)
    files.write(upstreams="http://127.0.0.1:9002")
    for _ in range(600):
        files.look()
        now += 0.5
    assert files.reads == 2 + 3 + 4, "after 5, 15 and 35 s, and every minute then"
    assert files.watch.reloads.refused == 1


def test_what_changes_while_it_is_read_the_first_time_is_read_again(tmp_path: Path) -> None:
    path, table = tmp_path / "config.yaml", tmp_path / "t.json"
    rows = {"mine": {"runtime_per_output_token": 0.1, "runtime_for_prompt_tokens": {"1": 0.2}, "overhead": 0}}
    table.write_text(json.dumps({"models": rows}))
    path.write_text(yaml.safe_dump({"trueclock": {"tables": ["t.json"]}}))

    def load() -> Loaded:
        loaded = Loaded(*load_settings_file(path))
        if not reads:
            rows["mine"]["overhead"] = 1
            table.write_text(json.dumps({"models": rows}))
        reads.append(None)
        return loaded

    reads: list[None] = []
    watch = ConfigWatch(load, [path], settled=0.0)
    assert watch.look() is not None


@pytest.mark.parametrize(
    "text", ["", "# nothing\n", "{}", "trueclock:\n", "model_list:\n", "trueclock: {stack: v100-megatron}"]
)
def test_a_file_that_lost_its_upstreams_does_not_send_keys_to_openai(files: Files, text: str) -> None:
    """A start may take that for OpenAI; a file that is cut off, or not filled in yet, looks the same."""
    files.path.write_text(text)
    assert files.look() is None
    failing = files.watch.reloads.failing or ""
    assert failing.startswith(str(files.path))
    assert failing.endswith("to send everything to OpenAI, write upstream: https://api.openai.com below trueclock")
    files.write(upstream="https://api.openai.com")
    assert files.look() is not None


def test_what_could_hang_or_has_no_end_is_not_read(files: Files, tmp_path: Path) -> None:
    files.path.unlink()
    os.mkfifo(files.path)
    assert files.look() is None
    assert "not a file that could be read again" in (files.watch.reloads.failing or "")
    files.path.unlink()
    files.path.symlink_to("/dev/zero")
    assert files.look() is None
    assert "not a file that could be read again" in (files.watch.reloads.failing or "")
    files.path.unlink()
    with files.path.open("wb") as large:
        large.truncate(17 << 20)
    assert files.look() is None
    assert "17 MiB, where 16 are the most" in (files.watch.reloads.failing or "")
    files.path.unlink()
    assert files.look() is None
    assert "cannot be read: No such file or directory" in (files.watch.reloads.failing or "")
    assert (files.reads, files.watch.reloads.refused) == (2, 4), "only the last was tried"


def test_a_change_that_cannot_be_taken_does_not_end_the_following(
    files: Files, caplog: pytest.LogCaptureFixture
) -> None:
    taken: list[Loaded] = []

    def use(loaded: Loaded) -> None:
        taken.append(loaded)
        if len(taken) == 1:
            raise RuntimeError("nobody thought of this")

    async def scenario() -> None:
        asked = asyncio.Event()
        following = asyncio.create_task(files.watch.follow(use, asked))
        for number in (1, 2):
            files.write(upstream=f"http://127.0.0.1:900{number + 1}")
            asked.set()
            await until(lambda number=number: len(taken) == number)
        following.cancel()

    run(scenario())
    assert "a configuration could not be used" in messages(caplog)


def test_sighup_reads_at_once_and_says_so(files: Files, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    assert files.watch.look(asked=True) is None
    assert messages(caplog) == ["the configuration is the one that is in use already"]
    files.write(upstream="http://127.0.0.1:9002")
    assert files.watch.look(asked=True) is not None
    for _ in range(2):  # whoever asks is answered, also where nothing is new
        files.path.write_text("upstreams: x")
        assert files.watch.look(asked=True) is None
    assert len([line for line in messages(caplog) if "stays as it was" in line]) == 2


def test_connections_to_elsewhere_are_the_starts_affair(caplog: pytest.LogCaptureFixture) -> None:
    tables, before = load_tables(), Config(default=None)
    kafka = KafkaSettings(("127.0.0.1:9092",))
    changed = replace(before, kafka=kafka), replace(before, kafka=kafka, body_limit_bytes=9)
    loads = iter(Loaded(config, tables) for config in (before, *changed))
    watch = ConfigWatch(lambda: next(loads), [])
    assert watch.look(asked=True) is None
    fresh = watch.look(asked=True)
    assert fresh is not None
    assert (fresh.config.kafka, fresh.config.body_limit_bytes, fresh.tables) == (None, 9, tables)
    assert [line for line in messages(caplog) if "next start" in line] == [
        "kafka has changed: that takes effect at the next start"
    ] * 2


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (ConfigError("config.yaml:3:\n wrong"), "config.yaml:3: wrong"),
        (PermissionError(13, "Permission denied", "config.yaml"), "config.yaml: Permission denied"),
        (RuntimeError("nobody thought of this"), "reading it has failed: the gateway's log says where"),
    ],
)
def test_however_reading_fails_the_gateway_goes_on(error: Exception, says: str) -> None:
    reads: list[None] = []

    def load() -> Loaded:
        reads.append(None)
        if len(reads) > 1:
            raise error
        return Loaded(Config(default=None), load_tables())

    watch = ConfigWatch(load, [])
    assert watch.look(asked=True) is None
    assert watch.reloads.failing == says


# --- a gateway that serves meanwhile


def entry(name: str, url: str) -> dict[str, Any]:
    return {"model_name": name, "litellm_params": {"model": f"openai/{name}", "api_base": url, "api_key": "k"}}


def write(path: Path, url: str, **own: Any) -> None:
    fresh = path.with_suffix(".new")
    fresh.write_text(yaml.safe_dump({"model_list": [entry("gpt-4o", url)], "trueclock": own}))
    fresh.rename(path)


async def shown(gateway: GatewayProcess) -> dict[str, float]:
    """The figures of the configuration, by the end of their names."""
    metrics = (await ask(gateway.url, target="/metrics")).body
    return {
        "ok": sum(samples(metrics, "trueclock_config_last_reload_successful").values()),
        "since": sum(samples(metrics, "trueclock_config_last_reload_success_timestamp_seconds").values()),
        **{result: value for (result,), value in samples(metrics, "trueclock_config_reloads_total").items()},
    }


async def until_shown(gateway: GatewayProcess, name: str, value: float) -> dict[str, float]:
    deadline = time.monotonic() + 20
    while (figures := await shown(gateway))[name] != value:
        assert time.monotonic() < deadline, figures
        await asyncio.sleep(0.05)
    return figures


def gateway_of(path: Path, data_dir: Path, workers: int) -> Workers:
    return Workers("--config", str(path), data_dir=data_dir, workers=workers)


async def until_asked(server: OpenAILike, gateway: GatewayProcess, already: int = 0) -> None:
    """Send requests until one arrives at this server."""
    deadline = time.monotonic() + 20
    while len(server.requests) <= already:
        assert (await chat(gateway.url)).status == 200
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_changed_file_is_in_use_in_seconds_and_what_is_in_flight_ends_as_it_began(
    tmp_path: Path, workers: int
) -> None:
    async def scenario() -> None:
        path = tmp_path / "config.yaml"
        async with OpenAILike() as old, OpenAILike() as new:
            write(path, old.url)
            async with gateway_of(path, tmp_path / "data", workers) as gateway, RawClient(gateway.url) as slow:
                body = json.dumps({"model": "gpt-4o", "messages": [], "stream": True, "max_tokens": 40}).encode()
                target = request_bytes("POST", "/v1/chat/completions", "127.0.0.1", [("x-delay", "0.1")], body)
                began = await shown(gateway)
                await slow.send(target)
                await old.received(1)
                write(path, new.url, body_limit_bytes=2000, callers={"checkout": "checkout-key"})
                await until_asked(new, gateway)
                refused = await chat(gateway.url, messages=[{"role": "user", "content": "x" * 3000}])
                assert refused.status == 413
                assert (await chat(gateway.url, headers=[("Authorization", "Bearer checkout-key")])).status == 200
                reply = await slow.reply()
                assert (reply.status, reply.broken, b"[DONE]" in reply.body) == (200, False, True)
                figures = await until_shown(gateway, "applied", 1)
                assert figures["since"] > began["since"]
                assert (figures["ok"], figures["refused"]) == (1, 0)
                await until(lambda: old.open == 0)  # nobody is asked there any more
            events = recorded(tmp_path / "data")
            assert "checkout" in {event.caller for event in events}
            assert {event.status for event in events} == {200, 413}

    run(scenario())


@pytest.mark.parametrize("workers", [0, 2])
def test_tables_change_from_one_event_to_the_next_and_every_event_keeps_its_own(tmp_path: Path, workers: int) -> None:
    """/metrics and a recount of the log agree, across the change and after a restart."""

    async def scenario() -> None:
        path, data = tmp_path / "config.yaml", tmp_path / "data"
        async with OpenAILike() as upstream:
            write(path, upstream.url)
            async with gateway_of(path, data, workers) as gateway:
                for number, own in enumerate(
                    [{"assume": {"gpt-4o": "openai/davinci"}}, {"assume": {"gpt-4o": "ai21/j1-grande"}}, {}], start=1
                ):
                    for _ in range(3):
                        assert (await chat(gateway.url)).status == 200
                    write(path, upstream.url, **own)
                    await until_shown(gateway, "applied", number)
                    await asyncio.sleep(0)
                    await tables_in_use(gateway, data, number + 1)
                assert (await chat(gateway.url)).status == 200
                await agree(gateway, data, {"": 4, "openai/davinci": 3, "ai21/j1-grande": 3})
                await gateway.end()
                await gateway.start()
                await agree(gateway, data, {"": 4, "openai/davinci": 3, "ai21/j1-grande": 3})

    run(scenario())


async def tables_in_use(gateway: GatewayProcess, data: Path, number: int) -> None:
    """Wait until so many versions of tables are stored, the last of which is in use."""

    def stored() -> bool:
        with closing(sqlite3.connect(f"file:{data / 'stream.sqlite'}?mode=ro", uri=True)) as db:
            return bool(db.execute("SELECT count(*) FROM tables").fetchone()[0] == number)

    await until(stored)


async def agree(gateway: GatewayProcess, data: Path, rows: dict[str, int]) -> None:
    process = await command("gateway.cli", "events", "--data-dir", str(data))
    printed, _ = await within(process.communicate())
    events = [json.loads(line) for line in printed.splitlines()]
    found = [event["table_row"] or "" for event in events]
    assert {row: found.count(row) for row in set(found)} == rows
    recount = sum(event["idealized_runtime_seconds"] or 0.0 for event in events)
    metrics = (await ask(gateway.url, target="/metrics")).body
    idealized = samples(metrics, "trueclock_idealized_runtime_seconds_total")
    on_leading = (value for (_, stack, _), value in idealized.items() if stack == "a100-megatron")
    assert sum(on_leading) == pytest.approx(recount)


@pytest.mark.parametrize("workers", [0, 2])
def test_fifty_reloads_under_load_a_third_of_them_broken_fail_no_request(tmp_path: Path, workers: int) -> None:
    async def scenario() -> None:
        path = tmp_path / "config.yaml"
        async with OpenAILike() as one, OpenAILike() as two:
            write(path, one.url)
            async with gateway_of(path, tmp_path / "data", workers) as gateway:
                over = asyncio.Event()
                clients = [
                    asyncio.create_task(client(gateway.url, over, stream=bool(number % 2))) for number in range(4)
                ]
                applied = refused = 0
                for number in range(50):
                    if number % 3 == 2:
                        path.write_text(BROKEN[number % len(BROKEN)])
                        refused += 1
                    else:
                        applied += 1
                        write(path, (one, two)[applied % 2].url, body_limit_bytes=10_000 + number)
                    gateway.process.send_signal(signal.SIGHUP)
                    name, value = ("refused", refused) if number % 3 == 2 else ("applied", applied)
                    figures = await until_shown(gateway, name, value)
                    assert figures["ok"] == float(name == "applied")
                over.set()
                served = sum(await within(asyncio.gather(*clients)))
                assert (applied, refused) == (34, 16)
                status, errors = await gateway.end()
                assert status == 0
                assert errors.count("the configuration stays as it was") == refused
                assert errors.count("the configuration has changed") == applied
                assert "Traceback" not in errors
            events = recorded(tmp_path / "data")
            assert len(events) == served
            assert {event.status for event in events} == {200}
            assert len(one.requests) > 20 < len(two.requests)

    run(scenario())


BROKEN = (
    "model_list: [",
    "trueclock: {upstreams: x}",
    "trueclock: {tables: [none.json]}",
    "model_list:\n- model_name: x\n",
)


async def client(url: str, over: asyncio.Event, *, stream: bool) -> int:
    """Ask one after the other until it is over; how often. Every reply must be whole."""
    served = 0
    while not over.is_set():
        reply = await chat(url, stream=stream, max_tokens=5)
        assert (reply.status, reply.broken) == (200, False), reply.body
        assert not stream or b"[DONE]" in reply.body
        served += 1
        await asyncio.sleep(0.01)
    return served


@pytest.mark.parametrize("workers", [0, 2])
def test_a_process_that_is_replaced_has_the_latest_configuration(tmp_path: Path, workers: int) -> None:
    async def scenario() -> None:
        path = tmp_path / "config.yaml"
        async with OpenAILike() as old, OpenAILike() as new:
            write(path, old.url)
            async with gateway_of(path, tmp_path / "data", workers) as gateway:
                write(path, new.url)
                await until_asked(new, gateway)
                if workers:
                    await gateway.kill("worker 0")
                    await gateway.kill("worker 1")
                    await gateway.kill("control")
                before = len(old.requests)
                for _ in range(6):
                    await until_asked(new, gateway, len(new.requests))
                assert len(old.requests) == before

    run(scenario())


@pytest.mark.parametrize("workers", [0, 2])
def test_sighup_as_it_starts_does_not_end_it(tmp_path: Path, workers: int) -> None:
    """Sidecars and scripts that deploy send it whenever they have written the file."""

    async def scenario() -> None:
        path = tmp_path / "config.yaml"
        async with OpenAILike() as upstream:
            write(path, upstream.url)
            gateway = gateway_of(path, tmp_path / "data", workers)
            starting = asyncio.create_task(gateway.start())
            await until(lambda: hasattr(gateway, "process"))
            status = Path(f"/proc/{gateway.process.pid}/status")
            # Python itself is not ours to teach: from our first statement on it is ignored.
            await until(lambda: int(re.search(r"SigIgn:\s*(\w+)", status.read_text())[1], 16) & 1 or starting.done())  # type: ignore[index]
            while not starting.done():
                gateway.process.send_signal(signal.SIGHUP)
                await asyncio.sleep(0.01)
            await starting
            assert (await shown(gateway))["since"] > 0
            assert (await chat(gateway.url)).status == 200
            assert (await gateway.end())[0] == 0

    run(scenario())


def test_prices_that_are_fetched_while_it_runs_are_used(tmp_path: Path) -> None:
    """Without a configuration file too."""

    async def scenario() -> None:
        data = tmp_path / "data"
        async with OpenAILike() as upstream, GatewayProcess("--upstream", upstream.url, data_dir=data) as gateway:
            prices = tmp_path / "map.json"
            price = {
                "litellm_provider": "openai",
                "mode": "chat",
                "input_cost_per_token": 1.0,
                "output_cost_per_token": 1.0,
            }
            prices.write_text(json.dumps({"gpt-4o": price}))
            refresh = await command(
                "gateway.cli", "prices", "--refresh", "--force", "--from", str(prices), "--data-dir", str(data)
            )
            _, errors = await within(refresh.communicate())
            assert refresh.returncode == 0, errors
            await until_shown(gateway, "applied", 1)
            await tables_in_use(gateway, data, 2)
            assert (await chat(gateway.url)).status == 200
            (event,) = recorded(data)
            tokens = (event.prompt_tokens or 0) + (event.completion_tokens or 0)
            deadline = time.monotonic() + 20
            while True:
                metrics = (await ask(gateway.url, target="/metrics")).body
                billed = sum(samples(metrics, "trueclock_billed_cost_dollars_total").values())
                if billed:
                    break
                assert time.monotonic() < deadline
                await asyncio.sleep(0.05)
            assert billed == tokens

    run(scenario())


@pytest.mark.parametrize("workers", [0, 2])
def test_a_terminal_that_goes_takes_the_gateway_with_it(tmp_path: Path, workers: int) -> None:
    """Its SIGHUP is no wish to have files read."""

    async def scenario(ended: Callable[[], Any]) -> None:
        await until((tmp_path / "address").exists)
        os.close(master)
        await until(ended)

    child, master = pty.fork()
    if not child:
        os.chdir(ROOT)
        more = ["--workers", str(workers)] if workers else []
        options = ["run", "--port", "0", "--data-dir", str(tmp_path), *more]
        os.execv(sys.executable, [sys.executable, "-m", "gateway.cli", *options])
    run(scenario(lambda: os.waitpid(child, os.WNOHANG)[0] == child))
