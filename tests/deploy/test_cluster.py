"""`make cluster` for real: it starts, shows traffic in every place that it names, survives a kill, and ends whole."""

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.harness import ROOT

pytestmark = pytest.mark.usefixtures("own_broker")

SECONDS = 120.0
FREE = ("--port", "0", "--stream-port", "0", "--kafka-port", "0")


@contextmanager
def cluster(folder: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    """`deploy/cluster.py`, which has ended when this ends; its first line is read."""
    command = [sys.executable, str(ROOT / "deploy" / "cluster.py"), "--dir", str(folder), *options]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", "NO_PROXY": "127.0.0.1"}
    with subprocess.Popen(
        command, env=environment, text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
            try:
                process.communicate(timeout=SECONDS)
            finally:
                process.kill()


def told(process: subprocess.Popen[str]) -> dict[str, str]:
    """What it prints when it is ready, by name."""
    assert process.stdout is not None
    found: dict[str, str] = {}
    for line in process.stdout:
        if row := re.match(r"  (\S.*?)  +(\S.*)\n", line):
            found[row[1]] = row[2]
        if "logs and data" in line:
            return found
    raise AssertionError(process.communicate()[1])


def text(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as reply:
        return str(reply.read().decode())


def wait(done: Callable[[], Any]) -> Any:
    """Wait until it is so; the traffic is replayed at its own pace."""
    deadline = time.monotonic() + SECONDS
    while True:
        with suppress(OSError, ValueError):
            if value := done():
                return value
        assert time.monotonic() < deadline, "still not so"
        time.sleep(0.1)


def counted(places: dict[str, str], kind: str) -> float:
    """The sum of trueclock_requests_total over the gateway, or over the stream workers."""
    urls = [place for name, place in places.items() if name.startswith(f"metrics: {kind}")]
    found = [re.findall(r"^trueclock_requests_total\{.*\} (\S+)$", text(url), re.MULTILINE) for url in urls]
    return sum(float(value) for values in found for value in values)


def descendants(marker: str, pid: int | None = None) -> list[str]:
    """The command lines of processes that belong to a folder, or of one of them."""
    lines = []
    for entry in Path("/proc").glob("[0-9]*" if pid is None else str(pid)):
        with suppress(OSError):
            line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if marker in line:
                lines.append(line)
    return lines


def test_the_cluster(tmp_path: Path) -> None:
    folder = tmp_path / "cluster"
    with cluster(folder, *FREE, "--speed", "10") as process:
        places = told(process)
        assert complaints(folder) == []
        assert "<title>trueclock</title>" in text(places["the page"])
        wait(lambda: counted(places, "gateway") > 5)
        wait(lambda: counted(places, "stream") > 5)
        windows = places["each minute, fleet-wide"]
        assert windows == shlex.quote(windows.strip("'"))
        wait(lambda: json.loads(text(windows.strip("'")))["windows"])
        status = json.loads(text(places["a worker's own state"]))
        assert status["name"] == "stream-1"
        assert status["ready"]
        check_read(places["enriched, as they come"])

        assert process.stdout is not None
        killed = int(places["kill a stream worker"].split()[2])
        os.kill(killed, signal.SIGKILL)
        said = f"stream-1 (pid {killed}) was killed by SIGKILL; it is started again\n"
        assert process.stdout.readline() == said
        back = re.fullmatch(r"stream-1 is ready again: pid (\d+)\n", process.stdout.readline())
        assert back is not None
        assert "--name stream-1" in descendants(str(folder), int(back[1]))[0]
        gateway = dict(re.findall(r"gw (\w+(?: \d+)?) is (\d+)", places["the gateway's processes"]))
        assert list(gateway) == ["worker 0", "worker 1", "control"]
        assert places["kill a gateway worker"].startswith(f"kill -9 {gateway['worker 0']} ")
        os.kill(int(gateway["worker 0"]), signal.SIGKILL)
        before = counted(places, "gateway")
        wait(lambda: counted(places, "gateway") > before + 5)

        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=SECONDS)
        assert (process.returncode, output, errors) == (0, "stopping\n", "")
    assert not descendants(str(folder))
    assert (folder / "gateway" / "events-1.sqlite").exists()
    assert (folder / "kafka" / "data" / "meta.properties").exists()


# A new broker makes the topic of the groups' positions when the first group comes; on a busy machine that takes a while,
# in which it says that the group is loading, or elsewhere. The worker tries again.
COMING_UP = re.compile(r"Marking the coordinator dead|\[Error 1[456]\] .* it is tried again")


def complaints(folder: Path) -> list[str]:
    """What the programs have logged that is more than information, but for a broker that just comes up."""
    lines = [line for log in folder.glob("*.log") for line in log.read_text().splitlines() if line.startswith("{")]
    return [line for line in lines if json.loads(line)["level"] not in ("info", "debug") and not COMING_UP.search(line)]


def check_read(command: str) -> None:
    """The command that it prints shows enriched events."""
    with subprocess.Popen(
        ["bash", "-c", f"exec {command}"], text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env={**os.environ, "PYTHONUNBUFFERED": "1"}
    ) as reader:  # fmt: skip
        try:
            assert reader.stdout is not None
            assert json.loads(reader.stdout.readline())["coverage"] in ("covered", "extrapolated", "uncovered")
        finally:
            reader.kill()


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    """One line says what is wrong, and nothing stays behind."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        with cluster(tmp_path / "cluster", "--port", port, *FREE[2:]) as process:
            output, errors = process.communicate(timeout=SECONDS)
    assert process.returncode == 1
    assert errors.startswith("cluster: gateway ended with 2: ")
    assert port in errors
    assert errors.count("\n") == 1
    assert "ready" not in output
    assert not descendants(str(tmp_path / "cluster"))
