"""The rights that docs/configuration.md names are enough for each program, where a broker grants nothing else."""

import json
import re
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from stream.events import RequestEvent, encode_event
from stream.topic_creation import ensure_topics
from tests import kafka_topics
from tests.gateway.forwarding import record
from tests.harness import ROOT, GatewayProcess, ask, run, until
from tests.kafka_broker import GUARDED, Broker
from tests.worker_process import WorkerProcess
