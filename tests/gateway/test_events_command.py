"""`gateway events`: what was recorded, as enriched lines, also while it is being recorded."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

import pytest

from gateway.cli import main
from gateway.log import LogWriter, Retention
from stream.coefficients import load_tables, tables_to_json
from stream.events import EnrichedEvent, RequestEvent, decode_enriched, encode_event
from stream.state import STATE_VERSION
from tests.gateway import logs

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


# --- baselines


def enriched(capfd: pytest.CaptureFixture[str], data_dir: Path) -> list[EnrichedEvent]:
    assert main(["events", "--data-dir", str(data_dir)]) == 0
    return [decode_enriched(line) for line in capfd.readouterr().out.splitlines()]


def test_each_event_has_the_baseline_it_was_counted_with(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    first = logs.record(tmp_path, *(logs.event(number) for number in range(5)))
    second = logs.record(tmp_path, *(logs.event(number, upstream=None) for number in range(5, 8)), worker=1)
    logs.store(
        tmp_path,
        (logs.baseline(1, 0.5), {first: 2, second: 1}),
        (logs.baseline(2, 0.4), {first: 4, second: 3}),
        (logs.baseline(3, 0.3, upstream=None), {first: 5, second: 2}),
    )
    found = {made.event.id[-1]: made for made in enriched(capfd, tmp_path)}
    versions = {number: made.baseline_version for number, made in found.items()}
    assert versions == {"0": None, "1": "1", "2": "1", "3": "2", "4": "2", "5": None, "6": "3", "7": "3"}
    assert (found["1"].denoised_runtime_seconds, found["1"].contention_factor) == (0.5, 4.0)


def test_a_newer_state_is_one_clear_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    logs.record(tmp_path, logs.event(1))
    logs.store(tmp_path, (logs.baseline(1), {}))
    logs.state_version(tmp_path, STATE_VERSION + 1)
    assert main(["events", "--data-dir", str(tmp_path)]) == 2
    out, err = capfd.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert f"gateway events: {tmp_path / 'stream.sqlite'}: written by a newer trueclock" in err


@contextmanager
def following(data_dir: Path, settle_seconds: float) -> Iterator[IO[str]]:
    """The output of `gateway events --follow` that waits so long for an event's baseline; ended by Ctrl-C."""
    patient = f"import gateway.events_command as its; its._SETTLE_SECONDS = {settle_seconds}; import gateway.cli"
    program = f"{patient}; raise SystemExit(gateway.cli.main())"
    with subprocess.Popen(
        [sys.executable, "-c", program, "events", "--follow", "--data-dir", str(data_dir)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        try:
            yield process.stdout
        finally:
            os.kill(process.pid, signal.SIGINT)
            out, err = process.communicate(timeout=20)
    assert (out, err, process.returncode) == ("", "", 130)


def versions(lines: Iterable[str]) -> list[tuple[str, str | None]]:
    events = map(decode_enriched, lines)
    return [(each.event.id[-1], each.baseline_version) for each in events]


def test_followed_events_wait_for_their_baseline(tmp_path: Path) -> None:
    log_id = logs.record(tmp_path, logs.event(1))
    logs.store(tmp_path, taken={log_id: 1})
    with following(tmp_path, 60.0) as output:
        lines = [output.readline()]
        logs.record(tmp_path, logs.event(2))
        logs.store(tmp_path, (logs.baseline(1, 0.5), {log_id: 2}))
        logs.store(tmp_path, taken={log_id: 2})  # only now: what is taken has its values
        lines.append(output.readline())
    assert versions(lines) == [("1", None), ("2", "1")]


def test_followed_events_do_not_wait_for_a_stream_that_is_gone(tmp_path: Path) -> None:
    log_id = logs.record(tmp_path, logs.event(1))
    logs.store(tmp_path, (logs.baseline(1, 0.5), {log_id: 2}), taken={log_id: 1})
    with following(tmp_path, 0.1) as output:
        lines = [output.readline()]
        logs.record(tmp_path, logs.event(2), logs.event(3))  # which nobody takes
        lines += [output.readline(), output.readline()]
    assert versions(lines) == [("1", None), ("2", "1"), ("3", "1")]
