"""The dashboard Stream: do the stream workers keep up, is anything lost, with which tables, what did they learn."""

from grafana_foundation_sdk.models import dashboard as model

from grafana import names
from grafana.board import STREAM_JOB, Row, board, job
from grafana.empty import NO_EVENTS, NOTHING, Empty
from grafana.panels import (
    QUARTER,
    SIXTH,
    THIRD,
    WINDOW,
    About,
    Column,
    Panel,
    Query,
    lines,
    number,
    rows,
    stacked,
)
from grafana.promql import BOARD, View, age, divided, selector
from stream import families as f

__all__ = ["DEAD", "stream", "unassigned"]

_RANGE = "$__range"
_BAD = ((None, "green"), (1.0, "red"))


def unassigned(view: View) -> str:
    """Partitions of llm.requests that no worker has, by job; also where all workers are gone, for a day."""
    there = f"max by (job) (max_over_time({selector(names.TOPIC_PARTITIONS, view)}[1d]))"
    owned = f"sum by (job) ({selector(names.PARTITIONS, view)})"
    return f"{there}\n  - ({owned} or 0 * {there})"


def stream(readme: str) -> model.Dashboard:
    """Build it."""
    text = "Do the stream workers keep up, is anything lost, with which tables do they work, and what did they learn."
    variables = (job(names.PARTITIONS, STREAM_JOB),)
    return board("Stream", text, variables, (_up(), _lost(), _tables(), _learned(), _process()), readme)


def _events(window: str, *by: str, outcome: str = "") -> str:
    matchers = (f'outcome="{outcome}"',) if outcome else ()
    grown = f"rate({selector(names.STREAM_EVENTS, BOARD, *matchers)}[{window}])"
    return f"sum by ({', '.join(by)}) ({grown})" if by else f"sum({grown})"


def _one(title: str, text: str, unit: str, expression: str, *steps: tuple[float | None, str]) -> Panel:
    return number(About(title, text, unit, width=SIXTH, height=4), Query(expression, title), *steps)


def _up() -> Row:
    lag = selector(names.STREAM_LAG, BOARD)
    return Row(
        "Do they keep up?",
        [
            _one("Workers", "Instances that Prometheus can scrape.", "short", f"sum({selector(names.UP, BOARD)})"),
            _one(
                "Lag",
                "The worst worker's: since the end of the last event that it dealt with, where more wait; else 0.",
                "s",
                f"max({selector(names.STREAM_LAG_SECONDS, BOARD)})",
                (None, "green"),
                (10.0, "yellow"),
                (60.0, "red"),
            ),
            _one("Waiting", "Records of all partitions that are not dealt with.", "short", f"sum({lag})"),
            _one("Events a second", "Enriched, mean of the time shown.", "cps", _events(_RANGE, outcome="enriched")),
            _one(
                "Dead letters",
                "Events of the time shown that could not be read. Zero is what to expect.",
                "short",
                f"sum(increase({selector(names.STREAM_EVENTS, BOARD, DEAD)}[{_RANGE}]))",
                *_BAD,
            ),
            _one(
                "Partitions without a worker",
                "Partitions of llm.requests that no worker has. Some seconds at a change of workers are usual.",
                "short",
                f"sum({unassigned(BOARD)})",
                *_BAD,
            ),
            lines(
                About("Lag by worker", "Since the end of the last event dealt with, where more wait; else 0.", "s"),
                Query(selector(names.STREAM_LAG_SECONDS, BOARD), "{{instance}}"),
            ),
            lines(
                About(
                    "Waiting records by partition",
                    "One line that stands still while others fall is one partition's trouble.",
                    "short",
                ),
                Query(f"max by (partition) ({lag})", "{{partition}}"),
            ),
            stacked(
                About(
                    "Events by what became of them",
                    "Events a second: enriched, dead, or a duplicate that was dropped.",
                    "cps",
                    width=THIRD,
                ),
                Query(_events(WINDOW, "outcome"), "{{outcome}}"),
            ),
            stacked(
                About(
                    "Events by worker",
                    "Events a second that each dealt with: even, if partitions and keys are.",
                    "cps",
                    width=THIRD,
                ),
                Query(_events(WINDOW, "instance"), "{{instance}}"),
            ),
            stacked(
                About(
                    "Partitions by worker",
                    "Partitions that are each one's own. The sum is that of llm.requests.",
                    "short",
                    width=THIRD,
                ),
                Query(selector(names.PARTITIONS, BOARD), "{{instance}}"),
            ),
        ],
    )


DEAD = 'outcome="dead"'


def _lost() -> Row:
    def of(title: str, text: str, unit: str, *queries: Query, empty: Empty = NOTHING) -> Panel:
        return lines(About(title, text, unit, empty, QUARTER), *queries)

    def each(family: f.Family, legend: str) -> Query:
        return Query(selector(family, BOARD), "{{instance}}" + legend)

    duplicates = divided(_events(WINDOW, outcome="duplicate"), _events(WINDOW))
    records = f"sum(rate({selector(names.STREAM_RECORDS, BOARD)}[{WINDOW}]))"
    unreadable = f"sum by (topic) (increase({selector(names.STREAM_UNREADABLE, BOARD)}[1h]))"
    requests = f"sum by (result) (rate({selector(names.STREAM_PROBLEM_REQUESTS, BOARD)}[{WINDOW}]))"
    return Row(
        "Is anything lost, or failing?",
        [
            of(
                "Failing",
                "1 while records cannot be read or output not be written; tables cannot be used; strategies are not "
                "wholly there.",
                "short",
                each(names.STREAM_FAILING, ""),
                each(names.TABLES_FAILING, " tables"),
                each(names.STREAM_PROBLEMS_FAILING, " strategies"),
            ),
            of(
                "Dead letters an hour",
                "Events that went to llm.requests.dead, which says why.",
                "short",
                Query(
                    f"sum by (instance) (increase({selector(names.STREAM_EVENTS, BOARD, DEAD)}[1h]))", "{{instance}}"
                ),
            ),
            of(
                "Duplicates",
                "Share of events that were dropped as written before. High after a restart, else near zero.",
                "percentunit",
                Query(duplicates, "duplicates"),
                empty=NO_EVENTS,
            ),
            of(
                "Claims lost an hour",
                "Partitions found claimed by another worker, after a pause of more than ten seconds.",
                "short",
                Query(f"sum by (instance) (increase({selector(names.STREAM_CLAIMS_LOST, BOARD)}[1h]))", "{{instance}}"),
            ),
            of(
                "Events in no window",
                "Late, future and undated ones, of own partitions, as far back as windows are kept.",
                "short",
                Query(f"sum by (reason) ({selector(names.STREAM_LEFT_OUT, BOARD)})", "{{reason}}"),
            ),
            of(
                "Events a record",
                "How well records are filled: 1 is costly for everyone.",
                "short",
                Query(divided(_events(WINDOW), records), "events a record"),
                empty=NO_EVENTS,
            ),
            of(
                "Requests of problems",
                "Requests a second written to llm.problems, or not.",
                "cps",
                Query(requests, "{{result}}"),
            ),
            of(
                "Records passed over an hour",
                "Records of outcomes and problems that were none.",
                "short",
                Query(unreadable, "{{topic}}"),
            ),
        ],
    )


def _tables() -> Row:
    return Row(
        "With which tables?",
        [
            rows(
                About(
                    "Tables by worker",
                    "The version of the tables in use. All have the same, but for some seconds after a change.",
                    "short",
                ),
                ("instance", "version"),
                Column("in use", f"max by (instance, version) ({selector(names.TABLES, BOARD)})", "short", 0),
            ),
            rows(
                About("Programs", "The program's version, and the worker's name.", "short"),
                ("instance", "worker", "version"),
                Column("running", f"max by (instance, worker, version) ({selector(names.BUILD, BOARD)})", "short", 0),
            ),
        ],
    )


def _learned() -> Row:
    problems = f"max({selector(names.PROBLEMS, BOARD)})"
    dropped = f"sum by (reason) (increase({selector(names.PROBLEMS_DROPPED, BOARD)}[1h]))"
    return Row(
        "What did they learn?",
        [
            lines(
                About(
                    "Pairs watched",
                    "Pairs of upstream and model, and those given up for others in an hour.",
                    "short",
                    width=THIRD,
                ),
                Query(selector(names.BASELINE_PAIRS, BOARD), "{{instance}} watched"),
                Query(f"increase({selector(names.BASELINE_PAIRS_DROPPED, BOARD)}[1h])", "{{instance}} given up"),
            ),
            lines(
                About(
                    "Lasting changes an hour", "Steps of providers' own best that workers found.", "short", width=THIRD
                ),
                Query(
                    f"sum by (upstream, model) (increase({selector(f.STEPS, BOARD_OF_JOB)}[1h]))",
                    "{{upstream}} {{model}}",
                ),
            ),
            lines(
                About(
                    "Problems",
                    "Problems that are held (every worker holds all), and those dropped an hour.",
                    "short",
                    width=THIRD,
                ),
                Query(problems, "held"),
                Query(dropped, "dropped: {{reason}}"),
            ),
        ],
    )


BOARD_OF_JOB = {"job": BOARD["job"]}


def _process() -> Row:
    def of(title: str, text: str, unit: str, expression: str) -> Panel:
        return lines(About(title, text, unit, width=THIRD), Query(expression, "{{instance}}"))

    return Row(
        "How are the processes?",
        [
            of(
                "CPU",
                "Cores in use: at 1 a worker can do no more.",
                "short",
                f"rate({selector(names.PROCESS_CPU, BOARD)}[{WINDOW}])",
            ),
            of("Memory", "Resident memory.", "bytes", selector(names.PROCESS_MEMORY, BOARD)),
            of("Uptime", "Since the process was started.", "s", age(names.PROCESS_START)),
        ],
    )
