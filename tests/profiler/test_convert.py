"""`profiler convert`: there and back again, and what is lost on the way."""

import json
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given

from profiler.cli import main
from profiler.convert import choose_stack, from_helm, helm_text, not_held
from profiler.tables import table_text
from stream.coefficients import load_tables
from stream.table_format import Stack, TableError, parse_table, read_table
from tests.profiler.any_stack import stacks

GOLDEN = Path(__file__).parents[1] / "golden"
SHIPPED = {"a100-megatron": "helm_idealized_table.json", "api-2022": "helm_denoised_table.json"}


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    status = main(["convert", *arguments])
    said = capsys.readouterr()
    return status, said.out, said.err


def read_helm(text: str) -> Stack:
    [stack] = parse_table(text.encode(), "helm.json").stacks
    return stack


# --- laws


@given(stacks(helm=True))
def test_what_helms_form_holds_comes_back_unchanged(stack: Stack) -> None:
    said = {name: getattr(stack, name) for name in ("hardware", "date", "source", "kind")}
    back = from_helm(read_helm(helm_text(stack)).rows, stack.name, **said)
    assert back == stack
    assert list(not_held(replace(stack, hardware=None, date=None, source=None))) == []


@given(stacks(helm=True))
def test_helms_table_comes_back_unchanged(stack: Stack) -> None:
    text = helm_text(stack)
    [ours] = parse_table(table_text([from_helm(read_helm(text).rows, "any")]).encode(), "ours.json").stacks
    assert helm_text(ours) == text


@given(stacks())
def test_coefficients_of_any_stack_are_kept_but_for_what_is_said(stack: Stack) -> None:
    back = read_helm(helm_text(stack)).rows
    for name, row in stack.rows.items():
        assert back[name].coefficients == replace(row.coefficients, context=0.0, quadratic=None)
    lost = " ".join(not_held(stack))
    held = {
        "context_seconds_per_token2": lambda row: row.coefficients.context,
        "quadratic": lambda row: row.coefficients.quadratic,
        "provenance": lambda row: row.provenance != "measured",
        "proxy_of": lambda row: row.proxy_of is not None,
        "fit_error": lambda row: row.fit_error is not None,
        "intervals": lambda row: row.intervals is not None,
        "accelerators": lambda row: row.accelerators is not None,
    }
    for key, has in held.items():
        assert (key in lost) == any(map(has, stack.rows.values())), key


# --- HELM's own tables


@pytest.mark.parametrize(("stack", "golden"), SHIPPED.items())
def test_the_shipped_tables_become_helms_own(capsys: pytest.CaptureFixture[str], stack: str, golden: str) -> None:
    status, out, _ = run(capsys, stack, "--to", "helm")
    assert (status, out) == (0, (GOLDEN / golden).read_text() + "\n")


def test_what_is_lost_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "a100-megatron", "--to", "helm")[2].splitlines() == [
        f"profiler convert: warning: HELM's form cannot hold {what}"
        for what in (
            "hardware, software, date, source, note, dollars_per_accelerator_hour of the stack",
            "proxy_of of 4 rows, accelerators of 16 rows",
        )
    ]
    told = run(capsys, "h100-predicted", "--to", "helm")[2]
    assert "cannot hold context_seconds_per_token2 of" in told
    assert "(predicted): they will look measured" in told


def test_the_weight_of_gamma_is_told() -> None:
    numbers = replace(load_tables().stacks["api-2022"].rows["openai/ada"].coefficients, context=1e-5)
    row = replace(load_tables().stacks["api-2022"].rows["openai/ada"], coefficients=numbers)
    [text] = not_held(Stack("s", MappingProxyType({"openai/ada": row})))
    further = 511 * (2 * 1536 + 512) / 2 * 1e-5
    whole = numbers.overhead + numbers.prompt_seconds[-1] + 511 * numbers.per_output_token + further
    assert text == (
        "context_seconds_per_token2 of openai/ada: runtimes at 1536 prompt and 512 output tokens are up to"
        f" {further / whole:.1%} shorter"
    )


@pytest.mark.parametrize("golden", SHIPPED.values())
def test_helms_own_tables_come_back_byte_for_byte(
    capsys: pytest.CaptureFixture[str], golden: str, tmp_path: Path
) -> None:
    ours = tmp_path / "ours.json"
    assert run(capsys, str(GOLDEN / golden), "--to", "trueclock", "--stack", "x", "--out", str(ours))[0] == 0
    assert run(capsys, str(ours), "--to", "helm")[1] == (GOLDEN / golden).read_text() + "\n"


# --- into our form


def test_a_table_of_helms_gets_a_name_and_an_origin(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    said = {"hardware": "an A100", "software": "Megatron", "date": "2023", "source": "HELM", "note": "n"}
    options = [part for name, text in said.items() for part in (f"--{name}", text)]
    helm = str(GOLDEN / "helm_denoised_table.json")
    status, out, err = run(
        capsys, helm, "--to", "trueclock", "--stack", "api", *options, "--kind=denoised", "--provenance=assumed"
    )
    assert (status, err) == (0, "")
    [stack] = parse_table(out.encode(), "out").stacks
    assert (stack.name, stack.kind, {name: getattr(stack, name) for name in said}) == ("api", "denoised", said)
    assert {row.provenance for row in stack.rows.values()} == {"assumed"}


def test_a_stack_joins_those_of_the_file(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = str(tmp_path / "both.json")
    for stack, golden in SHIPPED.items():
        run(capsys, str(GOLDEN / golden), "--to", "trueclock", "--stack", stack, "--out", out)
    assert [stack.name for stack in read_table(Path(out)).stacks] == list(SHIPPED)
    status, _, err = run(capsys, out, "--to", "helm")
    assert (status, err) == (
        2,
        f"profiler convert: {out}: holds several stacks: choose one with --stack: a100-megatron, api-2022\n",
    )
    to_file = tmp_path / "helm.json"
    assert run(capsys, out, "--to", "helm", "--stack", "api-2022", "--out", str(to_file))[1] == ""
    assert to_file.read_text() == (GOLDEN / SHIPPED["api-2022"]).read_text() + "\n"


def test_a_silent_origin_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    helm = str(GOLDEN / "helm_denoised_table.json")
    assert run(capsys, helm, "--to", "trueclock", "--stack", "x", "--date", "2022")[2] == (
        "profiler convert: warning: the stack does not say where it comes from: --hardware, --software, --source\n"
    )


def test_the_stack_wanted_must_be_there() -> None:
    with pytest.raises(TableError, match="no stack 'x': it holds api-2022"):
        choose_stack([load_tables().stacks["api-2022"]], "x", "t.json")


HELM = "tests/golden/helm_denoised_table.json"
WRONG: dict[str, tuple[list[str], str]] = {
    "no form": (["a100-megatron"], "the following arguments are required: --to"),
    "another form": (["a100-megatron", "--to", "x"], "argument --to: invalid choice: 'x'"),
    "no file": (["none.json", "--to", "helm"], "none.json: cannot be read: No such file or directory"),
    "no name": ([HELM, "--to", "trueclock"], "missing: --stack NAME (HELM's form does not name its stack)"),
    "ours already": (["api-2022", "--to", "trueclock", "--stack", "x"], "is in our form already"),
    "hardware for HELM": (
        ["api-2022", "--to", "helm", "--hardware", "x"],
        "--hardware goes with --to trueclock: HELM's form has no place for it",
    ),
}


@pytest.mark.parametrize(("arguments", "told"), WRONG.values(), ids=WRONG)
def test_wrong_use_is_one_clear_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, arguments: list[str], told: str
) -> None:
    monkeypatch.chdir(Path(__file__).parents[2])
    try:
        status: Any = main(["convert", *arguments])
    except SystemExit as wrong:
        status = wrong.code
    said = capsys.readouterr()
    assert (status, said.out) == (2, "")
    assert told in said.err
    assert said.err.startswith("profiler convert: ")
    assert said.err.count("\n") == 1


def test_the_output_is_diffable_json(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capsys, str(GOLDEN / "helm_denoised_table.json"), "--to", "trueclock", "--stack", "x")
    assert '          "overhead": 0.237,\n' in out
    assert list(json.loads(out)["stacks"]) == ["x"]
