"""Where Kafka is and how to get in: read from the command line, a properties file or `config.yaml`, checked once.

The names are those of librdkafka's and Java's clients (`bootstrap.servers`, `sasl.password`, ...), so that a file made
for `kcat -F` does. What is wrong is a `KafkaSettingsError`: one line that never shows a value that may be secret.
"""

import argparse
import difflib
import re
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from stream.topics import TopicNameError, Topics

__all__ = [
    "KAFKA_KEYS",
    "KafkaSettings",
    "KafkaSettingsError",
    "add_kafka_options",
    "kafka_settings",
    "read_properties",
    "settings_of",
]

_DEFAULT_PORT = 9092
_LAST_PORT = 65_535
_PROTOCOLS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
_MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
_SASL = ("sasl.mechanism", "sasl.username", "sasl.password")
_FILES = {"ssl.ca.location": "ca", "ssl.certificate.location": "certificate", "ssl.key.location": "key"}
_VERIFY = "ssl.endpoint.identification.algorithm"
_TLS = (*_FILES, "ssl.key.password", _VERIFY)
KAFKA_KEYS = ("bootstrap.servers", "security.protocol", *_SASL, *_TLS)
"""The settings that are known."""
_OTHER_NAMES = {"sasl.mechanisms": "sasl.mechanism"}  # librdkafka's own spelling
_INSTEAD = {
    "sasl.jaas.config": "sasl.username and sasl.password",
    "ssl.truststore.location": "ssl.ca.location, a PEM file",
    "ssl.keystore.location": "ssl.certificate.location and ssl.key.location, PEM files",
}
_SERVER = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^\s:/\[\],;]+)(?::(?P<port>[0-9]{1,5}))?")


class KafkaSettingsError(ValueError):
    """Settings that cannot be used. `str(error)` is one line; `setting` is the key at fault, if one is."""

    def __init__(self, message: str, setting: str | None = None) -> None:
        super().__init__(message)
        self.setting = setting


@dataclass(frozen=True, slots=True)
class KafkaSettings:
    """Brokers (`host:port`), access by Kafka's own names for protocol and mechanism, and the prefix of the topics."""

    servers: tuple[str, ...]
    prefix: str = ""
    protocol: str = "PLAINTEXT"
    mechanism: str | None = None
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    key_password: str | None = field(default=None, repr=False)
    verify_host: bool = True

    @property
    def topics(self) -> Topics:
        """The topics' names."""
        return Topics(self.prefix)

    @property
    def brokers(self) -> str:
        """The servers, as they are shown and written."""
        return ",".join(self.servers)

    def ssl_context(self) -> ssl.SSLContext | None:
        """What TLS needs, None without TLS; raise KafkaSettingsError for files that cannot be used."""
        if "SSL" not in self.protocol:
            return None
        context = self._trusting()
        context.check_hostname = self.verify_host
        if self.certificate is not None:
            try:
                # A function, since OpenSSL would ask at the terminal for a password that it was not given.
                context.load_cert_chain(self.certificate, self.key, lambda: self.key_password or "")
            except (OSError, ValueError) as error:
                why = getattr(error, "strerror", None) or error
                message = f"no certificate with its key (PEM), or a wrong ssl.key.password: {why}"
                raise KafkaSettingsError(message, "ssl.certificate.location") from None
        return context

    def _trusting(self) -> ssl.SSLContext:
        try:
            return ssl.create_default_context(cafile=self.ca)
        except OSError as error:
            raise KafkaSettingsError(f"no certificates (PEM): {error.strerror or error}", "ssl.ca.location") from None

    def kafka_python(self) -> dict[str, Any]:
        """What every client of kafka-python takes."""
        options: dict[str, Any] = {"bootstrap_servers": list(self.servers), "security_protocol": self.protocol}
        context = self.ssl_context()
        if context is not None:
            options["ssl_context"] = context
        if self.mechanism is not None:
            options["sasl_mechanism"] = self.mechanism
            options["sasl_plain_username"] = self.username
            options["sasl_plain_password"] = self.password
        return options

    def aiokafka(self) -> dict[str, Any]:
        """What every client of aiokafka takes: the same names, by its descent."""
        return self.kafka_python()

    def faust(self) -> tuple[str, dict[str, Any]]:
        """Faust's broker URL, and the arguments of its `SASLCredentials`, of its `SSLCredentials`, or none."""
        url = ";".join(f"kafka://{server}" for server in self.servers)
        context = self.ssl_context()
        if self.mechanism is None:
            return url, {} if context is None else {"context": context}
        access = {"username": self.username, "password": self.password, "mechanism": self.mechanism}
        return url, {**access, "ssl_context": context}


def servers_of(text: str) -> tuple[str, ...]:
    """`HOST:PORT[,...]` as separate servers; a port left out is 9092. Raise KafkaSettingsError."""
    servers = tuple(_server(part.strip()) for part in text.split(",") if part.strip())
    if not servers:
        raise KafkaSettingsError("no broker: expected HOST:PORT[,HOST:PORT...]", "bootstrap.servers")
    return servers


def _server(text: str) -> str:
    found = _SERVER.fullmatch(text)
    port = int(found["port"] or _DEFAULT_PORT) if found else 0
    if found is None or not 0 < port <= _LAST_PORT:
        # not quoted: a password might have got there
        raise KafkaSettingsError("expected HOST:PORT[,HOST:PORT...], without a scheme", "bootstrap.servers")
    return f"{found['host']}:{port}"


def settings_of(values: Mapping[str, str], prefix: str = "", folder: Path = Path()) -> KafkaSettings:
    """Settings from texts by name, files among them from `folder`; raise KafkaSettingsError, which names the key."""
    values = {_known(key): value for key, value in values.items()}
    if "bootstrap.servers" not in values:
        raise KafkaSettingsError("bootstrap.servers is missing: HOST:PORT of a broker")
    protocol = _choice(values, "security.protocol", _PROTOCOLS, str.upper) or "PLAINTEXT"
    _check_access(values, protocol)
    files = {name: folder / values[key] for key, name in _FILES.items() if key in values}
    settings = KafkaSettings(
        servers=servers_of(values["bootstrap.servers"]),
        protocol=protocol,
        mechanism=_choice(values, "sasl.mechanism", _MECHANISMS, str.upper),
        username=values.get("sasl.username"),
        password=values.get("sasl.password"),
        key_password=values.get("ssl.key.password"),
        verify_host=_choice(values, _VERIFY, ("https", "none", ""), str.lower) in (None, "https"),
        ca=files.get("ca"),
        certificate=files.get("certificate"),
        key=files.get("key"),
    )
    settings.ssl_context()  # what is wrong with its files is to be known now
    return _prefixed(settings, prefix)


def _prefixed(settings: KafkaSettings, prefix: str) -> KafkaSettings:
    try:
        Topics(prefix)
    except TopicNameError as error:
        raise KafkaSettingsError(str(error), "topic.prefix") from None
    return replace(settings, prefix=prefix)


def _known(key: str) -> str:
    name = _OTHER_NAMES.get(key, key)
    if name in KAFKA_KEYS:
        return name
    near = _INSTEAD.get(key) or next(iter(difflib.get_close_matches(key, KAFKA_KEYS, n=1)), None)
    hint = f" (did you mean {near}?)" if near else ""
    raise KafkaSettingsError(f"unknown setting {key}{hint}; known here: {', '.join(KAFKA_KEYS)}", key)


def _choice(values: Mapping[str, str], key: str, known: tuple[str, ...], fold: Callable[[str], str]) -> str | None:
    if key not in values:
        return None
    value = fold(values[key])
    if value not in known:
        raise KafkaSettingsError(f"{key}: expected {' or '.join(filter(None, known))}", key)
    return value


def _check_access(values: Mapping[str, str], protocol: str) -> None:
    """Refuse what is missing, and what would silently be ignored, such as a password that the protocol never sends."""
    given = [key for key in _SASL if key in values]
    if protocol.startswith("SASL"):
        missing = [key for key in _SASL if not values.get(key)]
        if missing:
            raise KafkaSettingsError(f"{missing[0]} is missing: {protocol} needs it", "security.protocol")
    elif given:
        raise KafkaSettingsError(f"{given[0]} needs security.protocol SASL_SSL or SASL_PLAINTEXT", given[0])
    encrypting = [key for key in _TLS if key in values]
    if encrypting and "SSL" not in protocol:
        raise KafkaSettingsError(f"{encrypting[0]} needs security.protocol SSL or SASL_SSL", encrypting[0])
    if "ssl.key.location" in values and "ssl.certificate.location" not in values:
        raise KafkaSettingsError("ssl.key.location needs ssl.certificate.location", "ssl.key.location")


def read_properties(path: Path, servers: str | None = None, prefix: str = "") -> KafkaSettings:
    """Settings from a file of `name=value` lines; `servers` go before its own. Raise KafkaSettingsError, OSError."""
    values: dict[str, str] = {}
    lines: dict[str, int] = {}
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise KafkaSettingsError(f"{path}: not UTF-8 text (byte {error.start})") from None
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip() and line.strip()[0] not in "#!":
            key, equals, value = (part.strip() for part in line.partition("="))
            if not (key and equals):
                raise KafkaSettingsError(f"{path}:{number}: expected name=value")
            if key in values:
                raise KafkaSettingsError(f"{path}:{number}: {key} is here twice (first on line {lines[key]})")
            values[key], lines[key] = value, number
    if servers is not None:
        values["bootstrap.servers"] = servers
        lines.pop("bootstrap.servers", None)
    try:
        return settings_of(values, prefix, path.parent)
    except KafkaSettingsError as error:
        raise KafkaSettingsError(f"{_place(path, lines, error)}: {error}", error.setting) from None


def _place(path: Path, lines: Mapping[str, int], error: KafkaSettingsError) -> str:
    if error.setting == "topic.prefix":
        return "--topic-prefix"
    if error.setting == "bootstrap.servers" and error.setting not in lines:
        return "--kafka"
    line = lines.get(error.setting or "")
    return f"{path}:{line}" if line else str(path)


def add_kafka_options(parser: argparse.ArgumentParser) -> None:
    """Add --kafka, --kafka-properties and --topic-prefix, for `kafka_settings`."""
    parser.add_argument("--kafka", metavar="HOST:PORT[,...]", help="Kafka's brokers")
    parser.add_argument(
        "--kafka-properties", type=Path, metavar="FILE", help="settings as for kcat -F: brokers, TLS, SASL"
    )
    parser.add_argument(
        "--topic-prefix", default="", metavar="TEXT", help="comes before each topic's name, such as staging."
    )


def kafka_settings(options: argparse.Namespace, known: KafkaSettings | None = None) -> KafkaSettings:
    """Settings that the options of `add_kafka_options` name; what they leave open is as in those `known` already.

    Raise KafkaSettingsError, also where nobody names brokers.
    """
    prefix = options.topic_prefix or (known.prefix if known else "")
    if options.kafka_properties is not None:
        return read_properties(options.kafka_properties, options.kafka, prefix)
    try:
        if known is not None:
            return _prefixed(replace(known, servers=servers_of(options.kafka)) if options.kafka else known, prefix)
        if options.kafka is not None:
            return settings_of({"bootstrap.servers": options.kafka}, prefix)
    except KafkaSettingsError as error:
        option = "--topic-prefix" if error.setting == "topic.prefix" else "--kafka"
        raise KafkaSettingsError(f"{option}: {error}", error.setting) from None
    raise KafkaSettingsError("which brokers? --kafka HOST:PORT, or --kafka-properties FILE")
