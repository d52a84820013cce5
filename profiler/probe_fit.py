"""From a probe's replies to coefficients without contention: the low edge of each point, on the denoiser's shape. Pure.

A point was asked for again and again, and nothing makes a reply come too soon: the least timings of a point are those
that met nobody. Its edge is the mean of those within 3 % of the least, so that noise of 1 % does not make it too small.
T(p, 1) is the edge of the requests for one token; no size takes longer than a larger one. beta is what further tokens
add to it in whole durations, the least of the longest points: a stream's own pace would seem too quick where its first
chunk was read late.

The denoiser's envelope (`stream.envelope`) of the same replies gives the shape between sizes and below the least,
and the intervals. gamma is left at 0: these points differ too little in context to tell it from noise.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import inf
from statistics import fmean, median
from typing import Any

import numpy as np
from msgspec import structs

from profiler.probe_ledger import Sample
from profiler.probe_plan import Point
from profiler.tables import significant
from stream.baselines import Baseline
from stream.enrich import output_tokens
from stream.estimate import MOST_UNCERTAIN, estimate
from stream.events import RequestEvent
from stream.observation import pack, unpack
from stream.regression import at_rank
from stream.runtime import runtime_function
from stream.table_format import Fit

__all__ = ["METHOD", "PointSeen", "Probed", "edge", "points_seen", "probed"]

METHOD = "low edge"

_Reply = tuple[int, int, float]
"""prompt tokens, output tokens, seconds"""

_SECONDS = ("runtime_per_output_token", "overhead", "context_seconds_per_token2")
_NEAR = 0.03  # of the least timing: two and a half times the noise of one that met nobody
_FEWEST = 4  # repeats of a point that are an edge
_TEMPLATE_SHARE = 0.05  # of a prompt that may come from a cache: a template that all requests share
_BURST = 1.5  # tokens a read: more, and the first one came late for others' sake


@dataclass(frozen=True, slots=True)
class PointSeen:
    """What was seen of one point: mean prompt and output tokens, how many replies, and seconds."""

    prompt_tokens: float
    output_tokens: float
    replies: int
    low: float
    median: float


@dataclass(frozen=True, slots=True)
class Probed:
    """The coefficients, or in words why there are none; `cached` counts replies that a prompt cache made shorter.

    `uncertainty` is half the width of T's interval, as a share of T.
    """

    baseline: Baseline | None
    missing: str | None
    fit: Fit | None
    seen: tuple[PointSeen, ...]
    cached: int
    uncertainty: float = inf

    @property
    def sure(self) -> bool:
        """Whether T is known well enough to be relied on: as well as a baseline of recorded traffic must be."""
        return self.uncertainty <= MOST_UNCERTAIN


def probed(upstream: str, model: str, samples: Sequence[Sample], quantile: float) -> Probed:
    """Fit a probe's replies."""
    events = [_honest(sample.event) for sample in samples]
    packed = [piece for event in events if (piece := pack(event)) is not None]
    observations = [each for piece in packed for each in unpack(piece)]
    cached = sum(bool(event.cached_tokens) for event in events)
    seen = points_seen(samples)
    found = estimate((upstream, model), observations, quantile, inf)
    if found.baseline is None:
        return Probed(None, found.missing, None, seen, cached)
    baseline = _to_edges(_anchored(found.baseline), zip((sample.point for sample in samples), events, strict=True))
    return Probed(baseline, None, _fit(baseline, seen), seen, cached, found.uncertainty)


def edge(values: Iterable[float]) -> float:
    """Where timings begin: the mean of those near the least one."""
    ordered = sorted(values)
    return fmean(value for value in ordered if value <= (1 + _NEAR) * ordered[0])


def points_seen(samples: Iterable[Sample]) -> tuple[PointSeen, ...]:
    """What there is of each point, in the order of prompt and output tokens."""
    found: defaultdict[Point, list[RequestEvent]] = defaultdict(list)
    for sample in samples:
        if sample.point is not None:
            found[sample.point].append(sample.event)
    return tuple(_point(events) for _, events in sorted(found.items()))


def _point(events: Sequence[RequestEvent]) -> PointSeen:
    seconds = [event.raw_runtime_seconds or 0.0 for event in events]
    return PointSeen(
        fmean(event.prompt_tokens or 0 for event in events),
        fmean(output_tokens(event) or 0 for event in events),
        len(events),
        edge(seconds),
        median(seconds),
    )


def _honest(event: RequestEvent) -> RequestEvent:
    """The event without the times of a stream that came in bursts, and without a cache that held a template alone."""
    if event.cached_tokens and event.cached_tokens <= _TEMPLATE_SHARE * (event.prompt_tokens or 0):
        event = structs.replace(event, cached_tokens=None)
    output, gaps = output_tokens(event) or 0, event.chunk_gaps or {}
    if output > 1 and output > _BURST * (gaps.get("count", 0) + 1):
        event = structs.replace(event, time_to_first_token_seconds=None, time_per_output_token_seconds=None)
    return event


def _to_edges(baseline: Baseline, samples: Iterable[tuple[Point | None, RequestEvent]]) -> Baseline:
    """The baseline moved to the edges of the points."""
    replies = _by_point(samples)
    alone = _first_tokens(baseline, {point: each for point, each in replies.items() if point[1] == 1})
    if not alone:
        return baseline
    longest = max(output for _, output in replies)
    paces = [_pace(alone, each) for (_, output), each in replies.items() if output > 1 and output >= longest / 2]
    beta = min(paces, default=inf)
    if beta == inf:  # nobody asked for more than one token, or none came
        beta = baseline.per_output_token
    # By convention F(1) is beta, and the rest of T(1, 1) overhead.
    overhead = max(alone[1] - beta, 0.0)
    intervals = dict(baseline.intervals)
    for name, value in zip(_SECONDS, (beta, overhead, 0.0), strict=True):
        low, high = intervals[name]
        intervals[name] = min(low, value), max(high, value)
    return structs.replace(
        baseline,
        per_output_token=beta,
        knots=tuple(alone),
        prompt_seconds=tuple(first - overhead for first in alone.values()),
        overhead=overhead,
        context=0.0,
        intervals=intervals,
    )


def _by_point(samples: Iterable[tuple[Point | None, RequestEvent]]) -> dict[Point, list[_Reply]]:
    """The replies of each point that was asked for often enough, without those that a prompt cache made shorter."""
    found: defaultdict[Point, list[_Reply]] = defaultdict(list)
    for point, event in samples:
        output, seconds = output_tokens(event), event.raw_runtime_seconds
        if point is not None and event.prompt_tokens and output and seconds and not event.cached_tokens:
            found[point].append((event.prompt_tokens, output, seconds))
    return {point: each for point, each in sorted(found.items()) if len(each) >= _FEWEST}


def _first_tokens(baseline: Baseline, replies: Mapping[Point, Sequence[_Reply]]) -> dict[int, float]:
    """T(p, 1) by prompt tokens, from 1 on: the baseline's, by the share of it that the edges are, or {}."""
    runtime, shares = runtime_function(baseline.coefficients), dict[int, float]()
    for each in replies.values():
        # A provider may give more than the one token that it was asked for.
        share = edge(
            max(seconds - runtime(prompt, output) + runtime(prompt, 1), 0.0) / runtime(prompt, 1)
            for prompt, output, seconds in each
        )
        size = round(fmean(prompt for prompt, *_ in each))
        shares[size] = min(share, shares.get(size, inf))
    if not shares:
        return {}
    knots = sorted({1, *baseline.knots, *shares})
    moved = np.interp(np.log(knots), np.log(list(shares)), list(shares.values()))
    firsts = [runtime(knot, 1) * float(share) for knot, share in zip(knots, moved, strict=True)]
    rising = [*accumulate(reversed(firsts), min)][::-1]
    return dict(zip(knots, rising, strict=True))


def _pace(alone: Mapping[int, float], replies: Sequence[_Reply]) -> float:
    """Seconds an output token beyond T(p, 1), by whole durations."""
    sizes, firsts = list(alone), list(alone.values())
    more = [
        max(seconds - float(np.interp(prompt, sizes, firsts)), 0.0) / (output - 1)
        for prompt, output, seconds in replies
        if output > 1
    ]
    return edge(more) if more else inf


def _anchored(baseline: Baseline) -> Baseline:
    """With F(1) := beta, by which overhead is told from F; never above F of the smallest prompt seen."""
    if baseline.knots[0] == 1:
        return baseline
    first = min(baseline.per_output_token, baseline.prompt_seconds[0])
    return structs.replace(baseline, knots=(1, *baseline.knots), prompt_seconds=(first, *baseline.prompt_seconds))


def _fit(baseline: Baseline, seen: Sequence[PointSeen]) -> Fit:
    """How T meets the edge of each point."""
    runtime = runtime_function(baseline.coefficients)
    lows = [each.low for each in seen]
    found = [runtime(round(each.prompt_tokens), round(each.output_tokens)) for each in seen]
    errors = sorted(abs(one / other - 1) for one, other in zip(found, lows, strict=True))
    spread = sum((low - fmean(lows)) ** 2 for low in lows)
    left = sum((one - other) ** 2 for one, other in zip(found, lows, strict=True))
    numbers: dict[str, Any] = {
        "r2": round(1 - left / spread, 6) if spread else 1.0,
        "median_error": significant(median(errors), 4),
        "p95_error": significant(at_rank(errors, 0.95), 4),
        "max_error": significant(errors[-1], 4),
    }
    return Fit(METHOD, len(seen), **numbers)
