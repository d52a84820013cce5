"""Which requests tell an API's coefficients: a few points, again and again, in rounds of shuffled order. Pure.

A round has every point once, so that a slow spell meets all of them alike; rounds are spread over time, so that some of
them meet the provider at its best.
"""

import random
from collections.abc import Collection, Sequence

__all__ = ["OUTPUTS", "ROUNDS", "SIZES", "Point", "Repeat", "points", "schedule"]

Point = tuple[int, int]
"""Prompt and output tokens, as they are asked for."""
Repeat = tuple[int, Point]
"""The round, from 0, and the point."""

SIZES = (32, 128, 256, 512, 1024, 2048)
OUTPUTS = (32, 128)
ROUNDS = 30


def points(sizes: Sequence[int], outputs: Sequence[int]) -> tuple[Point, ...]:
    """Every prompt size with one output token, and what tells an output token: `outputs` at small and large prompts.

    The larger prompt is there so that an error of F at one size is none of beta.
    """
    sizes, outputs = sorted(set(sizes)), sorted(set(outputs) - {1})
    last = len(sizes) - 1
    few, many = sizes[min(1, last)], sizes[max(last - 1, min(2, last))]
    further = [(few, output) for output in outputs] + [(many, output) for output in outputs[-1:]]
    return (*((size, 1) for size in sizes), *dict.fromkeys(further))


def schedule(wanted: Sequence[Point], rounds: int, taken: Collection[Repeat], rng: random.Random) -> tuple[Repeat, ...]:
    """All repeats that were not asked for yet, in the order to ask for them.

    The first of all has the most output tokens: if a provider bills more than it is asked for, that is known at once.
    """
    found = []
    for number in range(rounds):
        shuffled = rng.sample(wanted, len(wanted))
        if number == 0:
            shuffled.sort(key=lambda point: point[1] != max(output for _, output in wanted))
        found += [(number, point) for point in shuffled if (number, point) not in taken]
    return tuple(found)
