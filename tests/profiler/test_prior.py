"""The prior: means of two sorts, and a covariance that is one."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler.hardware import hardware
from profiler.prior import GROWTH, ROOFLINE, Places, Scales, covariance, growth, roofline
from profiler.samples import Measured, read_samples

MEASURED = {
    each.name: each for each in read_samples(Path(__file__).parents[2] / "profiler/samples/measured-runtimes.csv")
}
A100 = [each for each in MEASURED.values() if each.hardware == "a100"]
SIZES = st.lists(st.integers(1, 100_000), min_size=1, max_size=12, unique=True).map(
    lambda sizes: np.array(sorted(sizes), dtype=np.float64)
)


def runs_of(points: list[tuple[int, int, float]]) -> Measured:
    prompt, output, seconds = (np.array(column) for column in zip(*points, strict=True))
    return Measured("somewhere", "m", 1, prompt, output, seconds.astype(float), np.ones_like(prompt))


@pytest.mark.parametrize(
    ("a", "b", "c", "beta", "gamma"), [(0.02, 1e-4, 1e-8, 0.03, 1e-6), (1, 0, 0, 0, 0), (1, 0, 1e-6, 2, 0)]
)
def test_growth_finds_what_there_is(a: float, b: float, c: float, beta: float, gamma: float) -> None:
    def seconds(p: int, o: int) -> float:
        return a + b * p + c * p * p + (o - 1) * beta + gamma * (o - 1) * (2 * p + o) / 2

    mean = growth(runs_of([(p, o, seconds(p, o)) for p in (1, 64, 500, 2000) for o in (1, 2, 32)]))
    sizes = np.array([1.0, 300.0, 1999.0])
    assert mean.prompt(sizes) == pytest.approx([seconds(int(p), 1) for p in sizes], rel=1e-6)
    assert (mean.step, mean.context) == (pytest.approx(beta, abs=1e-9), pytest.approx(gamma, abs=1e-12))
    assert not mean.steps(sizes).any()


def test_growth_of_one_size_gives_further_tokens_to_beta() -> None:
    mean = growth(runs_of([(100, o, 0.1 + 0.02 * (o - 1)) for o in (1, 2, 3)]))
    assert mean.step == pytest.approx(0.02, rel=0.1)


@pytest.mark.parametrize("each", A100, ids=[each.model for each in A100])
def test_the_roofline_is_near_what_was_measured(each: Measured) -> None:
    mean = roofline(each, hardware(each.hardware))
    assert mean is not None
    first = each.output == 1
    assert np.median(np.abs(mean.prompt(each.prompt[first].astype(float)) / each.seconds[first] - 1)) < 0.15
    assert 0 <= mean.bound < 5


def test_without_architecture_there_is_no_roofline() -> None:
    assert roofline(replace(A100[0], architecture=None), hardware("a100")) is None


@given(SIZES, SIZES, st.sampled_from([ROOFLINE, GROWTH, Scales(rough=0.0)]))
def test_covariances_are_covariances(one: np.ndarray, other: np.ndarray, scales: Scales) -> None:
    means = [growth(A100[0]), growth(A100[6])]
    places = Places.joined([Places.of(0, means[0], one), Places.of(1, means[1], other)])
    matrix = covariance(places, places, scales)
    assert np.array_equal(matrix, matrix.T)
    assert np.linalg.eigvalsh(matrix).min() > -1e-12
    assert matrix[len(one) + 1, -1] == 0  # gammas have nothing in common
    assert np.array_equal(covariance(places, Places.of(0, means[0], one), scales), matrix[:, : len(one) + 2])


def test_models_that_are_alike_share_more() -> None:
    mean, alike, unlike = growth(A100[2]), growth(A100[4]), growth(A100[5])
    sizes = np.array([64.0])
    shared = [
        covariance(Places.of(0, mean, sizes), Places.of(1, other, sizes), ROOFLINE)[0, 0] for other in (alike, unlike)
    ]
    assert shared[0] > shared[1] > 0


def test_a_growth_is_an_estimate() -> None:
    mean, sizes = growth(A100[2]), np.array([1.0, 2000.0])
    place = Places.of(0, mean, sizes)
    free = covariance(place, place, replace(GROWTH.times(0.0), context=0.0))
    assert mean.shares is not None
    assert mean.shares(sizes).sum(axis=1) == pytest.approx(1)
    assert free == pytest.approx(GROWTH.free**2 * place.parts @ place.parts.T)
    assert np.diag(free)[2:] == pytest.approx([GROWTH.free**2, 0])


def test_a_multiplier_is_of_all_that_lies_off_the_mean() -> None:
    mean = growth(A100[2])
    place = Places.of(0, mean, np.array([1.0, 64.0, 2000.0]))
    once, thrice = (covariance(place, place, ROOFLINE.times(multiplier)) for multiplier in (1, 3))
    assert thrice[:-1, :-1] == pytest.approx(9 * once[:-1, :-1])
    assert thrice[-1, -1] == once[-1, -1]
