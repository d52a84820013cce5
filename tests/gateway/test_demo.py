"""The demo's parts: the trace, the traffic on real sockets, its bounds, and a clean stop."""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from gateway.demo import Demo
from gateway.traffic import EXTRACT, MAX_IN_FLIGHT, Arrival, Traffic, cycled, read_trace
from stream.coefficients import load_tables

MODELS = ("a", "b", "c")
AT_ONCE = [Arrival(0.0, 5, 7)] * 10


def test_trace() -> None:
    trace = read_trace()
    assert len(trace) == 400
    assert trace[0] == Arrival(0.0, 1330, 47)
    assert all(before.seconds <= after.seconds for before, after in itertools.pairwise(trace))
    assert sum(arrival.prompt_tokens > 1920 for arrival in trace) > 40
    assert sum(arrival.seconds < 4 and arrival.output_tokens < 100 for arrival in trace) > 10


def test_trace_says_where_it_comes_from() -> None:
    head = EXTRACT.read_text(encoding="utf-8")[:500]
    notice = (Path(__file__).parents[2] / "NOTICE").read_text(encoding="utf-8")
    for text in (head, notice):
        assert "Azure LLM Inference Trace 2023" in text
        assert "CC BY 4.0" in text


def test_trace_is_cycled_without_a_gap() -> None:
    trace = [Arrival(0.0, 1, 1), Arrival(1.0, 2, 2), Arrival(4.0, 3, 3)]
    seconds = [arrival.seconds for arrival in itertools.islice(cycled(trace), 7)]
    assert seconds == [0.0, 1.0, 4.0, 6.0, 7.0, 10.0, 12.0]


@pytest.mark.parametrize("speed", [0.0, -1.0, float("nan")])
def test_impossible_speed(speed: float) -> None:
    with pytest.raises(ValueError, match="speed must be above 0"):
        Demo(speed)


class Counting:
    """A server that holds each request until released, and knows how many it holds."""

    def __init__(self, status: int = 200) -> None:
        self.status = status
        self.bodies: list[dict[str, object]] = []
        self.holding = 0
        self.most = 0
        self.release = asyncio.Event()
        self.full = asyncio.Event()
        self.left = asyncio.Event()

    async def answer(self, request: web.Request) -> web.Response:
        self.bodies.append(json.loads(await request.read()))
        self.holding += 1
        self.most = max(self.most, self.holding)
        if self.holding == MAX_IN_FLIGHT:
            self.full.set()
        try:
            await self.release.wait()
        finally:
            self.holding -= 1
            if not self.holding:
                self.left.set()
        return web.Response(status=self.status, text="{}")


@asynccontextmanager
async def served(counting: Counting) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_post("/v1/chat/completions", counting.answer)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def test_speed_is_bounded_and_the_stop_is_clean() -> None:
    async def main() -> None:
        counting = Counting()
        async with served(counting) as url:
            traffic, stop = Traffic(MODELS, speed=1e6, seed=1, trace=AT_ONCE), asyncio.Event()
            running = asyncio.ensure_future(traffic.run(url, stop))
            async with asyncio.timeout(20):
                await counting.full.wait()
                assert traffic.counts.in_flight == MAX_IN_FLIGHT
                stop.set()
                await running
                await counting.left.wait()
        assert counting.most == MAX_IN_FLIGHT
        assert traffic.counts.in_flight == 0
        assert traffic.counts.sent == MAX_IN_FLIGHT

    asyncio.run(main())


@pytest.mark.parametrize("status", [200, 503])
def test_requests_and_their_counts(status: int) -> None:
    async def main() -> None:
        counting = Counting(status)
        counting.release.set()
        async with served(counting) as url:
            traffic, stop = Traffic(MODELS, speed=1000.0, seed=1, trace=AT_ONCE), asyncio.Event()
            running = asyncio.ensure_future(traffic.run(url, stop))
            async with asyncio.timeout(20):
                while len(counting.bodies) < 200:
                    await asyncio.sleep(0.01)
            stop.set()
            await running
        bodies = counting.bodies
        assert {body["model"] for body in bodies} == set(MODELS)
        assert {body["max_tokens"] for body in bodies} == {7}
        assert bodies[0]["messages"] == [{"role": "user", "content": "word word word word word"}]
        assert 0.5 < sum("stream" in body for body in bodies) / len(bodies) < 0.9
        counts = traffic.counts
        if status == 200:
            assert counts.completed > 100
            assert not counts.failures
        else:
            assert counts.completed == 0
            assert counts.failures["503"] > 100

    asyncio.run(main())


def test_a_gateway_that_is_away_is_counted_and_survived() -> None:
    async def main() -> None:
        async with served(Counting()) as url:
            pass
        traffic, stop = Traffic(MODELS, speed=1000.0, trace=AT_ONCE), asyncio.Event()
        running = asyncio.ensure_future(traffic.run(url, stop))
        async with asyncio.timeout(20):
            while traffic.counts.failures["ClientConnectorError"] < 10:
                await asyncio.sleep(0.01)
        stop.set()
        await running
        assert traffic.counts.completed == 0

    asyncio.run(main())


def test_demo_end_to_end_without_a_gateway() -> None:
    async def main() -> None:
        demo, stop = Demo(speed=20.0, seed=1), asyncio.Event()
        url = await demo.start()
        try:
            running = asyncio.ensure_future(demo.traffic(url, stop))
            async with asyncio.timeout(30):
                while demo.client.counts.completed < 3:
                    await asyncio.sleep(0.02)
            stop.set()
            await running
        finally:
            await demo.close()
        notes = demo.notes()
        assert notes["traffic"]["completed"] >= 3
        assert notes["traffic"]["failures"] == {}
        assert json.loads(json.dumps(notes)) == notes

    asyncio.run(main())


def test_several_models_complete_within_15_seconds() -> None:
    """By the clock of the simulation: arrivals of the trace, service times of the provider, ten seeds."""
    for seed in range(10):
        demo = Demo(seed=seed)
        provider, client = demo.upstream.provider, demo.client
        done = set()
        for arrival in itertools.takewhile(lambda one: one.seconds < 15, cycled(read_trace())):
            model = str(client.body(arrival)["model"])
            timing = provider.service_time(model, arrival.prompt_tokens, arrival.seconds)
            if arrival.seconds + timing.whole(arrival.output_tokens) < 12:
                done.add(model)
        assert len(done) >= 4, seed


def test_replayed_models_have_what_the_page_compares() -> None:
    tables = load_tables()
    for model in Demo().upstream.provider.models:
        assert tables.row("a100-megatron", model) is not None
        assert tables.row("api-2022", model) is not None
