"""Strategies compared beside the requests on a loop: in turns, one comparison at a time, and not again and again."""

import asyncio
import itertools
import json
import time

import pytest

from gateway.comparison import Comparisons, compared
from stream.problems import Ledger, Measures, ProblemRequest, decode_outcome
from stream.strategies import in_dollars, strategies
from tests.harness import run

STACK = "a100-megatron"


def ledger(problems: int) -> Ledger:
    made = Ledger()
    for number in range(problems):
        made.observe(request(number))
        made.judge(decode_outcome(f'{{"problem": "p{number}", "correct": {str(number % 3 > 0).lower()}}}', 1.0))
    return made


def request(number: int) -> ProblemRequest:
    return ProblemRequest(
        id=str(number), problem=f"p{number}", strategy="greedy", model="m", stacks={STACK: Measures(1.0 + number)}
    )


def test_the_answer_is_that_of_the_stream_and_of_one_moment() -> None:
    async def scenario() -> None:
        known = ledger(300)
        expected = strategies(known, STACK, in_dollars(2.0))
        asking = asyncio.create_task(Comparisons(known).answer(STACK, 2.0))
        await asyncio.sleep(0)
        for number in range(300, 310):
            known.observe(request(number))
        assert json.loads(await asking) == json.loads(json.dumps(expected))

    run(scenario())


def test_others_have_their_turn_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.turns._HOLD_SECONDS", 0.0)

    async def scenario() -> None:
        turns = 0

        async def count() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        counting = asyncio.create_task(count())
        await Comparisons(ledger(300)).answer(STACK, None)
        assert turns >= 300
        counting.cancel()

    run(scenario())


def test_a_request_waits_for_no_more_than_a_piece_where_others_are_given_a_rest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gateway.turns._HOLD_SECONDS", 0.0)
    rests: list[float] = []

    async def sleep(seconds: float) -> None:
        rests.append(seconds)

    async def scenario() -> None:
        monkeypatch.setattr(asyncio, "sleep", sleep)
        await compared(ledger(100), [STACK], rest=0.25)
        assert set(rests) == {0.25}
        assert len(rests) >= 100

    run(scenario())


def test_what_took_long_is_given_again_for_ten_times_as_long(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.count(step=2.0)  # so each comparison takes two seconds

    async def scenario() -> None:
        known = ledger(1)
        comparisons = Comparisons(known)
        monkeypatch.setattr(time, "monotonic", lambda: next(clock))
        first, same = await asyncio.gather(*(comparisons.answer(STACK, None) for _ in range(2)))
        assert first is same
        known.observe(request(7))
        assert await comparisons.answer(STACK, None) is first
        other = json.loads(await comparisons.answer(STACK, 1.0))
        assert other["problems"] == 2, "asked otherwise"
        for _ in range(10):
            next(clock)
        assert json.loads(await comparisons.answer(STACK, None))["problems"] == 2

    run(scenario())


def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stream.strategy_metrics._SHARE", 1e-9)

    async def scenario() -> None:
        comparisons = Comparisons(ledger(1))
        for number in range(50):
            await comparisons.answer(STACK, float(number))
        assert len(comparisons._kept) == 16

    run(scenario())
