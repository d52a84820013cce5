"""The metrics: what is counted where, bounded series, exact restarts, and the documentation."""

import json
import random
import re
import tracemalloc
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from stream.baselines import Baseline
from stream.events import Cost, EnrichedEvent, RequestEvent, StackView
from stream.families import FAMILIES
from stream.labels import MAX_LABEL_LENGTH, BoundedLabel, clean_label
from stream.metrics import Metrics, StateError
from stream.sums import Sums

LABEL_NAMES = {family.name: family.labels for family in FAMILIES}
DOCUMENT = Path(__file__).parents[2] / "docs" / "metrics.md"
BASE: dict[str, Any] = {
    "model": "m",
    "upstream": "u",
    "provider": "openai",
    "route": "/v1/chat/completions",
    "status": 200,
    "prompt_tokens": 100,
    "completion_tokens": 50,
    "raw_runtime_seconds": 3.0,
    "duration_seconds": 3.5,
}
COVERED: dict[str, Any] = {
    "idealized_runtime_seconds": 2.0,
    "stack": "a100-megatron",
    "table_row": "m-row",
    "provenance": "measured",
    "coverage": "covered",
    "slowdown": 1.5,
    "faster_than_idealized": False,
}
ALONE = Cost(1, Raw(b"null"), 8.0, 0.01, 4000.0, 0.5, 0.005)
SHARE = Cost(32, Raw(b"null"), 0.5, 0.001, 300.0, 0.04, 0.0004)
COSTED = COVERED | {"flops": 1e12, "dedicated": ALONE, "served": SHARE, "billed_dollars": 0.003, "margin": 3.0}
FASTER = COVERED | {"slowdown": 0.5, "faster_than_idealized": True}


def enriched(request: dict[str, Any], **added: Any) -> EnrichedEvent:
    return EnrichedEvent(event=RequestEvent(**(BASE | request)), **added)


def exposition(metrics: Metrics) -> str:
    registry = CollectorRegistry()
    registry.register(metrics)
    return generate_latest(registry).decode()


def samples(metrics: Metrics) -> dict[str, dict[tuple[str, ...], float]]:
    """Name -> label values in order -> value, as Prometheus' own parser reads the text; buckets left out."""
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(exposition(metrics)):
        for sample in family.samples:
            if not sample.name.endswith("_bucket"):
                names = LABEL_NAMES[re.sub("_(sum|count)$", "", sample.name)]
                assert sample.labels.keys() == set(names)
                values = tuple(sample.labels[name] for name in names)
                found.setdefault(sample.name, {})[values] = sample.value
    return found


def observed(*events: EnrichedEvent) -> dict[str, dict[tuple[str, ...], float]]:
    metrics = Metrics()
    for event in events:
        metrics.observe(event)
    return samples(metrics)


CASES: dict[str, tuple[EnrichedEvent, dict[str, dict[tuple[str, ...], float]]]] = {
    "covered": (
        enriched({}, **COVERED),
        {
            "trueclock_requests_total": {("u", "m", "2xx", ""): 1},
            "trueclock_raw_runtime_seconds_total": {("u", "m", "a100-megatron"): 3},
            "trueclock_idealized_runtime_seconds_total": {("u", "m", "a100-megatron"): 2},
            "trueclock_slowdown_ratio_sum": {("u", "m", "a100-megatron"): 1.5},
            "trueclock_slowdown_ratio_count": {("u", "m", "a100-megatron"): 1},
            "trueclock_faster_than_idealized_total": {("u", "m", "a100-megatron"): 0},
            "trueclock_extrapolated_requests_total": {("u", "m", "a100-megatron"): 0},
            "trueclock_covered_requests_total": {("u", "m", "a100-megatron", "measured"): 1},
            "trueclock_decomposed_requests_total": {},
            "trueclock_uncovered_requests_total": {},
            "trueclock_denoised_runtime_seconds_total": {},
            "gen_ai_client_operation_duration_seconds_sum": {("chat", "openai", "m", ""): 3.5},
            "gen_ai_server_request_duration_seconds_sum": {("chat", "openai", "m", ""): 3},
            "gen_ai_client_token_usage_sum": {
                ("chat", "openai", "m", "input"): 100,
                ("chat", "openai", "m", "output"): 50,
            },
            "gen_ai_server_time_to_first_token_seconds_sum": {},
        },
    ),
    "costed": (
        enriched({}, **COSTED, stacks={"other": StackView(2.0, dedicated=Cost(1, Raw(b"null"), 3.0))}),
        {
            "trueclock_idealized_cost_dollars_total": {
                ("u", "m", "a100-megatron", "dedicated"): 0.01,
                ("u", "m", "a100-megatron", "served"): 0.001,
            },
            "trueclock_idealized_accelerator_seconds_total": {
                ("u", "m", "a100-megatron", "dedicated"): 8,
                ("u", "m", "a100-megatron", "served"): 0.5,
                ("u", "m", "other", "dedicated"): 3,
            },
            "trueclock_idealized_energy_joules_total": {
                ("u", "m", "a100-megatron", "dedicated"): 4000,
                ("u", "m", "a100-megatron", "served"): 300,
            },
            "trueclock_idealized_carbon_grams_total": {
                ("u", "m", "a100-megatron", "dedicated"): 0.5,
                ("u", "m", "a100-megatron", "served"): 0.04,
            },
            "trueclock_idealized_water_litres_total": {
                ("u", "m", "a100-megatron", "dedicated"): 0.005,
                ("u", "m", "a100-megatron", "served"): 0.0004,
            },
            "trueclock_idealized_flops_total": {("u", "m", "a100-megatron"): 1e12},
            "trueclock_billed_cost_dollars_total": {("u", "m"): 0.003},
            "trueclock_unbilled_requests_total": {},
            "trueclock_billed_of_margin_dollars_total": {("u", "m", "a100-megatron"): 0.003},
            "trueclock_served_of_margin_dollars_total": {("u", "m", "a100-megatron"): 0.001},
        },
    ),
    "cut off, but computed and billed": (
        enriched({"error_class": "upstream_broken"}, exclusion_reason="upstream_broken", **COSTED),
        {
            "trueclock_raw_runtime_seconds_total": {},
            "trueclock_idealized_flops_total": {("u", "m", "a100-megatron"): 1e12},
            "trueclock_billed_cost_dollars_total": {("u", "m"): 0.003},
        },
    ),
    "of no known price": (
        enriched({}, **COVERED, unbilled_reason="unknown_price"),
        {
            "trueclock_billed_cost_dollars_total": {},
            "trueclock_unbilled_requests_total": {("u", "m", "unknown_price"): 1},
            "trueclock_billed_of_margin_dollars_total": {},
        },
    ),
    "faster than idealized, extrapolated": (
        enriched({}, **FASTER | {"idealized_runtime_seconds": 6.0, "stack": "s", "coverage": "extrapolated"}),
        {
            "trueclock_faster_than_idealized_total": {("u", "m", "s"): 1},
            "trueclock_extrapolated_requests_total": {("u", "m", "s"): 1},
            "trueclock_slowdown_ratio_sum": {("u", "m", "s"): 0.5},
        },
    ),
    "a further stack": (
        enriched(
            {},
            **COVERED,
            stacks={
                "v100": StackView(idealized_runtime_seconds=4.0, coverage="covered", faster_than_idealized=True),
                "h100": StackView(uncovered_reason="unknown_model"),
            },
        ),
        {
            "trueclock_idealized_runtime_seconds_total": {
                ("u", "m", "a100-megatron"): 2,
                ("u", "m", "v100"): 4,
            },
            "trueclock_raw_runtime_seconds_total": {("u", "m", "a100-megatron"): 3, ("u", "m", "v100"): 3},
            "trueclock_faster_than_idealized_total": {("u", "m", "a100-megatron"): 0, ("u", "m", "v100"): 1},
        },
    ),
    "covered on a further stack alone": (
        enriched(
            {},
            uncovered_reason="unknown_model",
            stacks={"v100": StackView(idealized_runtime_seconds=4.0, coverage="covered")},
        ),
        {
            "trueclock_idealized_runtime_seconds_total": {("u", "m", "v100"): 4},
            "trueclock_uncovered_requests_total": {("u", "m", "unknown_model"): 1},
        },
    ),
    "denoised": (
        enriched({}, **COVERED, denoised_runtime_seconds=2.5, contention_factor=1.2),
        {
            "trueclock_raw_of_denoised_runtime_seconds_total": {("u", "m"): 3},
            "trueclock_denoised_runtime_seconds_total": {("u", "m"): 2.5},
            "trueclock_contention_ratio_sum": {("u", "m"): 1.2},
            "trueclock_faster_than_denoised_total": {("u", "m"): 0},
            "trueclock_decomposed_requests_total": {("u", "m", "a100-megatron"): 1},
            "trueclock_raw_of_decomposed_runtime_seconds_total": {("u", "m", "a100-megatron"): 3},
            "trueclock_idealized_of_decomposed_runtime_seconds_total": {("u", "m", "a100-megatron"): 2},
            "trueclock_denoised_of_decomposed_runtime_seconds_total": {("u", "m", "a100-megatron"): 2.5},
            "trueclock_baseline_steps_total": {("u", "m"): 0},
        },
    ),
    "denoised alone, and faster than that": (
        enriched({}, uncovered_reason="unknown_model", denoised_runtime_seconds=4.0, contention_factor=0.75),
        {
            "trueclock_denoised_runtime_seconds_total": {("u", "m"): 4},
            "trueclock_faster_than_denoised_total": {("u", "m"): 1},
            "trueclock_decomposed_requests_total": {},
        },
    ),
    "excluded: an error": (
        enriched({"status": 503, "error_class": "status_5xx"}, **COVERED, exclusion_reason="status_5xx"),
        {
            "trueclock_requests_total": {("u", "m", "5xx", "status_5xx"): 1},
            "trueclock_raw_runtime_seconds_total": {},
            "gen_ai_server_request_duration_seconds_count": {("chat", "openai", "m", "status_5xx"): 1},
        },
    ),
    "excluded: a slow client is no error": (
        enriched({}, **COVERED, exclusion_reason="client_backpressure"),
        {
            "trueclock_requests_total": {("u", "m", "2xx", "client_backpressure"): 1},
            "trueclock_raw_runtime_seconds_total": {},
            "gen_ai_client_operation_duration_seconds_count": {("chat", "openai", "m", ""): 1},
        },
    ),
    "no reply at all": (
        enriched({"status": None, "error_class": "connect"}, exclusion_reason="connect"),
        {"trueclock_requests_total": {("u", "m", "none", "connect"): 1}},
    ),
    "no upstream got the request: a duration, but no raw runtime": (
        enriched({"status": 504, "raw_runtime_seconds": None}, exclusion_reason="connect_timeout"),
        {
            "gen_ai_client_operation_duration_seconds_sum": {("chat", "openai", "m", "connect_timeout"): 3.5},
            "gen_ai_server_request_duration_seconds_count": {},
        },
    ),
    "a bare event": (
        EnrichedEvent(event=RequestEvent(model="m", duration_seconds=4.0), **COVERED),
        {
            "trueclock_requests_total": {("", "m", "2xx", ""): 1},
            "trueclock_raw_runtime_seconds_total": {("", "m", "a100-megatron"): 4},
            "gen_ai_client_operation_duration_seconds_sum": {("other", "", "m", ""): 4},
        },
    ),
    "odd status, error text as a reason": (
        enriched({"status": 999}, exclusion_reason="boom: secret /path"),
        {
            "trueclock_requests_total": {("u", "m", "other", "other"): 1},
            "trueclock_series_overflow_total": {
                ("model",): 0,
                ("provider",): 0,
                ("reason",): 1,
                ("stack",): 0,
                ("upstream",): 0,
            },
        },
    ),
    "stream timings, estimated usage, overhead": (
        enriched(
            {
                "stream": True,
                "usage_source": "estimated",
                "time_to_first_byte_seconds": 0.25,
                "time_to_first_token_seconds": 0.5,
                "time_per_output_token_seconds": 0.02,
                "gateway_overhead_seconds": 0.001,
            }
        ),
        {
            "trueclock_estimated_usage_total": {("u", "m"): 1},
            "trueclock_gateway_overhead_seconds_sum": {(): 0.001},
            "gen_ai_client_operation_time_to_first_chunk_seconds_sum": {("chat", "openai", "m"): 0.25},
            "gen_ai_server_time_to_first_token_seconds_sum": {("chat", "openai", "m"): 0.5},
            "gen_ai_server_time_per_output_token_seconds_sum": {("chat", "openai", "m"): 0.02},
        },
    ),
    "tried again, and refused in the end": (
        enriched(
            {"status": 503, "attempts": ({"status": 400}, {"error_class": "reset"}, {"status": 503})},
            exclusion_reason="status_5xx",
        ),
        {"trueclock_requests_total": {("u", "m", "5xx", "status_5xx"): 1}, "trueclock_retries_total": {("u", "m"): 2}},
    ),
    "tried once": (enriched({"attempts": ({"status": 200},)}), {"trueclock_retries_total": {("u", "m"): 0}}),
    "nothing known": (
        EnrichedEvent(event=RequestEvent(model=None), uncovered_reason="no_model"),
        {
            "trueclock_requests_total": {("", "", "2xx", ""): 1},
            "trueclock_uncovered_requests_total": {("", "", "no_model"): 1},
            "gen_ai_client_token_usage_sum": {},
        },
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_what_one_event_counts(name: str) -> None:
    event, expected = CASES[name]
    found = observed(event)
    assert {metric: found.get(metric, {}) for metric in expected} == expected


ROUTES = {
    "/v1/chat/completions": "chat",
    "/v1/chat/completions/": "chat",
    "/openai/deployments/x/chat/completions?api-version=1": "chat",
    "/v1/messages": "chat",
    "/v1/responses": "chat",
    "/v1/completions": "text_completion",
    "/v1/embeddings": "embeddings",
    "/v1/models": "other",
    None: "other",
}


@pytest.mark.parametrize("route", ROUTES)
def test_operation_name(route: str | None) -> None:
    found = observed(enriched({"route": route}))
    assert list(found["gen_ai_client_operation_duration_seconds_sum"]) == [(ROUTES[route], "openai", "m", "")]


def test_a_value_on_a_bound_is_in_its_bucket() -> None:
    metrics = Metrics()
    metrics.observe(enriched({}, **COVERED | {"slowdown": 1.0}))
    text = exposition(metrics)
    series = 'trueclock_slowdown_ratio_bucket{le="%s",model="m",stack="a100-megatron",upstream="u"} %s'
    assert series % ("0.841", "0.0") in text
    assert series % ("1.0", "1.0") in text
    assert series % ("+Inf", "1.0") in text


def test_bounds_ascend() -> None:
    for family in FAMILIES:
        assert all(low < high for low, high in pairwise(family.bounds)), family.name


# --- labels


LABELS = {
    None: "",
    "": "",
    "gpt-4o": "gpt-4o",
    "modèle 模型": "modèle 模型",
    'a"b\\c': 'a"b\\c',
    "a\nb\x00c\u2028": "a\ufffdb\ufffdc\ufffd",
    "lone \ud800": "lone \ufffd",
    "right\u202eleft": "right\ufffdleft",
    "x" * 1000: "x" * (MAX_LABEL_LENGTH - 1) + "…",
}


@pytest.mark.parametrize("value", LABELS)
def test_clean_label(value: str | None) -> None:
    assert clean_label(value) == LABELS[value]


@given(st.text(st.characters(exclude_categories=()), max_size=300))
def test_any_model_name_survives_prometheus(name: str) -> None:
    found = observed(enriched({"model": name}))
    ((upstream, model, *_),) = found["trueclock_requests_total"]
    assert (upstream, model) == ("u", clean_label(name))
    assert clean_label(model) == model


def test_doubtful_values_take_half_of_the_places() -> None:
    folded: list[str] = []
    label = BoundedLabel("model", 4, on_admit=lambda: None, on_overflow=folded.append)
    assert [label.admit(f"bad{i}", doubtful=True) for i in range(3)] == ["bad0", "bad1", "other"]
    assert [label.admit(f"good{i}") for i in range(3)] == ["good0", "good1", "other"]
    assert label.admit("bad0", doubtful=True) == "bad0"
    assert label.admit("other") == "other"
    assert label.admit("") == ""
    assert folded == ["model", "model"]


def hostile_name(number: int) -> str:
    return random.Random(number).choice(("{}", "\ud800{}", "x" * 5000 + "{}", "{}\n\x00", "../{}%2F", '"{}"\\'))


def test_hostile_model_names_mint_no_series() -> None:
    metrics = Metrics()
    for number in range(100):
        metrics.observe(enriched({"model": f"real-{number}"}, **COVERED))
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for number in range(100_000):
        name = hostile_name(number).format(number)
        added = COVERED if number % 2 else {"exclusion_reason": "status_4xx"}
        metrics.observe(enriched({"model": name, "route": f"/{name}"}, **added))
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    found = samples(metrics)
    models = {labels[1] for labels in found["trueclock_requests_total"]}
    assert models == {f"real-{number}" for number in range(100)} | {"other"}
    assert sum(found["trueclock_requests_total"].values()) == 100_100
    assert found["trueclock_series_overflow_total"]["model",] == 100_000
    assert grown < 3_000_000


@pytest.mark.parametrize("field", ["upstream", "provider"])
def test_hostile_upstreams_and_providers(field: str) -> None:
    metrics = Metrics()
    for number in range(1000):
        metrics.observe(enriched({field: f"v{number}"}, **COVERED))
    found = samples(metrics)
    assert len(found["trueclock_requests_total"]) <= 51
    assert len(found["gen_ai_server_request_duration_seconds_sum"]) <= 51
    assert found["trueclock_series_overflow_total"][field,] == 950


def test_hostile_stacks_and_reasons() -> None:
    metrics = Metrics()
    for number in range(1000):
        stack = {"idealized_runtime_seconds": 1.0, "stack": f"s{number}", "coverage": "covered"}
        metrics.observe(enriched({}, **stack))
        metrics.observe(enriched({}, exclusion_reason=f"r{number}"))
        metrics.observe(enriched({}, uncovered_reason=f"u{number}"))
    found = samples(metrics)
    assert len(found["trueclock_raw_runtime_seconds_total"]) == 11
    assert len(found["trueclock_requests_total"]) + len(found["trueclock_uncovered_requests_total"]) <= 67
    assert sum(found["trueclock_raw_runtime_seconds_total"].values()) == 3000


# --- restart


seconds = st.none() | st.floats(0, 1e6)
events = st.builds(
    lambda request, added: enriched(request, **added),
    st.fixed_dictionaries(
        {
            "model": st.sampled_from([None, "a", "b", "c", "d", "other", "\ud800"]),
            "upstream": st.sampled_from(["u", "v", "w", "x"]),
            "provider": st.sampled_from(["openai", "p", "q", "r"]),
            "route": st.sampled_from([None, "/v1/completions", "/v1/models"]),
            "status": st.sampled_from([None, 200, 404, 999]),
            "usage_source": st.sampled_from([None, "estimated"]),
            "attempts": st.integers(0, 3).map(lambda number: ({"status": 200},) * number),
            "stream": st.booleans(),
            "time_to_first_byte_seconds": seconds,
            "time_to_first_token_seconds": seconds,
            "time_per_output_token_seconds": seconds,
            "raw_runtime_seconds": seconds,
            "duration_seconds": seconds,
            "gateway_overhead_seconds": seconds,
        }
    ),
    st.fixed_dictionaries(
        {
            "idealized_runtime_seconds": seconds,
            "denoised_runtime_seconds": seconds,
            "slowdown": seconds,
            "contention_factor": seconds,
            "faster_than_idealized": st.sampled_from([None, False, True]),
            "stack": st.sampled_from([None, "s", "t", "u"]),
            "exclusion_reason": st.sampled_from([None, "timeout", "not an identifier"]),
            "uncovered_reason": st.sampled_from([None, "unknown_model"]),
            "coverage": st.sampled_from(["covered", "extrapolated", "uncovered"]),
            "stacks": st.dictionaries(
                st.sampled_from(["s", "v"]), st.builds(StackView, idealized_runtime_seconds=seconds)
            ),
        }
    ),
)


def small() -> Metrics:
    return Metrics(max_models=3, max_upstreams=3, max_stacks=2)


@settings(deadline=None)
@given(st.lists(events, max_size=30), st.lists(st.integers(0, 30), max_size=4))
def test_a_restart_anywhere_changes_nothing(sequence: list[EnrichedEvent], restarts: list[int]) -> None:
    straight, restarted = small(), small()
    stored: dict[str, bytes] = {}
    for index, event in enumerate(sequence):
        if index in restarts:
            stored |= dict(restarted.changed())
            restarted = small()
            restarted.restore(stored.items())
        straight.observe(event)
        restarted.observe(event)
    assert exposition(restarted) == exposition(straight)
    stored |= dict(restarted.changed())
    assert stored == dict(straight.changed())
    assert restarted.changed() == []


@settings(deadline=None)
@given(st.lists(st.lists(events, min_size=1, max_size=8), max_size=6))
def test_events_counted_together_are_counted_as_one_by_one(batches: list[list[EnrichedEvent]]) -> None:
    together, apart = small(), small()
    for batch in batches:
        seen = together.observe(*batch)
        alone = [apart.observe(event) for event in batch]
        assert seen.labelled == [label for each in alone for label in each.labelled]
    assert decoded(together) == decoded(apart)
    assert exposition(together) == exposition(apart)


@given(st.lists(st.tuples(events, st.integers(0, 3)), max_size=30), st.permutations(range(4)))
def test_retries_of_parts_added_in_any_order_are_those_of_the_whole(
    sequence: list[tuple[EnrichedEvent, int]], order: list[int]
) -> None:
    metrics, parts, whole = small(), [Sums() for _ in order], Sums()
    for event, part in sequence:
        for batch in metrics.observe(event).batches:
            parts[part].count(batch)
    for part in order:
        whole.add(parts[part])
    assert whole.retries == sum(max(len(event.event.attempts) - 1, 0) for event, _ in sequence)
    assert whole.retries == sum(pair.sums.retries for _, _, pair in metrics.pairs())


def test_a_row_that_was_stored_before_retries_were_counted_goes_on() -> None:
    before, after = Metrics(), Metrics()
    before.observe(enriched({"attempts": ({}, {})}, **COVERED))
    stored = dict(before.changed())
    pair = json.loads(stored['["pair","u","m"]'])
    assert pair["sums"].pop() == 1
    after.restore((stored | {'["pair","u","m"]': json.dumps(pair).encode()}).items())
    assert samples(after)["trueclock_retries_total"] == {("u", "m"): 0}
    after.observe(enriched({"attempts": ({}, {}, {})}))
    found = samples(after)
    assert found["trueclock_retries_total"] == {("u", "m"): 2}
    assert found["trueclock_requests_total"] == {("u", "m", "2xx", ""): 2}
    assert found["trueclock_raw_runtime_seconds_total"] == {("u", "m", "a100-megatron"): 3}


def decoded(metrics: Metrics) -> dict[str, Any]:
    return {key: json.loads(value) for key, value in metrics.changed()}


BAD_ROWS = {
    "no JSON": ("x", b"{}"),
    "unknown kind": ('["moon"]', b"{}"),
    "bad value": ('["pair","u","m"]', b'{"steps":"three"}'),
    "other buckets": ('["global"]', b'{"overhead":[1.0,2.0]}'),
    "unknown label": ('["labels"]', b'{"values":{"moon":["a"]}}'),
}


@pytest.mark.parametrize("name", BAD_ROWS)
def test_a_row_that_cannot_be_read(name: str) -> None:
    with pytest.raises(StateError, match=r"metrics state: row .* cannot be read"):
        Metrics().restore([BAD_ROWS[name]])


# --- baselines


def baseline(model: str = "m", version: int = 3, **more: Any) -> Baseline:
    return Baseline(
        version=version, upstream="u", model=model, per_output_token=0.02, knots=(1, 1000), prompt_seconds=(0.1, 0.2),
        overhead=0.25, n=40, until=datetime(2026, 11, 21, 12, tzinfo=UTC), **more,
    )  # fmt: skip


def test_the_baselines_in_force_are_shown_with_bounded_labels() -> None:
    metrics = Metrics()
    metrics.observe(enriched({}))
    metrics.put_in_force([baseline(version=3), baseline("never counted")])
    metrics.put_in_force([baseline(version=5)])
    metrics.count_step("u", "m")
    found = samples(metrics)
    assert found["trueclock_baseline_version"] == {("u", "m"): 5}
    assert found["trueclock_baseline_observations"] == {("u", "m"): 40}
    assert found["trueclock_baseline_runtime_per_output_token_seconds"] == {("u", "m"): 0.02}
    assert found["trueclock_baseline_overhead_seconds"] == {("u", "m"): 0.25}
    assert found["trueclock_baseline_last_observation_timestamp_seconds"] == {("u", "m"): 1795262400}
    assert found["trueclock_baseline_steps_total"] == {("u", "m"): 1}


def test_labels_are_found_without_taking_a_place() -> None:
    metrics = Metrics(max_models=1)
    metrics.observe(enriched({}))
    metrics.observe(enriched({"model": "one too many"}))
    assert [metrics.label("model", name) for name in ("m", "one too many", None)] == ["m", "other", ""]


# --- documentation


def documented() -> dict[str, tuple[str, tuple[str, ...]]]:
    section = DOCUMENT.read_text(encoding="utf-8").split("## Of the enriched events")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| (.*?) \|", section, re.MULTILINE)
    return {name: (kind, tuple(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}


def test_the_document_lists_exactly_what_is_exposed() -> None:
    metrics = Metrics()
    for event, _ in CASES.values():
        metrics.observe(event)
    metrics.put_in_force([baseline()])
    exposed = {}
    for family in metrics.collect():
        name = family.name + ("_total" if family.type == "counter" else "")
        labels = {tuple(label for label in sample.labels if label != "le") for sample in family.samples}
        assert len(labels) == 1, name
        exposed[name] = (family.type, labels.pop())
    assert exposed == documented()
    assert exposed == {family.name: (family.kind, family.labels) for family in FAMILIES}
