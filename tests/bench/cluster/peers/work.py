"""What every peer does with a record, and nothing else: read its events, enrich them, write them again."""

import os

from stream.coefficients import load_tables
from stream.enrich import enrich
from stream.events import decode_event, encode_enriched

BROKER, SOURCE, TARGET, GROUP = (os.environ[name] for name in ("BROKER", "SOURCE", "TARGET", "GROUP"))
_TABLES = load_tables()


def enriched(value: bytes) -> list[bytes]:
    """The enriched events of an input record."""
    return [encode_enriched(enrich(decode_event(line), _TABLES)) for line in value.split(b"\n")]
