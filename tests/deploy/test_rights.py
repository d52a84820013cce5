"""The rights that docs/configuration.md names are enough for each program, where the broker grants nothing else."""

import asyncio
import re
import subprocess
import sys
from contextlib import closing
from pathlib import Path

from stream.kafka import settings_of
from stream.topic_creation import ensure_topics
from stream.topics import Topics
from tests import kafka_topics
from tests.deploy.test_cluster import COMING_UP
from tests.harness import ROOT, GatewayProcess, ask, run
from tests.kafka_broker import GUARDED, Broker
from tests.worker_process import WorkerProcess

PREFIX, OWN = "some.", "some.again"
USERS = {"gateway": "gateway", "stream worker": "worker", "stream replay": "replay"}
KINDS = {"topics": "TOPIC", "topic": "TOPIC", "group": "GROUP", "transactional ids": "TRANSACTIONAL_ID"}


def rights() -> list[tuple[str, str, str, str, bool]]:
    """The document's table: (user, operation, kind, name, whether names only begin with it)."""
    text = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    found = []
    for program, may, what in re.findall(r"^\| ((?:gateway|stream) ?\w*) \| (\w.*) \| (.*) \|$", text, re.MULTILINE):
        for each in what.replace("its own topic", f"topic `{OWN.removeprefix(PREFIX)}`").split("; "):
            (kind,) = [known for known in KINDS if each.startswith(f"{known} ")]
            for name in re.findall("`(.*?)`", each):
                rows = [
                    (USERS[program], operation.upper(), KINDS[kind], PREFIX + name) for operation in may.split(", ")
                ]
                found += [(*row, "begin with" in each) for row in rows]
    return found


def grant(broker: Broker) -> None:
    """Grant what the table says."""
    from kafka.admin import ACL, ACLOperation, ACLPermissionType, ACLResourcePatternType, ResourcePattern, ResourceType

    rules = []
    for user, operation, kind, name, begins in rights():
        how = ACLResourcePatternType.PREFIXED if begins else ACLResourcePatternType.LITERAL
        pattern = ResourcePattern(ResourceType[kind], name, how)
        rules.append(ACL(f"User:{user}", "*", ACLOperation[operation], ACLPermissionType.ALLOW, pattern))
    with closing(kafka_topics.KafkaAdminClient(bootstrap_servers=broker.bootstrap)) as admin:
        assert not admin.create_acls(rules)["failed"]


def properties(broker: Broker, folder: Path, user: str) -> tuple[str, ...]:
    """The options that a program gets in with."""
    values = {
        "bootstrap.servers": broker.address("SASL_PLAINTEXT"), "security.protocol": "SASL_PLAINTEXT",
        "sasl.mechanism": "PLAIN", "sasl.username": user, "sasl.password": "the-secret",
    }  # fmt: skip
    path = folder / f"{user}.properties"
    path.write_text("".join(f"{name}={value}\n" for name, value in values.items()))
    return "--kafka-properties", str(path), "--topic-prefix", PREFIX


def command(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "stream.cli", *options], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )  # fmt: skip


async def forward(options: tuple[str, ...], data_dir: Path) -> None:
    """A gateway forwards an event, and reads what workers learned."""
    async with GatewayProcess(*options, "--upstream", "http://127.0.0.1:1", data_dir=data_dir) as gateway:
        await ask(gateway.url)
        good = {
            'trueclock_forwarder_events_total{outcome="acknowledged"} 1.0',
            "trueclock_forwarder_failing 0.0",
            "trueclock_fleet_failing 0.0",
        }
        async with asyncio.timeout(30):
            while not good <= set((await ask(gateway.url, target="/metrics")).body.decode().splitlines()):
                await asyncio.sleep(0.1)
        status, errors = await gateway.end()
    assert status == 0
    assert not re.search(r'"level": "(warning|error)", "logger": "trueclock\.(forwarder|fleet|kafka)"', errors)


def test_the_rights_that_are_named_are_enough(own_broker: None, tmp_path: Path) -> None:
    topics = Topics(PREFIX)
    with Broker(tmp_path / "broker", users=dict.fromkeys(USERS.values(), "the-secret"), properties=GUARDED) as broker:
        ensure_topics(settings_of({"bootstrap.servers": broker.bootstrap}, PREFIX), topics, 2)
        kafka_topics.create_topic(broker.bootstrap, OWN, 2)
        grant(broker)
        events = command("simulate", "--requests", "300", "--scenario", "onoff").stdout.encode().splitlines()
        kafka_topics.write(broker.bootstrap, topics.requests, [kafka_topics.New(each, each) for each in events])
        run(forward(properties(broker, tmp_path, "gateway"), tmp_path / "data"))

        replay = ("replay", *properties(broker, tmp_path, "replay"), "--since", "1h", "--topic", OWN)
        for more in ((), ("--append",)):
            done = command(*replay, *more)
            assert done.returncode == 0, done.stderr
        assert len(kafka_topics.read_topic(broker.bootstrap, OWN)) == 301

        kafka_topics.write(broker.bootstrap, topics.requests, [kafka_topics.New(b"{")])
        with WorkerProcess(
            broker.address("SASL_PLAINTEXT"), tmp_path, *properties(broker, tmp_path, "worker")
        ) as worker:
            worker.wait(lambda status: (status["enriched"], status["dead"], status["failing"]) == (301, 1, None))
            assert worker.stop() == 0
        said = [line for line in worker.tail(10_000).splitlines() if not COMING_UP.search(line)]
        assert not re.search('"level": "(warning|error)", "logger": "trueclock', "\n".join(said))
        for topic in (topics.windows, topics.baselines):
            assert kafka_topics.read_topic(broker.bootstrap, topic), topic
