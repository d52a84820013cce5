"""The files that go over deploy/compose.yaml: your own Kafka, none, two gateways, and the example of what is yours."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from gateway.settings import Settings
from tests.deploy.commands import Understood, understood
from tests.deploy.composing import load, merged
from tests.deploy.test_compose import COMPOSE, SCHEMA, mounts, scraped
from tests.deploy.test_kubernetes import documented_properties

KAFKA = "/etc/trueclock-kafka"
VARIANTS = ("own-kafka", "no-kafka", "two-gateways", "override.example")
SERVICES = {
    "own-kafka": {"gateway", "grafana", "prometheus", "stream-1", "stream-2"},
    "no-kafka": {"gateway", "grafana", "prometheus"},
    "two-gateways": {*COMPOSE["services"], "gateway-2"},
    "override.example": set(COMPOSE["services"]),
}


def project(variant: str) -> dict[str, Any]:
    return merged("compose.yaml", f"compose.{variant}.yaml")


def programs(variant: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Understood]:
    """What gateways and stream workers make of their commands, where the folders of the host hold what is documented."""
    (folder / "kafka.properties").write_text(documented_properties())
    made, found = project(variant), {}
    for name, service in made["services"].items():
        if service["image"].startswith("trueclock:"):
            files = mounts(name, made)
            if f"{KAFKA}:{KAFKA}:ro" in service.get("volumes", ()):
                files[KAFKA] = folder
            files.setdefault("/etc/trueclock", mounts("gateway")["/etc/trueclock"])
            found[name] = understood(service["command"], files, monkeypatch)
    return found


def without_kafka(command: Sequence[str]) -> list[str]:
    return [each for each in command if not each.startswith("--kafka")]


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_schema(variant: str) -> None:
    assert [error.message for error in SCHEMA.iter_errors(load(f"compose.{variant}.yaml"))] == []
    assert [error.message for error in SCHEMA.iter_errors(project(variant))] == []


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_services(variant: str) -> None:
    """They are as closed as those of compose.yaml, but for what the variant is about."""
    made = project(variant)["services"]
    assert set(made) == SERVICES[variant]
    said = {"command", "volumes", "networks", "ports", "stop_grace_period"}
    for name, service in made.items():
        base = COMPOSE["services"]["gateway" if name == "gateway-2" else name]
        assert {key: value for key, value in service.items() if key not in said} == {
            key: value for key, value in base.items() if key not in said
        }
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))
    published = [port.rpartition(":")[0] for service in made.values() for port in service.get("ports", ())]
    assert len(published) == len(set(published))


@pytest.mark.parametrize("variant", VARIANTS)
def test_prometheus_asks_exactly_whom_there_is(variant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else an alert says for ever that somebody is down who is not there, or nobody is asked of one who is."""
    found = programs(variant, tmp_path, monkeypatch)
    places = sorted(f"{name}:{each.scraped}" for name, each in found.items())
    jobs = scraped(project(variant))
    assert sorted(jobs["trueclock-gateway"] + jobs["trueclock-stream"]) == places
    for name, each in found.items():
        if each.program == "gateway":
            assert each.options.allowed_host == [name], "the name under which Prometheus asks"


def test_your_own_kafka(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All get in by the file that docs/deploying.md shows, over a network that leads out."""
    made = project("own-kafka")
    for name, each in programs("own-kafka", tmp_path, monkeypatch).items():
        assert each.kafka is not None
        assert (each.kafka.brokers, each.kafka.mechanism) == ("kafka-kafka-bootstrap.kafka.svc:9093", "SCRAM-SHA-512")
        service, base = made["services"][name], COMPOSE["services"][name]
        assert without_kafka(service["command"]) == without_kafka(base["command"])
        assert any(not (made["networks"][each] or {}).get("internal") for each in service["networks"])


def test_no_kafka(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (gateway,) = programs("no-kafka", tmp_path, monkeypatch).values()
    assert gateway.kafka is None
    command = project("no-kafka")["services"]["gateway"]["command"]
    assert command == without_kafka(COMPOSE["services"]["gateway"]["command"])


def test_two_gateways() -> None:
    """Each with a data directory of its own: one gateway uses one at a time."""
    made = project("two-gateways")
    first, second = (made["services"][name] for name in ("gateway", "gateway-2"))
    assert [each.replace("-2", "") for each in second["command"]] == first["command"]
    assert set(first["volumes"]) - set(second["volumes"]) == {"gateway-data:/var/lib/trueclock"}
    assert "gateway-2-data:/var/lib/trueclock" in second["volumes"]
    assert "gateway-2-data" in made["volumes"]
    assert second["networks"] == first["networks"]


@pytest.mark.parametrize("variant", VARIANTS)
def test_stopping_leaves_requests_their_time(variant: str) -> None:
    for name, service in project(variant)["services"].items():
        if name.startswith("gateway"):
            told = [each.partition("=")[2] for each in service["command"] if each.startswith("--grace-seconds=")]
            grace = float(told[0]) if told else Settings.__dataclass_fields__["grace_seconds"].default
            assert int(service["stop_grace_period"].removesuffix("s")) >= grace + 15
            assert bool(told) == (variant == "override.example")
