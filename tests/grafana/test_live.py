"""The dashboards and rules against a real Prometheus: every expression, and whether the numbers are the event log's.

Twice: a gateway alone, with its embedded stream, and one that forwards to Kafka, with a stream worker beside it.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence

import pytest

from stream.families import FAMILIES, STRATEGIES
from tests.grafana import expressions, truth
from tests.grafana.comparing import Exactly, by_labels, place
from tests.grafana.expressions import Query, Values
from tests.grafana.live import GATEWAY, RULES, STREAM, Stand, live
from tests.grafana.recount import Recount
from tests.grafana.traffic import LARGE, OLD, SMALL, STACKS, UNHEARD
from tests.kafka_broker import Served
from tests.prometheus_server import Sample, missing, missing_promtool, promtool

WITHIN = 0.01
BOARDS = {board["uid"]: board for board in expressions.boards()}
SCRAPE_MILLISECONDS = 500
STREAM_BOARD = "trueclock-stream"
FORWARDING = ("trueclock_forwarder_", "trueclock_fleet_", "trueclock_otlp_")
"""metrics of a gateway with --kafka or --otlp alone: in the cluster it has both"""
WORKERS = re.compile(r"trueclock_stream_(?!tables_info|slowest_save)")
"""metrics of a stream worker alone"""

EMPTY: Mapping[tuple[str, str], str] = {
    **{(board, "Alerts"): "notes on the time axis: no alert fires within seconds" for board in BOARDS},
    ("trueclock-efficiency", "Lasting changes"): "notes on the time axis: a change is lasting after minutes",
    ("trueclock-gateway", "Lasting changes"): "notes on the time axis: a change is lasting after minutes",
    ("trueclock-efficiency", "What changed"): "against an hour and a day before: tests/grafana/test_rules.py has them",
}
"""what is rightly empty, with the reason"""


@pytest.fixture(scope="module", params=["embedded", "cluster"])
def stand(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    if reason := missing():
        pytest.skip(reason)
    broker: Served | None = request.getfixturevalue("broker") if request.param == "cluster" else None
    with live(tmp_path_factory.mktemp(request.param), broker, "test_live.") as started:
        yield started


def choices(stand: Stand, board: str, job: str, stack: str) -> dict[str, list[str]]:
    """What a dashboard's variables offer, asked for in their order."""
    prometheus, chosen, found = stand.prometheus, {}, {}
    for variable in expressions.variables(BOARDS[board]):
        match = expressions.substituted(variable.selector, chosen)
        if variable.result:
            options = [sample.labels[variable.label] for sample in prometheus.instant(match)]
        else:
            options = prometheus.get(f"label/{variable.label}/values", **({"match[]": match} if match else {}))
        found[variable.name] = options
        preferred = {"job": job, "stack": stack}.get(variable.name)
        first = preferred if preferred in options else next(iter(options), "")
        chosen[variable.name] = ".*" if variable.several else first
    return found


def jobs(stand: Stand, board: str) -> list[str]:
    """The jobs that a dashboard offers."""
    return choices(stand, board, GATEWAY, STACKS[0])["job"]


def everything(stand: Stand, job: str, stack: str) -> dict[str, str | Sequence[str]]:
    """All of a job on a stack, as the variables have it."""
    instance = stand.urls[job].removeprefix("http://")
    return {"job": job, "stack": stack, "model": ".*", "upstream": ".*", "instance": instance}


def test_promtool_finds_no_fault() -> None:
    if reason := missing_promtool():
        pytest.skip(reason)
    assert "SUCCESS" in promtool("check", "rules", RULES)


def test_every_variable_offers_what_there_is(stand: Stand) -> None:
    for board in BOARDS:
        if board == STREAM_BOARD and STREAM not in stand.jobs:
            assert jobs(stand, board) == []
            continue
        for job in jobs(stand, board):
            assert job in stand.jobs
            for name, offered in choices(stand, board, job, STACKS[0]).items():
                assert offered, (board, job, name)


def test_the_stack_that_leads_is_the_first(stand: Stand) -> None:
    """Grafana takes the first where none is chosen; the others can be."""
    for board in ("trueclock-efficiency", "trueclock-strategies"):
        for job in jobs(stand, board):
            offered = choices(stand, board, job, STACKS[0])["stack"]
            assert offered[0] == STACKS[0]
            assert len(set(offered)) == len(offered)
            assert len(offered) > 1 or board == "trueclock-strategies"


def test_every_expression_gives_data(stand: Stand) -> None:
    """Each parses, and has at least one number in the range that is shown; also for some models of all."""
    empty = [
        f"{job}: {query.place}: {query.text({**values, **grafana(stand, job)})}"
        for board in BOARDS
        for job in jobs(stand, board)
        for values in (
            everything(stand, job, STACKS[0]),
            {**everything(stand, job, STACKS[0]), "model": [SMALL, LARGE, UNHEARD]},
        )
        for query in expressions.queries(BOARDS[board])
        if not shows(stand, query, job, values) and expected(stand, query)
    ]
    assert not empty, "\n".join(empty)


def expected(stand: Stand, query: Query) -> bool:
    """Whether there is to be data."""
    return (query.board, query.panel) not in EMPTY and has_data(stand, query.expression)


def grafana(stand: Stand, job: str) -> dict[str, str]:
    """Grafana's own variables, for the window of the traffic."""
    return expressions.intervals(stand.windows[job].milliseconds, SCRAPE_MILLISECONDS, SCRAPE_MILLISECONDS)


def shows(stand: Stand, query: Query, job: str, values: Values) -> bool:
    """Whether a panel has anything to show of the window."""
    text, window = query.text({**values, **grafana(stand, job)}), stand.windows[job]
    if query.instant:
        return any(math.isfinite(sample.value) for sample in stand.prometheus.at(text, window.end))
    spans = stand.prometheus.span(text, window.start, window.end, SCRAPE_MILLISECONDS / 1000)
    return any(math.isfinite(value) for series in spans for _, value in series.points)


def test_every_rule_works(stand: Stand) -> None:
    """Prometheus evaluates all of them without a fault, and what is recorded is there."""
    prometheus, rules = stand.prometheus, expressions.rules(RULES)

    def evaluated() -> bool:
        found = [rule for group in prometheus.get("rules")["groups"] for rule in group["rules"]]
        return len(found) == len(rules) and all(rule["health"] != "unknown" for rule in found)

    prometheus.wait(evaluated, "rules are evaluated")
    found = [rule for group in prometheus.get("rules")["groups"] for rule in group["rules"]]
    assert [rule["name"] for rule in found if rule["health"] != "ok" or rule.get("lastError")] == []
    for rule in rules:
        if rule.records and has_data(stand, rule.expression):
            prometheus.wait(lambda name=rule.name: prometheus.instant(name), rule.name)


def test_what_rules_look_at_is_there(stand: Stand) -> None:
    """An alert that is quiet gives no data; what it compares does."""
    absent = [
        f"{rule.name}: {selector}"
        for rule in expressions.rules(RULES)
        for selector in expressions.selectors(rule.expression)
        if has_data(stand, selector) and not stand.prometheus.instant(f"last_over_time({selector}[5m])")
    ]
    assert not absent, "\n".join(absent)


def has_data(stand: Stand, expression: str) -> bool:
    """Whether the programs that run show what an expression looks at."""
    others = WORKERS.search(expression) or any(name in expression for name in FORWARDING)
    return STREAM in stand.jobs or not others


@pytest.mark.parametrize("stack", STACKS)
def test_the_numbers_are_those_of_the_event_log(stand: Stand, stack: str) -> None:
    wrong = [
        f"{job}: {query.place} ({query.legend}): {fault}"
        for board in sorted({board for board, _, _ in truth.FIGURES})
        for job in jobs(stand, board)
        for query in expressions.queries(BOARDS[board])
        if (figure := truth.FIGURES.get(place(query)))
        for fault in figure.faults(
            asked(stand, query, job, everything(stand, job, stack)),
            Recount(stand.events[job], stack, stand.others),
            stand.windows[job].milliseconds / 1000,
            WITHIN,
        )
    ]
    assert not wrong, "\n".join(wrong)


def test_every_figure_counts_something(stand: Stand) -> None:
    """No two zeros agree by having nothing to say: the traffic has some of everything, on one stack or the other."""
    for (board, panel, legend), figure in truth.FIGURES.items():
        if isinstance(figure, Exactly) and (board, panel) not in truth.MAY_BE_ZERO:
            for job in jobs(stand, board):
                recounts = (Recount(stand.events[job], stack, stand.others) for stack in STACKS)
                assert any(value for recount in recounts for value in figure.of(recount).values()), (job, panel, legend)


@pytest.mark.parametrize("stack", STACKS)
def test_what_rules_say_is_in_the_event_log(stand: Stand, stack: str) -> None:
    """Each recording rule, over the window of the traffic instead of its own."""
    wrong = []
    rules = [rule for rule in expressions.rules(RULES) if rule.records]
    for job, events in stand.events.items():
        window, recount = stand.windows[job], Recount(events, stack)
        for rule in rules:
            name = re.sub(r"(5m|1h)$", "", rule.name.partition("trueclock_")[2])
            text = re.sub(r"\[(5m|1h)\]", f"[{window.milliseconds}ms]", rule.expression)
            samples = [
                sample
                for sample in stand.prometheus.at(text, window.end)
                if sample.labels["job"] == job and sample.labels.get("stack", stack) == stack
            ]
            figure = truth.RULES[name]
            wrong += [
                f"{job}: {rule.name}: {fault}"
                for fault in figure.faults(samples, recount, window.milliseconds / 1000, WITHIN)
            ]
    assert rules
    assert not wrong, "\n".join(wrong)


def asked(stand: Stand, query: Query, job: str, values: Values) -> list[Sample]:
    """What a panel shows of the whole window: as a chart does that has but one point for it."""
    window = stand.windows[job]
    spans = ("__range", "__rate_interval", "__interval")
    whole = dict.fromkeys(spans, f"{window.milliseconds}ms")
    text = query.text({**values, **whole, "__range_s": str(window.milliseconds / 1000)})
    return stand.prometheus.at(text, window.end)


def test_some_of_the_models_alone(stand: Stand) -> None:
    """Names with dots and slashes are matched as they are, and the numbers are theirs."""
    chosen = [SMALL, UNHEARD, OLD]
    board = BOARDS["trueclock-efficiency"]
    (query,) = (
        each for each in expressions.queries(board) if (each.panel, each.legend) == ("Providers and models", "requests")
    )
    upstreams = choices(stand, query.board, GATEWAY, STACKS[0])["upstream"]
    values = {**everything(stand, GATEWAY, STACKS[0]), "model": chosen, "upstream": upstreams}
    shown = by_labels(asked(stand, query, GATEWAY, values), ("model",))
    models = [event["model"] for event in stand.events[GATEWAY]]
    assert shown == pytest.approx({(name,): models.count(name) for name in chosen}, rel=WITHIN)


def test_the_worker_has_the_gateways_events(stand: Stand) -> None:
    """Whatever the view, it is the same traffic: what needs no baseline has the same values in both."""
    for job, events in stand.events.items():
        assert len(events) > 50, job
        own = {event["id"]: (event["idealized_runtime_seconds"], event["billed_dollars"]) for event in events}
        others = {
            event["id"]: (event["idealized_runtime_seconds"], event["billed_dollars"])
            for event in stand.events[GATEWAY]
        }
        assert own == others


def test_strategies_are_as_they_were_judged(stand: Stand) -> None:
    """They are worked out anew every few seconds."""
    board, stack = BOARDS["trueclock-strategies"], STACKS[0]
    found = [query for query in expressions.queries(board) if place(query) in truth.SINCE_EVER]
    assert len(found) == len(truth.SINCE_EVER)
    for job in jobs(stand, board["uid"]):
        recount = Recount(stand.all_events[job], stack)
        values = {**everything(stand, job, stack), **grafana(stand, job)}

        def faults(recount: Recount = recount, values: Values = values) -> list[str]:
            return [
                f"{query.place}: {fault}"
                for query in found
                for fault in truth.SINCE_EVER[place(query)].faults(
                    stand.prometheus.instant(query.text(values)), recount, 1, WITHIN
                )
            ]

        stand.prometheus.wait(lambda faults=faults: not faults(), faults)


def test_every_panel_has_its_recount_or_a_reason() -> None:
    there = {place(query) for board in BOARDS.values() for query in expressions.queries(board)}
    panels = {(board, panel) for board, panel, _ in there}
    assert set(EMPTY) <= panels
    assert set(truth.NO_FIGURES) <= panels
    assert {*truth.FIGURES, *truth.SINCE_EVER} <= there
    of_events = [family.name for family in (*FAMILIES, *STRATEGIES)]
    rest = {
        place(query)
        for board in ("trueclock-efficiency", "trueclock-gateway", "trueclock-strategies")
        for query in expressions.queries(BOARDS[board])
        if place(query) not in {*truth.FIGURES, *truth.SINCE_EVER}
        if (query.board, query.panel) not in truth.NO_FIGURES
        if any(name in query.expression for name in of_events)
    }
    assert not rest
