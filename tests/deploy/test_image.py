"""The Dockerfile: what goes in, who runs it, and that what it says fits the product. The build itself needs Docker."""

import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatchcase
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path, PurePosixPath
from threading import Thread
from types import ModuleType

import pytest

from gateway.cli import default_data_dir
from stream import __version__
from tests.deploy.commands import understood
from tests.harness import ROOT

TEXT = (ROOT / "Dockerfile").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
SENT = {"LICENSE", "NOTICE", "README.md", "deploy", "gateway", "profiler", "pyproject.toml", "stream"}


def instructions() -> list[tuple[str, str]]:
    """Each instruction with its arguments, continued lines joined and comments left out."""
    lines = "\n".join(line for line in TEXT.splitlines() if line.strip() and not line.lstrip().startswith("#"))
    return [tuple(line.split(maxsplit=1)) for line in re.sub(r"\s*\\\n\s*", " ", lines).splitlines()]  # type: ignore[misc]


def said(name: str) -> list[str]:
    return [rest for each, rest in instructions() if each == name]


def final() -> dict[str, str]:
    """The last of each instruction, in the stage that becomes the image."""
    start = max(at for at, (name, _) in enumerate(instructions()) if name == "FROM")
    return dict(instructions()[start:])


def loaded(name: str) -> ModuleType:
    spec = spec_from_file_location(name, ROOT / "deploy" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_linter() -> None:
    """hadolint has nothing to say."""
    hadolint = shutil.which("hadolint", path=str(Path(sys.executable).parent)) or shutil.which("hadolint")
    if hadolint is None:
        pytest.skip("hadolint is not installed")
    done = subprocess.run([hadolint, "--no-color", ROOT / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_base() -> None:
    """Both stages stand on one Python, pinned to its patch, that the project supports: a virtual environment needs the same."""
    assert said("FROM") == ["python:${PYTHON} AS build", "python:${PYTHON}"]
    (version,) = [rest for rest in said("ARG") if rest.startswith("PYTHON=")]
    found = re.fullmatch(r"PYTHON=3\.(\d+)\.\d+-slim-[a-z]+", version)
    assert found is not None
    lowest = re.fullmatch(r">=3\.(\d+)", PROJECT["project"]["requires-python"])
    assert lowest is not None
    assert int(found[1]) >= int(lowest[1])


def test_the_extras_are_those_of_the_project() -> None:
    known = set(PROJECT["project"]["optional-dependencies"])
    named = re.findall(r"EXTRAS=([a-z,]+)", TEXT)
    assert len(named) == 2
    assert all(set(each.split(",")) <= known for each in named)
    assert not any({"profiler", "dev"} & set(each.split(",")) for each in named), "torch has no place in it"


def test_all_packages_are_in_it() -> None:
    copied = {part for rest in said("COPY") if not rest.startswith("--") for part in rest.split()[:-1]}
    assert copied - {"deploy/backup.py", "deploy/healthcheck.py"} == SENT - {"deploy"}
    assert {name.partition(".")[0] for name in PROJECT["tool"]["setuptools"]["packages"]} <= copied
    assert all((ROOT / each).exists() for each in copied)


def passes(path: str) -> bool:
    """Whether .dockerignore sends a file to the builder: the last pattern that takes it, or a folder around it, decides."""
    sent = True
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = line.strip()
        if pattern and not pattern.startswith("#"):
            name = pattern.removeprefix("!")
            around = [path, *map(str, PurePosixPath(path).parents)][:-1]
            if any(takes(name, each) for each in around):
                sent = pattern.startswith("!")
    return sent


def takes(pattern: str, path: str) -> bool:
    if pattern.startswith("**/"):
        return fnmatchcase(PurePosixPath(path).name, pattern[3:])
    parts, names = pattern.split("/"), path.split("/")
    return len(parts) == len(names) and all(fnmatchcase(name, part) for name, part in zip(names, parts, strict=True))


def test_nothing_else_is_sent_to_the_builder() -> None:
    for path in (
        "gateway/page/vendor/uplot-1.6.32/LICENSE",
        "stream/tables/aliases.json",
        "pyproject.toml",
        "deploy/backup.py",
    ):
        assert passes(path)
    for path in (".git/config", ".venv/bin/python", "deploy/gateway.env", "deploy/.env", "deploy/config/config.yaml"):
        assert not passes(path)
    assert not passes("tests/harness.py")
    assert not passes("gateway/__pycache__/cli.cpython-311.pyc")
    top = {path.name for path in ROOT.iterdir() if passes(path.name)}
    assert top == SENT
    assert {path.name for path in (ROOT / "deploy").iterdir() if passes(f"deploy/{path.name}")} == {
        "backup.py",
        "healthcheck.py",
    }


def test_it_runs_as_nobody_special(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = final()
    assert stage["USER"] == "10001:10001"
    (made,) = [rest for rest in said("RUN") if "useradd" in rest]
    assert "--uid 10001 --gid 10001" in made
    assert f"--owner 10001 --group 10001 --mode 0700 {stage['VOLUME']}" in made
    environment = dict(pair.split("=", 1) for pair in shlex.split(stage["ENV"]))
    monkeypatch.setenv("XDG_DATA_HOME", environment["XDG_DATA_HOME"])
    assert str(default_data_dir()) == stage["VOLUME"], "so that every command finds the events there"


def test_its_command_and_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    found = understood(listed(final()["CMD"]), {}, monkeypatch)
    assert final()["EXPOSE"].split() == [*map(str, found.ports.values()), "6066"]
    check = listed(final()["HEALTHCHECK"].partition("CMD ")[2])
    assert check == ["healthcheck", str(found.ports["api"])]
    assert "ENTRYPOINT" not in final(), "one image, two programs: the command names its own"


def listed(text: str) -> list[str]:
    return [part.strip().strip('"') for part in text.strip("[]").split(",")]


def test_its_programs_do_without_what_is_left_out() -> None:
    """The image has no numpy and no scipy: every module of gateway and stream is imported without them."""
    code = (
        "import sys, pkgutil, importlib\n"
        "sys.modules.update(dict.fromkeys(['numpy', 'scipy', 'profiler', 'torch']))\n"
        "import gateway, stream\n"
        "names = [each.name for top in (gateway, stream) for each in pkgutil.iter_modules(top.__path__, top.__name__ + '.')]\n"
        "for name in names: importlib.import_module(name)\n"
        "print(len(names))"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 100


def test_the_versions_are_one() -> None:
    for path in (ROOT / "Dockerfile", ROOT / "docs" / "deploying.md", ROOT / "docs" / "operating.md"):
        tags = set(re.findall(r"trueclock:(\d+\.[\w.]*)", path.read_text(encoding="utf-8")))
        assert tags == {__version__}


# --- the health check, which is a program of its own


class Answers(BaseHTTPRequestHandler):
    """Says what its class is told to."""

    status = 200

    def do_GET(self) -> None:
        assert self.path == "/health/ready"
        self.send_response(self.status)
        self.end_headers()
        self.wfile.write(b"joining the consumer group\n")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def port() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


@pytest.mark.parametrize(("status", "exit_status"), [(200, 0), (503, 1), (302, 1)])
def test_the_health_check(
    status: int, exit_status: int, port: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Answers, "status", status)
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    assert loaded("healthcheck").main([str(port)]) == exit_status
    assert capsys.readouterr().err == ("" if status == 200 else f"healthcheck: {status}: joining the consumer group\n")


def test_the_health_check_of_nobody(port: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert loaded("healthcheck").main(["1"]) == 1
    assert "no answer on port 1" in capsys.readouterr().err
    assert loaded("healthcheck").main([]) == 2
