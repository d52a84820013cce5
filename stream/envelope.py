"""The lower envelope of timings: what requests need when nothing holds them up.

A timing is T times a contention of 1 or more, and some noise of its own, about 1 %. Whatever the distribution of
contention is, its low quantiles run in parallel to T: T's shape is that of a low quantile, by regression, and its
level is where the distribution begins, to which the quantiles just above are continued.

The shapes are physics. An output token takes beta, and gamma for each token of its context. For a prompt the weights
are read once, which takes beta too; computing takes time in proportion to p, attention to p^2. Either reading and
computing add up, or the longer one counts and the corner between them is rounded: the timings choose. So F(1) is beta,
and the rest of T(1, 1) is overhead. That is a convention: no timing tells network and API from the first token.

Intervals (95 %) come from the density of timings at the edge, as for any regression quantile (Koenker, Quantile
Regression, 2005, ch. 3), and take in the other shape where the timings do not choose clearly.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations_with_replacement
from math import exp, hypot, inf, log, sqrt
from operator import mul
from typing import NamedTuple

from stream.regression import at_rank, linear_solution, quantile_regression, ratios_sorted, weighted_sums

__all__ = ["Envelope", "Interval", "OutputTiming", "PromptTiming", "WholeTiming", "fit_stream", "fit_whole"]

PromptTiming = tuple[int, float]
"""prompt tokens (1 or more), seconds to the first output token"""
OutputTiming = tuple[int, int, float]
"""prompt tokens, output tokens, seconds per output token after the first"""
WholeTiming = tuple[int, int, float]
"""prompt tokens, output tokens, seconds"""

NOISE = 0.012
"""What a timing differs by for no reason, as a share: quantiles that lie no further apart are not continued"""

_FEWEST_BELOW = 3
"""Few timings are fitted at so high a quantile that this many lie below: one absurd one must not decide"""

_ROUNDING = 4.0
_CORNERS = (1.0, 4000.0)
_TYPICAL = (0.25, 0.5, 0.75, 0.95)
_KNOTS = 9

_WIDTH = 1.96
_FEW_WIDER = 12.0
"""What an interval is wider by for each weight, as a share of the timings: few of them are at the edge"""
_LEAST_ERROR = 0.01
_FEW = 0.6
_UNLIKELY = 0.12
"""A model less likely than this beside another one is out: twice the log-likelihood is 4 apart (95 %)"""
_UNHEARD = 0.02
"""Intervals take in a shape that is more likely than this: the truth need be neither of the two"""

_SURE = 50.0
_ENOUGH_FOR_SCALE = 80

_ABSURD = 0.5
"""A timing below this share of the low plane is no low one, but a wrong one, unless there are many"""

Terms = Sequence[float]
Rise = Callable[[float], float]
"""What F's main term is proportional to, as a function of p"""


class Interval(NamedTuple):
    """An estimate between the bounds of its interval."""

    low: float
    value: float
    high: float


@dataclass(frozen=True, slots=True)
class Envelope:
    """T without contention. Seconds, tokens; `prompt` is F and `runtime` is T of the median request.

    `uncertainty` is half the width of T's interval as a share of T, the largest of small, usual and large requests.
    """

    overhead: Interval
    per_output_token: Interval
    context: Interval
    knots: tuple[int, ...]
    prompt_seconds: tuple[float, ...]
    prompt: Interval
    runtime: Interval
    uncertainty: float


def fit_stream(prompts: Sequence[PromptTiming], outputs: Sequence[OutputTiming], quantile: float) -> Envelope:
    """Fit times to first token and times per output token, each by themselves; neither may be empty."""
    contexts = [prompt + output / 2 for prompt, output, _ in outputs]
    timings = _timings([[1.0] * len(outputs), contexts], [seconds for *_, seconds in outputs], quantile)
    pace, context = _paced(timings)
    sizes = [float(prompt) for prompt, _ in prompts]
    firsts = _timings(
        [[1.0] * len(sizes), sizes, [size * size for size in sizes]], [seconds for _, seconds in prompts], quantile
    )
    one, sizes, squares = firsts.columns

    def fit(rise: Rise) -> _Fit:
        return _Fit((_Surface(firsts.of([one, list(map(rise, sizes)), squares])), pace), rise)

    return _envelope(fit, sizes, [output for _, output, _ in outputs], context)


def fit_whole(durations: Sequence[WholeTiming], quantile: float) -> Envelope:
    """Fit whole durations; not empty. Output tokens take most of them, so that F is known the less."""
    sizes = [float(max(prompt, 1)) for prompt, *_ in durations]
    further = [float(max(output - 1, 0)) for _, output, _ in durations]
    contexts = [
        more * (size + output / 2) for more, size, (_, output, _) in zip(further, sizes, durations, strict=True)
    ]
    columns = [[1.0] * len(sizes), sizes, [size * size for size in sizes], further, contexts]
    timings = _timings(columns, [seconds for *_, seconds in durations], quantile)
    surface, context = _paced(timings)
    one, sizes, squares, further, contexts = surface.timings.columns

    def fit(rise: Rise) -> _Fit:
        if rise is _proportional:
            return _Fit((surface,), rise)
        return _Fit((_Surface(timings.of([one, list(map(rise, sizes)), squares, further, contexts])),), rise)

    return _envelope(fit, sizes, [output for _, output, _ in durations], context)


class _Timings(NamedTuple):
    """Timings of which a low quantile is wanted, as a plane over `columns`; residuals are weighed by `scale`."""

    columns: list[list[float]]
    seconds: list[float]
    quantile: float
    scale: list[float]

    def of(self, columns: list[list[float]]) -> "_Timings":
        """The same timings over other columns."""
        return self._replace(columns=columns)


def _timings(columns: list[list[float]], seconds: list[float], quantile: float) -> _Timings:
    """Weigh timings by a first plane, and leave out the few that are far below it: nothing can be so fast so rarely."""
    quantile = min(max(quantile, _FEWEST_BELOW / len(seconds)), 0.25)
    scale = _scale(columns, seconds, quantile)
    low = [row for row, (value, usual) in enumerate(zip(seconds, scale, strict=True)) if value < _ABSURD * usual]
    if not 0 < len(low) <= max(quantile * len(seconds) / 2, 1.0):
        return _Timings(columns, seconds, quantile, scale)
    dropped = set(low)
    kept = [row for row in range(len(seconds)) if row not in dropped]
    columns = [[column[row] for row in kept] for column in columns]
    seconds = [seconds[row] for row in kept]
    return _Timings(columns, seconds, quantile, _scale(columns, seconds, quantile))


def _scale(columns: list[list[float]], seconds: list[float], quantile: float) -> list[float]:
    """Return a first plane, from some of the timings: good enough to weigh residuals by."""
    lowest = at_rank(sorted(seconds), 0.1) / 2
    step = 1 + len(seconds) // _ENOUGH_FOR_SCALE
    few = seconds[::step]
    weights, _ = quantile_regression(
        [column[::step] for column in columns],
        few,
        max(quantile, _FEWEST_BELOW / len(few)),
        [max(each, lowest) for each in few],
    )
    return [max(each, lowest / 2) for each in weighted_sums(columns, weights)]


class _Surface:
    """The lower edge of some timings: linear in its terms, one a column of `timings`."""

    def __init__(self, timings: _Timings) -> None:
        columns, seconds, quantile, scale = timings
        weights, self.loss = quantile_regression(columns, seconds, quantile, scale)
        fitted = weighted_sums(columns, weights)
        ratios = ratios_sorted(seconds, fitted) or [1.0]
        lower, low, higher = (log(at_rank(ratios, rank * quantile)) for rank in (0.5, 1.0, 2.0))
        # Over three ranks, as neighbours scatter; not further than from below, as a gap may follow above.
        spread = min((higher - lower) / 1.5, 3.0 * (low - lower) + NOISE / 2)
        trust = spread**2 / (spread**2 + NOISE**2)
        factor = exp(low - trust * spread + (1.0 - trust) * NOISE)
        self.timings = timings
        self.weights = [weight * factor for weight in weights]
        self._fitted = [each * factor for each in fitted]
        self._sparsity = max(spread, NOISE / 4) / quantile
        self._doubt = _LEAST_ERROR + _FEW / len(seconds) + trust * spread / 4

    def margin(self, terms: Terms) -> float:
        """Half the width of the interval, in seconds, of what `terms` come to; they may be a difference of two."""
        inverse, known = self._inverse, [terms[place] for place in self._active]
        if inverse is None:
            return inf
        form: float = sum(term * sum(map(mul, row, known)) for term, row in zip(known, inverse, strict=True))
        # The edge is continued from two quantiles, each with a variance of q s^2: hence the 2.
        variance = 2 * self.timings.quantile * self._sparsity**2 * form
        value: float = sum(map(mul, self.weights, terms))
        few = 1.0 + _FEW_WIDER * len(known) / len(self._fitted)
        return _WIDTH * few * sqrt(max(variance, 0.0)) + abs(value) * self._doubt

    def likelihood_beside(self, other: "_Surface") -> float:
        """How likely this one is, beside another of the same timings; both together are 1 (Koenker, ch. 3.9)."""
        quantile = self.timings.quantile
        gain = (other.loss - self.loss) / (quantile * (1.0 - quantile) * self._sparsity)
        return 1.0 / (1.0 + exp(-min(max(gain, -_SURE), _SURE)))

    @cached_property
    def _active(self) -> list[int]:
        return [place for place, weight in enumerate(self.weights) if weight > 0.0]

    @cached_property
    def _inverse(self) -> list[list[float]] | None:
        """The information of the timings on the weights above 0, inverted; None where they do not tell enough."""
        inverse = [1.0 / each if each > 0.0 else 0.0 for each in self._fitted]
        relative = [list(map(mul, self.timings.columns[place], inverse)) for place in self._active]
        size = len(relative)
        found = [[0.0] * size for _ in range(size)]
        for row, column in combinations_with_replacement(range(size), 2):
            found[row][column] = found[column][row] = sum(map(mul, relative[row], relative[column]))
        solved = [linear_solution(found, [float(row == place) for row in range(size)]) for place in range(size)]
        return None if None in solved else solved  # type: ignore[return-value]


@dataclass(frozen=True, slots=True, eq=False)
class _Fit:
    """T as surfaces whose terms, one after the other, are those of `terms`."""

    surfaces: tuple[_Surface, ...]
    rise: Rise

    @property
    def weights(self) -> list[float]:
        return [weight for surface in self.surfaces for weight in surface.weights]

    def terms(self, prompt: float, output: float) -> Terms:
        further = max(output - 1.0, 0.0)
        return 1.0, self.rise(prompt), prompt * prompt, further, further * (prompt + output / 2)

    def prompt_terms(self, prompt: float) -> Terms:
        """F's, by the convention that F(1) is beta."""
        return 0.0, self.rise(prompt) - self.rise(1.0), prompt * prompt - 1.0, 1.0, 0.0

    def overhead_terms(self) -> Terms:
        """T(1, 1) less beta."""
        return 1.0, self.rise(1.0), 1.0, -1.0, 0.0

    def value(self, terms: Terms) -> float:
        """What the terms come to."""
        return sum(weight * term for weight, term in zip(self.weights, terms, strict=True))

    def interval(self, terms: Terms) -> Interval:
        """What the terms come to, and how well that is known; the low end may lie below 0."""
        margin, place = 0.0, 0
        for surface in self.surfaces:
            margin = hypot(margin, surface.margin(terms[place : place + len(surface.weights)]))
            place += len(surface.weights)
        value = self.value(terms)
        return Interval(value - margin, value, value + margin)


def _paced(timings: _Timings) -> tuple[_Surface, Interval]:
    """Fit with gamma, the last term, and without; return the surface to use, and gamma."""
    *others, contexts = timings.columns
    surface = _Surface(timings)
    gamma = surface.weights[-1]
    if not gamma:
        return surface, Interval(0.0, 0.0, 0.0)
    # A column of zeros takes no weight.
    without = _Surface(timings.of([*others, [0.0] * len(contexts)]))
    margin = surface.margin([0.0] * len(others) + [1.0])
    if without.likelihood_beside(surface) < _UNLIKELY:
        return surface, Interval(max(gamma - margin, 0.0), gamma, gamma + margin)
    return without, Interval(0.0, 0.0, gamma + margin)


def _proportional(prompt: float) -> float:
    return prompt


_BETA = (0.0, 0.0, 0.0, 1.0, 0.0)


def _envelope(
    fit: Callable[[Rise], _Fit], sizes: Sequence[float], outputs: Sequence[int], context: Interval
) -> Envelope:
    """Fit both shapes of F, weigh them by how well they fit, and say what was found in the terms of T."""
    sizes, outputs = sorted(sizes), sorted(outputs)
    usual = at_rank(sizes, 0.5)
    summed = fit(_proportional)
    corner = _corner(summed, usual)
    rounded = fit(lambda prompt: float((corner**_ROUNDING + prompt**_ROUNDING) ** (1 / _ROUNDING)))
    share = rounded.surfaces[0].likelihood_beside(summed.surfaces[0])
    fits = {summed: 1.0 - share, rounded: share}

    def mean(terms: Callable[[_Fit], Terms]) -> Interval:
        return _joined([(each.interval(terms(each)), weight) for each, weight in fits.items()])

    overhead = mean(_Fit.overhead_terms)
    overhead = Interval(*(max(bound, 0.0) for bound in overhead))
    knots = _knots(sizes, corner)
    firsts = [sum(each.value(each.terms(knot, 1.0)) * weight for each, weight in fits.items()) for knot in knots]
    typical = [(at_rank(sizes, rank), at_rank(outputs, rank)) for rank in _TYPICAL]
    runtimes = [mean(lambda each, size=size: each.terms(*size)) for size in typical]  # type: ignore[misc]
    return Envelope(
        overhead=overhead,
        per_output_token=mean(lambda _: _BETA),
        context=context,
        knots=knots,
        prompt_seconds=tuple(max(first - overhead.value, 0.0) for first in firsts),
        prompt=mean(lambda each: each.prompt_terms(usual)),
        runtime=runtimes[1],
        uncertainty=max((each.high - each.low) / 2 / each.value if each.value > 0.0 else inf for each in runtimes),
    )


def _corner(summed: _Fit, usual: float) -> float:
    """Return the prompt size at which computing takes as long as reading the weights: beta."""
    beta = summed.value(_BETA)
    computing = summed.value(summed.prompt_terms(usual)) - beta
    corner = beta * usual / computing if computing > 0.0 else inf
    return min(max(corner, _CORNERS[0]), _CORNERS[1])


def _joined(intervals: Sequence[tuple[Interval, float]]) -> Interval:
    """Return the mean by weight, and bounds that hold what each says that has a say."""
    heard = [each for each, weight in intervals if weight > _UNHEARD]
    value = sum(each.value * weight for each, weight in intervals)
    return Interval(min(each.low for each in heard), value, max(each.high for each in heard))


def _knots(sizes: Sequence[float], corner: float) -> tuple[int, ...]:
    """Return prompt sizes between the smallest and the largest, even in their ratios, and some about the corner."""
    low, high = sizes[0], sizes[-1]
    even = [low * (high / low) ** (place / (_KNOTS - 1)) for place in range(_KNOTS)]
    near = [size for size in (corner / 2, corner, corner * 2) if low < size < high]
    return tuple(sorted({round(size) for size in (*even, *near)}))
