"""Devices that do not ship, described in a file: what is read, what is marked, and what is wrong on one line."""

import json
from pathlib import Path
from typing import Any

import pytest

from profiler.architectures import architectures
from profiler.cli import main
from profiler.hardware import HardwareError, hardware
from profiler.hardware_file import read_hardware
from profiler.prediction import predict
from stream.table_format import read_table

L40S = {
    "name": "l40s",
    "label": "NVIDIA L40S 48 GB",
    "like": "h100",
    "source": "NVIDIA L40S data sheet",
    "memory_bytes": 48e9,
    "bandwidth": 864e9,
    "flops": 362e12,
    "link": 32e9,
    "processors": 142,
}
LLAMA = architectures()["meta-llama/llama-3.1-8b"]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write(tmp_path, L40S)


def write(folder: Path, content: Any) -> Path:
    (folder / "device.json").write_text(json.dumps(content), encoding="utf-8")
    return folder / "device.json"


def test_public_data_are_the_file_s_and_constants_the_other_stack_s(file: Path) -> None:
    found, like = read_hardware(str(file)), hardware("h100")
    assert (found.name, found.device, found.label, found.source) == (
        "l40s",
        "l40s",
        "NVIDIA L40S 48 GB",
        "NVIDIA L40S data sheet",
    )
    assert (found.bandwidth, found.memory_bytes, found.flops, found.link, found.processors) == (
        *(864e9, 48e9, 362e12, 32e9),
        142,
    )
    assert (found.read, found.launch, found.devices_per_node) == (like.read, like.launch, like.devices_per_node)
    assert (found.calibrated, found.calibrated_on, found.left_out) == (False, "", ())
    assert read_hardware("a100") is hardware("a100")


def test_its_predictions_are_marked_and_their_bands_wide(file: Path) -> None:
    found = predict(LLAMA, read_hardware(str(file)))
    low, high = found.band.runtime
    assert found.band.median is None
    assert high / low > 3
    least = 2 * LLAMA.total_parameters(active=True) / 864e9
    assert least < found.coefficients.per_output_token < 1.5 * least


def test_a_device_that_is_known_comes_out_near_what_it_is(tmp_path: Path) -> None:
    h200 = hardware("h200")
    numbers = {key: getattr(h200, key) for key in ("memory_bytes", "bandwidth", "flops", "link", "processors")}
    mine = read_hardware(str(write(tmp_path, {"name": "h200", "like": "h100", **numbers})))
    here, there = (predict(LLAMA, stack).coefficients for stack in (mine, h200))
    assert here.per_output_token == pytest.approx(there.per_output_token, rel=0.05)
    assert here.prompt_seconds == pytest.approx(there.prompt_seconds, rel=0.05)
    assert predict(LLAMA, mine).band != predict(LLAMA, h200).band, "a name alone does not calibrate"


def test_the_command_takes_it(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = tmp_path / "table.json"
    assert main(["predict", "--arch", "llama-3.1-8b", "--hardware", str(file), "--out", str(table)]) == 0
    text = capsys.readouterr().out
    for expected in ("on l40s: predicted, 1 x NVIDIA L40S 48 GB", "Not calibrated", "The constants are those of h100."):
        assert expected in text
    [stack] = read_table(table).stacks
    assert stack.name == "l40s-predicted"
    assert "NVIDIA L40S data sheet" in str(stack.source)


WRONG = {
    "array": ([1], "expected an object with keys of name, like, label"),
    "key": ({**L40S, "speed": 1}, "expected an object with keys of name, like, label"),
    "missing": ({"name": "x", "flops": 1}, "missing like, memory_bytes, bandwidth, link, processors"),
    "like": ({**L40S, "like": "tpu"}, "hardware 'tpu' is not known"),
    "name": ({**L40S, "name": " "}, "name: expected a line of text, found"),
    "label": ({**L40S, "label": "a\nb"}, "label: expected a line of text, found"),
    "text": ({**L40S, "link": "fast"}, 'link: expected a number above 0, found "fast"'),
    "zero": ({**L40S, "flops": 0}, "flops: expected a number above 0, found 0"),
    "true": ({**L40S, "flops": True}, "flops: expected a number above 0, found true"),
    "whole": ({**L40S, "processors": 1.5}, "processors: expected a whole number above 0, found 1.5"),
    "infinite": ({**L40S, "flops": float("inf")}, "flops: expected a number above 0, found Infinity"),
    "nothing": ({**L40S, "bandwidth": float("nan")}, "bandwidth: expected a number above 0, found NaN"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_said_on_one_line(name: str, tmp_path: Path) -> None:
    content, expected = WRONG[name]
    with pytest.raises(HardwareError) as caught:
        read_hardware(str(write(tmp_path, content)))
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(HardwareError, match=r"there\.json: cannot be read: No such file"):
        read_hardware(str(tmp_path / "there.json"))
    broken = tmp_path / "device.json"
    broken.write_text("{", encoding="utf-8")
    with pytest.raises(HardwareError, match="expected JSON that describes a device"):
        read_hardware(str(broken))
