"""W3C trace context: which trace a request belongs to, as its `traceparent` says. Pure.

The header itself goes on to the upstream as it came, and so does `tracestate`, of which nothing is kept.
"""

import re
from typing import NamedTuple

from multidict import CIMultiDictProxy

__all__ = ["TraceParent", "trace_headers", "trace_parent", "trace_parent_of"]

_FORM = re.compile(r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_SAMPLED = 1  # the lowest bit of the flags


class TraceParent(NamedTuple):
    """The caller's trace (32 hexadecimal digits), its span (16), and whether it records that trace."""

    trace_id: str
    span_id: str
    sampled: bool


def trace_parent(value: str) -> TraceParent | None:
    """Read a `traceparent`; None for one that is malformed, which is to be ignored.

    Of a version later than 00 the same four parts count, whatever follows them.
    """
    found = _FORM.fullmatch(value)
    if found is None or (found[1] == "00" and found[5] is not None):
        return None
    return TraceParent(found[2], found[3], bool(int(found[4], 16) & _SAMPLED))


def trace_parent_of(headers: CIMultiDictProxy[str]) -> TraceParent | None:
    """Read that of a request; None where there is none, or more than one."""
    value = headers.get("traceparent")
    if value is None or len(headers.getall("traceparent")) > 1:
        return None
    return trace_parent(value)


def trace_headers(headers: CIMultiDictProxy[str]) -> dict[str, str]:
    """The two headers of a request's trace, for one that is made anew; none where there is no valid `traceparent`.

    What is not ASCII stays behind: clients refuse to write it.
    """
    if trace_parent_of(headers) is None:
        return {}
    found = {name: ",".join(headers.getall(name, ())) for name in ("traceparent", "tracestate")}
    return {name: value for name, value in found.items() if value and value.isascii()}
