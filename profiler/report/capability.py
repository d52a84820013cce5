"""Efficiency against capability: which models no other beats, and how that changes from raw to idealized runtimes.

A model is on the front of a measure if no other is as good for less, or better for as little. Raw runtime mixes what a
model costs with what its provider makes of it; idealized runtime, dollars, joules and FLOPs are the model's own. Two
sets ship: the paper's ten models on its four scenarios, and black-box APIs of 2022 on many; a file of one's own takes
their place.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from profiler.document import Block, Heading, Part, Section, Table, Text
from profiler.plot import COLOURS, Figure, Folded, Series
from profiler.report.apis import API_SCENARIOS
from profiler.report.inputs import SHIPPED, Inputs
from profiler.report.scenarios import Costed, Scenario, costed, read_scenarios
from profiler.report.words import listed, number, plural, short_name
from profiler.shipped import shipped_stacks
from stream.coefficients import DEFAULT_STACK, Tables
from stream.pareto import pareto

__all__ = ["MEASURES", "PAPER_SCENARIOS", "Measure", "averaged", "front", "ranks", "scored", "section"]

PAPER_SCENARIOS = SHIPPED / "paper-scenarios.csv"
"""The paper's ten models on the four scenarios that it shows."""

_PAPERS = "the paper's scenarios"
_HALF = 0.5
_THOUSAND, _TERA = 1e3, 1e-12
_FEW = 8  # so many scenarios are shown one by one


def _times(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor


@dataclass(frozen=True, slots=True)
class Measure:
    """What a model's mean request takes, less is better. `name` is short, `label` has the unit."""

    name: str
    label: str
    of: Callable[[Costed], float | None]


MEASURES = (
    Measure("raw", "raw runtime, seconds", lambda each: each.scenario.raw_seconds),
    Measure("denoised", "denoised runtime, seconds", lambda each: each.denoised_seconds),
    Measure("idealized", "idealized runtime, seconds", lambda each: each.idealized_seconds),
    Measure("dollars", "idealized dollars for 1,000 requests", lambda each: _times(each.dollars, _THOUSAND)),
    Measure("joules", "idealized joules a request", lambda each: each.joules),
    Measure("TFLOPs", "10¹² FLOPs a request", lambda each: _times(each.flops, _TERA)),
)

_MAIN = _RAW, _IDEALIZED = MEASURES[0], MEASURES[2]


@dataclass(frozen=True, slots=True)
class Point:
    """A model on a scenario, or on the mean of several."""

    model: str
    capability: float
    values: Mapping[str, float | None]


Scored = Mapping[str, Sequence[Point]]
"""Scenario -> its models"""


def section(inputs: Inputs) -> Section:
    """One's own scenarios, else those that ship."""
    parts: list[Part] = []
    if inputs.scenarios is not None:
        stack = _stack(inputs.tables, inputs.told)
        known = costed(inputs.tables, stack, inputs.told)
        parts += _told(known, f"one's own scenarios, on {stack},")
        sets = {"": (known, f"one's own scenarios, on {stack}")}
    else:
        ten = costed(inputs.tables, DEFAULT_STACK, read_scenarios(PAPER_SCENARIOS))
        many = costed(inputs.tables, DEFAULT_STACK, read_scenarios(API_SCENARIOS))
        sets = {"The paper's ten models": (ten, _PAPERS), "Black-box APIs of 2022": (many, "HELM's scenarios of 2022")}
        for title, (known, what) in sets.items():
            parts += [Heading(title), *_told(known, what)]
    return Section("Efficiency against capability", parts, _short_finding(sets.values()))


def _stack(tables: Tables, scenarios: Sequence[Scenario]) -> str:
    """The reference stack that has the most of the models: of several one's own, else the leading one."""
    models, shipped = {each.model for each in scenarios}, shipped_stacks()
    rows = {stack: sum(tables.row(stack, model) is not None for model in models) for stack in tables.references}
    return max(tables.references, key=lambda stack: (rows[stack], stack not in shipped))


def scored(known: Iterable[Costed]) -> dict[str, list[Point]]:
    """By scenario the models whose capability is known; of one that is there twice the first counts."""
    found: dict[str, dict[str, Point]] = {}
    for each in known:
        told = each.scenario
        if told.capability is not None:
            values = {measure.name: measure.of(each) for measure in MEASURES}
            found.setdefault(told.scenario, {}).setdefault(told.model, Point(told.model, told.capability, values))
    return {scenario: list(models.values()) for scenario, models in found.items()}


def front(points: Sequence[Point], measure: str) -> list[Point]:
    """Those that no other beats, the cheapest first."""
    on = pareto([(each.capability, each.values[measure]) for each in points])
    best = [each for each, is_on in zip(points, on, strict=True) if is_on]
    return sorted(best, key=lambda each: each.values[measure] or 0)


def averaged(scenarios: Scored) -> tuple[list[Point], list[str]]:
    """Every model's mean over the same scenarios, and these: of the models that are in at least half as many as any.

    Both runtimes must be known wherever a model counts. A mean of another measure is None unless it is known of all.
    """
    there: dict[str, dict[str, Point]] = {}
    for scenario, points in scenarios.items():
        for each in points:
            if each.values[_RAW.name] is not None and each.values[_IDEALIZED.name] is not None:
                there.setdefault(each.model, {})[scenario] = each
    most = max(map(len, there.values()), default=0)
    models = {model: each for model, each in there.items() if len(each) >= _HALF * most}
    common = [name for name in scenarios if models and all(name in each for each in models.values())]
    if len(common) < 2:  # the mean of one scenario is that scenario
        return [], []
    return [_mean(model, [each[name] for name in common]) for model, each in models.items()], common


def ranks(scenarios: Scored, score: Callable[[float, float], float]) -> dict[str, list[int]]:
    """By model its rank on every scenario by `score` of capability and idealized seconds, the highest first; 1 is best.

    Scenarios count that every model has, as the paper ranks them.
    """
    models = {each.model for points in scenarios.values() for each in points}
    found: dict[str, list[int]] = {}
    for points in scenarios.values():
        scores = {
            each.model: score(each.capability, seconds) for each in points if (seconds := each.values[_IDEALIZED.name])
        }
        if scores.keys() == models:
            for model, own in scores.items():
                found.setdefault(model, []).append(1 + sum(other > own for other in scores.values()))
    return dict(sorted(found.items(), key=lambda item: (fmean(item[1]), item[0])))


def _mean(model: str, points: Sequence[Point]) -> Point:
    values = {}
    for measure in MEASURES:
        column = [value for each in points if (value := each.values[measure.name]) is not None]
        values[measure.name] = fmean(column) if len(column) == len(points) else None
    return Point(model, fmean(each.capability for each in points), values)


def _told(known: Sequence[Costed], what: str) -> Iterator[Part]:
    scenarios = scored(known)
    mean, common = averaged(scenarios)
    yield Text(_finding(_change(scenarios), what))
    yield Text(_sources(known))
    if mean:
        yield from _shown(mean, f"mean of {len(common)} scenarios")
        few = scenarios.items() if len(scenarios) <= _FEW else ()
        shown = [_by_model(points, each, name) for name, points in few for each in _MAIN if _known(points, each)]
        yield from [Folded("Capability, raw and idealized, by scenario", shown)] if shown else []
    elif len(scenarios) <= _FEW:
        for scenario, points in scenarios.items():
            yield from _shown(points, scenario)
    yield _fronts(scenarios) if len(scenarios) <= _FEW else _front_counts(scenarios)
    yield from _ranked(scenarios)


def _shown(points: Sequence[Point], title: str) -> Iterator[Part]:
    """Raw and idealized runtimes, both together and the other measures folded, and a table of all."""
    yield from (_by_model(points, measure, title) for measure in _MAIN if _known(points, measure))
    others = [_both(points, title)] if all(_known(points, measure) for measure in _MAIN) else []
    others += [_by_model(points, each, title) for each in MEASURES if each not in _MAIN and _known(points, each)]
    yield from [Folded(f"Other measures: {title}", others)] if others else []
    yield Table(_head(points, title), _lines(points))


@dataclass(frozen=True, slots=True)
class _Change:
    """How many of `count` fronts change from raw to idealized runtimes, and how often which models are on one alone."""

    count: int
    changed: int
    only_raw: Mapping[str, int]
    only_ideal: Mapping[str, int]


def _change(scenarios: Scored) -> _Change:
    only_raw, only_ideal = Counter[str](), Counter[str]()
    changed = count = 0
    for points in scenarios.values():
        both = [each for each in points if None not in (each.values[_RAW.name], each.values[_IDEALIZED.name])]
        if len(both) < 2:  # a front of one tells nothing
            continue
        raw, ideal = ({each.model for each in front(both, measure.name)} for measure in _MAIN)
        count, changed = count + 1, changed + (raw != ideal)
        only_raw.update(raw - ideal)
        only_ideal.update(ideal - raw)
    return _Change(count, changed, only_raw, only_ideal)


def _finding(change: _Change, what: str) -> str:
    """How the front changes from raw to idealized, over all scenarios where both are known of all its models."""
    if not change.count:
        return f"Of {what} none has two models whose raw and idealized runtimes are both known: no fronts to compare."
    return (
        f"On {change.changed} of {change.count} of {what} the front of idealized runtimes is not that of raw runtimes."
        f" On the raw front only, which they owe to their API and not to the model: {_counted(change.only_raw)}. On the"
        f" idealized front only: {_counted(change.only_ideal)}."
    )


def _short_finding(sets: Iterable[tuple[Sequence[Costed], str]]) -> str:
    """One sentence of all sets of scenarios that have fronts to compare."""
    changes = [(change, what) for known, what in sets if (change := _change(scored(known))).count]
    if not changes:
        return "There are no two models whose raw and idealized runtimes are both known: no fronts to compare."
    clauses = (f"{each.changed} of {each.count} of {what}{_by_api(each)}" for each, what in changes)
    return f"Which models no other beats is not the same by idealized as by raw runtime on {' and on '.join(clauses)}."


def _by_api(change: _Change) -> str:
    most = min(change.only_raw, key=lambda model: (-change.only_raw[model], model), default=None)
    fronts = None if most is None else plural(change.only_raw[most], "raw front")
    return "" if most is None else f" ({most} is on {fronts} by its API's doing alone)"


def _counted(models: Mapping[str, int]) -> str:
    return ", ".join(f"{model} {models[model]}" for model in sorted(models, key=lambda m: (-models[m], m))) or "none"


def _sources(known: Sequence[Costed]) -> str:
    told, past = sum(each.told for each in known), sum(each.extrapolated for each in known)
    unknown = [each.scenario.model for each in known if each.idealized_seconds is None]
    none, named = len(unknown), f" ({listed(dict.fromkeys(unknown))})" if unknown else ""
    counts = {"the file's own": told, "T": len(known) - told - none, f"unknown{named}": none}
    of = ", ".join(f"{name} of {count:,} rows" for name, count in counts.items() if count)
    longer = f" {past:,} prompts are longer than any that was profiled." if past else ""
    return (
        f"Idealized seconds are {of}.{longer} Dollars and joules are of the mean"
        " request alone on the accelerators of the model's row (batch size 1), as far as the tables tell; there are no"
        " joules and FLOPs without tokens, and no FLOPs where the architecture is not public."
    )


def _both(points: Sequence[Point], title: str) -> Figure:
    """Raw and idealized runtimes, with the front of each."""
    series = [
        each
        for colour, measure in enumerate((_RAW, _IDEALIZED))
        for each in (
            _series(measure.name, points, measure, colour, points=True),
            _series(f"{measure.name}, front", front(points, measure.name), measure, colour),
        )
    ]
    note = "Each point: a model. Nothing lies above and to the left of a front."
    return _chart(f"Capability and runtime: {title}", series, "seconds a request", note, title)


def _by_model(points: Sequence[Point], measure: Measure, title: str) -> Figure:
    """One measure, a colour a model, and its front."""
    colours = {model: place % (COLOURS - 1) for place, model in enumerate(sorted(each.model for each in points))}
    order = sorted(points, key=lambda each: -each.capability)
    series = [_series(short_name(each.model), [each], measure, colours[each.model], points=True) for each in order]
    series.insert(0, _series("front", front(points, measure.name), measure, COLOURS - 1))
    note = "The most capable first. Nothing lies above and to the left of the front."
    return _chart(f"Capability and {measure.name}: {title}", series, measure.label, note, title)


def _chart(title: str, series: Sequence[Series], x_label: str, note: str, scale: str) -> Figure:
    """Charts of one scale share their y axis."""
    return Figure(
        title, [], series, x_label, "capability", note, log_x=True, log_y=False, y_scale=scale, from_zero=False
    )


def _series(label: str, which: Sequence[Point], measure: Measure, colour: int, *, points: bool = False) -> Series:
    known = [(value, each.capability) for each in which if (value := each.values[measure.name]) is not None]
    x, y = [value for value, _ in known], [capability for _, capability in known]
    return Series(label, y, points=points, x=x, colour=colour, beside=points and len(which) == 1)


def _head(points: Sequence[Point], title: str) -> tuple[str, ...]:
    return title, "capability", *(measure.name for measure in MEASURES if _known(points, measure))


def _lines(points: Sequence[Point]) -> list[list[str]]:
    """Models, the most capable first, with a star where one is on the front of the measure."""
    best = {measure.name: {each.model for each in front(points, measure.name)} for measure in MEASURES}
    names = [measure.name for measure in MEASURES if _known(points, measure)]
    return [
        [each.model, f"{each.capability:.3f}", *(_cell(each.values[name], each.model in best[name]) for name in names)]
        for each in sorted(points, key=lambda each: -each.capability)
    ]


def _known(points: Sequence[Point], measure: Measure) -> bool:
    return any(each.values[measure.name] is not None for each in points)


def _cell(value: float | None, is_on: bool) -> str:
    return "-" if value is None else f"{number(value)}{' *' if is_on else ''}"


def _fronts(scenarios: Scored) -> Table:
    """The models on each front, the cheapest first."""
    rows = []
    for scenario, points in scenarios.items():
        names = (", ".join(short_name(each.model) for each in front(points, measure.name)) for measure in MEASURES)
        rows.append([scenario, str(len(points)), *(name or "-" for name in names)])
    return Table(("scenario", "models", *(f"front by {measure.name}" for measure in MEASURES)), rows)


def _front_counts(scenarios: Scored) -> Table:
    """On how many scenarios' fronts each model is, of those that have at least two models."""
    contested = [points for points in scenarios.values() if len(points) > 1]
    models = dict.fromkeys(each.model for points in contested for each in points)
    best = {
        measure.name: [{each.model for each in front(points, measure.name)} for points in contested]
        for measure in MEASURES
    }
    known = {
        (each.model, name) for points in contested for each in points for name in best if each.values[name] is not None
    }
    rows = []
    for model in models:
        there = sum(any(each.model == model for each in points) for points in contested)
        counts = (str(sum(model in on for on in best[name])) if (model, name) in known else "-" for name in best)
        rows.append([model, str(there), *counts])
    return Table(("on the front of so many scenarios", "scenarios", *best), rows)


def _ranked(scenarios: Scored) -> Iterator[Block]:
    """The paper's ranks: accuracy over idealized runtime."""
    found = ranks(scenarios, lambda capability, seconds: capability / seconds)
    logarithmic = ranks(scenarios, lambda capability, seconds: capability / math.log1p(seconds))
    if not found:
        return
    count = len(next(iter(found.values())))
    yield Heading("Ranks by capability over idealized runtime")
    yield Text(
        f"Over the {count} scenarios that every model has. The second ranks count log(1 + seconds), which thinks less"
        " of speed; a plain logarithm changes its sign at one second, and with it the order."
    )
    rows = [
        [model, f"{fmean(own):.2f}", f"{min(own)} to {max(own)}", f"{fmean(logarithmic[model]):.2f}"]
        for model, own in found.items()
    ]
    yield Table(("model", "mean rank", "best to worst", "mean rank, logarithm"), rows)
