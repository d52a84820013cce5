"""Changes to JSON made in its bytes: everything that is not changed stays as it came.

Requests: ask for usage (`stream_options.include_usage`), give the upstream its own model name.
Replies: take out again what asking for usage added. Nothing is ever re-serialised.
"""

import re
from dataclasses import dataclass

import msgspec

from gateway.sse import data_of

_TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[{}\[\],:]', re.DOTALL)
_DEPTH = {b"{": 1, b"[": 1, b"}": -1, b"]": -1}
_SPACE = b" \t\r\n"
# White space inside a data field that is cut into several lines: a line's own `data:` belongs to the framing.
_GAP = rb"(?:[ \t\r\n]|(?<=[\r\n])data:)*"
_NULL_USAGE = re.compile(
    rb"," + _GAP + rb'"usage"' + _GAP + b":" + _GAP + b"null|"
    rb'"usage"' + _GAP + b":" + _GAP + b"null(?:" + _GAP + b"," + _GAP + b")?"
)


@dataclass(frozen=True, slots=True)
class Member:
    """One member of a JSON object: where its value begins and ends in the bytes."""

    start: int
    end: int


def members(document: bytes, start: int = 0) -> dict[bytes, Member]:
    """Find the members of the JSON object that begins at or after `start`: key (UTF-8, without quotes and
    escapes) to the place of the value. Of a key given twice the last counts, as in JSON parsers.
    `document` must be valid JSON; {} when no object begins there.
    """
    opening = document.find(b"{", start)
    if opening < 0 or document[start:opening].strip(_SPACE):
        return {}
    found: dict[bytes, Member] = {}
    depth, value_at, text, key = 0, -1, b"", b""
    for token in _TOKEN.finditer(document, opening):
        mark = token.group()
        depth += _DEPTH.get(mark, 0)
        if depth > 1 or mark in (b"[", b"]"):
            continue  # inside a value
        if mark == b":":
            key, value_at = _unescaped(text), token.end()
        elif mark == b"," or depth == 0:
            if value_at >= 0:
                found[key] = _trimmed(document, value_at, token.start())
            value_at = -1
        elif value_at < 0:
            text = mark  # a key
        if depth == 0:
            break
    return found


def _unescaped(text: bytes) -> bytes:
    return text[1:-1] if b"\\" not in text else msgspec.json.decode(text, type=str).encode("utf-8", "replace")


def _trimmed(document: bytes, start: int, end: int) -> Member:
    while start < end and document[start] in _SPACE:
        start += 1
    while end > start and document[end - 1] in _SPACE:
        end -= 1
    return Member(start, end)


def include_usage(body: bytes) -> bytes:
    """Ask for usage in a streamed request's body: `stream_options.include_usage` becomes true.

    `body` is a valid JSON object that does not ask for it yet. Options that are neither an object nor null, or
    an `include_usage` that is no boolean, stay as they are: to refuse them is the upstream's affair.
    """
    options = members(body).get(b"stream_options")
    if options is None:
        inside = body.index(b"{") + 1
        comma = b"" if body[inside:].lstrip(_SPACE).startswith(b"}") else b","
        return body[:inside] + b'"stream_options":{"include_usage":true}' + comma + body[inside:]
    if body[options.start : options.end] == b"null":
        return body[: options.start] + b'{"include_usage":true}' + body[options.end :]
    if not body.startswith(b"{", options.start):
        return body
    asked = members(body, options.start).get(b"include_usage")
    if asked is not None:
        plain = body[asked.start : asked.end] in (b"false", b"null")
        return body[: asked.start] + b"true" + body[asked.end :] if plain else body
    inside = options.start + 1
    comma = b"" if body[inside:].lstrip(_SPACE).startswith(b"}") else b","
    return body[:inside] + b'"include_usage":true' + comma + body[inside:]


def replace_model(body: bytes, model: str) -> bytes:
    """Put the upstream's own name of the model into a request's body."""
    place = members(body).get(b"model")
    if place is None:
        return body
    return body[: place.start] + msgspec.json.encode(model) + body[place.end :]


def without_null_usage(event: bytes) -> bytes:
    """Take a stream event's top-level `"usage": null` out with one comma; every other byte stays.

    The event's data is a JSON object that has this member.
    """
    if event.count(b'"usage"') == 1:
        place = event.find(b',"usage":null')
        if place >= 0:  # as OpenAI writes it
            return event[:place] + event[place + 13 :]
    places = list(_NULL_USAGE.finditer(event))
    if len(places) != 1:  # one inside something else as well: look for the one at the top
        places = [place for place in places if _at_top(event, place)]
    if not places:
        return event
    return event[: places[-1].start()] + event[places[-1].end() :]


def _at_top(event: bytes, place: re.Match[bytes]) -> bool:
    """Whether cutting `place` removes the top-level member, and nothing else."""
    rest = event[: place.start()] + event[place.end() :]
    try:
        left = msgspec.json.decode(data_of(rest))
    except msgspec.DecodeError:
        return False
    return isinstance(left, dict) and "usage" not in left
