"""What was measured as a table: a row a model, with all that is known of it, and nothing that `profiler check` minds."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from profiler.cli import main
from profiler.flops import flops_of
from profiler.hardware import hardware
from profiler.journal import Journal
from profiler.machine import Run
from profiler.measured_table import MeasuredStack, against_predictions, measured_stack
from profiler.prediction import predict
from profiler.runs import Runs, Setup
from profiler.spec import named
from profiler.tables import write_stack
from stream.runtime import runtime_function
from stream.table_format import read_table
from tests.profiler.made_up import Truth, setup

SMALL, LARGE = named("llama-3.1-8b"), named("llama-3.1-405b")
GPU = {"name": "NVIDIA H200", "memory_bytes": 150e9, "processors": 132, "board": True, "accelerator": "h200"}
SOFTWARE = {"steps": "eager", "torch": "2.15.0"}
POINTS = [(prompt, output) for prompt in (1, 64, 512, 2048) for output in (1, 33, 129)]


@pytest.fixture
def journal(tmp_path: Path) -> Any:
    with Journal(tmp_path / "runs.jsonl") as opened:
        yield opened


def on_gpu(**more: Any) -> Setup:
    return replace(setup(hardware=GPU, software=SOFTWARE, dtype="bfloat16", architecture=SMALL), stack="h200-x", **more)


def ran(journal: Journal, of: Setup, truth: Truth | None = None, points: Any = POINTS) -> Runs:
    truth, runs = truth or Truth(), Runs(journal, of, {})
    for layers in of.depths:
        deep = layers or truth.layers
        for point in points:
            runs.add(point, Run(*point, truth.first(point[0], deep), truth.seconds(*point, deep)), layers)
    return runs


def made(*measured: Runs) -> MeasuredStack:
    found = measured_stack(measured, "2026-01-31", "measured here")
    assert found is not None
    return found


def checked(found: MeasuredStack, folder: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    """The stack as it is read again, when `profiler check` has nothing to say of it."""
    table = folder / "table.json"
    write_stack(table, found.stack)
    assert main(["check", str(table)]) == 0
    assert "0 errors, 0 warnings, 0 known violations" in capsys.readouterr().out
    (stack,) = read_table(table).stacks
    return stack


def test_a_row_says_all_that_was_measured(journal: Journal, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = ran(journal, on_gpu(notes=("its quantisation is left out",)))
    runs.add_power("prompt", (1024, 1), 2.0, 1300.0)
    runs.add_power("output", (16, 129), 2.0, 800.0)
    stack = checked(made(runs), tmp_path, capsys)
    assert (stack.name, stack.hardware, stack.software) == (
        "h200-x",
        "NVIDIA H200, 150 GB",
        "steps eager, torch 2.15.0",
    )
    assert (stack.date, stack.source, stack.accelerator) == ("2026-01-31", "measured here", "h200")
    row = stack.rows["made-up"]
    assert (row.provenance, row.accelerators, row.flops) == ("measured", 1, flops_of(SMALL))
    assert (row.watts.prompt, row.watts.output, row.watts.interval) == (650.0, 400.0, (0.95, 1.05))
    assert row.note.endswith("; weights in bfloat16; its quantisation is left out")
    function, truth = runtime_function(row.coefficients), Truth()
    for point in POINTS:
        assert function(*point) == pytest.approx(truth.seconds(*point, 24), rel=0.02)
    assert row.fit.points == 4 * 2 + 4 * 3  # of one run that gave several tokens, its first too


@pytest.mark.parametrize("phases", [(), ("prompt",), ("output",)], ids=lambda phases: "-".join(phases) or "none")
def test_half_of_the_power_is_none(journal: Journal, phases: tuple[str, ...]) -> None:
    runs = ran(journal, on_gpu())
    for phase in phases:
        runs.add_power(phase, (1024, 1), 2.0, 1000.0)
    assert made(runs).stack.rows["made-up"].watts is None


DEPTHS = {4: -4.0, 8: 5.0}


@pytest.mark.parametrize(
    ("of", "accelerators"),
    [
        (on_gpu(), 1),
        (on_gpu(architecture=LARGE), 1),
        (on_gpu(depths=DEPTHS), 1),
        (on_gpu(architecture=LARGE, depths=DEPTHS), 7),  # 812 GB of weights, 135 GB usable
        (on_gpu(architecture=LARGE, depths=DEPTHS, dtype="float32"), 13),
        (on_gpu(architecture=LARGE, depths=DEPTHS, hardware={"name": "EPYC"}), 1),
        (on_gpu(architecture=LARGE, depths=DEPTHS, hardware={**GPU, "board": False}), 1),
        (on_gpu(architecture=None, depths=DEPTHS), 1),
        (on_gpu(tensor_parallel=4), 4),
    ],
    ids=["whole", "it-ran", "part-of-a-small", "large", "wide", "processor", "its-memory", "unknown", "devices"],
)
def test_a_model_needs_as_many_accelerators_as_hold_its_weights(journal: Journal, of: Setup, accelerators: int) -> None:
    assert made(ran(journal, of)).stack.rows["made-up"].accelerators == accelerators


def test_what_was_extrapolated_says_so_and_is_that_of_the_whole(
    journal: Journal, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    truth = Truth()
    row = checked(made(ran(journal, on_gpu(depths=DEPTHS))), tmp_path, capsys).rows["made-up"]
    assert row.note.endswith("weights in bfloat16; 4 and 8 of its layers ran, extrapolated to the whole model")
    assert row.coefficients.per_output_token == pytest.approx(truth.beta, rel=0.01)
    assert row.flops == flops_of(SMALL)


def test_models_of_a_stack_are_rows_of_one_table(
    journal: Journal, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    measured = [ran(journal, on_gpu(model=name), Truth(beside=beside)) for name, beside in (("b", 0.002), ("a", 0.02))]
    stack = checked(made(*measured), tmp_path, capsys)
    betas = [row.coefficients.per_output_token for row in stack.rows.values()]
    assert list(stack.rows) == ["b", "a"]
    assert betas == pytest.approx([0.0116, 0.0296], rel=0.01)


def test_what_has_not_run_enough_has_no_row_yet(journal: Journal) -> None:
    measured = [
        ran(journal, on_gpu(model="none"), points=()),
        ran(journal, on_gpu(model="one-kind-of-point"), points=[(1, 1), (64, 1)]),
        ran(journal, on_gpu(model="enough")),
        ran(journal, on_gpu(model="one-point"), points=[(1, 1)]),
    ]
    assert list(made(*measured).stack.rows) == ["enough"]
    assert measured_stack(measured[:2], "", "") is None
    assert measured_stack([], "", "") is None


def test_the_row_of_an_endpoint_knows_what_it_was_told(
    journal: Journal, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    of = setup(
        "served",
        hardware={"name": "my-vllm"},
        software={"endpoint": "localhost:8000", "route": "chat"},
        tensor_parallel=2,
        notes=("F holds what network and server add",),
    )
    stack = checked(made(ran(journal, of)), tmp_path, capsys)
    row = stack.rows["served"]
    assert (stack.hardware, stack.software) == ("my-vllm", "endpoint localhost:8000, route chat")
    assert (row.accelerators, row.flops, row.watts) == (2, None, None)
    assert row.note.endswith("; F holds what network and server add")


def test_it_is_held_against_what_is_predicted(journal: Journal) -> None:
    predicted = runtime_function(predict(SMALL, hardware("h200")).coefficients)
    runs = Runs(journal, on_gpu(), {})
    for point in POINTS:
        runs.add(point, Run(*point, 2 * predicted(point[0], 1), 2 * predicted(*point)))
    (line,) = against_predictions(made(runs))
    assert line.startswith("made-up: T is 2.0")
    assert line.endswith("of what predict says for h200")
    assert [part.split(" at ")[1] for part in line.partition(" of what")[0].split(", ")] == [
        "512 + 1",
        "512 + 64",
        "2048 + 256",
    ]


def test_where_nothing_is_predicted_nothing_is_said(journal: Journal) -> None:
    assert against_predictions(made(ran(journal, setup(architecture=SMALL)))) == []
    assert against_predictions(made(ran(journal, on_gpu(architecture=None)))) == []


def test_a_table_is_added_to(journal: Journal, tmp_path: Path) -> None:
    for model in ("a", "b"):
        write_stack(tmp_path / "t.json", made(ran(journal, on_gpu(model=model))).stack)
    write_stack(tmp_path / "t.json", made(ran(journal, setup())).stack)
    found = json.loads((tmp_path / "t.json").read_text())["stacks"]
    assert {name: list(stack["models"]) for name, stack in found.items()} == {
        "h200-x": ["a", "b"],
        "box-stack": ["made-up"],
    }
