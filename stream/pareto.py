"""Which of several choices no other one beats. Pure."""

from collections.abc import Sequence

__all__ = ["pareto"]


def pareto(points: Sequence[tuple[float | None, float | None]]) -> list[bool]:
    """Say of each (gain, cost) whether it is on the frontier: no other gains as much for less, or more for as little.

    Equal points are on it together; one of which either is unknown (None) is not on it, and beats nothing.
    """
    known = [
        (cost, -gain, number) for number, (gain, cost) in enumerate(points) if gain is not None and cost is not None
    ]
    on = [False] * len(points)
    best: tuple[float, float] | None = None
    for cost, loss, number in sorted(known):
        # Those before it cost as much or less: it must gain more than all of them, or be the same as the best.
        if best is None or loss < best[0] or (loss, cost) == best:
            best = loss, cost
            on[number] = True
    return on
