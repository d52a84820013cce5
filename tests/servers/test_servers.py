"""The test servers themselves: do they send what they say."""

import asyncio
import gzip
import json
from collections.abc import Sequence
from typing import Any

import aiohttp
import pytest

from tests.servers.odd import SHAPES, Odd, Shape
from tests.servers.openai_like import OpenAILike
from tests.servers.raw_http import RawServer

WHOLE = [shape for shape in SHAPES.values() if not shape.broken and not shape.name.startswith("refuses")]
BROKEN = [shape for shape in SHAPES.values() if shape.broken and shape.name != "silent"]


async def post(server: RawServer, body: dict[str, Any], **headers: str) -> tuple[int, bytes]:
    limits = {"max_field_size": 1 << 16, "max_line_size": 1 << 16}
    async with (
        aiohttp.ClientSession(auto_decompress=False, **limits) as session,
        session.post(f"{server.url}/v1/chat/completions", json=body, headers=headers, allow_redirects=False) as reply,
    ):
        return reply.status, await reply.read()


def ask(model: str, **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "hello there"}], **more}


ASKED = {"stream": True, "stream_options": {"include_usage": True}}


@pytest.mark.parametrize("shape", WHOLE, ids=lambda shape: shape.name)
def test_a_shape_replies_as_its_table_says(shape: Shape) -> None:
    async def scenario() -> None:
        async with Odd() as server:
            status, body = await post(server, ask(shape.name, **ASKED))
        assert status == shape.status
        if "gzip" in shape.name:
            body = gzip.decompress(body)
        if not any(coding in shape.name for coding in ("deflate", "br_", "zstd")):
            assert (b"prompt_tokens" in body) == shape.usage

    asyncio.run(scenario())


@pytest.mark.parametrize("shape", BROKEN, ids=lambda shape: shape.name)
def test_a_broken_shape_breaks_off(shape: Shape) -> None:
    async def scenario() -> None:
        async with Odd() as server:
            with pytest.raises((aiohttp.ClientPayloadError, aiohttp.ServerDisconnectedError)):
                await post(server, ask(shape.name, **ASKED))

    asyncio.run(scenario())


@pytest.mark.parametrize("sizes", [(), (1,) * 4000, (7, 1, 300), (100_000,)])
@pytest.mark.parametrize("body", [ask("gpt-4o", **ASKED), ask("gpt-4o", n=2), ask("error-429")])
def test_the_boundaries_of_chunks_do_not_change_the_body(sizes: Sequence[int], body: dict[str, Any]) -> None:
    async def scenario() -> None:
        async with OpenAILike() as plain, OpenAILike(sizes=sizes) as cut:
            assert await post(plain, body) == await post(cut, body)

    asyncio.run(scenario())


def test_a_stream_counts_what_its_usage_says() -> None:
    async def scenario() -> None:
        async with OpenAILike() as server:
            _, body = await post(server, ask("gpt-4o", n=2, max_tokens=3, **ASKED))
        *events, done, end = body.decode().split("\n\n")
        chunks = [json.loads(event.removeprefix("data: ")) for event in events]
        contents = [choice["delta"].get("content") for chunk in chunks for choice in chunk["choices"]]
        assert len([content for content in contents if content]) == chunks[-1]["usage"]["completion_tokens"] == 6
        assert chunks[-1]["usage"]["prompt_tokens"] == 9
        assert (done, end) == ("data: [DONE]", "")
        assert all(chunk["usage"] is None for chunk in chunks[:-1])

    asyncio.run(scenario())


def test_requests_are_kept_as_sent_and_connections_are_reused() -> None:
    async def scenario() -> None:
        async with OpenAILike() as server, aiohttp.ClientSession() as session:
            for _ in range(2):
                async with session.get(f"{server.url}/v1/models?a=b", headers={"X-Odd": "1"}) as reply:
                    await reply.read()
            first, second = server.requests
        assert (first.method, first.target, first.header("x-odd"), first.body) == ("GET", "/v1/models?a=b", "1", b"")
        assert (first.connection, second.connection, server.connections) == (1, 1, 1)

    asyncio.run(scenario())


@pytest.mark.parametrize("headers", [{"x-first-delay": "30"}, {"x-delay": "30"}])
def test_a_client_that_leaves_is_noticed(headers: dict[str, str]) -> None:
    async def scenario() -> None:
        async with OpenAILike() as server:
            asking = asyncio.create_task(post(server, ask("gpt-4o", stream=True), **headers))
            request = await server.received(1)
            asking.cancel()
            await asyncio.wait_for(request.gone.wait(), 5)
            assert request.replied_at is None

    asyncio.run(scenario())


def test_a_compressed_stream_is_the_same_stream() -> None:
    async def scenario() -> None:
        async with OpenAILike(gzip=True) as server:
            _, plain = await post(server, ask("gpt-4o", stream=True), **{"Accept-Encoding": "identity"})
            _, packed = await post(server, ask("gpt-4o", stream=True), **{"Accept-Encoding": "gzip"})
        assert gzip.decompress(packed) == plain

    asyncio.run(scenario())
