"""The rules, run by promtool: every alert fires when it should, alone, and none does on healthy traffic."""

import re
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from grafana import ratios
from grafana.alerts import alerts
from grafana.boards.efficiency import efficiency
from grafana.generate import README

RULES = Path(__file__).resolve().parents[2] / "grafana" / "rules" / "trueclock.yaml"
GROUPS = [group["name"] for group in yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]]
ALERTS = {alert.name: alert for alert in alerts()}
GATEWAY = 'job="trueclock-gateway", instance="gateway-1:4001"'
WORKER = 'job="trueclock-stream", instance="worker-1:6066"'
PAIR = 'upstream="openai", model="gpt"'


Series = dict[str, str]
"""promtool's input: a series' selector -> its samples"""

pytestmark = pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")


@dataclass(frozen=True)
class Time:
    """So many minutes, a sample every `step` of them; what series do in it, in promtool's notation."""

    minutes: int
    step: int = 1

    def grows(self, by: float) -> str:
        """A counter, by so much a minute."""
        return f"0+{by * self.step:.12g}x{self.minutes // self.step}"

    def bends(self, before: float, after: float, at: int) -> str:
        """A counter that grows by so much a minute until `at`, and by so much from then on."""
        first = before * at
        until, rest = at // self.step, (self.minutes - at) // self.step - 1
        then = first + after * self.step
        return f"0+{before * self.step:.12g}x{until} {then:.12g}+{after * self.step:.12g}x{rest}"

    def turns(self, before: float, after: float, at: int) -> str:
        """One value until `at`, and another from then on."""
        return f"{before:g}+0x{at // self.step - 1} {after:g}+0x{(self.minutes - at) // self.step}"

    def stays(self, value: float) -> str:
        return f"{value:g}+0x{self.minutes // self.step}"

    def wavers(self, *values: float) -> str:
        return " ".join([f"{value:g}" for value in values] * (self.minutes // self.step // len(values) + 1))


def view(job: str, time: Time) -> Series:
    """What a gateway or a worker counts of one healthy provider: a request a second of 1.5 s, 20% of it contention.

    Beside it a model that was asked a while ago and no more, one that is asked now and then and goes badly, and
    requests without a model.
    """

    def counted(name: str, by: float, labels: str = PAIR) -> Series:
        return {f"{name}{{{job}, {labels}}}": time.grows(by)}

    old, rare, none = (f'upstream="openai", model="{name}"' for name in ("old", "rare", ""))
    done, failed = 'status_class="2xx", exclusion_reason=""', 'status_class="5xx", exclusion_reason="status_503"'
    refused = 'status_class="4xx", exclusion_reason="status_429"'
    left = 'status_class="2xx", exclusion_reason="client_disconnected"'
    found = {
        **counted("trueclock_requests_total", 59.4, f"{PAIR}, {done}"),
        **counted("trueclock_requests_total", 0.3, f"{PAIR}, {failed}"),
        **counted("trueclock_requests_total", 6, f"{PAIR}, {left}"),
        **counted("trueclock_requests_total", 0, f"{PAIR}, {refused}"),
        **counted("trueclock_requests_total", 0, f"{old}, {done}"),
        **counted("trueclock_requests_total", 0.1, f"{rare}, {failed}"),
        **counted("trueclock_requests_total", 0.1, f"{rare}, {done}"),
        **counted("trueclock_requests_total", 30, f"{none}, {done}"),
        **counted("trueclock_uncovered_requests_total", 0.1, f'{rare}, reason="unknown_model"'),
        **counted("trueclock_uncovered_requests_total", 30, f'{none}, reason="no_model"'),
        **counted("trueclock_retries_total", 0.6),
        **counted("trueclock_estimated_usage_total", 1),
        **counted("trueclock_baseline_steps_total", 0),
        **counted("trueclock_series_overflow_total", 0, 'label="model"'),
        **counted("trueclock_faster_than_denoised_total", 3),
        **counted("trueclock_gateway_overhead_seconds_bucket", 59.9, 'le="0.001"'),
        **counted("trueclock_gateway_overhead_seconds_bucket", 60, 'le="0.1"'),
        **counted("trueclock_gateway_overhead_seconds_bucket", 60, 'le="+Inf"'),
        f"trueclock_gateway_overhead_seconds_count{{{job}}}": time.grows(60),
        f"up{{{job}}}": time.stays(1),
    }
    for pair, raw, denoised, requests in ((PAIR, 90, 75, 59.4), (rare, 5, 1, 0.2), (old, 0, 0, 0)):
        found |= counted("trueclock_raw_of_denoised_runtime_seconds_total", raw, pair)
        found |= counted("trueclock_denoised_runtime_seconds_total", denoised, pair)
        found |= counted("trueclock_contention_ratio_count", requests, pair)
    # Neither is a mild rise within an hour, nor a handful of requests that are all faster than every table.
    busy = 'upstream="openai", model="busy"'
    found |= {
        f"trueclock_raw_of_denoised_runtime_seconds_total{{{job}, {busy}}}": time.bends(82.5, 105, time.minutes // 2),
        **counted("trueclock_denoised_runtime_seconds_total", 75, busy),
        **counted("trueclock_contention_ratio_count", 60, busy),
        **counted("trueclock_slowdown_ratio_count", 0.2, f'{rare}, stack="h100"'),
        **counted("trueclock_faster_than_idealized_total", 0.2, f'{rare}, stack="h100"'),
    }
    for stack, idealized, faster in (("v100", 100, 55), ("h100", 50, 0.594)):
        labels = f'{PAIR}, stack="{stack}"'
        found |= {
            **counted("trueclock_raw_runtime_seconds_total", 90, labels),
            **counted("trueclock_idealized_runtime_seconds_total", idealized, labels),
            **counted("trueclock_slowdown_ratio_count", 59.4, labels),
            **counted("trueclock_faster_than_idealized_total", faster, labels),
            **counted("trueclock_covered_requests_total", 59.4, f'{labels}, provenance="measured"'),
            **counted("trueclock_decomposed_requests_total", 59.4, labels),
            **counted("trueclock_raw_of_decomposed_runtime_seconds_total", 90, labels),
            **counted("trueclock_denoised_of_decomposed_runtime_seconds_total", 75, labels),
            **counted("trueclock_idealized_of_decomposed_runtime_seconds_total", idealized, labels),
        }
    return found


def processes(time: Time) -> Series:
    """What gateway and worker say of themselves, in good order."""
    gateway = {
        "event_log_failing": time.stays(0),
        "event_log_backlog": time.wavers(0, 30, 2),
        'events_dropped_total reason="disk"': time.stays(7),
        'gateway_restarts_total role="worker"': time.turns(0, 1, 30),
        "gateway_workers": time.stays(1),
        "config_last_reload_successful": time.stays(1),
        "forwarder_failing": time.stays(0),
        "forwarder_outcomes_failing": time.stays(0),
        "forwarder_backlog_events": time.wavers(40, 90, 10),
        'forwarder_events_total outcome="acknowledged"': time.grows(60),
        'forwarder_events_total outcome="lost"': time.stays(3),
        'forwarder_outcomes_total result="dead"': time.stays(0),
        "fleet_failing": time.stays(0),
        'otlp_failing signal="traces"': time.stays(0),
        'otlp_failing signal="metrics"': time.stays(0),
        'otlp_spans_total outcome="dropped"': time.stays(0),
    }
    worker = {
        "failing": time.stays(0),
        "tables_failing": time.stays(0),
        "problems_failing": time.stays(0),
        "lag_seconds": time.wavers(0, 2, 0),
        "partitions": time.stays(12),
        "topic_partitions": time.stays(12),
        'events_total outcome="dead"': time.stays(0),
    }
    own = {_named("trueclock_", name, GATEWAY): samples for name, samples in gateway.items()}
    own['trueclock_stream_lag_seconds{job="trueclock-stream", instance="worker-2:6066"}'] = time.stays(3)
    own |= {_named("trueclock_stream_", name, WORKER): samples for name, samples in worker.items()}
    return own


def healthy(time: Time) -> Series:
    """Two views of the same healthy traffic, and gateway and worker in good order."""
    return view(GATEWAY, time) | view(WORKER, time) | processes(time)


def _named(prefix: str, name: str, job: str) -> str:
    metric, _, labels = name.partition(" ")
    return f"{prefix}{metric}{{{', '.join(filter(None, (job, labels)))}}}"


@dataclass(frozen=True)
class Trouble:
    """What makes an alert fire: the samples in place of the healthy ones, and what the alert then says.

    `samples` go to every series whose selector matches the pattern `series`; if none does, it is a series to add.
    """

    series: str
    samples: Callable[[Time], str]
    labels: Mapping[str, str]
    value: str = ""
    reason: str = ""
    """the most frequent of those for which requests failed"""
    at: int = 40
    """the minute"""
    time: Time = Time(80, 2)


PROVIDER = {"upstream": "openai", "model": "gpt"}
ON_GATEWAY = {"job": "trueclock-gateway", "instance": "gateway-1:4001"}
ON_WORKER = {"job": "trueclock-stream", "instance": "worker-1:6066"}
WORKERS = {"job": "trueclock-stream"}
A_DAY = Time(26 * 60, 10)


def fails() -> Callable[[Time], str]:
    return lambda time: time.turns(0, 1, 20)


def counts(before: float, after: float) -> Callable[[Time], str]:
    """A counter that jumps, some minutes before it is looked at."""
    return lambda time: time.turns(before, after, 34)


TROUBLES = {
    "TrueclockRequestsRefused": Trouble(
        'requests_total.*"gpt".*4xx', lambda time: time.grows(7.3), PROVIDER, "10%", "status_429"
    ),
    "TrueclockContentionRising": Trouble(
        'raw_of_denoised.*"gpt"', lambda time: time.bends(90, 142.5, 60), PROVIDER, "1.9", at=76
    ),
    "TrueclockProviderBehindItsBest": Trouble('raw_of_denoised.*"gpt"', lambda time: time.grows(225), PROVIDER, "3"),
    "TrueclockBaselineStep": Trouble("baseline_steps", counts(0, 1), PROVIDER),
    "TrueclockErrorsHigh": Trouble(
        'requests_total.*"gpt".*5xx', lambda time: time.grows(7.27), PROVIDER, "10%", "status_503"
    ),
    "TrueclockModelUncovered": Trouble(
        f'trueclock_uncovered_requests_total{{{GATEWAY}, {PAIR}, reason="unknown_model"}}',
        lambda time: time.grows(59.4),
        PROVIDER,
        "100%",
    ),
    "TrueclockStackFactorMoved": Trouble(
        "denoised_of_decomposed", lambda time: time.bends(75, 120, 1380), PROVIDER, "60%", at=1500, time=A_DAY
    ),
    "TrueclockFasterThanPossible": Trouble(
        'faster_than_idealized.*"h100"', lambda time: time.grows(35.64), PROVIDER, "60%", at=60
    ),
    "TrueclockTargetDown": Trouble("^up.*worker", lambda time: time.turns(1, 0, 20), ON_WORKER),
    "TrueclockNoGateway": Trouble("gateway_workers", lambda _: "1+0x9 stale", {}),
    "TrueclockGatewayRestarting": Trouble("restarts_total", lambda time: time.bends(0, 1, 20), ON_GATEWAY, "15"),
    "TrueclockConfigReloadRefused": Trouble("reload_successful", lambda time: time.turns(1, 0, 20), ON_GATEWAY),
    "TrueclockGatewayOverheadHigh": Trouble('overhead.*"0.001"', lambda time: time.stays(0), {}, "99.01ms"),
    "TrueclockSeriesOverflow": Trouble("overflow", counts(0, 5), {"label": "model"}, "5"),
    "TrueclockEventLogFailing": Trouble("log_failing", fails(), ON_GATEWAY),
    "TrueclockEventLogBacklogGrowing": Trouble("log_backlog", lambda time: time.bends(0, 500, 20), ON_GATEWAY, "5k"),
    "TrueclockEventsDropped": Trouble("events_dropped", counts(7, 12), {**ON_GATEWAY, "reason": "disk"}, "5"),
    "TrueclockForwarderFailing": Trouble("forwarder_failing", fails(), ON_GATEWAY),
    "TrueclockForwarderBacklogGrowing": Trouble("backlog_events", lambda time: time.grows(2000), ON_GATEWAY, "60k"),
    "TrueclockForwarderEventsLost": Trouble(
        'forwarder_events.*"lost"', counts(3, 5), {**ON_GATEWAY, "outcome": "lost"}, "2"
    ),
    "TrueclockFleetFailing": Trouble("fleet_failing", fails(), ON_GATEWAY),
    "TrueclockOtlpFailing": Trouble('otlp_failing.*"traces"', fails(), ON_GATEWAY),
    "TrueclockOtlpSpansDropped": Trouble("otlp_spans", counts(0, 4), ON_GATEWAY, "4"),
    "TrueclockStreamFailing": Trouble("stream_failing", fails(), ON_WORKER),
    "TrueclockStreamLagging": Trouble("lag_seconds.*worker-1", lambda time: time.turns(0, 600, 20), WORKERS, "10m 0s"),
    "TrueclockStreamPartitionsUnassigned": Trouble(
        "stream_partitions", lambda time: time.turns(12, 9, 20), WORKERS, "3"
    ),
    "TrueclockStreamDeadLetters": Trouble("stream_events.*dead", counts(0, 2), WORKERS, "2"),
    "TrueclockStreamTablesFailing": Trouble("tables_failing", fails(), ON_WORKER),
    "TrueclockStreamProblemsFailing": Trouble("problems_failing", fails(), ON_WORKER),
}

MORE = {
    "all workers are gone": (
        "TrueclockStreamPartitionsUnassigned",
        Trouble("stream_(topic_)?partitions", lambda _: "12+0x9 stale", WORKERS, "12"),
    ),
    "outcomes are lost": (
        "TrueclockForwarderEventsLost",
        Trouble("forwarder_outcomes_total", counts(0, 6), {**ON_GATEWAY, "outcome": "dead"}, "6"),
    ),
    "only outcomes do not get on": (
        "TrueclockForwarderFailing",
        Trouble("forwarder_outcomes_failing", fails(), ON_GATEWAY),
    ),
    "only one view sees it": (
        "TrueclockProviderBehindItsBest",
        Trouble('raw_of_denoised.*worker.*"gpt"', lambda time: time.grows(225), PROVIDER, "3"),
    ),
    "the gateway itself refuses": (
        "TrueclockRequestsRefused",
        Trouble(
            f'trueclock_requests_total{{{GATEWAY}, upstream="", model="nope", status_class="4xx", '
            'exclusion_reason="model_not_found"}',
            lambda time: time.grows(30),
            {"model": "nope"},
            "100%",
            "model_not_found",
        ),
    ),
}
"""what else raises an alert"""


def with_trouble(trouble: Trouble) -> Series:
    """Healthy series but for the trouble's; traffic only where it is about that: ratios of it take most of the time."""
    series = processes(trouble.time)
    found = [selector for selector in series if re.search(trouble.series, selector)]
    if not found:
        series = healthy(trouble.time)
        found = [selector for selector in series if re.search(trouble.series, selector)]
    return series | dict.fromkeys(found or [trouble.series], trouble.samples(trouble.time))


def text(template: str, trouble: Trouble) -> str:
    """What a template says, with the value as it is to be written."""
    template = re.sub(r"\{\{ with .+? \}\}(.+?)\{\{.+\}\}\{\{ end \}\}", rf"\1{trouble.reason}", template)
    filled = re.sub(r"\{\{ \$labels\.(\w+) \}\}", lambda found: trouble.labels[found[1]], template)
    filled = re.sub(r"\{\{ or \$labels\.(\w+) `(.+?)` \}\}", lambda it: trouble.labels.get(it[1]) or it[2], filled)
    return re.sub(r"\{\{ \$value \| \w+ \}\}", trouble.value, filled)


def promtool(folder: Path, series: Series, time: Time, **tests: object) -> None:
    """Run one test of promtool's; it fails with what promtool says."""
    case = {
        "interval": f"{time.step}m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        **tests,
    }
    document = {
        "rule_files": [str(RULES)],
        "evaluation_interval": f"{time.step}m",
        "group_eval_order": GROUPS,  # else in any order, and alerts would see ratios of the step before, or none
        "tests": [case],
    }
    path = folder / "test.yaml"
    path.write_text(yaml.safe_dump(document))
    done = subprocess.run(["promtool", "test", "rules", str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def fires(folder: Path, name: str, trouble: Trouble) -> None:
    """The alert fires, says what it should, and no other does."""
    alert = ALERTS[name]
    annotations = {
        "summary": text(alert.summary, trouble),
        "description": text(alert.description, trouble),
        "runbook_url": f"{README}#{name.lower()}",
    }
    assert "{{" not in "".join(annotations.values())
    expected = {"exp_labels": {**trouble.labels, "severity": alert.severity}, "exp_annotations": annotations}
    firing = {"labels": f'{{alertname="{name}"}}', "value": 1}
    promtool(
        folder,
        with_trouble(trouble),
        trouble.time,
        alert_rule_test=[{"eval_time": f"{trouble.at}m", "alertname": name, "exp_alerts": [expected]}],
        promql_expr_test=[
            {
                "expr": 'count by (alertname) (ALERTS{alertstate="firing"})',
                "eval_time": f"{trouble.at}m",
                "exp_samples": [firing],
            }
        ],
    )


def test_every_alert_has_its_trouble() -> None:
    assert TROUBLES.keys() == ALERTS.keys()


@pytest.mark.parametrize("name", TROUBLES)
def test_it_fires_alone(name: str, tmp_path: Path) -> None:
    fires(tmp_path, name, TROUBLES[name])


@pytest.mark.parametrize("what", MORE)
def test_it_fires_too_when(what: str, tmp_path: Path) -> None:
    fires(tmp_path, *MORE[what])


@pytest.mark.parametrize("time", [Time(90), A_DAY], ids=["minutes", "a day"])
def test_none_is_even_pending_on_healthy_traffic(time: Time, tmp_path: Path) -> None:
    ever = {"expr": f"count(count_over_time(ALERTS[{time.minutes}m])) or vector(0)", "eval_time": f"{time.minutes}m"}
    judged = {"expr": 'count(job_upstream_model:trueclock_contention:ratio_rate1h{model="gpt"})', "eval_time": "1h"}
    promtool(
        tmp_path,
        healthy(time),
        time,
        promql_expr_test=[
            {**ever, "exp_samples": [{"labels": "{}", "value": 0}]},
            {**judged, "exp_samples": [{"labels": "{}", "value": 2}]},
        ],
    )


def test_one_that_comes_and_goes_is_one_alert(tmp_path: Path) -> None:
    """Far behind for half an hour, better for ten minutes, and far behind again: it fires all along, and ends."""
    time = Time(120)
    series = healthy(time)
    swings = "0+225x30 6840+90x9 7875+225x19 12240+90x59"
    series |= {selector: swings for selector in series if re.search('raw_of_denoised.*"gpt"', selector)}
    firing = 'count(ALERTS{alertname="TrueclockProviderBehindItsBest", alertstate="firing"}) or vector(0)'
    expected = [(m, 1) for m in (25, 38, 45, 50, 55, 70)] + [(3, 0), (110, 0)]
    tests = [
        {"expr": firing, "eval_time": f"{minute}m", "exp_samples": [{"labels": "{}", "value": value}]}
        for minute, value in expected
    ]
    promtool(tmp_path, series, time, promql_expr_test=tests)


def panel(title: str) -> list[str]:
    """The expressions of a panel of Efficiency over an hour, of the gateways' healthy traffic on the stack h100."""
    (found,) = (each for each in efficiency(README).panels or [] if each.title == title)  # type: ignore[union-attr]
    chosen = {"$job": "trueclock-gateway", "$stack": "h100", "$upstream": ".*", "$model": "gpt", "$__range": "1h"}
    return [
        re.sub(r"\$\w+", lambda name: chosen[name[0]], target.expr)
        for target in found.targets  # type: ignore[union-attr]
    ]


def test_what_changed_is_against_an_hour_and_a_day_before(tmp_path: Path) -> None:
    """Contention goes from 15 to 60 s a minute, that is from 0.25 to 1 s a request, half an hour before the end."""
    time = Time(25 * 60 + 30, 10)
    series = {selector: samples for selector, samples in view(GATEWAY, time).items() if "decomposed" in selector}
    raw = time.bends(90, 135, 25 * 60)
    series |= {selector: raw for selector in series if re.search('raw_of_decomposed.*"gpt"', selector)}
    grown = {"stack": 0.0, "contention": 45 / 59.4 / 2}
    tests = [
        {
            "expr": f"abs(({expression}) - {change!r}) < bool 0.02",
            "eval_time": f"{time.minutes}m",
            "exp_samples": [{"labels": "{}", "value": 1}],
        }
        for expression, change in zip(panel("What changed"), sorted([*grown.values()] * 2), strict=True)
    ]
    promtool(tmp_path, series, time, promql_expr_test=tests)


VERDICTS: Mapping[str, tuple[dict[str, float], float]] = {
    "more of stack than of contention": ({}, 15 / 40),
    "contention": ({"raw_(of_decomposed_)?runtime": 175, "raw_of_denoised": 175}, 100 / 125),
    "stack": ({"^trueclock_raw": 90, "^trueclock_denoised": 85}, 5 / 40),
    "as fast as expected": ({"^trueclock_raw": 55, "^trueclock_denoised": 52}, -1),
    "not slow, but contended": ({"^trueclock_raw": 55, "^trueclock_denoised": 40}, 2),
    "predicted, and not slow for that": ({"^trueclock_raw": 70, "^trueclock_denoised": 60, "provenance": 0}, -1),
    "measured, and slow": ({"^trueclock_raw": 70, "^trueclock_denoised": 60}, 0.5),
    "not told apart": ({"decomposed": 0}, 3),
    "mostly not told apart": ({"decomposed": 4}, 3),
    "contended, and not covered": ({'stack="h100"': 0, "raw_of_denoised": 150}, 1),
    "calm, and not covered": ({'stack="h100"': 0}, -1),
}
"""what grows by how much a minute instead of what the healthy traffic does, and what the panel then has"""


@pytest.mark.parametrize("what", VERDICTS)
def test_what_is_to_blame_is_as_on_the_page(what: str, tmp_path: Path) -> None:
    grown, reason = VERDICTS[what]
    time = Time(60, 2)
    series = {selector: samples for selector, samples in view(GATEWAY, time).items() if '"gpt"' in selector}
    for pattern, by in grown.items():
        found = [selector for selector in series if re.search(pattern, selector)]
        assert found
        series |= dict.fromkeys(found, time.grows(by))
    (expression,) = panel("Slower than expected because of")
    same = f"abs(({expression}) - {reason!r}) < bool 1e-6"
    expected = [{"labels": "{}", "value": 1}]
    promtool(tmp_path, series, time, promql_expr_test=[{"expr": same, "eval_time": "1h", "exp_samples": expected}])


def test_thresholds_are_the_pages() -> None:
    page = (RULES.parents[2] / "gateway" / "page" / "dom.js").read_text(encoding="utf-8")
    assert f"CONTENDED = {ratios.CONTENDED:g};" in page
    assert f"? {ratios.SLOW:g} : {ratios.SLOW_IF_NOT_MEASURED:g})" in page


BY_HAND = {
    "job_upstream_model_stack:trueclock_slowdown:ratio_rate5m": 1.8,
    "job_upstream_model_stack:trueclock_stack_factor:ratio_rate1h": 1.5,
    "job_upstream_model:trueclock_contention:ratio_rate5m": 1.2,
    "job_upstream_model_stack:trueclock_faster_than_idealized:ratio_rate5m": 0.01,
    "job_upstream_model:trueclock_errors:ratio_rate5m": 0.3 / 65.7,
    "job_upstream_model:trueclock_retries:ratio_rate5m": 0.6 / 65.7,
    "job_upstream_model:trueclock_requests:rate5m": 65.7 / 60,
    "job_upstream_model_stack:trueclock_model_seconds:rate5m": 50 / 60,
    "job_upstream_model_stack:trueclock_stack_seconds:rate5m": 25 / 60,
    "job_upstream_model_stack:trueclock_contention_seconds:rate5m": 15 / 60,
    "job_upstream_model_stack:trueclock_predicted:ratio_rate5m": 0,
    "job_upstream_model:trueclock_unknown_model:ratio_rate1h": 0,
}
"""of the healthy traffic, on the stack h100"""


def test_ratios_are_those_worked_out_by_hand(tmp_path: Path) -> None:
    tests = []
    for record, value in BY_HAND.items():
        chosen = 'job="trueclock-gateway", model="gpt"' + (', stack="h100"' if "_stack:" in record else "")
        expression = f"abs({record}{{{chosen}}} - {value!r}) < bool 1e-9"
        expected = [{"labels": f'{{{chosen}, upstream="openai"}}', "value": 1}]
        tests.append({"expr": expression, "eval_time": "40m", "exp_samples": expected})
    time = Time(60, 2)
    promtool(tmp_path, healthy(time), time, promql_expr_test=tests)


def test_a_ratio_of_nothing_is_absent(tmp_path: Path) -> None:
    time = Time(30, 2)
    expression = {"expr": '{__name__=~".+:ratio_rate5m", model="old"}', "eval_time": "20m", "exp_samples": []}
    promtool(tmp_path, healthy(time), time, promql_expr_test=[expression])
