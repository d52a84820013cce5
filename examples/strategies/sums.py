"""The problems: sums of digits, of which the last digit is asked, worked out in steps that come in any order.

A question is `7 2 9 4`. Every step adds two neighbours up, whichever, and keeps the last digit of their sum:

    7 2 9 4 = 7 1 4 = 8 4 = 2

Like in school, all ways lead to the same answer, and a slip on one way need not happen on another.
"""

import random
from collections.abc import Container

__all__ = ["answer_of", "problems", "question", "right", "solution"]


def question(dice: random.Random, digits: int) -> str:
    """Draw a question of so many digits."""
    return " ".join(dice.choice("0123456789") for _ in range(digits))


def solution(dice: random.Random, asked: str, guessed: Container[tuple[int, int]] = ()) -> str:
    """Work a question out on one of its ways: the steps between `=`, the last one is the answer.

    What two digits (the lower one first) add up to that are in `guessed` is drawn by lot.
    """
    digits, steps = [int(digit) for digit in asked.split()], []
    while len(digits) > 1:
        at = dice.randrange(len(digits) - 1)
        low, high = sorted(digits[at : at + 2])
        digits[at : at + 2] = [dice.randrange(10) if (low, high) in guessed else (low + high) % 10]
        steps.append(" ".join(map(str, digits)))
    return " = ".join(steps)


def answer_of(text: str) -> str | None:
    """The answer that a reply ends with; None where it does not get that far."""
    last = text.rpartition("=")[2].strip()
    return last if len(last) == 1 and last.isdigit() else None


def right(asked: str, answer: str | None) -> bool:
    """Whether an answer is right."""
    return answer == str(sum(map(int, asked.split())) % 10)


def problems(number: int, digits: int, seed: int = 1) -> dict[str, str]:
    """So many different questions, by a name for each."""
    dice = random.Random(seed)  # noqa: S311 - repeatable is the point
    found: dict[str, None] = {}
    while len(found) < number:
        found[question(dice, digits)] = None
    return {f"sum-{asked.replace(' ', '')}": asked for asked in found}
