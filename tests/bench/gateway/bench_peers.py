"""The gateways that are compared: how each is started, and why one is skipped."""

import secrets
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench_processes import BUILD, HERE, Process, free_port, pinned, start

MODEL = "openai/davinci"
BARE = "bare_aiohttp"
TRUECLOCK = "trueclock"
# Of this run: LiteLLM proxy does not start without a good one, the others pass it on.
KEY = f"sk-{secrets.token_hex(32)}"


class Skip(Exception):
    """A peer cannot run here; the text says why."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What every gateway is started with: the upstream's port, the core, a directory, LiteLLM's python."""

    upstream_port: int
    core: int
    work: Path
    litellm_python: Path | None

    @property
    def upstream(self) -> str:
        """The upstream's address."""
        return f"http://127.0.0.1:{self.upstream_port}"

    def directory(self, name: str) -> Path:
        """Make the directory that a gateway may write into."""
        path = self.work / name
        path.mkdir(parents=True, exist_ok=True)
        return path

    def template(self, name: str, port: int) -> Path:
        """Fill in a template of `gateways/`; return the written file."""
        directory = self.directory(name.partition(".")[0])
        values = {"@DIR@": directory, "@PORT@": port, "@UPSTREAM_PORT@": self.upstream_port, "@MODEL@": MODEL}
        text = (HERE / "gateways" / f"{name}.tmpl").read_text()
        for key, value in values.items():
            text = text.replace(key, str(value))
        path = directory / name
        path.write_text(text)
        return path


def trueclock(setting: Setting, port: int) -> list[str]:
    """Return trueclock as its users run it: a fresh data directory on disk, log and enrichment on."""
    data = setting.directory(TRUECLOCK)
    options = ["--port", str(port), "--upstream", setting.upstream, "--data-dir", str(data)]
    return [sys.executable, "-m", "gateway.cli", "run", *options]


def bare_aiohttp(setting: Setting, port: int) -> list[str]:
    """Return the floor: bytes through aiohttp and nothing else."""
    return [sys.executable, str(HERE / "gateways" / "bare_aiohttp.py"), str(port), setting.upstream]


def nginx(setting: Setting, port: int) -> list[str]:
    """Return nginx with one worker."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None:
        raise Skip("nginx is not installed (Debian: apt-get install nginx-light)")
    directory = setting.directory("nginx")
    config = setting.template("nginx.conf", port)
    return [program, "-e", str(directory / "error.log"), "-p", str(directory), "-c", str(config)]


def goproxy(setting: Setting, port: int) -> list[str]:
    """Return Go's httputil.ReverseProxy on one core."""
    return [str(BUILD / "goproxy"), "-addr", f"127.0.0.1:{port}", "-up", setting.upstream]


def litellm(setting: Setting, port: int) -> list[str]:
    """Return LiteLLM proxy with one worker, from a virtual environment of its own."""
    python = setting.litellm_python
    if python is None or not python.exists():
        raise Skip("no virtual environment with litellm[proxy] (make bench-peers, or --litellm-python PATH)")
    program = python.parent / "litellm"
    if not program.exists():
        raise Skip(f"{program} does not exist: litellm[proxy] is not installed beside {python}")
    config = setting.template("litellm.yaml", port)
    return [str(program), "--config", str(config), "--host", "127.0.0.1", "--port", str(port)]


PEERS: dict[str, Callable[[Setting, int], list[str]]] = {
    BARE: bare_aiohttp,
    TRUECLOCK: trueclock,
    "nginx": nginx,
    "goproxy": goproxy,
    "litellm": litellm,
}
ENVIRONMENT = {
    "goproxy": {"GOMAXPROCS": "1"},
    "litellm": {
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # else it fetches its price list from the network
        "LITELLM_TELEMETRY": "False",
        "DISABLE_ADMIN_UI": "True",
        "LITELLM_LOG": "ERROR",
        "LITELLM_MASTER_KEY": KEY,
    },
}


def start_mock(setting: Setting, binary: Path, core: int) -> Process:
    """Start the mock upstream on the load's core."""
    port, log = setting.upstream_port, setting.work / "mock.log"
    with pinned(core):
        return start("mock", [str(binary), "-addr", f"127.0.0.1:{port}"], port=port, log=log, env={"GOMAXPROCS": "1"})


def start_peer(name: str, setting: Setting) -> Process:
    """Start one gateway on its core and wait until it listens; raise Skip where it is not installed."""
    port = free_port()
    command = PEERS[name](setting, port)
    log = setting.work / f"{name}.log"
    with pinned(setting.core):
        process = start(name, command, port=port, log=log, env=ENVIRONMENT.get(name))
    try:
        process.wait_ready()
    except BaseException:
        process.stop(1)
        raise
    return process
