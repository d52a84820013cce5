"""The `profiler` command as a whole: every command is there, explains itself, and starts light."""

import subprocess
import sys
from pathlib import Path

import pytest

from profiler.cli import main

ROOT = Path(__file__).parents[2]
COMMANDS = ("estimate", "fit", "crossval", "plan", "predict", "check", "convert", "compare")


def test_every_command_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    named = [line.split()[0] for line in capsys.readouterr().out.splitlines() if line.startswith("    ")]
    assert tuple(name for name in named if name in COMMANDS) == COMMANDS


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(capsys: pytest.CaptureFixture[str], command: str) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([command, "--help"])
    assert stopped.value.code == 0
    assert f"  profiler {command}" in capsys.readouterr().out.partition("examples:")[2]


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom profiler.cli import main\n"
        "try: main(['fit', '--help'])\nexcept SystemExit: pass\n"
        "print({'numpy', 'scipy', 'aiohttp', 'torch'} & set(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stderr == "set()\n"


def test_without_a_command_one_line_says_what_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([])
    assert stopped.value.code == 2
    assert capsys.readouterr().err == (
        "profiler: the following arguments are required: COMMAND (see profiler --help)\n"
    )
