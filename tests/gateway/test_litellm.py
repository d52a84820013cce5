"""The litellm transport against a real server that speaks Anthropic's dialect."""

import asyncio
import contextlib
import importlib.util
import json
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from gateway.config import Config, load_config
from gateway.litellm_dialect import Asked
from gateway.litellm_transport import BrokenReply, LitellmReply, LitellmTransport
from tests.servers.anthropic_like import PROMPT_TOKENS, AnthropicLike

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("litellm") is None,
    reason="needs the extra litellm: pip install -e '.[litellm]' in its checkout",
)

CHAT = "/v1/chat/completions"
KEY = "sk-ant-operator"
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}


class Setup:
    """A provider, a configuration with one wildcard entry that leads there, and the transport."""

    def __init__(self, transport: LitellmTransport, provider: AnthropicLike, config: Config) -> None:
        self.transport = transport
        self.provider = provider
        self.config = config

    async def send(
        self, model: str, *, authorization: str | None = None, trace: Mapping[str, str] | None = None, **body: Any
    ) -> LitellmReply:
        route = self.config.route(model)
        assert route is not None
        whole = {"model": model, "messages": [{"role": "user", "content": "hi"}], **body}
        return await self.transport.send(route, Asked(CHAT, json.dumps(whole).encode(), authorization, trace or {}))

    async def ask(self, model: str, **more: Any) -> tuple[LitellmReply, bytes]:
        reply = await self.send(model, **more)
        return reply, b"".join([piece async for piece in pieces(reply)])


Scenario = Callable[[Setup], Awaitable[None]]


async def pieces(reply: LitellmReply) -> AsyncIterator[bytes]:
    while piece := await reply.next_bytes():
        yield piece


def events(body: bytes) -> list[Any]:
    """The data of each event, JSON read."""
    *lines, end = body.decode().split("\n\n")
    assert end == ""
    datas = [line.removeprefix("data: ") for line in lines]
    return [data if data == "[DONE]" else json.loads(data) for data in datas]


@pytest.fixture(scope="module")
def transport() -> Iterator[LitellmTransport]:
    made = LitellmTransport()
    made.start()
    made.warm()
    yield made
    made.close()


@pytest.fixture
def play(transport: LitellmTransport, tmp_path: Path) -> Callable[..., None]:
    """Run a scenario with a provider; the entry has `params` more."""

    def run(scenario: Scenario, *, params: str = f", api_key: {KEY}", key: str | None = None) -> None:
        async def go() -> None:
            async with AnthropicLike(key=key) as provider:
                file = tmp_path / "config.yaml"
                entry = f'{{model: "anthropic/*", api_base: "{provider.url}"{params}}}'
                file.write_text(f'model_list:\n  - {{model_name: "*", litellm_params: {entry}}}\n')
                await asyncio.wait_for(scenario(Setup(transport, provider, load_config(file))), 60)

        asyncio.run(go())

    return run


def test_a_stream(play: Callable[..., None]) -> None:
    async def scenario(at: Setup) -> None:
        reply, body = await at.ask("claude-x", stream=True)
        assert (reply.status, reply.reason) == (200, "OK")
        assert reply.raw_headers == ((b"Content-Type", b"text/event-stream; charset=utf-8"),)
        *chunks, done = events(body)
        assert done == "[DONE]"
        deltas = [chunk["choices"][0]["delta"].get("content", "") for chunk in chunks]
        assert "".join(deltas) == " one two three four"
        assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None] * (len(chunks) - 1) + ["stop"]
        assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
        assert not any("usage" in chunk for chunk in chunks)

    play(scenario)


def test_usage_comes_when_asked_for_and_counts_the_cache(play: Callable[..., None]) -> None:
    async def scenario(at: Setup) -> None:
        _, body = await at.ask("claude-x", stream=True, stream_options={"include_usage": True})
        *chunks, last, _ = events(body)
        assert not any(chunk.get("usage") for chunk in chunks)
        assert last["choices"] == []
        check_usage(last["usage"])

    play(scenario)


def check_usage(usage: dict[str, Any]) -> None:
    counted = (usage["prompt_tokens"], usage["completion_tokens"], usage["prompt_tokens_details"]["cached_tokens"])
    assert counted == (PROMPT_TOKENS, 4, 5)


def test_a_whole_answer(play: Callable[..., None]) -> None:
    async def scenario(at: Setup) -> None:
        reply, body = await at.ask("claude-x")
        assert reply.status == 200
        assert reply.raw_headers == ((b"Content-Type", b"application/json"), (b"Content-Length", b"%d" % len(body)))
        answer = json.loads(body)
        assert answer["choices"][0]["message"]["content"] == " one two three four"
        assert answer["choices"][0]["finish_reason"] == "stop"
        check_usage(answer["usage"])

    play(scenario)


@pytest.mark.parametrize("stream", [False, True])
def test_a_tool_call(play: Callable[..., None], stream: bool) -> None:
    async def scenario(at: Setup) -> None:
        _, body = await at.ask("claude-x", stream=stream, tools=[TOOL])
        assert tool_call(body, stream=stream) == ("weather", {"city": "Oslo"})
        assert at.provider.requests[0].json["tools"][0]["name"] == "weather"

    play(scenario)


def tool_call(body: bytes, *, stream: bool) -> tuple[str, Any]:
    if not stream:
        (call,) = json.loads(body)["choices"][0]["message"]["tool_calls"]
        return call["function"]["name"], json.loads(call["function"]["arguments"])
    deltas = [chunk["choices"][0]["delta"] for chunk in events(body)[:-1]]
    functions = [call["function"] for delta in deltas for call in delta.get("tool_calls", [])]
    name = "".join(function.get("name") or "" for function in functions)
    return name, json.loads("".join(function["arguments"] for function in functions))


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("model", "status", "kind"),
    [
        ("error-400", 400, "invalid_request_error"),
        ("error-401", 401, "authentication_error"),
        ("error-403", 403, "permission_error"),
        ("error-404", 404, "invalid_request_error"),
        ("error-429", 429, "rate_limit_error"),
        ("error-500", 500, "server_error"),
    ],
)
def test_an_error_keeps_its_status(play: Callable[..., None], model: str, status: int, kind: str, stream: bool) -> None:
    async def scenario(at: Setup) -> None:
        reply, body = await at.ask(model, stream=stream)
        error = json.loads(body)["error"]
        assert (reply.status, error["type"]) == (status, kind)
        assert "\n" not in error["message"]
        assert KEY not in body.decode()
        assert dict(reply.raw_headers).get(b"Retry-After") == (b"7" if status == 429 else None)
        assert len(at.provider.requests) == 1, "no retries of its own"

    play(scenario)


def test_a_provider_that_is_not_there_is_a_bad_gateway(play: Callable[..., None]) -> None:
    async def scenario(at: Setup) -> None:
        await at.provider.__aexit__()
        reply, body = await at.ask("claude-x", stream=True)
        assert reply.status in (500, 502, 503)
        assert "Traceback" not in body.decode()

    play(scenario)


@pytest.mark.parametrize("model", ["breaks", "fails", "ends-early"])
def test_a_stream_that_breaks_off_is_never_a_stop(play: Callable[..., None], model: str) -> None:
    async def scenario(at: Setup) -> None:
        reply = await at.send(model, stream=True)
        got = await until_it_breaks(reply)
        *chunks, error = events(got)
        assert "error" in error
        assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks) == " one two"
        assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None, None]

    play(scenario)


async def until_it_breaks(reply: LitellmReply) -> bytes:
    got = b""
    try:
        async for piece in pieces(reply):
            got += piece
    except BrokenReply:
        return got
    raise AssertionError("it did not break")


@pytest.mark.parametrize(
    ("path", "body", "says"),
    [
        ("/v1/embeddings", b"{}", "anthropic goes through litellm, which here serves /v1/chat/completions only"),
        ("/v1/models", b"", "serves /v1/chat/completions only"),
        (CHAT, b"not json", "the body is not a JSON object"),
        (CHAT, b"[]", "the body is not a JSON object"),
        (CHAT, b"{}", "messages: expected a list"),
    ],
)
def test_what_cannot_be_a_call_is_a_400(play: Callable[..., None], path: str, body: bytes, says: str) -> None:
    async def scenario(at: Setup) -> None:
        route = at.config.route("claude-x")
        assert route is not None
        reply = await at.transport.send(route, Asked(path, body))
        assert reply.status == 400
        assert says in json.loads(await reply.next_bytes())["error"]["message"]
        assert at.provider.requests == []

    play(scenario)


def test_a_client_cannot_redirect_the_call_or_its_key(play: Callable[..., None]) -> None:
    async def scenario(at: Setup) -> None:
        evil = {"api_base": "http://127.0.0.1:9", "base_url": "http://127.0.0.1:9", "api_key": "x"}
        more = {"extra_headers": {"x-evil": "1"}, "custom_llm_provider": "openai", "mock_response": "no"}
        reply, body = await at.ask("claude-x", **evil, **more, fallbacks=["gpt-4o"], num_retries=5)
        assert reply.status == 200
        assert b" one two three four" in body
        (request,) = at.provider.requests
        assert request.header("x-api-key") == KEY
        assert request.header("x-evil") is None

    play(scenario)


def test_parameters_the_provider_lacks_are_dropped_and_the_entrys_are_defaults(play: Callable[..., None]) -> None:
    async def scenario(at: Setup) -> None:
        await at.ask("claude-x", logit_bias={"1": 1}, max_tokens=7)
        await at.ask("claude-x", temperature=0.9)
        first, second = (request.json for request in at.provider.requests)
        assert (first["max_tokens"], first["temperature"], "logit_bias" in first) == (7, 0.1, False)
        assert second["temperature"] == 0.9

    play(scenario, params=f", api_key: {KEY}, temperature: 0.1")


def test_without_a_key_of_its_own_the_entry_uses_the_callers(play: Callable[..., None]) -> None:
    async def scenario(at: Setup) -> None:
        reply, _ = await at.ask("claude-x", authorization="Bearer sk-caller")
        assert reply.status == 200
        reply, body = await at.ask("claude-x", authorization="Bearer sk-other")
        assert reply.status == 401
        assert b"sk-other" not in body

    play(scenario, params="", key="sk-caller")


def test_the_callers_trace_goes_on_to_the_provider(play: Callable[..., None]) -> None:
    async def scenario(at: Setup) -> None:
        trace = {"traceparent": f"00-{'a' * 32}-{'b' * 16}-01", "tracestate": "vendor=1"}
        await at.ask("claude-x", trace=trace)
        await at.ask("claude-x", trace=trace, stream=True)
        for request in at.provider.requests:
            assert {name: request.header(name) for name in (*trace, "x-team")} == {**trace, "x-team": "a"}

    play(scenario, params=f", api_key: {KEY}, extra_headers: {{x-team: a}}")


@pytest.mark.parametrize("stream", [False, True])
def test_leaving_before_the_first_token_cancels_the_upstream(play: Callable[..., None], stream: bool) -> None:
    async def scenario(at: Setup) -> None:
        sending = asyncio.create_task(at.send("silent", stream=stream))
        request = await at.provider.received(1)
        left = time.monotonic()
        sending.cancel()
        await asyncio.wait_for(request.gone.wait(), 5)
        assert request.disconnected_at is not None
        assert request.disconnected_at - left < 0.2
        with contextlib.suppress(asyncio.CancelledError):
            await sending

    play(scenario)


@pytest.mark.parametrize("reads", [1, 0])
def test_leaving_in_mid_stream_cancels_the_upstream(play: Callable[..., None], reads: int) -> None:
    """Also when litellm is held back by a reader that never reads (`reads` 0)."""

    async def scenario(at: Setup) -> None:
        reply = await at.send("endless", stream=True)
        for _ in range(reads):
            assert await reply.next_bytes()
        if not reads:
            await held_back(reply)
        left = time.monotonic()
        reply.close()
        request = at.provider.requests[0]
        await asyncio.wait_for(request.gone.wait(), 5)
        assert request.disconnected_at is not None
        assert request.disconnected_at - left < 0.2
        with pytest.raises(BrokenReply):
            [_ async for _ in pieces(reply)]

    play(scenario)


async def held_back(reply: LitellmReply) -> None:
    """Wait until the queue to the reader is full and no longer grows."""
    handoff = reply._handoff
    while len(handoff._pieces) < 64:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)
    assert len(handoff._pieces) == 64


def test_the_proxys_loop_stays_free(play: Callable[..., None]) -> None:
    """litellm does its work in its own thread; nothing of it runs on the loop that sends."""

    async def scenario(at: Setup) -> None:
        thread = next(thread for thread in threading.enumerate() if thread.name == "litellm")
        assert thread.ident != threading.get_ident()
        replies = await asyncio.gather(*(at.ask("claude-x", stream=True) for _ in range(8)))
        assert {reply.status for reply, _ in replies} == {200}
        assert len(asyncio.all_tasks()) < 30, "litellm's tasks are not on this loop"

    play(scenario)


def test_a_slow_provider_is_a_504(play: Callable[..., None]) -> None:
    async def scenario(at: Setup) -> None:
        reply, body = await at.ask("silent")
        assert reply.status == 504
        assert json.loads(body)["error"]["type"] == "server_error"

    play(scenario, params=f", api_key: {KEY}, timeout: 0.3")


def test_closing_ends_what_is_under_way(tmp_path: Path) -> None:
    async def scenario() -> None:
        transport = LitellmTransport()
        transport.start()
        async with AnthropicLike() as provider:
            file = tmp_path / "config.yaml"
            params = f"{{model: anthropic/endless, api_base: '{provider.url}', api_key: k}}"
            file.write_text(f"model_list:\n  - {{model_name: m, litellm_params: {params}}}\n")
            at = Setup(transport, provider, load_config(file))
            reply = await at.send("m", stream=True)
            await asyncio.to_thread(transport.close)
            with pytest.raises(BrokenReply):
                [_ async for _ in pieces(reply)]
            with pytest.raises(BrokenReply):
                await at.send("m")

    asyncio.run(scenario())
