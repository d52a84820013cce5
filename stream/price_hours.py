"""Off-peak hours of a price, as litellm's `off_peak_pricing` writes them: `16:30-00:30` in UTC, on some weekdays."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, time, tzinfo
from typing import Any

__all__ = ["off_peak_hours"]

_Window = tuple[frozenset[int] | None, time, time]


def off_peak_hours(block: Mapping[str, Any] | None) -> Callable[[datetime], bool] | None:
    """Whether a moment lies in the hours of a block; None where it has none. Hours that are none count as absent."""
    if block is None:
        return None
    windows = _windows(block.get("hours_utc"), None)
    for rule in block.get("windows") or ():
        windows += _windows(rule.get("hours_utc"), rule.get("weekdays"))
    zone = _zone(block.get("weekday_timezone"))

    def off_peak(moment: datetime) -> bool:
        day, now = moment.astimezone(zone).isoweekday(), moment.astimezone(UTC).time()
        return any((days is None or day in days) and _within(now, start, end) for days, start, end in windows)

    return off_peak if windows else None


def _windows(hours: Any, weekdays: Any) -> list[_Window]:
    """`weekdays` are 1 for Monday to 7, None for all."""
    days = None if weekdays is None else frozenset(weekdays)
    found: list[_Window] = []
    for window in [hours] if isinstance(hours, str) else hours or ():
        start, _, end = window.partition("-")
        try:
            found.append((days, time.fromisoformat(start.strip()), time.fromisoformat(end.strip())))
        except ValueError:
            continue
    return found


def _zone(name: str | None) -> tzinfo:
    from zoneinfo import ZoneInfo

    try:
        return ZoneInfo(name) if name else UTC
    except (ValueError, OSError, KeyError):
        return UTC


def _within(now: time, start: time, end: time) -> bool:
    """From the start to before the end, over midnight where that lies between; all day where both are the same."""
    return start <= now < end if start < end else now >= start or now < end
