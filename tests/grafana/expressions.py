"""Every PromQL expression of the dashboards and rules, with variables in place as Grafana puts them there.

for query in queries(board): query.text(values)         # of each panel and annotation
for rule in rules(path): rule.expression                # of each recording and alerting rule
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.harness import ROOT

DASHBOARDS = ROOT / "grafana" / "dashboards"
_VARIABLE = re.compile(r"\$(\w+)|\$\{(\w+)(?::(\w+))?\}|\[\[(\w+)(?::(\w+))?\]\]")
_SELECTOR = re.compile(r"(?<![\w:])((?:[a-z_]+:)?(?:trueclock|gen_ai|process)[\w:]*|up)(?![\w:])(\{[^{}]*\})?")
_LABELS = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^()]*\)")
_SPECIAL = re.compile(r"[$^*{}\[\]'+?.()|]")
_LABEL_VALUES = re.compile(r"label_values\((?:(.*),)?\s*(\w+)\)", re.DOTALL)
_QUERY_RESULT = re.compile(r"query_result\((.*)\)", re.DOTALL)
_OF_LABEL = re.compile(r'/(\w+)="\(\[\^"\]\+\)"/')

Values = Mapping[str, str | Sequence[str]]
"""a variable's value, or the values chosen of one that takes several"""


@dataclass(frozen=True, slots=True)
class Query:
    """One expression of a panel, and where it stands."""

    board: str
    panel: str
    ref: str
    expression: str
    legend: str
    instant: bool
    """asked for once, at the end of the range, rather than step by step"""

    @property
    def place(self) -> str:
        """Where it stands, in words."""
        return f"{self.board} / {self.panel} / {self.ref}"

    def text(self, values: Values) -> str:
        """The expression as it is sent to Prometheus."""
        return substituted(self.expression, values)


@dataclass(frozen=True, slots=True)
class Variable:
    """A dashboard's variable that is filled by a query: `label_values(SELECTOR, LABEL)`, or `query_result(EXPRESSION)`.

    Of the latter's series it is one label that counts, and their order.
    """

    board: str
    name: str
    selector: str
    label: str
    several: bool
    result: bool
    """whether it is the latter"""


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule; `record` or `alert` is its name."""

    group: str
    name: str
    expression: str
    records: bool


def boards() -> list[dict[str, Any]]:
    """The dashboards as committed, by their titles."""
    return sorted((json.loads(path.read_text()) for path in DASHBOARDS.glob("*.json")), key=lambda each: each["title"])


def queries(board: Mapping[str, Any]) -> Iterator[Query]:
    """Every expression of a dashboard's panels and annotations."""
    for panel in _panels(board["panels"]):
        for target in panel.get("targets", ()):
            yield _query(board, panel["title"], target)
    for annotation in board.get("annotations", {}).get("list", ()):
        if "expr" in annotation or "target" in annotation:
            yield _query(board, annotation["name"], annotation.get("target") or annotation)


def _panels(panels: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """The panels, those in rows too."""
    for panel in panels:
        yield panel
        yield from _panels(panel.get("panels") or ())


def _query(board: Mapping[str, Any], title: str, target: Mapping[str, Any]) -> Query:
    return Query(
        board["uid"],
        title,
        target.get("refId", ""),
        target["expr"],
        target.get("legendFormat", ""),
        bool(target.get("instant")),
    )


def variables(board: Mapping[str, Any]) -> list[Variable]:
    """A dashboard's variables that Prometheus is asked for, in their order: a later one may use an earlier one."""
    found = []
    for each in board["templating"]["list"]:
        if each["type"] != "query":
            continue
        query = each["query"]
        text = (query if isinstance(query, str) else query["query"]).strip()
        asked = _LABEL_VALUES.fullmatch(text) or _QUERY_RESULT.fullmatch(text)
        assert asked is not None, f"{board['uid']} ${each['name']}: {query}"
        result = asked.re is _QUERY_RESULT
        label = _OF_LABEL.fullmatch(each["regex"])[1] if result else asked[2]
        found.append(Variable(board["uid"], each["name"], asked[1] or "", label, bool(each.get("multi")), result))
    return found


def substituted(text: str, values: Values) -> str:
    """`text` with its variables in place; an AssertionError for one that has no value."""

    def of(match: re.Match[str]) -> str:
        name = match[1] or match[2] or match[4]
        assert name in values, f"${name} has no value: {text}"
        form = match[3] or match[5]
        assert form in (None, "regex", "raw"), f"{match[0]}: this test does not know how Grafana writes it"
        return _written(values[name])

    return _VARIABLE.sub(of, text)


def _written(value: str | Sequence[str]) -> str:
    """A value as Grafana's Prometheus data source writes it: of several chosen ones a regular expression."""
    if isinstance(value, str):
        return value.replace("\\", "\\\\").replace('"', '\\"')
    escaped = [_SPECIAL.sub(r"\\\\\g<0>", each.replace("\\", "\\\\\\\\")) for each in value]
    return escaped[0] if len(escaped) == 1 else f"({'|'.join(escaped)})"


def intervals(range_milliseconds: int, step_milliseconds: int, scrape_milliseconds: int) -> dict[str, str]:
    """Grafana's own variables for a range of time shown in steps."""
    rate = max(step_milliseconds + scrape_milliseconds, 4 * scrape_milliseconds)
    return {
        "__interval": f"{step_milliseconds}ms",
        "__interval_ms": str(step_milliseconds),
        "__rate_interval": f"{rate}ms",
        "__rate_interval_ms": str(rate),
        "__range": f"{range_milliseconds}ms",
        "__range_ms": str(range_milliseconds),
        "__range_s": str(round(range_milliseconds / 1000)),
    }


def selectors(expression: str) -> list[str]:
    """The series that an expression looks at: `name{matchers}`, or `name`."""
    return [f"{name}{matchers}" for name, matchers in _SELECTOR.findall(_LABELS.sub("", expression))]


def rules(path: Path) -> list[Rule]:
    """The rules of a file, in their order."""
    return [
        Rule(group["name"], rule.get("record") or rule["alert"], rule["expr"], "record" in rule)
        for group in yaml.safe_load(path.read_text())["groups"]
        for rule in group["rules"]
    ]
