"""A real Kafka broker for tests: `deploy/kafka-local` in a directory of its own.

def test_it(broker: Broker, prefix: str): ...     # fixtures of conftest.py: one broker a test run, topics of one's own
with Broker(path, tls=True, users={"ann": "secret"}) as broker:    # one's own, to be killed and started again
    broker.kill()                                 # SIGKILL
    broker.start()                                # the same data and ports

The broker ends with the process that made it, however that ends.
"""

import fcntl
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Self

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT / "deploy" / "kafka-local"
_PLAIN = "org.apache.kafka.common.security.plain.PlainLoginModule"
_SCRAM = "org.apache.kafka.common.security.scram.ScramLoginModule"


def missing() -> str | None:
    """Why no broker can run here, None if one can."""
    if shutil.which("java") is None:
        return "java is not installed: apt-get install openjdk-17-jre-headless"
    jars = "KAFKA_LIBS" in os.environ or any((ROOT / "deploy" / ".kafka").glob("libs-*/kafka_*.jar"))
    if not jars and shutil.which("mvn") is None:
        return "mvn is not installed, and fetches Kafka: apt-get install maven"
    return None


class Served:
    """Where a broker listens, whoever started it."""

    def __init__(self, folder: Path, ports: dict[str, int]) -> None:
        self.folder = folder
        self.ports = ports

    @property
    def port(self) -> int:
        """The port of the plain listener."""
        return self.ports["PLAINTEXT"]

    @property
    def bootstrap(self) -> str:
        """The plain listener's address."""
        return self.address("PLAINTEXT")

    def address(self, kind: str) -> str:
        """The address of a listener: PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL."""
        return f"127.0.0.1:{self.ports[kind]}"

    @property
    def pid(self) -> int:
        """The process that was last started."""
        return int((self.folder / "broker.pid").read_text())

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        with suppress(OSError):
            return _runs(self.pid)
        return False


class Broker(Served):
    """One broker: PLAINTEXT always, SSL with `tls`, SASL_PLAINTEXT with `users`, SASL_SSL with both.

    `properties` are further lines of server.properties. Its ports stay its own until `close`, also while it is down.
    Who may do what: `properties=GUARDED` lets the plain listener do all, and users what they were granted.
    """

    def __init__(
        self,
        folder: Path,
        *,
        tls: bool = False,
        users: Mapping[str, str] | None = None,
        properties: Mapping[str, str] | None = None,
        heap: str = "384m",
    ) -> None:
        self.users = dict(users or {})
        self._heap = heap
        self._more = dict(properties or {})
        kinds = ["PLAINTEXT", *["SSL"] * tls, *["SASL_PLAINTEXT"] * bool(users), *["SASL_SSL"] * bool(tls and users)]
        self._reserved = {kind: _reserve() for kind in (*kinds, "CONTROLLER")}
        super().__init__(folder, {kind: held.getsockname()[1] for kind, held in self._reserved.items()})
        folder.mkdir(parents=True, exist_ok=True)
        if tls:
            _certificates(folder / "tls")
        self._alive: IO[str] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def ca(self) -> Path:
        """The certificate that vouches for the broker's, and `client.pem` beside it for one of a client's own."""
        return self.folder / "tls" / "ca.pem"

    def start(self) -> None:
        """Start it (again), and wait until it serves."""
        if self._alive is None:
            self._alive = _hold(self.folder / "alive.lock")
            _guard(self.folder)
        scram = [f"{mechanism}=[name={name},password={password}]"
                 for name, password in self.users.items() for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-512")]  # fmt: skip
        ports = ("--port", str(self.port), "--controller-port", str(self.ports["CONTROLLER"]), "--heap", self._heap)
        lines = [f"{name}={value}" for name, value in self._properties().items()]
        _script(
            "start", self.folder, *ports, *(f"--set={line}" for line in lines), *(f"--scram={one}" for one in scram)
        )

    def kill(self) -> None:
        """End it with SIGKILL, and wait until it is gone."""
        self.signal(signal.SIGKILL)
        while _runs(self.pid):
            time.sleep(0.01)

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, such as SIGSTOP and SIGCONT."""
        os.kill(self.pid, number)

    def stop(self) -> None:
        """End it in order; its data stays."""
        _script("stop", self.folder)

    def close(self) -> None:
        """End it for good, and give its ports back."""
        with suppress(OSError):
            self.kill()
        self.leave()

    def leave(self) -> None:
        """Let go of it: it ends when nobody else holds it."""
        for held in self._reserved.values():
            held.close()
        if self._alive is not None:
            self._alive.close()

    def _properties(self) -> dict[str, str]:
        """Listeners, and how each of them knows its clients."""
        own = {kind: f"{kind}://127.0.0.1:{port}" for kind, port in self.ports.items()}
        told = {
            "listeners": ",".join(own.values()),
            "advertised.listeners": ",".join(url for kind, url in own.items() if kind != "CONTROLLER"),
            "listener.security.protocol.map": ",".join([*(f"{kind}:{kind}" for kind in own if kind != "CONTROLLER"), "CONTROLLER:PLAINTEXT"]),
            "log.cleaner.dedupe.buffer.size": str(8 << 20),
            "log.segment.bytes": str(16 << 20),
        }  # fmt: skip
        for kind in [kind for kind in own if kind.startswith("SASL")]:
            name = f"listener.name.{kind.lower()}"
            known = " ".join(f'user_{user}="{password}"' for user, password in self.users.items())
            told[f"{name}.sasl.enabled.mechanisms"] = "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512"
            told[f"{name}.plain.sasl.jaas.config"] = f"{_PLAIN} required {known};"
            told[f"{name}.scram-sha-256.sasl.jaas.config"] = f"{_SCRAM} required;"
            told[f"{name}.scram-sha-512.sasl.jaas.config"] = f"{_SCRAM} required;"
        if "SSL" in own:
            told |= {
                "ssl.keystore.type": "PEM",
                "ssl.keystore.location": str(self.folder / "tls" / "server.pem"),
                "ssl.truststore.type": "PEM",
                "ssl.truststore.location": str(self.ca),
            }
        return {**told, **self._more}


GUARDED = {
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "super.users": "User:ANONYMOUS",
}
"""Properties of a broker where users have only the rights they were granted; who comes without a name has all."""


@contextmanager
def shared(folder: Path) -> Iterator[Served]:
    """The broker of a folder, started by whoever comes first and ended after the last, in whatever processes they are."""
    with _hold(folder / "alive.lock"):
        with _hold(folder / "start.lock", fcntl.LOCK_EX):
            found = _found(folder)
            if started := None if found.alive else Broker(folder):
                started.start()
        try:
            yield started or found
        finally:
            if started:
                started.leave()


def _found(folder: Path) -> Served:
    """What the folder's settings say of its broker."""
    with suppress(OSError):
        (told,) = re.findall(r"^advertised\.listeners=.*$", (folder / "server.properties").read_text(), re.MULTILINE)
        return Served(folder, {kind: int(port) for kind, port in re.findall(r"([A-Z_]+)://127\.0\.0\.1:(\d+)", told)})
    return Served(folder, {})


# --- what lies below


def _hold(path: Path, kind: int = fcntl.LOCK_SH) -> IO[str]:
    """Hold a lock, as long as the file is open: the kernel lets go of it however the process ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("a+")
    fcntl.flock(file, kind)
    return file


def _guard(folder: Path) -> None:
    """A process that waits until nobody holds the folder's broker any more, and ends it."""
    end = "grep -qs kafka.Kafka /proc/$(cat broker.pid)/cmdline && kill -9 $(cat broker.pid) && sleep 1"
    end += "; find . ! -name '?*.lock' -delete"
    subprocess.run(
        ["sh", "-c", 'flock -o -x alive.lock sh -c "$0" &', end], cwd=folder, start_new_session=True, check=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def _script(what: str, folder: Path, *options: str) -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), what, "--dir", str(folder), *options],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def _runs(pid: int) -> bool:
    """Whether a thread of a process lives: the first may be a zombie while others still hold its ports."""
    states = []
    with suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            with suppress(OSError):
                states.append((thread / "stat").read_text().rpartition(")")[2].split()[0])
    return any(state not in "ZX" for state in states)


def _reserve() -> socket.socket:
    """A free port, bound but not listened on: connecting is refused, and nobody else is given it.

    Java sets SO_REUSEADDR as well, so that the broker may listen there all the same.
    """
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.bind(("127.0.0.1", 0))
    return held


def _certificates(folder: Path) -> None:
    """An authority of one's own, and what it signed for the broker and for a client: ca.pem, server.pem, client.pem."""
    if (folder / "ca.pem").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    new = ("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc")
    _openssl(folder, *new, "-x509", "-days", "30", "-subj", "/CN=Test CA", "-keyout", "ca.key", "-out", "ca.pem",
             "-addext", "keyUsage=critical,keyCertSign")  # fmt: skip
    for name in ("server", "client"):
        (folder / "names").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\nauthorityKeyIdentifier=keyid\n")
        _openssl(folder, *new, "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", "request")
        _openssl(folder, "x509", "-req", "-days", "30", "-in", "request", "-CA", "ca.pem", "-CAkey", "ca.key",
                 "-extfile", "names", "-out", "signed")  # fmt: skip
        (folder / f"{name}.pem").write_text((folder / f"{name}.key").read_text() + (folder / "signed").read_text())


def _openssl(folder: Path, *options: str) -> None:
    done = subprocess.run(["openssl", *options], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def main() -> None:
    """Run a broker until a key is pressed: `python tests/kafka_broker.py` prints where it listens."""
    with tempfile.TemporaryDirectory(prefix="trueclock-broker-", ignore_cleanup_errors=True) as folder:
        with Broker(Path(folder) / "broker", tls=True, users={"ann": "secret"}) as broker:
            input(f"{broker.ports}, CA {broker.ca}; Enter ends it ")


if __name__ == "__main__":
    main()
