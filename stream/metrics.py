"""Prometheus metrics of enriched events: own counts on the hot path, metric objects only when scraped.

Events are taken several at once, and what sums need of them is worked out once, for all that hold sums. The series
are bounded: model <= 100, upstream and provider <= 50, stack <= 10, reason <= 40 values, then `other`. All sums are
plain running sums, so that a state restored and continued gives exactly the figures of one that never stopped.
"""

import re
from collections.abc import Iterable, Iterator

import msgspec
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from stream import exposition
from stream.baselines import Baseline
from stream.cost_sums import Costed
from stream.counts import Counts, GlobalCounts, Labels, OperationCounts, PairCounts
from stream.events import EnrichedEvent
from stream.labels import MAX_LABEL_LENGTH, OTHER, BoundedLabel, clean_label
from stream.quantiles import Spread, bucket_of
from stream.sums import Batch, Observation

__all__ = ["Metrics", "StateError", "operation_of"]

_MAX_REASONS = 64
_CACHED_SERIES = 4096
_IDENTIFIER = re.compile(r"[a-z0-9_]{1,48}")
_encode = msgspec.json.Encoder().encode
_OPERATIONS = {
    "chat/completions": "chat",
    "messages": "chat",
    "responses": "chat",
    "completions": "text_completion",
    "embeddings": "embeddings",
}

_Key = tuple[str, ...]
_EventKey = tuple[str | None, str | None, str | None, str | None]
"""upstream, model, provider, route"""
_Series = tuple[_Key, _Key, OperationCounts]
"""the keys of pair and operation, and the latter's counts"""
_STATUS_CLASSES = {status: f"{status // 100}xx" for status in range(100, 600)}


class StateError(ValueError):
    """A stored row of counts that this version cannot go on from; one line."""


class Metrics(Collector):
    """Counts of enriched events, as a Prometheus collector and as rows for a state file.

    `baselines` are those in force, by (upstream, model) label values.
    """

    def __init__(self, max_models: int = 100, max_upstreams: int = 50, max_stacks: int = 10) -> None:
        """Start from zero; each maximum is a number of label values, after which values become `other`."""
        limits = {
            "model": max_models,
            "upstream": max_upstreams,
            "provider": max_upstreams,
            "stack": max_stacks,
            "reason": _MAX_REASONS,
        }
        self._labels = {name: BoundedLabel(name, limit, self._admitted, self._fold) for name, limit in limits.items()}
        self._global = GlobalCounts(overflow=dict.fromkeys(limits, 0))
        self._pairs: dict[_Key, PairCounts] = {}
        self._operations: dict[_Key, OperationCounts] = {}
        self._series: dict[_EventKey, _Series] = {}
        self._dirty: set[_Key] = set()
        self._reasons: dict[str | None, str] = {None: ""}
        self._stacks: dict[str | None, str] = {}
        self._stack: str | None = None
        self.baselines: dict[tuple[str, str], Baseline] = {}
        self._folded = 0

    def observe(self, *events: EnrichedEvent) -> Observation:
        """Count enriched events, in their order; return what of them was worked out on the way."""
        batches: dict[_Key, Batch] = {}
        labelled, overheads, operations = [], [], set[_Key]()
        for e in events:
            r = e.event
            key = (r.upstream, r.model, r.provider, r.route)
            series = self._series.get(key) or self._find(key, doubtful=e.exclusion_reason is not None)
            pair, operation, counts = series
            batch = batches.get(pair)
            if batch is None:
                batch = batches[pair] = Batch(pair[1], pair[2])
            excluded, error = self._add(e, batch)
            labelled.append((e, batch.upstream, batch.model, excluded))
            operations.add(operation)
            counts.count(r, error)
            overhead = r.gateway_overhead_seconds
            if overhead is not None:
                overheads.append((overhead, bucket_of(overhead)))
        for pair, batch in batches.items():
            self._pairs[pair].count(batch)
        self._global.count(overheads)
        self._stack = next((e.stack for e in reversed(events) if e.stack), self._stack)
        self._dirty.update(batches, operations)
        return Observation(events[0].event.ended_at, list(batches.values()), overheads, labelled)

    def _add(self, e: EnrichedEvent, batch: Batch) -> tuple[str, str]:
        """Add an event to those of its pair; return its exclusion reason as a label, and its error type."""
        excluded = self._reasons.get(e.exclusion_reason)
        if excluded is None:
            excluded = self._reason(e.exclusion_reason)
        error, status, event = "", e.event.status, e.event
        batch.requests += 1
        if event.usage_source == "estimated":
            batch.estimated += 1
        if len(event.attempts) > 1:
            batch.retries += len(event.attempts) - 1
        if excluded or not (status is None or 200 <= status < 300):
            # Without a status a request is completed, unless something else is said of it.
            status_class = "none" if status is None else _STATUS_CLASSES.get(status, OTHER)
            batch.odd.append((status_class, excluded))
            # A slow client's backpressure excludes a request from the ratios, but is no error.
            error = excluded if event.error_class is not None or status_class != "2xx" else ""
        if not excluded:
            self._add_completed(e, batch)
        self._add_costs(e, batch)
        return excluded, error

    def _add_costs(self, e: EnrichedEvent, batch: Batch) -> None:
        """Add what an event cost, whatever became of it: its tokens were computed."""
        billed = e.billed_dollars
        if billed is not None:
            batch.billed.append(billed)
        elif e.unbilled_reason is not None:
            batch.unbilled.append(self._reasons.get(e.unbilled_reason) or self._reason(e.unbilled_reason) or OTHER)
        if e.dedicated is not None or e.flops is not None:
            stack = self._stacks.get(e.stack) or self._stack_label(e.stack)
            batch.costed[stack].append(Costed(e.flops, e.dedicated, e.served, billed))
        for name, view in e.stacks.items():
            if view.dedicated is not None or view.flops is not None:
                stack = self._stacks.get(name) or self._stack_label(name)
                batch.costed[stack].append(Costed(view.flops, view.dedicated, view.served, billed))

    def _add_completed(self, e: EnrichedEvent, batch: Batch) -> None:
        idealized = e.idealized_runtime_seconds
        if idealized is None:
            batch.uncovered.append(self._reasons.get(e.uncovered_reason) or self._reason(e.uncovered_reason) or OTHER)
        raw = e.event.raw_runtime_seconds
        if raw is None:
            raw = e.event.duration_seconds
            if raw is None:
                return
        denoised, contention = e.denoised_runtime_seconds, e.contention_factor
        batch.raw.append((raw, bucket_of(raw)))
        if denoised is not None:
            batch.denoised.append((raw, denoised))
        if contention is not None:
            batch.contention.append(contention)
        if idealized is not None:
            stack = self._stacks.get(e.stack) or self._stack_label(e.stack)
            batch.covered[stack].append((raw, idealized, denoised, e))
        for name, view in e.stacks.items():
            idealized = view.idealized_runtime_seconds
            if idealized is not None:
                stack = self._stacks.get(name) or self._stack_label(name)
                batch.covered[stack].append((raw, idealized, denoised, view))

    def collect(self) -> Iterable[Metric]:
        """Yield every family, in a fixed order, its series sorted."""
        return exposition.families(self._pairs, self._operations, self._global, self.baselines)

    def changed(self) -> list[tuple[str, bytes]]:
        """Return `(key, value)` of the groups of series that changed since the last call, to be stored."""
        keys, self._dirty = self._dirty, set()
        if keys:
            keys.add(("global",))
        return [(_encode(key).decode(), _encode(self._group(key))) for key in sorted(keys)]

    def restore(self, rows: Iterable[tuple[str, bytes]]) -> None:
        """Go on from the rows that `changed` gave (the newest of each key), exactly; else StateError."""
        for key, value in rows:
            try:
                self._restore(msgspec.json.decode(key, type=_Key), value)
            except (msgspec.MsgspecError, ValueError, KeyError) as error:
                raise StateError(f"metrics state: row {key[:80]!r} cannot be read: {error}") from None
        self._series.clear()

    @property
    def stack(self) -> str | None:
        """The leading stack of the last event."""
        return self._stack

    def label(self, name: str, value: str | None) -> str:
        """Return the label value under which `value` was counted, without giving it a place."""
        found = clean_label(value)
        return found if not found or found in self._labels[name].values else OTHER

    def pairs(self) -> Iterator[tuple[str, str, PairCounts]]:
        """Yield (upstream, model, counts) of every group, by their label values."""
        return ((key[1], key[2], counts) for key, counts in self._pairs.items())

    def pair(self, upstream: str, model: str) -> PairCounts | None:
        """Return the counts of one (upstream, model), by their label values."""
        return self._pairs.get(("pair", upstream, model))

    @property
    def overhead(self) -> Spread:
        """Seconds that the gateway added to requests."""
        return self._global.spread

    def count_steps(self, fresh: Iterable[Baseline]) -> None:
        """Count the lasting changes that new baselines are the first to know of."""
        for baseline in fresh:
            for step in baseline.steps:
                if step.version == baseline.version:
                    self.count_step(baseline.upstream, baseline.model)

    def count_step(self, upstream: str | None, model: str) -> None:
        """Count a lasting change of a baseline."""
        key = ("pair", self._labels["upstream"].admit(upstream), self._labels["model"].admit(model))
        self._pairs.setdefault(key, PairCounts()).steps += 1
        self._dirty.add(key)

    def put_in_force(self, baselines: Iterable[Baseline]) -> None:
        """Show these baselines from now on; those whose pair has no place of its own are not shown."""
        for baseline in baselines:
            key = (clean_label(baseline.upstream), clean_label(baseline.model))
            if ("pair", *key) in self._pairs:
                self.baselines[key] = baseline

    def _find(self, key: _EventKey, *, doubtful: bool) -> _Series:
        upstream, model, provider, route = key
        folded = self._folded
        upstream_label = self._labels["upstream"].admit(upstream)
        model_label = self._labels["model"].admit(model, doubtful=doubtful)
        provider_label = self._labels["provider"].admit(provider)
        pair_key = ("pair", upstream_label, model_label)
        operation_key = ("operation", operation_of(route), provider_label, model_label)
        self._pairs.setdefault(pair_key, PairCounts())
        series = (pair_key, operation_key, self._operations.setdefault(operation_key, OperationCounts()))
        # A folded value is not remembered: each time is counted, and a later success may still get a place.
        if folded == self._folded and all(part is None or len(part) <= MAX_LABEL_LENGTH for part in key):
            if len(self._series) >= _CACHED_SERIES:
                self._series.clear()
            self._series[key] = series
        return series

    def _reason(self, reason: str | None) -> str:
        """Return a reason's label: an identifier as it is, anything else (an error's text) as `other`."""
        known = self._reasons.get(reason)
        if known is not None or reason is None:
            return known or ""
        if not _IDENTIFIER.fullmatch(reason):
            self._fold("reason")
            return OTHER
        label = self._labels["reason"].admit(reason)
        if label == reason:
            self._reasons[reason] = label
        return label

    def _stack_label(self, stack: str | None) -> str:
        label = self._labels["stack"].admit(stack)
        if stack is not None and label == stack:
            self._stacks[stack] = label
        return label

    def _admitted(self) -> None:
        self._dirty.add(("labels",))

    def _fold(self, label: str) -> None:
        self._folded += 1
        self._global.overflow[label] += 1

    def _group(self, key: _Key) -> Counts | Labels:
        match key[0]:
            case "pair":
                return self._pairs[key]
            case "operation":
                return self._operations[key]
            case "labels":
                return Labels({name: sorted(label.values) for name, label in self._labels.items()})
            case _:
                return self._global

    def _restore(self, key: _Key, value: bytes) -> None:
        match key:
            case ("pair", _, _):
                self._pairs[key] = msgspec.json.decode(value, type=PairCounts)
            case ("operation", _, _, _):
                self._operations[key] = msgspec.json.decode(value, type=OperationCounts)
            case ("labels",):
                for name, values in msgspec.json.decode(value, type=Labels).values.items():
                    self._labels[name].values.update(values)
            case ("global",):
                self._global = msgspec.json.decode(value, type=GlobalCounts)
                self._global.overflow = dict.fromkeys(self._labels, 0) | self._global.overflow
            case _:
                raise ValueError("an unknown kind of row")


def operation_of(route: str | None) -> str:
    """Return `gen_ai.operation.name` of a route such as `/v1/chat/completions`."""
    parts = (route or "").partition("?")[0].rstrip("/").rsplit("/", 2)
    return _OPERATIONS.get("/".join(parts[-2:])) or _OPERATIONS.get(parts[-1], OTHER)
