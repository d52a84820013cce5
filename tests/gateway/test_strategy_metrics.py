"""A gateway's gauges of strategies: the figures of its API, and in nobody's way while they are worked out."""

import asyncio
from typing import Any

import pytest

from stream.coefficients import load_tables
from tests.gateway.test_comparison import ledger
from tests.gateway.test_outcomes import MODEL, judged, outcome, post, solve, strategies
from tests.gateway.test_own_paths import samples
from tests.harness import ask, run, serve
from tests.servers.openai_like import OpenAILike

JUDGED = "trueclock_strategy_judged_problems"


def test_metrics_say_what_the_api_says() -> None:
    async def scenario() -> None:
        async with OpenAILike() as upstream, serve(upstream.url) as gateway:
            for number in range(4):
                for strategy in ("greedy", "vote") if number % 2 else ("greedy",):
                    await solve(gateway.url, f"p{number}", strategy)
            await solve(gateway.url, "p1", "never judged")
            correct = [outcome(number, correct=number > 1, strategy="greedy") for number in range(4)]
            await post(gateway.url, [*correct, outcome(1, strategy="vote", correct=True)])
            await gateway.counted(7)
            await judged(gateway, 5)
            text = (await ask(gateway.url, target="/metrics")).body
            told = {stack: await strategies(gateway.url, f"?stack={stack}") for stack in load_tables().references}
        assert samples(text, JUDGED) == {(MODEL, "greedy"): 4, (MODEL, "vote"): 1}
        assert samples(text, "trueclock_strategy_unsolved_problems") == {(MODEL, "greedy"): 2, (MODEL, "vote"): 0}
        assert len(told) >= 3
        costs, frontier = {}, {}
        for stack, answer in told.items():
            costs |= costs_of(stack, answer)
            for basis in ("dedicated", "served", "billed"):
                frontier[basis, stack] = answer["frontier"][f"{basis}_dollars"]["solved_mean"]
        assert samples(text, "trueclock_strategy_cost_dollars") == known(costs)
        assert samples(text, "trueclock_frontier_cost_of_pass_dollars") == known(frontier)
        assert known(costs)
        assert None in costs.values(), "what is not known of davinci on some stack has no sample"

    run(scenario())


def costs_of(stack: str, answer: dict[str, Any]) -> dict[tuple[str, ...], float | None]:
    return {
        (basis, MODEL, stack, each["strategy"]): each["measures"][f"{basis}_dollars"]["total"]
        for each in answer["strategies"]
        if each["accuracy"] is not None
        for basis in ("dedicated", "served", "billed")
    }


def known(amounts: dict[tuple[str, ...], float | None]) -> dict[tuple[str, ...], float | None]:
    return {labels: amount for labels, amount in amounts.items() if amount is not None}


def test_requests_and_scrapes_go_on_while_strategies_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without patience a scrape shows the former figures, and a later one the new."""
    monkeypatch.setattr("stream.strategy_metrics._PATIENCE_SECONDS", 0.0)

    async def scenario() -> None:
        async with OpenAILike() as upstream, serve(upstream.url) as gateway:
            gateway.control.stream.ledger.restore(
                [(key, row) for key, row in ledger(2000).changed() if row is not None]
            )
            text = (await ask(gateway.url, target="/metrics")).body
            assert samples(text, JUDGED) == {}
            await solve(gateway.url, "p1")
            while not samples(text, JUDGED):
                await asyncio.sleep(0.01)
                text = (await ask(gateway.url, target="/metrics")).body
            assert samples(text, JUDGED) == {("m", "greedy"): 2000}

    run(scenario())
