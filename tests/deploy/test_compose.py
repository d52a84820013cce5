"""deploy/compose.yaml: valid by the specification's schema, fit for the product's commands, and closed but for loopback."""

import json
import re
import shutil
import subprocess
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from gateway.own_paths import is_health
from stream import __version__
from tests.deploy.commands import Understood, understood
from tests.deploy.composing import DEPLOY, load
from tests.harness import ROOT

COMPOSE: dict[str, Any] = load("compose.yaml")
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = sorted(name for name, each in SERVICES.items() if each["image"].startswith("trueclock:"))
PROMETHEUS = yaml.safe_load((DEPLOY / "prometheus.yaml").read_text(encoding="utf-8"))
SCHEMA = jsonschema.Draft7Validator(
    json.loads((Path(__file__).parent / "compose-spec.json").read_text(encoding="utf-8"))
)


def mounts(service: str, project: dict[str, Any] = COMPOSE) -> dict[str, Path]:
    """The files and folders of this repository that a service sees, by where it sees them."""
    found = {}
    for text in project["services"][service].get("volumes", ()):
        source, target, *mode = text.split(":")
        if source.startswith("."):
            assert mode == ["ro"], f"{service}: {text} could be written to"
            found[target] = (DEPLOY / source).resolve()
            assert found[target].exists(), text
        elif source.startswith("/"):
            assert mode == ["ro"], f"{service}: {text} could be written to"
        else:
            assert source in project["volumes"], text
    return found


def scraped(project: dict[str, Any]) -> dict[str, list[str]]:
    """Whom Prometheus asks, by job."""
    found = {}
    for job in PROMETHEUS["scrape_configs"]:
        groups = list(job.get("static_configs", ()))
        for pattern in [each for one in job.get("file_sd_configs", ()) for each in one["files"]]:
            for target, source in sorted(mounts("prometheus", project).items()):
                if fnmatchcase(target, f"/etc/prometheus/{pattern}"):
                    groups += yaml.safe_load(source.read_text(encoding="utf-8"))
        found[job["job_name"]] = [each for group in groups for each in group["targets"]]
    return found


def program(service: str, monkeypatch: pytest.MonkeyPatch) -> Understood:
    return understood(SERVICES[service]["command"], mounts(service), monkeypatch)


def test_the_schema() -> None:
    """By the specification's own schema (compose-go, Apache-2.0), which refuses what it does not know."""
    assert [error.message for error in SCHEMA.iter_errors(COMPOSE)] == []
    assert not SCHEMA.is_valid({"services": {"gateway": {"image": "x", "read-only": True}}})


def test_the_services() -> None:
    assert OURS == ["gateway", "stream-1", "stream-2"]
    assert sorted(set(SERVICES) - set(OURS)) == ["grafana", "kafka", "prometheus"]


@pytest.mark.parametrize("name", SERVICES)
def test_each_is_confined(name: str) -> None:
    service = SERVICES[name]
    assert re.fullmatch(r"[a-z/]+:v?\d+\.\d+\.\d+", service["image"]), "pinned to one version"
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service.get("read_only") or name == "kafka", "its image writes its settings beside its programs"
    assert service.get("user", "of the image") not in ("root", "0", "0:0")
    assert "user" in service or name in OURS
    assert service["mem_limit"]
    assert service["restart"] == "unless-stopped"
    assert service["healthcheck"]["test"] if name != "gateway" else "healthcheck" not in service, "the image's own"
    for port in service.get("ports", ()):
        assert port.startswith("127.0.0.1:"), "loopback only"
    assert not {"privileged", "network_mode", "pid", "cap_add", "devices"} & set(service)


@pytest.mark.parametrize("name", OURS)
def test_a_command_is_understood(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = program(name, monkeypatch)
    assert found.kafka is not None
    assert found.kafka.servers == ("kafka:9092",)
    assert found.stack == yaml.safe_load((DEPLOY / "config" / "config.yaml").read_text())["trueclock"]["stack"]
    if found.program == "gateway":
        assert found.ports == {"api": 4000, "admin": 4001}
        assert SERVICES[name]["ports"] == ["127.0.0.1:4000:4000", "127.0.0.1:4001:4001"]
        assert found.options.allowed_host == ["gateway"], (
            "the name under which Prometheus asks; else any web page could"
        )
        assert "gateway-data:/var/lib/trueclock" in SERVICES[name]["volumes"]
        assert SERVICES[name]["env_file"] == [{"path": "gateway.env", "required": False}]
    else:
        assert found.options.name == name
        assert SERVICES[name]["healthcheck"]["test"] == ["CMD", "healthcheck", str(found.ports["http"])]
        assert "ports" not in SERVICES[name]


def test_our_image_is_of_this_version() -> None:
    for name in OURS:
        assert SERVICES[name]["image"] == f"trueclock:{__version__}"
        assert (DEPLOY / SERVICES[name]["build"]["context"] / "Dockerfile").is_file()


def test_who_meets_whom() -> None:
    """The broker and the stream workers have no way out; Grafana meets nobody but Prometheus."""
    networks, inside = COMPOSE["networks"], {name for name, each in COMPOSE["networks"].items() if each.get("internal")}
    members = {each: {name for name, service in SERVICES.items() if each in service["networks"]} for each in networks}
    assert members == {
        "edge": {"gateway"},
        "events": {"gateway", "kafka", "stream-1", "stream-2"},
        "scrape": {"gateway", "prometheus", "stream-1", "stream-2"},
        "view": {"grafana", "prometheus"},
    }
    assert inside == {"events", "scrape"}


def test_the_broker() -> None:
    """Its settings are those of one node under the name by which the others reach it, at a version that is tested here."""
    kafka = SERVICES["kafka"]
    setting = kafka["environment"]
    assert setting["KAFKA_ADVERTISED_LISTENERS"] == "PLAINTEXT://kafka:9092"
    assert setting["KAFKA_AUTO_CREATE_TOPICS_ENABLE"] == "false"
    assert all(isinstance(value, str) for value in setting.values())
    assert setting["KAFKA_LOG_DIRS"] in [text.partition(":")[2] for text in kafka["volumes"]]
    version = re.search(r'^VERSION = "([\d.]+)"', (DEPLOY / "kafka-local").read_text(), re.MULTILINE)
    assert version is not None
    assert kafka["image"] == f"apache/kafka:{version[1]}"


def test_no_secret_is_written_here() -> None:
    password = SERVICES["grafana"]["environment"]["GF_SECURITY_ADMIN_PASSWORD"]
    assert password.startswith("${GRAFANA_ADMIN_PASSWORD:?"), "required, and from outside"
    for service in SERVICES.values():
        for name, value in service.get("environment", {}).items():
            assert not re.search("PASSWORD|SECRET|TOKEN|KEY", name) or value == password
    ignored = (ROOT / ".gitignore").read_text().split()
    assert {"deploy/gateway.env", "deploy/.env", "deploy/compose.override.yaml"} <= set(ignored)


# --- Prometheus and Grafana, as this file mounts them


def test_prometheus_scrapes_every_process(monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = scraped(COMPOSE)
    places = {name: f"{name}:{program(name, monkeypatch).scraped}" for name in OURS}
    assert jobs["trueclock-gateway"] == [places["gateway"]]
    assert jobs["trueclock-stream"] == [places["stream-1"], places["stream-2"]]
    assert not is_health("/metrics"), "so it is answered on the admin port alone"


def test_prometheus_takes_its_configuration_and_our_rules(tmp_path: Path) -> None:
    """`promtool check config` on the folder as the container sees it."""
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed")
    arguments = dict(each.removeprefix("--").split("=", 1) for each in SERVICES["prometheus"]["command"])
    for target, source in mounts("prometheus").items():
        place = tmp_path / target.removeprefix("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if source.is_dir() else shutil.copy)(source, place)
    config = tmp_path / arguments["config.file"].removeprefix("/")
    done = subprocess.run([promtool, "check", "config", str(config)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    said = " ".join((done.stdout + done.stderr).split())
    assert "1 rule files found" in said
    assert re.search(r"SUCCESS: [1-9]\d* rules found", said)


def test_grafana_shows_the_committed_dashboards() -> None:
    seen = mounts("grafana")
    folder = "/etc/grafana/provisioning"
    (source,) = yaml.safe_load((seen[f"{folder}/datasources"] / "trueclock.yaml").read_text())["datasources"]
    assert source["type"] == "prometheus"
    assert source["url"] == "http://prometheus:9090"
    assert source["jsonData"]["timeInterval"] == PROMETHEUS["global"]["scrape_interval"]
    (provider,) = yaml.safe_load((seen[f"{folder}/dashboards"] / "trueclock.yaml").read_text())["providers"]
    shown = seen[provider["options"]["path"]]
    assert shown == ROOT / "grafana" / "dashboards"
    boards = {path.name: json.loads(path.read_text(encoding="utf-8")) for path in shown.iterdir()}
    assert len(boards) == 4
    assert all(board["panels"] and board["uid"].startswith("trueclock-") for board in boards.values())
    home = Path(SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert str(home.parent) == provider["options"]["path"]
    assert home.name in boards
