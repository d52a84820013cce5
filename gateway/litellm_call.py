"""One call through litellm, on litellm's own event loop, its answer given to a `Handoff`."""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from gateway.handoff import Handoff, Head
from gateway.litellm_dialect import (
    DONE,
    Asked,
    call_arguments,
    chunk_bytes,
    completion_bytes,
    error_body,
    error_event,
    error_reply,
    secrets_of,
)
from gateway.routes import Route, Timeouts
from gateway.upstream import UpstreamError

__all__ = ["BrokenReply", "call"]

_JSON = ("Content-Type", "application/json")
_SSE = ("Content-Type", "text/event-stream; charset=utf-8")


_INNER = ("streaming_response", "async_response_iterator", "http_response", "response")


class BrokenReply(UpstreamError):
    """The upstream broke off in the middle of its reply, or the call was cancelled."""

    def __init__(self, message: str) -> None:
        super().__init__("upstream_broken", message)


async def call(module: Callable[[], Any], handoff: Handoff, route: Route, asked: Asked) -> None:
    """Make the call for `asked` and hand over all that comes back.

    `module` gives litellm. A failure before the first chunk is a reply with an error's
    status; one after it is an error event and a `BrokenReply`.
    """
    timeouts, secrets = route.upstream.timeouts, secrets_of(route, asked.authorization)
    try:
        arguments = call_arguments(route, asked)
        async with asyncio.timeout(min(timeouts.first_byte, timeouts.total)):
            answer = await module().acompletion(**arguments)
            first = await anext(aiter(answer), None) if arguments.get("stream") else None
    except Exception as error:  # noqa: BLE001 - litellm raises what its providers' clients raise
        await _fail(handoff, error, secrets)
        return
    if arguments.get("stream"):
        await _stream(handoff, answer, first, timeouts, secrets)
    else:
        await _whole(handoff, 200, completion_bytes(answer.model_dump(exclude_none=True)))


async def _fail(handoff: Handoff, error: Exception, secrets: list[str]) -> None:
    reply = error_reply(error, secrets)
    more = (("Retry-After", reply.retry_after),) if reply.retry_after else ()
    await _whole(handoff, reply.status, error_body(reply), more)


async def _whole(handoff: Handoff, status: int, body: bytes, more: tuple[tuple[str, str], ...] = ()) -> None:
    handoff.start(Head(status, (_JSON, ("Content-Length", str(len(body))), *more)))
    await handoff.put(body)
    handoff.finish()


async def _stream(handoff: Handoff, answer: Any, first: Any, timeouts: Timeouts, secrets: list[str]) -> None:
    handoff.start(Head(200, (_SSE,)))
    try:
        async with asyncio.timeout(timeouts.total):
            await _chunks(handoff, answer, first)
        handoff.finish()
    except Exception as error:  # noqa: BLE001 - as above
        await handoff.put(error_event(error_reply(error, secrets)))
        handoff.finish(BrokenReply("the upstream broke off"))
    finally:
        await _close(answer)


async def _chunks(handoff: Handoff, answer: Any, chunk: Any) -> None:
    while chunk is not None:
        dumped = chunk.model_dump(exclude_none=True)
        if _invented_end(answer, dumped):
            raise BrokenReply("the stream ended without a finish reason")
        await handoff.put(chunk_bytes(dumped))
        chunk = await anext(answer, None)
    await handoff.put(DONE)


def _invented_end(answer: Any, dumped: Mapping[str, Any]) -> bool:
    """Whether litellm says "stop" of its own accord, because the provider's stream just ended.

    https://github.com/BerriAI/litellm/issues/33404 and 40260.
    """
    said = getattr(answer, "received_finish_reason", "") or getattr(answer, "intermittent_finish_reason", "")
    return said is None and any(choice.get("finish_reason") for choice in dumped.get("choices") or [])


async def _close(answer: Any) -> None:
    """Close a stream and the connection below it, wherever it was left.

    Several of litellm's iterators (Anthropic's among them) do not close what they read from when
    they are left between two chunks: https://github.com/BerriAI/litellm/issues/30244 and 36123.
    """
    responses = list(_responses(getattr(answer, "completion_stream", None)))
    await answer.aclose()
    for response in responses:
        await response.aclose()


def _responses(source: Any, depth: int = 4) -> Iterator[Any]:
    """The HTTP responses (httpx's) at the bottom of iterators of iterators."""
    if source is None or not depth:
        return
    if hasattr(source, "is_stream_consumed"):
        yield source
        return
    frame = getattr(source, "ag_frame", None)
    inner = list(frame.f_locals.values()) if frame else [getattr(source, name, None) for name in _INNER]
    for thing in inner:
        yield from _responses(thing, depth - 1)
