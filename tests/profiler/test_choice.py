"""Which mean and how wide a prior samples make likely: alone, together, and where one model is another software's."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from profiler import fit
from profiler.choice import MULTIPLIERS, choose, see, stacks_on
from profiler.hardware import hardware
from profiler.prior import GROWTH, ROOFLINE, roofline
from profiler.samples import Measured, read_samples
from stream.runtime import runtime_seconds

MEASURED = read_samples(Path(__file__).parents[2] / "profiler/samples/measured-runtimes.csv")
A100 = [each for each in MEASURED if each.hardware == "a100"]
V100 = [each for each in MEASURED if each.hardware == "v100"]


def as_on(measured: Measured, stack: str, rough: float = 0.002) -> Measured:
    """The same model as another stack's roofline has it, F rough from size to size."""
    mean = roofline(measured, hardware(stack))
    assert mean is not None
    sizes, at = np.unique(measured.prompt, return_inverse=True)
    random = np.random.default_rng(1)
    first = mean.prompt(sizes.astype(float)) * random.normal(1, rough, len(sizes))
    return replace(measured, seconds=first[at] + (measured.output - 1) * mean.step)


def means(samples: list[Measured]) -> list[str]:
    return [choice.part.mean.name for choice in choose([see(each) for each in samples])]


@pytest.mark.parametrize("samples", [A100, V100], ids=["a100", "v100"])
def test_published_measurements_have_their_roofline(samples: list[Measured]) -> None:
    assert means(samples) == [f"roofline {samples[0].hardware}-megatron"] * 8


def test_a_device_may_run_other_software() -> None:
    assert means([as_on(A100[2], "a100-vllm-2023")]) == ["roofline a100-vllm-2023"]
    assert means([as_on(A100[2], "a100-present")]) == ["roofline a100-present"]


def test_one_of_many_may_have_another_mean() -> None:
    other = as_on(A100[2], "a100-vllm-2023")
    assert means([*A100[:2], other, *A100[3:]]) == [
        "roofline a100-vllm-2023" if number == 2 else "roofline a100-megatron" for number in range(8)
    ]


def test_without_an_architecture_there_is_growth() -> None:
    bare = [replace(each, architecture=None) for each in A100[:2]]
    first, second, third = means([*bare, A100[2]])
    assert (first, second, third) == ("bent growth", "bent growth", "roofline a100-megatron")
    assert means([replace(A100[2], hardware="an abacus")]) == ["bent growth"]


def hinge(sizes: list[int], bend: int) -> Measured:
    """A model that is flat up to `bend` tokens, then grows with them, on a hardware that nobody knows."""
    prompt, output = (each.ravel() for each in np.meshgrid(sizes, [1, 4, 16]))
    seconds = 0.03 + 1e-4 * np.maximum(prompt - bend, 0) + 0.028 * (output - 1)
    return Measured("mi300x", "m", 1, prompt, output, np.round(seconds, 6), np.ones_like(prompt))


def test_growth_bends_where_samples_do() -> None:
    model = hinge([1, 64, 128, 256, 512, 768, 1024, 1536, 2048], 400)
    assert means([model]) == ["bent growth"]
    (fitted,) = fit([model])
    between = [96, 192, 384, 640, 900, 1280, 1792]
    found = [runtime_seconds(fitted.coefficients, p, 1) for p in between]
    assert found == pytest.approx([0.03 + 1e-4 * max(p - 400, 0) for p in between], rel=0.07)  # a line's would be 19 %


def test_a_bend_needs_sizes_enough() -> None:
    assert means([hinge([1, 128, 512, 2048], 400)]) == ["smooth growth"]


@pytest.mark.parametrize(("rough", "least", "most"), [(0.0, 0, 0.0625), (0.01, 0.125, 0.5), (0.15, 2, 4)])
def test_smooth_samples_have_narrow_scales_and_rough_ones_wide(rough: float, least: float, most: float) -> None:
    random, prompt = np.random.default_rng(2), np.repeat(np.arange(100, 3000, 100), 3)
    first = (0.02 + 1e-4 * prompt) * np.repeat(random.normal(1, rough, 29), 3)
    output = np.tile([1, 2, 8], 29)
    smooth = Measured("x", "m", 1, prompt, output, first + 0.02 * (output - 1), np.ones_like(prompt))
    (choice,) = choose([see(smooth)])
    assert least <= choice.scales.kernel / GROWTH.kernel <= most


def test_few_samples_do_not_decide_the_scales() -> None:
    (choice,) = choose([see(A100[2].where((A100[2].prompt == 64) & (A100[2].output < 3)))])
    assert 0.5 <= choice.scales.level / ROOFLINE.level <= 1


def test_every_score_has_its_multiplier() -> None:
    seen = see(A100[2])
    assert set(seen.scores) == set(seen.parts)
    assert all(len(scores) == len(MULTIPLIERS) for scores in seen.scores.values())


def test_stacks_of_a_device() -> None:
    assert [stack.name for stack in stacks_on("a100")] == ["a100-megatron", "a100-vllm-2023", "a100-present"]
    assert stacks_on("a100-vllm-2023") == stacks_on("a100")
    assert stacks_on("an abacus") == []
