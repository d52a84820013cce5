"""Real clients through the gateway: the openai and anthropic SDKs, LangChain, curl."""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.harness import CHAT, ServedGateway, ask, run, serve, within
from tests.servers.anthropic_like import PROMPT_TOKENS, AnthropicLike
from tests.servers.openai_like import OpenAILike

openai = pytest.importorskip("openai", reason="needs the extra dev: the openai SDK")
httpx = pytest.importorskip("httpx", reason="comes with the openai SDK")

MESSAGES: Any = [{"role": "user", "content": "hello there"}]
TOOLS: Any = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "strict": True,  # what the SDK's own stream parser asks of a tool
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}},
                "required": ["city"],
                "additionalProperties": False,
            },
        },
    }
]
KEY = "sk-test"


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDKs read keys, addresses and headers from the environment."""
    for name in list(os.environ):
        if name.startswith(("OPENAI_", "ANTHROPIC_", "LANGCHAIN_", "LANGSMITH_")):
            monkeypatch.delenv(name)


@asynccontextmanager
async def talk(**options: Any) -> AsyncIterator[tuple[Any, ServedGateway, OpenAILike]]:
    """An openai client that knows nothing but the gateway's address."""
    async with OpenAILike(key=KEY, **options) as upstream, serve(upstream.url) as gateway:
        async with openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=KEY, max_retries=0) as client:
            yield client, gateway, upstream


def test_openai_answers_whole_and_streamed() -> None:
    async def scenario() -> None:
        async with talk() as (client, gateway, _):
            whole = await client.chat.completions.create(model="gpt-4o", messages=MESSAGES)
            assert whole.choices[0].message.content == " Time is what keeps everything"
            stream = await client.chat.completions.create(model="gpt-4o", messages=MESSAGES, stream=True)
            chunks = [chunk async for chunk in stream]
            assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == whole.choices[0].message.content
            assert all(chunk.usage is None for chunk in chunks)
            asked = await client.chat.completions.create(
                model="gpt-4o", messages=MESSAGES, stream=True, stream_options={"include_usage": True}
            )
            assert [chunk async for chunk in asked][-1].usage == whole.usage
            events = await gateway.events(3)
            assert [(event.prompt_tokens, event.completion_tokens) for event in events] == [(9, 5)] * 3
            assert [event.stream for event in events] == [False, True, True]

    run(scenario())


def test_openai_calls_tools() -> None:
    async def scenario() -> None:
        async with talk() as (client, gateway, _):
            whole = await client.chat.completions.create(model="gpt-4o", messages=MESSAGES, tools=TOOLS)
            (call,) = whole.choices[0].message.tool_calls
            assert (call.function.name, call.function.arguments) == ("weather", '{"city":"Oslo"}')
            async with client.chat.completions.stream(model="gpt-4o", messages=MESSAGES, tools=TOOLS) as stream:
                final = await stream.get_final_completion()
            (streamed,) = final.choices[0].message.tool_calls
            assert streamed.function.arguments == call.function.arguments
            events = await gateway.events(2)
            assert [event.finish_reason for event in events] == ["tool_calls"] * 2

    run(scenario())


def test_openai_embeds_and_lists_and_completes() -> None:
    async def scenario() -> None:
        async with talk() as (client, gateway, _):
            made = await client.embeddings.create(model="text-embedding-3-small", input=["a b", "c"])
            assert [item.embedding for item in made.data] == [[0.25, -0.5, 0.75]] * 2
            assert [model.id async for model in client.models.list()] == ["gpt-4o", "text-embedding-3-small"]
            text = await client.completions.create(model="gpt-3.5-turbo-instruct", prompt="say", max_tokens=2)
            assert text.choices[0].text == " Time is"
            embedding, listing, completion = await gateway.events(3)
            assert (embedding.route, embedding.prompt_tokens, embedding.completion_tokens) == ("/v1/embeddings", 3, 0)
            assert (listing.route, listing.model, listing.prompt_tokens) == ("/v1/models", None, None)
            assert (completion.completion_tokens, completion.finish_reason) == (2, "length")

    run(scenario())


@pytest.mark.parametrize(
    ("model", "error"),
    [
        ("error-400", "BadRequestError"), ("error-401", "AuthenticationError"), ("error-404", "NotFoundError"),
        ("error-429", "RateLimitError"), ("error-500", "InternalServerError"), ("error-503", "InternalServerError"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("stream", [False, True])
def test_openai_raises_the_errors_that_the_upstream_means(model: str, error: str, stream: bool) -> None:
    async def scenario() -> None:
        async with talk() as (client, gateway, _):
            with pytest.raises(getattr(openai, error)) as raised:
                await client.chat.completions.create(model=model, messages=MESSAGES, stream=stream)
            assert raised.value.request_id.startswith("req_")
            assert "trueclock" not in str(raised.value)
            (event,) = await gateway.events(1)
            assert event.status == raised.value.status_code

    run(scenario())


def test_openai_understands_the_gateways_own_errors() -> None:
    async def scenario() -> None:
        async with talk() as (client, _, upstream):
            await upstream.__aexit__()
            with pytest.raises(openai.InternalServerError) as raised:
                await client.chat.completions.create(model="m", messages=MESSAGES)
            assert raised.value.status_code == 502
            assert raised.value.code == "upstream_unreachable"
            assert "cannot connect to" in raised.value.message

    run(scenario())


def test_openai_that_stops_reading_early_cancels_the_upstream() -> None:
    async def scenario() -> None:
        async with talk() as (client, gateway, upstream):
            stream = await client.chat.completions.create(
                model="gpt-4o", messages=MESSAGES, stream=True, max_tokens=1000, extra_headers={"x-delay": "0.01"}
            )
            seen = 0
            async for chunk in stream:
                seen += bool(chunk.choices[0].delta.content)
                if seen == 3:
                    break
            await stream.close()
            await within((await upstream.received(1)).gone.wait())
            (event,) = await gateway.events(1)
            assert event.error_class == "client_disconnected"
            assert (event.completion_tokens or 0) >= 3

    run(scenario())


def test_the_synchronous_openai_client_works_too() -> None:
    def use(url: str) -> None:
        with openai.OpenAI(base_url=f"{url}/v1", api_key=KEY, max_retries=0) as client:
            for stream in client.chat.completions.create(model="gpt-4o", messages=MESSAGES, stream=True):
                assert stream.id.startswith("chatcmpl-")
            raw = client.chat.completions.with_raw_response.create(model="gpt-4o", messages=MESSAGES)
            assert raw.headers["x-ratelimit-limit-requests"] == "10000"
            assert raw.request_id is not None

    async def scenario() -> None:
        async with OpenAILike(key=KEY) as upstream, serve(upstream.url) as gateway:
            await asyncio.to_thread(use, gateway.url)
            assert len(await gateway.events(2)) == 2

    run(scenario())


def test_openai_compressed_or_not_is_the_same_to_its_user() -> None:
    async def scenario() -> None:
        async with talk(gzip=True) as (client, gateway, _):
            whole = await client.chat.completions.create(model="gpt-4o", messages=MESSAGES)
            stream = await client.chat.completions.create(model="gpt-4o", messages=MESSAGES, stream=True)
            text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
            assert text == whole.choices[0].message.content
            assert [event.completion_tokens for event in await gateway.events(2)] == [5, 5]

    run(scenario())


# --- Anthropic, in its own dialect


@pytest.mark.parametrize("tools", [False, True], ids=["text", "tools"])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_anthropics_messages_pass_byte_for_byte_and_are_counted(stream: bool, tools: bool) -> None:
    async def scenario() -> None:
        body: dict[str, Any] = {"model": "claude-x", "max_tokens": 9, "messages": MESSAGES, "stream": stream}
        if tools:
            body["tools"] = [{"name": "weather", "input_schema": {"type": "object"}}]
        async with AnthropicLike() as upstream, serve(upstream.url) as gateway:
            direct = await ask(upstream.url, "POST", "/v1/messages", body)
            through = await ask(gateway.url, "POST", "/v1/messages", body)
            (event,) = await gateway.events(1)
        assert (through.status_line, through.end_to_end, through.body) == (
            direct.status_line,
            direct.end_to_end,
            direct.body,
        )
        assert (event.prompt_tokens, event.cached_tokens, event.completion_tokens) == (PROMPT_TOKENS, 5, 4)
        assert event.finish_reason == ("tool_use" if tools else "end_turn")
        assert event.error_class is None

    run(scenario())


def test_the_anthropic_sdk_works() -> None:
    anthropic = pytest.importorskip("anthropic", reason="needs the extra dev: the anthropic SDK")

    async def scenario() -> None:
        async with AnthropicLike() as upstream, serve(upstream.url) as gateway:
            async with anthropic.AsyncAnthropic(base_url=gateway.url, api_key="sk-ant", max_retries=0) as client:
                whole = await client.messages.create(model="claude-x", max_tokens=9, messages=MESSAGES)
                assert whole.content[0].text == " one two three four"
                async with client.messages.stream(model="claude-x", max_tokens=9, messages=MESSAGES) as stream:
                    assert await stream.get_final_text() == whole.content[0].text
                with pytest.raises(anthropic.RateLimitError):
                    await client.messages.create(model="error-429", max_tokens=9, messages=MESSAGES)
            events = await gateway.events(3)
            sent = upstream.requests[0]
        # The SDK's version 1 sends a key as x-api-key, version 2 as Authorization.
        assert "sk-ant" in (sent.header("x-api-key") or sent.header("authorization") or "")
        assert [event.completion_tokens for event in events] == [4, 4, None]
        assert events[0].caller is not None
        assert events[0].caller.startswith("c_")

    run(scenario())


@pytest.mark.parametrize(
    ("model", "error"), [("breaks", "upstream_broken"), ("fails", "error_in_reply"), ("ends-early", "truncated")]
)
def test_anthropics_streams_that_do_not_end_well_are_not_taken_for_good_ones(model: str, error: str) -> None:
    async def scenario() -> None:
        body = {"model": model, "max_tokens": 9, "messages": MESSAGES, "stream": True}
        async with AnthropicLike() as upstream, serve(upstream.url) as gateway:
            through = await ask(gateway.url, "POST", "/v1/messages", body)
            (event,) = await gateway.events(1)
        assert through.broken == (model == "breaks")
        assert (event.error_class, event.finish_reason) == (error, None)

    run(scenario())


# --- others


def test_langchain_works() -> None:
    langchain = pytest.importorskip("langchain_openai", reason="needs the extra dev: langchain-openai")

    async def scenario() -> None:
        async with OpenAILike(key=KEY) as upstream, serve(upstream.url) as gateway:
            async with httpx.AsyncClient() as http:  # its own one it would keep for the process, past this loop
                address = {"base_url": f"{gateway.url}/v1", "api_key": KEY, "http_async_client": http}
                model = langchain.ChatOpenAI(model="gpt-4o", max_retries=0, **address)
                whole = await model.ainvoke("hello there")
                assert whole.content == " Time is what keeps everything"
                assert whole.usage_metadata["input_tokens"] == 9
                parts = [part async for part in model.astream("hello there")]
                assert "".join(part.content for part in parts) == whole.content
            events = await gateway.events(2)
        assert [event.completion_tokens for event in events] == [5, 5]

    run(scenario())


CURL = shutil.which("curl")


async def curl(*options: str) -> tuple[int, bytes]:
    assert CURL is not None
    process = await asyncio.create_subprocess_exec(CURL, "-sS", "-N", *options, stdout=asyncio.subprocess.PIPE)
    out, _ = await within(process.communicate())
    assert process.returncode is not None
    return process.returncode, out


@pytest.mark.skipif(CURL is None, reason="curl is not installed")
@pytest.mark.parametrize("options", [(), ("--http1.0",), ("--compressed",), ("-H", "Connection: close")], ids=" ".join)
def test_curl_works(options: tuple[str, ...]) -> None:
    async def scenario() -> None:
        body = '{"model":"gpt-4o","messages":[],"stream":true}'
        async with OpenAILike(gzip=True) as upstream, serve(upstream.url) as gateway:
            for url in (upstream.url, gateway.url):
                status, out = await curl(*options, f"{url}{CHAT}", "-H", "Content-Type: application/json", "-d", body)
                assert (status, out.endswith(b"data: [DONE]\n\n")) == (0, True)
            (event,) = await gateway.events(1)
            assert event.completion_tokens == 5

    run(scenario())


@pytest.mark.skipif(CURL is None, reason="curl is not installed")
def test_curl_uploads_more_than_a_megabyte_expecting_100_continue(tmp_path: Path) -> None:
    async def scenario() -> None:
        file = tmp_path / "body.json"
        file.write_text('{"model":"gpt-4o","messages":[{"role":"user","content":"' + "word " * 400_000 + '"}]}')
        async with OpenAILike() as upstream, serve(upstream.url) as gateway:
            status, out = await curl(
                "--http1.1", "-H", "Expect: 100-continue", "-H", "Content-Type: application/json", "-w", "%{http_code}",
                "--data-binary", f"@{file}", f"{gateway.url}{CHAT}",
            )  # fmt: skip
            assert (status, out[-3:]) == (0, b"200")
            assert upstream.requests[0].body == file.read_bytes()
            (event,) = await gateway.events(1)
            assert (event.prompt_tokens, event.model) == (400_007, "gpt-4o")

    run(scenario())


@pytest.mark.skipif(CURL is None, reason="curl is not installed")
def test_curl_sees_a_break_as_one() -> None:
    async def scenario() -> None:
        async with AnthropicLike() as upstream, serve(upstream.url) as gateway:
            status, out = await curl(f"{gateway.url}/v1/messages", "-d", '{"model":"breaks","stream":true}')
            assert status == 18  # "transfer closed with outstanding read data remaining"
            assert out

    run(scenario())
