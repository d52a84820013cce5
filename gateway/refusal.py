"""Errors that the gateway itself answers with, in the shape OpenAI's clients read."""

import msgspec
from aiohttp import web


class Refusal(Exception):
    """A request that the gateway answers itself: HTTP status, a stable code, one clear line.

    `allow`: the methods that would do, with status 405.
    """

    def __init__(self, status: int, code: str, message: str, allow: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.allow = allow


def refusal_reply(refusal: Refusal) -> web.Response:
    """`{"error": {...}}` as OpenAI writes it; `type` says that it was the gateway."""
    error = {"message": f"trueclock: {refusal}", "type": "trueclock_error", "param": None, "code": refusal.code}
    headers = {"Allow": refusal.allow} if refusal.allow else {}
    return web.Response(
        status=refusal.status,
        body=msgspec.json.encode({"error": error}),
        headers=headers,
        content_type="application/json",
    )
