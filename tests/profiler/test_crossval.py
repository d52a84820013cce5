"""Cross-validation over prompt sizes: it leaves out what it says, and the fit is as good as claimed."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from profiler.cli import main
from profiler.crossval import gain, interior_sizes, leave_out_everywhere, leave_out_published, leave_out_sizes
from profiler.fitted import called
from profiler.judge import judge
from profiler.samples import Measured, read_samples

FILE = Path(__file__).parents[2] / "profiler/samples/measured-runtimes.csv"
MEASURED = read_samples(FILE)
A100 = [each for each in MEASURED if each.hardware == "a100"]
V100 = [each for each in MEASURED if each.hardware == "v100"]


def test_a_size_left_out_on_a100() -> None:
    found = judge(leave_out_sizes(A100))
    assert found["overall"]["mean"] < 0.02
    assert found["overall"]["p95"] < 0.0525
    assert found["overall"]["worst_model"] < 0.04
    assert {each["points"] for each in found["models"].values()} == {25}
    published = {name: judge(each)["overall"]["mean"] for name, each in leave_out_published(A100).items()}
    assert published == pytest.approx({"paper": 0.114, "linear": 0.0424}, rel=0.02)


def test_a_size_left_out_on_v100() -> None:
    found = judge(leave_out_sizes(V100))
    assert found["overall"]["mean"] < 0.049
    assert found["overall"]["p95"] < 0.14
    assert judge(leave_out_published(V100)["linear"])["overall"]["mean"] > 0.1
    assert judge(leave_out_everywhere(V100))["overall"]["mean"] < 0.065


def test_only_interior_sizes_are_left_out() -> None:
    measured = V100[0]
    sizes = np.unique(measured.prompt).tolist()
    assert interior_sizes(measured) == sizes[1:-1]
    assert interior_sizes(measured.where(measured.prompt < 32)) == []
    assert interior_sizes(measured.where((measured.output > 1) | (measured.prompt != 64))) == [
        size for size in sizes[1:-1] if size != 64
    ]
    (judged,) = leave_out_sizes([measured.where(measured.prompt < 32)])
    assert len(judged.errors) == 0


def changed(measured: Measured, size: int) -> Measured:
    return replace(measured, seconds=np.where(measured.prompt == size, measured.seconds * 1.5, measured.seconds))


def test_what_is_left_out_is_not_seen() -> None:
    before = leave_out_sizes(V100, {(3, 64)})[3].errors
    after = leave_out_sizes([*V100[:3], changed(V100[3], 64), *V100[4:]], {(3, 64)})[3].errors
    assert (1 + after) * 1.5 == pytest.approx(1 + before, rel=1e-12)
    everywhere = [changed(each, 64) for each in V100]
    for old, new in zip(leave_out_everywhere(V100), leave_out_everywhere(everywhere), strict=True):
        at = (old.prompt == 64).tolist().index(True)
        assert (1 + new.errors[at]) * 1.5 == pytest.approx(1 + old.errors[at], rel=1e-12)


def test_only_some_can_be_asked_for() -> None:
    some = leave_out_sizes(V100, {(0, 64), (2, 16), (2, 512)})
    assert [each.prompt.tolist() for each in some if each.prompt is not None] == [[64], [], [16, 512], *[[]] * 5]
    whole = leave_out_sizes(V100)[2]
    assert set(some[2].errors) <= set(whole.errors)


def test_names_tell_all_apart() -> None:
    assert called(A100)[0] == "ai21/j1-grande"
    assert called(MEASURED)[0] == "a100/ai21/j1-grande"
    assert len(set(called(MEASURED))) == len(MEASURED)


def test_what_the_published_method_cannot_do_is_left_out() -> None:
    first = V100[0].where(V100[0].output == 1)
    found = leave_out_published([first, V100[2]])
    assert [len(each.errors) for each in found["paper"]] == [0, 9]


def test_the_command_as_json(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    page = tmp_path / "errors.html"
    options = ["--leave-out", "prompt-size", "--hardware", "v100", "--json", "--plot", str(page)]
    assert main(["crossval", str(FILE), *options]) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found["models"]) == [each.model for each in V100]
    for each in found["models"].values():
        assert list(each) == ["mean", "median", "p90", "p95", "points"]
    assert list(found["overall"]) == ["mean", "p95", "median_model", "worst_model"]
    assert list(found["beside"]) == ["paper", "linear", "on no model"]
    assert found["overall"]["mean"] < found["beside"]["linear"]["overall"]["mean"]
    assert "davinci" in page.read_text(encoding="utf-8")


def test_the_command_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["crossval", str(FILE), "--leave-out", "prompt-size", "--hardware", "v100"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith("ai21/j1-grande")
    assert lines[-3].startswith("beside: the published method, read as HELM reads it: mean 24.1%")


def test_wrong_use_is_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    missing = tmp_path / "none.csv"
    assert main(["crossval", str(missing), "--leave-out", "prompt-size"]) == 2
    assert capsys.readouterr().err == f"profiler crossval: {missing}: cannot be read: No such file or directory\n"
    assert main(["crossval", str(FILE), "--leave-out", "prompt-size", "--hardware", "h100"]) == 2
    assert "no samples of hardware 'h100'" in capsys.readouterr().err


def alone(name: str) -> list[Measured]:
    return [each for each in A100 if each.model == name]


def test_the_gain_is_of_sizes_left_out() -> None:
    found = gain(alone("openai/ada"))
    assert found is not None
    assert found.interior == 25
    assert found.sizes == 24
    assert found.published is not None
    few = alone("openai/ada")[0]
    assert gain([few.where(few.prompt < 20)]) is None
    alike = few.where((few.prompt < 40) & (few.output == 1))
    assert (without := gain([alike])) is not None
    assert without.published is None


def test_the_reason_why_nothing_can_be_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "few.csv"
    file.write_text("hardware,model,prompt_tokens,output_tokens,runtime_seconds\nx,m,1,1,0.1\nx,m,9,2,0.2\n")
    assert main(["crossval", str(file), "--leave-out", "prompt-size"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "nothing could be left out"
    assert said[1].startswith("no model has runs of batch size 1 at three prompt sizes")


@pytest.mark.parametrize(
    "command", [["crossval", "--leave-out", "prompt-size"], ["plan", "--oracle"]], ids=["crossval", "plan"]
)
def test_models_that_ran_in_batches_only_are_passed_over(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, runs = tmp_path / "batches.csv", [(p, o) for p in (1, 64, 256) for o in (1, 8)]
    columns = "hardware,model,prompt_tokens,output_tokens,runtime_seconds,batch_size\n"
    lines = [
        f"x,{m},{p},{o},{0.1 + p / 1000 + o / 100},{batch}\n" for m, batch in (("m", 8), ("n", 1)) for p, o in runs
    ]
    file.write_text(columns + "".join(lines))
    assert main([*command, str(file), "--json"]) == 0
    assert list(json.loads(capsys.readouterr().out)["models"]) == ["n"]
