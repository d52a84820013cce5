"""From a Hugging Face `config.json` to an `Architecture`: the numbers that decide what a token costs.

Families name the same thing differently and leave out what their code knows; `profiler.config_families` holds both. A
`model_type` not known there is read by its keys alone, and says so. Models whose layers `Architecture` cannot describe
(state-space, linear attention, encoder and decoder) are refused with one clear line.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from profiler.architectures import Architecture, Experts, LatentAttention
from profiler.config_families import ENCODERS, FAMILIES, KEYS, NOT_MODELLED, Family
from profiler.config_weights import UNKNOWN_WEIGHTS, shipped_weights

__all__ = ["ArchitectureError", "Described", "checked", "from_config", "read_config"]

_NESTED = ("text_config", "llm_config", "language_config")
_LAYER_KINDS = {
    "full_attention": False,
    "attention": False,
    "sliding_attention": True,
    "chunked_attention": True,
}
_CACHED = "models--"  # so the folders of downloaded models begin
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
_LARGEST = 10**9
_MOST_LAYERS, _WIDEST, _LARGEST_VOCABULARY = 10_000, 10**6, 10**8  # a hundred times what there is


class ArchitectureError(ValueError):
    """An architecture that cannot be read. One line: where, what was expected, what to do."""


@dataclass(frozen=True, slots=True)
class Described:
    """An architecture and what to know of how it was read, one sentence a note.

    `longest` is for how many tokens it was made, where that is known; `called` is false where its name is a guess.
    """

    architecture: Architecture
    notes: tuple[str, ...] = ()
    longest: int | None = None
    called: bool = True


def read_config(path: Path, weights: str | None = None) -> Described:
    """Read a `config.json`, or that of a directory, and what NVIDIA's `hf_quant_config.json` beside it adds.

    The model is called as the file is (`maker--model_config.json`), else by the config's `_name_or_path` where that is
    a name, else as its directory. `weights` are how they are kept, whatever the config says of that.
    """
    file = path / "config.json" if path.is_dir() else path
    config = _load(file)
    beside = file.with_name(file.name.replace("config.json", "hf_quant_config.json"))
    if beside != file and beside.is_file() and not config.get("quantization_config"):
        config["quantization_config"] = _load(beside).get("quantization")
    name = _name(file, config)
    return replace(from_config(config, name, str(file), weights), called="/" in name)


def from_config(config: Mapping[str, Any], name: str, where: str, weights: str | None = None) -> Described:
    """The architecture of a parsed config; `where` is what errors and the source call it."""
    return _Reader(config, name, where, weights).described()


def checked(architecture: Architecture, where: str) -> Architecture:
    """The same, if its numbers go together. Raises ArchitectureError, one line that names those that do not."""
    layers, experts = architecture.layers, architecture.experts
    rules = [
        ("layers", layers, _MOST_LAYERS, "at most"),
        ("hidden", architecture.hidden, _WIDEST, "at most"),
        ("heads", architecture.heads, _WIDEST, "at most"),
        ("ffn", architecture.ffn, _WIDEST, "at most"),
        ("vocabulary", architecture.vocabulary, _LARGEST_VOCABULARY, "at most"),
        ("key-value heads", architecture.kv_heads, architecture.heads, "no more than heads,"),
        ("layers with a window", architecture.window_layers, layers, "no more than layers,"),
        ("active experts", experts.active if experts else 0, experts.count if experts else 0, "no more than experts,"),
        ("dense layers", experts.dense_layers if experts else 0, layers, "no more than layers,"),
    ]
    for what, found, most, expected in rules:
        if found > most:
            raise ArchitectureError(f"{where}: {what}: expected {expected} {most}, found {found}")
    return architecture


def _load(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ArchitectureError(f"{file}: cannot be read: {error.strerror or error}") from None
    except ValueError as error:
        raise ArchitectureError(f"{file}: expected a config.json: {error}") from None
    if not isinstance(found, dict):
        raise ArchitectureError(f"{file}: expected a config.json, an object, found {type(found).__name__}")
    return found


def _name(file: Path, config: Mapping[str, Any]) -> str:
    """What a model is called: maker/model if anything tells, else after the file or its directory."""
    stem = file.stem.removesuffix("config").rstrip("._-").replace("--", "/")
    folders = file.resolve().parent.parts
    cached = [part.removeprefix(_CACHED).replace("--", "/") for part in folders if part.startswith(_CACHED)]
    given = config.get("_name_or_path")
    names = [stem, given if isinstance(given, str) and _NAME.fullmatch(given) else "", *cached, *folders[-1:]]
    return next(filter(None, names))


class _Reader:
    """One config: its keys, its family, and the notes taken while reading."""

    def __init__(self, config: Mapping[str, Any], name: str, where: str, weights: str | None) -> None:
        nested: Mapping[str, Any] = next((config[key] for key in _NESTED if isinstance(config.get(key), dict)), {})
        parts = [config.get(key) for key in ("attn_config", "ffn_config")]
        flat = {key: value for part in parts if isinstance(part, dict) for key, value in part.items()}
        self.config = {**flat, **{key: value for key, value in config.items() if key not in nested}, **nested}
        self.outer = config
        self.name = name
        self.where = where
        self.weights = weights
        self.notes: list[str] = []
        self.type = str(self.config.get("model_type") or "")
        self.family = FAMILIES.get(self.type) or self._unknown_family()

    def described(self) -> Described:
        """Everything, with the totals that follow."""
        self._refuse_what_is_not_modelled()
        architecture = checked(self._architecture(), self.where)
        total = round(architecture.total_parameters() / 1e9, 2)
        active = round(architecture.total_parameters(active=True) / 1e9, 2) if architecture.experts else None
        if self.config.get("index_topk"):
            self.notes.append("its attention to chosen tokens only is read as attention to all: long prompts cost less")
        whole = replace(architecture, parameters=total, active_parameters=active)
        longest = self._first(KEYS["longest"])
        known = isinstance(longest, int) and 1 <= longest <= _LARGEST
        return Described(whole, tuple(self.notes), longest if known else None)

    def _architecture(self) -> Architecture:
        layers, hidden, heads = (self._count(key) for key in ("layers", "hidden", "heads"))
        crossed = self.config.get("cross_attention_layers")
        layers -= len(crossed) if isinstance(crossed, list) else 0  # of pictures: text passes them by
        if layers < 1:
            raise ArchitectureError(f"{self.where}: layers: expected 1 or more, found {layers}")
        latent = self._latent()
        experts = self._experts(layers)
        window, window_layers = self._window(layers)
        return Architecture(
            name=self.name,
            layers=layers,
            hidden=hidden,
            heads=heads,
            kv_heads=heads if latent else self._kv_heads(heads),
            head_dim=latent.value if latent else self._head_dim(hidden, heads),
            ffn=self._ffn(hidden, experts),
            vocabulary=self._count("vocabulary"),
            parameters=0.0,
            source=self.where,
            tied=self._tied(),
            weights=self.weights or self._shipped_weights(),
            window=window,
            window_layers=window_layers,
            layer_norms=self._norms(latent),
            experts=experts,
            latent=latent,
            gated=self.family.gated,
            parallel=bool(self._first(("use_parallel_residual", "parallel_attn"), self.family.parallel)),
        )

    def _unknown_family(self) -> Family:
        called = f"model type {self.type!r} is not known" if self.type else "no model_type"
        self.notes.append(f"{called}: read by its keys alone")
        ffn, hidden = self._optional("ffn"), self._optional("hidden")
        plain = hidden is not None and (ffn is None or ffn == 4 * hidden)
        return Family(gated=not plain or bool(self._optional("experts")), wide=4)

    def _refuse_what_is_not_modelled(self) -> None:
        if self.type in ENCODERS:
            raise ArchitectureError(f"{self.where}: model_type {self.type!r}: an encoder, which gives no tokens")
        for key, what in NOT_MODELLED.items():
            if self.config.get(key):
                raise ArchitectureError(f"{self.where}: {key}: a model with {what} cannot be predicted")
        kinds = self.config.get("attn_type_list")
        if isinstance(kinds, list) and not all(kinds):
            raise ArchitectureError(f"{self.where}: attn_type_list: a model with linear attention cannot be predicted")

    def _first(self, keys: Iterable[str], default: Any = None) -> Any:
        """The first of `keys` that has a value."""
        return next((self.config[key] for key in keys if self.config.get(key) is not None), default)

    def _optional(self, what: str, least: int = 1) -> int | None:
        return self._number(KEYS[what], least)

    def _number(self, keys: Iterable[str], least: int = 1) -> int | None:
        """The first of `keys` that has a value, which has to be a whole number."""
        for key in keys:
            value = self.config.get(key)
            if value is None or value is False:
                continue
            if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= _LARGEST:
                shown = json.dumps(value)[:40]
                raise ArchitectureError(f"{self.where}: {key}: expected a whole number, {least} or more, found {shown}")
            return value
        return None

    def _count(self, what: str) -> int:
        found = self._optional(what) or self.family.defaults.get(what)
        if found is None:
            names = " or ".join(KEYS[what])
            raise ArchitectureError(f"{self.where}: no {names}: expected the config.json of a language model")
        return found

    def _kv_heads(self, heads: int) -> int:
        config = self.config
        if config.get("multi_query", self.type == "gpt_bigcode") and not config.get("new_decoder_architecture"):
            return 1
        if config.get("multi_query_attention") is False:
            return heads
        return self._optional("kv_heads") or self.family.defaults.get("kv_heads", heads)

    def _head_dim(self, hidden: int, heads: int) -> int:
        return self._optional("head_dim") or self.family.defaults.get("head_dim") or max(1, hidden // heads)

    def _ffn(self, hidden: int, experts: Experts | None) -> int:
        ordinary = self._number(("intermediate_size_mlp",)) if self.type == "llama4_text" else None
        wide = hidden * (self._number(("expansion_ratio",)) or self.family.wide)
        found = ordinary or self._optional("ffn") or wide or (experts and experts.ffn)
        # Qwen's first generation counts gate and feed-forward together.
        return (found or self._count("ffn")) // (2 if self.type == "qwen" else 1)

    def _tied(self) -> bool:
        key = "tie_word_embeddings"
        return bool(self.config.get(key, self.outer.get(key, self.family.tied)))

    def _norms(self, latent: LatentAttention | None) -> int:
        if latent is not None:
            return self.family.norms + (2 if latent.q_rank else 1)
        of_heads = self.family.qk_norm
        if of_heads is None:
            of_heads = bool(self.config.get("use_qk_norm"))
        both = self.config.get("new_decoder_architecture") and self.config.get("num_ln_in_parallel_attn") != 1
        return self.family.norms + (2 if of_heads else 0) + (1 if both else 0)

    def _shipped_weights(self) -> str:
        found = shipped_weights(self.config.get("quantization_config") or self.outer.get("quantization_config"))
        if found == UNKNOWN_WEIGHTS:
            raise ArchitectureError(f"{self.where}: quantization_config: not known: say what the weights are (--dtype)")
        return found

    def _latent(self) -> LatentAttention | None:
        if not self.config.get("kv_lora_rank"):
            return None
        keys = ("kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim")
        ranks = [self._number((key,)) for key in keys]
        missing = [key for key, rank in zip(keys, ranks, strict=True) if rank is None]
        if missing:
            raise ArchitectureError(f"{self.where}: no {', '.join(missing)}: expected with kv_lora_rank")
        return LatentAttention(self._number(("q_lora_rank",), 0) or 0, *(rank or 0 for rank in ranks))

    def _experts(self, layers: int) -> Experts | None:
        count = self._optional("experts", 0)
        if not count or count == 1:
            return None
        width = self._optional("expert_ffn") or self._count("ffn")
        shared = self._optional("shared_ffn", 0) or width * (self._optional("shared_experts", 0) or 0)
        if self.type == "llama4_text":
            shared = width  # its one shared expert is as wide as the others
        dense = self._dense_layers(layers)
        return Experts(count=count, active=self._count("active"), ffn=width, shared_ffn=shared, dense_layers=dense)

    def _dense_layers(self, layers: int) -> int:
        kinds = self.config.get("mlp_layer_types")
        if isinstance(kinds, list):
            return sum(kind == "dense" for kind in kinds[:layers])
        kinds = self.config.get("moe_layer_freq")
        if isinstance(kinds, list):
            return sum(not kind for kind in kinds[:layers])
        every = self._number(("decoder_sparse_step", "interleave_moe_layer_step", "moe_layer_interval")) or 1
        listed = self.config.get("mlp_only_layers")
        only = listed if isinstance(listed, list) else []
        first = self._optional("leading_dense", 0) or 0
        return sum(at < first or at in only or (at + 1) % every != 0 for at in range(layers))

    def _window(self, layers: int) -> tuple[int, int]:
        """The window, and in how many layers attention keeps to it."""
        kinds, pattern = self.config.get("layer_types"), self.config.get("sliding_window_pattern")
        listed = self._windowed(kinds[:layers]) if isinstance(kinds, list) else None
        window = self._optional("window", 0)
        if not window or window >= (self._optional("longest") or _LARGEST):
            return 0, 0
        if listed is not None:
            found = listed
        elif isinstance(pattern, str) and pattern:
            found = sum(pattern[at % len(pattern)] == "L" for at in range(layers))
        else:
            found = self._window_layers(layers)
        return (window, found) if found else (0, 0)

    def _windowed(self, kinds: list[Any]) -> int:
        for kind in kinds:
            if not isinstance(kind, str) or kind not in _LAYER_KINDS:
                raise ArchitectureError(f"{self.where}: layer_types: a layer of {kind!r} cannot be predicted")
        return sum(_LAYER_KINDS[kind] for kind in kinds)

    def _window_layers(self, layers: int) -> int:
        if self.type == "gpt_oss":
            return layers - layers // 2
        if self.type == "llama4_text":
            return layers - layers // (self._number(("no_rope_layer_interval",)) or 4)
        if self.type.startswith("qwen") or "use_sliding_window" in self.config:
            first = self._number(("max_window_layers",), 0) or 0
            return max(0, layers - first) if self.config.get("use_sliding_window") else 0
        every = self._optional("window_every") or self.family.window_every
        return layers - layers // every if every else layers
