"""`stream worker` in a process of its own, for tests and proofs.

with WorkerProcess(broker.bootstrap, tmp_path, "--topic-prefix", prefix, name="w1") as worker:
    worker.ready()                                   # its partitions are recovered
    worker.wait(lambda status: status["enriched"] == 3)
"""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

ROOT = Path(__file__).resolve().parents[1]
SECONDS = 60.0


class WorkerProcess:
    """One stream worker; its output goes to files in `folder`, as nobody would empty a pipe."""

    process: subprocess.Popen[bytes]

    def __init__(
        self,
        bootstrap: str,
        folder: Path,
        *options: str,
        name: str = "worker",
        preamble: str = "",
        environment: Mapping[str, str] | None = None,
        cwd: Path = ROOT,
    ) -> None:
        """Start nothing yet; `preamble` is code that runs in its process before the command does."""
        self.name = name
        self.log, self.output = folder / f"{name}.log", folder / f"{name}.out"
        self._options = ["worker", "--kafka", bootstrap, "--name", name, "--port", "0", *options]
        self._code = f"import sys\n{preamble}\nfrom stream.cli import main\nsys.exit(main(sys.argv[1:]))"
        self._environment = {**os.environ, "PYTHONPATH": str(ROOT), **(environment or {})}
        self._cwd = cwd

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        """Start it, or start it again under its name."""
        with self.log.open("ab") as errors, self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-c", self._code, *self._options],
                stdin=subprocess.DEVNULL, stdout=output, stderr=errors, cwd=self._cwd, env=self._environment,
            )  # fmt: skip

    @property
    def address(self) -> str:
        """Where it answers, as its first line says; empty until it does."""
        first = self.output.read_text(errors="replace").partition("\n")[0]
        return next((word for word in first.split() if word.startswith("http://")), "")

    def ask(self, path: str) -> bytes | None:
        """The body of what it answers with 200; None for anything else."""
        try:
            with urllib.request.urlopen(self.address + path, timeout=10) as reply:
                body: bytes = reply.read()
                return body
        except (OSError, ValueError):  # not there yet, or not any more, or 503
            return None

    def status(self) -> dict[str, Any]:
        """What /trueclock/v1/status says; empty while nobody answers."""
        body = self.ask("/trueclock/v1/status")
        found: dict[str, Any] = json.loads(body) if body else {}
        return found

    def wait(self, good: Callable[[dict[str, Any]], Any], seconds: float = SECONDS) -> dict[str, Any]:
        """Its status, once it is good."""
        deadline = time.monotonic() + seconds
        while not ((status := self.status()) and good(status)):
            assert self.process.poll() is None, f"{self.name} has ended: {self.tail()}"
            assert time.monotonic() < deadline, f"{self.name}: not so after {seconds} s: {status}; {self.tail()}"
            time.sleep(0.05)
        return status

    def ready(self, partitions: int | None = None, seconds: float = SECONDS) -> None:
        """Wait until its partitions are recovered, and are so many, if that is said."""
        self.wait(lambda each: each["ready"] and partitions in (None, len(each["partitions"])), seconds)

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        if self.process.poll() is None:
            self.process.send_signal(number)

    def kill(self) -> None:
        """End it with SIGKILL."""
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGKILL)
        self.process.wait()

    def stop(self, seconds: float = SECONDS) -> int:
        """End it with SIGTERM; its exit status, -9 when it had to be killed."""
        self.signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(seconds)
        self.kill()
        return self.process.returncode

    def tail(self, characters: int = 1500) -> str:
        """The end of what it wrote to standard error."""
        return self.log.read_text(errors="replace")[-characters:]
