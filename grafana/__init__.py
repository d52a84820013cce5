"""Dashboards and rules as code: `python -m grafana.generate` writes `grafana/dashboards` and `grafana/rules`."""
