"""Keys that were there before: the latest ones always, none without an id, in bounded memory."""

import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from stream.seen import Seen


def test_what_was_added_is_seen() -> None:
    seen = Seen()
    assert b"a" not in seen
    seen.add([b"a", b"b"])
    assert b"a" in seen
    assert seen.known([b"a", b"c", b"b"]) == {b"a", b"b"}
    assert seen.size == 2


def test_an_event_without_an_id_is_never_seen() -> None:
    seen = Seen(4)
    for _ in range(10):
        seen.add([b""])
        assert b"" not in seen
        assert seen.known([b""]) == set()
    seen.add([b"a", b""])
    seen.add([b"b", b"", b"c"])
    assert seen.size == 3


@given(
    st.integers(2, 20),
    st.lists(st.lists(st.integers(0, 60), max_size=4), max_size=40),
)
def test_the_latest_are_seen_and_the_rest_is_bounded(capacity: int, batches: list[list[int]]) -> None:
    seen, order = Seen(capacity), list[bytes]()
    for batch in batches:
        keys = [b"%d" % number for number in batch]
        seen.add(keys)
        order.extend(keys)
        latest = set(order[-(capacity // 2) :])
        assert seen.known(latest) == latest
        assert all(key in seen for key in latest)
        assert seen.size < capacity + 4
        assert seen.known([b"never"]) == set()


def test_memory_is_bounded() -> None:
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    seen = Seen(20_000)
    for start in range(0, 100_000, 500):
        seen.add(b"%032x" % number for number in range(start, start + 500))
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert seen.size <= 20_000
    assert grown < 20_000 * 160
