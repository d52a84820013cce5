# ruff: noqa: RUF001 - minus and times signs are meant
"""One request in words: every case there is, and that what is shown adds up."""

import json
import math
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.baselines import Baseline, Baselines, Step
from stream.coefficients import Tables, load_tables
from stream.enrich import enrich
from stream.events import RequestEvent
from stream.explain import Explanation, UnknownStack, explain
from stream.faults import fault
from stream.wording import Scale, amount, count, ratio, seconds, spread

SHIPPED = load_tables()
ENDED = datetime(2026, 11, 21, 16, 0, 5, tzinfo=UTC)
OWN = '{"format": 1, "stacks": {"ref": {"models": {"m": ROW, "closed-like": ROW2}}, "other": {"models": {"m": ROW}}}}'
ROW = '{"runtime_per_output_token": 0.01, "runtime_for_prompt_tokens": {"1": 0.1, "1000": 0.1}'
BASELINE = Baseline(
    version=7, upstream="api.example.com", model="m", per_output_token=0.014, knots=(1, 1000),
    prompt_seconds=(0.05, 0.05), overhead=0.064, n=340, prompt_range=(12, 2000), intervals={"runtime": (0.93, 1.07)},
)  # fmt: skip
RESTS = "The provider's own best (baseline 7) rests on 340 requests to m at api.example.com (streams, prompts of 12 to 2,000 tokens)."
NOT_YET = "The provider's own best is not known yet ({}): until then stack and contention stay one."


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Tables:
    path: Path = tmp_path_factory.mktemp("tables") / "own.json"
    predicted = ROW + ', "provenance": "predicted", "proxy_of": "else", "intervals": {"runtime": [0.8, 1.3]}}'
    path.write_text(OWN.replace("ROW2", predicted).replace("ROW", ROW + "}"))
    return load_tables([path], stack="ref", assume={"closed": "closed-like"})


def event(**fields: Any) -> RequestEvent:
    """Idealized 1.1 s on `ref`, denoised 1.5 s, raw 3.2 s."""
    usual: dict[str, Any] = {
        "id": "0a", "model": "m", "upstream": "api.example.com", "prompt_tokens": 500, "completion_tokens": 101,
        "status": 200, "raw_runtime_seconds": 3.2, "duration_seconds": 3.21, "ended_at": ENDED,
    }  # fmt: skip
    return RequestEvent(**{**usual, **fields})


def explained(tables: Tables, made: RequestEvent, baseline: Baseline | None = BASELINE, **more: Any) -> Explanation:
    baselines = Baselines([] if baseline is None else [baseline])
    found = explain(enrich(made, tables, baselines), tables, baselines.get((made.upstream, made.model)), **more)
    rounding = 1e-12 * sum(abs(part.seconds) for part in found.parts)
    whole = found.raw_seconds if found.parts else 0
    assert sum(part.seconds for part in found.parts) == pytest.approx(whole, abs=max(rounding, 1e-12))
    assert msgspec.json.decode(msgspec.json.encode(found), type=Explanation) == found
    return found


def test_the_usual_case_whole(tables: Tables) -> None:
    found = explained(tables, event())
    assert (
        found.subject == "m at api.example.com, 500 prompt tokens and 101 output tokens, ended 2026-11-21 16:00:05 UTC"
    )
    assert found.sentences == [
        "3.2 s: 1.1 s is the model, 0.4 s the stack, 1.7 s contention; the provider's own best for this size is 1.5 s ± 0.1.",
        "As ratios: slowdown 2.9 = stack 1.4 × contention 2.1.",
    ]
    assert found.text == " ".join(found.sentences)
    assert found.notes == [RESTS]
    assert [(part.part, round(part.seconds, 3)) for part in found.parts] == [
        ("model", 1.1), ("stack", 0.414), ("contention", 1.686),
    ]  # fmt: skip
    assert (found.id, found.stack, found.raw_seconds, found.idealized_seconds) == ("0a", "ref", 3.2, pytest.approx(1.1))
    assert found.denoised_interval == (pytest.approx(0.93 * 1.514), pytest.approx(1.07 * 1.514))


NO_ROW = "No row of any table says what 'x' costs by nature: name its row in `aliases`, a row to stand in for it in `assume`, or give a table with `tables`."
FASTER = "That is faster than idealized: alone on ref the model takes 1.1 s. The speed is the API's: newer hardware, speculative decoding, caching or other optimisation, not the model."
OF_X = msgspec.structs.replace(BASELINE, model="x")
QUICK = msgspec.structs.replace(BASELINE, per_output_token=0.005)
STREAM = {"stream": True, "time_to_first_token_seconds": 0.8, "time_per_output_token_seconds": 0.024}
TRIES = ({"upstream": "u", "status": 503, "error_class": None, "seconds": 1.0}, {"seconds": 3.2})
CASES: dict[str, tuple[dict[str, Any], Baseline | None, list[str], list[str]]] = {
    # the event, its pair's baseline, some of the sentences, and some of the notes
    "no row": (
        {"model": "x"}, OF_X,
        ["3.2 s: 1.5 s is model and stack together, 1.7 s contention; the provider's own best for this size is 1.5 s ± 0.1."],
        [NO_ROW],
    ),
    "a name like one": ({"model": "closed-lik"}, None, [], ["costs by nature (names like it: closed-like): name its row"]),
    "no baseline": (
        {}, None, ["3.2 s: 1.1 s is the model, 2.1 s stack and contention together."],
        [NOT_YET.format("it takes some dozens of completed requests to the same model")],
    ),
    "neither": (
        {"model": "x"}, None, ["3.2 s: what of it is the model, the stack or contention cannot be told."],
        [NO_ROW, "The provider's own best is not known yet"],
    ),
    "faster than idealized": (
        {"raw_runtime_seconds": 0.9}, QUICK,
        ["0.90 s: 1.10 s is the model, −0.49 s the stack, 0.29 s contention; the provider's own best for this size is 0.61 s ± 0.04.", FASTER],
        [],
    ),
    "a provider faster than the reference": (
        {}, QUICK, ["The provider at its best is faster than ref: newer hardware, speculative decoding, caching or other optimisation, not the model."], [],
    ),
    "a little faster than denoised": (
        {"raw_runtime_seconds": 1.45}, BASELINE,
        ["1.45 s: 1.10 s is the model, 0.41 s the stack, −0.06 s contention; the provider's own best for this size is 1.51 s ± 0.11.",
         "It beat the provider's own best of 1.5 s: within what that estimate is good for."],
        [],
    ),
    "much faster than denoised": (
        {"raw_runtime_seconds": 1.2}, BASELINE, ["It beat the provider's own best of 1.5 s: a better moment than it rests on, or a change there."], [],
    ),
    "cached": (
        {"cached_tokens": 400}, BASELINE, [],
        ["400 of 500 prompt tokens came from the provider's cache; idealized encodes all: with only the others it would be 1.1 s on ref."],
    ),
    "cached, of an unknown number": ({"cached_tokens": 400, "prompt_tokens": None}, None, [], ["400 came from the provider's cache; idealized encodes all."]),
    "streamed": (
        STREAM, BASELINE,
        ["The first token came after 800 ms (the provider's own best 110 ms, idealized 100 ms); each further one took 24 ms (the provider's own best 14 ms, idealized 10 ms)."],
        [],
    ),
    "streamed, a prompt partly from the cache, a long context": (
        {**STREAM, "cached_tokens": 400},
        msgspec.structs.replace(BASELINE, prompt_seconds=(0.05, 1.049), context=1e-5),
        ["(the provider's own best 210 ms, idealized 100 ms); each further one took 24 ms (the provider's own best 20 ms, idealized 10 ms)."],
        [],
    ),
    "streamed, nothing to compare": (
        {**STREAM, "model": "x", "time_per_output_token_seconds": None}, None, ["The first token came after 800 ms."], [],
    ),
    "streamed, whole durations only": (
        STREAM, msgspec.structs.replace(BASELINE, basis="whole"),
        ["The first token came after 800 ms (idealized 100 ms); each further one took 24 ms (idealized 10 ms)."],
        [RESTS.replace("streams", "whole replies")],
    ),
    "reasoning": (
        {**STREAM, "reasoning_tokens": 60}, BASELINE,
        ["The first token came after 800 ms; each further one took 24 ms (the provider's own best 14 ms, idealized 10 ms)."],
        ["60 of 101 output tokens were reasoning. Where it is not shown, the first visible token comes after it."],
    ),
    "reasoning, not streamed": ({"reasoning_tokens": 60}, BASELINE, [], ["60 of 101 output tokens were reasoning."]),
    "choices": ({"choices": 2, "completion_tokens": 202}, BASELINE, ["3.2 s: 1.1 s is the model"], ["It had 2 choices; the longest decides, taken to be an even share."]),
    "estimated": ({"usage_source": "estimated"}, BASELINE, [], ["The reply did not say its tokens: they are the gateway's estimate, and all else is one too."]),
    "predicted by proxy": (
        {"model": "closed-like"}, None, [],
        ["What closed-like costs on ref is predicted, not measured; the truth may be 0.8 to 1.3 times that.",
         "closed-like was not measured itself: the numbers are those of else."],
    ),
    "assumed": (
        {"model": "closed"}, None, ["3.2 s: 1.1 s is the model, 2.1 s stack and contention together."],
        ["By `assume`, 'closed' is taken to cost what closed-like does (predicted; the truth may be 0.8 to 1.3 times that): whether it does, nobody outside can measure."],
    ),
    "assumed by the name that the upstream knows": ({"model": "fast", "upstream_model": "closed"}, None, [], ["By `assume`, 'closed' is taken to cost"]),
    "faster than a prediction, within its error": (
        {"model": "closed-like", "raw_runtime_seconds": 0.9}, None,
        ["That is faster than idealized: alone on ref the model takes 1.1 s. That is within the error of that number."], [],
    ),
    "faster than what is assumed": (
        {"model": "closed", "raw_runtime_seconds": 0.8}, None,
        ["The speed is the API's: newer hardware, speculative decoding, caching or other optimisation, or a model that costs less than is assumed."], [],
    ),
    "a name that a terminal would obey": ({"model": "a\x1b[31m\n"}, msgspec.structs.replace(BASELINE, model="a\x1b[31m\n"), [], [RESTS.replace("to m at", "to a\\x1b[31m\\n at")]),
    "extrapolated": ({"prompt_tokens": 1500}, BASELINE, [], ["The prompt is longer than any profiled on ref (1,000 tokens): extrapolated."]),
    "far longer than observed": (
        {"prompt_tokens": 4001}, BASELINE, ["3.2 s: 1.1 s is the model, 2.1 s stack and contention together."],
        [RESTS, "This prompt is more than 2 times as long as any of those: they say nothing of it."],
    ),
    "a step": (
        {}, msgspec.structs.replace(BASELINE, steps=(Step(datetime(2026, 11, 20, tzinfo=UTC), 3.0, 4), Step(ENDED, 0.7, 5))), [],
        ["Since 2026-11-21 16:00 UTC that best takes 0.7 times what it took before."],
    ),
    "the gateway's overhead": (
        {"gateway_overhead_seconds": 0.0004}, BASELINE, [], ["The gateway itself took 0.40 ms."],
    ),
    "a slow gateway": (
        {"gateway_overhead_seconds": 0.5, "duration_seconds": 3.9}, BASELINE,
        ["Beside that the client waited for the gateway (500 ms), its own upload (200 ms): 3.9 s in all."], [],
    ),
    "retried": (
        {"attempts": TRIES, "connect_seconds": 0.3, "duration_seconds": 4.5, "gateway_overhead_seconds": 0.0}, BASELINE,
        ["1 earlier try at the provider failed (status 503).", "Beside that the client waited for connecting (300 ms), earlier tries (1.0 s): 4.5 s in all."],
        [],
    ),
    "retried often": (
        {"attempts": ({"error_class": "upstream_disconnected"}, {"seconds": "?"}, {})}, BASELINE,
        ["2 earlier tries at the provider failed (upstream_disconnected, status None)."], [],
    ),
    "more, unexplained": ({"duration_seconds": 3.9}, BASELINE, ["Beside that the client waited 700 ms: 3.9 s in all."], []),
    "made by hand": (
        {"upstream": None, "status": None, "raw_runtime_seconds": None, "id": "", "ended_at": None}, None,
        ["3.2 s: 1.1 s is the model, 2.1 s stack and contention together."], [],
    ),
    "no time": (
        {"raw_runtime_seconds": None, "duration_seconds": None}, BASELINE,
        ["How long it took was not recorded.", "For the tokens there were, it should have taken 1.5 s at the provider's own best and 1.1 s alone on ref."],
        [],
    ),
    "no model": ({"model": None}, None, ["3.2 s: what of it is"], ["The request named no model, so that there is nothing to compare it with."]),
    "no tokens": ({"prompt_tokens": None}, BASELINE, ["3.2 s: what of it is"], ["How many prompt tokens it had is not known: no idealized runtime."]),
    "no output": ({"completion_tokens": None}, BASELINE, ["3.2 s: what of it is"], ["How many output tokens it had is not known: no idealized runtime."]),
    "no generation": (
        {"model": None, "prompt_tokens": None, "completion_tokens": None, "route": "/v1/models"}, None, [],
        ["This route generates no tokens, so that no model's time can be told from it."],
    ),
    "an embedding": ({"completion_tokens": None, "route": "/v1/embeddings"}, None, ["3.2 s: 0.1 s is the model, 3.1 s stack and contention together."], []),
    "a slow client": (
        {"backpressure_seconds": 1.2}, BASELINE,
        ["The client read slowly: the reply waited 1.2 s for it, so that its time is the client's as well as the provider's.",
         "For the tokens there were, it should have taken 1.5 s at the provider's own best and 1.1 s alone on ref."],
        [],
    ),
    "failed before tokens": (
        {"status": 429, "prompt_tokens": None, "completion_tokens": None}, BASELINE,
        ["The provider refused with status 429: a rate limit or quota is used up, so ask less, or for more."], [],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_case(case: str, tables: Tables) -> None:
    fields, baseline, sentences, notes = CASES[case]
    found = explained(tables, event(**fields), baseline)
    for wanted, said in ((sentences, found.sentences), (notes, found.notes)):
        for text in wanted:
            assert any(text in line for line in said), (text, said)
    if "failed" in case:
        assert (found.notes, found.parts, found.raw_seconds) == ([], [], None)
    assert all(line == line.strip() and line.endswith(".") for line in (*found.sentences, *found.notes))
    assert all(line.isprintable() for line in (found.subject, *found.sentences, *found.notes))


def test_a_provider_is_not_called_faster_by_less_than_its_interval(tables: Tables) -> None:
    for per_token, faster in ((0.0096, False), (0.009, True)):
        baseline = msgspec.structs.replace(BASELINE, per_output_token=per_token)
        found = explained(tables, event(), baseline)
        assert (found.parts[1].seconds < 0, "faster than ref" in found.text) == (True, faster)


def test_why_there_is_no_baseline_and_that_there_is_one_now(tables: Tables) -> None:
    assert explained(tables, event(), None, missing="12 of 30 requests").notes == [NOT_YET.format("12 of 30 requests")]
    now = "The provider's own best was not known yet when this request was made; it is now."
    assert explained(tables, event(), None, later=BASELINE).notes == [now]


def test_a_stack_of_ones_choice_else_one_that_covers(tables: Tables) -> None:
    assert explained(tables, event(), stack="other").stack == "other"
    assert explained(SHIPPED, event(model="davinci")).stack == SHIPPED.reference
    other = explained(tables, event(model="closed-like"), None, stack="other")
    assert other.idealized_seconds is None
    assert other.notes[0] == "No row of other says what 'closed-like' costs by nature, but one of ref does."
    with pytest.raises(UnknownStack, match=r"^unknown stack 'x': there are ref, other$"):
        explained(tables, event(), stack="x")


def test_a_stack_that_covers_is_taken_where_the_leading_one_does_not(tmp_path: Path) -> None:
    path = tmp_path / "own.json"
    path.write_text(OWN.replace('"m": ROW, ', "").replace("ROW2", ROW + "}").replace("ROW", ROW + "}"))
    assert explained(load_tables([path], stack="ref"), event()).stack == "other"


def test_what_lies_beside_the_raw_runtime_is_given_in_numbers(tables: Tables) -> None:
    made = event(gateway_overhead_seconds=0.001, connect_seconds=0.02, backpressure_seconds=0.0, attempts=TRIES)
    assert explained(tables, made).gateway == {
        "duration": 3.21, "overhead": 0.001, "connect": 0.02, "backpressure": 0.0, "retries": 1, "earlier_attempts": 1.0,
    }  # fmt: skip
    few = explain(enrich(RequestEvent(model="m"), tables), tables).gateway
    assert few == {**dict.fromkeys(few), "retries": 0}


# --- failures


TRIED = ({"upstream": "u", "seconds": 2.1},)
BROKEN = {"raw_runtime_seconds": 2.1, "attempts": TRIED, "stream": True}
FAULTS = [
    ("client_disconnected", BROKEN, "The client went away after 2.1 s, before the reply began: that is neither the provider's doing"),
    ("client_disconnected", {**BROKEN, "time_to_first_byte_seconds": 0.2}, "after 2.1 s, when the reply had begun but no token had come: that"),
    ("client_disconnected", {**BROKEN, "time_to_first_byte_seconds": 0.2, "time_to_first_token_seconds": 0.3}, "after 2.1 s, when tokens had been coming since 300 ms: that"),
    ("client_disconnected", {"time_to_first_byte_seconds": 0.2}, "after 3.2 s, when the reply had begun: that"),
    ("first_byte_timeout", BROKEN, "The provider did not answer in time: the gateway gave up after 2.1 s, before the reply began (first_byte_seconds)."),
    ("total_timeout", BROKEN, "The reply took too long: the gateway gave up after 2.1 s"),
    ("upstream_unreachable", {"raw_runtime_seconds": None, "duration_seconds": None}, "The provider could not be reached: no connection was made."),
    ("upstream_broken", {**BROKEN, "time_to_first_byte_seconds": 0.2}, "The provider broke off its reply after 2.1 s, when the reply had begun"),
    ("upstream_disconnected", {"raw_runtime_seconds": None, "duration_seconds": None}, "The provider closed the connection before the reply began."),
    ("gateway_stopped", BROKEN, "The gateway was stopped after 2.1 s"),
    ("truncated", BROKEN, "The provider's stream ended early, without its end mark or a finish reason, after 2.1 s"),
    ("error_in_reply", BROKEN, "The provider failed: its reply began well, but reports an error"),
    ("model_not_found", BROKEN, "The gateway refused the request: no entry of its configuration serves this model."),
    ("something_new", BROKEN, "The request did not complete after 2.1 s, before the reply began: something_new."),
    ("status_503", {"status": 503}, "The provider failed with status 503: it is overloaded or out of order."),
    ("status_402", {"status": 402}, "The provider refused with status 402: the account has no credit left, so pay."),
    ("status_4xx", {"status": 418}, "The provider refused with status 418."),
    ("status_3xx", {"status": 302}, "The provider did not give a result with status 302."),
]  # fmt: skip


@pytest.mark.parametrize(("reason", "fields", "said"), FAULTS)
def test_whose_fault_it_was_and_when(reason: str, fields: dict[str, Any], said: str, tables: Tables) -> None:
    made = event(**fields, **({} if reason.startswith("status_") else {"error_class": reason}))
    enriched = enrich(made, tables)
    assert enriched.exclusion_reason == reason
    assert said in fault(made, reason)
    found = explain(enriched, tables)
    assert said in found.sentences[0]
    assert (found.parts, found.raw_seconds) == ([], None)


def test_every_error_class_of_the_gateway_has_its_words() -> None:
    """What a proxied request can end with, found in the code that says so."""
    gateway = Path(__file__).parents[2] / "gateway"
    code = "".join((gateway / f"{name}.py").read_text() for name in ("proxy", "exchange", "upstream", "recorder"))
    classes = set(re.findall(r'(?:UpstreamError\(|Refusal\(\d+, |broke\(|return |else )"([a-z]+_[a-z_]+)"', code))
    classes |= {"truncated", "connect_timeout", "first_byte_timeout", "total_timeout", "gateway_stopped"}
    assert len(classes) >= 14
    assert not [each for each in classes if fault(event(), each).endswith(f"{each}.")]


# --- numbers


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (3.2, "3.2 s"), (32.04, "32.0 s"), (320, "320 s"), (1234.5, "1,234 s"), (0.344, "340 ms"), (0.012, "12 ms"),
        (0.0012, "1.2 ms"), (0.00004, "0.040 ms"), (0.9996, "1.0 s"), (0, "0 s"), (1e-12, "0.000000 ms"),
    ],
)  # fmt: skip
def test_seconds(value: float, said: str) -> None:
    assert seconds(value) == said


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (1.4, 1.6, "1.5 s ± 0.1"),
        (1.45, 2.3, "1.5 s (1.4 to 2.3)"),
        (1.3, 2.0, "1.5 s (1.3 to 2.0)"),
        (1.3, 1.8, "1.5 s ± 0.3"),
        (1.49, 1.51, "1.5 s ± 10 ms"),
        (1.5, 1.5, "1.5 s"),
    ],
)
def test_spread(low: float, high: float, said: str) -> None:
    assert spread(1.5, low, high, Scale(3.2)) == said


def test_ratios_and_counts() -> None:
    assert [ratio(value) for value in (0.0599, 0.853, 1, 2.94, 9.94, 119.6, 12345)] == [
        "0.06", "0.85", "1.0", "2.9", "9.9", "120", "12,345",
    ]  # fmt: skip
    assert (count(1, "token"), count(1024, "token"), count(0, "token")) == ("1 token", "1,024 tokens", "0 tokens")


durations = st.floats(1e-4, 1e4)


@given(raw=durations, per_token=durations, overhead=durations, output=st.integers(0, 500))
def test_what_is_shown_adds_up(raw: float, per_token: float, overhead: float, output: int) -> None:
    baseline = msgspec.structs.replace(BASELINE, model="davinci", per_output_token=per_token, overhead=overhead)
    made = event(model="davinci", raw_runtime_seconds=raw, completion_tokens=output)
    sentence = explained(SHIPPED, made, baseline).sentences[0]
    whole, *parts = re.findall(r"(−?[\d,.]+) m?s(?: is| the| contention|:)", sentence)
    numbers = [float(number.replace(",", "").replace("−", "-")) for number in (whole, *parts)]
    assert len(parts) == 3
    assert math.isclose(sum(numbers[1:]), numbers[0], abs_tol=1e-6 * max(map(abs, numbers)))


@given(
    made=st.builds(
        RequestEvent,
        id=st.text(max_size=3), model=st.none() | st.sampled_from(["m", "closed", "x"]), upstream=st.none() | st.just("u"),
        route=st.none() | st.sampled_from(["/v1/embeddings", "/v1/models"]), stream=st.none() | st.booleans(),
        status=st.none() | st.integers(0, 999), error_class=st.none() | st.text(max_size=3),
        prompt_tokens=st.none() | st.integers(0, 10**12), cached_tokens=st.none() | st.integers(0, 10**12),
        completion_tokens=st.none() | st.integers(0, 10**12), reasoning_tokens=st.none() | st.integers(0, 10),
        choices=st.none() | st.integers(1, 3), raw_runtime_seconds=st.none() | st.floats(0, 1e9),
        duration_seconds=st.none() | st.floats(0, 1e9), time_to_first_token_seconds=st.none() | st.floats(0, 1e9),
        time_per_output_token_seconds=st.none() | st.floats(0, 1e9), gateway_overhead_seconds=st.none() | st.floats(0, 1e9),
        backpressure_seconds=st.none() | st.floats(0, 1e9), attempts=st.sampled_from([(), TRIES]),
    ),
    known=st.booleans(),
)  # fmt: skip
def test_every_event_is_explained(made: RequestEvent, known: bool, tables: Tables) -> None:
    found = explained(tables, made, msgspec.structs.replace(BASELINE, upstream="u") if known else None)
    assert found.sentences
    assert "None" not in found.text.replace("status None", "")


# --- costs


NO_PRICE = (
    "What was billed for it is not known: the list of prices has none for {0} (`gateway prices {0}` says whose there are; "
    "a price of your own mends it)."
)


def test_costs_in_words(tables: Tables) -> None:
    event = RequestEvent(
        model="gpt-4o", upstream="u", provider="openai", status=200, prompt_tokens=500, completion_tokens=200,
        raw_runtime_seconds=2.5,
    )  # fmt: skip
    assumed = load_tables(assume={"gpt-4o": "llama-3.1-70b"})
    served, energy, billed = explain(enrich(event, assumed), assumed).costs
    number = r"\$0\.[0-9]+"
    band = rf"{number} \({number} to {number}\)"
    assert re.fullmatch(
        rf"On h100-predicted it costs {band} as one of \d+ served at once and {band} alone on its accelerators\.",
        served,
    )
    assert re.fullmatch(
        r"That takes \(served\) [\d.,]+ k?J, [\d.,]+ m?g of CO2e, [\d.,]+ m?l of water, for [\d.,]+ TFLOP, "
        r"at \d+ W an accelerator for the prompt and \d+ W for the output\.",
        energy,
    )
    assert re.fullmatch(
        r"By the list price of gpt-4o it was billed \$0\.0033, [\d.]+ times its served cost there\.", billed
    )


def test_costs_of_a_batch_of_one(tables: Tables) -> None:
    event = RequestEvent(model="davinci", prompt_tokens=500, completion_tokens=20, raw_runtime_seconds=2.5)
    alone, energy, unbilled = explain(enrich(event, SHIPPED), SHIPPED).costs
    assert alone.startswith("On a100-megatron it costs $0.016 (")
    assert alone.endswith(") alone on its accelerators (batch 1).")
    assert energy.startswith("That takes (alone) ")
    assert unbilled == NO_PRICE.format("davinci")


def test_nothing_is_said_of_costs_that_nobody_knows(tables: Tables) -> None:
    event = RequestEvent(model="unheard-of", raw_runtime_seconds=2.5)
    assert explain(enrich(event, tables), tables).costs == [NO_PRICE.format("unheard-of")]


def test_whose_price_it_is_and_why_there_is_none(tmp_path: Path) -> None:
    path = tmp_path / "constants.json"
    price = {"input_cost_per_token": 1e-5, "output_cost_per_token": 0}
    path.write_text(json.dumps({"prices": {"mine": price}, "accelerators": {"a100-80gb": {"mean_watts": 250}}}))
    own = load_tables(constants=path)

    def told(tables: Tables, **fields: Any) -> str:
        event = RequestEvent(**{"prompt_tokens": 100, "completion_tokens": 10, "raw_runtime_seconds": 1.0, **fields})
        return explain(enrich(event, tables), tables).costs[-1]

    assert told(own, model="mine") == "By your own price of mine it was billed $0.0010."
    elsewhere = told(SHIPPED, model="fast", upstream_model="gemini-2.5-pro", provider="openai")
    assert elsewhere == NO_PRICE.format("gemini-2.5-pro").replace(" (", " at provider openai (")
    batch = told(own, model="mine", tags=("service_tier=batch",))
    assert batch.endswith(" not known: the price of mine does not cover it (it is 0, or none for a batch).")
    left = {"error_class": "client_disconnected", "status": 200, "prompt_tokens": None}
    assert told(SHIPPED, model="gpt-4o", **left) == (
        "What was billed for it is not known: it broke off, and how many tokens it had, the provider did not say; it may "
        "have billed those that there were."
    )
    event = RequestEvent(model="davinci", prompt_tokens=100, completion_tokens=10, raw_runtime_seconds=1.0)
    assert explain(enrich(event, own), own).costs[1].endswith(", at 250 W an accelerator.")


@pytest.mark.parametrize(
    ("value", "unit", "expected"),
    [
        (0.0033, "$", "$0.0033"), (123.4, "$", "$123"), (0.0, "$", "$0"), (0.0067, "g", "6.7 mg"), (45.2, "J", "45 J"),
        (1700, "J", "1.7 kJ"), (2.45e14, "FLOP", "245 TFLOP"), (3e21, "FLOP", "3,000 EFLOP"), (0, "J", "0 mJ"),
    ],
)  # fmt: skip
def test_amounts(value: float, unit: str, expected: str) -> None:
    assert amount(value, unit) == expected
