"""The posterior of F, beta and gamma, given samples: exact, since T(p, o) is linear in them and all is Gaussian.

A sample is T = F(p) + (o - 1) beta + gamma sum_{i=1}^{o-1} (p + i) + noise. The noise has three parts: the rounding of
the file, a relative scatter, learned from how far samples lie from the best F, beta and gamma of their own, and, for
sizes between knots, what straight lines miss. Samples far out count less (Student's t with 4 degrees of freedom), since
machines hiccup. Everything is pure.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from profiler.prior import CONTEXT_UNIT, Floats, Mean, Places, Scales, context_tokens, covariance, total_seconds
from profiler.samples import Measured

__all__ = ["Belief", "Evidence", "Noise", "Posterior", "design", "evidence", "posterior", "resolution", "score"]

_MOST_KNOTS = 64
_BETWEEN = 0.01  # what a straight line between two neighbouring knots may miss of F
_USUAL_SCATTER = 0.004  # of repeated runs on a machine of one's own, as a fraction
_USUAL_WEIGHT = 4.0  # as many samples as this says so beforehand
_FREEDOM = 4.0
_INFORMATION = (_FREEDOM + 1) / (_FREEDOM + 3)  # of a run with Student's t for its noise, beside a Gaussian's
_TURNS = 8


@dataclass(frozen=True, slots=True)
class Noise:
    """How far a single run lies from T: a fraction of it, and seconds (standard deviations)."""

    scatter: float
    rounding: float

    def variance(self, seconds: Floats) -> Floats:
        """In seconds squared, of runs that took `seconds`."""
        squared: Floats = (self.scatter * seconds) ** 2 + self.rounding**2
        return squared


@dataclass(frozen=True, slots=True)
class Evidence:
    """What one model's runs of batch size 1 (`measured`) say of its deviations from `mean`.

    They are those of F at `knots`, of beta and of gamma: `places`. `precision` is the matrix of theirs, `force` that
    times their values. `certainty` is one over the variance of each run's noise, `density` the logarithm of the runs'
    likelihood without deviations.
    """

    measured: Measured
    mean: Mean
    knots: Floats
    places: Places
    precision: Floats
    force: Floats
    noise: Noise
    certainty: Floats
    density: float

    def numbered(self, number: int) -> Places:
        """Its places, `number` being that by which models are told apart."""
        return replace(self.places, model=np.full_like(self.places.model, number))

    @property
    def unexplained(self) -> Floats:
        """Relative errors that the coefficients leave which fit these samples best, no others being asked."""
        best = np.linalg.lstsq(self.precision, self.force, rcond=1e-12)[0]
        measured = self.measured
        expected, matrix = design(measured.prompt, measured.output, self.knots, self.mean)
        left: Floats = (expected + matrix @ best) / measured.seconds - 1
        return left


def resolution(seconds: Floats) -> float:
    """The step that runtimes were rounded to: the largest of 1 ms, 0.1 ms .. 1 us that all are multiples of, or 0."""
    for digits in range(3, 7):
        if np.all(np.abs(seconds * 10**digits - np.round(seconds * 10**digits)) < 1e-6):
            return float(10.0**-digits)
    return 0.0


def design(prompt: ArrayLike, output: ArrayLike, knots: Floats, mean: Mean) -> tuple[Floats, Floats]:
    """T without deviations, and what each deviation adds to it: arrays of (samples,) and (samples, knots + 2).

    Between two knots the deviation is that of a straight line between theirs; outside of them the nearest's.
    """
    prompt, output = np.asarray(prompt, np.float64), np.asarray(output, np.float64)
    matrix = np.zeros((len(prompt), len(knots) + 2))
    rows, first = np.arange(len(prompt)), mean.prompt(prompt)
    after = np.clip(np.searchsorted(knots, prompt), 1, max(1, len(knots) - 1))
    before = after - 1
    if len(knots) > 1:
        share = np.clip((prompt - knots[before]) / (knots[after] - knots[before]), 0, 1)
        matrix[rows, after] = first * share
        matrix[rows, before] = first * (1 - share)
    else:
        matrix[:, 0] = first
    matrix[:, -2] = (output - 1) * mean.step
    matrix[:, -1] = context_tokens(prompt, output) * mean.step * CONTEXT_UNIT
    return total_seconds(first, mean.step, mean.context, prompt, output), matrix


def evidence(measured: Measured, mean: Mean) -> Evidence:
    """What the runs of batch size 1 say."""
    alone = measured.where(measured.batch == 1)
    prompt, seconds = alone.prompt.astype(np.float64), alone.seconds
    knots = _knots(prompt)
    expected, matrix = design(prompt, alone.output, knots, mean)
    between = _BETWEEN * mean.prompt(prompt) * ~np.isin(prompt, knots)
    rounding = resolution(seconds) / np.sqrt(12)
    scatter, weights = _scatter(matrix, seconds - expected, seconds, rounding**2 + between**2)
    noise = Noise(scatter, rounding)
    certainty = _INFORMATION * weights / (noise.variance(seconds) + between**2)
    weighted = matrix * certainty[:, None]
    precision, force = matrix.T @ weighted, weighted.T @ (seconds - expected)
    density = 0.5 * float(np.sum(np.log(certainty / (2 * np.pi)) - certainty * (seconds - expected) ** 2))
    return Evidence(alone, mean, knots, Places.of(0, mean, knots), precision, force, noise, certainty, density)


def _knots(prompt: Floats) -> Floats:
    """The sizes themselves; of very many as many as suffice, closer where there are more."""
    sizes: Floats = np.unique(prompt)
    if len(sizes) > _MOST_KNOTS:
        sizes = sizes[np.unique(np.round(np.linspace(0, len(sizes) - 1, _MOST_KNOTS)).astype(int))]
    return sizes


def _scatter(matrix: Floats, rest: Floats, seconds: Floats, known: Floats) -> tuple[float, Floats]:
    """The relative scatter of runs around their own best coefficients, and the weight of each run.

    `known` is the variance, in seconds squared, that there is besides.
    """
    scatter, weights = _USUAL_SCATTER, np.ones_like(seconds)
    columns = matrix / np.maximum(np.sqrt((matrix**2).sum(axis=0)), 1e-300)
    freedom = len(seconds) - int(np.linalg.matrix_rank(columns.T @ columns, hermitian=True))
    if freedom <= 0:
        return scatter, weights
    share = freedom / len(seconds)  # of the variance that is left when as many coefficients are fitted
    for turn in range(_TURNS):
        variance = (scatter * seconds) ** 2 + known
        weighted = columns * (weights / variance)[:, None]
        left = rest - columns @ np.linalg.lstsq(columns.T @ weighted, weighted.T @ rest, rcond=1e-13)[0]
        if turn:  # outliers are told from noise once there is an idea of it
            weights = (_FREEDOM + 1) / (_FREEDOM + left**2 / variance / share)
        excess = float(np.sum(weights * (left**2 - known * share) / seconds**2))
        scatter = np.sqrt((_USUAL_WEIGHT * _USUAL_SCATTER**2 + max(0.0, excess)) / (_USUAL_WEIGHT + freedom))
    return float(scatter), weights


@dataclass(frozen=True, slots=True)
class Belief:
    """Deviations at some places: their mean and covariance."""

    value: Floats
    covariance: Floats

    def known(self, index: int, value: float) -> "Belief":
        """The same once the deviation at `index` is known to be `value`."""
        gain = self.covariance[:, index] / self.covariance[index, index]
        left = self.covariance - np.outer(gain, self.covariance[index])
        return Belief(self.value + gain * (value - self.value[index]), left)


@dataclass(frozen=True, slots=True)
class Posterior:
    """What all the evidence (`parts`) says of deviations anywhere."""

    parts: tuple[Evidence, ...]
    places: Places
    scales: Scales
    weights: Floats
    gain: Floats

    def believe(self, mean: Mean, sizes: Floats, part: Evidence | None = None) -> Belief:
        """The deviations of F at `sizes`, of beta and of gamma: of the model of `part`, or else of one not yet seen."""
        number = next((at for at, each in enumerate(self.parts) if each is part), len(self.parts))
        places = Places.of(number, mean, sizes)
        cross = covariance(places, self.places, self.scales)
        around = covariance(places, places, self.scales) - cross @ self.gain @ cross.T
        return Belief(cross @ self.weights, (around + around.T) / 2)


def posterior(parts: Sequence[Evidence], scales: Scales) -> Posterior:
    """Join the evidence of models that share deviations."""
    joined = _Joined.of(parts, scales)
    solved: Floats = np.linalg.solve(joined.system, np.column_stack([joined.precision, joined.force])).astype(
        np.float64
    )
    return Posterior(tuple(parts), joined.places, scales, solved[:, -1], solved[:, :-1])


def score(parts: Sequence[Evidence], scales: Scales, multipliers: Sequence[float]) -> Floats:
    """Logarithms of the marginal likelihood of models' runs, an element for each multiplier of the scales.

    It is how likely these very runs were beforehand: it falls where the means are further off than the scales allow,
    and also where they allow more than is needed.
    """
    joined = _Joined.of(parts, scales)
    fixed = covariance(joined.places, joined.places, scales.times(0))
    # A covariance is made of squares of scales.
    priors = fixed + np.square(multipliers)[:, None, None] * (joined.prior - fixed)
    systems = np.eye(len(fixed)) + joined.precision @ priors
    explained = (priors @ np.linalg.solve(systems, joined.force[:, None]))[..., 0] @ joined.force
    found: Floats = sum(part.density for part in parts) + 0.5 * (explained - np.linalg.slogdet(systems)[1])
    return found


@dataclass(frozen=True, slots=True)
class _Joined:
    """The evidence of several models in one, their prior, and 1 + precision prior."""

    places: Places
    precision: Floats
    force: Floats
    prior: Floats
    system: Floats

    @classmethod
    def of(cls, parts: Sequence[Evidence], scales: Scales) -> "_Joined":
        places = Places.joined([part.numbered(number) for number, part in enumerate(parts)])
        precision, start = np.zeros((len(places.size), len(places.size))), 0
        for part in parts:
            end = start + len(part.force)
            precision[start:end, start:end] = part.precision
            start = end
        prior = covariance(places, places, scales)
        force = np.concatenate([part.force for part in parts])
        return cls(places, precision, force, prior, np.eye(len(prior)) + precision @ prior)
