"""What page and summary say of groups of requests, as JSON: sums, ratios of sums, quantiles. Seconds; null: unknown.

Groups are sums of (upstream, model) pairs, added in the order of their names. A ratio is a sum over a sum of the same
requests; `model + stack + contention` is the raw runtime of the decomposed ones, each part with its sign.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from math import isnan
from typing import Any, NamedTuple

import msgspec

from stream.baselines import Baseline
from stream.coefficients import Row, Tables
from stream.cost_summary import constants_in_use, cost_figures, watts_in_use
from stream.denoise import Denoiser
from stream.metrics import Metrics
from stream.quantiles import quantile
from stream.sums import StackSums, Sums

__all__ = ["KEYS", "Group", "Overview", "figures", "grouped", "parts"]

KEYS = ("model", "upstream")
"""By what requests can be grouped."""

_REMEMBERED = 2000
_Pair = tuple[str, str]
_UNKNOWN = "unknown_model"
_NO_FAILURES = ("client_disconnected", "client_backpressure", "status_1xx", "status_3xx")
"""Why else than by an error a request may be excluded: its client left or read slowly, or there was nothing to give."""
_SAID = ("version", "n", "basis", "intervals", "since", "until", "overhead", "steps")


class Group(NamedTuple):
    """Requests that share the values of `by`, and the (upstream, model) pairs that they are of."""

    by: dict[str, str]
    sums: Sums
    pairs: list[_Pair]


def grouped(pairs: Iterable[tuple[str, str, Sums]], by: Iterable[str]) -> list[Group]:
    """Put (upstream, model, sums) together by `model`, `upstream`, both or neither; the most requests first."""
    keys = tuple(by)
    found: dict[tuple[str, ...], Group] = {}
    for upstream, model, sums in sorted(pairs, key=lambda pair: pair[:2]):
        values = {"model": model, "upstream": upstream}
        key = tuple(values[name] for name in keys)
        group = found.setdefault(key, Group(dict(zip(keys, key, strict=True)), Sums(), []))
        group.sums.add(sums)
        group.pairs.append((upstream, model))
    return sorted(found.values(), key=lambda group: (-group.sums.requests, *group.by.values()))


def parts(sums: StackSums) -> dict[str, float]:
    """Return the three parts of the decomposed requests' raw runtime, signed."""
    return {
        "decomposed_raw_seconds": sums.decomposed_raw,
        "model_seconds": sums.decomposed_idealized,
        "stack_seconds": sums.decomposed_denoised - sums.decomposed_idealized,
        "contention_seconds": sums.decomposed_raw - sums.decomposed_denoised,
    }


def figures(group: Group, stack: str) -> dict[str, Any]:
    """Return what a group's sums say on a stack."""
    sums, on = group.sums, group.sums.on(stack)
    return {
        **group.by,
        "requests": sums.requests,
        "completed": sums.raw.number,
        "excluded": sums.excluded,
        "failed": sum(number for reason, number in sums.excluded.items() if _is_failure(reason)),
        "estimated_usage": sums.estimated,
        "retries": sums.retries,
        "completed_raw_seconds": sums.raw.sum,
        "raw_p50": quantile(sums.raw.buckets, 0.5),
        "raw_p95": quantile(sums.raw.buckets, 0.95),
        "covered": on.requests,
        "extrapolated": on.extrapolated,
        "faster_than_idealized": on.faster,
        "raw_seconds": on.raw,
        "idealized_seconds": on.idealized,
        "slowdown": _ratio(on.raw, on.idealized),
        "uncovered": sums.raw.number - on.requests,
        "denoised_requests": sums.denoised_requests,
        "raw_of_denoised_seconds": sums.raw_of_denoised,
        "denoised_seconds": sums.denoised,
        "contention": _ratio(sums.raw_of_denoised, sums.denoised),
        "faster_than_denoised": sums.faster_than_denoised,
        "decomposed_requests": on.decomposed,
        **parts(on),
    }


class Overview:
    """Describes groups: their sums on a stack of `tables`, whose measurement that is, the baseline of a single pair."""

    def __init__(self, tables: Tables, metrics: Metrics, denoiser: Denoiser) -> None:
        self.tables = tables
        self._metrics = metrics
        self._denoiser = denoiser
        self._near: dict[str, list[str]] = {}

    def stacks(self, whole: Sums) -> list[dict[str, Any]]:
        """Return the reference stacks, the leading one first, and what each covers of `whole`."""
        return [self._stack(name, whole) for name in self.tables.references]

    def _stack(self, name: str, whole: Sums) -> dict[str, Any]:
        stack = self.tables.stacks[name]
        kinds = {row.provenance for row in stack.rows.values()}
        return {
            "name": name,
            "hardware": stack.hardware,
            "software": stack.software,
            "provenance": kinds.pop() if len(kinds) == 1 else "mixed",
            "covered": whole.on(name).requests,
            "completed": whole.raw.number,
        }

    def steps(self, since: float) -> list[dict[str, Any]]:
        """Return the lasting changes of the baselines in force since a moment (seconds since 1970), in their order."""
        found = [
            (step.at.timestamp(), *pair, step.factor)
            for pair, baseline in self._metrics.baselines.items()
            for step in baseline.steps
        ]
        names = ("at", "upstream", "model", "factor")
        return [dict(zip(names, step, strict=True)) for step in sorted(found) if step[0] >= since]

    def provenances(self, columns: Mapping[str, list[Any]], stack: str) -> list[str | None]:
        """Return whose numbers the idealized runtimes of a column of requests are, as their groups have them."""
        kinds = {(up, model): _most([pair.provenance.get(stack, {})]) for up, model, pair in self._metrics.pairs()}
        rows = zip(columns["upstream"], columns["model"], columns["idealized"], strict=True)
        return [None if found is None or isnan(found) else kinds.get((up, model)) for up, model, found in rows]

    def describe(self, group: Group, stack: str) -> dict[str, Any]:
        """Return all that is said of a group on a stack."""
        sums, on = group.sums, group.sums.on(stack)
        uncovered = sums.raw.number - on.requests
        return {
            **figures(group, stack),
            **self._source(group, stack),
            "uncovered_reason": self._why_uncovered(group, stack) if uncovered else None,
            "covered_on": [] if on.requests else [name for name, other in sums.stacks.items() if other.requests],
            "near": self._names_like(group) if uncovered and on.requests == 0 else [],
            **self._baseline(group),
            "cost": self._cost(group, stack),
        }

    def _cost(self, group: Group, stack: str) -> dict[str, Any]:
        """What the group's requests cost, and what power is behind it where they are all of one row."""
        row = self._row(group, stack)[1]
        costs = None if row is None else self.tables.costs(stack, row)
        return {**cost_figures(group.sums, stack), "watts": watts_in_use(costs)}

    def constants(self, stack: str) -> dict[str, Any] | None:
        """Return the constants behind a stack's costs."""
        return constants_in_use(self.tables, stack)

    def _source(self, group: Group, stack: str) -> dict[str, Any]:
        """Whose measurement the group's idealized runtimes are; null where its pairs differ."""
        pairs = [pair for pair in (self._metrics.pair(*pair) for pair in group.pairs) if pair is not None]
        name, row = self._row(group, stack)
        return {
            "table_row": name,
            "provenance": _most(pair.provenance.get(stack, {}) for pair in pairs),
            "proxy_of": row.proxy_of if row else None,
        }

    def _row(self, group: Group, stack: str) -> tuple[str | None, Row | None]:
        """The one row that all pairs of a group have on a stack, by its name and as the tables in use have it."""
        pairs = (self._metrics.pair(*pair) for pair in group.pairs)
        rows = {pair.rows[stack] for pair in pairs if pair is not None and stack in pair.rows}
        name = rows.pop() if len(rows) == 1 else None
        return name, self.tables.stacks[stack].rows.get(name or "") if stack in self.tables.stacks else None

    def _why_uncovered(self, group: Group, stack: str) -> str | None:
        """Return the most frequent reason on a stack; null where it has the model, and what is missing was not counted.

        Reasons are counted on the stack that leads. All but `unknown_model` are of the request, and hold on any stack:
        what else is uncovered on another one has no row there.
        """
        sums = group.sums
        reasons = {why: number for why, number in sums.uncovered.items() if why != _UNKNOWN}
        reasons[_UNKNOWN] = sums.raw.number - sums.on(stack).requests - sum(reasons.values())
        why = max(reasons, key=lambda reason: (reasons[reason], reason))
        leads, rows = stack == self.tables.reference, (self.tables.row(stack, model) for _, model in group.pairs)
        return None if why == _UNKNOWN and not leads and all(rows) else why

    def _names_like(self, group: Group) -> list[str]:
        """Return rows and aliases, on any reference stack, with names like that of the group's one model."""
        models = {model for _, model in group.pairs}
        model = models.pop()
        if models or not model:
            return []
        if model not in self._near:
            if len(self._near) >= _REMEMBERED:
                self._near.clear()
            self._near[model] = self.tables.near(None, model)
        return self._near[model]

    def _baseline(self, group: Group) -> dict[str, Any]:
        if len(group.pairs) != 1:
            return {"baseline": None, "baseline_missing": None}
        ((upstream, model),) = group.pairs
        baseline = self._metrics.baselines.get((upstream, model))
        if baseline is None:
            return {"baseline": None, "baseline_missing": self._denoiser.missing(upstream or None, model or None)}
        return {"baseline": _shown(baseline), "baseline_missing": None}


def _shown(baseline: Baseline) -> dict[str, Any]:
    whole = msgspec.to_builtins(baseline)
    return {"runtime_per_output_token": baseline.per_output_token, **{name: whole[name] for name in _SAID}}


def _is_failure(reason: str) -> bool:
    return reason not in _NO_FAILURES


def _ratio(above: float, below: float) -> float | None:
    return above / below if below > 0 else None


def _most(counts: Iterable[Mapping[str, int]]) -> str | None:
    total: Counter[str] = Counter()
    for each in counts:
        total.update(each)
    return max(total, key=lambda kind: (total[kind], kind)) if total else None
