"""Requests to a collector over OTLP/HTTP, and what its answers mean. They block: for a thread of its own.

OpenTelemetry's own exporter says of a batch no more than that it failed, and drops it then. Here nothing is dropped
that could still be sent, and what a collector refuses is counted.
"""

import gzip
import http.client
import io
import math
import socket
import time
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import HTTPHandler, HTTPRedirectHandler, HTTPSHandler, Request, build_opener

from stream import __version__

__all__ = ["NOT_OTLP", "Post", "Refused", "Unavailable", "one_line"]

NOT_OTLP = "answers with something that is not OTLP"
_REPLY_TYPES = frozenset({"application/x-protobuf", "application/json"})
_MOST_REPLY_BYTES = 1 << 22
_LONGEST_WAIT_SECONDS = 300.0
_MOST_TEXT = 200  # characters of what a collector says
_FAST = 1  # gzip's level
_ABOUT_THE_DATA = frozenset({400, 413, 422})
"""What says that these data are not taken, now or later; all else may pass, or be mended by somebody."""


class Unavailable(Exception):
    """It cannot be sent now; `str(error)` is one line. `wait`: seconds to wait at least, as the collector asks."""

    def __init__(self, reason: str, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.wait = wait


class Refused(Exception):
    """These data are not taken: too many at once, or malformed. `str(error)` is one line."""


class _Unfollowed(HTTPRedirectHandler):
    """A redirect is an answer like any other failure: secrets go to no other place than the configured one."""

    def redirect_request(self, *_: Any) -> None:
        return None


class _Until(io.RawIOBase):
    """What comes from a socket until a moment: that each piece comes in time says nothing of how many there are."""

    def __init__(self, source: socket.socket, raw: Any, until: float) -> None:
        """Read `raw`, which reads `source`, until `until` (monotonic); then raise TimeoutError."""
        self._source = source
        self._raw = raw
        self._until = until

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._until - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        self._source.settimeout(left)
        read: int | None = self._raw.readinto(buffer)
        return read

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Reply(http.client.HTTPResponse):
    """A reply that is there as a whole by a moment."""

    def __init__(self, until: float, sock: socket.socket, *args: Any, **options: Any) -> None:
        super().__init__(sock, *args, **options)
        self.fp = io.BufferedReader(_Until(sock, self.fp.detach(), until))


def _connection(kind: Callable[..., Any], host: str, *, timeout: float, **options: Any) -> Any:
    """A connection whose reply is to be there before `timeout` seconds from now."""
    made = kind(host, timeout=timeout, **options)
    made.response_class = partial(_Reply, time.monotonic() + timeout)
    return made


class _Http(HTTPHandler):
    def http_open(self, req: Request) -> http.client.HTTPResponse:
        return self.do_open(partial(_connection, http.client.HTTPConnection), req)


class _Https(HTTPSHandler):
    def https_open(self, req: Request) -> http.client.HTTPResponse:
        return self.do_open(partial(_connection, http.client.HTTPSConnection), req)


class Post:
    """Posts to one path of a collector."""

    def __init__(self, url: str, headers: Mapping[str, str]) -> None:
        """Send to `url`, with these headers."""
        self.url = url
        self._headers = {
            "User-Agent": f"trueclock/{__version__}",
            **headers,
            "Content-Type": "application/x-protobuf",
            "Content-Encoding": "gzip",
        }
        self._opener = build_opener(_Unfollowed, _Http, _Https)

    def send(self, body: bytes, timeout: float) -> bytes:
        """Send a message and return the reply, in protobuf or JSON, if it is there after `timeout` seconds.

        To connect, and to send, may take as long each. Raise Unavailable, Refused.
        """
        request = Request(self.url, gzip.compress(body, _FAST, mtime=0), self._headers, method="POST")  # noqa: S310 - checked
        try:
            with self._opener.open(request, timeout=timeout) as reply:
                return self._whole(reply)
        except HTTPError as error:
            with error:
                raise _meaning(error) from None
        except URLError as error:
            raise Unavailable(f"{self.url}: {_text(error.reason)}") from None
        except (OSError, http.client.HTTPException) as error:
            raise Unavailable(f"{self.url}: {_text(error)}") from None

    def _whole(self, reply: http.client.HTTPResponse) -> bytes:
        """Read a reply; raise Unavailable for one that no collector gives, or that is cut off."""
        body = reply.read(_MOST_REPLY_BYTES)
        unread = bool(reply.length) or (reply.length is None and len(body) == _MOST_REPLY_BYTES)
        if unread or (body and reply.headers.get_content_type() not in _REPLY_TYPES):
            raise Unavailable(f"{self.url}: {NOT_OTLP}")
        return body


def _meaning(error: HTTPError) -> Exception:
    reason = f"{error.url}: HTTP {error.code}"
    if error.code in _ABOUT_THE_DATA:
        return Refused(reason)
    return Unavailable(reason, _retry_after(error.headers.get("Retry-After")))


def _retry_after(value: str | None) -> float:
    """Seconds to wait, by a header that has them, or a date; 0 without a usable one."""
    if value is None:
        return 0.0
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(value).timestamp() - time.time()
        except (ValueError, OverflowError):
            return 0.0
    return min(max(seconds, 0.0), _LONGEST_WAIT_SECONDS) if math.isfinite(seconds) else 0.0


def _text(reason: object) -> str:
    return one_line(getattr(reason, "strerror", None) or str(reason) or type(reason).__name__)


def one_line(text: str) -> str:
    """What a collector says, as it can be shown on a terminal: not long, and without control characters."""
    return "".join(each if each.isprintable() else "?" for each in " ".join(text.split())[:_MOST_TEXT])
