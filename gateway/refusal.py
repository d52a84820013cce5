"""Errors that the gateway itself answers with, in the shape OpenAI's clients read."""

import msgspec
from aiohttp import web


class Refusal(Exception):
    """A request that the gateway answers itself: HTTP status, a stable code, one clear line."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


def refusal_reply(refusal: Refusal) -> web.Response:
    """`{"error": {...}}` as OpenAI writes it; `type` says that it was the gateway."""
    error = {"message": f"trueclock: {refusal}", "type": "trueclock_error", "param": None, "code": refusal.code}
    return web.Response(
        status=refusal.status, body=msgspec.json.encode({"error": error}), content_type="application/json"
    )
