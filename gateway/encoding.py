"""Content codings of bodies: bounded, incremental decoding of gzip, deflate, br and zstd."""

import sys
import zlib
from typing import Protocol

import brotli

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_SLICE = 1 << 16


class UndecodableBody(ValueError):
    """A body that is not in the coding it names, in one unknown here, or larger than the limit once decoded."""


class Decoder(Protocol):
    """Decodes one coding: compressed bytes in, plain bytes out, as they come."""

    def feed(self, data: bytes) -> bytes:
        """Return what `data` adds to the plain body; raise UndecodableBody."""


class _Zlib:
    """gzip (31), and deflate as zlib (15) or, as some servers send it, raw (-15)."""

    def __init__(self, window: int, limit: int) -> None:
        self._inner = zlib.decompressobj(window)
        self._raw_allowed = window == zlib.MAX_WBITS
        self._left = limit

    def feed(self, data: bytes) -> bytes:
        try:
            plain = self._inner.decompress(data, self._left + 1)
        except zlib.error:
            if not self._raw_allowed:
                raise UndecodableBody("the body is not in the coding it names") from None
            self._inner, self._raw_allowed = zlib.decompressobj(-zlib.MAX_WBITS), False
            return self.feed(data)
        self._raw_allowed = False
        self._left -= len(plain)
        if self._left < 0:
            raise UndecodableBody("the decoded body is larger than the limit")
        return plain


class _Bounded:
    """br and zstd: both give at most so many bytes a call, and are asked again until they want more input."""

    def __init__(self, coding: str, limit: int) -> None:
        self._brotli = brotli.Decompressor() if coding == "br" else None
        self._zstd = None if coding == "br" else zstd.ZstdDecompressor()
        self._left = limit

    def _step(self, data: bytes) -> tuple[bytes, bool]:
        if self._brotli is not None:
            plain: bytes = self._brotli.process(data, output_buffer_limit=_SLICE)
            return plain, not self._brotli.can_accept_more_data()
        assert self._zstd is not None
        if self._zstd.eof:
            return b"", False
        plain = self._zstd.decompress(data, _SLICE)
        return plain, not self._zstd.needs_input and not self._zstd.eof

    def feed(self, data: bytes) -> bytes:
        parts, more = [], True
        while more:
            try:
                plain, more = self._step(data)
            except (brotli.error, zstd.ZstdError):
                raise UndecodableBody("the body is not in the coding it names") from None
            data = b""
            parts.append(plain)
            self._left -= len(plain)
            if self._left < 0:
                raise UndecodableBody("the decoded body is larger than the limit")
        return b"".join(parts)


def decoder(coding: str, limit: int) -> Decoder | None:
    """A decoder for a Content-Encoding that yields at most `limit` bytes; None for identity.

    Raises UndecodableBody for a coding (or a chain of codings) that is not known here.
    """
    coding = coding.strip().lower()
    if coding in ("", "identity"):
        return None
    if coding in ("gzip", "x-gzip"):
        return _Zlib(zlib.MAX_WBITS | 16, limit)
    if coding == "deflate":
        return _Zlib(zlib.MAX_WBITS, limit)
    if coding in ("br", "zstd"):
        return _Bounded(coding, limit)
    raise UndecodableBody(f"the coding {coding[:40]!r} is not known here")


def decoded(body: bytes, coding: str, limit: int) -> bytes:
    """Decode a whole body; raise UndecodableBody when that cannot be done within `limit` bytes."""
    inner = decoder(coding, limit)
    return body if inner is None else inner.feed(body)
