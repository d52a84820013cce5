"""A host in which this project is installed as docs/deploying.md says, with systemd's units, for tests.

with InstalledHost(tmp_path) as host:
    host.configure(upstream.url)
    host.systemctl("start", GATEWAY)
"""

import asyncio
import json
import socket
import subprocess
import sys
import sysconfig
from contextlib import suppress
from pathlib import Path
from typing import Any

import tests.systemd_host
from tests.harness import ask, until
from tests.systemd_host import SystemdHost

ROOT = Path(__file__).resolve().parents[1]
UNITS = ROOT / "deploy" / "systemd"
GATEWAY = "trueclock-gateway"
KEY = "sk-of-the-unit"
_PREFIX = "/opt/trueclock"
_PACKAGES = "/opt/packages"
_DEPENDENCIES = "/opt/dependencies"
_PROGRAM = """\
#!{prefix}/bin/python
import sys
from {package}.cli import main
sys.exit(main())
"""


def missing() -> str | None:
    """Why no such host can be made here, None if one can."""
    if reason := tests.systemd_host.missing():
        return reason
    if not _python().is_relative_to("/usr"):
        return f"the units see no home directories, and this Python is {_python()}: apt-get install python3"
    return None


def _python() -> Path:
    """A Python of this version that every user may run, or the one that runs this."""
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    places = (Path("/usr/bin") / name, Path("/usr/local/bin") / name)
    return next((place.resolve() for place in places if place.exists()), Path(sys.executable).resolve())


def free_port() -> int:
    """A port that nobody has at this moment."""
    with socket.create_server(("127.0.0.1", 0)) as held:
        port: int = held.getsockname()[1]
        return port


class InstalledHost(SystemdHost):
    """The host, with /opt/trueclock, the units and an empty /etc/trueclock."""

    def __init__(self, folder: Path) -> None:
        packages = {ROOT / name: f"{_PACKAGES}/{name}" for name in ("gateway", "stream")}
        super().__init__(folder, {**packages, Path(sysconfig.get_path("purelib")): _DEPENDENCIES})
        self.port = free_port()

    def _start(self) -> None:
        super()._start()
        self.install("1")
        self.use("1")
        for unit in UNITS.glob("*.service"):
            self.write(f"/etc/systemd/system/{unit.name}", unit.read_text())
        self.checked("systemctl", "daemon-reload")

    def install(self, version: str) -> None:
        """Put a virtual environment of a version beside those that are there."""
        place = f"{_PREFIX}-{version}"
        self.checked(str(_python()), "-m", "venv", "--without-pip", place)
        library = f"{place}/lib/python{sys.version_info.major}.{sys.version_info.minor}"
        self.write(f"{library}/site-packages/dependencies.pth", f"{_PACKAGES}\n{_DEPENDENCIES}\n")
        for package in ("gateway", "stream"):
            self.write(f"{place}/bin/{package}", _PROGRAM.format(prefix=place, package=package), 0o755)

    def use(self, version: str) -> None:
        """Have /opt/trueclock lead to a version that is installed."""
        self.checked("ln", "-sfn", f"trueclock-{version}", _PREFIX)

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """Write one of its files, with the folders that it lies in."""
        file = self.path(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(mode)

    def checked(self, *command: str) -> str:
        """Run a command in it that must do; return what it printed."""
        done = self.run(*command)
        assert done.returncode == 0, (command, done.stdout, done.stderr, self.journal())
        return done.stdout

    def configure(self, upstream: str, *options: str, model: str = "davinci") -> None:
        """The files in /etc/trueclock: one model with a key, which is in gateway.env alone, and options of the run."""
        params = f"{{model: openai/{model}, api_base: {upstream}, api_key: os.environ/UPSTREAM_KEY}}"
        self.write(
            "/etc/trueclock/config.yaml", f"model_list:\n  - model_name: {model}\n    litellm_params: {params}\n"
        )
        given = " ".join(("--port", str(self.port), *options))
        self.write("/etc/trueclock/gateway.env", f"UPSTREAM_KEY={KEY}\nTRUECLOCK_OPTIONS={given}\n", 0o600)

    @property
    def url(self) -> str:
        """The gateway's address."""
        return f"http://127.0.0.1:{self.port}"

    async def systemctl(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run systemctl in it, beside what else runs here."""
        return await asyncio.to_thread(self.run, "systemctl", *command)

    async def started(self) -> None:
        """Start the gateway and wait until it is ready."""
        done = await self.systemctl("start", GATEWAY)
        assert done.returncode == 0, (done.stderr, self.journal())
        await self.ready(self.port)

    async def ready(self, port: int, seconds: float = 30.0) -> None:
        """Wait until /health/ready is 200."""

        async def is_ready() -> bool:
            with suppress(OSError, asyncio.IncompleteReadError):
                return (await ask(f"http://127.0.0.1:{port}", target="/health/ready")).status == 200
            return False

        async with asyncio.timeout(seconds):
            while not await is_ready():
                await asyncio.sleep(0.05)

    async def restarted(self, times: int = 1) -> None:
        """Wait until systemd has started the gateway again so often, and it is ready."""
        await until(lambda: int(self.shown("NRestarts")) >= times)
        await self.ready(self.port)

    def shown(self, name: str, unit: str = GATEWAY) -> str:
        """What systemd knows of a unit."""
        return self.checked("systemctl", "show", "--value", f"--property={name}", unit).strip()

    def journal(self, unit: str = GATEWAY) -> list[str]:
        """What the unit's processes and systemd said of it."""
        return self.run("journalctl", "--no-pager", "--output=cat", f"--unit={unit}").stdout.splitlines()

    def events(self) -> list[dict[str, Any]]:
        """The events that are recorded, by the command that a user has."""
        printed = self.checked(f"{_PREFIX}/bin/gateway", "events", "--data-dir", "/var/lib/trueclock")
        return [json.loads(line) for line in printed.splitlines()]
