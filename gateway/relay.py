"""Own paths that a worker is asked for: passed on to the control process, and its reply passed back as it is."""

import asyncio

from aiohttp import web
from aiohttp.web_request import BaseRequest

from gateway.client_reply import ClientReply
from gateway.headers import to_client
from gateway.outcomes import OUTCOMES_PATH, read_outcomes
from gateway.upstream import Pool, Reply, UpstreamError

__all__ = ["Relay"]

_CONNECT_SECONDS = 2.0
_ANSWER_SECONDS = 30.0
_AWAY = "the control process does not answer just now: requests go on meanwhile; try again in a moment"


class Relay:
    """Answers on own paths from another process, at `url` on loopback."""

    def __init__(self, url: str) -> None:
        self._pool = Pool(url, _CONNECT_SECONDS)

    async def answer(self, request: BaseRequest, path: str, query: str) -> web.StreamResponse:
        """Answer one request for `path` and its query: /health/live from here, 503 while nobody else is there."""
        if path == "/health/live" and request.method in ("GET", "HEAD"):
            return web.Response(body=b"ok\n", content_type="text/plain")
        body = await read_outcomes(request) if path == OUTCOMES_PATH else b""
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                reply = await self._ask(request.method, f"{path}?{query}" if query else path, body)
        except (UpstreamError, TimeoutError):
            return web.Response(status=503, body=f"{_AWAY}\n".encode(), content_type="text/plain")
        try:
            return await _passed_on(request, reply)
        finally:
            reply.close()

    async def _ask(self, method: str, target: str, body: bytes) -> Reply:
        try:
            return await self._pool.send(method, target, [], body)
        except UpstreamError as error:
            if not error.on_old_connection:
                raise
            # It was of the control process before. Outcomes too may be sent twice: of each the last one counts.
            return await self._pool.send(method, target, [], body)

    async def close(self) -> None:
        """Close the connections to the control process."""
        await self._pool.close()


async def _passed_on(request: BaseRequest, reply: Reply) -> ClientReply:
    headers = to_client(reply.raw_headers, plain=False, resized=False)
    sized = any(name.lower() == b"content-length" for name, _ in headers)
    client = ClientReply(request, reply.status, reply.reason, headers, sized=sized)
    try:
        while data := await reply.next_bytes():
            await client.write(data)
    except UpstreamError:
        return await client.break_off(b"")
    await client.write_eof()
    return client
