"""`stream outcomes` as a command: its JSON, its table, what it cannot read."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from stream.coefficients import Tables, load_tables
from stream.enrich import enrich
from stream.events import RequestEvent, encode_enriched, encode_event
from stream.outcomes_text import outcomes_text
from stream.problems import Ledger, ProblemRequest, decode_outcome
from stream.strategies import in_dollars, strategies

ROOT = Path(__file__).parents[2]
TABLES = load_tables()


def event(number: int, model: str, problem: str | None, strategy: str | None = "greedy", **more: Any) -> RequestEvent:
    known = {"prompt_tokens": 500, "completion_tokens": 20, "status": 200, "raw_runtime_seconds": 2.0, **more}
    return RequestEvent(id=f"{number}", model=model, problem=problem, strategy=strategy, **known)


EVENTS = [
    event(1, "openai/davinci", "p1"),
    event(2, "openai/davinci", "p1", "majority", choices=8, completion_tokens=160),
    event(3, "openai/curie", "p1"),
    event(4, "openai/curie", "p2"),
    event(5, "of nobody", "p2"),
    event(6, "of nobody", "p3", "\x1b[2J"),
    event(7, "of nobody", "p3", None, status=429),
    event(8, "openai/curie", None),
    event(9, "openai/curie", "p4"),
]
OUTCOMES = [
    b'{"id":"1","problem":"p1","correct":false}',
    b'{"id":"2","problem":"p1","correct":true}',
    b'{"id":"3","problem":"p1","score":0.5}',
    b'{"problem":"p2","model":"openai/curie","correct":false}',
    b'{"problem":"p2","model":"of nobody","correct":true,"recorded_at":"2026-05-31T12:00:00Z"}',
    b'{"problem":"p2","model":"of nobody","correct":false}',
    b'{"problem":"p2","strategy":"greedy","correct":true}',
    b'{"problem":"p9","correct":true}',
    b'{"problem":"p4","correct":false}',
]


def compared(stack: str = TABLES.reference, human: float | None = None, tables: Tables = TABLES) -> dict[str, Any]:
    ledger = Ledger()
    for each in EVENTS:
        request = ProblemRequest.of(enrich(each, tables))
        if request is not None:
            ledger.observe(request)
    for outcome in OUTCOMES:
        ledger.judge(decode_outcome(outcome, 0.0))
    return strategies(ledger, stack, in_dollars(human))


def command(*arguments: str, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    whole = [sys.executable, "-m", "stream.cli", "outcomes", *arguments]
    return subprocess.run(whole, input=given, capture_output=True, cwd=ROOT, check=False)


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    events, outcomes = tmp_path / "events.jsonl", tmp_path / "outcomes.jsonl"
    events.write_bytes(b"\n".join(map(encode_event, EVENTS)) + b"\n")
    outcomes.write_bytes(b"\n".join(OUTCOMES) + b"\n")
    return ["--events", str(events), "--outcomes", str(outcomes)]


def test_json_is_what_strategies_say(files: list[str]) -> None:
    done = command(*files, "--json", "--stack", "v100-megatron", "--human-dollars", "2.5")
    assert (done.returncode, done.stderr) == (0, b"")
    assert json.loads(done.stdout) == json.loads(json.dumps(compared("v100-megatron", 2.5)))


def test_enriched_events_are_taken_as_they_are_and_outcomes_as_an_array(files: list[str]) -> None:
    Path(files[3]).write_bytes(b"[" + b",\n ".join(OUTCOMES) + b"]")
    tables = load_tables(assume={"of nobody": "openai/davinci"})
    done = command(
        "--events",
        "-",
        *files[2:],
        "--json",
        given=b"\n".join(encode_enriched(enrich(each, tables)) for each in EVENTS),
    )
    assert (done.returncode, done.stderr) == (0, b"")
    found = json.loads(done.stdout)
    assert found == json.loads(json.dumps(compared(tables=tables))) != json.loads(json.dumps(compared()))


def enriched_as(tables: Tables) -> bytes:
    return b"\n".join(encode_enriched(enrich(each, tables)) for each in EVENTS)


@pytest.mark.parametrize(
    "given_options",
    [
        {"constants": Path("constants.json")},
        {"assume": {"of nobody": "openai/davinci"}},
        {"interpolation": "helm"},
        {"interpolation": "linear"},
        {"paths": [Path("v100-megatron")]},
    ],
    ids=str,
)
def test_enriched_events_are_enriched_anew_where_tables_are_asked_for(
    files: list[str], given_options: dict[str, Any], tmp_path: Path
) -> None:
    before = load_tables(interpolation="helm" if given_options.get("interpolation") == "linear" else "linear")
    Path(files[1]).write_bytes(enriched_as(before))
    if "constants" in given_options:
        own = tmp_path / "constants.json"
        own.write_text('{"accelerators": {"a100-80gb": {"dollars_per_hour": 77}}}')
        given_options = {"constants": own}
    written = {
        "constants": lambda value: ["--constants", str(value)],
        "assume": lambda value: ["--assume", *(f"{name}={row}" for name, row in value.items())],
        "interpolation": lambda value: ["--interpolation", value],
        "paths": lambda value: ["--table", str(*value)],
    }
    options = [word for name, value in given_options.items() for word in written[name](value)]
    done = command(*files, "--json", *options)
    assert (done.returncode, done.stderr) == (0, b"")
    tables = load_tables(**given_options)
    assert json.loads(done.stdout) == json.loads(json.dumps(compared(tables.reference, tables=tables)))
    assert done.stdout != command(*files, "--json").stdout


def test_without_a_stack_it_is_that_of_the_events(files: list[str]) -> None:
    h100 = load_tables(stack="h100-predicted")
    Path(files[1]).write_bytes(enriched_as(h100))
    for options, stack in (
        ([], "h100-predicted"),
        (["--region", "se"], "h100-predicted"),
        (["--stack", "v100-megatron"], "v100-megatron"),
        (["--table", "v100-megatron"], "v100-megatron"),
    ):
        assert json.loads(command(*files, "--json", *options).stdout)["stack"] == stack


def test_by_default_served_then_billed_where_it_is_known(files: list[str]) -> None:
    def above() -> list[str]:
        return command(*files).stdout.decode().splitlines()[1].split()

    assert above() == ["served_dollars", "dedicated_dollars"]
    with Path(files[1]).open("ab") as events:
        events.write(encode_event(event(10, "gpt-4o", "p4", provider="openai")))
    with Path(files[3]).open("ab") as outcomes:
        outcomes.write(b'{"id":"10","problem":"p4","correct":true}\n')
    assert above() == ["served_dollars", "billed_dollars", "dedicated_dollars"]


def test_an_outcome_of_the_future_is_named(files: list[str]) -> None:
    Path(files[3]).write_bytes(b'{"problem":"p1","correct":true,"recorded_at":"2999-01-01T00:00:00Z"}')
    done = command(*files)
    assert done.returncode == 1
    assert b"recorded_at: more than a day after now" in done.stderr


def test_without_json_it_is_to_be_read(files: list[str]) -> None:
    done = command(*files, "--measure", "idealized_seconds", "--measure", "billed_dollars")
    assert (done.returncode, done.stderr) == (0, b"")
    text = done.stdout.decode()
    assert text == outcomes_text(compared(), ["idealized_seconds", "billed_dollars"]) + "\n"
    first, above, heads, unknown, best, *lines = text.splitlines()
    assert first == "4 problems (3 judged), 8 requests, 8 outcomes; costs on a100-megatron"
    assert above.split() == ["idealized_seconds", "billed_dollars"]
    assert heads.split()[:5] == ["model", "strategy", "problems", "accuracy", "unsolved"]
    assert best.split()[:6] == ["openai/davinci", "majority", "1", "1.000", "(0.207-1.000)", "0%"]
    assert best.split()[6].endswith("*")
    assert unknown.split() == ["of", "nobody", "greedy", "1", "1.000", "(0.207-1.000)", "0%", *"----"]
    assert len({len(line) for line in (above, heads)}) == 1
    notes = "\n".join(lines)
    for said in (
        "1 problem solved by none: a mean in brackets leaves them out",
        "1 problem without a judged attempt",
        "1 outcome of more than one model or strategy",
        "  problem p2, strategy greedy",
        "1 outcome without requests",
        "  problem p9",
        "1 request refused",
        "idealized_seconds of 1 request not known",
        "idealized_seconds: what solved 1 problem without a known cost is not on the frontier",
    ):
        assert said in notes
    assert "\x1b" not in text


def test_lines_that_cannot_be_read_are_named_and_all_others_count(files: list[str]) -> None:
    with Path(files[1]).open("ab") as events:
        events.write(b'not JSON\n{"model":"m","problem":7}\n')
    with Path(files[3]).open("ab") as outcomes:
        outcomes.write(b'{"problem":"p1","corect":"secret"}\n')
    done = command(*files, "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout) == json.loads(json.dumps(compared()))
    letters = [json.loads(line) for line in done.stderr.splitlines()]
    assert [(Path(each["file"]).name, each["place"]) for each in letters] == [
        ("outcomes.jsonl", "line 10"), ("events.jsonl", "line 10"), ("events.jsonl", "line 11"),
    ]  # fmt: skip
    assert letters[0]["reason"] == "unknown field 'corect'; did you mean correct?"
    assert b"secret" not in done.stderr


def test_nothing_to_compare_is_said(files: list[str]) -> None:
    for file in (files[1], files[3]):
        Path(file).write_bytes(b"")
    done = command(*files)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode().splitlines() == [
        "0 problems (0 judged), 0 requests, 0 outcomes; costs on a100-megatron",
        "no event names a problem: send it as the header x-trueclock-problem",
    ]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--events", "no such file"), "no such file: No such file or directory"),
        (("--outcomes", "no such file"), "no such file: No such file or directory"),
        (("--human-dollars", "-1"), "--human-dollars: -1 is no amount; give a number, 0 or more"),
        (("--human-dollars", "nan"), "--human-dollars: nan is no amount; give a number, 0 or more"),
        (("--stack", "x"), "unknown stack 'x': there are "),
        (("--measure", "x"), "argument --measure: invalid choice: 'x'"),
    ],
)
def test_wrong_use_is_one_line(files: list[str], arguments: tuple[str, ...], said: str) -> None:
    done = command(*files, *arguments)
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.decode().startswith(f"stream outcomes: {said}")
    assert done.stderr.count(b"\n") == 1
