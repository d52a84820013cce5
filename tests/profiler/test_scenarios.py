"""Scenarios read from CSV files: what they hold, what tables say of them, and one clear line for whatever is wrong."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler.cli import main
from profiler.report.apis import API_SCENARIOS
from profiler.report.capability import PAPER_SCENARIOS
from profiler.report.scenarios import Scenario, ScenariosError, costed, mean_seconds, read_scenarios
from stream.coefficients import DEFAULT_STACK, load_tables

TABLES = load_tables()
HEAD = "model,scenario,prompt_tokens,output_tokens,capability"


def written(folder: Path, text: str) -> Path:
    path = folder / "mine.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_file_is_read_in_its_order_and_an_empty_cell_is_unknown(tmp_path: Path) -> None:
    text = f"note,{HEAD},raw_seconds\n,a,s1,100,2.5,0.5,\n\n,b,s1,,,,1.25\n"
    assert read_scenarios(written(tmp_path, text)) == (
        Scenario("a", "s1", 100, 2.5, 0.5),
        Scenario("b", "s1", raw_seconds=1.25),
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "line 1: no column model, scenario, capability: the file is empty"),
        ("a,b\n", "line 1: no column model, scenario, capability: found a, b"),
        ("model,scenario,capability\n", "line 1: no column prompt_tokens, output_tokens: found model"),
        (f"{HEAD},capability\n", "line 1: column capability is there twice"),
        (f"{HEAD}\n", "line 2: expected a scenario, found the end of the file"),
        (f"{HEAD}\na,s,1,1\n", "line 2: expected 5 columns, found 4"),
        (f"{HEAD}\na,s,1,1,1\n ,s,1,1,1\n", "line 3: model: expected a name, found nothing"),
        (f"{HEAD}\na,,1,1,1\n", "line 2: scenario: expected a name, found nothing"),
        (f"{HEAD}\na,s,1,1,good\n", "line 2: capability: expected a number, 0 or more, found 'good'"),
        (f"{HEAD}\na,s,-1,1,1\n", "line 2: prompt_tokens: expected a number, 0 or more, found '-1'"),
        (f"{HEAD}\na,s,1,nan,1\n", "line 2: output_tokens: expected a number, 0 or more, found 'nan'"),
        (f"{HEAD}\na,s,1,inf,1\n", "line 2: output_tokens: expected a number, 0 or more, found 'inf'"),
        (f"{HEAD},raw_seconds\na,s,1,1,1,0\n", "line 2: raw_seconds: expected seconds, more than 0, found '0'"),
        (f'{HEAD}\n"a\nb",s,1,1,x\n', "line 3: capability: expected a number"),
        (f"{HEAD}\n{'a' * 200_000},s,1,1,1\n", "line 2: not readable as CSV: field larger than field limit"),
    ],
    ids=lambda value: value[:40].replace("\n", "|") if isinstance(value, str) else None,
)
def test_what_is_wrong_is_said_in_one_line(text: str, said: str, tmp_path: Path) -> None:
    path = written(tmp_path, text)
    with pytest.raises(ScenariosError) as error:
        read_scenarios(path)
    assert str(error.value).startswith(f"{path}: {said}")
    assert "\n" not in str(error.value)


def test_what_is_no_text_or_not_there_is_said_too(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    with pytest.raises(ScenariosError, match="cannot be read: No such file"):
        read_scenarios(path)
    path.write_bytes(HEAD.encode() + b"\n\xff,s,1,1,1\n")
    with pytest.raises(ScenariosError, match=r"byte \d+: expected UTF-8 text"):
        read_scenarios(path)


def test_the_command_says_it_and_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path, f"{HEAD}\na,s,1,1,good\n")
    out = tmp_path / "out"
    assert main(["report", "--only", "capability", "--csv", str(path), "--out", str(out)]) == 2
    said = capsys.readouterr().err
    assert said == f"profiler report: {path}: line 2: capability: expected a number, 0 or more, found 'good'\n"
    assert not out.exists()


@given(st.integers(0, 4000), st.integers(0, 500), st.integers(0, 500), st.floats(0, 1))
def test_the_mean_request_takes_the_mean_of_the_requests(prompt: int, one: int, other: int, share: float) -> None:
    """T is straight in output tokens from the first one on."""
    row = TABLES.row(DEFAULT_STACK, "openai/davinci")
    assert row is not None
    runtime = TABLES.runtime(DEFAULT_STACK, row)
    few, many = max(one, 1), max(other, 1)
    mean = (1 - share) * few + share * many
    expected = (1 - share) * runtime(prompt, few) + share * runtime(prompt, many)
    assert mean_seconds(runtime, prompt, mean) == pytest.approx(expected)


def test_what_a_scenario_costs_is_what_its_mean_request_costs() -> None:
    asked = [Scenario("davinci", "s", 512, 10, 0.5), Scenario("davinci", "s", 512, 10.5, 0.5)]
    whole, between = costed(TABLES, DEFAULT_STACK, asked)
    row = TABLES.row(DEFAULT_STACK, "davinci")
    assert row is not None
    assert whole.row == "openai/davinci"
    assert row.accelerators == 8
    seconds = TABLES.runtime(DEFAULT_STACK, row)(512, 10)
    assert whole.idealized_seconds == whole.table_seconds == pytest.approx(seconds)
    assert whole.dollars == pytest.approx(seconds * 8 * 4.096 / 3600)
    costs = TABLES.costs(DEFAULT_STACK, row)
    assert costs is not None
    assert costs.dedicated is not None
    assert whole.joules == pytest.approx(costs.dedicated(512, 10).energy_joules)
    joules = [costs.dedicated(512, output).energy_joules for output in (10, 11)]
    assert between.joules == pytest.approx(sum(each for each in joules if each is not None) / 2)
    assert whole.denoised_seconds is not None
    assert not whole.told
    assert not whole.extrapolated


def test_where_the_tables_cannot_tell_the_file_does() -> None:
    asked = [
        Scenario("davinci", "s", 4096, 10, 0.5, denoised_seconds=0.25, idealized_seconds=2.0),
        Scenario("davinci", "s", capability=0.5, idealized_seconds=2.0),
        Scenario("nobody's", "s", 100, 1, 0.5),
    ]
    own, without_tokens, unknown = costed(TABLES, DEFAULT_STACK, asked)
    assert (own.idealized_seconds, own.denoised_seconds, own.told, own.extrapolated) == (2.0, 0.25, True, True)
    assert own.table_seconds is not None
    assert (without_tokens.idealized_seconds, without_tokens.table_seconds, without_tokens.joules) == (2.0, None, None)
    assert without_tokens.dollars == pytest.approx(2.0 * 8 * 4.096 / 3600)
    assert (unknown.row, unknown.idealized_seconds, unknown.dollars, unknown.told) == (None, None, None, False)


def test_the_shipped_files_hold_what_was_published() -> None:
    scenarios, ten = read_scenarios(API_SCENARIOS), read_scenarios(PAPER_SCENARIOS)
    assert (len(scenarios), len({each.scenario for each in scenarios})) == (1181, 170)
    assert len({each.model for each in ten}) == 10
    assert len(ten) == 40
    assert all(None not in (each.capability, each.raw_seconds, each.idealized_seconds) for each in ten)
