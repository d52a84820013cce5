"""Real models' `config.json`, their numbers only, against published sizes and against the architectures that ship."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler.architectures import LatentAttention, architectures
from profiler.config import ArchitectureError, from_config, read_config
from profiler.config_families import FAMILIES, KEYS

SHIPPED = architectures()


def llama(
    model_type: str, layers: int, hidden: int, heads: int, kv: int | None, ffn: int, vocabulary: int, **more: Any
) -> dict[str, Any]:
    """A config with the keys that most families have."""
    numbers = {
        "model_type": model_type,
        "num_hidden_layers": layers,
        "hidden_size": hidden,
        "num_attention_heads": heads,
        "num_key_value_heads": kv,
        "intermediate_size": ffn,
        "vocab_size": vocabulary,
    }
    return {key: value for key, value in {**numbers, **more}.items() if value is not None}


# ---- configs of models that ship: they must come out as those do


FP8 = {"quant_method": "fp8", "weight_block_size": [128, 128]}
DEEPSEEK = {
    "q_lora_rank": 1536,
    "kv_lora_rank": 512,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "v_head_dim": 128,
    "n_shared_experts": 1,
    "num_experts_per_tok": 8,
    "moe_intermediate_size": 2048,
    "quantization_config": FP8,
}
LLAMA_4 = {
    "head_dim": 128,
    "attention_chunk_size": 8192,
    "num_experts_per_tok": 1,
    "intermediate_size_mlp": 16_384,
    "max_position_embeddings": 10_485_760,
    "use_qk_norm": True,
}
OSS = {
    "head_dim": 64,
    "num_experts_per_tok": 4,
    "sliding_window": 128,
    "max_position_embeddings": 131_072,
    "quantization_config": {"quant_method": "mxfp4"},
}
QWEN_25 = {"use_sliding_window": False, "sliding_window": 131_072, "max_window_layers": 28}
QWEN_3 = {"head_dim": 128, "use_sliding_window": False}
GEMMA_3 = {"sliding_window": 1024, "vocab_size": 262_144}

OF_SHIPPED: dict[str, dict[str, Any]] = {
    "meta-llama/llama-2-70b": llama("llama", 80, 8192, 64, 8, 28_672, 32_000),
    "meta-llama/llama-3.1-8b": llama("llama", 32, 4096, 32, 8, 14_336, 128_256, tie_word_embeddings=False),
    "meta-llama/llama-3.2-1b": llama("llama", 16, 2048, 32, 8, 8192, 128_256, tie_word_embeddings=True, head_dim=64),
    "meta-llama/llama-4-scout-17b-16e": {
        "model_type": "llama4",
        "text_config": llama("llama4_text", 48, 5120, 40, 8, 8192, 202_048, num_local_experts=16, **LLAMA_4),
    },
    "meta-llama/llama-4-maverick-17b-128e": {
        "model_type": "llama4",
        "quantization_config": {
            "quant_method": "compressed-tensors",
            "config_groups": {"group_0": {"weights": {"num_bits": 8, "type": "float"}}},
        },
        "text_config": llama(
            "llama4_text", 48, 5120, 40, 8, 8192, 202_048, num_local_experts=128, interleave_moe_layer_step=2, **LLAMA_4
        ),
    },
    "mistralai/mistral-7b-v0.3": llama("mistral", 32, 4096, 32, 8, 14_336, 32_768, sliding_window=None),
    "mistralai/mistral-nemo-12b": llama("mistral", 40, 5120, 32, 8, 14_336, 131_072, head_dim=128),
    "mistralai/mistral-small-24b": {
        "model_type": "mistral3",
        "text_config": llama("mistral", 40, 5120, 32, 8, 32_768, 131_072, head_dim=128),
        "vision_config": {"hidden_size": 1024, "num_hidden_layers": 24},
    },
    "mistralai/mixtral-8x7b": llama(
        "mixtral", 32, 4096, 32, 8, 14_336, 32_000, num_local_experts=8, num_experts_per_tok=2
    ),
    "qwen/qwen2.5-7b": llama("qwen2", 28, 3584, 28, 4, 18_944, 152_064, tie_word_embeddings=False, **QWEN_25),
    "qwen/qwen3-4b": llama("qwen3", 36, 2560, 32, 8, 9728, 151_936, tie_word_embeddings=True, **QWEN_3),
    "qwen/qwen3-32b": llama("qwen3", 64, 5120, 64, 8, 25_600, 151_936, **QWEN_3),
    "qwen/qwen3-30b-a3b": llama(
        "qwen3_moe",
        48,
        2048,
        32,
        4,
        6144,
        151_936,
        num_experts=128,
        num_experts_per_tok=8,
        moe_intermediate_size=768,
        decoder_sparse_step=1,
        mlp_only_layers=[],
        **QWEN_3,
    ),
    "google/gemma-2-9b": llama(
        "gemma2", 42, 3584, 16, 8, 14_336, 256_000, head_dim=256, sliding_window=4096, max_position_embeddings=8192
    ),
    "google/gemma-3-4b": {
        "model_type": "gemma3",
        "text_config": {
            "model_type": "gemma3_text",
            "num_hidden_layers": 34,
            "hidden_size": 2560,
            "intermediate_size": 10_240,
            **GEMMA_3,
        },
    },
    "google/gemma-3-27b": {
        "model_type": "gemma3",
        "text_config": llama(
            "gemma3_text",
            62,
            5376,
            32,
            16,
            21_504,
            262_144,
            head_dim=128,
            sliding_window=1024,
            sliding_window_pattern=6,
        ),
    },
    "microsoft/phi-4": llama("phi3", 40, 5120, 40, 10, 17_920, 100_352, sliding_window=None),
    "cohere/command-r-plus": llama("cohere", 64, 12_288, 96, 8, 33_792, 256_000, use_qk_norm=True),
    "deepseek-ai/deepseek-v3": llama(
        "deepseek_v3",
        61,
        7168,
        128,
        128,
        18_432,
        129_280,
        n_routed_experts=256,
        first_k_dense_replace=3,
        moe_layer_freq=1,
        **DEEPSEEK,
    ),
    "moonshotai/kimi-k2": llama(
        "kimi_k2", 61, 7168, 64, 64, 18_432, 163_840, n_routed_experts=384, first_k_dense_replace=1, **DEEPSEEK
    ),
    "openai/gpt-oss-20b": llama("gpt_oss", 24, 2880, 64, 8, 2880, 201_088, num_local_experts=32, **OSS),
    "openai/gpt-oss-120b": llama(
        "gpt_oss",
        36,
        2880,
        64,
        8,
        2880,
        201_088,
        num_local_experts=128,
        layer_types=["sliding_attention", "full_attention"] * 18,
        **OSS,
    ),
    "zai-org/glm-4.5": llama(
        "glm4_moe",
        92,
        5120,
        96,
        8,
        12_288,
        151_552,
        head_dim=128,
        n_routed_experts=160,
        num_experts_per_tok=8,
        moe_intermediate_size=1536,
        n_shared_experts=1,
        first_k_dense_replace=3,
        use_qk_norm=True,
        quantization_config=FP8,
    ),
    "zai-org/glm-4.5-air": llama(
        "glm4_moe",
        46,
        4096,
        96,
        8,
        10_944,
        151_552,
        head_dim=128,
        n_routed_experts=128,
        num_experts_per_tok=8,
        moe_intermediate_size=1408,
        n_shared_experts=1,
        first_k_dense_replace=1,
        use_qk_norm=False,
    ),
}


@pytest.mark.parametrize("name", OF_SHIPPED)
def test_a_config_gives_the_architecture_that_ships(name: str) -> None:
    expected = SHIPPED[name]
    found = from_config(OF_SHIPPED[name], name, expected.source)
    published: dict[str, Any] = {"parameters": expected.parameters, "active_parameters": expected.active_parameters}
    assert replace(found.architecture, **published) == expected
    assert found.notes == ()


# ---- configs of other models: published size (billions, all and active), and what their family does


PLAIN = {"gated": False}
LITE = LatentAttention(q_rank=0, kv_rank=512, nope=128, rope=64, value=128)
OTHERS: dict[str, tuple[dict[str, Any], tuple[float, float | None], dict[str, Any]]] = {
    "llama-2-7b": (llama("llama", 32, 4096, 32, None, 11_008, 32_000), (6.74, None), {"kv_heads": 32, "head_dim": 128}),
    "llama-3.2-11b-vision": (
        {
            "model_type": "mllama",
            "text_config": llama(
                "mllama_text_model",
                40,
                4096,
                32,
                8,
                14_336,
                128_256,
                cross_attention_layers=[3, 8, 13, 18, 23, 28, 33, 38],
            ),
        },
        (8.03, None),
        {"layers": 32},
    ),
    "mistral-7b-v0.1": (
        llama("mistral", 32, 4096, 32, 8, 14_336, 32_000, sliding_window=4096, max_position_embeddings=32_768),
        (7.24, None),
        {"window": 4096, "window_layers": 32},
    ),
    "qwen-7b": (
        {**llama("qwen", 32, 4096, 32, None, 22_016, 151_936), "kv_channels": 128},
        (7.72, None),
        {"ffn": 11_008},
    ),
    "qwen2-57b-a14b": (
        llama(
            "qwen2_moe",
            28,
            3584,
            28,
            4,
            18_944,
            151_936,
            num_experts=64,
            num_experts_per_tok=8,
            moe_intermediate_size=2560,
            shared_expert_intermediate_size=20_480,
        ),
        (57.4, 14.2),
        {},
    ),
    "qwen2-vl-7b": (
        llama("qwen2_vl", 28, 3584, 28, 4, 18_944, 152_064, vision_config={"depth": 32, "hidden_size": 3584}),
        (7.62, None),
        {},
    ),
    "gemma-7b": (
        llama("gemma", 28, 3072, 16, 16, 24_576, 256_000),
        (8.54, None),
        {"tied": True, "head_dim": 256, "gated": True},
    ),
    "phi-3-mini-4k": (
        llama("phi3", 32, 3072, 32, 32, 8192, 32_064, sliding_window=2047, max_position_embeddings=4096),
        (3.82, None),
        {"window": 2047, "window_layers": 32},
    ),
    "phi-3.5-mini": (
        llama("phi3", 32, 3072, 32, 32, 8192, 32_064, sliding_window=262_144, max_position_embeddings=131_072),
        (3.82, None),
        {"window": 0, "window_layers": 0},
    ),
    "phi-2": (
        llama("phi", 32, 2560, 32, 32, 10_240, 51_200),
        (2.78, None),
        {"gated": False, "parallel": True, "layer_norms": 1},
    ),
    "phi-3.5-moe": (
        llama("phimoe", 32, 4096, 32, 8, 6400, 32_064, num_local_experts=16, num_experts_per_tok=2),
        (41.9, 6.6),
        {},
    ),
    "falcon-7b": (
        {
            **llama("falcon", 32, 4544, 71, None, 0, 65_024),
            "intermediate_size": None,
            "multi_query": True,
            "num_kv_heads": 71,
            "parallel_attn": True,
            "new_decoder_architecture": False,
        },
        (6.92, None),
        {"kv_heads": 1, "head_dim": 64, "parallel": True, "ffn": 18_176},
    ),
    "falcon-40b": (
        {
            **llama("falcon", 60, 8192, 128, None, 0, 65_024),
            "intermediate_size": None,
            "multi_query": True,
            "num_kv_heads": 8,
            "new_decoder_architecture": True,
        },
        (41.3, None),
        {"kv_heads": 8, "layer_norms": 2},
    ),
    "falcon-rw-1b": (
        {
            "model_type": "falcon",
            "hidden_size": 2048,
            "num_hidden_layers": 24,
            "num_attention_heads": 32,
            "vocab_size": 50_304,
            "multi_query": False,
            "parallel_attn": False,
        },
        (1.31, None),
        {"kv_heads": 32, "parallel": False},
    ),
    "gpt-neox-20b": (
        llama("gpt_neox", 44, 6144, 64, None, 24_576, 50_432, tie_word_embeddings=False),
        (20.55, None),
        {"gated": False, "parallel": True, "tied": False},
    ),
    "pythia-1b-serial": (
        llama("gpt_neox", 16, 2048, 8, None, 8192, 50_304, use_parallel_residual=False),
        (1.01, None),
        {"parallel": False},
    ),
    "gpt-j-6b": (
        {
            "model_type": "gptj",
            "n_embd": 4096,
            "n_layer": 28,
            "n_head": 16,
            "n_inner": None,
            "vocab_size": 50_400,
            "tie_word_embeddings": False,
        },
        (6.05, None),
        {"parallel": True, "gated": False, "ffn": 16_384},
    ),
    "gpt2-xl": (
        {"model_type": "gpt2", "n_embd": 1600, "n_layer": 48, "n_head": 25, "vocab_size": 50_257},
        (1.56, None),
        {"tied": True, "gated": False},
    ),
    "starcoder": (
        {
            "model_type": "gpt_bigcode",
            "n_embd": 6144,
            "n_layer": 40,
            "n_head": 48,
            "n_inner": 24_576,
            "multi_query": True,
            "vocab_size": 49_152,
        },
        (15.5, None),
        {"kv_heads": 1},
    ),
    "starcoder2-7b": (
        llama(
            "starcoder2",
            32,
            4608,
            36,
            4,
            18_432,
            49_152,
            sliding_window=4096,
            max_position_embeddings=16_384,
            tie_word_embeddings=False,
        ),
        (7.40, None),
        {"gated": False, "window": 4096},
    ),
    "opt-66b": (
        {
            "model_type": "opt",
            "hidden_size": 9216,
            "ffn_dim": 36_864,
            "num_hidden_layers": 64,
            "num_attention_heads": 72,
            "vocab_size": 50_272,
        },
        (65.7, None),
        {"gated": False, "tied": True},
    ),
    "bloom": (
        {"model_type": "bloom", "n_embed": 14_336, "n_layer": 70, "num_attention_heads": 112, "vocab_size": 250_880},
        (176.2, None),
        {"ffn": 57_344, "gated": False},
    ),
    "bloom-7b1": (
        {"model_type": "bloom", "hidden_size": 4096, "n_layer": 30, "n_head": 32, "vocab_size": 250_880},
        (7.07, None),
        {"heads": 32},
    ),
    "mpt-7b": (
        {
            "model_type": "mpt",
            "d_model": 4096,
            "n_layers": 32,
            "n_heads": 32,
            "expansion_ratio": 4,
            "vocab_size": 50_432,
            "attn_config": {"attn_type": "multihead_attention"},
        },
        (6.65, None),
        {"gated": False, "tied": True},
    ),
    "dbrx": (
        {
            "model_type": "dbrx",
            "d_model": 6144,
            "n_layers": 40,
            "n_heads": 48,
            "vocab_size": 100_352,
            "attn_config": {"kv_n_heads": 8},
            "ffn_config": {"ffn_hidden_size": 10_752, "moe_num_experts": 16, "moe_top_k": 4},
        },
        (131.6, 36.5),
        {"kv_heads": 8},
    ),
    "deepseek-v2": (
        llama(
            "deepseek_v2",
            60,
            5120,
            128,
            128,
            12_288,
            102_400,
            n_routed_experts=160,
            first_k_dense_replace=1,
            **{
                **DEEPSEEK,
                "quantization_config": None,
                "n_shared_experts": 2,
                "num_experts_per_tok": 6,
                "moe_intermediate_size": 1536,
            },
        ),
        (236, 21),
        {"weights": "bf16", "layer_norms": 4},
    ),
    "deepseek-v2-lite": (
        llama(
            "deepseek_v2",
            27,
            2048,
            16,
            16,
            10_944,
            102_400,
            n_routed_experts=64,
            first_k_dense_replace=1,
            **{
                **DEEPSEEK,
                "q_lora_rank": None,
                "quantization_config": None,
                "n_shared_experts": 2,
                "num_experts_per_tok": 6,
                "moe_intermediate_size": 1408,
            },
        ),
        (15.7, 2.45),
        {"latent": LITE, "layer_norms": 3},
    ),
    "glm-4-9b-0414": (
        llama("glm4", 40, 4096, 32, 2, 13_696, 151_552, head_dim=128, tie_word_embeddings=False),
        (9.4, None),
        {"layer_norms": 4},
    ),
    "glm-4-9b": (
        {
            "model_type": "chatglm",
            "num_layers": 40,
            "hidden_size": 4096,
            "num_attention_heads": 32,
            "multi_query_attention": True,
            "multi_query_group_num": 2,
            "ffn_hidden_size": 13_696,
            "kv_channels": 128,
            "padded_vocab_size": 151_552,
        },
        (9.4, None),
        {"kv_heads": 2, "gated": True},
    ),
    "command-r": (
        llama("cohere", 40, 8192, 64, 64, 22_528, 256_000),
        (35.0, None),
        {"parallel": True, "tied": True, "layer_norms": 1},
    ),
    "command-r7b": (
        llama("cohere2", 32, 4096, 32, 8, 14_336, 256_000, sliding_window=4096, sliding_window_pattern=4, head_dim=128),
        (8.03, None),
        {"window": 4096, "window_layers": 24},
    ),
    "olmo-7b": (llama("olmo", 32, 4096, 32, 32, 11_008, 50_304), (6.89, None), {"gated": True}),
    "olmo-2-7b": (llama("olmo2", 32, 4096, 32, 32, 11_008, 100_352), (7.30, None), {"layer_norms": 4}),
    "olmoe-1b-7b": (
        llama("olmoe", 16, 2048, 16, 16, 1024, 50_304, num_experts=64, num_experts_per_tok=8),
        (6.92, 1.18),
        {},
    ),
    "minimax-m2": (
        llama(
            "minimax_m2",
            62,
            3072,
            48,
            8,
            1536,
            200_064,
            head_dim=128,
            num_local_experts=256,
            num_experts_per_tok=8,
            use_qk_norm=True,
            attn_type_list=[1] * 62,
            shared_intermediate_size=0,
            quantization_config=FP8,
        ),
        (229, 10),
        {"weights": "fp8", "layer_norms": 4},
    ),
}


@pytest.mark.parametrize("name", OTHERS)
def test_a_config_has_the_published_size(name: str) -> None:
    config, (total, active), expected = OTHERS[name]
    found = from_config(config, name, "there").architecture
    assert found.parameters == pytest.approx(total, rel=0.02)
    if active is None:
        assert found.active_parameters is None
    else:
        assert found.active_parameters == pytest.approx(active, rel=0.08)
    assert {key: getattr(found, key) for key in expected} == expected
    assert (found.name, found.source) == (name, "there")


def test_every_family_is_of_one_sort() -> None:
    assert len(FAMILIES) > 50
    assert all(family.norms > 0 for family in FAMILIES.values())


# ---- weights


AWQ = {"quant_method": "awq", "bits": 4, "group_size": 128}
KIMI_THINKING = {
    "quant_method": "compressed-tensors",
    "config_groups": {"group_0": {"weights": {"num_bits": 4, "type": "int", "group_size": 32}}},
    "ignore": ["lm_head", "re:.*self_attn.*", "re:.*shared_experts.*"],
}
WEIGHTS: dict[str, tuple[Any, str]] = {
    "none": (None, "bf16"),
    "fp8": (FP8, "fp8"),
    "fbgemm": ({"quant_method": "fbgemm_fp8"}, "fp8"),
    "modelopt": ({"quant_method": "modelopt", "quant_algo": "FP8"}, "fp8"),
    "hf_quant_config": ({"quant_algo": "FP8", "kv_cache_quant_algo": "FP8"}, "fp8"),
    "awq": (AWQ, "int4"),
    "gptq-4": ({"quant_method": "gptq", "bits": 4}, "int4"),
    "gptq-8": ({"quant_method": "gptq", "bits": 8}, "int8"),
    "bitsandbytes-4": ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "int4"),
    "bitsandbytes-8": ({"quant_method": "bitsandbytes", "load_in_8bit": True}, "int8"),
    "compressed-w8a8": (
        {"quant_method": "compressed-tensors", "config_groups": {"g": {"weights": {"num_bits": 8, "type": "int"}}}},
        "int8",
    ),
    "compressed-w4a16": (
        {
            "quant_method": "compressed-tensors",
            "config_groups": {"g": {"weights": {"num_bits": 4, "type": "int"}}},
            "ignore": ["lm_head"],
        },
        "int4",
    ),
    "experts-alone": (KIMI_THINKING, "mxfp4"),
    "mxfp4": ({"quant_method": "mxfp4"}, "mxfp4"),
}


@pytest.mark.parametrize("name", WEIGHTS)
def test_how_the_weights_are_kept(name: str) -> None:
    quantization, expected = WEIGHTS[name]
    config = {**OF_SHIPPED["meta-llama/llama-3.1-8b"], "quantization_config": quantization}
    assert from_config(config, name, "there").architecture.weights == expected


UNKNOWN = [
    {"quant_method": "modelopt", "quant_algo": "NVFP4"},
    {"quant_method": "gptq", "bits": 3},
    {"quant_method": "new"},
    "int4",
]


@pytest.mark.parametrize("quantization", UNKNOWN, ids=["nvfp4", "gptq-3", "new", "text"])
def test_unknown_weights_have_to_be_named(quantization: Any) -> None:
    config = {**OF_SHIPPED["meta-llama/llama-3.1-8b"], "quantization_config": quantization}
    with pytest.raises(ArchitectureError, match=r"there: quantization_config: .*--dtype"):
        from_config(config, "x", "there")
    assert from_config(config, "x", "there", "int4").architecture.weights == "int4"


# ---- what is not known, and what is wrong


def test_an_unknown_family_is_read_by_its_keys_and_says_so() -> None:
    gated = from_config(llama("brandnew", 32, 4096, 32, 8, 14_336, 128_256), "x", "there")
    plain = from_config(llama("brandnew", 32, 4096, 32, 8, 16_384, 128_256), "x", "there")
    nameless = from_config(
        {k: v for k, v in OF_SHIPPED["meta-llama/llama-3.1-8b"].items() if k != "model_type"}, "x", "there"
    )
    assert (gated.architecture.gated, plain.architecture.gated) == (True, False)
    assert gated.notes == ("model type 'brandnew' is not known: read by its keys alone",)
    assert nameless.notes == ("no model_type: read by its keys alone",)
    assert nameless.architecture.parameters == 8.03


def test_sparse_attention_is_said_to_be_an_upper_bound() -> None:
    config = {**OF_SHIPPED["deepseek-ai/deepseek-v3"], "model_type": "deepseek_v32", "index_topk": 2048}
    assert "long prompts cost less" in from_config(config, "x", "there").notes[0]


LLAMA = OF_SHIPPED["meta-llama/llama-3.1-8b"]
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "nothing": ({}, "no num_hidden_layers or n_layer or n_layers or num_layers: expected the config.json of"),
    "no-heads": ({k: v for k, v in LLAMA.items() if k != "num_attention_heads"}, "no num_attention_heads or n_head"),
    "text": ({**LLAMA, "hidden_size": "4096"}, 'hidden_size: expected a whole number, 1 or more, found "4096"'),
    "fraction": (
        {**LLAMA, "num_hidden_layers": 1.5},
        "num_hidden_layers: expected a whole number, 1 or more, found 1.5",
    ),
    "negative": ({**LLAMA, "vocab_size": -1}, "vocab_size: expected a whole number, 1 or more, found -1"),
    "mamba": ({**LLAMA, "mamba_d_state": 16}, "mamba_d_state: a model with state-space layers cannot be predicted"),
    "qwen3-next": ({**LLAMA, "linear_num_value_heads": 32}, "a model with linear-attention layers cannot be predicted"),
    "t5": ({**LLAMA, "is_encoder_decoder": True}, "a model with an encoder and a decoder cannot be predicted"),
    "layer-types": (
        {**LLAMA, "sliding_window": 10, "layer_types": ["recurrent"] * 32},
        "layer_types: a layer of 'recurrent'",
    ),
    "minimax-01": ({**LLAMA, "attn_type_list": [0, 1]}, "attn_type_list: a model with linear attention"),
    "half-latent": (
        {**LLAMA, "kv_lora_rank": 512},
        "no qk_nope_head_dim, qk_rope_head_dim, v_head_dim: expected with kv_lora_rank",
    ),
    "bert": ({**LLAMA, "model_type": "bert"}, "model_type 'bert': an encoder, which gives no tokens"),
    "layers": ({**LLAMA, "num_hidden_layers": 10**9}, "layers: expected at most 10000, found 1000000000"),
    "only-crossed": ({**LLAMA, "cross_attention_layers": [0] * 32}, "layers: expected 1 or more, found 0"),
    "conv-layers": ({**LLAMA, "layer_types": ["conv"] * 32}, "layer_types: a layer of 'conv' cannot be predicted"),
    "kv-heads": ({**LLAMA, "num_key_value_heads": 64}, "key-value heads: expected no more than heads, 32, found 64"),
    "active": (
        {**LLAMA, "num_experts": 4, "num_experts_per_tok": 8},
        "active experts: expected no more than experts, 4, found 8",
    ),
    "experts-without-active": ({**LLAMA, "num_experts": 8}, "no num_experts_per_tok or experts_per_token"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_said_on_one_line(name: str) -> None:
    config, expected = WRONG[name]
    with pytest.raises(ArchitectureError) as caught:
        from_config(config, name, "a/config.json")
    assert expected in str(caught.value)
    assert str(caught.value).startswith("a/config.json: ")
    assert "\n" not in str(caught.value)


ANYTHING = st.one_of(
    st.none(), st.booleans(), st.integers(-2, 10**12), st.floats(), st.text(max_size=3), st.just([1, {}])
)
KNOWN = sorted(
    {key for keys in KEYS.values() for key in keys} | set().union(*(OF_SHIPPED[name] for name in OF_SHIPPED))
)


@given(st.sampled_from(sorted(OF_SHIPPED)), st.dictionaries(st.sampled_from(KNOWN), ANYTHING, max_size=3))
def test_whatever_a_config_says_it_is_read_or_refused(name: str, changed: dict[str, Any]) -> None:
    refused = ""
    try:
        found = from_config({**OF_SHIPPED[name], **changed}, name, "there").architecture
    except ArchitectureError as error:
        refused = str(error)
    assert refused.startswith("there: ") or (not refused and found.parameters > 0)
    assert "\n" not in refused


# ---- files


def test_a_directory_a_file_and_a_second_file_beside_it(tmp_path: Path) -> None:
    model = tmp_path / "my-model"
    model.mkdir()
    (model / "config.json").write_text(json.dumps(LLAMA), encoding="utf-8")
    assert read_config(model).architecture.name == "my-model"
    assert read_config(model / "config.json").architecture.parameters == 8.03
    (model / "hf_quant_config.json").write_text('{"quantization": {"quant_algo": "FP8"}}', encoding="utf-8")
    assert read_config(model).architecture.weights == "fp8"
    other = tmp_path / "org--model_config.json"
    other.write_text(json.dumps(LLAMA), encoding="utf-8")
    found = read_config(other).architecture
    assert (found.name, found.source) == ("org/model", str(other))


NAMES = [
    ("qwen/config.json", None, "qwen", False),
    ("qwen/config.json", "Qwen/Qwen2.5-7B", "Qwen/Qwen2.5-7B", True),
    ("qwen/config.json", "/data/qwen", "qwen", False),
    ("qwen/config.json", "./qwen/x", "qwen", False),
    ("qwen/config.json", "gpt2", "qwen", False),
    ("qwen/config.json", 7, "qwen", False),
    ("my.json", None, "my", False),
    ("a--b_config.json", "Qwen/Qwen2.5-7B", "a/b", True),
    ("models--a--b/snapshots/12ab/config.json", None, "a/b", True),
]


@pytest.mark.parametrize(("file", "given", "name", "called"), NAMES)
def test_what_a_model_is_called(tmp_path: Path, file: str, given: object, name: str, called: bool) -> None:
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).write_text(json.dumps({**LLAMA, "_name_or_path": given}), encoding="utf-8")
    found = read_config(tmp_path / file)
    assert (found.architecture.name, found.called) == (name, called)


@pytest.mark.parametrize(
    ("keys", "longest"),
    [
        ({}, 131_072),
        ({"max_position_embeddings": 2048}, 2048),
        ({"max_position_embeddings": None, "n_positions": 1024}, 1024),
        ({"max_position_embeddings": 10**30}, None),
        ({"max_position_embeddings": "many"}, None),
    ],
)
def test_how_long_prompts_can_be(keys: dict[str, Any], longest: int | None) -> None:
    config = {**LLAMA, "max_position_embeddings": 131_072, **keys}
    assert from_config(config, "m", "x").longest == longest


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("[]", "expected a config.json, an object, found list"),
        ("{", "expected a config.json: "),
        (None, "cannot be read"),
    ],
    ids=["array", "broken", "missing"],
)
def test_files_that_are_none(tmp_path: Path, content: str | None, expected: str) -> None:
    file = tmp_path / "config.json"
    if content is not None:
        file.write_text(content, encoding="utf-8")
    with pytest.raises(ArchitectureError, match=expected):
        read_config(file)
