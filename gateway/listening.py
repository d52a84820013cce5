"""The HTTP servers of a process, and the sockets of addresses that several processes serve."""

import asyncio
import logging
import socket
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import Any

from aiohttp import web
from aiohttp.web_request import BaseRequest

from gateway.settings import StartError
from stream.hosts import url_of

__all__ = ["BACKLOG", "Servers", "free_port", "shared_sockets"]

BACKLOG = 1024
_LINE = 1 << 16
_TRIES = 10
_silent = logging.getLogger("trueclock.http")  # what aiohttp says of malformed HTTP would quote it
_silent.setLevel(logging.CRITICAL + 1)

Handler = Callable[[BaseRequest], Any]


class Servers:
    """The HTTP servers of a process. Requests in flight have `grace_seconds` when it is to end."""

    def __init__(self, grace_seconds: float) -> None:
        self._grace = grace_seconds
        self._runners: list[web.ServerRunner] = []

    async def listen(self, handler: Handler, host: str, port: int) -> str:
        """Bind an address (port 0: a free one) and serve it; its URL. Raises StartError."""
        runner = await self._runner(handler)
        site = web.TCPSite(runner, host.strip("[]"), port, backlog=BACKLOG)
        try:
            await site.start()
        except OSError as error:
            reason = (error.strerror or "").rpartition(": ")[2]  # asyncio's own repeats the address
            raise _not_bound(host, port, reason) from None
        return url_of(host, runner.addresses[0][1])

    async def serve(self, handler: Handler, sockets: Iterable[socket.socket]) -> None:
        """Serve sockets that are bound already."""
        runner = await self._runner(handler)
        for each in sockets:
            await web.SockSite(runner, each, backlog=BACKLOG).start()

    async def _runner(self, handler: Handler) -> web.ServerRunner:
        server = web.Server(
            handler,
            handler_cancellation=True,  # what makes aiohttp cancel the upstream when the client leaves
            auto_decompress=False,
            access_log=None,
            logger=_silent,
            max_line_size=_LINE,
            max_field_size=_LINE,
        )
        runner = web.ServerRunner(server, shutdown_timeout=self._grace)
        await runner.setup()
        self._runners.append(runner)
        return runner

    async def finish(self, abandon: Callable[[], None]) -> None:
        """Stop accepting; let requests in flight finish within the grace time, then `abandon` those left."""
        finishing = asyncio.gather(*(runner.cleanup() for runner in self._runners))
        await asyncio.wait([finishing], timeout=self._grace)
        abandon()
        await finishing

    async def close(self) -> None:
        """Close what is open."""
        for runner in self._runners:
            await runner.cleanup()


def free_port(host: str, port: int) -> int:
    """The port, once nobody else listens on it: SO_REUSEPORT would share it unsaid. A free one for 0.

    Raises StartError.
    """
    for left in reversed(range(_TRIES)):
        try:
            return _tried(host, port)
        except OSError as error:
            if port or not left:
                raise _not_bound(host, port, error.strerror or str(error)) from None
    raise AssertionError


def _tried(host: str, port: int) -> int:
    """Listen for a moment at every address of a host, on the same port."""
    with ExitStack() as opened:
        for family, address in _addresses(host):
            bound = opened.enter_context(_bound(family, (address[0], port, *address[2:]), shared=False))
            bound.listen(1)
            port = bound.getsockname()[1]
    return port


def shared_sockets(host: str, port: int) -> list[socket.socket]:
    """Sockets bound to an address that others of this gateway bind too; connections go to those that listen.

    Raises StartError.
    """
    with ExitStack() as opened:
        try:
            sockets = [
                opened.enter_context(_bound(family, (address[0], port, *address[2:]), shared=True))
                for family, address in _addresses(host)
            ]
        except OSError as error:
            raise _not_bound(host, port, error.strerror or str(error)) from None
        opened.pop_all()
    return sockets


def _addresses(host: str) -> list[tuple[int, tuple[Any, ...]]]:
    found = socket.getaddrinfo(host.strip("[]"), 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return list(dict.fromkeys((family, address) for family, _, _, _, address in found))


def _bound(family: int, address: tuple[Any, ...], *, shared: bool) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # closed connections of before are no hindrance
        if shared:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind(address)
    except BaseException:
        made.close()
        raise
    return made


def _not_bound(host: str, port: int, reason: str) -> StartError:
    return StartError(f"cannot listen on {host}:{port}: {reason}; choose another --host, --port or --admin")
