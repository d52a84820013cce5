"""`gateway explain` and GET /trueclock/v1/explain/{id}: the values that were counted, in words."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.cli import main
from gateway.explain import explain_json
from gateway.refusal import Refusal
from stream.coefficients import load_tables, tables_to_json
from stream.events import decode_enriched
from stream.state import STATE_VERSION
from tests.gateway import logs
from tests.harness import CHAT, ask, chat, run, serve
from tests.servers.openai_like import OpenAILike

TABLES = load_tables()
HTTP = "/trueclock/v1/explain/"


def told(capfd: pytest.CaptureFixture[str], data_dir: Path, *options: str) -> str:
    assert main(["explain", *options, "--data-dir", str(data_dir)]) == 0
    out, err = capfd.readouterr()
    assert err == ""
    return out


def asked(data_dir: Path, wanted: str, **more: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(asyncio.run(explain_json(data_dir, TABLES, wanted, **more)))
    return found


def test_the_command_line_in_words(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    made = logs.event(1, raw_runtime_seconds=3.2, completion_tokens=13)
    log_id = logs.record(tmp_path, made)
    logs.store(tmp_path, (logs.baseline(4, 1.5), {log_id: 1}))
    said = told(capfd, tmp_path, made.id[:14]).splitlines()
    assert [line for line in said if "- On a100-megatron it costs $" in line]
    assert said[-1].startswith("- What was billed for it is not known: the list of prices has none for ")
    assert told(capfd, tmp_path).splitlines() == said, "without an id it is the latest"
    assert said[:4] == [
        "openai/davinci at u, 100 prompt tokens and 13 output tokens, ended 2027-01-15 08:00:00 UTC",
        "3.2 s: 1.1 s is the model, 0.4 s the stack, 1.7 s contention; the provider's own best for this size is 1.5 s ± 0.2.",
        "As ratios: slowdown 3.0 = stack 1.4 × contention 2.1.",  # noqa: RUF001
        "- The provider's own best (baseline 4) rests on 100 requests to openai/davinci at u (whole replies, prompts of 1 to 1,000 tokens).",
    ]


def test_the_command_line_as_json(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    made = logs.event(1)
    log_id = logs.record(tmp_path, logs.event(0), made)
    logs.store(tmp_path, (logs.baseline(4, 1.5), {log_id: 2}))
    found = json.loads(told(capfd, tmp_path, made.id, "--json"))
    assert main(["events", "--data-dir", str(tmp_path)]) == 0
    assert found["event"] == json.loads(capfd.readouterr().out.splitlines()[1]), "as `gateway events` has it"
    assert set(found) == {
        "id", "subject", "text", "sentences", "notes", "costs", "event", "parts", "raw_seconds", "denoised_seconds",
        "denoised_interval", "idealized_seconds", "stack", "gateway",
    }  # fmt: skip
    assert [part["part"] for part in found["parts"]] == ["model", "stack", "contention"]
    assert sum(part["seconds"] for part in found["parts"]) == pytest.approx(found["raw_seconds"])
    assert found["denoised_interval"] == pytest.approx([1.35, 1.65])
    assert found == asked(tmp_path, made.id)


def test_the_tables_in_use_and_a_stack_of_ones_choice(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    logs.record(tmp_path, logs.event(1))
    (tmp_path / "tables.json").write_bytes(tables_to_json(load_tables(stack="v100-megatron")))
    stacks = [
        json.loads(told(capfd, tmp_path, logs.event(1).id, "--json", *more))["stack"]
        for more in ([], ["--stack", "a100-megatron"])
    ]
    assert stacks == ["v100-megatron", "a100-megatron"]


def test_a_stack_that_came_after_the_request(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    logs.record(tmp_path, logs.event(1))
    rows = {"a100-megatron": json.loads(tables_to_json(TABLES))["stacks"]["a100-megatron"]}
    (tmp_path / "old.json").write_text(json.dumps({"stacks": rows}))
    (tmp_path / "tables.json").write_bytes(tables_to_json(load_tables([tmp_path / "old.json"])))
    found = asked(tmp_path, logs.event(1).id, stack="h100-predicted")
    assert found["stack"] == "a100-megatron"
    assert "h100-predicted was not among the tables when this request was counted." in found["notes"]
    with pytest.raises(Refusal, match="unknown stack 'tpu'"):
        asked(tmp_path, logs.event(1).id, stack="tpu")
    assert main(["explain", logs.event(1).id, "--stack", "h100-predicted", "--data-dir", str(tmp_path)]) == 2
    assert "unknown stack 'h100-predicted': there are a100-megatron" in capfd.readouterr().err


def test_an_event_from_before_the_first_baseline(tmp_path: Path) -> None:
    log_id = logs.record(tmp_path, logs.event(0), logs.event(1))
    logs.store(tmp_path, (logs.baseline(4), {log_id: 2}))
    found = asked(tmp_path, logs.event(0).id)
    assert found["notes"] == ["The provider's own best was not known yet when this request was made; it is now."]
    assert found["event"]["baseline_version"] is None


def test_why_there_is_no_baseline_comes_from_who_knows(tmp_path: Path) -> None:
    logs.record(tmp_path, logs.event(1))
    found = asked(tmp_path, logs.event(1).id, missing=lambda upstream, model: f"not enough of {model} at {upstream}")
    assert "(not enough of openai/davinci at u)" in found["notes"][0]


def damage(data_dir: Path) -> None:
    (data_dir / "events-0.sqlite").write_bytes(b"nothing of the kind " * 50)


def from_the_future(data_dir: Path) -> None:
    logs.store(data_dir, (logs.baseline(1), {}))
    logs.state_version(data_dir, STATE_VERSION + 1)


@pytest.mark.parametrize(
    ("wanted", "more", "before", "status", "code"),
    [
        ("0" * 32, {}, None, 404, "event_not_found"),
        ("01a3185c5000", {}, None, 400, "ambiguous_id"),
        (logs.event(1).id, {"stack": "tpu"}, None, 400, "unknown_stack"),
        (logs.event(1).id, {}, damage, 500, "log_unreadable"),
        (logs.event(1).id, {}, from_the_future, 500, "log_unreadable"),
    ],
)
def test_what_cannot_be_explained_is_refused_in_one_line(
    wanted: str, more: dict[str, str], before: Callable[[Path], None] | None, status: int, code: str, tmp_path: Path
) -> None:
    logs.record(tmp_path, logs.event(1), logs.event(2))
    if before is not None:
        before(tmp_path)
    with pytest.raises(Refusal) as caught:
        asked(tmp_path, wanted, **more)
    assert (caught.value.status, caught.value.code) == (status, code)
    assert "\n" not in str(caught.value)


def test_a_running_gateway_explains_what_it_passed_on(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with OpenAILike() as upstream, serve(upstream.url) as gateway:
            await chat(gateway.url, "davinci", stream=True)
            await ask(gateway.url, "POST", CHAT, b"{}")
            first, second = await gateway.events(2)
            reply = await ask(gateway.url, target=f"{HTTP}{first.id[:16]}")
            assert reply.status == 200
            found = reply.json
            assert found["id"] == first.id
            assert decode_enriched(json.dumps(found["event"])).event == first
            assert found["sentences"][0].endswith("stack and contention together.")
            assert "is not known yet (" in found["notes"][-1]
            assert found["gateway"]["overhead"] == first.gateway_overhead_seconds
            assert (await ask(gateway.url, target=f"{HTTP}{second.id}")).json["subject"].startswith("a request without")
            missing = await ask(gateway.url, target=f"{HTTP}{'0' * 32}")
            assert (missing.status, missing.error_code) == (404, "event_not_found")
            assert (await ask(gateway.url, target=f"{HTTP}{first.id}?stack=v100-megatron")).json[
                "stack"
            ] == "v100-megatron"
            assert (await ask(gateway.url, target=f"{HTTP}{first.id}?stack=tpu")).status == 400

    run(scenario())
