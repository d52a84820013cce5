"""The rule file: recording rules and alerts, as Prometheus reads them."""

import yaml

from grafana.alerts import alerts
from grafana.recording import WINDOWS, recordings

__all__ = ["rules_text"]

_HEAD = "# Written by `python -m grafana.generate`: change grafana/ratios.py and grafana/alerts.py, not this file.\n"


def rules_text(readme: str) -> str:
    """The file's text; `readme` is the address of the README, whose headings are the runbook."""
    recorded = [
        {
            "name": f"trueclock-ratios-{window}",
            "rules": [{"record": rule.record, "expr": rule.expr} for rule in recordings(window)],
        }
        for window in WINDOWS
    ]
    groups: dict[str, list[dict[str, object]]] = {}
    for alert in alerts():
        groups.setdefault(alert.group, []).append(alert.rule(readme))
    alerting = [{"name": f"trueclock-{name}", "rules": rules} for name, rules in groups.items()]
    document = {"groups": [*recorded, *alerting]}
    return _HEAD + yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


class _Dumper(yaml.SafeDumper):
    """Expressions of several lines stay so."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)
