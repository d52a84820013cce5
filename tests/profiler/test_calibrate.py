"""Calibration: it finds constants that are known, what ships comes out of it, and degrees that cannot be are mended."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from profiler.architectures import Architecture
from profiler.calibrate import PRIOR, calibrate, plausible, runtimes, stack_of
from profiler.calibrated import calibrated
from profiler.hardware import Hardware, HardwareError, hardware, stacks
from profiler.samples import Measured, read_samples

SAMPLES = Path(__file__).parents[2] / "profiler" / "samples"
PAPER = read_samples(SAMPLES / "measured-runtimes.csv")
SPLITWISE = read_samples(SAMPLES / "splitwise-llama-2-70b.csv")
A100, V100 = hardware("a100"), hardware("v100")
ON_FILES = {name: stack for name, stack in stacks().items() if stack.calibrated_on.endswith(".csv")}


def shape(layers: int, hidden: int, *, gated: bool = False) -> Architecture:
    heads = hidden // 128
    ffn = 8 * hidden // 3 if gated else 4 * hidden
    return Architecture("m", layers, hidden, heads, heads, 128, ffn, 51_200, 0.0, "", tied=True, gated=gated)


def measure(model: Architecture, stack: Hardware, tensor: int, noise: float = 0.0) -> Measured:
    """What a model would take if the roofline of `stack` were the truth."""
    prompt, output = (grid.ravel() for grid in np.meshgrid([1, 64, 256, 512, 1024, 2048], [1, 8, 64]))
    empty = Measured(stack.name, "m", tensor, prompt, output, np.ones(18), np.ones(18, np.int64), model)
    seconds = runtimes(empty, stack) * np.exp(noise * np.random.default_rng(1).standard_normal(18))
    return replace(empty, seconds=seconds)


def on(name: str) -> list[Measured]:
    return [each for each in PAPER if each.hardware == name]


def invented(noise: float = 0.0) -> list[Measured]:
    truth = replace(A100, host_layer=0.4e-3, read=0.65, compute=0.8, step=3e-3, reduce_link=0.6)
    shapes = [(24, 2048, 1), (32, 4096, 1), (40, 8192, 2), (80, 8192, 4), (60, 16384, 8), (96, 12288, 8)]
    return [measure(shape(layers, hidden), truth, tensor, noise) for layers, hidden, tensor in shapes]


def test_constants_that_are_known_are_found() -> None:
    found = calibrate(invented(), A100)
    assert found.host_layer == pytest.approx(0.4e-3, rel=0.05)
    assert found.read == pytest.approx(0.65, rel=0.05)
    assert found.compute == pytest.approx(0.8, rel=0.05)
    assert found.step == pytest.approx(3e-3, rel=0.1)
    other = measure(shape(48, 6144, gated=True), replace(found, name="truth"), 1)
    assert np.abs(runtimes(other, found) / other.seconds - 1).max() < 0.01


def test_a_few_runtimes_that_are_far_off_do_no_harm() -> None:
    clean, dirty = invented(noise=0.01), []
    for each in clean:
        wrong = each.seconds.copy()
        wrong[4] *= 10
        dirty.append(replace(each, seconds=wrong))
    one, two = calibrate(clean, A100), calibrate(dirty, A100)
    other = measure(shape(48, 6144), one, 1)
    assert np.abs(runtimes(other, two) / other.seconds - 1).max() < 0.05


def test_a_model_with_one_run_counts_as_one() -> None:
    samples = invented()
    single = samples[1].where(np.arange(18) == 7)
    wrong = replace(single, model="one", seconds=single.seconds * 2)
    found, alone = (calibrate(each, A100) for each in ([*samples, wrong], samples))
    other = measure(shape(48, 6144), alone, 1)
    assert np.abs(runtimes(other, found) / other.seconds - 1).max() < 0.01


def test_constants_in_columns_are_as_many_stacks() -> None:
    [one, *_] = on("a100")
    column: Any = np.array([[0.5e-3], [1e-3]])
    both = runtimes(one, replace(A100, host_layer=column))
    assert both.shape == (2, len(one.seconds))
    for row, host in zip(both, (0.5e-3, 1e-3), strict=True):
        assert row == pytest.approx(runtimes(one, replace(A100, host_layer=host)))


def test_what_the_start_says_of_fitted_constants_leaves_no_trace() -> None:
    [one, two, *_] = on("a100")
    wrong: dict[str, Any] = dict.fromkeys(A100.fitted, 0.123)
    assert calibrate([one, two], replace(A100, **wrong)) == calibrate([one, two], A100)


def test_constants_without_measurements_stay_at_the_prior() -> None:
    # One device alone shows nothing of links.
    found = calibrate([each for each in on("a100") if each.tensor == 1], A100)
    assert found.reduce_link == pytest.approx(PRIOR["reduce_link"][0], rel=0.01)
    assert found.host_reduce == pytest.approx(PRIOR["host_reduce"][0], rel=0.01)


@pytest.mark.parametrize("stack", ON_FILES.values(), ids=ON_FILES)
def test_the_shipped_constants_are_what_the_shipped_samples_give(stack: Hardware) -> None:
    found = calibrated(stack)
    for name in stack.fitted:
        assert getattr(found, name) == pytest.approx(getattr(stack, name), rel=0.01), "python -m profiler.calibrated"
    assert len(stack.fitted) <= 9
    assert set(stack.fitted) <= set(PRIOR)


def test_a_stack_that_stands_on_kernels_can_be_calibrated_on_requests() -> None:
    truth = replace(hardware("h200"), read=0.8, step=0.5e-3)
    samples = [measure(shape(32, 4096, gated=True), truth, 1), measure(shape(80, 8192, gated=True), truth, 4)]
    found = calibrate(samples, hardware("h200"))
    for each in samples:
        assert np.abs(runtimes(each, found) / each.seconds - 1).max() < 0.03


# ---- which stack, and which degree

NAMED = [
    (PAPER, "a100", "a100-megatron"),
    (PAPER, "v100", "v100-megatron"),
    (SPLITWISE, "a100-80gb", "a100-vllm-2023"),
    (SPLITWISE, "h100-80gb", "h100-vllm-2023"),
]


@pytest.mark.parametrize(("samples", "name", "stack"), NAMED, ids=[name for _, name, _ in NAMED])
def test_the_stack_of_samples_is_the_one_that_fits(samples: tuple[Measured, ...], name: str, stack: str) -> None:
    found = [each for each in samples if each.hardware == name]
    assert stack_of(found).name == stack
    assert stack_of(found, f"NVIDIA {name.upper()}").name == stack
    assert stack_of(found, "a100-vllm-2023").name == "a100-vllm-2023"
    # What runs today is as the server of today has it.
    today = [measure(shape(32, 4096, gated=True), hardware("h100"), 1)]
    assert stack_of(today, "h100").name == "h100"


def test_hardware_that_is_not_known_has_no_stack() -> None:
    with pytest.raises(HardwareError, match="'tpu' is not known"):
        stack_of(on("a100"), "tpu")


DEGREES = [
    ("v100", "ai21/j1-grande", 1, 2),  # its weights alone fill the memory
    ("v100", "microsoft/TNLGv2_530B", 8, 16),
    ("v100", "ai21/j1-large", 1, 1),
    ("v100", "openai/davinci", 16, 16),
    ("v100", "anthropic/stanford-online-all-v4-s3", 4, 4),
    ("a100", "ai21/j1-grande", 1, 1),
    ("a100", "microsoft/TNLGv2_530B", 8, 8),
]


@pytest.mark.parametrize(("name", "model", "recorded", "mended"), DEGREES)
def test_degrees_that_cannot_be_are_mended(name: str, model: str, recorded: int, mended: int) -> None:
    [found] = [each for each in on(name) if each.model == model]
    assert found.tensor == recorded
    better = plausible(found, hardware(name))
    assert better.tensor == mended
    assert plausible(better, hardware(name)) == better


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(["a100", "v100"]), st.integers(8, 120), st.integers(8, 160), st.sampled_from([1, 2, 4, 8]))
def test_what_the_roofline_itself_takes_is_plausible_where_it_fits(
    name: str, layers: int, wide: int, more: int
) -> None:
    stack, model = hardware(name), shape(layers, 128 * wide)
    samples = measure(model, stack, more)
    found = plausible(samples, stack).tensor
    weights = 2 * model.total_parameters()
    assert found == more or weights / more > 0.94 * stack.memory_bytes
    assert weights / found <= stack.memory_bytes


def test_a_few_runtimes_that_cannot_be_do_not_change_the_degree() -> None:
    samples = measure(shape(32, 4096), A100, 1)
    seconds = samples.seconds.copy()
    seconds[0] = 1e-6
    assert plausible(replace(samples, seconds=seconds), A100).tensor == 1
    assert plausible(replace(samples, seconds=samples.seconds / 30), A100).tensor > 1
    # Seconds in another unit are not a matter of degrees.
    assert plausible(replace(samples, seconds=samples.seconds / 1e6), A100).tensor == 1


def test_runtimes_that_are_not_known_say_nothing_of_degrees() -> None:
    for name, model, _, mended in DEGREES:
        [found] = [each for each in on(name) if each.model == model]
        blank = replace(found, seconds=np.full(len(found.seconds), np.inf))
        assert plausible(blank, hardware(name)).tensor == mended


def test_without_an_architecture_a_degree_stands() -> None:
    [first, *_] = on("v100")
    unknown = replace(first, architecture=None)
    assert plausible(unknown, V100) is unknown
