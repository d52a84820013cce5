"""An API whose truth is known, and its load is not: it streams like OpenAI's, and takes F, beta and overhead of yours.

    with running(BlackBox(Truth(), Contention())) as server:
        ...  # server.url is the base, server.billed what it will send a bill for

    python tests/servers/black_box.py '{"seed": 7, "contention": {"quiet": 0.3}}'     # prints its URL, serves until killed

Alone a request takes overhead + F(p) + (o - 1) beta; what others do to it, `Contention` says. Times are due at moments
counted from the request's arrival, so that a sleep that was too long adds nothing to those after it. Prompt tokens are
`template` and `per_word` for each word. Everything that was computed is billed, whether the client got it or not.

`POST /v1/chat/completions` and `/v1/completions`, `GET /v1/models`, and `GET /billed`: {"requests", "prompt", "output"}.
"""

import asyncio
import contextlib
import json
import math
import random
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests.servers.raw_http import RawRequest, RawServer, Wire

MODEL = "box-1"
_TAKEN = {
    "model",
    "messages",
    "prompt",
    "stream",
    "stream_options",
    "max_tokens",
    "max_completion_tokens",
    "temperature",
}


@dataclass(frozen=True, slots=True)
class Truth:
    """Seconds. F(p) is a floor (beta) and a slope, the corner between them rounded; with `hump` it has one, too."""

    overhead: float = 0.020
    beta: float = 0.004
    per_prompt_token: float = 0.00005
    sharpness: float = 4.0
    hump: float = 0.0

    def prompt_seconds(self, prompt: int) -> float:
        """F(p)."""
        order = self.sharpness
        smooth: float = (self.beta**order + (self.per_prompt_token * prompt) ** order) ** (1 / order)
        return smooth * (1 + self.hump * math.sin(math.log2(max(prompt, 1))) ** 2)

    def seconds(self, prompt: int, output: int) -> float:
        """T(p, o)."""
        return self.overhead + self.prompt_seconds(prompt) + max(output - 1, 0) * self.beta


@dataclass(frozen=True, slots=True)
class Contention:
    """What others do: a share `quiet` of the requests meets nobody. All others wait, and go slower, with heavy tails.

    For `spell_share` of the time, `spell_seconds` at a stretch, nobody is served alone. `jitter` is a share of each
    part's time that nothing explains.
    """

    quiet: float = 0.3
    wait_seconds: float = 0.03
    slower: float = 0.3
    tail: float = 1.8
    spell_share: float = 0.0
    spell_seconds: float = 2.0
    spell_factor: float = 2.0
    jitter: float = 0.01

    def meets(self, rng: random.Random, elapsed: float) -> tuple[float, float, float]:
        """Return seconds of waiting, and the factors of the prompt's and the output's time."""
        spell = (
            math.fmod(elapsed, self.spell_seconds / self.spell_share) < self.spell_seconds if self.spell_share else 0
        )
        factor = self.spell_factor * rng.uniform(0.9, 1.3) if spell else 1.0
        if not spell and rng.random() < self.quiet:
            return 0.0, 1.0, 1.0
        heavy = min(rng.paretovariate(self.tail), 20.0)
        wait = rng.expovariate(1 / self.wait_seconds) * heavy if self.wait_seconds and rng.random() < 0.7 else 0.0
        return min(wait, 1.0), factor * (1 + self.slower * rng.random()), factor * (1 + self.slower * rng.random())


@dataclass
class Billed:
    """What was computed for clients, so far."""

    requests: int = 0
    prompt: int = 0
    output: int = 0

    def dollars(self, prompt: float, output: float) -> float:
        """The bill at these dollars a million tokens."""
        return (self.prompt * prompt + self.output * output) / 1e6


@dataclass
class Manners:
    """How it answers. `burst` tokens go out at once (0: the whole reply); `longer` times as many come as were asked for.

    `fails` is the share of requests that fail half way: some with a 500, some as a stream that breaks off; `busy` those
    that are told 429 at once. `strict` refuses fields that OpenAI's API does not know; `usage` False says no tokens.
    """

    burst: int = 1
    longer: float = 1.0
    longer_share: float = 1.0
    ends_after: int = 10**9
    fails: float = 0.0
    busy: float = 0.0
    strict: bool = True
    usage: bool = True
    template: int = 9
    per_word: float = 1.0
    key: str | None = None
    cached: int = 0


class BlackBox(RawServer):
    """The server. `billed` is what it computed; `truth` and `contention` say how long that takes."""

    def __init__(
        self,
        truth: Truth | None = None,
        contention: Contention | None = None,
        manners: Manners | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.truth, self.contention, self.manners = truth or Truth(), contention or Contention(), manners or Manners()
        self.billed = Billed()
        self.sizes: list[tuple[int, int]] = []
        self._rng = random.Random(seed)
        self._began = time.monotonic()

    async def reply(self, request: RawRequest, wire: Wire) -> None:
        """Answer as the module says."""
        if request.target == "/billed":
            await _json(wire, 200, vars(self.billed))
        elif request.method == "GET":
            await _json(wire, 200, {"object": "list", "data": [{"id": MODEL, "object": "model"}]})
        elif error := self._refusal(request):
            await _json(wire, *error)
        else:
            await self._generate(request, wire)

    def _refusal(self, request: RawRequest) -> tuple[int, dict[str, Any]] | None:
        body, manners = request.json, self.manners
        if manners.key is not None and request.header("authorization") != f"Bearer {manners.key}":
            return 401, _error(f"Incorrect API key provided: {request.header('authorization')}")
        if body.get("model") != MODEL:
            return 404, _error(f"The model `{body.get('model')}` does not exist")
        if manners.strict and (unknown := sorted(body.keys() - _TAKEN)):
            return 400, _error(f"Unrecognized request argument supplied: {unknown[0]}")
        if self._rng.random() < manners.busy:
            return 429, _error("Rate limit reached for requests")
        return None

    def _tokens(self, body: dict[str, Any]) -> int:
        messages = body.get("messages") or [{"content": body.get("prompt", "")}]
        words = sum(len(str(message["content"]).split()) for message in messages)
        return self.manners.template * ("messages" in body) + round(words * self.manners.per_word)

    async def _generate(self, request: RawRequest, wire: Wire) -> None:
        body, rng, manners = request.json, self._rng, self.manners
        asked = int(body.get("max_tokens") or body.get("max_completion_tokens") or 16)
        longer = manners.longer if rng.random() < manners.longer_share else 1.0
        prompt, output = self._tokens(body), min(math.ceil(asked * longer), manners.ends_after)
        fails = rng.random() < manners.fails
        self.billed.requests += 1
        self.billed.prompt += prompt
        self.sizes.append((prompt, output))
        due = self._due(prompt, output, request.received_at)
        if fails and rng.random() < 0.5:
            await _until(due[0])
            self.billed.output += 1
            await _json(wire, 500, _error("The server had an error while processing your request"))
            return
        await self._stream(request, wire, due[: max(len(due) // 2, 1)] if fails else due, prompt, cut=fails)

    def _due(self, prompt: int, output: int, began: float) -> list[float]:
        """When each output token comes."""
        truth, rng = self.truth, self._rng
        wait, of_prompt, of_output = self.contention.meets(rng, began - self._began)
        jitter = self.contention.jitter
        # Noise of both signs, that stays within what a clock may show.
        first = truth.overhead + truth.prompt_seconds(prompt) * of_prompt * rng.gauss(1.0, jitter) + wait
        pace = truth.beta * of_output * rng.gauss(1.0, jitter)
        return [began + first + place * pace for place in range(output)]

    async def _stream(self, request: RawRequest, wire: Wire, due: list[float], prompt: int, *, cut: bool) -> None:
        burst = self.manners.burst or len(due)
        chat = request.target.endswith("/chat/completions")
        headers = (("Content-Type", "text/event-stream"), ("Server", "black-box"), ("Transfer-Encoding", "chunked"))
        if burst == 1:
            await wire.head(200, "OK", headers)
            if chat:
                await wire.chunk(_event({"choices": [_choice({"role": "assistant", "content": ""}, chat=True)]}))
        for start in range(0, len(due), burst):
            sent = due[start : start + burst]
            await _until(sent[-1])
            self.billed.output += len(sent)
            if burst != 1 and start == 0:
                await wire.head(200, "OK", headers)
            await wire.chunk(b"".join(_event({"choices": [_choice({"content": " word"}, chat=chat)]}) for _ in sent))
        if cut:
            wire.abort()
            return
        usage: dict[str, Any] = {
            "prompt_tokens": prompt,
            "completion_tokens": len(due),
            "total_tokens": prompt + len(due),
        }
        if self.manners.cached:
            usage["prompt_tokens_details"] = {"cached_tokens": self.manners.cached}
        end = _event({"choices": [{"index": 0, "delta": {}, "finish_reason": "length"}]})
        end += _event({"choices": [], "usage": usage}) if self.manners.usage else b""
        await wire.chunk(end + b"data: [DONE]\n\n")
        await wire.end_chunks()


async def _until(moment: float) -> None:
    left = moment - time.monotonic()
    if left > 0:
        await asyncio.sleep(left)


def _choice(delta: dict[str, str], *, chat: bool) -> dict[str, Any]:
    said = {"delta": delta} if chat else {"text": delta["content"]}
    return {"index": 0, **said, "finish_reason": None}


def _event(fields: dict[str, Any]) -> bytes:
    common = {"id": "box-1", "object": "chat.completion.chunk", "created": 1_750_000_000, "model": f"{MODEL}-served"}
    return b"data: " + json.dumps({**common, **fields}).encode() + b"\n\n"


def _error(message: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": "invalid_request_error"}}


async def _json(wire: Wire, status: int, document: Any) -> None:
    body = json.dumps(document).encode()
    headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
    if status == 429:
        headers.append(("Retry-After", "0.05"))
    await wire.head(status, "Whatever", headers)
    await wire.send(body)


@contextlib.contextmanager
def running(server: contextlib.AbstractAsyncContextManager[Any]) -> Iterator[Any]:
    """Serve in a thread of its own, for clients that have no event loop."""
    loop, ready, done = asyncio.new_event_loop(), threading.Event(), asyncio.Event()

    async def serve() -> None:
        async with server:
            ready.set()
            await done.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),), daemon=True)
    thread.start()
    assert ready.wait(10)
    try:
        yield server
    finally:
        loop.call_soon_threadsafe(done.set)
        thread.join(10)
        loop.close()


async def _serve(settings: dict[str, Any]) -> None:
    parts = {"truth": Truth, "contention": Contention, "manners": Manners}
    given = {name: make(**settings[name]) for name, make in parts.items() if name in settings}
    async with BlackBox(**given, seed=settings.get("seed", 0)) as server:
        print(server.url, flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(json.loads(sys.argv[1] if len(sys.argv) > 1 else "{}")))
