"""The roofline against what others measured, the architectures against published totals."""

import csv
import statistics
from collections import defaultdict
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from profiler import kernels
from profiler.architectures import Architecture, LatentAttention, architectures
from profiler.hardware import hardware, stacks
from profiler.roofline import KNOTS, Placement, coefficients, context_bytes, place, step_seconds, weight_bytes

ROOT = Path(__file__).parents[2]
SAMPLES = ROOT / "profiler" / "samples"
MODELS = architectures()
ALONE = Placement(1)
H100 = hardware("h100")


def rows(name: str) -> list[dict[str, str]]:
    with (SAMPLES / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


# ---- architectures


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_parameters_are_the_published_ones(model: Architecture) -> None:
    assert model.total_parameters() / 1e9 == pytest.approx(model.parameters, rel=0.02)
    assert (model.active_parameters is None) == (model.experts is None)
    if model.active_parameters is not None:
        assert model.total_parameters(active=True) / 1e9 == pytest.approx(model.active_parameters, rel=0.08)


def test_there_are_models_of_every_sort_each_with_its_source() -> None:
    assert len(MODELS) >= 30
    assert all(model.source.startswith("https://huggingface.co/") for model in MODELS.values())
    assert {model.weights for model in MODELS.values()} == {"bf16", "fp8", "mxfp4"}
    assert any(model.latent for model in MODELS.values())
    assert any(model.window and model.experts for model in MODELS.values())
    assert all(model.window_layers <= model.layers for model in MODELS.values())


# ---- the whole, against servers

LLAMA_70B = MODELS["meta-llama/llama-3.3-70b"]
SERVED = {
    "llama-3.3-70b": LLAMA_70B,
    "llama-2-70b": replace(LLAMA_70B, vocabulary=32_000),
    "llama-2-7b": Architecture("7b", 32, 4096, 32, 32, 128, 11_008, 32_000, 6.74, ""),
    # GPT-J's two matrices of 16,384 cost what three of two thirds of that do.
    "gpt-j-6b": Architecture("j", 28, 4096, 16, 16, 256, 10_923, 50_400, 6.05, ""),
}


def ratios() -> dict[tuple[str, str], list[float]]:
    """Measured over predicted, by source and phase."""
    found = defaultdict(list)
    for row in rows("h100-servers.csv"):
        model = replace(SERVED[row["model"]], weights=row["dtype"])
        prompt = int(row["prompt_tokens"])
        tokens, context = (prompt, 0) if row["phase"] == "prompt" else (1, prompt)
        seconds = step_seconds(model, H100, Placement(int(row["tensor_parallel"])), tokens, context)
        found[row["source"], row["phase"]].append(float(row["seconds"]) / seconds)
    return found


def test_servers_left_out_of_the_fit_lie_where_the_notes_say() -> None:
    found = ratios()
    assert all(0.96 <= ratio <= 1.04 for ratio in found["nim", "token"])
    assert all(0.90 <= ratio <= 1.04 for ratio in found["nim", "prompt"])
    assert all(0.94 <= ratio <= 1.65 for ratio in found["tensorrt-llm", "prompt"])
    # An old server without CUDA graphs: what it takes longer is its own, and almost the same at every prompt size.
    assert statistics.median(found["splitwise", "prompt"]) == pytest.approx(1.58, abs=0.05)
    assert min(found["splitwise", "token"]) > 1.25


# ---- laws


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_time_grows_with_the_prompt_and_with_the_context(model: Architecture) -> None:
    numbers = coefficients(model, H100, place(model, H100))
    assert numbers.knots == KNOTS
    assert all(low <= high for low, high in pairwise(numbers.prompt_seconds))
    assert numbers.prompt_seconds[0] == numbers.per_output_token
    assert numbers.context > 0


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_no_faster_than_the_hardware(model: Architecture) -> None:
    placement = place(model, H100)
    devices = placement.tensor
    active = model.total_parameters(active=True)
    smallest = {"bf16": 2.0, "fp8": 1.0, "mxfp4": 0.53}[model.weights]
    assert step_seconds(model, H100, placement, 1) > active * smallest / devices / H100.bandwidth
    peak = H100.flops * (2 if model.weights == "fp8" else 1)
    prompt = active - model.vocabulary * model.hidden
    assert step_seconds(model, H100, placement, 8192) > 2 * 8192 * prompt / devices / peak


def test_where_models_are_placed() -> None:
    placed = {name: place(model, H100) for name, model in MODELS.items()}
    assert placed["meta-llama/llama-3.1-8b"] == Placement(1)
    assert placed["meta-llama/llama-3.1-70b"] == Placement(4)
    assert placed["openai/gpt-oss-120b"] == Placement(1)
    assert placed["deepseek-ai/deepseek-v3"] == Placement(8, 2)
    for name, placement in placed.items():
        share = weight_bytes(MODELS[name]) / placement.tensor / placement.stages
        assert share + context_bytes(MODELS[name]) < H100.memory_bytes


def test_what_makes_a_step_longer_or_shorter() -> None:
    llama = MODELS["meta-llama/llama-3.1-8b"]
    base = step_seconds(llama, H100, ALONE, 1, 4096)
    assert step_seconds(replace(llama, weights="fp8"), H100, ALONE, 1, 4096) < base
    assert step_seconds(llama, H100, Placement(2), 1, 4096) < base
    assert step_seconds(replace(llama, kv_heads=32), H100, ALONE, 1, 4096) > base
    assert step_seconds(replace(llama, window=1024, window_layers=16), H100, ALONE, 1, 4096) < base
    assert step_seconds(llama, H100, Placement(1, 2), 1, 4096) > base
    assert step_seconds(llama, H100, ALONE, 1, 4096, batch=8) > base
    deepseek = MODELS["deepseek-ai/deepseek-v3"]
    latent = deepseek.latent
    assert latent == LatentAttention(q_rank=1536, kv_rank=512, nope=128, rope=64, value=128)
    assert context_bytes(deepseek) == 61 * 576 * 2
    # A window as wide as the prompt is none; beyond it a prompt costs less than a square.
    windowed = replace(llama, window=8192, window_layers=32)
    assert step_seconds(windowed, H100, ALONE, 8192) == step_seconds(llama, H100, ALONE, 8192)
    assert step_seconds(windowed, H100, ALONE, 65536) < step_seconds(llama, H100, ALONE, 65536)


# ---- laws, on every stack

STACKS = stacks()
SOME = ["meta-llama/llama-3.1-8b", "qwen/qwen3-30b-a3b", "deepseek-ai/deepseek-v3", "openai/gpt-oss-120b"]
CASES = [(stack, name) for stack in STACKS for name in SOME]


@pytest.mark.parametrize(("stack", "name"), CASES, ids=[f"{stack}-{name.split('/')[1]}" for stack, name in CASES])
def test_every_stack_obeys_the_hardware(stack: str, name: str) -> None:
    hardware, model = STACKS[stack], MODELS[name]
    placement = place(model, hardware)
    active = model.total_parameters(active=True) - model.vocabulary * model.hidden
    least = {"bf16": 2.0, "fp8": 1.0, "mxfp4": 0.53}[model.weights]
    assert step_seconds(model, hardware, placement, 1) > least * active / placement.tensor / hardware.bandwidth
    sizes = np.arange(64, 4097, 64)
    seconds = step_seconds(model, hardware, placement, sizes)
    assert np.all(np.diff(seconds) >= 0)
    peak = hardware.flops * placement.tensor * (2 if model.weights == "fp8" and hardware.fp8 > 1 else 1)
    assert np.all(seconds > 2 * sizes * active / peak)
    contexts = step_seconds(model, hardware, placement, np.ones(40, np.int64), 1000 * np.arange(40), prompt=False)
    assert np.all(np.diff(contexts) >= 0)
    first, further = (step_seconds(model, hardware, placement, 1, prompt=prompt) for prompt in (True, False))
    assert first >= further


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(sorted(STACKS)),
    st.sampled_from(sorted(MODELS)),
    st.lists(st.tuples(st.integers(1, 9000), st.integers(0, 9000), st.integers(1, 64)), min_size=1, max_size=5),
    st.booleans(),
)
def test_arrays_are_as_many_single_steps(
    stack: str, name: str, cases: list[tuple[int, int, int]], prompt: bool
) -> None:
    hardware, model = STACKS[stack], MODELS[name]
    columns = np.array(cases).T
    together = step_seconds(model, hardware, ALONE, columns[0], columns[1], columns[2], prompt=prompt)
    single = [step_seconds(model, hardware, ALONE, *case, prompt=prompt) for case in cases]
    assert together.tolist() == pytest.approx(single)


# ---- what the old stack does that the new does not


def test_the_host_is_the_slower_one_where_models_are_small() -> None:
    a100, small = hardware("a100"), MODELS["meta-llama/llama-3.2-1b"]
    launches = small.layers * a100.host_layer + a100.step
    assert step_seconds(small, a100, ALONE, 1) == pytest.approx(launches, rel=0.01)
    assert step_seconds(small, a100, ALONE, 1, 2048) == pytest.approx(launches, rel=0.02)
    assert step_seconds(small, a100, Placement(2), 1) > launches
    freed = replace(a100, host_layer=0.0)
    assert step_seconds(small, freed, ALONE, 1) < launches / 3


def test_products_take_whole_waves_of_whole_tiles() -> None:
    a100 = replace(hardware("a100"), bandwidth=1e18)

    def seconds(rows: int, out: int = 12_288) -> float:
        return float(kernels.product(a100, rows, out, 4096))

    assert seconds(257) == seconds(300) == seconds(384)
    assert seconds(384) < seconds(385)
    assert seconds(64) < seconds(65) == seconds(128)
    # One tile more than there are processors takes a second wave.
    assert seconds(128, 108 * 128) < seconds(128, 108 * 128 + 8)
    assert seconds(4096, 8192) > 2 * 4096 * 8192 * 4096 / a100.flops


def test_odd_dimensions_are_slow() -> None:
    a100 = replace(hardware("a100"), bandwidth=1e18)
    even, odd = (float(kernels.product(a100, 512, out, 10_240)) for out in (6832, 6827))
    assert odd / even == pytest.approx(a100.misaligned, rel=0.01)


def test_attention_and_feed_forward_side_by_side_save_a_reduce() -> None:
    llama, a100 = MODELS["meta-llama/llama-3.1-70b"], hardware("a100")
    one, two = (step_seconds(replace(llama, parallel=how), a100, Placement(8), 2048) for how in (True, False))
    each = kernels.reduce(a100, 8, 2048 * llama.hidden * kernels.ACTIVATION)
    assert two - one == pytest.approx(llama.layers * each, rel=0.01)


def test_a_plain_attention_does_not_know_windows() -> None:
    a100, llama = hardware("a100"), MODELS["meta-llama/llama-3.1-8b"]
    windowed = replace(llama, window=256, window_layers=16)
    assert step_seconds(windowed, a100, ALONE, 4096) == step_seconds(llama, a100, ALONE, 4096)
    assert step_seconds(windowed, replace(a100, fused=True), ALONE, 4096) < step_seconds(llama, a100, ALONE, 4096)
