"""deploy/kubernetes: valid by Kubernetes' own schemas, fit for the product's commands, within the strictest pod security."""

import base64
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from gateway.cli import default_data_dir
from gateway.own_paths import is_health
from gateway.settings import Settings
from stream import __version__
from stream.kafka import read_properties
from stream.topics import Topics
from tests.deploy.commands import Understood, understood
from tests.deploy.rendering import Manifest, render
from tests.harness import ROOT

KUBERNETES = ROOT / "deploy" / "kubernetes"
OVERLAYS = ("gateway", "try", "production")
OLDEST, NEWEST = "1.32", "1.37"  # persistentVolumeClaimRetentionPolicy is stable since 1.32
BEYOND = ("ScaledObject", "TriggerAuthentication", "PodMonitor", "PrometheusRule")  # of operators: not Kubernetes' own
COMPOSE = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text(encoding="utf-8"))


@cache
def rendered(overlay: str) -> list[Manifest]:
    return render(KUBERNETES / "overlays" / overlay)


def of_kind(overlay: str, *kinds: str) -> dict[str, Manifest]:
    return {each["metadata"]["name"]: each for each in rendered(overlay) if each["kind"] in kinds}


WORKLOADS = [(overlay, name) for overlay in OVERLAYS for name in of_kind(overlay, "StatefulSet", "Deployment")]
OURS = [(overlay, name) for overlay, name in WORKLOADS if name != "trueclock-kafka"]


def pod(overlay: str, name: str) -> dict[str, Any]:
    found: dict[str, Any] = of_kind(overlay, "StatefulSet", "Deployment")[name]["spec"]["template"]["spec"]
    return found


def container(overlay: str, name: str) -> dict[str, Any]:
    (found,) = pod(overlay, name)["containers"]
    assert isinstance(found, dict)
    return found


def mounted(overlay: str, name: str, folder: Path) -> dict[str, Path]:
    """The ConfigMaps and Secrets of a pod, written to folders, by where the container sees them."""
    found: dict[str, Path] = {}
    volumes = {each["name"]: each for each in pod(overlay, name)["volumes"]}
    for mount in container(overlay, name)["volumeMounts"]:
        volume = volumes.get(mount["name"], {})
        data = content(overlay, volume)
        if data is not None:
            assert "subPath" not in mount, "it would never change"
            assert mount["readOnly"]
            place = found[mount["mountPath"]] = folder / mount["name"]
            place.mkdir()
            for file, text in data.items():
                (place / file).write_text(text)
    return found


def content(overlay: str, volume: dict[str, Any]) -> dict[str, str] | None:
    if "configMap" in volume:
        data: dict[str, str] = of_kind(overlay, "ConfigMap")[volume["configMap"]["name"]]["data"]
        return data
    if "secret" in volume:
        secret = of_kind(overlay, "Secret").get(volume["secret"]["secretName"])
        if secret is None:  # made by whoever installs it: as docs/deploying.md says
            assert volume["secret"]["secretName"] == "trueclock-kafka"
            return {"kafka.properties": documented_properties()}
        return {name: base64.b64decode(value).decode() for name, value in secret["data"].items()}
    return None


def documented_properties() -> str:
    """The kafka.properties of docs/deploying.md, without the certificate, which is not here."""
    text = (ROOT / "docs" / "deploying.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```properties\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return "".join(line + "\n" for line in block.splitlines() if not line.startswith("ssl.ca.location"))


# --- as Kubernetes sees it


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_schemas(overlay: str) -> None:
    """By the schemas of the oldest and newest Kubernetes, which refuse what they do not know."""
    checked = 0
    for each in rendered(overlay):
        if each["kind"] not in BEYOND:
            for version in (OLDEST, NEWEST):
                kubernetes_validate.validate(each, version, strict=True)
                checked += 1
    assert checked >= 18
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate({**each, "apiVersion": "v1", "kind": "Service", "specs": {}}, NEWEST, strict=True)


def test_the_tools_make_the_same_of_it() -> None:
    """`rendering` is what kustomize does, wherever one is to be asked."""
    for tool in (["kustomize", "build"], ["kubectl", "kustomize"]):
        if shutil.which(tool[0]):
            for overlay in OVERLAYS:
                done = subprocess.run(
                    [*tool, KUBERNETES / "overlays" / overlay], capture_output=True, text=True, check=True
                )
                theirs = {key(each): joined(each) for each in yaml.safe_load_all(done.stdout)}
                assert theirs == {key(each): joined(each) for each in rendered(overlay)}
    assert [len(rendered(overlay)) for overlay in OVERLAYS] == [9, 18, 23]


def key(manifest: Manifest) -> tuple[str, str]:
    return manifest["kind"], manifest["metadata"]["name"]


def joined(manifest: Manifest) -> Manifest:
    """The same, with base64 on one line, which kustomize breaks."""
    if manifest["kind"] != "Secret":
        return manifest
    return {**manifest, "data": {name: value.replace("\n", "") for name, value in manifest["data"].items()}}


@pytest.mark.parametrize(("overlay", "name"), WORKLOADS)
def test_a_pod_is_confined(overlay: str, name: str) -> None:
    spec, one = pod(overlay, name), container(overlay, name)
    security = spec["securityContext"]
    assert security["runAsNonRoot"]
    assert security["runAsUser"] == security["fsGroup"] == (1000 if name == "trueclock-kafka" else 10001)
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    assert spec["automountServiceAccountToken"] is False
    assert one["securityContext"]["allowPrivilegeEscalation"] is False
    assert one["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert one["securityContext"].get("readOnlyRootFilesystem", name == "trueclock-kafka")
    assert re.fullmatch(r"[a-z/]+:\d+\.\d+\.\d+", one["image"]), "pinned to one version"
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)
    assert not any("hostPath" in volume for volume in spec.get("volumes", ()))
    assert set(one["resources"]["requests"]) == {"cpu", "memory"}
    assert set(one["resources"]["limits"]) == {"memory"}, "throttling would add to the times that are measured"
    labels = of_kind(overlay, "Namespace")["trueclock"]["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_selectors_meet_labels(overlay: str) -> None:
    """Each Service, budget, monitor and workload selects the pods of one workload: those of its own name."""
    sets = of_kind(overlay, "StatefulSet", "Deployment")
    pods = {name: each["spec"]["template"]["metadata"]["labels"] for name, each in sets.items()}
    for each in rendered(overlay):
        selector = each.get("spec", {}).get("selector")
        if selector is not None:
            wanted = selector.get("matchLabels", selector).items()
            chosen = [name for name, labels in pods.items() if wanted <= labels.items()]
            assert len(chosen) == 1, key(each)
            assert each["metadata"]["name"].startswith(chosen[0])
    for each in sets.values():
        assert each["spec"]["serviceName"] in of_kind(overlay, "Service")


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_services_lead_to_ports_that_there_are(overlay: str) -> None:
    for service in of_kind(overlay, "Service").values():
        (name,) = [
            each
            for each in of_kind(overlay, "StatefulSet")
            if each == service["spec"]["selector"]["app.kubernetes.io/name"]
        ]
        ports = {each["name"]: each["containerPort"] for each in container(overlay, name)["ports"]}
        for port in service["spec"]["ports"]:
            assert ports[port["targetPort"]] == port["port"]
    api = of_kind(overlay, "Service")["trueclock-gateway"]["spec"]
    assert [port["port"] for port in api["ports"]] == [4000], "page, /metrics and /trueclock are not where requests go"


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_one_pod_at_a_time_is_evicted(overlay: str) -> None:
    budgets = of_kind(overlay, "PodDisruptionBudget")
    assert sorted(budgets) == sorted({"trueclock-gateway", "trueclock-stream"} & set(of_kind(overlay, "StatefulSet")))
    assert all(each["spec"]["maxUnavailable"] == 1 for each in budgets.values()), "one replica can be drained too"


# --- as the product sees it


def program(overlay: str, name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Understood:
    monkeypatch.setenv("OPENAI_API_KEY", "of trueclock-provider-keys")
    return understood(container(overlay, name)["args"], mounted(overlay, name, folder), monkeypatch)


@pytest.mark.parametrize(("overlay", "name"), OURS)
def test_a_command_is_understood(overlay: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found, one = program(overlay, name, tmp_path, monkeypatch), container(overlay, name)
    assert {each["name"]: each["containerPort"] for each in one["ports"]} == found.ports
    assert "command" not in one, "the image has no entry point: its arguments are the command"
    assert one["image"].endswith(f":{__version__}")
    assert (found.kafka is None) == (overlay == "gateway")
    gateway = program(overlay, "trueclock-gateway", new(tmp_path), monkeypatch)
    assert found.stack == gateway.stack
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        asked = one[probe]["httpGet"]
        assert asked["port"] in found.ports
        assert is_health(asked["path"])
        assert asked["path"] == ("/health/ready" if probe == "readinessProbe" else "/health/live")


def new(folder: Path) -> Path:
    made = folder / "gateway"
    made.mkdir()
    return made


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_gateway_keeps_what_it_must(overlay: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its data directory is its volume, which holds twice the event log; it has the time that requests are given."""
    gateway = of_kind(overlay, "StatefulSet")["trueclock-gateway"]["spec"]
    mounts = {each["name"]: each["mountPath"] for each in container(overlay, "trueclock-gateway")["volumeMounts"]}
    monkeypatch.setenv("XDG_DATA_HOME", "/var/lib")  # as the image does; its test holds that
    assert mounts["data"] == str(default_data_dir())
    (claim,) = gateway["volumeClaimTemplates"]
    config = yaml.safe_load(of_kind(overlay, "ConfigMap")["trueclock-config"]["data"]["config.yaml"])
    size = claim["spec"]["resources"]["requests"]["storage"]
    assert int(size.removesuffix("Gi")) << 30 >= 2 * config["trueclock"]["retention"]["bytes"]
    assert claim["spec"]["accessModes"] == ["ReadWriteOnce"]
    assert gateway["persistentVolumeClaimRetentionPolicy"] == {"whenDeleted": "Retain", "whenScaled": "Retain"}
    grace = Settings.__dataclass_fields__["grace_seconds"].default
    until_none_come = container(overlay, "trueclock-gateway")["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert gateway["template"]["spec"]["terminationGracePeriodSeconds"] >= grace + until_none_come + 15
    assert int(COMPOSE["services"]["gateway"]["stop_grace_period"].removesuffix("s")) > grace + 15


def test_one_configuration_to_begin_with() -> None:
    assert (KUBERNETES / "base" / "config.yaml").read_bytes() == (
        ROOT / "deploy" / "config" / "config.yaml"
    ).read_bytes()


def test_a_configuration_that_changes_restarts_nothing() -> None:
    """ConfigMaps keep their names, as gateways read them again by themselves."""
    for overlay in OVERLAYS:
        volumes = {each["name"]: each for each in pod(overlay, "trueclock-gateway")["volumes"]}
        assert volumes["config"]["configMap"]["name"] == "trueclock-config"
        assert "trueclock-config" in of_kind(overlay, "ConfigMap")


def test_the_production_overlay_has_no_secret() -> None:
    """Secrets are named, never written: that of the try-out broker holds its address."""
    assert not of_kind("production", "Secret")
    assert not of_kind("gateway", "Secret")
    (secret,) = of_kind("try", "Secret").values()
    (text,) = [base64.b64decode(value).decode() for value in secret["data"].values()]
    assert text == "bootstrap.servers=trueclock-kafka-0.trueclock-kafka:9092"
    for overlay in OVERLAYS:
        (source,) = container(overlay, "trueclock-gateway")["envFrom"]
        assert source == {"secretRef": {"name": "trueclock-provider-keys", "optional": True}}
    for path in KUBERNETES.rglob("*.yaml"):
        assert not re.search(r"(?i)(password|api_key|token):\s*['\"]?[a-z0-9]{8}", path.read_text()), path


# --- the broker, the autoscaler, Prometheus


def test_the_broker_is_that_of_compose() -> None:
    """But for where it finds itself; its address is the one that all others are told."""
    theirs = {each["name"]: each["value"] for each in container("try", "trueclock-kafka")["env"]}
    other = COMPOSE["services"]["kafka"]
    places = {"KAFKA_CONTROLLER_QUORUM_VOTERS", "KAFKA_LISTENERS", "KAFKA_ADVERTISED_LISTENERS", "KAFKA_LOG_DIRS"}
    assert {
        name for name in theirs | other["environment"] if theirs.get(name) != other["environment"].get(name)
    } == places
    assert container("try", "trueclock-kafka")["image"] == other["image"]
    address = "trueclock-kafka-0.trueclock-kafka:9092"
    assert theirs["KAFKA_ADVERTISED_LISTENERS"] == f"PLAINTEXT://{address}"
    (mount,) = container("try", "trueclock-kafka")["volumeMounts"]
    assert theirs["KAFKA_LOG_DIRS"].startswith(mount["mountPath"] + "/"), (
        "below the volume, where there is a lost+found"
    )


def test_workers_are_scaled_by_load_and_lag(tmp_path: Path) -> None:
    (scaled,) = of_kind("production", "ScaledObject").values()
    spec = scaled["spec"]
    workers = of_kind("production", "StatefulSet")[spec["scaleTargetRef"]["name"]]
    assert (spec["scaleTargetRef"]["apiVersion"], spec["scaleTargetRef"]["kind"]) == (
        workers["apiVersion"],
        workers["kind"],
    )
    assert "replicas" not in workers["spec"], "each `kubectl apply` would undo what the autoscaler did"
    load, lag = spec["triggers"]
    assert load == {"type": "cpu", "metricType": "Utilization", "metadata": {"value": "60"}}
    (tmp_path / "kafka.properties").write_text(documented_properties())
    kafka = read_properties(tmp_path / "kafka.properties")
    assert lag["metadata"]["bootstrapServers"] == kafka.brokers
    assert lag["metadata"]["topic"] == Topics("").requests
    assert lag["metadata"]["consumerGroup"] == "trueclock-stream"
    assert kafka.mechanism == "SCRAM-SHA-512"
    assert lag["metadata"]["sasl"] == "scram_sha512"
    assert lag["metadata"]["tls"] == "enable"
    assert lag["authenticationRef"]["name"] in of_kind("production", "TriggerAuthentication")
    assert spec["minReplicaCount"] <= spec["maxReplicaCount"] <= partitions()
    assert all(isinstance(value, str) for value in lag["metadata"].values())


def partitions() -> int:
    """How many partitions `llm.requests` is made with, as README.md says."""
    found = re.search(r"The (\d+) partitions that are created by default", (ROOT / "README.md").read_text())
    assert found is not None
    return int(found[1])


def test_prometheus_scrapes_the_ports_that_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monitors = of_kind("production", "PodMonitor")
    assert sorted(monitors) == ["trueclock-gateway", "trueclock-stream"]
    for name, monitor in monitors.items():
        folder = tmp_path / name
        folder.mkdir()
        found = program("production", name, folder, monkeypatch)
        (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
        assert found.ports[endpoint["port"]] == found.scraped
        assert endpoint["path"] == "/metrics"
        labels = of_kind("production", "StatefulSet")[name]["spec"]["template"]["metadata"]["labels"]
        assert labels[monitor["spec"]["jobLabel"]] == name, "the job that dashboards know"


def test_the_operator_has_our_rules() -> None:
    rules = yaml.safe_load((ROOT / "grafana" / "rules" / "trueclock.yaml").read_text(encoding="utf-8"))
    (made,) = of_kind("production", "PrometheusRule").values()
    assert made["spec"] == rules, "python deploy/prometheus_rule.py"
    assert made["spec"]["groups"]


def test_grafana_finds_the_dashboards() -> None:
    """One ConfigMap each, within the mebibyte that Kubernetes allows, under the label that Grafana's sidecar knows."""
    maps = {name: each for name, each in of_kind("production", "ConfigMap").items() if name != "trueclock-config"}
    committed = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "grafana" / "dashboards").iterdir()}
    assert {file: text for each in maps.values() for file, text in each["data"].items()} == committed
    assert all(each["metadata"]["labels"]["grafana_dashboard"] == "1" for each in maps.values())
    assert all(len(text.encode()) < 1_000_000 for text in committed.values())
