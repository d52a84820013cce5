"""Architectures of transformer language models: the numbers that decide how many bytes and FLOPs a token costs.

`architectures.json` beside this module holds open models in use, each with its public source. Counts are those
of the language model; a vision tower, which text requests do not touch, is left out.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

__all__ = ["BYTES", "Architecture", "Experts", "LatentAttention", "architectures"]

_FILE = Path(__file__).with_name("architectures.json")

BYTES: Mapping[str, float] = {"bf16": 2.0, "fp16": 2.0, "fp8": 1.0, "int8": 1.0, "int4": 0.52, "mxfp4": 0.53125}
"""Bytes of a weight, by how it is kept: all the ways that there are.

mxfp4 has 4 bits and an 8-bit scale for every 32, int4 a 16-bit scale and a 4-bit zero for 128."""


@dataclass(frozen=True, slots=True)
class Experts:
    """The mixture of experts of a layer: `count` experts of width `ffn`, `active` of them a token.

    `shared_ffn` is the width of what every token passes besides (0: none); `dense_layers` of the model's layers have
    an ordinary feed-forward instead, wherever they lie.
    """

    count: int
    active: int
    ffn: int
    shared_ffn: int = 0
    dense_layers: int = 0


@dataclass(frozen=True, slots=True)
class LatentAttention:
    """Multi-head latent attention (DeepSeek): the ranks and head sizes of its low-rank projections.

    A `q_rank` of 0: queries are projected at once.
    """

    q_rank: int
    kv_rank: int
    nope: int
    rope: int
    value: int


@dataclass(frozen=True, slots=True)
class Architecture:
    """One model. Sizes are in elements; `weights` is how it ships, one of `BYTES` (mxfp4: experts only).

    `ffn` is the width of a feed-forward, which has three matrices where it is `gated`, else two. With `parallel`,
    attention and feed-forward of a layer start from the same input, so that their results are reduced together. In
    `window_layers` of the layers attention reaches back `window` tokens only. `layer_norms` are the norm kernels of a
    layer. `parameters` and `active_parameters` are the published totals, in billions; `source` says where the numbers
    can be looked up.
    """

    name: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn: int
    vocabulary: int
    parameters: float
    source: str
    tied: bool = False
    weights: str = "bf16"
    window: int = 0
    window_layers: int = 0
    layer_norms: int = 2
    active_parameters: float | None = None
    experts: Experts | None = None
    latent: LatentAttention | None = None
    gated: bool = True
    parallel: bool = False

    @property
    def feed_forward_matrices(self) -> int:
        """Matrices of an ordinary feed-forward."""
        return 3 if self.gated else 2

    @property
    def dense_layers(self) -> int:
        """Layers with an ordinary feed-forward."""
        return self.layers if self.experts is None else self.experts.dense_layers

    @property
    def attention_parameters(self) -> int:
        """Weights of one layer's attention."""
        latent = self.latent
        if latent is None:
            return self.hidden * self.head_dim * 2 * (self.heads + self.kv_heads)
        down = self.hidden * (latent.q_rank + latent.kv_rank + latent.rope)
        query = (latent.q_rank or self.hidden) * (latent.nope + latent.rope)
        up = query + latent.kv_rank * (latent.nope + latent.value)
        return down + self.heads * (up + latent.value * self.hidden)

    @property
    def embedding_parameters(self) -> int:
        """Weights of the token embedding and, where it is not the same matrix, of the output layer."""
        return self.vocabulary * self.hidden * (1 if self.tied else 2)

    def total_parameters(self, *, active: bool = False) -> int:
        """All weights, or those that one token uses (`active`: of the embedding it reads one row)."""
        feed_forward = self.feed_forward_matrices * self.hidden * self.ffn
        ordinary = self.layers * self.attention_parameters + self.dense_layers * feed_forward
        ordinary += self.vocabulary * self.hidden if active else self.embedding_parameters
        experts = self.experts
        if experts is None:
            return ordinary
        used = experts.active if active else experts.count
        layer = 3 * self.hidden * (used * experts.ffn + experts.shared_ffn) + self.hidden * experts.count
        return ordinary + (self.layers - experts.dense_layers) * layer


@cache
def architectures(file: Path = _FILE) -> dict[str, Architecture]:
    """The architectures that ship with the program, by name; those of another `file` of the same form."""
    models: dict[str, dict[str, Any]] = json.loads(file.read_bytes())["models"]
    return {name: _architecture(name, numbers) for name, numbers in models.items()}


def _architecture(name: str, numbers: dict[str, Any]) -> Architecture:
    parts = {"experts": Experts, "latent": LatentAttention}
    return Architecture(
        name=name, **{key: parts[key](**value) if key in parts else value for key, value in numbers.items()}
    )
