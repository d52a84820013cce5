"""What is exported by OTLP and where to: the key of the configuration file, the option, the environment."""

import importlib.util
from argparse import ArgumentParser
from pathlib import Path

import pytest

from gateway.config import Config, ConfigError, default_config, load_config
from gateway.otlp import resource_of
from gateway.otlp_options import add_otlp_option, with_otlp
from gateway.otlp_settings import OtlpSettings
from stream.command import UsageError

SECRET = "sesame-very-secret"
FILE = """
trueclock:
  otlp:
    endpoint: https://otlp.example:4318/base/
    headers:
      Authorization: Bearer os.environ/OTLP_SECRET
      x-tenant: a, b
    protocol: http/protobuf
    spans: true
    metrics: false
    metric_interval_seconds: 15
    sample_ratio: 0.25
"""


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTLP_SECRET", SECRET)
    for name in ("EXPORTER_OTLP_ENDPOINT", "EXPORTER_OTLP_HEADERS", "SERVICE_NAME", "RESOURCE_ATTRIBUTES"):
        monkeypatch.delenv(f"OTEL_{name}", raising=False)


def load(folder: Path, text: str) -> Config:
    path = folder / "config.yaml"
    path.write_text(text)
    return load_config(path)


def told(config: Config, *words: str) -> OtlpSettings | None:
    parser = ArgumentParser()
    add_otlp_option(parser)
    return with_otlp(config, parser.parse_args(words)).otlp


def test_a_file_says_where_and_how(tmp_path: Path) -> None:
    config = load(tmp_path, FILE)
    settings = told(config)
    assert settings == OtlpSettings(
        endpoint="https://otlp.example:4318/base",
        headers={"Authorization": f"Bearer {SECRET}", "x-tenant": "a, b"},
        spans=True,
        metrics=False,
        metric_interval_seconds=15.0,
        sample_ratio=0.25,
    )
    assert SECRET not in repr(config)
    assert load(tmp_path, FILE) == config, "read again it is the same, whenever that is"


def test_nothing_is_exported_unless_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "malformed")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "malformed")
    assert told(default_config()) is None
    assert told(load(tmp_path, "trueclock:\n  upstream: http://h\n  otlp:\n")) is None


def test_the_environment_is_honoured_once_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318/")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", " api-key=a%20b%3D , x-tenant=c,")
    headers = {"api-key": "a b=", "x-tenant": "c"}
    assert told(default_config(), "--otlp") == OtlpSettings("http://collector:4318", headers)
    assert told(load(tmp_path, "trueclock:\n  otlp: {metrics: false}\n")) == OtlpSettings(
        "http://collector:4318", headers, metrics=False
    )
    # The option goes before the file, and the file before the environment.
    settings = told(load(tmp_path, FILE), "--otlp", "http://127.0.0.1:9")
    assert settings is not None
    assert settings.endpoint == "http://127.0.0.1:9"
    assert settings.headers == {"api-key": "a b=", "x-tenant": "a, b", "Authorization": f"Bearer {SECRET}"}
    settings = told(load(tmp_path, FILE), "--otlp")
    assert settings is not None
    assert settings.endpoint == "https://otlp.example:4318/base"


@pytest.mark.parametrize(
    ("service", "attributes", "resource"),
    [
        ("", "", {}),
        ("llm", "", {"service.name": "llm"}),
        ("", "service.name=a,host.name=b", {"service.name": "a", "host.name": "b"}),
        ("llm", " service.name=a, k%20ey = c%2C%3D%C3%A9 ,", {"service.name": "llm", "k ey": "c,=é"}),
        ("", "empty=", {"empty": ""}),
    ],
)
def test_the_environment_names_who_exports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, service: str, attributes: str, resource: dict[str, str]
) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", service)
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", attributes)
    settings = told(load(tmp_path, FILE))
    assert settings is not None
    assert settings.resource == resource
    own = resource_of(tmp_path, {})
    assert own["service.name"] == "trueclock-gateway"
    assert resource_of(tmp_path, settings.resource) == {**own, **resource}


@pytest.mark.parametrize("value", ["malformed", "a=b,=c", "a=b;c,d"])
def test_attributes_that_cannot_be_read_stop_the_start(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", value)
    with pytest.raises(UsageError, match=r"^OTEL_RESOURCE_ATTRIBUTES: expected name=value pairs with commas"):
        told(default_config(), "--otlp", "http://127.0.0.1:4318")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("https://otlp.example:4318/base/", "otlp.example:4318"), ":4: trueclock.otlp.endpoint: expected the URL of a collector"),
        (("https://otlp.example", "https://ann:pass@otlp.example"), ":4: trueclock.otlp.endpoint: expected a URL without user"),
        (("/base/", "/v1/traces"), ":4: trueclock.otlp.endpoint: expected the base URL"),
        (("4318/base/", "4318?key=1"), ":4: trueclock.otlp.endpoint: expected a URL without user, query"),
        (("4318/base/", "99999"), ":4: trueclock.otlp.endpoint: expected the URL of a collector"),
        (("Bearer os.environ/OTLP_SECRET", '"a\\nb: c"'), ":6: trueclock.otlp.headers.Authorization: the value of Authorization"),
        (("Authorization", "Content-Type"), ":6: trueclock.otlp.headers.Content-Type: no name of a header that can be set"),
        (("x-tenant", '"x y"'), ":7: trueclock.otlp.headers.x y: no name of a header"),
        (("OTLP_SECRET", "NOT_THERE"), ":6: trueclock.otlp.headers.Authorization: the environment variable NOT_THERE is not set"),
        (("http/protobuf", "grpc"), ":8: trueclock.otlp.protocol: expected http/protobuf"),
        (("spans: true", "spans: 1"), ":9: trueclock.otlp.spans: expected true or false"),
        (("spans: true", "spans: false"), ":3: trueclock.otlp: neither spans nor metrics"),
        (("_seconds: 15", "_seconds: 0"), ":11: trueclock.otlp.metric_interval_seconds: expected a number of at least 0.1"),
        (("0.25", "1.5"), ":12: trueclock.otlp.sample_ratio: expected a ratio of at most 1"),
        (("sample_ratio", "sample_rate"), ":12: trueclock.otlp.sample_rate: unknown key (did you mean 'sample_ratio'?)"),
    ],
)  # fmt: skip
def test_a_file_that_is_wrong_is_told_of_by_line(tmp_path: Path, change: tuple[str, str], says: str) -> None:
    assert change[0] in FILE
    with pytest.raises(ConfigError) as raised:
        load(tmp_path, FILE.replace(*change, 1))
    message = str(raised.value)
    assert message.startswith(f"{tmp_path / 'config.yaml'}{says}")
    assert "\n" not in message
    assert SECRET not in message
    assert "pass@" not in message


@pytest.mark.parametrize(
    ("words", "variables", "says"),
    [
        (("--otlp",), {}, "--otlp: name a URL such as http://127.0.0.1:4318, or set OTEL_EXPORTER_OTLP_ENDPOINT"),
        (("--otlp", "ftp://x"), {}, "--otlp: expected the URL of a collector"),
        (("--otlp",), {"ENDPOINT": "collector:4318"}, "OTEL_EXPORTER_OTLP_ENDPOINT: expected the URL of a collector"),
        (("--otlp", "http://x"), {"HEADERS": SECRET}, "OTEL_EXPORTER_OTLP_HEADERS: expected name=value pairs"),
        (("--otlp", "http://x"), {"HEADERS": f"a=%0A{SECRET}"}, "OTEL_EXPORTER_OTLP_HEADERS: the value of a cannot"),
    ],
)  # fmt: skip
def test_what_is_asked_for_and_cannot_be_stops_the_start(
    monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], variables: dict[str, str], says: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(f"OTEL_EXPORTER_OTLP_{name}", value)
    with pytest.raises(UsageError) as raised:
        told(default_config(), *words)
    assert str(raised.value).startswith(says)
    assert SECRET not in str(raised.value)


@pytest.mark.parametrize("parent_too", [False, True])
def test_without_the_extra_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch, *, parent_too: bool) -> None:
    def find(name: str) -> None:
        assert name == "opentelemetry.proto"
        if parent_too:
            raise ModuleNotFoundError

    monkeypatch.setattr(importlib.util, "find_spec", find)
    with pytest.raises(UsageError, match=r"^exporting by OTLP needs opentelemetry-proto: pip install -e '\.\[otlp\]'"):
        told(default_config(), "--otlp", "http://127.0.0.1:4318")
    assert told(default_config()) is None
