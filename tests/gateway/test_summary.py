"""The live figures: page, summary, /metrics and a recount of the log say the same; and what is asked wrongly."""

import asyncio
import json
import math
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from prometheus_client.parser import text_string_to_metric_families

from gateway.config import load_config
from stream.coefficients import load_tables
from stream.events import EnrichedEvent, decode_enriched
from stream.metrics import Metrics
from stream.quantiles import quantile
from stream.rollup import Rollup, Slot, read_slot
from stream.summary import parts
from stream.sums import Sums
from tests.harness import ROOT, RawReply, ServedGateway, ask, chat, run, serve
from tests.page_events import JUMBO, Provider, requests, write
from tests.servers.openai_like import OpenAILike

SUMMARY, SERIES, REQUESTS = (f"/trueclock/v1/{name}" for name in ("summary", "series", "requests"))
BY = "by=model,upstream"
CONFIG = """
model_list:
  - model_name: opt-175b
    litellm_params: {{model: openai/opt-175b, api_base: "{first}", api_key: k}}
  - model_name: j1
    litellm_params: {{model: openai/ai21/j1-grande, api_base: "{first}", api_key: k}}
  - model_name: error-500
    litellm_params: {{model: openai/error-500, api_base: "{second}", api_key: k}}
trueclock:
  upstream: "{second}"
  assume: {{gpt-4o: openai/davinci}}
"""


KINDS = ("opt-175b", "opt-175b", "gpt-4o", "opt-175b", "j1", "unheard-of", "opt-175b", "error-500")


@asynccontextmanager
async def traffic(folder: Path, requests: int, *, denoised: bool = False) -> AsyncIterator[ServedGateway]:
    """A gateway with two upstreams that has counted requests of all kinds; some of them `denoised`, if asked.

    Requests for opt-175b take their time by their size, as a baseline needs it.
    """
    async with OpenAILike() as first, OpenAILike() as second:
        path = folder / "config.yaml"
        path.write_text(CONFIG.format(first=f"{first.url}/v1", second=f"{second.url}/v1"))
        config = load_config(path)
        tables = load_tables(assume=config.assume)
        async with serve(config, tables=tables, data_dir=folder / "data") as gateway:
            stream, start = gateway.control.stream, 0
            while start < requests or (denoised and not stream.baselines):
                await asyncio.gather(*(one(gateway, number) for number in range(start, start + len(KINDS))))
                start += len(KINDS)
                await gateway.counted(start)
                stream.save()
                if start == requests - 40 and denoised and not stream.baselines:
                    requests += 40  # so that there are some with a baseline
            yield gateway


async def one(gateway: ServedGateway, number: int) -> None:
    prompt, output = 7 + number * 37 % 400, 1 + number * 7 % 12
    words = "word " * (prompt - 7)
    seconds = 0.01 + 1e-5 * prompt + 0.002 * output
    await chat(
        gateway.url, KINDS[number % len(KINDS)], stream=number % 5 == 2, max_tokens=output,
        messages=[{"role": "user", "content": words}],
        headers=[("x-first-delay", f"{seconds:.6f}"), ("x-cached-tokens", "3" if number % 9 == 4 else "0")],
    )  # fmt: skip


async def get(gateway: ServedGateway, target: str) -> Any:
    reply = await ask(gateway.url, target=target)
    assert reply.status == 200, reply.body
    return reply.json


async def listing(folder: Path) -> list[EnrichedEvent]:
    """What `gateway events` prints of a data directory."""
    command = [sys.executable, "-m", "gateway.cli", "events", "--data-dir", str(folder)]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, cwd=ROOT, check=True)
    return [decode_enriched(line) for line in done.stdout.splitlines()]


def metrics_of(text: bytes) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    found: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    for family in text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
    return found


def of(
    shown: dict[str, dict[tuple[tuple[str, str], ...], float]], name: str, group: dict[str, Any], **more: str
) -> float:
    """The sum of the series of one group."""
    wanted = {"model": group["model"], "upstream": group["upstream"], **more}.items()
    return sum(value for labels, value in shown.get(name, {}).items() if wanted <= set(labels))


ON_STACK = {
    "covered": "trueclock_covered_requests_total",
    "extrapolated": "trueclock_extrapolated_requests_total",
    "faster_than_idealized": "trueclock_faster_than_idealized_total",
    "raw_seconds": "trueclock_raw_runtime_seconds_total",
    "idealized_seconds": "trueclock_idealized_runtime_seconds_total",
    "decomposed_requests": "trueclock_decomposed_requests_total",
    "decomposed_raw_seconds": "trueclock_raw_of_decomposed_runtime_seconds_total",
    "model_seconds": "trueclock_idealized_of_decomposed_runtime_seconds_total",
}
OF_PAIR = {
    "requests": "trueclock_requests_total",
    "estimated_usage": "trueclock_estimated_usage_total",
    "retries": "trueclock_retries_total",
    "denoised_requests": "trueclock_contention_ratio_count",
    "raw_of_denoised_seconds": "trueclock_raw_of_denoised_runtime_seconds_total",
    "denoised_seconds": "trueclock_denoised_runtime_seconds_total",
    "faster_than_denoised": "trueclock_faster_than_denoised_total",
}


def test_summary_metrics_and_a_recount_agree(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with traffic(tmp_path, 280, denoised=True) as gateway:
            summary = await get(gateway, f"{SUMMARY}?{BY}")
            hour = await get(gateway, f"{SUMMARY}?{BY}&since=1h")
            shown = metrics_of((await ask(gateway.url, target="/metrics")).body)
            events = await listing(gateway.settings.data_dir)
            other = await get(gateway, f"{SUMMARY}?{BY}&stack=v100-megatron")
            requests = await get(gateway, REQUESTS)
            last = next(event for event in reversed(events) if event.denoised_runtime_seconds is not None)
            explained = await get(gateway, f"/trueclock/v1/explain/{last.event.id}")
        assert len(events) >= 280
        assert len(summary["groups"]) == 5
        assert len({group["upstream"] for group in summary["groups"]}) == 2
        agree_with_metrics(summary, shown)
        agree_with_metrics(other, shown)
        assert requests["denoised"] == [event.denoised_runtime_seconds for event in events]
        assert requests["idealized"] == [event.idealized_runtime_seconds for event in events]
        assert explained["denoised_seconds"] == last.denoised_runtime_seconds
        recounted = recount(events)
        for group in summary["groups"]:
            agree(group, recounted[group["upstream"], group["model"]], summary["stack"])
        agree(summary["total"], added(recounted.values()), summary["stack"])
        kinds = {group["model"]: group["provenance"] for group in summary["groups"]}
        assert kinds == {
            "opt-175b": "measured",
            "j1": "measured",
            "gpt-4o": "assumed",
            "unheard-of": None,
            "error-500": None,
        }
        assert summary["total"]["decomposed_requests"] >= 15
        assert [group["model"] for group in summary["groups"] if group["baseline"]] == ["opt-175b"]
        (failing,) = [group for group in summary["groups"] if group["model"] == "error-500"]
        assert failing["excluded"] == {"status_500": failing["requests"]}
        assert failing["baseline_missing"].startswith("not enough")
        assert unwindowed(hour) == pytest.approx(unwindowed(summary))

    run(scenario())


def recount(events: Iterable[EnrichedEvent]) -> dict[tuple[str, str], Sums]:
    metrics = Metrics()
    for event in events:
        metrics.observe(event)
    return {(upstream, model): pair.sums for upstream, model, pair in metrics.pairs()}


def added(sums: Iterable[Sums]) -> Sums:
    whole = Sums()
    for each in sums:
        whole.add(each)
    return whole


def agree_with_metrics(summary: dict[str, Any], shown: dict[str, dict[tuple[tuple[str, str], ...], float]]) -> None:
    """To the last bit."""
    for group in summary["groups"]:
        for name, metric in OF_PAIR.items():
            assert group[name] == of(shown, metric, group), (name, group["model"])
        for name, metric in ON_STACK.items():
            assert group[name] == of(shown, metric, group, stack=summary["stack"]), (name, group["model"])
    overhead = summary["gateway_overhead"]["mean"]
    sums, counts = (shown[f"trueclock_gateway_overhead_seconds_{part}"][()] for part in ("sum", "count"))
    assert overhead == sums / counts


def agree(group: dict[str, Any], sums: Sums, stack: str) -> None:
    on = sums.on(stack)
    assert (group["requests"], group["completed"], group["covered"]) == (sums.requests, sums.raw.number, on.requests)
    assert (group["raw_p50"], group["raw_p95"]) == tuple(quantile(sums.raw.buckets, share) for share in (0.5, 0.95))
    exactly = pytest.approx if group.get("model") is None else (lambda value: value)
    assert group["raw_seconds"] == exactly(on.raw)
    assert group["denoised_seconds"] == exactly(sums.denoised)
    assert {name: group[name] for name in parts(on)} == exactly(parts(on))
    assert math.fsum(group[name] for name in ("model_seconds", "stack_seconds", "contention_seconds")) == pytest.approx(
        group["decomposed_raw_seconds"], abs=1e-9
    )


def unwindowed(summary: dict[str, Any]) -> dict[str, float]:
    return {
        f"{group.get('model')} {name}": value
        for group in (*summary["groups"], summary["total"])
        for name, value in group.items()
        if isinstance(value, int | float)
    }


def test_a_window_is_a_recount_of_the_events_since_then(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with traffic(tmp_path, 96) as gateway:
            since = quote(datetime.fromtimestamp(time.time(), UTC).isoformat())
            summary = await get(gateway, f"{SUMMARY}?{BY}&since={since}")
            events = await listing(gateway.settings.data_dir)
        start = datetime.fromisoformat(summary["since"])
        assert start.timestamp() % 10 == 0
        kept = [event for event in events if event.event.ended_at is not None and event.event.ended_at >= start]
        assert summary["total"]["requests"] == len(kept)
        expected = recounted_slots(events, start.timestamp())
        for group in summary["groups"]:
            agree(group, expected[group["upstream"], group["model"]], summary["stack"])

    run(scenario())


def recounted_slots(events: Iterable[EnrichedEvent], start: float) -> dict[tuple[str, str], Sums]:
    metrics, rollup, whole = Metrics(), Rollup(), Slot()
    for event in events:
        rollup.observe(metrics.observe(event))
    for _, packed in rollup.window(start, time.time()).slots:
        whole.add(read_slot(packed))
    return {(upstream, model): sums for upstream, model, sums in whole.groups()}


def test_series_and_requests_add_up_to_the_summary(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with traffic(tmp_path, 120) as gateway:
            summary = await get(gateway, f"{SUMMARY}?{BY}&since=15m")
            series = await get(gateway, f"{SERIES}?{BY}&since=15m")
            whole = await get(gateway, f"{SERIES}?since=15m")
            requests = await get(gateway, REQUESTS)
            later = await get(gateway, f"{REQUESTS}?after={requests['next'] - 7}")
            few = await get(gateway, f"{REQUESTS}?limit=5")
            none = await get(gateway, f"{REQUESTS}?after={requests['next']}")
            events = await gateway.events(120)
        assert series["step_seconds"] == 10
        assert series["times"] == list(range(series["times"][0], series["times"][-1] + 1, 10))
        assert series["steps"] == []
        in_series = {(group["model"], group["upstream"]): group for group in series["groups"]}
        for group in summary["groups"]:
            found = in_series[group["model"], group["upstream"]]
            assert {len(found[name]) for name in found if isinstance(found[name], list)} == {len(series["times"])}
            for name, total in (
                ("requests", "requests"), ("completed", "completed"), ("raw", "completed_raw_seconds"),
                ("raw_of_idealized", "raw_seconds"), ("idealized", "idealized_seconds"),
                ("raw_of_denoised", "raw_of_denoised_seconds"), ("denoised", "denoised_seconds"),
                ("decomposed_raw", "decomposed_raw_seconds"), ("model_seconds", "model_seconds"),
                ("stack_seconds", "stack_seconds"), ("contention_seconds", "contention_seconds"),
            ):  # fmt: skip
                assert sum(found[name]) == pytest.approx(group[total]), name
        (only,) = whole["groups"]
        assert "model" not in only
        assert sum(only["requests"]) == 120
        assert requests["id"] == [event.id for event in events]
        assert requests["ended"] == [event.ended_at.timestamp() for event in events if event.ended_at]
        assert {len(column) for column in requests.values() if isinstance(column, list)} == {120}
        assert later["id"] == requests["id"][-7:]
        assert few["id"] == requests["id"][-5:]
        assert none["id"] == []
        excluded = {reason for reason in requests["excluded"] if reason}
        assert excluded == {"status_500"}
        columns = zip(requests["idealized"], requests["provenance"], requests["excluded"], strict=True)
        assert {(idealized is None, kind) for idealized, kind, reason in columns if not reason} == {
            (True, None), (False, "measured"), (False, "assumed"),
        }  # fmt: skip

    run(scenario())


def test_a_restart_shows_what_was_there(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with traffic(tmp_path, 120) as gateway:
            before = [await get(gateway, target) for target in (f"{SUMMARY}?since=1h&{BY}", f"{REQUESTS}?since=1h")]
            everything = await get(gateway, f"{SUMMARY}?{BY}")
        config = load_config(tmp_path / "config.yaml")
        tables = load_tables(assume=config.assume)
        async with serve(config, tables=tables, data_dir=tmp_path / "data") as gateway:
            await gateway.counted(120)
            while (requests := await get(gateway, REQUESTS))["next"] != 120 or len(requests["id"]) < 120:
                await asyncio.sleep(0.01)
            after = [await get(gateway, target) for target in (f"{SUMMARY}?since=1h&{BY}", f"{REQUESTS}?since=1h")]
            again = await get(gateway, f"{SUMMARY}?{BY}")
        for name in ("groups", "total", "recent", "gateway_overhead"):
            assert after[0][name] == before[0][name], name
            assert again[name] == everything[name], name
        assert after[1] == before[1]

    run(scenario())


CHANGED = [{"assume": {"gpt-4o": "openai/ada", "unheard-of": "openai/curie"}}, {"stack": "v100-megatron"}]


@pytest.mark.parametrize("change", CHANGED, ids=["assume", "stack"])
def test_after_a_restart_with_other_tables_the_past_stays_what_was_counted(
    change: dict[str, Any], tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with traffic(tmp_path, 56) as gateway:
            before = {event.event.id: event for event in await listing(gateway.settings.data_dir)}
        config, tables = load_config(tmp_path / "config.yaml"), load_tables(**change)
        async with OpenAILike() as upstream, serve(upstream.url, tables=tables, data_dir=tmp_path / "data") as gateway:
            await gateway.counted(56)
            while len((await get(gateway, REQUESTS))["id"]) < 56:
                await asyncio.sleep(0.01)
            for number in range(16):
                await one(gateway, number)
            await gateway.counted(72)
            gateway.control.stream.save()
            summaries = [await get(gateway, f"{SUMMARY}?{BY}&stack={stack}") for stack in tables.references]
            columns = [await get(gateway, f"{REQUESTS}?stack={stack}") for stack in tables.references]
            shown = metrics_of((await ask(gateway.url, target="/metrics")).body)
            events = await listing(gateway.settings.data_dir)
            explained = await get(gateway, f"/trueclock/v1/explain/{next(iter(before))}")
        assert config.assume != tables.assume
        assert {made.event.id: made for made in events[:56]} == before
        assert {made.table_version for made in events[56:]} == {tables.version}
        assert {made.stack for made in events[56:]} == {tables.reference}
        assert explained["event"]["table_version"] == events[0].table_version
        recounted = recount(events)
        for summary, found in zip(summaries, columns, strict=True):
            agree_with_metrics(summary, shown)
            for group in summary["groups"]:
                agree(group, recounted[group["upstream"], group["model"]], summary["stack"])
            assert found["id"] == [made.event.id for made in events]
            assert found["idealized"] == [idealized_on(summary["stack"], made) for made in events]
            latest = [request["idealized_runtime_seconds"] for request in summary["recent"]]
            assert latest == found["idealized"][: -len(latest) - 1 : -1]

    run(scenario())


def idealized_on(stack: str, event: EnrichedEvent) -> float | None:
    return event.idealized_runtime_seconds if stack == event.stack else event.stacks[stack].idealized_runtime_seconds


def test_an_empty_gateway_has_figures_too() -> None:
    async def scenario() -> None:
        async with serve() as gateway:
            for query in ("", "?since=15m", f"?{BY}&since=6h"):
                summary = await get(gateway, SUMMARY + query)
                assert (summary["total"]["requests"], summary["groups"]) == (0, [])
                series = await get(gateway, SERIES + query)
                assert series["groups"] == []
                assert series["times"]
            assert (await get(gateway, REQUESTS))["id"] == []
            assert [stack["name"] for stack in summary["stacks"]] == list(gateway.settings.tables.references)

    run(scenario())


def test_moments_far_away_are_answered_in_short(tmp_path: Path) -> None:
    """A clock that was wrong once left an event of another century; and whoever asks may name any year."""

    async def scenario() -> None:
        write(tmp_path, [*requests([JUMBO], 1, until=0.0), *requests([JUMBO], 5)])
        async with serve(data_dir=tmp_path) as gateway:
            await gateway.counted(6)
            for query in ("", "?since=99999w", "?since=0001-01-01T00:00:00Z"):
                series = await get(gateway, SERIES + query)
                assert len(series["times"]) <= 1000
                assert sum(series["groups"][0]["requests"]) == 5
                assert (await get(gateway, SUMMARY + query))["total"]["requests"] == 6

    run(scenario())


def test_an_uncovered_group_names_stacks_that_cover_it_or_rows_like_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        predicted = Provider("meta-llama/Llama-3.1-70B-Instruct")
        write(tmp_path, list(requests([JUMBO, predicted, Provider("LLama-3.1-70b-instructs")], 30)))
        async with serve(data_dir=tmp_path) as gateway:
            await gateway.counted(30)
            for stack, covered in (("a100-megatron", JUMBO.model), ("h100-predicted", predicted.model)):
                groups = (await get(gateway, f"{SUMMARY}?by=model&stack={stack}"))["groups"]
                for group in groups:
                    if group["model"] == "LLama-3.1-70b-instructs":
                        assert group["covered_on"] == []
                        assert "llama-3.1-70b-instruct" in group["near"]
                    elif group["model"] == covered:
                        assert (group["uncovered"], group["covered_on"], group["near"]) == (0, [], [])
                    else:
                        assert group["covered_on"]
                        assert set(group["covered_on"]) <= set(gateway.settings.tables.references) - {stack}
                assert len(groups) == 3

    run(scenario())


def test_the_latest_requests_are_of_the_stack_asked_for(tmp_path: Path) -> None:
    async def scenario() -> None:
        write(tmp_path, [*requests([Provider("meta-llama/Llama-3.1-70B-Instruct")], 1), *requests([JUMBO], 1)])
        async with serve(data_dir=tmp_path) as gateway:
            await gateway.counted(2)
            recent = {
                stack: (await get(gateway, f"{SUMMARY}?stack={stack}"))["recent"]
                for stack in gateway.settings.tables.references
            }
        kinds = {stack: [(each["coverage"], each["provenance"]) for each in found] for stack, found in recent.items()}
        no_row = ("uncovered", None)
        assert kinds["a100-megatron"][1] == no_row
        assert kinds["a100-megatron"][0][1] == "measured"
        assert kinds["h100-predicted"] == [no_row, ("covered", "predicted")]
        for found in recent.values():
            for each in found:
                covered = each["coverage"] != "uncovered"
                assert each["uncovered_reason"] == (None if covered else "unknown_model")
                if covered:
                    assert each["slowdown"] == each["raw_runtime_seconds"] / each["idealized_runtime_seconds"]
                else:
                    assert each["slowdown"] is each["idealized_runtime_seconds"] is None

    run(scenario())


WRONG = {
    "since=yesterday": "since=yesterday: expected a time such as",
    "since=": "since=: expected a time such as",
    "since=15": "since=15: expected a time such as",
    "by=caller": "by=caller: expected model or upstream, or both with a comma between",
    "by=model,": "by=model,: expected model or upstream",
    "stack=h900": "stack=h900: expected one of a100-megatron",
    "after=-1": "after=-1: expected a whole number from 0",
    "after=x": "after=x: expected a whole number",
    "limit=0": "limit=0: expected a whole number from 1 to 10000",
    "limit=1e3": "limit=1e3: expected a whole number",
    "since=%00%ff": "expected a time such as",
    "since=2199-01-01T00:00:00Z": "since=2199-01-01T00:00:00Z: that moment is yet to come (here it is 20",
    "since=9999-12-31T23:59:59-14:00": "that moment is yet to come",
}


KNOWN = {
    SUMMARY: "there are since, by, stack",
    SERIES: "there are since, by, stack",
    REQUESTS: "there are after, limit, since, stack",
    "/trueclock/v1/explain/nothing": "there is stack",
}


def test_a_bad_value_is_said_on_one_line() -> None:
    async def scenario() -> None:
        async with serve() as gateway:
            for query, message in WRONG.items():
                few = {"after": (REQUESTS,), "limit": (REQUESTS,), "by": (SUMMARY, SERIES)}
                for path in few.get(query.partition("=")[0], (SUMMARY, SERIES, REQUESTS)):
                    reply: RawReply = await ask(gateway.url, target=f"{path}?{query}")
                    assert (reply.status, reply.error_code) == (400, "bad_parameter"), query
                    assert message in json.loads(reply.body)["error"]["message"]
            for path, names in KNOWN.items():
                reply = await ask(gateway.url, target=f"{path}?stack=v100-megatron&sinse=1h")
                assert (reply.status, reply.error_code) == (400, "bad_parameter")
                assert json.loads(reply.body)["error"]["message"].endswith(f"unknown parameter 'sinse': {names}")
            assert (await ask(gateway.url, target=f"{SUMMARY}?by=")).status == 200
            assert (await ask(gateway.url, target="/trueclock/v1/explain/nothing")).status == 404

    run(scenario())
