"""`stream whatif`: by hand, its laws, growth, what is left out, and wrong use; and 19,366 requests as Azure's trace has."""

import csv
import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.coefficients import Tables, load_tables
from stream.events import RequestEvent
from stream.prices import Bill
from stream.recording import Recording
from stream.whatif import MONTH_SECONDS, Question, what_if
from stream.whatif_answer import Amount, Answered, WhatIf, WhatIfError, decode_what_if, encode_what_if
from stream.whatif_notes import assumptions

ROOT = Path(__file__).parents[2]
EXTRACT = ROOT / "gateway" / "replay_data" / "azure_conv_extract.csv"
START = datetime(2026, 1, 31, 12, tzinfo=UTC)
BILL = Bill(0.5, "gpt", None)
NO_PRICE = Bill(None, None, "unknown_price")

# T(p, o) = p / 100 + (o - 1) / 10 s on 2 accelerators of 3.6 dollars an hour: of (100, 11), 2 s and 0.004 dollars.
ROW = {
    "runtime_per_output_token": 0.1,
    "runtime_for_prompt_tokens": {"100": 1.0, "200": 2.0},
    "intervals": {"runtime": [0.5, 2.0]},
    "accelerators": 2,
    "flops": {"per_token": 10.0, "per_output_token": 3.0, "per_pair": 0.0},
    "watts": {"prompt": 300.0, "output": 100.0, "interval": [1.0, 1.0]},
}
# A quarter as long a share of four at once is as fast as one alone; of half as long, half as fast.
SHARE = {"runtime_per_output_token": 0.05, "runtime_for_prompt_tokens": {"100": 0.5, "200": 1.0}}
SERVED = {**ROW, "served": {"batch": 4, **SHARE}}
NAMELESS = {key: value for key, value in ROW.items() if key != "accelerators"}
STACK = {
    "dollars_per_accelerator_hour": 3.6,
    "models": {"own/alone": ROW, "own/served": SERVED, "own/nameless": NAMELESS},
}
CONSTANTS = {
    "server_power_factor": 1.5,
    "pue": {"value": 2.0, "low": 1.0, "high": 4.0, "source": "a guess"},
    "site_water_litres_per_kwh": 1.0,
    "regions": {"here": {"carbon_grams_per_kwh": 360.0, "water_litres_per_kwh": 4.0}},
    "region": "here",
}


@cache
def own_tables() -> Tables:
    with TemporaryDirectory() as name:
        table, constants = Path(name, "t.json"), Path(name, "c.json")
        table.write_text(json.dumps({"format": 1, "stacks": {"mine": STACK}}))
        constants.write_text(json.dumps(CONSTANTS))
        return load_tables([table], constants=constants)


def recorded(*events: RequestEvent, from_model: str | None = None, bill: Bill = BILL) -> Recording:
    recording = Recording(lambda event: bill, from_model)
    for event in events:
        recording.add(event)
    return recording


def event(at: float | None = 0.0, prompt: int | None = 100, output: int | None = 11, **more: Any) -> RequestEvent:
    moment = None if at is None else START + timedelta(seconds=at)
    given = {"model": "gpt", "duration_seconds": 3.0, **more}
    return RequestEvent(started_at=moment, prompt_tokens=prompt, completion_tokens=output, **given)


def asked(recording: Recording, model: str = "own/served", **more: Any) -> WhatIf:
    return what_if(own_tables(), Question(model, **more), recording)


# --- by hand


def test_three_requests_by_hand() -> None:
    found = asked(recorded(event(2), event(0), event(1)))
    assert (found.model, found.stack, found.requests, found.accelerators_per_instance) == ("own/served", "mine", 3, 2)
    assert (found.prompt_tokens, found.output_tokens) == (300, 33)
    assert found.flops == 3 * (10 * 110 + 3 * 11)
    idealized = found.idealized_seconds
    assert (idealized.total, idealized.mean, idealized.p50, idealized.p95) == pytest.approx((6, 2, 2, 2))
    assert found.recorded_seconds is not None
    assert found.recorded_seconds.total == 9
    assert (found.billed.requests, found.billed.dollars, found.billed.unbilled) == (3, 1.5, {})
    assert found.arrivals is not None
    assert (found.arrivals.first, found.arrivals.last, found.arrivals.per_second) == (
        START,
        START + timedelta(seconds=2),
        1.0,
    )
    alone = found.dedicated
    assert alone.fleet is not None
    assert alone.one_fewer is not None
    assert (alone.batch, alone.fleet.instances, alone.fleet.accelerators) == (1, 2, 4)
    assert (alone.fleet.seconds, alone.fleet.utilisation) == pytest.approx((4, 6 / 8))
    assert alone.fleet.wait_seconds.total == pytest.approx(0, abs=1e-9)
    assert alone.one_fewer.instances == 1
    assert alone.one_fewer.wait_seconds.p95 == pytest.approx(2), "the third waits for two of two seconds"
    assert (alone.accelerators_low, alone.accelerators_high) == (2, 6), "of one second, and of four"
    served = found.served
    assert served is not None
    assert served.fleet is not None
    assert (served.batch, served.fleet.instances, served.fleet.accelerators, served.one_fewer) == (4, 1, 2, None)
    assert (alone.request_seconds.p95, served.request_seconds.p95) == pytest.approx((2, 4))
    assert (served.fleet.seconds, served.fleet.utilisation) == pytest.approx((6, 3 * 4 / (4 * 6)))


def test_costs_by_hand() -> None:
    found = asked(recorded(event(0), event(1)), max_wait_seconds=0.5)
    work = found.dedicated.work
    joules = 2 * 1.5 * 2 * (300 * 1 + 100 * 1)
    expected = {
        "accelerator_seconds": (8.0, 0.5, 2.0),
        "dollars": (0.008, 0.5, 2.0),
        "energy_joules": (joules, 0.5, 2.0),
        "carbon_grams": (2 * joules * 1e-4, 2**-1.414214, 2**1.414214),
    }
    for name, (value, low, high) in expected.items():
        amount = getattr(work, name)
        assert (amount.value, amount.low, amount.high) == pytest.approx((value, value * low, value * high), rel=1e-3)
    assert work.water_litres is not None
    assert work.water_litres.value == pytest.approx(joules / 3.6e6 * (1 + 2 * 4))
    assert found.dedicated.fleet is not None
    assert found.dedicated.fleet.dollars is not None
    assert found.dedicated.fleet.dollars.value == pytest.approx(0.001 * 3 * 4), "four accelerators for three seconds"
    pue = next(each for each in found.assumptions if "PUE" in each.what)
    assert (pue.value, pue.low, pue.high, pue.source) == (2.0, 1.0, 4.0, "a guess")


def test_the_watts_told_are_those_in_use(tmp_path: Path) -> None:
    """On another device than the row's they are the device's mean."""
    path = tmp_path / "c.json"
    path.write_text('{"stacks": {"h100-predicted": {"accelerator": "b200"}}}')
    told = {}
    for constants in (None, path):
        tables = load_tables(stack="h100-predicted", constants=constants)
        row = tables.row("h100-predicted", "llama-3.1-70b")
        assert row is not None
        assert row.watts is not None
        found = [each for each in assumptions(tables, row) if each.what.startswith("watts per accelerator, ")]
        told[constants] = {each.value for each in found}
        assert len(found) == 4
    assert row.watts.prompt in told[None]
    assert told[path] == {tables.constants.accelerators["b200"].mean_watts.value}  # type: ignore[union-attr]


def test_all_choices_are_worked_for_and_the_longest_is_waited_for() -> None:
    found = asked(recorded(event(0, output=22, choices=2)), "own/alone")
    assert found.idealized_seconds.total == pytest.approx(2.0)
    work = found.dedicated.work.accelerator_seconds
    assert work is not None
    assert work.value == pytest.approx(2 * (1 + 2 * 10 * 0.1))


# --- laws

REQUESTS = st.lists(
    st.tuples(st.floats(0, 60), st.integers(1, 300), st.integers(0, 60)).map(lambda each: event(*each)),
    min_size=1,
    max_size=25,
)


def sides(found: WhatIf) -> list[Answered]:
    assert found.served is not None
    return [found.dedicated, found.served]


@given(REQUESTS, st.sampled_from([0.0, 0.5, 1.0, 30.0]))
def test_a_fleet_keeps_the_limit_and_one_fewer_does_not(requests: list[Any], limit: float) -> None:
    for side in sides(asked(recorded(*requests), max_wait_seconds=limit)):
        assert side.fleet is not None
        assert side.fleet.wait_seconds.p95 <= limit
        assert side.accelerators_low is not None
        assert side.accelerators_high is not None
        assert side.accelerators_low <= side.fleet.accelerators <= side.accelerators_high
        assert (side.one_fewer is None) == (side.fleet.instances == 1)
        assert side.one_fewer is None or side.one_fewer.wait_seconds.p95 > limit


@given(REQUESTS)
def test_rent_is_what_the_work_costs_over_the_utilisation(requests: list[Any]) -> None:
    for side in sides(asked(recorded(*requests))):
        work = side.work.dollars
        assert work is not None
        for fleet in filter(None, (side.fleet, side.one_fewer)):
            assert fleet.utilisation is not None
            assert fleet.dollars is not None
            assert 0 < fleet.utilisation <= 1 + 1e-9
            assert fleet.dollars.value * fleet.utilisation == pytest.approx(work.value)


@given(REQUESTS, st.permutations(range(25)))
def test_the_order_of_the_events_is_of_no_matter(requests: list[Any], order: list[int]) -> None:
    first = {each.started_at: each for each in requests}  # at the same moment who comes first is served first
    shuffled = [list(first.values())[place] for place in order if place < len(first)]
    found, again = (asked(recorded(*each)) for each in (first.values(), shuffled))
    assert encode_what_if(found) == encode_what_if(again)


@given(REQUESTS)
def test_what_is_written_can_be_read(requests: list[Any]) -> None:
    found = asked(recorded(*requests), growth=0.2, months=3)
    assert decode_what_if(encode_what_if(found)) == found


# --- growth


def test_growth_is_more_requests_in_the_same_time() -> None:
    requests = [event(each * 0.7, 100 + each % 50, 5 + each % 17) for each in range(400)]
    found = asked(recorded(*requests), growth=0.1)
    assert [each.month for each in found.months] == [0, 3, 6, 9, 12]
    assert [each.factor for each in found.months] == pytest.approx([1.1**month for month in (0, 3, 6, 9, 12)])
    now, *_, then = found.months
    assert now.requests == pytest.approx(MONTH_SECONDS / 0.7)
    assert then.requests == pytest.approx(now.requests * 1.1**12)
    for name, side in (("dedicated", found.dedicated), ("served", found.served)):
        assert side is not None
        assert side.fleet is not None
        grown = [getattr(each, name) for each in found.months]
        assert grown[0].accelerators == side.fleet.accelerators
        assert [each.accelerators for each in grown] == sorted(each.accelerators for each in grown)
        for month, each in zip(found.months, grown, strict=True):
            assert each.accelerators_low <= each.accelerators <= each.accelerators_high
            assert each.work.dollars.value == pytest.approx(side.work.dollars.value / 400 * month.requests)
            assert each.rent_dollars.value == pytest.approx(each.accelerators * MONTH_SECONDS * 0.001)
            assert each.rent_dollars.low < each.rent_dollars.value < each.rent_dollars.high


def test_growth_may_be_less_than_nothing_and_of_one_month() -> None:
    requests = [event(each * 0.5) for each in range(100)]
    shrunk = asked(recorded(*requests), growth=-0.5, months=1)
    assert [(each.month, each.factor) for each in shrunk.months] == [(0, 1.0), (1, 0.5)]
    assert shrunk.months[1].dedicated.accelerators < shrunk.months[0].dedicated.accelerators
    assert asked(recorded(*requests)).months == ()
    assert asked(recorded(event(0), event(0)), growth=0.1).months == (), "no rate to grow from"


def test_a_recording_too_short_to_say_is_told() -> None:
    requests = [event(each * 0.5) for each in range(100)]
    notes = asked(recorded(*requests), growth=0.5).notes
    assert (
        "The recording is short against a request's own time (from month 3 on): its fleets are lower bounds." in notes
    )
    assert any("(now)" in note for note in asked(recorded(event(0))).notes)
    assert not any("short" in note for note in asked(recorded(*requests)).notes)


# --- which requests


def test_who_is_left_out_is_counted_by_reason() -> None:
    recording = recorded(
        event(0),
        event(1, served_model="own"),
        event(2, status=500),
        event(3, error_class="client_closed"),
        event(4, None),
        event(5, output=None),
        event(6, output=None, route="/v1/embeddings"),
        event(7, backpressure_seconds=3.0),
        event(8, model="other"),
        from_model="gpt",
    )
    found = asked(recording)
    assert found.requests == 3, "a slow reader's request was completed all the same"
    assert found.left_out == {
        "status_500": 1,
        "client_closed": 1,
        "prompt_tokens_unknown": 1,
        "completion_tokens_unknown": 1,
        "embedding": 1,
        "other_model": 1,
    }
    assert found.models == {"gpt": 3}
    assert recorded(event(served_model="x"), from_model="x").shapes
    assert recorded(event(upstream_model="x"), from_model="x").shapes


def test_many_models_are_folded() -> None:
    found = asked(recorded(*(event(each, model=f"m{min(each, 11):02}") for each in range(20))))
    assert found.models == {"m11": 9, **{f"m{each:02}": 1 for each in range(9)}, "other": 2}


def test_what_has_no_price_is_counted() -> None:
    billed = asked(recorded(event(0), event(1), bill=NO_PRICE)).billed
    assert (billed.requests, billed.dollars, billed.unbilled) == (0, None, {"unknown_price": 2})


def test_without_timestamps_only_the_work_is_counted() -> None:
    found = asked(recorded(event(None), event(None)), growth=0.1)
    assert found.arrivals is None
    assert (found.dedicated.fleet, found.dedicated.one_fewer, found.months) == (None, None, ())
    assert found.dedicated.work.dollars is not None
    assert found.dedicated.work.dollars.value == pytest.approx(0.008)
    assert "No request says when it started: the work is counted, a fleet cannot be." in found.notes
    some = asked(recorded(event(None), event(1)))
    assert some.dedicated.fleet is not None
    assert some.dedicated.fleet.wait_seconds.requests == 1
    assert "1 request does not say when it started: counted as work, absent from the fleets." in some.notes


def test_of_a_row_that_tells_little_the_rest_is_null() -> None:
    found = asked(recorded(event(0), event(1, prompt=300)), "own/alone")
    assert (found.served, found.extrapolated) == (None, 1)
    assert any("only one at a time" in note for note in found.notes)
    assert "50.0% of the prompts are longer than any that the coefficients come from: extrapolated." in found.notes
    davinci = what_if(load_tables(), Question("davinci", growth=0.1), recorded(event(0), event(1)))
    assert davinci.row == "openai/davinci"
    assert davinci.dedicated.work.energy_joules is not None


def test_a_row_that_is_assumed_says_so() -> None:
    tables = load_tables(stack="h100-predicted", assume={"gpt-x": "llama-3.1-8b"})
    found = what_if(tables, Question("gpt-x"), recorded(event(0)))
    assert (found.row, found.provenance) == ("meta-llama/llama-3.1-8b", "assumed")
    assert "The runtimes of meta-llama/llama-3.1-8b are assumed." in found.notes


# --- wrong use


@pytest.mark.parametrize(
    ("model", "events", "from_model", "said"),
    [
        ("own/servd", [event()], None, "unknown model 'own/servd' on stack mine: there are own/served"),
        (
            "gpt-9",
            [event()],
            None,
            "unknown model 'gpt-9' on stack mine: there are own/alone, own/served, own/nameless",
        ),
        ("own/nameless", [event()], None, "own/nameless on stack mine: it is not known on how many accelerators it"),
        ("own/alone", [], None, "no events: nothing was read from standard input"),
        ("own/alone", [event(model="a\n")], "b", "no request was for 'b' (--from-model): there are a\ufffd"),
        ("own/alone", [event(status=500), event(0, None)], None, "no completed request whose tokens are known: 1 sta"),
    ],
    ids=["near", "far", "accelerators", "empty", "from", "none complete"],
)
def test_what_cannot_be_answered_is_one_clear_line(
    model: str, events: list[RequestEvent], from_model: str | None, said: str
) -> None:
    with pytest.raises(WhatIfError) as caught:
        asked(recorded(*events, from_model=from_model), model)
    assert str(caught.value).startswith(said)
    assert "\n" not in str(caught.value)


def test_a_model_of_another_stack_is_pointed_to() -> None:
    with pytest.raises(WhatIfError, match=r"but h100-predicted has it: --stack h100-predicted$"):
        what_if(load_tables(), Question("llama-3.1-8b"), recorded(event()))


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"kind": "what-if"}', b'{"kind": 1}', b"\xff", b"[" * 5000])
def test_what_is_no_answer_is_refused_in_one_line(data: bytes) -> None:
    with pytest.raises(WhatIfError, match=r"^expected what `stream whatif` prints: .+$"):
        decode_what_if(data)


# --- the command


def command(*arguments: str, given: bytes) -> subprocess.CompletedProcess[bytes]:
    whole = [sys.executable, "-m", "stream.cli", "whatif", *arguments]
    return subprocess.run(whole, input=given, capture_output=True, cwd=ROOT, check=False)


def azure(number: int) -> bytes:
    """As many requests as asked for, of the shape of Azure's trace: an hour of a production service."""
    lines = [line for line in EXTRACT.read_text().splitlines() if not line.startswith("#")]
    rows = list(csv.DictReader(lines))
    moments = [datetime.fromisoformat(f"{row['TIMESTAMP'][:26]}+00:00") for row in rows]
    whole = moments[-1] - moments[0]
    events = (
        {
            "model": "gpt-4o",
            "prompt_tokens": int(rows[place % 400]["ContextTokens"]),
            "completion_tokens": int(rows[place % 400]["GeneratedTokens"]),
            "started_at": (moments[place % 400] + place // 400 * whole).isoformat(),
        }
        for place in range(number)
    )
    return b"\n".join(json.dumps(each).encode() for each in events)


def test_an_hour_of_a_production_service() -> None:
    options = ("--stack", "h100-predicted", "--model", "llama-3.1-8b", "--max-wait", "2", "--growth", "0.1")
    done = command(*options, given=azure(19_366))
    assert (done.returncode, done.stderr) == (0, b"")
    found = decode_what_if(done.stdout)
    assert (found.requests, found.max_wait_seconds, len(found.months)) == (19_366, 2.0, 5)
    assert found.dedicated.fleet is not None
    assert found.dedicated.fleet.wait_seconds.p95 <= 2.0
    assert found.dedicated.one_fewer is not None
    assert found.dedicated.one_fewer.wait_seconds.p95 > 2.0
    assert isinstance(found.dedicated.work.dollars, Amount)


def test_lines_that_cannot_be_read_are_told() -> None:
    good = b'{"model":"m","prompt_tokens":100,"completion_tokens":11,"started_at":"2026-01-31T12:00:00Z"}'
    done = command("--model", "davinci", given=b"%b\n{bad\n%b\n" % (good, good))
    assert done.returncode == 1
    assert json.loads(done.stderr)["line"] == 2
    assert json.loads(done.stdout)["requests"] == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--max-wait", "-1"], "--max-wait: expected seconds, 0 or more, found -1"),
        (["--max-wait", "nan"], "--max-wait: expected seconds, 0 or more, found nan"),
        (["--growth", "10"], "--growth: expected -0.9 to 1 (0.1: 10% more a month), found 10"),
        (["--growth", "0.1", "--months", "0"], "--months: expected 1 to 120, found 0"),
        (["--stack", "h200"], "unknown stack 'h200': there are a100-megatron, "),
        ([], "no events: nothing was read from standard input"),
    ],
    ids=["wait", "no wait", "growth", "months", "stack", "empty"],
)
def test_wrong_use_is_one_clear_line(arguments: list[str], said: str) -> None:
    done = command("--model", "davinci", *arguments, given=b"")
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.decode().startswith(f"stream whatif: {said}")
    assert done.stderr.count(b"\n") == 1
