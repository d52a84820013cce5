"""`profiler measure`: wrong use, exit statuses, an endpoint on a real socket, and what a second call does."""

import argparse
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from profiler import measure_command
from profiler.cli import main
from profiler.journal import Journal, read_journal
from profiler.machine import Machine, MachineError, Run
from profiler.measure_command import EXIT_UNFINISHED
from profiler.runs import Setup
from profiler.subjects import Subject
from stream.table_format import Row, read_table
from tests.profiler.made_up import Clock, MadeUp, Truth, setup
from tests.servers.black_box import MODEL, BlackBox, Contention, Manners, running
from tests.servers.black_box import Truth as Served

ARCH = "layers=2,hidden=64,heads=4,ffn=128,vocabulary=100"


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, list[str], list[str]]:
    """Exit status, lines said, and lines of errors but the one about a busy machine, which depends on the machine."""
    try:
        status = main(["measure", *map(str, arguments)])
    except SystemExit as ended:
        status = int(str(ended.code))
    said = capsys.readouterr()
    errors = [line for line in said.err.splitlines() if " of this machine" not in line]
    return status, said.out.splitlines(), errors


# --- wrong use


WRONG: dict[str, tuple[list[str], str]] = {
    "nothing": ([], "say what to measure: one of --arch, --suite and --endpoint"),
    "two-at-once": (
        ["--arch", ARCH, "--suite", "modern"],
        "say what to measure: one of --arch, --suite and --endpoint, not --arch and --suite",
    ),
    "nowhere-to-go": (
        ["--arch", ARCH],
        "say where results go: --out TABLE.json, or --samples FILE.jsonl for the runs alone",
    ),
    "samples-of-a-kind": (["--arch", ARCH, "--samples", "x.csv"], "--samples x.csv: its name has to end in .jsonl"),
    "one-file-for-both": (
        ["--arch", ARCH, "--out", "x.jsonl"],
        "--out x.jsonl: that is the file of the runs: give the table another name, as mine.json",
    ),
    "an-endpoint-without-a-name": (
        ["--endpoint", "http://localhost:1", "--out", "x.json"],
        "--endpoint needs --name STACK: what hardware and software it runs on, as h100-vllm",
    ),
    "layers-of-an-endpoint": (
        ["--endpoint", "http://localhost:1", "--name", "x", "--layers", "2,4", "--out", "x.json"],
        "--layers is of models in this process: an endpoint has all its layers",
    ),
    "devices-of-a-process": (
        ["--arch", ARCH, "--tensor-parallel", "2", "--out", "x.json"],
        "--tensor-parallel records an endpoint's devices: in this process one device runs a model",
    ),
    "a-key-that-is-not-there": (
        ["--endpoint", "http://localhost:1", "--name", "x", "--out", "x.json", "--key-env", "NO_SUCH_KEY"],
        "--key-env: no environment variable of that name holds a key",
    ),
    "a-suite-that-is-not-there": (
        ["--suite", "old", "--out", "x.json"],
        "--suite 'old': expected modern, or a .json file",
    ),
}
VALUES = {
    "--layers": (["0", "8,4", "4,4", "x", "4,", ""], "expected rising numbers of layers, as 4,8: found "),
    "--budget": (["0", "x", "-1", "8 m"], " is no duration; give one such as 90s, 8m or 1h30m, or seconds"),
    "--max-prompt": (["0", "-1", "1.5", "x", "²"], "expected a whole number, 1 or more: found "),
    "--threads": (["0", "x"], "expected a whole number, 1 or more: found "),
    "--tensor-parallel": (["0"], "expected a whole number, 1 or more: found "),
    "--p95": (["0", "1", "nan", "-1", "x"], "expected a fraction between 0 and 1, as 0.05: found "),
    "--tight": (["0", "inf"], "expected a fraction between 0 and 1, as 0.05: found "),
    "--stack": (["vllm"], "invalid choice: 'vllm'"),
    "--dtype": (["int8"], "invalid choice: 'int8'"),
    "--route": (["embeddings"], "invalid choice: 'embeddings'"),
}


@pytest.mark.parametrize(("arguments", "why"), WRONG.values(), ids=WRONG)
def test_wrong_use_is_one_line(
    arguments: list[str], why: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(capsys, *arguments) == (2, [], [f"profiler measure: {why}"])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("option", "value"), [(option, value) for option in VALUES for value in VALUES[option][0]])
def test_a_wrong_value_is_one_line(option: str, value: str, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, (error,) = run(capsys, "--arch", ARCH, "--out", "x.json", f"{option}={value}")
    assert (status, out) == (2, [])
    assert error.startswith(f"profiler measure: argument {option}: ")
    assert VALUES[option][1] in error
    assert error.endswith("(see profiler measure --help)")


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ("no-such-model", "no-such-model"),
        ("layers=2,hidden=64,heads=7,ffn=128,vocabulary=100,gated=maybe", "gated"),
        ("none.json", "none.json: cannot be read"),
    ],
)
def test_what_is_no_architecture_is_one_line(
    spec: str, why: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    status, out, (error,) = run(capsys, "--arch", spec, "--out", tmp_path / "x.json")
    assert (status, out) == (2, [])
    assert error.startswith("profiler measure: ")
    assert why in error


@pytest.mark.skipif(find_spec("torch") is not None, reason="torch is here: nothing is missing")
def test_without_torch_it_says_what_to_install(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    status, out, errors = run(capsys, "--arch", ARCH, "--out", tmp_path / "x.json")
    expected = "profiler measure: to run models here takes torch: pip install 'trueclock[profiler]'"
    assert (status, out, errors) == (2, [], [expected])
    assert list(tmp_path.iterdir()) == []


def test_help_needs_neither_numpy_nor_aiohttp() -> None:
    code = (
        "import sys; from profiler.cli import main\n"
        "try: main(['measure', '--help'])\n"
        "except SystemExit: print(sorted({'numpy', 'aiohttp', 'torch', 'gateway'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert "--endpoint URL" in done.stdout


# --- exit statuses, with machines that are made up


class Fake:
    """A model of a known truth, in place of one that torch runs. `time` passes only while it runs."""

    shortest, longest = 1, 256

    def __init__(self, model: str, time: Clock, noise: float = 0.01, dies_after: float = float("inf")) -> None:
        self.setup: Setup = setup(model)
        self.box = MadeUp(Truth(), 0, time, noise, dies_after=dies_after)
        self.closed = 0

    def machine(self, layers: int) -> Machine:
        if self.box.dies_after < 0:
            raise MachineError("a model of type 'x' on cpu: not enough memory: measure some of its layers (--layers)")
        return self.box

    def close(self) -> None:
        self.closed += 1


Measure = Callable[..., tuple[int, list[str], list[str]]]


@pytest.fixture
def measure(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Measure:
    monkeypatch.setattr("profiler.this_machine.busy", lambda: 0.0)

    def measured(
        *fakes: Fake, samples: str | None = None, out: str | None = "t.json", budget: str | None = None
    ) -> Any:
        def subjects(_: argparse.Namespace) -> tuple[None, list[Subject]]:
            return None, list(fakes)

        monkeypatch.setattr(measure_command, "_subjects", subjects)
        options: list[object] = ["--arch", "x"]
        options += ["--out", tmp_path / out] if out else []
        options += ["--samples", tmp_path / samples] if samples else []
        return run(capsys, *options, *(["--budget", budget] if budget else []))

    return measured


def row_of(table: Path, model: str) -> Row:
    (stack,) = read_table(table).stacks
    return stack.rows[model]


def test_all_measured_is_0_and_a_second_call_runs_nothing(measure: Measure, tmp_path: Path) -> None:
    fakes = [Fake("a", Clock()), Fake("b", Clock())]
    status, out, errors = measure(*fakes)
    assert status == 0
    assert [line.partition(" ")[0] for line in out[1:3]] == ["a", "b"]
    assert out[-1] == f"{tmp_path / 't.json'}: stack box-stack: 2 rows written"
    assert [line.partition(":")[0] for line in errors] == ["a", "b"]
    assert all("runs; of all points' medians 95 % are known to" in line for line in errors)
    assert all(fake.closed for fake in fakes)
    row = row_of(tmp_path / "t.json", "a")
    assert row.coefficients.per_output_token == pytest.approx(Truth().beta, rel=0.02)
    before = (tmp_path / "t.jsonl").read_bytes()
    again = [Fake("a", Clock()), Fake("b", Clock())]
    assert measure(*again) == (0, out, errors)
    assert [fake.box.made for fake in again] == [[], []]
    assert (tmp_path / "t.jsonl").read_bytes() == before
    assert row_of(tmp_path / "t.json", "a") == row


def test_runs_alone_are_kept_where_no_table_is_wanted(measure: Measure, tmp_path: Path) -> None:
    status, out, _ = measure(Fake("a", Clock()), samples="s.jsonl", out=None)
    assert status == 0
    assert [path.name for path in tmp_path.iterdir()] == ["s.jsonl"]
    assert "written" not in "".join(out)
    assert {entry["kind"] for entry in read_journal(tmp_path / "s.jsonl")} == {"setup", "session", "run"}


def test_samples_may_lie_elsewhere(measure: Measure, tmp_path: Path) -> None:
    assert measure(Fake("a", Clock()), samples="s.jsonl")[0] == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["s.jsonl", "t.json"]
    (stack,) = read_table(tmp_path / "t.json").stacks
    assert stack.source == "measured by trueclock (profiler measure), runs in s.jsonl"


def test_a_spent_budget_is_3_and_the_same_command_goes_on(
    measure: Measure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def times(budget: float) -> tuple[int, list[str], list[str]]:
        clock = Clock()
        monkeypatch.setattr("profiler.measuring.Budget.__post_init__", lambda self: _begin(self, clock))
        return measure(Fake("a", clock, 0), Fake("b", clock, 0), budget=f"{budget:g}s")

    def _begin(budget: Any, clock: Clock) -> None:
        budget.clock, budget.began = clock, clock()

    spent = f"profiler measure: the budget is spent: the same command goes on from {tmp_path / 't.jsonl'}"
    statuses, kept = [], 0
    for budget in (1, 16, 18, 18, 30, 60, 1000):
        status, _, errors = times(budget)
        statuses.append(status)
        assert (errors[-1] == spent) == (status == EXIT_UNFINISHED)
        now = sum(entry["kind"] == "run" for entry in read_journal(tmp_path / "t.jsonl"))
        assert now >= kept
        kept = now
    assert statuses[0] == EXIT_UNFINISHED
    assert statuses[-1] == 0
    assert statuses == sorted(statuses, reverse=True)
    assert len(set(statuses)) == 2
    whole = tmp_path / "whole.json"
    assert measure(Fake("a", Clock(), 0), Fake("b", Clock(), 0), out="whole.json")[0] == 0
    assert row_of(whole, "b") == row_of(tmp_path / "t.json", "b")
    assert kept == sum(entry["kind"] == "run" for entry in read_journal(whole.with_suffix(".jsonl")))


@pytest.mark.parametrize("dies_after", [-1, 3, 30], ids=["at-once", "early", "late"])
def test_a_model_that_fails_is_1_and_the_others_are_measured(measure: Measure, tmp_path: Path, dies_after: int) -> None:
    fakes = [Fake("a", Clock(), dies_after=dies_after), Fake("b", Clock())]
    status, _, errors = measure(*fakes)
    assert status == 1
    assert errors[-1].startswith(f"profiler measure: a: {'a model of type' if dies_after < 0 else 'box: gone'}")
    assert all(fake.closed for fake in fakes)
    (stack,) = read_table(tmp_path / "t.json").stacks
    assert "b" in stack.rows
    assert "a" not in stack.rows or dies_after > 0


def test_where_nothing_could_be_measured_there_is_no_table(measure: Measure, tmp_path: Path) -> None:
    status, out, errors = measure(Fake("a", Clock(), dies_after=-1))
    assert (status, out, len(errors)) == (1, [], 1)
    assert not (tmp_path / "t.json").exists()


def test_a_file_that_another_measures_into_is_one_line(measure: Measure, tmp_path: Path) -> None:
    with Journal(tmp_path / "t.jsonl"):
        status, out, errors = measure(Fake("a", Clock()))
    said = f"profiler measure: {tmp_path / 't.jsonl'}: another process measures into this file: wait, or name another"
    assert (status, out, errors) == (2, [], [said])


def test_a_table_that_is_none_is_one_line_before_anything_runs(measure: Measure, tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text("my diary")
    status, _, errors = measure(Fake("a", Clock()))
    assert status == 2
    assert errors[-1].startswith(f"profiler measure: {tmp_path / 't.json'}: ")
    assert (tmp_path / "t.json").read_text() == "my diary"
    assert not (tmp_path / "t.jsonl").exists()


def test_an_interrupted_measurement_is_130_and_the_same_command_goes_on(
    measure: Measure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fakes = [Fake("a", Clock()), Fake("b", Clock())]

    def interrupted(prompt_tokens: int, output_tokens: int) -> Run:
        raise KeyboardInterrupt((prompt_tokens, output_tokens))

    monkeypatch.setattr(fakes[1].box, "run", interrupted)
    status, out, errors = measure(*fakes)
    assert status == 130
    assert out[-1] == f"{tmp_path / 't.json'}: stack box-stack: 1 row written"
    again = f"profiler measure: the same command goes on from {tmp_path / 't.jsonl'}"
    assert errors[-2:] == ["profiler measure: interrupted", again]
    assert measure(Fake("a", Clock()), Fake("b", Clock()))[0] == 0


# --- an endpoint

QUICK = Served(overhead=0.003, beta=0.0004, per_prompt_token=2e-6)


def box(**manners: Any) -> BlackBox:
    return BlackBox(QUICK, Contention(quiet=1.0, jitter=0.0), Manners(**manners))


def endpoint(capsys: pytest.CaptureFixture[str], url: str, out: Path, *more: object) -> Any:
    options = ["--endpoint", url, "--name", "my-box", "--out", out, "--max-prompt", "256", "--tight", "0.2"]
    return run(capsys, *options, "--p95", "0.2", *more)


def test_an_endpoint_is_measured_and_a_second_call_only_asks_what_it_is(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    out = tmp_path / "box.json"
    with running(box()) as server:
        status, _, errors = endpoint(capsys, server.url, out)
        assert (status, errors[0].partition(":")[0]) == (0, MODEL)
        assert server.requests[0].target == "/v1/models"
        asked, runs = len(server.sizes), (tmp_path / "box.jsonl").read_bytes()
        assert endpoint(capsys, server.url, out, "--model", MODEL)[0] == 0
        assert [output for _, output in server.sizes[asked:]] == [1, 1], "how long words are, and no run"
        assert (tmp_path / "box.jsonl").read_bytes() == runs
    (stack,) = read_table(out).stacks
    row = stack.rows[MODEL]
    assert (stack.name, stack.hardware, row.provenance, row.accelerators) == ("my-box", "my-box", "measured", 1)
    assert "server black-box" in (stack.software or "")
    assert row.coefficients.knots[0] >= 20
    assert row.coefficients.per_output_token >= 0.9 * QUICK.beta
    assert row.coefficients.prompt_seconds[0] >= 0.9 * QUICK.overhead
    assert "F holds what network and server add" in (row.note or "")
    kept = [entry for entry in read_journal(tmp_path / "box.jsonl") if entry["kind"] == "run"]
    told = {(entry["prompt_tokens"], entry["output_tokens"]) for entry in kept}
    assert told <= set(server.sizes), "tokens are those of the replies"


def test_an_endpoint_that_goes_away_is_1_and_gone_on_with(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = tmp_path / "box.json"
    with running(box(fails=0.1)) as server:
        statuses: list[int] = []
        while not statuses or (statuses[-1] == 1 and len(statuses) < 100):
            status, _, errors = endpoint(capsys, server.url, out)
            statuses.append(status)
            assert status in {0, 1, 2}
            assert errors[-1].startswith(("profiler measure: ", MODEL))
    kept = [entry for entry in read_journal(tmp_path / "box.jsonl") if entry["kind"] == "run"]
    points = [entry.get("asked") or [entry["prompt_tokens"], entry["output_tokens"]] for entry in kept]
    assert len({(*point, entry["number"]) for point, entry in zip(points, kept, strict=True)}) == len(kept)


@pytest.mark.parametrize(
    ("manners", "more", "why"),
    [
        ({"key": "secret-key"}, (), "401: it wants a key (--key-env NAME: the environment variable that holds it)"),
        ({}, ("--model", "other"), "404: The model `other` does not exist"),
        ({"usage": False}, (), "usage"),
    ],
    ids=["key", "model", "usage"],
)
def test_an_endpoint_that_refuses_is_one_line(
    manners: dict[str, Any], more: tuple[str, ...], why: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with running(box(**manners)) as server:
        status, out, errors = endpoint(capsys, server.url, tmp_path / "box.json", *more)
    assert (status, out, len(errors)) == (2, [], 1)
    assert why in errors[0]
    assert list(tmp_path.iterdir()) == []


def test_an_endpoint_with_a_key_never_tells_it(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BOX_KEY", "secret-key")
    with running(box(key="secret-key")) as server:
        status, out, errors = endpoint(capsys, server.url, tmp_path / "box.json", "--key-env", "BOX_KEY")
    assert status == 0
    told = "\n".join([*out, *errors, *(path.read_text() for path in tmp_path.iterdir())])
    assert "secret" not in told


def test_nobody_at_the_url_is_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    status, out, errors = endpoint(capsys, "http://127.0.0.1:9", tmp_path / "box.json")
    assert (status, out, len(errors)) == (2, [], 1)
    assert "127.0.0.1:9" in errors[0]
    assert errors[0].endswith("is it running there?")
