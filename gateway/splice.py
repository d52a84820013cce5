"""Changes to JSON made in its bytes: everything that is not changed stays as it came.

Requests: ask for usage (`stream_options.include_usage`), give the upstream its own model name.
Replies: take out again what asking for usage added. Nothing is ever re-serialised.
"""

import re
from contextlib import suppress
from dataclasses import dataclass

import msgspec

from gateway.sse import data_of

UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What decoding other people's JSON raises; the second also where a typed decoder has let a string pass unread."""

_SPACE = b" \t\r\n"
_STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_KEY = re.compile(rb"[ \t\r\n,]*+(" + _STRING + rb")[ \t\r\n]*+:[ \t\r\n]*+", re.DOTALL)
_EMPTY = re.compile(rb"[ \t\r\n]*+}")
_SCALAR = re.compile(_STRING + rb"|[^ \t\r\n,\]}]*+", re.DOTALL)
# All up to a bracket that stands in no string: a list of a million numbers costs hardly any Python. Not in one
# step, though, as each holds the interpreter's lock for as long as it takes.
_STEP = re.compile(rb'(?:[^"\[\]{}]{1,65536}+|' + _STRING + rb"){1,8}+[\[\]{}]?|[\[\]{}]", re.DOTALL)
_DEPTH = {b"{": 1, b"[": 1, b"}": -1, b"]": -1}
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
    at = opening + 1
    while key := _KEY.match(document, at):
        at = _end_of_value(document, key.end())
        found[_unescaped(key[1])] = Member(key.end(), at)
    return found


def _unescaped(text: bytes) -> bytes:
    if b"\\" in text:
        with suppress(*UNREADABLE):  # one that cannot be read is none of ours
            return msgspec.json.decode(text, type=str).encode("utf-8", "replace")
    return text[1:-1]


def _end_of_value(document: bytes, start: int) -> int:
    if not document.startswith((b"[", b"{"), start):
        scalar = _SCALAR.match(document, start)
        return start if scalar is None else scalar.end()
    depth = 0
    for step in _STEP.finditer(document, start):
        end = step.end()
        depth += _DEPTH.get(document[end - 1 : end], 0)
        if not depth:
            return end
    return len(document)


def include_usage(body: bytes) -> bytes:
    """Ask for usage in a streamed request's body: `stream_options.include_usage` becomes true.

    `body` is a valid JSON object that does not ask for it yet. Options that are neither an object nor null, or
    an `include_usage` that is no boolean, stay as they are: to refuse them is the upstream's affair.
    """
    options = members(body).get(b"stream_options")
    if options is None:
        return _with_first(body, body.index(b"{") + 1, b'"stream_options":{"include_usage":true}')
    if body[options.start : options.end] == b"null":
        return body[: options.start] + b'{"include_usage":true}' + body[options.end :]
    if not body.startswith(b"{", options.start):
        return body
    asked = members(body, options.start).get(b"include_usage")
    if asked is not None:
        plain = body[asked.start : asked.end] in (b"false", b"null")
        return body[: asked.start] + b"true" + body[asked.end :] if plain else body
    return _with_first(body, options.start + 1, b'"include_usage":true')


def _with_first(body: bytes, inside: int, member: bytes) -> bytes:
    """Put a member first into the object whose brace ends at `inside`."""
    comma = b"" if _EMPTY.match(body, inside) else b","
    return body[:inside] + member + comma + body[inside:]


def replace_model(body: bytes, model: str) -> bytes:
    """Put the upstream's own name of the model into a request's body."""
    place = members(body).get(b"model")
    if place is None:
        return body
    return body[: place.start] + msgspec.json.encode(model) + body[place.end :]


def rewritten(body: bytes, model: str | None, *, usage: bool) -> tuple[bytes, bytes]:
    """A request's body with the upstream's `model` (None: as it is), asking for usage if `usage`, and not asking.

    The two are the same object where nothing is asked for.
    """
    plain = body if model is None else replace_model(body, model)
    return include_usage(plain) if usage else plain, plain


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
    except UNREADABLE:
        return False
    return isinstance(left, dict) and "usage" not in left
