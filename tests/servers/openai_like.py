"""A server that answers exactly as OpenAI's API does, down to the bytes of its stream.

    async with OpenAILike() as server:
        ...  # server.url is the base, without /v1

Replies are the same bytes for the same request (ids, times and dates are fixed), so
that a reply through a gateway can be compared with one without.

Endpoints: `POST /v1/chat/completions`, `/v1/completions`, `/v1/embeddings`,
`GET /v1/models`, `/v1/models/NAME`; anything else is OpenAI's 404.

What a request says, and what it gets:
- `max_tokens` / `max_completion_tokens`: that many completion tokens (default 5), one
  content delta each, then `finish_reason` "length" (given) or "stop"
- `n`: that many choices, their deltas interleaved; `tools`: one tool call, unless
  `tool_choice` is "none" (streamed: name first, then the arguments in pieces)
- `stream`: a role-only chunk, deltas, a finish chunk, `[DONE]`; with
  `stream_options.include_usage` `"usage":null` in each and the chunk of `choices: []`
  with the usage; with `stream_options.include_obfuscation` false no `obfuscation`
- a model `error-401`, `error-429`, `error-400`, `error-404`, `error-500`, `error-503`:
  that error, as JSON, with an x-request-id
- headers `x-first-delay` and `x-delay`: seconds before the first chunk (or the whole
  reply, or its head with `late_head`), and between chunks
- prompt tokens are 7 and the number of words in the prompt; `x-cached-tokens` of them
  are cached, `x-reasoning-tokens` of the completion are reasoning

Options of the server: `key` (other keys get a 401), `gzip` (compress whatever
Accept-Encoding lets it), `sizes` (the body's bytes in HTTP chunks of these sizes, cut
anywhere; default one chunk an event), `late_head` (the reply's head waits for
`x-first-delay` too).
"""

import asyncio
import json
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

from tests.servers.raw_http import Headers, RawRequest, RawServer, Wire, cut

CREATED = 1_750_000_000
CHAT_ID = "chatcmpl-Bq3fPn0TzqJ8qJq2kq0C5yYc1aV7e"
COMPLETION_ID = "cmpl-Bq3fQm1TzqJ8qJq2kq0C5yYc1aV7e"
TOOL_ID = "call_r5J9Zb8VnSGc4RtYvRgDq1Zx"
REQUEST_ID = "req_7d1f4c9b0a3e4f2d8c6b5a4938271605"
TOKENS = (" Time", " is", " what", " keeps", " everything", " from", " happening", " at", " once", ".")
COMMON: Headers = (
    ("Date", "Mon, 16 Jun 2025 12:00:00 GMT"),
    ("Connection", "keep-alive"),
    ("access-control-expose-headers", "X-Request-ID"),
    ("openai-organization", "user-test"),
    ("openai-processing-ms", "42"),
    ("openai-version", "2020-10-01"),
    ("x-ratelimit-limit-requests", "10000"),
    ("x-ratelimit-remaining-requests", "9999"),
    ("x-ratelimit-reset-requests", "6ms"),
    ("x-request-id", REQUEST_ID),
    ("strict-transport-security", "max-age=31536000; includeSubDomains; preload"),
    ("cf-cache-status", "DYNAMIC"),
    ("Set-Cookie", "__cf_bm=abc; path=/; HttpOnly; Secure"),
    ("Set-Cookie", "_cfuvid=def; path=/; HttpOnly; Secure"),
    ("X-Content-Type-Options", "nosniff"),
    ("Server", "cloudflare"),
    ("CF-RAY", "950a1b2c3d4e5f60-FRA"),
    ("alt-svc", 'h3=":443"; ma=86400'),
)
ERRORS = {
    400: ("Bad Request", "invalid_request_error", None, "The request is not what it should be."),
    401: ("Unauthorized", "invalid_request_error", "invalid_api_key", "Incorrect API key provided."),
    404: ("Not Found", "invalid_request_error", "model_not_found", "The model does not exist."),
    429: ("Too Many Requests", "requests", "rate_limit_exceeded", "Rate limit reached for requests."),
    500: ("Internal Server Error", "server_error", None, "The server had an error."),
    503: ("Service Unavailable", "server_error", None, "The engine is currently overloaded."),
}


class OpenAILike(RawServer):
    """OpenAI's API; the module says what it answers."""

    def __init__(
        self,
        *,
        key: str | None = None,
        gzip: bool = False,
        sizes: Sequence[int] = (),
        late_head: bool = False,
    ) -> None:
        super().__init__()
        self.key = key
        self.gzip = gzip
        self.sizes = sizes
        self.late_head = late_head

    async def reply(self, request: RawRequest, wire: Wire) -> None:
        """Answer as the request says."""
        status = self._error_status(request)
        if status:
            await self._json(request, wire, status, error_body(status))
        elif request.method == "POST" and request.json.get("stream"):
            await self._stream(request, wire)
        else:
            await self._whole(request, wire)

    def _error_status(self, request: RawRequest) -> int | None:
        if self.key is not None and request.header("authorization") != f"Bearer {self.key}":
            return 401
        model = str(request.json.get("model") or "")
        if model.startswith("error-"):
            return int(model.removeprefix("error-"))
        # OpenAI refuses a body that is no JSON object, one without a model, and stream_options on their own.
        bad = request.method == "POST" and (
            not model or ("stream_options" in request.json and not request.json.get("stream"))
        )
        return 400 if bad else None

    async def _stream(self, request: RawRequest, wire: Wire) -> None:
        first, between = _delays(request)
        zipped = self._zips(request)
        coding = (("Content-Encoding", "gzip"),) if zipped else ()
        headers = (("Content-Type", "text/event-stream; charset=utf-8"), ("Transfer-Encoding", "chunked"))
        if self.late_head:
            await asyncio.sleep(first)
        await wire.head(200, "OK", (*headers, *coding, *COMMON))
        if not self.late_head:
            await asyncio.sleep(first)
        events = list(stream_events(request))
        pieces = gzip_pieces(events) if zipped else events
        for index, piece in enumerate(cut(b"".join(pieces), self.sizes) if self.sizes else pieces):
            if between and index:
                await asyncio.sleep(between)
            await wire.chunk(piece)
        await wire.end_chunks()

    async def _whole(self, request: RawRequest, wire: Wire) -> None:
        await asyncio.sleep(_delays(request)[0])
        found = whole_body(request)
        if found is None:
            message = f"Invalid URL ({request.method} {request.target.partition('?')[0]})"
            error = {"message": message, "type": "invalid_request_error", "param": None, "code": None}
            await self._json(request, wire, 404, {"error": error})
        else:
            await self._json(request, wire, 200, found)

    async def _json(self, request: RawRequest, wire: Wire, status: int, value: Any) -> None:
        body = (json.dumps(value, indent=2) + "\n").encode()
        reason = "OK" if status == 200 else ERRORS[status][0]
        zipped = self._zips(request)
        if zipped:
            body = b"".join(gzip_pieces([body]))
        coding = (("Content-Encoding", "gzip"),) if zipped else ()
        headers = (("Content-Type", "application/json"), *coding, *COMMON)
        if not self.sizes:
            await wire.head(status, reason, (*headers, ("Content-Length", str(len(body)))))
            await wire.send(b"" if request.method == "HEAD" else body)
            return
        await wire.head(status, reason, (*headers, ("Transfer-Encoding", "chunked")))
        for piece in cut(body, self.sizes):
            await wire.chunk(piece)
        await wire.end_chunks()

    def _zips(self, request: RawRequest) -> bool:
        return self.gzip and "gzip" in (request.header("accept-encoding") or "")


def error_body(status: int) -> dict[str, Any]:
    """OpenAI's error object for a status."""
    _, kind, code, message = ERRORS[status]
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def gzip_pieces(parts: Sequence[bytes]) -> list[bytes]:
    """The parts as one gzip stream, flushed after each so that it can be read at once."""
    packer = zlib.compressobj(wbits=31)
    flushed = [packer.compress(part) + packer.flush(zlib.Z_SYNC_FLUSH) for part in parts]
    return [*flushed, packer.flush()]


def usage_of(request: RawRequest) -> dict[str, Any]:
    """The usage that the reply to `request` reports."""
    body = request.json
    prompt = 7 + _words(body.get("messages") or body.get("prompt") or body.get("input"))
    completion = _token_count(body) * int(body.get("n") or 1)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {
            "cached_tokens": int(request.header("x-cached-tokens") or 0),
            "audio_tokens": 0,
        },
        "completion_tokens_details": {
            "reasoning_tokens": int(request.header("x-reasoning-tokens") or 0),
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def served_model(model: str) -> str:
    """The dated name that OpenAI answers with for `model`."""
    return model if "-20" in model or model.startswith("text-") else f"{model}-2024-08-06"


def stream_events(request: RawRequest) -> Iterator[bytes]:
    """The stream's SSE events, each with the empty line that ends it."""
    body = request.json
    chat = request.target.startswith("/v1/chat")
    options = body.get("stream_options") or {}
    common = _chat_common(body) if chat else _completion_common(body)
    asked = {"usage": None} if options.get("include_usage") else {}
    padded = chat and options.get("include_obfuscation", True)
    for number, choice in enumerate(_chat_choices(body) if chat else _text_choices(body)):
        extra = {"obfuscation": "xK4pQz9w"[: number % 9]} if padded else {}
        yield _event({**common, "choices": [choice], **asked, **extra})
    if asked:
        extra = {"obfuscation": "t8"} if padded else {}
        yield _event({**common, "choices": [], "usage": usage_of(request), **extra})
    yield b"data: [DONE]\n\n"


def whole_body(request: RawRequest) -> dict[str, Any] | None:
    """The JSON of a reply that is not streamed; None: no such endpoint."""
    path = request.target.partition("?")[0]
    if request.method == "GET" and path == "/v1/models":
        return {"object": "list", "data": [_model("gpt-4o"), _model("text-embedding-3-small")]}
    if request.method == "GET" and path.startswith("/v1/models/"):
        return _model(path.removeprefix("/v1/models/"))
    makers = {
        "/v1/chat/completions": _chat_body,
        "/v1/completions": _completion_body,
        "/v1/embeddings": _embedding_body,
    }
    return makers[path](request) if request.method == "POST" and path in makers else None


def _delays(request: RawRequest) -> tuple[float, float]:
    return float(request.header("x-first-delay") or 0), float(request.header("x-delay") or 0)


def _words(value: Any) -> int:
    if isinstance(value, str):
        return len(value.split())
    if isinstance(value, list):
        return sum(_words(item) for item in value)
    return _words(value.get("content") or value.get("text")) if isinstance(value, dict) else 0


def _token_count(body: dict[str, Any]) -> int:
    return int(body.get("max_completion_tokens") or body.get("max_tokens") or 5)


def _texts(body: dict[str, Any]) -> list[str]:
    return [TOKENS[index % len(TOKENS)] for index in range(_token_count(body))]


def _finish(body: dict[str, Any]) -> str:
    return "length" if body.get("max_tokens") or body.get("max_completion_tokens") else "stop"


def _event(value: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode() + b"\n\n"


def _calls_tool(body: dict[str, Any]) -> bool:
    return bool(body.get("tools")) and body.get("tool_choice") != "none"


def _chat_common(body: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": CHAT_ID,
        "object": "chat.completion.chunk" if body.get("stream") else "chat.completion",
        "created": CREATED,
        "model": served_model(body["model"]),
        "service_tier": "default",
        "system_fingerprint": "fp_07871e2ad8",
    }


def _completion_common(body: dict[str, Any]) -> dict[str, Any]:
    model = served_model(body["model"])
    return {"id": COMPLETION_ID, "object": "text_completion", "created": CREATED, "model": model}


def _delta(index: int, delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    return {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}


def _chat_choices(body: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if _calls_tool(body):
        yield from _tool_choices(body)
        return
    indices = range(int(body.get("n") or 1))
    for index in indices:
        yield _delta(index, {"role": "assistant", "content": "", "refusal": None})
    for text in _texts(body):
        for index in indices:
            yield _delta(index, {"content": text})
    for index in indices:
        yield _delta(index, {}, _finish(body))


def _tool_choices(body: dict[str, Any]) -> Iterator[dict[str, Any]]:
    function = {"name": _tool_name(body), "arguments": ""}
    call = {"index": 0, "id": TOOL_ID, "type": "function", "function": function}
    yield _delta(0, {"role": "assistant", "content": None, "tool_calls": [call], "refusal": None})
    for piece in ('{"', "city", '":"', "Oslo", '"}'):
        yield _delta(0, {"tool_calls": [{"index": 0, "function": {"arguments": piece}}]})
    yield _delta(0, {}, "tool_calls")


def _tool_name(body: dict[str, Any]) -> str:
    return str(body["tools"][0].get("function", {}).get("name", "tool"))


def _text_choices(body: dict[str, Any]) -> Iterator[dict[str, Any]]:
    indices = range(int(body.get("n") or 1))
    for text in _texts(body):
        for index in indices:
            yield {"text": text, "index": index, "logprobs": None, "finish_reason": None}
    for index in indices:
        yield {"text": "", "index": index, "logprobs": None, "finish_reason": _finish(body)}


def _message(body: dict[str, Any]) -> dict[str, Any]:
    if not _calls_tool(body):
        return {"role": "assistant", "content": "".join(_texts(body)), "refusal": None, "annotations": []}
    function = {"name": _tool_name(body), "arguments": '{"city":"Oslo"}'}
    call = {"id": TOOL_ID, "type": "function", "function": function}
    return {"role": "assistant", "content": None, "tool_calls": [call], "refusal": None, "annotations": []}


def _chat_body(request: RawRequest) -> dict[str, Any]:
    body = request.json
    finish = "tool_calls" if _calls_tool(body) else _finish(body)
    choices = [
        {"index": index, "message": _message(body), "logprobs": None, "finish_reason": finish}
        for index in range(int(body.get("n") or 1))
    ]
    common = _chat_common(body)
    tail = {key: common.pop(key) for key in ("service_tier", "system_fingerprint")}
    return {**common, "choices": choices, "usage": usage_of(request), **tail}


def _completion_body(request: RawRequest) -> dict[str, Any]:
    body, text = request.json, "".join(_texts(request.json))
    choices = [
        {"text": text, "index": index, "logprobs": None, "finish_reason": _finish(body)}
        for index in range(int(body.get("n") or 1))
    ]
    return {**_completion_common(body), "choices": choices, "usage": usage_of(request)}


def _embedding_body(request: RawRequest) -> dict[str, Any]:
    body = request.json
    inputs = body.get("input") if isinstance(body.get("input"), list) else [body.get("input")]
    # The openai SDK asks for base64 of little-endian floats unless told otherwise.
    vector: Any = "AACAPgAAAL8AAEA/" if body.get("encoding_format") == "base64" else [0.25, -0.5, 0.75]
    data = [{"object": "embedding", "index": index, "embedding": vector} for index, _ in enumerate(inputs or [])]
    prompt = _words(body.get("input"))
    usage = {"prompt_tokens": prompt, "total_tokens": prompt}
    return {"object": "list", "data": data, "model": body["model"], "usage": usage}


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 1_715_367_049, "owned_by": "system"}
