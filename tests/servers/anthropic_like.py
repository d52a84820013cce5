"""A server that speaks Anthropic's `POST /v1/messages`, streamed and not, down to its events.

    async with AnthropicLike(key="sk-ant") as server:
        ...  # server.url is the base

It answers " one two three four" (4 output tokens) to any prompt of 20 input tokens, and
5 read from its cache, 3 written to it: 28 prompt tokens as OpenAI counts them. With
`tools` it calls the first one with {"city": "Oslo"}.

The model chooses the rest: `error-STATUS` is that error; `breaks` stops in the middle of
the stream without an end; `fails` sends Anthropic's `overloaded_error` event there;
`ends-early` closes the stream in order, but without a stop reason; `silent` never
replies; `endless` streams until the client leaves. A model whose name begins with
`claude-` just answers. The header `x-delay` are the seconds between events.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from tests.servers.raw_http import Headers, RawRequest, RawServer, Wire

TOKENS = (" one", " two", " three", " four")
INPUT = {"input_tokens": 20, "cache_read_input_tokens": 5, "cache_creation_input_tokens": 3}
PROMPT_TOKENS = 28
HEADERS: Headers = (("request-id", "req_011CQ"), ("anthropic-organization-id", "org-test"))
ERRORS = {
    400: ("Bad Request", "invalid_request_error"),
    401: ("Unauthorized", "authentication_error"),
    403: ("Forbidden", "permission_error"),
    404: ("Not Found", "not_found_error"),
    429: ("Too Many Requests", "rate_limit_error"),
    500: ("Internal Server Error", "api_error"),
    529: ("Overloaded", "overloaded_error"),
}


class AnthropicLike(RawServer):
    """Anthropic's messages endpoint; the module says what it answers."""

    def __init__(self, *, key: str | None = None) -> None:
        super().__init__()
        self.key = key

    async def reply(self, request: RawRequest, wire: Wire) -> None:
        """Answer as the model's name says."""
        model = str(request.json.get("model"))
        status = 401 if self.key not in (None, request.header("x-api-key")) else 200
        if model.startswith("error-"):
            status = int(model.removeprefix("error-"))
        if model == "silent":
            await asyncio.Event().wait()
        elif status != 200:
            await _error(wire, status)
        elif request.json.get("stream"):
            await self._stream(request, wire, model)
        else:
            await _json(wire, 200, "OK", _message(request.json))

    async def _stream(self, request: RawRequest, wire: Wire, model: str) -> None:
        kind = (("Content-Type", "text/event-stream; charset=utf-8"), ("Transfer-Encoding", "chunked"))
        await wire.head(200, "OK", (*kind, *HEADERS))
        async for name, data in _events(request.json, model):
            await wire.chunk(f"event: {name}\ndata: {json.dumps(data)}\n\n".encode())
            await asyncio.sleep(float(request.header("x-delay") or 0))
        if model == "breaks":
            wire.close()
        else:
            await wire.end_chunks()


async def _events(body: dict[str, Any], model: str) -> AsyncIterator[tuple[str, dict[str, Any]]]:
    opening = _message(body) | {"content": [], "stop_reason": None, "usage": {**INPUT, "output_tokens": 1}}
    yield "message_start", {"type": "message_start", "message": opening}
    yield "ping", {"type": "ping"}
    block, deltas = _block(body)
    yield "content_block_start", {"type": "content_block_start", "index": 0, "content_block": block}
    for number, delta in enumerate(deltas):
        if number == 2 and model == "fails":
            yield "error", {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
        if number == 2 and model in ("breaks", "fails", "ends-early"):
            return
        yield "content_block_delta", {"type": "content_block_delta", "index": 0, "delta": delta}
    while model == "endless":
        yield "content_block_delta", {"type": "content_block_delta", "index": 0, "delta": deltas[0]}
        await asyncio.sleep(0.01)
    yield "content_block_stop", {"type": "content_block_stop", "index": 0}
    stop = {"stop_reason": _stop_reason(body), "stop_sequence": None}
    yield "message_delta", {"type": "message_delta", "delta": stop, "usage": {"output_tokens": 4}}
    yield "message_stop", {"type": "message_stop"}


def _block(body: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    if body.get("tools"):
        block = {"type": "tool_use", "id": "toolu_01", "name": body["tools"][0]["name"], "input": {}}
        return block, [{"type": "input_json_delta", "partial_json": part} for part in ('{"city": ', '"Oslo"}')]
    return {"type": "text", "text": ""}, [{"type": "text_delta", "text": token} for token in TOKENS]


def _message(body: dict[str, Any]) -> dict[str, Any]:
    content: dict[str, Any] = {"type": "text", "text": "".join(TOKENS)}
    if body.get("tools"):
        content = _block(body)[0] | {"input": {"city": "Oslo"}}
    return {
        "id": "msg_013Zva2CMHLNnXjNJJKqJ2EF",
        "type": "message",
        "role": "assistant",
        "model": body.get("model"),
        "content": [content],
        "stop_reason": _stop_reason(body),
        "stop_sequence": None,
        "usage": {**INPUT, "output_tokens": 4},
    }


def _stop_reason(body: dict[str, Any]) -> str:
    return "tool_use" if body.get("tools") else "end_turn"


async def _error(wire: Wire, status: int) -> None:
    reason, kind = ERRORS[status]
    error = {"type": "error", "error": {"type": kind, "message": f"no: {kind}"}, "request_id": "req_011CQ"}
    more = (("retry-after", "7"),) if status == 429 else ()
    await _json(wire, status, reason, error, more)


async def _json(wire: Wire, status: int, reason: str, value: Any, more: Headers = ()) -> None:
    body = json.dumps(value).encode()
    kind = (("Content-Type", "application/json"), ("Content-Length", str(len(body))))
    await wire.head(status, reason, (*kind, *HEADERS, *more))
    await wire.send(body)
