"""The target of a request line: which path it names, and whether that stays below an upstream's base."""

import re

_AUTHORITY = re.compile(r"^[^/?#]*")
_ENCODED = {"%2e": ".", "%2f": "/", "%5c": "/", "\\": "/"}
_AMBIGUOUS = re.compile(r"%2e|%2f|%5c|\\", re.IGNORECASE)


def origin_form(target: str) -> str | None:
    """Path and query of a target, as they came; None when it names no path (`*`, an authority).

    Clients send the absolute form to what they take for a forward proxy: its authority is not looked at.
    """
    if target.startswith("/"):
        return target
    if "://" not in target:
        return None
    rest = _AUTHORITY.sub("", target.split("://", 1)[1])
    return rest if rest.startswith("/") else "/" + rest


def climbs(path: str) -> bool:
    """Whether a path has a `..` segment, however it is written: servers resolve that out of a base's path."""
    plain = _AMBIGUOUS.sub(lambda found: _ENCODED[found.group().lower()], path.partition("?")[0])
    return ".." in plain and ".." in plain.split("/")
