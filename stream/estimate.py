"""From the observations of one (upstream, model) to its baseline, or to the reason why there is none. Pure."""

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from math import inf, log
from typing import NamedTuple

from stream.baselines import Baseline, Baselines, Basis, Key
from stream.envelope import Envelope, Interval, fit_stream, fit_whole
from stream.observation import Fields, Observation
from stream.regression import at_rank
from stream.runtime import Coefficients, PromptFunction, prompt_function

__all__ = [
    "ENOUGH_STREAMED",
    "ENOUGH_WHOLE",
    "MOST_STREAMED",
    "MOST_UNCERTAIN",
    "Estimate",
    "Profile",
    "changed_noticeably",
    "estimate",
    "excess",
    "outdated",
    "profile",
]

ENOUGH_STREAMED = 30
"""Streams that must have told the time to first token, and as many the time per output token"""

ENOUGH_WHOLE = 60
"""Whole durations needed where streams tell too little: they hold both parts at once"""

MOST_STREAMED, MOST_WHOLE = 300, 400
"""Timings of a kind that one fit takes: more would hold the event loop up for longer than they add to precision"""

MOST_UNCERTAIN = 0.15
"""Half the width of T's interval, as a share of T, from which there is not enough"""

LEAST_OUTPUT = 8
"""Output tokens from which on a stream's pace is more than the accidents of a few chunks"""

_SMALL_CHANGE = 0.005
_UNBOUNDED = 1e9


class Profile(NamedTuple):
    """Where the logarithm of raw over denoised runtime begins (rank 5 %), and how far it is from there to 20 %."""

    low: float
    spread: float


class Estimate(NamedTuple):
    """The baseline (version 0) that observations give, or in words why they are not enough.

    `uncertainty` is half the width of T's interval as a share of T, without end where nothing could be fitted.
    """

    baseline: Baseline | None
    uncertainty: float
    missing: str | None


def estimate(
    key: Key, observations: Sequence[Observation], quantile: float, most_uncertain: float = MOST_UNCERTAIN
) -> Estimate:
    """Fit what a pair's observations tell, by streams if there are enough of them, else by whole durations."""
    prompts = [(max(each.prompt_tokens, 1), each.first_token) for each in observations if each.first_token > 0.0]
    outputs = [
        (each.prompt_tokens, each.output_tokens, each.per_output_token)
        for each in observations
        if each.per_output_token > 0.0 and each.output_tokens >= LEAST_OUTPUT
    ]
    wholes = [(each.prompt_tokens, each.output_tokens, each.whole) for each in observations if each.whole > 0.0]
    if min(len(prompts), len(outputs)) >= ENOUGH_STREAMED:
        found = _Found(
            "stream", fit_stream(prompts[:MOST_STREAMED], outputs[:MOST_STREAMED], quantile), len(prompts), len(outputs)
        )
    elif len(wholes) >= ENOUGH_WHOLE:
        found = _Found("whole", fit_whole(wholes[:MOST_WHOLE], quantile), len(wholes), len(wholes))
    else:
        told, what = min((len(prompts), "the first token's time"), (len(outputs), "the time per output token"))
        streams = f"{told} of {ENOUGH_STREAMED} streams that tell {what}"
        return _nothing(inf, f"{streams}, {len(wholes)} of {ENOUGH_WHOLE} whole durations")
    uncertainty = found.envelope.uncertainty
    if not uncertainty <= most_uncertain:
        return _nothing(
            uncertainty,
            f"after {len(observations)} requests the runtime is known to ± {uncertainty:.0%}, "
            f"not yet to ± {most_uncertain:.0%}",
        )
    return Estimate(_baseline(key, observations, found, quantile), uncertainty, None)


def _nothing(uncertainty: float, reason: str) -> Estimate:
    return Estimate(None, uncertainty, f"not enough: {reason}")


class _Found(NamedTuple):
    basis: Basis
    envelope: Envelope
    n_prompt: int
    n_output: int


def _baseline(key: Key, observations: Sequence[Observation], found: _Found, quantile: float) -> Baseline:
    upstream, model = key
    prompts = [each.prompt_tokens for each in observations]
    times = [each.at for each in observations if each.at]
    envelope = found.envelope
    return Baseline(
        upstream=upstream,
        model=model or "",
        per_output_token=max(envelope.per_output_token.value, 0.0),
        knots=envelope.knots,
        prompt_seconds=envelope.prompt_seconds,
        overhead=envelope.overhead.value,
        context=envelope.context.value,
        basis=found.basis,
        n=len(observations),
        n_prompt=found.n_prompt,
        n_output=found.n_output,
        quantile=quantile,
        since=_moment(times, min),
        until=_moment(times, max),
        prompt_range=(max(min(prompts), 1), max(prompts)),
        intervals={
            "runtime_per_output_token": _seconds(envelope.per_output_token),
            "runtime_for_prompt_tokens": _factors(envelope.prompt),
            "overhead": _seconds(envelope.overhead),
            "runtime": _factors(envelope.runtime),
            "context_seconds_per_token2": _seconds(envelope.context),
        },
    )


def _moment(times: Sequence[int], choose: Callable[[Sequence[int]], int]) -> datetime | None:
    return datetime.fromtimestamp(choose(times), UTC) if times else None


def _seconds(interval: Interval) -> tuple[float, float]:
    return max(interval.low, 0.0), max(interval.high, 0.0)


def _factors(interval: Interval) -> tuple[float, float]:
    """Bounds as factors of the value; of a value of 0 nothing is known."""
    if interval.value <= 0.0:
        return 0.0, _UNBOUNDED
    return max(interval.low / interval.value, 0.0), min(interval.high / interval.value, _UNBOUNDED)


def excess(baselines: Baselines, key: Key, observations: Iterable[Fields]) -> list[tuple[int, float]]:
    """Return the logarithm of raw over denoised runtime of whole durations, each with its place."""
    if key not in baselines:
        return []
    runtime, found = baselines.runtime(key), []
    for place, (_, _, prompt, output, _, _, whole) in enumerate(observations):
        if whole > 0.0 and (denoised := runtime(prompt, 0, output)):
            found.append((place, log(whole / denoised)))
    return found


def profile(excesses: Sequence[tuple[int, float]]) -> Profile:
    """Describe the low edge of what `excess` gave."""
    ordered = sorted(value for _, value in excesses)
    if not ordered:
        return Profile(0.0, 0.0)
    low = at_rank(ordered, 0.05)
    return Profile(low, at_rank(ordered, 0.2) - low)


def outdated(old: Baseline, new: Baseline) -> bool:
    """Whether all that the old one was found with came before what the new one was."""
    return old.until is not None and new.since is not None and old.until < new.since


def changed_noticeably(old: Baseline, new: Baseline) -> bool:
    """Whether a new estimate says something new: other numbers, twice the observations, another time."""
    if old.basis != new.basis or new.n >= 2 * old.n or new.prompt_range[1] > 1.5 * old.prompt_range[1]:
        return True
    if outdated(old, new):
        return True
    low, high = new.intervals["runtime"]
    small = max((high - low) / 4, _SMALL_CHANGE)
    before, after = _first_token(old), _first_token(new)
    pairs = [(old.per_output_token, new.per_output_token), *((before(knot), after(knot)) for knot in new.knots)]
    return any(abs(one - other) > small * other for one, other in pairs)


def _first_token(baseline: Baseline) -> PromptFunction:
    """T(p, 1) within the knots."""
    seconds = tuple(each + baseline.overhead for each in baseline.prompt_seconds)
    return prompt_function(Coefficients(0.0, baseline.knots, seconds, quadratic=(0.0, 0.0, 0.0)))
