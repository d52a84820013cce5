"""Estimates: T(p, o) of one request, or of every row of a CSV file. Pure but for the streams passed in."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TextIO

from profiler.request_rows import COLUMNS, EstimateError, append_columns, whole_number
from stream.coefficients import Tables
from stream.runtime import RuntimeFunction

__all__ = ["RESULT_COLUMN", "Summary", "estimate", "estimate_csv", "unknown_model"]

RESULT_COLUMN = "runtime_seconds"

_LISTED_MODELS = 8
_REMEMBERED_COUNTS = 100_000


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

    Raise EstimateError, naming `name` and the line, for a missing column or a token count that is no whole number.
    """
    models: dict[str, _Model] = {}
    append_columns(source, out, name, [RESULT_COLUMN], lambda rows, header: _estimated(rows, header, models, tables))
    return Summary(
        uncovered={model: known.rows for model, known in models.items() if known.runtime is None},
        extrapolated={model: known.past for model, known in models.items() if known.past},
    )


def _estimated(
    rows: Iterable[list[str]], header: Sequence[str], models: dict[str, _Model], tables: Tables
) -> Iterator[list[str | float]]:
    at_model, at_prompt, at_output = (header.index(column) for column in COLUMNS)
    counts: dict[str, int] = {}
    for row in rows:
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
        raise EstimateError(f"{column}: {error}") from None
    if len(counts) >= _REMEMBERED_COUNTS:
        counts.clear()
    counts[text] = count
    return count


def _model(tables: Tables, name: str) -> _Model:
    row = tables.row(tables.reference, name)
    if row is None:
        return _Model(None, 0)
    return _Model(tables.runtime(tables.reference, row), row.coefficients.last_knot)
