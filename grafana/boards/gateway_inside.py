"""Rows of the dashboard Gateway: are events safe, do they get on, how is the process."""

from grafana import names
from grafana.board import Row
from grafana.empty import NO_CONFIGURATION, NO_KAFKA, NO_OTLP, NOTHING, Empty
from grafana.panels import (
    QUARTER,
    WINDOW,
    About,
    Column,
    Panel,
    Query,
    lines,
    rows,
)
from grafana.promql import BOARD, age, selector
from stream import families as f

__all__ = ["exported", "onward", "process", "safe"]


def safe() -> Row:
    """The event log, outcomes and problems."""

    def of(title: str, family: f.Family, text: str, unit: str) -> Panel:
        return lines(About(title, text, unit, width=QUARTER), Query(selector(family, BOARD), "{{instance}}"))

    dropped = f"sum by (instance, reason) (increase({selector(names.LOG_DROPPED, BOARD)}[{WINDOW}]))"
    return Row(
        "Are events safe?",
        [
            of(
                "Backlog of the event log",
                names.LOG_BACKLOG,
                "Recorded events and outcomes that are not counted yet. It returns to zero within a second; what "
                "grows is not.",
                "short",
            ),
            of(
                "Log failing",
                names.LOG_FAILING,
                "1 while events cannot be written, read or counted. Requests go on.",
                "short",
            ),
            lines(
                About(
                    "Events lost, by reason",
                    "Disk (not written), retention (deleted before they were taken), unreadable. Zero is what to "
                    "expect.",
                    "short",
                    width=QUARTER,
                ),
                Query(dropped, "{{instance}} {{reason}}"),
            ),
            of(
                "Slowest commit",
                names.LOG_COMMIT,
                "The longest commit of events since start: replies wait for it.",
                "s",
            ),
            of(
                "Size of the log",
                names.LOG_BYTES,
                "Bytes that the log's data take; retention keeps it bounded.",
                "bytes",
            ),
            of("Rows of the log", names.LOG_ROWS, "From the oldest event held to the newest.", "short"),
            lines(
                About(
                    "Outcomes",
                    "Outcomes a second that were posted, and those that nothing was judged by.",
                    "cps",
                    width=QUARTER,
                ),
                Query(f"sum by (result) (rate({selector(names.OUTCOMES, BOARD)}[{WINDOW}]))", "{{result}}"),
                Query(
                    f"sum by (reason) (rate({selector(names.OUTCOMES_DROPPED, BOARD)}[{WINDOW}]))",
                    "dropped: {{reason}}",
                ),
            ),
            lines(
                About(
                    "Problems", "Problems held, and those no longer held an hour, by reason.", "short", width=QUARTER
                ),
                Query(f"sum({selector(names.PROBLEMS, BOARD)})", "held"),
                Query(
                    f"sum by (reason) (increase({selector(names.PROBLEMS_DROPPED, BOARD)}[1h]))", "dropped: {{reason}}"
                ),
            ),
        ],
    )


def onward() -> Row:
    """The forwarder."""

    def of(title: str, text: str, unit: str, *queries: Query) -> Panel:
        return lines(About(title, text, unit, NO_KAFKA, QUARTER), *queries)

    def each(family: f.Family, legend: str) -> Query:
        return Query(selector(family, BOARD), "{{instance}} " + legend)

    acknowledged = age(names.FORWARDER_ACKNOWLEDGED)
    return Row(
        "Do events get on to Kafka?",
        [
            of(
                "Not acknowledged",
                "Events and outcomes in the log that Kafka has not acknowledged.",
                "short",
                each(names.FORWARDER_BACKLOG, "events"),
                each(names.FORWARDER_BACKLOG_OUTCOMES, "outcomes"),
            ),
            of(
                "Failing",
                "1 while events, outcomes or what stream workers learned do not get through.",
                "short",
                each(names.FORWARDER_FAILING, "events"),
                each(names.FORWARDER_OUTCOMES_FAILING, "outcomes"),
                each(names.FLEET_FAILING, "baselines"),
            ),
            of(
                "Events that left the log",
                "Events a second, by what became of them; all but acknowledged are lost.",
                "cps",
                Query(f"sum by (outcome) (rate({selector(names.FORWARDED, BOARD)}[{WINDOW}]))", "{{outcome}}"),
            ),
            of(
                "Since the last acknowledgement",
                "Grows while Kafka is away, and while there is no traffic.",
                "s",
                Query(acknowledged, "{{instance}}"),
            ),
            of(
                "Outcomes that left their log",
                "Outcomes a second, by what became of them.",
                "cps",
                Query(f"sum by (result) (rate({selector(names.FORWARDED_OUTCOMES, BOARD)}[{WINDOW}]))", "{{result}}"),
            ),
            of(
                "Records",
                "Records a second that Kafka acknowledged; each holds one event or several.",
                "cps",
                Query(
                    f"sum by (instance) (rate({selector(names.FORWARDER_RECORDS, BOARD)}[{WINDOW}]))", "{{instance}}"
                ),
            ),
            of(
                "Bytes",
                "Bytes a second of these, before compression.",
                "Bps",
                Query(f"sum by (instance) (rate({selector(names.FORWARDER_BYTES, BOARD)}[{WINDOW}]))", "{{instance}}"),
            ),
            of(
                "Records of baselines",
                "Records a second of what stream workers learned.",
                "cps",
                Query(f"sum by (instance) (rate({selector(names.FLEET_RECORDS, BOARD)}[{WINDOW}]))", "{{instance}}"),
            ),
        ],
    )


def exported() -> Row:
    """The export by OTLP."""

    def of(title: str, text: str, unit: str, query: Query) -> Panel:
        return lines(About(title, text, unit, NO_OTLP, QUARTER), query)

    spans, points = (
        f"sum by (outcome) (rate({selector(family, BOARD)}[{WINDOW}]))"
        for family in (names.OTLP_SPANS, names.OTLP_POINTS)
    )
    failing = selector(names.OTLP_FAILING, BOARD)
    return Row(
        "Do spans and metrics get to the collector?",
        [
            of("Export failing", "1 while nothing gets there.", "short", Query(failing, "{{instance}} {{signal}}")),
            of("Spans", "Events a second, by what became of their spans.", "cps", Query(spans, "{{outcome}}")),
            of(
                "Spans waiting",
                "Events in the log whose spans are not exported yet.",
                "short",
                Query(selector(names.OTLP_BACKLOG, BOARD), "{{instance}}"),
            ),
            of(
                "Data points",
                "Data points of metrics a second, by what became of them.",
                "cps",
                Query(points, "{{outcome}}"),
            ),
        ],
    )


_ROLE = "{{instance}} {{role}}"


def process() -> Row:
    """Restarts, resources, configuration, what it learned."""
    return Row("How is the process?", [*_resources(), *_configuration(), *_learned()])


def _of(title: str, text: str, unit: str, *queries: Query, empty: Empty = NOTHING) -> Panel:
    return lines(About(title, text, unit, empty, QUARTER), *queries)


def _each(family: f.Family, legend: str = "{{instance}}") -> Query:
    return Query(selector(family, BOARD), legend)


def _resources() -> list[Panel]:
    restarts = f"sum by (instance, role) (increase({selector(names.RESTARTS, BOARD)}[1h]))"
    return [
        _of("Workers", "Processes that serve requests now.", "short", _each(names.WORKERS)),
        _of(
            "Restarts an hour",
            "Processes that ended and were replaced.",
            "short",
            Query(restarts, "{{instance}} {{role}}"),
        ),
        _of(
            "Uptime",
            "Since the process was started; with --workers the control process.",
            "s",
            Query(age(names.PROCESS_START), "{{instance}}"),
        ),
        _of(
            "CPU",
            "Cores in use, by process; with --workers at 1 a process can do no more.",
            "short",
            Query(f"rate({selector(names.ROLE_CPU, BOARD)}[{WINDOW}])", _ROLE),
        ),
        _of(
            "Memory",
            "Resident memory, by process. Pages that processes share count in each.",
            "bytes",
            _each(names.ROLE_MEMORY, _ROLE),
        ),
        _of(
            "File descriptors",
            "Open ones, by process: two for each request in flight, and those of the log.",
            "short",
            _each(names.ROLE_FDS, _ROLE),
        ),
    ]


def _configuration() -> list[Panel]:
    return [
        _of(
            "Configuration in use",
            "1 while the file as it is is in use, 0 while it was refused and the former one is.",
            "short",
            _each(names.RELOADED),
            empty=NO_CONFIGURATION,
        ),
        _of(
            "Age of the configuration",
            "Since the configuration in use was taken.",
            "s",
            Query(age(names.RELOADED_AT), "{{instance}}"),
            empty=NO_CONFIGURATION,
        ),
        _of(
            "Changes of the configuration",
            "Changes an hour, by what became of them.",
            "short",
            Query(
                f"sum by (instance, result) (increase({selector(names.RELOADS, BOARD)}[1h]))",
                "{{instance}} {{result}}",
            ),
            empty=NO_CONFIGURATION,
        ),
    ]


def _learned() -> list[Panel]:
    return [
        _of(
            "Baselines worked out",
            "Baselines an hour that were worked out anew.",
            "short",
            Query(f"sum by (instance) (increase({selector(names.REFITS, BOARD)}[1h]))", "{{instance}}"),
        ),
        _of(
            "Time that baselines took",
            "Share of the time in which baselines were worked out.",
            "percentunit",
            Query(f"sum by (instance) (rate({selector(names.REFIT_SECONDS, BOARD)}[{WINDOW}]))", "{{instance}}"),
        ),
        _of(
            "Pairs watched",
            "Pairs of upstream and model, and those given up for others in an hour.",
            "short",
            _each(names.BASELINE_PAIRS, "{{instance}} watched"),
            Query(f"increase({selector(names.BASELINE_PAIRS_DROPPED, BOARD)}[1h])", "{{instance}} given up"),
        ),
        _of(
            "Slowest save",
            "The longest time that a step of a save held up requests, since start.",
            "s",
            _each(names.SLOWEST_SAVE),
        ),
        lines(
            About(
                "Names folded into other",
                "Events an hour whose model, upstream or reason has no series of its own any more. Zero is what "
                "to expect.",
                "short",
                width=QUARTER,
            ),
            Query(f"sum by (label) (increase({selector(f.OVERFLOW, BOARD)}[1h]))", "{{label}}"),
        ),
        rows(
            About("Versions", "Of the program, by instance.", "short"),
            ("instance", "version"),
            Column("instances", f"count by (instance, version) ({selector(names.BUILD, BOARD)})", "short", 0),
        ),
    ]
