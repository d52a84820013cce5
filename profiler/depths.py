"""Measuring k of a model's L layers, where the whole does not fit: which k, and what the whole takes then. Pure.

A run takes as long as its layers do, and something besides: T = c + the sum over kinds of layers of how many there are
times what one takes. Kinds (dense or experts, windowed or not) come in a pattern that repeats, after some leading
layers where the model has those. Depths that are whole periods apart, from L and from one another, differ in the same
mixture of kinds: T is a straight line through them, and two of them tell that of L layers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any

from profiler.architectures import Architecture
from profiler.config import from_config
from profiler.config_families import KEYS

__all__ = ["DepthError", "Pattern", "amplification", "bytes_of", "choose", "pattern", "truncated", "weights"]

_A_LIST_OF_ALL = ("layer_types", "mlp_layer_types", "moe_layer_freq", "no_rope_layers", "attn_type_list")
_NUMBERS_OF_SOME = ("mlp_only_layers", "moe_layers", "cross_attention_layers")
_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
_WHOLE_SCORES = frozenset({"gpt_oss", "gemma2"})  # families whose attention keeps the scores of all pairs
_SPARE = 0.02  # of the memory: what libraries and fragments take
_FEWEST = 2  # layers of a model that is measured
_TOKENS = 4096


class DepthError(ValueError):
    """Depths that do not tell what the whole model takes, or memory for none. One line: what, and what to do."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """How the layers of a model go on: `lead` of their own, then the same `period` again and again, `layers` in all."""

    layers: int
    lead: int
    period: int

    @property
    def depths(self) -> range:
        """All numbers of layers that are whole periods less than all, and hold one period at least."""
        least = max(self.lead + self.period, _FEWEST)
        return range(least + (self.layers - least) % self.period, self.layers, self.period)


def truncated(config: Mapping[str, Any], layers: int) -> dict[str, Any]:
    """The config of the first `layers` layers of a model, with all that tells one layer from another."""
    total = _layers(config)
    if not 1 <= layers <= total:
        raise DepthError(f"{layers} of {total} layers: expected 1 to {total}")
    cut: dict[str, Any] = {key: layers for key in KEYS["layers"] if config.get(key) is not None}
    lists = {key: config[key] for key in (*_A_LIST_OF_ALL, *_NUMBERS_OF_SOME) if isinstance(config.get(key), list)}
    for key, values in lists.items():
        cut[key] = values[:layers] if key in _A_LIST_OF_ALL else [each for each in values if each < layers]
    return {**config, **cut}


def pattern(config: Mapping[str, Any]) -> Pattern:
    """How a model's layers repeat: the shortest lead and period that explain all of them."""
    kinds = _kinds(config)
    layers = len(kinds)

    def lead(period: int) -> int:
        odd = (at for at in reversed(range(layers - period)) if kinds[at] != kinds[at + period])
        return next(odd, -1) + 1

    period = min(range(1, layers + 1), key=lambda each: (lead(each) + each, lead(each)))
    return Pattern(layers, lead(period), period)


def choose(
    config: Mapping[str, Any], architecture: Architecture, dtype: str, free_bytes: float, *, tokens: int = _TOKENS
) -> tuple[int, ...]:
    """The depths to measure: all layers where they fit into the memory, else two, as far apart as it allows.

    Both are there at once, to be run in turn: the shallow one is layers of the deep one, so that only this has to fit,
    with caches for `tokens` tokens. DepthError where not even the smallest two fit.
    """
    memory = (1 - _SPARE) * free_bytes

    @cache
    def needed(layers: int) -> float:
        return bytes_of(truncated(config, layers), dtype, tokens)

    found = pattern(config)
    if needed(found.layers) <= memory:
        return (found.layers,)
    deep = max((each for each in found.depths[1:] if needed(each) <= memory), default=None)
    if deep is None:
        least = found.depths[1] if len(found.depths) > 1 else found.layers
        raise DepthError(
            f"{architecture.name}: {least} of its {found.layers} layers, the fewest that tell what all take, need "
            f"{needed(least) / (1 - _SPARE) / 1e9:.3g} GB of memory, {free_bytes / 1e9:.3g} GB are free: "
            "measure shorter prompts, or on a larger device"
        )
    return found.depths[0], deep


def weights(config: Mapping[str, Any], depths: Sequence[int]) -> tuple[float, ...]:
    """The factors of runtimes at some depths in that of all layers: of the straight line through them, or nearest.

    They sum to 1. DepthError, one line, where such depths do not tell what all layers take.
    """
    found = pattern(config)
    layers = found.layers
    if tuple(depths) == (layers,):
        return (1.0,)
    possible = (*found.depths, layers)
    if len(depths) < 2 or not set(depths) <= set(possible) or len(set(depths)) < len(depths):
        raise DepthError(f"layers {','.join(map(str, depths))}: expected two or more of {_shown(possible)}")
    mean = sum(depths) / len(depths)
    spread = sum((each - mean) ** 2 for each in depths)
    return tuple(1 / len(depths) + (layers - mean) * (each - mean) / spread for each in depths)


def amplification(config: Mapping[str, Any], depths: Sequence[int]) -> float:
    """How many times noise at the deepest depth is in what is told of all layers: (L - k1) / (k2 - k1) of two."""
    return max(weights(config, depths))


def _shown(depths: Sequence[int]) -> str:
    """Numbers in words, not all of them where they are many."""
    if len(depths) <= 4:
        return ", ".join(map(str, depths))
    return f"{', '.join(map(str, depths[:3]))}, ... {depths[-1]}"


def bytes_of(config: Mapping[str, Any], dtype: str, tokens: int) -> float:
    """Memory of a model of that config: weights, keys and values of `tokens` tokens, and what encoding them takes."""
    if dtype not in _BYTES:
        raise DepthError(f"dtype {dtype!r}: expected one of {', '.join(_BYTES)}")
    model = _read(config)
    elements = model.total_parameters() + _cached(model, tokens) + _passing(model, tokens)
    scores = model.heads * tokens**2 * (_BYTES[dtype] + 4) if config.get("model_type") in _WHOLE_SCORES else 0
    return float(elements * _BYTES[dtype] + scores)


def _cached(model: Architecture, tokens: int) -> int:
    """Elements of keys and values."""
    if model.latent is not None:
        return model.layers * tokens * (model.latent.kv_rank + model.latent.rope)
    kept = (model.layers - model.window_layers) * tokens + model.window_layers * min(tokens, model.window)
    return 2 * model.kv_heads * model.head_dim * kept


def _passing(model: Architecture, tokens: int) -> int:
    """Elements of the widest that a layer makes of `tokens` tokens, and of experts' weights copied to decode one."""
    latent, experts = model.latent, model.experts
    head = latent.nope + latent.rope + latent.value if latent else 2 * model.head_dim
    attention = 2 * model.heads * head
    widest = max(attention, 3 * model.ffn if model.dense_layers else 0)
    if experts is None:
        return tokens * (4 * model.hidden + widest)
    mixed = experts.active * (3 * experts.ffn + 2 * model.hidden) + 3 * experts.shared_ffn
    copied = 3 * experts.active * experts.ffn * model.hidden
    return tokens * (4 * model.hidden + max(widest, mixed)) + copied


def _kinds(config: Mapping[str, Any]) -> list[tuple[int, int]]:
    """Of each layer, whether its attention keeps to a window and whether its feed-forward is an ordinary one."""
    upto = [(0, 0)]
    for layers in range(1, _layers(config) + 1):
        model = _read(truncated(config, layers))
        upto.append((model.window_layers, model.dense_layers))
    return [(now[0] - before[0], now[1] - before[1]) for before, now in pairwise(upto)]


def _read(config: Mapping[str, Any]) -> Architecture:
    return from_config(config, "model", "config").architecture


def _layers(config: Mapping[str, Any]) -> int:
    return _read(config).layers
