"""Every metric and label that a panel, a variable, a note or a rule uses is one that the programs expose."""

import asyncio
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry, ProcessCollector

from gateway.control import Control
from gateway.fleet import FleetReader
from gateway.forwarder_outcomes import Forwarders
from gateway.otlp import ExportMetrics
from gateway.reload import Reloads
from grafana import names, ratios
from stream.coefficients import load_tables
from stream.denoise import Denoiser
from stream.engine import Engine
from stream.families import FAMILIES, STRATEGIES, Family
from stream.kafka import KafkaSettings
from stream.summary import _NO_FAILURES
from stream.table_watch import TableWatch
from stream.windows import Windows
from stream.worker import StreamWorker
from stream.worker_metrics import WorkerMetrics

ROOT = Path(__file__).resolve().parents[2]
BOARDS: dict[str, dict[str, Any]] = {
    path.stem: json.loads(path.read_text(encoding="utf-8"))
    for path in sorted((ROOT / "grafana/dashboards").glob("*.json"))
}
RULES = [
    rule
    for group in yaml.safe_load((ROOT / "grafana/rules/trueclock.yaml").read_text(encoding="utf-8"))["groups"]
    for rule in group["rules"]
]
DOCUMENT = (ROOT / "docs/metrics.md").read_text(encoding="utf-8")
OF_PROMETHEUS = {"up": (), "ALERTS": ("alertname", "alertstate", "severity")}
OF_TARGETS = {"job", "instance"}

Registered = dict[str, tuple[str, ...]]
"""labels by the name of a metric, as a query writes it"""


# --- what is exposed


def collected(registry: CollectorRegistry) -> Registered:
    """The metrics of a registry with their labels, whether they have samples or not."""
    found: Registered = {}
    for family in registry.collect():
        suffix = {"counter": "_total", "info": "_info"}.get(family.type, "")
        labels = tuple(family.samples[0].labels) if family.samples else getattr(family, "_labelnames", ())
        found[family.name + suffix] = tuple(labels)
    return found | {family.name: family.labels for family in (*FAMILIES, *STRATEGIES) if family.name in found}


@cache
def of_gateway() -> Registered:
    """A gateway's with everything that an option adds."""
    kafka = KafkaSettings(("localhost:1",))
    exporter: Any = SimpleNamespace(signal="traces", failing=None, exported_at=1.0, counts={"dropped": 0}, backlog=0)
    with TemporaryDirectory() as folder:
        forwarder = Forwarders(Path(folder), kafka)
        forwarder._events._acknowledged_at = 1.0  # shown once there is one
        control = Control(Path(folder), load_tables(), [], "1.0")
        asyncio.run(control.exposition())
        control.follow_reloads(Reloads)
        for collector in (forwarder, FleetReader(kafka, lambda _: None), ExportMetrics(exporter, exporter)):
            control.registry.register(collector)
        found = collected(control.registry)
        control.close()
    return found


async def _of_worker() -> Registered:
    watch = TableWatch([], load_tables)
    engine = Engine(watch.tables, Windows(), Denoiser(origin="one"), "llm.requests")
    worker = StreamWorker("one", KafkaSettings(("localhost:1",)), engine)
    worker.lag[0] = 1
    worker._client.cluster._partitions.update({"llm.requests": {0: None}})
    registry = CollectorRegistry()
    registry.register(WorkerMetrics(worker, watch, "1.0"))
    registry.register(engine.metrics)
    ProcessCollector(registry=registry)
    found = collected(registry)
    await worker.close()
    return found | {family.name: family.labels for family in STRATEGIES}


@cache
def of_worker() -> Registered:
    return asyncio.run(_of_worker())


def with_parts(registered: Registered) -> Registered:
    """The same, a histogram as the three metrics that it is."""
    found = dict(registered)
    for family in FAMILIES:
        if family.bounds and family.name in registered:
            del found[family.name]
            found |= {family.name + "_bucket": (*family.labels, "le")}
            found |= {family.name + suffix: family.labels for suffix in ("_sum", "_count")}
    return found


# --- what is used

_TOKEN = re.compile(r'"[^"]*"|[A-Za-z_][\w:]*|=~|!~|!=|\d[\w.]*|\S')
_AGGREGATIONS = {"sum", "min", "max", "count", "avg"}
_KEEPING = {"topk", "bottomk"}
_FUNCTIONS = {
    *("absent", "rate", "increase", "histogram_quantile", "label_replace", "abs", "deriv", "timestamp"),
    *("min_over_time", "max_over_time", "clamp_min", "sort_desc"),
}
_WORDS = {"and", "or", "unless", "bool", "offset"}


@dataclass(frozen=True)
class Used:
    """A metric in an expression: its matchers, the functions around it, and the labels of each aggregation."""

    name: str
    matchers: tuple[tuple[str, str, str], ...]
    functions: frozenset[str]
    groups: tuple[tuple[str, ...], ...]
    """the outermost first"""


@dataclass(frozen=True)
class Expression:
    metrics: tuple[Used, ...]
    matched_on: frozenset[str]
    made: frozenset[str]
    """labels that label_replace makes"""


def parsed(text: str) -> Expression:
    """Find the metrics of an expression; a word that is neither metric, function nor operator fails."""
    tokens = _TOKEN.findall(text.replace("$__range_s", "3600"))
    frames: list[tuple[str, tuple[str, ...] | None]] = []
    used, on = [], set[str]()
    group: tuple[str, ...] | None = None
    place, function = 0, ""
    while place < len(tokens):
        token = tokens[place]
        follows = tokens[place + 1] if place + 1 < len(tokens) else ""
        place += 1
        if token in {"by", "on", "ignoring", "group_left"} and follows == "(":
            end = tokens.index(")", place)
            labels = tuple(label for label in tokens[place + 1 : end] if label != ",")
            place = end + 1
            if token == "by":
                group = labels
            else:
                on |= set(labels)
        elif token in _AGGREGATIONS:
            function, group = token, ()
        elif token in _FUNCTIONS | _KEEPING:
            function, group = token, None
        elif token == "(":
            frames.append((function, group))
            function, group = "", None
        elif token == ")":
            frames.pop()
        elif token == "[":
            place = tokens.index("]", place) + 1
        elif re.match(r"[A-Za-z_]", token) and token not in _WORDS and tokens[place - 2] != "offset":
            assert follows != "(", token
            matchers = []
            if follows == "{":
                end = tokens.index("}", place)
                inside = [each for each in tokens[place + 1 : end] if each != ","]
                matchers = [
                    (label, sign, value.strip('"')) for label, sign, value in zip(*[iter(inside)] * 3, strict=True)
                ]
                place = end + 1
            groups = tuple(labels for _, labels in frames if labels is not None)
            used.append(Used(token, tuple(matchers), frozenset(name for name, _ in frames), groups))
    assert not frames
    made = re.findall(r'label_replace\((?:.|\n)*?, "(\w+)", "', text)
    return Expression(tuple(used), frozenset(on), frozenset(made))


def legends(text: str) -> set[str]:
    return set(re.findall(r"\{\{\s*(\w+)\s*\}\}", text))


def shown(expression: Expression, known: Registered) -> set[str]:
    """Labels that the series of the result have."""
    first = expression.metrics[0]
    labels = first.groups[0] if first.groups else (*known[first.name], *OF_TARGETS)
    return {*labels, *expression.made}


def check(text: str, known: Registered) -> Expression:
    """Hold an expression against what is registered: names, labels, and what is done to which kind of metric."""
    expression = parsed(text)
    for used in expression.metrics:
        assert used.name in known, used.name
        labels = {*known[used.name], *OF_TARGETS}
        assert {label for label, _, _ in used.matchers} <= labels, used
        for group in used.groups:
            assert set(group) <= labels | expression.made, used
        counts = (
            re.search(r"_(total|bucket|sum|count)$", used.name) and used.name != "trueclock_strategy_success_rate_sum"
        )
        if "count" not in used.functions:  # which only asks what is there
            assert bool(used.functions & {"rate", "increase"}) is bool(counts), used
    assert expression.matched_on <= {label for used in expression.metrics for label in known[used.name]} | OF_TARGETS
    return expression


# --- both together


def known_to(board: str) -> Registered:
    """What the targets have that a dashboard is about; Efficiency and Strategies are about either."""
    gateway, worker = with_parts(of_gateway()), with_parts(of_worker())
    match board:
        case "gateway":
            return gateway | OF_PROMETHEUS
        case "stream":
            return worker | OF_PROMETHEUS
        case _:
            return {name: labels for name, labels in gateway.items() if name in worker} | OF_PROMETHEUS


def recorded() -> Registered:
    """The recording rules' series: the labels are the first part of their names."""
    return {rule["record"]: tuple(parsed(rule["expr"]).metrics[0].groups[0]) for rule in RULES if "record" in rule}


QUERIES = [
    pytest.param(name, target["expr"], target["legendFormat"], id=f"{name}: {panel['title']}: {target['refId']}")
    for name, board in BOARDS.items()
    for panel in board["panels"]
    for target in panel.get("targets", ())
]


@pytest.mark.parametrize(("board", "text", "legend"), QUERIES)
def test_panels_use_what_is_registered(board: str, text: str, legend: str) -> None:
    known = known_to(board)
    assert legends(legend) <= shown(check(text, known), known)


def test_tables_show_labels_that_they_have() -> None:
    seen = 0
    for name, board in BOARDS.items():
        known = known_to(name)
        for panel in board["panels"]:
            if panel["type"] in {"table", "xychart"}:
                organized = next(each["options"] for each in panel["transformations"] if each["id"] == "organize")
                columns = organized["indexByName"].keys() - organized["renameByName"].keys()
                seen += len(columns)
                for target in panel["targets"]:
                    assert shown(parsed(target["expr"]), known) == columns, panel["title"]
    assert seen > 10


@pytest.mark.parametrize("name", BOARDS)
def test_variables_use_what_is_registered(name: str) -> None:
    known = known_to(name)
    queries = [each["query"]["query"] for each in BOARDS[name]["templating"]["list"] if each["type"] == "query"]
    assert queries
    for query in queries:
        if found := re.fullmatch(r"query_result\((.*)\)", query):
            expression = check(found[1], known)
            assert {group for used in expression.metrics for group in used.groups} == {("stack",)}
            continue
        found = re.fullmatch(r"label_values\((.*), (\w+)\)", query)
        assert found
        (used,) = parsed(found[1]).metrics
        labels = {*known[used.name], *OF_TARGETS}
        assert {found[2], *(label for label, _, _ in used.matchers)} <= labels


@pytest.mark.parametrize("name", BOARDS)
def test_notes_use_what_is_registered(name: str) -> None:
    for note in BOARDS[name]["annotations"]["list"]:
        check(note["expr"], known_to(name))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.get("record") or rule["alert"])
def test_rules_use_what_is_registered(rule: dict[str, Any]) -> None:
    known = with_parts(of_gateway()) | with_parts(of_worker()) | OF_PROMETHEUS | recorded()
    expression = check(rule["expr"], known)
    if "record" in rule:
        assert rule["record"].split(":")[0] == "_".join(recorded()[rule["record"]])
    else:
        said = "".join(rule["annotations"].values())
        assert set(re.findall(r"\$labels\.(\w+)", said)) <= shown(expression, known)


def everything() -> Iterator[Used]:
    for text in [query.values[1] for query in QUERIES] + [rule["expr"] for rule in RULES]:
        yield from parsed(str(text)).metrics


def test_values_that_are_asked_for_are_documented() -> None:
    """Such as `outcome="dead"`: a value that nothing ever has would be an alert that never fires."""
    rows = [line for line in DOCUMENT.splitlines() if line.startswith("| `")]
    seen = set()
    for used in everything():
        for label, sign, value in used.matchers:
            if label in OF_TARGETS or sign == "!~" or "$" in value or not value:
                continue
            seen.add((used.name, label))
            own = [row for row in rows if row.startswith(f"| `{used.name}` ") or label == "basis"]
            for each in value.split("|"):
                assert any(f"`{label}`" in row and f"`{each}`" in row for row in own), (used.name, label, each)
    assert len(seen) > 5


def test_what_is_no_failure_is_what_the_summary_says() -> None:
    assert ratios.NO_FAILURES == _NO_FAILURES


@pytest.mark.parametrize("family", [getattr(names, name) for name in names.__all__], ids=lambda family: family.name)
def test_what_is_named_here_is_registered_so(family: Family) -> None:
    registered = [known for known in (of_gateway(), of_worker(), OF_PROMETHEUS) if family.name in known]
    assert registered
    for known in registered:
        # The worker's build_info has its name beside the version.
        assert set(family.labels) <= set(known[family.name])


@pytest.mark.parametrize(
    "text",
    [
        "rate(trueclock_request_total[5m])",
        'rate(trueclock_requests_total{models="x"}[5m])',
        "sum by (stack) (rate(trueclock_requests_total[5m]))",
        "trueclock_requests_total",
        "rate(trueclock_problems[5m])",
        "sum(rate(trueclock_slowdown_ratio[5m]))",
        "max by (partition) (trueclock_stream_lag_records)",
    ],
)
def test_what_is_not_registered_is_found(text: str) -> None:
    with pytest.raises(AssertionError):
        check(text, known_to("gateway"))
