"""The fleet's problems: a worker writes the requests of its own events, and follows those of all, and their outcomes.

Both topics are read from their beginnings into a ledger, so every worker knows the whole. They are a side of the work,
never in its way: where one is missing or refused, events are enriched all the same, and strategies say why they are not
there.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any

import msgspec
from aiokafka.errors import (
    InvalidTopicError,
    KafkaError,
    MessageSizeTooLargeError,
    PolicyViolationError,
    RecordListTooLargeError,
    TopicAuthorizationFailedError,
)
from msgspec import structs

from stream.coefficients import Tables
from stream.engine import Output
from stream.follower import Follower
from stream.kafka import KafkaSettings
from stream.problems import InvalidOutcome, InvalidProblemRequest, Ledger, decode_outcome, decode_problem_request
from stream.query import Query
from stream.records import unreadable
from stream.strategies import in_dollars, strategies, strategies_by_stack
from stream.topic_creation import ensure_topics
from stream.topics import TopicError
from stream.writer import Refusals, Writer

__all__ = ["FleetProblems", "NotThere"]

_AT_ONCE = 200  # records handed over before others on the loop have their turn: a few milliseconds
_WAIT_MS = 2000  # for news, of which there mostly are none
_LOOK_SECONDS = 60.0  # between looks for what grew old, and for a topic that is missing
_AGAIN_SECONDS = 2.0
_LATEST = 253_402_300_799.0  # in the year 9999: the time of a record is whatever its writer says
_REFUSALS = (
    InvalidTopicError,
    MessageSizeTooLargeError,
    PolicyViolationError,
    RecordListTooLargeError,
    TopicAuthorizationFailedError,
)

_encode = msgspec.json.Encoder().encode

logger = logging.getLogger("trueclock.stream")


class NotThere(Exception):
    """The strategies of the fleet cannot be told just now; `str(error)` is one line that says why."""


class FleetProblems:
    """The ledger of all, and the way there.

    `unreadable` counts records by topic, `written` and `unwritten` this worker's own requests.
    """

    def __init__(self, kafka: KafkaSettings, writer: Writer) -> None:
        """Begin with nothing."""
        self.ledger = Ledger()
        self.unreadable = {"outcomes": 0, "problems": 0}
        self.written = self.unwritten = 0
        self._kafka = kafka
        self._topics = kafka.topics
        self._writer = writer
        self._counts: dict[str, int] = {}
        self._refused: str | None = None
        self._whole = False
        takers = {self._topics.problems: self._request, self._topics.outcomes: self._outcome}
        self._follower = Follower(kafka, takers, _AT_ONCE, wait_ms=_WAIT_MS)
        self._task: asyncio.Task[None] | None = None

    def start(self, counts: dict[str, int]) -> None:
        """Follow both topics, as soon as they are there; `counts` says how many partitions each topic has."""
        self._counts = counts
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """End."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        await self._follower.stop()

    # --- what this worker writes

    async def write(self, requests: Sequence[Output]) -> None:
        """Have the broker acknowledge requests; what it never will is counted, and waited for no longer."""
        topic, refused = self._topics.problems, list[BaseException]()
        if topic in self._counts:
            refused = await self._writer.write(topic, requests, refusals=Refusals(_REFUSALS, self._gone))
        lost = len(refused) if topic in self._counts else len(requests)
        self._refused = f"{topic} is refused: {type(refused[-1]).__name__}" if refused else None
        self.written += len(requests) - lost
        self.unwritten += lost
        if lost:
            logger.warning("requests of problems are not written: %s", self.missing or self._refused)

    async def _gone(self) -> bool:
        """Whether the topic is not there any more, nor can be made; brokers that are away say nothing of that."""
        with suppress(KafkaError, OSError, TopicError):
            await self._look()
        return self._topics.problems not in self._counts

    async def _look(self) -> None:
        self._counts = await asyncio.to_thread(ensure_topics, self._kafka, self._topics)

    # --- what it knows of all

    @property
    def missing(self) -> str | None:
        """Say which topic is not there; None where both are."""
        both = self._topics.problems, self._topics.outcomes
        missing = next((each for each in both if each not in self._counts), None)
        return None if missing is None else f"there is no topic {missing}, and it cannot be created: have that done"

    @property
    def absent(self) -> str | None:
        """Why the whole is not there; None where it is."""
        if self._whole or self.missing is not None:
            return self.missing
        return self._follower.failing or "the outcomes and problems of the fleet are being read"

    @property
    def failing(self) -> str | None:
        """Why the whole is not there, or what this worker did is not part of it; None where all is well."""
        return self.absent or self._refused

    def answer(self, query: str, tables: Tables, now: float) -> Callable[[], bytes]:
        """Look up what a query asks for, and return what makes the JSON of it; raise QueryError or NotThere.

        The making takes its time, and may happen in a thread: it looks at nothing that changes meanwhile.
        """
        asked = Query(query, ("stack", "human_dollars"), tables.references, tables.reference, now)
        human = in_dollars(asked.amount("human_dollars"))
        if self.absent is not None:
            raise NotThere(self.absent)
        known = self.ledger.copy()
        return lambda: _encode(strategies(known, asked.stack, human))

    async def compared(self, stacks: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Work the strategies out on each stack, all of one moment, in a thread; nothing where the whole is absent."""
        if self.absent is not None:
            return {}
        return await asyncio.to_thread(_compared, self.ledger.copy(), stacks)

    async def _run(self) -> None:
        for step in (self._begin, self._follower.catch_up):
            await _in_the_end(step)
        self._whole = True
        while True:
            self.ledger.prune(time.time())
            self.ledger.changed()  # which is there for who stores it: here the topics do
            await asyncio.sleep(_LOOK_SECONDS)
            if self.missing is not None:
                await _in_the_end(self._look)

    async def _begin(self) -> None:
        while self.missing is not None:
            await asyncio.sleep(_LOOK_SECONDS)
            await self._look()
        both = self._topics.problems, self._topics.outcomes
        await self._follower.start({topic: self._counts[topic] for topic in both})

    def _request(self, record: Any) -> None:
        try:
            request = decode_problem_request(_value(record))
        except InvalidProblemRequest:
            self.unreadable["problems"] += 1
            return
        place = f"{record.topic}/{record.partition}/{record.offset}"
        self.ledger.observe(request if request.id else structs.replace(request, id=place))

    def _outcome(self, record: Any) -> None:
        try:
            recorded = min(max(record.timestamp / 1000, 0.0), _LATEST)
            outcome = decode_outcome(_value(record), recorded, time.time())
        except InvalidOutcome:
            self.unreadable["outcomes"] += 1
            return
        self.ledger.judge(outcome)


def _compared(ledger: Ledger, stacks: Sequence[str]) -> dict[str, dict[str, Any]]:
    *_, answers = strategies_by_stack(ledger, stacks)
    return answers or {}


def _value(record: Any) -> bytes:
    """A record's value; empty, of which nothing can be read, where it has none or is of a format yet to come."""
    return b"" if record.value is None or unreadable(record.headers) else record.value


async def _in_the_end(what: Callable[[], Awaitable[None]]) -> None:
    """Do what needs a broker, as often as it takes."""
    while True:
        try:
            return await what()
        except (KafkaError, OSError, TopicError) as error:
            logger.debug("%s", error)
            await asyncio.sleep(_AGAIN_SECONDS)
