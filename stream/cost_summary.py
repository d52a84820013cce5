"""What page and summary say of the costs of groups of requests, as JSON; null: unknown.

A band of a group's sum is the sum of its requests' bands: price, grid and the like are the same for all of them.
"""

from typing import Any

from stream.coefficients import Tables
from stream.constants import Constant
from stream.cost import Bands, RowCosts, accelerator_of, dollars_per_hour
from stream.cost_sums import ByBand, CostSums, bands_of, whole
from stream.sums import Sums
from stream.table_format import Watts

__all__ = ["constants_in_use", "cost_figures", "watts_in_use"]

_NO_COSTS = CostSums()


def cost_figures(sums: Sums, stack: str) -> dict[str, Any]:
    """What a group's requests cost on a stack, what was billed for them, and the margin."""
    known = sums.costs.get(stack, _NO_COSTS)
    return {
        "flops": known.flops if known.flops_requests else None,
        "flops_requests": known.flops_requests,
        "dedicated": _amounts(known.dedicated),
        "served": _amounts(known.served),
        "billed": {
            "requests": sums.billed_requests,
            "dollars": sums.billed if sums.billed_requests else None,
            "unbilled": sums.unbilled,
        },
        "margin": _margin(known) if known.margin_requests else None,
    }


def _margin(known: CostSums) -> dict[str, Any]:
    return {
        "requests": known.margin_requests,
        "billed_dollars": known.margin_billed,
        "served_dollars": known.margin_served,
        "ratio": known.margin_billed / known.margin_served if known.margin_served > 0 else None,
    }


def _amounts(by_band: ByBand) -> dict[str, Any] | None:
    """Sums; null where no request's is known, or not of as many as the rest."""
    known = whole(by_band)
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
        "bands": {name: _band(by_band, name) for name in Bands._fields},
    }


def _band(by_band: ByBand, name: str) -> list[float] | None:
    """The factors of a sum: the mean of its requests', each with the weight of what it adds."""
    weighed = [(getattr(amounts, name), getattr(bands_of(key), name)) for key, amounts in by_band.items()]
    total = sum(amount for amount, _ in weighed)
    return [sum(amount * band[end] for amount, band in weighed) / total for end in (0, 1)] if total > 0 else None


def watts_in_use(costs: RowCosts | None) -> dict[str, Any] | None:
    """The board power behind a row's energy, in watts of one accelerator: alone and in a batch; null where unknown."""
    if costs is None:
        return None
    dedicated, served = _watts(costs.watts("dedicated")), _watts(costs.watts("served"))
    return {"dedicated": dedicated, "served": served} if dedicated or served else None


def _watts(watts: Watts | None) -> dict[str, Any] | None:
    if watts is None:
        return None
    return {
        "prompt": watts.prompt, "output": watts.output, "interval": list(watts.interval), "source": watts.source,
    }  # fmt: skip


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
