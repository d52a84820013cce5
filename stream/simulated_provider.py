"""A provider that is known: its true coefficients, how it slows down under load, and what is asked of it.

All of it is drawn from a seed, within the ranges of real models on real accelerators and of published traces; no
number here is chosen for an estimator's sake. Pure. Units: seconds, tokens.
"""

import random
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from math import exp
from typing import Literal, NamedTuple, Protocol

from stream.baselines import Baseline, Step

__all__ = [
    "Change",
    "Contention",
    "ContentionKind",
    "Load",
    "Traffic",
    "Truth",
    "draw_contention",
    "draw_traffic",
    "draw_truth",
]

ContentionKind = Literal["lognormal", "onoff", "queue", "mixed"]

WORST = 5.0
"""The largest contention factor"""

_KNOT_RATIO = 1.12  # of a truth's knots: straight lines between them are within 0.2 % of F
_LONGEST_PROMPT = 32_768
_LONGEST_OUTPUT = 4_096

# Quantiles 0, .01, .05, .1, .2 to .9, .95, .99, 1 of the Azure LLM inference trace 2023, conversations: Patel et al.,
# Splitwise, ISCA 2024 (arXiv 2311.18677); https://github.com/Azure/AzurePublicDataset, (c) Microsoft, CC BY 4.0.
_SHARES = (0.0, 0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)
_PROMPTS = (2, 29, 181, 207, 387, 403, 703, 1020, 1071, 1130, 1315, 2735, 4083, 4142, 14050)
_OUTPUTS = (7, 16, 41, 54, 77, 91, 103, 129, 177, 384, 400, 424, 451, 601, 1000)


@dataclass(frozen=True, slots=True)
class Truth:
    """The coefficients of one (upstream, model), without contention.

    F(p) is a roofline: the larger of reading the weights (`floor`, that is beta: F(1) is one output token's time)
    and of computing (`per_prompt_token` each), with the corner rounded as a norm of order `sharpness`, or their sum
    where that is 1; and attention's `quadratic` p^2 on top.
    """

    upstream: str
    model: str
    overhead: float
    per_output_token: float
    per_prompt_token: float
    sharpness: float
    quadratic: float
    context: float

    def prompt_seconds(self, prompt_tokens: int) -> float:
        """F(p)."""
        order, computing = self.sharpness, self.per_prompt_token * prompt_tokens
        bound: float = (self.per_output_token**order + computing**order) ** (1 / order)
        return bound + self.quadratic * prompt_tokens**2

    def output_seconds(self, prompt_tokens: int, output_tokens: int) -> float:
        """Seconds from the first output token to the last one."""
        further = max(output_tokens - 1, 0)
        context = further * (2 * prompt_tokens + output_tokens) / 2
        return further * self.per_output_token + self.context * context

    def seconds(self, prompt_tokens: int, output_tokens: int, cached_tokens: int = 0) -> float:
        """T(p, o), with the cached prompt tokens left out of F."""
        prompt = self.prompt_seconds(prompt_tokens - cached_tokens)
        return self.overhead + prompt + self.output_seconds(prompt_tokens, output_tokens)

    def changed(self, rng: random.Random) -> "Truth":
        """The same model on other hardware: faster or slower, computing and reading by different factors."""
        low, high = (0.4, 0.7) if rng.random() < 0.5 else (1.5, 2.5)
        computing, reading = rng.uniform(low, high), rng.uniform(low, high)
        return replace(
            self,
            per_output_token=self.per_output_token * reading,
            per_prompt_token=self.per_prompt_token * computing,
            quadratic=self.quadratic * computing,
            context=self.context * reading,
        )

    def baseline(self, change: "Change | None" = None, name: str | None = None) -> Baseline:
        """The truth as a baseline: what the best of estimators would say; `change` is how it came to be."""
        knots = sorted({min(round(_KNOT_RATIO**power), _LONGEST_PROMPT) for power in range(93)})
        steps = () if change is None else (Step(change.at, change.factor, 0),)
        return Baseline(
            upstream=self.upstream,
            model=name or self.model,
            per_output_token=self.per_output_token,
            knots=tuple(knots),
            prompt_seconds=tuple(map(self.prompt_seconds, knots)),
            overhead=self.overhead,
            context=self.context,
            prompt_range=(1, _LONGEST_PROMPT),
            steps=steps,
        )


class Change(NamedTuple):
    """A change of hardware: when, and the runtime after it over that before it for a request of usual size."""

    at: datetime
    factor: float


def draw_truth(rng: random.Random, upstream: str, model: str) -> Truth:
    """A provider's coefficients, within the ranges of 7 to 400 billion parameters on today's accelerators."""
    per_output = _spread(rng, 0.005, 0.040)
    ridge = _spread(rng, 60, 300)  # prompt tokens at which computing takes as long as reading the weights
    per_prompt = per_output / ridge
    return Truth(
        upstream=upstream,
        model=model,
        overhead=_spread(rng, 0.010, 0.120),
        per_output_token=per_output,
        per_prompt_token=per_prompt,
        sharpness=1.0 if rng.random() < 0.3 else rng.uniform(2.0, 6.0),
        # Attention is 2 to 20 % of the linear part at 8,000 tokens; grouped heads read little context, full ones more.
        quadratic=per_prompt * _spread(rng, 0.02, 0.20) / 8000,
        context=per_output * _spread(rng, 0.002, 0.040) / 1000 if rng.random() < 0.5 else 0.0,
    )


def _spread(rng: random.Random, low: float, high: float) -> float:
    """A number between two, as likely in each part of the same ratio."""
    return float(low * (high / low) ** rng.random())


class Load(NamedTuple):
    """What a request meets: a wait before anything happens, and how much slower its two parts go (1: alone)."""

    wait: float = 0.0
    prompt: float = 1.0
    output: float = 1.0


class Contention(Protocol):
    """How busy a provider is."""

    def draw(self, at: float) -> Load:
        """What a request meets that comes at `at`, seconds since the beginning; called in order of time."""
        ...


class _Lognormal:
    """Each request by itself: exp(|normal|) or max(1, lognormal), whichever the seed says."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._folded = rng.random() < 0.5
        self._mean = 0.0 if self._folded else rng.uniform(0.0, 0.4)
        self._sigma = rng.uniform(0.3, 0.7)

    def draw(self, at: float) -> Load:  # noqa: ARG002 - the time of day is all the same to it
        normal = self._rng.normalvariate(self._mean, self._sigma)
        level = exp(abs(normal) if self._folded else normal)
        factor = min(max(level, 1.0), WORST)
        return Load(0.0, factor, factor)


class _OnOff:
    """Quiet phases and busy ones, 1.5 to 5 times slower, each of exponential length."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._quiet, self._busy = rng.uniform(20, 90), rng.uniform(20, 90)
        self._until, self._factor = 0.0, rng.choice((1.0, 2.0))  # the phase that has just ended

    def draw(self, at: float) -> Load:
        rng = self._rng
        while at >= self._until:
            self._factor = rng.uniform(1.5, WORST) if self._factor == 1.0 else 1.0
            self._until += rng.expovariate(1 / (self._quiet if self._factor == 1.0 else self._busy))
        factor = self._factor if self._factor == 1.0 else min(self._factor * rng.uniform(0.85, 1.15), WORST)
        return Load(0.0, factor, factor)


class _Queue:
    """A wait before the first token; and, drawn apart, a batch shared with others."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._waits, self._wait = rng.uniform(0.4, 0.8), rng.uniform(0.05, 0.6)
        self._shares, self._slower = rng.uniform(0.7, 0.9), rng.uniform(0.3, 1.0)

    def draw(self, at: float) -> Load:  # noqa: ARG002
        rng = self._rng
        wait = rng.expovariate(1 / self._wait) if rng.random() < self._waits else 0.0
        batch = rng.expovariate(1 / self._slower) if rng.random() < self._shares else 0.0
        return Load(wait, 1.0, min(1.0 + batch, WORST))


class _Mixed:
    """Phases, in each of which requests differ, and a queue now and then."""

    def __init__(self, rng: random.Random) -> None:
        self._phases, self._each, self._queue, self._rng = _OnOff(rng), _Lognormal(rng), _Queue(rng), rng

    def draw(self, at: float) -> Load:
        phase, each = self._phases.draw(at), self._each.draw(at)
        wait = self._queue.draw(at).wait if self._rng.random() < 0.2 else 0.0
        return Load(wait, min(phase.prompt * each.prompt, WORST), min(phase.output * each.output, WORST))


def draw_contention(kind: ContentionKind, rng: random.Random) -> Contention:
    """One provider's contention, its severity drawn too."""
    kinds: dict[ContentionKind, type[_Lognormal | _OnOff | _Queue | _Mixed]] = {
        "lognormal": _Lognormal,
        "onoff": _OnOff,
        "queue": _Queue,
        "mixed": _Mixed,
    }
    return kinds[kind](rng)


@dataclass(frozen=True, slots=True)
class Traffic:
    """The sizes of requests: those of a production trace (both medians None), or lognormal (median, sigma)."""

    prompt: tuple[float, float] | None
    output: tuple[float, float] | None

    def sizes(self, rng: random.Random) -> tuple[int, int]:
        """Prompt tokens and visible output tokens of one request, each at least 1."""
        prompt = _size(rng, self.prompt, _PROMPTS, _LONGEST_PROMPT)
        return prompt, _size(rng, self.output, _OUTPUTS, _LONGEST_OUTPUT)


def draw_traffic(rng: random.Random) -> Traffic:
    """The kind of traffic that one caller sends: a chat's, or some application's."""
    if rng.random() < 0.5:
        return Traffic(None, None)
    prompt = (_spread(rng, 150, 3000), rng.uniform(0.6, 1.1))
    return Traffic(prompt, (_spread(rng, 40, 300), rng.uniform(0.6, 1.0)))


def _size(rng: random.Random, spread: tuple[float, float] | None, trace: Sequence[int], most: int) -> int:
    if spread is None:
        share = rng.random()
        index = bisect_right(_SHARES, share) - 1
        low, high = trace[index], trace[index + 1]
        return round(low + (high - low) * (share - _SHARES[index]) / (_SHARES[index + 1] - _SHARES[index]))
    median, sigma = spread
    return min(max(round(median * rng.lognormvariate(0.0, sigma)), 1), most)
