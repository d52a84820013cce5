"""Stopping a consumer whose broker is away."""

import asyncio
import logging
from typing import Any

import pytest

from stream.tail import stop_reader
from stream.worker_command import _Seldom


class Consumer:
    """Stops as aiokafka's does while a fetch waits to be tried again: it cancels the fetch, and awaits it bare."""

    async def stop(self) -> None:
        fetch = asyncio.create_task(asyncio.sleep(60))
        await asyncio.sleep(0)
        fetch.cancel()
        await fetch


def test_a_consumer_that_cancels_its_own_fetch_does_not_end_who_stops_it() -> None:
    consumer: Any = Consumer()
    asyncio.run(stop_reader(consumer))


def test_who_is_cancelled_meanwhile_is() -> None:
    async def scenario() -> None:
        consumer: Any = Consumer()
        stopping = asyncio.create_task(stop_reader(consumer))
        await asyncio.sleep(0)
        stopping.cancel()
        with pytest.raises(asyncio.CancelledError):
            await stopping

    asyncio.run(scenario())


def test_complaints_that_are_made_again_and_again_are_passed_once() -> None:
    seldom = _Seldom()

    def passed(name: str, level: int, text: str, *values: object) -> bool:
        return seldom.filter(logging.LogRecord(name, level, "", 0, text, values, None))

    assert passed("trueclock.stream", logging.WARNING, "partition %d", 1)
    assert passed("trueclock.stream", logging.WARNING, "partition %d", 2)
    assert not passed("trueclock.stream", logging.WARNING, "partition %d", 1)
    assert passed("aiokafka", logging.ERROR, "node %d", 1)
    assert not passed("aiokafka", logging.ERROR, "node %d", 2)
    assert all(passed("trueclock.stream", logging.INFO, "has partitions 0") for _ in range(2))
