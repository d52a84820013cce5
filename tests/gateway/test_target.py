"""Targets of request lines."""

import pytest

from gateway.target import climbs, origin_form


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("/v1/models", "/v1/models"),
        ("//evil/x?y", "//evil/x?y"),
        ("/a?u=http://b/c", "/a?u=http://b/c"),
        ("http://gw:4000/metrics", "/metrics"),
        ("https://gw/v1/x?a=b/c", "/v1/x?a=b/c"),
        ("http://gw", "/"),
        ("http://gw?x=1", "/?x=1"),
        ("http://gw?u=a/b", "/?u=a/b"),
        ("http://gw#u/b", "/#u/b"),
        ("*", None),
        ("gw:443", None),
        ("", None),
    ],
)
def test_origin_form(target: str, path: str | None) -> None:
    assert origin_form(target) == path


@pytest.mark.parametrize(
    "path",
    [
        "/v1/../x",
        "/v1/..",
        "/..",
        "/v1/%2e%2E/x",
        "/v1/.%2e/x",
        "/v1/..%2fx",
        "/v1%2F..%2fx",
        "/v1/..\\x",
        "/a%5c..%5cb?q",
    ],
)
def test_what_climbs(path: str) -> None:
    assert climbs(path)


@pytest.mark.parametrize("path", ["/v1/models", "/v1/a..b", "/v1/...", "/v1/x?a=/../b", "/", "/v1/%2e/x", "/v1/..x/y"])
def test_what_does_not_climb(path: str) -> None:
    assert not climbs(path)
