"""Raw samples: what makes a setup another, what is gone on with, and what a file of runs says of a model."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from profiler.cli import main
from profiler.journal import Journal, JournalError, read_journal
from profiler.machine import Run
from profiler.measured import Measured, SamplesError
from profiler.runs import WHOLE, Runs, Setup, read_runs, whole_seconds
from profiler.samples import read_samples
from profiler.spec import named
from stream.table_format import read_table
from tests.profiler.made_up import Truth, setup

LLAMA, MIXED, LATENT = map(named, ("llama-3.1-8b", "qwen3-30b-a3b", "deepseek-v3"))
PLAIN = setup(architecture=LLAMA, dtype="bfloat16")
SESSION = {"trueclock": "0", "others_share": 0.1}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "runs.jsonl"


def keep(file: Path, of: Setup, *runs: tuple[int, int, float, float], layers: int = WHOLE) -> None:
    with Journal(file) as journal:
        kept = Runs(journal, of, SESSION)
        for prompt, output, first, seconds in runs:
            kept.add((prompt, output), Run(prompt, output, first, seconds), layers)


def rows(measured: Measured) -> list[tuple[int, int, float]]:
    return list(zip(measured.prompt.tolist(), measured.output.tolist(), measured.seconds.tolist(), strict=True))


# --- setups


@pytest.mark.parametrize(
    "changed",
    [
        {"model": "other"},
        {"stack": "other"},
        {"hardware": {"name": "box", "driver": "580"}},
        {"software": {"version": "2"}},
        {"dtype": "float16"},
        {"tensor_parallel": 2},
        {"architecture": None},
        {"architecture": replace(LLAMA, layers=33)},
        {"architecture": MIXED},
        {"depths": {4: -4.0, 8: 5.0}},
    ],
    ids="-".join,
)
def test_what_decides_a_runtime_makes_another_setup(changed: dict[str, Any]) -> None:
    assert replace(PLAIN, **changed).id != PLAIN.id


@pytest.mark.parametrize(
    "changed",
    [
        {"notes": ("its words",)},
        {"architecture": replace(LLAMA, source="elsewhere")},
        {"hardware": dict(reversed(PLAIN.hardware.items()))},
    ],
    ids="-".join,
)
def test_words_about_it_do_not(changed: dict[str, Any]) -> None:
    assert replace(PLAIN, **changed).id == PLAIN.id
    assert len(PLAIN.id) == 12


@pytest.mark.parametrize(
    "of",
    [
        setup(),
        PLAIN,
        setup(architecture=MIXED, notes=("as it is",), tensor_parallel=4),
        setup(architecture=LATENT, depths={4: -13.25, 8: 14.25}),
    ],
    ids=["unknown", "plain", "experts", "latent"],
)
def test_a_setup_is_read_as_it_was_written(file: Path, of: Setup) -> None:
    for layers in of.depths:
        keep(file, of, (16, 9, 0.1, 0.5), layers=layers)
    (entry,) = (each for each in read_journal(file) if each["kind"] == "setup")
    assert (entry["setup"], entry["format"]) == (of.id, 1)
    (found,) = read_runs(file)
    described = (found.hardware, found.model, found.tensor, found.architecture)
    assert described == (of.stack, of.model, of.tensor_parallel, of.architecture)


# --- going on


def test_what_is_in_the_file_is_there_after_a_restart_and_its_setup_is_told_once(file: Path) -> None:
    keep(file, PLAIN, (16, 9, 0.1, 0.5), (16, 9, 0.1, 0.6))
    keep(file, setup("other"), (16, 9, 0.3, 0.9))
    keep(file, PLAIN)  # a process that had nothing to add
    keep(file, PLAIN, (1, 1, 0.2, 0.2))
    with Journal(file) as journal:
        found = Runs(journal, PLAIN, SESSION)
        assert found.at((16, 9)) == [Run(16, 9, 0.1, 0.5), Run(16, 9, 0.1, 0.6)]
        assert (found.at((1, 1)), found.at((2, 2)), found.number) == ([Run(1, 1, 0.2, 0.2)], [], 3)
        assert found.points() == [(16, 9), (1, 1)]
    kinds = [(entry["kind"], entry["setup"] == PLAIN.id) for entry in read_journal(file)]
    assert kinds == [
        *(("setup", True), ("session", True), ("run", True), ("run", True)),
        *(("setup", False), ("session", False), ("run", False)),
        *(("session", True), ("run", True)),
    ]
    assert [entry["number"] for entry in read_journal(file) if entry["kind"] == "run"] == [0, 1, 0, 0]


def test_an_entry_says_when_and_what_else_is_known(file: Path) -> None:
    with Journal(file) as journal:
        Runs(journal, PLAIN, SESSION).add((1, 1), Run(1, 1, 0.1, 0.1), clocks={"sm_mhz": 1980})
    *_, session, run = read_journal(file)
    assert {key: session[key] for key in SESSION} == SESSION
    assert run["clocks"] == {"sm_mhz": 1980}
    assert run["at"] >= session["at"] > "2020-01-01T00:00:00.000+00:00"
    assert list(run)[:2] == ["kind", "setup"]


def test_a_run_that_could_not_be_kept_is_not_there(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Journal(file) as journal:
        runs = Runs(journal, PLAIN, SESSION)
        runs.add((1, 1), Run(1, 1, 0.1, 0.1))

        def full(_: Any) -> None:
            raise JournalError("full")

        monkeypatch.setattr(journal, "append", full)
        for point in ((1, 1), (2, 1)):
            with pytest.raises(JournalError):
                runs.add(point, Run(*point, 0.1, 0.1))
        assert (runs.number, runs.points()) == (1, [(1, 1)])


# --- samples


def test_a_run_tells_two_runtimes_and_one_of_one_token_tells_one(file: Path) -> None:
    keep(file, PLAIN, (16, 9, 0.1, 0.5), (16, 1, 0.11, 0.11), (16, 9, 0.1, 0.6))
    (found,) = read_runs(file)
    assert sorted(rows(found)) == sorted([(16, 1, 0.1), (16, 1, 0.11), (16, 1, 0.1), (16, 9, 0.5), (16, 9, 0.6)])
    assert (found.batch.tolist(), found.scale) == ([1] * 5, 1.0)
    assert read_samples(file)[0].seconds.tolist() == found.seconds.tolist()


def test_setups_are_told_apart_in_the_order_in_which_they_began(file: Path) -> None:
    keep(file, setup("a"), (1, 2, 0.1, 0.2))
    keep(file, setup("none-yet"))
    keep(file, setup("b"), (1, 2, 0.3, 0.4))
    keep(file, setup("a"), (1, 2, 0.1, 0.21))
    assert [(each.model, len(each.prompt)) for each in read_runs(file)] == [("a", 4), ("b", 2)]


DEPTHS = {4: -4.0, 8: 5.0}


def test_several_depths_are_samples_of_the_whole(file: Path) -> None:
    truth = Truth()
    of = setup(depths=DEPTHS)
    for layers in DEPTHS:
        for factor in (1.0, 0.99, 1.01):
            first, seconds = truth.first(64, layers), truth.seconds(64, 9, layers)
            keep(file, of, (64, 9, first * factor, seconds * factor), layers=layers)
    keep(file, of, (128, 9, 1.0, 2.0), layers=4)  # not yet at the other depth
    (found,) = read_runs(file)
    first, seconds = truth.first(64, 24), truth.seconds(64, 9, 24)
    factors = (1.0, 0.99, 1.01)
    assert [row[:2] for row in rows(found)] == [(64, 1)] * 3 + [(64, 9)] * 3
    assert found.seconds == pytest.approx([unit * factor for unit in (first, seconds) for factor in factors])
    with Journal(file) as journal:
        runs = Runs(journal, of, SESSION)
        assert (runs.points(), runs.number) == ([(64, 9)], 7)
        again = runs.samples()
    assert again is not None
    assert rows(again) == rows(found)


def test_noise_makes_the_whole_no_faster_than_what_ran(file: Path) -> None:
    of = setup(depths=DEPTHS)
    keep(file, of, (64, 9, 0.5, 0.9), layers=4)
    keep(file, of, (64, 9, 0.3, 0.8), layers=8)
    assert rows(read_runs(file)[0]) == [(64, 1, 0.5), (64, 9, 0.9)]
    assert whole_seconds([-4.0, 5.0], [1.0, 2.0]) == 6.0
    assert whole_seconds([-4.0, 5.0], [2.0, 1.0]) == 2.0


def test_a_point_that_was_asked_for_is_found_again_though_its_tokens_are_others(file: Path) -> None:
    with Journal(file) as journal:
        runs = Runs(journal, PLAIN, SESSION)
        runs.add((512, 33), Run(509, 30, 0.1, 0.5))
        runs.add((509, 30), Run(509, 30, 0.1, 0.6))
    assert ["asked" in entry for entry in read_journal(file) if entry["kind"] == "run"] == [True, False]
    with Journal(file) as journal:
        runs = Runs(journal, PLAIN, SESSION)
        assert runs.at((512, 33)) == [Run(509, 30, 0.1, 0.5)]
        assert runs.points() == [(512, 33), (509, 30)]
    assert {row[:2] for row in rows(read_runs(file)[0])} == {(509, 1), (509, 30)}


def test_watts_are_joules_over_seconds_of_each_phase(file: Path) -> None:
    with Journal(file) as journal:
        runs = Runs(journal, PLAIN, SESSION)
        assert runs.powers() == {}
        runs.add_power("prompt", (1024, 1), 2.0, 1000.0)
        runs.add_power("prompt", (1024, 1), 1.0, 800.0, layers=8)
        runs.add_power("output", (16, 129), 2.0, 400.0)
        Runs(journal, setup("other"), SESSION).add_power("output", (16, 129), 1.0, 1.0)
        expected = {"prompt": 600.0, "output": 200.0}
        assert runs.powers() == expected
    with Journal(file) as journal:
        assert Runs(journal, PLAIN, SESSION).powers() == expected


# --- what is wrong with a file

GOOD: dict[str, Any] = {"prompt_tokens": 1, "output_tokens": 2, "first_seconds": 0.1, "seconds": 0.2}
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no-tokens": ({**GOOD, "output_tokens": None}, "Expected `int`, got `null` - at `$.output_tokens`"),
    "a-name-for-a-number": ({**GOOD, "prompt_tokens": "1"}, "Expected `int`, got `str` - at `$.prompt_tokens`"),
    "no-token": ({**GOOD, "prompt_tokens": 0}, "0 + 2 tokens in 0.2 s, the first after 0.1 s"),
    "half-a-token": ({**GOOD, "prompt_tokens": 1.5}, "Expected `int`, got `float` - at `$.prompt_tokens`"),
    "backwards": ({**GOOD, "seconds": 0.05}, "1 + 2 tokens in 0.05 s, the first after 0.1 s"),
    "no-time": ({**GOOD, "first_seconds": 0}, "1 + 2 tokens in 0.2 s, the first after 0.0 s"),
    "no-number": ({**GOOD, "seconds": float("nan")}, "1 + 2 tokens in nan s, the first after 0.1 s"),
    "for-ever": ({**GOOD, "seconds": float("inf")}, "1 + 2 tokens in inf s, the first after 0.1 s"),
    "half-a-layer": ({**GOOD, "layers": 1.5}, "Expected `int`, got `float`"),
    "asked-for-one": ({**GOOD, "asked": [1]}, "Expected `array` of length 2, got 1"),
    "of-no-setup": ({**GOOD, "setup": "nobody"}, "its setup 'nobody' is not above it"),
    "without-a-setup": ({**GOOD, "setup": None}, "Expected `str`, got `null`"),
    "power-of-nothing": ({"kind": "power"}, "Object missing required field `phase`"),
    "power-in-no-time": ({"kind": "power", "phase": "prompt", "seconds": 0, "joules": 1}, "1.0 J in 0.0 s"),
    "of-tomorrow": ({"kind": "setup", **PLAIN.record(), "format": 2}, "format 2: this version reads 1"),
    "a-layer-in-words": (
        {"kind": "setup", "format": 1, **PLAIN.record(), "tensor_parallel": "two"},
        "Expected `int`, got `str` - at `$.tensor_parallel`",
    ),
}


@pytest.mark.parametrize(("entry", "why"), WRONG.values(), ids=WRONG)
def test_a_malformed_entry_is_one_line_to_all_who_read_it(
    file: Path, entry: dict[str, Any], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    keep(file, PLAIN, (16, 9, 0.1, 0.5), (16, 1, 0.1, 0.1))
    with file.open("a") as more:
        more.write(json.dumps({"kind": "run", "setup": PLAIN.id, **entry}) + "\n")
    before, kind = file.read_bytes(), entry.get("kind", "run")
    expected = f"{file}: line 5: no {kind} as measuring writes it: {why}"
    with pytest.raises(SamplesError) as unread:
        read_samples(file)
    assert str(unread.value) == expected
    with Journal(file) as journal, pytest.raises(JournalError) as refused:
        Runs(journal, PLAIN, SESSION)
    assert str(refused.value) == expected
    assert main(["fit", str(file)]) == 2
    assert capsys.readouterr() == ("", f"profiler fit: {expected}\n")
    assert file.read_bytes() == before


def test_entries_of_kinds_to_come_are_passed_over(file: Path) -> None:
    keep(file, PLAIN, (16, 9, 0.1, 0.5))
    with file.open("a") as more:
        more.write('{"kind":"weather","setup":7}\n')
    assert len(rows(read_runs(file)[0])) == 2


@pytest.mark.parametrize("begun", [False, True], ids=["empty", "without-runs"])
def test_a_file_without_runs_is_none(file: Path, begun: bool) -> None:
    if begun:
        keep(file, PLAIN)
    else:
        file.touch()
    with pytest.raises(SamplesError, match=r"runs\.jsonl: no runs in it$"):
        read_runs(file)


# --- `profiler fit`


def test_fit_reads_a_file_of_runs_torn_or_not(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    truth, table = Truth(), tmp_path / "table.json"
    points = [(prompt, output) for prompt in (1, 64, 256, 1024) for output in (9, 129)]
    keep(file, setup(), *((*at, truth.first(at[0], 24), truth.seconds(*at, 24)) for at in points))
    with file.open("ab") as torn:
        torn.write(b'{"kind":"run","set')
    assert main(["fit", str(file), "--out", str(table)]) == 0
    (stack,) = read_table(table).stacks
    row = stack.rows["made-up"]
    assert (stack.name, row.provenance) == ("box-stack", "measured")
    assert row.coefficients.per_output_token == pytest.approx(truth.beta, rel=0.01)
    assert row.coefficients.prompt_seconds[-1] == pytest.approx(truth.first(1024, 24), rel=0.01)
    assert row.fit is not None
    assert row.fit.points == 16
    assert file.read_bytes().endswith(b'"set'), "reading changes nothing"
    assert "made-up" in capsys.readouterr().out
