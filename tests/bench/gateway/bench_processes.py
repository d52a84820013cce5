"""Processes under measurement: started on one core, paused while others are measured, read through /proc."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
ROOT = Path(__file__).resolve().parents[3]
HERE = Path(__file__).resolve().parent
BUILD = HERE / "build"


class BenchError(Exception):
    """The bench cannot go on: one line that says what failed and what to do."""


def cores() -> tuple[int, int]:
    """Return the core of the gateways and the core of mock and load (the same one where there is but one)."""
    usable = sorted(os.sched_getaffinity(0))
    return usable[0], usable[1 if len(usable) > 1 else 0]


@contextlib.contextmanager
def pinned(core: int) -> Iterator[None]:
    """Pin this process, and so what it starts, to one core for a while."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def free_port() -> int:
    """Return a port of 127.0.0.1 that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass(slots=True)
class Process:
    """A started program with its whole tree of children; its output goes to `log`."""

    name: str
    port: int
    popen: subprocess.Popen[bytes]
    log: Path

    def tree(self) -> list[int]:
        """Return the process ids of the program and of its children's children."""
        children: dict[int, list[int]] = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and (fields := stat_fields(int(entry.name))):
                children.setdefault(int(fields[1]), []).append(int(entry.name))
        found, todo = [], [self.popen.pid]
        while todo:
            found.append(todo.pop())
            todo += children.get(found[-1], [])
        return found

    def cpu_seconds(self) -> float:
        """Return the user and system seconds that the tree has used."""
        fields = [stat_fields(pid) for pid in self.tree()]
        return sum(int(each[11]) + int(each[12]) for each in fields if each) / TICKS

    def rss_mb(self) -> float:
        """Return the tree's resident memory in MB, shared pages counted once (PSS)."""
        return sum(memory_kib(pid) for pid in self.tree()) / 1024

    def wait_ready(self, seconds: float = 60) -> None:
        """Wait until the port accepts connections; raise BenchError with the log's end if it never does."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self.popen.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            time.sleep(0.005)
        raise BenchError(f"{self.name} does not listen on port {self.port}: {tail(self.log)}")

    def pause(self) -> None:
        """Stop the tree, so that it takes nothing from what is measured meanwhile."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a paused tree run again."""
        self._signal(signal.SIGCONT)

    def stop(self, seconds: float = 10) -> None:
        """End the tree: SIGTERM, and SIGKILL for whoever is still there after some seconds."""
        self.resume()
        self._signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.popen.wait(seconds)
        self._signal(signal.SIGKILL)
        self.popen.wait()

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.popen.pid, number)


def start(
    name: str,
    command: Sequence[str],
    *,
    port: int,
    log: Path,
    env: Mapping[str, str] | None = None,
) -> Process:
    """Start a program in a session of its own; within `pinned`, on that core."""
    clean = {**os.environ, "NO_PROXY": "127.0.0.1,localhost", **(env or {})}
    with log.open("wb") as output:
        popen = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, cwd=ROOT, env=clean, start_new_session=True
        )
    return Process(name, port, popen, log)


def stat_fields(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat from the state on (state, parent, ...); empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return []


def memory_kib(pid: int) -> int:
    """Return the proportional resident KiB of one process, 0 when it is gone."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def tail(log: Path, characters: int = 600) -> str:
    """Return the end of a log as one line."""
    return " | ".join(log.read_text(errors="replace")[-characters:].splitlines()) or "(no output)"


def build_go(program: str) -> Path:
    """Build one of the Go programs beside this file; return the binary's path."""
    go = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin")
    if go is None:
        raise BenchError("Go is not installed: the mock and the load generator need it (Debian: golang-go)")
    BUILD.mkdir(exist_ok=True)
    env = {**os.environ, "GOTOOLCHAIN": "local", "GOFLAGS": "-mod=mod", "CGO_ENABLED": "0"}
    command = [go, "build", "-o", str(BUILD / program), "."]
    done = subprocess.run(command, cwd=HERE / program, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchError(f"go build of {program} failed: {done.stderr.strip()}")
    return BUILD / program


def end_on_sigterm() -> None:
    """Turn SIGTERM into SystemExit, so that every `finally` runs and no child is left."""

    def leave(_number: int, _frame: object) -> None:
        raise SystemExit(143)

    signal.signal(signal.SIGTERM, leave)
