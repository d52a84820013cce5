"""Figures of the event log, out of which `truth` says what each panel is to show."""

from collections.abc import Callable, Mapping
from statistics import fmean

from tests.grafana.comparing import Entry, Exactly, Figure, Quantile
from tests.grafana.recount import (
    Event,
    Figures,
    Key,
    Recount,
    billed,
    denoised,
    failed,
    one,
    ratio,
    raw,
    retries,
    total,
)
from tests.grafana.traffic import outcomes


def number(of: Callable[[Recount], float]) -> Exactly:
    """One figure."""
    return Exactly((), lambda r: {(): of(r)})


def over(
    events: Callable[[Recount], list[Event]],
    above: Callable[[Recount, Event], float],
    below: Callable[[Recount, Event], float],
    *by: str,
) -> Exactly:
    """Sums over sums of the same requests."""
    return Exactly(
        by,
        lambda r: ratio(
            total(events(r), lambda e: above(r, e), *by),
            total(events(r), lambda e: below(r, e), *by),
        ),
    )


def share(
    which: Callable[[Recount], list[Event]],
    whole: Callable[[Recount], list[Event]],
    *by: str,
) -> Exactly:
    """How many of some requests are those."""
    return Exactly(by, lambda r: ratio(total(which(r), one, *by), total(whole(r), one, *by)))


def slowdown(*by: str) -> Exactly:
    """Raw over idealized runtime of the covered requests."""
    return over(lambda r: r.covered, lambda _, e: raw(e), Recount.idealized, *by)


def contention(*by: str) -> Exactly:
    """Raw over denoised runtime of those that have one."""
    return over(lambda r: r.denoised, lambda _, e: raw(e), lambda _, e: denoised(e), *by)


def stack_factor(*by: str) -> Exactly:
    """Denoised over idealized runtime of those that have both."""
    return over(lambda r: r.decomposed, lambda _, e: denoised(e), Recount.idealized, *by)


def margin(*by: str) -> Exactly:
    """Billed over served dollars of those that have both."""
    return over(lambda r: r.priced, lambda _, e: billed(e), Recount.served_dollars, *by)


def on_each_stack(figure: Exactly) -> Exactly:
    """The same on every stack, told apart by it."""
    return Exactly(
        ("stack", *figure.labels),
        lambda r: {(stack, *key): value for stack in r.stacks for key, value in figure.of(r.on(stack)).items()},
        figure.per_second,
    )


PARTS: Mapping[str, Callable[[Recount, Event], float]] = {
    "model": lambda r, e: r.idealized(e),
    "stack": lambda r, e: denoised(e) - r.idealized(e),
    "contention": lambda _, e: raw(e) - denoised(e),
    "raw": lambda _, e: raw(e),
}
"""where the seconds of a decomposed request went, and all of them"""


def part(name: str, *, of: str) -> Exactly:
    """A part of the decomposed requests' seconds: for each request, or as a share of all of them."""
    below: Callable[[Recount, Event], float] = (lambda _, e: 1.0) if of == "request" else (lambda _, e: raw(e))
    return over(lambda r: r.decomposed, PARTS[name], below)


def mean(events: Callable[[Recount], list[Event]], value: Callable[[Recount, Event], float], *by: str) -> Exactly:
    """A mean over requests."""
    return over(events, value, lambda _, e: 1.0, *by)


def sums(
    value: Callable[[Recount, Event], float],
    *by: str,
    events: Callable[[Recount], list[Event]] = lambda r: r.events,
    rate: bool = False,
    times: float = 1,
) -> Exactly:
    """A total."""
    return Exactly(by, lambda r: total(events(r), lambda e: times * value(r, e), *by), rate)


EXPECTED, CONTENDED_ALONE, CONTENTION_ALONE, UNTOLD = -1.0, 2.0, 1.0, 3.0
"""beyond the shares: as fast as expected; not slow; without idealized runtimes; neither stack nor contention alone"""


def because(r: Recount) -> float:
    """Contention's share of the seconds of stack and contention, or why there is none."""
    contended = bool(r.denoised) and contention().of(r)[()] >= 1.25
    if not r.covered:
        return CONTENTION_ALONE if contended else EXPECTED
    measured = [r.view(event)["provenance"] for event in r.covered].count("measured")
    if slowdown().of(r)[()] < (1.15 if 2 * measured >= len(r.covered) else 1.5):
        return CONTENDED_ALONE if contended else EXPECTED
    whole = {name: sum(PARTS[name](r, event) for event in r.decomposed) for name in PARTS}
    stack, waited = max(whole["stack"], 0.0), max(whole["contention"], 0.0)
    told = {event["id"] for event in r.decomposed}
    untold = sum(raw(event) - r.idealized(event) for event in r.covered if event["id"] not in told)
    return waited / (stack + waited) if stack + waited > max(untold, 0.0) else UNTOLD


def costs(field: str, *, times: float = 1) -> Exactly:
    """An amount of a second, served and dedicated, on the stack."""

    def of(r: Recount) -> Figures:
        bases = ("dedicated", "served")
        return {(basis,): times * sum(map(r.cost(basis, field), r.events)) for basis in bases}

    return Exactly(("basis",), of, per_second=True)


def reasons(field: str, events: Callable[[Recount], list[Event]]) -> Exactly:
    """Requests by model and reason."""

    def of(r: Recount) -> Figures:
        found = total(events(r), one, "model", field)
        return {key: value for key, value in found.items() if key[1]}

    return Exactly(("model", "reason"), of)


def slowdowns(r: Recount) -> list[float]:
    """Of single requests."""
    return [r.slowdown(event) for event in r.covered]


def contentions(r: Recount) -> list[float]:
    """Of single requests."""
    return [raw(event) / denoised(event) for event in r.denoised]


def provenances(r: Recount) -> Figures:
    """Shares of the covered requests."""
    kinds = [str(r.view(event)["provenance"]) for event in r.covered]
    return {(kind,): kinds.count(kind) / len(kinds) for kind in set(kinds)}


def uncovered(r: Recount) -> list[Event]:
    """Completed requests that the leading stack does not cover."""
    return [event for event in r.completed if event["idealized_runtime_seconds"] is None]


def only(
    which: Callable[[Recount, Event], bool], events: Callable[[Recount], list[Event]]
) -> Callable[[Recount], list[Event]]:
    """Those of some requests for which it holds."""
    return lambda r: [event for event in events(r) if which(r, event)]


RATIOS = (
    0.0625,
    0.125,
    0.25,
    0.354,
    0.5,
    0.595,
    0.707,
    0.841,
    1,
    1.19,
    1.41,
    1.68,
    2,
    2.38,
    2.83,
    4,
    5.66,
    8,
    16,
    32,
    64,
)
PAIR = ("upstream", "model")


def everything(r: Recount) -> list[Event]:
    """All requests."""
    return r.events


def all_completed(r: Recount) -> list[Event]:
    """Those that enter ratios."""
    return r.completed


def all_covered(r: Recount) -> list[Event]:
    """Those that the stack covers."""
    return r.covered


def all_denoised(r: Recount) -> list[Event]:
    """Those with a baseline."""
    return r.denoised


def known(
    field: str, events: Callable[[Recount], list[Event]] = everything
) -> Callable[[Recount], dict[Key, list[float]]]:
    """The values of a field, where they are known."""
    return lambda r: {(): [float(event[field]) for event in events(r) if event[field] is not None]}


def quantiles(
    panel: str, of: Callable[[Recount], Mapping[Key, list[float]]], bounds: tuple[float, ...]
) -> dict[Entry, Figure]:
    """A panel's three."""
    return {(panel, f"p{round(100 * at)}"): Quantile(at, of, bounds) for at in (0.5, 0.95, 0.99)}


def errors(*by: str) -> Exactly:
    """The share of the requests that failed."""
    return share(only(lambda _, e: failed(e), everything), everything, *by)


def retried(*by: str) -> Exactly:
    """Attempts after the first, of each request."""
    return mean(everything, lambda _, e: float(retries(e)), *by)


def first_tokens(r: Recount) -> dict[Key, list[float]]:
    """Seconds to the first token by model."""
    found = known("time_to_first_token_seconds")
    models = {event["model"] or "" for event in r.events}
    by_model = {(name,): Recount([e for e in r.events if (e["model"] or "") == name], r.stack) for name in models}
    return {key: numbers for key, one_model in by_model.items() if (numbers := found(one_model)[()])}


def tokens(r: Recount) -> Figures:
    """Input and output tokens."""
    return {
        (kind,): sum(event[field] or 0 for event in r.events)
        for kind, field in (("input", "prompt_tokens"), ("output", "completion_tokens"))
    }


def excluded(r: Recount) -> Figures:
    """Requests that enter no ratio, by reason."""
    found = total(r.events, one, "exclusion_reason")
    return {key: number for key, number in found.items() if key[0]}


def status_classes(r: Recount) -> Figures:
    """Requests by the first digit of their status."""
    kinds = ["none" if event["status"] is None else f"{event['status'] // 100}xx" for event in r.events]
    return {(kind,): kinds.count(kind) for kind in set(kinds)}


FIRST = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 15.0, 20.0, 30.0, 45.0, 60.0)  # fmt: skip
EACH = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)
WHOLE = tuple(0.01 * 2**power for power in range(14))
ADDED = (0.00005, 0.0001, 0.0002, 0.0003, 0.0005, 0.001, 0.002, 0.003, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0)


def fates(r: Recount) -> Figures:
    """A stream worker's events by what became of them."""
    return {("enriched",): float(len(r.events)), **{(name,): float(number) for name, number in r.others.items()}}


BY = ("model", "strategy")


def judged(value: Callable[[list[bool]], float]) -> Exactly:
    """A figure of each strategy by how its answers were judged."""

    def of(_: Recount) -> Figures:
        found: dict[Key, list[bool]] = {}
        for each in outcomes():
            found.setdefault((each["model"], each["strategy"]), []).append(each["correct"])
        return {key: value(answers) for key, answers in found.items()}

    return Exactly(BY, of)


RIGHT, ACCURACY = judged(sum), judged(lambda answers: sum(answers) / len(answers))


def a_right_answer(value: Callable[[Recount, Event], float], answers: Exactly = RIGHT) -> Exactly:
    """What the requests of problems took, over the right answers (or all problems)."""

    def of(r: Recount) -> Figures:
        spent = total([event for event in r.events if event["problem"]], lambda e: value(r, e), *BY)
        return ratio(spent, answers.of(r))

    return Exactly(BY, of)


def pass_costs(value: Callable[[Recount, Event], float]) -> Callable[[Recount], list[float]]:
    """Of each problem that is solved, what the cheapest right answer took."""

    def of(r: Recount) -> list[float]:
        spent = total([event for event in r.events if event["problem"]], lambda e: value(r, e), *BY, "problem")
        found: dict[str, list[float]] = {}
        for each in outcomes():
            if each["correct"]:
                found.setdefault(each["problem"], []).append(spent[each["model"], each["strategy"], each["problem"]])
        return [min(costs) for costs in found.values()]

    return of


def frontier(value: Callable[[Recount, Event], float]) -> Exactly:
    """The mean over the solved problems of what the cheapest right answer took."""
    return number(lambda r: fmean(pass_costs(value)(r)))


def frontiers(r: Recount) -> Figures:
    """The same in dollars, on each basis."""
    dollars = {basis: cost_of(basis, "dollars") for basis in ("dedicated", "served")}
    return {(name,): fmean(pass_costs(value)(r)) for name, value in {**dollars, "billed": billed_dollars}.items()}


def billed_dollars(_: Recount, event: Event) -> float:
    """By the list price."""
    return billed(event)


def problems_held(_: Recount) -> float:
    """How many problems were worked on."""
    return float(len({each["problem"] for each in outcomes()}))


def unsolved(_: Recount) -> float:
    """How many of them have no right answer."""
    return len({each["problem"] for each in outcomes()} - {each["problem"] for each in outcomes() if each["correct"]})


def cost_of(basis: str, field: str) -> Callable[[Recount, Event], float]:
    """An amount of one event."""
    return lambda r, e: r.cost(basis, field)(e)


PROBLEMS_OF_EACH = judged(len)


def rate_of(
    events: Callable[[Recount], list[Event]], value: Callable[[Recount, Event], float] = lambda _, e: 1.0
) -> Exactly:
    """A sum of a second, of each upstream and model."""
    return sums(value, *PAIR, events=events, rate=True)


def faster_than_idealized(*by: str) -> Exactly:
    """The share of the covered requests that were faster than their idealized runtime."""
    return share(only(Recount.faster, all_covered), all_covered, *by)


def faster_than_denoised(*by: str) -> Exactly:
    """The share of those with a denoised runtime that were faster than it."""
    return share(only(lambda _, e: raw(e) < denoised(e), all_denoised), all_denoised, *by)


def extrapolated(*by: str) -> Exactly:
    """The share of the covered requests whose prompt is longer than any that the table was measured at."""
    return share(only(lambda r, e: r.view(e)["coverage"] == "extrapolated", all_covered), all_covered, *by)


def estimated(*by: str) -> Exactly:
    """The share of the requests whose tokens were estimated."""
    return share(only(lambda _, e: e["usage_source"] == "estimated", everything), everything, *by)
