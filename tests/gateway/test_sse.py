"""The reader of event streams: what is one event, what is its data, wherever the reads cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.sse import EventSplitter, data_of, may_become_done
from tests.chunking import cut_up
from tests.servers.odd_streams import STREAMS

PIECES = [b"a", b":", b" ", b"data: x", b"data:", b"\n", b"\r", b"\r\n", b"\n\n", b"\r\n\r\n", b"[DONE]"]
streams = st.lists(st.sampled_from(PIECES), max_size=20).map(b"".join) | st.binary(max_size=40)
cuts = st.lists(st.integers(1, 7), max_size=40)


def events_of(pieces: list[bytes]) -> tuple[list[bytes], bytes]:
    splitter = EventSplitter()
    return [event for piece in pieces for event in splitter.feed(piece)], splitter.pending


@pytest.mark.parametrize(
    ("stream", "events", "pending"),
    [
        (b"", [], b""),
        (b"data: a\n\n", [b"data: a\n\n"], b""),
        (b"data: a\n\ndata: b\n\n", [b"data: a\n\n", b"data: b\n\n"], b""),
        (b"data: a\r\n\r\ndata: b\r\n\r\n", [b"data: a\r\n\r\n", b"data: b\r\n\r\n"], b""),
        (b"data: a\r\rdata: b\r\r", [b"data: a\r\r", b"data: b\r\r"], b""),
        (b"data: a\r\n\ndata: b\n\r\nx", [b"data: a\r\n\n", b"data: b\n\r\n"], b"x"),
        (b"data: a\n\rdata: b\r\r\nx", [b"data: a\n\r", b"data: b\r\r\n"], b"x"),
        (b": ping\n\ndata: a\n\n", [b": ping\n\n", b"data: a\n\n"], b""),
        (b"data: a\ndata: b\n\n", [b"data: a\ndata: b\n\n"], b""),
        (b"event: e\nid: 1\nretry: 3\ndata: a\n\n", [b"event: e\nid: 1\nretry: 3\ndata: a\n\n"], b""),
        (b"\n\n\n\n", [b"\n\n", b"\n\n"], b""),
        (b"data: a\n\ndata: b", [b"data: a\n\n"], b"data: b"),
        (b"data: a\n", [], b"data: a\n"),
        (b"data: a\r\n\r", [], b"data: a\r\n\r"),
    ],
)
def test_events_end_at_blank_lines(stream: bytes, events: list[bytes], pending: bytes) -> None:
    assert events_of([stream]) == (events, pending)


@given(streams, cuts)
def test_not_a_byte_is_changed_or_lost(stream: bytes, sizes: list[int]) -> None:
    events, pending = events_of(cut_up(stream, sizes))
    assert b"".join(events) + pending == stream


@given(st.lists(st.sampled_from([b"data: x", b"", b": c", b"id: 7", b"[DONE]"]), max_size=12), cuts, st.booleans())
def test_events_do_not_depend_on_where_the_reads_cut(lines: list[bytes], sizes: list[int], crlf: bool) -> None:
    end = b"\r\n" if crlf else b"\n"
    stream = b"".join(line + end for line in lines)
    assert events_of(cut_up(stream, sizes)) == events_of([stream])


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("name", sorted(set(STREAMS) - {"crlf", "lone_cr", "big_event"}))
def test_odd_streams_come_apart_as_they_were_put_together(name: str, end: bytes) -> None:
    made = [event.replace(b"\n", end) for event in STREAMS[name](True)]
    whole, pending = events_of([b"".join(made)])
    assert [*whole, *([pending] if pending else [])] == made
    bytewise = events_of([byte.to_bytes() for byte in b"".join(made)])
    assert bytewise == (whole, pending)


@pytest.mark.parametrize(
    ("event", "data"),
    [
        (b"data: a\n\n", b"a"),
        (b"data:a\n\n", b"a"),
        (b"data:  a\n\n", b" a"),
        (b"data\n\n", b""),
        (b"data: \n\n", b""),
        (b"data: a", b"a"),
        (b"data: a\r\n\r\n", b"a"),
        (b"data: a\r\r", b"a"),
        (b"data: a\rdata: b\n\n", b"a\nb"),
        (b"data: a\n: c\ndata: b\n\n", b"a\nb"),
        (b"data: a\ndata:\ndata: b\n\n", b"a\n\nb"),
        (b"id: 1\ndata: a\nevent: e\n\n", b"a"),
        (b": ping\n\n", b""),
        (b"\n\n", b""),
        (b"database: a\nDATA: b\n data: c\n\n", b""),
        (b"data: a: b\n\n", b"a: b"),
        (b"\xef\xbb\xbfdata: a\n\n", b"a"),
    ],
)
def test_data_of(event: bytes, data: bytes) -> None:
    assert data_of(event) == data


DONES = [
    b"data: [DONE]\n\n",
    b"data:[DONE]\n\n",
    b"data: [DONE]\r\n\r\n",
    b"data: [DONE]\r\r",
    b"event: done\ndata: [DONE]\n\n",
    b"data: [DONE]\nid: 9\n\n",
    b": the end\ndata: [DONE]\nretry: 1\n\n",
]


@pytest.mark.parametrize("done", DONES)
def test_any_beginning_of_a_done_may_become_one_once_its_data_has_begun(done: bytes) -> None:
    begun = done.index(b"data")
    for end in range(begun + 1, len(done)):
        assert may_become_done(done[:end]), done[:end]


@pytest.mark.parametrize(
    "pending",
    [
        b'data: {"a',
        b'data:{"a',
        b'data: {"a": "[DONE]"}',
        b'data: {"a": "\\ndata: [DONE]"}\n',
        b'event: x\ndata: {"a',
        b": ping",
        b"id: 7\n: ping",
        b'data: {"a":\ndata: [DONE]',
    ],
)
def test_what_cannot_become_done(pending: bytes) -> None:
    assert not may_become_done(pending)


@given(streams, streams)
def test_no_done_without_a_warning(begin: bytes, rest: bytes) -> None:
    """If an event turns out to end the stream, its data lines had been announced before it was complete."""
    events, pending = events_of([begin + rest])
    for event in [*events, pending]:
        if data_of(event) == b"[DONE]":
            at = event.rindex(b"[DONE]") + 6
            for end in range(at, len(event)):
                assert may_become_done(event[:end])
