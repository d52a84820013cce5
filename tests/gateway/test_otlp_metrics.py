"""Metrics by OTLP are those of `/metrics`: every value, and names that Prometheus turns back into its own."""

import asyncio
import math
import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.metrics.v1.metrics_pb2 import AGGREGATION_TEMPORALITY_CUMULATIVE
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families

from gateway.control import Control
from gateway.otlp_metrics import _WHOLE, attribute_name, instruments, otlp_name
from gateway.otlp_wire import metrics_request
from stream.coefficients import load_tables
from stream.families import FAMILIES
from tests.gateway.logs import LATER, event, record
from tests.gateway.otlp_receiver import attributes_of

DOCUMENT = Path(__file__).parents[2] / "docs" / "opentelemetry.md"
Values = dict[tuple[str, frozenset[tuple[str, str]]], float]


def sent(families: Iterable[Metric], start: int = 5, now: int = 9) -> list[Any]:
    """The metrics of a request, as a collector decodes them."""
    body = metrics_request(instruments(families), {"service.name": "s"}, start, now)
    (group,) = ExportMetricsServiceRequest.FromString(body).resource_metrics
    (scope,) = group.scope_metrics
    return list(scope.metrics)


UNITS = {"s": "seconds", "By": "bytes", "J": "joules", "g": "grams"}


def prometheus_name(metric: Any) -> str:
    """The name that Prometheus gives a metric of OTLP, by its published rules: unit, then `_total`."""
    name = re.sub(r"[^a-zA-Z0-9_]", "_", metric.name)
    unit = "" if metric.unit.startswith("{") else metric.unit
    assert unit in ("", *UNITS), f"{metric.name}: {unit} has no spelling there"
    if unit and UNITS[unit] not in name.split("_"):
        name += f"_{UNITS[unit]}"
    return f"{name}_total" if metric.WhichOneof("data") == "sum" else name


def values(metrics: Iterable[Any]) -> Values:
    """Every sample as Prometheus would have it."""
    found: Values = {}
    for metric in metrics:
        name = prometheus_name(metric)
        for suffix, attributes, value in samples(metric):
            key = (name + suffix, frozenset((label.replace(".", "_"), text) for label, text in attributes.items()))
            assert key not in found
            found[key] = value
    return found


def samples(metric: Any) -> Iterator[tuple[str, dict[str, str], float]]:
    kind = metric.WhichOneof("data")
    for point in getattr(metric, kind).data_points:
        attributes = attributes_of(point)
        if kind != "histogram":
            yield "", attributes, point.as_double
            continue
        assert len(point.bucket_counts) == len(point.explicit_bounds) + 1
        total = 0
        for bound, count in zip([*point.explicit_bounds, math.inf], point.bucket_counts, strict=True):
            total += count
            yield "_bucket", {**attributes, "le": repr(float(bound))}, total
        assert total == point.count
        yield "_count", attributes, point.count
        yield "_sum", attributes, point.sum


def shown(text: str) -> Values:
    """Every sample of Prometheus' text format; an empty label is none."""
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = {label: value for label, value in sample.labels.items() if value}
            if "le" in labels:
                labels["le"] = repr(float(labels["le"]))
            found[sample.name, frozenset(labels.items())] = sample.value
    return found


def of_itself(values: Values) -> Values:
    """All but what is told of the process, which changes with each look."""
    changing = ("process_", "trueclock_gateway_process_")
    return {key: value for key, value in values.items() if not key[0].startswith(changing)}


def test_every_value_of_the_exposition_is_exported(tmp_path: Path) -> None:
    times = {
        "started_at": datetime.fromtimestamp(LATER - 2, UTC),
        "route": "/v1/chat/completions",
        "provider": "openai",
    }
    record(
        tmp_path,
        *(event(number, raw_runtime_seconds=1.0 + number, duration_seconds=2.0 + number, **times) for number in range(5)),
        *(event(number, model="gpt-4o", stream=True, time_to_first_byte_seconds=0.1, time_to_first_token_seconds=0.2,
                time_per_output_token_seconds=0.01, gateway_overhead_seconds=0.001, **times) for number in range(5, 9)),
        event(9, status=500, error_class="upstream_broken", **times),
        event(10, model="nobody-knows", problem="p", strategy="s", **times),
    )  # fmt: skip

    async def scenario() -> tuple[list[Metric], str]:
        control = Control(tmp_path, load_tables(stack="h100-predicted"), [], "1.0")
        control.outcomes.open()
        await control._recall()
        while await control.catch_up():
            pass
        families, text = await control.collected(), (await control.exposition()).decode()
        control.close()
        return families, text

    families, text = asyncio.run(scenario())
    metrics = sent(families)
    exported, exposed = of_itself(values(metrics)), of_itself(shown(text))
    assert exported == exposed
    assert len(exported) > 300
    names = {prometheus_name(metric) for metric in metrics}
    assert {"process_cpu_seconds_total", "trueclock_build_info", "trueclock_slowdown_ratio"} <= names
    assert {family.name for family in FAMILIES if family.name.startswith("gen_ai")} <= names
    assert all(metric.description for metric in metrics)


def test_kinds_times_and_temporality() -> None:
    registry = CollectorRegistry()
    Counter("trueclock_things_seconds", "Things.", ["error_type"], registry=registry).labels("").inc(2.5)
    Gauge("trueclock_level_bytes", "Level.", registry=registry).set(-1)
    sizes = Histogram("trueclock_size_ratio", "Size.", registry=registry, buckets=(1, 2))
    sizes.observe(1.5)
    sizes.observe(7.5)
    gauge, histogram, counter = sorted(sent(registry.collect(), 5, 9), key=lambda metric: metric.name)
    assert (counter.name, counter.unit, counter.description) == ("trueclock.things", "s", "Things.")
    assert counter.sum.is_monotonic
    assert counter.sum.aggregation_temporality == AGGREGATION_TEMPORALITY_CUMULATIVE
    (point,) = counter.sum.data_points
    assert (point.start_time_unix_nano, point.time_unix_nano, point.as_double, attributes_of(point)) == (5, 9, 2.5, {})
    assert (gauge.name, gauge.unit) == ("trueclock.level", "By")
    (point,) = gauge.gauge.data_points
    assert (point.start_time_unix_nano, point.time_unix_nano, point.as_double) == (0, 9, -1.0)
    assert (histogram.name, histogram.unit) == ("trueclock.size_ratio", "")
    assert histogram.histogram.aggregation_temporality == AGGREGATION_TEMPORALITY_CUMULATIVE
    (point,) = histogram.histogram.data_points
    assert (list(point.explicit_bounds), list(point.bucket_counts)) == ([1, 2], [0, 1, 1])
    assert (point.count, point.sum) == (2, 9.0)
    assert (point.start_time_unix_nano, point.time_unix_nano) == (5, 9)


def test_a_family_without_series_is_left_out() -> None:
    registry = CollectorRegistry()
    Counter("trueclock_things", "Things.", ["model"], registry=registry)
    assert list(instruments(registry.collect())) == []


def test_the_document_lists_the_names() -> None:
    section = DOCUMENT.read_text(encoding="utf-8").split("\n## Metrics\n")[1]
    rows = re.findall(r"^\| `(gen_ai\w+)` \| `([\w.]+)` \| `([^`]+)` \|$", section, re.MULTILINE)
    assert {name: (dotted, unit) for name, dotted, unit in rows} == {
        family.name: otlp_name(family.name) for family in FAMILIES if family.name.startswith("gen_ai")
    }
    labels = {label for family in FAMILIES for label in family.labels if attribute_name(label) != label}
    assert labels == set(
        re.findall(
            r"`(gen_ai_operation_name|gen_ai_provider_name|gen_ai_request_model|gen_ai_token_type|error_type)`", section
        )
    )


def test_the_document_lists_the_names_that_keep_their_unit() -> None:
    section = DOCUMENT.read_text(encoding="utf-8").split("\n## Metrics\n")[1]
    assert set(re.findall(r"`(\w+_(?:seconds|bytes))`", section.split("keep it: ")[1].split(".\n")[0])) == _WHOLE
    for name in _WHOLE:
        words, unit = otlp_name(name)
        assert words.replace(".", "_") == name
        assert UNITS[unit] == name.rpartition("_")[2]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("trueclock_raw_runtime_seconds", ("trueclock.raw_runtime", "s")),
        ("trueclock_billed_cost_dollars", ("trueclock.billed_cost_dollars", "{USD}")),
        ("trueclock_idealized_water_litres", ("trueclock.idealized_water_litres", "{litre}")),
        ("trueclock_requests", ("trueclock.requests", "")),
        ("trueclock_build_info", ("trueclock.build_info", "")),
        ("process_resident_memory_bytes", ("process.resident_memory", "By")),
        ("trueclock_idealized_accelerator_seconds", ("trueclock.idealized_accelerator_seconds", "s")),
        ("trueclock_event_log_bytes", ("trueclock.event_log_bytes", "By")),
    ],
)
def test_the_rule(name: str, expected: tuple[str, str]) -> None:
    assert otlp_name(name) == expected
