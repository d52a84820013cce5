"""YAML whose every value knows its line, so that an error can say where.

`read_yaml(path)` gives a `Node`; a Node is read with the method of the type that
is wanted there (`text`, `number`, `mapping`, …), and anything else is a
`ConfigError` of one line: file, line, place, what was expected. Values are never
quoted in errors, since they may be secrets.
"""

import difflib
import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

__all__ = ["ConfigError", "Node", "nearest", "read_yaml"]

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_ENVIRON = re.compile(r"os\.environ/([A-Za-z_][A-Za-z0-9_]*)")
_KINDS = {
    str: "a text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    type(None): "nothing",
    list: "a list",
    dict: "a mapping",
}


class ConfigError(ValueError):
    """A configuration that cannot be used; `str()` is one line: where, what, what to do."""


@dataclass(frozen=True, slots=True, repr=False)
class Node:
    """One YAML value: its file, line, place (`model_list[1]`), and the value itself."""

    file: str
    line: int
    where: str
    data: Any

    def error(self, message: str, place: str | None = None) -> ConfigError:
        """The error `message` at this value's line."""
        where = self.where if place is None else place
        return ConfigError(f"{self.file}:{self.line}: {where}{': ' if where else ''}{message}")

    @property
    def place(self) -> str:
        """File, line and place, as errors begin."""
        return f"{self.file}:{self.line}: {self.where}"

    @property
    def empty(self) -> bool:
        """Whether nothing, or null, is written here."""
        return self.data is None

    def text(self) -> str:
        """The text, each `os.environ/NAME` in it replaced by that environment variable."""
        if not isinstance(self.data, str):
            quotable = isinstance(self.data, (int, float))
            raise self._expected("a text (put it in quotes)" if quotable else "a text")
        return _ENVIRON.sub(self._variable, self.data)

    def number(self, least: float) -> float:
        """The number, at least `least` and finite (a text only by way of `os.environ/NAME`)."""
        value = self.data
        if isinstance(value, str) and _ENVIRON.search(value):
            value = _number(self.text())
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise self._expected("a number")
        if not least <= value < float("inf"):
            raise self.error(f"expected a number of at least {least:g}")
        return float(value)

    def integer(self, least: int) -> int:
        """The whole number, at least `least`."""
        value = self.number(least)
        if value != int(value):
            raise self.error("expected a whole number")
        return int(value)

    def items(self) -> list["Node"]:
        """The list's values."""
        if not isinstance(self.data, list):
            raise self._expected("a list")
        return self.data

    def mapping(self, known: Collection[str] = ()) -> Mapping[str, "Node"]:
        """The mapping; with `known`, any other key is an error that names the nearest."""
        if not isinstance(self.data, dict):
            raise self._expected("a mapping (key: value)")
        for key, value in self.data.items():
            if known and key not in known:
                raise value.error(f"unknown key{nearest(key, known)}; known here: {', '.join(sorted(known))}")
        return self.data

    def plain(self) -> Any:
        """The value as Python's own types, `os.environ/NAME` replaced everywhere."""
        if isinstance(self.data, dict):
            return {key: value.plain() for key, value in self.data.items()}
        if isinstance(self.data, list):
            return [value.plain() for value in self.data]
        return self.text() if isinstance(self.data, str) else self.data

    def _expected(self, wanted: str) -> ConfigError:
        return self.error(f"expected {wanted}, found {_KINDS[type(self.data)]}")

    def _variable(self, match: re.Match[str]) -> str:
        value = os.environ.get(match[1])
        if not value:
            state = "is not set" if value is None else "is empty"
            raise self.error(f"the environment variable {match[1]} {state}: set it")
        return value


def nearest(word: str, known: Collection[str], cutoff: float = 0.7) -> str:
    """` (did you mean 'x'?)` for the nearest of `known` above a likeness of `cutoff`, or nothing."""
    close = difflib.get_close_matches(word, known, n=1, cutoff=cutoff)
    return f" (did you mean {close[0]!r}?)" if close else ""


def read_yaml(path: Path) -> Node:
    """The file's value with lines; an unreadable file or one that is not YAML is a `ConfigError`."""
    file = str(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file}: not UTF-8 text (byte {error.start})") from None
    try:
        return _Builder(file, text).root()
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ConfigError(f"{file}{line}: not valid YAML: {error.problem or error.context}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{file}: not valid YAML: {' '.join(str(error).split())}") from None


class _Builder:
    """Turns PyYAML's nodes, which have marks, into ours."""

    def __init__(self, file: str, text: str) -> None:
        self._file = file
        self._loader = _Loader(text)
        self._open: set[int] = set()

    def root(self) -> Node:
        node = self._loader.get_single_node()
        return Node(self._file, 1, "", None) if node is None else self._build(node, "")

    def _build(self, node: Any, where: str) -> Node:
        line = node.start_mark.line + 1
        made = Node(self._file, line, where, None)
        if id(node) in self._open:
            raise made.error("this YAML alias contains itself")
        if isinstance(node, yaml.ScalarNode):
            return Node(self._file, line, where, self._scalar(node, made))
        self._open.add(id(node))
        data = self._list(node, where) if isinstance(node, yaml.SequenceNode) else self._dict(node, where)
        self._open.discard(id(node))
        return Node(self._file, line, where, data)

    def _scalar(self, node: Any, made: Node) -> Any:
        try:
            value = self._loader.construct_object(node)
        except ValueError:
            raise made.error("a value that does not fit its YAML tag") from None
        # Dates and the like are texts here: a model may be called 2024-08-06.
        return value if value is None or isinstance(value, (str, int, float, bool)) else node.value

    def _list(self, node: Any, where: str) -> list[Node]:
        return [self._build(child, f"{where}[{index}]") for index, child in enumerate(node.value)]

    def _dict(self, node: Any, where: str) -> dict[str, Node]:
        self._check_keys(node, where)
        self._loader.flatten_mapping(node)
        return {key.value: self._entry(key, value, where) for key, value in node.value}

    def _entry(self, key: Any, node: Any, where: str) -> Node:
        # A block below its key starts a line later, but the key is what the reader looks for.
        value = self._build(node, f"{where}.{key.value}" if where else key.value)
        return replace(value, line=key.start_mark.line + 1)

    def _check_keys(self, node: Any, where: str) -> None:
        first: dict[str, int] = {}
        for key, _ in node.value:
            line = key.start_mark.line + 1
            here = Node(self._file, line, where, None)
            if not isinstance(key, yaml.ScalarNode):
                raise here.error("a key must be a plain text")
            if key.value in first and key.value != "<<":
                raise here.error(f"the key {key.value!r} is here twice (first on line {first[key.value]})")
            first[key.value] = line


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
