"""From Prometheus' metric families to OTLP's instruments: what `/metrics` shows, under OpenTelemetry's names. Pure.

The names are such that what turns OTLP back into Prometheus' form, as a Prometheus server that receives it does, makes
the names of `/metrics` of them. docs/opentelemetry.md has the rule.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from prometheus_client.core import Metric
from prometheus_client.samples import Sample

__all__ = ["Instrument", "Point", "attribute_name", "instruments", "otlp_name"]

_UNITS = {"_seconds": "s", "_bytes": "By", "_joules": "J", "_grams": "g"}
"""Suffixes of names that are the instrument's unit instead: Prometheus' own spelling of that unit."""
_ANNOTATED = {"_dollars": "{USD}", "_litres": "{litre}"}
"""Suffixes that stay: for these units Prometheus has no spelling."""
_WHOLE = frozenset(
    {
        "process_cpu_seconds",
        "trueclock_baseline_refit_seconds",
        "trueclock_event_log_bytes",
        "trueclock_forwarder_bytes",
        "trueclock_gateway_process_cpu_seconds",
        "trueclock_idealized_accelerator_seconds",
        "trueclock_strategy_idealized_seconds",
    }
)
"""Names that would not say any more what they are without the unit."""
_GEN_AI = {
    "gen_ai_client_operation_duration_seconds": "gen_ai.client.operation.duration",
    "gen_ai_client_operation_time_to_first_chunk_seconds": "gen_ai.client.operation.time_to_first_chunk",
    "gen_ai_client_token_usage": "gen_ai.client.token.usage",
    "gen_ai_server_request_duration_seconds": "gen_ai.server.request.duration",
    "gen_ai_server_time_to_first_token_seconds": "gen_ai.server.time_to_first_token",
    "gen_ai_server_time_per_output_token_seconds": "gen_ai.server.time_per_output_token",
}
_ATTRIBUTES = {
    "gen_ai_operation_name": "gen_ai.operation.name",
    "gen_ai_provider_name": "gen_ai.provider.name",
    "gen_ai_request_model": "gen_ai.request.model",
    "gen_ai_token_type": "gen_ai.token.type",
    "error_type": "error.type",
}
_PREFIX = re.compile(r"^([a-z]+)_")


@dataclass(frozen=True, slots=True)
class Point:
    """One series: its attributes and value; of a histogram that is the sum, and there are counts between bounds."""

    attributes: dict[str, str]
    value: float
    bounds: tuple[float, ...] = ()
    counts: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Instrument:
    """One metric. `unit` is UCUM's, or a word in braces for what is counted."""

    name: str
    unit: str
    help: str
    kind: Literal["sum", "gauge", "histogram"]
    points: list[Point]


def otlp_name(name: str) -> tuple[str, str]:
    """The name and the unit of a family, as Prometheus calls it (a counter without `_total`)."""
    suffix = next((end for end in (*_UNITS, *_ANNOTATED) if name.endswith(end)), "")
    unit = "{token}" if name == "gen_ai_client_token_usage" else _UNITS.get(suffix) or _ANNOTATED.get(suffix, "")
    if name in _GEN_AI:
        return _GEN_AI[name], unit
    short = name.removesuffix(suffix) if suffix in _UNITS and name not in _WHOLE else name
    return _PREFIX.sub(r"\1.", short, count=1), unit


def attribute_name(label: str) -> str:
    """The name of an attribute, by that of Prometheus' label."""
    return _ATTRIBUTES.get(label, label)


def instruments(families: Iterable[Metric]) -> Iterator[Instrument]:
    """The instruments that have any series. An empty label is no attribute, as in Prometheus it is no label."""
    for family in families:
        if family.type == "histogram":
            points = list(_histograms(family))
            kind: Literal["sum", "gauge", "histogram"] = "histogram"
        else:
            points = [Point(_attributes(sample), sample.value) for sample in family.samples if _shown(family, sample)]
            kind = "sum" if family.type == "counter" else "gauge"
        if points:
            name, unit = otlp_name(f"{family.name}_info" if family.type == "info" else family.name)
            yield Instrument(name, unit, family.documentation, kind, points)


def _shown(family: Metric, sample: Sample) -> bool:
    """Whether a sample is a value: prometheus_client adds when some counters were made."""
    return family.type != "counter" or sample.name.endswith("_total")


def _attributes(sample: Sample) -> dict[str, str]:
    return {attribute_name(label): value for label, value in sample.labels.items() if value and label != "le"}


def _histograms(family: Metric) -> Iterator[Point]:
    """The histograms of a family, by their labels: Prometheus' cumulative buckets as counts between the bounds."""
    buckets: dict[tuple[tuple[str, str], ...], list[tuple[float, float]]] = {}
    sums: dict[tuple[tuple[str, str], ...], float] = {}
    for sample in family.samples:
        key = tuple(_attributes(sample).items())
        if sample.name.endswith("_bucket"):
            buckets.setdefault(key, []).append((float(sample.labels["le"]), sample.value))
        elif sample.name.endswith("_sum"):
            sums[key] = sample.value
    for key, found in buckets.items():
        found.sort()
        counts = tuple(int(high - low) for (_, low), (_, high) in pairwise([(0.0, 0.0), *found]))
        yield Point(dict(key), sums[key], tuple(bound for bound, _ in found[:-1]), counts)
