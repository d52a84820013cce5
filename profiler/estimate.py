"""Estimates: T(p, o) of one request, or of every row of a CSV file. Pure but for the streams passed in."""

import csv
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TextIO

from stream.coefficients import Tables
from stream.runtime import RuntimeFunction

__all__ = [
    "COLUMNS",
    "RESULT_COLUMN",
    "EstimateError",
    "Summary",
    "estimate",
    "estimate_csv",
    "unknown_model",
    "whole_number",
]

COLUMNS = ("model", "prompt_tokens", "output_tokens")
RESULT_COLUMN = "runtime_seconds"

_LISTED_MODELS = 8
_REMEMBERED_COUNTS = 100_000
_MOST_DIGITS = 12


class EstimateError(ValueError):
    """A question that has no answer. One line: what is wrong, where, and what to do."""


@dataclass(slots=True)
class Summary:
    """How many rows of which model had no runtime (`uncovered`) or lay past the profiled prompt sizes."""

    uncovered: dict[str, int] = field(default_factory=dict)
    extrapolated: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class _Model:
    """What is known of one model while a file is read: T (None: no row), its last knot, rows past it."""

    runtime: RuntimeFunction | None
    last_knot: int
    rows: int = 0
    past: int = 0


def estimate(tables: Tables, model: str, prompt_tokens: int, output_tokens: int) -> tuple[float, bool]:
    """T in seconds on the leading stack, and whether F is extrapolated; raise EstimateError without a row."""
    known = _model(tables, model)
    if known.runtime is None:
        raise EstimateError(unknown_model(tables, model))
    return known.runtime(prompt_tokens, output_tokens), prompt_tokens > known.last_knot


def unknown_model(tables: Tables, model: str) -> str:
    """Say on one line that there is no such row, and what there is instead."""
    stack = tables.reference
    elsewhere = next((other for other in tables.stacks if tables.row(other, model)), None)
    if elsewhere is not None:
        return f"unknown model {model!r} on stack {stack}, but {elsewhere} has it: --stack {elsewhere}"
    near = tables.near(stack, model)
    if near:
        return f"unknown model {model!r} on stack {stack}: did you mean {' or '.join(near)}?"
    rows = list(tables.stacks[stack].rows)
    more = f" and {len(rows) - _LISTED_MODELS} more" if len(rows) > _LISTED_MODELS else ""
    return f"unknown model {model!r} on stack {stack}: it has {', '.join(rows[:_LISTED_MODELS])}{more}"


def estimate_csv(source: Iterable[str], out: TextIO, tables: Tables, name: str) -> Summary:
    """Copy CSV rows with T in seconds appended as the last column, empty for models without a row.

    The input's columns and their order are kept, a column that is called `runtime_seconds` already too: the
    appended one is always the last. Raise EstimateError, naming `name` and the line, for a missing column or
    a token count that is no whole number. Blank lines are left out.
    """
    reader = csv.reader(source)
    writer = csv.writer(out, lineterminator="\n")
    models: dict[str, _Model] = {}
    try:
        header = next(reader, [])
        places = _places(header, name)
        writer.writerow([*header, RESULT_COLUMN])
        writer.writerows(_estimated(reader, len(header), places, models, tables))
    except csv.Error as error:
        raise EstimateError(f"{name}: line {reader.line_num}: not readable as CSV: {error}") from None
    except _BadRowError as error:
        raise EstimateError(f"{name}: line {reader.line_num}: {error}") from None
    return Summary(
        uncovered={model: known.rows for model, known in models.items() if known.runtime is None},
        extrapolated={model: known.past for model, known in models.items() if known.past},
    )


class _BadRowError(ValueError):
    pass


def _places(header: Sequence[str], name: str) -> tuple[int, int, int]:
    missing = [column for column in COLUMNS if column not in header]
    if missing:
        found = f"found {', '.join(header)}" if header else "the file is empty"
        raise EstimateError(f"{name}: line 1: no column {', '.join(missing)}: {found}")
    model, prompt, output = (header.index(column) for column in COLUMNS)
    return model, prompt, output


def _estimated(
    rows: Iterable[list[str]],
    width: int,
    places: tuple[int, int, int],
    models: dict[str, _Model],
    tables: Tables,
) -> Iterator[list[str | float]]:
    at_model, at_prompt, at_output = places
    counts: dict[str, int] = {}
    for row in rows:
        if len(row) != width:
            if not row:
                continue
            raise _BadRowError(f"expected {width} columns, found {len(row)}")
        model = models.get(row[at_model])
        if model is None:
            model = models[row[at_model]] = _model(tables, row[at_model])
        model.rows += 1
        prompt = counts.get(row[at_prompt])
        if prompt is None:
            prompt = _count(row[at_prompt], COLUMNS[1], counts)
        output = counts.get(row[at_output])
        if output is None:
            output = _count(row[at_output], COLUMNS[2], counts)
        if model.runtime is None:
            yield [*row, ""]
            continue
        if prompt > model.last_knot:
            model.past += 1
        yield [*row, model.runtime(prompt, output)]


def _count(text: str, column: str, counts: dict[str, int]) -> int:
    """Check one token count and remember it by its text: counts recur, and checks cost more than a look-up."""
    try:
        count = whole_number(text)
    except ValueError as error:
        raise _BadRowError(f"{column}: {error}") from None
    if len(counts) >= _REMEMBERED_COUNTS:
        counts.clear()
    counts[text] = count
    return count


def whole_number(text: str) -> int:
    """Read a token count, "512" or "512.0"; raise ValueError, one line, for anything else."""
    whole, _, fraction = text.strip().partition(".")
    digits = whole.isascii() and whole.isdigit() and not fraction.strip("0")
    if not digits or len(whole) > _MOST_DIGITS:
        raise ValueError(f"expected a whole number of tokens, 0 or more, found {text[:40]!r}")
    return int(whole)


def _model(tables: Tables, name: str) -> _Model:
    row = tables.row(tables.reference, name)
    if row is None:
        return _Model(None, 0)
    return _Model(tables.runtime(tables.reference, row), row.coefficients.last_knot)
