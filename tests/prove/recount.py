#!/usr/bin/env python3
"""Count recorded events again, from nothing: JSON lines in, a Prometheus exposition out.

    gateway events --data-dir DIR | python tests/prove/recount.py

`gateway events` enriches every row of the log anew, with the tables and baselines stored for that row; here they
are counted by the stream's own code. What the gateway's /metrics shows after any number of crashes must be the
same.
"""

import sys

from prometheus_client import CollectorRegistry, generate_latest

from stream.events import decode_enriched
from stream.metrics import Metrics


def main() -> int:
    """Count standard input's events; return 0."""
    metrics, registry = Metrics(), CollectorRegistry(auto_describe=False)
    for line in sys.stdin.buffer:
        metrics.observe(decode_enriched(line))
    registry.register(metrics)
    sys.stdout.buffer.write(generate_latest(registry))
    return 0


if __name__ == "__main__":
    sys.exit(main())
