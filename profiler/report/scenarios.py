"""Scenarios: how well models did on them, and how long they took, read from CSV files; and what that costs.

Columns: `model`, `scenario`, `capability` (0 or more, higher is better), and either `prompt_tokens` and `output_tokens`
(of a request, means) or `idealized_seconds` (somebody's own, taken instead of T). `raw_seconds` and `denoised_seconds`
may stand beside them. Other columns are passed over, an empty cell is a number that nobody knows.
"""

import csv
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from profiler.compare import price_of
from stream.coefficients import Tables
from stream.runtime import RuntimeFunction
from stream.table_format import Row

if TYPE_CHECKING:
    from _csv import Reader as CsvReader

__all__ = ["DENOISED_STACK", "Costed", "Scenario", "ScenariosError", "costed", "mean_seconds", "read_scenarios"]

DENOISED_STACK = "api-2022"
"""The shipped stack of the providers' own hardware and software."""

_NUMBERS = ("prompt_tokens", "output_tokens", "capability", "raw_seconds", "denoised_seconds", "idealized_seconds")
_MOST = 1e9  # of anything: a larger number is of another column or unit
_HOUR = 3600.0


class ScenariosError(ValueError):
    """A file of scenarios that cannot be used. One line: the file, where in it, what was expected."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """One model on one scenario: means over its requests, None where the file does not tell."""

    model: str
    scenario: str
    prompt_tokens: float | None = None
    output_tokens: float | None = None
    capability: float | None = None
    raw_seconds: float | None = None
    denoised_seconds: float | None = None
    idealized_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Costed:
    """A scenario with what the tables say of its mean request: seconds, dollars and joules alone on a reference stack.

    `row` is the table's row of the model, None where there is none, `table_seconds` T of it. `idealized_seconds` are
    the file's own (`told`), else T: of one file they should be of one kind. `extrapolated`: the prompt is longer than
    any that was profiled.
    """

    scenario: Scenario
    row: str | None
    denoised_seconds: float | None
    table_seconds: float | None
    idealized_seconds: float | None
    dollars: float | None
    joules: float | None
    flops: float | None
    told: bool
    extrapolated: bool


def read_scenarios(path: Path) -> tuple[Scenario, ...]:
    """Read a file of scenarios, in its order; ScenariosError for what cannot be read or understood."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            return tuple(_scenarios(reader, str(path)))
    except OSError as error:
        raise ScenariosError(f"{path}: cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise ScenariosError(f"{path}: byte {error.start}: expected UTF-8 text") from None
    except csv.Error as error:
        raise ScenariosError(f"{path}: line {reader.line_num}: not readable as CSV: {error}") from None


def costed(tables: Tables, stack: str, scenarios: Iterable[Scenario]) -> tuple[Costed, ...]:
    """What the mean request of each scenario takes on a stack, and on its provider's own hardware where that ships."""
    return tuple(_costed(tables, stack, each) for each in scenarios)


def mean_seconds(runtime: RuntimeFunction, prompt_tokens: float, output_tokens: float) -> float:
    """T of a mean request. T is all but straight in tokens, so that the mean's T is the requests' mean T."""
    return sum(share * runtime(*tokens) for tokens, share in _around(prompt_tokens, output_tokens).items())


def _around(prompt_tokens: float, output_tokens: float) -> dict[tuple[int, int], float]:
    """Whole numbers of tokens, and their shares, of which these are the mean."""
    whole = math.floor(output_tokens)
    rest, prompt = output_tokens - whole, round(prompt_tokens)
    return {(prompt, whole): 1 - rest, (prompt, whole + 1): rest} if rest else {(prompt, whole): 1.0}


def _costed(tables: Tables, stack: str, scenario: Scenario) -> Costed:
    row = tables.row(stack, scenario.model)
    prompt, output = scenario.prompt_tokens, scenario.output_tokens
    own, denoised = scenario.idealized_seconds, scenario.denoised_seconds
    seconds = joules = flops = None
    if prompt is not None and output is not None:
        denoised = _denoised(tables, scenario.model, prompt, output) if denoised is None else denoised
        if row is not None:
            seconds = mean_seconds(tables.runtime(stack, row), prompt, output)
            joules, flops = _work(tables, stack, row, prompt, output)
    return Costed(
        scenario=scenario,
        row=None if row is None else row.name,
        denoised_seconds=denoised,
        table_seconds=seconds,
        idealized_seconds=seconds if own is None else own,
        dollars=_dollars(tables, stack, row, own if seconds is None else seconds),
        joules=joules,
        flops=flops,
        told=own is not None,
        extrapolated=row is not None and prompt is not None and prompt > row.coefficients.last_knot,
    )


def _denoised(tables: Tables, model: str, prompt: float, output: float) -> float | None:
    row = tables.row(DENOISED_STACK, model) if DENOISED_STACK in tables.stacks else None
    return None if row is None else mean_seconds(tables.runtime(DENOISED_STACK, row), prompt, output)


def _dollars(tables: Tables, stack: str, row: Row | None, seconds: float | None) -> float | None:
    price = price_of(tables, stack)
    if row is None or row.accelerators is None or price is None or seconds is None:
        return None
    return seconds * row.accelerators * price.value / _HOUR


def _work(tables: Tables, stack: str, row: Row, prompt: float, output: float) -> tuple[float | None, float | None]:
    """Joules and FLOPs of a mean request."""
    costs = tables.costs(stack, row)
    if costs is None:
        return None, None
    parts = _around(prompt, output)
    flops = _mean((costs.flops(*tokens), share) for tokens, share in parts.items())
    work = costs.dedicated
    return None if work is None else _mean((work(*at).energy_joules, share) for at, share in parts.items()), flops


def _mean(parts: Iterable[tuple[float | None, float]]) -> float | None:
    known = [(value, share) for value, share in parts if value is not None]
    return sum(share * value for value, share in known) if known else None


def _scenarios(reader: "CsvReader", file: str) -> Iterator[Scenario]:
    header = [name.strip() for name in next(reader, [])]
    places = _places(header, file)
    found = False
    for cells in reader:
        where = f"{file}: line {reader.line_num}"
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) != len(header):
            raise ScenariosError(f"{where}: expected {len(header)} columns, found {len(cells)}")
        yield _scenario({name: cells[place].strip() for name, place in places.items()}, where)
        found = True
    if not found:
        raise ScenariosError(f"{file}: line {reader.line_num + 1}: expected a scenario, found the end of the file")


def _places(header: Sequence[str], file: str) -> Mapping[str, int]:
    found = f"found {', '.join(header)}"[:200] if header else "the file is empty"
    missing = [name for name in ("model", "scenario", "capability") if name not in header]
    if not missing and "idealized_seconds" not in header:
        missing = [name for name in ("prompt_tokens", "output_tokens") if name not in header]
    if missing:
        raise ScenariosError(f"{file}: line 1: no column {', '.join(missing)}: {found}")
    twice = [name for name in (*_NUMBERS, "model", "scenario") if header.count(name) > 1]
    if twice:
        raise ScenariosError(f"{file}: line 1: column {twice[0]} is there twice")
    return {name: header.index(name) for name in ("model", "scenario", *_NUMBERS) if name in header}


def _scenario(cells: Mapping[str, str], where: str) -> Scenario:
    blank = next((name for name in ("model", "scenario") if not cells[name]), None)
    if blank is not None:
        raise ScenariosError(f"{where}: {blank}: expected a name, found nothing")
    numbers = {name: _number(cells[name], f"{where}: {name}") for name in _NUMBERS if name in cells}
    return Scenario(cells["model"], cells["scenario"], **numbers)


def _number(text: str, where: str) -> float | None:
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    least = 1e-9 if where.endswith("seconds") else 0.0
    if not least <= value <= _MOST:
        expected = "seconds, more than 0" if least else "a number, 0 or more"
        raise ScenariosError(f"{where}: expected {expected}, found {text[:40]!r}")
    return value
