"""Who may talk to the gateway by way of a browser: Host and Origin, so that no web page reaches a local one."""

import re
from collections.abc import Collection
from urllib.parse import urlsplit

from aiohttp.web_request import BaseRequest

from gateway.addresses import is_loopback
from gateway.refusal import Refusal

_NAME_AND_PORT = re.compile(r"(\[[^\]]*\]|[^:\[\]@]*)(?::\d*)?")
_LOCAL = frozenset({"localhost", "127.0.0.1", "[::1]"})


def _without_port(host: str) -> str:
    """The name in a Host or an Origin; "" for what is neither a name nor one with a port."""
    found = _NAME_AND_PORT.fullmatch(host)
    return found[1] if found else ""


class Guard:
    """Refuses hosts that are not named. On loopback the local names are; on a wider bind all, unless some are."""

    def __init__(self, bind: str, allowed: Collection[str] = ()) -> None:
        named = frozenset(host.lower() for host in allowed)
        self._hosts = named | _LOCAL if is_loopback(bind) or named else None
        self._loopback = is_loopback(bind)
        self._known: set[str] = set()

    def check(self, request: BaseRequest) -> None:
        """Raise Refusal (403) for a Host, or on loopback an Origin, that is not one of ours."""
        host = request.headers.get("Host", "")
        if self._hosts is not None and host not in self._known:
            if _without_port(host).lower() not in self._hosts:
                raise Refusal(403, "host_not_allowed", "this Host is not served here (--allowed-host names more)")
            if len(self._known) < 1000:
                self._known.add(host)
        origin = request.headers.get("Origin")
        if origin is not None and self._loopback and not self._own(origin):
            raise Refusal(403, "origin_not_allowed", "a web page of another origin may not use this gateway")

    def _own(self, origin: str) -> bool:
        try:
            name = urlsplit(origin).netloc
        except ValueError:
            return False
        return self._hosts is not None and _without_port(name).lower() in self._hosts
