"""The roofline against what others measured, the architectures against published totals, the table against both."""

import csv
import statistics
from collections import defaultdict
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from profiler import kernels
from profiler.architectures import Architecture, LatentAttention, architectures
from profiler.cli import main
from profiler.kernels import H100
from profiler.predicted import predicted_table
from profiler.roofline import KNOTS, Placement, coefficients, context_bytes, place, step_seconds, weight_bytes
from stream.coefficients import Tables, load_tables
from stream.table_format import read_table

ROOT = Path(__file__).parents[2]
SAMPLES = ROOT / "profiler" / "samples"
SHIPPED = ROOT / "stream" / "tables" / "h100-predicted.json"
MODELS = architectures()
ALONE = Placement(1)


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


# ---- kernels, against single kernels


def predicted(row: dict[str, str]) -> float:
    def number(name: str) -> int:
        return int(row[name])

    operation, dtype = row["operation"], row["dtype"]
    if operation == "product":
        return kernels.product(H100, number("tokens"), number("out"), number("inner"), dtype)
    if operation == "reduce":
        return kernels.reduce(H100, number("devices"), number("elements") * kernels.ACTIVATION)
    if operation == "experts":
        shape = (number("hidden"), number("width"), number("experts"), number("active"))
        return kernels.experts(H100, number("tokens"), *shape, dtype)
    tokens, heads, size = number("tokens"), number("heads"), number("head_dim")
    cached = 2 * number("kv_heads") * size
    if operation == "token_attention":
        return kernels.attention(H100, tokens * cached * kernels.ACTIVATION, 4 * tokens * heads * size)
    moved = tokens * (cached + 2 * heads * size) * kernels.ACTIVATION
    return kernels.attention(H100, moved, 2 * tokens**2 * heads * size, tokens)


KERNELS = [
    ("product", 0.07),
    ("prompt_attention", 0.14),
    ("token_attention", 0.12),
    ("reduce", 0.12),
    ("experts", 0.10),
]


@pytest.mark.parametrize(("operation", "median"), KERNELS)
def test_kernels_are_about_as_fast_as_measured(operation: str, median: float) -> None:
    measured = [row for row in rows("h100-kernels.csv") if row["operation"] == operation]
    assert len(measured) >= 60
    errors = sorted(abs(predicted(row) / float(row["seconds"]) - 1) for row in measured)
    assert statistics.median(errors) <= median
    assert errors[int(0.9 * len(errors))] <= 0.38


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


# ---- the shipped table


@pytest.fixture(scope="module")
def tables() -> Tables:
    return load_tables(stack="h100-predicted")


def test_the_shipped_table_is_what_is_generated() -> None:
    assert SHIPPED.read_text(encoding="utf-8") == predicted_table(), "python -m profiler.predicted writes it anew"


def test_every_row_says_how_far_it_can_be_trusted(tables: Tables) -> None:
    found = tables.stacks["h100-predicted"].rows
    assert set(found) == set(MODELS)
    for row in found.values():
        assert (row.provenance, row.proxy_of) == ("predicted", None)
        assert row.intervals is not None
        assert all(low < 1 < high for low, high in row.intervals.values())
        assert row.source
        assert row.note
        assert "H100" in row.note
        assert row.coefficients.last_knot == 131_072
    dense, experts = found["qwen/qwen3-8b"], found["qwen/qwen3-30b-a3b"]
    assert (dense.fit_error, experts.fit_error) == (0.03, 0.34)


def test_runtimes_of_the_table_are_monotone(tables: Tables) -> None:
    for row in tables.stacks["h100-predicted"].rows.values():
        runtime = tables.runtime("h100-predicted", row)
        grid = [[runtime(p, o) for o in (0, 1, 2, 100, 4000)] for p in (0, 1, 17, 500, 3000, 131_072, 200_000)]
        assert all(low <= high for line in grid for low, high in pairwise(line))
        assert all(low <= high for line in zip(*grid, strict=True) for low, high in pairwise(line))


def test_lines_between_the_knots_are_near_the_roofline(tables: Tables) -> None:
    for name, model in MODELS.items():
        row = tables.stacks["h100-predicted"].rows[name]
        runtime = tables.runtime("h100-predicted", row)
        for prompt in (100, 700, 2500, 5000, 20_000, 80_000):
            seconds = step_seconds(model, H100, place(model, H100), prompt)
            assert runtime(prompt, 1) == pytest.approx(seconds, rel=0.04)


def test_the_table_reads_back(tables: Tables) -> None:
    [stack] = read_table(SHIPPED).stacks
    assert stack.rows == tables.stacks["h100-predicted"].rows


def test_estimate_knows_the_stack(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["estimate", "--stack", "h100-predicted", "--prompt-tokens", "500", "--output-tokens", "200"]
    seconds = []
    for model in ("meta-llama/Llama-3.1-8B-Instruct", "llama-3.1-8b-instant", "meta-llama/llama-3.1-8b"):
        assert main([*command, "--model", model]) == 0
        seconds.append(float(capsys.readouterr().out))
    assert len(set(seconds)) == 1
    assert 1 < seconds[0] < 2
