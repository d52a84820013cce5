"""`profiler flops`: the CSV's shape, what a model may be called, and every way to be wrong."""

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

from profiler.architectures import architectures
from profiler.flops import flops_of
from profiler.flops_command import Models, flops_csv
from profiler.request_rows import EstimateError
from stream.coefficients import Tables, load_tables
from stream.flops import forward_flops

ROOT = Path(__file__).parents[2]
HEADER = "model,prompt_tokens,output_tokens\n"
LLAMA = flops_of(architectures()["meta-llama/llama-3.1-8b"])
SPEC = "layers=32,hidden=4096,heads=32,kv_heads=8,ffn=14336,vocabulary=128256"


@pytest.fixture(scope="module")
def tables() -> Tables:
    return load_tables()


def profiler(*arguments: str, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "profiler.cli", "flops", *arguments]
    return subprocess.run(command, input=given, capture_output=True, cwd=ROOT, check=False)


def counted(text: str, tables: Tables, *, skip: bool = False) -> list[list[str]]:
    out = io.StringIO()
    flops_csv(io.StringIO(text, newline=""), out, Models(tables, skip=skip), "f.csv")
    return list(csv.reader(io.StringIO(out.getvalue())))


def test_columns_are_appended_and_the_parts_add_up(tables: Tables) -> None:
    header, row = counted("note,model,output_tokens,prompt_tokens\nx,llama-3.1-8b,200,1000.0\n", tables)
    assert header == ["note", "model", "output_tokens", "prompt_tokens", "flops", "prompt_flops", "output_flops"]
    assert row[:4] == ["x", "llama-3.1-8b", "200", "1000.0"]
    whole, prompt, output = map(int, row[4:])
    assert whole == forward_flops(LLAMA, 1000, 200) == prompt + output
    assert prompt == forward_flops(LLAMA, 1000, 0)


def test_choices_share_the_output(tables: Tables) -> None:
    _, one, four, blank = counted(
        f"{HEADER[:-1]},choices\n" + "".join(f"llama3.1:8b,9,8,{n}\n" for n in (1, 4, "")), tables
    )
    assert int(one[4]) == int(blank[4]) == forward_flops(LLAMA, 9, 8)
    assert int(four[4]) == forward_flops(LLAMA, 9, 8, 4) < int(one[4])


@pytest.mark.parametrize(
    "called", ["meta-llama/llama-3.1-8b", "Llama-3.1-8B", "meta-llama/Llama-3.1-8B-Instruct", SPEC]
)
def test_a_model_by_its_names_or_numbers(called: str, tables: Tables) -> None:
    [_, row] = counted(f'{HEADER}"{called}",7,3\n', tables)
    assert int(row[3]) == forward_flops(LLAMA, 7, 3)


def test_a_model_by_its_config(tmp_path: Path, tables: Tables) -> None:
    config = {"model_type": "llama", "num_hidden_layers": 2, "hidden_size": 8, "num_attention_heads": 2}
    (tmp_path / "config.json").write_text(json.dumps({**config, "intermediate_size": 16, "vocab_size": 50}))
    _, *rows = counted(f"{HEADER}{tmp_path},1,1\n{tmp_path / 'config.json'},1,1\n", tables)
    assert [row[3] for row in rows] == [str(2 * (2 * (4 * 64 + 3 * 128) + 400) + 2 * 4 * 8)] * 2


def test_a_row_of_a_table(tmp_path: Path) -> None:
    row = {"runtime_per_output_token": 1, "runtime_for_prompt_tokens": {"1": 1}}
    mine = {**row, "flops": {"per_token": 10, "per_output_token": 1, "per_pair": 0}}
    (tmp_path / "t.json").write_text(json.dumps({"mine": mine}))
    done = profiler("--csv", "-", "--table", str(tmp_path / "t.json"), given=f"{HEADER}mine,3,2\n".encode())
    assert (done.stdout, done.stderr) == (
        b"model,prompt_tokens,output_tokens,flops,prompt_flops,output_flops\nmine,3,2,42,30,12\n",
        b"",
    )


def test_the_papers_models_are_rows(tables: Tables) -> None:
    _, *rows = counted(f"{HEADER}openai/davinci,1,1\nbloom,1,1\n", tables)
    assert [float(row[3]) / 2e9 for row in rows] == pytest.approx([174.6, 176.2], abs=0.1)


WRONG = [
    (f"{HEADER}lama-3.1-8b,1,1\n", "f.csv: line 2: unknown model 'lama-3.1-8b': did you mean llama-3.1-8b"),
    (f"{HEADER}zzz,1,1\n", "f.csv: line 2: unknown model 'zzz' (--skip leaves it empty)"),
    (f"{HEADER}openai/ada,1,1\n", "its row 'openai/ada' says no FLOPs"),
    (f"{HEADER}all,1,1\n", "line 2: model 'all': expected one model a row"),
    (f'{HEADER}"layers=3",1,1\n', "line 2: model 'layers=3': missing hidden="),
    (f"{HEADER}none/config.json,1,1\n", "line 2: none/config.json: cannot be read"),
    (f"{HEADER}bloom,-1,1\n", "line 2: prompt_tokens: expected a whole number of tokens, 0 or more, found '-1'"),
    (f"{HEADER}\nbloom,1,x\n", "line 3: output_tokens: expected a whole number"),
    (f"{HEADER[:-1]},choices\nbloom,1,1,0\n", "line 2: choices: expected 1 or more, found 0"),
    (f"{HEADER}bloom,1\n", "line 2: expected 3 columns, found 2"),
    ("model,tokens\n", "f.csv: line 1: no column prompt_tokens, output_tokens: found model, tokens"),
    ("{" + "x" * 3000 + "}", f"prompt_tokens, output_tokens: found {{{'x' * 99}... (is this CSV?)"),
    ("", "f.csv: line 1: no column model, prompt_tokens, output_tokens: the file is empty"),
    (f'{HEADER}"a\0b",1,1\n', "line 2"),
]


@pytest.mark.parametrize(("text", "said"), WRONG, ids=range(len(WRONG)))
def test_what_is_wrong_is_said_in_one_line(text: str, said: str, tables: Tables) -> None:
    with pytest.raises(EstimateError) as raised:
        counted(text, tables)
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


def test_skipped_models_stay_empty_and_are_told() -> None:
    done = profiler("--csv", "-", "--skip", given=f"{HEADER}zzz,1,1\nbloom,1,0\nzzz,2,2\n".encode())
    assert done.returncode == 0
    assert [line.split(",")[3] != "" for line in done.stdout.decode().splitlines()] == [True, False, True, False]
    assert done.stderr == b"profiler flops: warning: 'zzz': 2 rows left empty: not a known model\n"


def test_the_exit_status_of_a_wrong_file() -> None:
    assert profiler("--csv", "no-such.csv").returncode == 2
    done = profiler("--csv", "-", given=f"{HEADER}zzz,1,1\n".encode())
    assert (done.returncode, done.stderr) == (
        2,
        b"profiler flops: standard input: line 2: unknown model 'zzz' (--skip leaves it empty)\n",
    )
