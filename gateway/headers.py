"""Headers on their way through: which pass, who is calling, and what `x-trueclock-*` says."""

import fcntl
import os
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path

from multidict import CIMultiDictProxy

from gateway.recorder import Labels
from gateway.routes import Upstream
from gateway.trace_context import trace_parent_of
from stream.outcomes import fitting_name

HOP_BY_HOP = frozenset({
    b"connection", b"keep-alive", b"proxy-connection", b"proxy-authenticate", b"proxy-authorization",
    b"te", b"trailer", b"trailers", b"transfer-encoding", b"upgrade",
})  # fmt: skip
"""Headers that speak of one connection only (RFC 9110, 7.6.1)."""
_NOT_SENT = HOP_BY_HOP | {b"host", b"content-length", b"expect"}
_KEY_HEADERS = ("Authorization", "x-api-key", "api-key", "x-goog-api-key")
_SCHEME = re.compile(r"\s*bearer\s+", re.IGNORECASE)
_SALT_BYTES = 32
_MAX_TAGS = 32
_MAX_TEXT = 128

RawHeaders = Sequence[tuple[bytes, bytes]]


def to_upstream(headers: RawHeaders, upstream: Upstream, *, identity: bool) -> list[tuple[bytes, bytes]]:
    """The request's headers as the upstream gets them: in order, byte for byte.

    Connection headers, Host, Content-Length and `x-trueclock-*` stay here; with `identity` no compressed reply
    is asked for; the upstream's configured key and headers take the place of the caller's.
    """
    own, dropped = _configured(upstream.api_key, upstream.headers, identity)
    sent = _passing(headers, dropped)
    sent.extend(own)
    return sent


@lru_cache(maxsize=256)
def _configured(
    key: str | None, headers: tuple[tuple[str, str], ...], identity: bool
) -> tuple[list[tuple[bytes, bytes]], frozenset[bytes]]:
    """An upstream's own headers, and those of a request that do not go there."""
    own = [(name.encode(), value.encode()) for name, value in headers]
    if key is not None:
        own.append((b"Authorization", b"Bearer " + key.encode()))
    if identity:
        own.append((b"Accept-Encoding", b"identity"))
    return own, _NOT_SENT | {name.lower() for name, _ in own}


def to_client(headers: RawHeaders, *, plain: bool, resized: bool) -> list[tuple[bytes, bytes]]:
    """The reply's headers as the client gets them: in order, byte for byte, without those of the connection.

    `plain`: the body was decoded on its way; `resized`: its length changes.
    """
    dropped = HOP_BY_HOP
    if plain:
        dropped |= {b"content-encoding"}
    if plain or resized:
        dropped |= {b"content-length"}
    return _passing(headers, dropped, ours=b"")


def _passing(
    headers: RawHeaders, dropped: frozenset[bytes], ours: bytes = b"x-trueclock-"
) -> list[tuple[bytes, bytes]]:
    """The headers that pass, in one go: this runs twice a request."""
    passing, named = [], b""
    for pair in headers:
        low = pair[0].lower()
        if low in dropped:
            if low == b"connection":
                named += b"," + pair[1].lower()
        elif not ours or not low.startswith(ours):
            passing.append(pair)
    if not named:
        return passing
    also = {name.strip() for name in named.split(b",")}
    return [pair for pair in passing if pair[0].lower() not in also]


class Callers:
    """Names callers without keeping their keys: a configured name, else a salted hash."""

    def __init__(self, salt: bytes, names: Mapping[str, str]) -> None:
        self._salt = salt
        self._names = names

    def with_names(self, names: Mapping[str, str]) -> "Callers":
        """The same callers, by other names."""
        return Callers(self._salt, names)

    def name(self, headers: CIMultiDictProxy[str]) -> str | None:
        """The caller of a request; None when it carries no key."""
        for header in _KEY_HEADERS:
            value = headers.get(header)
            if value:
                key = _SCHEME.sub("", value).strip()
                return self._names.get(key) or self._hash(key)
        return None

    def _hash(self, key: str) -> str:
        return "c_" + blake2b(key.encode("utf-8", "surrogateescape"), key=self._salt, digest_size=8).hexdigest()


def load_salt(data_dir: Path) -> bytes:
    """The data directory's salt, made once, readable by its owner alone."""
    descriptor = os.open(data_dir / "salt", os.O_RDWR | os.O_CREAT, 0o600)
    with os.fdopen(descriptor, "r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # of two that start together one makes it
        salt = file.read(_SALT_BYTES)
        if len(salt) < _SALT_BYTES:
            salt = os.urandom(_SALT_BYTES)
            file.seek(0)
            file.write(salt)
    return salt


def labels_of(headers: CIMultiDictProxy[str], callers: Callers) -> Labels:
    """Caller, tags, problem, strategy and trace of a request."""
    tags = headers.get("x-trueclock-tags")
    return Labels(
        caller=callers.name(headers),
        tags=_tags(tags) if tags else (),
        problem=_name(headers.get("x-trueclock-problem")),
        strategy=_name(headers.get("x-trueclock-strategy")),
        trace=trace_parent_of(headers),
    )


def _name(value: str | None) -> str | None:
    return fitting_name(value) if value else None


def _tags(value: str) -> tuple[str, ...]:
    parts = (part.strip() for part in value.split(",", _MAX_TAGS)[:_MAX_TAGS])
    return tuple(part[:_MAX_TEXT].encode("utf-8", "replace").decode() for part in parts if part)
