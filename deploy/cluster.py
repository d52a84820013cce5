"""trueclock scaled out on this machine: a Kafka broker, two gateway workers, two stream workers, and traffic.

    make cluster                                                          # with the demo's replayed traffic
    make cluster CLUSTER='--upstream http://127.0.0.1:8000/v1'            # your own: send it to the gateway
    make cluster CLUSTER='--stream-workers 3 --port 4100'

Ctrl-C ends all of it; events and topics stay in --dir. Whoever of it is killed meanwhile is started again.
"""
# ruff: noqa: INP001, S603 - a script; it runs what its own options say

import argparse
import asyncio
import contextlib
import json
import re
import shlex
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from gateway.demo import Demo

HERE = Path(__file__).resolve().parent
BROKER = HERE / "kafka-local"
READY_SECONDS = 60.0
END_SECONDS = 40.0
TOO_SOON_SECONDS = 5.0  # who ends earlier than that would only end again
FAILING = re.compile(r"^(trueclock_\w*failing) 1\.0$", re.MULTILINE)  # of /metrics: what does not work just now
OFTEN_FASTER = (
    "the demo's, replayed: often faster than idealized, openai/davinci most of all; so were the APIs of 2022, measured "
    "on their own hardware, not on the reference stack's"
)


class Trouble(Exception):
    """It cannot go on: one line that says why."""


class Program:
    """One of the cluster's processes; what it writes goes to `log`."""

    def __init__(self, name: str, command: Sequence[str], folder: Path) -> None:
        self.name = name
        self.url = ""
        self.log = folder / f"{name}.log"
        self._address = folder / f"{name}.address"
        self._command = (sys.executable, "-m", *command, "--address-file", str(self._address))
        self._process: asyncio.subprocess.Process
        self._began = 0.0

    async def start(self) -> None:
        """Start it, and wait until it says that it is ready."""
        self._address.unlink(missing_ok=True)
        self._began = time.monotonic()
        with self.log.open("ab") as log:  # a session of its own: Ctrl-C is for this program, which then asks it to end
            self._process = await asyncio.create_subprocess_exec(
                *self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        deadline = self._began + READY_SECONDS
        while not await asyncio.to_thread(self._ready):
            if self._process.returncode is not None:
                raise Trouble(f"{self.name} ended with {self._process.returncode}: {self._last_line()}")
            if time.monotonic() > deadline:
                raise Trouble(f"{self.name} is not ready after {READY_SECONDS:.0f} s; see {self.log}")
            await asyncio.sleep(0.05)

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    def children(self) -> list[tuple[str, int]]:
        """Its processes as `ps` names them (`gw worker 0`), by name from the last: workers, then control."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                name, _, rest = (entry / "stat").read_text().partition("(")[2].rpartition(") ")
                if int(rest.split()[1]) == self.pid:
                    found.append((name, int(entry.name)))
        return sorted(found, key=lambda child: ("worker" not in child[0], child))

    def _ready(self) -> bool:
        with contextlib.suppress(OSError, ValueError, urllib.error.HTTPError):
            self.url = self._address.read_text().strip()
            self._get("/health/ready")
            return True
        return False

    def _get(self, path: str) -> str:
        """What it answers with 200; HTTPError for all else."""
        with urllib.request.urlopen(self.url + path, timeout=5) as reply:  # noqa: S310 - http, our own
            return str(reply.read().decode())

    async def sound(self) -> None:
        """Wait until none of its parts says that it fails; Trouble if one goes on saying so."""
        deadline = time.monotonic() + READY_SECONDS
        while failing := FAILING.findall(await asyncio.to_thread(self._get, "/metrics")):
            if time.monotonic() > deadline:
                raise Trouble(f"{self.name}: {', '.join(failing)} at {self.url}/metrics; see {self.log}")
            await asyncio.sleep(0.2)

    def _last_line(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines() or ["it said nothing"]
        with contextlib.suppress(ValueError, KeyError, TypeError):
            return str(json.loads(lines[-1])["message"])
        return lines[-1]

    async def keep(self) -> None:
        """Start it again whenever it ends; Trouble if it ends at once."""
        while True:
            status = await self._process.wait()
            if time.monotonic() - self._began < TOO_SOON_SECONDS:
                raise Trouble(f"{self.name} ended with {status}: {self._last_line()}")
            how = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with {status}"
            print(f"{self.name} (pid {self.pid}) {how}; it is started again", flush=True)
            await self.start()
            print(f"{self.name} is ready again: pid {self.pid}", flush=True)

    async def stop(self) -> None:
        """Ask it to end, and see to it that it does."""
        with contextlib.suppress(AttributeError, ProcessLookupError):
            self._process.terminate()
            try:
                await asyncio.wait_for(self._process.wait(), END_SECONDS)
            except TimeoutError:
                self._process.kill()
                await self._process.wait()


class Cluster:
    """The broker and all programs, from `start` to `stop`."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.folder: Path = options.dir.resolve()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.demo = None if options.upstream else Demo(options.speed)
        self.brokers = ""
        self.gateway: Program
        self.streams: list[Program] = []

    async def start(self) -> None:
        """Start everything, in the order in which it needs each other."""
        upstream = await self.demo.start() if self.demo else self.options.upstream
        self.brokers = await asyncio.to_thread(self._broker, "start", "--port", str(self.options.kafka_port))
        data = str(self.folder / "gateway")
        self.gateway = Program(
            "gateway",
            ("gateway.cli", "run", "--workers", str(self.options.workers), "--kafka", self.brokers,
             "--upstream", upstream, "--port", str(self.options.port), "--data-dir", data),
            self.folder,
        )  # fmt: skip
        await self.gateway.start()
        for number in range(1, self.options.stream_workers + 1):
            port = self.options.stream_port and self.options.stream_port + number - 1
            name = f"stream-{number}"
            command = ("stream.cli", "worker", "--kafka", self.brokers, "--name", name, "--port", str(port))
            self.streams.append(Program(name, command, self.folder))
        await asyncio.gather(*(stream.start() for stream in self.streams))
        await asyncio.gather(*(program.sound() for program in (self.gateway, *self.streams)))

    def _broker(self, *command: str) -> str:
        """Run `kafka-local`; the address that its answer names."""
        done = subprocess.run(
            [sys.executable, str(BROKER), *command, "--dir", str(self.folder / "kafka")],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        found = re.search(r"127\.0\.0\.1:\d+", done.stdout + done.stderr)
        if done.returncode and not (found and "runs here already" in done.stderr):
            raise Trouble(done.stderr.strip().replace("--port", "--kafka-port"))
        return found[0] if found else ""

    async def run(self, stop: asyncio.Event) -> None:
        """Send traffic and keep everything alive until `stop` is set."""
        tasks = [asyncio.create_task(program.keep()) for program in (self.gateway, *self.streams)]
        if self.demo:
            tasks.append(asyncio.create_task(self.demo.traffic(self.gateway.url, stop)))
        stopped = asyncio.create_task(stop.wait())
        try:
            done, _ = await asyncio.wait([stopped, *tasks], return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            stop.set()
            for task in (*tasks, stopped):
                task.cancel()
            await asyncio.gather(*tasks, stopped, return_exceptions=True)

    async def stop(self) -> None:
        """End everything, what writes before what reads."""
        if hasattr(self, "gateway"):
            await self.gateway.stop()
        await asyncio.gather(*(stream.stop() for stream in self.streams))
        await asyncio.to_thread(self._broker, "stop")
        if self.demo:
            await self.demo.close()

    def what_to_open(self) -> str:
        """What a newcomer wants to look at."""
        first = self.streams[0].url
        python = shlex.quote(str(Path(sys.executable)))
        read = f"{python} -m kafka.consumer -b {self.brokers} -t"
        gateway = self.gateway.children()
        told = f"the gateway replaces it at once; `ps -o pid,comm --ppid {self.gateway.pid}` shows who is there"
        rows = [
            ("the page", f"{self.gateway.url}/"),
            ("traffic", OFTEN_FASTER) if self.demo else ("your app's base URL", f"{self.gateway.url}/v1"),
            ("metrics: gateway", f"{self.gateway.url}/metrics"),
            *((f"metrics: {stream.name}", f"{stream.url}/metrics") for stream in self.streams),
            ("each minute, fleet-wide", f"'{first}/trueclock/v1/windows?length=60&since=15m&by=model'"),
            ("a worker's own state", f"{first}/trueclock/v1/status"),
            ("enriched, as they come", f"{read} llm.requests.enriched"),
            ("what could not be read", f"{read} llm.requests.dead -C auto_offset_reset=earliest"),
            (
                "kill a stream worker",
                f"kill -9 {self.streams[0].pid}     (it is started again: nothing lost, nothing twice)",
            ),
            *(("kill a gateway worker", f"kill -9 {pid}     ({told})") for _, pid in gateway[:1]),
            ("the gateway's processes", ", ".join(f"{name} is {pid}" for name, pid in gateway)),
            ("logs and data", str(self.folder)),
        ]
        return "\n".join(f"  {what:24} {where}" for what, where in rows)


async def serve(options: argparse.Namespace) -> None:
    """Run the cluster until a signal comes."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    cluster = Cluster(options)
    starting = asyncio.create_task(cluster.start())
    stopped = asyncio.create_task(stop.wait())
    try:
        print("starting Kafka, the gateway and the stream workers", flush=True)
        await asyncio.wait([starting, stopped], return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            starting.result()
            print(f"the cluster is ready; Ctrl-C ends it, its data stays\n{cluster.what_to_open()}", flush=True)
            await cluster.run(stop)
    finally:
        for task in (starting, stopped):
            task.cancel()
        await asyncio.gather(starting, stopped, return_exceptions=True)
        print("stopping", flush=True)
        await cluster.stop()


def parser() -> argparse.ArgumentParser:
    """What may be asked for."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--upstream", metavar="URL", help="your own upstream, and your own traffic")
    made.add_argument("--speed", type=float, default=1.0, metavar="X", help="of the replayed traffic (1)")
    made.add_argument("--workers", type=int, default=2, metavar="N", help="gateway workers (2)")
    made.add_argument("--stream-workers", type=int, default=2, metavar="N", help="stream workers (2)")
    made.add_argument("--port", type=int, default=4000, help="the gateway's, 0 for a free one (4000)")
    made.add_argument(
        "--stream-port", type=int, default=6066, metavar="P", help="the stream workers', from P on (6066)"
    )
    made.add_argument("--kafka-port", type=int, default=9092, metavar="P", help="the broker's, 0 for a free one (9092)")
    made.add_argument("--dir", type=Path, default=HERE / ".cluster", metavar="D", help="for all data (deploy/.cluster)")
    return made


def main() -> int:
    """Run it; 1 and one line if it cannot go on."""
    try:
        asyncio.run(serve(parser().parse_args()))
    except Trouble as error:
        print(f"cluster: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
