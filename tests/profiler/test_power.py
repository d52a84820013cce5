"""Board power: its form, the bands, and the energy of Llama-2-70B's requests on A100s, each degree left out in turn.

The readings are those of Splitwise (tests/golden/README.md says of what). A row's truth is its boards times 400 W times
its `average_power` times its time, the prompt's and that of every further token.
"""

import csv
import json
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler.architectures import architectures
from profiler.calibrate import calibrate
from profiler.hardware import HardwareError, hardware
from profiler.power import Power, board_power, board_watts, energy_file
from profiler.power_fit import Requests, fit_power, request_joules, requests_of
from profiler.roofline import Placement, step_seconds
from profiler.samples import read_samples

ROOT = Path(__file__).parents[2]
READINGS = ROOT / "tests" / "golden" / "splitwise_power.csv"
SAMPLES = ROOT / "profiler" / "samples" / "splitwise-llama-2-70b.csv"
LLAMA = architectures()["meta-llama/llama-2-70b"]
TDP = 400.0
COLUMNS = ("tensor_parallel", "prompt_size", "token_size", "batch_size", "prompt_time", "token_time", "average_power")


@cache
def readings() -> dict[str, np.ndarray]:
    with READINGS.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {name: np.array([float(row[name]) for row in rows]) for name in (*COLUMNS, "peak_power")}


def some(mask: np.ndarray, seconds: tuple[np.ndarray, np.ndarray] | None = None) -> tuple[Requests, np.ndarray]:
    """Requests, with their own times unless others are given, and the power read."""
    degree, prompt, output, batch, first, further, share = (readings()[name][mask] for name in COLUMNS)
    first, further = seconds or (first / 1000, further / 1000)
    return requests_of(LLAMA, degree, prompt, output, batch, first, further), share


def fitted(mask: np.ndarray) -> Power:
    a100 = hardware("a100-vllm-2023")
    return fit_power(*some(mask), TDP, a100.bandwidth, a100.flops)


def truth(mask: np.ndarray) -> np.ndarray:
    requests, share = some(mask)
    return requests.boards * TDP * share * requests.seconds


def errors(mask: np.ndarray, seconds: tuple[np.ndarray, np.ndarray] | None = None) -> np.ndarray:
    """Relative errors of what `mask` leaves to a fit on all else."""
    return np.abs(request_joules(fitted(~mask), some(mask, seconds)[0]) / truth(mask) - 1)


def roofline_seconds(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Times by the roofline, calibrated on the other degrees."""
    degree = int(readings()["tensor_parallel"][mask][0])
    others = [each for each in read_samples(SAMPLES) if each.hardware == "a100-80gb" and each.tensor != degree]
    stack, place = calibrate(others, hardware("a100-vllm-2023")), Placement(degree)
    prompt, output, batch = (
        readings()[name][mask].astype(np.int64) for name in ("prompt_size", "token_size", "batch_size")
    )
    first = step_seconds(LLAMA, stack, place, prompt, 0, batch, prompt=True)
    return first, step_seconds(LLAMA, stack, place, np.ones_like(prompt), prompt + output // 2, batch, prompt=False)


def degrees() -> Sequence[np.ndarray]:
    return [readings()["tensor_parallel"] == degree for degree in (2, 4, 8)]


def test_readings_are_shares_of_400_watts_a_board() -> None:
    """Times the boards and 400 W, and no other limit, all are whole hundredths of a watt, or halves between two."""

    def whole(watts: float) -> float:
        found = [readings()[name] * watts * readings()["tensor_parallel"] for name in ("peak_power", "average_power")]
        steps = np.concatenate(found) / 0.005
        return float(np.mean(np.abs(steps - np.round(steps)) < 1e-5))

    assert len(readings()["average_power"]) == 195
    assert whole(TDP) == 1
    assert max(whole(watts) for watts in (250, 300, 350, 450, 500, 700)) < 0.6


def test_energy_of_requests_with_a_degree_left_out() -> None:
    found = [errors(mask) for mask in degrees()]
    assert max(float(np.median(each)) for each in found) <= 0.1
    assert float(np.median(np.concatenate(found))) <= 0.05


def test_energy_of_requests_with_a_degree_left_out_of_time_and_power() -> None:
    found = [errors(mask, roofline_seconds(mask)) for mask in degrees()]
    assert max(float(np.median(each)) for each in found) <= 0.1
    assert float(np.median(np.concatenate(found))) <= 0.05


def test_the_constants_that_ship_are_those_of_the_readings() -> None:
    everything = np.full(len(readings()["average_power"]), True)
    found, ships = fitted(everything), board_power("a100-80gb")
    assert (ships.idle, ships.joules_per_byte, ships.joules_per_flop) == pytest.approx(
        (found.idle, found.joules_per_byte, found.joules_per_flop), rel=5e-3
    )
    wide = np.median([float(np.quantile(errors(mask), 0.8)) for mask in degrees()])
    assert ships.low <= 1 - wide
    assert ships.high >= 1 + wide


def test_every_device_has_its_power_and_says_where_from() -> None:
    boards = energy_file()["boards"]
    assert list(boards) == ["a100-80gb", "v100-32gb", "h100", "h200", "b200"]
    for name, numbers in boards.items():
        power = board_power(name)
        assert numbers["source"]
        assert 0.1 < power.idle < 0.5
        assert power.low < 1 < power.high


def test_devices_go_by_what_they_are_called() -> None:
    assert board_power("NVIDIA H100 80GB HBM3") == board_power("H100") == board_power("h100")
    assert board_watts("a100", 0.0, 0.0) == board_watts("a100-80gb", 0.0, 0.0)
    with pytest.raises(HardwareError, match=r"^the power of 'mi300x' is not known: there are a100-80gb, .*, b200$"):
        board_watts("mi300x", 1.0, 1.0)


RATE = st.floats(0, 1e13)
FLOPS = st.floats(0, 1e16)


@given(RATE, FLOPS, st.floats(1.0, 2.0), st.sampled_from(["a100-80gb", "v100-32gb", "h100", "h200", "b200"]))
def test_more_work_draws_more_and_never_more_than_the_limit(rate: float, flops: float, more: float, name: str) -> None:
    power = board_power(name)
    idle, one = power.watts(0.0, 0.0), power.watts(rate, flops)
    assert 0 < idle <= one <= power.watts(rate * more, flops * more) * (1 + 1e-12)
    assert one <= power.tdp_watts * (1 + 1e-12)


def test_a_fit_finds_the_truth_it_was_made_from() -> None:
    true = Power(TDP, 0.24, 160e-12, 1.6e-12)
    everything = np.full(len(readings()["average_power"]), True)
    requests, _ = some(everything)
    share = request_joules(true, requests) / (requests.boards * requests.seconds * TDP)
    a100 = hardware("a100-vllm-2023")
    found = fit_power(requests, share, TDP, a100.bandwidth, a100.flops)
    assert np.allclose(request_joules(found, requests), request_joules(true, requests), rtol=0.01)
    assert replace(found, tdp_watts=500.0).watts(0.0, 0.0) == pytest.approx(1.25 * found.watts(0.0, 0.0))


def test_limits_are_those_of_the_cost_constants() -> None:
    accelerators = json.loads((ROOT / "stream" / "constants.json").read_text())["accelerators"]
    boards = energy_file()["boards"]
    assert {name: each["tdp_watts"]["value"] for name, each in accelerators.items()} == {
        name: each["tdp_watts"] for name, each in boards.items()
    }
