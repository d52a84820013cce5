"""Suites: files that list models to be measured one after the other, and each model's small likeness.

`{"models": {NAME: {"config": {...}}, NAME: {"arch": SPEC}}}`: the config of each, or a SPEC as for `--arch`; the
cheapest first, since a measurement may end before its last model. NAME is what its row is called.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from profiler.config import ArchitectureError
from profiler.config_families import KEYS
from profiler.depths import pattern, truncated
from profiler.shapes import SUITES, Shape, of_config, shape

__all__ = ["small", "suite", "suites"]

_HIDDEN, _HEADS, _HEAD = 256, 8, 32
_FFN, _EXPERT_FFN, _EXPERTS, _ACTIVE = 512, 128, 8, 2
_VOCABULARY, _WINDOW = 2000, 32
_LAYERS = 4
_BESIDE = 2  # layers beyond the leading ones
_RANKS = {"q_lora_rank": 96, "kv_lora_rank": 64, "qk_nope_head_dim": 32, "qk_rope_head_dim": 16, "v_head_dim": 32}
_GROUPS = {"n_group": 2, "topk_group": 1}


def suites() -> tuple[str, ...]:
    """The names of those that ship."""
    return tuple(sorted(file.stem for file in SUITES.glob("*.json")))


def suite(name: str) -> tuple[Shape, ...]:
    """The models of a shipped suite, or of a file. Raises ArchitectureError, one clear line."""
    file = SUITES / f"{name}.json" if name in suites() else Path(name)
    if file.suffix != ".json":
        raise ArchitectureError(f"--suite {name!r}: expected {' or '.join(suites())}, or a .json file")
    return tuple(_shape(each, entry, f"{file}: {each}") for each, entry in _models(file).items())


def small(shape: Shape) -> Shape:
    """A model of the same family, kinds of layers and proportion of heads that any machine runs at once."""
    layers = pattern(shape.config)
    least = max(_LAYERS, layers.lead + max(layers.period, _BESIDE))
    count = min(layers.layers, least + (layers.layers - least) % layers.period)
    config = {**truncated(shape.config, count), **_numbers(shape)}
    for key in ("rope_scaling", "rope_parameters"):
        if any(isinstance(each, list) for each in (config.get(key) or {}).values()):
            del config[key]  # a factor for each part of a head, of which there are fewer now
    found = of_config(config, f"{shape.name}-small", shape.architecture.source)
    return replace(found, notes=shape.notes)


def _models(file: Path) -> Mapping[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ArchitectureError(f"{file}: cannot be read: {error.strerror or error}") from None
    except ValueError as error:
        raise ArchitectureError(f"{file}: expected a suite, a JSON file: {error}") from None
    models = found.get("models") if isinstance(found, dict) else None
    if not isinstance(models, dict) or not models:
        raise ArchitectureError(
            f'{file}: expected a suite: {{"models": {{NAME: {{"config": ...}} or {{"arch": SPEC}}}}}}'
        )
    return models


def _shape(name: str, entry: Any, where: str) -> Shape:
    config, spec = (entry.get("config"), entry.get("arch")) if isinstance(entry, dict) else (None, None)
    if isinstance(config, dict):
        source = entry.get("source")
        found = of_config(config, name, where)
        return replace(found, architecture=replace(found.architecture, source=source)) if source else found
    if isinstance(spec, str):
        found = shape(spec)
        return replace(found, name=name, architecture=replace(found.architecture, name=name))
    raise ArchitectureError(f'{where}: expected {{"config": {{...}}}} or {{"arch": SPEC}}')


def _numbers(shape: Shape) -> dict[str, Any]:
    """Small numbers, under the names that the config has for them."""
    model, config = shape.architecture, shape.config
    found = {"hidden": _HIDDEN, "heads": _HEADS, "ffn": _FFN, "vocabulary": _VOCABULARY}
    sharing = (model.heads // model.kv_heads - 1).bit_length()  # how often a half of the heads: as many have to divide
    found["kv_heads"] = max(1, _HEADS >> sharing)
    if model.latent is None and model.head_dim * model.heads != model.hidden:
        found["head_dim"] = _HEAD
    if model.window:
        found["window"] = _WINDOW
    if model.experts:
        found |= {"experts": _EXPERTS, "active": min(_ACTIVE, model.experts.active)}
    numbers = {key: value for what, value in found.items() for key in _keys(config, what)}
    also = {"head_dim": _HEAD, "query_pre_attn_scalar": _HEAD, "kv_channels": _HEAD, "intermediate_size_mlp": _FFN}
    also |= dict.fromkeys(("moe_intermediate_size", "shared_expert_intermediate_size"), _EXPERT_FFN)
    also |= _RANKS | (_GROUPS if (config.get("n_group") or 1) > 1 else {})
    numbers |= {key: value for key, value in also.items() if config.get(key)}
    return {**numbers, "pad_token_id": None}  # which may lie beyond the vocabulary


def _keys(config: Mapping[str, Any], what: str) -> tuple[str, ...]:
    """All names under which a config has a number, or the usual one where it leaves it to the family."""
    return tuple(key for key in KEYS[what] if config.get(key)) or KEYS[what][-1 if what == "vocabulary" else 0 :][:1]
