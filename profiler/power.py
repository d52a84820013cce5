"""Board power of an accelerator: what it draws while it moves so many bytes and computes so many FLOPs a second.

    P = smin(TDP, TDP * idle + joules per byte * bytes/s + joules per FLOP * FLOPs/s)

with smin(x, y) = (x^-3 + y^-3)^(-1/3). One form for all that is measured here: a request alone, phase by phase, and
servers with many requests at once. `idle` is the share of the TDP (the board's limit, data sheet) that a device draws
which serves but waits. The nearer the limit, the less a further byte adds, since clocks fall: a smooth minimum, whose
sharpness was set once.

`energy.json` beside this module holds the constants and where they are from; `docs/energy.md` says how they were found.
Watts are those of the board: not of the server around it, nor of its cooling.
"""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from profiler.hardware import HardwareError, device_name

__all__ = ["Power", "Watts", "board_power", "board_watts", "energy_file"]

_FILE = Path(__file__).with_name("energy.json")
_SHARPNESS = 3.0

Number = TypeVar("Number", float, NDArray[np.float64])


class Watts(NamedTuple):
    """Board power in watts, and the factors of it that hold 80 % of the truth."""

    watts: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Power:
    """The constants of a board's power; `low` and `high` are factors of the result that hold 80 % of the truth."""

    tdp_watts: float
    idle: float
    joules_per_byte: float
    joules_per_flop: float
    low: float = 1.0
    high: float = 1.0

    def watts(self, bytes_per_second: Number, flops_per_second: Number) -> Number:
        """Watts of one board. Rates are those of one board, averaged over the time asked about."""
        moved = self.joules_per_byte * bytes_per_second + self.joules_per_flop * flops_per_second
        wanted = self.idle + moved / self.tdp_watts
        found: Number = self.tdp_watts * wanted / (1 + wanted**_SHARPNESS) ** (1 / _SHARPNESS)
        return found


def board_watts(device: str, bytes_per_second: float, flops_per_second: float) -> Watts:
    """Watts of one board of a device, with its band. Raises HardwareError, one line, for a device not known."""
    power = board_power(device)
    return Watts(power.watts(bytes_per_second, flops_per_second), power.low, power.high)


def board_power(device: str) -> Power:
    """The constants of a device: its name as in `hardware.json` (h100) or in words ("NVIDIA H100 80GB HBM3")."""
    boards: dict[str, dict[str, Any]] = energy_file()["boards"]
    short = device_name(device)
    name = next((each for each in boards if short is not None and device_name(each) == short), None)
    if name is None:
        raise HardwareError(f"the power of {device!r} is not known: there are {', '.join(boards)}")
    return Power(**{key: value for key, value in boards[name].items() if key != "source"})


@cache
def energy_file() -> dict[str, Any]:
    """`energy.json`: fitted constants and their provenance."""
    found: dict[str, Any] = json.loads(_FILE.read_bytes())
    return found
