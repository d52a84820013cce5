"""What of the litellm transport needs no litellm."""

import asyncio
import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.handoff import LIMIT, Handoff, Head
from gateway.litellm_dialect import (
    Asked,
    BadCall,
    call_arguments,
    chunk_bytes,
    completion_bytes,
    error_body,
    error_reply,
    secrets_of,
)
from gateway.routes import Route, Timeouts, Upstream

CHAT = "/v1/chat/completions"
SECRET = "sk-very-secret"


def route(provider: str = "anthropic", **params: Any) -> Route:
    upstream = Upstream(
        name=provider,
        provider=provider,
        root="",
        timeouts=Timeouts(total=20.0),
        transport="litellm",
        params={"model": "as configured", "custom_llm_provider": provider, **params},
    )
    return Route(upstream, "claude-x")


def arguments(
    body: dict[str, Any], to: Route | None = None, authorization: str | None = None, **trace: str
) -> dict[str, Any]:
    whole = {"messages": [], **body}
    return call_arguments(to or route(), Asked(CHAT + "?beta=1", json.dumps(whole).encode(), authorization, trace))


def test_the_model_is_the_routes_whatever_the_client_says() -> None:
    assert arguments({"model": "gpt-4o"})["model"] == "anthropic/claude-x"


@pytest.mark.parametrize(
    "name",
    ["api_base", "base_url", "api_key", "custom_llm_provider", "extra_headers", "headers", "client", "callbacks",
     "success_callback", "fallbacks", "mock_response", "metadata", "proxy_server_request", "vertex_credentials",
     "aws_secret_access_key", "azure_ad_token", "model_list", "litellm_logging_obj", "extra_body"],
)  # fmt: skip
def test_litellms_own_arguments_are_not_the_clients_to_set(name: str) -> None:
    assert name not in arguments({name: "x"})


def test_the_clients_parameters_go_over_the_entrys() -> None:
    made = arguments({"temperature": 1, "top_p": None, "max_tokens": 5}, route(temperature=0.1, top_p=0.5))
    assert (made["temperature"], made["top_p"], made["max_tokens"]) == (1, 0.5, 5)
    assert (made["num_retries"], made["max_retries"], made["drop_params"], made["timeout"]) == (0, 0, True, 20.0)


def test_the_trace_goes_on_beside_the_entrys_own_headers() -> None:
    assert "extra_headers" not in arguments({})
    made = arguments({}, route(extra_headers={"x-team": "a"}), traceparent="00-1", tracestate="v=1")
    assert made["extra_headers"] == {"traceparent": "00-1", "tracestate": "v=1", "x-team": "a"}


@pytest.mark.parametrize(
    ("to", "authorization", "key"),
    [
        (route(), "Bearer k", "k"),
        (route(), "bearer  k ", "k"),
        (route(), "Basic k", None),
        (route(), "Bearer ", None),
        (route(), None, None),
        (route(api_key="own"), "Bearer k", "own"),
        (route("bedrock"), "Bearer k", None),
        (route("vertex_ai"), "Bearer k", None),
    ],
)
def test_whose_key_is_used(to: Route, authorization: str | None, key: str | None) -> None:
    assert arguments({}, to, authorization).get("api_key") == key


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/completions", b'{"messages":[]}'),
        ("/v1/chat/completions/x", b'{"messages":[]}'),
        (CHAT, b""),
        (CHAT, b"\xff"),
        (CHAT, b'"text"'),
        (CHAT, b'{"messages":{}}'),
    ],
)
def test_what_is_no_call(path: str, body: bytes) -> None:
    with pytest.raises(BadCall) as raised:
        call_arguments(route(), Asked(path, body))
    assert error_reply(raised.value, ()).status == 400


@pytest.mark.parametrize(
    ("chunk", "choices"),
    [
        ({"choices": [{"index": 0, "delta": {}}], "usage": {"prompt_tokens": 1}}, []),
        (
            {"choices": [{"index": 0, "delta": {"content": "a"}}]},
            [{"finish_reason": None, "index": 0, "delta": {"content": "a"}}],
        ),
        (
            {"choices": [{"index": 0, "finish_reason": "stop", "delta": {}}], "usage": {"prompt_tokens": 1}},
            [{"finish_reason": "stop", "index": 0, "delta": {}}],
        ),
    ],
)
def test_a_usage_chunk_has_no_choices(chunk: dict[str, Any], choices: list[Any]) -> None:
    written = chunk_bytes(chunk)
    assert written.startswith(b"data: ")
    assert written.endswith(b"\n\n")
    assert json.loads(written[6:])["choices"] == choices


def test_a_tool_calls_content_is_null() -> None:
    message = {"role": "assistant", "tool_calls": []}
    assert b'"content":null' in completion_bytes({"choices": [{"message": message}]})


class RateLimitError(Exception):
    status_code = 429
    litellm_response_headers = {"retry-after": "7"}  # noqa: RUF012 - litellm's are instance attributes


class APIConnectionError(Exception):
    status_code = 500


class OddError(Exception):
    status_code = 200


@pytest.mark.parametrize(
    ("error", "status", "message", "retry_after"),
    [
        (RateLimitError(f"slow\ndown {SECRET}"), 429, "slow down ***", "7"),
        (APIConnectionError("no\nTraceback (most recent call last):\n  File x"), 502, "no", None),
        (OddError("x" * 5000), 502, "x" * 2000, None),
        (TimeoutError(), 504, "the provider did not answer in time", None),
        (ValueError(), 502, "ValueError", None),
    ],
)
def test_an_error_is_one_line_without_the_key(
    error: Exception, status: int, message: str, retry_after: str | None
) -> None:
    reply = error_reply(error, [SECRET])
    assert (reply.status, reply.message, reply.retry_after) == (status, message, retry_after)
    assert json.loads(error_body(reply))["error"]["message"] == message


# --- the handoff between two loops


@settings(deadline=None, max_examples=25)
@given(st.lists(st.binary(min_size=1, max_size=4), max_size=4 * LIMIT), st.booleans())
def test_all_bytes_arrive_in_order_and_never_more_than_the_limit_wait(sent: list[bytes], broken: bool) -> None:
    received, most = asyncio.run(hand_over(sent, ConnectionError("broken") if broken else None))
    assert received == b"".join(sent) + (b"!" if broken else b"")
    assert most <= LIMIT


async def hand_over(sent: list[bytes], error: Exception | None) -> tuple[bytes, int]:
    """Send from a loop in another thread; an error shows as an exclamation mark."""
    writer_loop = asyncio.new_event_loop()
    thread = threading.Thread(target=writer_loop.run_forever)
    thread.start()
    try:
        handoff = Handoff(writer_loop)
        writing = asyncio.run_coroutine_threadsafe(write(handoff, sent, error), writer_loop)
        assert (await handoff.head()).status == 200
        received = await read(handoff)
        return received, await asyncio.wrap_future(writing)
    finally:
        writer_loop.call_soon_threadsafe(writer_loop.stop)
        thread.join()
        writer_loop.close()


async def write(handoff: Handoff, sent: list[bytes], error: Exception | None) -> int:
    handoff.start(Head(200, ()))
    most = 0
    for piece in sent:
        await handoff.put(piece)
        most = max(most, len(handoff._pieces))
    handoff.finish(error)
    return most


async def read(handoff: Handoff) -> bytes:
    received = b""
    try:
        while taken := await handoff.get():
            received += taken
    except ConnectionError:
        received += b"!"
    return received


def test_an_end_without_a_head_is_an_error() -> None:
    async def scenario() -> None:
        handoff = Handoff(asyncio.get_running_loop())
        handoff.finish()
        with pytest.raises(ConnectionError):
            await handoff.head()

    asyncio.run(scenario())


def test_importing_the_transport_does_not_import_litellm() -> None:
    code = (
        "import sys, gateway.litellm_transport as t; made = t.LitellmTransport(); made.start(); made.close(); "
        "print('litellm' in sys.modules)"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_an_entrys_parameters_are_secrets_but_for_where_it_leads() -> None:
    params = {
        "aws_secret_access_key": "shhh-shhh-shhh", "azure_ad_token": "token-of-azure", "api_base": "http://127.0.0.1:1",
        "custom_llm_provider": "bedrock", "timeout": 5, "api_version": "2024-06-01",
    }  # fmt: skip
    route = Route(Upstream("bedrock", "aws.bedrock", "", transport="litellm", params=params), "m")
    assert secrets_of(route, "Bearer sk-the-callers-own") == ["shhh-shhh-shhh", "token-of-azure", "sk-the-callers-own"]
    assert secrets_of(route, None) == ["shhh-shhh-shhh", "token-of-azure"]
