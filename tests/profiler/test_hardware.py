"""Hardware: what ships is whole and plausible, and what is not known is said in one line."""

import json
from dataclasses import fields
from pathlib import Path

import pytest

from profiler.hardware import Hardware, HardwareError, device_name, hardware, stacks

CONTENT = json.loads((Path(__file__).parents[2] / "profiler" / "hardware.json").read_bytes())
STACKS = stacks()
TIMES = ("host_layer", "host_reduce", "step", "step_token", "launch", "attention_launch", "experts_launch", "small")
WORDS = {"model", "model and its twins", "tensor-parallel degree", "shapes of kernels"}
EFFICIENCIES = ("read", "compute", "attention_read", "attention_compute", "experts_read", "experts_compute")


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("a100", "a100-megatron"),
        ("V100", "v100-megatron"),
        ("H100", "h100"),
        ("h200", "h200"),
        ("b200", "b200"),
        ("A100_vLLM 2023", "a100-vllm-2023"),
        (" h100-vllm-2023 ", "h100-vllm-2023"),
        ("a100-80gb", "a100-megatron"),
        ("NVIDIA A100-SXM4-80GB", "a100-megatron"),
        ("Tesla V100-SXM2-32GB", "v100-megatron"),
        ("8 x H200", "h200"),
    ],
)
def test_names_and_aliases(asked: str, found: str) -> None:
    assert hardware(asked).name == found


def test_what_is_not_known_is_said_with_what_there_is() -> None:
    with pytest.raises(HardwareError) as error:
        hardware("tpu-v5")
    assert "'tpu-v5' is not known" in str(error.value)
    assert "\n" not in str(error.value)
    assert "there are a100-megatron (also a100), v100-megatron (also v100), a100-vllm-2023, " in str(error.value)
    assert all(hint in str(error.value) for hint in ["b200", "profiler fit needs none", "FILE.json"])


@pytest.mark.parametrize("other", ["gh200", "gb200", "a1000", "a10g", "A100-PCIE-40GB", "h100-pcie", "v100-16gb", ""])
def test_a_device_is_not_its_like(other: str) -> None:
    assert device_name(other) is None
    with pytest.raises(HardwareError):
        hardware(other)


@pytest.mark.parametrize("stack", STACKS.values(), ids=STACKS)
def test_every_stack_is_whole_and_plausible(stack: Hardware) -> None:
    assert stack.software
    assert stack.label
    assert all(0 <= getattr(stack, name) < 0.01 for name in TIMES)
    assert all(0.2 < getattr(stack, name) <= 1.3 for name in EFFICIENCIES)
    assert stack.misaligned >= 1
    assert stack.sharpness >= 1
    assert (stack.host_layer > 0) == ("no CUDA graphs" in stack.software)
    assert stack.calibrated <= bool(stack.calibrated_on)
    for error in stack.left_out:
        low, high = error.interval
        assert 0 < low < 1 < high
        assert 0 < error.median <= error.worst
        assert stack.error_of(error.of, error.part) is error
        assert error.what in {*WORDS, *(f"{word}, first token" for word in WORDS)}


@pytest.mark.parametrize("name", STACKS)
def test_the_file_has_no_constant_that_is_not_known(name: str) -> None:
    numbers, known = CONTENT["stacks"][name], {field.name for field in fields(Hardware)}
    assert set(numbers["constants"]) <= known
    assert set(numbers.get("fitted", ())) <= set(numbers["constants"])
    assert set(numbers) - {"constants"} <= known


def test_devices_say_where_their_numbers_are_from() -> None:
    assert {"a100-80gb", "v100-32gb", "h100", "h200", "b200"} <= set(CONTENT["devices"])
    for numbers in CONTENT["devices"].values():
        assert "data sheet" in numbers["source"]
    assert {stack.device for stack in STACKS.values()} <= set(CONTENT["devices"])
