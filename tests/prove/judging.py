"""How good an estimator of baselines is, against simulations whose truth is known; and estimators that must fail.

The estimator is driven as the embedded stream drives it: each event is enriched with the baselines in force, then
observed; baselines change only at a save, every `SAVED_EVERY` events.
"""

import traceback
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from math import inf
from statistics import median, median_low
from typing import Protocol

from msgspec import structs

from stream.baselines import NO_BASELINES, Baseline, Baselines
from stream.coefficients import load_tables
from stream.denoise import Denoiser
from stream.enrich import enrich, output_tokens
from stream.events import EnrichedEvent
from stream.runtime import prompt_function, runtime_function
from stream.simulate import Simulated, Simulation
from stream.simulated_provider import Truth

SAVED_EVERY = 50
BOUND = 0.15
"""An estimate further than this from the truth is worse than none"""

QUIET, QUIET_ENOUGH = 1.1, 10
"""A provider is known at its best once so many requests took at most 1.1 times their true seconds: before that
nothing in its traffic tells how fast it could be, and estimates are counted as `blind`, not as right or wrong"""

STAYS = 0.10
"""An estimator has recovered from a change once its errors stay within this"""

_TABLES = load_tables()
Key = tuple[str | None, str | None]


class Estimator(Protocol):
    """What is judged: the public face of `Denoiser`."""

    @property
    def baselines(self) -> Baselines: ...

    def observe(self, enriched: EnrichedEvent) -> None: ...

    def refresh(self) -> list[Baseline]: ...


Make = Callable[[Simulation], Estimator]


Held = tuple[bool, bool, bool]
"""whether the intervals of beta, of F and of T, for the median request, hold the truth"""


def denoiser(_simulation: Simulation) -> Estimator:
    """Make the real one."""
    return Denoiser()


@dataclass(frozen=True, slots=True)
class Errors:
    """Relative errors of one baseline, all >= 0.

    `prompt`: of F(p), the median over the traffic's own prompts; `per_output`: of beta; `context`: of beta with
    gamma at the traffic's own context lengths, which is what outputs cost; `total`: of T, the median over the
    traffic's own requests; `prompt_share`: what F is off by as a share of T, the same median.
    """

    prompt: float
    per_output: float
    context: float
    total: float
    prompt_share: float

    @property
    def parts(self) -> tuple[float, float, float, float]:
        """The first four."""
        return self.prompt, self.per_output, self.context, self.total

    @property
    def worst(self) -> float:
        """The larger one of F's and beta's."""
        return max(self.prompt, self.per_output)


@dataclass(slots=True)
class Pair:
    """What is known of one (upstream, model) in a simulation: its truth in force and its last requests' sizes."""

    truth: Truth | None = None
    former: Truth | None = None
    completed: int = 0
    since_change: int = 0
    quiet: int = 0
    sizes: deque[tuple[int, int, int]] = field(default_factory=lambda: deque(maxlen=500))

    def add(self, simulated: Simulated) -> None:
        """Count one completed request."""
        self.completed += 1
        if simulated.truth is self.former:
            return  # began before the change, ended after it
        if self.truth is not None and simulated.truth is not self.truth:
            self.former, self.since_change = self.truth, 0
            self.sizes.clear()
        self.truth = simulated.truth
        self.since_change += 1
        event = simulated.event
        raw, seconds = event.raw_seconds, simulated.seconds
        if raw is not None and seconds is not None and not simulated.absurd:
            self.quiet += raw <= QUIET * seconds
        prompt, cached = event.prompt_tokens or 0, event.cached_tokens or 0
        self.sizes.append((prompt, cached, output_tokens(event) or 0))

    def errors(self, baseline: Baseline | None) -> Errors | None:
        """Compare a baseline with the truth in force."""
        truth = self.truth
        if baseline is None or truth is None:
            return None
        estimate, whole = prompt_function(baseline.coefficients), runtime_function(baseline.coefficients)
        prompts = [prompt - cached for prompt, cached, _ in self.sizes]
        totals = [
            (whole(prompt - cached, output) + baseline.context * cached * max(output - 1, 0))
            / truth.seconds(prompt, output, cached)
            for prompt, cached, output in self.sizes
        ]
        context = _mean_context(self.sizes)
        true_pace = truth.per_output_token + truth.context * context
        return Errors(
            median(abs(estimate(prompt) / truth.prompt_seconds(prompt) - 1) for prompt in prompts),
            abs(baseline.per_output_token / truth.per_output_token - 1),
            abs((baseline.per_output_token + baseline.context * context) / true_pace - 1),
            median(abs(ratio - 1) for ratio in totals),
            median(
                abs(estimate(prompt) - truth.prompt_seconds(prompt)) / truth.seconds(prompt, output)
                for prompt, output in ((prompt - cached, output) for prompt, cached, output in self.sizes)
            ),
        )

    def held(self, baseline: Baseline | None) -> Held | None:
        """Whether a baseline's intervals hold the truth; None where there is nothing to judge."""
        truth = self.truth
        if baseline is None or truth is None or self.former is not None or self.quiet < QUIET_ENOUGH:
            return None
        prompt = median_low(prompt - cached for prompt, cached, _ in self.sizes)
        output = median_low(output for *_, output in self.sizes)
        estimate, whole = prompt_function(baseline.coefficients), runtime_function(baseline.coefficients)
        true = {
            "runtime_per_output_token": truth.per_output_token,
            "runtime_for_prompt_tokens": truth.prompt_seconds(prompt) / estimate(prompt),
            "runtime": truth.seconds(prompt, output) / whole(prompt, output),
        }
        beta, first, total = (low <= true[name] <= high for name in true for low, high in [baseline.intervals[name]])
        return beta, first, total


def _mean_context(sizes: Iterable[tuple[int, int, int]]) -> float:
    """Context tokens that an output token of this traffic meets on average."""
    weighted = [(max(output - 1, 0), prompt + output / 2) for prompt, _, output in sizes]
    return sum(weight * context for weight, context in weighted) / (sum(weight for weight, _ in weighted) or 1)


@dataclass(slots=True)
class Verdict:
    """How one estimator did in one simulation."""

    completed: int = 0
    given: int = 0
    blind: int = 0
    wrong: int = 0
    worst: float = 0.0
    estimated_contention: float = 0.0
    true_contention: float = 0.0
    at: dict[int, list[Errors | None]] = field(default_factory=dict)
    held: dict[int, list[Held]] = field(default_factory=dict)
    after_change: list[tuple[int, float]] = field(default_factory=list)
    baselines: tuple[Baseline, ...] = ()
    broke: str | None = None

    @property
    def contention(self) -> float | None:
        """Estimated over true seconds of contention; None without any."""
        return self.estimated_contention / self.true_contention if self.true_contention else None

    @property
    def recovered(self) -> int | None:
        """Requests after the change from which on the errors stay small; None: not in this simulation."""
        found: int | None = None
        for since, error in self.after_change:
            if error > STAYS:
                found = None
            elif found is None:
                found = since
        return found

    def count(self, simulated: Simulated, enriched: EnrichedEvent, pair: Pair, recovery: int) -> None:
        """Take one completed request. While a change is new, how far off estimates are is recovery's affair."""
        denoised, truth = enriched.denoised_runtime_seconds, simulated.seconds
        self.completed += 1
        if denoised is None or truth is None:
            return
        self.given += 1
        if pair.quiet < QUIET_ENOUGH and pair.former is None:
            self.blind += 1
            return
        if pair.former is None or pair.since_change > recovery:
            off = abs(denoised / truth - 1)
            self.wrong += off > BOUND
            self.worst = max(self.worst, off)
        raw = simulated.event.raw_seconds
        if raw is not None and not simulated.absurd:
            self.estimated_contention += raw - denoised
            self.true_contention += raw - truth


def judge(
    seed: int,
    scenario: str,
    requests: int,
    make: Make = denoiser,
    marks: Sequence[int] = (500,),
    recovery: int = 1000,
    saved_every: int = SAVED_EVERY,
) -> Verdict:
    """Drive one estimator through one simulation; `marks` are numbers of requests of a pair at which it is compared."""
    simulation = Simulation(seed, requests, scenario)
    estimator, verdict = make(simulation), Verdict()
    try:
        _drive(simulation, estimator, verdict, marks, recovery, saved_every)
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        verdict.broke = f"seed {seed}: {error!r} at {frame.filename}:{frame.lineno}"
    verdict.baselines = tuple(estimator.baselines.values())
    return verdict


def _drive(
    simulation: Simulation,
    estimator: Estimator,
    verdict: Verdict,
    marks: Sequence[int],
    recovery: int,
    saved_every: int,
) -> None:
    pairs: dict[Key, Pair] = defaultdict(Pair)
    due = {mark: set[Key]() for mark in marks}
    for number, simulated in enumerate(simulation, 1):
        enriched = enrich(simulated.event, _TABLES, estimator.baselines)
        if simulated.seconds is not None:
            key = (simulated.event.upstream, simulated.event.model)
            pair = pairs[key]
            pair.add(simulated)
            verdict.count(simulated, enriched, pair, recovery)
        estimator.observe(enriched)
        if number % saved_every == 0:
            estimator.refresh()
            _compare(verdict, estimator, pairs, due)


def _compare(verdict: Verdict, estimator: Estimator, pairs: dict[Key, Pair], due: dict[int, set[Key]]) -> None:
    for key, pair in pairs.items():
        baseline = estimator.baselines.get(key)
        for mark, done in due.items():
            if pair.completed >= mark and key not in done:
                done.add(key)
                verdict.at.setdefault(mark, []).append(pair.errors(baseline))
                if baseline is not None and baseline.intervals and (held := pair.held(baseline)) is not None:
                    verdict.held.setdefault(mark, []).append(held)
        if pair.former is not None:
            errors = pair.errors(baseline)
            verdict.after_change.append((pair.since_change, errors.worst if errors else inf))


class Oracle:
    """Knows the truth at the beginning and never learns: what a perfect estimator scores, but for changes."""

    def __init__(self, simulation: Simulation, factor: float = 1.0) -> None:
        """Take the truth, and everything in it `factor` times."""
        self.baselines = Baselines(_scaled(truth.baseline(), factor) for truth in simulation.truths)

    def observe(self, enriched: EnrichedEvent) -> None:
        """Learn nothing."""

    def refresh(self) -> list[Baseline]:
        """Change nothing."""
        return []


def _scaled(baseline: Baseline, factor: float) -> Baseline:
    return structs.replace(
        baseline,
        per_output_token=baseline.per_output_token * factor,
        prompt_seconds=tuple(seconds * factor for seconds in baseline.prompt_seconds),
        overhead=baseline.overhead * factor,
        context=baseline.context * factor,
    )


class Frozen(Denoiser):
    """The real one, but for its learning: that ends after ten saves."""

    def __init__(self, _simulation: Simulation) -> None:
        """Begin with nothing."""
        super().__init__()
        self._saves = 0

    def refresh(self, limit: int | None = None, *, force: bool = False) -> list[Baseline]:
        """Refit while it still learns."""
        self._saves += 1
        return super().refresh(limit, force=force) if self._saves <= 10 else []


class Mean:
    """Least squares of the raw runtime on 1, p and o - 1: the usual runtime instead of the least contended one."""

    def __init__(self, _simulation: Simulation) -> None:
        """Begin with nothing."""
        self.baselines = NO_BASELINES
        self._seen: dict[Key, list[tuple[float, float, float]]] = defaultdict(list)

    def observe(self, enriched: EnrichedEvent) -> None:
        """Keep a completed request's sizes and runtime."""
        event = enriched.event
        prompt, output, raw = event.prompt_tokens, output_tokens(event), event.raw_seconds
        if enriched.exclusion_reason is None and prompt is not None and output is not None and raw is not None:
            self._seen[event.upstream, event.model].append((prompt - (event.cached_tokens or 0), output - 1, raw))

    def refresh(self) -> list[Baseline]:
        """Fit again."""
        found = [self._fit(key, seen) for key, seen in self._seen.items() if key[1] is not None and len(seen) >= 30]
        self.baselines = self.baselines.with_(found)
        return found

    def _fit(self, key: Key, seen: list[tuple[float, float, float]]) -> Baseline:
        slope, pace, constant = _plane(seen)
        knots = (1, 100, 1000, 10_000)
        return Baseline(
            version=1,
            upstream=key[0],
            model=key[1] or "",
            per_output_token=max(pace, 0.0),
            knots=knots,
            prompt_seconds=tuple(max(slope * knot, 0.0) for knot in knots),
            overhead=max(constant, 0.0),
            prompt_range=(1, 10_000),
        )


def _plane(points: list[tuple[float, float, float]]) -> tuple[float, float, float]:
    """Slopes along x and y, and the constant, of the least squares plane through (x, y, z)."""
    count = len(points)
    mean = [sum(point[axis] for point in points) / count for axis in range(3)]
    centred = [tuple(value - middle for value, middle in zip(point, mean, strict=True)) for point in points]

    def dot(left: int, right: int) -> float:
        return sum(point[left] * point[right] for point in centred)

    xx, yy, xy, xz, yz = dot(0, 0), dot(1, 1), dot(0, 1), dot(0, 2), dot(1, 2)
    determinant = xx * yy - xy * xy or 1.0
    slope, pace = (xz * yy - yz * xy) / determinant, (yz * xx - xz * xy) / determinant
    return slope, pace, mean[2] - slope * mean[0] - pace * mean[1]
