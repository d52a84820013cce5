"""Numbers as a report writes them."""

from collections.abc import Iterable, Sequence

from profiler.tables import significant

__all__ = ["UNKNOWN", "band", "listed", "number", "percent", "plural", "seconds", "short_name", "span", "spread"]

UNKNOWN = "-"
_LEAST = 1e-3  # smaller numbers are written with an exponent
_LISTED = 6


def number(value: float | None, digits: int = 3) -> str:
    """So many digits that matter, and of large numbers all before the point."""
    if value is None:
        return UNKNOWN
    short = significant(value, digits)
    if short and abs(short) < _LEAST:
        return f"{short:.{digits - 1}e}"
    return f"{short:,.0f}" if abs(short) >= 10 ** (digits - 1) else f"{short:.{digits}g}"


def seconds(value: float) -> str:
    """A time, in milliseconds if it is short."""
    return f"{number(value)} s" if value >= 1 else f"{number(1000 * value)} ms"


def percent(share: float) -> str:
    """A share, with a decimal where it is small."""
    return f"{share:.1%}" if abs(share) < 0.1 else f"{share:.0%}"


def band(value: float | None, low: float | None, high: float | None) -> str:
    """A number and the ends of its band, if it has one."""
    if value is None or low is None or high is None or low == high:
        return number(value)
    return f"{number(value)} ({number(low)} to {number(high)})"


def span(values: Sequence[float]) -> str:
    """From the least to the most of some factors."""
    low, high = number(min(values)), number(max(values))
    return f"{low}" if low == high else f"{low} to {high}"


def spread(values: Sequence[int], count: int) -> list[int]:
    """At most so many of these values, the first and the last among them and the others evenly between."""
    known = sorted(set(values))
    if len(known) <= count:
        return known
    return [known[round(place * (len(known) - 1) / (count - 1))] for place in range(count)]


def plural(count: int, what: str) -> str:
    """So many of something, whose plural ends in s."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def short_name(model: str) -> str:
    """A model without whose it is."""
    return model.rsplit("/", 1)[-1]


def listed(names: Iterable[str]) -> str:
    """Names in a sentence, the first few of many."""
    every = list(names)
    more = f" and {len(every) - _LISTED} more" if every[_LISTED:] else ""
    return f"{', '.join(every[:_LISTED])}{more}"
