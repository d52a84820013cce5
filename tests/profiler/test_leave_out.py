"""How far the roofline is off for what its calibration has not seen: the promised bounds, and that nothing leaks."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from profiler.calibrated import judged
from profiler.hardware import HardwareError, hardware
from profiler.judge import Judged, judge
from profiler.leave_out import conformal, leave_out_degrees, leave_out_models, leave_out_shapes, left_out
from profiler.samples import Measured, SamplesError, read_samples

SAMPLES = Path(__file__).parents[2] / "profiler" / "samples"
PAPER = read_samples(SAMPLES / "measured-runtimes.csv")
SPLITWISE = read_samples(SAMPLES / "splitwise-llama-2-70b.csv")


def on(name: str, models: int = 8) -> list[Measured]:
    return [each for each in PAPER if each.hardware == name][:models]


@cache
def models_left_out(name: str) -> list[Judged]:
    return leave_out_models(on(name))


BOUNDS = [("a100", 0.022, 0.08), ("v100", 0.04, 0.10)]


@pytest.mark.parametrize(("name", "median", "worst"), BOUNDS, ids=["a100", "v100"])
def test_models_left_out(name: str, median: float, worst: float) -> None:
    models = models_left_out(name)
    found = judge(models)
    assert found["overall"]["median_model"] <= median
    assert found["overall"]["worst_model"] <= worst
    assert 0.7 <= found["coverage"]["mean"] <= 0.95
    assert sum(off["points"] for off in found["models"].values()) == sum(len(each.seconds) for each in on(name))
    shipped, again = hardware(name).left_out["model"], left_out("model", models)
    assert (again.median, again.worst) == pytest.approx((shipped.median, shipped.worst), abs=0.003)
    assert again.interval == pytest.approx(shipped.interval, abs=0.01)


def test_models_of_the_same_shape_left_out_too() -> None:
    found = judge(leave_out_shapes(on("a100")))["models"]
    alone = judge(models_left_out("a100"))["models"]
    twins = {"ai21/j1-large", "together/gpt-j-6b", "ai21/j1-jumbo", "openai/davinci"}
    assert {name for name, off in found.items() if off != alone[name]} == twins
    medians = sorted(off["median"] for off in found.values())
    assert medians[len(medians) // 2] <= 0.04
    assert medians[-1] <= 0.08


@pytest.mark.parametrize("name", ["a100-80gb", "h100-80gb"])
def test_degrees_left_out(name: str) -> None:
    found = judge(leave_out_degrees([each for each in SPLITWISE if each.hardware == name]))
    assert len(found["models"]) == 3
    assert found["overall"]["median_model"] <= 0.10
    assert found["overall"]["worst_model"] <= 0.15


def test_what_ships_of_degrees_is_of_single_requests() -> None:
    stack = hardware("h100-vllm-2023")
    again = judged(stack)
    assert set(again) == set(stack.left_out)
    for what, error in again.items():
        shipped = stack.left_out[what]
        assert (error.median, error.worst) == pytest.approx((shipped.median, shipped.worst), abs=0.003)


def test_what_is_left_out_leaves_no_trace() -> None:
    samples = on("a100", 3)
    other = replace(samples[0], seconds=samples[0].seconds * 1.5)
    one = leave_out_models(samples, hardware("a100"))[0]
    two = leave_out_models([other, *samples[1:]], hardware("a100"))[0]
    assert (1 + two.errors) * 1.5 == pytest.approx(1 + one.errors)


def test_names_tell_hardware_and_degrees_apart() -> None:
    names = [each.model for each in leave_out_degrees(SPLITWISE)]
    assert "a100-80gb/llama-2-70b@tp2" in names
    assert len(set(names)) == 6


def test_what_cannot_be_left_out_is_said() -> None:
    [first, *_] = on("a100")
    with pytest.raises(SamplesError, match="nothing is left to calibrate on without it"):
        leave_out_models([first])
    with pytest.raises(SamplesError, match="architecture of no model is known"):
        leave_out_models([replace(each, architecture=None) for each in on("a100", 2)])
    with pytest.raises(HardwareError, match="'tpu' is not known"):
        leave_out_models([replace(each, hardware="tpu") for each in on("a100", 2)])


@pytest.mark.parametrize(
    ("errors", "width"),
    [
        ([[0.1] * 9], 0.1),
        ([[0.0], [0.1], [0.2], [0.3]], 0.3),  # 0.8 * 5 / 4: all of them
        ([[float(number)] for number in range(9)], 7.0),  # 0.8 * 10 / 9 of nine: the eighth
        ([[-0.3, 0.1], [0.2, -0.2]], 0.3),
    ],
    ids=["one", "few", "nine", "signs"],
)
def test_conformal_width(errors: list[list[float]], width: float) -> None:
    found = conformal([np.array(each) for each in errors])
    assert found == pytest.approx(width)


def test_conformal_intervals_hold_what_they_promise_over_models() -> None:
    random = np.random.default_rng(7)
    held = []
    for _ in range(400):
        # Models are off as a whole, and their points around that.
        errors = [random.normal() + 0.5 * random.normal(size=30) for _ in range(10)]
        held.append(np.mean(np.abs(errors[0]) <= conformal(errors[1:])))
    assert 0.78 <= np.mean(held) <= 0.9
