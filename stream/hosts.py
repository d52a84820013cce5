"""Who may ask by way of a browser: by Host and Origin, so that no web page reaches a server on loopback. Pure."""

import re
from collections.abc import Collection
from ipaddress import ip_address
from urllib.parse import urlsplit

__all__ = ["Hosts", "is_address", "is_loopback", "url_of"]

_NAME_AND_PORT = re.compile(r"(\[[^\]]*\]|[^:\[\]@]*)(?::\d*)?")
_LOCAL = frozenset({"localhost", "127.0.0.1", "[::1]"})
_KNOWN = 1000


def is_loopback(host: str) -> bool:
    """Whether a bind address is reachable from this machine alone."""
    return host == "localhost" or (is_address(host) and ip_address(host.strip("[]")).is_loopback)


def is_address(text: str) -> bool:
    """Whether a text is an IP address; IPv6 with or without brackets."""
    try:
        ip_address(text.strip("[]"))
    except ValueError:
        return False
    return True


def url_of(host: str, port: int) -> str:
    """The URL under which a bound address is reached from this machine."""
    shown = "127.0.0.1" if host in ("0.0.0.0", "::", "localhost") else host  # noqa: S104 - shown, not bound
    return f"http://[{shown}]:{port}" if ":" in shown and not shown.startswith("[") else f"http://{shown}:{port}"


def _without_port(host: str) -> str:
    """The name in a Host or an Origin; "" for what is neither a name nor one with a port."""
    found = _NAME_AND_PORT.fullmatch(host)
    return found[1] if found else ""


def _netloc(origin: str) -> str:
    """The host and port of an Origin; "" for what has none, such as `null`."""
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return ""


class Hosts:
    """The hosts that an address serves. On loopback the local names are; on a wider bind all, unless some are named."""

    def __init__(self, bind: str, allowed: Collection[str] = ()) -> None:
        """Serve `bind`, and the `allowed` names."""
        named = frozenset(host.lower() for host in allowed)
        self._hosts = named | _LOCAL if is_loopback(bind) or named else None
        self._loopback = is_loopback(bind)
        self._known: set[str] = set()

    def serves(self, host: str) -> bool:
        """Whether a request's Host is one of ours."""
        if self._hosts is None or host in self._known:
            return True
        found = _without_port(host).lower() in self._hosts
        if found and len(self._known) < _KNOWN:
            self._known.add(host)
        return found

    def trusts(self, origin: str | None) -> bool:
        """Whether a request's Origin, if it has one, may ask: on loopback only our own pages may."""
        if origin is None or not self._loopback:
            return True
        return self._hosts is not None and _without_port(_netloc(origin)).lower() in self._hosts

    def trusts_to_change(self, origin: str | None, host: str) -> bool:
        """Whether a request for `host` may change something: of web pages only our own, on a wider bind too."""
        return self._loopback or origin is None or _netloc(origin).lower() == host.lower()
