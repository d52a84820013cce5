"""The posterior is that of Gaussians, whichever way it is computed."""

from pathlib import Path

import numpy as np
import pytest

from profiler.posterior import Belief, Evidence, Noise, design, evidence, posterior, resolution
from profiler.prior import ROOFLINE, Places, covariance, growth
from profiler.samples import Measured, read_samples

A100 = [
    each
    for each in read_samples(Path(__file__).parents[2] / "profiler/samples/measured-runtimes.csv")
    if each.hardware == "a100"
]


def some(measured: Measured, count: int, seed: int = 1) -> Measured:
    keep = np.zeros(len(measured.prompt), dtype=bool)
    keep[np.random.default_rng(seed).permutation(len(keep))[:count]] = True
    return measured.where(keep)


def looked(number: int, count: int) -> Evidence:
    return evidence(some(A100[number], count), growth(A100[number]), number)


@pytest.mark.parametrize(
    ("seconds", "step"),
    [([0.1, 0.123], 1e-3), ([0.1234], 1e-4), ([1.0], 1e-3), ([0.123456], 1e-6), ([1 / 3, 0.1], 0.0)],
    ids=str,
)
def test_the_step_of_rounding_is_found(seconds: list[float], step: float) -> None:
    assert resolution(np.array(seconds)) == pytest.approx(step)


def test_t_is_linear_in_the_deviations() -> None:
    mean = growth(A100[5])
    knots = np.array([16.0, 64.0, 256.0])
    prompt, output = np.array([16, 64, 160, 8, 999]), np.array([1, 5, 3, 2, 1])
    expected, matrix = design(prompt, output, knots, mean)
    tokens = (output - 1) * (2 * prompt + output) / 2
    first = mean.prompt(prompt.astype(float))
    assert expected == pytest.approx(first + (output - 1) * mean.step + tokens * mean.context)
    assert matrix[:, :3] / first[:, None] == pytest.approx(
        np.array([[1, 0, 0], [0, 1, 0], [0, 0.5, 0.5], [1, 0, 0], [0, 0, 1]])
    )
    assert matrix[:, 3] == pytest.approx((output - 1) * mean.step)


def test_the_posterior_is_that_of_all_runs_at_once() -> None:
    parts = [looked(0, 25), looked(5, 12)]
    shared = posterior(parts, ROOFLINE)
    precision = np.zeros((len(shared.places.size),) * 2)
    split = len(parts[0].force)
    precision[:split, :split], precision[split:, split:] = parts[0].precision, parts[1].precision
    prior = covariance(shared.places, shared.places, ROOFLINE)
    around = np.linalg.inv(np.linalg.inv(prior + 1e-12 * np.eye(len(prior))) + precision)
    believed = shared.believe(shared.places)
    assert believed.value == pytest.approx(around @ np.concatenate([part.force for part in parts]), abs=1e-5)
    assert believed.covariance == pytest.approx(around, abs=1e-7)


@pytest.mark.parametrize("counts", [(10, 40), (40, 200)])
def test_more_runs_leave_less_unknown(counts: tuple[int, int]) -> None:
    spreads = []
    for count in counts:
        part = looked(3, count)
        place = Places.of(3, part.mean, np.array([1.0, 100.0, 1500.0]))
        spreads.append(np.trace(posterior([part], ROOFLINE).believe(place).covariance))
    assert 0 < spreads[1] < spreads[0]


def test_others_tell_of_a_model_that_never_ran() -> None:
    parts = [looked(number, 200) for number in (2, 3)]
    place = Places.of(4, growth(A100[4]), np.array([64.0]))
    alone = covariance(place, place, ROOFLINE)
    assert posterior(parts, ROOFLINE).believe(place).covariance[0, 0] < alone[0, 0]


def test_scatter_is_learned_and_outliers_count_little() -> None:
    measured, random = A100[3], np.random.default_rng(3)
    mean = growth(measured)
    expected, _ = design(measured.prompt, measured.output, np.unique(measured.prompt).astype(float), mean)
    for scatter in (0.01, 0.05):
        seconds = expected * (1 + scatter * random.standard_normal(len(expected)))
        noisy = Measured("a100", "m", 4, measured.prompt, measured.output, seconds, measured.batch)
        assert evidence(noisy, mean, 0).noise.scatter == pytest.approx(scatter, rel=0.35)
    seconds = expected.copy()
    seconds[100] *= 3
    wild = evidence(Measured("a100", "m", 4, measured.prompt, measured.output, seconds, measured.batch), mean, 0)
    assert wild.noise.scatter < 0.01
    assert posterior([wild], ROOFLINE).believe(wild.places).value == pytest.approx(0, abs=0.01)


def test_many_sizes_share_knots() -> None:
    prompt = np.arange(1, 1001)
    many = Measured("x", "m", 1, prompt, 1 + prompt % 3, 0.1 + prompt * 1e-4 + prompt % 3 * 0.01, np.ones_like(prompt))
    part = evidence(many, growth(many), 0)
    assert len(part.knots) == 64
    assert (part.knots[0], part.knots[-1]) == (1, 1000)
    assert np.abs(part.unexplained).max() < 0.01


def test_what_is_known_is_known() -> None:
    belief = Belief(np.array([0.0, 1.0]), np.array([[2.0, 1.0], [1.0, 2.0]])).known(1, 3.0)
    assert belief.value == pytest.approx([1.0, 3.0])
    assert belief.covariance == pytest.approx(np.array([[1.5, 0.0], [0.0, 0.0]]))


def test_only_single_requests_are_evidence() -> None:
    measured = A100[0]
    batched = Measured(
        "a100", "m", 1, np.tile(measured.prompt, 2), np.tile(measured.output, 2), np.tile(measured.seconds, 2),
        np.repeat([1, 8], len(measured.batch)),
    )  # fmt: skip
    mean = growth(measured)
    assert np.array_equal(evidence(batched, mean, 0).force, evidence(measured, mean, 0).force)


def test_noise_is_a_fraction_and_a_rounding() -> None:
    assert Noise(0.1, 0.3).variance(np.array([4.0])) == pytest.approx([0.25])
