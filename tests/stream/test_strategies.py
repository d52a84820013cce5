"""Strategies compared: a worked example that can be checked by hand, and what must hold of any."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.exact import Sum, exact_sum
from stream.pareto import pareto
from stream.problems import Ledger, Measures, Outcome, ProblemRequest
from stream.strategies import MEASURES, in_dollars, strategies, wilson

NOON = datetime(2026, 5, 31, 12, tzinfo=UTC)
SAMPLES = {"greedy": 1, "majority": 4, "weighted": 5, "best-of-n": 8, "tree": 16}
PRICE = {"small": 1.0, "large": 4.0}

Thing = ProblemRequest | Outcome


def ledger_of(things: Iterable[Thing]) -> Ledger:
    ledger = Ledger()
    for thing in things:
        put(ledger, thing)
    return ledger


def put(ledger: Ledger, thing: Thing) -> None:
    if isinstance(thing, Outcome):
        ledger.judge(thing)
    else:
        ledger.observe(thing)


def judged(problem: str, value: float, minutes: float = 0, **named: str) -> Outcome:
    return Outcome(problem, value, NOON + timedelta(minutes=minutes), **named)


# --- the worked example of docs/strategies.md
#
# A sample costs 1 dollar of small and 4 of large; a sample of either takes 1 second. Ten strategies work on four
# problems, the two greedy ones on a fifth as well, which nobody judges. Nobody solves D.
#
#                        A    B    C    D     accuracy   dollars    a problem   a right answer
#     small greedy       1    0    0    0        1/4         4           1           4
#     small majority     1    1    0    0        1/2        16           4           8
#     small weighted     1    1    0    0        1/2        20           5          10      C: right, then wrong
#     small best-of-n    1    1   1/2   0        5/8        32           8          12.8    C: a score
#     small tree         1    1    1    0        3/4        64          16          64/3
#     large greedy       1    1    -    0        2/3        12           4           6      C: not judged
#     large majority     1    1    1    0        3/4        64          16          64/3
#     large weighted     0    1    1    0        1/2        80          20          40      A: wrong and right at once
#     large best-of-n    1    1    1    0        3/4       128          32         128/3    in two requests of n = 4
#     large tree        1/2  1/2  1/2   0        3/8       256          64         256/3    two attempts at each

VALUES = {
    ("small", "greedy"): "1000",
    ("small", "majority"): "1100",
    ("small", "weighted"): "1100",
    ("small", "best-of-n"): "11h0",
    ("small", "tree"): "1110",
    ("large", "greedy"): "11-0",
    ("large", "majority"): "1110",
    ("large", "weighted"): "0110",
    ("large", "best-of-n"): "1110",
    ("large", "tree"): "hhh0",
}


def example() -> list[Thing]:
    things: list[Thing] = []
    for (model, strategy), values in VALUES.items():
        for problem, value in zip("ABCD", values, strict=True):
            things += asked(problem, model, strategy)
            if value != "-":
                things += answered(problem, model, strategy, value)
    things += [*asked("E", "small", "greedy"), *asked("E", "large", "greedy")]
    things += [
        judged("C", 1.0, -5, id="C small weighted"),  # what was recorded last is that it is wrong
        judged("A", 1.0, id="A large weighted"),  # recorded at the same moment as wrong: wrong
        judged("A", 1.0, strategy="greedy"),  # of small or of large?
        judged("F", 1.0, strategy="greedy", model="small"),  # nobody was asked
        judged("A", 1.0, strategy="beam", model="small"),  # by nobody
    ]
    return things


def asked(problem: str, model: str, strategy: str) -> list[Thing]:
    """One request of n choices; best-of-n needs two."""
    parts = 2 if strategy == "best-of-n" else 1
    samples = SAMPLES[strategy] // parts
    costs = Measures(1.0, None, samples * PRICE[model], None, samples * PRICE[model] * 100, None)
    names = [f"{problem} {model} {strategy}{' again' * part}" for part in range(parts)]
    return [ProblemRequest(name, problem, strategy, model, 1.0, samples, stacks={"s": costs}) for name in names]


def answered(problem: str, model: str, strategy: str, value: str) -> list[Thing]:
    if (model, strategy) == ("large", "tree"):  # attempts with ids of their own, which say whose they are
        right, named = value == "h", {"model": model, "strategy": strategy}
        return [judged(problem, float(right), id="first", **named), judged(problem, 0.0, id="second", **named)]
    return [judged(problem, {"1": 1.0, "h": 0.5, "0": 0.0}[value], id=f"{problem} {model} {strategy}")]


# accuracy, unsolved, samples, dollars: total, a problem, a right answer, the mean cost of a pass; * on the frontier
EXPECTED = """
    large best-of-n    3/4   1/4   32   128  32  128/3
    large majority     3/4   1/4   16    64  16   64/3  *
    small tree         3/4   1/4   64    64  16   64/3  *
    large greedy       2/3   1/3    5    12   4    6    *
    small best-of-n    5/8   1/4   32    32   8   64/5
    large weighted     1/2   1/2   20    80  20   40
    small majority     1/2   1/2   16    16   4    8
    small weighted     1/2   1/2   20    20   5   10
    large tree         3/8   1/4   64   256  64  256/3
    small greedy       1/4   3/4    5     4   1    4    *
"""


def test_ten_strategies_by_hand() -> None:
    found = strategies(ledger_of(example()), "s")
    assert {name: found[name] for name in ("problems", "judged", "unjudged_problems", "requests", "failed")} == {
        "problems": 5, "judged": 4, "unjudged_problems": 1, "requests": 8 * 4 + 2 * 8 + 2, "failed": 0,
    }  # fmt: skip
    assert (found["outcomes"], found["ambiguous"], found["without_requests"]) == (43 + 3, 1, 2)
    for line, each in zip(EXPECTED.split("\n")[1:-1], found["strategies"], strict=True):
        model, strategy, accuracy, unsolved, samples, total, mean, right, *star = line.split()
        dollars = each["measures"]["dedicated_dollars"]
        assert (each["model"], each["strategy"], each["samples"]) == (model, strategy, int(samples))
        assert each["accuracy"] == float(Fraction(accuracy))
        assert each["unsolved_share"] == float(Fraction(unsolved))
        assert (dollars["total"], dollars["per_problem"]) == (float(total), float(mean))
        assert dollars["per_correct"] == float(Fraction(right))
        assert (dollars["cost_of_pass_mean"], dollars["unknown_requests"]) == (None, 0), "D is solved by none"
        assert dollars["pareto"] == bool(star)
        low, high = wilson(float(Fraction(accuracy)), 3 if strategy == "greedy" and model == "large" else 4)
        assert (each["accuracy_low"], each["accuracy_high"]) == (low, high)


def test_its_greedy_strategies_have_a_problem_that_is_not_judged() -> None:
    each = {(each["model"], each["strategy"]): each for each in strategies(ledger_of(example()), "s")["strategies"]}
    assert [each["small", "greedy"][name] for name in ("problems", "unjudged", "attempts", "correct")] == [5, 1, 4, 1.0]
    assert [each["large", "greedy"][name] for name in ("problems", "unjudged", "attempts", "correct")] == [5, 2, 3, 2.0]
    assert [each["large", "tree"][name] for name in ("problems", "unjudged", "attempts", "correct")] == [4, 0, 8, 3.0]


def test_its_frontier_by_hand() -> None:
    """A is solved for 1 (small greedy), B for 4 (small majority, large greedy), C for 16 (small tree), D not at all."""
    frontier = strategies(ledger_of(example()), "s")["frontier"]
    dollars = {"mean": None, "solved_mean": (1 + 4 + 16) / 3, "unsolved": 1, "unknown": 0, "human": None}
    assert frontier["dedicated_dollars"] == dollars
    assert frontier["dedicated_energy_joules"] == {**dollars, "solved_mean": 700.0}
    assert frontier["idealized_seconds"] == {**dollars, "solved_mean": 1.0}
    assert frontier["billed_dollars"] == {**dollars, "solved_mean": None, "unknown": 3}


def test_a_person_solves_whatever_is_left_and_all_that_is_dearer() -> None:
    """At 10 dollars: A for 1, B for 4, C and D for 10."""
    frontier = strategies(ledger_of(example()), "s", in_dollars(10.0))["frontier"]
    by_hand = {"mean": (1 + 4 + 10 + 10) / 4, "solved_mean": (1 + 4 + 10) / 3, "unsolved": 1, "unknown": 0, "human": 10}
    assert frontier["dedicated_dollars"] == by_hand
    assert frontier["idealized_seconds"]["mean"] is None, "whose seconds nobody told"
    assert frontier["billed_dollars"]["mean"] == 10.0


@given(st.permutations(example()))
def test_its_order_changes_nothing(things: list[Thing]) -> None:
    assert strategies(ledger_of(things), "s") == strategies(ledger_of(example()), "s")


# --- laws

amounts = st.none() | st.floats(0, 1e60)
measures = st.builds(Measures, amounts, amounts, amounts, amounts, amounts, amounts)
few = st.sampled_from
requests = st.builds(
    ProblemRequest,
    few(["", *"abcdefgh"]), few("PQ"), few([None, "greedy", "vote"]), few([None, "m", "n"]),
    st.none() | st.floats(0, 2e9), st.integers(1, 9), st.booleans(), amounts, st.dictionaries(few("st"), measures),
)  # fmt: skip
outcomes = st.builds(
    Outcome,
    few("PQ"), few([0.0, 1.0, 0.5, 0.1]), st.integers(0, 3).map(lambda days: NOON + timedelta(days=days)),
    few([None, *"abcdxyz"]), few([None, "greedy", "vote"]), few([None, "m", "n"]),
)  # fmt: skip


def same_of_an_id(things: list[Thing]) -> list[Thing]:
    """A request's id is its own; what comes with it again is the same request, and one without an id comes once."""
    first: dict[tuple[str, str], Thing] = {}
    named = [each for each in things if isinstance(each, ProblemRequest) and each.id]
    for each in named:
        first.setdefault((each.problem, each.id), each)
    return [first[each.problem, each.id] if each in named else each for each in things]  # type: ignore[union-attr]


histories = st.lists(requests | outcomes, max_size=25).map(same_of_an_id)


def answer(ledger: Ledger) -> bytes:
    return msgspec.json.encode([strategies(ledger, stack, in_dollars(3.0)) for stack in "st"])


@given(histories, st.randoms(use_true_random=False), st.lists(st.integers(0, 60), max_size=4))
def test_order_repetition_and_restarts_change_nothing(things: list[Thing], random: Any, stops: list[int]) -> None:
    again = [each for each in things if isinstance(each, Outcome) or each.id]
    shuffled = [*things, *(random.choices(again, k=10) if again else [])]
    random.shuffle(shuffled)
    ledger, stored = Ledger(), {}
    for place, thing in enumerate(shuffled):
        if place in stops:
            stored.update(ledger.changed())
            ledger = Ledger()
            ledger.restore(list(stored.items()))
        put(ledger, thing)
    assert answer(ledger) == answer(ledger_of(things))


@given(histories)
def test_totals_are_the_exact_sums_rounded_once(things: list[Thing]) -> None:
    found = strategies(ledger_of(things), "s")
    seen = {
        (each.problem, each.id) if each.id else place: each
        for place, each in enumerate(things)
        if not isinstance(each, Outcome)
    }
    for each in found["strategies"]:
        own = [one for one in seen.values() if (one.model, one.strategy) == (each["model"], each["strategy"])]
        assert (each["requests"], each["failed"]) == (len(own), sum(one.failed for one in own))
        paid = [one for one in own if not one.failed]
        assert each["samples"] == sum(one.samples for one in paid)
        if each["unjudged"]:
            continue
        for name, measure in each["measures"].items():
            known = [amount for one in paid if (amount := amount_of(one, name)) is not None]
            assert measure["unknown_requests"] == len(paid) - len(known)
            total = float(sum(map(Fraction, known), Fraction(0)))
            assert measure["total"] == (total if len(known) == len(paid) else None)


def amount_of(request: ProblemRequest, name: str) -> float | None:
    if name == "billed_dollars":
        return request.billed_dollars
    return getattr(request.stacks.get("s", Measures()), name)  # type: ignore[no-any-return]


@given(histories)
def test_every_outcome_is_somewhere_and_every_problem_too(things: list[Thing]) -> None:
    found = strategies(ledger_of(things), "s")
    assert found["judged"] + found["unjudged_problems"] == found["problems"]
    attempts = sum(each["attempts"] for each in found["strategies"])
    assert attempts + found["ambiguous"] + found["without_requests"] == found["outcomes"]
    for each in found["strategies"]:
        if each["accuracy"] is None:
            assert each["problems"] == each["unjudged"]
        else:
            assert 0 <= each["accuracy_low"] <= each["accuracy"] <= each["accuracy_high"] <= 1
    assert [each["accuracy"] or 0 for each in found["strategies"]] == sorted(
        (each["accuracy"] or 0 for each in found["strategies"]), reverse=True
    )


@given(st.lists(st.floats(-1e300, 1e300) | st.floats(-1, 1), max_size=20), st.randoms(use_true_random=False))
def test_exact_sums_are_exact_whatever_the_grouping(values: list[float], random: Any) -> None:
    whole = exact_sum(values)
    assert sum(map(Fraction, whole), Fraction(0)) == sum(map(Fraction, values), Fraction(0))
    shuffled = random.sample(values, len(values))
    cut = len(values) // 3
    assert exact_sum([*exact_sum(shuffled[:cut]), *exact_sum(shuffled[cut:])]) == whole


@given(st.lists(st.floats(-1e290, 1e290) | st.floats(-1, 1), max_size=200), st.integers(1, 9))
def test_a_sum_is_rounded_once_however_long_it_is(values: list[float], size: int) -> None:
    whole = Sum()
    for start in range(0, len(values), size):
        whole.add(*values[start : start + size])
    assert whole.value == float(sum(map(Fraction, values), Fraction(0)))
    assert whole.terms == -(-len(values) // size)
    assert whole.mean == (whole.value / whole.terms if values else None)
    assert len(whole._parts) <= 64


# --- what is not known, and edges


def request(problem: str, cost: float | None, name: str = "", **more: Any) -> ProblemRequest:
    named = {"model": "m", "strategy": "greedy", "at": 1.0, **more}
    return ProblemRequest(name, problem, stacks={"s": Measures(dedicated_dollars=cost)}, **named)


def test_those_that_tried_most_problems_are_listed_and_the_others_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    things: list[Thing] = [request(f"{number}", 4.0) for number in range(4)]
    for number in range(4):
        things += [request(f"{number}", 3.0, strategy="often"), request(f"{number}", 1.0, strategy=f"run {number}")]
        things.append(judged(f"{number}", 1.0, strategy=f"run {number}"))
    things += [judged("3", 1.0, strategy="often"), judged("3", 0.0, strategy="greedy")]
    whole = strategies(ledger_of(things), "s")
    assert (whole["unlisted"], len(whole["strategies"])) == (0, 6)
    monkeypatch.setattr("stream.strategies._MOST", 3)
    monkeypatch.setattr("stream.strategies._AT_ONCE", 2)
    found, again = (strategies(ledger_of(each), "s") for each in (things, things[::-1]))
    assert found == again
    assert (found["unlisted"], len(found["strategies"])) == (3, 3)
    assert {"often", "greedy"} < {each["strategy"] for each in found["strategies"]}
    same = ("problems", "judged", "requests", "failed", "outcomes", "frontier")
    assert [found[name] for name in same] == [whole[name] for name in same], "what is not listed counts all the same"


def test_nothing_at_all() -> None:
    found = strategies(Ledger(), "s")
    assert (found["problems"], found["strategies"], list(found["frontier"])) == (0, [], list(MEASURES))
    assert found["frontier"]["flops"] == {
        "mean": None, "solved_mean": None, "unsolved": 0, "unknown": 0, "human": None,
    }  # fmt: skip


def test_a_cost_that_is_not_known_of_one_request_is_known_of_none_it_adds_up_with() -> None:
    known, unknown = request("A", 1.0, model="known"), [request("A", 1.0), request("A", None)]
    found = strategies(ledger_of([known, *unknown, judged("A", 1.0, model="known"), judged("A", 1.0, model="m")]), "s")
    dollars = {each["model"]: each["measures"]["dedicated_dollars"] for each in found["strategies"]}
    nothing = {"total": None, "per_problem": None, "per_correct": None, "cost_of_pass_mean": None}
    assert dollars["m"] == {**nothing, "unknown_requests": 1, "pareto": False}
    assert dollars["known"] == {
        "total": 1.0, "per_problem": 1.0, "per_correct": 1.0, "cost_of_pass_mean": 1.0, "unknown_requests": 0,
        "pareto": True,
    }  # fmt: skip
    frontier = found["frontier"]["dedicated_dollars"]
    assert (frontier["mean"], frontier["unknown"]) == (1.0, 1), "of those that are known, and how often one was not"


def test_a_stack_that_no_event_knows_leaves_nothing_known() -> None:
    (each,) = strategies(ledger_of([request("A", 1.0), judged("A", 1.0)]), "other")["strategies"]
    assert each["measures"]["dedicated_dollars"]["unknown_requests"] == 1
    assert each["accuracy"] == 1.0


def test_requests_that_failed_cost_nothing_and_answer_nothing() -> None:
    """A model that only refused is no candidate for an outcome that names none."""
    things = [request("A", 2.0, "1"), request("A", None, "2", failed=True), request("A", None, model="n", failed=True)]
    found = strategies(ledger_of([*things, judged("A", 1.0)]), "s")
    m, n = sorted(found["strategies"], key=lambda each: each["model"])
    assert (m["requests"], m["failed"], m["samples"], m["measures"]["dedicated_dollars"]["total"]) == (2, 1, 1, 2.0)
    assert (n["requests"], n["failed"], n["unjudged"], found["ambiguous"]) == (1, 1, 1, 0)
    named = strategies(ledger_of([*things, judged("A", 0.0, model="n", strategy="greedy")]), "s")
    assert [each["attempts"] for each in named["strategies"] if each["model"] == "n"] == [1], "unless it is named"


WHOSE: list[tuple[str, dict[str, str], str | None]] = [
    ("its request's", {"id": "1"}, "m greedy"),
    ("as it says, against its request", {"id": "1", "strategy": "vote"}, "m vote"),
    ("as it says, and nobody's", {"id": "1", "model": "o"}, None),
    ("the only one of its strategy", {"strategy": "tree"}, "n tree"),
    ("one of several models", {"strategy": "greedy"}, None),
    ("one of several strategies", {"model": "m"}, None),
    ("the only one of its model", {"model": "p"}, "p None"),
    ("an id of one's own", {"id": "mine", "strategy": "tree"}, "n tree"),
    ("an id of one's own, of nobody known", {"id": "mine"}, None),
]


@pytest.mark.parametrize(("named", "whose"), [case[1:] for case in WHOSE], ids=[case[0] for case in WHOSE])
def test_whose_an_outcome_is(named: dict[str, str], whose: str | None) -> None:
    things = [
        request("A", 1.0, "1"), request("A", 1.0, "2", strategy="vote"), request("A", 1.0, "3", model="n"),
        request("A", 1.0, "4", model="n", strategy="tree"), request("A", 1.0, "5", model="p", strategy=None),
    ]  # fmt: skip
    for order in (things, things[::-1]):
        found = strategies(ledger_of([judged("A", 1.0, **named), *order]), "s")
        assert [f"{each['model']} {each['strategy']}" for each in found["strategies"] if each["attempts"]] == (
            [] if whose is None else [whose]
        )
        assert found["ambiguous"] + found["without_requests"] == (whose is None)


def test_outcomes_without_an_id_are_one_for_each_strategy_and_model() -> None:
    """However they name these: what was recorded last counts."""
    things = [request("A", 1.0), judged("A", 1.0, 1, strategy="greedy"), judged("A", 0.0, 2), judged("A", 1.0, 0)]
    (each,) = strategies(ledger_of(things), "s")["strategies"]
    assert (each["attempts"], each["correct"]) == (1, 0.0)


def test_a_strategy_and_a_model_without_a_name_are_such() -> None:
    things = [request("A", 1.0, model=None, strategy=None), judged("A", 1.0)]
    (each,) = strategies(ledger_of(things), "s")["strategies"]
    assert (each["model"], each["strategy"], each["accuracy"]) == (None, None, 1.0)


PARETO = {
    "none": ([], []),
    "one": ([(0.0, 9.0)], [True]),
    "better is dearer": ([(0.5, 1.0), (0.9, 2.0), (0.7, 1.5)], [True, True, True]),
    "beaten": ([(0.5, 1.0), (0.5, 2.0), (0.4, 1.0)], [True, False, False]),
    "equal": ([(0.5, 1.0), (0.9, 2.0), (0.5, 1.0)], [True, True, True]),
    "unknown": ([(None, 1.0), (0.5, None), (0.5, 1.0)], [False, False, True]),
    "free": ([(0.5, 0.0), (0.5, 1.0)], [True, False]),
}


@pytest.mark.parametrize(("points", "on"), PARETO.values(), ids=PARETO)
def test_pareto(points: list[tuple[float | None, float | None]], on: list[bool]) -> None:
    assert pareto(points) == on


scale = st.sampled_from([None, 0.0, 0.25, 0.5, 1.0])


@given(st.lists(st.tuples(scale, scale), max_size=12))
def test_pareto_by_its_definition(points: list[tuple[float | None, float | None]]) -> None:
    def beats(one: Any, other: Any) -> bool:
        return None not in one and one[0] >= other[0] and one[1] <= other[1] and one != other

    assert pareto(points) == [
        None not in point and not any(beats(other, point) for other in points) for point in points
    ]


@given(st.lists(st.tuples(scale, scale, st.floats(-1e-12, 1e-12), st.floats(-1e-12, 1e-12)), max_size=12))
def test_the_last_digits_of_a_number_put_nothing_on_the_frontier(points: list[Any]) -> None:
    nearly = [
        (None if gain is None else gain * (1 + more), None if cost is None else cost * (1 + dearer))
        for gain, cost, more, dearer in points
    ]
    assert pareto(nearly) == pareto([(gain, cost) for gain, cost, *_ in points])


@given(st.integers(1, 60), st.integers(1, 60), st.floats(1e-9, 1e9))
def test_of_two_that_cost_the_same_a_request_the_more_accurate_alone_is_on_the_frontier(
    few: int, many: int, cost: float
) -> None:
    things: list[Thing] = []
    for strategy, number in (("a", many), ("b", few)):
        for place in range(number):
            problem = f"{place}"
            things += [
                request(problem, cost, strategy=strategy),
                judged(problem, float(strategy == "b"), strategy=strategy),
            ]
    found = strategies(ledger_of(things), "s")
    on = {each["strategy"]: each["measures"]["dedicated_dollars"]["pareto"] for each in found["strategies"]}
    assert on == {"a": False, "b": True}


def test_the_latest_outcomes_that_judge_nothing_are_named_in_any_order() -> None:
    things: list[Thing] = [request("A", 1.0, "1"), request("A", 1.0, "2", model="n")]
    things += [judged("A", 1.0, minute, id=f"slip {minute}") for minute in range(12)]
    things += [judged("B", 1.0, 5, strategy="greddy", id="i" * 300), judged("B", 0.0, 9, model="m")]
    found = strategies(ledger_of(things), "s")
    assert (found["ambiguous"], found["without_requests"]) == (12, 2)
    assert found["unmatched"] == [
        *(
            {"reason": "ambiguous", "problem": "A", "strategy": None, "model": None, "id": f"slip {minute}"}
            for minute in range(11, 1, -1)
        ),
        {"reason": "without_requests", "problem": "B", "strategy": None, "model": "m", "id": None},
        {"reason": "without_requests", "problem": "B", "strategy": "greddy", "model": None, "id": "i" * 80},
    ]
    assert strategies(ledger_of(things[::-1]), "s")["unmatched"] == found["unmatched"]


WILSON = [  # Newcombe, Statistics in Medicine 17 (1998), table I, method 3
    (81, 263, 0.2553, 0.3662),
    (15, 148, 0.0624, 0.1605),
    (0, 20, 0.0000, 0.1611),
    (1, 29, 0.0061, 0.1718),
]


@pytest.mark.parametrize(("right", "number", "low", "high"), WILSON)
def test_wilson_as_published(right: int, number: int, low: float, high: float) -> None:
    assert wilson(right / number, number) == pytest.approx((low, high), abs=5e-5)


def test_wilson_of_all_and_of_nothing_ends_at_1_and_0() -> None:
    for number in (1, 2, 3, 10, 1000):
        assert wilson(0.0, number)[0] == 0.0
        assert wilson(1.0, number)[1] == 1.0
    assert wilson(0.5, 10) == pytest.approx((0.236593090512564, 0.763406909487436), abs=1e-12)
