"""What requests ask for, and how they go out."""

import gzip

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.ask import KNOWN_ROUTES, MAX_CHOICES, NOTHING, Ask, read_ask, route_of

LIMIT = 1 << 20


@pytest.mark.parametrize(
    ("body", "ask"),
    [
        (b'{"model":"m"}', Ask("m")),
        (b' \n{"model":"m","stream":true}', Ask("m", stream=True)),
        (b'{"model":"m","stream":true,"stream_options":{"include_usage":true}}', Ask("m", stream=True, include_usage=True)),
        (b'{"model":"m","stream":true,"stream_options":{"include_usage":false}}', Ask("m", stream=True)),
        (b'{"model":"m","stream":true,"stream_options":{"include_usage":1}}', Ask("m", stream=True)),
        (b'{"model":"m","stream_options":null}', Ask("m")),
        (b'{"model":"m","stream_options":[true]}', Ask("m")),
        (b'{"model":"m","n":3}', Ask("m", choices=3)),
        (b'{"model":"m","n":0}', Ask("m")),
        (b'{"model":"m","n":true}', Ask("m")),
        (b'{"model":"m","n":"3"}', Ask("m")),
        (b'{"model":"m","n":%d}' % (MAX_CHOICES + 1), Ask("m")),
        (b'{"model":7,"stream":"yes"}', NOTHING),
        (b'{"model":""}', NOTHING),
        (b'{"model":"a","model":"b"}', Ask("b")),
        (b'{"messages":[{"model":"x","stream":true}]}', NOTHING),
        (b"{}", NOTHING),
        (b"", NOTHING),
        (b"[]", NOTHING),
        (b'"model"', NOTHING),
        (b"model=m&stream=true", NOTHING),
        (b'--boundary\r\nContent-Disposition: form-data; name="model"', NOTHING),
        (b'{"model":"m"', NOTHING),
        (b'{"model":"m"} trailing', NOTHING),
        (b'{"model":"\xff"}', NOTHING),
        (b'{"a":' * 5000 + b"1" + b"}" * 5000, NOTHING),
    ],
)  # fmt: skip
def test_read_ask(body: bytes, ask: Ask) -> None:
    assert read_ask(body, "", LIMIT) == ask


@pytest.mark.parametrize(
    ("body", "coding", "ask"),
    [
        (gzip.compress(b'{"model":"m"}', mtime=0), "gzip", Ask("m")),
        (gzip.compress(b'{"model":"m"}', mtime=0), "", NOTHING),
        (b'{"model":"m"}', "gzip", NOTHING),
        (b'{"model":"m"}', "identity", Ask("m")),
        (b'{"model":"m"}', "rot13", NOTHING),
        (gzip.compress(b'{"model":"m"}' + b" " * LIMIT, mtime=0), "gzip", NOTHING),
    ],
)
def test_a_compressed_request_is_read_too(body: bytes, coding: str, ask: Ask) -> None:
    assert read_ask(body, coding, LIMIT) == ask


@given(st.binary(max_size=60) | st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=3),
    lambda inner: st.dictionaries(st.sampled_from(["model", "stream", "n", "stream_options", "include_usage"]), inner),
).map(msgspec.json.encode))  # fmt: skip
def test_no_body_makes_reading_fail(body: bytes) -> None:
    ask = read_ask(body, "", LIMIT)
    assert ask.model is None or isinstance(ask.model, str)
    assert ask.choices is None or 0 < ask.choices <= MAX_CHOICES


@pytest.mark.parametrize(
    ("path", "route"),
    [
        *((known, known) for known in sorted(KNOWN_ROUTES)),
        ("/", "/"),
        ("", "/"),
        ("/v1/files", "/v1/files"),
        ("/v1/files/", "/v1/files"),
        ("/v1/files/file-123", "/v1/files/…"),
        ("/v1/threads/t_1/runs/r_1", "/v1/threads/…"),
        ("//a//b//c", "/a/b/…"),
        ("/" + "x" * 500, "/" + "x" * 40),
    ],
)
def test_routes_are_few(path: str, route: str) -> None:
    assert route_of(path) == route
