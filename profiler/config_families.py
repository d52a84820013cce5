"""What a Hugging Face `config.json` leaves unsaid: the keys of each family, and what its code does without a key.

A family is a `model_type`. Facts of the public model code of each family, none of which its config states: whether the
feed-forward has a gate, whether input and output embedding are one matrix by default, whether attention and
feed-forward run in parallel, how many norms a layer has.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["ENCODERS", "FAMILIES", "KEYS", "NOT_MODELLED", "Family"]

KEYS: Mapping[str, tuple[str, ...]] = {
    "layers": ("num_hidden_layers", "n_layer", "n_layers", "num_layers"),
    "hidden": ("hidden_size", "n_embd", "n_embed", "d_model"),
    "heads": ("num_attention_heads", "n_head", "n_heads", "attention_heads"),
    "kv_heads": ("num_key_value_heads", "num_kv_heads", "multi_query_group_num", "n_head_kv", "kv_n_heads"),
    "head_dim": ("head_dim", "kv_channels"),
    "ffn": ("intermediate_size", "ffn_hidden_size", "ffn_dim", "n_inner"),
    "vocabulary": ("padded_vocab_size", "vocab_size"),
    "experts": ("n_routed_experts", "num_experts", "num_local_experts", "moe_num_experts"),
    "active": ("num_experts_per_tok", "experts_per_token", "moe_top_k", "moe_topk", "moe_k", "top_k_experts"),
    "expert_ffn": ("moe_intermediate_size", "moe_ffn_hidden_size"),
    "shared_ffn": ("shared_expert_intermediate_size", "shared_intermediate_size"),
    "shared_experts": ("n_shared_experts", "num_shared_experts", "moe_num_shared_experts"),
    "leading_dense": ("first_k_dense_replace", "moe_layer_start_index"),
    "window": ("sliding_window", "attention_chunk_size"),
    "window_every": ("sliding_window_pattern", "_sliding_window_pattern"),
    "longest": ("max_position_embeddings", "n_positions", "max_seq_len"),
}
"""Under which names families keep one number; of several the first that has a value."""

ENCODERS = frozenset(
    {"albert", "bert", "camembert", "clip", "deberta", "deberta-v2", "distilbert", "electra", "modernbert", "mpnet"}
    | {"nomic_bert", "roberta", "siglip", "vit", "xlm-roberta"}
)
"""Model types that read text or pictures and give none."""

NOT_MODELLED: Mapping[str, str] = {
    "is_encoder_decoder": "an encoder and a decoder",
    "ssm_cfg": "state-space layers",
    "state_size": "state-space layers",
    "mamba_d_state": "state-space layers",
    "mamba_num_heads": "state-space layers",
    "hybrid_override_pattern": "state-space layers",
    "lru_width": "recurrent layers",
    "linear_num_value_heads": "linear-attention layers",
    "linear_attn_config": "linear-attention layers",
    "block_configs": "layers that differ from one another",
    "global_head_dim": "attention heads that differ between layers",
    "compress_ratios": "compressed attention",
    "altup_num_inputs": "layers with several residual streams",
}
"""Keys (with a value) of models whose layers are not what `Architecture` can describe."""


@dataclass(frozen=True, slots=True)
class Family:
    """One `model_type`. `norms` are a layer's norm kernels without those of queries and keys.

    `qk_norm` says whether queries and keys are normalised (None: the config's `use_qk_norm` does). `wide` is the
    feed-forward's width in hidden sizes where the config gives none. Every `window_every`th layer attends to all, the
    others to a window. `defaults` are values of missing keys.
    """

    gated: bool = True
    tied: bool = False
    parallel: bool = False
    norms: int = 2
    qk_norm: bool | None = None
    wide: int = 0
    window_every: int = 0
    defaults: Mapping[str, int] = field(default_factory=dict)


_GEMMA_3 = {"heads": 8, "kv_heads": 4, "head_dim": 256, "vocabulary": 262_208}
_LIKE_LLAMA = (
    *("llama", "mistral", "mixtral", "ministral", "qwen", "qwen2", "qwen2_moe", "qwen2_vl", "qwen2_5_vl"),
    *("qwen2_vl_text", "qwen2_5_vl_text", "mllama_text_model", "mimo", "seed_oss", "phi3", "phimoe", "yi", "baichuan"),
    *("internlm2", "internlm3", "chatglm", "glm", "granite", "granitemoe", "stablelm", "olmo", "gpt_oss", "minimax_m2"),
    *("dbrx", "exaone", "deepseek", "ernie4_5", "ernie4_5_moe", "glm4_moe"),
    # The norms of their compressed queries, keys and values are counted where their ranks are read.
    *("deepseek_v2", "deepseek_v3", "deepseek_v32", "kimi_k2", "glm_moe_dsa", "glm4_moe_lite"),
)
_NORMALISED = (
    "qwen3",
    "qwen3_moe",
    "qwen3_vl_text",
    "qwen3_vl_moe_text",
    "olmo2",
    "olmo3",
    "olmoe",
    "hunyuan_v1_dense",
)
_LIKE_GPT2 = ("gpt2", "gpt_neo", "gpt_bigcode", "opt", "bloom", "mpt", "starcoder2")
_FALCON = ("falcon", "RefinedWeb", "RefinedWebModel")

FAMILIES: Mapping[str, Family] = {
    **dict.fromkeys(_LIKE_LLAMA, Family()),
    **dict.fromkeys(_NORMALISED, Family(qk_norm=True)),
    **dict.fromkeys(_LIKE_GPT2, Family(gated=False, tied=True, wide=4)),
    **dict.fromkeys(_FALCON, Family(gated=False, tied=True, parallel=True, norms=1, wide=4)),
    **dict.fromkeys(("gptj", "phi"), Family(gated=False, parallel=True, norms=1, wide=4)),
    "gpt_neox": Family(gated=False, parallel=True, wide=4),
    **dict.fromkeys(("nemotron", "arcee"), Family(gated=False)),
    "smollm3": Family(tied=True),
    "llama4_text": Family(qk_norm=False),  # its norm of queries and keys has no weights, and is part of the rotation
    "glm4": Family(norms=4, defaults={"head_dim": 128}),
    "gemma": Family(tied=True, defaults={"head_dim": 256}),
    "gemma2": Family(tied=True, norms=4, window_every=2, defaults={"head_dim": 256}),
    **dict.fromkeys(
        ("gemma3", "gemma3_text"), Family(tied=True, norms=4, qk_norm=True, window_every=6, defaults=_GEMMA_3)
    ),
    "cohere": Family(tied=True, parallel=True, norms=1),
    "cohere2": Family(tied=True, parallel=True, norms=1, window_every=4),
}
