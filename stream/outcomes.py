"""Outcomes: whether an answer to a problem was right, as people and evaluators send it. Pure: no clock, no file.

An outcome is one JSON object: {"problem", "correct" or "score", "id"?, "strategy"?, "model"?, "recorded_at"?}. What is
wrong with one is said on one line; nothing unknown is taken, as a slip of the pen would silently judge something else.
`docs/strategies.md` describes every field.
"""

import difflib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

__all__ = [
    "LONGEST_NAME", "InvalidOutcome", "Outcome", "decode_outcome", "encode_outcome", "fitting_name", "split_outcomes",
]  # fmt: skip

LONGEST_NAME = 500
"""Characters that are kept of an id, or of the name of a problem, a strategy or a model."""

_LEAST = 1e-100  # a score below it is 0: so nothing that is divided by it is ever infinite
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_AHEAD_SECONDS = 86_400.0  # that clocks may differ by: what is recorded later than all that may come is never corrected

_T = TypeVar("_T")
_Name = Annotated[str, Meta(min_length=1)]
_Score = Annotated[float, Meta(ge=0, le=1)]
_Moment = Annotated[datetime, Meta(tz=True)]


class InvalidOutcome(ValueError):
    """A record that is no outcome. `str(error)` is one line: what is wrong, where, and what was expected."""


class Outcome(msgspec.Struct, frozen=True):
    """The judgement of one attempt at a problem.

    `value` is 1 for a right answer, 0 for a wrong one, or a score in between. `id` names what is judged: a request, or
    any attempt; None: all that this strategy and model did. Of the outcomes of one id the one recorded last counts.
    """

    problem: str
    value: float
    recorded_at: datetime
    """in UTC"""
    id: str | None = None
    strategy: str | None = None
    model: str | None = None

    @property
    def recorded_microseconds(self) -> int:
        """Microseconds since 1970, exactly."""
        return (self.recorded_at - _EPOCH) // _MICROSECOND


class _Wire(msgspec.Struct, forbid_unknown_fields=True):
    """What an outcome looks like on the wire."""

    problem: _Name
    id: _Name | None = None
    strategy: _Name | None = None
    model: _Name | None = None
    correct: bool | None = None
    score: _Score | None = None
    recorded_at: _Moment | None = None


_decode = msgspec.json.Decoder(_Wire).decode
_encode = msgspec.json.Encoder().encode
_EXPECTED = {
    **dict.fromkeys(("problem", "id", "strategy", "model"), "text, not empty"),
    "correct": "true or false",
    "score": "a number from 0 to 1",
    "recorded_at": "a moment with its offset from UTC, such as 2026-05-31T12:00:00Z",
}
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_UNREADABLE = (msgspec.MsgspecError, ValueError, OverflowError, RecursionError)


def fitting_name(text: str) -> str:
    """A name as it is kept, wherever it comes from, so that requests and outcomes meet: one that is too long is cut,
    and ends in its digest, so that it stays apart from others that begin alike.
    """
    text = text.encode("utf-8", "replace").decode()  # for the sake of lone surrogates
    if len(text) <= LONGEST_NAME:
        return text
    return f"{text[: LONGEST_NAME - 33]}…{blake2b(text.encode(), digest_size=16).hexdigest()}"


def decode_outcome(data: bytes | str, now: float, wall: float | None = None) -> Outcome:
    """Read one JSON object as an outcome; raise InvalidOutcome for anything else.

    `now`, in seconds since 1970, is the moment at which one without `recorded_at` counts as recorded: that of the POST,
    or 0 of what lies in a file, so that whatever has a moment wins over it. `wall` is what the clock says: one recorded
    more than a day later is refused, as none could correct it; None where that was looked at before.
    """
    try:
        wire = _decode(data)
    except _UNREADABLE as error:
        raise InvalidOutcome(_explain(data, error)) from None
    if (wire.correct is None) == (wire.score is None):
        said = "neither" if wire.correct is None else "both"
        raise InvalidOutcome(f"expected either correct (true or false) or score (0 to 1), found {said}")
    value = wire.score if wire.score is not None else float(bool(wire.correct))
    try:
        recorded = (wire.recorded_at or datetime.fromtimestamp(now, UTC)).astimezone(UTC)
    except OverflowError:
        raise InvalidOutcome("recorded_at: in UTC, out of the range of dates") from None
    if wall is not None and recorded.timestamp() > wall + _AHEAD_SECONDS:
        raise InvalidOutcome("recorded_at: more than a day after now, so that no outcome to come could correct it")
    value = value if value > _LEAST else 0.0
    named = (None if name is None else fitting_name(name) for name in (wire.id, wire.strategy, wire.model))
    return Outcome(fitting_name(wire.problem), value, recorded, *named)


def encode_outcome(outcome: Outcome) -> bytes:
    """Write one JSON object on one line (without its newline), which `decode_outcome` reads as the same outcome."""
    whole = outcome.value in (0, 1)
    judged: dict[str, Any] = {"correct": outcome.value == 1} if whole else {"score": outcome.value}
    named = {"id": outcome.id, "problem": outcome.problem, "strategy": outcome.strategy, "model": outcome.model}
    given = {name: value for name, value in named.items() if value is not None}
    return _encode({**given, **judged, "recorded_at": outcome.recorded_at})


def split_outcomes(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Cut one JSON object, a JSON array, or lines of JSON into (name of the place, record), records being unread yet.

    Places are "entry 3" of an array, "line 3" of lines, both from 1, and "" of a single object. Blank lines are none.
    """
    data = data.removeprefix(_BYTE_ORDER_MARK)
    if data.lstrip().startswith(b"["):
        entries = _read(data, list[msgspec.Raw])
        if entries is None:
            yield "", data
        else:
            yield from ((f"entry {number}", bytes(entry)) for number, entry in enumerate(entries, 1))
    elif _read(data, msgspec.Raw) is not None:
        yield "", data
    else:
        lines = enumerate(data.split(b"\n"), 1)
        yield from ((f"line {number}", line) for number, line in lines if line.strip())


def _read(data: bytes, wanted: type[_T]) -> _T | None:
    try:
        return msgspec.json.decode(data, type=wanted)
    except _UNREADABLE:
        return None


def _explain(data: bytes | str, error: BaseException) -> str:
    """Say which field is wrong; what the record holds is not repeated, but for the name of an unknown field."""
    try:
        record = msgspec.json.decode(data)
    except RecursionError:
        return "nested too deeply"
    except UnicodeDecodeError:
        return "not valid UTF-8"
    except _UNREADABLE as broken:
        return " ".join(f"not valid JSON: {broken}".replace("JSON is malformed: ", "").split())
    if not isinstance(record, dict):
        return "an outcome is a JSON object"
    unknown = next((name for name in record if name not in _EXPECTED), None)
    if unknown is not None:
        near = difflib.get_close_matches(unknown[:80], _EXPECTED, n=1)
        meant = f"did you mean {near[0]}?" if near else f"there are {', '.join(_EXPECTED)}"
        return f"unknown field {unknown[:80]!a}; {meant}"
    if record.get("problem") is None:
        return f"problem: missing; expected {_EXPECTED['problem']}"
    return next(
        (f"{name}: expected {what}" for name, what in _EXPECTED.items() if f"`$.{name}`" in str(error)), str(error)
    )
