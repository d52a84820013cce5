"""deploy/alertmanager.example.yaml: each severity that the rules have gets to somebody, and what it names is there."""

import re
import shutil
import subprocess
from typing import Any

import yaml

from tests.harness import ROOT

FILE = ROOT / "deploy" / "alertmanager.example.yaml"
SAID: dict[str, Any] = yaml.safe_load(FILE.read_text(encoding="utf-8"))
RULES = yaml.safe_load((ROOT / "grafana" / "rules" / "trueclock.yaml").read_text(encoding="utf-8"))
ALERTS = {rule["alert"]: rule["labels"] for group in RULES["groups"] for rule in group["rules"] if "alert" in rule}


def matches(matchers: list[str], labels: dict[str, str]) -> bool:
    """Whether labels meet all matchers, as Alertmanager reads them."""
    for each in matchers:
        found = re.fullmatch(r'(\w+)(=~?)"([^"]*)"', each)
        assert found is not None, each
        pattern = found[3] if found[2] == "=~" else re.escape(found[3])
        if not re.fullmatch(pattern, labels.get(found[1], "")):
            return False
    return True


def test_who_hears_of_what() -> None:
    known = {each["name"] for each in SAID["receivers"]}
    for name, labels in ALERTS.items():
        routes = [each["receiver"] for each in SAID["route"]["routes"] if matches(each["matchers"], labels)]
        receiver = (*routes, SAID["route"]["receiver"])[0]
        assert receiver == {"critical": "now", "warning": "working-day"}[labels["severity"]], name
        assert receiver in known


def test_what_keeps_quiet_is_an_alert() -> None:
    for rule in SAID["inhibit_rules"]:
        for side in ("source_matchers", "target_matchers"):
            named = [each for each in rule[side] if each.startswith("alertname")]
            meant = {name for name in ALERTS if matches(named, {"alertname": name})}
            assert len(meant) == named[0].count("|") + 1, rule


def test_the_tool_takes_it() -> None:
    """`amtool` where it is installed; the tests above read it by themselves."""
    if shutil.which("amtool") is None:
        assert set(SAID) == {"route", "inhibit_rules", "receivers"}
        return
    done = subprocess.run(["amtool", "check-config", FILE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
