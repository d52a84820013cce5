"""What to know of an answer of `stream whatif` before one believes it: notes in words, and every constant in it."""

from collections.abc import Iterator, Sequence
from math import inf

from stream.coefficients import Tables
from stream.constants import Constant
from stream.cost import accelerator_of, dollars_per_hour
from stream.recording import Recording
from stream.table_format import Row, Watts
from stream.whatif_answer import Assumed

__all__ = ["assumptions", "notes"]

_SETTLED = 20.0
"""A recording shorter than so many service times (95th percentile) begins and ends before waits have built up."""


def notes(
    row: Row,
    recording: Recording,
    compressed: Sequence[tuple[int, float]],
    slowest: float,
    *,
    served: bool,
    grows: bool,
) -> Iterator[str]:
    """Sentences. `compressed` has the seconds that the recording lasts by month, `slowest` those of a request (p95).

    `served`: the row says what a batch takes; `grows`: growth was asked for.
    """
    yield "Tokens are as the recorded model counted them; another tokenizer counts others (profiler compare --text)."
    if row.provenance != "measured" or row.proxy_of:
        stands_for = f" (numbers of {row.proxy_of})" if row.proxy_of else ""
        yield f"The runtimes of {row.name} are {row.provenance}{stands_for}."
    past = sum(shape.prompt_tokens > row.coefficients.last_knot for shape in recording.shapes)
    if past:
        share = past / len(recording.shapes)
        yield f"{share:.1%} of the prompts are longer than any that the coefficients come from: extrapolated."
    untimed = sum(at is None for at in recording.moments)
    if untimed == len(recording.moments):
        yield "No request says when it started: the work is counted, a fleet cannot be."
    elif untimed:
        say = "request does not say when it" if untimed == 1 else "requests do not say when they"
        yield f"{untimed:,} {say} started: counted as work, absent from the fleets."
    if grows and not (compressed and compressed[0][1]):
        yield "Growth has no rate to start from: requests must have come at two moments at least."
    if not served:
        yield "The table does not say how many requests an instance can serve at once: only one at a time is counted."
    else:
        yield "Served: every request takes as long as in a full batch, so that waits are bounded from above."
    short = [month for month, seconds in compressed if seconds < _SETTLED * slowest]
    if short:
        when = "now" if short[0] == 0 else f"from month {short[0]} on"
        yield f"The recording is short against a request's own time ({when}): its fleets are lower bounds."
    yield "Energy, carbon and water are of the work; what a rented fleet draws while it idles is not in them."


def assumptions(tables: Tables, row: Row) -> Iterator[Assumed]:
    """The constants that an answer stands on, with their ranges and sources."""
    constants = tables.constants
    if constants is None:
        return
    stack = tables.stacks[tables.reference]
    device, price = accelerator_of(stack, constants), dollars_per_hour(stack, constants)
    if price is not None:
        yield _of("dollars per accelerator-hour", price)
    most = inf if device is None else device.tdp_watts.high
    costs = tables.costs(tables.reference, row)
    if costs is not None:
        yield from _power("one request at a time", costs.watts("dedicated"), most)
        if row.served is not None:
            yield from _power(f"{row.served.batch} at once", costs.watts("served"), most)
    yield _of("server power over that of its accelerators", constants.server_power_factor)
    yield _of("PUE: site power over server power", constants.pue)
    yield _of(f"grams of CO2e per kilowatt-hour, {constants.grid.label}", constants.grid.carbon_grams_per_kwh)
    yield _of(f"litres of water per kilowatt-hour, {constants.grid.label}", constants.grid.water_litres_per_kwh)
    yield _of("litres of water per kilowatt-hour, on site", constants.site_water_litres_per_kwh)
    if constants.embodied_counted and device is not None:
        yield _of("kilograms of CO2e of making an accelerator and its server", device.embodied_kilograms)
        yield _of("years that hardware lives", constants.lifetime_years)
        yield _of("share of its life that hardware works", constants.utilisation)


def _of(what: str, constant: Constant) -> Assumed:
    return Assumed(what, constant.value, constant.low, constant.high, constant.source)


def _power(when: str, watts: Watts | None, most: float) -> Iterator[Assumed]:
    """Watts and their range, of which no board draws more than `most`."""
    if watts is None:
        return
    low, high = watts.interval
    for what, value in (("a prompt", watts.prompt), ("output", watts.output)):
        name = f"watts per accelerator, {what}, {when}"
        yield Assumed(name, value, low * value, max(min(high * value, most), value), watts.source or "the table")
