"""`stream enrich`, run as a program: results, dead letters, wrong use, pipes."""

import csv
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from stream.baselines import Baseline, baselines_to_json

ROOT = Path(__file__).parents[2]
GOOD = b'{"model":"davinci","prompt_tokens":500,"completion_tokens":21,"duration_seconds":1.0}'
FULL_DISK = Path("/dev/full")
COMMAND = [sys.executable, "-m", "stream.cli"]


def stream(*arguments: str, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([*COMMAND, *arguments], input=given, capture_output=True, cwd=ROOT, check=False)


@contextmanager
def running(*arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    pipe = subprocess.PIPE
    command = [*COMMAND, *arguments]
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, cwd=ROOT) as process:
        yield process


def records(output: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.splitlines()]


def test_order_and_count_are_kept() -> None:
    lines = [json.dumps({"model": "davinci", "id": str(n)}).encode() for n in range(3_000)]
    done = stream("enrich", given=b"\n".join(lines))
    assert (done.returncode, done.stderr) == (0, b"")
    assert [record["id"] for record in records(done.stdout)] == [str(n) for n in range(3_000)]


@pytest.mark.parametrize("interpolation", ["helm", "linear"])
def test_the_published_finding(interpolation: str) -> None:
    """Faster than idealized, by the published columns and by ours: 98 % of 549 scenarios must agree."""
    models = {"openai/davinci", "openai/curie", "ai21/j1-jumbo", "ai21/j1-large", "gooseai/gpt-j-6b"}
    with (ROOT / "profiler" / "samples" / "api-scenarios.csv").open(newline="") as file:
        read = [row for row in csv.DictReader(file) if row["model"] in models]
    rows = [row for row in read if row["prompt_tokens"] and row["idealized_seconds"]]
    events = [
        {
            "model": row["model"],
            "prompt_tokens": round(float(row["prompt_tokens"])),
            "completion_tokens": round(float(row["output_tokens"])),
            "duration_seconds": float(row["raw_seconds"]),
        }
        for row in rows
    ]
    given = "\n".join(map(json.dumps, events)).encode()
    done = stream("enrich", "--interpolation", interpolation, given=given)
    published = [float(row["raw_seconds"]) < float(row["idealized_seconds"]) for row in rows]
    found = [record["faster_than_idealized"] for record in records(done.stdout)]
    assert len(found) == 549
    agree = sum(ours == theirs for ours, theirs in zip(found, published, strict=True))
    assert agree >= 0.98 * 549


def test_what_is_assumed_and_the_providers_own_best_can_be_given(tmp_path: Path) -> None:
    baseline = Baseline(
        version=3, upstream="u", model="gpt-4o", per_output_token=0.01, knots=(1,), prompt_seconds=(0.1,)
    )
    (tmp_path / "best.json").write_bytes(baselines_to_json([baseline]))
    event = {"model": "gpt-4o", "upstream": "u", "prompt_tokens": 1, "completion_tokens": 41, "duration_seconds": 2.0}
    given = (json.dumps(event) + "\n" + json.dumps({**event, "upstream": None})).encode()
    options = ("--assume", "gpt-4o=davinci", "--assume", "o1=openai/curie", "--baselines", str(tmp_path / "best.json"))
    done = stream("enrich", *options, given=given)
    assert (done.returncode, done.stderr) == (0, b"")
    found, other = records(done.stdout)
    assert (found["table_row"], found["provenance"]) == ("openai/davinci", "assumed")
    assert (found["denoised_runtime_seconds"], found["contention_factor"]) == (0.5, 4.0)
    assert (found["baseline_version"], other["baseline_version"]) == ("3", None)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--assume", "gpt-4o"), b"expected NAME=ROW, such as gpt-4o=llama-3.1-70b, found 'gpt-4o'"),
        (("--assume", "=x"), b"expected NAME=ROW"),
        (("--assume", "gpt-4o=none"), b"assume 'gpt-4o': no table has a row or alias 'none'"),
        (("--baselines", "none.json"), b"none.json: cannot be read: No such file"),
        (("--baselines", "pyproject.toml"), b"pyproject.toml: not JSON"),
    ],
)
def test_wrong_assumptions_and_baselines_are_one_line(options: tuple[str, ...], said: bytes) -> None:
    done = stream("enrich", *options, given=GOOD)
    assert (done.returncode, done.stdout, done.stderr.count(b"\n")) == (2, b"", 1)
    assert said in done.stderr


def test_unreadable_lines_are_told_without_their_content() -> None:
    done = stream("enrich", given=b"\xef\xbb\xbf" + GOOD + b'\n{"model":"secret"\n\n' + GOOD + b"\r\n \n\n")
    assert done.returncode == 1
    assert len(records(done.stdout)) == 2
    told = records(done.stderr)
    assert [(letter["line"], set(letter)) for letter in told] == [
        (2, {"line", "reason"}),
        (3, {"line", "reason"}),
    ]
    assert b"secret" not in done.stderr


def test_dead_letters_are_kept_whole_and_appended(tmp_path: Path) -> None:
    dead = tmp_path / "dead.jsonl"
    for given in (b"bad\n" + GOOD + b'\n{"model":7}', b"\xff\xfe\n", GOOD):
        stream("enrich", "--dead", str(dead), given=given)
    letters = records(dead.read_bytes())
    assert [letter["line"] for letter in letters] == [1, 3, 1]
    assert [letter.get("record") for letter in letters] == ["bad", '{"model":7}', None]
    assert letters[1]["reason"] == "Expected str | null, got int - at $.model"
    assert letters[2]["record_base64"] == "//4="


def test_stacks_and_tables(tmp_path: Path) -> None:
    [record] = records(stream("enrich", "--stack", "v100-megatron", given=GOOD).stdout)
    assert (record["stack"], list(record["stacks"])) == ("v100-megatron", ["a100-megatron", "h100-predicted"])
    table = tmp_path / "mine.json"
    table.write_text('{"davinci":{"runtime_per_output_token":0,"runtime_for_prompt_tokens":{"500":2}}}')
    [record] = records(stream("enrich", "--table", str(table), given=GOOD).stdout)
    assert (record["stack"], record["idealized_runtime_seconds"], record["slowdown"]) == ("mine", 2.0, 0.5)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "stream: the following arguments are required: COMMAND"),
        (["enrich", "--stak", "x"], "stream enrich: unrecognized arguments: --stak x (see stream enrich --help)"),
        (
            ["enrich", "--interpolation", "cubic"],
            "stream enrich: argument --interpolation: invalid choice: 'cubic'",
        ),
        (["enrich", "--stack", "zzz"], "stream enrich: unknown stack 'zzz': there are a100-megatron,"),
        (["enrich", "--stack", "api-2022"], "stream enrich: stack 'api-2022' is denoised, which is never"),
        (["enrich", "--table", "none.json"], "stream enrich: none.json: cannot be read: No such file"),
        (["enrich", "--dead", "no/such/dead"], "stream enrich: no/such/dead: No such file or directory"),
    ],
)
def test_wrong_use_is_one_clear_line(arguments: list[str], told: str) -> None:
    done = stream(*arguments, given=GOOD)
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.decode().startswith(told)
    assert done.stderr.count(b"\n") == 1


def test_help_shows_an_example() -> None:
    done = stream("enrich", "--help")
    assert done.returncode == 0
    assert b"stream enrich --dead dead.jsonl < events.jsonl" in done.stdout


def test_an_open_pipe_is_answered_line_by_line() -> None:
    with running("enrich") as process:
        assert process.stdin
        assert process.stdout
        for _ in range(3):
            process.stdin.write(GOOD + b"\n")
            process.stdin.flush()
            assert json.loads(process.stdout.readline())["table_row"] == "openai/davinci"


def test_a_reader_that_leaves_ends_it_quietly() -> None:
    with running("enrich") as process:
        assert process.stdin
        assert process.stdout
        assert process.stderr
        process.stdout.close()
        process.stdin.write(GOOD + b"\n")
        process.stdin.close()
        assert process.wait(10) == 141
        assert process.stderr.read() == b""


def test_ctrl_c_ends_it_quietly() -> None:
    with running("enrich") as process:
        assert process.stdin
        assert process.stdout
        assert process.stderr
        process.stdin.write(GOOD + b"\n")
        process.stdin.flush()
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130
        assert process.stderr.read() == b""


@pytest.mark.skipif(not FULL_DISK.exists(), reason="no /dev/full on this system")
def test_a_full_disk_is_one_clear_line() -> None:
    with FULL_DISK.open("wb") as full:
        done = subprocess.run(
            [*COMMAND, "enrich"], input=GOOD, stdout=full, stderr=subprocess.PIPE, cwd=ROOT, check=False
        )
    assert (done.returncode, done.stderr) == (2, b"stream enrich: No space left on device\n")


def test_events_that_were_led_by_another_stack_are_told_of_once(tmp_path: Path) -> None:
    table = tmp_path / "mine.json"
    table.write_bytes(
        (ROOT / "stream" / "tables" / "v100-megatron.json").read_bytes().replace(b"v100-megatron", b"mine")
    )
    for led, said in (
        (["--stack", "h100-predicted"], "h100-predicted; --stack h100-predicted keeps that"),
        (["--table", str(table)], "mine; which these tables do not have (--table)"),
    ):
        before = stream("enrich", *led, given=(GOOD + b"\n") * 3).stdout
        done = stream("enrich", given=before)
        assert (done.returncode, done.stderr.decode()) == (0, f"stream enrich: these events lead with {said}\n")
        assert {each["stack"] for each in records(done.stdout)} == {"a100-megatron"}
        assert stream("enrich", *led, given=before).stderr == b""
    assert stream("enrich", "--stack", "a100-megatron", given=before).stderr == b"", "asked for"
    assert stream("enrich", given=b'{"table_version":"x","stack":7}\n' + GOOD).stderr.count(b"lead with") == 0
