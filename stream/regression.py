"""Quantile regression with coefficients >= 0, exactly, and without a matrix library.

Of all planes `columns · weights` it finds the one that a share `quantile` of the targets lies below, as Koenker and
Bassett define it (Econometrica 46, 1978): the weights with the least sum of q r for residuals r above the plane and
(1 - q) |r| for those below. Far outliers pull no harder than near ones, which least squares cannot say of itself.

The optimum lies at a vertex, where as many rows are met exactly as there are weights. `_Walk` goes from vertex to
vertex along the steepest edge, each time to that edge's lowest point (Barrodale and Roberts, SIAM J. Numer. Anal. 10,
1973). A bound "weight >= 0" is a row like any other, that costs without limit on one side and nothing on the other.
"""

from collections.abc import Sequence
from math import sqrt
from operator import mul, sub

__all__ = ["at_rank", "linear_solution", "quantile_regression", "ratios_sorted", "weighted_sums"]

Column = Sequence[float]

_BOUND = 1e9
"""What it costs to make a weight negative, against 1 for a target"""

_MOST_STEPS = 80
"""Vertices visited; 5 to 20 are usual. Ties (repeated targets) could otherwise make it go in circles."""

_FLAT = 1e-9
_NEAR_SHARE = 0.2
_NEAR_LEAST = 15


def quantile_regression(
    columns: Sequence[Column], targets: Column, quantile: float, scale: Column
) -> tuple[list[float], float]:
    """Return the weights, and the loss that they leave: the sum described above, of residuals divided by `scale`.

    Columns and targets are >= 0, each as long as `scale`, which is > 0: roughly the plane itself, as timings scatter
    in proportion to their size. No target: all weights 0.
    """
    if not targets:
        return [0.0] * len(columns), 0.0
    sizes = [max(column) or 1.0 for column in columns]
    inverse = [1.0 / each for each in scale]
    relative = [_times(column, inverse, 1.0 / size) for column, size in zip(columns, sizes, strict=True)]
    ratios = list(map(mul, targets, inverse))
    weights = _solve(relative, ratios, quantile)
    fitted = weighted_sums(relative, weights)
    residuals = list(map(sub, ratios, fitted))
    loss = quantile * sum(residuals) - sum(each for each in residuals if each < 0.0)
    return [weight / size for weight, size in zip(weights, sizes, strict=True)], loss


def weighted_sums(columns: Sequence[Column], weights: Sequence[float]) -> list[float]:
    """Return `columns · weights`, row by row."""
    total: list[float] | None = None
    for column, weight in zip(columns, weights, strict=True):
        if weight and total is None:
            total = [weight * value for value in column]
        elif weight and total is not None:
            total = [have + weight * value for have, value in zip(total, column, strict=True)]
    return [0.0] * len(columns[0]) if total is None else total


def ratios_sorted(targets: Column, fitted: Column) -> list[float]:
    """Return target over fit, sorted; rows without a fit are left out."""
    return sorted([target / fit for target, fit in zip(targets, fitted, strict=True) if fit > 0.0])


def at_rank(ordered: Column, share: float) -> float:
    """Return the value that this share of the ordered values lies below, between two of them by a straight line."""
    place = min(max(share * len(ordered) - 0.5, 0.0), len(ordered) - 1.0)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])


def linear_solution(matrix: Sequence[Sequence[float]], right: Sequence[float]) -> list[float] | None:
    """Solve a positive definite system by elimination; None where it is singular."""
    size = len(right)
    diagonal = [sqrt(matrix[place][place]) for place in range(size)]
    if not all(diagonal):
        return None
    # Scaled to a diagonal of 1, as a constant and p^2 are 10^14 apart.
    lines = [[matrix[row][column] / diagonal[row] / diagonal[column] for column in range(size)] for row in range(size)]
    values = [value / each for value, each in zip(right, diagonal, strict=True)]
    for step in range(size):
        if lines[step][step] < _FLAT:
            return None
        for row in range(step + 1, size):
            factor = lines[row][step] / lines[step][step]
            lines[row] = [own - factor * other for own, other in zip(lines[row], lines[step], strict=True)]
            values[row] -= factor * values[step]
    for step in reversed(range(size)):
        known = sum(lines[step][column] * values[column] for column in range(step + 1, size))
        values[step] = (values[step] - known) / lines[step][step]
    return [value / each for value, each in zip(values, diagonal, strict=True)]


def _times(column: Column, inverse: Column, factor: float) -> list[float]:
    return [value * other * factor for value, other in zip(column, inverse, strict=True)]


def _solve(columns: list[list[float]], targets: list[float], quantile: float) -> list[float]:
    """Solve with the low targets alone; what lies far above the plane pulls alike wherever it lies.

    Should that pull take the plane above some of the far ones, more are taken in and it is solved again.
    """
    ordered = sorted(targets)
    count = max(int(max(_NEAR_SHARE, 3 * quantile) * len(targets)), _NEAR_LEAST)
    while True:
        cut = ordered[count - 1] if count < len(ordered) else ordered[-1]
        near = [row for row, target in enumerate(targets) if target <= cut]
        kept = [[column[row] for row in near] for column in columns]
        pull = [quantile * (sum(column) - sum(part)) for column, part in zip(columns, kept, strict=True)]
        walk = _Walk(kept, [targets[row] for row in near], quantile, pull)
        fitted = weighted_sums(columns, walk.weights)
        below = [target for target, fit in zip(targets, fitted, strict=True) if target < fit]
        passed = sum(target > cut for target in below)
        if (walk.arrived and not passed) or len(near) == len(targets):
            return walk.weights
        count = len(near) + max(2 * passed, len(near))


class _Walk:
    """From vertex to vertex, beginning where all weights are 0. Rows past the targets' are the bounds.

    `arrived` is False if the loss falls without end. `_basis` are the rows that the vertex meets, `_inverse` the
    inverse of their matrix: its column j is the edge on which all of them but the j-th stay met. `_pull` is the slope
    of the loss of all other rows.
    """

    def __init__(self, columns: list[list[float]], targets: list[float], quantile: float, pull: list[float]) -> None:
        size, count = len(columns), len(targets)
        unit = [tuple(float(row == place) for place in range(size)) for row in range(size)]
        self._columns, self._quantile, self._count, self._size = columns, quantile, count, size
        self._rows = [*zip(*columns, strict=True), *unit]
        self._basis = list(range(count, count + size))
        self._inverse = [list(row) for row in unit]
        self._residuals = list(targets)
        self._above = [True] * count
        self._pull = [far + quantile * sum(column) for far, column in zip(pull, columns, strict=True)]
        self.weights = [0.0] * size
        self.arrived = True
        for _ in range(_MOST_STEPS):
            if not self._step():
                break

    def _step(self) -> bool:
        """Go along the steepest edge; False at the optimum."""
        place, sign, slope = self._steepest()
        if slope >= 0.0:
            return False
        edge = [sign * row[place] for row in self._inverse]
        moved = weighted_sums(self._columns, edge)
        for row in self._basis:
            if row < self._count:
                moved[row] = 0.0
        found = self._lowest_point(slope, edge, moved)
        if found is None:
            self.arrived = False
            return False
        length, entering, passed = found
        leaving = self._basis[place]
        self._cross(passed)
        self._exchange(place, entering, sign)
        self.weights = [max(weight + length * change, 0.0) for weight, change in zip(self.weights, edge, strict=True)]
        self._residuals = [left - length * change for left, change in zip(self._residuals, moved, strict=True)]
        if leaving < self._count:
            self._residuals[leaving] = -sign * length
        return True

    def _steepest(self) -> tuple[int, float, float]:
        """Return which row of the basis to leave, to which side (1: the plane rises above it), and the loss's slope."""
        best, found = -_FLAT, (0, 1.0, 0.0)
        for place, row in enumerate(self._basis):
            edge = [line[place] for line in self._inverse]
            pull, length = sum(map(mul, self._pull, edge)), sum(map(abs, edge))
            target = row < self._count
            for sign, cost in (
                (1.0, 1.0 - self._quantile if target else 0.0),
                (-1.0, self._quantile if target else _BOUND),
            ):
                slope = cost - sign * pull
                if slope / length < best:
                    best, found = slope / length, (place, sign, slope)
        return found

    def _lowest_point(self, slope: float, edge: list[float], moved: list[float]) -> tuple[float, int, list[int]] | None:
        """Return how far the loss falls along the edge, the row met there, and the rows passed on the way."""
        meetings = [
            (left / change, row)
            for row, (left, change, above) in enumerate(zip(self._residuals, moved, self._above, strict=True))
            if change and (change > 0.0) is above
        ]
        for place, change in enumerate(edge):
            row = self._count + place
            if change < 0.0 and row not in self._basis:
                meetings.append((self.weights[place] / -change, row))
        meetings.sort()
        passed: list[int] = []
        for length, row in meetings:
            slope += abs(moved[row]) if row < self._count else _BOUND
            if slope >= 0.0:
                return max(length, 0.0), row, passed
            passed.append(row)
        return None

    def _cross(self, passed: list[int]) -> None:
        for row in passed:
            self._add(row, -1.0 if self._above[row] else 1.0)
            self._above[row] = not self._above[row]

    def _exchange(self, place: int, entering: int, sign: float) -> None:
        """Let one row into the basis in the place of another, which comes to lie on the side that `sign` says."""
        leaving, quantile = self._basis[place], self._quantile
        if entering < self._count:
            self._add(entering, -quantile if self._above[entering] else 1.0 - quantile)
        if leaving < self._count:
            self._above[leaving] = sign < 0.0
            self._add(leaving, quantile if sign < 0.0 else quantile - 1.0)
        self._basis[place] = entering
        row = self._rows[entering]
        products = [sum(map(mul, row, column)) for column in zip(*self._inverse, strict=True)]
        for line in self._inverse:
            part = line[place] / products[place]
            for other, product in enumerate(products):
                line[other] -= product * part
            line[place] = part

    def _add(self, row: int, share: float) -> None:
        values = self._rows[row]
        self._pull = [pull + share * value for pull, value in zip(self._pull, values, strict=True)]
