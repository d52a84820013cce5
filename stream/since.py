"""Moments as people name them: `15m`, `6h`, `7d`, `2w` ago, or RFC 3339. Command line and HTTP read them alike."""

import re
from datetime import datetime

__all__ = ["SinceError", "since_moment"]

_AGO = re.compile(r"(\d+(?:\.\d+)?)([smhdw])", re.ASCII)
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


class SinceError(ValueError):
    """No moment. `str(error)` says what was expected; whoever asked says where (`--since`, `since=`)."""


def since_moment(text: str, now: float) -> float:
    """Seconds since 1970: RFC 3339 with a zone, or so long before `now` as 15m, 6h, 7d, 2w; raise SinceError."""
    ago = _AGO.fullmatch(text)
    if ago:
        return max(now - float(ago[1]) * _SECONDS[ago[2]], 0.0)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise SinceError("expected a time such as 2026-01-31T12:00:00Z, or 15m, 6h, 7d, 2w")
    return moment.timestamp()
