"""A real Prometheus for tests: Debian's, with a configuration and a data directory of its own.

with PrometheusServer(tmp_path, {"trueclock-gateway": "127.0.0.1:4000"}, rules=[RULES]) as prometheus:
    prometheus.instant("sum(up)")                       # [Sample(labels, value)]
    prometheus.at("up", moment)                         # the same at a moment, in seconds since 1970
    prometheus.span("up", start, end, step)             # [Series(labels, points)]
    prometheus.wait(lambda: prometheus.instant("up == 1"))
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, Self

SECONDS = 60.0  # that anything may take on a busy machine
_ATTEMPTS = 5  # at a port that somebody else was given meanwhile


class Sample(NamedTuple):
    """One series at one moment; `labels` without the metric's name."""

    labels: dict[str, str]
    value: float


class Series(NamedTuple):
    """One series over time: (seconds since 1970, value)."""

    labels: dict[str, str]
    points: list[tuple[float, float]]


class QueryError(AssertionError):
    """Prometheus refused a query; its words."""


def missing() -> str | None:
    """Why no Prometheus can run here, None if one can."""
    return None if shutil.which("prometheus") else "prometheus is not installed: apt-get install prometheus"


def missing_promtool() -> str | None:
    """Why no rules can be checked here, None if they can: Debian's package has both."""
    return None if shutil.which("promtool") else "promtool is not installed: apt-get install prometheus"


def promtool(*arguments: str | Path) -> str:
    """Run promtool; its output, or an AssertionError with it where it found something."""
    done = subprocess.run(
        ["promtool", *map(str, arguments)], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


class PrometheusServer:
    """One server, which scrapes `targets` (addresses by job) and evaluates `rules`."""

    process: subprocess.Popen[bytes]

    def __init__(
        self,
        folder: Path,
        targets: Mapping[str, str],
        rules: Iterable[Path] = (),
        *,
        scrape_seconds: float = 0.5,
        rule_seconds: float = 1.0,
    ) -> None:
        """Start nothing yet; everything it writes lies in `folder`."""
        self.folder = folder
        self.config = folder / "prometheus.yaml"
        self.log = folder / "prometheus.log"
        self.port = 0
        folder.mkdir(parents=True, exist_ok=True)
        self.config.write_text(json.dumps(self._settings(targets, rules, scrape_seconds, rule_seconds), indent=1))

    @staticmethod
    def _settings(
        targets: Mapping[str, str], rules: Iterable[Path], scrape_seconds: float, rule_seconds: float
    ) -> dict[str, Any]:
        """Its configuration, in JSON, which is YAML."""
        scraped = [
            {"job_name": job, "static_configs": [{"targets": [address.removeprefix("http://")]}]}
            for job, address in targets.items()
        ]
        return {
            "global": {
                "scrape_interval": f"{round(scrape_seconds * 1000)}ms",
                "scrape_timeout": f"{round(scrape_seconds * 1000)}ms",
                "evaluation_interval": f"{round(rule_seconds * 1000)}ms",
            },
            "rule_files": [str(path.resolve()) for path in rules],
            "scrape_configs": scraped,
        }

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, and wait until it answers queries."""
        for _ in range(_ATTEMPTS):
            self.port = _free_port()
            self._launch()
            if self._ready():
                return
            if "address already in use" not in self.tail():
                break
        raise AssertionError(f"prometheus did not start: {self.tail()}")

    def _launch(self) -> None:
        options = [
            f"--config.file={self.config}",
            f"--storage.tsdb.path={self.folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{self.port}",
            "--storage.tsdb.retention.time=1d",
            "--storage.tsdb.min-block-duration=2h",
            "--log.level=warn",
        ]
        environment = {**os.environ, "GOMAXPROCS": "2"}
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                ["prometheus", *options],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder, env=environment,
            )  # fmt: skip

    def _ready(self) -> bool:
        """Whether it comes up, rather than ends."""
        deadline = time.monotonic() + SECONDS
        while self.process.poll() is None:
            with suppress(OSError), urllib.request.urlopen(f"{self.url}/-/ready", timeout=5) as reply:
                if reply.status == 200:
                    return True
            assert time.monotonic() < deadline, f"prometheus is not ready: {self.tail()}"
            time.sleep(0.05)
        return False

    def stop(self) -> None:
        """End it in order, or by force where that takes too long."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def tail(self, characters: int = 1500) -> str:
        """The end of what it wrote."""
        return self.log.read_text(errors="replace")[-characters:]

    def get(self, path: str, **parameters: Any) -> Any:
        """`data` of a call of its HTTP API, such as `rules`; QueryError where it refuses."""
        body = urllib.parse.urlencode(parameters, doseq=True)
        try:
            with urllib.request.urlopen(f"{self.url}/api/v1/{path}?{body}", timeout=SECONDS) as reply:
                return json.load(reply)["data"]
        except urllib.error.HTTPError as error:
            raise QueryError(f"{parameters}: {error.read().decode(errors='replace')}") from None

    def instant(self, query: str) -> list[Sample]:
        """What an instant query gives now; a scalar is one sample without labels."""
        return self._samples(self.get("query", query=query))

    def at(self, query: str, moment: float) -> list[Sample]:
        """The same at a moment, in seconds since 1970."""
        return self._samples(self.get("query", query=query, time=f"{moment:.3f}"))

    @staticmethod
    def _samples(data: Any) -> list[Sample]:
        if data["resultType"] in ("scalar", "string"):
            return [Sample({}, float(data["result"][1]))]
        return [Sample(_without_name(each["metric"]), float(each["value"][1])) for each in data["result"]]

    def span(self, query: str, start: float, end: float, step: float) -> list[Series]:
        """What a range query gives from `start` to `end`, each `step` seconds."""
        data = self.get("query_range", query=query, start=f"{start:.3f}", end=f"{end:.3f}", step=f"{step:.3f}")
        return [
            Series(_without_name(each["metric"]), [(at, float(value)) for at, value in each["values"]])
            for each in data["result"]
        ]

    def scrapes(self, job: str) -> list[float]:
        """When a job was scraped in the last hour and answered, in seconds since 1970, to the millisecond."""
        found = self.get("query", query=f'up{{job="{job}"}}[1h]')["result"]
        return [at for each in found for at, value in each["values"] if value == "1"]

    def wait(self, done: Callable[[], Any], what: object = "", seconds: float = SECONDS) -> Any:
        """Wait until it is so, and return it; `what` is said if it never is, or called for what to say."""
        deadline = time.monotonic() + seconds
        while not (found := done()):
            assert self.process.poll() is None, f"prometheus has ended: {self.tail()}"
            assert time.monotonic() < deadline, f"not so after {seconds} s: {what() if callable(what) else what}"
            time.sleep(0.05)
        return found


def _without_name(labels: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in labels.items() if name != "__name__"}


def _free_port() -> int:
    """A port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
