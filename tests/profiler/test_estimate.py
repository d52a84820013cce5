"""`profiler estimate`: HELM's published values, the CSV's shape, and every way to be wrong."""

import csv
import io
import subprocess
import sys
from pathlib import Path

import pytest

from profiler.estimate import estimate, estimate_csv
from profiler.request_rows import EstimateError, whole_number
from stream.coefficients import load_tables
from stream.runtime import runtime_seconds

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden"
COMMAND = [sys.executable, "-m", "profiler.cli"]
HEADER = "model,prompt_tokens,output_tokens\n"
ONE = ["--model", "davinci", "--prompt-tokens", "17", "--output-tokens", "1"]


def profiler(*arguments: str, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    command = [*COMMAND, "estimate", *arguments]
    return subprocess.run(command, input=given, capture_output=True, cwd=ROOT, check=False)


@pytest.mark.parametrize("table", ["idealized", "denoised"])
def test_helms_formula(table: str, tmp_path: Path) -> None:
    with (GOLDEN / "helm_formula.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    asked = tmp_path / "asked.csv"
    with asked.open("w", newline="") as file:
        csv.writer(file).writerows([header, *(row for row in rows if row[0] == table)])
    done = profiler("--csv", str(asked), "--interpolation", "helm", "--table", str(GOLDEN / f"helm_{table}_table.json"))
    assert done.returncode == 0
    found_header, *found = csv.reader(io.StringIO(done.stdout.decode()))
    assert found_header == [*header, "runtime_seconds"], "the input's own runtime_seconds stays"
    assert [row[:-1] for row in found] == [row for row in rows if row[0] == table]
    for row in found:
        assert float(row[-1]) == pytest.approx(float(row[-2]), abs=1e-9), row


def test_one_request_is_one_number() -> None:
    assert profiler(*ONE, "--interpolation", "helm").stdout == b"0.04728125\n"
    done = profiler(*ONE)
    davinci = load_tables().stacks["a100-megatron"].rows["openai/davinci"].coefficients
    assert done.stdout.decode() == f"{runtime_seconds(davinci, 17, 1)!r}\n"
    assert done.stderr == b""


def test_denoised_stacks_can_be_asked_and_extrapolation_is_told() -> None:
    done = profiler("--model", "openai/ada", "--stack", "api-2022", "--prompt-tokens=2000", "--output-tokens=0")
    assert done.returncode == 0
    assert float(done.stdout) > 0
    assert done.stderr == (
        b"profiler estimate: warning: 2000 prompt tokens lie beyond the profiled sizes of openai/ada: extrapolated\n"
    )


def test_columns_and_order_are_kept_and_uncovered_rows_are_empty() -> None:
    given = (
        b"\xef\xbb\xbfnote,output_tokens,model,prompt_tokens\r\n"
        b'"a, ""b""",2,davinci,16.0\r\n'
        b"\xff,1,gpt-4o,5\r\n\r\n"
        b"x,1,gpt-4o,5\r\nx,1,curie,2500"
    )
    done = profiler("--csv", "-", given=given)
    assert done.returncode == 0
    lines = done.stdout.split(b"\n")
    assert lines[0] == b"note,output_tokens,model,prompt_tokens,runtime_seconds"
    assert lines[1].startswith(b'"a, ""b""",2,davinci,16.0,0.16')
    assert lines[2:4] == [b"\xff,1,gpt-4o,5,", b"x,1,gpt-4o,5,"]
    assert done.stderr.decode().splitlines() == [
        "profiler estimate: warning: 'gpt-4o': 2 rows left empty: no row on a100-megatron",
        "profiler estimate: warning: 'curie': 1 row extrapolated: prompts beyond the profiled sizes",
    ]


def test_the_same_answer_row_by_row_and_one_by_one() -> None:
    tables = load_tables()
    out = io.StringIO()
    asked = [(model, p, o) for model in ("davinci", "ai21/j1-large") for p in (0, 1, 17, 5000) for o in (0, 1, 9)]
    estimate_csv([HEADER, *(f"{m},{p},{o}\n" for m, p, o in asked)], out, tables, "asked")
    out.seek(0)
    found = [float(row["runtime_seconds"]) for row in csv.DictReader(out)]
    assert found == [estimate(tables, *question)[0] for question in asked]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("", "line 1: no column model, prompt_tokens, output_tokens: the file is empty"),
        ("model,prompt_tokens\n", "line 1: no column output_tokens: found model, prompt_tokens"),
        (
            HEADER + "a,1,1\n\na,x,1\n",
            "line 4: prompt_tokens: expected a whole number of tokens, 0 or more, found 'x'",
        ),
        (
            HEADER + "davinci,1,-1\n",
            "line 2: output_tokens: expected a whole number of tokens, 0 or more, found '-1'",
        ),
        (
            HEADER + "davinci,,1\n",
            "line 2: prompt_tokens: expected a whole number of tokens, 0 or more, found ''",
        ),
        (HEADER + "davinci,1\n", "line 2: expected 3 columns, found 2"),
        (HEADER + "davinci,1,1,1\n", "line 2: expected 3 columns, found 4"),
        (HEADER + "x" * 200_000 + ",1,1\n", "line 2: not readable as CSV: field larger than field limit"),
    ],
)
def test_a_bad_file_is_named_with_its_line(given: str, told: str) -> None:
    with pytest.raises(EstimateError) as caught:
        estimate_csv(io.StringIO(given), io.StringIO(), load_tables(), "asked.csv")
    assert str(caught.value).startswith(f"asked.csv: {told}")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "missing: --model, --prompt-tokens, --output-tokens (or give --csv FILE)"),
        (ONE[:4], "missing: --output-tokens (or give --csv FILE)"),
        ([*ONE, "--csv", "x"], "give either --csv or --model, not both"),
        (["--csv", "none.csv"], "none.csv: No such file or directory"),
        (["--csv", "tests"], "tests: Is a directory"),
        ([*ONE[:5], "1.5"], "--output-tokens: expected a whole number of tokens, 0 or more, found '1.5'"),
        (
            [*ONE, "--stack", "zzz"],
            "unknown stack 'zzz': there are a100-megatron, v100-megatron, h100-predicted, api-2022",
        ),
        ([*ONE, "--table", "none.json"], "none.json: cannot be read: No such file or directory"),
        (
            ["--model", "davinc", *ONE[2:]],
            "unknown model 'davinc' on stack a100-megatron: did you mean davinci or",
        ),
        (
            ["--model", "gpt-4o", *ONE[2:]],
            "unknown model 'gpt-4o' on stack a100-megatron: it has openai/ada, ",
        ),
        (
            ["--model", "llama3.1:8b", *ONE[2:]],
            "unknown model 'llama3.1:8b' on stack a100-megatron, but h100-predicted has it: --stack h100-predicted",
        ),
    ],
)
def test_wrong_use_is_one_clear_line(arguments: list[str], told: str) -> None:
    done = profiler(*arguments)
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.decode().startswith(f"profiler estimate: {told}")
    assert done.stderr.count(b"\n") == 1


def test_a_reader_that_leaves_ends_it_quietly(tmp_path: Path) -> None:
    asked = tmp_path / "asked.csv"
    asked.write_text(HEADER + "davinci,1,1\n" * 50_000)
    command = [*COMMAND, "estimate", "--csv", str(asked)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, cwd=ROOT) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(10) == 141


def test_help_shows_an_example() -> None:
    assert b"profiler estimate --model openai/davinci" in profiler("--help").stdout


@pytest.mark.parametrize(("text", "number"), [("0", 0), (" 12 ", 12), ("12.", 12), ("12.00", 12)])
def test_whole_numbers(text: str, number: int) -> None:
    assert whole_number(text) == number


@pytest.mark.parametrize("text", ["", " ", ".", "-1", "+1", "1e3", "1_000", "1.5", "1.0.0", "٣", "nan", "9" * 13])
def test_no_whole_numbers(text: str) -> None:
    with pytest.raises(ValueError, match="expected a whole number of tokens"):
        whole_number(text)
