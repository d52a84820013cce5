"""`profiler fit`: the table it writes, what it says, and every way to be wrong."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from profiler.cli import main
from profiler.fitted import row_names
from profiler.samples import read_samples
from stream.coefficients import load_tables
from stream.table_format import Stack, read_table

ROOT = Path(__file__).parents[2]
PUBLISHED = ROOT / "profiler/samples/measured-runtimes.csv"
HEADER = "hardware,model,tensor_parallel,batch_size,prompt_tokens,output_tokens,runtime_seconds\n"
SIZES = ((1, 0.02), (64, 0.021), (256, 0.03), (1024, 0.1))


def lines(hardware: str = "box", model: str = "m", tensor: int = 1, batch: int = 1, beta: float = 0.015) -> str:
    runs = ((p, o, f + (o - 1) * beta) for p, f in SIZES for o in (1, 2, 8, 32))
    return "".join(f"{hardware},{model},{tensor},{batch},{p},{o},{seconds:.5f}\n" for p, o, seconds in runs)


def fit(tmp_path: Path, content: str, *options: str) -> tuple[int, Path]:
    (tmp_path / "runs.csv").write_text(HEADER + content)
    table = tmp_path / "table.json"
    return main(["fit", str(tmp_path / "runs.csv"), "--out", str(table), *options]), table


def stacks(path: Path) -> dict[str, Stack]:
    return {stack.name: stack for stack in read_table(path).stacks}


def test_the_published_tables_are_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = tmp_path / "paper.json"
    assert main(["fit", str(PUBLISHED), "--method", "paper", "--out", str(table)]) == 0
    found, shipped, compared = stacks(table), load_tables().stacks, 0
    for hardware in ("a100", "v100"):
        for name, row in found[hardware].rows.items():
            assert row.fit is not None
            assert (row.fit.method, row.provenance, row.fit_error) == ("paper", "measured", row.fit.median_error)
            assert row.intervals is not None
            assert row.intervals["level"] == 0.8
            if published := shipped[f"{hardware}-megatron"].rows.get(name):
                assert row.coefficients == published.coefficients
                compared += 1
    assert compared == 15
    assert found["a100"].rows["microsoft/TNLGv2_530B"].accelerators == 24
    assert '"runtime_for_prompt_tokens": {"1": 0.125, "16": 0.134,' in table.read_text()
    said, errors = capsys.readouterr()
    assert len(said.splitlines()) == 20
    assert errors == ""


def test_the_default_learns_and_says_by_how_much_it_is_better(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "t.json"
    options = ["--hardware", "a100", "--stack", "mine", "--software", "Megatron-LM", "--out", str(table)]
    assert main(["fit", str(PUBLISHED), *options]) == 0
    stack = stacks(table)["mine"]
    assert (stack.hardware, stack.software) == ("a100", "Megatron-LM")
    assert stack.source == "fitted to measured-runtimes.csv by trueclock (profiler fit, method posterior)"
    for row in stack.rows.values():
        assert row.fit is not None
        assert row.fit.points == 270
        assert row.fit.r2 > 0.999
        assert row.fit.median_error <= row.fit.p95_error <= row.fit.max_error < 0.1
    said = capsys.readouterr().out
    default, published, helm = (float(line.split()[-1].rstrip("%")) for line in said.splitlines()[-4:-1])
    assert default < published < helm
    assert "24 of 200; all: profiler crossval" in said
    assert main(["check", str(table)]) == 0


def test_one_model_of_unknown_make_is_enough(tmp_path: Path) -> None:
    status, table = fit(tmp_path, lines())
    assert status == 0
    row = stacks(table)["box"].rows["m"]
    assert row.coefficients.per_output_token == pytest.approx(0.015, rel=0.02)
    assert row.coefficients.prompt_seconds[-1] == pytest.approx(0.1, rel=0.02)
    assert (row.accelerators, row.note) == (1, "tensor parallel 1; mean: smooth growth")


@pytest.mark.parametrize("method", ["posterior", "paper"])
def test_every_degree_has_a_row(tmp_path: Path, method: str) -> None:
    content = lines() + lines(model="big", tensor=2, beta=0.04) + lines(model="big", tensor=8, beta=0.02)
    status, table = fit(tmp_path, content + lines("other", "big", 4), "--method", method)
    assert status == 0
    found = stacks(table)
    accelerators = {name: row.accelerators for name, row in found["box"].rows.items()}
    assert accelerators == {"m": 1, "big@tp2": 2, "big@tp8": 8}
    assert list(found["other"].rows) == ["big"]


def test_shapes_of_one_name_are_numbered() -> None:
    measured = read_samples(PUBLISHED)[:3]
    assert row_names([measured[0], measured[1], measured[0], measured[2]])[2] == f"{measured[0].model}#2"


def test_a_table_there_keeps_the_rest(tmp_path: Path) -> None:
    assert fit(tmp_path, lines(model="a"), "--software", "s")[0] == 0
    assert fit(tmp_path, lines(model="b"))[0] == 0
    status, table = fit(tmp_path, lines("new"))
    assert status == 0
    found = stacks(table)
    assert {name: list(stack.rows) for name, stack in found.items()} == {"box": ["a", "b"], "new": ["m"]}
    assert found["box"].software == "s"


def test_other_batches_are_left_out_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, table = fit(tmp_path, lines() + lines(batch=8, beta=0.1) + lines(model="n", batch=2))
    assert status == 0
    assert list(stacks(table)["box"].rows) == ["m"]
    assert capsys.readouterr().err.splitlines() == [
        "profiler fit: warning: m on box, tensor parallel 1: 16 of 32 runs left out: their batch size is not 1",
        "profiler fit: warning: n on box, tensor parallel 1: 16 of 16 runs left out: their batch size is not 1",
    ]


def test_without_out_it_only_shows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "runs.csv").write_text(HEADER + lines())
    assert main(["fit", str(tmp_path / "runs.csv")]) == 0
    assert "0.015" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["runs.csv"]


def test_a_plot_has_a_figure_for_every_row(tmp_path: Path) -> None:
    status, _ = fit(tmp_path, lines() + lines(model="n"), "--plot", str(tmp_path / "plot.html"))
    assert status == 0
    text = (tmp_path / "plot.html").read_text()
    before = '<script type="application/json" id="figures">'
    figures: list[dict[str, Any]] = json.loads(text[text.index(before) + len(before) :].partition("</script>")[0])
    assert [figure["title"] for figure in figures] == ["m on box", "n on box"]
    assert [series["label"] for series in figures[0]["series"] if "edge" not in series] == [
        "fit, 1 output token",
        "measured, 1 output token",
        "fit, 8 output tokens",
        "measured, 8 output tokens",
        "fit, 32 output tokens",
        "measured, 32 output tokens",
    ]


WRONG = [
    (lines() + lines("b"), ["--stack", "s"], "--stack names one stack, the samples are of box, b: choose with --hard"),
    (lines(batch=2), [], "{runs}: no runs of batch size 1, which coefficients are of"),
    (lines(), ["--hardware", "h100"], "{runs}: no samples of hardware 'h100': found box"),
    ("box,m,1,1,1,1,-1\n", [], "{runs}: line 2: runtime_seconds: expected a time above 0, in seconds, found '-1'"),
    ("box,m,1,1,1,1,0.1\n", ["--method", "paper"], "m on box, tensor parallel 1: every run gave 1 output tokens"),
    ("box,m,1,1,1,1,0.1\n", [], "m on box, tensor parallel 1: "),
    (lines(), ["--plot", "/none/plot.html"], "/none/plot.html: No such file or directory"),
]


@pytest.mark.parametrize(
    ("content", "options", "said"),
    WRONG,
    ids=["stack", "batch", "hardware", "seconds", "paper", "one run", "plot"],
)
def test_what_is_wrong_is_one_clear_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str, options: list[str], said: str
) -> None:
    status, _ = fit(tmp_path, content, *options)
    errors = [line for line in capsys.readouterr().err.splitlines() if "warning" not in line]
    assert status == 2
    assert len(errors) == 1
    assert errors[0].startswith(f"profiler fit: {said.format(runs=tmp_path / 'runs.csv')}")


def test_a_table_that_cannot_be_added_to_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "table.json").write_text(
        '{"m": {"runtime_per_output_token": 1, "runtime_for_prompt_tokens": {"1": 1}}}'
    )
    before = (tmp_path / "table.json").read_bytes()
    status, table = fit(tmp_path, lines())
    assert status == 2
    assert "without a name" in capsys.readouterr().err
    assert table.read_bytes() == before


def test_help_imports_no_numbers() -> None:
    code = "import sys; from profiler.cli import main\ntry: main(['fit', '--help'])\nfinally: print('numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.rstrip().endswith("False")
    assert "profiler fit samples.csv --method paper" in done.stdout


def test_small_matrices_need_no_threads() -> None:
    code = "import os, profiler.cli as c\ntry: c.main(['fit'])\nexcept SystemExit: print(os.environ['OPENBLAS_NUM_THREADS'])"
    unset = {name: value for name, value in os.environ.items() if name != "OPENBLAS_NUM_THREADS"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=unset, check=False)
    assert done.stdout == "1\n"  # on a busy machine a fit takes ten times as long with them


def test_what_was_written_and_replaced_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fit(tmp_path, lines())
    assert capsys.readouterr().out.splitlines()[-1] == f"{tmp_path / 'table.json'}: stack box: 1 row written"
    fit(tmp_path, lines() + lines(model="n"))
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == f"{tmp_path / 'table.json'}: stack box: 2 rows written, replacing m"


def test_runtimes_in_milliseconds_are_doubted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    slow = "".join(f"box,m,1,1,{p},{o},{20 * o + p}\n" for p in (1, 64) for o in (1, 2, 8))
    assert fit(tmp_path, slow)[0] == 0
    said = "m on box, tensor parallel 1: 20 s for each output token: are the runtimes in milliseconds?"
    assert capsys.readouterr().err == f"profiler fit: warning: {said}\n"


@pytest.mark.parametrize(
    ("hardware", "said"),
    [
        ("box", "box: architecture not used of gpt-j-6b, ada: no roofline is known of this hardware"),
        ("v100", "v100: architecture not used of gpt-j-6b, ada: no roofline there is (v100-megatron) makes these"),
    ],
)
def test_architectures_that_are_not_used_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], hardware: str, said: str
) -> None:
    shape = ",hidden_size,attention_heads,ffn_hidden_size,layers_total\n"
    runs = lines(hardware, "gpt-j-6b") + lines(hardware, "ada", beta=0.011)
    (tmp_path / "runs.csv").write_text(HEADER.replace("\n", shape) + runs.replace("\n", ",4096,32,16384,32\n"))
    assert main(["fit", str(tmp_path / "runs.csv")]) == 0
    assert capsys.readouterr().err.startswith(f"profiler fit: warning: {said}")
