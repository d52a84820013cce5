"""How a checkpoint's weights are kept, from the `quantization_config` of its `config.json`.

The names are those of `profiler.architectures.BYTES`: bf16, fp8, int8, int4, and mxfp4, which is four bits for the
experts and bf16 for the rest.
"""

from collections.abc import Mapping
from typing import Any

__all__ = ["UNKNOWN_WEIGHTS", "shipped_weights"]

UNKNOWN_WEIGHTS = "unknown"

_BY_METHOD = {
    **dict.fromkeys(("fp8", "fbgemm_fp8"), "fp8"),
    "mxfp4": "mxfp4",
    **dict.fromkeys(("awq", "aqlm", "auto-round", "intel/auto-round"), "int4"),
    "eetq": "int8",
}
_BY_BITS = {8: "int8", 4: "int4"}
_ATTENTION = ("self_attn", "attention", "q_proj", "attn")


def shipped_weights(quantization: Any) -> str:
    """The sort of weights that a `quantization_config` (None: not quantised) tells of, or UNKNOWN_WEIGHTS."""
    if not quantization:
        return "bf16"
    if not isinstance(quantization, Mapping):
        return UNKNOWN_WEIGHTS
    method = str(quantization.get("quant_method") or quantization.get("quant_algo") or "").lower()
    if method == "compressed-tensors":
        return _compressed_tensors(quantization)
    if method == "bitsandbytes":
        return _bitsandbytes(quantization)
    bits = quantization.get("bits") or quantization.get("w_bit")
    if isinstance(bits, int):
        return _BY_BITS.get(bits, UNKNOWN_WEIGHTS)
    if method in {"modelopt", "fp8"} or method.startswith("fp8"):
        algorithm = str(quantization.get("quant_algo") or "fp8").lower()
        return "fp8" if algorithm.startswith("fp8") else UNKNOWN_WEIGHTS
    return _BY_METHOD.get(method, UNKNOWN_WEIGHTS)


def _bitsandbytes(quantization: Mapping[str, Any]) -> str:
    if quantization.get("load_in_4bit") or quantization.get("_load_in_4bit"):
        return "int4"
    return "int8" if quantization.get("load_in_8bit") or quantization.get("_load_in_8bit") else "bf16"


def _compressed_tensors(quantization: Mapping[str, Any]) -> str:
    groups = quantization.get("config_groups")
    weights = [group.get("weights") for group in groups.values()] if isinstance(groups, Mapping) else []
    sorts = {_group(each) for each in weights if isinstance(each, Mapping)}
    found = sorts.pop() if len(sorts) == 1 else UNKNOWN_WEIGHTS
    left_out = " ".join(map(str, quantization.get("ignore") or ()))
    # Four bits for the experts alone are what mxfp4 checkpoints have too.
    return "mxfp4" if found == "int4" and any(name in left_out for name in _ATTENTION) else found


def _group(weights: Mapping[str, Any]) -> str:
    bits = weights.get("num_bits")
    if weights.get("type") == "float":
        return "fp8" if bits == 8 else UNKNOWN_WEIGHTS
    return _BY_BITS.get(bits, UNKNOWN_WEIGHTS) if isinstance(bits, int) else UNKNOWN_WEIGHTS
