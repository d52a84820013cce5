"""T(p, o): HELM's published values, the quadratic's optimum, and the laws."""

import csv
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.runtime import (
    INTERPOLATIONS,
    Coefficients,
    Interpolation,
    prompt_seconds,
    quadratic_growth,
    runtime_seconds,
)

GOLDEN = Path(__file__).parents[1] / "golden"
some_seconds = st.floats(0, 100)
prompts = st.integers(0, 10_000)
outputs = st.integers(0, 2_000)


@st.composite
def coefficients(draw: st.DrawFn, *, rising: bool = False) -> Coefficients:
    knots = sorted(draw(st.sets(st.integers(1, 4_000), min_size=1, max_size=8)))
    seconds = draw(st.lists(some_seconds, min_size=len(knots), max_size=len(knots)))
    return Coefficients(
        per_output_token=draw(st.floats(0, 1)),
        knots=tuple(knots),
        prompt_seconds=tuple(sorted(seconds) if rising else seconds),
        overhead=draw(some_seconds),
        context=draw(st.floats(0, 1e-3)),
        quadratic=draw(st.none() | st.tuples(some_seconds, st.floats(0, 1), st.floats(0, 1))),
    )


def helm_table(name: str) -> dict[str, Coefficients]:
    rows = json.loads((GOLDEN / f"helm_{name}_table.json").read_bytes())
    return {
        model: Coefficients(
            per_output_token=row["runtime_per_output_token"],
            knots=tuple(map(int, row["runtime_for_prompt_tokens"])),
            prompt_seconds=tuple(row["runtime_for_prompt_tokens"].values()),
            overhead=row.get("overhead", 0.0),
        )
        for model, row in rows.items()
    }


def test_helms_formula() -> None:
    tables = {name: helm_table(name) for name in ("idealized", "denoised")}
    with (GOLDEN / "helm_formula.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 600
    for row in rows:
        found = runtime_seconds(
            tables[row["table"]][row["model"]], int(row["prompt_tokens"]), int(row["output_tokens"]), "helm"
        )
        assert found == pytest.approx(float(row["runtime_seconds"]), abs=1e-9), row


ROW = Coefficients(0.5, (10, 20, 40), (1.0, 3.0, 4.0), overhead=7.0, context=0.01)


@pytest.mark.parametrize(
    ("interpolation", "prompt", "expected"),
    [
        ("linear", 0, 1.0),
        ("linear", 10, 1.0),
        ("linear", 15, 2.0),
        ("linear", 30, 3.5),
        ("linear", 40, 4.0),
        ("helm", 0, 0.0),
        ("helm", 5, 0.5),
        ("helm", 11, 1.65),
        ("helm", 40, 4.0),
        ("helm", 80, 8.0),
    ],
)
def test_prompt_seconds(interpolation: Interpolation, prompt: int, expected: float) -> None:
    assert prompt_seconds(ROW, prompt, interpolation) == pytest.approx(expected)


def test_past_the_last_knot_the_quadratic_goes_on() -> None:
    exact = Coefficients(0, (100, 200, 300, 400), tuple(0.1 + 1e-3 * p + 1e-6 * p * p for p in (100, 200, 300, 400)))
    assert prompt_seconds(exact, 1000) == pytest.approx(0.1 + 1.0 + 1.0)
    given_growth = Coefficients(0, (100,), (2.0,), quadratic=(9.0, 0.25, 0.5))
    assert prompt_seconds(given_growth, 102) == pytest.approx(2.0 + 0.25 * 2 + 0.5 * (102**2 - 100**2))
    lone = Coefficients(0, (100,), (2.0,))
    assert prompt_seconds(lone, 150) == pytest.approx(3.0)


@pytest.mark.parametrize(("output", "steps", "context"), [(0, 0, 0), (1, 0, 0), (2, 1, 31), (4, 3, 31 + 32 + 33)])
def test_output_tokens(output: int, steps: int, context: int) -> None:
    expected = 7.0 + 3.5 + 0.5 * steps + 0.01 * context
    assert runtime_seconds(ROW, 30, output) == pytest.approx(expected)


@given(coefficients(), prompts, outputs, st.sampled_from(INTERPOLATIONS))
def test_monotone_in_output(row: Coefficients, prompt: int, output: int, how: Interpolation) -> None:
    assert runtime_seconds(row, prompt, output, how) <= runtime_seconds(row, prompt, output + 1, how)


@given(coefficients(rising=True), prompts, st.integers(0, 500), outputs)
def test_linear_is_monotone_in_prompt_where_the_knots_are(
    row: Coefficients, prompt: int, more: int, output: int
) -> None:
    shorter = runtime_seconds(row, prompt, output)
    assert shorter <= runtime_seconds(row, prompt + more, output) * (1 + 1e-12)


@given(coefficients(), prompts, outputs, st.sampled_from(INTERPOLATIONS))
def test_overhead_adds(row: Coefficients, prompt: int, output: int, how: Interpolation) -> None:
    bare = Coefficients(row.per_output_token, row.knots, row.prompt_seconds, 0.0, row.context, row.quadratic)
    with_overhead = runtime_seconds(row, prompt, output, how)
    assert with_overhead == pytest.approx(runtime_seconds(bare, prompt, output, how) + row.overhead)


@given(coefficients())
def test_the_knots_are_met(row: Coefficients) -> None:
    for how in INTERPOLATIONS:
        found = [prompt_seconds(row, knot, how) for knot in row.knots]
        assert found == list(row.prompt_seconds)


@given(coefficients().filter(lambda row: len(row.knots) > 2))
def test_the_quadratic_is_the_non_negative_optimum(row: Coefficients) -> None:
    growth = quadratic_growth(row.knots, row.prompt_seconds)
    assert min(growth) >= 0
    # The optimum of a convex problem: no unknown can rise, and none above zero can fall, and lessen the error.
    scale = row.knots[-1]
    unit = [growth[power] * scale**power for power in range(3)]
    columns = [[(knot / scale) ** power for knot in row.knots] for power in range(3)]
    left = [f - sum(unit[power] * columns[power][i] for power in range(3)) for i, f in enumerate(row.prompt_seconds)]
    small = 1e-6 * (1 + sum(row.prompt_seconds))
    for power in range(3):
        gain = sum(residual * x for residual, x in zip(left, columns[power], strict=True))
        assert gain <= small
        if unit[power] > small:
            assert gain >= -small
