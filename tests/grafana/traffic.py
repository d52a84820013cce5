"""Traffic that gives every panel something to show: what a gateway is asked, and the upstreams that answer.

Three upstreams: one that does as OpenAI does; one that refuses `stream_options` and so tells no token counts of a stream;
one that refuses every stream with the same words, so that each is tried twice. Times are the request's own, by headers
that the upstreams read.
"""

import asyncio
import contextlib
import itertools
import json
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from tests.servers.black_box import running
from tests.servers.openai_like import OpenAILike
from tests.servers.raw_http import RawRequest, RawServer, Wire

SMALL, LARGE, PLAIN = "gpt-4o-mini", "gpt-4o", "house-3b"
"""assumed and priced; the same, but faster than ideal; predicted, without a price and, of streams, token counts"""
OLD, UNHEARD = "openai/davinci", "unheard.of-3.5"
"""measured in 2022, and without any row"""
STACKS = ("h100-predicted", "a100-megatron")
ASSUMED = {SMALL: "meta-llama/llama-3.1-8b", LARGE: "meta-llama/llama-3.1-70b"}
_AT_ONCE = 6
_SECONDS = 60.0
_numbers = itertools.count()


class Refusing(OpenAILike):
    """OpenAI's API at a server that knows no `stream_options`; a `stubborn` one says so of every stream."""

    def __init__(self, *, stubborn: bool = False) -> None:
        super().__init__()
        self._stubborn = stubborn

    async def reply(self, request: RawRequest, wire: Wire) -> None:
        """Refuse what it does not know."""
        if request.json.get("stream") if self._stubborn else "stream_options" in request.json:
            error = {"message": "Unrecognized request argument supplied: stream_options", "param": "stream_options"}
            body = json.dumps({"error": error}).encode()
            headers = (("Content-Type", "application/json"), ("Content-Length", str(len(body))))
            await wire.head(400, "Bad Request", headers)
            await wire.send(body)
        else:
            await super().reply(request, wire)


class Collector(RawServer):
    """An OpenTelemetry collector that takes whatever comes."""

    async def reply(self, request: RawRequest, wire: Wire) -> None:
        """Say that it was taken: an empty message of protobuf."""
        await wire.head(200, "OK", (("Content-Type", "application/x-protobuf"), ("Content-Length", "0")))


@dataclass(frozen=True, slots=True)
class Request:
    """One request: seconds until the first token and between tokens, and when the client leaves (never, by default)."""

    model: str
    tokens: int = 12
    words: int = 20
    first: float = 0.02
    between: float = 0.0
    stream: bool = True
    leaves_after: float | None = None
    path: str = "/v1/chat/completions"
    labels: dict[str, str] = field(default_factory=dict)

    @property
    def body(self) -> dict[str, Any] | None:
        """What is sent; nothing to a path that is only looked at. No two bodies are the same."""
        if self.path == "/v1/models":
            return None
        text = f"number-{next(_numbers)} " + "word " * (self.words - 1)
        if self.path == "/v1/embeddings":
            return {"model": self.model, "input": text}
        messages = [{"role": "user", "content": text}]
        return {"model": self.model, "messages": messages, "max_tokens": self.tokens, "stream": self.stream}

    @property
    def headers(self) -> dict[str, str]:
        """What tells the upstream how long to take, and the gateway what it is for."""
        ours = {f"x-trueclock-{name}": value for name, value in self.labels.items()}
        return {"x-first-delay": str(self.first), "x-delay": str(self.between), **ours}


def steady(number: int, between: float = 0.008) -> list[Request]:
    """Streams of different sizes at one pace, from which a baseline is learned."""
    return [Request(SMALL, 8 + number % 9, 20 + number * 13 % 40, between=between) for number in range(number)]


def every() -> list[Request]:
    """One request, or two, of every kind."""
    return [
        Request(SMALL, 16, between=0.008),
        Request(SMALL, 16, between=0.02),
        Request(SMALL, 6, 30, first=0.06, stream=False),
        Request(LARGE, 12, 40, between=0.005, labels={"tags": "fast"}),
        Request(LARGE, 6, 25, stream=False),
        Request(PLAIN, 10, between=0.01),
        Request(PLAIN, 5, stream=False),
        Request(OLD, 10, 30, between=0.005),
        Request(OLD, 4, 2100, stream=False),
        Request("stubborn"),
        Request("error-429"),
        Request("error-500", stream=False),
        Request("gone"),
        Request(LARGE, 100, between=0.1, leaves_after=0.15),
        Request(UNHEARD, 4, between=0.02),
        Request("text-embedding-3-small", path="/v1/embeddings"),
        Request("", path="/v1/models"),
        *problems("greedy", SMALL, 1),
        *problems("majority", SMALL, 3),
        *problems("greedy", LARGE, 1),
    ]


LONG = Request(SMALL, 5, 5000, first=0.3, stream=False)
"""longer than any that a baseline was learned from: covered, and without a denoised runtime"""
PROBLEMS = 4
"""A quarter of them nobody solves."""


def problems(strategy: str, model: str, samples: int) -> list[Request]:
    """Requests that work on each problem."""
    return [
        Request(model, 5, stream=False, labels={"problem": f"p{number}", "strategy": strategy})
        for number in range(PROBLEMS)
        for _ in range(samples)
    ]


def outcomes() -> list[dict[str, Any]]:
    """Whether the answers were right, by model and strategy: SMALL greedy at one of four, majority at two, LARGE at three."""
    right = {("greedy", SMALL): 1, ("majority", SMALL): 2, ("greedy", LARGE): 3}
    return [
        {"problem": f"p{number}", "strategy": strategy, "model": model, "correct": number < solved}
        for (strategy, model), solved in right.items()
        for number in range(PROBLEMS)
    ]


def send(url: str, requests: Iterable[Request]) -> int:
    """Send requests, some at once, and wait for all replies; how many events they leave: one each."""
    wanted = list(requests)
    asyncio.run(_send(url, wanted))
    return len(wanted)


async def _send(url: str, requests: list[Request]) -> None:
    gate = asyncio.Semaphore(_AT_ONCE)
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(_SECONDS)) as session:

        async def one(request: Request) -> None:
            async with gate:
                await _ask(session, url, request)

        await asyncio.gather(*map(one, requests))


async def _ask(session: aiohttp.ClientSession, url: str, request: Request) -> None:
    body = request.body
    call = session.request("GET" if body is None else "POST", url + request.path, json=body, headers=request.headers)
    async with call as reply:
        if request.leaves_after is None:
            await reply.read()
            return
        await reply.content.readany()
        await asyncio.sleep(request.leaves_after)
        reply.close()


async def _post(url: str, body: Any) -> None:
    async with aiohttp.ClientSession() as session, session.post(f"{url}/trueclock/v1/outcomes", json=body) as reply:
        assert reply.status == 202, await reply.text()


def post(url: str, judged: list[dict[str, Any]]) -> None:
    """Post outcomes."""
    asyncio.run(_post(url, judged))


@contextlib.contextmanager
def upstreams() -> Iterator[dict[str, str]]:
    """The upstreams and a collector, on a loop in a thread of their own; their URLs by what they are."""
    urls: dict[str, str] = {}

    @contextlib.asynccontextmanager
    async def all_of_them() -> AsyncIterator[None]:
        async with (
            OpenAILike() as usual,
            Refusing() as refusing,
            Refusing(stubborn=True) as stubborn,
            Collector() as otlp,
        ):
            urls.update(usual=usual.url, refusing=refusing.url, stubborn=stubborn.url, otlp=otlp.url)
            yield

    with running(all_of_them()):
        yield urls


def write_config(path: Path, urls: Mapping[str, str], *, exports: bool) -> Path:
    """The gateway's configuration; `closed` of the URLs is an address at which nobody listens.

    It `exports` spans and metrics, too, or does not.
    """
    served = {
        SMALL: ("gpt-4o-mini", "usual"),
        LARGE: ("gpt-4o", "usual"),
        PLAIN: ("meta-llama/llama-3.2-3b", "refusing"),
        "stubborn": ("stubborn", "stubborn"),
        "gone": ("gone", "closed"),
    }
    entries = [
        {"model_name": name, "litellm_params": {"model": f"openai/{model}", "api_base": f"{urls[place]}/v1"}}
        for name, (model, place) in served.items()
    ]
    ours: dict[str, Any] = {"upstream": urls["usual"], "stack": STACKS[0], "assume": ASSUMED}
    if exports:
        ours["otlp"] = {"endpoint": urls["otlp"], "metric_interval_seconds": 1}
    path.write_text(json.dumps({"model_list": entries, "trueclock": ours}, indent=1))
    return path
