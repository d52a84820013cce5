"""Appending to partitions with one owner at a time, on a real broker."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import kafka_topics
import pytest
from aiokafka.client import AIOKafkaClient
from kafka_broker import Broker, Served

from stream.fenced import Claim, ClaimLost, Record, TooLarge

Make = Callable[[], Claim]


@asynccontextmanager
async def claims(bootstrap: str, *topics: str) -> AsyncIterator[Make]:
    """Makes claims of partition 0 of these topics."""
    client = AIOKafkaClient(bootstrap_servers=bootstrap)
    await client.bootstrap()
    await client.set_topics(topics)
    try:
        yield lambda: Claim(client, f"test-{topics[0]}", 0, topics)
    finally:
        await client.close()


def run(scenario: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(scenario, 60))


def values(bootstrap: str, topic: str) -> list[bytes]:
    return [record.value for record in kafka_topics.read_topic(bootstrap, topic)]


@pytest.fixture
def topic(broker: Served, prefix: str) -> str:
    kafka_topics.create_topic(broker.bootstrap, f"{prefix}out")
    return f"{prefix}out"


def test_records_are_appended_together_and_shown_to_all(broker: Served, topic: str) -> None:
    async def scenario() -> None:
        async with claims(broker.bootstrap, topic) as make:
            claim = make()
            await claim.take()
            headers = [("trueclock-input", b"1.2"), ("schema-version", b"1")]
            first = await claim.append(topic, [Record(b"a", b"one", headers), Record(None, None)])
            assert await claim.append(topic, [Record(b"b", b"x" * 300_000)]) == first + 2

    run(scenario())
    one, none, large = kafka_topics.read_topic(broker.bootstrap, topic)
    assert (one.key, one.value, list(one.headers)) == (
        b"a",
        b"one",
        [("trueclock-input", b"1.2"), ("schema-version", b"1")],
    )
    assert (none.key, none.value) == (None, None)
    assert large.value == b"x" * 300_000


def test_a_former_owner_is_refused_from_the_claim_on(broker: Served, topic: str) -> None:
    async def scenario() -> None:
        async with claims(broker.bootstrap, topic) as make:
            zombie, owner = make(), make()
            await zombie.take()
            await zombie.append(topic, [Record(None, b"before")])
            await owner.take()
            with pytest.raises(ClaimLost):  # though the owner has written nothing yet
                await zombie.append(topic, [Record(None, b"too late")])
            await owner.append(topic, [Record(None, b"after")])
            with pytest.raises(ClaimLost):
                await zombie.append(topic, [Record(None, b"too late")])
            await zombie.take()
            await zombie.append(topic, [Record(None, b"claimed again")])

    run(scenario())
    assert values(broker.bootstrap, topic) == [b"before", b"after", b"claimed again"]


def test_a_claim_is_for_all_its_topics(broker: Served, topic: str) -> None:
    other = f"{topic}.other"
    kafka_topics.create_topic(broker.bootstrap, other)

    async def scenario() -> None:
        async with claims(broker.bootstrap, topic, other) as make:
            zombie, owner = make(), make()
            await zombie.take()
            await owner.take()
            for name in (topic, other):
                with pytest.raises(ClaimLost):
                    await zombie.append(name, [Record(None, b"too late")])

    run(scenario())
    assert values(broker.bootstrap, topic) == values(broker.bootstrap, other) == []


def test_bytes_sent_again_are_written_once(broker: Served, topic: str) -> None:
    async def scenario() -> None:
        async with claims(broker.bootstrap, topic) as make:
            claim = make()
            await claim.take()
            before = dict(claim._sequences)
            await claim.append(topic, [Record(None, b"once")])
            claim._sequences = before  # as though the broker's answer had been lost
            await claim.append(topic, [Record(None, b"once")])

    run(scenario())
    assert values(broker.bootstrap, topic) == [b"once"]


def test_what_is_too_large_is_refused_whole_and_changes_nothing(broker: Served, topic: str) -> None:
    async def scenario() -> None:
        async with claims(broker.bootstrap, topic) as make:
            claim = make()
            await claim.take()
            with pytest.raises(TooLarge):
                await claim.append(topic, [Record(None, b"small"), Record(None, os.urandom(2_000_000))])
            await claim.append(topic, [Record(None, b"next")])

    run(scenario())
    assert values(broker.bootstrap, topic) == [b"next"]


def test_several_claim_at_once_and_one_has_it(broker: Served, topic: str) -> None:
    async def scenario() -> None:
        async with claims(broker.bootstrap, topic) as make:
            rivals = [make() for _ in range(5)]
            await asyncio.gather(*(each.take() for each in rivals), return_exceptions=True)
            wrote = 0
            for each in rivals:
                try:
                    await each.append(topic, [Record(None, b"mine")])
                    wrote += 1
                except ClaimLost:
                    pass
            assert wrote <= 1

    run(scenario())


def test_a_broker_that_was_killed_gets_each_batch_once(own_broker: None, tmp_path: Any) -> None:
    written = 200

    async def scenario(broker: Broker) -> None:
        async with claims(broker.bootstrap, "out") as make:
            claim = make()
            await claim.take()

            async def append() -> None:
                for number in range(written):
                    await claim.append("out", [Record(None, b"%d" % number)])
                    await asyncio.sleep(0.005)

            appending = asyncio.create_task(append())
            await asyncio.sleep(0.4)
            await asyncio.to_thread(broker.kill)
            await asyncio.sleep(1)
            assert claim.failing
            await asyncio.to_thread(broker.start)
            await appending
            assert claim.failing is None

    with Broker(tmp_path / "broker") as broker:
        kafka_topics.create_topic(broker.bootstrap, "out")
        run(scenario(broker))
        assert values(broker.bootstrap, "out") == [b"%d" % number for number in range(written)]


def test_a_partition_that_is_not_there_yet_is_waited_for_before_its_claim(broker: Served, topic: str) -> None:
    """Its leader has it before the coordinator hears of it: see `Claim.take`."""

    async def scenario() -> None:
        client = AIOKafkaClient(bootstrap_servers=broker.bootstrap)
        await client.bootstrap()
        await client.set_topics([topic])
        asked, send = list[str](), client.send

        async def noted(node: int, request: Any, **more: Any) -> Any:
            asked.append(type(request).__name__)
            return await send(node, request, **more)

        client.send = noted
        claim = Claim(client, f"test-{topic}", 1, [topic])
        taking = asyncio.create_task(claim.take())
        while not (claim.failing and topic in claim.failing):
            await asyncio.sleep(0.01)
        assert "InitProducerIdRequest" not in asked
        await asyncio.to_thread(kafka_topics.more_partitions, broker.bootstrap, 2, topic)
        await taking
        assert asked.index("OffsetRequest") < asked.index("InitProducerIdRequest")
        assert claim.failing is None
        assert await claim.append(topic, [Record(b"a", b"one")]) == 1, "the marker is before it"
        await client.close()

    run(scenario())
