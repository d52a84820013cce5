"""A device that does not ship, described in a file: its public data, and which stack's constants to take for it.

    {"name": "l40s", "label": "NVIDIA L40S 48 GB", "like": "h100", "source": "NVIDIA L40S data sheet",
     "memory_bytes": 48e9, "bandwidth": 864e9, "flops": 362e12, "link": 32e9, "processors": 142}

All but `label` and `source` are needed; `devices_per_node` and `network` are the other stack's where they are not
given. Units are those of `Hardware`. Predictions for it are marked as not calibrated.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from profiler.hardware import Hardware, HardwareError, hardware

__all__ = ["read_hardware"]

_PUBLIC = ("memory_bytes", "bandwidth", "flops", "link", "processors")
_MORE = ("devices_per_node", "network")
_WORDS = ("name", "like", "label", "source")
_WHOLE = frozenset({"processors", "devices_per_node"})


def read_hardware(name: str) -> Hardware:
    """The stack of a name, or the one that a FILE.json describes. Raises HardwareError, one clear line."""
    path = Path(name)
    return _described(path, _load(path)) if path.suffix == ".json" or path.is_file() else hardware(name)


def _load(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise HardwareError(f"{path}: cannot be read: {error.strerror or error}") from None
    except ValueError as error:
        raise HardwareError(f"{path}: expected JSON that describes a device: {error}") from None
    known = (*_WORDS, *_PUBLIC, *_MORE)
    if not isinstance(found, dict) or not found.keys() <= set(known):
        raise HardwareError(f"{path}: expected an object with keys of {', '.join(known)}")
    missing = [key for key in ("name", "like", *_PUBLIC) if key not in found]
    if missing:
        raise HardwareError(f"{path}: missing {', '.join(missing)}")
    return found


def _described(path: Path, found: dict[str, Any]) -> Hardware:
    words = {key: _text(path, key, found[key]) for key in _WORDS if key in found}
    numbers: dict[str, Any] = {key: _number(path, key, found[key]) for key in (*_PUBLIC, *_MORE) if key in found}
    like = hardware(words["like"])
    return replace(
        like,
        name=words["name"],
        device=words["name"],
        label=words.get("label", words["name"]),
        source=words.get("source", ""),
        calibrated=False,
        calibrated_on="",
        left_out=(),
        note=f"the constants are those of {like.name}",
        **numbers,
    )


def _text(path: Path, key: str, value: Any) -> str:
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        raise HardwareError(f"{path}: {key}: expected a line of text, found {json.dumps(value)[:40]}")
    return value


def _number(path: Path, key: str, value: Any) -> float:
    number = isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e18
    if not number or (key in _WHOLE and value != int(value)):
        sort = "a whole number" if key in _WHOLE else "a number"
        raise HardwareError(f"{path}: {key}: expected {sort} above 0, found {json.dumps(value)[:40]}")
    return int(value) if key in _WHOLE else float(value)
