"""`profiler check`: each rule with a table that breaks it, the shipped tables, and what moved between versions."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given

from profiler.check import check_table
from profiler.cli import main
from profiler.drift import Change
from profiler.published import NUMBERS, known_violations
from profiler.shipped import shipped_stacks
from profiler.tables import table_text
from stream.coefficients import load_tables
from stream.table_format import Stack, read_table, stack_to_json
from tests.profiler.any_stack import stacks

GOLDEN = Path(__file__).parents[1] / "golden"
KNOWN = {
    "a100-megatron": {"error-unsaid": 1, "fall": 14},
    "api-2022": {"error-unsaid": 1, "fall": 8, "jump": 11},
    "v100-megatron": {"error-unsaid": 1, "fall": 21, "first-token": 2, "jump": 21},
}
"""Violations of the published tables: they stay verbatim, so these counts do not change."""

FIT = {"method": "posterior", "points": 9, "r2": 0.99, "median_error": 0.01, "p95_error": 0.02, "max_error": 0.03}
ERRORS = {"fit_error": 0.05, "intervals": {"runtime": [0.9, 1.2]}}
ROW = {
    "runtime_per_output_token": 0.02,
    "runtime_for_prompt_tokens": {"1": 0.021, "64": 0.022, "512": 0.03, "1024": 0.05},
    "provenance": "measured",
    **ERRORS,
}


def table(*changes: dict[str, Any], **stack: Any) -> dict[str, Any]:
    """A stack with nothing wrong, a row for each dict of what it has otherwise (None: without that key)."""
    rows = {
        f"m{n}": {key: value for key, value in (ROW | change).items() if value is not None}
        for n, change in enumerate(changes or ({},))
    }
    described = {"hardware": "H", "software": "S", "date": "2026", "source": "us"} | stack
    return {"format": 1, "stacks": {"mine": {**{k: v for k, v in described.items() if v is not None}, "models": rows}}}


def found(content: Any, against: Any = None) -> list[tuple[str, str, str]]:
    old = None if against is None else (json.dumps(against).encode(), "old.json")
    report = check_table(json.dumps(content).encode(), "t.json", old)
    return [(each.level, each.code, each.text) for each in report.findings]


def prompts(**seconds: float) -> dict[str, Any]:
    return {"runtime_for_prompt_tokens": {name.removeprefix("p"): each for name, each in seconds.items()}}


def test_nothing_is_found_where_nothing_is_wrong() -> None:
    assert found(table({}, {"fit": FIT}, {"provenance": "predicted"}, {"proxy_of": "m0"})) == []


FALLING = prompts(p1=0.021, p64=0.03, p128=0.028, p256=0.04)
BROKEN = {
    "milliseconds": ({"runtime_per_output_token": 20, **prompts(p1=21, p512=30)}, "error", "units"),
    "slow tokens": ({"runtime_per_output_token": 2, **prompts(p1=2.0)}, "warning", "units"),
    "microseconds a token": ({"runtime_per_output_token": 5e-6, **prompts(p1=5e-6)}, "error", "units"),
    "fast tokens": ({"runtime_per_output_token": 5e-5, **prompts(p1=5e-5)}, "warning", "units"),
    "overhead in milliseconds": ({"overhead": 250.0}, "error", "units"),
    "F alone in milliseconds": (prompts(p1=21, p64=22), "error", "units"),
    "beta alone in microseconds": ({"runtime_per_output_token": 2e-5}, "error", "units"),
    "gamma in milliseconds": ({"context_seconds_per_token2": 3e-5}, "error", "units"),
    "a quick first token": (prompts(p1=0.01), "warning", "first-token"),
    "F falls, published": (FALLING, "warning", "fall"),
    "F falls, the paper's fit": (FALLING | {"fit": FIT | {"method": "paper"}}, "warning", "fall"),
    "F falls, our fit": (FALLING | {"fit": FIT}, "error", "fall"),
    "F falls, predicted": (FALLING | {"provenance": "predicted"}, "error", "fall"),
    "a peak": (prompts(p1=0.02, p64=0.05, p128=0.05, p192=0.15, p1024=0.16), "warning", "jump"),
    "one F in milliseconds": (prompts(p1=0.02, p64=22, p128=0.023), "error", "jump"),
    "too steep": (prompts(p1=0.02, p512=0.05, p640=0.12), "warning", "jump"),
    "interval without the value": ({"intervals": {"runtime": [1.1, 1.2]}}, "error", "interval"),
    "interval the wrong way": ({"intervals": {"runtime": [1.2, 0.9]}}, "error", "interval"),
    "no interval": ({"intervals": {"runtime": 0.1}}, "error", "interval"),
    "no level": ({"intervals": {"runtime": [0.9, 1.1], "level": 80}}, "error", "interval"),
    "prediction without error": ({"provenance": "predicted", "fit_error": None}, "warning", "error-missing"),
    "prediction without interval": ({"provenance": "predicted", "intervals": None}, "error", "error-missing"),
    "a bad fit": ({"fit_error": 0.3}, "warning", "error-large"),
    "impossible errors": ({"fit": FIT | {"max_error": 0.0}}, "error", "error-impossible"),
    "a proxy of nothing": ({"proxy_of": "else"}, "warning", "proxy"),
    "a proxy of itself": ({"proxy_of": "m0"}, "error", "proxy"),
    "no error said": ({"fit_error": None, "intervals": None}, "warning", "error-unsaid"),
    "no provenance": ({"provenance": None}, "warning", "provenance-missing"),
}


@pytest.mark.parametrize(("change", "level", "code"), BROKEN.values(), ids=BROKEN)
def test_a_broken_rule_is_found(change: dict[str, Any], level: str, code: str) -> None:
    assert (level, code) in {each[:2] for each in found(table(change))}


@pytest.mark.parametrize("factor", [1000.0, 1e-3, 1e-6])
@pytest.mark.parametrize("stack", [*KNOWN, "h100-predicted"])
def test_a_shipped_table_in_another_unit_is_an_error(stack: str, factor: float) -> None:
    record = json.loads(shipped_stacks()[stack].read_bytes())
    for row in record["stacks"][stack]["models"].values():
        row["runtime_per_output_token"] *= factor
        row["runtime_for_prompt_tokens"] = {k: f * factor for k, f in row["runtime_for_prompt_tokens"].items()}
    assert any(level == "error" for level, _, _ in found(record))


SHARE = {"batch": 32, "runtime_per_output_token": 0.001, "runtime_for_prompt_tokens": {"1": 0.001, "64": 0.01}}


def test_a_share_is_not_the_whole_step() -> None:
    assert found(table({"served": SHARE})) == []
    step = {**SHARE, "runtime_per_output_token": 0.03, "runtime_for_prompt_tokens": {"1": 0.03}}
    assert found(table({"served": step})) == [
        ("error", "served", f"{what} of a served batch and {alone} s alone: one request's share, not the step?")
        for what, alone in (("an output token is 0.03 s", 0.02), ("F(1) is 0.03 s", 0.021))
    ]
    knot, seconds = list(ROW["runtime_for_prompt_tokens"].items())[-1]
    for factor, level in ((1.0, None), (1.05, "warning"), (1.5, "error")):
        share = {**SHARE, "runtime_for_prompt_tokens": {"1": 0.001, knot: factor * seconds}}
        assert [each[0] for each in found(table({"served": share}))] == ([level] if level else [])
    assert found(table({"served": {**SHARE, "runtime_for_prompt_tokens": {"16": 0.03}}})) == [], "of another prompt"


def test_watts_are_those_of_one_board() -> None:
    watts = {"prompt": 600, "output": 400, "interval": [0.8, 1.2]}
    board, server = ({"watts": {**watts, "prompt": each}} for each in (600, 4800))
    assert found(table(board, accelerator="h100")) == []
    [(level, code, text)] = found(table(server, accelerator="h100"))
    assert (level, code) == ("error", "watts")
    assert text.startswith("4800 W, but one NVIDIA H100")
    assert found(table(server)) == [], "on nobody knows what"
    assert found(table({"served": {**SHARE, **server}}, accelerator="h100"))[0][1] == "watts"


def test_a_proxy_has_the_numbers_of_what_it_stands_for() -> None:
    other = table({}, {"proxy_of": "m0", "runtime_per_output_token": 0.021})
    assert found(other) == [("error", "proxy", "proxy_of 'm0', but other numbers than that")]


def test_intervals_of_a_denoised_stack_are_seconds_but_for_prompts() -> None:
    seconds = {"runtime_per_output_token": [0.01, 0.03], "overhead": [0.0, 0.1], "runtime_for_prompt_tokens": [0.9, 2]}
    assert found(table({"intervals": seconds}, kind="denoised")) == []
    assert [code for _, code, _ in found(table({"intervals": seconds}))] == ["interval", "interval"]
    wrong = table({"intervals": {"overhead": [0.1, 0.2]}}, kind="denoised")
    assert found(wrong) == [("error", "interval", "intervals.overhead: [0.1, 0.2] does not hold the value 0 s")]


def test_a_stack_says_where_it_comes_from() -> None:
    assert found(table(source=None, date=None)) == [
        ("warning", "origin-missing", "the stack does not say its date, source")
    ]
    assert ("error", "origin-missing", "predicted, without a source") in found(
        table({"provenance": "predicted"}, source=None)
    )


# --- the shipped tables


def test_every_shipped_table_is_checked() -> None:
    assert set(shipped_stacks()) == set(load_tables().stacks)


@pytest.mark.parametrize("stack", shipped_stacks())
def test_the_shipped_tables_have_their_known_violations_and_no_other(stack: str) -> None:
    path = shipped_stacks()[stack]
    findings = check_table(path.read_bytes(), str(path)).findings
    assert [each for each in findings if each.level != "known"] == []
    assert Counter(each.code for each in findings) == KNOWN.get(stack, {})


def test_known_violations_are_those_of_shipped_tables() -> None:
    pinned = {
        stack: dict(
            Counter(code for codes in rows.values() for code, each in codes.items() if code != NUMBERS for _ in each)
        )
        for stack, rows in known_violations().items()
    }
    assert pinned == KNOWN


def test_the_published_numbers_are_known_under_any_name() -> None:
    content = (GOLDEN / "helm_idealized_table.json").read_bytes()
    findings = check_table(content, "helm.json").findings
    assert Counter(each.code for each in findings if each.level == "known") == {"fall": 14}
    assert {each.level for each in findings} == {"known", "warning"}


@pytest.mark.parametrize("stack", KNOWN)
def test_a_published_number_that_was_corrected_is_an_error(stack: str) -> None:
    text = "no longer the published numbers, though the stack names their source"
    record = json.loads(shipped_stacks()[stack].read_bytes())
    row = next(iter(record["stacks"][stack]["models"].values()))
    row["runtime_per_output_token"] += 0.001
    assert ("error", "not-verbatim", text) in found(record)
    row["fit"] = FIT | {"method": "paper"}
    assert ("error", "not-verbatim", text) not in found(record), "a fit of the same measurements is another thing"


def test_ones_own_measurements_under_a_published_name_are_not_taken_for_them() -> None:
    record = table()
    record["stacks"] = {"a100-megatron": record["stacks"]["mine"] | {"models": {"openai/ada": ROW}}}
    assert found(record) == []


@pytest.mark.parametrize("stack", shipped_stacks())
def test_the_shipped_tables_are_laid_out_as_new_ones_are(stack: str) -> None:
    path = shipped_stacks()[stack]
    assert path.read_text() == table_text(read_table(path).stacks)


# --- versions


def test_drift_tells_rows_added_removed_and_how_far_the_others_moved() -> None:
    old = table({}, {}, {})
    new = table({}, {"runtime_per_output_token": 0.022}, {"note": "checked"}, {})
    del new["stacks"]["mine"]["models"]["m0"]
    report = check_table(json.dumps(new).encode(), "new.json", (json.dumps(old).encode(), "old.json"))
    drift = report.stacks[0].drift
    assert drift
    assert (drift.added, drift.removed, drift.unchanged) == (("m3",), ("m0",), 0)
    assert drift.changed["m1"].largest == pytest.approx(1.0991, abs=1e-4)
    assert drift.changed["m2"].described == ("note",)
    assert [(each.row, each.text) for each in report.findings] == [
        ("m0", "the row is gone"),
        ("m1", "T(128, 128) changed by +9.91%, the most of 3 points"),
        ("m2", "note changed"),
    ]


def test_an_older_version_without_a_name_is_compared_all_the_same() -> None:
    bare = table()["stacks"]["mine"]["models"]
    assert found(table(), bare) == []
    assert found(table({"accelerators": 2}), bare) == [("warning", "drift", "accelerators changed")]


def moved(new: dict[str, Any], old: dict[str, Any]) -> Change:
    report = check_table(json.dumps(table(new)).encode(), "n.json", (json.dumps(table(old)).encode(), "o.json"))
    drift = report.stacks[0].drift
    assert drift
    return drift.changed["m0"]


def test_drift_is_not_asked_where_both_versions_only_extrapolate() -> None:
    longer = prompts(p1=0.021, p64=0.022, p512=0.03, p1024=0.05, p8192=0.5)
    change = {"runtime_per_output_token": 0.022}
    assert [ratio is not None for ratio in moved(change, {}).ratios] == [True, True, True, False, False]
    assert all(ratio is not None for ratio in moved(change | longer, {}).ratios)
    assert all(ratio is not None for ratio in moved(change, longer).ratios)


def test_a_change_that_shows_at_no_point_is_told_all_the_same() -> None:
    short, shorter = prompts(p1=0.021, p600=0.03), prompts(p1=0.021, p600=0.031)
    assert moved(shorter, short).text == (
        "T(512, 32) changed by +0.13%, the most of 3 points; F(600) changed by +3.33%, the most of all profiled sizes"
    )
    peak = prompts(p1=0.02, p60=0.03, p64=0.03, p512=0.04)
    told = moved(peak, peak | prompts(p1=0.02, p60=0.033, p64=0.03, p512=0.04))
    assert (told.moved, told.knot) == (True, (60, pytest.approx(1 / 1.1)))
    assert told.text == "F(60) changed by -9.09%, the most of all profiled sizes"
    beyond = moved({"quadratic": [0, 1e-5, 0]}, {"quadratic": [0, 2e-5, 0]})
    assert (beyond.moved, beyond.text) == (False, "coefficients changed, though no runtime that was compared")


def test_stacks_of_other_names_are_compared_only_where_each_file_holds_one() -> None:
    here, there = table(), table({"accelerators": 2})
    there["stacks"]["other"] = there["stacks"].pop("mine")
    assert found(here, there) == [("warning", "drift", "accelerators changed")]
    both = table()
    both["stacks"]["another"] = both["stacks"]["mine"]
    nothing = "nothing was compared with the older version, no stack has the same name in both: "
    assert found(both, there) == [("warning", "drift", f"{nothing}another, mine here, other there")]
    assert found(there, both) == [("warning", "drift", f"{nothing}other here, mine, another there")]


def test_a_stack_that_is_gone_is_told() -> None:
    old = table()
    old["stacks"]["other"] = old["stacks"]["mine"]
    assert found(table(), old) == [("warning", "drift", "the stack is gone")]


@given(stacks(), stacks())
def test_whatever_can_be_read_can_be_checked(new: Stack, old: Stack) -> None:
    old_text = json.dumps({"stacks": {"any": stack_to_json(old)}}, allow_nan=False).encode()
    report = check_table(json.dumps({"stacks": {"any": stack_to_json(new)}}).encode(), "new", (old_text, "old"))
    assert report.unreadable is None
    assert all("\n" not in each.text for each in report.findings)


# --- the command


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    status = main(["check", *arguments])
    said = capsys.readouterr()
    return status, said.out, said.err


def write(folder: Path, name: str, content: Any) -> str:
    (folder / name).write_text(content if isinstance(content, str) else json.dumps(content))
    return str(folder / name)


def test_without_a_table_all_shipped_ones_are_checked(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capsys)
    assert status == 0
    assert [line for line in out.splitlines() if " known violations" in line] == [
        "0 errors, 0 warnings, 15 known violations (--verbose lists them)",
        "0 errors, 0 warnings, 20 known violations (--verbose lists them)",
        "0 errors, 0 warnings, 0 known violations",
        "0 errors, 0 warnings, 45 known violations (--verbose lists them)",
    ]
    assert [line for line in out.splitlines() if line.startswith("known")][:2] == [
        "known    19 of 19 rows say nothing of their error (fit_error, intervals), as published",
        "known    F falls at 14 places, as published",
    ]


def test_known_violations_are_listed_if_asked(capsys: pytest.CaptureFixture[str]) -> None:
    lines = run(capsys, "--verbose", "v100-megatron")[1].splitlines()
    assert sum(line.startswith("known ") for line in lines) == 45
    assert "known    openai/davinci: F falls from 0.117 s at 32 prompt tokens to 0.082 s at 64" in lines
    assert lines[-1] == "0 errors, 0 warnings, 45 known violations"
    told = json.loads(run(capsys, "--json", "v100-megatron")[1])
    assert len(told["tables"][0]["findings"]) == told["known"] == 45


def test_the_status_tells_errors_from_warnings(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    warned = write(tmp_path, "w.json", table({"provenance": None}))
    status, out, err = run(capsys, warned)
    assert (status, err) == (0, "")
    assert out.splitlines() == [
        f"{warned}: mine: 1 row, prompts of 1 to 1024 tokens",
        "warning  1 of 1 rows do not say their provenance: taken as measured",
        "0 errors, 1 warning, 0 known violations",
    ]
    status, out, _ = run(capsys, write(tmp_path, "e.json", table({"overhead": 99})))
    assert (status, "error    m0: overhead 99 s: are these milliseconds?" in out.splitlines()) == (1, True)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("{", "line 1, column 2: not valid JSON"),
        (
            table({"runtime_per_output_token": -1}),
            "$.stacks.mine.models.m0.runtime_per_output_token: expected a number",
        ),
        (table({"speed": 1}), "$.stacks.mine.models.m0.speed: expected one of the keys"),
    ],
    ids=["no JSON", "negative", "unknown key"],
)
def test_what_is_no_table_is_an_error_found(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, content: Any, told: str
) -> None:
    status, out, err = run(capsys, write(tmp_path, "t.json", content))
    assert (status, err) == (1, "")
    assert told in out.splitlines()[0]
    assert out.splitlines()[1] == "1 error, 0 warnings, 0 known violations"


def test_json_holds_everything(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    new = write(tmp_path, "n.json", table({}, {"runtime_per_output_token": 0.022}))
    status, out, _ = run(capsys, "--json", new, "--against", write(tmp_path, "o.json", table({}, {})))
    assert status == 0
    told = json.loads(out)
    assert {key: told[key] for key in ("errors", "warnings", "known")} == {"errors": 0, "warnings": 1, "known": 0}
    [checked] = told["tables"]
    assert checked["table"] == new
    assert [(each["level"], each["code"], each["stack"], each["row"]) for each in checked["findings"]] == [
        ("warning", "drift", "mine", "m1")
    ]
    drift = checked["stacks"]["mine"]["drift"]
    assert (drift["added"], drift["removed"], list(drift["changed"]), drift["unchanged"]) == ([], [], ["m1"], 1)
    assert len(drift["points"]) == len(drift["changed"]["m1"]["ratios"])


def test_the_older_version_is_summed_up(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    old = write(tmp_path, "old.json", table())
    _, out, _ = run(capsys, write(tmp_path, "new.json", table({}, {})), "--against", old)
    assert (
        "against the older version: 1 row added (m1), 0 removed, 0 changed (0 in their runtimes), 1 as they were" in out
    )
    renamed = table()
    renamed["stacks"]["was"] = renamed["stacks"].pop("mine")
    _, out, _ = run(capsys, str(tmp_path / "new.json"), "--against", write(tmp_path, "was.json", renamed))
    assert "against the older version, there called was: 1 row added (m1)" in out
    del renamed["stacks"]["was"]["models"]["m0"]["provenance"]
    renamed["stacks"]["x"] = renamed["stacks"]["was"]
    _, out, _ = run(capsys, write(tmp_path, "two.json", renamed), "--against", str(tmp_path / "new.json"))
    assert (
        "warning  nothing was compared with the older version, no stack has the same name in both: was, x here" in out
    )


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["none.json"], "none.json: No such file or directory"),
        (["a100-megatron", "--against", "none.json"], "none.json: No such file or directory"),
        (["a100-megatron", "api-2022", "--against", "a100-megatron"], "--against OLD goes with one TABLE"),
        (["--against", "a100-megatron"], "--against OLD goes with one TABLE"),
    ],
    ids=["no file", "no old file", "two tables", "all tables"],
)
def test_wrong_use_is_one_clear_line(capsys: pytest.CaptureFixture[str], arguments: list[str], told: str) -> None:
    assert run(capsys, *arguments) == (2, "", f"profiler check: {told}\n")
