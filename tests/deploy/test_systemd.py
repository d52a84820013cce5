"""`deploy/systemd`: the units are sound, keep to little, and run what this project has."""

import argparse
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from gateway.cli import _parser as gateway_parser
from gateway.settings import Settings
from gateway.settings_file import load_settings_file
from stream.kafka import read_properties
from stream.worker_command import add_worker_command

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "deploy" / "systemd"
UNITS = sorted(FOLDER.glob("*.service"))
EXPOSURE = 1.5  # of 10, as `systemd-analyze security` counts; below 2 it says OK

analyzed = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed: apt-get install systemd"
)


def analyze(*options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["systemd-analyze", *map(str, options)], capture_output=True, text=True, check=False, timeout=60
    )


def stream_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser()
    add_worker_command(parser.add_subparsers())
    return parser


def settings(unit: Path) -> dict[str, list[str]]:
    """Each setting's values, in order."""
    found: dict[str, list[str]] = {}
    text = unit.read_text().replace("\\\n", " ")
    for name, value in re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE):
        found.setdefault(name, []).append(value)
    return found


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A file system with what the units name."""
    for name in ("opt/trueclock/bin/gateway", "opt/trueclock/bin/stream", "bin/kill"):
        program = tmp_path / name
        program.parent.mkdir(parents=True, exist_ok=True)
        program.touch(0o755)
    units = tmp_path / "etc" / "systemd" / "system"
    units.mkdir(parents=True)
    for unit in UNITS:
        shutil.copy(unit, units)
    return tmp_path


def test_both_are_there() -> None:
    assert [unit.name for unit in UNITS] == ["trueclock-gateway.service", "trueclock-stream-worker@.service"]


@analyzed
@pytest.mark.parametrize("unit", [unit.name.replace("@", "@6066") for unit in UNITS])
def test_systemd_understands_every_line(root: Path, unit: str) -> None:
    found = analyze("verify", f"--root={root}", "--recursive-errors=no", unit)
    assert (found.returncode, found.stdout, found.stderr) == (0, "", "")


@analyzed
def test_a_line_that_systemd_does_not_know_is_found(root: Path) -> None:
    with (root / "etc/systemd/system/trueclock-gateway.service").open("a") as unit:
        unit.write("[Service]\nProtectEverything=yes\n")
    found = analyze("verify", f"--root={root}", "--recursive-errors=no", "trueclock-gateway.service")
    assert "ProtectEverything" in found.stderr


@analyzed
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_it_may_do_little(root: Path, unit: Path) -> None:
    found = analyze("security", "--offline=true", f"--threshold={round(EXPOSURE * 10)}", "--no-pager", unit)
    assert found.returncode == 0, found.stdout


@analyzed
def test_a_unit_that_may_do_much_is_found(tmp_path: Path) -> None:
    bare = tmp_path / "bare.service"
    bare.write_text("[Service]\nExecStart=/bin/true\n")
    found = analyze("security", "--offline=true", f"--threshold={round(EXPOSURE * 10)}", "--no-pager", bare)
    assert found.returncode == 1


def test_commands_are_ours() -> None:
    gateway, worker = map(settings, UNITS)
    for command in gateway["ExecStartPre"] + gateway["ExecStart"] + gateway["ExecReload"][:1]:
        program, *options = shlex.split(command.replace(" $TRUECLOCK_OPTIONS", ""))
        assert program == "/opt/trueclock/bin/gateway"
        gateway_parser().parse_args(options)
    program, *options = shlex.split(worker["ExecStart"][0].replace(" $TRUECLOCK_OPTIONS", "").replace("%i", "6066"))
    assert program == "/opt/trueclock/bin/stream"
    stream_parser().parse_args(options)


def test_a_check_before_is_that_of_the_start() -> None:
    """The command of docs/operating.md has the program and the keys of the unit."""
    text = (ROOT / "docs" / "operating.md").read_text(encoding="utf-8").replace("\\\n", " ")
    (line,) = re.findall(r"^sudo systemd-run (.*)$", text, re.MULTILINE)
    gateway = settings(UNITS[0])
    file = gateway["EnvironmentFile"][0].removeprefix("-")
    assert f"--property=EnvironmentFile={file} " in line
    (start,) = gateway["ExecStartPre"]
    command = start.replace("${TRUECLOCK_CONFIG}", "/etc/trueclock/next.yaml")
    assert " ".join(line.split()).endswith(command)


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_stopping_leaves_requests_their_time(unit: Path) -> None:
    """What `Settings` gives requests in flight, and what is then to be written."""
    assert int(settings(unit)["TimeoutStopSec"][0]) >= Settings.__dataclass_fields__["grace_seconds"].default + 15


def test_examples_are_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in re.findall(r"^(\w+_KEY)=(.*)$", (FOLDER / "gateway.env.example").read_text(), re.MULTILINE):
        monkeypatch.setenv(name, value)
    config, _ = load_settings_file(FOLDER / "config.yaml.example")
    assert (len(config.model_names), config.warnings) == (2, ())
    assert read_properties(FOLDER / "kafka.properties.example").protocol == "SASL_SSL"


def test_options_of_the_examples_are_understood() -> None:
    """The options of every line of the examples, also those that are commented out."""
    for name, parser, command in (("gateway", gateway_parser, "run"), ("stream-worker", stream_parser, "worker")):
        lines = re.findall(r"^#?TRUECLOCK_OPTIONS=(.*)$", (FOLDER / f"{name}.env.example").read_text(), re.MULTILINE)
        assert lines
        for line in lines:
            required = [] if command == "run" else ["--kafka", "localhost:9092"]
            parser().parse_args([command, *required, *shlex.split(line)])
