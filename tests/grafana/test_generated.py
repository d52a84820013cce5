"""The dashboards: what is committed is what the code says, and Grafana can show it as far as can be told without it."""

import json
import re
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml

from grafana.alerts import alerts
from grafana.empty import NOTHING
from grafana.generate import files, main

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "grafana"
README = (ROOT / "README.md").read_text(encoding="utf-8")
BOARDS: dict[str, dict[str, Any]] = {
    path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted((FOLDER / "dashboards").glob("*.json"))
}
UIDS = {board["uid"]: board for board in BOARDS.values()}
PANELS = [
    pytest.param(board, panel, id=f"{name}: {panel['title']}")
    for name, board in BOARDS.items()
    for panel in board["panels"]
    if panel["type"] != "row"
]
OF_GRAFANA = {"__rate_interval", "__range", "__range_s", "__url_time_range"}
VARIABLE = re.compile(r"\$(?:\{(\w+)(?::\w+)?\}|(\w+))")


def test_what_is_committed_is_what_the_code_says(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--check"]) == 0, capsys.readouterr().out
    written = {
        f"{path.parent.name}/{path.name}" for kind in ("dashboards", "rules") for path in (FOLDER / kind).iterdir()
    }
    assert written == files().keys()


def test_what_differs_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--out", str(tmp_path)]) == 0
    assert main(["--out", str(tmp_path), "--check"]) == 0
    changed = tmp_path / "rules" / "trueclock.yaml"
    changed.write_text(changed.read_text() + "\n")
    capsys.readouterr()
    assert main(["--out", str(tmp_path), "--check"]) == 1
    assert capsys.readouterr().out == "rules/trueclock.yaml: differs from the code\n"


def test_the_readmes_address_goes_into_runbooks_and_links() -> None:
    address = "https://git.example.org/README.md"
    made = files(address)
    rules = [rule for group in yaml.safe_load(made["rules/trueclock.yaml"])["groups"] for rule in group["rules"]]
    urls = [rule["annotations"]["runbook_url"] for rule in rules if "alert" in rule]
    assert urls
    assert all(url.startswith(f"{address}#trueclock") for url in urls)
    for name, text in made.items():
        if name.endswith(".json"):
            assert f"{address}#dashboards-and-alerts" in {link["url"] for link in json.loads(text)["links"]}


@pytest.mark.parametrize("name", BOARDS)
def test_a_dashboard_stands_on_the_grid(name: str) -> None:
    panels = BOARDS[name]["panels"]
    ids = [panel["id"] for panel in panels]
    assert len(set(ids)) == len(ids)
    titles = [panel["title"] for panel in panels]
    assert len(set(titles)) == len(titles)
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] >= 0
        assert place["x"] + place["w"] <= 24
    for one, other in combinations(panels, 2):
        assert not overlap(one["gridPos"], other["gridPos"]), (one["title"], other["title"])


def overlap(one: dict[str, int], other: dict[str, int]) -> bool:
    across = one["x"] < other["x"] + other["w"] and other["x"] < one["x"] + one["w"]
    return across and one["y"] < other["y"] + other["h"] and other["y"] < one["y"] + one["h"]


@pytest.mark.parametrize("name", BOARDS)
def test_the_lines_of_the_grid_are_full(name: str) -> None:
    widths: dict[int, int] = {}
    for panel in BOARDS[name]["panels"]:
        place = panel["gridPos"]
        widths[place["y"]] = widths.get(place["y"], 0) + place["w"]
    assert set(widths.values()) == {24}


@pytest.mark.parametrize(("board", "panel"), PANELS)
def test_a_panel_says_what_it_is(board: dict[str, Any], panel: dict[str, Any]) -> None:
    assert re.search(r"\w.*\.$", panel["description"], re.DOTALL)
    defaults = panel["fieldConfig"]["defaults"]
    assert defaults["unit"]
    assert defaults["noValue"]
    assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    assert panel["targets"]
    references = [target["refId"] for target in panel["targets"]]
    assert len(set(references)) == len(references)
    for target in panel["targets"]:
        assert target["legendFormat"]
        assert target["datasource"] == panel["datasource"]
        assert target["instant"] is not target["range"]


@pytest.mark.parametrize(("board", "panel"), PANELS)
def test_a_panel_that_may_be_empty_says_why(board: dict[str, Any], panel: dict[str, Any]) -> None:
    """A ratio has no value without its requests, nor has what is shown only if it is more than nothing."""
    empty = panel["fieldConfig"]["defaults"]["noValue"]
    if any(re.search(r"> 0|histogram_quantile", target["expr"]) for target in panel["targets"]):
        assert empty != NOTHING.text
    assert (empty == NOTHING.text) is not bool(re.search(r"\. Empty \w.*\.$", panel["description"]))


@pytest.mark.parametrize(("board", "panel"), PANELS)
def test_columns_that_are_named_are_there(board: dict[str, Any], panel: dict[str, Any]) -> None:
    """A table's columns, in the order of its queries, each with a unit; overrides of others name a legend."""
    named = {o["matcher"]["options"] for o in panel["fieldConfig"]["overrides"] if o["matcher"]["id"] == "byName"}
    if panel["type"] not in {"table", "xychart"}:
        legends = {target["legendFormat"] for target in panel["targets"]}
        assert named <= legends | {"model", "stack", "contention", "raw"}
        return
    organized = next(each["options"] for each in panel["transformations"] if each["id"] == "organize")
    values = [f"Value #{target['refId']}" for target in panel["targets"]]
    renamed = organized["renameByName"]
    assert list(renamed) == (values if len(values) > 1 else ["Value"])
    assert named == set(renamed.values())
    assert len(organized["indexByName"]) == len(set(organized["indexByName"].values()))
    for sorting in panel.get("options", {}).get("sortBy", []):
        assert sorting["displayName"] in renamed.values()


def variables(board: dict[str, Any]) -> set[str]:
    return {variable["name"] for variable in board["templating"]["list"]}


def used(text: str) -> set[str]:
    """The dashboard's own variables in a text; `__data…` and `__field…` are the series', not a variable."""
    found = {one or other for one, other in VARIABLE.findall(text)}
    return {name for name in found - OF_GRAFANA if not name.startswith(("__data", "__field"))}


def texts(value: Any) -> Iterator[str]:
    """Every text in a document."""
    if isinstance(value, dict):
        for inner in value.values():
            yield from texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from texts(inner)
    elif isinstance(value, str):
        yield value


@pytest.mark.parametrize("name", BOARDS)
def test_every_variable_used_is_defined_and_every_one_defined_is_used(name: str) -> None:
    board = BOARDS[name]
    described = [text for text in texts(board) if text != "$__all"]
    assert set().union(*map(used, described)) == variables(board)
    assert board["templating"]["list"][0]["name"] == "datasource"
    assert {"job"} <= variables(board)


def links(board: dict[str, Any]) -> Iterator[str]:
    yield from (link["url"] for link in board["links"])
    for panel in board["panels"]:
        yield from (link["url"] for link in panel.get("fieldConfig", {}).get("defaults", {}).get("links", []))


@pytest.mark.parametrize("name", BOARDS)
def test_links_lead_to_dashboards_that_have_their_variables(name: str) -> None:
    inside = [url for url in links(BOARDS[name]) if url.startswith("/d/")]
    assert {url.split("?")[0].removeprefix("/d/") for url in inside} >= UIDS.keys() - {BOARDS[name]["uid"]}
    for url in inside:
        uid, _, query = url.removeprefix("/d/").partition("?")
        there = variables(UIDS[uid])
        handed = re.findall(r"\$\{(\w+):queryparam\}", query)
        assert "datasource" in handed
        assert set(handed) <= there & variables(BOARDS[name])
        assert set(re.findall(r"var-(\w+)=", query)) <= there


def test_links_of_a_row_or_series_take_labels_that_it_has() -> None:
    seen = 0
    for board in BOARDS.values():
        for panel in board["panels"]:
            for link in panel.get("fieldConfig", {}).get("defaults", {}).get("links", []):
                labels = re.findall(r"\$\{__(?:field\.labels|data\.fields)\.(\w+):percentencode\}", link["url"])
                assert labels
                for label in labels:
                    seen += 1
                    assert all(re.search(rf"by \([^)]*\b{label}\b", target["expr"]) for target in panel["targets"])
    assert seen > 10


def test_the_first_row_asks_where_the_seconds_went() -> None:
    rows = [panel["title"] for panel in BOARDS["efficiency"]["panels"] if panel["type"] == "row"]
    assert rows[0] == "Is it the model, the stack or contention?"
    assert BOARDS["efficiency"]["uid"] == "trueclock-efficiency"


def test_the_runbook_has_a_heading_for_every_alert_and_no_other() -> None:
    section = README.split("\n## Dashboards and alerts\n")[1].split("\n## ")[0]
    entries = re.findall(r"^### (Trueclock\w+)\n\n(.+?)(?=\n\n### |\n*\Z)", section, re.MULTILINE | re.DOTALL)
    assert [name for name, _ in entries] == [alert.name for alert in alerts()]
    for name, text in entries:
        assert 2 <= len(text.strip().splitlines()) <= 5, name


def test_the_runbook_names_panels_that_are_there() -> None:
    """What is in italics is a panel or a variable of a dashboard, or a menu of Grafana or Prometheus (with an arrow)."""
    section = README.split("\n## Dashboards and alerts\n")[1].split("\n## ")[0]
    said = set(re.findall(r"(?<!\*)\*([^*\n]+)\*(?!\*)", section))
    titles = {panel["title"] for board in BOARDS.values() for panel in board["panels"]}
    labels = {variable["label"] for board in BOARDS.values() for variable in board["templating"]["list"]}
    assert len(said) > 10
    for name in said:
        assert "→" in name or name in labels or any(title.startswith(name) for title in titles), name


def test_alerts_are_complete() -> None:
    for alert in alerts():
        assert re.fullmatch(r"Trueclock[A-Z]\w+", alert.name)
        assert alert.severity in {"critical", "warning"}
        assert not alert.summary.endswith(".")
        assert alert.description.endswith(".")
