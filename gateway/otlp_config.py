"""The key `otlp` of the configuration file: what is exported by OTLP, and where to."""

from collections.abc import Callable, Mapping
from dataclasses import replace

from gateway.otlp_settings import OtlpSettings, checked_endpoint, checked_header
from gateway.yaml_lines import Node

__all__ = ["otlp_config"]

_KEYS = ("endpoint", "headers", "protocol", "spans", "metrics", "metric_interval_seconds", "sample_ratio")
_PROTOCOL = "http/protobuf"
_LEAST_INTERVAL_SECONDS = 0.1


def otlp_config(node: Node) -> OtlpSettings:
    """What the key says; raise ConfigError."""
    nodes = {key: value for key, value in node.mapping(_KEYS).items() if not value.empty}
    _checked(nodes, "protocol", _protocol)
    settings = OtlpSettings(
        endpoint=_checked(nodes, "endpoint", checked_endpoint) or "",
        headers=_headers(nodes["headers"]) if "headers" in nodes else {},
        spans=_flag(nodes, "spans"),
        metrics=_flag(nodes, "metrics"),
    )
    if not (settings.spans or settings.metrics):
        raise node.error("neither spans nor metrics are to be exported: leave the key out")
    return _with_numbers(settings, nodes)


def _with_numbers(settings: OtlpSettings, nodes: Mapping[str, Node]) -> OtlpSettings:
    if "metric_interval_seconds" in nodes:
        interval = nodes["metric_interval_seconds"].number(least=_LEAST_INTERVAL_SECONDS)
        settings = replace(settings, metric_interval_seconds=interval)
    if "sample_ratio" in nodes:
        ratio = nodes["sample_ratio"].number(least=0)
        if ratio > 1:
            raise nodes["sample_ratio"].error("expected a ratio of at most 1")
        settings = replace(settings, sample_ratio=ratio)
    return settings


def _flag(nodes: Mapping[str, Node], key: str) -> bool:
    if key not in nodes:
        return True
    value = nodes[key].data
    if not isinstance(value, bool):
        raise nodes[key].error("expected true or false")
    return value


def _checked(nodes: Mapping[str, Node], key: str, check: Callable[[str], str]) -> str | None:
    if key not in nodes:
        return None
    text = nodes[key].text()
    try:
        return check(text)
    except ValueError as error:
        raise nodes[key].error(str(error)) from None


def _headers(node: Node) -> dict[str, str]:
    headers: dict[str, str] = {}
    for name, value in node.mapping().items():
        text = value.text()
        try:
            headers.update([checked_header(name, text)])
        except ValueError as error:
            raise value.error(str(error)) from None
    return headers


def _protocol(text: str) -> str:
    if text != _PROTOCOL:
        raise ValueError(f"expected {_PROTOCOL}, which is the one there is")
    return text
