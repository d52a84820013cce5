"""What HTTP requests for figures may ask, and the one line that says what is wrong with them."""

import pytest

from stream.query import Query, QueryError, moment

NOW = 1_795_262_400.0
KNOWN = ("since", "by", "stack", "limit", "length")


def query(text: str) -> Query:
    return Query(text, KNOWN, ("a", "b"), "a", NOW)


def test_what_is_not_asked_for_has_its_default() -> None:
    found = query("")
    assert (found.since, found.by, found.stack, found.named_stack, found.now) == (None, (), "a", None, NOW)
    assert (found.number("limit", 7, 1, 9), found.one_of("length", (60, 300))) == (7, 60)


def test_what_is_asked_for_is_read() -> None:
    found = query("since=15m&by=model,upstream,model&stack=b&limit=9&length=300")
    assert (found.since, found.by, found.stack) == (NOW - 900, ("model", "upstream"), "b")
    assert (found.number("limit", 7, 1, 9), found.one_of("length", (60, 300))) == (9, 300)
    assert query("since=2026-11-21T12:00:00+00:00").since == query("since=2026-11-21T12:00:00Z").since
    assert query("by=").by == ()


def read(text: str) -> tuple[int, int]:
    found = query(text)
    return found.number("limit", 7, 1, 9), found.one_of("length", (60, 300))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("colour=red", "unknown parameter 'colour': there are since, by, stack, limit, length"),
        ("since=", "since=: expected a time such as"),
        ("since=2027-11-21T12:00:00Z", "that moment is yet to come (here it is 2026-11-21T12:00:00.000000Z)"),
        ("by=model,size", "by=model,size: expected model or upstream, or both with a comma between"),
        ("stack=c", "stack=c: expected one of a, b"),
        ("limit=0", "limit=0: expected a whole number from 1 to 9"),
        ("limit=" + "9" * 10**4, "expected a whole number from 1 to 9"),
        ("length=6", "length=6: expected 60 or 300"),
        ("length=٦٠", "expected 60 or 300"),
    ],
)
def test_what_cannot_be_used_is_said(text: str, message: str) -> None:
    with pytest.raises(QueryError) as caught:
        read(text)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 200


def test_moments_have_microseconds_and_a_zone() -> None:
    assert moment(NOW) == "2026-11-21T12:00:00.000000Z"
