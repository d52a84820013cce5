"""T(p, o): the seconds that one request takes alone on a stack, from that (model, stack)'s coefficients.

    T(p, o) = overhead + F(p) + max(o - 1, 0) * beta + gamma * sum_{i=1}^{o-1} (p + i)

F(p) is the time to encode p prompt tokens and give the first output token, known at a few prompt sizes
(knots); beta the time of each further output token; gamma what one token of context adds to an output token.
Two ways lead from the knots to F:

- `linear` (the default): straight lines between knots; below the first knot that knot's F; past the last
  knot P the growth of a quadratic fit: F(P) + b (p - P) + c (p^2 - P^2), with a, b, c >= 0 the least squares
  fit of F on 1, p, p^2 over all knots.
- `helm`: as stanford-crfm/helm computes it: scaled down from the next knot k >= p, F(k) * p / k, and up from
  the last, F(P) * p / P. It has a gap at every knot and is kept for comparison with published numbers.

Source: Narayanan et al., arXiv 2305.02440. Left-out prompt sizes: `helm` is off by 11-14 %, `linear` by 4 %.
"""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal, get_args

__all__ = [
    "INTERPOLATIONS",
    "Coefficients",
    "Interpolation",
    "WorkFunction",
    "prompt_function",
    "prompt_seconds",
    "quadratic_growth",
    "runtime_function",
    "runtime_seconds",
    "work_function",
]

Interpolation = Literal["linear", "helm"]
INTERPOLATIONS: tuple[Interpolation, ...] = get_args(Interpolation)

_SINGULAR = 1e-13  # pivots are sums of squares of at most 1: below this only rounding is left

PromptFunction = Callable[[int], float]
RuntimeFunction = Callable[[int, int], float]
WorkFunction = Callable[[int, int, int], tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Coefficients:
    """The numbers of one (model, stack). Seconds; `knots` are prompt tokens, ascending and at least one.

    `context` is gamma, seconds per output token per token of context. `quadratic` is (a, b, c) of the growth
    past the last knot, where it is known better than from the knots themselves.
    """

    per_output_token: float
    knots: tuple[int, ...]
    prompt_seconds: tuple[float, ...]
    overhead: float = 0.0
    context: float = 0.0
    quadratic: tuple[float, float, float] | None = None

    @property
    def last_knot(self) -> int:
        """The largest prompt with a measured F; beyond it F is extrapolated."""
        return self.knots[-1]


def prompt_seconds(coefficients: Coefficients, prompt_tokens: int, interpolation: Interpolation = "linear") -> float:
    """F(p) in seconds, for any p >= 0."""
    return prompt_function(coefficients, interpolation)(prompt_tokens)


def runtime_seconds(
    coefficients: Coefficients,
    prompt_tokens: int,
    output_tokens: int,
    interpolation: Interpolation = "linear",
) -> float:
    """T(p, o) in seconds, for any p, o >= 0."""
    return runtime_function(coefficients, interpolation)(prompt_tokens, output_tokens)


def prompt_function(coefficients: Coefficients, interpolation: Interpolation = "linear") -> PromptFunction:
    """F as a function of p, with what does not depend on p (the quadratic fit) worked out once."""
    if interpolation == "helm":
        return _helm(coefficients)
    return _linear(coefficients)


def runtime_function(coefficients: Coefficients, interpolation: Interpolation = "linear") -> RuntimeFunction:
    """T as a function of p and o, for callers that ask for one model many times."""
    prompt = prompt_function(coefficients, interpolation)
    per_output, overhead, context = (
        coefficients.per_output_token,
        coefficients.overhead,
        coefficients.context,
    )

    def runtime(prompt_tokens: int, output_tokens: int) -> float:
        seconds = prompt(prompt_tokens) + overhead
        if output_tokens > 1:
            further = output_tokens - 1
            seconds += further * per_output
            if context:
                # sum_{i=1}^{o-1} (p + i), with the division left to the end so that it stays exact.
                seconds += context * (further * (2 * prompt_tokens + output_tokens) / 2)
        return seconds

    return runtime


def work_function(coefficients: Coefficients, interpolation: Interpolation = "linear") -> WorkFunction:
    """(F, T') as a function of prompt tokens, all output tokens, and in how many choices these come.

    The prompt is encoded once and gives the first token of every choice; each choice then takes an even share of the
    tokens, one after the other. Of one choice T' is T(p, o).
    """
    prompt, overhead = prompt_function(coefficients, interpolation), coefficients.overhead
    per_output, context = coefficients.per_output_token, coefficients.context

    def work(prompt_tokens: int, output_tokens: int, choices: int = 1) -> tuple[float, float]:
        first = prompt(prompt_tokens)
        further = output_tokens - choices
        if further <= 0:
            return first, first + overhead
        seconds = further * per_output
        if context:
            seconds += context * (further * (2 * prompt_tokens + output_tokens / choices) / 2)
        return first, first + overhead + seconds

    return work


def _helm(coefficients: Coefficients) -> PromptFunction:
    knots, seconds = coefficients.knots, coefficients.prompt_seconds
    last = len(knots) - 1

    def prompt(prompt_tokens: int) -> float:
        index = min(bisect_left(knots, prompt_tokens), last)
        return seconds[index] * (prompt_tokens / knots[index])

    return prompt


def _linear(coefficients: Coefficients) -> PromptFunction:
    knots, seconds = coefficients.knots, coefficients.prompt_seconds
    first, last = knots[0], knots[-1]
    _, linear, quadratic = coefficients.quadratic or quadratic_growth(knots, seconds)
    slopes = [
        (high_f - low_f) / (high - low)
        for low, high, low_f, high_f in zip(knots, knots[1:], seconds, seconds[1:], strict=False)
    ]

    def prompt(prompt_tokens: int) -> float:
        if prompt_tokens <= first:
            return seconds[0]
        if prompt_tokens > last:
            further = prompt_tokens - last
            return seconds[-1] + linear * further + quadratic * (further * (prompt_tokens + last))
        index = bisect_left(knots, prompt_tokens)
        if knots[index] == prompt_tokens:
            return seconds[index]
        return seconds[index - 1] + slopes[index - 1] * (prompt_tokens - knots[index - 1])

    return prompt


def quadratic_growth(knots: Sequence[int], seconds: Sequence[float]) -> tuple[float, float, float]:
    """The a, b, c >= 0 for which a + b p + c p^2 comes nearest to F at the knots (least squares).

    Non-negative least squares of three unknowns is exact by trying every set of unknowns that may be above
    zero: the best of the solutions that are non-negative is the optimum. One knot alone tells nothing of the
    growth: F is then taken to be proportional to p.
    """
    if len(knots) == 1:
        return 0.0, seconds[0] / knots[0], 0.0
    # Prompt sizes are scaled to at most 1, as p^4 in the normal equations would else drown the constant.
    scale = float(knots[-1])
    columns = [[(knot / scale) ** power for knot in knots] for power in range(3)]
    best, best_error = (0.0, 0.0, 0.0), _dot(seconds, seconds)
    # Two knots are met exactly by several sets: rounding must not choose, so the lowest powers win a tie.
    margin = best_error * 1e-12
    for size in range(1, min(3, len(knots)) + 1):
        for active in combinations(range(3), size):
            solution = _least_squares([columns[power] for power in active], seconds)
            if solution is None or min(solution) < 0:
                continue
            found = [0.0, 0.0, 0.0]
            for power, value in zip(active, solution, strict=True):
                found[power] = value
            error = _squared_error(columns, found, seconds)
            if error < best_error - margin:
                best, best_error = (found[0], found[1], found[2]), error
    return best[0], best[1] / scale, best[2] / scale**2


def _squared_error(columns: list[list[float]], weights: list[float], target: Sequence[float]) -> float:
    fitted = [_dot(weights, row) for row in zip(*columns, strict=True)]
    return sum((fit - wanted) ** 2 for fit, wanted in zip(fitted, target, strict=True))


def _least_squares(columns: list[list[float]], target: Sequence[float]) -> list[float] | None:
    """Solve the normal equations by elimination with pivots; None where the columns do not tell enough."""
    rows = [[_dot(left, right) for right in columns] + [_dot(left, target)] for left in columns]
    size = len(rows)
    for step in range(size):
        pivot = max(range(step, size), key=lambda row: abs(rows[row][step]))
        if abs(rows[pivot][step]) < _SINGULAR:
            return None
        rows[step], rows[pivot] = rows[pivot], rows[step]
        for row in range(size):
            if row != step:
                factor = rows[row][step] / rows[step][step]
                rows[row] = [a - factor * b for a, b in zip(rows[row], rows[step], strict=True)]
    return [rows[step][size] / rows[step][step] for step in range(size)]


def _dot(left: Sequence[float], right: Sequence[float]) -> float:
    return sum(a * b for a, b in zip(left, right, strict=True))
