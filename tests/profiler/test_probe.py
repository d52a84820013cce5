"""Probing: what is asked, what it costs, what comes out, and the command, against a black box of known truth."""

import io
import json
import math
import random
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler.cli import main
from profiler.endpoint_error import EndpointError
from profiler.journal import Journal, read_journal
from profiler.probe import Stopped, ask
from profiler.probe_fit import edge, probed
from profiler.probe_ledger import BudgetSpent, Ledger, Sample, Tariff, setup_of
from profiler.probe_plan import OUTPUTS, SIZES, points, schedule
from stream.baselines import load_baselines
from stream.cli import main as stream_main
from stream.coefficients import load_tables
from stream.estimate import MOST_UNCERTAIN
from stream.events import RequestEvent, encode_event
from stream.prices import load_prices
from stream.runtime import prompt_function
from stream.table_format import read_table
from tests.servers.black_box import MODEL, BlackBox, Contention, Manners, Truth, running

FAST = Truth(overhead=0.002, beta=0.0004, per_prompt_token=1e-6)
ALONE = Contention(quiet=1.0)
PRICE = ["--dollars-per-million", "2", "10"]
QUICK = ["--minutes", "0", "--prompt-tokens", "32,64,128", "--output-tokens", "16", "--rounds", "15"]


def box(**manners: Any) -> BlackBox:
    return BlackBox(FAST, ALONE, Manners(**manners))


# --- the plan


def test_the_points() -> None:
    assert points(SIZES, OUTPUTS) == (
        (32, 1), (128, 1), (256, 1), (512, 1), (1024, 1), (2048, 1), (128, 32), (128, 128), (1024, 128),
    )  # fmt: skip
    assert points([64], [1, 8, 8]) == ((64, 1), (64, 8))
    assert points([64, 32], [1]) == ((32, 1), (64, 1))
    assert points([8, 16, 32], [4]) == ((8, 1), (16, 1), (32, 1), (16, 4), (32, 4))


@given(st.integers(1, 6), st.integers(0, 40), st.integers())
def test_each_repeat_is_asked_for_once_and_what_was_taken_is_not(rounds: int, some: int, seed: int) -> None:
    wanted = points(SIZES, OUTPUTS)
    every = schedule(wanted, rounds, (), random.Random(seed))
    assert len(set(every)) == len(every) == rounds * len(wanted)
    assert [number for number, _ in every] == sorted(number for number, _ in every)
    assert every[0][1][1] == max(OUTPUTS)
    taken = every[: min(some, len(every))]
    left = schedule(wanted, rounds, set(taken), random.Random(seed + 1))
    assert sorted((*taken, *left)) == sorted(every)


# --- money


def tariff(prompt: float = 2.0, output: float = 10.0) -> Tariff:
    own = {"m": {"input_cost_per_token": prompt / 1e6, "output_cost_per_token": output / 1e6}}
    return Tariff(load_prices().with_own(own), None, "m")


def reply(prompt: int, output: int, **more: Any) -> RequestEvent:
    return RequestEvent(
        model="m", prompt_tokens=prompt, completion_tokens=output, status=200, raw_runtime_seconds=0.5,
        time_to_first_token_seconds=0.2, **more,
    )  # fmt: skip


def ledger(path: Path, budget: float = 1.0) -> Ledger:
    return Ledger(Journal(path), setup_of("host", "m", "chat"), tariff(), budget)


def test_a_price_of_the_list_and_one_of_nobody() -> None:
    found = Tariff(load_prices(), "openai", "gpt-4o-mini")
    assert found.dollars(1_000_000, 0) == pytest.approx(0.15)
    assert found.source == "gpt-4o-mini"
    assert Tariff(load_prices(), "openai", "nobody-knows").dollars(1, 1) is None
    assert Tariff(load_prices(), "openai", "nobody-knows").source == ""


def test_a_request_is_charged_at_its_most_until_its_reply_is_there(tmp_path: Path) -> None:
    found = ledger(tmp_path / "s.jsonl")
    found.next((0, (100, 1)))
    found.reserve(1000, 100)
    assert found.spent == pytest.approx(0.003)
    found.settle(reply(100, 1))
    assert found.spent == pytest.approx(0.00021)
    found.reserve(1000, 100)
    assert found.spent == pytest.approx(0.00321)
    assert found.requests == 2


def test_the_budget_is_looked_at_before(tmp_path: Path) -> None:
    found = ledger(tmp_path / "s.jsonl", budget=0.005)
    found.reserve(1000, 100)
    with pytest.raises(BudgetSpent, match=r"the next request may cost \$0\.0030, and \$0\.0030 of \$0\.005 is spent"):
        found.reserve(1000, 100)
    assert found.requests == 1


def test_it_goes_on_from_its_file(tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    with Journal(path) as journal:
        found = Ledger(journal, setup_of("host", "m", "chat"), tariff(), 1.0)
        found.reserve(10, 1)  # calibrates
        found.settle(reply(25, 1))
        found.next((0, (100, 1)))
        found.reserve(1000, 100)
        found.settle(reply(101, 1))
        found.next((0, (64, 1)))
        found.reserve(1000, 100)  # killed here
    with path.open("ab") as file:
        file.write(b'{"kind":"run","requ')
    with Journal(path) as journal:
        again = Ledger(journal, setup_of("host", "m", "chat"), tariff(), 1.0)
        assert again.spent == pytest.approx(found.spent) == pytest.approx(0.00006 + 0.000212 + 0.003)
        assert again.taken == {(0, (100, 1)), (0, (64, 1))}
        assert [(point, event.prompt_tokens) for point, event in again.samples] == [(None, 25), ((100, 1), 101)]
        other = Ledger(journal, setup_of("host", "another", "chat"), tariff(), 1.0)
        assert (other.taken, other.samples, other.requests) == (set(), [], 3)  # but its money is spent
        assert other.spent == found.spent


@given(st.lists(st.tuples(st.integers(1, 4000), st.integers(1, 500), st.booleans()), max_size=40))
def test_no_order_of_events_passes_the_budget(tmp_path_factory: pytest.TempPathFactory, requests: Any) -> None:
    path = tmp_path_factory.mktemp("ledger") / "s.jsonl"
    true = 0.0
    with Journal(path) as journal:
        for number, (prompt, output, comes) in enumerate(requests):
            found = Ledger(journal, setup_of("host", "m", "chat"), tariff(), 0.02)  # restarted each time
            found.next((number, (prompt, output)))
            try:
                found.reserve(2 * prompt, 2 * output)
            except BudgetSpent:
                continue
            true += tariff().dollars(prompt, output) or 0.0
            if comes:
                found.settle(reply(prompt, output))
            assert true <= found.spent * (1 + 1e-12)  # sums of other orders
            assert found.spent <= 0.02


# --- asking


class Scripted:
    """An endpoint that does as it is told."""

    def __init__(self, script: list[Any]) -> None:
        self.script, self.asked, self.calibrated = script, [], 0
        self.refuses: list[EndpointError] = []

    def calibrate(self) -> None:
        self.calibrated += 1
        if self.refuses:
            raise self.refuses.pop(0)

    def request(self, prompt_tokens: int, output_tokens: int) -> None:
        self.asked.append((prompt_tokens, output_tokens))
        step = self.script.pop(0) if self.script else None
        if step is not None:
            raise step


def asked(
    script: list[Any], count: int, tmp_path: Path, seconds: float = 0.0, refuses: Any = ()
) -> tuple[Any, Scripted, list[float]]:
    endpoint, slept, now = Scripted(script), [], [0.0]
    endpoint.refuses = list(refuses)

    def sleep(pause: float) -> None:
        slept.append(pause)
        now[0] += pause

    repeats = [(number, (32, 1)) for number in range(count)]
    found = ask(
        endpoint,  # type: ignore[arg-type]
        ledger(tmp_path / "s.jsonl"), repeats, seconds, clock=lambda: now[0], sleep=sleep,
    )  # fmt: skip
    return found, endpoint, slept


def test_requests_are_spread_over_the_time(tmp_path: Path) -> None:
    found, endpoint, slept = asked([], 4, tmp_path, seconds=60.0)
    assert found == Stopped(None)
    assert (len(endpoint.asked), endpoint.calibrated, slept) == (4, 1, [15.0, 15.0, 15.0])


def test_failures_are_passed_over_and_told(tmp_path: Path) -> None:
    late = EndpointError("429: slowly", retry_after=7.0)
    found, endpoint, slept = asked([late, None, EndpointError("500: no")], 5, tmp_path)
    assert found == Stopped(None, 2, "500: no")
    assert (len(endpoint.asked), slept) == (5, [7.0, 1.0])


def test_many_failures_end_it(tmp_path: Path) -> None:
    found, endpoint, _ = asked([EndpointError("500: no")] * 9, 20, tmp_path)
    assert found == Stopped("5 requests failed one after the other", 5, "500: no")
    assert len(endpoint.asked) == 5


def test_a_failure_while_calibrating_does_not_end_it(tmp_path: Path) -> None:
    found, endpoint, slept = asked([], 3, tmp_path, refuses=[EndpointError("429: slowly", retry_after=2.0)] * 2)
    assert found == Stopped(None, 2, "429: slowly")
    assert (endpoint.calibrated, len(endpoint.asked), slept) == (3, 3, [2.0, 2.0])


def test_many_failures_while_calibrating_do(tmp_path: Path) -> None:
    found, endpoint, _ = asked([], 3, tmp_path, refuses=[EndpointError("500: no")] * 9)
    assert found == Stopped("5 requests failed one after the other", 5, "500: no")
    assert not endpoint.asked


def test_what_will_never_do_ends_it_at_once(tmp_path: Path) -> None:
    with pytest.raises(EndpointError, match="401"):
        asked([EndpointError("401: no", fatal=True)], 5, tmp_path)


def test_no_money_ends_it(tmp_path: Path) -> None:
    found, _, _ = asked([BudgetSpent("the next one may cost too much")], 5, tmp_path)
    assert found == Stopped("the next one may cost too much", money=True)


# --- the estimate


def events(truth: Truth, contention: Contention, rounds: int, *, buffered: bool = False, seed: int = 1) -> list[Sample]:
    """The replies of a probe, without the sockets."""
    rng, found = random.Random(seed), []
    for number, (_, (prompt, output)) in enumerate(schedule(points(SIZES, OUTPUTS), rounds, (), rng)):
        wait, of_prompt, of_output = contention.meets(rng, number * 0.2)
        first = truth.overhead + truth.prompt_seconds(prompt) * of_prompt * rng.gauss(1, 0.01) + wait
        seconds = first + (output - 1) * truth.beta * of_output * rng.gauss(1, 0.01)
        pace = None if output == 1 or buffered else (seconds - first) / (output - 1)
        at = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=5 * number)
        event = RequestEvent(
            id=f"{number}", model="m", upstream="u", stream=True, status=200, ended_at=at,
            prompt_tokens=prompt, completion_tokens=output, usage_source="upstream", raw_runtime_seconds=seconds,
            time_to_first_token_seconds=seconds if buffered else first, time_per_output_token_seconds=pace,
            chunk_gaps=None if buffered else {"count": output + 1},
        )  # fmt: skip
        found.append(Sample((prompt, output), event))
    return found


@pytest.mark.parametrize("buffered", [False, True], ids=["stream", "buffered"])
@pytest.mark.parametrize("truth", [Truth(), Truth(overhead=0.06, beta=0.01, hump=0.2)], ids=["smooth", "humped"])
def test_the_truth_is_found_under_contention(truth: Truth, buffered: bool) -> None:
    found = probed("u", "m", events(truth, Contention(), 20, buffered=buffered), 0.05).baseline
    assert found is not None
    assert found.basis == ("whole" if buffered else "stream")
    assert found.per_output_token == pytest.approx(truth.beta, rel=0.05)
    function = prompt_function(found.coefficients)
    for size in SIZES:
        assert function(size) + found.overhead == pytest.approx(truth.seconds(size, 1), rel=0.05)
    assert found.knots[0] == 1
    assert found.prompt_seconds[0] == pytest.approx(found.per_output_token)  # F(1) := beta
    assert list(found.prompt_seconds) == sorted(found.prompt_seconds)


def test_repeats_bend_the_curve_where_the_truth_is_bent() -> None:
    truth = Truth(hump=0.3)
    samples = events(truth, Contention(quiet=1.0), 20)
    found = probed("u", "m", samples, 0.05).baseline
    assert found is not None
    errors = [prompt_function(found.coefficients)(p) + found.overhead - truth.seconds(p, 1) for p in SIZES]
    assert max(abs(error) / truth.seconds(p, 1) for error, p in zip(errors, SIZES, strict=True)) < 0.05


def test_an_edge_is_the_mean_of_those_near_the_least() -> None:
    assert edge([2.0, 1.02, 1.0, 1.04, 9.0]) == pytest.approx(1.01)
    assert edge([3.0]) == 3.0


@given(st.lists(st.floats(0.001, 1e3), min_size=1, max_size=50), st.floats(1.0, 9.0))
def test_what_was_held_up_more_moves_no_edge(values: list[float], longer: float) -> None:
    found = edge(values)
    assert min(values) <= found <= min(values) * 1.03 * (1 + 1e-9)
    assert edge([*values, min(values) * 1.04 * longer]) == pytest.approx(found)


def test_a_first_chunk_that_was_read_late_makes_no_output_token_too_quick() -> None:
    samples = events(Truth(), ALONE, 20)
    late = [
        sample._replace(event=_with(sample.event, time_to_first_token_seconds=_late(sample.event)))
        for sample in samples
    ]
    found = probed("u", "m", late, 0.05).baseline
    assert found is not None
    assert found.per_output_token == pytest.approx(0.004, rel=0.02)


def _late(event: RequestEvent) -> float:
    first, whole = event.time_to_first_token_seconds, event.raw_runtime_seconds
    assert first is not None
    assert whole is not None
    return first + 0.3 * (whole - first)


def test_no_prompt_takes_longer_than_a_larger_one() -> None:
    samples = [
        sample._replace(event=_with(sample.event, raw_runtime_seconds=2.0)) if sample.point == (256, 1) else sample
        for sample in events(Truth(), ALONE, 20)
    ]
    found = probed("u", "m", samples, 0.05).baseline
    assert found is not None
    assert found.overhead + prompt_function(found.coefficients)(256) <= 1.02 * Truth().seconds(512, 1)


def test_a_provider_that_gives_two_tokens_for_one_is_no_slower_at_the_first() -> None:
    truth = Truth()
    samples = [
        sample._replace(event=_with(
            sample.event, completion_tokens=2, raw_runtime_seconds=sample.event.raw_runtime_seconds + truth.beta
        )) if sample.point and sample.point[1] == 1 else sample
        for sample in events(truth, ALONE, 20)
    ]  # fmt: skip
    found = probed("u", "m", samples, 0.05).baseline
    assert found is not None
    for size in SIZES:
        assert found.overhead + prompt_function(found.coefficients)(size) == pytest.approx(
            truth.seconds(size, 1), rel=0.05
        )


def test_one_token_alone_leaves_beta_to_the_denoiser() -> None:
    samples = [sample for sample in events(Truth(), ALONE, 40) if sample.point and sample.point[1] == 1]
    found = probed("u", "m", samples, 0.05).baseline
    assert found is not None
    assert list(found.prompt_seconds) == sorted(found.prompt_seconds)


def test_the_same_replies_give_the_same_coefficients() -> None:
    samples = events(Truth(), Contention(), 12)
    assert probed("u", "m", samples, 0.05) == probed("u", "m", samples, 0.05)


def test_a_stream_in_bursts_tells_its_whole_duration_only() -> None:
    samples = [
        sample._replace(event=_with(sample.event, chunk_gaps={"count": sample.event.completion_tokens // 8 + 1}))
        for sample in events(Truth(), ALONE, 20)
    ]
    found = probed("u", "m", samples, 0.05).baseline
    assert found is not None
    assert found.basis == "whole"


def _with(event: RequestEvent, **more: Any) -> RequestEvent:
    return type(event)(**{**{name: getattr(event, name) for name in event.__struct_fields__}, **more})


def test_prompts_from_a_cache_are_told_and_a_cached_template_is_none() -> None:
    samples = events(Truth(), ALONE, 20)
    some = [sample._replace(event=_with(sample.event, cached_tokens=30)) for sample in samples]
    found = probed("u", "m", some, 0.05)
    small = sum(sample.point[0] < 600 for sample in samples if sample.point)
    assert found.cached == small


def test_a_provider_that_is_never_alone_is_not_known_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("profiler.probe_fit.MOST_UNCERTAIN", MOST_UNCERTAIN)
    found = probed("u", "m", events(Truth(), Contention(quiet=0.02, tail=1.1, slower=4.0, wait_seconds=0.2), 20), 0.05)
    assert found.baseline is not None
    assert not found.sure


def test_too_little_says_what_is_missing_and_shows_what_there_is() -> None:
    found = probed("u", "m", events(Truth(), ALONE, 2), 0.05)
    assert found.baseline is None
    assert found.missing == "not enough: 6 of 30 streams that tell the time per output token, 18 of 60 whole durations"
    assert [each.replies for each in found.seen] == [2] * 9
    assert probed("u", "m", [], 0.05).seen == ()


# --- the command


@pytest.fixture
def any_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    """How well so quick a server can be known depends on how busy this machine is, and is no test's affair."""
    monkeypatch.setattr("profiler.probe_fit.MOST_UNCERTAIN", math.inf)


pytestmark = pytest.mark.usefixtures("any_precision")


def rows(path: Path, stack: str) -> Any:
    found = {each.name: each for each in read_table(path).stacks}[stack]
    assert found.kind == "denoised"
    assert all((found.hardware, found.software, found.date, found.source))
    return found.rows[MODEL]


def test_a_probe_end_to_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    results = ["--out", "box.json", "--baselines", "baselines.json"]
    with running(box()) as server:
        assert main(["probe", server.url, *PRICE, *QUICK, "--yes", *results, "--stack", "box"]) == 0
        out, err = capsys.readouterr()
        asked = len(server.requests)
        assert re.match(
            rf"{MODEL} at 127.0.0.1:{server.port}: 75 requests and 2 to calibrate, over 0 min\n"
            r"about 6,240 prompt and 525 output tokens\n"
            r"about \$0\.0177, at \$2 and \$10 a million tokens of either, as you say\n"
            r"never more than \$1, of which \$0\.0000 is spent\n",
            out,
        )
        assert err == ""
        assert main(["probe", server.url, *PRICE, *QUICK, "--yes", *results, "--stack", "box"]) == 0  # nothing is left
        assert len(server.requests) == asked + 1  # to know the model's name
        assert "all was asked for already (78 requests)" in capsys.readouterr().out
        host = f"127.0.0.1:{server.port}"
    row = rows(tmp_path / "box.json", "box")
    assert row.coefficients.knots[0] == 1
    assert row.fit.points == 5
    assert row.intervals["level"] == 0.95
    assert main(["check", "box.json"]) in {0, 1}  # noise may look odd: precision is for tests/prove/probe.py
    assert "1 row" in capsys.readouterr().out
    assert (
        main(["estimate", "--table", "box.json", "--model", MODEL, "--prompt-tokens", "64", "--output-tokens", "8"])
        == 0
    )
    assert float(capsys.readouterr().out) > 0
    assert load_baselines(tmp_path / "baselines.json")[host, MODEL].n == 77
    kinds = [entry["kind"] for entry in read_journal(tmp_path / f"probe-{MODEL}.jsonl")]
    assert (kinds.count("asked"), kinds.count("run")) == (78, 77)


def test_its_baselines_denoise_recorded_events(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with running(box()) as server:
        arguments = ["--free", *QUICK, "--upstream", "mine", "--baselines", "b.json"]
        assert main(["probe", server.url, *arguments]) == 0
    capsys.readouterr()
    event = RequestEvent(
        model=MODEL, upstream="mine", prompt_tokens=64, completion_tokens=8, status=200, raw_runtime_seconds=0.5
    )
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(encode_event(event) + b"\n"))))
    assert stream_main(["enrich", "--baselines", "b.json"]) == 0
    enriched = json.loads(capsys.readouterr().out)
    assert enriched["denoised_runtime_seconds"] == pytest.approx(
        load_baselines(tmp_path / "b.json").runtime(("mine", MODEL))(64, 0, 8)
    )
    assert enriched["contention_factor"] > 1


def test_a_table_is_added_to(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, samples = tmp_path / "t.json", ["--samples", str(tmp_path / "s.jsonl")]
    with running(box()) as server:
        for stack in ("one", "two"):
            assert main(["probe", server.url, "--free", *QUICK, *samples, "--out", str(out), "--stack", stack]) == 0
    assert rows(out, "one").coefficients == rows(out, "two").coefficients
    assert load_tables([out], stack="one", any_kind=True).row("one", MODEL, None, None) is not None


def test_the_budget_ends_it_and_what_is_known_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [*PRICE, *QUICK, "--yes", "--budget", "0.01", "--samples", str(tmp_path / "s.jsonl")]
    with running(box()) as server:
        assert main(["probe", server.url, *arguments]) == 3
        out, err = capsys.readouterr()
        assert server.billed.dollars(2, 10) <= 0.01
        assert "warning: the budget is spent: the next request may cost $0.00" in err
        assert "warning: no coefficients: not enough: " in err
        assert re.search(r"^ +\d+ +1 +\d+ +0\.0", out, re.MULTILINE)
        before = server.billed.requests
        assert main(["probe", server.url, *arguments]) == 3
        assert server.billed.requests == before
        assert main(["probe", server.url, *arguments[:-4], "--samples", str(tmp_path / "s.jsonl")]) == 0
        assert server.billed.requests == 79  # twice two that calibrate


@pytest.mark.parametrize(
    "manners",
    [{"fails": 0.3}, {"longer": 1.7, "longer_share": 0.3}, {"longer": 4.0}, {"longer": 3.0, "burst": 0}, {"busy": 0.3}],
    ids=["fails", "longer", "far-longer", "longer-at-once", "busy"],
)
def test_nothing_that_a_provider_does_passes_the_budget(
    tmp_path: Path, manners: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("profiler.probe._AFTER_FAILURE", 0.0)
    arguments = [*PRICE, *QUICK, "--yes", "--budget", "0.006", "--samples", str(tmp_path / "s.jsonl")]
    with running(box(**manners)) as server:
        status = main(["probe", server.url, "--model", MODEL, *arguments])
        assert status in {1, 3}
        assert 0 < server.billed.dollars(2, 10) <= 0.006


def test_no_price_no_probe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    with running(box()) as server:
        assert main(["probe", server.url, "--yes"]) == 2
        assert not server.billed.requests
    assert capsys.readouterr().err == (
        f"profiler probe: no price is known of 'box-1' at 127.0.0.1:{server.port}: give --dollars-per-million PROMPT"
        " OUTPUT, or --free if the server is your own\n"
    )
    assert not list(tmp_path.iterdir())


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("answer", "status"), [("y\n", 0), ("n\n", 1), ("", 1)])
def test_it_asks_before_it_spends(
    answer: str, status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", Terminal(answer))
    with running(box()) as server:
        assert main(["probe", server.url, *PRICE, *QUICK, "--samples", str(tmp_path / "s.jsonl")]) == status
        assert bool(server.billed.requests) == (status == 0)
    assert "Spend it? [y/N] " in capsys.readouterr().out


def test_nobody_there_to_ask(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    with running(box()) as server:
        assert main(["probe", server.url, *PRICE, *QUICK, "--samples", str(tmp_path / "s.jsonl")]) == 2
        assert not server.billed.requests
    assert capsys.readouterr().err == "profiler probe: nobody is there to say yes to that: give --yes\n"


def test_the_key_comes_from_the_environment_and_goes_nowhere_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BOX_KEY", "sk-secret-0123456789")
    with running(box(key="sk-secret-0123456789")) as server:
        arguments = ["probe", server.url, *QUICK, "--free", "--out", "t.json", "--baselines", "b.json"]
        assert main([*arguments, "--key-env", "BOX_KEY"]) == 0
        assert main(["probe", server.url, "--free", "--model", MODEL]) == 1
    out, err = capsys.readouterr()
    assert "401: it wants a key (--key-env NAME" in err
    kept = "".join(path.read_text() for path in tmp_path.iterdir())
    assert "secret" not in out + err + kept


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give the URL of a server, or --events FILE"),
        (["http://h", "--events", "e.jsonl"], "give a URL or --events, not both"),
        (["http://h", "--quantile", "0.5"], "--quantile: 0.5 is not between 0.01 and 0.25"),
        (["http://h", "--minutes", "-1"], "--minutes: -1 is not between 0 and 10000"),
        (["http://h", "--minutes", "nan"], "--minutes: nan is not between 0 and 10000"),
        (["http://h", "--budget", "0"], "--budget: 0 dollars pay for nothing"),
        (["http://h", "--budget", "nan"], "--budget: nan dollars pay for nothing"),
        (["http://h", "--timeout", "0"], "--timeout: 0 s is no time for a reply"),
        (["http://h", "--rounds", "0"], "argument --rounds: '0' is no number of rounds from 1 to 10000"),
        (["http://h", "--prompt-tokens", "32,x"], "argument --prompt-tokens: '32,x': expected whole numbers from 1 on"),
        (["http://h", "--key-env", "NOT_SET_AT_ALL"], "--key-env: no environment variable of that name holds a key"),
        (["http://h", "--key-env", "sk-a-key"], "--key-env: no environment variable of that name holds a key (it wants"),
        (["http://h", "--free", "--dollars-per-million", "1", "2"], "not allowed with argument --free"),
        (["--events", "missing.jsonl"], "missing.jsonl: No such file or directory"),
        (["--events", "missing.jsonl", "--window", "soon"], "--window: 'soon' is no duration"),
        (["h", "--free"], "'h' does not begin with http:// or https:// (the endpoint's URL)"),
    ],
)  # fmt: skip
def test_wrong_use_is_one_line(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    try:
        status = main(["probe", *arguments])
    except SystemExit as error:
        status = error.code  # type: ignore[assignment]
    assert status in {1, 2}
    err = capsys.readouterr().err
    assert err.startswith("profiler probe: ")
    assert message in err
    assert err.count("\n") == 1
    assert "sk-a-key" not in err


def test_a_negative_price_is_no_price(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with running(box()) as server:
        assert main(["probe", server.url, "--dollars-per-million", "-1", "2", "--yes"]) == 2
        assert not server.billed.requests
    assert capsys.readouterr().err.count("\n") == 1


def test_a_full_disk_stops_it_before_it_spends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(self: Journal, entry: Any) -> None:
        from profiler.journal import JournalError

        raise JournalError(f"{self.path}: cannot be written: No space left on device")

    monkeypatch.setattr(Journal, "append", full)
    with running(box()) as server:
        assert main(["probe", server.url, *PRICE, "--yes", "--samples", str(tmp_path / "s.jsonl")]) == 2
        assert not server.billed.requests
    assert "No space left on device" in capsys.readouterr().err


# --- from recorded events


def recorded(tmp_path: Path, count: int = 400, **more: Any) -> Path:
    rng, lines = random.Random(3), []
    truth = Truth()
    for number in range(count):
        prompt, output = rng.randint(50, 3000), rng.randint(10, 200)
        factor = max(1.0, rng.lognormvariate(0, 0.3))
        first, pace = (truth.overhead + truth.prompt_seconds(prompt)) * factor, truth.beta * factor
        event = RequestEvent(
            id=f"{number}", model=("a/b", "c")[number % 2], upstream="up", stream=True, status=200,
            ended_at=datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=30 * number),
            prompt_tokens=prompt, completion_tokens=output, usage_source="upstream",
            raw_runtime_seconds=first + pace * (output - 1), time_to_first_token_seconds=first,
            time_per_output_token_seconds=pace, chunk_gaps={"count": output + 1}, **more,
        )  # fmt: skip
        lines.append(encode_event(event))
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"\n".join(lines) + b"\n")
    return path


def test_recorded_events_instead_of_calls(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, base = tmp_path / "t.json", tmp_path / "b.json"
    path = recorded(tmp_path)
    assert main(["probe", "--events", str(path), "--out", str(out), "--baselines", str(base)]) == 0
    assert re.match(r"a/b at up: \d+ requests\nbeta      (3\.9|4\.0)", capsys.readouterr().out)
    (stack,) = read_table(out).stacks
    assert (stack.name, stack.kind, sorted(stack.rows)) == ("up", "denoised", ["a/b", "c"])
    for row in stack.rows.values():
        assert row.coefficients.per_output_token == pytest.approx(0.004, rel=0.05)
    assert main(["check", str(out)]) == 0
    assert "0 errors, 0 warnings" in capsys.readouterr().out
    assert set(load_baselines(base)) == {("up", "a/b"), ("up", "c")}


def test_of_one_model_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, path = tmp_path / "t.json", recorded(tmp_path)
    assert main(["probe", "--events", str(path), "--model", "c", "--upstream", "up", "--out", str(out)]) == 0
    assert list(read_table(out).stacks[0].rows) == ["c"]
    assert main(["probe", "--events", str(path), "--model", "d"]) == 1
    assert "events.jsonl: no events of that upstream or model" in capsys.readouterr().err


def test_too_few_events_say_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["probe", "--events", str(recorded(tmp_path, 20)), "--model", "c"]) == 1
    assert "warning: up c: not enough: 10 of 30 streams" in capsys.readouterr().err


def test_lines_that_are_no_events_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = recorded(tmp_path)
    path.write_bytes(b"no event\n" + path.read_bytes())
    assert main(["probe", "--events", str(path)]) == 1
    captured = capsys.readouterr()
    assert '"line":1' in captured.err
    assert "c at up: " in captured.out


def test_failed_and_cached_requests_tell_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["probe", "--events", str(recorded(tmp_path, error_class="truncated"))]) == 1
    assert "no completed request yet" in capsys.readouterr().err


def test_help_needs_no_server_and_no_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["probe", "--help"])
    assert caught.value.code == 0
    assert "--budget" in capsys.readouterr().out
