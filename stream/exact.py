"""Sums of floats that do not depend on the order in which they are added: kept whole, rounded when asked. Pure."""

import math
from collections.abc import Iterable

__all__ = ["Exact", "Sum", "exact_sum"]

Exact = tuple[float, ...]
"""A sum as the floats that make it up exactly: the nearest float, then the one nearest to the rest, and so on.

`math.fsum` of it, or of several together, is the exact sum rounded once. Nothing is the empty tuple.
"""

_FOLD = 64  # floats that wait to be added up: so that a sum takes little room, and adding to it little time


def exact_sum(values: Iterable[float]) -> Exact:
    """Add finite floats, or the parts of such sums; whatever their order and grouping, the same parts come out.

    `math.fsum` adds without any error and rounds at the end (Shewchuk, "Adaptive Precision Floating-Point Arithmetic",
    1997): so what it leaves off is found by taking its answer away, until nothing is left.
    """
    rest = list(values)
    parts = []
    while nearest := math.fsum(rest):
        parts.append(nearest)
        rest.append(-nearest)
    return tuple(parts)


class Sum:
    """The exact sum of any number of terms, in little room. `terms` says of how many."""

    __slots__ = ("_parts", "terms")

    def __init__(self) -> None:
        """Begin with none, which is 0."""
        self.terms = 0
        self._parts: list[float] = []

    def add(self, *parts: float) -> None:
        """Add a term: a finite float, or the parts of an exact sum."""
        self.terms += 1
        self._parts += parts
        if len(self._parts) > _FOLD:
            self._parts[:] = exact_sum(self._parts)

    @property
    def value(self) -> float:
        """The sum, rounded once."""
        return math.fsum(self._parts)

    @property
    def mean(self) -> float | None:
        """The sum by the number of its terms; None without any."""
        return self.value / self.terms if self.terms else None
