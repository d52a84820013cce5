"""Changes in JSON bytes: the change is made, and every other byte stays."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import splice
from gateway.splice import include_usage, members, replace_model, rewritten, without_null_usage

ASKED = b'"stream_options":{"include_usage":true}'


@pytest.mark.parametrize(
    ("body", "asked"),
    [
        (b"{}", b"{" + ASKED + b"}"),
        (b" {\n} ", b" {" + ASKED + b"\n} "),
        (b'{"a":1}', b"{" + ASKED + b',"a":1}'),
        (b'{ "stream_options" : null }', b'{ "stream_options" : {"include_usage":true} }'),
        (b'{"stream_options":{}}', b'{"stream_options":{"include_usage":true}}'),
        (b'{"stream_options":{ }}', b'{"stream_options":{"include_usage":true }}'),
        (b'{"stream_options": {"x": 1}, "n": 2}', b'{"stream_options": {"include_usage":true,"x": 1}, "n": 2}'),
        (b'{"stream_options":{"include_usage": false}}', b'{"stream_options":{"include_usage": true}}'),
        (b'{"stream_options":{"include_usage":null ,"x":1}}', b'{"stream_options":{"include_usage":true ,"x":1}}'),
        (b'{"m":{"stream_options":null}}', b"{" + ASKED + b',"m":{"stream_options":null}}'),
        (b'{"m":"\\"stream_options\\":null"}', b"{" + ASKED + b',"m":"\\"stream_options\\":null"}'),
        (
            b'{"stream_options":1,"stream_options":null}',
            b'{"stream_options":1,"stream_options":{"include_usage":true}}',
        ),
        (b'{"stream\\u005foptions":null}', b'{"stream\\u005foptions":{"include_usage":true}}'),
        (b'{"a\\n\xff":1,"stream_options":{}}', b'{"a\\n\xff":1,"stream_options":{"include_usage":true}}'),
        (b'{"a\\n\xff":1}', b"{" + ASKED + b',"a\\n\xff":1}'),
        (b'{"stream_options":7}', b'{"stream_options":7}'),
        (b'{"stream_options":[]}', b'{"stream_options":[]}'),
        (b'{"stream_options":{"include_usage":"yes"}}', b'{"stream_options":{"include_usage":"yes"}}'),
    ],
)
def test_include_usage(body: bytes, asked: bytes) -> None:
    assert include_usage(body) == asked


@pytest.mark.parametrize(
    ("body", "replaced"),
    [
        (b'{"model":"a"}', b'{"model":"up/b"}'),
        (b'{ "x": [1, {"model": "a"}], "model" : "a" , "y": 1 }', b'{ "x": [1, {"model": "a"}], "model" : "up/b" , "y": 1 }'),
        (b'{"messages":[{"content":"\\"model\\":\\"a\\""}],"model":"a"}', b'{"messages":[{"content":"\\"model\\":\\"a\\""}],"model":"up/b"}'),
        (b'{"model":"a","model":"a"}', b'{"model":"a","model":"up/b"}'),
        (b'{"mod\\u0065l":"a"}', b'{"mod\\u0065l":"up/b"}'),
        (b'{"model":"\\"}{,:"}', b'{"model":"up/b"}'),
        (b'{"a\\n\xff":1,"model":"a"}', b'{"a\\n\xff":1,"model":"up/b"}'),
        (b'{"a":1}', b'{"a":1}'),
        (b"{}", b"{}"),
        (b'["model"]', b'["model"]'),
        (b'{"model"', b'{"model"'),
        (b'{"a":[{"model":"a"', b'{"a":[{"model":"a"'),
        (b"", b""),
    ],
)  # fmt: skip
def test_replace_model(body: bytes, replaced: bytes) -> None:
    assert replace_model(body, "up/b") == replaced


def test_members_gives_places_of_values() -> None:
    document = b' { "a" : [1, 2] , "b":"x", "c": {"a": 3},"d":-1.5e3 } '
    found = {key: document[place.start : place.end] for key, place in members(document).items()}
    assert found == {b"a": b"[1, 2]", b"b": b'"x"', b"c": b'{"a": 3}', b"d": b"-1.5e3"}


LONG = {"ids": list(range(200_000)), "deep": [[{"model": "}"}]] * 20_000, "text": ["]"] * 100_000, "model": "a"}


def test_long_values_are_passed_over_in_few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """A list of a million ids must cost a step of Python for many of them, not for each."""
    body = json.dumps(LONG).encode()
    found = members(body)
    assert {key.decode(): json.loads(body[place.start : place.end]) for key, place in found.items()} == LONG
    pattern, taken = splice._STEP, []

    class Counted:
        def finditer(self, document: bytes, start: int) -> Iterator[re.Match[bytes]]:
            for step in pattern.finditer(document, start):
                taken.append(step.end() - step.start())
                yield step

    monkeypatch.setattr(splice, "_STEP", Counted())
    ids = json.dumps({"prompt": list(range(1_000_000)), "model": "a"}).encode()
    assert replace_model(ids, "b") == ids[:-3] + b'b"}'
    assert len(taken) < 100
    assert max(taken) <= 1 << 20  # nor all in one, which would hold the interpreter's lock


@pytest.mark.parametrize("model", [None, "a", "b"])
@pytest.mark.parametrize("usage", [True, False])
def test_a_request_is_rewritten_with_and_without_asking(model: str | None, usage: bool) -> None:
    body = b'{"model":"a","stream":true}'
    asking, plain = rewritten(body, model, usage=usage)
    assert plain == (body if model is None else replace_model(body, model))
    assert asking == (include_usage(plain) if usage else plain)
    assert (asking is plain) == (not usage)


@given(
    st.lists(st.sampled_from([*(bytes([mark]) for mark in b'{}[]",:\\ 1'), b'"model"', b'"a":', b"\xff"]), max_size=30)
)
def test_no_bytes_make_looking_for_members_fail(parts: list[bytes]) -> None:
    document = b"{" + b"".join(parts)
    for place in members(document).values():
        assert 0 < place.start <= place.end <= len(document)


KEYS = st.sampled_from(
    ["model", "stream_options", "include_usage", "usage", "a", 'q"uote', "back\\slash", "é", "{[:,]}"]
)
leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=8)
    | st.sampled_from(['"model":"x"', '{"stream_options":{}}', '\\"usage\\":null', ',"usage":null', "}{", "\\"])
)
values = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3), max_leaves=8
)
documents = st.dictionaries(KEYS, values, max_size=6)
gaps = st.lists(st.sampled_from(["", " ", "\n", "\t", "\r\n  "]), min_size=1, max_size=8)


def written(value: Any, gap: Any, ascii_only: bool) -> str:
    """JSON with white space of `gap` (an endless iterator) wherever it may stand."""
    if isinstance(value, dict):
        parts = (
            f"{next(gap)}{json.dumps(key, ensure_ascii=ascii_only)}{next(gap)}:{next(gap)}{written(item, gap, ascii_only)}{next(gap)}"
            for key, item in value.items()
        )
        return "{" + ",".join(parts) + (next(gap) if not value else "") + "}"
    if isinstance(value, list):
        return "[" + ",".join(f"{next(gap)}{written(item, gap, ascii_only)}{next(gap)}" for item in value) + "]"
    return json.dumps(value, ensure_ascii=ascii_only)


def endless(gaps: list[str]) -> Any:
    while True:
        yield from gaps


def encoded(document: Any, spaces: list[str], ascii_only: bool) -> bytes:
    return written(document, endless(spaces), ascii_only).encode("utf-8", "replace")


@given(documents, gaps, st.booleans())
def test_include_usage_changes_nothing_else(document: dict[str, Any], spaces: list[str], ascii_only: bool) -> None:
    options = document.get("stream_options")
    if not isinstance(options, dict | None):
        return
    asked_already = (options or {}).get("include_usage")
    if asked_already is not None and asked_already is not False:
        return
    body = encoded(document, spaces, ascii_only)
    document = json.loads(body)
    expected = {**document, "stream_options": {**(document.get("stream_options") or {}), "include_usage": True}}
    asked = include_usage(body)
    assert json.loads(asked) == expected
    assert kept(body, asked) >= len(body) - len(b"false")


@given(documents, gaps, st.booleans(), st.text(max_size=6))
def test_replace_model_changes_nothing_else(
    document: dict[str, Any], spaces: list[str], ascii_only: bool, model: str
) -> None:
    body = encoded(document, spaces, ascii_only)
    document = json.loads(body)
    model = model.encode("utf-8", "replace").decode()
    replaced = replace_model(body, model)
    if "model" not in document:
        assert replaced == body
        return
    assert json.loads(replaced) == {**document, "model": model}
    place = members(body)[b"model"]
    tail = len(body) - place.end
    assert replaced[: place.start] == body[: place.start]
    assert replaced[len(replaced) - tail :] == body[place.end :]


def kept(before: bytes, after: bytes) -> int:
    """How many bytes the two have in common at both ends."""
    start = next(
        (i for i, (a, b) in enumerate(zip(before, after, strict=False)) if a != b), min(len(before), len(after))
    )
    left, right = before[start:], after[start:]
    end = next(
        (i for i, (a, b) in enumerate(zip(left[::-1], right[::-1], strict=False)) if a != b), min(len(left), len(right))
    )
    return start + end


@pytest.mark.parametrize(
    ("event", "cut"),
    [
        (b'data: {"id":"a","usage":null}\n\n', b'data: {"id":"a"}\n\n'),
        (b'data: {"id":"a","usage":null,"x":1}\n\n', b'data: {"id":"a","x":1}\n\n'),
        (b'data: {"usage":null,"id":"a"}\n\n', b'data: {"id":"a"}\n\n'),
        (b'data: {"usage":null}\n\n', b"data: {}\n\n"),
        (b'data: {"id": "a", "usage": null}\n\n', b'data: {"id": "a"}\n\n'),
        (b'data: {"usage": null, "id": "a"}\n\n', b'data: {"id": "a"}\n\n'),
        (b'data: {"id":"a" , "usage"  :\tnull }\n\n', b'data: {"id":"a"  }\n\n'),
        (b'data: {"id":"a","usage":null}\r\n\r\n', b'data: {"id":"a"}\r\n\r\n'),
        (b'data: {"id":"a","usage":null}', b'data: {"id":"a"}'),
        (b'id: 1\ndata:{"id":"a","usage":null}\nevent: e\n\n', b'id: 1\ndata:{"id":"a"}\nevent: e\n\n'),
        (b'data: {\ndata:  "id": 1,\ndata:  "usage": null\ndata: }\n\n', b'data: {\ndata:  "id": 1\ndata: }\n\n'),
        (b'data: {\ndata:  "usage": null,\ndata:  "id": 1\ndata: }\n\n', b'data: {\ndata:  "id": 1\ndata: }\n\n'),
        (b'data: {\r\ndata: "id":1,\r\ndata: "usage":\r\ndata: null}\r\n\r\n', b'data: {\r\ndata: "id":1}\r\n\r\n'),
        (b'data: {"d":{"usage":null},"usage":null}\n\n', b'data: {"d":{"usage":null}}\n\n'),
        (b'data: {"usage":null,"d":{"a":1,"usage":null}}\n\n', b'data: {"d":{"a":1,"usage":null}}\n\n'),
        (b'data: {"t":"usage","usage":null}\n\n', b'data: {"t":"usage"}\n\n'),
        (b'data: {"t":",\\"usage\\":null","usage":null}\n\n', b'data: {"t":",\\"usage\\":null"}\n\n'),
        (b'data: {"t \\"usage":null,"usage":null}\n\n', b'data: {"t \\"usage":null}\n\n'),
    ],
)  # fmt: skip
def test_a_null_usage_is_cut_with_one_comma(event: bytes, cut: bytes) -> None:
    assert without_null_usage(event) == cut


@pytest.mark.parametrize("odd", [b'"\xff"', b"[" * 100_000 + b"]" * 100_000, b"1e999"])
def test_of_an_event_that_cannot_be_read_nothing_is_cut(odd: bytes) -> None:
    event = b'data: {"choices":[],"usage":null,"x":{"usage":null,"s":' + odd + b"}}\n\n"
    assert without_null_usage(event) == event


@given(documents, st.integers(0, 6), st.sampled_from([(",", ":"), (", ", ": ")]), st.booleans())
def test_cutting_gives_what_would_have_been_sent_without(
    document: dict[str, Any], place: int, separators: tuple[str, str], ascii_only: bool
) -> None:
    document.pop("usage", None)
    items = list(document.items())
    with_null = dict([*items[:place], ("usage", None), *items[place:]])
    one, other = (
        f"data: {json.dumps(value, separators=separators, ensure_ascii=ascii_only)}\n\n".encode("utf-8", "replace")
        for value in (with_null, document)
    )
    assert without_null_usage(one) == other


@given(documents, st.integers(0, 6))
def test_cutting_from_several_lines_gives_what_would_have_been_sent_without(
    document: dict[str, Any], place: int
) -> None:
    document.pop("usage", None)
    if not document:
        return
    items = list(document.items())
    with_null = dict([*items[:place], ("usage", None), *items[place:]])
    one, other = (
        b"data: " + json.dumps(value, indent=1).encode().replace(b"\n", b"\r\ndata: ") + b"\r\n\r\n"
        for value in (with_null, document)
    )
    assert without_null_usage(one) == other
