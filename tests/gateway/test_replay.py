"""The replay upstream: OpenAI's dialect on a real socket, and the service times that it keeps."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.replay import BadRequestError, ReplayUpstream, count_words, read_request
from gateway.service_time import (
    FASTER_THAN_IDEALIZED,
    MODELS,
    Episode,
    ReplayedProvider,
    ServiceTime,
    contention_factors,
    factors_of,
)
from stream.coefficients import load_tables

TABLES = load_tables()
NEVER = Episode(first=1e9)


class Instant(ReplayedProvider):
    """Answers at once."""

    def service_time(self, model: str, *_: object, **__: object) -> ServiceTime:
        assert model in MODELS
        return ServiceTime(0.0, 0.0)


def with_upstream(provider: ReplayedProvider, talk: Callable[[aiohttp.ClientSession, str], Awaitable[Any]]) -> Any:
    async def main() -> Any:
        upstream = ReplayUpstream(provider)
        url = await upstream.start()
        try:
            async with aiohttp.ClientSession() as session:
                return await talk(session, url)
        finally:
            await upstream.close()

    return asyncio.run(main())


def post(body: dict[str, Any] | bytes, provider: ReplayedProvider | None = None) -> tuple[int, str, bytes]:
    """Status, content type and body of the replay's answer to one chat completion."""

    async def talk(session: aiohttp.ClientSession, url: str) -> tuple[int, str, bytes]:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        async with session.post(f"{url}/v1/chat/completions", data=data) as response:
            return response.status, response.content_type, await response.read()

    return with_upstream(provider or Instant(), talk)  # type: ignore[no-any-return]


def ask(**more: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": "one two  three\nfour"}]
    return {"model": "openai/davinci", "messages": messages, "max_tokens": 3, **more}


def events(body: bytes) -> list[Any]:
    lines = [line.removeprefix("data: ") for line in body.decode().split("\n\n") if line]
    assert lines.pop() == "[DONE]"
    return [json.loads(line) for line in lines]


# --- the dialect


def test_whole_reply() -> None:
    status, content_type, body = post(ask())
    reply = json.loads(body)
    assert (status, content_type) == (200, "application/json")
    assert reply["object"] == "chat.completion"
    assert reply["model"] == "openai/davinci"
    (choice,) = reply["choices"]
    assert choice["message"]["content"] == "word word word"
    assert choice["finish_reason"] == "length"
    usage = reply["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]) == (4, 3, 7)


def test_stream_without_usage() -> None:
    status, content_type, body = post(ask(stream=True))
    assert (status, content_type) == (200, "text/event-stream")
    chunks = events(body)
    assert b"usage" not in body
    assert [chunk["choices"][0]["delta"] for chunk in chunks] == [
        {"role": "assistant", "content": "", "refusal": None},
        {"content": "word"},
        {"content": " word"},
        {"content": " word"},
        {},
    ]
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None] * 4 + ["length"]
    assert len({chunk["id"] for chunk in chunks}) == 1


def test_stream_with_usage() -> None:
    _, _, body = post(ask(stream=True, stream_options={"include_usage": True}))
    *chunks, last = events(body)
    assert all(chunk["usage"] is None and chunk["choices"] for chunk in chunks)
    assert last["choices"] == []
    assert last["usage"]["completion_tokens"] == 3


def test_stream_and_whole_reply_say_the_same() -> None:
    whole = json.loads(post(ask(max_tokens=7))[2])["choices"][0]["message"]["content"]
    streamed = events(post(ask(max_tokens=7, stream=True))[2])
    assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in streamed) == whole


def test_models() -> None:
    async def talk(session: aiohttp.ClientSession, url: str) -> Any:
        async with session.get(f"{url}/v1/models") as response:
            return await response.json()

    listed = with_upstream(Instant(), talk)
    assert [model["id"] for model in listed["data"]] == list(MODELS)


REFUSED: dict[str, tuple[dict[str, Any] | bytes, int, str | None]] = {
    "no JSON": (b"{", 400, None),
    "no object": (b"[]", 400, "model"),
    "not UTF-8": (b'{"model": "\xff"}', 400, None),
    "no model": ({"messages": []}, 400, "model"),
    "unknown model": (ask(model="gpt-4o"), 404, "model"),
    "no messages": (ask(messages=[]), 400, "messages"),
    "no tokens": (ask(max_tokens=0), 400, "max_tokens"),
    "tokens as text": (ask(max_tokens="3"), 400, "max_tokens"),
    "too many tokens": (ask(max_completion_tokens=10**9), 400, "max_completion_tokens"),
    "two choices": (ask(n=2), 400, "n"),
    "stream options without stream": (ask(stream_options={"include_usage": True}), 400, "stream_options"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals_are_openais(name: str) -> None:
    body, expected, param = REFUSED[name]
    status, content_type, reply = post(body)
    error = json.loads(reply)["error"]
    assert (status, content_type) == (expected, "application/json")
    assert error["type"] == "invalid_request_error"
    assert error["param"] == param
    assert error["message"]


@given(st.binary(max_size=200) | st.just(b"{}"))
def test_any_body_is_read_or_refused(body: bytes) -> None:
    with pytest.raises(BadRequestError):
        read_request(body)


WORDS: dict[str, tuple[Any, int]] = {
    "text": ([{"content": "a b"}, {"content": "c"}], 3),
    "parts": ([{"content": [{"type": "text", "text": "a b"}, {"type": "image_url", "image_url": {}}]}], 2),
    "tool call": ([{"role": "assistant", "content": None}], 0),
    "odd": (["x y", 3], 0),
}


@pytest.mark.parametrize("name", WORDS)
def test_words(name: str) -> None:
    messages, expected = WORDS[name]
    assert count_words(messages) == expected


# --- the service times


@pytest.mark.parametrize("model", MODELS)
def test_denoised_is_the_published_runtime(model: str) -> None:
    provider = ReplayedProvider()
    row = TABLES.row("api-2022", model)
    assert row is not None
    for prompt, output in ((1, 1), (300, 50), (4000, 400)):
        expected = TABLES.runtime("api-2022", row)(prompt, output)
        timing = provider.service_time(model, prompt, 0.0, denoised=True)
        assert timing.whole(output) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("model", MODELS)
def test_contention_is_resampled_from_the_measured_factors(model: str) -> None:
    provider = ReplayedProvider(NEVER, seed=1)
    measured = factors_of(contention_factors(), model)
    denoised = provider.service_time(model, 500, 0.0, denoised=True)
    for _ in range(200):
        timing = provider.service_time(model, 500, 0.0)
        factor = timing.first_token / denoised.first_token
        assert min(abs(factor - known) for known in measured) < 1e-9
        assert timing.per_token / denoised.per_token == pytest.approx(factor)


def test_measured_factors() -> None:
    factors = contention_factors()
    assert {model: len(measured) for model, measured in factors.items()} == {
        "ai21/j1-large": 48,
        "ai21/j1-grande": 49,
        "ai21/j1-jumbo": 49,
    }
    assert all(factor >= 1.0 for measured in factors.values() for factor in measured)


def test_one_model_is_measured_to_be_faster_than_idealized() -> None:
    row = TABLES.row("a100-megatron", FASTER_THAN_IDEALIZED)
    assert row is not None
    assert row.proxy_of is None
    idealized = TABLES.runtime("a100-megatron", row)
    provider = ReplayedProvider(NEVER, seed=1)
    for prompt, output in ((100, 20), (400, 100), (1500, 300)):
        runtimes = [provider.service_time(FASTER_THAN_IDEALIZED, prompt, 0.0).whole(output) for _ in range(100)]
        assert sum(runtime < idealized(prompt, output) for runtime in runtimes) > 75


def test_episode() -> None:
    episode = Episode(first=8.0, every=60.0, lasts=20.0)
    moments = {0.0: False, 7.9: False, 8.0: True, 27.9: True, 28.1: False, 67.9: False, 68.0: True}
    assert {moment: episode.active(moment) for moment in moments} == moments
    assert Episode().first < 15


def test_episode_slows_its_model_alone() -> None:
    quiet, episode = ReplayedProvider(NEVER, seed=3), ReplayedProvider(Episode(first=0.0), seed=3)
    for model in MODELS:
        ratio = episode.service_time(model, 300, 1.0).whole(9) / quiet.service_time(model, 300, 1.0).whole(9)
        assert ratio == pytest.approx(3.0 if model == Episode().model else 1.0)


@pytest.mark.parametrize("stream", [True, False])
def test_a_reply_takes_its_time(stream: bool) -> None:
    class Fixed(ReplayedProvider):
        def service_time(self, *_: object, **__: object) -> ServiceTime:
            return ServiceTime(0.1, 0.05)

    began = time.monotonic()
    post(ask(stream=stream), Fixed())
    assert time.monotonic() - began >= 0.2


def test_tokens_come_one_by_one() -> None:
    class Slow(ReplayedProvider):
        def service_time(self, *_: object, **__: object) -> ServiceTime:
            return ServiceTime(0.0, 1000.0)

    async def talk(session: aiohttp.ClientSession, url: str) -> bytes:
        async with session.post(f"{url}/v1/chat/completions", json=ask(stream=True)) as response:
            seen = b""
            while b'"word"' not in seen:
                seen += await response.content.readany()
            return seen

    assert b'" word"' not in with_upstream(Slow(), talk)
