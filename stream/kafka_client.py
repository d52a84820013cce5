"""Clients of kafka-python, opened so that a broker that is away costs nothing and says why.

Its own way of failing to start leaves threads and sockets behind, and logs each attempt: here a socket of our own looks
first whether anybody is there, what was begun is closed again, and of its log the last word becomes the reason.
"""

import gc
import logging
import re
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from stream.kafka import KafkaSettings

__all__ = ["KafkaUnreachable", "last_word", "open_client", "reach"]

CONNECT_SECONDS = 5.0
BOOTSTRAP_SECONDS = 10.0

_Client = TypeVar("_Client")
_NOISE = re.compile(
    r"^<[^>]*>: Got error produce response on .* attempts left\): |"
    r"^<[^>]*>: |^Bootstrap \w+ to \S+ failed: |^Connection (failed|lost): | \(backoff .*\)$|\w+Error: "
)
_HANGS_UP = "it hangs up: security.protocol may not be that of its listener"
_HANGS_UP_ON_USER = "it hangs up: user or password may be wrong, or security.protocol not that of its listener"
_PLAIN = (
    ("AuthenticationFailed", "it refuses user and password (sasl.username, sasl.password, sasl.mechanism)"),
    ("CERTIFICATE_VERIFY_FAILED", "its certificate is not trusted (ssl.ca.location): "),
    ("Handshake failed", "no TLS is spoken there (security.protocol): "),
    ("socket disconnected", _HANGS_UP),
)
"""What kafka-python says, and what that means: the first are not forgotten at once when others follow from them."""
_FORGET_SECONDS = 10.0
_SAYS_NOTHING = (" not ready; waiting ", "Bootstrap failed", " in the clear")

logger = logging.getLogger("trueclock.kafka")


class KafkaUnreachable(OSError):
    """The brokers cannot be reached, or refuse us; `str(error)` is one line: who, and why."""


class _LastWord(logging.Handler):
    """Keeps what kafka-python complained of, the last or the most telling, and passes on what surprised it, once."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.clear()
        self._told: set[str] = set()

    def clear(self) -> None:
        self.text, self._rank, self._at = "", len(_PLAIN), 0.0

    def emit(self, record: logging.LogRecord) -> None:
        message = " ".join(record.getMessage().split())
        if _surprising(record) and record.msg not in self._told:
            self._told.add(record.msg)
            logger.error("%s", message, exc_info=record.exc_info)
        if any(said in message for said in _SAYS_NOTHING):
            return
        rank = next((number for number, (said, _) in enumerate(_PLAIN) if said in message), len(_PLAIN))
        if rank <= self._rank or record.created - self._at > _FORGET_SECONDS:
            self.text, self._rank, self._at = _in_plain_words(rank, message), rank, record.created


def _surprising(record: logging.LogRecord) -> bool:
    """Whether this is a fault of the library rather than of a network or a broker."""
    kind = record.exc_info[0] if record.exc_info else None
    return kind is not None and not issubclass(kind, OSError) and not kind.__module__.startswith("kafka.")


def _in_plain_words(rank: int, message: str) -> str:
    bare = _NOISE.sub("", _NOISE.sub("", message))
    if rank == len(_PLAIN):
        return bare
    plain = _PLAIN[rank][1]
    return plain + bare.rpartition("failed: ")[2] if plain.endswith(": ") else plain


_last_word = _LastWord()


def _quiet() -> None:
    library = logging.getLogger("kafka")
    if _last_word not in library.handlers:
        library.addHandler(_last_word)
        library.setLevel(logging.WARNING)
        library.propagate = False


def last_word() -> str:
    """The last complaint in kafka-python's log, on one line; "" if there was none since a client was opened."""
    return _last_word.text


def open_client(make: Callable[..., _Client], settings: KafkaSettings, **options: Any) -> _Client:
    """Make a client (KafkaProducer, KafkaAdminClient, ...) that has reached a broker; raise KafkaUnreachable.

    Blocks for `CONNECT_SECONDS` a broker and `BOOTSTRAP_SECONDS` at most.
    """
    from kafka.errors import KafkaError
    from kafka.net.compat import KafkaNetClient

    reach(settings)
    _quiet()
    _last_word.clear()
    begun: list[Any] = []

    def net_client(**config: Any) -> Any:
        begun.append(KafkaNetClient(**config))
        return begun[-1]

    try:
        return make(
            **settings.kafka_python(),
            **options,
            kafka_client=net_client,
            bootstrap_timeout_ms=BOOTSTRAP_SECONDS * 1000,
        )
    except KafkaError as error:
        for client in begun:
            with suppress(Exception):
                client.close()
        gc.collect()  # where TLS is refused, only cycles hold the sockets
        reason = _last_word.text or str(error)
        if settings.mechanism is not None and reason == _HANGS_UP:  # often it does so before kafka-python reads why
            reason = _HANGS_UP_ON_USER
        raise KafkaUnreachable(f"{settings.brokers}: {reason}") from None


def reach(settings: KafkaSettings) -> None:
    """Raise KafkaUnreachable unless one of the brokers takes a connection; blocks as long as that takes."""
    reasons = []
    for server in settings.servers:
        host, _, port = server.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
        except OSError as error:
            reasons.append(f"{server}: {error.strerror or error}")
        else:
            return
    raise KafkaUnreachable("; ".join(reasons))
