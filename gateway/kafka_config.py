"""The key `kafka` of the configuration file: where events are forwarded to, and how."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from gateway.routes import MOST_LINGER_MS, Batching
from gateway.yaml_lines import Node
from stream.kafka import KAFKA_KEYS, KafkaSettingsError, settings_of

__all__ = ["kafka_config"]

_OWN_KEYS = ("topic.prefix", "linger.ms", "batch.events")


def kafka_config(node: Node, folder: Path) -> dict[str, Any]:
    """What the key says, as Config's `kafka` and `batching`; its files are from `folder`. Raise ConfigError."""
    nodes = {key: value for key, value in node.mapping((*KAFKA_KEYS, *_OWN_KEYS)).items() if not value.empty}
    values = {key: value.text() for key, value in nodes.items() if key not in _OWN_KEYS}
    prefix = nodes["topic.prefix"].text() if "topic.prefix" in nodes else ""
    try:
        settings = settings_of(values, prefix, folder)
    except KafkaSettingsError as error:
        raise nodes.get(error.setting or "", node).error(str(error)) from None
    return {"kafka": settings, "batching": _batching(nodes)}


def _batching(nodes: Mapping[str, Node]) -> Batching:
    batching = Batching()
    if "linger.ms" in nodes:
        linger = nodes["linger.ms"].number(least=0)
        if linger > MOST_LINGER_MS:
            raise nodes["linger.ms"].error(f"expected at most {MOST_LINGER_MS} (milliseconds)")
        batching = replace(batching, linger_seconds=linger / 1000)
    if "batch.events" in nodes:
        batching = replace(batching, most_events=nodes["batch.events"].integer(least=1))
    return batching
