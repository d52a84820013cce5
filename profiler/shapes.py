"""What `--arch SPEC` means to who measures: a config that transformers builds, with random weights, and its numbers.

SPEC is what it is elsewhere (`profiler.spec`), with more asked of it: a `config.json` is taken as it is, of a model
that reads pictures too the language model alone; shipped models and numbers written out need a family whose code has
just these numbers. `profiler/suites` holds public configs whole; they go first.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from profiler.architectures import Architecture
from profiler.config import ArchitectureError, from_config, read_config
from profiler.shape_families import config_of
from profiler.spec import named, written_out

__all__ = ["SUITES", "Shape", "of_config", "shape"]

SUITES = Path(__file__).with_name("suites")

_NESTED = ("text_config", "llm_config", "language_config")
_LEFT_OUT = (
    *("architectures", "auto_map", "dtype", "torch_dtype", "transformers_version", "_name_or_path"),
    *("quantization_config", "compression_config"),
)
_BUILT_AS = {"kimi_k2": "deepseek_v3"}  # whose code comes with its weights, and is another's
_NOTES = {"llama4_text": "its code in transformers computes all experts for every token, not the active ones alone"}
_WEIGHTS = "bf16"  # whatever a checkpoint keeps its own in


@dataclass(frozen=True, slots=True)
class Shape:
    """A model to be made: `config` is a Hugging Face config (with `model_type`) of a language model alone.

    `architecture` is what it says, its weights bf16; `longest` is for how many tokens it was made, where that is known.
    `notes` say, a sentence each, what was left out of a config.json, and what to know of how transformers runs it.
    """

    name: str
    config: Mapping[str, Any]
    architecture: Architecture
    longest: int | None = None
    notes: tuple[str, ...] = ()


def shape(spec: str) -> Shape:
    """The model that a SPEC means. Raises ArchitectureError, one clear line."""
    path = Path(spec)
    if path.suffix == ".json" or path.is_file() or (spec and (path / "config.json").is_file()):
        described = read_config(path, _WEIGHTS)
        file = path / "config.json" if path.is_dir() else path
        config = json.loads(file.read_text(encoding="utf-8-sig"))
        found = of_config(config, described.architecture.name, str(file))
        return replace(found, architecture=replace(found.architecture, source=file.name))  # where it lies is nobody's
    if "=" in spec:
        return _of_numbers(written_out(spec))
    architecture = named(spec)
    whole = _whole().get(architecture.name)
    return of_config(whole["config"], architecture.name, whole["source"]) if whole else _of_numbers(architecture)


def of_config(config: Mapping[str, Any], name: str, where: str) -> Shape:
    """The shape of a parsed config.json; `where` is what errors call it. Raises ArchitectureError."""
    text = _language_model(config, where)
    kept = {key: value for key, value in text.items() if key not in _LEFT_OUT}
    notes = _noted(kept)
    if any(part.get("quantization_config") or part.get("compression_config") for part in (config, text)):
        notes.append("its quantisation is left out: weights are random, in the dtype that is measured")
    described = from_config(kept, name, where)
    return Shape(name, kept, described.architecture, described.longest, (*notes, *described.notes))


def _language_model(config: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The part that is a language model, with what only the whole says of it."""
    key = next((key for key in _NESTED if isinstance(config.get(key), dict)), None)
    found = dict(config[key] if key else config)
    if "tie_word_embeddings" in config:
        found.setdefault("tie_word_embeddings", config["tie_word_embeddings"])
    kind = found.get("model_type")
    if not isinstance(kind, str) or not kind:
        inside = f"{key}: " if key else ""
        raise ArchitectureError(f"{where}: {inside}no model_type: expected that of a language model, to build one")
    return {**found, "model_type": _BUILT_AS.get(kind, kind)}


def _of_numbers(architecture: Architecture) -> Shape:
    config = config_of(architecture)
    if config is None:
        raise ArchitectureError(
            f"--arch {architecture.name}: no family of models is known to have these numbers: give its config.json"
        )
    return Shape(architecture.name, config, replace(architecture, weights=_WEIGHTS), notes=tuple(_noted(config)))


def _noted(config: Mapping[str, Any]) -> list[str]:
    """What to know of how transformers runs a family."""
    return [note for family, note in _NOTES.items() if config["model_type"] == family]


@cache
def _whole() -> dict[str, Any]:
    """What the suites that ship say of models, by their names: `config` and `source`."""
    files = [json.loads(file.read_bytes()) for file in sorted(SUITES.glob("*.json"))]
    return {name: entry for file in files for name, entry in file["models"].items()}
