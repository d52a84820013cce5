"""What is said of groups of requests: sums, ratios of sums, parts that add up, whose measurement it is."""

from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.baselines import Baseline, Baselines, Step
from stream.coefficients import load_tables
from stream.embedded import EmbeddedStream
from stream.enrich import enrich
from stream.events import RequestEvent
from stream.metrics import Metrics
from stream.recent import Recent
from stream.summary import Group, Overview, grouped
from stream.sums import Sums

TABLES = load_tables(assume={"gpt-4o": "openai/davinci"})
BASELINES = Baselines(
    [
        Baseline(
            version=7, upstream="u", model="openai/davinci", per_output_token=0.02, knots=(1, 1000),
            prompt_seconds=(0.1, 0.1), overhead=0.1, n=50, prompt_range=(1, 1000),
            steps=(Step(datetime(2026, 11, 21, 12, tzinfo=UTC), 0.5, 7),),
        )
    ]
)  # fmt: skip
STACK = TABLES.reference


class Missing:
    """What the overview asks of a denoiser."""

    def missing(self, upstream: str | None, model: str | None) -> str | None:
        return f"not enough of {model} at {upstream}"


def counted(*events: RequestEvent) -> Metrics:
    metrics = Metrics()
    for event in events:
        metrics.observe(enrich(event, TABLES, BASELINES))
    metrics.put_in_force(BASELINES.values())
    return metrics


def request(
    model: str | None = "openai/davinci", upstream: str = "u", raw: float | None = 2.0, **more: Any
) -> RequestEvent:
    known = {"prompt_tokens": 100, "completion_tokens": 11, "status": 200, **more}
    return RequestEvent(model=model, upstream=upstream, raw_runtime_seconds=raw, **known)


def described(metrics: Metrics, by: Iterable[str] = (), stack: str = STACK) -> list[dict[str, Any]]:
    overview = Overview(TABLES, metrics, Missing())  # type: ignore[arg-type]
    return [overview.describe(group, stack) for group in grouped(sums_of(metrics), by)]


def sums_of(metrics: Metrics) -> list[tuple[str, str, Sums]]:
    return [(upstream, model, pair.sums) for upstream, model, pair in metrics.pairs()]


def test_a_group_of_one_pair() -> None:
    metrics = counted(
        request(),
        request(raw=0.3),
        request(status=500),
        request(usage_source="estimated", raw=4.0, attempts=({}, {}, {})),
    )
    (found,) = described(metrics, ("model", "upstream"))
    row = TABLES.row(STACK, "openai/davinci")
    assert row is not None
    idealized = TABLES.runtime(STACK, row)(100, 11)
    denoised = 0.1 + 0.1 + 10 * 0.02
    expected = {
        "model": "openai/davinci",
        "upstream": "u",
        "requests": 4,
        "completed": 3,
        "excluded": {"status_500": 1},
        "failed": 1,
        "estimated_usage": 1,
        "retries": 2,
        "completed_raw_seconds": pytest.approx(6.3),
        "raw_p50": pytest.approx(2.0, rel=1 / 64),
        "raw_p95": pytest.approx(4.0, rel=1 / 64),
        "covered": 3,
        "extrapolated": 0,
        "faster_than_idealized": 1,
        "raw_seconds": pytest.approx(6.3),
        "idealized_seconds": pytest.approx(3 * idealized),
        "slowdown": pytest.approx(6.3 / (3 * idealized)),
        "table_row": "openai/davinci",
        "provenance": "measured",
        "proxy_of": None,
        "uncovered": 0,
        "uncovered_reason": None,
        "covered_on": [],
        "near": [],
        "denoised_requests": 3,
        "raw_of_denoised_seconds": pytest.approx(6.3),
        "denoised_seconds": pytest.approx(3 * denoised),
        "contention": pytest.approx(6.3 / (3 * denoised)),
        "faster_than_denoised": 1,
        "decomposed_requests": 3,
        "decomposed_raw_seconds": pytest.approx(6.3),
        "model_seconds": pytest.approx(3 * idealized),
        "stack_seconds": pytest.approx(3 * (denoised - idealized)),
        "contention_seconds": pytest.approx(6.3 - 3 * denoised),
        "baseline_missing": None,
    }
    baseline, cost = found.pop("baseline"), found.pop("cost")
    assert found == expected
    seconds = 8 * 4 * idealized  # of the failed one too: its tokens were computed
    assert (cost["dedicated"]["requests"], cost["dedicated"]["batch"], cost["served"]) == (4, 1, None)
    assert cost["dedicated"]["accelerator_seconds"] == pytest.approx(seconds)
    assert cost["dedicated"]["dollars"] == pytest.approx(seconds / 3600 * 4.096)
    assert (baseline["version"], baseline["n"], baseline["runtime_per_output_token"]) == (7, 50, 0.02)
    assert baseline["steps"] == ({"at": "2026-11-21T12:00:00Z", "factor": 0.5, "version": 7},)


def test_groups_by_what_was_asked_the_most_requests_first() -> None:
    metrics = counted(request(), request(upstream="v"), request("new", "v"), request("new", "v"), request("new", "u"))

    def of(*by: str) -> list[tuple[Any, ...]]:
        return [tuple(group[name] for name in (*by, "requests")) for group in described(metrics, by)]

    assert of() == [(5,)]
    assert of("model") == [("new", 3), ("openai/davinci", 2)]
    assert of("upstream") == [("v", 3), ("u", 2)]
    assert of("model", "upstream") == [
        ("new", "v", 2), ("new", "u", 1), ("openai/davinci", "u", 1), ("openai/davinci", "v", 1),
    ]  # fmt: skip


def test_an_uncovered_group_says_why_and_what_is_like_it() -> None:
    (found,) = described(counted(request("davinci-0"), request("davinci-0", raw=2.5)), ("model",))
    assert (found["covered"], found["uncovered"], found["uncovered_reason"]) == (0, 2, "unknown_model")
    assert "openai/davinci" in found["near"]
    assert (found["slowdown"], found["table_row"], found["provenance"]) == (None, None, None)
    assert found["baseline_missing"] == "not enough of davinci-0 at u"


def test_why_a_group_is_uncovered_is_said_of_the_stack_asked_for() -> None:
    llama, davinci = "llama-3.1-70b-instruct", "openai/davinci"
    metrics = counted(
        request(llama), request(llama), request(davinci), request(davinci, prompt_tokens=None), request("new")
    )  # fmt: skip

    def reasons(stack: str, *by: str) -> dict[str | None, tuple[int, str | None]]:
        groups = described(metrics, by, stack)
        return {group.get("model"): (group["uncovered"], group["uncovered_reason"]) for group in groups}

    assert reasons(STACK, "model") == {
        llama: (2, "unknown_model"), davinci: (1, "prompt_tokens_unknown"), "new": (1, "unknown_model"),
    }  # fmt: skip
    assert reasons("h100-predicted", "model")[llama] == (0, None)
    assert reasons("h100-predicted", "model")[davinci][0] == 2
    assert reasons("h100-predicted", "model")["new"] == (1, "unknown_model")
    assert reasons(STACK) == {None: (4, "unknown_model")}
    assert reasons("h100-predicted") == {None: (3, "unknown_model")}


def test_a_reason_that_was_not_counted_is_not_made_up() -> None:
    """No row on the leading stack, tokens unknown: on a stack that has the row only these are missing."""
    metrics = counted(request("llama-3.1-70b-instruct", prompt_tokens=None))
    for stack, reason in ((STACK, "unknown_model"), ("h100-predicted", None)):
        (found,) = described(metrics, ("model",), stack)
        assert (found["uncovered"], found["uncovered_reason"]) == (1, reason)


def test_failed_are_those_that_neither_succeeded_nor_were_left_by_their_client() -> None:
    failing = [
        request(status=500), request(status=429), request(error_class="upstream_broken"),
        request(error_class="first_byte_timeout", status=None),
    ]  # fmt: skip
    others = [
        request(), request(error_class="client_disconnected"), request(status=302), request(status=None),
        request(raw=1.0, backpressure_seconds=0.9),
    ]  # fmt: skip
    (found,) = described(counted(*failing, *others))
    assert (found["requests"], found["failed"], sum(found["excluded"].values())) == (9, 4, 7)


def test_assumed_is_said_of_the_model_and_not_of_its_row() -> None:
    assumed, measured = described(counted(request("gpt-4o"), request("gpt-4o"), request()), ("model",))
    assert (assumed["table_row"], assumed["provenance"]) == ("openai/davinci", "assumed")
    assert (measured["table_row"], measured["provenance"]) == ("openai/davinci", "measured")


def test_a_group_of_different_rows_names_none() -> None:
    (found,) = described(counted(request(), request("openai/curie"), request("openai/curie")))
    assert (found["table_row"], found["proxy_of"], found["provenance"]) == (None, None, "measured")
    assert (found["baseline"], found["baseline_missing"]) == (None, None)


def test_the_watts_in_use(tmp_path: Path) -> None:
    """Those of the one row that all requests have, or of the device where one's own go before them."""
    path = tmp_path / "constants.json"
    path.write_text('{"accelerators": {"a100-80gb": {"mean_watts": {"value": 200, "low": 100, "high": 300}}}}')
    metrics, row = counted(request()), TABLES.row(STACK, "openai/davinci")
    assert row is not None
    assert row.watts is not None
    (found,) = described(metrics)
    told = {"prompt": row.watts.prompt, "output": row.watts.output, "source": row.watts.source}
    assert found["cost"]["watts"] == {"dedicated": {**told, "interval": list(row.watts.interval)}, "served": None}
    overview = Overview(load_tables(constants=path), metrics, Missing())  # type: ignore[arg-type]
    (group,) = grouped(sums_of(metrics), ())
    given = {"prompt": 200.0, "output": 200.0, "interval": [0.5, 1.5], "source": "given"}
    assert overview.describe(group, STACK)["cost"]["watts"] == {"dedicated": given, "served": None}
    (both,) = described(counted(request(), request("ai21/j1-jumbo")))
    assert both["cost"]["watts"] is None


def test_nothing_is_described_too() -> None:
    overview = Overview(TABLES, Metrics(), Missing())  # type: ignore[arg-type]
    found = overview.describe(Group({}, Sums(), []), STACK)
    assert found["requests"] == 0
    assert {found[name] for name in ("slowdown", "contention", "raw_p50", "baseline", "provenance")} == {None}
    assert [stack["name"] for stack in overview.stacks(Sums())] == list(TABLES.references)


def test_stacks_say_what_they_cover() -> None:
    metrics = counted(request(), request("new"))
    (group,) = grouped(sums_of(metrics), ())
    found = {stack["name"]: stack for stack in Overview(TABLES, metrics, Missing()).stacks(group.sums)}  # type: ignore[arg-type]
    assert (found[STACK]["covered"], found[STACK]["completed"], found[STACK]["provenance"]) == (1, 2, "measured")
    assert found[STACK]["hardware"]


def test_steps_since() -> None:
    overview = Overview(TABLES, counted(request()), Missing())  # type: ignore[arg-type]
    at = datetime(2026, 11, 21, 12, tzinfo=UTC).timestamp()
    assert overview.steps(at) == [{"at": at, "upstream": "u", "model": "openai/davinci", "factor": 0.5}]
    assert overview.steps(at + 1) == []


requests = st.builds(
    request,
    st.sampled_from(["openai/davinci", "openai/curie", "new", None]),
    st.sampled_from("uvw"),
    st.none() | st.floats(0, 1e4),
    status=st.sampled_from([200, 404]),
)


@given(st.lists(requests, max_size=30))
def test_groups_add_up(events: list[RequestEvent]) -> None:
    metrics = counted(*events)
    whole = next(iter(described(metrics)), None)
    for by in (("model",), ("upstream",), ("upstream", "model")):
        groups = described(metrics, by)
        for name in ("requests", "completed", "covered", "uncovered", "denoised_requests", "decomposed_requests"):
            assert sum(group[name] for group in groups) == (whole[name] if whole else 0)
    for group in described(metrics, ("upstream", "model")):
        parts = group["model_seconds"] + group["stack_seconds"] + group["contention_seconds"]
        assert parts == pytest.approx(group["decomposed_raw_seconds"], abs=1e-9)
        assert group["requests"] == group["completed"] + sum(group["excluded"].values()) + untimed(events, group)


def untimed(events: list[RequestEvent], group: dict[str, Any]) -> int:
    of = [event for event in events if (event.upstream, event.model or "") == (group["upstream"], group["model"])]
    return sum(event.status == 200 and event.raw_seconds is None for event in of)


# --- the last requests


def test_the_last_requests_in_columns() -> None:
    recent = Recent(size=3)
    events = [request(raw=float(number), id=str(number), stream=bool(number % 2)) for number in range(5)]
    for event in events:
        recent.observe((enrich(event, TABLES, BASELINES), "u", event.model or "", ""))
    found = recent.columns(STACK, 0, 10)
    assert (recent.next, found["id"], found["raw"]) == (5, ["2", "3", "4"], [2.0, 3.0, 4.0])
    assert found["stream"] == [False, True, False]
    assert recent.columns(STACK, 4, 10)["id"] == ["4"]
    assert recent.columns(STACK, 5, 10)["id"] == []
    assert recent.columns(STACK, 6, 10)["id"] == ["2", "3", "4"], "a number of another life"
    assert recent.columns(STACK, 0, 2)["id"] == ["3", "4"]
    recent.number(105)
    assert (recent.next, recent.columns(STACK, 104, 10)["id"]) == (105, ["4"])


def test_what_is_not_known_of_a_request_is_null() -> None:
    recent = Recent()
    recent.observe((enrich(RequestEvent(model=None, status=500), TABLES), "", "", "status_500"))
    found = {name: column[0] for name, column in recent.columns("a", 0, 1).items()}
    assert found["excluded"] == "status_500"
    unknown = {"ended", "raw", "denoised", "idealized", "prompt_tokens", "output_tokens", "stream"}
    assert {name for name, value in found.items() if value is None} == unknown


def test_requests_since() -> None:
    recent = Recent()
    for second in range(5):
        event = request(ended_at=datetime(2026, 11, 21, 12, 0, second, tzinfo=UTC), id=str(second))
        recent.observe((enrich(event, TABLES), "u", "m", ""))
    since = datetime(2026, 11, 21, 12, 0, 3, tzinfo=UTC).timestamp()
    assert recent.columns("s", 0, 10, since)["id"] == ["3", "4"]


def test_events_counted_before_are_shown_without_being_counted(tmp_path: Any) -> None:
    stream = EmbeddedStream(tmp_path / "stream.sqlite", TABLES)
    stream.take("log", [(1, b'{"model":"m","id":"1"}')])
    stream.remember(enrich(request("never counted", id="0"), TABLES))
    assert stream.counted == 1
    assert stream.requests.columns(STACK, 0, 9)["model"] == ["m", "other"]
    stream.close()
