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
_ZLIB_HEADER = 2
_GZIP_MAGIC = b"\x1f\x8b"


class UndecodableBody(ValueError):
    """A body that is not in the coding it names, in one unknown here, or larger than the limit once decoded."""


class Decoder(Protocol):
    """Decodes one coding: compressed bytes in, plain bytes out, as they come."""

    def feed(self, data: bytes) -> bytes:
        """Return what `data` adds to the plain body; raise UndecodableBody."""


class _Coding(Protocol):
    """One coding's decompressor: at most `_SLICE` bytes a step."""

    def step(self, data: bytes) -> tuple[bytes, bytes, bool]:
        """Return plain bytes, the input left to be given again, and whether there is more to come without input."""


class _Zlib:
    """gzip (one member or several), and deflate as zlib or, as some servers send it, raw."""

    def __init__(self, *, gzip: bool) -> None:
        self._gzip = gzip
        self._start = b""
        self._inner = zlib.decompressobj(zlib.MAX_WBITS | 16) if gzip else None

    def step(self, data: bytes) -> tuple[bytes, bytes, bool]:
        if self._inner is None:
            data = self._start + data
            if len(data) < _ZLIB_HEADER:
                self._start = data
                return b"", b"", False
            self._inner = zlib.decompressobj(zlib.MAX_WBITS if _is_zlib(data) else -zlib.MAX_WBITS)
        if self._inner.eof:
            if not self._gzip or not data.startswith(_GZIP_MAGIC[: len(data)]):
                return b"", b"", False  # padding
            self._inner = zlib.decompressobj(zlib.MAX_WBITS | 16)
        plain = self._inner.decompress(data, _SLICE)
        left = self._inner.unused_data or self._inner.unconsumed_tail
        return plain, left, bool(left) or (len(plain) == _SLICE and not self._inner.eof)


def _is_zlib(data: bytes) -> bool:
    """Whether a deflate body begins with the header that it ought to have (RFC 1950)."""
    return data[0] & 15 == zlib.DEFLATED and (data[0] << 8 | data[1]) % 31 == 0


class _Brotli:
    def __init__(self) -> None:
        self._inner = brotli.Decompressor()

    def step(self, data: bytes) -> tuple[bytes, bytes, bool]:
        plain: bytes = self._inner.process(data, output_buffer_limit=_SLICE)
        return plain, b"", not self._inner.can_accept_more_data()


class _Zstd:
    """zstd, one frame or several."""

    def __init__(self) -> None:
        self._inner = zstd.ZstdDecompressor()

    def step(self, data: bytes) -> tuple[bytes, bytes, bool]:
        if self._inner.eof:
            self._inner = zstd.ZstdDecompressor()
        plain = self._inner.decompress(data, _SLICE)
        left = self._inner.unused_data if self._inner.eof else b""
        return plain, left, bool(left) or not (self._inner.needs_input or self._inner.eof)


class _Bounded:
    """Steps until the coding wants more input, or one feed passes the limit; after a failure it only fails."""

    def __init__(self, coding: _Coding, limit: int) -> None:
        self._coding = coding
        self._limit = limit
        self._failed: str | None = None

    def feed(self, data: bytes) -> bytes:
        parts, left, more = [], self._limit, self._failed is None
        while more:
            try:
                plain, data, more = self._coding.step(data)
            except (zlib.error, brotli.error, zstd.ZstdError):
                self._failed = "the body is not in the coding it names"
                break
            parts.append(plain)
            left -= len(plain)
            if left < 0:
                self._failed = "the decoded body is larger than the limit"
                break
        if self._failed is not None:
            raise UndecodableBody(self._failed)
        return b"".join(parts)


def decoder(coding: str, limit: int) -> Decoder | None:
    """A decoder for a Content-Encoding that yields at most `limit` bytes a feed; None for identity.

    Raises UndecodableBody for a coding (or a chain of codings) that is not known here.
    """
    coding = coding.strip().lower()
    if coding in ("", "identity"):
        return None
    if coding in ("gzip", "x-gzip"):
        return _Bounded(_Zlib(gzip=True), limit)
    if coding == "deflate":
        return _Bounded(_Zlib(gzip=False), limit)
    if coding == "br":
        return _Bounded(_Brotli(), limit)
    if coding == "zstd":
        return _Bounded(_Zstd(), limit)
    raise UndecodableBody(f"the coding {coding[:40]!r} is not known here")


def decoded(body: bytes, coding: str, limit: int) -> bytes:
    """Decode a whole body; raise UndecodableBody when that cannot be done within `limit` bytes."""
    inner = decoder(coding, limit)
    return body if inner is None else inner.feed(body)
