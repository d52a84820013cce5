"""How far the roofline is off for what its calibration has not seen: the promised bounds, and that nothing leaks."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from profiler import leave_out
from profiler.calibrate import calibrate, plausible, stack_of
from profiler.calibrated import summaries
from profiler.hardware import Hardware, HardwareError, Of, hardware
from profiler.judge import Judged, judge
from profiler.leave_out import conformal, leave_out_degrees, leave_out_models, leave_out_shapes
from profiler.samples import Measured, SamplesError, read_samples

SAMPLES = Path(__file__).parents[2] / "profiler" / "samples"
PAPER = read_samples(SAMPLES / "measured-runtimes.csv")
SPLITWISE = read_samples(SAMPLES / "splitwise-llama-2-70b.csv")


def on(name: str, models: int = 8) -> list[Measured]:
    return [each for each in PAPER if each.hardware == name][:models]


@cache
def models_left_out(name: str) -> list[Judged]:
    return leave_out_models(on(name))


@cache
def shapes_left_out(name: str) -> list[Judged]:
    return leave_out_shapes(on(name))


@cache
def degrees_left_out() -> list[Judged]:
    return leave_out_degrees(SPLITWISE)


def assert_shipped(stack: Hardware, of: Of, found: list[Judged], samples: list[Measured]) -> None:
    for again in summaries(of, found, samples):
        shipped = stack.error_of(of, again.part)
        assert shipped is not None
        assert shipped.cases == again.cases == len(samples)
        assert (again.median, again.worst) == pytest.approx((shipped.median, shipped.worst), abs=0.003)
        assert again.interval == pytest.approx(shipped.interval, abs=0.01)


BOUNDS = [("a100", 0.022, 0.08), ("v100", 0.04, 0.10)]


@pytest.mark.parametrize(("name", "median", "worst"), BOUNDS, ids=["a100", "v100"])
def test_models_left_out(name: str, median: float, worst: float) -> None:
    models = models_left_out(name)
    found = judge(models)
    assert found["overall"]["median_model"] <= median
    assert found["overall"]["worst_model"] <= worst
    assert 0.7 <= found["coverage"]["mean"] <= 0.95
    assert sum(off["points"] for off in found["models"].values()) == sum(len(each.seconds) for each in on(name))
    assert_shipped(hardware(name), "model", models, on(name))


@pytest.mark.parametrize("name", ["a100", "v100"])
def test_what_ships_of_shapes_is_what_comes_out(name: str) -> None:
    assert_shipped(hardware(name), "shape", shapes_left_out(name), on(name))


def test_models_of_the_same_shape_left_out_too() -> None:
    found = judge(shapes_left_out("a100"))["models"]
    alone = judge(models_left_out("a100"))["models"]
    twins = {"ai21/j1-large", "together/gpt-j-6b", "ai21/j1-jumbo", "openai/davinci"}
    assert {name for name, off in found.items() if off != alone[name]} == twins
    medians = sorted(off["median"] for off in found.values())
    assert medians[len(medians) // 2] <= 0.04
    assert medians[-1] <= 0.08


@pytest.mark.parametrize("name", ["a100-80gb", "h100-80gb"])
def test_degrees_left_out(name: str) -> None:
    models = [each for each in degrees_left_out() if each.model.startswith(name)]
    found = judge(models)
    assert set(found["models"]) == {f"{name}/llama-2-70b@tp{degree}" for degree in (2, 4, 8)}
    assert found["overall"]["median_model"] <= 0.10
    assert found["overall"]["worst_model"] <= 0.15
    samples = [each for each in SPLITWISE if each.hardware == name]
    assert_shipped(hardware(f"{name.removesuffix('-80gb')}-vllm-2023"), "degree", models, samples)


# As slow as another server, and so fast that more devices would have been needed.
FACTORS = [3.0, 1 / 30]


@pytest.mark.parametrize("factor", FACTORS, ids=["slower", "faster"])
@pytest.mark.parametrize("name", ["a100", "v100"])
def test_what_is_left_out_leaves_no_trace(name: str, factor: float) -> None:
    samples = on(name, 3)
    other = replace(samples[0], seconds=samples[0].seconds * factor)
    changed = [other, *samples[1:]]
    assert (plausible(other, hardware(name)).tensor > plausible(samples[0], hardware(name)).tensor) == (factor < 1)
    one, two = (leave_out_models(measured)[0] for measured in (samples, changed))
    assert (1 + two.errors) * factor == pytest.approx(1 + one.errors)


def test_the_stack_is_the_one_of_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    [one, two, three] = [each for each in SPLITWISE if each.hardware == "a100-80gb"]
    strange = [replace(each, model=f"m{number}", tensor=4) for number, each in enumerate((one, two, three))]
    strange[0] = replace(strange[0], seconds=strange[0].seconds / 2)
    assert stack_of(strange[:1]).name == "a100-present"
    used = []

    def noted(rest: list[Measured], start: Hardware) -> Hardware:
        used.append(start.name)
        return calibrate(rest, start)

    monkeypatch.setattr(leave_out, "calibrate", noted)
    leave_out_models(strange)
    assert used[0] == "a100-vllm-2023"


def test_what_cannot_be_left_out_is_said() -> None:
    [first, *_] = on("a100")
    with pytest.raises(SamplesError, match="nothing is left to calibrate on without it"):
        leave_out_models([first])
    unknown = [replace(each, architecture=None) for each in on("a100", 2)]
    with pytest.raises(SamplesError, match=r"architecture of no model is known \(layers_total, [^)]*\)$"):
        leave_out_models(unknown)
    with pytest.raises(HardwareError, match="'tpu' is not known"):
        leave_out_models([replace(each, hardware="tpu") for each in on("a100", 2)])
    with pytest.raises(SamplesError, match=r"no model is known .* and hardware 'tpu' is not known"):
        leave_out_models([replace(each, hardware="tpu") for each in unknown])


def test_degrees_that_are_mended_into_the_one_left_out_go_with_it() -> None:
    # Recorded on one and on two: the first needs two, and so nothing is left.
    [grande] = [each for each in on("v100") if each.model == "ai21/j1-grande"]
    with pytest.raises(SamplesError, match="nothing is left to calibrate on without it"):
        leave_out_degrees([grande, replace(grande, model="other", tensor=2)])


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


def test_models_of_one_shape_alone_are_not_judged_by_their_twins() -> None:
    known = {each.model: each for each in PAPER if each.hardware == "a100"}
    large, j = known["ai21/j1-large"], known["together/gpt-j-6b"]
    assert leave_out_shapes([large, j]) == []
    assert len(leave_out_shapes([large, j, known["openai/davinci"]])) == 3
