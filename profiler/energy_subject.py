"""What is served, as energy needs it: an architecture by name, a hybrid's, or one made up from parameter counts.

A model is known where a shipped architecture (or one of `energy.json`'s hybrids) has its name and about the parameters
that are stated; any other is guessed from its counts alone, and its prediction is less sure.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from profiler.architectures import Architecture, Experts
from profiler.config import ArchitectureError
from profiler.power import energy_file
from profiler.spec import named

__all__ = ["Subject", "subject"]

_BILLION = 1e9
_SAME = 1.25  # stated and known parameters differ less: makers round, and some count a vision tower
_HEAD = 128
_KEY_HEADS = 8
_VOCABULARY = 128_000
_ACTIVE_EXPERTS = 8


@dataclass(frozen=True, slots=True)
class Subject:
    """A model as it is served. `state_bytes` are what a request keeps besides keys and values, over all layers.

    `family` is the same for models of one shape. `known`: the architecture is the model's own, not a guess.
    """

    architecture: Architecture
    family: str
    state_bytes: float = 0.0
    known: bool = True

    @property
    def special(self) -> bool:
        """Whether it has experts or a state: of these a server's speed says less of another's."""
        return self.architecture.experts is not None or self.state_bytes > 0


@cache
def subject(model: str, kind: str, total: float, active: float, weights: str) -> Subject:
    """The model of that name with its weights kept so. `kind` is in words; counts are in billions of parameters."""
    found = _hybrid(model) or _shipped(model)
    if found is None or not _alike(found.architecture, total):
        found = _guessed(kind, total * _BILLION, active * _BILLION)
    return replace(found, architecture=replace(found.architecture, weights=weights))


def _alike(model: Architecture, total: float) -> bool:
    ratio = model.total_parameters() / (total * _BILLION)
    return 1 / _SAME < ratio < _SAME


@cache
def _shipped(model: str) -> Subject | None:
    try:
        found = named(model)
    except ArchitectureError:
        return None
    shape = (found.layers, found.hidden, found.ffn, found.kv_heads, found.experts)
    return Subject(found, "/".join(map(str, shape)))


def _hybrid(model: str) -> Subject | None:
    hybrids: Mapping[str, Mapping[str, Any]] = energy_file()["hybrids"]
    bare = model.lower().rpartition("/")[2]
    name = next((each for each in hybrids if bare.startswith(each)), None)
    if name is None:
        return None
    numbers = hybrids[name]
    state = numbers["state_heads"] * numbers["state_head_dim"] * numbers["state_size"] * numbers["state_element_bytes"]
    layers, parameters = numbers["state_layers"], numbers["parameters"] * _BILLION
    shape = _sized(parameters, layers, numbers["hidden"], numbers["vocabulary"])
    return Subject(_windowed(shape, numbers["attention_layers"]), name, float(layers * state))


def _guessed(kind: str, total: float, active: float) -> Subject:
    """What models of that size look like: sizes between those of present open models."""
    family = f"{kind.lower()} {total:g} {active:g}"
    if active < 0.8 * total:
        return Subject(_mixture(total, active), family, known=False)
    layers = round(32 * (total / (8 * _BILLION)) ** 0.35) or 1
    hidden = _rounded(math.sqrt(total / (13 * layers)))
    if "mamba" in kind.lower() or "hybrid" in kind.lower():
        # A state of 128 for each of about 2.3 times as many channels as the model is wide, in 32 bits, in half of them.
        half = max(1, layers // 2)
        dense = _sized(total, half, hidden, _VOCABULARY)
        return Subject(_windowed(dense, max(1, half // 6)), family, half * 2.3 * hidden * 128 * 4.0, known=False)
    return Subject(_sized(total, layers, hidden, _VOCABULARY), family, known=False)


def _sized(total: float, layers: int, hidden: int, vocabulary: int) -> Architecture:
    """A gated dense model, its feed-forward as wide as the parameters left for it allow."""
    heads = max(1, hidden // _HEAD)
    shared = min(_KEY_HEADS, heads)
    vocabulary = min(vocabulary, max(1, int(0.2 * total / hidden)))
    left = total / layers - 2 * vocabulary * hidden / layers - 2 * hidden * _HEAD * (heads + shared)
    return Architecture(
        name="by its parameters",
        layers=layers,
        hidden=hidden,
        heads=heads,
        kv_heads=shared,
        head_dim=_HEAD,
        ffn=max(1, round(left / (3 * hidden))),
        vocabulary=vocabulary,
        parameters=total / _BILLION,
        source="parameter counts",
    )


def _windowed(model: Architecture, attention: int) -> Architecture:
    """The same where only some layers have attention over the context: the others see a token, the present one."""
    return replace(model, window=1, window_layers=model.layers - attention)


def _mixture(total: float, active: float) -> Architecture:
    """A third of the active parameters are no experts': present models lie between a tenth and two thirds."""
    layers = max(1, round(48 * (total / (100 * _BILLION)) ** 0.2))
    hidden = _rounded(1150 * math.sqrt(active / _BILLION))
    always = active / 3
    dense = _sized(always, layers, hidden, _VOCABULARY)
    expert = (active - always) / (_ACTIVE_EXPERTS * layers * 3 * hidden)
    count = max(_ACTIVE_EXPERTS + 1, round((total - always) / (layers * 3 * hidden * expert)))
    experts = Experts(count, _ACTIVE_EXPERTS, max(1, round(expert)), shared_ffn=dense.ffn)
    return replace(dense, experts=experts)


def _rounded(width: float) -> int:
    return max(1, round(width / _HEAD)) * _HEAD
