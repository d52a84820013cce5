"""Why an endpoint's answer is no run, in one line that says what to do. Nothing in it is a secret."""

import re
from typing import Any

import msgspec

from gateway.upstream import HttpReply
from profiler.machine import MachineError

__all__ = ["EndpointError", "refused"]

_LONGEST = 200
_SECRET = re.compile(r"\b(?:sk|pk|key|gsk|hf|nvapi|xai|AIza)[-_]?[\w*.-]{8,}")
_NEVER_BETTER = frozenset({401, 403, 404})


class EndpointError(MachineError):
    """A request that gave no run: one line. `status` is the reply's, None where there was none that counts.

    `retry_after` is how many seconds the server wants to be left alone; `fatal`: no other request will do better.
    """

    def __init__(
        self, message: str, *, status: int | None = None, retry_after: float | None = None, fatal: bool = False
    ) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after
        self.fatal = fatal


def refused(host: str, model: str | None, reply: HttpReply, content: bytes, key: str | None) -> EndpointError:
    """What a reply with another status than 200 means."""
    status, after = reply.status, _retry_after(reply)
    said = _message(content, key) or reply.reason or "no reason given"
    match status:
        case 401 | 403:
            given = "the key was refused" if key else "it wants a key"
            text = f"{given} (--key-env NAME: the environment variable that holds it)"
        case 404:
            text = f"{said} (the model {model!r}: is it served there, and at this URL?)" if model else said
        case 429:
            wait = f", retry after {after:g} s" if after is not None else ""
            text = f"too many requests, or no credit left{wait}: {said}"
        case _:
            text = said
    return EndpointError(f"{host}: {status}: {text}", status=status, retry_after=after, fatal=status in _NEVER_BETTER)


def _retry_after(reply: HttpReply) -> float | None:
    for name, value in reply.raw_headers:
        if name.lower() == b"retry-after":
            text = value.decode("latin-1").strip()
            return float(text) if re.fullmatch(r"\d{1,6}(\.\d{1,6})?", text, re.ASCII) else None
    return None


def _message(content: bytes, key: str | None) -> str:
    """What the server says of an error, on one line, without what may be a key."""
    try:
        document: Any = msgspec.json.decode(content)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        document = None
    found = _first_text(document)
    if key:
        found = found.replace(key, "...")
    found = " ".join(_SECRET.sub("...", found).split())
    return "".join(char if char.isprintable() else "?" for char in found)[:_LONGEST]


def _first_text(document: Any) -> str:
    """The message in any of the forms that servers have: {"error": {"message"}}, {"error": text}, {"detail": ...}."""
    if isinstance(document, str):
        return document
    if isinstance(document, list) and document:
        return _first_text(document[0])
    if isinstance(document, dict):
        for name in ("error", "message", "detail", "msg"):
            if found := _first_text(document.get(name)):
                return found
    return ""
