"""The answer of `stream whatif` for people: words and tables, as Markdown or as one HTML page with plots."""

from collections.abc import Iterator, Sequence
from datetime import timedelta

from profiler.document import Block, Heading, Points, Table, Text, as_html, as_markdown, markdown_text
from profiler.plot import Figure, Series, page
from stream.cost import JOULES_PER_KWH
from stream.labels import clean_label
from stream.whatif_answer import Amount, Amounts, Answered, Fleet, Grown, Spread, WhatIf

__all__ = ["conclusion", "html_report", "markdown_report", "report_parts"]

_HOUR = 3600.0
_KILO = 1000.0
_UNKNOWN = "-"
_LEAST = 0.001  # smaller amounts are written with an exponent


def markdown_report(answer: WhatIf) -> str:
    """A Markdown document, whose tables are those of GitHub."""
    blocks = [*_findings(answer), *_growth(answer), *_grounds(answer)]
    return "\n\n".join([f"# {markdown_text(_title(answer))}", *map(as_markdown, blocks)]) + "\n"


def html_report(answer: WhatIf) -> str:
    """One HTML file that needs nothing else, with a plot of the growth if there is any."""
    before = "".join(map(as_html, [*_findings(answer), *_growth(answer)]))
    after = "".join(map(as_html, _grounds(answer)))
    return page(_figures(answer), _title(answer), before=before, after=after)


def report_parts(answer: WhatIf) -> Iterator[Block | Figure]:
    """What it says, its plots in their place, as parts of a document."""
    yield from (*_findings(answer), *_growth(answer), *_figures(answer), *_grounds(answer))


def conclusion(answer: WhatIf) -> str:
    """What it says, in a sentence: of requests served together where that is known, else one at a time."""
    name, side = list(_sides(answer))[-1]
    return f"On {clean_label(answer.stack)}, {name}: {_conclusion(answer, side)}"


def _title(answer: WhatIf) -> str:
    return f"What if {clean_label(answer.model)} had answered?"


# --- what it says


def _findings(answer: WhatIf) -> Iterator[Block]:
    yield Text(_what(answer))
    for name, side in _sides(answer):
        yield Text(f"{name[0].upper()}{name[1:]}: {_conclusion(answer, side)}")
    heads = [name for name, _ in _sides(answer)]
    yield Table(["", *heads], list(_rows(answer)))


def _what(answer: WhatIf) -> str:
    asked = ", ".join(f"{clean_label(name) or 'no model'} ({number:,})" for name, number in answer.models.items())
    tokens = f"{answer.prompt_tokens:,} prompt and {answer.output_tokens:,} output tokens"
    when = ""
    if answer.arrivals is not None:
        first, last = answer.arrivals.first, answer.arrivals.last
        when = f", from {first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M} UTC ({_duration(last - first)})"
        if first == last:
            when = f", at {first:%Y-%m-%d %H:%M} UTC"
    alone = f"each would take {_seconds(answer.idealized_seconds.mean)} in the mean on {clean_label(answer.stack)}"
    recorded = answer.recorded_seconds
    took = f"; as recorded they took {_seconds(recorded.mean)}" if recorded is not None else ""
    billed = "" if answer.billed.dollars is None else f" They were billed {_billed(answer)}."
    recorded_requests = f"{answer.requests:,} recorded request{'' if answer.requests == 1 else 's'}"
    return f"{recorded_requests}, {tokens}{when}, for {asked}. Alone, {alone}{took}.{billed}"


def _conclusion(answer: WhatIf, side: Answered) -> str:
    work = f"the work itself costs {_money(side.work.dollars)}"
    if side.fleet is None:
        return f"{work}."
    wait = f"so that 95% of the requests wait at most {_seconds(answer.max_wait_seconds)}"
    few = f"{side.fleet.accelerators:,} accelerators ({side.accelerators_low:,} to {side.accelerators_high:,}) {wait}"
    return f"{few}; {work}, renting them for the time of the recording {_money(side.fleet.dollars)}."


def _sides(answer: WhatIf) -> Iterator[tuple[str, Answered]]:
    yield "one request at a time", answer.dedicated
    if answer.served is not None:
        yield f"{answer.served.batch} at once on an instance", answer.served


def _rows(answer: WhatIf) -> Iterator[Sequence[str]]:
    sides = [side for _, side in _sides(answer)]
    if all(side.fleet is not None for side in sides):
        yield from _fleet_rows([side.fleet for side in sides if side.fleet is not None])
        fewer = [side.one_fewer for side in sides]
        yield ["p95 wait with one instance fewer", *(_UNKNOWN if each is None else _wait(each) for each in fewer)]
    yield ["a request's own time: p50, p95, p99", *(_percentiles(side.request_seconds) for side in sides)]
    for name in _MEASURES:
        yield [name, *(_measure(name, side.work) for side in sides)]
    per_request = [side.work.dollars and _times(side.work.dollars, _KILO / answer.requests) for side in sides]
    yield ["dollars for 1,000 requests", *map(_money, per_request)]
    if answer.billed.dollars is not None:
        yield ["billed, as recorded", *[_billed(answer) for _ in sides]]


def _billed(answer: WhatIf) -> str:
    billed = answer.billed
    of = "" if billed.requests == answer.requests else f", of {billed.requests:,} requests whose price is known"
    return f"${_number(billed.dollars or 0.0)}{of}"


def _fleet_rows(fleets: Sequence[Fleet]) -> Iterator[Sequence[str]]:
    yield ["accelerators", *(f"{each.accelerators:,}" for each in fleets)]
    yield ["instances of the model", *(f"{each.instances:,}" for each in fleets)]
    yield ["utilisation", *(_UNKNOWN if each.utilisation is None else f"{each.utilisation:.0%}" for each in fleets)]
    yield ["wait: p50, p95, p99", *(_percentiles(each.wait_seconds) for each in fleets)]
    yield ["rent for the recording's time", *(_money(each.dollars) for each in fleets)]


_MEASURES = {
    "accelerator-hours of work": ("accelerator_seconds", _HOUR),
    "dollars of work": ("dollars", 1.0),
    "energy, kWh": ("energy_joules", JOULES_PER_KWH),
    "CO2e, kg": ("carbon_grams", _KILO),
    "water, litres": ("water_litres", 1.0),
}


def _measure(name: str, amounts: Amounts) -> str:
    field, unit = _MEASURES[name]
    amount: Amount | None = getattr(amounts, field)
    return _band(amount and _times(amount, 1 / unit))


def _growth(answer: WhatIf) -> Iterator[Block]:
    if not answer.months or answer.growth is None:
        return
    yield Heading(f"With {answer.growth:+.0%} requests a month")
    yield Text("A month is as if the recording went on day and night, its requests coming so many times faster.")
    for name, grown in _grown(answer):
        head = [name, "requests a month", "accelerators", "rent a month", "work a month", "energy, kWh", "CO2e, kg"]
        yield Table(head, [_month(*each) for each in grown])


def _grown(answer: WhatIf) -> Iterator[tuple[str, list[tuple[int, float, Grown]]]]:
    yield "one at a time", [(each.month, each.requests, each.dedicated) for each in answer.months]
    served = [(each.month, each.requests, each.served) for each in answer.months if each.served is not None]
    if served and answer.served is not None:
        yield f"{answer.served.batch} at once", served


def _month(month: int, requests: float, grown: Grown) -> Sequence[str]:
    return [
        f"month {month}" if month else "now",
        f"{requests:,.0f}",
        f"{grown.accelerators:,} ({grown.accelerators_low:,} to {grown.accelerators_high:,})",
        _money(grown.rent_dollars),
        _money(grown.work.dollars),
        _measure("energy, kWh", grown.work),
        _measure("CO2e, kg", grown.work),
    ]


def _grounds(answer: WhatIf) -> Iterator[Block]:
    yield Heading("What to know of it")
    yield Points(answer.notes)
    if answer.left_out:
        left = ", ".join(f"{clean_label(reason)} {number:,}" for reason, number in answer.left_out.items())
        yield Text(f"Left out: {left}.")
    yield Heading("What it stands on")
    rows = [[each.what, _band(Amount(each.value, each.low, each.high)), each.source] for each in answer.assumptions]
    yield Table(["constant", "value (range)", "source"], rows, sourced=True)
    version = f"{answer.row} of {answer.stack}, coefficient tables {answer.table_version}"
    yield Text(f"Numbers in brackets are bands. Coefficients: {clean_label(version)}.")


def _figures(answer: WhatIf) -> Iterator[Figure]:
    sides = list(_grown(answer)) if answer.months else []
    if not sides:
        return
    months = [each.month for each in answer.months]
    fleets = [
        Series(
            name,
            [each.accelerators for _, _, each in grown],
            [each.accelerators_low for _, _, each in grown],
            [each.accelerators_high for _, _, each in grown],
        )
        for name, grown in sides
    ]
    yield Figure("Accelerators", months, fleets, x_label="months from now", y_label="accelerators", log_x=False)
    rents = [_rents(name, [each.rent_dollars for *_, each in grown]) for name, grown in sides]
    yield Figure("Rent", months, rents, x_label="months from now", y_label="dollars a month", log_x=False)


def _rents(name: str, rents: Sequence[Amount | None]) -> Series:
    return Series(
        name,
        [None if each is None else each.value for each in rents],
        [None if each is None else each.low for each in rents],
        [None if each is None else each.high for each in rents],
    )


# --- how it is written


def _times(amount: Amount, share: float) -> Amount:
    return Amount(amount.value * share, amount.low * share, amount.high * share)


def _band(amount: Amount | None, sign: str = "") -> str:
    if amount is None:
        return _UNKNOWN
    value, low, high = (_number(each) for each in (amount.value, amount.low, amount.high))
    return f"{sign}{value}" if low == high else f"{sign}{value} ({low} to {high})"


def _money(amount: Amount | None) -> str:
    return _band(amount, "$")


def _number(value: float) -> str:
    """Three digits that matter; large numbers whole."""
    if value and abs(value) < _LEAST:
        return f"{value:.2e}"
    rounded = float(f"{value:.3g}")
    return f"{rounded:,.0f}" if abs(rounded) >= 100 else f"{rounded:.3g}"


def _seconds(value: float) -> str:
    return f"{_number(value)} s"


def _percentiles(spread: Spread) -> str:
    return ", ".join(map(_seconds, (spread.p50, spread.p95, spread.p99)))


def _wait(fleet: Fleet) -> str:
    return _seconds(fleet.wait_seconds.p95)


def _duration(time: timedelta) -> str:
    minutes = time.total_seconds() / 60
    for unit, length in (("days", 1440), ("hours", 60)):
        if minutes >= 2 * length:
            return f"{_number(minutes / length)} {unit}"
    return f"{_number(minutes)} minutes"
