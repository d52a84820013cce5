"""The containers' commands, run for real as processes: on other ports, with nobody at the broker's address."""

import asyncio
import json
import os
import re
import socket
import subprocess
import sys
import tarfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.test_compose import SERVICES
from tests.deploy.test_image import loaded
from tests.deploy.test_kubernetes import container
from tests.harness import ROOT, run, within
from tests.servers.openai_like import OpenAILike

SECONDS = 90.0  # of a busy machine
CONFIG = ROOT / "deploy" / "config" / "config.yaml"


def free_ports(count: int) -> list[int]:
    """Ports that are free now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("0.0.0.0", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def elsewhere(command: Sequence[str], ports: Mapping[str, int], config: Path) -> list[str]:
    """The command with other ports, a broker that is away, and the configuration where it lies here."""
    line = "\n".join(command).replace("/etc/trueclock/config.yaml", str(config))
    for old, new in ports.items():
        line = re.sub(rf"([=:]){old}$", rf"\g<1>{new}", line, flags=re.MULTILINE)
    return re.sub(r"^--kafka(-properties)?=.*", "--kafka=127.0.0.1:1", line, flags=re.MULTILINE).split("\n")


@contextmanager
def started(command: Sequence[str], data: Path) -> Iterator[subprocess.Popen[str]]:
    """A container's command as a process, with the image's environment; it has answered SIGTERM with 0 when this ends."""
    module = {"gateway": "gateway.cli", "stream": "stream.cli"}[command[0]]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "XDG_DATA_HOME": str(data), "PYTHONWARNINGS": "ignore"}
    with subprocess.Popen(
        [sys.executable, "-m", module, *command[1:]],
        env=environment, cwd=data, text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        try:
            assert process.stdout.readline(), "it did not start"
            yield process
            process.terminate()
            assert process.wait(SECONDS) == 0
        finally:
            process.kill()


def status(port: int, path: str, host: str | None = None) -> int:
    """The status of a GET."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers={"Host": host} if host else {})
    try:
        with urllib.request.urlopen(request, timeout=10) as reply:
            return int(reply.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def wait(done: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + SECONDS
    while True:
        with suppress(OSError):
            if found := done():
                return found
        assert time.monotonic() < deadline, "still not so"
        time.sleep(0.05)


def metrics(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as reply:
        return str(reply.read().decode())


@pytest.mark.parametrize("where", ["compose", "kubernetes"])
def test_a_gateway(where: str, tmp_path: Path) -> None:
    """Requests on one port, everything of its own on the other, health on both; its data where the volume is."""
    command = SERVICES["gateway"]["command"] if where == "compose" else container("try", "trueclock-gateway")["args"]
    api, admin = free_ports(2)
    with started(elsewhere(command, {"4000": api, "4001": admin}, CONFIG), tmp_path):
        wait(lambda: loaded("healthcheck").main([str(api)]) == 0)
        for path in ("/health/live", "/health/ready"):
            assert status(api, path) == status(admin, path) == 200
        for path in ("/", "/metrics", "/trueclock/v1/summary"):
            assert (status(api, path), status(admin, path)) == (404, 200)
        assert status(admin, "/v1/models") == 404
        foreign = status(admin, "/metrics", "web.example.org")
        assert foreign == (403 if where == "compose" else 200), "Prometheus asks pods by their addresses"
        assert status(admin, "/metrics", f"gateway:{admin}") == 200
        assert (tmp_path / "trueclock" / "events-1.sqlite").exists()


@pytest.mark.parametrize("where", ["compose", "kubernetes"])
def test_a_stream_worker(where: str, tmp_path: Path) -> None:
    """Alive while the broker is away, and not ready."""
    command = SERVICES["stream-1"]["command"] if where == "compose" else container("try", "trueclock-stream")["args"]
    (port,) = free_ports(1)
    with started(elsewhere(command, {"6066": port}, CONFIG), tmp_path):
        assert wait(lambda: status(port, "/health/live")) == 200
        assert status(port, "/health/ready") == 503
        assert loaded("healthcheck").main([str(port)]) == 1
        assert "trueclock_stream_tables_info" in metrics(port)
        assert list(tmp_path.iterdir()) == [], "it has no volume"


def test_a_config_map_that_changes(tmp_path: Path) -> None:
    """As the kubelet does it: config.yaml is a link through ..data, which then leads to another folder."""
    folder = tmp_path / "etc"
    api, admin = free_ports(2)
    publish(folder, "one", CONFIG.read_text())
    command = container("gateway", "trueclock-gateway")["args"]
    with started(elsewhere(command, {"4000": api, "4001": admin}, folder / "config.yaml"), tmp_path):
        wait(lambda: 'trueclock_config_reloads_total{result="applied"} 0.0' in metrics(admin))
        changed = yaml.safe_load(CONFIG.read_text())
        changed["trueclock"]["stack"] = "v100-megatron"
        publish(folder, "two", yaml.safe_dump(changed))
        wait(lambda: 'trueclock_config_reloads_total{result="applied"} 1.0' in metrics(admin))
        assert "trueclock_config_last_reload_successful 1.0" in metrics(admin)


def publish(folder: Path, version: str, text: str) -> None:
    """Put a version of a ConfigMap in place, all at once."""
    there = folder / f"..{version}"
    there.mkdir(parents=True)
    (there / "config.yaml").write_text(text)
    (folder / "..new").symlink_to(there.name)
    (folder / "..new").rename(folder / "..data")
    if not (folder / "config.yaml").is_symlink():
        (folder / "config.yaml").symlink_to("..data/config.yaml")


# --- backups


def test_a_backup_of_a_gateway_at_work(tmp_path: Path) -> None:
    """Every event that was there before is in it, readable after it was unpacked; nothing is left behind."""
    api, admin = free_ports(2)
    data, restored = tmp_path / "trueclock", tmp_path / "restored" / "trueclock"
    restored.mkdir(parents=True)

    async def scenario() -> None:
        async with OpenAILike() as provider:
            config = tmp_path / "config.yaml"
            config.write_text(yaml.safe_dump({"trueclock": {"upstream": provider.url}}))
            command = elsewhere(SERVICES["gateway"]["command"], {"4000": api, "4001": admin}, config)
            with started(command, tmp_path):
                await within(asking(api, 20))
                await within(in_thread(lambda: wait(lambda: counted(admin) == 20)))
                during = in_thread(lambda: back_up(tmp_path))
                await within(asking(api, 20))
                (tmp_path / "backup.tar").write_bytes(await within(during))

    run(scenario())
    with tarfile.open(tmp_path / "backup.tar") as archive:
        assert all(name == Path(name).name for name in archive.getnames())
        archive.extractall(restored, filter="data")
        order = archive.getnames()
    assert order.index("stream.sqlite") < order.index("events-0.sqlite"), "what was read, before what there is to read"
    assert (restored / "salt").read_bytes() == (data / "salt").read_bytes()
    assert (restored / "salt").stat().st_mode & 0o777 == 0o600
    kept, known = events(tmp_path / "restored"), {each["id"] for each in events(tmp_path)}
    assert {each["id"] for each in kept} < known or len(kept) == len(known)
    assert 20 <= len(kept) <= len(known) == 40
    api, admin = free_ports(2)
    with started(
        elsewhere(SERVICES["gateway"]["command"], {"4000": api, "4001": admin}, CONFIG), tmp_path / "restored"
    ):
        wait(lambda: counted(admin) == len(kept))
        wait(lambda: f"trueclock_forwarder_backlog_events {len(kept)}.0" in metrics(admin))
    assert not list(data.glob(".backup-*"))


def in_thread(what: Callable[[], Any]) -> Any:
    return asyncio.ensure_future(asyncio.to_thread(what))


async def asking(port: int, count: int) -> None:
    """Send requests through the gateway, one after the other."""

    def one() -> None:
        body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hello"}]}).encode()
        head = {"Authorization": "Bearer sk-test", "Content-Type": "application/json"}
        request = urllib.request.Request(f"http://127.0.0.1:{port}/v1/chat/completions", body, head)
        with urllib.request.urlopen(request, timeout=10) as reply:
            reply.read()

    for _ in range(count):
        await in_thread(one)


def counted(port: int) -> float:
    found = re.findall(r"^trueclock_requests_total\{.*\} (\S+)$", metrics(port), re.MULTILINE)
    return sum(map(float, found))


def back_up(data_home: Path) -> bytes:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "XDG_DATA_HOME": str(data_home)}
    done = subprocess.run(
        [sys.executable, ROOT / "deploy" / "backup.py"], env=environment, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == b""
    return done.stdout


def events(data_home: Path) -> list[dict[str, Any]]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "XDG_DATA_HOME": str(data_home)}
    done = subprocess.run(
        [sys.executable, "-m", "gateway.cli", "events"], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_backup_of_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    for name in ("nowhere", "empty"):
        assert loaded("backup").main([str(tmp_path / name)]) == 2
        assert capsys.readouterr() == ("", f"trueclock-backup: {tmp_path / name}: no data directory of a gateway\n")
    assert loaded("backup").main(["--help"]) == 2
    assert capsys.readouterr() == ("", "usage: trueclock-backup [DIR] > backup.tar\n")
