"""simulate: events of a provider whose truth is known, as the gateway would have recorded them.

The same seed gives the same events, on every platform: times are rounded to microseconds, so that the last bit of a
logarithm does not matter. Pure but for its own random numbers. Nothing in an event tells the truth; it comes beside.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from heapq import heappop, heappush
from typing import Any, NamedTuple

from msgspec import structs

from stream.baselines import Baseline
from stream.events import RequestEvent
from stream.simulated_provider import (
    Change,
    Contention,
    ContentionKind,
    Load,
    Traffic,
    Truth,
    draw_contention,
    draw_traffic,
    draw_truth,
)
from stream.simulated_trouble import ABSURD, FAILURES, Clock

__all__ = ["SCENARIOS", "Scenario", "Simulated", "Simulation"]

BEGAN = datetime(2026, 1, 5, 8, tzinfo=UTC)
UPSTREAMS = ("api.simulated.example", "eu.simulated.example", "api.other.example")
MODELS = ("sim-large", "sim-small", "sim-code", "sim-mini")

JITTER = 0.01
"""Standard deviation of what no contention explains, as a share of each timing"""

_ID_BITS = 80


@dataclass(frozen=True, slots=True)
class Scenario:
    """What happens to one simulated provider; shares are of all requests, None leaves it to the seed."""

    about: str
    contention: ContentionKind = "lognormal"
    streamed: float | None = None
    cached: float = 0.0
    reasoning: float | None = 0.0
    absurd: float = 0.0
    failed: float = 0.0
    pairs: int = 1
    most: int | None = None
    hardware: bool = False
    clock: bool = False


SCENARIOS: dict[str, Scenario] = {
    "default": Scenario("streamed and whole replies, each request's contention by itself, up to 5 times"),
    "lognormal": Scenario("the same, all streamed", streamed=1.0),
    "onoff": Scenario("quiet and busy phases of exponential length; busy is 1.5 to 5 times slower", "onoff"),
    "queue": Scenario("a wait before the first token, and a shared batch that slows the others, apart", "queue"),
    "whole": Scenario("no reply is streamed", streamed=0.0),
    "stream": Scenario("every reply is streamed, in phases", "onoff", streamed=1.0),
    "cached": Scenario("30 % of the requests have most of their prompt in the provider's cache", cached=0.3),
    "reasoning": Scenario("reasoning that is billed and not streamed: the first visible token is late", reasoning=None),
    "hardware": Scenario("half way the provider changes its hardware, for faster or slower", hardware=True),
    "absurd": Scenario("1 % of the timings are absurd: far too short, far too long, or contradictory", absurd=0.01),
    "clock": Scenario("the wall clock is set back and forth, by seconds, hours and a year", clock=True),
    "failures": Scenario("15 % fail: refused, overloaded, cut off, left by their clients", failed=0.15),
    "tiny": Scenario("3 to 40 requests, and no more", most=40),
    "many": Scenario("six pairs of upstream and model, the first ones asked most", pairs=6),
    "mixed": Scenario(
        "all of it at once, on two pairs", "mixed", None, 0.3, None, 0.01, 0.1, pairs=2, hardware=True, clock=True
    ),
}


class Simulated(NamedTuple):
    """One event and its truth: `seconds` without contention (None: it did not complete), and whose they are."""

    event: RequestEvent
    seconds: float | None
    truth: Truth
    absurd: bool


@dataclass(slots=True)
class _Pair:
    """One upstream and model: the truth in force, the one after a change, and what happens to it."""

    truth: Truth
    later: Truth | None
    contention: Contention
    traffic: Traffic
    served_model: str
    tells_cached: bool
    streamed: float
    reasoning: float


@dataclass(slots=True)
class _Times:
    """One request's parts, seconds, and the tokens that they are of."""

    prompt: int
    output: int
    cached: int
    hidden: int
    stream: bool
    first: float
    visible: float
    raw: float
    seconds: float


class Simulation:
    """Iterate over it for `requests` events in the order of their ends; `truths` and `changes_at` are known at once."""

    def __init__(self, seed: int, requests: int, scenario: str = "default", rate: float = 1.0) -> None:
        """Draw the providers; `rate` is requests per second, `scenario` one of SCENARIOS (else KeyError)."""
        self.scenario = SCENARIOS[scenario]
        # Seeded by text, as the same seed is to mean the same provider in every scenario.
        provider = random.Random(f"{seed}/provider")  # noqa: S311 - repeatable is the point
        self._rng = random.Random(f"{seed}/{scenario}")  # noqa: S311
        self._rate = rate
        most = self.scenario.most
        self.requests = requests if most is None else min(requests, self._rng.randint(3, most))
        self._half = requests / rate / 2
        self._pairs = [self._pair(provider, number) for number in range(self.scenario.pairs)]
        self._shares = [1 / (place + 1) for place in range(len(self._pairs))]
        self._clock = Clock(self._rng, requests / rate) if self.scenario.clock else None

    @property
    def truths(self) -> list[Truth]:
        """Every pair's truth at the beginning."""
        return [pair.truth for pair in self._pairs]

    @property
    def changes_at(self) -> datetime | None:
        """When the hardware changes, by a clock that is right."""
        return BEGAN + timedelta(seconds=self._half) if self.scenario.hardware else None

    def baselines(self) -> list[Baseline]:
        """The truth as a table holds it: of a pair that changes the later one, and the first as `until` a time."""
        found = []
        for pair in self._pairs:
            if pair.later is None or self.changes_at is None:
                found.append(pair.truth.baseline())
                continue
            factor = pair.later.seconds(1000, 150) / pair.truth.seconds(1000, 150)
            until = f"{pair.truth.model} until {self.changes_at:%Y-%m-%dT%H:%M:%SZ}"
            found += [
                pair.truth.baseline(name=until),
                pair.later.baseline(Change(self.changes_at, factor)),
            ]
        return found

    def __iter__(self) -> Iterator[Simulated]:
        """Give the events in the order in which they end; once, as the random numbers go on."""
        open_requests: list[tuple[float, int, Simulated]] = []
        at = 0.0
        for number in range(self.requests):
            at = round(at + self._rng.expovariate(self._rate), 6)
            while open_requests and open_requests[0][0] <= at:
                yield heappop(open_requests)[2]
            ended, simulated = self._request(at)
            heappush(open_requests, (ended, number, simulated))
        while open_requests:
            yield heappop(open_requests)[2]

    def _pair(self, rng: random.Random, number: int) -> _Pair:
        upstream, model = UPSTREAMS[number % len(UPSTREAMS)], MODELS[number % len(MODELS)]
        truth = draw_truth(rng, upstream, model)
        later = truth.changed(rng)
        traffic, streamed, reasoning = draw_traffic(rng), rng.uniform(0.4, 0.9), rng.uniform(0.2, 0.8)
        scenario = self.scenario
        return _Pair(
            truth=truth,
            later=later if scenario.hardware else None,
            contention=draw_contention(scenario.contention, self._rng),
            traffic=traffic,
            served_model=f"{model}-2025-11-20",
            tells_cached=rng.random() < 0.7 or scenario.cached > 0,
            streamed=streamed if scenario.streamed is None else scenario.streamed,
            reasoning=reasoning if scenario.reasoning is None else scenario.reasoning,
        )

    def _request(self, at: float) -> tuple[float, Simulated]:
        """One request that comes at `at`: when it ends, and what is recorded of it."""
        rng, scenario = self._rng, self.scenario
        pair = rng.choices(self._pairs, self._shares)[0]
        if pair.later is not None and at >= self._half:
            pair.truth, pair.later = pair.later, None
        times = self._times(pair, pair.contention.draw(at))
        offset = 0.0 if self._clock is None else self._clock.offset(at)
        event = self._event(pair, times, BEGAN + timedelta(seconds=at + offset))
        seconds: float | None = times.seconds
        absurd = rng.random() < scenario.absurd
        if rng.random() < scenario.failed:
            event, seconds, absurd = rng.choice(FAILURES)(event, rng), None, False
        ends = at + (event.duration_seconds or 0.0)
        if absurd:
            event = rng.choice(ABSURD)(event, rng)
        return ends, Simulated(_ended(event), seconds, pair.truth, absurd)

    def _times(self, pair: _Pair, load: Load) -> _Times:
        rng, truth = self._rng, pair.truth
        prompt, visible = pair.traffic.sizes(rng)
        stream, reasons = rng.random() < pair.streamed, rng.random() < pair.reasoning
        hidden = min(round(400 * rng.lognormvariate(0.0, 0.8)), 8000) if reasons else 0
        output = visible + hidden
        # Caches work in blocks of 16 tokens, and the last token is always computed anew.
        cached = int(rng.uniform(0.4, 0.95) * prompt / 16) * 16 if rng.random() < self.scenario.cached else 0
        first = truth.overhead * self._jitter() + load.wait
        first += truth.prompt_seconds(prompt - cached) * load.prompt * self._jitter()
        slower = load.output * self._jitter()
        further = truth.output_seconds(prompt, output) * slower
        unseen = truth.output_seconds(prompt, hidden + 1) * slower
        seconds = truth.seconds(prompt, output, cached)
        return _Times(
            prompt, output, cached, hidden, stream, first + unseen, further - unseen, first + further, seconds
        )

    def _jitter(self) -> float:
        return self._rng.normalvariate(1.0, JITTER)

    def _event(self, pair: _Pair, times: _Times, started: datetime) -> RequestEvent:
        rng, truth = self._rng, pair.truth
        own, connect = 0.0003 + 0.0004 * rng.random(), 0.03 * rng.random() if rng.random() < 0.05 else 0.0
        raw = _rounded(times.raw)
        duration = _rounded(times.raw + own + connect)
        attempt = {"upstream": truth.upstream, "status": 200, "error_class": None, "seconds": raw}
        event = RequestEvent(
            id=f"{int(started.timestamp() * 1000):012x}{rng.getrandbits(_ID_BITS):020x}",
            started_at=started,
            source="gateway",
            route="/v1/chat/completions",
            provider="openai",
            upstream=truth.upstream,
            model=truth.model,
            served_model=pair.served_model,
            stream=times.stream,
            status=200,
            prompt_tokens=times.prompt,
            cached_tokens=times.cached if pair.tells_cached else None,
            completion_tokens=times.output,
            reasoning_tokens=times.hidden if pair.reasoning else None,
            usage_source="upstream",
            choices=1,
            longest_choice_tokens=times.output,
            finish_reason=rng.choice(("stop", "stop", "stop", "length")),
            time_to_first_byte_seconds=raw,
            raw_runtime_seconds=raw,
            duration_seconds=duration,
            connect_seconds=_rounded(connect),
            backpressure_seconds=0.0,
            gateway_overhead_seconds=_rounded(own),
            attempts=(attempt,),
        )
        return structs.replace(event, **self._stream_times(times)) if times.stream else event

    def _stream_times(self, times: _Times) -> dict[str, Any]:
        """What is recorded of a stream of a token a chunk: the first, the pace, and the gaps."""
        gaps = times.output - times.hidden - 1
        first = _rounded(times.first)
        found: dict[str, Any] = {"time_to_first_byte_seconds": first, "time_to_first_token_seconds": first}
        if gaps > 0:
            mean = times.visible / gaps
            spread = [mean * factor for factor in (0.98, 1.2, 1.2 + self._rng.random())]
            p50, p95, largest = (_rounded(gap) for gap in spread)
            found["time_per_output_token_seconds"] = round(mean, 9)
            found["chunk_gaps"] = {"count": gaps, "mean": round(mean, 9), "p50": p50, "p95": p95, "max": largest}
        return found


def _ended(event: RequestEvent) -> RequestEvent:
    """The event with the time of its end, which the gateway reckons from its duration."""
    assert event.started_at is not None
    ended = event.started_at + timedelta(seconds=event.duration_seconds or 0.0)
    return structs.replace(event, ended_at=ended)


def _rounded(seconds: float) -> float:
    return round(max(seconds, 0.0), 6)
