"""The tables that ship with the program, as files: commands take their stacks' names in place of a path."""

from collections.abc import Mapping
from pathlib import Path

import stream

__all__ = ["shipped_stacks", "table_file"]

_FOLDER = Path(stream.__file__).with_name("tables")
_OTHERS = {"aliases"}


def shipped_stacks() -> Mapping[str, Path]:
    """Stack name -> file, in the order of their names; every shipped file holds one stack, of its own name."""
    return {path.stem: path for path in sorted(_FOLDER.glob("*.json")) if path.stem not in _OTHERS}


def table_file(text: str) -> Path:
    """The file that a command's argument means: itself, or that of the shipped stack of this name."""
    path = Path(text)
    return path if path.exists() else shipped_stacks().get(text, path)
