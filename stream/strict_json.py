"""Strict reading of JSON files that people write: whatever is wrong gets one line: file, place, what was expected.

at = At("tables.json")
record = object_(parse(content, "tables.json"), at)
price = number(record.get("price"), at / "price")
"""

import json
import re
from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeVar

__all__ = [
    "LARGEST", "At", "TableError", "count", "number", "object_", "one_of", "only_keys", "optional", "ordinary", "parse",
    "read_file", "shown", "text",
]  # fmt: skip

LARGEST = 1e9
"""Of what a file may hold: keeps infinities, which no measurement yields, out of every sum."""

_SHOWN_CHARACTERS = 40

Checked = TypeVar("Checked")


class TableError(ValueError):
    """A coefficient table, or what belongs to one, that cannot be used: one line with file, place, what was expected.

    `setting` names what asked for it, so that a configuration can say where: ("stack",), ("tables", number),
    ("aliases", name), ("assume", name); empty where nothing did.
    """

    def __init__(self, message: str, *setting: str | int) -> None:
        super().__init__(message)
        self.setting = setting


@dataclass(frozen=True, slots=True)
class At:
    """A place in a file, for errors."""

    file: str
    path: str = "$"

    def __truediv__(self, key: str) -> "At":
        plain = re.fullmatch(r"[\w/:@+.-]+", key)
        return At(self.file, f"{self.path}.{key}" if plain else f"{self.path}[{json.dumps(key)}]")

    def wrong(self, expected: str) -> NoReturn:
        """Raise TableError: here this was expected."""
        raise TableError(f"{self.file}: {self.path}: expected {expected}")


def read_file(path: Path, what: str = "a coefficient table") -> bytes:
    """The content of a file that holds `what`; raise TableError where it cannot be read."""
    try:
        return path.read_bytes()
    except IsADirectoryError:
        raise TableError(f"{path}: is a directory; expected {what} (a JSON file)") from None
    except OSError as error:
        raise TableError(f"{path}: cannot be read: {error.strerror or error}") from None


def parse(content: bytes, file: str) -> Any:
    """JSON as Python has it; every key of an object once, every number finite."""
    try:
        return json.loads(content.decode("utf-8-sig"), object_pairs_hook=_unrepeated, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise TableError(f"{file}: line {error.lineno}, column {error.colno}: not valid JSON: {error.msg}") from None
    except UnicodeDecodeError as error:
        raise TableError(f"{file}: byte {error.start}: expected UTF-8 text") from None
    except RecursionError:
        raise TableError(f"{file}: nested too deeply") from None
    except ValueError as error:
        raise TableError(f"{file}: {error}") from None


def _unrepeated(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"expected every key of an object once, found {json.dumps(twice)} again")
    return record


def _refuse_constant(constant: str) -> NoReturn:
    raise ValueError(f"expected numbers that are finite, found {constant}")


def number(value: Any, at: At, most: float = LARGEST) -> float:
    """A number, 0 or more."""
    if not ordinary(value) or not 0 <= value <= most:
        at.wrong(f"a number, 0 or more, found {shown(value)}")
    return float(value)


def ordinary(value: Any) -> bool:
    """Whether a value is a number (True and False are none)."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def count(value: Any, at: At) -> int:
    """A whole number, 1 or more."""
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= LARGEST:
        at.wrong(f"a whole number, 1 or more, found {shown(value)}")
    return value


def object_(value: Any, at: At) -> dict[str, Any]:
    """An object."""
    if not isinstance(value, dict):
        at.wrong(f"an object, found {shown(value)}")
    return value


def text(value: Any, at: At) -> str | None:
    """Text, or nothing."""
    if value is not None and not isinstance(value, str):
        at.wrong(f"text, found {shown(value)}")
    return value


def one_of(value: Any, choices: tuple[Any, ...], at: At) -> Any:
    """One of some values."""
    if value not in choices:
        at.wrong(f"one of {', '.join(map(str, choices))}, found {shown(value)}")
    return value


def optional(check: Callable[[Any, At], Checked], value: Any, at: At) -> Checked | None:
    """Nothing, or what passes a check."""
    return None if value is None else check(value, at)


def only_keys(record: Iterable[str], known: AbstractSet[str], at: At) -> None:
    """Refuse keys that nobody knows: a slip of the pen would go unseen."""
    for key in record:
        if key not in known:
            (at / key).wrong(f"one of the keys {', '.join(sorted(known))}")


def shown(value: Any) -> str:
    """A value as an error names it."""
    if value is None:
        return "nothing"
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "an array"
    found = json.dumps(value)
    return found if len(found) <= _SHOWN_CHARACTERS else found[: _SHOWN_CHARACTERS - 3] + "..."
