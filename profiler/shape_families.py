"""From an `Architecture` back to the config of a family that transformers can build.

An architecture's numbers are not all that a config holds, and several families may have the same numbers. Shipped
models say by their names which one they are; numbers that were written out get the first that has them. Whether a
config says the same again when it is read is what decides: what no family can say is refused.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from profiler.architectures import Architecture
from profiler.config import from_config

__all__ = ["config_of"]

_LONGEST = 131_072  # positions: of no consequence for how long a token takes
_EVERY = 4  # of Llama 4: every fourth layer attends to all

_BY_NAME = {
    "cohere/command-r": "cohere",
    "deepseek-ai/deepseek-": "deepseek_v3",
    "google/gemma-2-": "gemma2",
    "google/gemma-3-": "gemma3_text",
    "meta-llama/llama-2-": "llama",
    "meta-llama/llama-3": "llama",
    "meta-llama/llama-4-": "llama4_text",
    "microsoft/phi-4": "phi3",
    "mistralai/mistral-": "mistral",
    "mistralai/mixtral-": "mixtral",
    "moonshotai/kimi-k2": "deepseek_v3",
    "openai/gpt-oss-": "gpt_oss",
    "qwen/qwen2.5-": "qwen2",
    "qwen/qwen3-": "qwen3 qwen3_moe",
    "qwen/qwq-": "qwen2",
    "zai-org/glm-4.5": "glm4_moe",
}
"""Families by how names begin."""

_NOT_ITS_OWN = {
    "deepseek_v3": ("head_dim",),
    "gpt_neox": ("head_dim", "num_key_value_heads"),
}
"""What a family's code does not ask the config for, so that it follows from other numbers."""

_WRITTEN_OUT = (
    *("llama", "qwen3", "mistral", "ministral", "gpt_neox", "nemotron", "cohere"),
    *("mixtral", "qwen3_moe", "glm4_moe", "qwen2_moe", "deepseek_v3"),
)

_MIXED = frozenset({"deepseek_v3", "glm4_moe", "gpt_oss", "llama4_text", "mixtral", "qwen2_moe", "qwen3_moe"})


def config_of(architecture: Architecture) -> dict[str, Any] | None:
    """A config that transformers builds and that has the architecture's numbers; None where no family has them."""
    return next((config for config in _candidates(architecture) if _same(config, architecture)), None)


def _candidates(model: Architecture) -> Iterator[dict[str, Any]]:
    named = next((families.split() for start, families in _BY_NAME.items() if model.name.startswith(start)), None)
    for family in named or _WRITTEN_OUT:
        if (family in _MIXED) != (model.experts is not None):
            continue  # without a key for them, the code of such a family makes as many experts as it pleases
        yield {**_numbers(model, family), **_MORE.get(family, _nothing)(model)}


def _same(config: dict[str, Any], wanted: Architecture) -> bool:
    """Whether a config, read back, says what was wanted."""
    found = from_config(config, wanted.name, wanted.source, wanted.weights).architecture
    passed_over = ["parameters", "active_parameters"]
    passed_over += [] if wanted.dense_layers else ["ffn"]  # no layer has it where all have experts
    passed_over += ["layer_norms"] if wanted.latent else []  # those of its ranks are the family's
    same: dict[str, Any] = {key: getattr(wanted, key) for key in passed_over}
    return replace(found, **same) == wanted


def _numbers(model: Architecture, family: str) -> dict[str, Any]:
    """What all families have."""
    numbers = {
        "model_type": family,
        "num_hidden_layers": model.layers,
        "hidden_size": model.hidden,
        "num_attention_heads": model.heads,
        "num_key_value_heads": model.kv_heads,
        "head_dim": model.head_dim,
        "intermediate_size": model.ffn,
        "vocab_size": model.vocabulary,
        "tie_word_embeddings": model.tied,
        "max_position_embeddings": _LONGEST,
    }
    for key in _NOT_ITS_OWN.get(family, ()):
        del numbers[key]
    return numbers


def _nothing(_model: Architecture) -> dict[str, Any]:
    return {}


def _mixture(model: Architecture, count: str) -> dict[str, Any]:
    experts = model.experts
    if experts is None:
        return {}
    return {count: experts.count, "num_experts_per_tok": experts.active, "moe_intermediate_size": experts.ffn}


def _mixtral(model: Architecture) -> dict[str, Any]:
    found = _mixture(model, "num_local_experts")
    return {**found, "intermediate_size": found.pop("moe_intermediate_size", model.ffn)}


def _gpt_oss(model: Architecture) -> dict[str, Any]:
    return {**_mixtral(model), **_windows(model), "attention_bias": True}


def _qwen3_moe(model: Architecture) -> dict[str, Any]:
    return {**_mixture(model, "num_experts"), "mlp_only_layers": list(range(model.dense_layers)), **_BALANCED}


def _qwen2_moe(model: Architecture) -> dict[str, Any]:
    shared = model.experts.shared_ffn if model.experts else 0
    # None of it would be one of no width, which is not the same as none.
    return {**_qwen3_moe(model), "shared_expert_intermediate_size": shared or 1, "qkv_bias": False}


def _shared(model: Architecture) -> dict[str, Any]:
    """Shared experts as wide as the others, and leading dense layers."""
    experts = model.experts
    if experts is None:
        return {}
    count = max(1, experts.shared_ffn // experts.ffn)
    found = _mixture(model, "n_routed_experts")
    return {**found, "n_shared_experts": count, "first_k_dense_replace": experts.dense_layers, **_BALANCED}


def _glm(model: Architecture) -> dict[str, Any]:
    ours = {"use_qk_norm": model.layer_norms == 4, "attention_bias": model.name.startswith("zai-org/")}
    return {**_shared(model), **ours, "n_group": 1, "topk_group": 1}


def _deepseek(model: Architecture) -> dict[str, Any]:
    latent = model.latent
    ranks: dict[str, Any] = {}
    if latent is not None:
        ranks = {"q_lora_rank": latent.q_rank or None, "kv_lora_rank": latent.kv_rank, "v_head_dim": latent.value}
        ranks |= {"qk_nope_head_dim": latent.nope, "qk_rope_head_dim": latent.rope}
    groups = (8, 4) if model.name.startswith("deepseek-ai/") else (1, 1)
    return {**_shared(model), **ranks, "n_group": groups[0], "topk_group": groups[1]}


def _llama4(model: Architecture) -> dict[str, Any]:
    found = _mixture(model, "num_local_experts")
    step = 2 if model.dense_layers else 1
    chunks = {"attention_chunk_size": model.window, "no_rope_layer_interval": _EVERY, "use_qk_norm": True}
    widths = {"intermediate_size": found.pop("moe_intermediate_size", model.ffn), "intermediate_size_mlp": model.ffn}
    return {**found, **widths, **chunks, "interleave_moe_layer_step": step}


def _windows(model: Architecture) -> dict[str, Any]:
    """Windows in some layers, those that attend to all evenly between them."""
    if not model.window_layers:
        return {"sliding_window": None}
    layers, full = model.layers, model.layers - model.window_layers
    whole = [(at + 1) * full // layers > at * full // layers for at in range(layers)]
    kinds = ["full_attention" if each else "sliding_attention" for each in whole]
    return {"sliding_window": model.window, "layer_types": kinds}


def _qwen3(model: Architecture) -> dict[str, Any]:
    return {**_windows(model), "use_sliding_window": bool(model.window_layers)}


def _gemma(model: Architecture) -> dict[str, Any]:
    return {"sliding_window": model.window}  # which layers, the family knows


def _mistral(model: Architecture) -> dict[str, Any]:
    return {"sliding_window": model.window or None}


def _neox(model: Architecture) -> dict[str, Any]:
    return {"use_parallel_residual": model.parallel}


def _cohere(model: Architecture) -> dict[str, Any]:
    return {"use_qk_norm": model.layer_norms == 3}


_BALANCED = {"norm_topk_prob": True}
_MORE: dict[str, Callable[[Architecture], dict[str, Any]]] = {
    "cohere": _cohere,
    "deepseek_v3": _deepseek,
    "gemma2": _gemma,
    "gemma3_text": _gemma,
    "glm4_moe": _glm,
    "gpt_neox": _neox,
    "gpt_oss": _gpt_oss,
    "llama4_text": _llama4,
    "ministral": _windows,
    "mistral": _mistral,
    "mixtral": _mixtral,
    "qwen2_moe": _qwen2_moe,
    "qwen3": _qwen3,
    "qwen3_moe": _qwen3_moe,
}
