"""docs/deploying.md and operating.md hold: links and paths lead somewhere, commands and pieces of configuration are taken."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from gateway.cli import main as gateway_main
from gateway.settings import Settings
from tests.deploy.composing import load, merged
from tests.deploy.rendering import apply, render
from tests.deploy.test_compose import SERVICES
from tests.deploy.test_kubernetes import KUBERNETES, NEWEST, OLDEST, OVERLAYS, of_kind
from tests.harness import ROOT

DOCUMENTS = tuple(ROOT / "docs" / f"{name}.md" for name in ("deploying", "operating"))
TEXT = "\n".join(path.read_text(encoding="utf-8") for path in DOCUMENTS)
COMPOSE_COMMANDS = ("build", "up", "ps", "exec", "kill", "down", "run", "start", "stop", "logs")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


def commands(*start: str) -> list[list[str]]:
    """The commands of `sh` blocks, and those in the text, that begin so; words as a shell makes them."""
    lines = [line for block in blocks("sh") for line in block.replace("\\\n", " ").splitlines()]
    told = [" ".join(each.split()) for each in re.findall(r"`((?:docker|kubectl) [^`]+)`", TEXT)]
    bare = [re.sub(r"^\(umask 077; (.*)\)$", r"\1", line) for line in (*lines, *told)]
    words = [shlex.split(line.replace("…", "deploy/kubernetes/overlays/try")) for line in bare]
    found = [each for each in words if each[: len(start)] == list(start)]
    assert found, start
    return found


def anchors(path: Path) -> set[str]:
    """The anchors of a document's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings}


def test_the_links() -> None:
    for document in DOCUMENTS:
        found = re.findall(r"\]\(([^)]+)\)", document.read_text(encoding="utf-8"))
        assert len(found) > 3
        for link in found:
            if not link.startswith("https://"):
                name, _, anchor = link.partition("#")
                path = (ROOT / "docs" / name).resolve() if name else document
                assert path.exists(), link
                assert not anchor or anchor in anchors(path), link


def test_the_paths() -> None:
    """What is named as a file or folder of the repository is there, but for those that the reader makes."""
    made = {"deploy/.env", "deploy/gateway.env", "deploy/config/next.yaml"}
    named = set(re.findall(r"(?<![\w/.])((?:deploy|grafana|docs)/[\w./-]*\w)", TEXT)) - made
    assert len(named) > 8
    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []


def test_the_compose_commands() -> None:
    """They are given in the folder deploy, where compose finds its file by itself."""
    known = {*SERVICES, *merged("compose.yaml", "compose.two-gateways.yaml")["services"]}
    for _, _, command, *rest in [words for words in commands("docker", "compose") if len(words) > 2]:
        assert command in COMPOSE_COMMANDS
        if command in ("exec", "kill", "run", "start", "stop", "logs") or "--no-deps" in rest:
            assert known & set(rest), rest
    (files,) = re.findall(r"COMPOSE_FILE=(\S+)", TEXT)
    assert all((ROOT / "deploy" / each.replace("override", "override.example")).is_file() for each in files.split(":"))
    named = re.findall(r"^\| `(compose\.[\w-]+\.yaml)` \|", TEXT, re.MULTILINE)
    others = {path.name for path in (ROOT / "deploy").glob("compose.*.yaml")} - {"compose.override.yaml"}
    assert {*named, "compose.override.example.yaml"} == others
    assert {f"trueclock_{each}" for each in load("compose.yaml")["volumes"]} > set(
        re.findall(r"trueclock_[\w-]+-data", TEXT)
    )
    ports = {
        port.removeprefix("127.0.0.1:").partition(":")[0]
        for each in SERVICES.values()
        for port in each.get("ports", ())
    }
    assert set(re.findall(r"`http://127\.0\.0\.1:(\d+)/", TEXT)) == ports
    assert f"All {['', '', '', '', '', '', 'six', 'seven'][len(SERVICES)]} services" in TEXT


def test_the_kubectl_commands() -> None:
    for words in commands("kubectl"):
        outside = "run" in words  # a pod from elsewhere, to see that it does not get in
        assert "--namespace" not in words or words[words.index("--namespace") + 1] == (
            "default" if outside else "trueclock"
        )
        if "--kustomize" in words:
            folder = ROOT / words[words.index("--kustomize") + 1]
            assert (folder / "kustomization.yaml").is_file()
            assert "--server-side" in words
        for kind, name in re.findall(r"(statefulset|pod)/([\w-]+)", " ".join(words)):
            assert re.sub(r"-\d+$", "", name) in of_kind("try", "StatefulSet"), kind
    (overlay,) = {words[1] for words in commands("cd") if words[1] not in ("-", "deploy")}
    assert (ROOT / overlay / "kustomization.yaml").is_file()
    table = re.findall(r"^\| `(\w+)` \| .* \| .* \|$", TEXT, re.MULTILINE)
    assert tuple(each for each in table if each in OVERLAYS) == OVERLAYS


def test_the_secrets_are_those_that_the_manifests_name() -> None:
    made = {words[6] for words in commands("kubectl", "--namespace", "trueclock", "create", "secret", "generic")}
    wanted = set()
    for each in of_kind("production", "StatefulSet", "TriggerAuthentication").values():
        text = yaml.safe_dump(each)
        wanted |= set(re.findall(r"secretName: (\S+)|secretRef:\n\s+name: (\S+)", text))
        wanted |= {(one["name"],) for one in each["spec"].get("secretTargetRef", ())}
    assert made == {name for pair in wanted for name in pair if name}
    lag = " ".join(next(words for words in commands("kubectl") if "trueclock-kafka-lag" in words))
    (access,) = of_kind("production", "TriggerAuthentication").values()
    for each in access["spec"]["secretTargetRef"]:
        assert re.search(rf"--from-(literal|file)={each['key']}=", lag)


def test_the_gateway_commands(capsys: pytest.CaptureFixture[str]) -> None:
    """`gateway check` in the container, of a file in the folder that is mounted there."""
    checks = [words[4:] for words in commands("docker", "compose", "exec", "gateway", "gateway", "check")]
    assert checks
    for name, *arguments in checks:
        (path,) = [
            each.replace("/etc/trueclock/next.yaml", str(ROOT / "deploy/config/config.yaml")) for each in arguments[1:]
        ]
        assert (name, gateway_main([arguments[0], path])) == ("gateway", 0)
    assert "https://api.openai.com" in capsys.readouterr().out
    assert "./config:/etc/trueclock:ro" in SERVICES["gateway"]["volumes"]


def test_the_grace_of_a_gateway() -> None:
    """The patch gives requests five minutes, and the gateway the time to give them."""
    (block,) = [yaml.safe_load(each) for each in blocks("yaml") if "--grace-seconds" in each]
    found = render(KUBERNETES / "overlays" / "production")
    for patch in block["patches"]:
        apply(found, patch)
    (spec,) = [
        each["spec"]["template"]["spec"]
        for each in found
        if each["metadata"]["name"] == "trueclock-gateway" and each["kind"] == "StatefulSet"
    ]
    (gateway,) = spec["containers"]
    assert gateway["args"][-1] == "--grace-seconds=300"
    assert spec["terminationGracePeriodSeconds"] >= 300 + gateway["lifecycle"]["preStop"]["sleep"]["seconds"] + 15
    assert f"up to {Settings.__dataclass_fields__['grace_seconds'].default:g} s to finish" in " ".join(TEXT.split())


def test_a_failed_backup_is_seen(tmp_path: Path) -> None:
    """What is to be looked at first tells an archive from what a failure left: nothing, words, or half of it."""
    (look,) = [line for block in blocks("sh") for line in block.splitlines() if line.startswith("tar -tf")]
    (tmp_path / "salt").write_bytes(b"salt")
    (tmp_path / "events-0.sqlite").write_bytes(bytes(50_000))
    subprocess.run(["tar", "-cf", "whole.tar", "salt", "events-0.sqlite"], cwd=tmp_path, check=True)
    whole = (tmp_path / "whole.tar").read_bytes()
    for content in (whole, b"", b"no space left", whole[:20_000]):
        (tmp_path / "backup.tar").write_bytes(content)
        done = subprocess.run(["sh", "-c", look], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert ("stop here" in done.stdout) == (content != whole)


def test_the_scrape_configuration(tmp_path: Path) -> None:
    """It keeps the ports that answer /metrics, and gives the jobs the names that dashboards know."""
    (text,) = [each for each in blocks("yaml") if "kubernetes_sd_configs" in each]
    (job,) = yaml.safe_load(text)["scrape_configs"]
    kept = job["relabel_configs"][0]["regex"]
    for name, workload in of_kind("try", "StatefulSet").items():
        for port in workload["spec"]["template"]["spec"]["containers"][0]["ports"]:
            scraped = re.fullmatch(kept, f"{port['name']};{name}")
            assert bool(scraped) == (port["containerPort"] in (4001, 6066))
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed")
    assert job.pop("kubernetes_sd_configs") == [{"role": "pod", "namespaces": {"names": ["trueclock"]}}]
    job["static_configs"] = [{"targets": ["127.0.0.1:4001"]}]  # Debian's is built without Kubernetes' discovery
    (tmp_path / "prometheus.yaml").write_text(yaml.safe_dump({"scrape_configs": [job]}))
    command = [promtool, "check", "config", tmp_path / "prometheus.yaml"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_scrape_configuration_of_a_plain_machine() -> None:
    """The jobs have the names that dashboards know, and ports are those of the examples."""
    (text,) = [each for each in blocks("yaml") if "rule_files" in each]
    jobs = {each["job_name"]: each["static_configs"][0]["targets"] for each in yaml.safe_load(text)["scrape_configs"]}
    options = (ROOT / "deploy" / "systemd" / "gateway.env.example").read_text(encoding="utf-8")
    (port,) = re.findall(r"^TRUECLOCK_OPTIONS=--port (\d+)$", options, re.MULTILINE)
    assert jobs["trueclock-gateway"] == [f"127.0.0.1:{port}"]
    assert {f"127.0.0.1:{each}" for each in re.findall(r"trueclock-stream-worker@(\d+)", TEXT)} == set(
        jobs["trueclock-stream"]
    )


def test_the_alertmanager(tmp_path: Path) -> None:
    """What it says to add to Prometheus' configuration goes with it."""
    (text,) = [each for each in blocks("yaml") if "alerting" in each]
    added = tmp_path / "prometheus.yaml"
    added.write_text((ROOT / "deploy" / "prometheus.yaml").read_text() + text)
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed")
    done = subprocess.run(
        [promtool, "check", "config", "--syntax-only", added], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert yaml.safe_load(added.read_text())["alerting"]["alertmanagers"]


def test_the_numbers() -> None:
    """What it says of sizes, versions and thresholds is what the files say."""
    said = " ".join(TEXT.split())
    (scaled,) = of_kind("production", "ScaledObject").values()
    load, lag = (each["metadata"] for each in scaled["spec"]["triggers"])
    assert f"more than {load['value']}% of a core or more than {int(lag['lagThreshold']):,} records" in said
    assert f"Kubernetes {OLDEST} or newer" in said
    assert f"the schemas of Kubernetes ({OLDEST} and {NEWEST})" in said
    for name, words in (("trueclock-gateway", "a core and 384 MiB"), ("trueclock-stream", "a core and 256 MiB")):
        one = of_kind("try", "StatefulSet")[name]["spec"]["template"]["spec"]["containers"][0]["resources"]
        assert words == f"a core and {one['requests']['memory'].removesuffix('Mi')} MiB"
        assert one["requests"]["cpu"] == "1"
        assert words in said
