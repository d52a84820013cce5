"""Prometheus metrics of enriched events: own counts on the hot path, metric objects only when scraped.

`Metrics.observe` costs a few microseconds (pre-found series, lists, bisection). The series are bounded: model
<= 100, upstream and provider <= 50, stack <= 10, reason <= 40 values, then `other`. All sums are plain
running sums, so that a state restored and continued gives exactly the figures of one that never stopped.
"""

import re
from collections.abc import Iterable
from typing import Any

import msgspec
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from stream import exposition
from stream import histogram as hist
from stream.counts import Counts, GlobalCounts, Labels, OperationCounts, PairCounts, StackCounts
from stream.events import EnrichedEvent
from stream.labels import MAX_LABEL_LENGTH, OTHER, BoundedLabel, clean_label

__all__ = ["Metrics", "StateError"]

_MAX_REASONS = 40
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
_Series = tuple[_Key, PairCounts, _Key, OperationCounts]


class StateError(ValueError):
    """A stored row of counts that this version cannot go on from; one line."""


class Metrics(Collector):
    """Counts of enriched events, as a Prometheus collector, as rows for a state file and as a summary."""

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
        self._stack: str | None = None
        self._folded = 0

    def observe(self, e: EnrichedEvent) -> None:
        """Count one enriched event."""
        r = e.event
        key = (r.upstream, r.model, r.provider, r.route)
        series = self._series.get(key) or self._find(key, doubtful=e.exclusion_reason is not None)
        pair_key, pair, operation_key, operation = series
        exclusion = self._reasons.get(e.exclusion_reason)
        if exclusion is None:
            exclusion = self._reason(e.exclusion_reason)
        error = pair.count(r, exclusion)
        if not exclusion:
            self._count_runtimes(pair, e)
        operation.count(r, error)
        overhead = r.gateway_overhead_seconds
        if overhead is not None:
            hist.observe(self._global.overhead, hist.OVERHEAD_SECONDS, overhead)
        self._dirty.add(pair_key)
        self._dirty.add(operation_key)

    def collect(self) -> Iterable[Metric]:
        """Yield every family, in a fixed order, its series sorted."""
        return exposition.families(self._pairs, self._operations, self._global)

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

    def summary(self, stack: str | None = None) -> dict[str, Any]:
        """Return sums and ratios by (upstream, model) on `stack` (default: the last event's), for JSON.

        Sums are seconds; a mean or a ratio of nothing is null. `models` has the most used first.
        """
        name = clean_label(stack) if stack else self._stack
        models = [{"upstream": key[1], "model": key[2], **pair.summary(name)} for key, pair in self._pairs.items()]
        models.sort(key=lambda row: (-row["requests"], row["upstream"], row["model"]))
        return {"stack": name, "models": models}

    def _find(self, key: _EventKey, *, doubtful: bool) -> _Series:
        upstream, model, provider, route = key
        folded = self._folded
        upstream_label = self._labels["upstream"].admit(upstream)
        model_label = self._labels["model"].admit(model, doubtful=doubtful)
        provider_label = self._labels["provider"].admit(provider)
        pair_key = ("pair", upstream_label, model_label)
        operation_key = ("operation", _operation(route), provider_label, model_label)
        pair = self._pairs.setdefault(pair_key, PairCounts())
        operation = self._operations.setdefault(operation_key, OperationCounts())
        series = (pair_key, pair, operation_key, operation)
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

    def _count_runtimes(self, pair: PairCounts, e: EnrichedEvent) -> None:
        """Count a completed request, and where it is covered its runtimes on each reference stack."""
        raw = e.event.raw_seconds
        self._stack = e.stack or self._stack
        if raw is not None:
            pair.completed += 1
            pair.completed_raw += raw
            if e.idealized_runtime_seconds is not None:
                self._on_stack(pair, e.stack or "").count(raw, e.idealized_runtime_seconds, e)
            for name, view in e.stacks.items():
                if view.idealized_runtime_seconds is not None:
                    self._on_stack(pair, name).count(raw, view.idealized_runtime_seconds, view)
            if e.denoised_runtime_seconds is not None:
                pair.count_denoised(raw, e.denoised_runtime_seconds, e.contention_factor)
        if e.idealized_runtime_seconds is None:
            reason = self._reason(e.uncovered_reason)
            pair.uncovered[reason] = pair.uncovered.get(reason, 0) + 1

    def _on_stack(self, pair: PairCounts, stack: str) -> StackCounts:
        counts = pair.stacks.get(stack)
        if counts is None:
            counts = pair.stacks.setdefault(self._labels["stack"].admit(stack), StackCounts())
        return counts

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


def _operation(route: str | None) -> str:
    """Return `gen_ai.operation.name` of a route such as `/v1/chat/completions`."""
    parts = (route or "").partition("?")[0].rstrip("/").rsplit("/", 2)
    return _OPERATIONS.get("/".join(parts[-2:])) or _OPERATIONS.get(parts[-1], OTHER)
