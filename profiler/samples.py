"""Samples: what requests took on known hardware, read from CSV files.

Two forms are read, told apart by their columns. Ours, which is that of the paper's logs: `hardware`, `model`,
`prompt_tokens`, `output_tokens` and `runtime_seconds`, one row a run; and, where known, `tensor_parallel`,
`layers_profiled` and `layers_total` (of a model too large to run whole, some layers ran), `hidden_size`,
`attention_heads`, `ffn_hidden_size`, `key_value_heads`, `gated` (true or false), `vocabulary_size`, `batch_size`.
And that of Splitwise: `model`, `hardware`, `tensor_parallel`, `prompt_size`, `batch_size`, `token_size`,
`prompt_time` and `token_time` in milliseconds.

A model's architecture is what its columns say, else that of the shipped model of its name, else unknown.
"""

import csv
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from profiler.architectures import Architecture, architectures
from profiler.measured import Measured, SamplesError, choose_hardware, plain
from profiler.runs import read_runs

__all__ = ["Measured", "SamplesError", "choose_hardware", "plain", "read_samples"]

_OURS = ("hardware", "model", "prompt_tokens", "output_tokens", "runtime_seconds")
_SPLITWISE = ("model", "hardware", "tensor_parallel", "prompt_size", "batch_size", "token_size", "prompt_time")
_SHAPE = ("layers_total", "hidden_size", "attention_heads", "ffn_hidden_size")
_VOCABULARY = 51_200  # GPT-2's, padded as Megatron-LM does
_GATED_BELOW = 3.2  # a feed-forward narrower than this many hidden sizes has a gate: 8/3 is as large as 4 without
_MILLISECOND = 1e-3
_SHORTEST, _LONGEST = 1e-9, 1e9  # seconds
_MOST = {  # no model or request is larger, a cell of another column or unit may be
    "layers_total": 10_000,
    "layers_profiled": 10_000,
    "hidden_size": 10**6,
    "attention_heads": 10**5,
    "key_value_heads": 10**5,
    "ffn_hidden_size": 10**7,
}
_MOST_OTHERWISE = 10**8


_Point = tuple[int, int, float, int]  # prompt tokens, output tokens, seconds, batch size


def read_samples(path: Path) -> tuple[Measured, ...]:
    """Read a file of samples: one `Measured` a model, hardware, degree and shape, in order of first appearance.

    A `.jsonl` holds the runs of `profiler measure` (`profiler.runs`), all else is CSV. Raises SamplesError, one line,
    for what cannot be read or understood.
    """
    if path.suffix == ".jsonl":
        return read_runs(path)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return tuple(_measured(csv.reader(file), str(path)))
    except OSError as error:
        raise SamplesError(f"{path}: cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise SamplesError(f"{path}: byte {error.start}: expected UTF-8 text") from None
    except csv.Error as error:
        raise SamplesError(f"{path}: {error}") from None


@dataclass(frozen=True, slots=True)
class _Key:
    """What rows of one `Measured` have in common."""

    hardware: str
    model: str
    tensor: int
    shape: tuple[str, ...]


class _Row:
    """One row of a file, whose cells are read with errors that name line and column."""

    def __init__(self, file: str, line: int, cells: Mapping[str, str]) -> None:
        self.file = file
        self.line = line
        self.cells = cells

    def text(self, column: str) -> str:
        return self.cells[column].strip() or self.wrong(column, "a name")

    def count(self, column: str, default: int | None = None, least: int = 1) -> int:
        text = self.cells.get(column, "").strip()
        if not text and default is not None:
            return default
        most = _MOST.get(column, _MOST_OTHERWISE)
        whole, _, fraction = text.partition(".")
        if not (whole.isascii() and whole.isdigit()) or fraction.strip("0") or not least <= int(whole[:20]) <= most:
            self.wrong(column, f"a whole number, {least} to {most:,}")
        return int(whole)

    def seconds(self, column: str, unit: float = 1.0) -> float:
        try:
            value = float(self.cells[column]) * unit
        except ValueError:
            value = math.nan
        if not _SHORTEST <= value <= _LONGEST:
            self.wrong(column, "a time above 0, in seconds" if unit == 1 else "a time above 0, in milliseconds")
        return value

    def wrong(self, column: str, expected: str) -> str:
        """Raise SamplesError about a cell."""
        found = self.cells.get(column, "")[:40]
        raise SamplesError(f"{self.file}: line {self.line}: {column}: expected {expected}, found {found!r}")


def _measured(reader: Iterator[list[str]], file: str) -> Iterator[Measured]:
    header = [name.strip() for name in next(reader, [])]
    splitwise = all(column in header for column in _SPLITWISE)
    missing = [] if splitwise else [column for column in _OURS if column not in header]
    if missing:
        found = f"found {', '.join(header)}" if header else "the file is empty"
        raise SamplesError(f"{file}: line 1: no column {', '.join(missing)}: {found}")
    groups: dict[_Key, list[_Point]] = {}
    first: dict[_Key, _Row] = {}
    for line, cells in enumerate(reader, 2):
        if not cells:
            continue
        if len(cells) != len(header):
            raise SamplesError(f"{file}: line {line}: expected {len(header)} columns, found {len(cells)}")
        row = _Row(file, line, dict(zip(header, cells, strict=True)))
        key = _key(row)
        first.setdefault(key, row)
        groups.setdefault(key, []).extend(_splitwise(row) if splitwise else _ours(row))
    if not groups:
        raise SamplesError(f"{file}: no samples, only a header")
    for key, points in _joined(groups).items():
        yield _group(key, first[key], points)


def _joined(groups: dict[_Key, list[_Point]]) -> dict[_Key, list[_Point]]:
    """Rows without a shape belong to those that have one, where only one of that model has."""
    for bare in [key for key in groups if not any(key.shape)]:
        shaped = [key for key in groups if any(key.shape) and replace(key, shape=bare.shape) == bare]
        if len(shaped) == 1:
            groups[shaped[0]] += groups.pop(bare)
    return groups


def _key(row: _Row) -> _Key:
    shape = tuple(row.cells.get(name, "").strip() for name in (*_SHAPE, "layers_profiled", "key_value_heads", "gated"))
    return _Key(row.text("hardware"), row.text("model"), row.count("tensor_parallel", 1), shape)


def _ours(row: _Row) -> Iterable[_Point]:
    prompt, output = row.count("prompt_tokens"), row.count("output_tokens")
    return [(prompt, output, row.seconds("runtime_seconds"), row.count("batch_size", 1))]


def _splitwise(row: _Row) -> Iterable[_Point]:
    # Their end-to-end times are wrong for most long outputs, the times of a prompt and of a token are not.
    first, further = row.seconds("prompt_time", _MILLISECOND), row.seconds("token_time", _MILLISECOND)
    prompt, output, batch = row.count("prompt_size"), row.count("token_size"), row.count("batch_size")
    points = [(prompt, 1, first, batch)]
    return points if output == 1 else [*points, (prompt, output, first + (output - 1) * further, batch)]


def _group(key: _Key, row: _Row, points: list[_Point]) -> Measured:
    prompt, output, seconds, batch = zip(*points, strict=True)
    total, ran = row.count("layers_total", 0, 0), row.count("layers_profiled", 0, 0)
    if ran > total > 0:
        row.wrong("layers_profiled", f"at most the {total} of layers_total")
    architecture = _architecture(key.model, row)
    partly = bool(total and ran and ran != total)
    if architecture is not None and partly:
        architecture = replace(architecture, layers=ran)
    return Measured(
        hardware=key.hardware,
        model=key.model,
        tensor=key.tensor,
        prompt=np.array(prompt, np.int64),
        output=np.array(output, np.int64),
        seconds=np.array(seconds, np.float64),
        batch=np.array(batch, np.int64),
        architecture=architecture,
        scale=total / ran if partly else 1.0,
    )


def _architecture(model: str, row: _Row) -> Architecture | None:
    if not all(row.cells.get(name, "").strip() for name in _SHAPE):
        return _shipped(model)
    hidden, heads, ffn = (row.count(name) for name in _SHAPE[1:])
    gated = row.cells.get("gated", "").strip().lower()
    return Architecture(
        name=model,
        layers=row.count("layers_total"),
        hidden=hidden,
        heads=heads,
        kv_heads=row.count("key_value_heads", heads),
        head_dim=max(1, hidden // heads),
        ffn=ffn,
        vocabulary=row.count("vocabulary_size", _VOCABULARY),
        parameters=0.0,
        source="the samples",
        tied=True,
        gated=gated == "true" if gated in {"true", "false"} else ffn < _GATED_BELOW * hidden,
    )


def _shipped(model: str) -> Architecture | None:
    known = {_bare(name): each for name, each in architectures().items()}
    return known.get(_bare(model))


def _bare(model: str) -> str:
    """A model's name without its maker and what makers add to the same weights' shape."""
    return plain(re.sub(r"(-(hf|chat|instruct|it))+$", "", model.lower().rpartition("/")[2]))
