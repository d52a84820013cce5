"""What is exported by OTLP, and where to. Plain values, and what of them is checked wherever they come from."""

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

__all__ = ["OtlpSettings", "checked_endpoint", "checked_header"]

_SIGNAL_PATH = re.compile(r"/v1/(traces|metrics|logs)/?$")
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")  # what HTTP lets a header hold
_OURS = frozenset({"content-type", "content-encoding", "content-length", "host", "transfer-encoding", "connection"})


@dataclass(frozen=True)
class OtlpSettings:
    """What is exported, and where to.

    `endpoint` is the base URL, to which `/v1/traces` and `/v1/metrics` are added; "" until it is known. `sample_ratio`
    is the share of requests that become spans, of those whose caller's trace does not decide. `resource` has what the
    environment says of who exports. `began` (seconds since 1970) is when the gateway was told to: what its log held
    before that is not exported.
    """

    endpoint: str = ""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    spans: bool = True
    metrics: bool = True
    metric_interval_seconds: float = 60.0
    sample_ratio: float = 1.0
    resource: Mapping[str, str] = field(default_factory=dict)
    began: float = field(default_factory=time.time, compare=False)


def checked_endpoint(text: str) -> str:
    """A base URL as it is used; raise ValueError, which does not quote it: it may hold a secret all the same."""
    try:
        parts = urlsplit(text)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("expected the URL of a collector, such as http://127.0.0.1:4318")
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise ValueError("expected a URL without user, query and fragment: what identifies you goes into `headers`")
    if _SIGNAL_PATH.search(parts.path):
        raise ValueError("expected the base URL: /v1/traces and /v1/metrics are added to it")
    return text.rstrip("/")


def checked_header(name: str, value: str) -> tuple[str, str]:
    """A header as it is sent; raise ValueError, which does not quote the value."""
    if not _NAME.fullmatch(name) or name.lower() in _OURS:
        raise ValueError("no name of a header that can be set")
    if not _VALUE.fullmatch(value):
        raise ValueError(f"the value of {name} cannot be sent in a header")
    return name, value
