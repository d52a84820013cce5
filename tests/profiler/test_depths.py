"""Some of a model's layers: the first ones, as far apart as memory allows, and they tell what all of them take."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler.config import from_config
from profiler.depths import DepthError, amplification, bytes_of, choose, pattern, truncated, weights
from profiler.shapes import Shape, shape

LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "num_hidden_layers": 24,
    "hidden_size": 64,
    "num_attention_heads": 8,
    "intermediate_size": 192,
    "vocab_size": 100,
}
NAMES = (
    "llama-3.1-8b",
    "gemma-3-27b",
    "gemma-3-4b",
    "gpt-oss-20b",
    "deepseek-v3",
    "glm-4.5",
    "llama-4-maverick-17b-128e",
    "qwen3-30b-a3b",
)
SHAPES = {name: shape(name) for name in NAMES}
shapes = st.sampled_from(sorted(SHAPES)).map(SHAPES.__getitem__)


@pytest.mark.parametrize(
    ("name", "lead", "period", "first"),
    [
        ("llama-3.1-8b", 0, 1, [2, 3, 4]),
        ("gemma-3-27b", 0, 6, [8, 14, 20]),  # 62 layers: two more than ten periods
        ("gpt-oss-20b", 0, 2, [2, 4, 6]),
        ("deepseek-v3", 3, 1, [4, 5, 6]),
        ("glm-4.5", 3, 1, [4, 5, 6]),
        ("llama-4-maverick-17b-128e", 0, 4, [4, 8, 12]),
    ],
)
def test_how_layers_repeat(name: str, lead: int, period: int, first: list[int]) -> None:
    found = pattern(SHAPES[name].config)
    assert (found.lead, found.period, list(found.depths[:3])) == (lead, period, first)
    assert (found.layers - found.depths[-1]) == period


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 20, "model_type": "qwen2"}, (20, 1)),
        ({"model_type": "qwen3_moe", "num_experts": 8, "num_experts_per_tok": 2, "decoder_sparse_step": 2}, (0, 2)),
        ({"model_type": "qwen3_moe", "num_experts": 8, "num_experts_per_tok": 2, "mlp_only_layers": [0, 5]}, (6, 1)),
        ({"model_type": "cohere2", "sliding_window": 8}, (0, 4)),
    ],
    ids=["windows-from-20", "every-second-has-experts", "two-without", "every-fourth-sees-all"],
)
def test_patterns_of_all_sorts_are_found(more: dict[str, Any], expected: tuple[int, int]) -> None:
    found = pattern({**LLAMA, **more})
    assert (found.lead, found.period) == expected


@given(shapes, st.data())
def test_a_truncated_model_is_the_first_layers_of_the_whole(whole: Shape, data: st.DataObject) -> None:
    layers = data.draw(st.integers(1, whole.architecture.layers))
    fewer = data.draw(st.integers(1, layers))
    once = truncated(whole.config, layers)
    assert truncated(once, fewer) == truncated(whole.config, fewer)
    assert from_config(once, "cut", "cut").architecture.layers == layers
    assert truncated(whole.config, whole.architecture.layers) == dict(whole.config)


def test_lists_of_layers_are_cut_with_them() -> None:
    lists: dict[str, Any] = {
        "layer_types": ["sliding_attention", "full_attention"] * 12,
        "mlp_layer_types": ["dense"] + ["sparse"] * 23,
        "moe_layer_freq": [0] + [1] * 23,
        "no_rope_layers": [1, 1, 1, 0] * 6,
        "mlp_only_layers": [0, 7],
    }
    found = truncated({**LLAMA, **lists, "n_layer": 24}, 3)
    assert (found["num_hidden_layers"], found["n_layer"]) == (3, 3)
    assert found["layer_types"] == ["sliding_attention", "full_attention", "sliding_attention"]
    assert (found["mlp_layer_types"], found["moe_layer_freq"]) == (["dense", "sparse", "sparse"], [0, 1, 1])
    assert (found["no_rope_layers"], found["mlp_only_layers"]) == ([1, 1, 1], [0])


@pytest.mark.parametrize("layers", [0, 25])
def test_a_model_has_so_many_layers_only(layers: int) -> None:
    with pytest.raises(DepthError, match=r"^\d+ of 24 layers: expected 1 to 24$"):
        truncated(LLAMA, layers)


seconds = st.floats(0, 10)


@given(shapes, seconds, st.lists(seconds, min_size=4, max_size=4), st.data())
def test_what_is_linear_in_layers_is_recovered_exactly(
    whole: Shape, besides: float, each: list[float], data: st.DataObject
) -> None:
    depths = data.draw(
        st.lists(st.sampled_from(pattern(whole.config).depths), min_size=2, max_size=4, unique=True), label="depths"
    )

    def takes(layers: int) -> float:
        model = from_config(truncated(whole.config, layers), "cut", "cut").architecture
        windowed, dense = model.window_layers, model.dense_layers
        return besides + sum(
            how_many * one
            for how_many, one in zip((windowed, layers - windowed, dense, layers - dense), each, strict=True)
        )

    found = sum(factor * takes(at) for factor, at in zip(weights(whole.config, depths), depths, strict=True))
    assert found == pytest.approx(takes(whole.architecture.layers), rel=1e-9, abs=1e-9)


def test_two_depths_are_a_line() -> None:
    assert weights(LLAMA, (24,)) == (1.0,)
    assert weights(LLAMA, (4, 8)) == pytest.approx((-4.0, 5.0))
    assert weights(LLAMA, (8, 4)) == pytest.approx((5.0, -4.0))
    assert weights(LLAMA, (4, 24)) == pytest.approx((0.0, 1.0))
    assert amplification(LLAMA, (4, 8)) == pytest.approx(5)
    assert amplification(LLAMA, (24,)) == 1


@pytest.mark.parametrize(
    ("name", "depths", "expected"),
    [
        ("llama-3.1-8b", (4,), "layers 4: expected two or more of 2, 3, 4, ... 32"),
        ("llama-3.1-8b", (4, 4), "layers 4,4: expected two or more of 2, 3, 4, ... 32"),
        ("llama-3.1-8b", (4, 33), "layers 4,33: expected two or more of 2, 3, 4, ... 32"),
        ("llama-3.1-8b", (), "layers : expected two or more of 2, 3, 4, ... 32"),
        ("gemma-3-27b", (6, 12), "layers 6,12: expected two or more of 8, 14, 20, ... 62"),
        ("deepseek-v3", (2, 5), "layers 2,5: expected two or more of 4, 5, 6, ... 61"),
    ],
)
def test_depths_that_tell_nothing_are_refused(name: str, depths: tuple[int, ...], expected: str) -> None:
    with pytest.raises(DepthError) as refused:
        weights(SHAPES[name].config, depths)
    assert str(refused.value) == expected


@given(shapes, st.floats(1e8, 2e12), st.sampled_from(("bfloat16", "float32")), st.integers(1, 8192))
def test_chosen_depths_fit_and_the_next_would_not(whole: Shape, free: float, dtype: str, tokens: int) -> None:
    found = pattern(whole.config)

    def needed(layers: int) -> float:
        return bytes_of(truncated(whole.config, layers), dtype, tokens)

    def chosen() -> tuple[int, ...]:
        return choose(whole.config, whole.architecture, dtype, free, tokens=tokens)

    if needed(found.depths[1]) > free * 0.98:
        with pytest.raises(DepthError, match=r"GB are free: [^\n]*$"):
            chosen()
        return
    depths = chosen()
    assert needed(depths[-1]) <= free
    assert depths == (found.layers,) or depths[0] == found.depths[0]
    assert depths[-1] == found.layers or needed(depths[-1] + found.period) > free * 0.97
    weights(whole.config, depths)


def test_a_small_device_measures_some_layers_of_a_large_model() -> None:
    whole = shape("llama-3.1-70b")
    assert choose(whole.config, whole.architecture, "bfloat16", 200e9) == (80,)
    shallow, deep = choose(whole.config, whole.architecture, "bfloat16", 80e9)
    assert (shallow, 38 < deep < 46) == (2, True)
    with pytest.raises(DepthError, match=r"llama-3.1-70b: 3 of its 80 layers, .* need 10.\d GB of memory, 8 GB are"):
        choose(whole.config, whole.architecture, "bfloat16", 8e9)


def test_memory_is_mostly_weights_and_grows_with_tokens() -> None:
    for whole in SHAPES.values():
        few, many = (bytes_of(whole.config, "bfloat16", tokens) for tokens in (1, 4096))
        assert 2 * whole.architecture.total_parameters() < few < 1.02 * 2 * whole.architecture.total_parameters()
        assert few < many < 1.5 * few
    with pytest.raises(DepthError, match=r"^dtype 'int3': expected one of float32, bfloat16, float16$"):
        bytes_of(LLAMA, "int3", 1)


def test_a_model_whose_layers_do_not_repeat_fits_or_does_not() -> None:
    whole = {**LLAMA, "num_hidden_layers": 2}
    model = from_config(whole, "tiny", "tiny").architecture
    assert choose(whole, model, "float32", 1e9) == (2,)
    with pytest.raises(DepthError, match=r"^tiny: 2 of its 2 layers, "):
        choose(whole, model, "float32", 1e3)
