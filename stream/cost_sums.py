"""Sums of what requests cost on one reference stack: dedicated and served apart, and of the margin's requests apart.

Sums are plain running sums, in the order of the events, as in `stream.sums`. Their fields stand in stored rows by
position: new ones go to the end, with a default. Units: accelerator-seconds, dollars, joules, grams, litres.

Requests of other bands are added up apart: so a sum's band stays that of its requests, whatever constants come later.
"""

from collections.abc import Sequence
from functools import lru_cache
from itertools import groupby
from operator import attrgetter
from typing import NamedTuple

import msgspec

from stream.cost import Bands
from stream.events import Cost

__all__ = ["Amounts", "ByBand", "CostSums", "Costed", "bands_of", "whole"]


class Costed(NamedTuple):
    """What one request costs on a stack, null where unknown; `billed` are dollars."""

    flops: float | None
    dedicated: Cost | None
    served: Cost | None
    billed: float | None


class Amounts(msgspec.Struct, array_like=True):
    """Requests whose cost is known: those of them whose dollars are, and those whose energy, are counted as well."""

    requests: int = 0
    accelerator_seconds: float = 0.0
    dollars_requests: int = 0
    dollars: float = 0.0
    energy_requests: int = 0
    energy_joules: float = 0.0
    carbon_grams: float = 0.0
    water_litres: float = 0.0
    batch: int = 0
    """of the last one: how many are served at once"""

    def count(self, costs: Sequence[Cost]) -> None:
        """Count requests, at least one."""
        # In locals, as adding to a struct's field takes three times as long.
        seconds, dollars, energy = self.accelerator_seconds, self.dollars, self.energy_joules
        carbon, water, priced, powered = self.carbon_grams, self.water_litres, 0, 0
        for cost in costs:
            seconds += cost.accelerator_seconds
            if cost.dollars is not None:
                dollars += cost.dollars
                priced += 1
            if cost.energy_joules is not None:
                energy += cost.energy_joules
                carbon += cost.carbon_grams or 0.0
                water += cost.water_litres or 0.0
                powered += 1
        self.requests += len(costs)
        self.accelerator_seconds, self.dollars, self.energy_joules = seconds, dollars, energy
        self.carbon_grams, self.water_litres = carbon, water
        self.dollars_requests += priced
        self.energy_requests += powered
        self.batch = costs[-1].batch

    def add(self, more: "Amounts") -> None:
        """Count all that `more` has counted."""
        if not more.requests:
            return
        self.requests += more.requests
        self.accelerator_seconds += more.accelerator_seconds
        self.dollars_requests += more.dollars_requests
        self.dollars += more.dollars
        self.energy_requests += more.energy_requests
        self.energy_joules += more.energy_joules
        self.carbon_grams += more.carbon_grams
        self.water_litres += more.water_litres
        self.batch = more.batch


ByBand = dict[str, Amounts]
"""amounts by their factors, written `low:high,low:high,...` in the order of `Bands`"""

_bands = attrgetter("bands")


def _count(known: ByBand, costs: Sequence[Cost]) -> None:
    """Count requests, those of one band together; of one row all have the very same."""
    for bands, run in groupby(costs, _bands):
        key = _key(bytes(bands))
        amounts = known.get(key)
        if amounts is None:
            amounts = known[key] = Amounts()
        amounts.count(list(run))


@lru_cache(4096)
def _key(bands: bytes) -> str:
    said = msgspec.json.decode(bands) or {}
    pairs = (said.get(name) or (1.0, 1.0) for name in Bands._fields)
    return ",".join(f"{low:.4g}:{high:.4g}" for low, high in pairs)


@lru_cache(4096)
def bands_of(key: str) -> Bands:
    """The factors that a key of `ByBand` stands for."""
    low_high = (pair.split(":") for pair in key.split(","))
    return Bands(*((float(low), float(high)) for low, high in low_high))


def whole(known: ByBand) -> Amounts:
    """The amounts of all bands together."""
    if len(known) == 1:
        return next(iter(known.values()))
    total = Amounts()
    for amounts in known.values():
        total.add(amounts)
    return total


def _add(known: ByBand, more: ByBand) -> None:
    for key, amounts in more.items():
        known.setdefault(key, Amounts()).add(amounts)


class CostSums(msgspec.Struct, array_like=True):
    """Costs of requests on one stack. The margin is of those whose billed dollars and served dollars are both known."""

    flops_requests: int = 0
    flops: float = 0.0
    dedicated: ByBand = {}
    served: ByBand = {}
    margin_requests: int = 0
    margin_billed: float = 0.0
    margin_served: float = 0.0

    def count(self, costed: Sequence[Costed]) -> None:
        """Count requests."""
        alone, shares, computed, all_flops = [], [], 0, self.flops
        for flops, dedicated, served, billed in costed:
            if flops is not None:
                computed += 1
                all_flops += flops
            if dedicated is not None:
                alone.append(dedicated)
            if served is not None:
                shares.append(served)
                if billed is not None and served.dollars is not None:
                    self.margin_requests += 1
                    self.margin_billed += billed
                    self.margin_served += served.dollars
        self.flops_requests += computed
        self.flops = all_flops
        _count(self.dedicated, alone)
        _count(self.served, shares)

    def add(self, more: "CostSums") -> None:
        """Count all that `more` has counted."""
        self.flops_requests += more.flops_requests
        self.flops += more.flops
        _add(self.dedicated, more.dedicated)
        _add(self.served, more.served)
        self.margin_requests += more.margin_requests
        self.margin_billed += more.margin_billed
        self.margin_served += more.margin_served
