"""The handler of one listening address: guard, own paths, proxy."""

from typing import Protocol

from aiohttp import web
from aiohttp.web_request import BaseRequest

from gateway.guard import Guard
from gateway.own_paths import is_health, is_own
from gateway.proxy import Proxy
from gateway.refusal import Refusal, refusal_reply
from gateway.target import origin_form

__all__ = ["Answering", "Front"]


class Answering(Protocol):
    """Whatever answers on own paths: here, or in another process."""

    async def answer(self, request: BaseRequest, path: str, query: str) -> web.StreamResponse:
        """Answer one request for `path` and its query; raises Refusal for what is not there."""


class Front:
    """Where `proxy` is None only own paths are served; where they are `apart`, only /health of those is."""

    def __init__(self, proxy: Proxy | None, own: Answering, guard: Guard, *, apart: bool = False) -> None:
        self._proxy = proxy
        self._own = own
        self._guard = guard
        self._apart = apart

    async def handle(self, request: BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        path, _, query = (origin_form(request.raw_path) or "").partition("?")
        try:
            self._guard.check(request)
            if is_own(path):
                return await self._answer(request, path, query)
            if self._proxy is None:
                raise Refusal(404, "not_found", "this address serves the gateway's own paths alone")
        except Refusal as refusal:
            return refusal_reply(refusal)
        return await self._proxy.handle(request)

    async def _answer(self, request: BaseRequest, path: str, query: str) -> web.StreamResponse:
        if self._apart and not is_health(path):
            raise Refusal(404, "not_found", "page, /metrics and /trueclock are served on the --admin address")
        if request.method == "POST":
            self._guard.check_change(request)
        return await self._own.answer(request, path, query)
