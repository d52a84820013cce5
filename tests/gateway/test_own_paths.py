"""The gateway's own paths: health, metrics, page; and who may reach them."""

import asyncio
import json
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.gateway.logs import event, record
from tests.harness import (
    CHAT,
    RawClient,
    RawReply,
    ServedGateway,
    ask,
    chat,
    command,
    request_bytes,
    run,
    serve,
    until,
    within,
)
from tests.servers.odd import Odd
from tests.servers.openai_like import OpenAILike


def get(
    target: str, method: str = "GET", host: str | None = None, headers: Sequence[tuple[str, str]] = (), **settings: Any
) -> RawReply:
    """One request to a gateway of its own."""

    async def scenario() -> RawReply:
        async with (
            OpenAILike() as upstream,
            serve(upstream.url, **settings) as gateway,
            RawClient(gateway.url) as client,
        ):
            await client.send(request_bytes(method, target, host or f"localhost:{client.port}", headers))
            return await client.reply(method)

    return run(scenario())  # type: ignore[no-any-return]


@pytest.mark.parametrize("path", ["/health/live", "/health/ready", "/health/ready?x=1"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_health_is_ok(path: str, method: str) -> None:
    reply = get(path, method)
    assert reply.status == 200
    assert reply.body == (b"ok\n" if method == "GET" else b"")


def test_a_gateway_whose_stream_has_stopped_is_not_ready() -> None:
    async def scenario() -> None:
        async with serve() as gateway:
            gateway.control.catch_up = broken  # type: ignore[method-assign]
            await until(lambda: gateway.control.stopped)
            ready = await ask(gateway.url, target="/health/ready")
            assert (ready.status, ready.body) == (503, b"the embedded stream has stopped: restart the gateway\n")
            assert (await ask(gateway.url, target="/health/live")).status == 200
            assert (await ask(gateway.url, target="/metrics")).status == 200
            summary = await ask(gateway.url, target="/trueclock/v1/summary")
            assert summary.json["log"]["failing"] == "the embedded stream has stopped: restart the gateway"

    async def broken() -> bool:
        raise RuntimeError("nobody thought of this")

    run(scenario())


def test_the_page_is_served_with_a_strict_policy_and_needs_nothing_from_elsewhere() -> None:
    page = get("/")
    assert page.status == 200
    assert page.header(b"content-type") == b"text/html; charset=utf-8"
    policy = (page.header(b"content-security-policy") or b"").decode()
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy
    assert b"//" not in page.body.replace(b"http://www.w3.org", b"").replace(b"<!doctype", b"")
    assert get("/trueclock/v1/page/page.js").header(b"content-type") == b"text/javascript; charset=utf-8"
    assert get("/trueclock/v1/page/page.css").header(b"content-type") == b"text/css; charset=utf-8"


@pytest.mark.parametrize(
    "path", ["/health/else", "/trueclock", "/trueclock/v1/nothing", "/trueclock/../metrics", "/health/"]
)
def test_what_is_not_there_is_a_404_and_never_an_upstreams(path: str) -> None:
    reply = get(path)
    assert (reply.status, reply.error_code) == (404, "not_found")


@pytest.mark.parametrize("path", ["/", "/metrics", "/health/ready", "/trueclock/v1/summary"])
@pytest.mark.parametrize("method", ["POST", "DELETE", "PUT", "OPTIONS"])
def test_own_paths_are_only_read(path: str, method: str) -> None:
    reply = get(path, method)
    assert (reply.status, reply.error_code) == (405, "method_not_allowed")


def samples(text: bytes, name: str) -> dict[tuple[str, ...], float]:
    """Samples of one name: label values to value."""
    families = list(text_string_to_metric_families(text.decode()))
    assert len({family.name for family in families}) == len(families)
    found = [sample for family in families for sample in family.samples if sample.name == name]
    return {tuple(sample.labels[key] for key in sorted(sample.labels)): sample.value for sample in found}


def test_what_a_kill_left_uncounted_is_counted_before_anything_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.control_side._CATCH_UP_SECONDS", 20.0)
    record(tmp_path, *(event(number, time.time()) for number in range(2000)))

    async def scenario() -> RawReply:
        async with serve("http://127.0.0.1:9", data_dir=tmp_path) as gateway:
            return await ask(gateway.url, target="/metrics")

    assert sum(samples(run(scenario()).body, "trueclock_requests_total").values()) == 2000


def test_metrics_agree_with_the_events_and_the_summary() -> None:
    async def scenario() -> None:
        async with Odd() as upstream, serve(upstream.url) as gateway:
            for shape in ("plain", "plain", "json", "error_empty", "broken_chunked", "no_usage", "hang_up"):
                await chat(gateway.url, shape, stream=shape != "json")
            events = await gateway.events(7)
            await gateway.counted(7)
            metrics = await ask(gateway.url, target="/metrics")
            summary = (await ask(gateway.url, target="/trueclock/v1/summary")).json
        assert metrics.header(b"content-type") == b"text/plain; version=0.0.4; charset=utf-8"
        requests = samples(metrics.body, "trueclock_requests_total")
        assert sum(requests.values()) == 7
        reasons = {key[0]: 0.0 for key in requests}
        for key, value in requests.items():
            reasons[key[0]] += value
        assert reasons == {"": 4, "status_500": 1, "upstream_broken": 1, "upstream_disconnected": 1}
        tokens = samples(metrics.body, "gen_ai_client_token_usage_sum")
        assert sum(tokens.values()) == sum(
            (event.prompt_tokens or 0) + (event.completion_tokens or 0) for event in events
        )
        assert samples(metrics.body, "trueclock_requests_in_flight") == {(): 0}
        assert samples(metrics.body, "trueclock_event_log_rows") == {(): 7}
        assert summary["log"]["rows"] == 7
        assert summary["in_flight"] == 0
        assert summary["recent"][0]["model"] == "hang_up"
        assert {recent["id"] for recent in summary["recent"]} == {event.id for event in events}
        assert summary["total"]["requests"] == 7

    run(scenario())


def test_requests_in_flight_are_shown_while_they_fly() -> None:
    async def scenario() -> None:
        async with Odd() as upstream, serve(upstream.url) as gateway, RawClient(gateway.url) as client:
            await client.send(request_bytes("POST", CHAT, "localhost", (), b'{"model":"silent"}'))
            await upstream.received(1)
            metrics = await ask(gateway.url, target="/metrics")
            assert samples(metrics.body, "trueclock_requests_in_flight") == {(): 1}

    run(scenario())


def test_counts_go_on_after_a_restart(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with OpenAILike() as upstream:
            for count in (1, 2, 3):
                async with serve(upstream.url, data_dir=tmp_path) as gateway:
                    await chat(gateway.url)
                    await gateway.counted(count)
                    metrics = await ask(gateway.url, target="/metrics")
                    assert sum(samples(metrics.body, "trueclock_requests_total").values()) == count

    run(scenario())


# --- who may


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:4000", "127.0.0.1", "127.0.0.1:1", "[::1]", "[::1]:80", "LOCALHOST"]
)
def test_local_hosts_are_served(host: str) -> None:
    assert get("/health/ready", host=host).status == 200
    assert get("/v1/models", host=host).status == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example:80", "10.0.0.1", "evil.example:localhost"],
)
@pytest.mark.parametrize("path", ["/", "/metrics", "/v1/models", "/health/ready"])
def test_foreign_hosts_are_refused_on_loopback(host: str, path: str) -> None:
    reply = get(path, host=host)
    assert (reply.status, reply.error_code) == (403, "host_not_allowed")


@pytest.mark.parametrize("path", ["/", "/metrics", "/v1/models"])
def test_foreign_origins_are_refused_on_loopback(path: str) -> None:
    for origin in ("https://evil.example", "null", "http://localhost.evil.example", "file://"):
        reply = get(path, headers=[("Origin", origin)])
        assert (reply.status, reply.error_code) == (403, "origin_not_allowed")
    assert get(path, headers=[("Origin", "http://localhost:3000")]).status == 200


def test_a_preflight_of_a_foreign_page_is_refused_and_not_passed_on() -> None:
    async def scenario() -> None:
        async with OpenAILike() as upstream, serve(upstream.url) as gateway:
            headers = [("Origin", "https://evil.example"), ("Access-Control-Request-Method", "POST")]
            reply = await ask(gateway.url, "OPTIONS", CHAT, headers=headers)
            assert reply.status == 403
            assert reply.header(b"access-control-allow-origin") is None
            assert not upstream.requests

    run(scenario())


def test_more_hosts_can_be_named() -> None:
    for host in ("trueclock.test", "trueclock.test:4000", "localhost"):
        assert get("/v1/models", host=host, allowed_hosts=("trueclock.test",)).status == 200
    assert get("/v1/models", host="else.test", allowed_hosts=("trueclock.test",)).status == 403


def wide(**settings: Any) -> Any:
    return {"host": "0.0.0.0", "admin": ("127.0.0.1", 0), **settings}


def test_on_a_wider_bind_page_and_metrics_are_the_admin_addresses_alone() -> None:
    async def scenario() -> None:
        async with OpenAILike() as upstream, serve(upstream.url, **wide()) as gateway:
            assert gateway.admin_url != gateway.url
            for path in ("/", "/metrics", "/trueclock/v1/summary"):
                assert (await ask(gateway.url, target=path)).status == 404
                assert (await ask(gateway.admin_url, target=path)).status == 200
            for url in (gateway.url, gateway.admin_url):
                assert (await ask(url, target="/health/ready")).status == 200
            assert (await ask(gateway.url, target="/v1/models")).status == 200
            assert (await ask(gateway.admin_url, target="/v1/models")).error_code == "not_found"
            assert await host_status(gateway, "anything.example") == 200
            assert len(upstream.requests) == 2

    run(scenario())


async def host_status(gateway: ServedGateway, host: str) -> int:
    async with RawClient(gateway.url) as client:
        await client.send(request_bytes("GET", "/v1/models", host))
        return (await client.reply()).status


def test_on_a_wider_bind_hosts_are_checked_once_some_are_named() -> None:
    async def scenario() -> None:
        async with OpenAILike() as upstream, serve(upstream.url, **wide(allowed_hosts=("api.test",))) as gateway:
            assert [await host_status(gateway, host) for host in ("api.test", "localhost", "evil.example")] == [
                200,
                200,
                403,
            ]

    run(scenario())


def test_a_wider_bind_from_the_command_line(tmp_path: Path) -> None:
    async def scenario() -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            admin = free.getsockname()[1]
        options = ("--host", "0.0.0.0", "--port", "0", "--admin", f"127.0.0.1:{admin}", "--data-dir", str(tmp_path))
        process = await command("gateway.cli", "run", *options)
        assert process.stdout is not None
        first = (await within(process.stdout.readline())).decode()
        second = (await within(process.stdout.readline())).decode()
        assert "http://127.0.0.1:" in first
        assert f"http://127.0.0.1:{admin}/metrics" in second
        assert (await ask(f"http://127.0.0.1:{admin}", target="/metrics")).status == 200
        process.terminate()
        _, errors = await within(process.communicate())
        assert process.returncode == 0, errors

    run(scenario())


# --- what requests say of themselves


def test_labels_are_recorded_and_never_forwarded() -> None:
    async def scenario() -> None:
        headers = [
            ("x-trueclock-tags", "a, b=c ,,d"), ("X-Trueclock-Problem", "p1"), ("x-trueclock-strategy", "vote"),
            ("x-trueclock-unknown", "x"), ("Authorization", "Bearer sk-secret-key"), ("x-other", "stays"),
        ]  # fmt: skip
        async with OpenAILike() as upstream, serve(upstream.url) as gateway:
            await chat(gateway.url, headers=headers)
            await chat(gateway.url, headers=headers)
            await chat(gateway.url)
            first, second, third = await gateway.events(3)
            names = [name.lower() for name, _ in upstream.requests[0].headers]
            shown = (await ask(gateway.url, target="/trueclock/v1/summary")).body + (
                await ask(gateway.url, target="/metrics")
            ).body
        assert not any(name.startswith("x-trueclock") for name in names)
        assert "x-other" in names
        assert (first.tags, first.problem, first.strategy) == (("a", "b=c", "d"), "p1", "vote")
        assert first.caller == second.caller is not None
        assert third.caller is None
        assert b"sk-secret" not in shown

    run(scenario())


def test_a_hundred_models_more_than_there_is_room_for_become_other() -> None:
    async def scenario() -> None:
        async with OpenAILike() as upstream, serve(upstream.url) as gateway, RawClient(gateway.url) as client:
            for number in range(150):
                body = json.dumps({"model": f'hostile-{number}"}}\n\\', "messages": []}).encode()
                await client.send(request_bytes("POST", CHAT, "localhost", (), body))
                assert (await client.reply()).status == 200
            await gateway.counted(150)
            metrics = await ask(gateway.url, target="/metrics")
        requests = samples(metrics.body, "trueclock_requests_total")
        models = {key[1] for key in requests}
        assert len(models) == 101
        assert sum(value for key, value in requests.items() if key[1] == "other") == 50

    run(scenario())


def test_the_summary_moves_while_the_gateway_works() -> None:
    async def scenario() -> None:
        async with OpenAILike() as upstream, serve(upstream.url) as gateway:
            await chat(gateway.url)
            seen: list[Any] = []

            async def look() -> None:
                while not seen or not seen[-1]["recent"]:
                    seen.append((await ask(gateway.url, target="/trueclock/v1/summary")).json)
                    await asyncio.sleep(0.01)

            await within(look())
            assert seen[-1]["recent"][0]["model"] == "gpt-4o"
            await until(lambda: gateway.proxy.active == 0)

    run(scenario())
