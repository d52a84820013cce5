"""Quantile regression with weights >= 0: against brute force, against theory, and in degenerate cases."""

import random
from itertools import combinations
from math import exp

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.regression import at_rank, linear_solution, quantile_regression


def loss(columns: list[list[float]], targets: list[float], weights: list[float], quantile: float) -> float:
    total = 0.0
    for row, target in enumerate(targets):
        left = target - sum(weight * column[row] for weight, column in zip(weights, columns, strict=True))
        total += quantile * left if left > 0 else (quantile - 1.0) * left
    return total


def best_of_all_vertices(columns: list[list[float]], targets: list[float], quantile: float) -> float:
    """Every optimum lies at a point where as many rows or bounds are met as there are weights: try all of them."""
    size = len(columns)
    rows = [*zip(*columns, strict=True), *(tuple(float(r == p) for p in range(size)) for r in range(size))]
    values = [*targets, *[0.0] * size]
    best = loss(columns, targets, [0.0] * size, quantile)
    for chosen in combinations(range(len(rows)), size):
        matrix = [list(rows[row]) for row in chosen]
        # Normal equations, as the solver at hand is for symmetric systems.
        square = [[sum(line[a] * line[b] for line in matrix) for b in range(size)] for a in range(size)]
        right = [sum(line[a] * values[row] for line, row in zip(matrix, chosen, strict=True)) for a in range(size)]
        weights = linear_solution(square, right) if all(square[p][p] > 0 for p in range(size)) else None
        if weights is not None and min(weights) > -1e-9:
            best = min(best, loss(columns, targets, weights, quantile))
    return best


positive = st.floats(0.1, 10.0).map(lambda value: round(value, 2))


@given(st.lists(st.tuples(positive, positive, positive), min_size=3, max_size=14), st.sampled_from([0.05, 0.25, 0.5]))
def test_no_vertex_is_better(rows: list[tuple[float, float, float]], quantile: float) -> None:
    columns = [[1.0] * len(rows), [row[0] for row in rows], [row[1] for row in rows]]
    targets = [row[2] for row in rows]
    weights, found = quantile_regression(columns, targets, quantile, [1.0] * len(rows))
    assert min(weights) >= 0.0
    assert found == pytest.approx(loss(columns, targets, weights, quantile), rel=1e-6, abs=1e-9)
    assert found <= best_of_all_vertices(columns, targets, quantile) + 1e-6


@pytest.mark.parametrize("quantile", [0.05, 0.1, 0.5])
def test_the_share_below_the_plane_is_the_quantile(quantile: float) -> None:
    rng = random.Random(4)
    sizes = [rng.lognormvariate(6.0, 1.0) for _ in range(400)]
    targets = [(0.05 + 2e-4 * size) * exp(abs(rng.gauss(0.0, 0.5))) for size in sizes]
    columns = [[1.0] * 400, sizes]
    weights, _ = quantile_regression(columns, targets, quantile, [0.05 + 2e-4 * size for size in sizes])
    below = sum(target < weights[0] + weights[1] * size for target, size in zip(targets, sizes, strict=True))
    assert below == pytest.approx(quantile * 400, abs=3)


def test_exact_data_give_exact_weights() -> None:
    sizes = [float(size) for size in range(1, 60)]
    columns = [[1.0] * 59, sizes, [size * size for size in sizes]]
    targets = [0.03 + 1e-3 * size + 2e-6 * size * size for size in sizes]
    weights, left = quantile_regression(columns, targets, 0.1, targets)
    assert weights == pytest.approx([0.03, 1e-3, 2e-6], rel=1e-6)
    assert left == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize(
    ("columns", "targets"),
    [
        ([[1.0, 1.0]], [2.0, 2.0]),
        ([[1.0] * 50, [3.0] * 50], [2.0] * 50),
        ([[0.0] * 20, [1.0] * 20], [float(n % 3 + 1) for n in range(20)]),
        ([[1.0] * 40, [1.0] * 40], [1.0] * 39 + [1e9]),
        ([[1.0] * 40, [float(n) for n in range(40)]], [1e-9] * 2 + [5.0] * 38),
    ],
)
def test_ties_and_collinear_columns_end(columns: list[list[float]], targets: list[float]) -> None:
    weights, found = quantile_regression(columns, targets, 0.1, [1.0] * len(targets))
    assert min(weights) >= 0.0
    assert found <= loss(columns, targets, [0.0] * len(columns), 0.1)


def test_nothing_gives_nothing() -> None:
    assert quantile_regression([[], []], [], 0.1, []) == ([0.0, 0.0], 0.0)


def test_ranks() -> None:
    assert [at_rank([1.0, 2.0, 3.0, 4.0], share) for share in (0.0, 0.125, 0.5, 1.0)] == [1.0, 1.0, 2.5, 4.0]


def test_a_singular_system_has_no_solution() -> None:
    assert linear_solution([[1.0, 1.0], [1.0, 1.0]], [1.0, 2.0]) is None
    assert linear_solution([[0.0]], [1.0]) is None
    assert linear_solution([[4.0, 2.0], [2.0, 3.0]], [8.0, 8.0]) == pytest.approx([1.0, 2.0])
