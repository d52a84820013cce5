"""Readers of reply bodies: what goes on when, what is held back, what is learned; by timelines of (at, bytes)."""

import gzip
import json
import re
import zlib
from typing import Any

import brotli
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.encoding import UndecodableBody, decoder
from gateway.reply import EVENT_LIMIT, GAPS_KEPT, EventStreamBody, SizedEventStream, WholeBody
from gateway.usage import Usage
from tests.chunking import cut_up
from tests.servers.odd_streams import DONE, STREAMS, USAGE, chunk, event

cuts = st.lists(st.integers(1, 60), max_size=60)
LIMIT = 1 << 20


def read(body: EventStreamBody, pieces: list[bytes]) -> tuple[bytes, bytes]:
    """Feed pieces a second apart, and end; what went on before the reply was complete, and what was held."""
    sent = b""
    for at, piece in enumerate(pieces):
        sent += body.feed(piece, float(at))
    sent += body.finish(float(len(pieces)))
    assert body.complete
    return sent, body.held


def stream_of(timeline: list[tuple[float, bytes]], **options: Any) -> EventStreamBody:
    body = EventStreamBody(strip=False, **options)
    for at, data in timeline:
        body.feed(data, at)
    body.finish(timeline[-1][0])
    return body


ROLE = event(chunk({"role": "assistant", "content": ""}))
TOKEN = event(chunk({"content": "a"}))
STOP = event(chunk({}, "stop"))
THOUGHT = event(chunk({"reasoning_content": "hm"}))
CALL = event(chunk({"tool_calls": [{"index": 0, "function": {"name": "f"}}]}))
COUNTED = event(chunk(None, usage=USAGE))
PING = b": ping\n\n"


@pytest.mark.parametrize(
    ("timeline", "first", "last", "deltas"),
    [
        ([(1, ROLE), (2, TOKEN), (3, TOKEN), (4, STOP), (5, DONE)], 2, 3, {0: 2}),
        ([(1, ROLE + TOKEN), (3, TOKEN + STOP + DONE)], 1, 3, {0: 2}),
        ([(1, ROLE), (2, THOUGHT), (3, TOKEN), (4, DONE)], 2, 3, {0: 2}),
        ([(1, ROLE), (2, CALL), (3, STOP), (4, DONE)], 2, 2, {0: 1}),
        ([(1, PING), (2, ROLE), (3, STOP), (4, DONE)], None, None, {}),
        ([(1, ROLE), (2, TOKEN[:20]), (3, TOKEN[20:]), (4, TOKEN), (5, DONE)], 3, 4, {0: 2}),
        ([(1, TOKEN), (2, COUNTED), (3, DONE)], 1, 1, {0: 1}),
        ([(1, TOKEN), (2, PING), (3, TOKEN + PING), (4, TOKEN[:-1]), (5, TOKEN[-1:])], 1, 5, {0: 3}),
        ([(1, DONE)], None, None, {}),
        ([(1, TOKEN[:-2])], 1, 1, {0: 1}),
    ],
)
def test_first_and_last_token(
    timeline: list[tuple[float, bytes]], first: float, last: float, deltas: dict[int, int]
) -> None:
    body = stream_of(timeline)
    assert (body.first_token_at, body.last_token_at, body.deltas) == (first, last, deltas)


def test_choices_are_counted_apart() -> None:
    def token(index: int) -> bytes:
        return event({"choices": [{"index": index, "delta": {"content": "a"}}]})

    both = event({"choices": [{"index": 0, "delta": {"content": "a"}}, {"index": 1, "delta": {"content": "a"}}]})
    assert stream_of([(1, token(0)), (2, token(1)), (3, token(0)), (4, both), (5, DONE)]).deltas == {0: 3, 1: 2}


@pytest.mark.parametrize("strip", [False, True])
def test_done_is_held_wherever_the_reads_cut_it(strip: bool) -> None:
    stream = TOKEN + STOP + COUNTED + DONE
    expected = TOKEN + STOP + (b"" if strip else COUNTED)
    for cut in range(1, len(stream)):
        body = EventStreamBody(strip=strip)
        assert read(body, [stream[:cut], stream[cut:]]) == (expected, DONE)
        assert body.done
        assert body.facts.usage == Usage(11, None, 4, None)


@pytest.mark.parametrize(
    "done", [DONE, b"data:[DONE]\r\n\r\n", b"data: [DONE]\r\r", b"event: e\ndata: [DONE]\nid: 1\n\n", b"data: [DONE]"]
)
@given(sizes=cuts)
def test_the_client_never_has_the_whole_done_before_it_is_complete(done: bytes, sizes: list[int]) -> None:
    body = EventStreamBody(strip=False)
    sent = b""
    for piece in cut_up(TOKEN + done, sizes):
        sent += body.feed(piece, 0.0)
    assert b"[DONE]" not in sent
    sent += body.finish(0.0)
    assert b"[DONE]" not in sent
    assert sent + body.held == TOKEN + done
    assert body.done


def test_done_is_complete_at_once_and_what_follows_is_held_too() -> None:
    body = EventStreamBody(strip=False)
    assert body.feed(TOKEN + DONE + b": bye\n", 1.0) == TOKEN
    assert body.complete
    assert body.feed(b"\n", 2.0) == b""
    assert body.finish(3.0) == b""
    assert body.held == DONE + b": bye\n\n"


@given(st.sampled_from(sorted(STREAMS)), cuts)
def test_unstripped_streams_pass_as_they_are(name: str, sizes: list[int]) -> None:
    stream = b"".join(STREAMS[name](True))
    body = EventStreamBody(strip=False)
    sent, held = read(body, cut_up(stream, sizes))
    assert sent + held == stream


# Usage on a chunk with choices stays, and so do nulls elsewhere, a comment before what is dropped, white space.
UNALIKE = {"usage_on_choices", "usage_every_chunk", "usage_zero_first", "nulls_always", "airy", "pings", "fields"}


@pytest.mark.parametrize("name", sorted(set(STREAMS) - UNALIKE))
@settings(max_examples=settings().max_examples // 4)
@example(sizes=[1] * 5000)
@given(sizes=cuts)
def test_a_stripped_stream_is_what_would_have_been_sent_unasked(name: str, sizes: list[int]) -> None:
    body = EventStreamBody(strip=True)
    sent, held = read(body, cut_up(b"".join(STREAMS[name](True)), sizes))
    assert sent + held == b"".join(STREAMS[name](False))


@pytest.mark.parametrize("name", sorted(UNALIKE))
@settings(max_examples=settings().max_examples // 4)
@given(sizes=cuts)
def test_of_other_streams_only_the_usage_chunk_and_null_usage_are_taken_out(name: str, sizes: list[int]) -> None:
    stream = STREAMS[name](True)
    body = EventStreamBody(strip=True)
    sent, held = read(body, cut_up(b"".join(stream), sizes))
    left = [piece for piece in stream if b'"choices":[]' not in piece and b'"choices": []' not in piece]
    expected = [re.sub(rb'(,\s*)?"usage"\s*:\s*null', b"", piece) for piece in left]
    assert sent + held == b"".join(expected)


@pytest.mark.parametrize("name", sorted(set(STREAMS) - {"no_usage", "only_done", "error_then_done"}))
@pytest.mark.parametrize("strip", [False, True])
def test_usage_is_read_from_every_odd_stream(name: str, strip: bool) -> None:
    body = EventStreamBody(strip=strip)
    read(body, STREAMS[name](True))
    assert body.facts.usage == Usage(11, None, 4, None)


def test_usage_on_a_chunk_with_choices_stays() -> None:
    stream = STREAMS["usage_on_choices"](True)
    assert b"".join(read(EventStreamBody(strip=True), stream)) == b"".join(stream)


@pytest.mark.parametrize(
    ("stream", "finish", "error", "done"),
    [
        (TOKEN + STOP + DONE, "stop", False, True),
        (TOKEN + event(chunk({}, "length")) + STOP, "length", False, False),
        (TOKEN, None, False, False),
        (TOKEN + event({"error": {"message": "x"}}), None, True, False),
        (b"".join(STREAMS["error_then_done"](False)), None, True, True),
        ((b'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":"max_tokens"}}\n\n'
         b'event: message_stop\ndata: {"type":"message_stop"}\n\n'), "max_tokens", False, False),
    ],
)  # fmt: skip
def test_how_a_stream_ended(stream: bytes, finish: str | None, error: bool, done: bool) -> None:
    body = stream_of([(1, stream)])
    assert (body.facts.finish_reason, body.facts.error, body.done) == (finish, error, done)


@pytest.mark.parametrize(
    "line",
    [
        b'data: {"choices":[],"x":1e999}\n\n',
        b'data: {"choices":5,"usage":\n\n',
        b'data: {"choices":5,"usage":null} trailing\n\n',
        b'data: {"choices":"\xff\xfe"}\n\n',
        b'data: {"choices":[],"usage":null,"x":{"usage":null,"s":"\xff"}}\n\n',
        b'data: {"\xff":1,"choices":{}}\n\n',
        b'data: {"choices":[' + b"[" * 5000 + b"\n\n",
        b'data: {"choices":5,"a":' + b"[" * 5000 + b"\n\n",
        b"data: null\n\n",
        b"data: [1]\n\n",
        b"data: hello\n\n",
        b'data: {"choices":[{"index":1e99,"delta":{"content":"a"}}]}\n\n',
    ],
)
@pytest.mark.parametrize("strip", [False, True])
def test_what_cannot_be_read_passes(line: bytes, strip: bool) -> None:
    body = EventStreamBody(strip=strip)
    assert read(body, [TOKEN, line, TOKEN, DONE]) == (TOKEN + line + TOKEN, DONE)
    assert body.deltas[0] == 2


BITS = st.sampled_from([
    TOKEN, STOP, COUNTED, DONE, THOUGHT, PING, b"data: ", b"\n", b"\r", b"\n\n", b"\r\n\r\n", b'{"choices":', b"[]", b"}",
    b',"usage":null', b'"usage":{}', event({"usage": None}), event(chunk({"content": "a"}, usage=None)), b"\xff", b"[DONE]",
])  # fmt: skip


@given(st.lists(BITS | st.binary(max_size=10), max_size=25), st.booleans(), cuts)
def test_no_bytes_make_reading_fail(bits: list[bytes], strip: bool, sizes: list[int]) -> None:
    stream = b"".join(bits)
    body = EventStreamBody(strip=strip)
    sent, held = read(body, cut_up(stream, sizes))
    assert strip or sent + held == stream


@given(st.lists(BITS, max_size=25), cuts)
def test_what_is_learned_and_sent_does_not_depend_on_the_cuts(bits: list[bytes], sizes: list[int]) -> None:
    stream = b"".join(bits).replace(b"\r", b"")
    whole, pieces = EventStreamBody(strip=True), EventStreamBody(strip=True)
    sent = [b"".join(read(body, parts)) for body, parts in ((whole, [stream]), (pieces, cut_up(stream, sizes)))]
    assert sent[0] == sent[1]
    if not whole.done:
        assert whole.facts == pieces.facts
        assert whole.deltas == pieces.deltas


@pytest.mark.parametrize("strip", [False, True])
@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n"])
def test_an_event_beyond_the_limit_passes_unread(strip: bool, end: bytes) -> None:
    big = (
        b'data: {"choices":[{"index":0,"delta":{"content":"'
        + b"x" * (EVENT_LIMIT + 100_000)
        + b'"}}],"usage":null}'
        + end
    )
    pieces = [TOKEN, *(big[at : at + 65_536] for at in range(0, len(big), 65_536)), TOKEN, COUNTED, DONE]
    body = EventStreamBody(strip=strip)
    sent = b""
    for piece in pieces:
        sent += body.feed(piece, 0.0)
        assert len(body._splitter.pending) <= EVENT_LIMIT + 3
    assert sent == TOKEN + big + TOKEN + (b"" if strip else COUNTED)
    assert body.held == DONE
    assert body.deltas == {0: 2}
    assert body.facts.usage == Usage(11, None, 4, None)


def test_an_unended_event_beyond_the_limit_passes() -> None:
    big = b"data: " + b"x" * (EVENT_LIMIT + 10)
    body = EventStreamBody(strip=True)
    assert body.feed(big, 0.0) + body.feed(b"yy", 0.0) + body.finish(0.0) == big + b"yy"


# --- compressed


def zlib_pieces(plain: list[bytes], wbits: int) -> list[bytes]:
    packer = zlib.compressobj(wbits=wbits)
    return [*(packer.compress(piece) + packer.flush(zlib.Z_SYNC_FLUSH) for piece in plain), packer.flush()]


def brotli_pieces(plain: list[bytes]) -> list[bytes]:
    packer = brotli.Compressor()
    return [*(packer.process(piece) + packer.flush() for piece in plain), packer.finish()]


CODED = {
    "gzip": lambda plain: zlib_pieces(plain, 31),
    "deflate": lambda plain: zlib_pieces(plain, 15),
    "br": brotli_pieces,
}


@pytest.mark.parametrize("coding", CODED)
@given(sizes=cuts)
def test_a_compressed_stream_passes_as_it_is_and_is_read(coding: str, sizes: list[int]) -> None:
    pieces = CODED[coding](STREAMS["plain"](True))
    body = EventStreamBody(strip=False, decoder=decoder(coding, LIMIT))
    sent, held = read(body, cut_up(b"".join(pieces), sizes) if sizes else pieces)
    assert sent + held == b"".join(pieces)
    assert body.facts.usage == Usage(11, None, 4, None)
    assert body.done


@pytest.mark.parametrize("coding", CODED)
@given(sizes=cuts)
def test_a_compressed_stream_that_is_stripped_goes_out_plain(coding: str, sizes: list[int]) -> None:
    pieces = CODED[coding](STREAMS["plain"](True))
    body = EventStreamBody(strip=True, decoder=decoder(coding, LIMIT))
    sent, held = read(body, cut_up(b"".join(pieces), sizes) if sizes else pieces)
    assert sent + held == b"".join(STREAMS["plain"](False))
    assert held == DONE


def test_the_checksum_after_done_is_not_the_clients() -> None:
    *first, last = zlib_pieces([TOKEN, DONE], 31)
    body = EventStreamBody(strip=True, decoder=decoder("gzip", LIMIT))
    assert b"".join(body.feed(piece, 0.0) for piece in first) == TOKEN
    assert body.complete
    assert body.feed(last, 0.0) == body.feed(b"garbage", 0.0) == b""
    assert body.held == DONE


def test_an_unended_done_in_a_compressed_stream_adds_nothing_to_it() -> None:
    pieces = zlib_pieces([TOKEN, DONE[:-2]], 31)
    body = EventStreamBody(strip=False, decoder=decoder("gzip", LIMIT))
    assert b"".join(read(body, pieces)) == b"".join(pieces)
    assert body.done


def test_a_stream_that_is_not_in_its_coding() -> None:
    passing = EventStreamBody(strip=False, decoder=decoder("gzip", LIMIT))
    assert read(passing, [TOKEN, TOKEN]) == (TOKEN + TOKEN, b"")
    assert not passing.readable
    with pytest.raises(UndecodableBody):
        EventStreamBody(strip=True, decoder=decoder("gzip", LIMIT)).feed(TOKEN, 0.0)


@pytest.mark.parametrize("strip", [False, True])
def test_a_compressed_stream_may_be_longer_than_what_one_read_may_unfold_to(strip: bool) -> None:
    plain = [TOKEN] * 3000 + [STOP, DONE]
    body = EventStreamBody(strip=strip, decoder=decoder("gzip", 10 * len(TOKEN)))
    pieces = zlib_pieces(plain, 31)
    assert b"".join(read(body, pieces)) == b"".join(plain if strip else pieces)
    assert (body.done, body.readable, body.deltas, body.facts.finish_reason) == (True, True, {0: 3000}, "stop")


# --- of known length

MESSAGE_STOP = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'


@pytest.mark.parametrize("coding", ["", *CODED])
@pytest.mark.parametrize("end", [STOP, STOP + DONE, STOP + DONE[:-2], STOP[:-2], MESSAGE_STOP, PING])
@given(sizes=cuts)
def test_a_stream_of_known_length_is_complete_only_when_what_is_held_goes(
    coding: str, end: bytes, sizes: list[int]
) -> None:
    whole = b"".join(CODED[coding]([TOKEN, end])) if coding else TOKEN + end
    body = SizedEventStream(len(whole), decoder=decoder(coding, LIMIT))
    sent = b"".join(body.feed(piece, 0.0) for piece in cut_up(whole, sizes))
    assert body.complete  # with the last byte, not only with the end after it
    assert body.held
    assert body.finish(0.0) == b""
    assert sent + body.held == whole
    assert body.deltas == {0: 1}
    assert body.done == (b"[DONE]" in end)
    assert body.facts.finish_reason == (None if end == PING else "stop")


def test_a_stream_of_known_length_goes_on_as_it_comes_up_to_its_end() -> None:
    body = SizedEventStream(len(TOKEN) * 3 + 5)
    assert [body.feed(TOKEN, 0.0) for _ in range(3)] == [TOKEN] * 3
    assert not body.complete


# --- gaps


def test_gaps_between_reads() -> None:
    body = stream_of([(at, TOKEN) for at in (1.0, 2.0, 4.0, 4.5, 9.5)])
    assert body.gaps() == {"count": 4, "mean": 8.5 / 4, "p50": 1.0, "p95": 2.0, "max": 5.0}
    assert stream_of([(1.0, TOKEN)]).gaps() is None


def test_gaps_beyond_those_kept_count_in_mean_and_max() -> None:
    body = EventStreamBody(strip=False)
    reads = GAPS_KEPT + 500
    for at in range(reads):
        body.feed(TOKEN, float(at))
    body.feed(TOKEN, reads + 99.0)
    found = body.gaps()
    assert found == {"count": reads, "mean": (reads + 99.0) / reads, "p50": 1.0, "p95": 1.0, "max": 100.0}
    assert len(body._times) == GAPS_KEPT


# --- whole bodies

REPLY = json.dumps({"model": "m", "choices": [{"finish_reason": "stop"}], "usage": USAGE}).encode()


@pytest.mark.parametrize("sizes", [[], [1], [10, 10], [len(REPLY) - 1]])
def test_a_whole_body_holds_its_last_read(sizes: list[int]) -> None:
    body = WholeBody(len(REPLY), "", keep=True)
    pieces = cut_up(REPLY, sizes)
    sent = b"".join(body.feed(piece, 0.0) for piece in pieces)
    assert (sent, body.held, body.complete) == (b"".join(pieces[:-1]), pieces[-1], True)
    body.read_facts()
    assert (body.facts.model, body.facts.finish_reason, body.facts.usage) == ("m", "stop", Usage(11, None, 4, None))


def test_a_body_of_unknown_length_goes_at_once() -> None:
    body = WholeBody(None, "", keep=True)
    assert body.feed(REPLY[:9], 0.0) + body.feed(REPLY[9:], 0.0) == REPLY
    assert not body.complete
    assert body.finish(0.0) == body.held == b""
    assert body.complete


@pytest.mark.parametrize(
    ("data", "coding"),
    [
        (gzip.compress(REPLY, mtime=0), "gzip"),
        (gzip.compress(REPLY[:40], mtime=0) + gzip.compress(REPLY[40:], mtime=0), "x-gzip"),
        (zlib.compress(REPLY), "deflate"),
        (brotli.compress(REPLY), "br"),
        (REPLY, "identity"),
    ],
)
def test_usage_of_a_compressed_body(data: bytes, coding: str) -> None:
    body = WholeBody(None, coding, keep=True)
    assert body.feed(data, 0.0) == data
    body.read_facts()
    assert body.facts.usage == Usage(11, None, 4, None)


@pytest.mark.parametrize(
    ("data", "coding"),
    [
        (b"", ""),
        (b"<html>", ""),
        (b"\xff\xfe", ""),
        (b'{"usage":1e999}', ""),
        (b"[" * 100_000, ""),
        (REPLY[:-3], ""),
        (gzip.compress(REPLY, mtime=0)[:-20], "gzip"),
        (REPLY, "gzip"),
        (REPLY, "compress"),
        (REPLY, "gzip, br"),
    ],
)
def test_a_body_that_cannot_be_read_says_nothing(data: bytes, coding: str) -> None:
    body = WholeBody(None, coding, keep=True)
    assert body.feed(data, 0.0) == data
    body.read_facts()
    assert body.facts.usage is None


def test_a_body_that_is_not_kept_says_nothing() -> None:
    body = WholeBody(None, "", keep=False)
    body.feed(REPLY, 0.0)
    assert not body.costly
    body.read_facts()
    assert body.facts.usage is None


@given(st.binary(max_size=200), st.sampled_from(["", "gzip", "deflate", "br", "zstd", "?"]))
def test_no_body_makes_reading_fail(data: bytes, coding: str) -> None:
    body = WholeBody(None, coding, keep=True)
    body.feed(data, 0.0)
    body.read_facts()
