"""What page and summary say of the costs of groups of requests, as JSON; null: unknown.

A band of a group's sum is the sum of its pairs' bands: price, grid and the like are the same for all of them.
"""

from collections.abc import Iterable
from typing import Any

from stream.coefficients import Tables
from stream.constants import Constant
from stream.cost import Bands, Basis, accelerator_of, dollars_per_hour
from stream.cost_sums import Amounts, CostSums
from stream.sums import Sums

__all__ = ["constants_in_use", "cost_figures"]

RowNames = Iterable[tuple[str | None, Sums]]
"""of each (upstream, model): which of the stack's rows it has, and its sums"""

_NO_COSTS = CostSums()


def cost_figures(whole: Sums, pairs: RowNames, stack: str, tables: Tables) -> dict[str, Any]:
    """What a group's requests cost on a stack, what was billed for them, and the margin."""
    known, pairs = whole.costs.get(stack, _NO_COSTS), list(pairs)
    margin = known.margin_requests > 0
    return {
        "flops": known.flops if known.flops_requests else None,
        "flops_requests": known.flops_requests,
        "dedicated": _amounts(known.dedicated, _bands(pairs, stack, "dedicated", tables)),
        "served": _amounts(known.served, _bands(pairs, stack, "served", tables)),
        "billed": {
            "requests": whole.billed_requests,
            "dollars": whole.billed if whole.billed_requests else None,
            "unbilled": whole.unbilled,
        },
        "margin": {
            "requests": known.margin_requests,
            "billed_dollars": known.margin_billed,
            "served_dollars": known.margin_served,
            "ratio": known.margin_billed / known.margin_served if known.margin_served > 0 else None,
        }
        if margin
        else None,
    }


def _amounts(known: Amounts, bands: dict[str, list[float] | None]) -> dict[str, Any] | None:
    """Sums; null where no request's is known, or not of as many as the rest."""
    if not known.requests:
        return None
    powered = known.energy_requests == known.requests
    return {
        "requests": known.requests,
        "batch": known.batch,
        "accelerator_seconds": known.accelerator_seconds,
        "dollars": known.dollars if known.dollars_requests == known.requests else None,
        "energy_joules": known.energy_joules if powered else None,
        "carbon_grams": known.carbon_grams if powered else None,
        "water_litres": known.water_litres if powered else None,
        "bands": bands,
    }


def _bands(
    pairs: Iterable[tuple[str | None, Sums]], stack: str, basis: Basis, tables: Tables
) -> dict[str, list[float] | None]:
    """The factors of a group's sums: the mean of its pairs' factors, each with the weight of what it adds."""
    weighed: list[tuple[Amounts, Bands]] = []
    for name, sums in pairs:
        amounts = getattr(sums.costs.get(stack, _NO_COSTS), basis)
        row = tables.stacks[stack].rows.get(name or "") if amounts.requests else None
        costs = row and tables.costs(stack, row)
        bands = costs.bands(basis) if costs else None
        if bands is not None:
            weighed.append((amounts, bands))
    return {name: _mean(weighed, name) for name in Bands._fields}


def _mean(weighed: list[tuple[Amounts, Bands]], name: str) -> list[float] | None:
    total = sum(getattr(amounts, name) for amounts, _ in weighed)
    if total <= 0:
        return None
    return [
        sum(getattr(amounts, name) * getattr(bands, name)[end] for amounts, bands in weighed) / total for end in (0, 1)
    ]


def constants_in_use(tables: Tables, stack: str) -> dict[str, Any] | None:
    """The constants behind a stack's costs, each with its range and source; null where there are none."""
    known = tables.constants
    if known is None:
        return None
    device = accelerator_of(tables.stacks[stack], known)
    return {
        "region": known.region,
        "region_label": known.grid.label,
        "accelerator": device and device.label,
        "dollars_per_hour": _shown(dollars_per_hour(tables.stacks[stack], known)),
        "mean_watts": _shown(device.mean_watts if device else None),
        "server_power_factor": _shown(known.server_power_factor),
        "pue": _shown(known.pue),
        "carbon_grams_per_kwh": _shown(known.grid.carbon_grams_per_kwh),
        "water_litres_per_kwh": _shown(known.grid.water_litres_per_kwh),
        "site_water_litres_per_kwh": _shown(known.site_water_litres_per_kwh),
        "embodied_counted": known.embodied_counted,
    }


def _shown(constant: Constant | None) -> dict[str, Any] | None:
    return None if constant is None else constant._asdict()
