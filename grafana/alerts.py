"""The alerts. Each waits, wants enough traffic to judge by, and is one alert even where two views see the same fault.

Gateways and stream workers count the same requests, so that ratios are there once by each `job`: an alert takes the
worse. Severity `critical` is for now, `warning` for the next working day.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from grafana import names, ratios
from grafana.boards.stream import DEAD, unassigned
from grafana.promql import RULE, quantile, selector
from grafana.ratios import Ratio, Volume
from grafana.recording import name_of
from stream import families as f

__all__ = ["Alert", "alerts"]

_ASKED = "{{ or $labels.model `no model` }}"
"""In a summary: requests may name no model, and what the gateway itself refuses has no upstream."""
_PER_HOUR = {"5m": 12, "1h": 1}
LEAST = {"5m": 20, "1h": 50}
"""requests in a window, below which a ratio raises no alert"""


@dataclass(frozen=True, slots=True)
class Alert:
    """An alert; `summary` and `description` are Prometheus' templates."""

    name: str
    group: str
    severity: Literal["critical", "warning"]
    wait: str
    expression: str
    summary: str
    description: str
    lingers: str = ""
    """how long it goes on after its condition ended, so that one that comes and goes is one alert"""

    def rule(self, readme: str) -> dict[str, object]:
        """The rule as Prometheus reads it; its runbook is the README's heading of its name."""
        return {
            "alert": self.name,
            "expr": self.expression,
            "for": self.wait,
            **({"keep_firing_for": self.lingers} if self.lingers else {}),
            "labels": {"severity": self.severity},
            "annotations": {
                "summary": self.summary,
                "description": self.description,
                "runbook_url": f"{readme}#{self.name.lower()}",
            },
        }


def alerts() -> Iterator[Alert]:
    """All of them, by group."""
    yield from _of_providers()
    yield from _of_tables()
    yield from _of_gateways()
    yield from _of_event_logs()
    yield from _of_forwarders()
    yield from _of_otlp()
    yield from _of_stream_workers()


def _enough(volume: Volume, window: str) -> str:
    """Where this many requests came in a window."""
    seconds = 3600 // _PER_HOUR[window]
    return f"{name_of(volume, window)} > {LEAST[window]} / {seconds}"


def _worst(condition: str, ratio: Ratio, window: str, *by: str) -> str:
    """The worst of all views where a condition on a ratio holds, and there is enough traffic to say so."""
    return f"max by ({', '.join(by or ratio.labels)}) (\n  {condition}\n  and {_enough(ratio.volume, window)}\n)"


def _over(ratio: Ratio, window: str, limit: float, *by: str) -> str:
    return _worst(f"{name_of(ratio, window)} > {limit:g}", ratio, window, *by)


def _of_providers() -> Iterator[Alert]:
    contention = name_of(ratios.CONTENTION, "5m")
    hour = name_of(ratios.CONTENTION, "1h")
    rising = f"{contention} > 1.5 * ({hour} offset 1h)\n  and {contention} > {ratios.CONTENDED:g}"
    quarter = ratios.CONTENTION.rate(RULE, "15m", "job", *ratios.CONTENTION.labels)
    yield Alert(
        "TrueclockContentionRising",
        "providers",
        "warning",
        "10m",
        _worst(rising, ratios.CONTENTION, "5m"),
        "{{ $labels.model }} at {{ $labels.upstream }} is slowing down under load",
        "Requests take {{ $value | humanize }} times what this provider needs without contention, half as much again "
        "as an hour or two ago.",
    )
    yield Alert(
        "TrueclockProviderBehindItsBest",
        "providers",
        "warning",
        "5m",
        f"max by (upstream, model) (\n  {quarter} > {ratios.FAR_BEHIND:g}\n  and {_enough(ratios.DENOISED, '5m')}\n)",
        "{{ $labels.model }} at {{ $labels.upstream }} is far behind its own best",
        "Requests of the last quarter of an hour took {{ $value | humanize }} times what this provider needs for them "
        "with nobody else there (denoised).",
        lingers="15m",
    )
    yield Alert(
        "TrueclockBaselineStep",
        "providers",
        "warning",
        "0m",
        f"max by (upstream, model) (increase({f.STEPS.name}[1h])) > 0",
        "{{ $labels.model }} at {{ $labels.upstream }} has changed lastingly",
        "The provider's own best is another one than before: other hardware, other software, or another load that "
        "lasts.",
    )
    yield Alert(
        "TrueclockErrorsHigh",
        "providers",
        "critical",
        "5m",
        _over(ratios.FAILURES, "5m", 0.05),
        f"{_ASKED} at {{{{ or $labels.upstream `the gateway` }}}} fails",
        "{{ $value | humanizePercentage }} of the requests of the last five minutes failed"
        + _most_often(ratios.FAILURES)
        + ".",
    )
    yield Alert(
        "TrueclockRequestsRefused",
        "providers",
        "warning",
        "15m",
        _over(ratios.REFUSALS, "5m", 0.05),
        f"{{{{ or $labels.upstream `the gateway` }}}} refuses requests for {_ASKED}",
        "{{ $value | humanizePercentage }} of the requests of the last five minutes were answered with a status from "
        "400 to 499" + _most_often(ratios.REFUSALS) + ".",
    )


def _most_often(ratio: Ratio) -> str:
    """In an annotation: the most frequent of the reasons for which the requests of a model's ratio failed."""
    chosen = f"{f.REQUESTS.name}{{upstream=%q, model=%q, {', '.join(ratio.over.matchers)}}}"
    asked = f"printf `topk(1, sum by (exclusion_reason) (increase({chosen}[5m])))` $labels.upstream $labels.model"
    return f'{{{{ with {asked} | query }}}}, most often by {{{{ . | first | label "exclusion_reason" }}}}{{{{ end }}}}'


def _of_tables() -> Iterator[Alert]:
    factor = name_of(ratios.STACK_FACTOR, "1h")
    moved = f"abs({factor} / ({factor} offset 1d) - 1) > 0.25"
    faster = name_of(ratios.FASTER_THAN_IDEALIZED, "1h")
    enough = _enough(ratios.COVERED, "1h")
    yield Alert(
        "TrueclockModelUncovered",
        "tables",
        "warning",
        "15m",
        _over(ratios.UNKNOWN_MODEL, "1h", 0.5),
        "No table knows {{ $labels.model }} at {{ $labels.upstream }}",
        "{{ $value | humanizePercentage }} of its completed requests of the last hour have no idealized runtime.",
    )
    yield Alert(
        "TrueclockStackFactorMoved",
        "tables",
        "warning",
        "30m",
        _worst(moved, ratios.STACK_FACTOR, "1h", "upstream", "model"),
        "Tables and observation drift apart for {{ $labels.model }} at {{ $labels.upstream }}",
        "Denoised over idealized runtime has moved by {{ $value | humanizePercentage }} since yesterday.",
    )
    yield Alert(
        "TrueclockFasterThanPossible",
        "tables",
        "warning",
        "30m",
        f"max by (upstream, model) (\n  min by (job, upstream, model) ({faster} and {enough}) > 0.5\n)",
        "{{ $labels.model }} at {{ $labels.upstream }} is faster than every reference stack",
        "{{ $value | humanizePercentage }} of its requests of the last hour took less than the idealized runtime, "
        "even of the reference stack that fits best.",
    )


def _of_gateways() -> Iterator[Alert]:
    yield Alert(
        "TrueclockTargetDown",
        "gateways",
        "critical",
        "2m",
        'up{job=~"(.*/)?trueclock-.*"} == 0',
        "{{ $labels.job }} at {{ $labels.instance }} is down",
        "Prometheus has not been able to scrape it for two minutes.",
    )
    yield Alert(
        "TrueclockNoGateway",
        "gateways",
        "critical",
        "5m",
        f"absent({names.WORKERS.name})",
        "No gateway is scraped at all",
        "There is no target that has the metrics of a gateway: nobody would hear of any other trouble.",
    )
    yield Alert(
        "TrueclockGatewayRestarting",
        "gateways",
        "critical",
        "0m",
        f"sum by (job, instance) (increase({names.RESTARTS.name}[15m])) > 3",
        "Processes of {{ $labels.instance }} keep ending",
        "{{ $value | humanize }} processes of this gateway ended and were replaced in 15 minutes.",
    )
    yield Alert(
        "TrueclockConfigReloadRefused",
        "gateways",
        "warning",
        "5m",
        f"{names.RELOADED.name} == 0",
        "{{ $labels.instance }} refuses its configuration",
        "The file as it is cannot be used; the configuration from before is still in use.",
    )
    yield Alert(
        "TrueclockGatewayOverheadHigh",
        "gateways",
        "warning",
        "10m",
        f"max(\n  {quantile(0.99, f.OVERHEAD, RULE, '5m', 'job')} > 0.05\n"
        f"  and sum by (job) (increase({f.OVERHEAD.name}_count[5m])) > {LEAST['5m']}\n)",
        "The gateway itself slows requests",
        "One request in a hundred waits {{ $value | humanizeDuration }} for the gateway itself.",
    )
    yield Alert(
        "TrueclockSeriesOverflow",
        "gateways",
        "warning",
        "0m",
        f"max by (label) (sum by (job, label) (increase({f.OVERFLOW.name}[1h]))) > 0",
        "Names of {{ $labels.label }} are folded into other",
        "{{ $value | humanize }} events of the last hour have no series of their own for their {{ $labels.label }}.",
    )


def _of_event_logs() -> Iterator[Alert]:
    backlog = names.LOG_BACKLOG.name
    yield Alert(
        "TrueclockEventLogFailing",
        "gateways",
        "critical",
        "2m",
        f"{names.LOG_FAILING.name} > 0",
        "{{ $labels.instance }} cannot write, read or count events",
        "Requests go on, but what they took may be lost.",
    )
    yield Alert(
        "TrueclockEventLogBacklogGrowing",
        "gateways",
        "warning",
        "5m",
        f"min_over_time({backlog}[10m]) > 1000\n  and deriv({backlog}[10m]) > 0",
        "{{ $labels.instance }} does not keep up with its own events",
        "At least {{ $value | humanize }} recorded events have waited to be counted for ten minutes, and they become "
        "more.",
    )
    yield Alert(
        "TrueclockEventsDropped",
        "gateways",
        "critical",
        "0m",
        f"sum by (job, instance, reason) (increase({names.LOG_DROPPED.name}[10m])) > 0",
        "{{ $labels.instance }} lost events ({{ $labels.reason }})",
        "{{ $value | humanize }} events of the last ten minutes are in no count.",
    )


def _of_forwarders() -> Iterator[Alert]:
    backlog = names.FORWARDER_BACKLOG.name
    lost = selector(names.FORWARDED, RULE, 'outcome=~"dead|lost|missed"')
    lost_outcomes = selector(names.FORWARDED_OUTCOMES, RULE, 'result=~"dead|lost|missed"')
    events = f"sum by (job, instance, outcome) (increase({lost}[10m]))"
    # An outcome's "result" is the same as an event's "outcome": one label for both.
    named = f'label_replace(increase({lost_outcomes}[10m]), "outcome", "$1", "result", "(.+)")'
    outcomes = f"sum by (job, instance, outcome) ({named})"
    yield Alert(
        "TrueclockForwarderFailing",
        "forwarders",
        "critical",
        "5m",
        f"{names.FORWARDER_FAILING.name} > 0\n  or {names.FORWARDER_OUTCOMES_FAILING.name} > 0",
        "Events of {{ $labels.instance }} do not get on to Kafka",
        "They stay in its log until Kafka takes them, or until retention deletes them.",
    )
    yield Alert(
        "TrueclockForwarderBacklogGrowing",
        "forwarders",
        "warning",
        "10m",
        f"min_over_time({backlog}[10m]) > 10000\n  and deriv({backlog}[10m]) > 0",
        "{{ $labels.instance }} forwards fewer events than it records",
        "At least {{ $value | humanize }} events have waited for Kafka for ten minutes, and they become more.",
    )
    yield Alert(
        "TrueclockForwarderEventsLost",
        "forwarders",
        "critical",
        "0m",
        f"{events} > 0\n  or {outcomes} > 0",
        "Events or outcomes of {{ $labels.instance }} did not get to the stream workers",
        "{{ $value | humanize }} in ten minutes: {{ $labels.outcome }}.",
    )
    yield Alert(
        "TrueclockFleetFailing",
        "forwarders",
        "warning",
        "10m",
        f"{names.FLEET_FAILING.name} > 0",
        "{{ $labels.instance }} does not hear what stream workers learned",
        "The topic llm.baselines cannot be read; the gateway learns from its own traffic alone.",
    )


def _of_otlp() -> Iterator[Alert]:
    dropped = selector(names.OTLP_SPANS, RULE, 'outcome="dropped"')
    yield Alert(
        "TrueclockOtlpFailing",
        "forwarders",
        "warning",
        "10m",
        f"max by (job, instance) ({names.OTLP_FAILING.name}) > 0",
        "Spans or metrics of {{ $labels.instance }} do not get to the collector",
        "Requests and counts go on; spans wait in the log until retention deletes their events.",
    )
    yield Alert(
        "TrueclockOtlpSpansDropped",
        "forwarders",
        "warning",
        "0m",
        f"sum by (job, instance) (increase({dropped}[10m])) > 0",
        "Spans of {{ $labels.instance }} are lost",
        "{{ $value | humanize }} spans in ten minutes: refused by the collector, or deleted by retention before.",
    )


def _of_stream_workers() -> Iterator[Alert]:
    yield Alert(
        "TrueclockStreamFailing",
        "stream",
        "critical",
        "2m",
        f"{names.STREAM_FAILING.name} > 0",
        "Stream worker {{ $labels.instance }} stands still",
        "Kafka cannot be reached, or a partition's output not be written.",
    )
    yield Alert(
        "TrueclockStreamLagging",
        "stream",
        "warning",
        "5m",
        f"max by (job) ({names.STREAM_LAG_SECONDS.name}) > 60",
        "Stream workers fall behind ({{ $labels.job }})",
        "The worst is {{ $value | humanizeDuration }} behind.",
    )
    yield Alert(
        "TrueclockStreamPartitionsUnassigned",
        "stream",
        "critical",
        "2m",
        f"{unassigned(RULE)} > 0",
        "Partitions have no stream worker ({{ $labels.job }})",
        "{{ $value | humanize }} partitions of llm.requests are nobody's: their events wait.",
    )
    yield Alert(
        "TrueclockStreamDeadLetters",
        "stream",
        "warning",
        "0m",
        f"sum by (job) (increase({selector(names.STREAM_EVENTS, RULE, DEAD)}[10m])) > 0",
        "Events cannot be read ({{ $labels.job }})",
        "{{ $value | humanize }} events of the last ten minutes went to llm.requests.dead.",
    )
    yield Alert(
        "TrueclockStreamTablesFailing",
        "stream",
        "warning",
        "5m",
        f"{names.TABLES_FAILING.name} > 0",
        "Stream worker {{ $labels.instance }} cannot use the tables as they were changed",
        "The former ones stay in use.",
    )
    yield Alert(
        "TrueclockStreamProblemsFailing",
        "stream",
        "warning",
        "10m",
        f"{names.STREAM_PROBLEMS_FAILING.name} > 0",
        "Strategies are not, or not wholly, there ({{ $labels.instance }})",
        "Topics of outcomes or problems are missing, refused or not yet read.",
    )
