"""`stream denoise` as a command: its table, its JSON, its dead letters."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from stream.events import encode_event
from stream.simulate import Simulation
from stream.table_format import read_table

ROOT = Path(__file__).parents[2]


def command(*arguments: str, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    whole = [sys.executable, "-m", "stream.cli", "denoise", *arguments]
    return subprocess.run(whole, input=given, capture_output=True, cwd=ROOT, check=False)


LINES = b"\n".join(encode_event(each.event) for each in Simulation(3, 400, "many"))


def test_json_is_a_table_and_leaves_nothing_out(tmp_path: Path) -> None:
    done = command("--json", given=LINES)
    assert done.returncode == 0
    rows = json.loads(done.stdout)["models"]
    assert rows
    for name, row in rows.items():
        assert name == f"{row['upstream']}/{row['model']}"
        assert set(row["intervals"]) >= {"runtime_per_output_token", "runtime_for_prompt_tokens", "overhead", "runtime"}
        assert all(int(knot) >= 1 and seconds > 0 for knot, seconds in row["runtime_for_prompt_tokens"].items())
    table = tmp_path / "baselines.json"
    table.write_bytes(done.stdout)
    assert {row.name for row in read_table(table).stacks[0].rows.values()} == set(rows)
    named = {line.partition(b": ")[0].decode() for line in done.stderr.splitlines()}
    assert len(rows) + len(named) == 6
    assert not named & set(rows)


def test_without_json_it_is_to_be_read() -> None:
    done = command(given=LINES)
    head, *rows = done.stdout.decode().splitlines()
    assert head.startswith("upstream/model")
    assert rows
    assert all(" ms (" in row for row in rows)


def test_unreadable_lines_are_told_and_too_little_is_said() -> None:
    done = command("--json", given=b'{"model":"m","prompt_tokens":1}\n{bad\n')
    assert done.returncode == 1
    assert json.loads(done.stdout) == {"models": {}}
    letter, missing = done.stderr.decode().splitlines()
    assert json.loads(letter)["line"] == 2
    assert missing.startswith("m: not enough: ")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--window", "tomorrow"), "--window: 'tomorrow' is no time"),
        (("--window", "0h"), "--window: '0h' is no time"),
        (("--quantile", "0.9"), "--quantile: 0.9 is not between 0.01 and 0.25"),
    ],
)
def test_wrong_use_is_one_line(arguments: tuple[str, ...], said: str) -> None:
    done = command(*arguments)
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.decode().startswith(f"stream denoise: {said}")
    assert done.stderr.count(b"\n") == 1
