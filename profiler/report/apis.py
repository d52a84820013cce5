"""Raw runtimes of APIs against idealized ones: which were faster than ideal, and what raw runtimes are made of.

The shipped timings are HELM's of 2022, means over the requests of a scenario; recorded events of one's own may stand
beside them. A point that was faster than ideal is a finding: the speed is the API's, not the model's.
"""

import math
from collections.abc import Iterator, Sequence
from statistics import fmean, median, quantiles

from profiler.document import Block, Heading, Part, Section, Table, Text
from profiler.plot import COLOURS, Figure, Series
from profiler.report.inputs import SHIPPED, Inputs
from profiler.report.recorded import Runtimes, by_model, runtimes_of
from profiler.report.scenarios import DENOISED_STACK, Costed, Scenario, costed, read_scenarios
from stream.coefficients import DEFAULT_STACK, Tables

__all__ = ["API_SCENARIOS", "parts_of", "published_pairs", "section"]

API_SCENARIOS = SHIPPED / "api-scenarios.csv"
"""What black-box APIs took on HELM's scenarios."""

_FEW = 10  # so many make a distribution
_DRAWN = 2_000  # points of a colour


def section(inputs: Inputs) -> Section:
    """The shipped timings of 2022, and recorded events where there are any."""
    scenarios = read_scenarios(API_SCENARIOS)
    parts: list[Part] = []
    pairs = published_pairs(scenarios)
    findings = [_finding(pairs, "scenarios of black-box APIs")]
    if inputs.events is not None:
        recorded = runtimes_of(inputs.recorded, inputs.tables)
        findings.insert(0, _finding(recorded, "recorded requests"))
        parts += [Heading("Recorded requests"), *_compared(recorded, "requests")]
        parts += _made_of(by_model([each for each in recorded if each.denoised_seconds is not None]), "requests")
        parts.append(Heading("Black-box APIs of 2022"))
    known = costed(inputs.tables, DEFAULT_STACK, scenarios)
    parts += _compared(pairs, "scenarios")
    parts += _made_of(parts_of(known), "scenarios")
    parts.append(
        Text(
            f"Here idealized is T on {DEFAULT_STACK}, and denoised T on the providers' own hardware ({DENOISED_STACK}),"
            " of each scenario's mean tokens. Other models have no row on both."
        )
    )
    return Section("Raw against idealized runtimes", [*parts, *_beside(known, inputs.tables)], " ".join(findings))


def published_pairs(scenarios: Sequence[Scenario]) -> tuple[Runtimes, ...]:
    """Those that carry both runtimes in the file's own columns."""
    return tuple(
        Runtimes(each.model, each.raw_seconds, each.idealized_seconds)
        for each in scenarios
        if each.raw_seconds is not None and each.idealized_seconds is not None
    )


def parts_of(known: Sequence[Costed]) -> dict[str, list[Runtimes]]:
    """By model the scenarios whose raw, denoised and idealized runtimes are all known, the last two from tables."""
    found = [
        Runtimes(each.scenario.model, each.scenario.raw_seconds, each.table_seconds, each.denoised_seconds)
        for each in known
        if each.scenario.raw_seconds is not None and each.table_seconds is not None
    ]
    return by_model([each for each in found if each.denoised_seconds is not None])


def _compared(runtimes: Sequence[Runtimes], what: str) -> Iterator[Part]:
    yield Text(_finding(runtimes, what))
    if not runtimes:
        return
    models = by_model(runtimes)
    counts = ", ".join(f"{model} {len(each)}" for model, each in by_model([r for r in runtimes if r.faster]).items())
    if counts:
        yield Text(
            f"Faster than ideal: {counts}. Such speed is an optimisation of the API, better hardware or software, and"
            " no property of the model."
        )
    yield _scatter(runtimes, what)
    yield _table(models, what)
    yield _distribution(models, what)


def _finding(runtimes: Sequence[Runtimes], what: str) -> str:
    if not runtimes:
        return f"There are no {what} whose raw and idealized runtimes are both known."
    count, faster = len(runtimes), sum(each.faster for each in runtimes)
    middle = median(each.ratio for each in runtimes)
    return (
        f"Of {count:,} {what} that carry both runtimes, {faster:,} ({faster / count:.0%}) were answered faster than the"
        f" model alone would have been on the reference stack; raw is {middle:.2f} times idealized in the median."
    )


def _scatter(runtimes: Sequence[Runtimes], what: str) -> Figure:
    slower, faster = ([each for each in runtimes if each.faster is which] for which in (False, True))
    series = [
        _cloud(f"slower than ideal ({len(slower):,})", slower, 0),
        _cloud(f"faster than ideal ({len(faster):,})", faster, 1),
    ]
    some = "" if max(len(slower), len(faster)) <= _DRAWN else ", of which some are drawn"
    note = f"Points: {len(runtimes):,} {what}{some}. Above the line the API was faster than the model alone."
    return _against("Idealized against raw runtime", series, "raw runtime, seconds", "idealized, seconds", note)


def _cloud(label: str, runtimes: Sequence[Runtimes], colour: int) -> Series:
    drawn = _some(runtimes)
    raw, ideal = [each.raw_seconds for each in drawn], [each.idealized_seconds for each in drawn]
    return Series(label, ideal, points=True, x=raw, colour=colour)


def _some(runtimes: Sequence[Runtimes]) -> Sequence[Runtimes]:
    """Not more than can be drawn, from everywhere among them."""
    return runtimes[:: math.ceil(len(runtimes) / _DRAWN) or 1]


def _against(title: str, series: Sequence[Series], x_label: str, y_label: str, note: str) -> Figure:
    """Points, and the line where both are the same."""
    every = [value for each in series for column in (each.x or (), each.y) for value in column if value is not None]
    ends = [min(every), max(every)]
    line = Series("y = x", ends, x=ends, colour=COLOURS - 1, dash=True)
    return Figure(title, [], [*series, line], x_label, y_label, note, log_x=True, log_y=True)


def _table(models: dict[str, list[Runtimes]], what: str) -> Table:
    head = ("model", what, "faster than ideal", "raw / idealized, median", "5% to 95%", "sums")
    return Table(head, [_line(model, each) for model, each in models.items()])


def _line(model: str, runtimes: Sequence[Runtimes]) -> list[str]:
    faster, ratios = sum(each.faster for each in runtimes), [each.ratio for each in runtimes]
    cuts = quantiles(ratios, n=20, method="inclusive") if len(ratios) >= _FEW else []
    sums = sum(each.raw_seconds for each in runtimes) / sum(each.idealized_seconds for each in runtimes)
    return [
        model,
        f"{len(runtimes):,}",
        f"{faster:,} ({faster / len(runtimes):.0%})",
        f"{median(ratios):.2f}",
        f"{cuts[0]:.2f} to {cuts[-1]:.2f}" if cuts else "-",
        f"{sums:.2f}",
    ]


def _distribution(models: dict[str, list[Runtimes]], what: str) -> Figure:
    drawn = {model: each for model, each in models.items() if len(each) >= _FEW} or models
    curves = [_cumulated(model, sorted(one.ratio for one in each)) for model, each in list(drawn.items())[:COLOURS]]
    note = f"Left of 1 lie {what} that were faster than ideal."
    label = "raw / idealized runtime"
    return Figure("How far raw is from idealized", [], curves, label, f"share of {what}", note, log_x=True, log_y=False)


def _cumulated(label: str, ratios: Sequence[float]) -> Series:
    """The share of those that are not above each."""
    step = math.ceil(len(ratios) / _DRAWN) or 1
    return Series(label, [(place + 1) / len(ratios) for place in range(0, len(ratios), step)], x=ratios[::step])


def _made_of(models: dict[str, list[Runtimes]], what: str) -> Iterator[Part]:
    """The model, the stack and contention, of those whose denoised runtime is known."""
    every = [each for runtimes in models.values() for each in runtimes]
    if not every:
        return
    below = sum(each.raw_seconds < (each.denoised_seconds or 0) for each in every)
    yield Heading("What raw runtimes are made of")
    yield Text(
        "raw = idealized (the model) + denoised - idealized (the stack) + raw - denoised (contention); sums over sums."
        f" {below:,} of {len(every):,} {what} were faster than denoised."
    )
    head = ("model", what, "raw, mean s", "model", "stack", "contention", "stack factor", "contention factor")
    yield Table((*head, "faster than denoised"), [_parts_line(model, each) for model, each in models.items()])
    raw, denoised, ideal = (f"{name} runtime, seconds" for name in ("raw", "denoised", "idealized"))
    named = [(model, _some(each)) for model, each in list(models.items())[: COLOURS - 1]]
    clouds = [_points(model, each, "raw_seconds", "denoised_seconds") for model, each in named]
    yield _against("Denoised against raw runtime", clouds, raw, denoised, "Below the line: contention took time.")
    clouds = [_points(model, each, "denoised_seconds", "idealized_seconds") for model, each in named]
    note = "Above the line the provider's own stack, without contention, is faster than the reference stack."
    yield _against("Idealized against denoised runtime", clouds, denoised, ideal, note)


def _points(model: str, runtimes: Sequence[Runtimes], x: str, y: str) -> Series:
    column = [[getattr(each, name) for each in runtimes] for name in (x, y)]
    return Series(model, column[1], points=True, x=column[0])


def _parts_line(model: str, runtimes: Sequence[Runtimes]) -> list[str]:
    """Sums over sums."""
    raw, ideal = (fmean(getattr(each, name) for each in runtimes) for name in ("raw_seconds", "idealized_seconds"))
    denoised = fmean(each.denoised_seconds or 0 for each in runtimes)
    below = sum(each.raw_seconds < (each.denoised_seconds or 0) for each in runtimes)
    shares = (f"{part / raw:.0%}" for part in (ideal, denoised - ideal, raw - denoised))
    factors = (f"{denoised / ideal:.2f}", f"{raw / denoised:.2f}")
    return [model, f"{len(runtimes):,}", f"{raw:.3f}", *shares, *factors, f"{below:,}"]


def _beside(known: Sequence[Costed], tables: Tables) -> Iterator[Block]:
    """T of the shipped table beside the idealized runtimes that the file came with."""
    models: dict[str, list[float]] = {}
    for each in known:
        theirs, ours = each.scenario.idealized_seconds, each.table_seconds
        if theirs is not None and ours is not None:
            models.setdefault(each.scenario.model, []).append(theirs / ours)
    if not models:
        return
    yield Heading("The file's idealized runtimes beside T of the tables")
    every = sorted(ratio for ratios in models.values() for ratio in ratios)
    cuts = quantiles(every, n=20, method="inclusive")
    yield Text(
        f"The file's idealized runtimes are those of its authors' coefficients of the time: {median(every):.3f} times"
        f" T of the shipped {DEFAULT_STACK} in the median of {len(every):,} scenarios, {cuts[0]:.2f} to {cuts[-1]:.2f}"
        " of nine in ten. T is of the scenario's mean tokens, theirs the mean over its requests, and they read F"
        " at the next larger profiled prompt."
    )
    head = ("model", "scenarios", "file / T, median", "least", "most", "row")
    rows = [
        [model, f"{len(ratios):,}", f"{median(ratios):.3f}", f"{min(ratios):.2f}", f"{max(ratios):.2f}"]
        for model, ratios in models.items()
    ]
    yield Table(head, [[*line, _row(tables, line[0])] for line in rows], sourced=True)


def _row(tables: Tables, model: str) -> str:
    row = tables.row(DEFAULT_STACK, model)
    assert row is not None  # whoever has T has a row
    return f"{row.name} (proxy of {row.proxy_of})" if row.proxy_of else row.name
