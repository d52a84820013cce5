"""Topics are created where they are missing, fit each other, and what is there is left as it is."""

import logging
import threading
from contextlib import closing
from typing import Any

import pytest
from kafka_broker import Served
from kafka_topics import create_topic, topics_of

from stream.kafka import KafkaSettings, settings_of
from stream.kafka_client import KafkaUnreachable
from stream.topic_creation import ensure_topics
from stream.topics import TopicError


@pytest.fixture
def kafka(broker: Served, prefix: str) -> KafkaSettings:
    return settings_of({"bootstrap.servers": broker.bootstrap}, prefix)


def setting(kafka: KafkaSettings, topic: str, name: str) -> str:
    from kafka import KafkaAdminClient
    from kafka.admin import ConfigResource

    with closing(KafkaAdminClient(**kafka.kafka_python())) as admin:
        described = admin.describe_configs([ConfigResource("topic", topic)])
    found: str = described["topic"][topic][name]["value"]
    return found


def test_all_are_created_as_they_are_used(kafka: KafkaSettings) -> None:
    topics = kafka.topics
    made = ensure_topics(kafka, topics, partitions=3)
    assert made == {**dict.fromkeys(topics, 3), topics.baselines: 1}
    assert set(topics) <= set(topics_of(kafka.brokers))
    for topic in (topics.requests, topics.enriched, topics.dead):
        assert setting(kafka, topic, "retention.ms") == str(7 * 86_400_000)
    for topic in (topics.outcomes, topics.problems):
        assert setting(kafka, topic, "retention.ms") == str(30 * 86_400_000)
    for topic in (topics.baselines, topics.windows):
        assert set(setting(kafka, topic, "cleanup.policy").split(",")) == {"compact", "delete"}
    assert ensure_topics(kafka, topics, partitions=9) == made, "what is there stays"


def test_outputs_follow_the_partitions_of_requests(kafka: KafkaSettings) -> None:
    create_topic(kafka.brokers, kafka.topics.requests, 5)
    found = ensure_topics(kafka, kafka.topics)
    assert found[kafka.topics.enriched] == found[kafka.topics.windows] == 5


def test_output_with_too_few_partitions_is_refused(kafka: KafkaSettings) -> None:
    create_topic(kafka.brokers, kafka.topics.requests, 3)
    create_topic(kafka.brokers, kafka.topics.enriched, 2)
    with pytest.raises(TopicError) as raised:
        ensure_topics(kafka, kafka.topics)
    assert str(raised.value) == (
        f"topic {kafka.topics.enriched} has 2 partitions and {kafka.topics.requests} 3: it needs as many: "
        f"kafka-topics.sh --alter --topic {kafka.topics.enriched} --partitions 3"
    )


def test_several_may_create_them_at_once(kafka: KafkaSettings) -> None:
    found: list[dict[str, int]] = []
    threads = [threading.Thread(target=lambda: found.append(ensure_topics(kafka, kafka.topics, 2))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [len(each) for each in found] == [7] * 4


def test_a_broker_that_is_not_there_is_told_of() -> None:
    with pytest.raises(KafkaUnreachable, match=r"^127\.0\.0\.1:1: Connection refused$"):
        ensure_topics(settings := settings_of({"bootstrap.servers": "127.0.0.1:1"}), settings.topics)


def test_topics_that_were_made_and_may_not_be_seen_stop_nothing(
    kafka: KafkaSettings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As with the right to create topics, and rights to those of an older release alone."""
    from kafka import KafkaAdminClient

    topics, describe, wait = kafka.topics, KafkaAdminClient.describe_topics, KafkaAdminClient.wait_for_topics
    hidden = {topics.outcomes, topics.problems}

    def seen(admin: Any, topics: list[str]) -> list[Any]:
        found: list[Any] = describe(admin, topics)
        return [{**each, "error_code": 29} if each["name"] in hidden else each for each in found]

    monkeypatch.setattr(KafkaAdminClient, "describe_topics", seen)
    monkeypatch.setattr(KafkaAdminClient, "wait_for_topics", lambda admin, names: wait(admin, names, timeout_ms=300))
    for _ in range(2):
        assert set(ensure_topics(kafka, topics, 2)) == set(topics) - hidden
    ours = (each for each in caplog.records if each.name.startswith("trueclock"))  # not a busy client's own
    (said,) = (each.message for each in ours if each.levelno >= logging.WARNING)
    assert said.endswith("not all can be seen: the user needs the right Describe on each topic")
