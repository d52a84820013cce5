"""Writing coefficient tables: a line a field, so that two versions can be compared, and merged into what is there."""

import json
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from stream.flops import Flops
from stream.runtime import Coefficients
from stream.table_format import FORMAT, Row, Served, Stack, TableError, Watts, parse_table

__all__ = ["LEVEL", "rounded", "row_record", "significant", "table_text", "tables_text", "write_stack"]

LEVEL = 0.8
"""The chance that the intervals of rows promise."""

_ROW_DEPTH = 4  # "stacks", its name, "models", its name


def table_text(stacks: Iterable[Stack]) -> str:
    """The text of a table file that holds these stacks (each with a name)."""
    return tables_text({"format": FORMAT, "stacks": {stack.name: _stack_record(stack) for stack in stacks}})


def write_stack(path: Path, stack: Stack) -> None:
    """Write `stack` to `path`; what a table there holds besides stays as it is.

    Of a stack of the same name, rows of other names stay, and of its description what `stack` does not say. Raises
    TableError where the file there is no table or names no stack, OSError where it cannot be written; the file is
    then as before.
    """
    before = _existing(path)
    stacks = dict(before["stacks"])
    old = stacks.get(stack.name, {"models": {}})
    record = _stack_record(stack)
    described = {**_described(old), **_described(record)}
    stacks[stack.name] = {**described, "models": {**old["models"], **record["models"]}}
    text = tables_text({**before, "stacks": stacks}).encode()
    parse_table(text, str(path))  # what cannot be read again is not written
    _replace(path, text)


def tables_text(record: Mapping[str, Any]) -> str:
    """The text of a whole file as JSON has it, with "stacks" among its keys."""
    return _text(record, ()) + "\n"


def row_record(row: Row) -> dict[str, Any]:
    """A row as a file has it, without what goes without saying (an overhead or gamma of 0)."""
    numbers = row.coefficients
    fields = {
        **_seconds(numbers),
        "overhead": numbers.overhead or None,
        "quadratic": numbers.quadratic and list(numbers.quadratic),
        "provenance": row.provenance,
        "proxy_of": row.proxy_of,
        "fit": row.fit and asdict(row.fit),
        "fit_error": row.fit_error,
        "intervals": row.intervals and dict(row.intervals),
        "accelerators": row.accelerators,
        "flops": row.flops and _flops(row.flops),
        "watts": row.watts and _watts(row.watts),
        "served": row.served and _served(row.served),
        "source": row.source,
        "note": row.note,
    }
    return _given(fields)


def _seconds(numbers: Coefficients) -> dict[str, Any]:
    knots = zip(numbers.knots, numbers.prompt_seconds, strict=True)
    return {
        "runtime_per_output_token": numbers.per_output_token,
        "context_seconds_per_token2": numbers.context or None,
        "runtime_for_prompt_tokens": {str(knot): seconds for knot, seconds in knots},
    }


def _flops(flops: Flops) -> dict[str, Any]:
    """Whole numbers as such; of windows nothing where there are none."""
    counts = {name: int(count) if count == int(count) else count for name, count in asdict(flops).items()}
    return counts if flops.window else {name: counts[name] for name in counts if "window" not in name}


def _watts(watts: Watts) -> dict[str, Any]:
    return _given({**asdict(watts), "interval": list(watts.interval)})


def _served(served: Served) -> dict[str, Any]:
    fields = {"batch": served.batch, **_seconds(served.coefficients), "watts": served.watts and _watts(served.watts)}
    return _given(fields)


def significant(number: float, digits: int) -> float:
    """The number to so many significant digits."""
    return float(f"{number:.{digits}g}")


def rounded(numbers: Coefficients, digits: int) -> Coefficients:
    """The same coefficients to so many significant digits (rounding keeps F monotone)."""

    def short(number: float) -> float:
        return significant(number, digits)

    growth = numbers.quadratic
    return replace(
        numbers,
        per_output_token=short(numbers.per_output_token),
        prompt_seconds=tuple(map(short, numbers.prompt_seconds)),
        overhead=short(numbers.overhead),
        context=short(numbers.context),
        quadratic=growth and (short(growth[0]), short(growth[1]), short(growth[2])),
    )


def _stack_record(stack: Stack) -> dict[str, Any]:
    """A stack as a file has it, without what goes without saying."""
    described = {
        "kind": None if stack.kind == "reference" else stack.kind,
        "hardware": stack.hardware,
        "software": stack.software,
        "date": stack.date,
        "source": stack.source,
        "note": stack.note,
        "accelerator": stack.accelerator,
        "dollars_per_accelerator_hour": stack.dollars_per_accelerator_hour,
    }
    return {**_given(described), "models": {name: row_record(row) for name, row in stack.rows.items()}}


def _existing(path: Path) -> dict[str, Any]:
    content = path.read_bytes() if path.is_file() else b""
    if not content.strip():
        return {"format": FORMAT, "stacks": {}}
    if any(not stack.name for stack in parse_table(content, str(path)).stacks):
        raise TableError(f"{path}: holds rows of a stack without a name, such as HELM's: write to another file")
    record: dict[str, Any] = json.loads(content)
    return {"format": FORMAT, **record}


def _replace(path: Path, content: bytes) -> None:
    if path.exists() and not path.is_file():  # a pipe or /dev/stdout
        path.write_bytes(content)
        return
    path = path.resolve()  # a link stays one
    new = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        new.write_bytes(content)
        if path.exists():
            shutil.copymode(path, new)
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)


def _text(value: Any, path: tuple[str, ...]) -> str:
    if not _has_lines(path):
        return json.dumps(value)
    indent = "  " * len(path)
    fields = (f"{indent}  {json.dumps(key)}: {_text(each, (*path, key))}" for key, each in value.items())
    return "{\n" + ",\n".join(fields) + f"\n{indent}}}"


def _has_lines(path: tuple[str, ...]) -> bool:
    """Whether what lies there has a line for each of its keys: the file, its stacks, each one, its models, each one."""
    return len(path) <= _ROW_DEPTH and path[:1] in {(), ("stacks",)} and path[2:3] in {(), ("models",)}


def _given(fields: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if value is not None}


def _described(stack: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in stack.items() if key != "models"}
