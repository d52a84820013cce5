"""The topics, created where they are missing and that is allowed, and checked."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from stream.kafka import KafkaSettings
from stream.kafka_client import KafkaUnreachable, last_word, open_client
from stream.topics import TopicError, Topics

__all__ = ["PARTITIONS", "ensure_topics"]

PARTITIONS = 12
"""of `requests`: what the number of stream workers is bounded by"""

_DAY = 86_400_000  # milliseconds
_EVENTS = {"retention.ms": str(7 * _DAY)}
_PROBLEMS = {"retention.ms": str(30 * _DAY)}
# Segments are small, as what is in the latest one is never compacted, and whoever begins reads it all.
_LATEST = {"cleanup.policy": "compact,delete", "retention.ms": str(8 * _DAY), "segment.bytes": str(16 << 20)}
_EXISTS = 36  # Kafka's error code

_Wanted = Mapping[str, tuple[int, Mapping[str, str]]]

logger = logging.getLogger("trueclock.kafka")
_told: set[str] = set()


def ensure_topics(settings: KafkaSettings, topics: Topics, partitions: int = PARTITIONS) -> dict[str, int]:
    """Create what is missing; the number of partitions of each topic that there is then.

    A refusal is a warning, once a process, and that topic is not in what is returned. Raise KafkaUnreachable, and
    TopicError for topics that do not fit each other. Blocks for some seconds; not for an event loop.
    """
    with _admin(settings) as admin:
        found = _partitions(admin, topics)
        requests = found.get(topics.requests, partitions)
        outputs = {topics.enriched: (requests, _EVENTS), topics.dead: (requests, _EVENTS)}
        latest = {topics.windows: (requests, _LATEST), topics.baselines: (1, _LATEST)}
        problems = dict.fromkeys((topics.outcomes, topics.problems), (requests, _PROBLEMS))
        wanted = {topics.requests: (requests, _EVENTS), **outputs, **latest, **problems}
        missing = {name: shape for name, shape in wanted.items() if name not in found}
        if missing:
            _create(admin, missing)
            found = _partitions(admin, topics)
    _check(found, topics)
    return found


@contextmanager
def _admin(settings: KafkaSettings) -> Iterator[Any]:
    from kafka import KafkaAdminClient
    from kafka.errors import KafkaError

    admin = open_client(KafkaAdminClient, settings)
    try:
        yield admin
    except KafkaError as error:
        raise KafkaUnreachable(f"{settings.brokers}: {last_word() or error}") from None
    finally:
        admin.close()


def _partitions(admin: Any, topics: Topics) -> dict[str, int]:
    described = admin.describe_topics(list(topics))
    return {each["name"]: len(each["partitions"]) for each in described if not each["error_code"]}


def _create(admin: Any, missing: _Wanted) -> None:
    asked = {name: {"num_partitions": number, "configs": dict(how)} for name, (number, how) in missing.items()}
    created = admin.create_topics(asked, raise_errors=False)["topics"]
    for each in created:
        if each["error_code"] not in (0, _EXISTS) and each["name"] not in _told:
            _told.add(each["name"])
            why = (each["error_message"] or _name_of(each["error_code"])).rstrip(".")
            size = "1 partition" if missing[each["name"]][0] == 1 else f"{missing[each['name']][0]} partitions"
            logger.warning("topic %s cannot be created: %s; have it created, with %s", each["name"], why, size)
    made = [each["name"] for each in created if not each["error_code"]]
    if made:
        logger.info("created %s", ", ".join(f"{name} ({missing[name][0]})" for name in made))
    _wait(admin, [each["name"] for each in created if each["error_code"] in (0, _EXISTS)])


def _wait(admin: Any, made: list[str]) -> None:
    """Wait until topics are seen that were just made, here or by others; who may not see them is told so."""
    from kafka.errors import KafkaTimeoutError

    try:
        admin.wait_for_topics(made)
    except KafkaTimeoutError:
        unseen = ", ".join(name for name in made if name not in _told)
        _told.update(made)
        if unseen:
            logger.warning("of %s not all can be seen: the user needs the right Describe on each topic", unseen)


def _name_of(code: int) -> str:
    from kafka.errors import for_code

    return str(for_code(code).__name__)


def _check(found: Mapping[str, int], topics: Topics) -> None:
    """Raise TopicError where output has no partition to go to."""
    requests = found.get(topics.requests, 0)
    for name in (topics.enriched, topics.dead, topics.windows):
        if found.get(name, requests) < requests:
            raise TopicError(
                f"topic {name} has {found[name]} partitions and {topics.requests} {requests}: it needs as many: "
                f"kafka-topics.sh --alter --topic {name} --partitions {requests}"
            )
