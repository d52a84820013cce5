"""Panels of one kind each, with what all have in common: description, unit, data source, what to say without data."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from grafana_foundation_sdk.builders import common, heatmap, stat, table, timeseries, xychart
from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.builders import prometheus as prom
from grafana_foundation_sdk.models import common as kinds
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models import heatmap as heats
from grafana_foundation_sdk.models import prometheus as formats
from grafana_foundation_sdk.models import xychart as scatter

from grafana.empty import NOTHING, Empty

__all__ = [
    "COLOURS",
    "DATASOURCE",
    "WINDOW",
    "About",
    "Column",
    "Panel",
    "Query",
    "figures",
    "heat",
    "lines",
    "number",
    "points",
    "rows",
    "said",
    "stacked",
]

DATASOURCE = model.DataSourceRef(type_val="prometheus", uid="${datasource}")
WINDOW = "$__rate_interval"
"""the window of rates; of the range shown as a whole it is `$__range`"""
COLOURS = {"model": "#6caef2", "stack": "#d593cc", "contention": "#f2995a", "raw": "#9aa5b1"}
"""the three parts and their sum, as on the gateway's page"""
TIMES = "suffix:\u00d7"
"""the unit of a factor"""
FULL, HALF, THIRD, QUARTER, SIXTH = 24, 12, 8, 6, 4
"""widths: of 24 columns"""

Panel = timeseries.Panel | stat.Panel | heatmap.Panel | table.Panel | xychart.Panel
_Built = TypeVar("_Built", timeseries.Panel, stat.Panel, heatmap.Panel, table.Panel, xychart.Panel)


@dataclass(frozen=True, slots=True)
class About:
    """What is said of any panel; `empty` is why there may be no figures."""

    title: str
    text: str
    unit: str
    empty: Empty = NOTHING
    width: int = HALF
    height: int = 8


@dataclass(frozen=True, slots=True)
class Query:
    """An expression, and the legend of its series with their labels as `{{label}}`."""

    expression: str
    legend: str


@dataclass(frozen=True, slots=True)
class Column:
    """A column of figures of a table: an instant query, whose labels are columns too, and its unit."""

    title: str
    expression: str
    unit: str
    decimals: int | None = None


def lines(about: About, *queries: Query, least: float | None = 0, links: Sequence[build.DashboardLink] = ()) -> Panel:
    """Lines over time, the mean and the last value of each beside it."""
    panel = _with(_about(timeseries.Panel(), about), queries).line_width(1.5).fill_opacity(8)
    panel = panel.show_points(kinds.VisibilityMode.AUTO).data_links(list(links))
    if least is not None:
        panel = panel.axis_soft_min(least)
    return _legend(panel, about)


def stacked(about: About, *queries: Query, colours: bool = False, over: str = "") -> Panel:
    """Areas upon each other; with `colours` named parts have theirs, and `over` is a line that is not stacked."""
    panel = _with(_about(timeseries.Panel(), about), queries).line_width(1).fill_opacity(55)
    panel = panel.stacking(common.StackingConfig().mode(kinds.StackingMode.NORMAL).group("A"))
    if colours:
        panel = _coloured(panel)
    if over:
        alone = [_value("custom.stacking", {"mode": "none"}), _value("custom.fillOpacity", 0)]
        panel = panel.override_by_name(over, [*alone, _value("custom.lineWidth", 2)])
    return _legend(panel, about)


def number(about: About, query: Query, *steps: tuple[float | None, str], decimals: int | None = None) -> Panel:
    """One figure of the whole range; `steps` are the values from which on it has another colour, lowest first."""
    panel = _with(_about(stat.Panel(), about), [query], instant=True).graph_mode(kinds.BigValueGraphMode.NONE)
    panel = panel.color_mode(kinds.BigValueColorMode.VALUE).reduce_options(_last())
    panel = panel.thresholds(_thresholds(steps or ((None, "text"),)))
    return panel if decimals is None else panel.decimals(decimals)


def figures(about: About, *queries: Query, decimals: int) -> Panel:
    """One figure of the whole range for each part, with its name, in its colour: also where it is below zero."""
    panel = _with(_about(stat.Panel(), about), queries, instant=True).graph_mode(kinds.BigValueGraphMode.NONE)
    panel = panel.color_mode(kinds.BigValueColorMode.VALUE).reduce_options(_last())
    panel = panel.text_mode(kinds.BigValueTextMode.VALUE_AND_NAME).thresholds(_thresholds(((None, "text"),)))
    return _coloured(panel.decimals(decimals))


def said(about: About, query: Query, *words: tuple[float, float, str, str]) -> Panel:
    """Words for one figure: for those from the first number to the second the text, and its colour."""
    panel = _with(_about(stat.Panel(), about), [query], instant=True).graph_mode(kinds.BigValueGraphMode.NONE)
    panel = panel.color_mode(kinds.BigValueColorMode.VALUE).reduce_options(_last())
    return panel.mappings(
        [
            model.RangeMap(
                options=model.DashboardRangeMapOptions(
                    from_val=least, to=most, result=model.ValueMappingResult(text=text, color=colour, index=place)
                )
            )
            for place, (least, most, text, colour) in enumerate(words)
        ]
    )


def heat(about: About, query: Query) -> Panel:
    """How many observations fell into each bucket of a histogram, over time; the unit is that of its bounds."""
    panel = _with(_about(heatmap.Panel(), about), [query], form=formats.PromQueryFormat.HEATMAP).calculate(False)
    colour = heatmap.HeatmapColorOptions().mode(heats.HeatmapColorMode.SCHEME).scheme("Oranges").steps(64)
    panel = panel.color(colour.scale(heats.HeatmapColorScale.EXPONENTIAL).exponent(0.5).fill("dark-orange"))
    panel = panel.y_axis(heatmap.YAxisConfig().unit(about.unit).axis_placement(kinds.AxisPlacement.LEFT))
    panel = panel.cell_values(heatmap.CellValues().unit("reqps")).filter_values(heatmap.FilterValueRange().le(1e-9))
    panel = panel.rows_frame(heatmap.RowsHeatmapOptions().layout(kinds.HeatmapCellLayout.AUTO))
    return panel.cell_gap(1).show_legend().show_y_histogram()


def rows(
    about: About, labels: Sequence[str], *columns: Column, sort: str = "", links: Sequence[build.DashboardLink] = ()
) -> Panel:
    """A table: a row for each value of the labels, a column for each query; `links` go from the first label."""
    queries = [Query(column.expression, column.title) for column in columns]
    panel = _with(_about(table.Panel(), about), queries, instant=True, form=formats.PromQueryFormat.TABLE)
    panel = _merged(panel, labels, columns).data_links(list(links))
    for column in columns:
        own = [_value("unit", column.unit)]
        if column.decimals is not None:
            own.append(_value("decimals", column.decimals))
        panel = panel.override_by_name(column.title, own)
    return panel.sort_by([common.TableSortByFieldState().display_name(sort).desc(True)]) if sort else panel


def points(about: About, labels: Sequence[str], across: Column, up: Column) -> Panel:
    """One point for each value of the labels: one figure across, the other up."""
    queries = [Query(column.expression, column.title) for column in (across, up)]
    panel = _with(_about(xychart.Panel(), about), queries, instant=True, form=formats.PromQueryFormat.TABLE)
    panel = _merged(panel, labels, (across, up)).mapping(scatter.SeriesMapping.MANUAL)
    axes = [xychart.MatcherConfig().id("byName").options(column.title) for column in (across, up)]
    frame = xychart.MatcherConfig().id("byIndex").options(0)
    series = xychart.XYSeriesConfig().frame(xychart.XychartXYSeriesConfigFrame().matcher(frame))
    series = series.x(xychart.XychartXYSeriesConfigX().matcher(axes[0]))
    series = series.y(xychart.XychartXYSeriesConfigY().matcher(axes[1]))
    panel = panel.series([series]).show(scatter.XYShowMode.POINTS)
    panel = panel.point_size(xychart.XychartFieldConfigPointSize().fixed(9)).fill_opacity(60)
    for column in (across, up):
        panel = panel.override_by_name(
            column.title, [_value("unit", column.unit), _value("custom.axisLabel", column.title)]
        )
    return panel.legend(common.VizLegendOptions().show_legend(False)).tooltip(
        common.VizTooltipOptions().mode(kinds.TooltipDisplayMode.SINGLE)
    )


def _coloured(panel: _Built) -> _Built:
    for name, colour in COLOURS.items():
        panel = panel.override_by_name(name, [_value("color", {"mode": "fixed", "fixedColor": colour})])
    return panel


def _about(panel: _Built, about: About) -> _Built:
    why = f" Empty {about.empty.why}." if about.empty.why else ""
    panel = panel.title(about.title).description(about.text + why).unit(about.unit).no_value(about.empty.text)
    return panel.datasource(DATASOURCE).span(about.width).height(about.height)


def _with(
    panel: _Built,
    queries: Sequence[Query],
    *,
    instant: bool = False,
    form: formats.PromQueryFormat = formats.PromQueryFormat.TIME_SERIES,
) -> _Built:
    for place, query in enumerate(queries):
        built = prom.Dataquery().expr(query.expression).legend_format(query.legend).ref_id(chr(ord("A") + place))
        built = built.format(form).editor_mode(formats.QueryEditorMode.CODE).datasource(DATASOURCE)
        panel = panel.with_target(built.instant() if instant else built.range())
    return panel


def _merged(panel: _Built, labels: Sequence[str], columns: Sequence[Column]) -> _Built:
    """Join the queries' tables by their labels, and name and order the columns."""
    titles: dict[str, str] = {f"Value #{chr(ord('A') + place)}": column.title for place, column in enumerate(columns)}
    if len(columns) == 1:
        titles = {"Value": columns[0].title}
    shown = [*labels, *titles]
    organized = {
        "excludeByName": {"Time": True},
        "indexByName": {name: place for place, name in enumerate(shown)},
        "renameByName": titles,
    }
    panel = panel.with_transformation(model.DataTransformerConfig(id_val="merge", options={}))
    return panel.with_transformation(model.DataTransformerConfig(id_val="organize", options=organized))


def _legend(panel: timeseries.Panel, about: About) -> timeseries.Panel:
    """Names with their mean and last value, where there is room for a table."""
    legend = common.VizLegendOptions().show_legend(True).placement(kinds.LegendPlacement.BOTTOM)
    if about.width > THIRD:
        legend = legend.display_mode(kinds.LegendDisplayMode.TABLE).calcs(["mean", "lastNotNull"])
    else:
        legend = legend.display_mode(kinds.LegendDisplayMode.LIST).calcs(["lastNotNull"])
    tooltip = common.VizTooltipOptions().mode(kinds.TooltipDisplayMode.MULTI).sort(kinds.SortOrder.DESCENDING)
    return panel.legend(legend).tooltip(tooltip)


def _last() -> common.ReduceDataOptions:
    return common.ReduceDataOptions().calcs(["lastNotNull"]).values(False)


def _thresholds(steps: Sequence[tuple[float | None, str]]) -> build.ThresholdsConfig:
    found = [model.Threshold(value=value, color=colour) for value, colour in steps]
    return build.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps(found)


def _value(name: str, value: Any) -> model.DynamicConfigValue:
    return model.DynamicConfigValue(id_val=name, value=value)
