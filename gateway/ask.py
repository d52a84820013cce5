"""What a request asks for: read once from its body, which goes on untouched."""

from dataclasses import dataclass
from typing import Any

import msgspec

from gateway.encoding import UndecodableBody, decoded

USAGE_ROUTES = frozenset({"/v1/chat/completions", "/v1/completions"})
"""Where OpenAI's dialect takes `stream_options.include_usage`."""
KNOWN_ROUTES = USAGE_ROUTES | {"/v1/embeddings", "/v1/models", "/v1/responses", "/v1/messages"}
GENERATION_ROUTES = KNOWN_ROUTES - {"/v1/models"}
"""Where a request has prompt tokens."""
LARGE_BODY = 1 << 18
"""Bytes above which reading a body takes over half a millisecond: done off the loop."""
MAX_CHOICES = 10**6


class _Body(msgspec.Struct):
    model: Any = None
    stream: Any = None
    n: Any = None
    stream_options: Any = None


_decode = msgspec.json.Decoder(_Body).decode


@dataclass(frozen=True, slots=True)
class Ask:
    """A request's model, whether it streams, how many choices it wants, and whether it asked for usage."""

    model: str | None = None
    stream: bool = False
    choices: int | None = None
    include_usage: bool = False


NOTHING = Ask()


def read_ask(body: bytes, coding: str, limit: int) -> Ask:
    """Read a request body. One that is no JSON object (a form, an upload, a typing slip) asks for nothing here."""
    try:
        if coding:
            body = decoded(body, coding, limit)
        if not body.lstrip(b" \t\r\n").startswith(b"{"):
            return NOTHING
        said = _decode(body)
    except (UndecodableBody, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return NOTHING
    options = said.stream_options
    return Ask(
        model=said.model if isinstance(said.model, str) and said.model else None,
        stream=said.stream is True,
        choices=_choices(said.n),
        include_usage=isinstance(options, dict) and options.get("include_usage") is True,
    )


def _choices(n: Any) -> int | None:
    return n if isinstance(n, int) and not isinstance(n, bool) and 0 < n <= MAX_CHOICES else None


def route_of(path: str) -> str:
    """The path as events show it: known ones whole, others cut after two segments (the rest may be an id)."""
    if path in KNOWN_ROUTES:
        return path
    parts = [part[:40] for part in path.split("/") if part]
    return "/" + "/".join(parts[:2]) + ("/…" if len(parts) > 2 else "")
