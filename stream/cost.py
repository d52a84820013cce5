"""What a request costs on a reference stack: accelerator-seconds, dollars, energy, carbon, water. Pure.

Twice, and never mixed: *dedicated*, alone on the accelerators (batch 1, as in the paper), and *served*, its share of
an instance that serves the batch which the stack states. With T' the seconds of all the request's work (its prompt
once, each of its choices decoded), F those of its prompt, n accelerators and P_F, P_D their watts meanwhile:

    accelerator-seconds = n T'
    dollars             = n T' / 3600 * dollars an hour                              (arXiv 2305.02440)
    E_IT                = server power factor * n * (P_F F + P_D (T' - F))            joules
    CO2e                = PUE * E_IT * grid intensity (+ embodied, where that is counted)
    water               = E_IT * (WUE of the site + PUE * WUE of the grid)

A band is a pair of factors between which the truth is taken to lie: the logarithms of the factors of all that goes in
(the row's own error, price, watts, PUE, grid) add up as independent errors do, by their squares. Carbon with its
embodied part has both parts' factors, by what each adds while tokens are generated.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from math import exp, hypot, log
from typing import Literal, NamedTuple

import msgspec

from stream.constants import Accelerator, Constant, Constants
from stream.events import Cost
from stream.flops import FlopsFunction, flops_function
from stream.runtime import Coefficients, Interpolation, WorkFunction, work_function
from stream.table_format import Row, Stack, Watts

__all__ = [
    "JOULES_PER_KWH", "Bands", "Basis", "Cost", "RowCosts", "accelerator_of", "dollars_per_hour", "row_costs",
]  # fmt: skip

Basis = Literal["dedicated", "served"]
Factors = tuple[float, float]

JOULES_PER_KWH = 3.6e6
_HOUR = 3600.0
_YEAR = 365.25 * 86_400
_FARTHEST = 50.0  # the logarithm of a factor of 0 is without end: this far down there is nothing left either
_UNSTATED = (0.9, 1.1)
"""The error of a row that states none: of the paper's own runs 95 % lie within 3 % of its A100 rows, and 90 % within
10 % of its V100 rows."""

Work = Callable[..., Cost]
"""of prompt tokens, output tokens and, if there are several, choices"""


class Bands(NamedTuple):
    """Factors of each amount, low and high."""

    accelerator_seconds: Factors
    dollars: Factors
    energy_joules: Factors
    carbon_grams: Factors
    water_litres: Factors


@dataclass(frozen=True)
class _Rates:
    """What an accelerator-second, and a joule, stand for on one stack; None where it is not known."""

    dollars: Constant | None
    accelerator: Accelerator | None
    constants: Constants

    @cached_property
    def carbon(self) -> float:
        """Grams of CO2e for a joule that a server draws."""
        return self.constants.pue.value * self.constants.grid.carbon_grams_per_kwh.value / JOULES_PER_KWH

    @cached_property
    def water(self) -> float:
        """Litres of water for a joule that a server draws."""
        return self._water("value") / JOULES_PER_KWH

    def _water(self, which: str) -> float:
        constants = self.constants
        site, pue = getattr(constants.site_water_litres_per_kwh, which), getattr(constants.pue, which)
        return float(site + pue * getattr(constants.grid.water_litres_per_kwh, which))

    @property
    def water_factors(self) -> Factors:
        """The range of `water`, as factors of it."""
        middle = self._water("value")
        return (self._water("low") / middle, self._water("high") / middle) if middle else (1.0, 1.0)

    @property
    def embodied(self) -> float:
        """Grams of CO2e of making the hardware, for an accelerator-second; 0 where they are not counted."""
        constants, device = self.constants, self.accelerator
        if device is None or not constants.embodied_counted:
            return 0.0
        seconds = constants.lifetime_years.value * _YEAR * constants.utilisation.value
        return 1000 * device.embodied_kilograms.value / seconds

    @property
    def embodied_factors(self) -> Factors:
        """The range of `embodied`, as factors of it: more years, and more work in them, leave less for each second."""
        constants, device = self.constants, self.accelerator
        kilograms = device.embodied_kilograms.factors if device else (1.0, 1.0)
        shared = (constants.lifetime_years.factors, constants.utilisation.factors)
        return _together((kilograms, *((1 / high, 1 / low) for low, high in shared)))


class RowCosts:
    """What requests of one row cost: `dedicated` and `served` are None, `flops` gives None, where it does not tell.

    Each takes prompt tokens, all output tokens, and in how many choices these come.
    """

    def __init__(self, row: Row, rates: _Rates, interpolation: Interpolation) -> None:
        self._row, self._rates = row, rates
        self.flops: FlopsFunction | Callable[..., None] = _unknown if row.flops is None else flops_function(row.flops)
        self._bands: dict[Basis, Bands] = {}
        self._watts: dict[Basis, Watts | None] = {}
        self.dedicated = self._work("dedicated", 1, row.coefficients, row.watts, interpolation)
        served = row.served
        self.served: Work | None = None
        if served is not None:
            self.served = self._work("served", served.batch, served.coefficients, served.watts, interpolation)

    def bands(self, basis: Basis) -> Bands | None:
        """The factors of each amount; None where there are none of these costs."""
        return self._bands.get(basis)

    def watts(self, basis: Basis) -> Watts | None:
        """The watts in use, of one accelerator: the row's, or those that stand in for them; None without energy."""
        return self._watts.get(basis)

    def _work(
        self, basis: Basis, batch: int, numbers: Coefficients, watts: Watts | None, interpolation: Interpolation
    ) -> Work | None:
        accelerators, rates = self._row.accelerators, self._rates
        if accelerators is None:
            return None
        power = self._watts[basis] = _power(watts, rates.accelerator)
        bands = self._bands[basis] = _bands(_error(self._row), power, rates)
        encoded = msgspec.Raw(msgspec.json.encode(bands._asdict()))
        seconds = work_function(numbers, interpolation)
        price = None if rates.dollars is None else accelerators * rates.dollars.value / _HOUR
        if power is None:
            return _without_energy(batch, accelerators, price, seconds, encoded)
        factor = accelerators * rates.constants.server_power_factor.value
        joules_output, joules_prompt = factor * power.output, factor * (power.prompt - power.output)
        carbon, water, embodied = rates.carbon, rates.water, accelerators * rates.embodied

        def work(prompt: int, output: int, choices: int = 1) -> Cost:
            first, whole = seconds(prompt, output, choices)
            energy = joules_output * whole + joules_prompt * first
            return Cost(
                batch,
                encoded,
                accelerators * whole,
                None if price is None else price * whole,
                energy,
                carbon * energy + embodied * whole,
                water * energy,
            )

        return work


def _unknown(_prompt: int, _output: int, _choices: int = 1) -> None:
    """FLOPs of a model whose architecture is not known."""


def row_costs(stack: Stack, row: Row, constants: Constants, interpolation: Interpolation = "linear") -> RowCosts:
    """What requests of a stack's row cost."""
    rates = _Rates(dollars_per_hour(stack, constants), accelerator_of(stack, constants), constants)
    return RowCosts(row, rates, interpolation)


def accelerator_of(stack: Stack, constants: Constants) -> Accelerator | None:
    """The device that a stack runs on: one's own for the stack, else as its table or the constants say.

    One's own in the place of another is a move: price and mean watts are then the new device's, as if they were given.
    """
    if stack.name not in constants.moved:
        return constants.accelerators.get(stack.accelerator or constants.stacks.get(stack.name, ""))
    name, before = constants.stacks[stack.name], stack.accelerator or constants.moved[stack.name]
    device = constants.accelerators[name]
    return device if before in (None, name) else replace(device, own=device.own | {"dollars_per_hour", "mean_watts"})


def _without_energy(
    batch: int, accelerators: int, price: float | None, seconds: WorkFunction, bands: msgspec.Raw
) -> Work:
    """The costs on accelerators whose power nobody states."""

    def work(prompt: int, output: int, choices: int = 1) -> Cost:
        whole = seconds(prompt, output, choices)[1]
        return Cost(batch, bands, accelerators * whole, None if price is None else price * whole)

    return work


def dollars_per_hour(stack: Stack, constants: Constants) -> Constant | None:
    """Dollars of an accelerator-hour: one's own for the stack, or the device; else the table's with the device's range,
    else the device's.
    """
    device = accelerator_of(stack, constants)
    own, said = constants.hourly.get(stack.name), stack.dollars_per_accelerator_hour
    if own is not None:
        return own
    if said is None or (device is not None and "dollars_per_hour" in device.own):
        return None if device is None else device.dollars_per_hour
    low, high = device.dollars_per_hour.factors if device else (1.0, 1.0)
    return Constant(said, said * low, said * high, stack.source or stack.name)


def _power(watts: Watts | None, device: Accelerator | None) -> Watts | None:
    """Watts of an accelerator: those of the row, unless somebody gives his own for the device, or the row has none."""
    if device is None or (watts is not None and "mean_watts" not in device.own):
        return watts
    mean = device.mean_watts
    return Watts(mean.value, mean.value, mean.factors, mean.source)


def _error(row: Row) -> Factors:
    """The factors of a row's runtimes between which the truth lies; what is no interval (`profiler check`) is none."""
    match (row.intervals or {}).get("runtime"):
        case [int() | float() as low, int() | float() as high] if 0 < low <= high:
            return low, high
    if row.fit is not None:
        return 1 / (1 + row.fit.p95_error), 1 + row.fit.p95_error
    return (1 / (1 + row.fit_error), 1 + row.fit_error) if row.fit_error is not None else _UNSTATED


def _bands(error: Factors, power: Watts | None, rates: _Rates) -> Bands:
    constants = rates.constants
    drawn = power.interval if power else (1.0, 1.0)
    energy = _together((error, drawn, constants.server_power_factor.factors))
    carbon = _together((energy, constants.pue.factors, constants.grid.carbon_grams_per_kwh.factors))
    if rates.embodied and power:
        used = rates.carbon * constants.server_power_factor.value * power.output
        carbon = _mean(carbon, used, _together((error, rates.embodied_factors)), rates.embodied)
    dollars = _together((error, rates.dollars.factors)) if rates.dollars else error
    return Bands(error, dollars, energy, carbon, _together((energy, rates.water_factors)))


def _mean(one: Factors, weight: float, other: Factors, others: float) -> Factors:
    """The band of a sum of two amounts, which are as large as their weights."""
    share = weight / (weight + others)
    low, high = (share * a + (1 - share) * b for a, b in zip(one, other, strict=True))
    return _rounded(low), _rounded(high)


def _together(factors: Iterable[Factors]) -> Factors:
    """The band of a product of independent numbers, from the bands of each; to four digits, as it goes everywhere."""
    lows, highs = zip(*factors, strict=True)
    return _rounded(exp(-hypot(*map(_log, lows)))), _rounded(exp(hypot(*map(_log, highs))))


def _rounded(factor: float) -> float:
    return float(f"{factor:.4g}")


def _log(factor: float) -> float:
    return max(-_FARTHEST, min(log(factor), _FARTHEST)) if factor > 0 else -_FARTHEST
