"""Make the Prometheus operator's PrometheusRule from the rules that Prometheus itself reads.

    python deploy/prometheus_rule.py

Run it after grafana/rules/trueclock.yaml has changed; a test compares the two.
"""
# ruff: noqa: INP001 - a script

import sys
from pathlib import Path
from textwrap import indent

DEPLOY = Path(__file__).resolve().parent
RULES = DEPLOY.parent / "grafana" / "rules" / "trueclock.yaml"
MADE = DEPLOY / "kubernetes" / "components" / "prometheus-operator" / "rules.yaml"
_HEAD = """\
# Made by deploy/prometheus_rule.py from grafana/rules/trueclock.yaml: change that, and run it.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: trueclock
  labels: {app.kubernetes.io/name: trueclock-rules}
spec:
"""


def manifest(rules: str) -> str:
    """The PrometheusRule that holds the text of a rules file: a mapping with `groups`."""
    return _HEAD + indent(rules, "  ")


def main() -> int:
    """Write the manifest; 1, and one line, where there are no rules."""
    try:
        MADE.write_text(manifest(RULES.read_text(encoding="utf-8")), encoding="utf-8")
    except OSError as error:
        print(f"prometheus_rule: {error.filename}: {error.strerror}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
