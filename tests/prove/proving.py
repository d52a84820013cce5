"""What the proofs share: a gateway in its own process, its events and totals, and claims that can fail."""

import contextlib
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
ENV = {**os.environ, "NO_PROXY": "127.0.0.1,localhost", "PYTHONPATH": str(ROOT)}
Totals = dict[str, dict[tuple[tuple[str, str], ...], float]]  # metric -> labels -> value


class ProofError(Exception):
    """The proof cannot be carried out: one line that says why."""


@dataclass(slots=True)
class Gateway:
    """`gateway run` in a process of its own, on a fixed port and data directory."""

    upstream: str
    data: Path
    log: Path
    port: int = 0
    options: Sequence[str] = ()
    process: subprocess.Popen[bytes] = field(init=False)

    def start(self, seconds: float = 20) -> None:
        """Start it (again) and wait until it says that it is ready."""
        options = ["--port", str(self.port), "--upstream", self.upstream, "--data-dir", str(self.data)]
        options += self.options
        command = [sys.executable, "-m", "gateway.cli", "run", *options]
        output = self.log.with_suffix(".out")  # a file: nobody would empty a pipe while the proof runs
        with self.log.open("ab") as errors, output.open("wb") as out:
            self.process = subprocess.Popen(
                command, stdout=out, stderr=errors, cwd=ROOT, env=ENV, start_new_session=True
            )
        deadline = time.monotonic() + seconds
        while not (self._read_address(output) and self.ready(1) == 200):
            if not self.alive() or time.monotonic() > deadline:
                self.kill()
                raise ProofError(f"the gateway does not become ready: {self.tail()}")
            time.sleep(0.005)

    def ready(self, timeout: float = 5) -> int | None:
        """Return the status of /health/ready, None without an answer."""
        try:
            with urllib.request.urlopen(f"{self.address}/health/ready", timeout=timeout) as reply:
                status: int = reply.status
                return status
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return None

    @property
    def address(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    def kill(self) -> None:
        """End it with SIGKILL, and everything it started."""
        self._signal(signal.SIGKILL)
        self.process.wait()

    def stop(self, seconds: float = 15) -> int:
        """End it with SIGTERM; return its exit status (-9 when it had to be killed)."""
        self._signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(seconds)
        self.kill()
        return self.process.returncode

    def alive(self) -> bool:
        """Tell whether the process still runs."""
        return self.process.poll() is None

    def rss_mb(self) -> float:
        """Return its resident memory in MB."""
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(text.split("VmRSS:")[1].split()[0]) / 1024

    def open_files(self) -> int:
        """Return how many file descriptors it holds."""
        return sum(1 for _ in Path(f"/proc/{self.process.pid}/fd").iterdir())

    def tail(self, characters: int = 800) -> str:
        """Return the end of its log in one line."""
        return " | ".join(self.log.read_text(errors="replace")[-characters:].splitlines()) or "(no output)"

    def events(self) -> list[dict[str, Any]]:
        """Return all recorded events, as `gateway events` prints them."""
        return events_of(self.data)

    def totals(self) -> Totals:
        """Return the counters of /metrics."""
        with urllib.request.urlopen(f"{self.address}/metrics", timeout=30) as reply:
            return parse_totals(reply.read().decode())

    def _read_address(self, output: Path) -> bool:
        """Take the port from the first line on stdout, once it is there."""
        found = re.search(r"http://127\.0\.0\.1:(\d+)", output.read_text(errors="replace").partition("\n")[0])
        self.port = int(found[1]) if found else self.port
        return found is not None

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)


def events_of(data: Path) -> list[dict[str, Any]]:
    """Return the events of a data directory, through the command that users have."""
    return [json.loads(line) for line in list_events(data).stdout.splitlines()]


def list_events(data: Path) -> subprocess.CompletedProcess[bytes]:
    """Run `gateway events` on a data directory; its lines are events, its stderr are complaints."""
    command = [sys.executable, "-m", "gateway.cli", "events", "--data-dir", str(data)]
    done = subprocess.run(command, capture_output=True, cwd=ROOT, env=ENV, check=False)
    if done.returncode:
        raise ProofError(f"gateway events failed ({done.returncode}): {done.stderr.decode()[-500:].strip()}")
    return done


def unreadable(data: Path) -> list[str]:
    """Return what `gateway events` complains about."""
    return list_events(data).stderr.decode(errors="replace").splitlines()


def stored(data: Path) -> int:
    """Count the rows of the event log itself."""
    rows = 0
    for path in data.glob("events-*.sqlite"):
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
            rows += int(db.execute("SELECT count(*) FROM events").fetchone()[0])
    return rows


SAMPLE = re.compile(r"^(trueclock_\w+_total)(?:\{(.*)\})? (\S+)$", re.MULTILINE)
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


def parse_totals(exposition: str) -> Totals:
    """Read the `trueclock_*_total` counters of a Prometheus exposition."""
    totals: Totals = {}
    for name, labels, value in SAMPLE.findall(exposition):
        totals.setdefault(name, {})[tuple(sorted(LABEL.findall(labels)))] = float(value)
    return totals


def wait_total(gateway: Gateway, expected: int, seconds: float = 30) -> Totals:
    """Return the totals once they count so many requests, or as they are when the time is up."""
    deadline = time.monotonic() + seconds
    while True:
        totals = gateway.totals()
        if sum(totals.get("trueclock_requests_total", {}).values()) >= expected or time.monotonic() > deadline:
            return totals
        time.sleep(0.05)


def numbers(events: Sequence[dict[str, Any]]) -> Counter[int]:
    """Count the events of each request number (the tag n=123)."""
    return Counter(int(tag[2:]) for event in events for tag in event["tags"] if tag.startswith("n="))


@dataclass(slots=True)
class Claims:
    """The claims of one proof; `finish` prints the summary and gives the exit status."""

    name: str
    failed: list[str] = field(default_factory=list)
    said: int = 0

    def claim(self, text: str, holds: bool, detail: object = "") -> bool:
        """State one claim and whether it holds."""
        self.said += 1
        if not holds:
            self.failed.append(text)
        print(f"{'ok    ' if holds else 'FAILED'} {text}{f': {detail}' if detail != '' else ''}", flush=True)
        return holds

    def finish(self, summary: str) -> int:
        """Print the last line; return 0 when every claim holds."""
        verdict = f"FAILED ({'; '.join(self.failed)})" if self.failed else f"ok, {self.said} claims hold"
        print(f"{self.name}: {verdict}: {summary}", flush=True)
        return 1 if self.failed else 0


@contextlib.contextmanager
def workplace(keep: Path | None = None) -> Iterator[Path]:
    """Give a directory on disk for logs and data, and remove it afterwards unless it was named."""
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        yield keep
        return
    with tempfile.TemporaryDirectory(prefix="trueclock-prove-", ignore_cleanup_errors=True) as path:
        yield Path(path)


def end_on_sigterm() -> None:
    """Turn SIGTERM into SystemExit, so that every `finally` runs and no gateway is left."""

    def leave(_number: int, _frame: object) -> None:
        raise SystemExit(143)

    signal.signal(signal.SIGTERM, leave)
