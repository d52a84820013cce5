"""Configurations of servers from a CSV file with the columns of the ML.ENERGY leaderboard, and back with predictions.

Needed: `model_id`, `total_params_billions`, `gpu_model`, `num_gpus`, `max_num_seqs`. Used where they are there:
`architecture`, `activated_params_billions`, `weight_precision`, `data_parallel`, `expert_parallel`, `tensor_parallel`,
`avg_output_len`. No other column is read, but `energy_per_token_joules` of measurements to fit. A row of few columns is
that of a dense model in 16 bits, shared by all devices.
"""

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn, TextIO

from profiler.energy import DEVICES, Serving, short_name
from profiler.energy_fit import Fitted, bands
from profiler.energy_subject import subject

__all__ = ["COLUMNS", "EnergyError", "Table", "read_measured", "read_table", "write_predicted"]

COLUMNS = ("joules_per_token", "joules_per_token_low", "joules_per_token_high")
"""What a prediction appends."""

_NEEDED = ("model_id", "total_params_billions", "gpu_model", "num_gpus", "max_num_seqs")
_TARGET = "energy_per_token_joules"
_MORE = {
    "architecture": "",
    "activated_params_billions": "",
    "weight_precision": "bfloat16",
    "data_parallel": "1",
    "expert_parallel": "1",
    "tensor_parallel": "",
    "avg_output_len": "500",
}
"""Columns that may be missing, and what an empty cell of them means."""

_WEIGHTS: Mapping[str, str] = {
    **dict.fromkeys(("bfloat16", "bf16", "float16", "fp16", "half", "auto"), "bf16"),
    **dict.fromkeys(("fp8", "float8", "fp8_e4m3", "fp8_e5m2"), "fp8"),
    **dict.fromkeys(("int8", "w8a8"), "int8"),
    **dict.fromkeys(("int4", "awq", "gptq", "w4a16"), "int4"),
    **dict.fromkeys(("mxfp4", "fp4", "nvfp4"), "mxfp4"),
}


class EnergyError(ValueError):
    """A file that cannot be used. One line: the file, where in it, what was expected."""


class Table(NamedTuple):
    """A file: its header, its rows as they are, what they mean, and which columns it lacks."""

    header: list[str]
    rows: list[list[str]]
    servings: list[Serving]
    joules: list[float]
    missing: list[str]


def read_table(path: Path, *, measured: bool = False) -> Table:
    """Read a file of configurations, with `measured` joules too. Raises EnergyError, one clear line."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return _table(file, str(path), measured)
    except OSError as error:
        raise EnergyError(f"{path}: cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise EnergyError(f"{path}: byte {error.start}: expected UTF-8 text") from None
    except csv.Error as error:
        raise EnergyError(f"{path}: not readable as CSV: {error}") from None


def read_measured(path: Path) -> tuple[list[Serving], list[float]]:
    """The configurations of a file and their measured joules per token; EnergyError where there are none."""
    table = read_table(path, measured=True)
    if not table.rows:
        raise EnergyError(f"{path}: no measurements to fit, only a header")
    return table.servings, table.joules


def write_predicted(table: Table, fitted: Fitted, out: TextIO) -> None:
    """Write the rows in their order with `COLUMNS` appended."""
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*table.header, *COLUMNS])
    if table.rows:
        for row, *predicted in zip(table.rows, *bands(table.servings, fitted), strict=True):
            writer.writerow([*row, *(f"{joules:.6g}" for joules in predicted)])


def _table(lines: Iterable[str], file: str, measured: bool) -> Table:
    reader = csv.reader(lines)
    header = [name.strip() for name in next(reader, [])]
    missing = [name for name in (*_NEEDED, *([_TARGET] if measured else [])) if name not in header]
    if missing:
        raise EnergyError(f"{file}: line 1: no column {', '.join(missing)}: {_found(header)}")
    table = Table(header, [], [], [], [name for name in _MORE if name not in header])
    for row in filter(None, reader):
        if len(row) != len(header):
            raise EnergyError(f"{file}: line {reader.line_num}: expected {len(header)} columns, found {len(row)}")
        table.rows.append(row)
        cells = _Cells(file, reader.line_num, {**_MORE, **dict(zip(header, row, strict=True))})
        table.servings.append(_serving(cells))
        if measured:
            table.joules.append(cells.number(_TARGET))
    return table


def _found(header: Sequence[str]) -> str:
    return f"found {', '.join(header)[:200]}" if header else "the file is empty"


class _Cells(NamedTuple):
    """A row's cells, read with errors that name line and column."""

    file: str
    line: int
    cells: Mapping[str, str]

    def text(self, column: str) -> str:
        return self.cells[column].strip() or _MORE.get(column, "")

    def number(self, column: str, most: float = 1e7) -> float:
        try:
            value = float(self.text(column))
        except ValueError:
            value = math.nan
        if not 0 < value <= most:
            self.wrong(column, f"a number above 0, {most:,.0f} at most")
        return value

    def count(self, column: str, most: int = 100_000) -> int:
        value = self.number(column, most)
        if value != int(value):
            self.wrong(column, "a whole number")
        return int(value)

    def wrong(self, column: str, expected: str) -> NoReturn:
        found = self.cells[column][:40]
        raise EnergyError(f"{self.file}: line {self.line}: {column}: expected {expected}, found {found!r}")


def _serving(cells: _Cells) -> Serving:
    device = short_name(cells.text("gpu_model"))
    if device is None:
        cells.wrong("gpu_model", f"one of {', '.join(DEVICES)}, in any spelling")
    weights = _WEIGHTS.get(cells.text("weight_precision").lower().removeprefix("torch."))
    if weights is None:
        cells.wrong("weight_precision", f"one of {', '.join(_WEIGHTS)}")
    devices, replicas = cells.count("num_gpus"), cells.count("data_parallel")
    if devices % replicas:
        cells.wrong("data_parallel", f"a divisor of num_gpus ({devices})")
    total = cells.number("total_params_billions")
    active = cells.number("activated_params_billions") if cells.text("activated_params_billions") else total
    model = cells.text("model_id") or cells.wrong("model_id", "a name")
    return Serving(
        subject=subject(model, cells.text("architecture"), total, min(active, total), weights),
        device=device,
        devices=devices,
        replicas=replicas,
        expert_devices=cells.count("expert_parallel"),
        sequences=cells.number("max_num_seqs"),
        output=cells.number("avg_output_len"),
    )
