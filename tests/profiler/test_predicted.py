"""The shipped table of predictions: what the predictor gives, marked as predicted, monotone and near the roofline."""

from itertools import pairwise
from pathlib import Path

import pytest

from profiler.architectures import architectures
from profiler.cli import main
from profiler.hardware import hardware
from profiler.predicted import predicted_table
from profiler.roofline import place, step_seconds
from stream.coefficients import Tables, load_tables
from stream.table_format import read_table

SHIPPED = Path(__file__).parents[2] / "stream" / "tables" / "h100-predicted.json"
MODELS = architectures()
H100 = hardware("h100")


@pytest.fixture(scope="module")
def tables() -> Tables:
    return load_tables(stack="h100-predicted")


def test_the_shipped_table_is_what_is_generated() -> None:
    assert SHIPPED.read_text(encoding="utf-8") == predicted_table(), "python -m profiler.predicted writes it anew"


def test_every_row_says_how_far_it_can_be_trusted(tables: Tables) -> None:
    found = tables.stacks["h100-predicted"].rows
    assert set(found) == set(MODELS)
    for row in found.values():
        assert (row.provenance, row.proxy_of) == ("predicted", None)
        assert row.intervals is not None
        assert row.intervals["level"] == 0.8
        assert all(low < 1 < high for low, high in list(row.intervals.values())[1:])
        assert row.accelerators
        assert row.source
        assert row.note
        assert "H100" in row.note
        assert row.coefficients.last_knot == 131_072
    dense, experts = found["qwen/qwen3-8b"], found["qwen/qwen3-30b-a3b"]
    assert (dense.fit_error, experts.fit_error) == (0.03, 0.26)


def test_runtimes_of_the_table_are_monotone(tables: Tables) -> None:
    for row in tables.stacks["h100-predicted"].rows.values():
        runtime = tables.runtime("h100-predicted", row)
        grid = [[runtime(p, o) for o in (0, 1, 2, 100, 4000)] for p in (0, 1, 17, 500, 3000, 131_072, 200_000)]
        assert all(low <= high for line in grid for low, high in pairwise(line))
        assert all(low <= high for line in zip(*grid, strict=True) for low, high in pairwise(line))


def test_lines_between_the_knots_are_near_the_roofline(tables: Tables) -> None:
    for name, model in MODELS.items():
        row = tables.stacks["h100-predicted"].rows[name]
        runtime = tables.runtime("h100-predicted", row)
        for prompt in (100, 700, 2500, 5000, 20_000, 80_000):
            seconds = step_seconds(model, H100, place(model, H100), prompt)
            assert runtime(prompt, 1) == pytest.approx(seconds, rel=0.04)


def test_the_table_reads_back(tables: Tables) -> None:
    [stack] = read_table(SHIPPED).stacks
    assert stack.rows == tables.stacks["h100-predicted"].rows


def test_estimate_knows_the_stack(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["estimate", "--stack", "h100-predicted", "--prompt-tokens", "500", "--output-tokens", "200"]
    seconds = []
    for model in ("meta-llama/Llama-3.1-8B-Instruct", "llama-3.1-8b-instant", "meta-llama/llama-3.1-8b"):
        assert main([*command, "--model", model]) == 0
        seconds.append(float(capsys.readouterr().out))
    assert len(set(seconds)) == 1
    assert 1 < seconds[0] < 2
