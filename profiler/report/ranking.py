"""The ten models of the paper, ranked by idealized runtime and by idealized cost."""

import csv
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from profiler.compare import PAPER_MODELS, PAPER_STACKS, Compared, compare, price_of
from profiler.compare_plot import figures
from profiler.document import Heading, Part, Section, Table, Text
from profiler.plot import COLOURS, Figure, Folded, Series
from profiler.report.inputs import SHIPPED, Inputs
from profiler.report.stacks import OUTPUT, PROMPT
from profiler.report.words import UNKNOWN, listed, number, seconds, short_name
from stream.coefficients import Tables

__all__ = ["section"]

_FIRST, _SECOND = PAPER_STACKS
_THOUSAND = 1000

_Value = Callable[[Compared], float]


def section(inputs: Inputs) -> Section:
    """On A100 and V100, with the paper's numbers of accelerators and prices."""
    tables = inputs.tables
    compared = compare(tables, PAPER_STACKS, PAPER_MODELS, {(PROMPT, OUTPUT): 1})
    here = {stack: {each.model: each for each in compared if each.stack == stack} for stack in PAPER_STACKS}
    ranks = partial(_ranked, here[_FIRST], here[_SECOND])
    title = f"{PROMPT} prompt and {OUTPUT} output tokens"
    parts: list[Part] = [
        Text(
            f"A request of {title}, alone: seconds on as many accelerators as the paper gives each model, and what"
            f" these cost meanwhile ({_prices(tables)})."
        ),
        *(Text(text) for text in _findings(here[_FIRST], here[_SECOND])),
        ranks("Idealized runtime", "seconds", lambda each: each.mean_runtime_seconds),
        ranks("Idealized cost", "dollars for 1,000 requests", _dollars),
        Table(_HEAD, [_row(here[_FIRST][name], here[_SECOND][name]) for name in here[_FIRST]], sourced=True),
        Folded(
            f"Runtime of {OUTPUT} output tokens by prompt tokens", list(figures(tables, {OUTPUT: compared}, "runtime"))
        ),
        Heading("Mean runtimes of four of the paper's scenarios"),
        Folded("Idealized runtime and cost, A100 against V100", list(_scenarios(tables))),
    ]
    return Section("The paper's ten models, ranked", parts, _short(here[_FIRST]))


def _short(first: dict[str, Compared]) -> str:
    fastest, *_, slowest = first.values()
    best, worst = (f"{each.model} ({seconds(each.mean_runtime_seconds)})" for each in (fastest, slowest))
    times = number(_dollars(slowest) / _dollars(fastest))
    return (
        f"For {PROMPT} prompt and {OUTPUT} output tokens alone on {_FIRST} {best} is the fastest of {len(first)} and"
        f" {worst} the slowest; by dollars they are {times} times apart."
    )


def _prices(tables: Tables) -> str:
    prices = {stack: price_of(tables, stack) for stack in PAPER_STACKS}
    return ", ".join(f"{stack}: ${price.value:g} an accelerator-hour" for stack, price in prices.items() if price)


def _dollars(each: Compared) -> float:
    return _THOUSAND * (each.mean_dollars or 0.0)


def _findings(first: dict[str, Compared], second: dict[str, Compared]) -> Iterator[str]:
    fastest, *_, slowest = first.values()
    times = number(slowest.mean_runtime_seconds / fastest.mean_runtime_seconds)
    dollars = number(_dollars(slowest) / _dollars(fastest))
    yield (
        f"On {_FIRST} {fastest.model} is the fastest and {slowest.model} the slowest, taking {times} times as long;"
        f" by cost they are {dollars} times apart, since the one ran on {fastest.accelerators} and the other on"
        f" {slowest.accelerators} accelerators."
    )
    alike = sum(each.runtime_rank == second[name].runtime_rank for name, each in first.items())
    slower = sum(second[name].mean_runtime_seconds > each.mean_runtime_seconds for name, each in first.items())
    cheaper = [name for name, each in first.items() if _dollars(second[name]) < _dollars(each)]
    yield (
        f"{_SECOND} is slower for {slower} of the {len(first)}, and gives {alike} of them the rank that they have on"
        f" {_FIRST}; it is cheaper for {listed(cheaper) or 'none'}."
    )


def _ranked(first: dict[str, Compared], second: dict[str, Compared], title: str, label: str, value: _Value) -> Figure:
    models = sorted(first, key=lambda name: value(first[name]))
    series = [
        Series(stack, [value(here[name]) for name in models], points=True, dash=stack == _SECOND)
        for stack, here in ((_FIRST, first), (_SECOND, second))
    ]
    note = f"In the order of {_FIRST}."
    return Figure(title, range(len(models)), series, x_label="model", y_label=label, note=note, names=models)


_HEAD = (
    "model", "A100s", "s", "rank", "$ for 1,000", "rank", "V100s", "s", "rank", "$ for 1,000", "rank", "proxy of",
)  # fmt: skip


def _row(first: Compared, second: Compared) -> Sequence[str]:
    return [first.model, *_cells(first), *_cells(second), first.proxy_of or ""]


def _cells(each: Compared) -> Sequence[str]:
    ranks = str(each.runtime_rank), str(each.dollars_rank or UNKNOWN)
    time, dollars = number(each.mean_runtime_seconds), number(_dollars(each))
    return [str(each.accelerators or UNKNOWN), time, ranks[0], dollars, ranks[1]]


def _scenarios(tables: Tables) -> Iterator[Figure]:
    """The paper's own comparison of the two, on four of its scenarios."""
    with (SHIPPED / "paper-scenarios.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["idealized_seconds"] and row["v100_seconds"]]
    for scenario in dict.fromkeys(row["scenario"] for row in rows):
        yield from _scatters(tables, scenario, [row for row in rows if row["scenario"] == scenario])


def _scatters(tables: Tables, scenario: str, rows: Sequence[dict[str, str]]) -> Iterator[Figure]:
    hourly = [_hourly(tables, stack, [row["model"] for row in rows]) for stack in PAPER_STACKS]
    units = {"runtime, seconds": [[1.0] * len(rows)] * 2, "cost, dollars for 1,000": hourly}
    for label, factors in units.items():
        points = [
            (row["model"], float(row["idealized_seconds"]) * one, float(row["v100_seconds"]) * two)
            for row, one, two in zip(rows, *factors, strict=True)
        ]
        ends = [min(min(point[1:]) for point in points), max(max(point[1:]) for point in points)]
        series = [
            Series(short_name(model), [y], points=True, x=[x], colour=place % (COLOURS - 1), beside=True)
            for place, (model, x, y) in enumerate(points)
        ]
        series.append(Series("the same on both", ends, x=ends, dash=True, colour=7))
        title = f"{scenario}: idealized {label.partition(',')[0]}"
        yield Figure(title, ends, series, f"A100: {label}", f"V100: {label}", log_x=True, log_y=True)


def _hourly(tables: Tables, stack: str, models: Sequence[str]) -> list[float]:
    """Dollars of 1,000 seconds of each model's accelerators."""
    price = price_of(tables, stack)
    rows = [tables.row(stack, model) for model in models]
    return [_THOUSAND * (price.value if price else 0.0) * (row.accelerators or 0 if row else 0) / 3600 for row in rows]
