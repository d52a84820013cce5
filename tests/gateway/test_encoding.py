"""Content codings: decoded however they are cut, never beyond the limit, and refused when they are not what they say."""

import contextlib
import gzip
import tracemalloc
import zlib
from contextlib import suppress

import brotli
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.encoding import UndecodableBody, decoded, decoder, zstd

LIMIT = 1 << 20
PLAIN = bytes(range(256)) * 40 + b"the same words again and again " * 400


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


ENCODE = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "deflate": zlib.compress,
    "raw deflate": raw_deflate,
    "br": brotli.compress,
    "zstd": zstd.compress,
}
CODINGS = sorted(ENCODE)


def name_of(coding: str) -> str:
    return coding.removeprefix("raw ")


def fed(data: bytes, coding: str, sizes: list[int], limit: int = LIMIT) -> bytes:
    inner = decoder(coding, limit)
    assert inner is not None
    out = b""
    for size in sizes:
        out += inner.feed(data[:size])
        data = data[size:]
    return out + inner.feed(data)


@pytest.mark.parametrize("coding", CODINGS)
def test_a_whole_body_is_decoded(coding: str) -> None:
    assert decoded(ENCODE[coding](PLAIN), name_of(coding), LIMIT) == PLAIN
    assert decoded(ENCODE[coding](b""), name_of(coding), LIMIT) == b""
    assert decoded(ENCODE[coding](PLAIN), f" {name_of(coding).upper()} ", LIMIT) == PLAIN


@pytest.mark.parametrize("coding", CODINGS)
def test_every_cut_gives_the_same(coding: str) -> None:
    short = b"a few words, a few words, and then a few other words"
    data = ENCODE[coding](short)
    for cut in range(len(data) + 1):
        assert fed(data, name_of(coding), [cut]) == short
    assert fed(data, name_of(coding), [1] * len(data)) == short


@given(st.sampled_from(CODINGS), st.binary(max_size=300), st.lists(st.integers(0, 50), max_size=20))
def test_any_chunking_gives_the_same(coding: str, plain: bytes, sizes: list[int]) -> None:
    assert fed(ENCODE[coding](plain), name_of(coding), sizes) == plain


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
def test_several_members_are_one_body(coding: str) -> None:
    pack = ENCODE[coding]
    data = pack(b"one ") + pack(b"") + pack(PLAIN) + pack(b" three")
    assert decoded(data, coding, LIMIT) == b"one " + PLAIN + b" three"
    assert fed(data, coding, [1] * len(data)) == b"one " + PLAIN + b" three"


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_padding_after_the_end_is_nothing(coding: str) -> None:
    data = ENCODE[coding](b"words") + b"\0" * 600
    assert decoded(data, coding, LIMIT) == b"words"
    assert fed(data, coding, [1] * len(data)) == b"words"


@pytest.mark.parametrize("coding", ["", "identity", " Identity "])
def test_identity_needs_no_decoder(coding: str) -> None:
    assert decoder(coding, LIMIT) is None
    assert decoded(PLAIN, coding, 1) == PLAIN


@pytest.mark.parametrize("coding", ["compress", "gzip, br", "gzip,gzip", "x" * 500, "gzip;q=1"])
def test_an_unknown_coding_is_refused_on_one_short_line(coding: str) -> None:
    with pytest.raises(UndecodableBody, match=r"^the coding '.{1,40}' is not known here$"):
        decoder(coding, LIMIT)


@pytest.mark.parametrize("coding", CODINGS)
def test_the_limit_is_exact(coding: str) -> None:
    data = ENCODE[coding](PLAIN)
    assert decoded(data, name_of(coding), len(PLAIN)) == PLAIN
    with pytest.raises(UndecodableBody, match="larger than the limit"):
        decoded(data, name_of(coding), len(PLAIN) - 1)


@pytest.mark.parametrize("coding", CODINGS)
def test_a_bomb_is_stopped_in_bounded_memory_for_good(coding: str) -> None:
    bomb = ENCODE[coding](bytes(16 << 20))
    inner = decoder(name_of(coding), 1 << 18)
    assert inner is not None
    tracemalloc.start()
    try:
        for start in range(0, len(bomb), 4096):
            with suppress(UndecodableBody):
                inner.feed(bomb[start : start + 4096])
        with pytest.raises(UndecodableBody, match="larger than the limit"):
            inner.feed(b"")
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("coding", CODINGS)
def test_a_truncated_body_gives_what_there_is(coding: str) -> None:
    data = ENCODE[coding](PLAIN)
    out = decoded(data[: len(data) * 2 // 3], name_of(coding), LIMIT)
    assert PLAIN.startswith(out)
    assert len(out) < len(PLAIN)


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd"])
def test_a_body_in_another_coding_is_refused_now_and_later(coding: str) -> None:
    inner = decoder(coding, LIMIT)
    assert inner is not None
    for _ in range(3):
        with pytest.raises(UndecodableBody, match="not in the coding it names"):
            inner.feed(b'{"not": "compressed at all", "but": "JSON"}')


@given(st.sampled_from(["gzip", "deflate", "br", "zstd"]), st.binary(max_size=80), st.integers(0, 80))
def test_garbage_is_decoded_or_refused(coding: str, data: bytes, cut: int) -> None:
    with contextlib.suppress(UndecodableBody):
        fed(data, coding, [cut], limit=100)
