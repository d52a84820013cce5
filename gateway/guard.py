"""Who may talk to the gateway by way of a browser: Host and Origin, as a refusal."""

from collections.abc import Collection

from aiohttp.web_request import BaseRequest

from gateway.refusal import Refusal
from stream.hosts import Hosts


class Guard:
    """Refuses hosts that are not named. On loopback the local names are; on a wider bind all, unless some are."""

    def __init__(self, bind: str, allowed: Collection[str] = ()) -> None:
        self._hosts = Hosts(bind, allowed)

    def check(self, request: BaseRequest) -> None:
        """Raise Refusal (403) for a Host, or on loopback an Origin, that is not one of ours."""
        headers = request.headers
        host, origin = headers.get("Host", ""), headers.get("Origin")
        if not self._hosts.serves(host):
            raise Refusal(403, "host_not_allowed", "this Host is not served here (--allowed-host names more)")
        if not self._hosts.trusts(origin):
            raise _foreign()

    def check_change(self, request: BaseRequest) -> None:
        """After `check`: raise Refusal (403) where a web page that is not one of ours wants to change something."""
        headers = request.headers
        if not self._hosts.trusts_to_change(headers.get("Origin"), headers.get("Host", "")):
            raise _foreign()


def _foreign() -> Refusal:
    return Refusal(403, "origin_not_allowed", "a web page of another origin may not use this gateway")
