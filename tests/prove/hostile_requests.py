"""Requests that no honest client sends: pure functions from a random generator to bytes."""

import gzip
import json
import random
from collections.abc import Callable

CHAT = "/v1/chat/completions"
TARGETS = (
    CHAT,
    CHAT,
    CHAT,
    "/v1/completions",
    "/v1/embeddings",
    "/v1/models",
    "/v1/messages",
    "/",
    "/metrics",
    "/health/ready",
    "/health/live",
    "/trueclock/v1/summary",
    "/trueclock/v1/../../etc/passwd",
    "/trueclock/v1/%2e%2e/x",
    "/favicon.ico",
    "//",
    "/..",
    "/%00",
    "/%ff%fe",
    "/\u00e9".encode("latin-1").decode("latin-1"),
    "/v1/" + "a/" * 500,
    "/v1?" + "q=1&" * 500,
    "*",
    "",
    "?",
    "/v1/chat/completions?\x01",
    "/#fragment",
    "/v1/chat/completions#x",
    "/\\evil",
    "/ two words",
)
METHODS = (
    "POST",
    "POST",
    "POST",
    "GET",
    "PUT",
    "DELETE",
    "HEAD",
    "OPTIONS",
    "TRACE",
    "PATCH",
    "PRI",
    "X" * 300,
    "p\x00st",
    "",
)
VERSIONS = (
    "HTTP/1.1",
    "HTTP/1.1",
    "HTTP/1.1",
    "HTTP/1.0",
    "HTTP/2.0",
    "HTTP/9.9",
    "http/1.1",
    "HTTP/1.1 ",
    "",
    "ICY",
)


def canary_targets(port: int) -> tuple[str, ...]:
    """Return targets that name another server: the gateway must not go there."""
    there = f"127.0.0.1:{port}"
    return (
        f"http://{there}/v1/models",
        f"@{there}/v1/models",
        f"//{there}/v1/models",
        f"/@{there}",
        f":80@{there}/",
        f".{there}/",
        f"/\\{there}/",
        f"http:/{there}/",
        f"https://{there}/",
        there,
    )


def values(rng: random.Random) -> object:
    """Return a JSON value of any type and of odd sizes."""
    deep: object = "x"
    for _ in range(rng.choice((1, 5, 200))):
        deep = [deep] if rng.random() < 0.5 else {"a": deep}
    return rng.choice(
        (
            None,
            True,
            False,
            0,
            -1,
            1e308,
            10**40,
            "",
            "true",
            "x" * 5000,
            [],
            {},
            deep,
            "\u0000",
            "\ud800",
            "é\U0001f600",
            3.5,
        )
    )


def body_json(rng: random.Random) -> bytes:
    """Return a chat request whose fields have the wrong types."""
    document: dict[str, object] = {
        "model": "openai/davinci",
        "messages": [{"role": "user", "content": "x"}],
        "stream": True,
    }
    keys = (
        "model",
        "messages",
        "stream",
        "stream_options",
        "n",
        "max_tokens",
        "user",
        "",
        "tools",
        "metadata",
        "\u2028",
    )
    for _ in range(rng.randrange(4)):
        document[rng.choice(keys)] = values(rng)
    if rng.random() < 0.3:
        document["stream_options"] = rng.choice(({"include_usage": values(rng)}, {}, {"a": values(rng)}))
    return json.dumps(document, ensure_ascii=rng.random() < 0.5).encode("utf8", "surrogatepass")


def body_broken(rng: random.Random) -> bytes:
    """Return a body that is not JSON, or only just."""
    good = body_json(rng)
    cut = good[: rng.randrange(len(good))]
    twice = b'{"model":"a","model":"b","stream":true,"stream":false,"stream_options":{},"stream_options":null}'
    nested = b"[" * 20_000 + b"]" * rng.choice((0, 20_000))
    stacked = b'{"model":' + b'{"a":' * 3000 + b"1" + b"}" * 3001
    wrapped = rng.choice((gzip.compress(good), b"\xef\xbb\xbf" + good, good.decode("utf8", "replace").encode("utf-16")))
    numbers = b'{"model":"a","stream":true,"n":' + b"9" * 5000 + b"}"
    spaced = b' \n\t{ "stream" :\r\n true , "model"\t:"a" , } '
    return rng.choice(
        (
            b"",
            b"null",
            b"[]",
            b'"',
            b"{",
            b"{}",
            cut,
            twice,
            nested,
            stacked,
            wrapped,
            numbers,
            spaced,
            rng.randbytes(300),
        )
    )


def hostile_headers(rng: random.Random) -> list[str]:
    """Return some header lines that lie, repeat, overflow or are no headers."""
    many = [f"x-{i}: {i}" for i in range(rng.choice((3, 90, 400)))]
    lines = (
        "content-length: 0",
        "content-length: -1",
        "content-length: 99999999999999999999",
        "content-length: 0x10",
        "content-length: 5, 5",
        "transfer-encoding: chunked",
        "transfer-encoding: chunked, identity",
        "transfer-encoding: gzip",
        "transfer-encoding:\tchunked",
        "connection: close, content-type, authorization",
        "connection: upgrade",
        "upgrade: websocket",
        "expect: 100-continue",
        "expect: the-unexpected",
        "host: evil.invalid",
        "host:",
        "host: [::1",
        "origin: http://evil.invalid",
        "content-encoding: gzip",
        "content-encoding: br, zstd",
        "content-encoding: nonsense",
        "accept-encoding: gzip;q=nan, *;q=-1",
        "te: trailers",
        "trailer: content-length",
        "authorization: Bearer",
        "authorization: Bearer " + "k" * 7000,
        "x-trueclock-tags: " + "t," * 3000,
        "x-trueclock-tags: n=\x7f\x80",
        "x-trueclock-tags: =,,=,\t,a=b=c",
        "x-trueclock-problem: " + "p" * 6000,
        "x-trueclock-\u00e9: 1",
        "x-trueclock-strategy:",
        "cookie: " + "c=1; " * 1500,
        "range: bytes=0-1,5-",
        "content-type: multipart/form-data; boundary=",
        "content-type: text/event-stream",
        " folded: line",
        "no colon here",
        ": no name",
        "na me: x",
        "x: a\x00b",
        "x: a\rb",
        "x: " + "y" * 9000,
        *many[:1],
    )
    chosen = [rng.choice(lines) for _ in range(rng.randrange(5))]
    return chosen + many if rng.random() < 0.05 else chosen


def head(rng: random.Random, length: int, target: str) -> bytes:
    """Return a request's head around a body of so many bytes, with hostile headers now and then."""
    lines = [f"{rng.choice(METHODS)} {target} {rng.choice(VERSIONS)}", "host: 127.0.0.1"]
    lines += hostile_headers(rng) if rng.random() < 0.7 else []
    lines += [f"content-length: {length}"] if rng.random() < 0.9 else []
    ending = "\n" if rng.random() < 0.05 else "\r\n"
    return (ending.join(lines) + ending * 2).encode("latin-1", "replace")


def odd_request(rng: random.Random, targets: tuple[str, ...]) -> bytes:
    """Return an honest frame with a dishonest body, or the other way round."""
    body = body_json(rng) if rng.random() < 0.5 else body_broken(rng)
    target = rng.choice(targets)
    if rng.random() < 0.5:
        line = f"POST {CHAT}?evil={rng.randrange(1 << 30)} HTTP/1.1\r\nhost: 127.0.0.1\r\n"
        return f"{line}content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body
    return head(rng, len(body) + rng.choice((0, 0, 0, 1, -1, 100)), target) + body


def chunked_request(rng: random.Random, _targets: tuple[str, ...]) -> bytes:
    """Return a chunked upload whose framing is wrong somewhere."""
    body = body_json(rng)
    sizes = (
        f"{len(body):x}",
        f"{len(body):x};ext=1",
        f"{len(body) + 5:x}",
        "-1",
        "fffffffffffffffff",
        "zz",
        "",
        "0" * 200 + "5",
    )
    line = f"POST {CHAT}?evil={rng.randrange(1 << 30)} HTTP/1.1\r\nhost: 127.0.0.1\r\n"
    line += "transfer-encoding: chunked\r\n"
    end = rng.choice((b"0\r\n\r\n", b"0\r\n\r\n", b"0\r\nx: y\r\n\r\n", b"", b"0\n\n"))
    return line.encode() + b"\r\n" + rng.choice(sizes).encode() + b"\r\n" + body + b"\r\n" + end


def random_bytes(rng: random.Random, _targets: tuple[str, ...]) -> bytes:
    """Return noise."""
    return rng.randbytes(rng.choice((0, 1, 10, 300, 5000)))


def mutated(rng: random.Random, _targets: tuple[str, ...]) -> bytes:
    """Return an honest request with some bytes of its headers and body changed, repeated or taken out."""
    body = b'{"model":"openai/davinci","stream":true,"messages":[{"role":"user","content":"hello"}]}'
    first = f"POST {CHAT}?evil={rng.randrange(1 << 30)} ".encode()  # kept: a changed target could name a host
    rest = b"HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (
        len(body),
        body,
    )
    data = bytearray(rest)
    for _ in range(rng.randrange(1, 6)):
        at = rng.randrange(len(data) + 1)
        match rng.randrange(4):
            case 0 if at < len(data):
                data[at] = rng.randrange(256)
            case 1:
                data[at:at] = rng.randbytes(rng.randrange(1, 9))
            case 2:
                del data[at : at + rng.randrange(1, 9)]
            case _:
                data[at:at] = data[at : at + 40]
    return first + bytes(data)


def oversized(rng: random.Random, _targets: tuple[str, ...]) -> bytes:
    """Return a request that is far too long somewhere, or that promises to be."""
    length = 10 ** rng.randrange(6, 18)
    promise = f"POST {CHAT} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: {length}\r\n\r\n".encode()
    return rng.choice(
        (
            b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n",
            b"GET / HTTP/1.1\r\nhost: 127.0.0.1\r\nx: " + b"y" * 200_000 + b"\r\n\r\n",
            b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 20_000 + b"\r\n",
            promise + b"{" * 1000,
            promise + b'{"model":"a","messages":"' + b"z" * 300_000,
        )
    )


def pipelined(rng: random.Random, targets: tuple[str, ...]) -> bytes:
    """Return several requests in one write, of which the client reads what it likes."""
    return b"".join(odd_request(rng, targets) for _ in range(rng.randrange(2, 6)))


MAKERS: tuple[Callable[[random.Random, tuple[str, ...]], bytes], ...] = (
    odd_request,
    odd_request,
    odd_request,
    mutated,
    mutated,
    chunked_request,
    random_bytes,
    oversized,
    pipelined,
)


def hostile_request(rng: random.Random, targets: tuple[str, ...]) -> bytes:
    """Return one request of any of these kinds."""
    return rng.choice(MAKERS)(rng, targets)
