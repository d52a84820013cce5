"""The example's models behind an OpenAI-compatible server: `python -m examples.strategies.server` prints its address.

POST /v1/chat/completions with `n`, `temperature`, `seed`, `stop`, `max_tokens` and `logprobs`; a last message of the
assistant's is continued. One request is computed at a time.
"""

import asyncio
import time
import uuid
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from aiohttp import web

from examples.strategies.model import CONTEXT, END, MODELS, Model, Sample, decode, encode, load

__all__ = ["completion", "main"]

_MOST_CHOICES = 64


class BadRequest(ValueError):
    """A request that cannot be answered; one line."""


def completion(models: Mapping[str, Model], body: Any) -> dict[str, Any]:
    """Answer one request for a chat completion; raise BadRequest."""
    if not isinstance(body, dict) or body.get("model") not in models:
        raise BadRequest(f"model: expected one of {', '.join(models)}")
    prompt = _prompt(body.get("messages"))
    samples = models[body["model"]].generate(
        prompt,
        choices=_number(body, "n", 1, 1, _MOST_CHOICES),
        longest=_number(body, "max_tokens", CONTEXT, 1, 10**6),
        temperature=_number(body, "temperature", 1.0, 0, 2),
        seed=_number(body, "seed", time.time_ns(), 0, 2**63),
        stop=(END, *_stop(body.get("stop"))),
    )
    generated = sum(sample.generated for sample in samples)
    return {
        "id": f"chatcmpl-{uuid.uuid4().hex}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": body["model"],
        "choices": [_choice(place, sample, scored=bool(body.get("logprobs"))) for place, sample in enumerate(samples)],
        "usage": {
            "prompt_tokens": len(prompt),
            "completion_tokens": generated,
            "total_tokens": len(prompt) + generated,
        },
    }


def _prompt(messages: Any) -> list[int]:
    """The last question, and what of the answer there is: `7 2 9 4 =`, and perhaps `7 1 4 =`."""
    try:
        last, before = messages[-1], messages[:-1]
        continued = last["role"] == "assistant"
        asked, begun = (before[-1]["content"], last["content"]) if continued else (last["content"], "")
        prompt = encode(f"{asked} = {begun}")
    except (KeyError, IndexError, TypeError, ValueError):
        raise BadRequest("messages: expected a question such as '7 2 9 4', and perhaps how its answer begins") from None
    if len(prompt) >= CONTEXT:
        raise BadRequest(f"messages: {len(prompt)} tokens; the model has room for {CONTEXT}")
    return prompt


def _stop(given: Any) -> list[int]:
    words = [given] if isinstance(given, str) else given or []
    try:
        return [token for word in words for token in encode(word)]
    except (TypeError, ValueError, AttributeError):
        raise BadRequest("stop: expected words that the model knows, such as '='") from None


def _number(body: Mapping[str, Any], key: str, default: Any, least: float, most: float) -> Any:
    value = default if body.get(key) is None else body[key]
    if not isinstance(value, type(default) if key != "temperature" else int | float) or not least <= value <= most:
        raise BadRequest(f"{key}: expected a number from {least} to {most}")
    return value


def _choice(place: int, sample: Sample, *, scored: bool) -> dict[str, Any]:
    pairs = zip(sample.tokens, sample.log_probabilities, strict=True)
    content = [{"token": decode([token]), "logprob": logprob, "top_logprobs": []} for token, logprob in pairs]
    return {
        "index": place,
        "message": {"role": "assistant", "content": decode(sample.tokens)},
        "logprobs": {"content": content} if scored else None,
        "finish_reason": sample.finish_reason,
    }


def _app(models: Mapping[str, Model]) -> web.Application:
    worker = ThreadPoolExecutor(1)

    async def complete(request: web.Request) -> web.Response:
        try:
            found = await asyncio.get_running_loop().run_in_executor(worker, completion, models, await request.json())
        except ValueError as error:
            return web.json_response({"error": {"message": str(error), "type": "invalid_request_error"}}, status=400)
        return web.json_response(found)

    async def listed(_request: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": name, "object": "model"} for name in models]})

    app = web.Application()
    app.add_routes([web.post("/v1/chat/completions", complete), web.get("/v1/models", listed)])
    return app


async def _serve() -> None:
    runner = web.AppRunner(_app({name: load(name) for name in MODELS}), access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port: Sequence[Any] = runner.addresses[0]
    print(f"http://127.0.0.1:{port[1]}/v1", flush=True)
    try:
        await asyncio.Event().wait()
    finally:
        await runner.cleanup()


def main() -> None:
    """Serve until stopped."""
    asyncio.run(_serve())


if __name__ == "__main__":
    main()
