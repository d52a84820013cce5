"""Which of several choices no other one beats. Pure."""

from collections.abc import Iterable, Sequence

__all__ = ["pareto"]

_SAME = 1e-9  # of each other: what is added up and divided in another way differs in its last digits alone


def pareto(points: Sequence[tuple[float | None, float | None]]) -> list[bool]:
    """Say of each (gain, cost) whether it is on the frontier: no other gains as much for less, or more for as little.

    Equal points are on it together, and numbers (0 or more) that differ by a billionth are equal; a point of which
    either is unknown (None) is not on it, and beats nothing.
    """
    both = [(gain, cost, number) for number, (gain, cost) in enumerate(points) if gain is not None and cost is not None]
    gains, costs = _levels(gain for gain, _, _ in both), _levels(cost for _, cost, _ in both)
    known = [(costs[cost], -gains[gain], number) for gain, cost, number in both]
    on = [False] * len(points)
    best: tuple[float, float] | None = None
    for cost, loss, number in sorted(known):
        # Those before it cost as much or less: it must gain more than all of them, or be the same as the best.
        if best is None or loss < best[0] or (loss, cost) == best:
            best = loss, cost
            on[number] = True
    return on


def _levels(values: Iterable[float]) -> dict[float, float]:
    """Each value, and the least of those that are the same to within rounding."""
    levels: dict[float, float] = {}
    level = 0.0
    for value in sorted(values):
        if value > level * (1 + _SAME):
            level = value
        levels[value] = level
    return levels
