"""Tables are written so that they can be read again and compared line by line, and merged without losing anything."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler.tables import rounded, row_record, table_text, tables_text, write_stack
from stream.flops import Flops
from stream.runtime import Coefficients
from stream.table_format import Fit, Row, Served, Stack, TableError, Watts, parse_table, read_table

ROOT = Path(__file__).parents[2]
SHIPPED = [path for path in sorted((ROOT / "stream/tables").glob("*.json")) if path.name != "aliases.json"]
NUMBERS = Coefficients(0.02, (1, 64), (0.021, 0.03))
FIT = Fit("paper", 9, 0.9, 0.1, 0.3, 1.0)


def stack(name: str = "s", rows: dict[str, float] | None = None, **more: Any) -> Stack:
    made = {model: Row(model, replace(NUMBERS, overhead=overhead)) for model, overhead in (rows or {"a": 0}).items()}
    return Stack(name, made, **more)


@pytest.mark.parametrize("path", SHIPPED, ids=[path.stem for path in SHIPPED])
def test_shipped_tables_have_the_writers_form(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert tables_text(json.loads(text)) == text


seconds = st.floats(0, 1e6)
coefficients = st.builds(
    lambda knots, beta, overhead, gamma, growth: Coefficients(
        beta, tuple(sorted(knots)), tuple(knots[knot] for knot in sorted(knots)), overhead, gamma, growth
    ),
    st.dictionaries(st.integers(1, 10**6), seconds, min_size=1, max_size=5),
    seconds,
    seconds,
    seconds,
    st.none() | st.tuples(seconds, seconds, seconds),
)
texts = st.none() | st.text()
flops = st.builds(Flops, seconds, seconds, seconds) | st.builds(
    Flops, seconds, seconds, seconds, st.integers(1, 9999), seconds
)
watts = st.builds(Watts, seconds, seconds, st.just((0.8, 1.25)), texts)
plain_coefficients = coefficients.map(lambda numbers: replace(numbers, overhead=0.0, quadratic=None))
rows = st.builds(
    Row,
    name=st.just(""),
    coefficients=coefficients,
    provenance=st.sampled_from(["measured", "predicted"]),
    proxy_of=texts,
    fit_error=st.none() | st.floats(0, 1),
    intervals=st.none() | st.just({"level": 0.8, "runtime": [0.9, 1.1]}),
    source=texts,
    note=texts,
    fit=st.none()
    | st.builds(Fit, st.text(min_size=1), st.integers(1, 9999), st.floats(-5, 1), seconds, seconds, seconds),
    accelerators=st.none() | st.integers(1, 64),
    flops=st.none() | flops,
    watts=st.none() | watts,
    served=st.none() | st.builds(Served, st.integers(1, 256), plain_coefficients, st.none() | watts),
)
stacks = st.builds(
    lambda name, named, **more: Stack(name, {each: replace(row, name=each) for each, row in named.items()}, **more),
    st.text(min_size=1),
    st.dictionaries(st.text(), rows, min_size=1, max_size=3),
    hardware=texts,
    software=texts,
    date=texts,
    source=texts,
    note=texts,
    accelerator=texts,
    kind=st.sampled_from(["reference", "denoised"]),
    dollars_per_accelerator_hour=st.none() | st.floats(0, 100),
)


@given(st.lists(stacks, min_size=1, max_size=3, unique_by=lambda each: each.name))
def test_what_is_written_reads_as_it_was(written: list[Stack]) -> None:
    assert parse_table(table_text(written).encode(), "f").stacks == tuple(written)


def test_a_field_has_a_line() -> None:
    row = Row(
        "a",
        NUMBERS,
        fit=FIT,
        fit_error=0.01,
        intervals={"level": 0.8, "runtime": [0.9, 1.1]},
        accelerators=8,
        flops=Flops(2e9, 1e6, 4096.0),
        watts=Watts(300.5, 200.0, (0.8, 1.25)),
        served=Served(32, replace(NUMBERS, per_output_token=0.001)),
    )
    text = table_text([Stack("s", {"a": row}, hardware="H", dollars_per_accelerator_hour=4.096)])
    assert text.splitlines() == [
        "{",
        '  "format": 1,',
        '  "stacks": {',
        '    "s": {',
        '      "hardware": "H",',
        '      "dollars_per_accelerator_hour": 4.096,',
        '      "models": {',
        '        "a": {',
        '          "runtime_per_output_token": 0.02,',
        '          "runtime_for_prompt_tokens": {"1": 0.021, "64": 0.03},',
        '          "provenance": "measured",',
        '          "fit": {"method": "paper", "points": 9, "r2": 0.9, "median_error": 0.1, "p95_error": 0.3, "max_error": 1.0},',
        '          "fit_error": 0.01,',
        '          "intervals": {"level": 0.8, "runtime": [0.9, 1.1]},',
        '          "accelerators": 8,',
        '          "flops": {"per_token": 2000000000, "per_output_token": 1000000, "per_pair": 4096},',
        '          "watts": {"prompt": 300.5, "output": 200.0, "interval": [0.8, 1.25]},',
        '          "served": {"batch": 32, "runtime_per_output_token": 0.001, "runtime_for_prompt_tokens": {"1": 0.021, "64": 0.03}}',
        "        }",
        "      }",
        "    }",
        "  }",
        "}",
    ]


def test_writing_merges_with_what_is_there(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    write_stack(path, stack(rows={"a": 1, "b": 1}, hardware="H", note="old"))
    write_stack(path, stack("other", {"a": 5}))
    write_stack(path, stack(rows={"b": 2, "c": 2}, note="new"))
    found = {each.name: each for each in read_table(path).stacks}
    assert list(found) == ["s", "other"]
    overheads = {name: row.coefficients.overhead for name, row in found["s"].rows.items()}
    assert overheads == {"a": 1, "b": 2, "c": 2}
    assert (found["s"].hardware, found["s"].note) == ("H", "new")
    assert [each.name for each in tmp_path.iterdir()] == ["t.json"]


def test_merging_keeps_what_it_does_not_know(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    row = {**row_record(Row("a", NUMBERS)), "n": 17}  # a baseline's
    path.write_text(json.dumps({"aliases": {"x": "a"}, "stacks": {"s": {"models": {"a": row}}}}))
    write_stack(path, stack(rows={"b": 0}))
    kept = json.loads(path.read_bytes())
    assert list(kept) == ["format", "aliases", "stacks"]
    assert kept["stacks"]["s"]["models"]["a"]["n"] == 17
    assert list(kept["stacks"]["s"]["models"]) == ["a", "b"]


@pytest.mark.parametrize("content", ["", "\n"])
def test_an_empty_file_is_filled(tmp_path: Path, content: str) -> None:
    path = tmp_path / "t.json"
    path.write_text(content)
    path.chmod(0o640)
    write_stack(path, stack())
    assert read_table(path).stacks == (stack(),)
    assert path.stat().st_mode & 0o777 == 0o640


WRONG = [
    ("{", "not valid JSON"),
    (json.dumps({"a": {"runtime_per_output_token": 1, "runtime_for_prompt_tokens": {"1": 1}}}), "without a name"),
    (json.dumps({"format": 3, "stacks": {}}), "the only format"),
]


@pytest.mark.parametrize(("content", "said"), WRONG, ids=[said for _, said in WRONG])
def test_what_is_no_table_of_stacks_is_left_alone(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "t.json"
    path.write_text(content)
    with pytest.raises(TableError, match=said):
        write_stack(path, stack())
    assert path.read_text() == content


def test_what_could_not_be_read_again_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    for wrong in (Stack("s", {}), stack(dollars_per_accelerator_hour=float("nan"))):
        with pytest.raises(TableError):
            write_stack(path, wrong)
    with pytest.raises(OSError, match="No such file"):
        write_stack(tmp_path / "none" / "t.json", stack())
    with pytest.raises(IsADirectoryError):
        write_stack(tmp_path, stack())
    assert not list(tmp_path.iterdir())


def test_a_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "link.json").symlink_to(tmp_path / "t.json")
    write_stack(tmp_path / "link.json", stack())
    assert (tmp_path / "link.json").is_symlink()
    assert read_table(tmp_path / "t.json").stacks == (stack(),)


def test_significant_digits() -> None:
    found = rounded(Coefficients(1 / 3, (1, 9), (2 / 3, 200 / 3), 1e-9 / 3, 0.0, (0.0, 1 / 3, 1e-5 / 3)), 4)
    assert found == Coefficients(0.3333, (1, 9), (0.6667, 66.67), 3.333e-10, 0.0, (0.0, 0.3333, 3.333e-6))
