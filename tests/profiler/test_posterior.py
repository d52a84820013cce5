"""The posterior is that of Gaussians, whichever way it is computed."""

from pathlib import Path

import numpy as np
import pytest

from profiler.posterior import Belief, Evidence, Noise, design, evidence, posterior, resolution, score
from profiler.prior import GROWTH, ROOFLINE, Places, covariance, growth
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
    return evidence(some(A100[number], count), growth(A100[number]))


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
    every = around @ np.concatenate([part.force for part in parts])
    for part, there in zip(parts, (slice(0, split), slice(split, None)), strict=True):
        believed = shared.believe(part.mean, part.knots, part)
        assert believed.value == pytest.approx(every[there], abs=1e-5)
        assert believed.covariance == pytest.approx(around[there, there], abs=1e-7)


@pytest.mark.parametrize("counts", [(10, 40), (40, 200)])
def test_more_runs_leave_less_unknown(counts: tuple[int, int]) -> None:
    spreads = []
    for count in counts:
        part = looked(3, count)
        believed = posterior([part], ROOFLINE).believe(part.mean, np.array([1.0, 100.0, 1500.0]), part)
        spreads.append(np.trace(believed.covariance))
    assert 0 < spreads[1] < spreads[0]


def test_others_tell_of_a_model_that_never_ran() -> None:
    parts = [looked(number, 200) for number in (2, 3)]
    mean, sizes = growth(A100[4]), np.array([64.0])
    place = Places.of(0, mean, sizes)
    alone = covariance(place, place, ROOFLINE)
    assert posterior(parts, ROOFLINE).believe(mean, sizes).covariance[0, 0] < alone[0, 0]


def test_a_model_that_never_ran_is_none_of_the_others() -> None:
    parts = [looked(number, 200) for number in (2, 3)]
    shared, sizes = posterior(parts, ROOFLINE), np.array([64.0])
    seen, unseen = shared.believe(parts[0].mean, sizes, parts[0]), shared.believe(parts[0].mean, sizes)
    assert unseen.covariance[0, 0] > ROOFLINE.own_level**2 > seen.covariance[0, 0]


@pytest.mark.parametrize("numbers", [(0,), (0, 5)], ids=["one model", "two"])
def test_the_score_is_the_density_of_the_runs(numbers: tuple[int, ...]) -> None:
    parts = [looked(number, 25) for number in numbers]
    places = Places.joined([part.numbered(number) for number, part in enumerate(parts)])
    prior = covariance(places, places, GROWTH.times(2))
    blocks, rests = [], []
    for part in parts:
        expected, matrix = design(part.measured.prompt, part.measured.output, part.knots, part.mean)
        blocks.append(matrix)
        rests.append(part.measured.seconds - expected)
    whole = np.zeros((sum(map(len, blocks)), len(prior)))
    whole[: len(blocks[0]), : blocks[0].shape[1]] = blocks[0]
    whole[len(blocks[0]) :, blocks[0].shape[1] :] = blocks[-1] if len(blocks) > 1 else 0
    rest, noise = np.concatenate(rests), np.concatenate([1 / part.certainty for part in parts])
    around = np.diag(noise) + whole @ prior @ whole.T
    density = -0.5 * (rest @ np.linalg.solve(around, rest) + np.linalg.slogdet(2 * np.pi * around)[1])
    assert score(parts, GROWTH, [0.5, 2])[1] == pytest.approx(density, rel=1e-6)


def test_scatter_is_learned_and_outliers_count_little() -> None:
    measured, random = A100[3], np.random.default_rng(3)
    mean = growth(measured)
    expected, _ = design(measured.prompt, measured.output, np.unique(measured.prompt).astype(float), mean)
    for scatter in (0.01, 0.05):
        seconds = expected * (1 + scatter * random.standard_normal(len(expected)))
        noisy = Measured("a100", "m", 4, measured.prompt, measured.output, seconds, measured.batch)
        assert evidence(noisy, mean).noise.scatter == pytest.approx(scatter, rel=0.35)
    seconds = expected.copy()
    seconds[100] *= 3
    wild = evidence(Measured("a100", "m", 4, measured.prompt, measured.output, seconds, measured.batch), mean)
    assert wild.noise.scatter < 0.01
    assert posterior([wild], ROOFLINE).believe(mean, wild.knots, wild).value == pytest.approx(0, abs=0.01)


def test_many_sizes_share_knots() -> None:
    prompt = np.arange(1, 1001)
    many = Measured("x", "m", 1, prompt, 1 + prompt % 3, 0.1 + prompt * 1e-4 + prompt % 3 * 0.01, np.ones_like(prompt))
    part = evidence(many, growth(many))
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
    assert np.array_equal(evidence(batched, mean).force, evidence(measured, mean).force)


def test_noise_is_a_fraction_and_a_rounding() -> None:
    assert Noise(0.1, 0.3).variance(np.array([4.0])) == pytest.approx([0.25])
