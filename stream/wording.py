"""Numbers as people say them: seconds with a sensible number of digits, ratios, counts. Pure."""

import math
from collections.abc import Iterable

__all__ = ["Scale", "amount", "count", "printable", "ratio", "seconds", "spread"]

_COARSE_SECONDS = 100.0
_ALMOST_ONE = 0.995  # would be 1,000 ms
_FURTHER_DIGITS = 2
_MOST_DIGITS = 9


class Scale:
    """A unit and a number of digits for one duration and all its parts, so that they can be added as shown.

    At least two digits of the whole are shown (0.1 s at the coarsest up to 100 s), and up to two more where a
    part would else be shown as nothing.
    """

    def __init__(self, whole: float, parts: Iterable[float] = ()) -> None:
        parts = [abs(part) for part in parts if part]
        whole = abs(whole)
        whole = 1.0 if _ALMOST_ONE <= whole < 1 else whole
        coarsest = 0 if whole >= _COARSE_SECONDS else 1
        self.digits = coarsest if whole <= 0 else max(coarsest, 1 - math.floor(math.log10(whole)))
        small = min(parts, default=math.inf)
        wanted = next((more for more in range(_FURTHER_DIGITS + 1) if small >= 10.0 ** -(self.digits + more)), 0)
        self.digits = min(self.digits + wanted, _MOST_DIGITS)
        self._milli = 0 < max(whole, *parts, 0.0) < _ALMOST_ONE

    def rounded(self, value: float) -> float:
        """The value as it is shown."""
        return round(value, self.digits) + 0.0

    def bare(self, value: float) -> str:
        """The number without its unit."""
        # Rounded in seconds, before the change of unit: at 10 ms a digit, 344 ms is 340 ms.
        number = self.rounded(value) * (1000 if self._milli else 1)
        digits = max(self.digits - 3, 0) if self._milli else self.digits
        sign = "−" if number < 0 else ""  # noqa: RUF001 - a minus
        return f"{sign}{abs(number):,.{digits}f}"

    def __call__(self, value: float) -> str:
        return f"{self.bare(value)} {'ms' if self._milli else 's'}"


def seconds(value: float) -> str:
    """One duration by itself: `3.2 s`, `340 ms`, `0.4 ms`."""
    return Scale(value)(value) if value else "0 s"


def spread(value: float, low: float, high: float, scale: Scale) -> str:
    """`1.5 s ± 0.1`; where the interval is lopsided, `1.5 s (1.4 to 2.3)`."""
    down, up = value - low, high - value
    larger = max(down, up)
    if min(down, up) < larger / 2 and scale.rounded(larger) > 0:
        return f"{scale(value)} ({scale.bare(low)} to {scale.bare(high)})"
    if scale.rounded(larger) > 0:
        return f"{scale(value)} ± {scale.bare(larger)}"
    return f"{scale(value)} ± {seconds(larger)}" if larger > 0 else scale(value)


def ratio(value: float) -> str:
    """`2.9`, `0.85`, `120`."""
    if value >= 10:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 1 else f"{value:.2g}"


def amount(value: float, unit: str) -> str:
    """`$0.0031`, `42 J`, `1.7 kJ`, `3.2 TFLOP`: two digits, and of all but dollars a unit that suits."""
    if unit == "$":
        return f"${_two_digits(value)}"
    steps = [(1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, "")]
    least, prefix = next(((least, prefix) for least, prefix in steps if value >= least), (1e-3, "m"))
    return f"{_two_digits(value / least)} {prefix}{unit}"


def _two_digits(value: float) -> str:
    if value >= 10:
        return f"{value:,.0f}"
    digits = 1 - math.floor(math.log10(value)) if value > 0 else 0
    return f"{value:.{min(max(digits, 0), 12)}f}"


def printable(name: str) -> str:
    """A name that others chose, without what a terminal would obey."""
    return name if name.isprintable() else repr(name)[1:-1]


def count(number: int, what: str) -> str:
    """`1 token`, `1,024 tokens`."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"
