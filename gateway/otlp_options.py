"""The option `--otlp`, and OpenTelemetry's own variables: where spans and metrics go."""

import argparse
import importlib.util
import os
from dataclasses import replace
from urllib.parse import unquote

from gateway.otlp_settings import OtlpSettings, checked_endpoint, checked_header
from gateway.routes import Config
from stream.command import UsageError

__all__ = ["add_otlp_option", "with_otlp"]

_ENDPOINT, _HEADERS = "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_HEADERS"
_SERVICE, _RESOURCE = "OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES"


def _pairs(variable: str) -> list[tuple[str, str]]:
    """The `name=value` pairs of a variable, with commas between; the values are percent-encoded still."""
    pairs = []
    for pair in filter(None, (pair.strip() for pair in os.environ.get(variable, "").split(","))):
        name, equals, value = (part.strip() for part in pair.partition("="))
        if not (name and equals):
            raise UsageError(f"{variable}: expected name=value pairs with commas between them")
        pairs.append((name, value))
    return pairs


def _environment_headers() -> dict[str, str]:
    pairs = _pairs(_HEADERS)
    try:
        return dict(checked_header(name, unquote(value, "latin-1")) for name, value in pairs)
    except ValueError as error:
        raise UsageError(f"{_HEADERS}: {error}") from None


def _environment_resource() -> dict[str, str]:
    """What says who exports; of the service's name, the variable for that alone goes before the other."""
    named = {unquote(name): unquote(value) for name, value in _pairs(_RESOURCE)}
    service = os.environ.get(_SERVICE)
    return {**named, "service.name": service} if service else named


def add_otlp_option(parser: argparse.ArgumentParser) -> None:
    """Add --otlp, for `with_otlp`."""
    parser.add_argument(
        "--otlp", nargs="?", const="", metavar="URL", help=f"export spans and metrics by OTLP (default: ${_ENDPOINT})"
    )


def with_otlp(config: Config, options: argparse.Namespace) -> Config:
    """The configuration as `--otlp` and the environment change it; raise UsageError.

    Also where an export is asked for and what it needs is not installed. Where none is, nothing is read of the
    environment. The option's URL goes before the file's, and that before the environment's; of headers, too, the
    file's go before the environment's.
    """
    if config.otlp is None and options.otlp is None:
        return config
    if not _installed():
        raise UsageError("exporting by OTLP needs opentelemetry-proto: pip install -e '.[otlp]' in its checkout")
    settings = config.otlp or OtlpSettings()
    given = {"--otlp": options.otlp, "otlp": settings.endpoint, _ENDPOINT: os.environ.get(_ENDPOINT)}
    name, url = next(((name, url) for name, url in given.items() if url), ("--otlp", ""))
    if not url:
        asked = "otlp: name an endpoint" if options.otlp is None else "--otlp: name a URL"
        raise UsageError(f"{asked} such as http://127.0.0.1:4318, or set {_ENDPOINT}")
    try:
        endpoint = checked_endpoint(url)
    except ValueError as error:
        raise UsageError(f"{name}: {error}") from None
    headers = {**_environment_headers(), **settings.headers}
    resource = _environment_resource()
    return replace(config, otlp=replace(settings, endpoint=endpoint, headers=headers, resource=resource))


def _installed() -> bool:
    try:
        return importlib.util.find_spec("opentelemetry.proto") is not None
    except ModuleNotFoundError:  # not even its parent is there
        return False
