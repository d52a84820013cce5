"""The gateway's own paths: the page at `/`, `/metrics`, `/health/…` and `/trueclock/v1/…`."""

from collections.abc import Callable
from importlib.resources import files
from typing import Any

import msgspec
from aiohttp import web
from aiohttp.web_request import BaseRequest

from gateway.control import STOPPED, Control
from gateway.refusal import Refusal
from stream.events import EnrichedEvent, encode_enriched

_TEXT = "text/plain; version=0.0.4; charset=utf-8"
_PAGE = {
    "/": ("index.html", "text/html"),
    "/trueclock/v1/page.js": ("page.js", "text/javascript"),
    "/trueclock/v1/page.css": ("page.css", "text/css"),
}
_POLICY = "default-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
_BRIEF = (
    "id", "ended_at", "upstream", "model", "stream", "status", "error_class", "prompt_tokens", "completion_tokens",
    "raw_runtime_seconds", "idealized_runtime_seconds", "slowdown", "coverage", "uncovered_reason", "exclusion_reason",
)  # fmt: skip


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

    def __init__(self, control: Control, notes: Callable[[], dict[str, Any]] | None = None) -> None:
        self._control = control
        self._notes = notes
        self._files: dict[str, bytes] = {}
        self.address = ""

    async def answer(self, request: BaseRequest, path: str) -> web.Response:
        """Answer one request for `path` (without its query); raises Refusal for what is not there."""
        if request.method not in ("GET", "HEAD"):
            raise Refusal(405, "method_not_allowed", f"{path} answers GET")
        if path == "/health/ready" and self._control.stopped:
            return web.Response(status=503, body=f"{STOPPED}\n".encode(), content_type="text/plain")
        if path in ("/health/live", "/health/ready"):
            return web.Response(body=b"ok\n", content_type="text/plain")
        if path == "/metrics":
            return web.Response(body=await self._control.exposition(), headers={"Content-Type": _TEXT})
        if path == "/trueclock/v1/summary":
            return web.Response(body=msgspec.json.encode(self.summary()), content_type="application/json")
        if path in _PAGE:
            return self._page(path)
        raise Refusal(404, "not_found", f"{path[:80]} is not one of the gateway's own paths")

    def summary(self) -> dict[str, Any]:
        """What the page shows: sums by model, the latest requests, the log's state, and what is replayed."""
        return {
            **self._control.stream.summary(),
            "recent": [_brief(event) for event in reversed(self._control.stream.recent)],
            "in_flight": self._control.active(),
            "log": self._control.log_status(),
            "address": self.address,
            "version": self._control.version,
            "demo": self._notes() if self._notes else None,
        }

    def _page(self, path: str) -> web.Response:
        name, kind = _PAGE[path]
        if name not in self._files:
            self._files[name] = (files("gateway") / "page" / name).read_bytes()
        headers = {"Content-Security-Policy": _POLICY, "X-Content-Type-Options": "nosniff"}
        return web.Response(body=self._files[name], content_type=kind, charset="utf-8", headers=headers)


def _brief(event: EnrichedEvent) -> dict[str, Any]:
    whole = msgspec.json.decode(encode_enriched(event))
    return {name: whole.get(name) for name in _BRIEF}
