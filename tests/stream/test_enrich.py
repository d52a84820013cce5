"""enrich: what is added to which event, and that it always answers."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.coefficients import Tables, load_tables
from stream.enrich import enrich, exclusion_reason, output_tokens
from stream.events import EnrichedEvent, RequestEvent, StackView, decode_enriched, encode_enriched
from stream.runtime import runtime_seconds

TABLES = load_tables()
HELM = load_tables(interpolation="helm")
DAVINCI = TABLES.stacks["a100-megatron"].rows["openai/davinci"].coefficients


def event(**fields: Any) -> RequestEvent:
    given_fields = {
        "model": "davinci",
        "prompt_tokens": 500,
        "completion_tokens": 21,
        "duration_seconds": 1.0,
    }
    return RequestEvent(**{**given_fields, **fields})


def test_a_covered_request() -> None:
    found = enrich(event(cached_tokens=100, duration_seconds=9.0, raw_runtime_seconds=3.6), TABLES)
    ideal = runtime_seconds(DAVINCI, 500, 21)
    assert found.idealized_runtime_seconds == ideal
    assert found.idealized_runtime_cached_seconds == runtime_seconds(DAVINCI, 400, 21)
    assert found.slowdown == 3.6 / ideal
    assert found.faster_than_idealized is False
    assert (found.stack, found.table_row, found.table_version) == (
        "a100-megatron",
        "openai/davinci",
        TABLES.version,
    )
    assert (found.provenance, found.coverage) == ("measured", "covered")
    assert (found.uncovered_reason, found.exclusion_reason) == (None, None)
    assert (found.denoised_runtime_seconds, found.stack_factor, found.contention_factor) == (None, None, None)
    v100 = TABLES.stacks["v100-megatron"].rows["openai/davinci"].coefficients
    assert list(found.stacks) == ["v100-megatron", "h100-predicted"]
    assert found.stacks["v100-megatron"].idealized_runtime_seconds == runtime_seconds(v100, 500, 21)
    assert found.stacks["v100-megatron"].slowdown == 3.6 / runtime_seconds(v100, 500, 21)


def test_without_a_raw_runtime_the_duration_counts_and_is_written() -> None:
    found = enrich(event(duration_seconds=0.5), TABLES)
    assert found.event.raw_runtime_seconds == 0.5
    assert found.faster_than_idealized is True
    assert enrich(event(duration_seconds=0.5, status=500), TABLES).event.raw_runtime_seconds is None


def test_the_upstreams_model_is_looked_up_first_then_the_served_one_then_the_clients() -> None:
    assert enrich(event(upstream_model="j1-jumbo", served_model="curie"), TABLES).table_row == "ai21/j1-jumbo"
    assert enrich(event(upstream_model="?", served_model="curie"), TABLES).table_row == "openai/curie"
    assert enrich(event(upstream_model="?", served_model="?"), TABLES).table_row == "openai/davinci"


@pytest.mark.parametrize(
    ("fields", "reason", "row"),
    [
        ({"model": None}, "no_model", None),
        ({"model": ""}, "no_model", None),
        ({"model": "gpt-4o"}, "unknown_model", None),
        ({"model": "m" * 10_000}, "unknown_model", None),
        ({"prompt_tokens": None}, "prompt_tokens_unknown", "openai/davinci"),
        ({"completion_tokens": None}, "completion_tokens_unknown", "openai/davinci"),
        (
            {"model": None, "prompt_tokens": None, "completion_tokens": None, "route": "/v1/models"},
            "not_generation",
            None,
        ),
    ],
)
def test_uncovered(fields: dict[str, Any], reason: str, row: str | None) -> None:
    found = enrich(event(**fields), TABLES)
    assert (found.coverage, found.uncovered_reason, found.table_row) == ("uncovered", reason, row)
    assert (found.idealized_runtime_seconds, found.slowdown, found.faster_than_idealized) == (
        None,
        None,
        None,
    )
    assert found.stacks["v100-megatron"].uncovered_reason == reason


def test_a_prompt_past_the_profiled_sizes_is_extrapolated_by_each_stacks_own_sizes() -> None:
    at_last = enrich(event(prompt_tokens=1920), TABLES)
    assert at_last.coverage == "covered"
    assert at_last.stacks["v100-megatron"].coverage == "extrapolated"
    assert enrich(event(prompt_tokens=1921), TABLES).coverage == "extrapolated"


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({}, None),
        ({"status": 200}, None),
        ({"status": 204}, None),
        ({"status": 101}, "status_1xx"),
        ({"status": 302}, "status_3xx"),
        ({"status": 429}, "status_429"),
        ({"status": 418}, "status_4xx"),
        ({"status": 503}, "status_503"),
        ({"status": 529}, "status_529"),
        ({"status": 599}, "status_5xx"),
        ({"status": 200, "error_class": "client_disconnected"}, "client_disconnected"),
        ({"status": 503, "error_class": "timeout"}, "timeout"),
        ({"backpressure_seconds": 0.04, "raw_runtime_seconds": 0.1}, None),
        ({"backpressure_seconds": 0.4, "raw_runtime_seconds": 8.0}, None),
        ({"backpressure_seconds": 0.4, "raw_runtime_seconds": 7.9}, "client_backpressure"),
    ],
)
def test_excluded(fields: dict[str, Any], reason: str | None) -> None:
    assert exclusion_reason(event(**fields)) == reason
    found = enrich(event(**fields), TABLES)
    assert found.exclusion_reason == reason
    assert found.idealized_runtime_seconds is not None
    assert (found.slowdown is None) == (found.faster_than_idealized is None) == (reason is not None)


@pytest.mark.parametrize(
    ("fields", "tokens"),
    [
        ({}, 21),
        ({"choices": 1}, 21),
        ({"choices": 2}, 11),
        ({"choices": 2, "longest_choice_tokens": 15}, 15),
        ({"completion_tokens": None}, None),
        ({"completion_tokens": None, "route": "/v1/embeddings"}, 0),
    ],
)
def test_output_tokens(fields: dict[str, Any], tokens: int | None) -> None:
    assert output_tokens(event(**fields)) == tokens


@pytest.mark.parametrize(("cached", "encoded"), [(0, 500), (499, 1), (500, 1), (10**6, 1)])
def test_cached_tokens_are_not_encoded_but_the_last_one_is(cached: int, encoded: int) -> None:
    found = enrich(event(cached_tokens=cached), TABLES)
    assert found.idealized_runtime_cached_seconds == runtime_seconds(DAVINCI, encoded, 21)


def test_the_memory_of_names_is_bounded() -> None:
    tables = load_tables()
    for number in range(5_000):
        enrich(event(served_model=f"hostile-{number}"), tables)
        enrich(event(model="x" * 1_000 + str(number)), tables)
    assert len(tables.found) <= 4_096
    assert all(len("".join(filter(None, key))) <= 200 for key in tables.found)
    assert len(tables.functions) <= 2


def test_without_a_reference_stack_all_is_uncovered() -> None:
    found = enrich(event(), load_tables(stack="api-2022", any_kind=True))
    assert found.uncovered_reason == "no_reference_stack"


counts = st.none() | st.integers(0, 10**12)
durations = st.none() | st.floats(0, 1e9)


@given(
    event=st.builds(
        RequestEvent,
        model=st.none() | st.text(max_size=5) | st.sampled_from(["davinci", "ai21/j1-grande"]),
        upstream_model=st.none() | st.text(max_size=5),
        route=st.none() | st.sampled_from(["/v1/embeddings", "/v1/models", "/v1/completions"]),
        status=st.none() | st.integers(0, 999),
        error_class=st.none() | st.text(max_size=5),
        prompt_tokens=counts,
        cached_tokens=counts,
        completion_tokens=counts,
        choices=st.none() | st.integers(1, 10**6),
        longest_choice_tokens=counts,
        raw_runtime_seconds=durations,
        duration_seconds=durations,
        backpressure_seconds=durations,
    ),
    tables=st.sampled_from([TABLES, HELM]),
)
def test_enrich_always_answers(event: RequestEvent, tables: Tables) -> None:
    found = enrich(event, tables)
    assert decode_enriched(encode_enriched(found)) == found
    views: list[EnrichedEvent | StackView] = [found, *found.stacks.values()]
    for view in views:
        assert (view.idealized_runtime_seconds is None) == (view.coverage == "uncovered")
        assert (view.uncovered_reason is not None) == (view.coverage == "uncovered")
        assert view.slowdown is None or found.exclusion_reason is None
    again = enrich(found.event, tables)
    assert again == found, "enriching twice changes nothing"
