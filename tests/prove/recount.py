#!/usr/bin/env python3
"""Count recorded events again, from nothing: JSON lines in, a Prometheus exposition out.

    gateway events --data-dir DIR | python tests/prove/recount.py

The events are enriched anew with the shipped tables and counted by the stream's own code; what the gateway's
/metrics shows after any number of crashes must be the same.
"""

import sys

from prometheus_client import CollectorRegistry, generate_latest

from stream.coefficients import load_tables
from stream.enrich import enrich
from stream.events import decode_event
from stream.metrics import Metrics


def main() -> int:
    """Count standard input's events; return 0."""
    tables, metrics, registry = load_tables(), Metrics(), CollectorRegistry(auto_describe=False)
    for line in sys.stdin.buffer:
        metrics.observe(enrich(decode_event(line), tables))
    registry.register(metrics)
    sys.stdout.buffer.write(generate_latest(registry))
    return 0


if __name__ == "__main__":
    sys.exit(main())
