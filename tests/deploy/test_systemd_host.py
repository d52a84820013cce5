"""The units of `deploy/systemd` under a systemd that is process 1 of a host of its own: start, faults, stop, reload."""

import asyncio
import json
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness import ROOT, ask, chat, run, until, within
from tests.installed_host import GATEWAY, KEY, InstalledHost, free_port, missing
from tests.kafka_broker import Served
from tests.servers.openai_like import OpenAILike


@pytest.fixture
def host(tmp_path: Path) -> Iterator[InstalledHost]:
    if reason := missing():
        pytest.skip(reason)
    folder = tmp_path / "host"
    folder.mkdir()
    with InstalledHost(folder) as made:
        yield made


def tagged(number: int) -> tuple[tuple[str, str], ...]:
    return (("x-trueclock-tags", f"n={number}"),)


def test_it_serves_as_a_user_who_may_little(host: InstalledHost) -> None:
    async def scenario() -> None:
        async with OpenAILike(key=KEY) as upstream:
            host.configure(upstream.url)
            await host.started()
            assert (await chat(host.url, "davinci")).status == 200
        (event,) = await asyncio.to_thread(host.events)
        assert (event["model"], event["status"], event["coverage"]) == ("davinci", 200, "covered")

    run(scenario())
    process = host.path(f"/proc/{host.shown('MainPID')}")
    status = dict(line.split(":\t", 1) for line in (process / "status").read_text().splitlines() if ":\t" in line)
    user = status["Uid"].split()[0]
    assert user != "0"
    assert (int(status["CapEff"], 16), status["NoNewPrivs"], status["Seccomp"]) == (0, "1", "2")
    files = int((process / "limits").read_text().split("Max open files")[1].split()[0])
    assert files == min(65536, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    state = host.path("/var/lib/private/trueclock").stat()
    assert (str(state.st_uid), state.st_mode & 0o777) == (user, 0o700)


def test_its_log_is_the_journal(host: InstalledHost) -> None:
    """One JSON object a line, with the times and levels of the gateway."""

    async def scenario() -> None:
        async with OpenAILike(key=KEY) as upstream:
            host.configure(upstream.url)
            await host.started()
            stopped = await host.systemctl("stop", GATEWAY)
            assert stopped.returncode == 0

    run(scenario())
    lines = [json.loads(line) for line in host.journal() if line.startswith("{")]
    assert any(line["message"].startswith("stopping: requests in flight have 30 s") for line in lines)
    assert KEY not in "\n".join(host.journal())


def test_killed_it_is_back_and_nothing_is_lost(host: InstalledHost) -> None:
    async def scenario() -> set[int]:
        whole: set[int] = set()

        async def client(numbers: range) -> None:
            for number in numbers:
                try:
                    reply = await chat(host.url, "davinci", headers=tagged(number))
                except (OSError, asyncio.IncompleteReadError):
                    await asyncio.sleep(0.05)
                    continue
                if reply.status == 200 and not reply.broken:
                    whole.add(number)

        async with OpenAILike(key=KEY) as upstream:
            host.configure(upstream.url)
            await host.started()
            clients = asyncio.gather(*(client(range(first, 400, 4)) for first in range(4)))
            await until(lambda: len(whole) >= 100)
            await host.systemctl("kill", "--signal=KILL", GATEWAY)
            await host.restarted()
            await within(clients, 60)
            assert (await chat(host.url, "davinci", headers=tagged(400))).status == 200
        return whole | {400}

    whole = run(scenario())
    recorded = [int(tag[2:]) for event in host.events() for tag in event["tags"]]
    assert whole <= set(recorded)
    assert len(recorded) == len(set(recorded))


def test_an_upgrade_and_the_way_back(host: InstalledHost) -> None:
    """/opt/trueclock leads to another version: what runs stays whole until it is started again, workers too."""

    def versions() -> set[str]:
        """Where the programs of all processes of the unit lie."""
        listed = host.checked("cat", f"/sys/fs/cgroup{host.shown('ControlGroup')}/cgroup.procs").split()
        assert len(listed) >= 4, "the supervisor, its workers, the control process"
        return {host.path(f"/proc/{each}/cmdline").read_text().partition("/bin/")[0] for each in listed}

    async def scenario() -> None:
        async with OpenAILike(key=KEY) as upstream:
            host.configure(upstream.url, "--workers", "2")
            await host.started()
            await asyncio.to_thread(host.install, "2")
            before = "1"
            for version in ("2", "1"):
                await asyncio.to_thread(host.use, version)
                assert versions() == {f"/opt/trueclock-{before}"}
                await host.systemctl("restart", GATEWAY)
                await host.ready(host.port)
                assert versions() == {f"/opt/trueclock-{version}"}
                assert (await chat(host.url, "davinci")).status == 200
                before = version
        assert len(host.events()) == 2

    run(scenario())


@pytest.mark.parametrize("workers", [(), ("--workers", "2")], ids=["one process", "workers"])
def test_stopping_lets_a_request_finish(host: InstalledHost, workers: tuple[str, ...]) -> None:
    async def scenario() -> None:
        async with OpenAILike(key=KEY) as upstream:
            host.configure(upstream.url, *workers)
            await host.started()
            slow = asyncio.create_task(chat(host.url, "davinci", headers=(*tagged(7), ("x-first-delay", "1"))))
            await within(upstream.received(1))
            stopped = await host.systemctl("stop", GATEWAY)
            assert stopped.returncode == 0
            reply = await slow
            assert (reply.status, reply.broken) == (200, False)

    run(scenario())
    assert (host.shown("Result"), host.shown("ExecMainStatus"), host.shown("NRestarts")) == ("success", "0", "0")
    (event,) = host.events()
    assert (event["tags"], event["status"]) == (["n=7"], 200)


def test_what_root_reads_stays_the_gateways(host: InstalledHost) -> None:
    """`gateway events` as root, while it runs and while it does not, takes no file away from the unit's user."""

    async def scenario() -> None:
        async with OpenAILike(key=KEY) as upstream:
            host.configure(upstream.url)
            for count in (1, 2):
                await host.started()
                assert (await chat(host.url, "davinci")).status == 200
                assert len(await asyncio.to_thread(host.events)) == count
                await host.systemctl("stop", GATEWAY)
                assert len(await asyncio.to_thread(host.events)) == count
            owners = {path.stat().st_uid for path in host.path("/var/lib/private/trueclock").rglob("*")}
            assert 0 not in owners

    run(scenario())


def test_a_backup_is_restored(host: InstalledHost) -> None:
    """Taken by root while it runs; what root unpacks into a new folder becomes the unit's own at the start."""
    state, place = "/var/lib/private/trueclock", "/var/lib/trueclock"

    async def scenario() -> None:
        async with OpenAILike(key=KEY) as upstream:
            host.configure(upstream.url)
            await host.started()
            for number in range(3):
                await chat(host.url, "davinci", headers=tagged(number))
            host.write("/root/backup.py", (ROOT / "deploy" / "backup.py").read_text())
            backup = f"/opt/trueclock/bin/python /root/backup.py {place} > /tmp/backup.tar"
            await asyncio.to_thread(host.checked, "sh", "-c", backup)
            await host.systemctl("stop", GATEWAY)
            restore = f"mv {state} {state}.former && install -d {state} && tar -x -C {state} -f /tmp/backup.tar"
            await asyncio.to_thread(host.checked, "sh", "-c", restore)
            await host.started()
            assert (await chat(host.url, "davinci", headers=tagged(3))).status == 200

    run(scenario())
    assert [event["tags"] for event in host.events()] == [[f"n={number}"] for number in range(4)]
    assert host.path(state).stat().st_mode & 0o777 == 0o700
    assert 0 not in {path.stat().st_uid for path in host.path(state).rglob("*")}


def test_requests_outlive_a_supervisor_that_is_killed(host: InstalledHost) -> None:
    """Its workers finish what they have; systemd starts the gateway again when they have."""

    async def scenario() -> None:
        async with OpenAILike(key=KEY) as upstream:
            host.configure(upstream.url, "--workers", "2")
            await host.started()
            slow = asyncio.create_task(chat(host.url, "davinci", headers=(*tagged(7), ("x-first-delay", "1"))))
            await within(upstream.received(1))
            await host.systemctl("kill", "--kill-who=main", "--signal=KILL", GATEWAY)
            reply = await slow
            assert (reply.status, reply.broken) == (200, False)
            await host.restarted()
            assert (await chat(host.url, "davinci", headers=tagged(8))).status == 200

    run(scenario())
    assert sorted(event["tags"] for event in host.events()) == [["n=7"], ["n=8"]]


def test_a_configuration_that_cannot_be_used_stops_the_start(host: InstalledHost) -> None:
    """The journal says where it is wrong; once it is right, the gateway comes up by itself."""

    async def scenario() -> None:
        async with OpenAILike(key=KEY) as upstream:
            host.write("/etc/trueclock/config.yaml", "model_list: []\nmodel_lst: []\n")
            assert (await host.systemctl("start", GATEWAY)).returncode != 0
            assert any("config.yaml:2: " in line for line in host.journal()), host.journal()
            for _ in range(6):  # more often than systemd's own limit
                await host.systemctl("restart", GATEWAY)
            host.configure(upstream.url)
            await host.ready(host.port)
            assert (await chat(host.url, "davinci")).status == 200

    run(scenario())


def test_stream_workers(host: InstalledHost, broker: Served, prefix: str) -> None:
    """Two instances share what the gateway forwards; the brokers' file is root's alone."""
    ports = [free_port(), free_port()]
    units = [f"trueclock-stream-worker@{port}" for port in ports]

    async def scenario() -> None:
        async with OpenAILike(key=KEY) as upstream:
            host.configure(upstream.url, "--kafka", broker.bootstrap, "--topic-prefix", prefix)
            host.write("/etc/trueclock/kafka.properties", f"bootstrap.servers={broker.bootstrap}\n", 0o600)
            host.write("/etc/trueclock/stream-worker.env", f"TRUECLOCK_OPTIONS=--topic-prefix {prefix}\n")
            await host.started()
            started = await host.systemctl("start", *units)
            assert started.returncode == 0
            for port in ports:
                await host.ready(port, 60)
            for number in range(20):
                assert (await chat(host.url, "davinci", headers=tagged(number))).status == 200
            async with asyncio.timeout(30):
                while sum([await enriched(port) for port in ports]) < 20:
                    await asyncio.sleep(0.1)
            stopped = await host.systemctl("stop", *units)
            assert stopped.returncode == 0

    run(scenario())
    assert {(host.shown("Result", unit), host.shown("NRestarts", unit)) for unit in units} == {("success", "0")}


async def enriched(port: int) -> int:
    """How many events a stream worker has enriched."""
    reply = await ask(f"http://127.0.0.1:{port}", target="/trueclock/v1/status")
    return int(reply.json["enriched"])


def test_a_reload_is_heeded_or_refused(host: InstalledHost) -> None:
    """The same process goes on, by the new file; by the old one where the new one cannot be used."""

    async def scenario() -> None:
        async with OpenAILike(key=KEY) as upstream:
            host.configure(upstream.url)
            await host.started()
            process = host.shown("MainPID")
            assert (await chat(host.url, "curie")).status == 404
            host.configure(upstream.url, model="curie")
            reloaded = await host.systemctl("reload", GATEWAY)
            assert (reloaded.returncode, reloaded.stderr) == (0, "")
            async with asyncio.timeout(10):
                while (await chat(host.url, "curie")).status != 200:
                    await asyncio.sleep(0.05)
            host.write("/etc/trueclock/config.yaml", "model_list: []\nmodel_lst: []\n")
            assert (await host.systemctl("reload", GATEWAY)).returncode != 0
            assert any("config.yaml:2: " in line for line in host.journal())
            assert (await chat(host.url, "curie")).status == 200
            assert (host.shown("MainPID"), host.shown("ActiveState")) == (process, "active")

    run(scenario())
