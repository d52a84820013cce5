"""FLOPs of architectures: what torch counted, counts by hand, published parameter counts, and the shipped tables."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler.architectures import Architecture, Experts, LatentAttention, architectures
from profiler.config import from_config
from profiler.flops import flops_of
from profiler.paper_tables import paper_table
from profiler.shipped import shipped_stacks
from stream.coefficients import load_tables
from stream.flops import Flops, forward_flops

GOLDEN: dict[str, Any] = json.loads((Path(__file__).parents[1] / "golden" / "torch_flops.json").read_bytes())["models"]
MODELS = architectures()
TINY = Architecture(
    name="tiny",
    layers=3,
    hidden=8,
    heads=4,
    kv_heads=2,
    head_dim=2,
    ffn=16,
    vocabulary=100,
    parameters=0.0,
    source="here",
)


@pytest.mark.parametrize("name", GOLDEN)
def test_what_torch_counted(name: str) -> None:
    """tests/prove/flops.py counts anew; `surplus` is what was run beyond what a request needs."""
    flops = flops_of(from_config(GOLDEN[name]["config"], name, name).architecture)
    assert {(each["how"], each["prompt_tokens"]) for each in GOLDEN[name]["requests"]} >= {("steps", 90), ("whole", 90)}
    for each in GOLDEN[name]["requests"]:
        counted = each["counted"] - each["surplus"]
        assert forward_flops(flops, each["prompt_tokens"], each["output_tokens"]) == pytest.approx(counted, rel=1e-3)


def test_torch_counted_many_sorts_of_models() -> None:
    assert len(GOLDEN) >= 5
    assert {"llama", "mixtral", "qwen3_moe", "deepseek_v3", "gemma2", "gptj", "opt"} <= set(GOLDEN)


BY_HAND = [
    # queries and output 8 x 8 each, keys and values 8 x 4 each; three matrices of 8 x 16
    (TINY, Flops(2 * 3 * (192 + 384), 1600, 3 * 4 * 4 * 2)),
    (replace(TINY, gated=False, tied=True), Flops(2 * 3 * (192 + 256), 1600, 96)),
    (replace(TINY, window=7, window_layers=2), Flops(2 * 3 * (192 + 384), 1600, 32, 7, 64)),
    # the router of 6, two experts of 5, the shared one of 4; one layer dense
    (replace(TINY, experts=Experts(6, 2, 5, 4, 1)), Flops(2 * (3 * 192 + 384 + 2 * (48 + 3 * 8 * 14)), 1600, 96)),
    # queries 8 x 3 and 3 x 4 (2 + 1), keys and values 8 x (5 + 1) and 5 x 4 (2 + 2), output 8 x 8
    (
        replace(TINY, kv_heads=4, latent=LatentAttention(q_rank=3, kv_rank=5, nope=2, rope=1, value=2)),
        Flops(2 * 3 * (24 + 36 + 48 + 80 + 64 + 384), 1600, 3 * 2 * 4 * 5),
    ),
    (
        replace(TINY, kv_heads=4, latent=LatentAttention(q_rank=0, kv_rank=5, nope=2, rope=1, value=2)),
        Flops(2 * 3 * (96 + 48 + 80 + 64 + 384), 1600, 3 * 2 * 4 * 5),
    ),
]


@pytest.mark.parametrize(("model", "expected"), BY_HAND, ids=["gqa", "plain", "window", "experts", "latent", "no q"])
def test_counted_by_hand(model: Architecture, expected: Flops) -> None:
    assert flops_of(model) == expected


def test_a_request_by_hand() -> None:
    """Three tokens in, two out: four positions, two output layers, 1 + 2 + 3 + 4 pairs."""
    assert forward_flops(flops_of(TINY), 3, 2) == 4 * 3456 + 2 * 1600 + 10 * 96


@given(st.integers(0, 60), st.integers(0, 20), st.integers(1, 4), st.integers(0, 30))
def test_positions_one_by_one(prompt: int, each: int, choices: int, window: int) -> None:
    """Every position fed, with the keys that it meets; the prompt's once, those of a choice after it by themselves."""
    flops = Flops(1000.0, 10.0, 3.0, window, 7.0 if window else 0.0)

    def fed(first: int, last: int) -> float:
        return sum(1000 + 3 * at + (7 * min(at, window) if window else 0) for at in range(first, last + 1))

    expected = fed(1, prompt) + choices * (fed(prompt + 1, prompt + each - 1) + 10 * each)
    assert forward_flops(flops, prompt, each * choices, choices) == pytest.approx(expected)


@pytest.mark.parametrize("name", MODELS)
def test_flops_follow_from_published_parameters(name: str) -> None:
    """Two a parameter that a token uses. Makers count embeddings or not, and round to a whole billion at times."""
    model = MODELS[name]
    published = (model.active_parameters or model.parameters) * 1e9
    used = flops_of(model).per_token / 2
    without_embeddings = published - model.embedding_parameters
    assert used == pytest.approx(
        without_embeddings, rel=0.02
    ) or used + model.vocabulary * model.hidden == pytest.approx(published, rel=0.07)


UNPUBLISHED = {"openai/ada", "openai/curie", "microsoft/TNLGv2_7B", "cohere/xlarge-20220609"}


def test_rows_of_the_tables_have_flops_where_the_shape_is_public() -> None:
    tables = load_tables()
    for name, stack in tables.stacks.items():
        without = {row.name for row in stack.rows.values() if row.flops is None}
        assert without == (set(stack.rows) if name == "api-2022" else UNPUBLISHED & set(stack.rows))
    for row in tables.stacks["h100-predicted"].rows.values():
        assert row.flops == flops_of(MODELS[row.name])


SIZES = {
    "openai/davinci": 175,
    "together/opt-175b": 175,
    "ai21/j1-large": 7.5,
    "ai21/j1-grande": 17,
    "ai21/j1-jumbo": 178,
    "together/gpt-j-6b": 6,
    "together/gpt-neox-20b": 20.6,
    "microsoft/TNLGv2_530B": 530,
    "anthropic/stanford-online-all-v4-s3": 52,
    "together/bloom": 176,
    "together/opt-66b": 66,
    "together/yalm": 100,
}


@pytest.mark.parametrize("name", SIZES)
def test_the_papers_models_are_as_large_as_published(name: str) -> None:
    flops = load_tables().stacks["a100-megatron"].rows[name].flops
    assert flops is not None
    assert (flops.per_token + flops.per_output_token) / 2e9 == pytest.approx(SIZES[name], rel=0.03)


@pytest.mark.parametrize("name", ["a100-megatron", "v100-megatron"])
def test_the_papers_tables_are_what_is_generated(name: str) -> None:
    shipped = shipped_stacks()[name].read_text(encoding="utf-8")
    assert shipped == paper_table(name), f"python -m profiler.paper_tables {name} writes it anew"
