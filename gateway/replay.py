"""The replay upstream: a real HTTP server that answers in OpenAI's dialect, at a real provider's pace.

`POST /v1/chat/completions` (streaming or not) and `GET /v1/models`. It runs no model: the prompt's tokens are
the whitespace-separated words of the messages' content, the output is `max_tokens` times one word, and the
timing is `gateway.service_time`'s. For the demo, for tests, and for trying the gateway without a provider.
"""

import asyncio
import itertools
import json
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from gateway.service_time import ReplayedProvider, ServiceTime

_MAX_BODY_BYTES = 16 * 1024 * 1024
_MAX_TOKENS = 32_768
_DEFAULT_TOKENS = 16
_WORD = " word"
_FINGERPRINT = "fp_replay"


class BadRequestError(ValueError):
    """A request that OpenAI would refuse too; `status`, `code` and `param` are those of its error object."""

    def __init__(self, message: str, *, status: int = 400, code: str | None = None, param: str | None = None) -> None:
        """Carry what the error object says."""
        super().__init__(message)
        self.status = status
        self.code = code
        self.param = param


@dataclass(frozen=True, slots=True)
class Completion:
    """One valid chat completion request, and the identity of its reply."""

    id: str
    created: int
    model: str
    prompt_tokens: int
    output_tokens: int
    stream: bool
    include_usage: bool


class ReplayUpstream:
    """The server: `await start()` gives its URL, `await close()` ends it and every open reply."""

    def __init__(self, provider: ReplayedProvider | None = None) -> None:
        """Replay `provider`, by default the shipped one."""
        self.provider = provider or ReplayedProvider()
        self.began = time.monotonic()
        self._numbers = itertools.count(1)
        app = web.Application(client_max_size=_MAX_BODY_BYTES)
        app.router.add_post("/v1/chat/completions", self._chat)
        app.router.add_get("/v1/models", self._list_models)
        # Without handler_cancellation a reply that is waiting for its time would outlive a client that left.
        self._runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0.5)

    @property
    def elapsed(self) -> float:
        """Seconds since the replay began."""
        return time.monotonic() - self.began

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> str:
        """Listen (port 0: on a free one) and return the base URL, without a trailing slash."""
        await self._runner.setup()
        site = web.TCPSite(self._runner, host, port)
        await site.start()
        self.began = time.monotonic()
        bound = self._runner.addresses[0]
        return f"http://{bound[0]}:{bound[1]}"

    async def close(self) -> None:
        """Stop listening and end."""
        await self._runner.cleanup()

    async def _list_models(self, _request: web.Request) -> web.Response:
        models = [
            {"id": model, "object": "model", "created": 0, "owned_by": "replay"} for model in self.provider.models
        ]
        return web.json_response({"object": "list", "data": models})

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        arrived = time.monotonic()
        try:
            asked = self._read(await request.read())
        except BadRequestError as error:
            return _refusal(error)
        timing = self.provider.service_time(asked.model, asked.prompt_tokens, self.elapsed)
        if asked.stream:
            return await _stream(request, asked, timing, arrived)
        await _until(arrived + timing.whole(asked.output_tokens))
        return web.json_response(_whole_reply(asked), dumps=_dumps)

    def _read(self, body: bytes) -> Completion:
        asked = read_request(body)
        if asked["model"] not in self.provider.models:
            message = f"The model `{asked['model']}` does not exist; GET /v1/models lists those replayed."
            raise BadRequestError(message, status=404, code="model_not_found", param="model")
        return Completion(id=f"chatcmpl-replay-{next(self._numbers)}", created=int(time.time()), **asked)


def read_request(body: bytes) -> dict[str, Any]:
    """Read a request's body into the fields of a `Completion`; BadRequestError says what is wrong."""
    try:
        asked = json.loads(body)
    except ValueError:
        raise BadRequestError("We could not parse the JSON body of your request.") from None
    if not isinstance(asked, dict) or not isinstance(asked.get("model"), str):
        raise BadRequestError("you must provide a model parameter", param="model")
    stream = asked.get("stream") or False
    options = asked.get("stream_options")
    if options is not None and not stream:
        message = "The 'stream_options' parameter is only allowed when 'stream' is enabled."
        raise BadRequestError(message, param="stream_options")
    if asked.get("n") not in (None, 1):
        raise BadRequestError("This replay gives one choice: 'n' must be 1.", param="n")
    return {
        "model": asked["model"],
        "prompt_tokens": count_words(asked.get("messages")),
        "output_tokens": _output_tokens(asked),
        "stream": bool(stream),
        "include_usage": isinstance(options, dict) and options.get("include_usage") is True,
    }


def count_words(messages: object) -> int:
    """Count the whitespace-separated words of the messages' content: strings, or lists of text parts."""
    if not isinstance(messages, list) or not messages:
        raise BadRequestError("'messages' must be a list of at least one message.", param="messages")
    words = 0
    for message in messages:
        content = message.get("content") if isinstance(message, dict) else None
        parts = content if isinstance(content, list) else [content]
        texts = (part.get("text") if isinstance(part, dict) else part for part in parts)
        words += sum(len(text.split()) for text in texts if isinstance(text, str))
    return words


def _output_tokens(asked: dict[str, Any]) -> int:
    name = "max_completion_tokens" if asked.get("max_completion_tokens") is not None else "max_tokens"
    tokens = asked.get(name)
    if tokens is None:
        return _DEFAULT_TOKENS
    if type(tokens) is not int or not 1 <= tokens <= _MAX_TOKENS:
        raise BadRequestError(f"'{name}' must be an integer from 1 to {_MAX_TOKENS}.", param=name)
    return tokens


def _refusal(error: BadRequestError) -> web.Response:
    details = {
        "message": str(error),
        "type": "invalid_request_error",
        "param": error.param,
        "code": error.code,
    }
    return web.json_response({"error": details}, status=error.status)


def usage(asked: Completion) -> dict[str, Any]:
    """Return the reply's usage object."""
    return {
        "prompt_tokens": asked.prompt_tokens,
        "completion_tokens": asked.output_tokens,
        "total_tokens": asked.prompt_tokens + asked.output_tokens,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
    }


def _whole_reply(asked: Completion) -> dict[str, Any]:
    message = {"role": "assistant", "content": (_WORD * asked.output_tokens).lstrip(), "refusal": None}
    return {
        "id": asked.id,
        "object": "chat.completion",
        "created": asked.created,
        "model": asked.model,
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "length"}],
        "usage": usage(asked),
        "system_fingerprint": _FINGERPRINT,
    }


def chunks(asked: Completion) -> Iterator[bytes]:
    """Yield the reply's events as OpenAI frames them, a token each: role and first, others, end, `[DONE]`.

    With `include_usage` each chunk has `"usage":null`, and one with `choices: []` and the usage comes last.
    """
    yield _event(asked, {"role": "assistant", "content": "", "refusal": None}) + _event(
        asked, {"content": _WORD.lstrip()}
    )
    further = _event(asked, {"content": _WORD})
    for _ in range(asked.output_tokens - 1):
        yield further
    end = _event(asked, {}, finish_reason="length")
    if asked.include_usage:
        end += _sse({**_chunk(asked), "choices": [], "usage": usage(asked)})
    yield end + b"data: [DONE]\n\n"


def _event(asked: Completion, delta: dict[str, Any], finish_reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
    chunk = {**_chunk(asked), "choices": [choice]}
    return _sse({**chunk, "usage": None} if asked.include_usage else chunk)


def _chunk(asked: Completion) -> dict[str, Any]:
    return {
        "id": asked.id,
        "object": "chat.completion.chunk",
        "created": asked.created,
        "model": asked.model,
        "system_fingerprint": _FINGERPRINT,
    }


def _sse(chunk: dict[str, Any]) -> bytes:
    return b"data: " + _dumps(chunk).encode() + b"\n\n"


def _dumps(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


async def _stream(request: web.Request, asked: Completion, timing: ServiceTime, arrived: float) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
    with suppress(ConnectionResetError):  # whoever asked has left, such as a worker that somebody killed
        await response.prepare(request)
        for index, chunk in enumerate(chunks(asked)):
            # The end of the stream comes with its last token.
            await _until(arrived + timing.token(min(index, asked.output_tokens - 1)))
            await response.write(chunk)
        await response.write_eof()
    return response


async def _until(moment: float) -> None:
    delay = moment - time.monotonic()
    if delay > 0:
        await asyncio.sleep(delay)
