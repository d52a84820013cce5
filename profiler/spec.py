"""What `--arch SPEC` means: a shipped model's name, a Hugging Face `config.json`, or numbers written out.

    llama-3.1-8b                                     the name or an alias of a shipped model; `all` for every one
    path/to/config.json, path/to/model               a config.json, or a directory that holds one
    layers=32,hidden=4096,heads=32,kv_heads=8,ffn=14336,vocabulary=128256

The names of numbers are those of `Architecture`; those of experts and of latent attention are in `KEYS`.
"""

import re
from pathlib import Path
from typing import Any

from profiler.architectures import Architecture, Experts, LatentAttention, architectures
from profiler.config import ArchitectureError, Described, checked, read_config
from profiler.predicted import STACK
from stream.coefficients import load_tables

__all__ = ["KEYS", "named", "read_spec"]

_ALL = "all"

_COUNTS = ("layers", "hidden", "heads", "ffn", "vocabulary", "kv_heads", "head_dim")
_NEEDED = ("layers", "hidden", "heads", "ffn", "vocabulary")
_MORE = ("window", "window_layers", "layer_norms")
_FLAGS = ("gated", "tied", "parallel")
_EXPERTS = {
    "experts": "count",
    "active": "active",
    "expert_ffn": "ffn",
    "shared_ffn": "shared_ffn",
    "dense_layers": "dense_layers",
}
_LATENT = ("q_rank", "kv_rank", "nope", "rope", "value")
KEYS = (*_COUNTS, *_FLAGS, *_MORE, *_EXPERTS, *_LATENT, "weights", "name")
"""What may be written out."""

_ZERO = frozenset({"window", "window_layers", "layer_norms", "shared_ffn", "dense_layers", "q_rank"})
_TRUTH = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def read_spec(spec: str, weights: str | None = None) -> tuple[Described, ...]:
    """The architectures that a SPEC means: one, or all shipped ones. Raises ArchitectureError, one clear line.

    `weights` are how those of a config.json are kept, whatever it says of that.
    """
    if spec == _ALL:
        return tuple(Described(each) for each in architectures().values())
    path = Path(spec)
    if path.suffix == ".json" or path.is_file() or (spec and (path / "config.json").is_file()):
        return (read_config(path, weights),)
    return (Described(written_out(spec) if "=" in spec else named(spec)),)


def named(name: str) -> Architecture:
    """The shipped architecture of that name, or its end, or alias. Raises ArchitectureError that suggests near ones."""
    ends = {each.rpartition("/")[2]: architecture for each, architecture in architectures().items()}
    if name.lower() in ends:
        return ends[name.lower()]
    tables = load_tables(stack=STACK)  # has a row for every shipped architecture: its aliases are theirs
    row = tables.row(STACK, name, name.lower())
    if row is not None and row.name in architectures():
        return architectures()[row.name]
    near = tables.near(STACK, name)
    hint = f"; there are {', '.join(near)}" if near else ""
    raise ArchitectureError(
        f"--arch {name!r}: no shipped model, no file and no numbers{hint} (see profiler predict --help)"
    )


def written_out(spec: str) -> Architecture:
    """The architecture of `key=value` pairs between commas."""
    found: dict[str, Any] = {}
    for part in filter(None, re.split(r"[,\s]+", spec.strip())):
        key, separator, text = part.partition("=")
        if not separator or key not in KEYS or key in found:
            wrong = "twice" if key in found else f"expected key=value, the key one of {', '.join(KEYS)}"
            raise ArchitectureError(f"--arch {part!r}: {wrong}")
        found[key] = _value(key, text)
    missing = [key for key in _NEEDED if key not in found]
    if missing:
        raise ArchitectureError(f"--arch {spec!r}: missing {', '.join(f'{key}=' for key in missing)}")
    return _architecture(spec, found)


def _value(key: str, text: str) -> Any:
    if key in {"name", "weights"}:
        return text
    if key in _FLAGS:
        if text.lower() not in _TRUTH:
            raise ArchitectureError(f"--arch {key}: expected true or false, found {text!r}")
        return _TRUTH[text.lower()]
    least = 0 if key in _ZERO else 1
    if not re.fullmatch(r"[0-9]{1,9}", text, re.ASCII) or int(text) < least:
        raise ArchitectureError(f"--arch {key}: expected a whole number, {least} or more, found {text!r}")
    return int(text)


def _architecture(spec: str, found: dict[str, Any]) -> Architecture:
    experts = {field: found.pop(key) for key, field in _EXPERTS.items() if key in found}
    latent = {key: found.pop(key) for key in _LATENT if key in found}
    heads = found["heads"]
    if experts:
        if not {"count", "active"} <= experts.keys():
            raise ArchitectureError(f"--arch {spec!r}: experts need experts= and active=")
        found["experts"] = Experts(**{"ffn": found["ffn"], **experts})
    if latent:
        _whole_latent(spec, latent)
        found["latent"] = LatentAttention(**{"q_rank": 0, **latent})
        found |= {"kv_heads": heads, "head_dim": latent["value"]}
    found.setdefault("name", "custom")
    found.setdefault("kv_heads", heads)
    found.setdefault("head_dim", max(1, found["hidden"] // heads))
    if found.get("window"):
        found.setdefault("window_layers", found["layers"])
    return checked(Architecture(parameters=0.0, source=f"numbers given: {spec}", **found), f"--arch {spec!r}")


def _whole_latent(spec: str, latent: dict[str, int]) -> None:
    missing = [key for key in _LATENT[1:] if key not in latent]
    if missing:
        raise ArchitectureError(
            f"--arch {spec!r}: latent attention needs {', '.join(f'{key}=' for key in missing)} too"
        )
