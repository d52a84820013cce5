"""`profiler compare` as tests ask it."""

import json
from typing import Any

import pytest

from profiler.cli import main


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit status, output, errors."""
    status = main(["compare", *arguments])
    said = capsys.readouterr()
    return status, said.out, said.err


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    """What it says as JSON, and nothing else."""
    status, out, err = run(capsys, "--json", *arguments)
    assert (status, err) == (0, "")
    return json.loads(out)
