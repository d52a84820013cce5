"""The stack of deploy/compose.yaml as processes: its broker's settings, its commands, its health checks, one request through.

What Docker would do is left out: images, networks, volumes. Ports are others, and all is on loopback.
"""

import asyncio
import json
import os
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType

import pytest

from tests.deploy.test_compose import SERVICES
from tests.deploy.test_image import loaded
from tests.deploy.test_kubernetes import container, of_kind
from tests.deploy.test_running import CONFIG, counted, elsewhere, free_ports, metrics, started, wait
from tests.harness import ROOT, run
from tests.servers.openai_like import OpenAILike

pytestmark = pytest.mark.usefixtures("own_broker")

COMPOSE: dict[str, str] = SERVICES["kafka"]["environment"]
KUBERNETES = {each["name"]: each["value"] for each in container("try", "trueclock-kafka")["env"]}


def kafka_local() -> ModuleType:
    loader = SourceFileLoader("kafka_local", str(ROOT / "deploy" / "kafka-local"))
    spec = spec_from_loader("kafka_local", loader)
    assert spec is not None
    module = module_from_spec(spec)
    loader.exec_module(module)
    return module


def properties(environment: Mapping[str, str], port: int, controller: int, data: Path) -> str:
    """The settings as the image makes them of its environment: KAFKA_LOG_DIRS is log.dirs; places are of here."""
    lines = []
    for name, value in environment.items():
        if name.startswith("KAFKA_") and name != "KAFKA_HEAP_OPTS":
            here = re.sub(r"://[^,]*:9092", f"://127.0.0.1:{port}", value)
            here = re.sub(r"(://|@)[^,]*:9093", rf"\g<1>127.0.0.1:{controller}", here)
            key = name.removeprefix("KAFKA_").lower().replace("_", ".")
            lines.append(f"{key}={data if key == 'log.dirs' else here}\n")
    return "".join(lines)


@contextmanager
def broker(environment: Mapping[str, str], folder: Path) -> Iterator[int]:
    """A broker with the settings of a container; its port."""
    local = kafka_local()
    folder.mkdir()
    settings = folder / "server.properties"
    port = local.free_port()
    settings.write_text(properties(environment, port, port + 1, folder / "data"))
    command = local.java(local.jars(local.VERSION), "384m")
    tool = ["kafka.tools.StorageTool", "format", "-t", environment["CLUSTER_ID"], "-c", str(settings)]
    made = subprocess.run([*command, *tool], capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "kafka.Kafka", str(settings)], stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    try:
        wait(lambda: process.poll() is not None or local.serves(port))
        assert process.poll() is None, (folder / "log").read_text()
        yield port
    finally:
        process.kill()
        process.wait()


def test_the_broker_takes_its_settings(tmp_path: Path) -> None:
    """Those of Kubernetes; those of compose are in the stack below."""
    with broker(KUBERNETES, tmp_path / "kafka"):
        assert "ERROR" not in (tmp_path / "kafka" / "log").read_text()


def test_a_request_through_the_stack(tmp_path: Path) -> None:
    """From the gateway over Kafka to a stream worker's metrics, all of it healthy by the containers' own checks."""
    api, admin, *http = free_ports(4)

    async def scenario() -> None:
        async with OpenAILike() as provider:
            await asyncio.to_thread(through, provider.url)

    def through(upstream: str) -> None:
        config = tmp_path / "config.yaml"
        config.write_text(CONFIG.read_text().replace("https://api.openai.com", upstream))
        with ExitStack() as stack:
            kafka = stack.enter_context(broker(COMPOSE, tmp_path / "kafka"))
            for name, ports in (
                ("gateway", {"4000": api, "4001": admin}),
                ("stream-1", {"6066": http[0]}),
                ("stream-2", {"6066": http[1]}),
            ):
                command = elsewhere(SERVICES[name]["command"], ports, config)
                command[command.index("--kafka=127.0.0.1:1")] = f"--kafka=127.0.0.1:{kafka}"
                (tmp_path / name).mkdir()
                stack.enter_context(started(command, tmp_path / name))
            for port in (api, *http):
                wait(lambda port=port: loaded("healthcheck").main([str(port)]) == 0)
            ask(api)
            wait(lambda: sum(map(counted, http)) == counted(admin) == 1)
            wait(lambda: sum(partitions(port) for port in http) == 12)
            assert all(partitions(port) for port in http), "they share the partitions"
            topic, group = lag_trigger()
            assert offset(kafka, topic, group) == 1, "what KEDA compares with the end of the topic"

    run(scenario())


def ask(port: int) -> None:
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hello"}]}).encode()
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/chat/completions", body, {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=10) as reply:
        assert reply.status == 200
        reply.read()


def partitions(port: int) -> float:
    found = re.search(r"^trueclock_stream_partitions (\S+)$", metrics(port), re.MULTILINE)
    return float(found[1]) if found else 0.0


def lag_trigger() -> tuple[str, str]:
    (scaled,) = of_kind("production", "ScaledObject").values()
    said = scaled["spec"]["triggers"][1]["metadata"]
    return said["topic"], said["consumerGroup"]


def offset(port: int, topic: str, group: str) -> int:
    """How many records of a topic a group has committed, once it has."""
    code = (
        "import sys, time\n"
        "from kafka import KafkaAdminClient\n"
        "admin = KafkaAdminClient(bootstrap_servers=sys.argv[1])\n"
        "for _ in range(100):\n"
        "    found = admin.list_group_offsets([sys.argv[3]])[sys.argv[3]]\n"
        "    total = sum(each.offset for place, each in found.items() if place.topic == sys.argv[2] and each.offset > 0)\n"
        "    if total: break\n"
        "    time.sleep(0.1)\n"
        "print(total)"
    )
    command = [sys.executable, "-W", "ignore", "-c", code, f"127.0.0.1:{port}", topic, group]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout)
