"""The gateway's own paths: the page at `/`, `/metrics`, `/health/…` and `/trueclock/v1/…`."""

from collections.abc import Callable, Mapping
from importlib.resources import files
from typing import Any

import msgspec
from aiohttp import web
from aiohttp.web_request import BaseRequest

from gateway.api import PREFIX, Api
from gateway.control import STOPPED, Control
from gateway.outcomes import OUTCOMES_PATH, read_outcomes
from gateway.refusal import Refusal

_TEXT = "text/plain; version=0.0.4; charset=utf-8"
_PAGE_FILES = (
    "page.css", "charts.css", "costs.css", "page.js", "advice.js", "api.js", "colours.js", "cost-sources.js",
    "costs.js", "dom.js", "failures.js", "inspector.js", "lists.js", "models.js", "points.js", "request-costs.js",
    "scatter.js", "scatter-scale.js", "settings.js", "strategies.js", "strategy-plot.js", "timeline.js", "units.js",
    "verdict.js", "waterfall.js",
    "vendor/uplot-1.6.32/uPlot.iife.min.js", "vendor/uplot-1.6.32/uPlot.min.css",
)  # fmt: skip
_PAGE = {"/": "index.html"} | {f"/trueclock/v1/page/{name}": name for name in _PAGE_FILES}
_KINDS = {"html": "text/html", "js": "text/javascript", "css": "text/css"}
_FRESH = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
_POLICY = "default-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


def is_health(path: str) -> bool:
    """Whether a path is served on every address."""
    return path.startswith("/health/")


def is_own(path: str) -> bool:
    """Whether a path is the gateway's own; every other path is an upstream's."""
    return path in ("/", "/metrics", "/trueclock") or path.startswith(("/health/", "/trueclock/"))


class OwnPaths:
    """Answers on the gateway's own paths.

    `notes` says what a demo replays; None when the traffic is real. `address` is the URL that apps are to use.
    """

    def __init__(self, control: Control, notes: Callable[[], Mapping[str, Any]] | None = None) -> None:
        self._control = control
        self._api = Api(control, notes)
        self._files: dict[str, bytes] = {}

    @property
    def address(self) -> str:
        """The URL that apps are to use."""
        return self._api.address

    @address.setter
    def address(self, url: str) -> None:
        self._api.address = url

    async def answer(self, request: BaseRequest, path: str, query: str) -> web.Response:
        """Answer one request for `path` and its query; raises Refusal for what is not there."""
        if path == OUTCOMES_PATH:
            return await self._outcomes(request)
        if request.method not in ("GET", "HEAD"):
            raise Refusal(405, "method_not_allowed", f"{path} answers GET", allow="GET, HEAD")
        if path == "/health/ready" and self._control.stopped:
            return web.Response(status=503, body=f"{STOPPED}\n".encode(), content_type="text/plain")
        if path in ("/health/live", "/health/ready"):
            return web.Response(body=b"ok\n", content_type="text/plain")
        if path == "/metrics":
            return web.Response(body=await self._control.exposition(), headers={"Content-Type": _TEXT})
        if path in _PAGE:
            return self._page(path)
        if path.startswith(PREFIX):
            figures = await self._api.answer(path, query)
            if figures is not None:
                return web.Response(body=figures, content_type="application/json", headers=_FRESH)
        raise Refusal(404, "not_found", f"{path[:80]} is not one of the gateway's own paths")

    async def _outcomes(self, request: BaseRequest) -> web.Response:
        accepted = await self._control.outcomes.post(await read_outcomes(request))
        body = msgspec.json.encode({"accepted": accepted})
        return web.Response(status=202, body=body, content_type="application/json", headers=_FRESH)

    def _page(self, path: str) -> web.Response:
        name = _PAGE[path]
        kind = _KINDS[name.rpartition(".")[2]]
        if name not in self._files:
            self._files[name] = (files("gateway") / "page" / name).read_bytes()
        headers = {"Content-Security-Policy": _POLICY, "X-Content-Type-Options": "nosniff"}
        return web.Response(body=self._files[name], content_type=kind, charset="utf-8", headers=headers)
