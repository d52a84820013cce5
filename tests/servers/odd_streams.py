"""Odd but legal event streams, as bytes: each function gives the events of one.

`asked` is whether the request asked for `stream_options.include_usage`. Every stream
says " one two three four" (4 completion tokens of an 11-token prompt) unless its
docstring says otherwise.
"""

import json
from collections.abc import Callable
from typing import Any

TOKENS = (" one", " two", " three", " four")
USAGE = {"prompt_tokens": 11, "completion_tokens": 4, "total_tokens": 15}
DONE = b"data: [DONE]\n\n"
COMPACT = (",", ":")
SPACED = (", ", ": ")

Events = Callable[[bool], list[bytes]]
Chunk = dict[str, Any]


def chunk(delta: Chunk | None, finish: str | None = None, **more: Any) -> Chunk:
    """One chat.completion.chunk; a delta of None is `choices: []`."""
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    base = {"id": "chatcmpl-odd", "object": "chat.completion.chunk", "created": 1, "model": "odd-1"}
    return {**base, "choices": choices, **more}


def chunks(**more: Any) -> list[Chunk]:
    """The role chunk, a chunk a token, and the finish chunk; `more` goes into each."""
    deltas: list[Chunk] = [{"role": "assistant", "content": ""}, *({"content": token} for token in TOKENS)]
    return [*(chunk(delta, **more) for delta in deltas), chunk({}, "stop", **more)]


def asked_for(asked: bool) -> list[Chunk]:
    """OpenAI's own chunks: with usage asked for, a null in each and the usage chunk."""
    return [*chunks(usage=None), chunk(None, usage=USAGE)] if asked else chunks()


def event(value: Chunk, separators: tuple[str, str] = COMPACT) -> bytes:
    return b"data: " + json.dumps(value, separators=separators).encode() + b"\n\n"


def events(values: list[Chunk], separators: tuple[str, str] = COMPACT) -> list[bytes]:
    return [*(event(value, separators) for value in values), DONE]


def plain(asked: bool) -> list[bytes]:
    """Nothing odd: OpenAI's framing."""
    return events(asked_for(asked))


def spaced(asked: bool) -> list[bytes]:
    """Spaces after colons and commas, as Python's json writes: `"usage": null`, `"usage": {`."""
    return events(asked_for(asked), SPACED)


def airy(asked: bool) -> list[bytes]:
    """More white space than anyone needs around `usage`: ` , "usage"  :\\tnull }`."""
    values = [json.dumps(value).encode() for value in asked_for(asked)]
    loose = (value.replace(b', "usage": null}', b' , "usage"  :\tnull }') for value in values)
    return [*(b"data: " + value.replace(b'"usage": {', b'"usage" : { ') + b"\n\n" for value in loose), DONE]


def usage_on_choices(asked: bool) -> list[bytes]:
    """Usage on the chunk with the finish reason, whose choices are not empty; no nulls elsewhere."""
    values = chunks()
    return events([*values[:-1], {**values[-1], "usage": USAGE}] if asked else values)


def usage_always(asked: bool) -> list[bytes]:
    """As `transformers serve`: usage on the last chunk whether asked or not, and no [DONE]."""
    values = chunks()
    return events([*values[:-1], {**values[-1], "usage": USAGE}])[:-1]


def usage_every_chunk(asked: bool) -> list[bytes]:
    """As vLLM's continuous_usage_stats: a growing usage on every chunk, then the usage chunk."""
    values = chunks()
    grown = [{**value, "usage": _grown(count)} for count, value in enumerate(values)]
    return events([*grown, chunk(None, usage=USAGE)] if asked else values)


def usage_zero_first(asked: bool) -> list[bytes]:
    """A usage of zeros on every chunk until the last one has the real one."""
    zeros = dict.fromkeys(USAGE, 0)
    return events([*chunks(usage=zeros), chunk(None, usage=USAGE)] if asked else chunks())


def no_usage(asked: bool) -> list[bytes]:
    """No usage at all, even when asked."""
    return events(chunks())


def no_done(asked: bool) -> list[bytes]:
    """The stream just ends: no [DONE]."""
    return plain(asked)[:-1]


def unended(asked: bool) -> list[bytes]:
    """The last line, `data: [DONE]`, has no line end and no empty line after it."""
    return [*plain(asked)[:-1], b"data: [DONE]"]


def nulls_always(asked: bool) -> list[bytes]:
    """`"usage":null` in each chunk even when nobody asked."""
    return events([*chunks(usage=None), *([chunk(None, usage=USAGE)] if asked else [])])


def null_first(asked: bool) -> list[bytes]:
    """`"usage":null` as the first key of each chunk."""
    values = [{"usage": None, **value} for value in chunks()]
    return events([*values, chunk(None, usage=USAGE)] if asked else chunks())


def null_nested(asked: bool) -> list[bytes]:
    """A `"usage":null` that is not at the top level (inside the delta) beside the one that is."""
    deltas = [{"content": token, "usage": None, "meta": {"usage": None}} for token in TOKENS]
    values = [chunk(delta, **({"usage": None} if asked else {})) for delta in deltas]
    return events([*values, *([chunk(None, usage=USAGE)] if asked else [])])


def quoted_usage(asked: bool) -> list[bytes]:
    """The model talks about usage: its text holds `"usage":null`, `"usage":{…}` and `data: [DONE]`."""
    texts = (
        '{"usage":null}',
        ',"usage":null',
        '{"choices":[],"usage":{"prompt_tokens":999}}',
        "data: [DONE]\n\n",
    )
    more = {"usage": None} if asked else {}
    values = [chunk({"content": text}, **more) for text in texts]
    return events([*values, *([chunk(None, usage=USAGE)] if asked else [])])


def pings(asked: bool) -> list[bytes]:
    """`: ping` comments first, between the events, and last."""
    parts = [part for piece in plain(asked) for part in (b": ping\n\n", piece)]
    return [b":\n\n", *parts, b": OPENROUTER PROCESSING\n\n"]


def crlf(asked: bool) -> list[bytes]:
    """CRLF line ends."""
    return [piece.replace(b"\n", b"\r\n") for piece in plain(asked)]


def lone_cr(asked: bool) -> list[bytes]:
    """CR line ends."""
    return [piece.replace(b"\n", b"\r") for piece in plain(asked)]


def multi_line(asked: bool) -> list[bytes]:
    """Each JSON object over several `data:` lines."""
    indented = (json.dumps(value, indent=1).encode() for value in asked_for(asked))
    return [*(b"data: " + value.replace(b"\n", b"\ndata: ") + b"\n\n" for value in indented), DONE]


def fields(asked: bool) -> list[bytes]:
    """`event:`, `id:` and `retry:` beside the data, after it too."""
    pieces = enumerate(plain(asked))
    return [b"retry: 3000\n\n", *(_with_fields(number, piece) for number, piece in pieces)]


def no_space(asked: bool) -> list[bytes]:
    """`data:{…}` without the space that may follow the colon."""
    return [piece.replace(b"data: ", b"data:", 1) for piece in plain(asked)]


def byte_order_mark(asked: bool) -> list[bytes]:
    """A UTF-8 byte order mark before the first event, which the standard has readers skip."""
    first, *rest = plain(asked)
    return [b"\xef\xbb\xbf" + first, *rest]


def azure_first(asked: bool) -> list[bytes]:
    """As Azure: a first chunk of `choices: []` with filter results and no usage object."""
    more = {"usage": None} if asked else {}
    return [event(chunk(None, prompt_filter_results=[{"prompt_index": 0}], **more)), *plain(asked)]


def reasoning(asked: bool) -> list[bytes]:
    """Reasoning deltas (`reasoning_content`, as DeepSeek's) before the first content."""
    more = {"usage": None} if asked else {}
    thoughts = [chunk({"content": None, "reasoning_content": text}, **more) for text in (" hm", " so")]
    first, *rest = asked_for(asked)
    return events([first, *thoughts, *rest])


def big_event(asked: bool) -> list[bytes]:
    """One event of 300,000 bytes among the others."""
    first, *rest = asked_for(asked)
    big = chunk({"content": "x" * 300_000}, **({"usage": None} if asked else {}))
    return events([first, big, *rest])


def unicode(asked: bool) -> list[bytes]:
    """Text beyond ASCII written as it is: 2, 3 and 4 bytes a character, U+2028 among them."""
    more = {"usage": None} if asked else {}
    texts = ("\u00e9", "\u2028", "\u4e16", "\U0001f600")
    raw = [json.dumps(chunk({"content": text}, **more), ensure_ascii=False).encode() for text in texts]
    tail = [event(chunk(None, usage=USAGE))] if asked else []
    return [*(b"data: " + value + b"\n\n" for value in raw), *tail, DONE]


def only_done(asked: bool) -> list[bytes]:
    """No event but [DONE]."""
    return [DONE]


def error_then_done(asked: bool) -> list[bytes]:
    """An error event after two tokens, and then the stream ends in order."""
    return [*plain(asked)[:3], error_event(), DONE]


def error_event() -> bytes:
    """The event with which a server reports that it failed in mid-stream."""
    error = {"message": "The server had an error while processing", "type": "server_error", "code": None}
    return event({"error": error})


def _grown(tokens: int) -> dict[str, int]:
    return {"prompt_tokens": 11, "completion_tokens": tokens, "total_tokens": 11 + tokens}


def _with_fields(number: int, piece: bytes) -> bytes:
    return b"event: message\nid: %d\n" % number + piece.rstrip(b"\n") + b"\nretry: 10\n\n"


STREAMS: dict[str, Events] = {
    made.__name__: made
    for made in (
        plain, spaced, airy, usage_on_choices, usage_always, usage_every_chunk, usage_zero_first, no_usage,
        no_done, unended, nulls_always, null_first, null_nested, quoted_usage, pings, crlf, lone_cr, multi_line,
        fields, no_space, byte_order_mark, azure_first, reasoning, big_event, unicode, only_done, error_then_done,
    )
}  # fmt: skip
"""The streams that are complete replies, by name."""
