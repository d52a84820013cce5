"""`gateway events`: what was recorded, as enriched lines, also while it is being recorded."""

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from gateway.cli import main
from gateway.events_command import since_moment
from gateway.log import LogWriter, Retention
from stream.coefficients import load_tables, tables_to_json
from stream.command import UsageError
from stream.events import RequestEvent, decode_enriched, encode_event

NOW = 1.8e9
FOREVER = Retention(days=1e6)


def record(data_dir: Path, *events: tuple[float, str | None, bytes], worker: int = 0) -> None:
    async def append() -> None:
        writer = LogWriter(data_dir / f"events-{worker}.sqlite", FOREVER)
        for event in events:
            await writer.append(*event)
        writer.close()

    asyncio.run(append())


def event(
    number: int, ended: float, caller: str | None = None, model: str = "openai/davinci"
) -> tuple[float, str | None, bytes]:
    made = RequestEvent(
        id=str(number), model=model, ended_at=datetime.fromtimestamp(ended, UTC), caller=caller, status=200,
        prompt_tokens=100, completion_tokens=10, raw_runtime_seconds=2.0,
    )  # fmt: skip
    return ended, caller, encode_event(made)


def printed(capfd: pytest.CaptureFixture[str], *arguments: object) -> list[str]:
    assert main(["events", *map(str, arguments)]) == 0
    return [decode_enriched(line).event.id for line in capfd.readouterr().out.splitlines()]


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("90s", NOW - 90),
        ("15m", NOW - 900),
        ("6h", NOW - 21_600),
        ("7d", NOW - 604_800),
        ("1.5h", NOW - 5400),
        ("0s", NOW),
        ("999999999999999d", 0.0),
        ("9" * 400 + "d", 0.0),
        ("2026-01-31T12:00:00Z", 1769860800.0),
        ("2026-01-31T12:00:00.250000Z", 1769860800.25),
        ("2026-01-31T13:30:00+01:30", 1769860800.0),
    ],
)
def test_since(text: str, moment: float) -> None:
    assert since_moment(text, NOW) == moment


@pytest.mark.parametrize(
    "text",
    ["", "15", "15 m", "-15m", "15M", "m", "1e3s", "yesterday", "2026-01-31T12:00:00", "2026-13-01T00:00:00Z", "15m\n"],
)
def test_what_is_no_since_is_refused_on_one_line(text: str) -> None:
    with pytest.raises(UsageError, match=rf"^--since {re.escape(text)}: expected a time such as .*, or 15m, 6h, 7d$"):
        since_moment(text, NOW)


def test_everything_is_printed_enriched_and_in_order(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    record(tmp_path, event(1, NOW), event(3, NOW + 2))
    record(tmp_path, event(2, NOW + 1), event(4, NOW + 3), worker=1)
    assert main(["events", "--data-dir", str(tmp_path)]) == 0
    found = [decode_enriched(line) for line in capfd.readouterr().out.splitlines()]
    assert [made.event.id for made in found] == ["1", "2", "3", "4"]
    assert found[0].table_row == "openai/davinci"
    assert found[0].slowdown is not None


def test_the_tables_that_the_gateway_used_are_used(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    record(tmp_path, event(1, NOW))
    (tmp_path / "tables.json").write_bytes(tables_to_json(load_tables(stack="v100-megatron")))
    assert main(["events", "--data-dir", str(tmp_path)]) == 0
    assert decode_enriched(capfd.readouterr().out).stack == "v100-megatron"


def test_since_and_caller_choose(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    now = time.time()
    record(tmp_path, event(1, now - 7200, "a"), event(2, now - 60, "b"), event(3, now - 30, "a"))
    assert printed(capfd, "--data-dir", tmp_path, "--since", "1h") == ["2", "3"]
    assert printed(capfd, "--data-dir", tmp_path, "--since", "1h", "--caller", "a") == ["3"]
    assert printed(capfd, "--data-dir", tmp_path, "--caller", "nobody") == []
    moment = datetime.fromtimestamp(now - 45, UTC).isoformat()
    assert printed(capfd, "--data-dir", tmp_path, "--since", moment) == ["3"]


def test_a_row_that_cannot_be_read_is_told_and_passed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    record(tmp_path, event(1, NOW), (NOW + 1, None, b"{broken"), event(3, NOW + 2))
    assert main(["events", "--data-dir", str(tmp_path)]) == 0
    out, err = capfd.readouterr()
    assert [decode_enriched(line).event.id for line in out.splitlines()] == ["1", "3"]
    assert err.count("\n") == 1
    assert "a row cannot be read" in err


def test_one_callers_events_are_deleted(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    record(tmp_path, event(1, NOW, "a"), event(2, NOW, "b"))
    record(tmp_path, event(3, NOW + 1, "a"), worker=1)
    assert main(["events", "--delete", "--caller", "a", "--data-dir", str(tmp_path)]) == 0
    assert capfd.readouterr().out == "2 events of a deleted\n"
    assert printed(capfd, "--data-dir", tmp_path) == ["2"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--delete"], "--delete goes with --caller, and with nothing else"),
        (["--delete", "--caller", "a", "--follow"], "--delete goes with --caller, and with nothing else"),
        (["--delete", "--caller", "a", "--since", "1h"], "--delete goes with --caller, and with nothing else"),
        (["--since", "yesterday"], "--since yesterday: expected a time such as"),
    ],
)
def test_wrong_use_is_one_line_and_exit_status_2(
    arguments: list[str], words: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    record(tmp_path, event(1, NOW, "a"))
    assert main(["events", "--data-dir", str(tmp_path), *arguments]) == 2
    out, err = capfd.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith(f"gateway events: {words}")


@pytest.mark.parametrize("arguments", [[], ["--follow"], ["--delete", "--caller", "a"]])
@pytest.mark.parametrize("there", [True, False])
def test_no_log_there_is_one_line_and_exit_status_2(
    arguments: list[str], there: bool, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    data_dir = tmp_path if there else tmp_path / "none"
    assert main(["events", "--data-dir", str(data_dir), *arguments]) == 2
    assert capfd.readouterr() == (
        "",
        f"gateway events: {data_dir}: no event log there; name the gateway's directory with --data-dir\n",
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "words"), [("events-0.sqlite", "the event log cannot be opened"), ("tables.json", "tables.json")]
)
def test_a_damaged_file_is_one_line_and_exit_status_2(
    name: str, words: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    if name != "events-0.sqlite":
        record(tmp_path, event(1, NOW))
    (tmp_path / name).write_bytes(b"nothing of the kind " * 50)
    assert main(["events", "--data-dir", str(tmp_path)]) == 2
    out, err = capfd.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert str(tmp_path / name) in err
    assert words in err


def test_follow_goes_on_with_new_events(tmp_path: Path) -> None:
    record(tmp_path, event(1, NOW), event(2, NOW + 1))
    following = subprocess.Popen(
        [sys.executable, "-m", "gateway.cli", "events", "--follow", "--data-dir", str(tmp_path), "--since", datetime.fromtimestamp(NOW + 1, UTC).isoformat()],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert following.stdout is not None
    try:
        seen = [decode_enriched(following.stdout.readline()).event.id]
        record(tmp_path, event(3, NOW + 2), event(4, NOW + 3))
        seen += [decode_enriched(following.stdout.readline()).event.id for _ in range(2)]
        record(tmp_path, event(5, NOW + 4))
        seen += [decode_enriched(following.stdout.readline()).event.id]
    finally:
        os.kill(following.pid, signal.SIGINT)
        out, err = following.communicate(timeout=20)
    assert seen == ["2", "3", "4", "5"]
    assert (out, err, following.returncode) == ("", "", 130)


def test_a_reader_that_closes_its_pipe_ends_it_quietly(tmp_path: Path) -> None:
    record(tmp_path, *(event(number, NOW + number) for number in range(300)))
    command = f'"{sys.executable}" -m gateway.cli events --data-dir "{tmp_path}" | head -n 1'
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.stdout.count("\n"), done.stderr, done.returncode) == (1, "", 141)
