"""The default fit: what it must always hold, what it reaches on the published measurements, and what it refuses."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from profiler.choice import see
from profiler.crossval import interior_sizes
from profiler.fitting import FitFault, Fitted, elsewhere, fit, fit_errors, row, runtimes
from profiler.learned import learn_one
from profiler.samples import Measured, SamplesError, read_samples
from stream.runtime import Coefficients, runtime_seconds

MEASURED = read_samples(Path(__file__).parents[2] / "profiler/samples/measured-runtimes.csv")
FITTED = fit(MEASURED)
LARGE = next(each for each in MEASURED if each.model == "ai21/j1-large" and each.hardware == "a100")
UNKNOWN = replace(LARGE, architecture=None)


def runs_of(points: list[tuple[int, int, float]], **more: object) -> Measured:
    prompt, output, seconds = (np.array(column) for column in zip(*points, strict=True))
    made = Measured("somewhere", "m", 1, prompt, output, seconds.astype(float), np.ones_like(prompt))
    return replace(made, **more)  # type: ignore[arg-type]


def rises(coefficients: Coefficients) -> bool:
    return (
        bool(np.all(np.diff(coefficients.prompt_seconds) >= 0))
        and coefficients.prompt_seconds[0] > 0
        and min(coefficients.per_output_token, coefficients.context) >= 0
    )


@pytest.mark.parametrize("each", FITTED, ids=[each.measured.name for each in FITTED])
def test_published_measurements_are_met(each: Fitted) -> None:
    assert rises(each.coefficients)
    a100 = each.measured.hardware == "a100"
    assert each.errors.points == len(each.measured.prompt)
    assert each.errors.r2 > (0.9995 if a100 else 0.98)
    assert each.errors.median < (0.005 if a100 else 0.06)
    assert each.errors.p95 < (0.04 if a100 else 0.15)
    assert each.errors.median <= each.errors.p95 <= each.errors.largest
    assert set(np.unique(each.measured.prompt).tolist()) <= set(each.coefficients.knots)
    assert each.intervals["level"] == 0.8
    for name in ("runtime_per_output_token", "runtime_for_prompt_tokens", "runtime"):
        low, high = each.intervals[name]  # type: ignore[misc]
        assert 0.8 < low < 1 < high < 1.2
    assert (each.mean, each.note) == (f"roofline {each.measured.hardware}-megatron", None)
    low, high = each.intervals["runtime"]  # type: ignore[misc]
    true = each.measured.seconds * each.measured.scale / runtimes(each.coefficients, each.measured)
    assert 0.75 < np.mean((true >= low) & (true <= high)) <= 1


def test_the_order_of_samples_is_kept_and_scale_applied() -> None:
    assert [each.measured.name for each in FITTED] == [each.name for each in MEASURED]
    part = next(each for each in FITTED if each.measured.scale == 3.0)
    assert part.coefficients.per_output_token == pytest.approx(3 * 0.0407, rel=0.02)


def test_the_published_method_can_be_chosen() -> None:
    (published,) = fit([LARGE], "paper")
    assert (published.method, published.coefficients.per_output_token) == ("paper", 0.024)
    assert FITTED[2].method == "posterior"
    with pytest.raises(FitFault, match="method 'guess' is not known: there are posterior, paper"):
        fit([LARGE], "guess")


def test_errors_are_of_the_whole_model() -> None:
    measured = runs_of([(1, 1, 1.0), (1, 2, 2.0), (3, 1, 4.0)], scale=2.0)
    errors = fit_errors(Coefficients(2.0, (1, 3), (2.0, 10.0)), measured)
    assert (errors.points, errors.median, errors.largest) == (3, 0.0, 0.25)
    assert errors.p95 == pytest.approx(0.225)
    assert errors.r2 == pytest.approx(1 - 4 / 18.667, rel=1e-3)


def test_runtimes_are_those_of_the_stream() -> None:
    row = Coefficients(0.02, (1, 100, 900), (0.1, 0.2, 0.9), overhead=0.01, context=1e-6)
    points = [(p, o, 1.0) for p in (1, 50, 900, 2000) for o in (1, 2, 64)]
    expected = [runtime_seconds(row, p, o) for p, o, _ in points]
    assert runtimes(row, runs_of(points)) == pytest.approx(expected)


RUNS = st.lists(
    st.tuples(st.integers(1, 5000), st.sampled_from([1, 2, 3, 40]), st.floats(1e-3, 50)), min_size=2, max_size=30
)


@given(RUNS)
@settings(max_examples=60)
def test_whatever_was_measured_t_never_falls(runs: list[tuple[int, int, float]]) -> None:
    measured = runs_of([*runs, (7, 1, 0.5), (7, 2, 0.6)])
    (found,) = fit([measured])
    assert rises(found.coefficients)
    assert np.isfinite([*found.coefficients.prompt_seconds, found.errors.r2, found.errors.largest]).all()
    (known,) = fit([replace(measured, architecture=LARGE.architecture, hardware="a100")])
    assert rises(known.coefficients)


def test_context_is_shown_only_where_there_is_some() -> None:
    random = np.random.default_rng(5)
    for gamma in (0.0, 4e-7):
        points = [
            (p, o, (0.05 + p * 1e-4 + (o - 1) * 0.02 + gamma * (o - 1) * (2 * p + o) / 2) * factor)
            for p in (1, 256, 1024, 4096, 16384)
            for o in (1, 2, 8, 64, 256)
            for factor in [1 + 0.004 * random.standard_normal()]
        ]
        (found,) = fit([runs_of(points)])
        assert found.coefficients.context == pytest.approx(gamma, rel=0.1)
        assert found.coefficients.per_output_token == pytest.approx(0.02, rel=0.01)


@pytest.mark.parametrize(
    ("measured", "note"),
    [
        (LARGE.where(LARGE.prompt == 64), None),
        (UNKNOWN.where(LARGE.prompt == 64), None),
        (UNKNOWN, None),
        (LARGE.where(LARGE.output == 1), "F and beta are told apart by the roofline"),
        (LARGE.where((LARGE.output == 8) & (LARGE.prompt == 64)), "F and beta are told apart by the roofline"),
        (LARGE.where(np.arange(270) % 9 == 0), None),
    ],
    ids=["one size", "one size, no shape", "no shape", "one output", "one run", "a ninth"],
)
def test_little_is_enough(measured: Measured, note: str | None) -> None:
    (found,) = fit([measured])
    assert (note or "") in (found.note or "")
    assert (found.note is None) == (note is None)
    assert found.coefficients.per_output_token == pytest.approx(0.02373, rel=0.03)
    assert found.errors.p95 < 0.05


@pytest.mark.parametrize("method", ["posterior", "paper"])
def test_what_cannot_be_fitted_is_said(method: str) -> None:
    batched = replace(LARGE, batch=np.full(270, 8))
    with pytest.raises((FitFault, SamplesError), match="j1-large on a100, tensor parallel 1: no runs of batch size 1"):
        fit([batched], method)
    with pytest.raises((FitFault, SamplesError), match="every run"):
        fit([UNKNOWN.where(LARGE.output == 1)], method)


def test_points_on_one_line_do_not_tell_f_and_beta_apart() -> None:
    two = Measured("mine", "m", 1, *(np.array(each) for each in ([1, 1920], [1, 64], [0.087, 5.7], [1, 1])))
    with pytest.raises(FitFault, match="prompt and output tokens grow together in its 2 runs: F and beta cannot be"):
        fit([two])
    third = Measured(
        "mine", "m", 1, *(np.array(each) for each in ([1, 1920, 1], [1, 64, 64], [0.087, 5.7, 5.2], [1, 1, 1]))
    )
    (fitted,) = fit([third])
    assert fitted.coefficients.per_output_token == pytest.approx((5.2 - 0.087) / 63, rel=0.05)


def test_a_hardware_of_another_software_is_fitted_from_its_samples() -> None:
    slow = replace(LARGE, seconds=LARGE.seconds * 4)
    (found,) = fit([slow])
    assert found.coefficients.per_output_token == pytest.approx(4 * 0.02373, rel=0.01)
    assert found.errors.p95 < 0.02


def test_very_many_models_are_fitted_in_groups() -> None:
    points = [(p, o, 0.1 + p * 1e-4 + o * 0.01) for p in range(1, 400, 20) for o in (1, 4)]
    many = [runs_of(points, model=f"m{number}") for number in range(60)]
    found = fit(many)
    assert len(found) == 60
    assert max(each.errors.largest for each in found) < 0.01


CHAT = {"layers": 32, "hidden": 4096, "heads": 32, "kv_heads": 32, "head_dim": 128, "ffn": 11008}


def test_an_architecture_never_makes_it_notably_worse() -> None:
    """Software that the roofline of the hardware's name does not know: twice as fast, and with another course."""
    random, shape = np.random.default_rng(3), replace(LARGE.architecture, **CHAT)  # type: ignore[type-var]
    sizes, outputs = (32, 128, 512, 1024, 2048, 4096), (1, 16, 64, 256)

    def seconds(p: int, o: int) -> float:
        return 0.019 + 2.2e-4 * p + 1e-9 * p * p + (o - 1) * 0.0205 + 1.5e-7 * (o - 1) * (2 * p + o) / 2

    grid = [(p, o) for p in sizes for o in outputs for _ in range(2)]
    known = runs_of([(p, o, seconds(p, o) * random.normal(1, 0.02)) for p, o in grid], hardware="a100")
    with_shape, without = fit([replace(known, architecture=shape)])[0], fit([known])[0]
    assert (with_shape.mean, with_shape.coefficients) == ("smooth growth", without.coefficients)
    truth = np.array([seconds(p, 1) for p in sizes])
    for found in (with_shape, without):
        off = runtimes(found.coefficients, runs_of([(p, 1, 1.0) for p in sizes])) / truth - 1
        assert np.abs(off).max() < 0.04


@pytest.mark.parametrize("gamma", [0.0, 3e-8, 1.5e-7])
@pytest.mark.parametrize("noise", [0.005, 0.02])
def test_bands_hold_the_truth_of_smooth_courses(noise: float, gamma: float) -> None:
    held: dict[str, list[bool]] = {"runtime_for_prompt_tokens": [], "runtime_per_output_token": [], "runtime": []}
    wide = []
    for seed in range(30):
        random = np.random.default_rng(seed)
        a, b, c, beta = random.uniform((0.013, 1e-4, 0, 0.014), (0.03, 4e-4, 5e-9, 0.03))
        prompt, output = (each.ravel() for each in np.meshgrid([32, 128, 512, 1024, 2048, 4096] * 2, [1, 16, 64, 256]))
        truth = a + b * prompt + c * prompt**2 + (output - 1) * (beta + gamma * (2 * prompt + output) / 2)
        first = a + b * prompt + c * prompt**2
        noisy = [truth * random.normal(1, noise, len(truth)) for _ in range(2)]
        runs = Measured("x", "m", 1, prompt, output, noisy[0], np.ones_like(prompt))
        (found,) = fit([runs])
        low, high = found.intervals["runtime_for_prompt_tokens"]  # type: ignore[misc]
        wide.append(high - low)
        given = runtimes(found.coefficients, replace(runs, output=np.ones_like(output)))
        for name, off in (
            ("runtime_for_prompt_tokens", first / given),
            ("runtime_per_output_token", np.array([beta / found.coefficients.per_output_token])),
            ("runtime", noisy[1] / runtimes(found.coefficients, runs)),
        ):
            low, high = found.intervals[name]  # type: ignore[misc]
            held[name] += ((off >= low) & (off <= high)).tolist()
    assert np.mean(wide) / 2 < (0.01 if noise < 0.01 else 0.025)
    assert np.mean(held["runtime_for_prompt_tokens"]) >= 0.8
    assert 0.65 <= np.mean(held["runtime_per_output_token"]) <= 0.97
    assert 0.7 <= np.mean(held["runtime"]) <= 0.95


@pytest.mark.parametrize("hardware", ["a100", "v100"])
def test_bands_hold_what_was_left_out(hardware: str) -> None:
    samples = [each for each in MEASURED if each.hardware == hardware]
    seen, held, first = [see(each) for each in samples], [], []
    for number, whole in enumerate(samples):
        for size in interior_sizes(whole)[number % 4 :: 4]:
            part = see(whole.where(whole.prompt != size))
            rest = [*seen[:number], part, *seen[number + 1 :]]
            found = row(learn_one(rest, number), elsewhere(samples, whole))
            left = whole.where(whole.prompt == size)
            off = left.seconds * left.scale / runtimes(found.coefficients, left)
            low, high = found.intervals["runtime"]  # type: ignore[misc]
            held.append(np.mean((off >= low) & (off <= high)))
            low, high = found.intervals["runtime_for_prompt_tokens"]  # type: ignore[misc]
            first.append(np.mean((off >= low)[left.output == 1] & (off <= high)[left.output == 1]))
    assert 0.7 <= np.mean(held) <= 0.95
    assert 0.65 <= np.mean(first) <= 0.95


def test_the_intervals_of_the_published_method_say_what_they_are() -> None:
    (published,) = fit([LARGE], "paper")
    assert published.mean is None
    assert published.note == "intervals are those of the samples themselves, not of what was not measured"
