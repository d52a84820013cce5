"""What every dashboard has: variables, links to the others, notes on the time axis, and the order of its rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.models import dashboard as model

from grafana.names import LEADING_STACK
from grafana.panels import DATASOURCE, Panel
from grafana.promql import MATCHERS, selector
from stream import families as f
from stream.families import Family

__all__ = ["Row", "Variable", "board", "drill", "links_of"]

TAG = "trueclock"
UIDS = {
    "Efficiency": "trueclock-efficiency",
    "Gateway": "trueclock-gateway",
    "Stream": "trueclock-stream",
    "Strategies": "trueclock-strategies",
}
_PASSED = {
    "Efficiency": ("upstream", "model", "stack"),
    "Gateway": ("upstream", "model"),
    "Stream": (),
    "Strategies": ("model", "stack"),
}
"""variables that a link to a dashboard hands on. `job` is not: what one job has another dashboard may not know"""
GATEWAY_JOB = "trueclock-gateway"
STREAM_JOB = "trueclock-stream"


@dataclass(frozen=True, slots=True)
class Row:
    """A question, and the panels that answer it."""

    question: str
    panels: Sequence[Panel]


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable of a dashboard: the values that a label has in a family, of those chosen before."""

    name: str
    of: Family
    title: str
    text: str
    default: str = ""
    many: bool = False
    suffix: str = ""
    view: tuple[str, ...] = ()
    label: str = ""
    first: Family | None = None
    """whose value comes before the others and is chosen at first, which no static default can say"""

    @property
    def query(self) -> str:
        """What Prometheus is asked for."""
        chosen = {label: MATCHERS[label] for label in self.view}
        if self.first is not None:
            first, others = (f"count by ({self.name}) ({selector(of, chosen)})" for of in (self.first, self.of))
            return f"query_result(sort_desc(1 + 0 * {first} or 0 * {others}))"
        return f"label_values({selector(self.of, chosen, suffix=self.suffix)}, {self.label or self.name})"


def job(of: Family, default: str) -> Variable:
    """Which of Prometheus' jobs to look at: those that have this family."""
    text = (
        "The scrape job: that of the gateways, or of the stream workers. Both count the same requests: never add them."
    )
    return Variable("job", of, "Job", text, default)


def upstream() -> Variable:
    """Which providers."""
    return Variable("upstream", f.REQUESTS, "Upstream", "Providers, as configured.", many=True, view=("job",))


def models() -> Variable:
    """Which models, of those of the providers."""
    text = "Models, as clients name them; requests without one have an empty name and count with All."
    return Variable("model", f.REQUESTS, "Model", text, many=True, view=("job", "upstream"))


def stack(of: Family = f.RAW) -> Variable:
    """Which reference stack: the one that leads, unless another is chosen."""
    text = "The reference stack whose idealized runtime and costs are compared with; the one that leads comes first."
    return Variable("stack", of, "Reference stack", text, view=("job",), first=LEADING_STACK)


def board(
    title: str, text: str, variables: Sequence[Variable], questions: Sequence[Row], readme: str
) -> model.Dashboard:
    """Build a dashboard; `readme` is the address of the README with the runbook, a link if it is absolute."""
    built = build.Dashboard(f"trueclock / {title}").uid(UIDS[title]).description(text).tags([TAG])
    built = built.editable().time("now-1h", "now").refresh("30s").tooltip(model.DashboardCursorSync.CROSSHAIR)
    built = built.timezone("browser").with_variable(_datasource())
    for variable in variables:
        built = built.with_variable(_variable(variable))
    built = built.with_variable(_page())
    names = {"datasource", *(variable.name for variable in variables)}
    built = built.links(links_of(title, names, readme)).annotation(_alerts())
    if {"upstream", "model"} <= names:
        built = built.annotation(_steps())
    number = 0
    for row in questions:
        number += 1
        built = built.with_row(build.Row(row.question).id(number))
        for panel in row.panels:
            number += 1
            built = built.with_panel(panel.id(number))
    return built.build()


def links_of(title: str, names: set[str], readme: str) -> list[Any]:
    """Links from a dashboard: to the others, to the gateway's own page, to the runbook."""
    found = [
        build.DashboardLink(other)
        .type(model.DashboardLinkType.LINK)
        .url(f"/d/{uid}?{_passed(other, names)}")
        .tooltip(f"The dashboard {other}, for the same time")
        .keep_time(True)
        for other, uid in UIDS.items()
        if other != title
    ]
    found.append(
        _away("Gateway's page", "${page}", "The gateway's own page: single requests, and why each took so long")
    )
    if "://" in readme:
        found.append(_away("Runbook", f"{readme}#dashboards-and-alerts", "What alerts mean and what to do"))
    return found


def drill(title: str, *chosen: str, handed: Sequence[str] = (), table: bool = False) -> build.DashboardLink:
    """A link of a series (of a `table`: of a row) to a dashboard, for what its labels `chosen` say.

    `handed` are variables of this dashboard that go along.
    """
    place = "__data.fields" if table else "__field.labels"
    own = [f"var-{label}=${{{place}.{label}:percentencode}}" for label in chosen]
    along = [f"${{{name}:queryparam}}" for name in ("datasource", *handed)]
    url = "&".join((*along, *own, "${__url_time_range}"))
    return build.DashboardLink(f"{title} of this {' and '.join(chosen)}").url(f"/d/{UIDS[title]}?{url}")


def _passed(other: str, names: set[str]) -> str:
    return "&".join(f"${{{name}:queryparam}}" for name in ("datasource", *_PASSED[other]) if name in names)


def _away(title: str, url: str, tooltip: str) -> build.DashboardLink:
    made = build.DashboardLink(title).type(model.DashboardLinkType.LINK).url(url)
    return made.tooltip(tooltip).target_blank(True)


def _datasource() -> build.DatasourceVariable:
    made = build.DatasourceVariable("datasource").label("Data source").type("prometheus")
    return made.description("The Prometheus that scrapes trueclock.")


def _page() -> build.TextBoxVariable:
    made = build.TextBoxVariable("page").label("Gateway's page").default_value("http://127.0.0.1:4000/")
    return made.description("Where the gateway's own page is, as your browser reaches it; for the link alone.")


def _variable(variable: Variable) -> build.QueryVariable:
    query: dict[str, object] = {"query": variable.query, "refId": "StandardVariableQuery"}
    made = build.QueryVariable(variable.name).label(variable.title).description(variable.text).query(query)
    made = made.datasource(DATASOURCE).refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
    if variable.first is not None:
        # As the query sorts them: the first is taken where none is chosen.
        return made.regex(f'/{variable.name}="([^"]+)"/').sort(model.VariableSort.DISABLED)
    made = made.sort(model.VariableSort.ALPHABETICAL_ASC).multi(variable.many).include_all(variable.many)
    if variable.many:
        # All is everything, also what has no name.
        return made.all_value(".*").current(model.VariableOption(selected=True, text=["All"], value=["$__all"]))
    if variable.default:
        chosen = model.VariableOption(selected=True, text=variable.default, value=variable.default)
        return made.current(chosen)
    return made


def _alerts() -> build.AnnotationQuery:
    return _note("Alerts", 'ALERTS{alertname=~"Trueclock.*", alertstate="firing"}', "red")


def _steps() -> build.AnnotationQuery:
    steps = selector(f.STEPS, {label: MATCHERS[label] for label in ("job", "upstream", "model")})
    return _note("Lasting changes", f"increase({steps}[$__rate_interval]) > 0", "purple")


def _note(name: str, expression: str, colour: str) -> build.AnnotationQuery:
    made = build.AnnotationQuery().name(name).datasource(DATASOURCE).enable(True)
    return made.icon_color(colour).expr(expression)
