"""Who may talk to the gateway by way of a browser: Host and Origin."""

from typing import Any, cast

import pytest
from aiohttp.web_request import BaseRequest
from multidict import CIMultiDict

from gateway.guard import Guard
from gateway.refusal import Refusal
from stream.hosts import is_address, is_loopback


class Asked:
    """What the guard looks at of a request."""

    def __init__(self, headers: dict[str, str]) -> None:
        self.headers = CIMultiDict(headers)


def refusal_of(guard: Guard, **headers: str) -> str | None:
    request = cast("BaseRequest", cast("Any", Asked(headers)))
    try:
        guard.check(request)
    except Refusal as refusal:
        return refusal.code if refusal.status == 403 else f"status {refusal.status}"
    return None


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("127.0.0.1", True), ("127.8.9.1", True), ("::1", True), ("[::1]", True), ("localhost", True),
        ("0.0.0.0", False), ("::", False), ("10.0.0.1", False), ("example.com", False), ("", False),
    ],
)  # fmt: skip
def test_is_loopback(host: str, local: bool) -> None:
    assert is_loopback(host) is local


LOCAL = [
    "localhost",
    "localhost:4000",
    "LOCALHOST:1",
    "127.0.0.1",
    "127.0.0.1:4000",
    "[::1]",
    "[::1]:4000",
    "localhost:",
]
FOREIGN = [
    "", "evil.com", "evil.com:4000", "localhost.evil.com", "127.0.0.1.evil.com", "127.0.0.2", "[::2]:4000", "::1", "[::1",
    "[::1]x", "localhost@evil.com", "localhost:80@evil.com", "localhost:x", "evil.com#localhost",
]  # fmt: skip


@pytest.mark.parametrize("bind", ["127.0.0.1", "::1", "localhost"])
@pytest.mark.parametrize("host", LOCAL)
def test_on_loopback_local_names_are_served(bind: str, host: str) -> None:
    guard = Guard(bind)
    assert refusal_of(guard, Host=host) is None
    assert refusal_of(guard, Host=host) is None


@pytest.mark.parametrize("host", FOREIGN)
def test_on_loopback_other_names_are_refused(host: str) -> None:
    guard = Guard("127.0.0.1")
    assert refusal_of(guard, Host="localhost") is None
    assert refusal_of(guard, Host=host) == "host_not_allowed"


def test_on_loopback_a_host_is_needed() -> None:
    assert refusal_of(Guard("127.0.0.1")) == "host_not_allowed"


@pytest.mark.parametrize("host", [*LOCAL, *FOREIGN])
def test_on_a_wider_bind_every_host_is_served_unless_some_are_named(host: str) -> None:
    assert refusal_of(Guard("0.0.0.0"), Host=host) is None
    assert refusal_of(Guard("0.0.0.0")) is None


@pytest.mark.parametrize(
    ("bind", "host", "code"),
    [
        ("0.0.0.0", "llm.corp", None),
        ("0.0.0.0", "LLM.corp:4000", None),
        ("0.0.0.0", "localhost:4000", None),
        ("0.0.0.0", "evil.com", "host_not_allowed"),
        ("127.0.0.1", "llm.corp", None),
        ("127.0.0.1", "evil.com", "host_not_allowed"),
    ],
)
def test_named_hosts_are_served_beside_the_local_ones(bind: str, host: str, code: str | None) -> None:
    assert refusal_of(Guard(bind, ["LLM.Corp"]), Host=host) == code


@pytest.mark.parametrize("origin", ["http://localhost:4000", "https://127.0.0.1", "http://[::1]:9", "http://LOCALHOST"])
def test_a_local_origin_may_use_a_local_gateway(origin: str) -> None:
    assert refusal_of(Guard("127.0.0.1"), Host="localhost", Origin=origin) is None


@pytest.mark.parametrize(
    "origin",
    ["http://evil.com", "null", "", "http://localhost.evil.com", "http://localhost@evil.com", "http://localhost:80@evil.com", "http://[::1", "file://"],
)  # fmt: skip
def test_a_foreign_origin_may_not(origin: str) -> None:
    assert refusal_of(Guard("127.0.0.1"), Host="localhost", Origin=origin) == "origin_not_allowed"
    assert refusal_of(Guard("0.0.0.0"), Host="localhost", Origin=origin) is None


@pytest.mark.parametrize(
    ("origin", "trusted"),
    [
        (None, True), ("http://llm.corp:4001", True), ("https://LLM.corp:4001", True), ("http://llm.corp", False),
        ("http://evil.com", False), ("null", False), ("", False), ("http://[::1", False), ("http://localhost:4001", False),
    ],
)  # fmt: skip
def test_what_changes_something_is_for_our_own_pages_on_a_wider_bind_too(origin: str | None, trusted: bool) -> None:
    headers = {"Host": "llm.corp:4001"} | ({} if origin is None else {"Origin": origin})
    request = cast("BaseRequest", cast("Any", Asked(headers)))
    for guard in (Guard("0.0.0.0"), Guard("10.0.0.1", ["llm.corp"])):
        guard.check(request)
        if trusted:
            guard.check_change(request)
            continue
        with pytest.raises(Refusal, match="a web page of another origin"):
            guard.check_change(request)


def test_what_is_remembered_is_bounded() -> None:
    guard = Guard("127.0.0.1")
    for port in range(3000):
        assert refusal_of(guard, Host=f"localhost:{port}") is None
    assert len(guard._hosts._known) <= 1000
    assert refusal_of(guard, Host="evil.com") == "host_not_allowed"


@pytest.mark.parametrize(
    ("text", "found"),
    [("127.0.0.1", True), ("::1", True), ("[::1]", True), ("localhost", False), ("h:80", False), ("", False)],
)
def test_is_address(text: str, found: bool) -> None:
    assert is_address(text) is found
