"""`gateway outcomes`: posts the outcomes of a file to a running gateway."""

import time
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from stream.command import UsageError
from stream.outcomes import InvalidOutcome, decode_outcome, split_outcomes

__all__ = ["post_outcomes"]

_PATH = "/trueclock/v1/outcomes"
_AT_ONCE = 1000
_BYTES_AT_ONCE = 1 << 19
_PATIENCE_SECONDS = 30.0


class _Error(msgspec.Struct):
    message: str


class _Refused(msgspec.Struct):
    error: _Error


def post_outcomes(path: Path, url: str) -> int:
    """Post a file's outcomes, one JSON object a line or an array of them; nothing of a file with a bad one."""
    outcomes = _read(path)
    connection, target = _destination(url)
    accepted = 0
    with closing(connection):
        for body, number in _batches(outcomes):
            try:
                _post(connection, target, body)
            except UsageError as error:
                before = f" (the {accepted} before were taken: to post all again does no harm)" if accepted else ""
                raise UsageError(f"{url}: {error}{before}") from None
            accepted += number
    print(f"{accepted} {'outcome' if accepted == 1 else 'outcomes'} accepted")
    return 0


def _read(path: Path) -> list[bytes]:
    found, now = [], time.time()
    for place, data in split_outcomes(path.read_bytes()):
        try:
            decode_outcome(data, now, now)
        except InvalidOutcome as error:
            where = f"{place}: " if place else ""
            raise UsageError(f"{path}: {where}{error}; nothing was posted") from None
        found.append(data.strip())
    if not found:
        raise UsageError(f"{path}: no outcome in it")
    return found


def _batches(outcomes: list[bytes]) -> Iterator[tuple[bytes, int]]:
    """Yield (array, its length), each of a size to be taken at once."""
    batch: list[bytes] = []
    size = 0
    for data in outcomes:
        if batch and (len(batch) == _AT_ONCE or size + len(data) > _BYTES_AT_ONCE):
            yield b"[" + b",".join(batch) + b"]", len(batch)
            batch, size = [], 0
        batch.append(data)
        size += len(data)
    yield b"[" + b",".join(batch) + b"]", len(batch)


def _destination(url: str) -> tuple[HTTPConnection, str]:
    """A connection, not yet made, and the path to post to; raise UsageError for what is no URL of a gateway."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if host is None or parts.scheme not in ("http", "https") or parts.query or parts.fragment:
        raise UsageError(f"--url {url}: expected the gateway's address, such as http://127.0.0.1:4000")
    kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    return kind(host, port, timeout=_PATIENCE_SECONDS), parts.path.rstrip("/") + _PATH


def _post(connection: HTTPConnection, target: str, body: bytes) -> None:
    try:
        connection.request("POST", target, body, {"Content-Type": "application/json"})
        reply = connection.getresponse()
        status, text = reply.status, reply.read()
    except (OSError, HTTPException) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise UsageError(f"no gateway answers there ({reason}); is it running? --url names its address") from None
    if status != 202:
        raise UsageError(f"outcomes are not taken there: {_said(text) or f'status {status}'}")


def _said(text: bytes) -> str | None:
    """What the gateway says of a refusal; None where it is no gateway's answer."""
    try:
        return msgspec.json.decode(text, type=_Refused).error.message
    except msgspec.MsgspecError:
        return None
