"""The window of what was sent: what the producer itself refuses was not sent."""

from pathlib import Path
from typing import Any

import pytest

kafka_errors = pytest.importorskip("kafka.errors")

from gateway import forwarder_window  # noqa: E402 - needs the extra `cluster`
from gateway.forwarder_log import Tail  # noqa: E402
from gateway.forwarder_window import SendError, Window  # noqa: E402
from gateway.routes import Batching  # noqa: E402
from stream.kafka import settings_of  # noqa: E402
from tests.gateway.logs import record  # noqa: E402


class Answered:
    """A future that the broker has answered."""

    is_done, exception = True, None

    def add_both(self, *_: Any) -> None:
        pass


class Producer:
    """Takes some records, then has no metadata any more, as when a broker dies while a producer connects."""

    def __init__(self, takes: int) -> None:
        self.left, self.asked = takes, 0

    def send(self, *_: Any) -> Answered:
        self.asked += 1
        if self.left == 0:
            raise kafka_errors.KafkaTimeoutError("Failed to update metadata after 5.0 secs.")
        self.left -= 1
        return Answered()


@pytest.mark.parametrize("takes", [0, 1, 3])
def test_what_the_producer_does_not_take_is_not_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, takes: int
) -> None:
    producer = Producer(takes)
    monkeypatch.setattr(forwarder_window, "open_client", lambda *_, **__: producer)
    record(tmp_path, *(b'{"id":"%d"}' % number for number in range(6)))
    tail = Tail(tmp_path / "events-0.sqlite", Batching(linger_seconds=0.0, most_events=1))
    tail.identify()
    window = Window(settings_of({"bootstrap.servers": "127.0.0.1:1"}, ""), "topic", "dead")
    for outgoing in tail.read(linger=False):
        window.send(outgoing)
    done: list[int] = []
    with pytest.raises(SendError, match="Failed to update metadata"):
        done.extend(outgoing.last for outgoing, _ in window.settled())
    assert done == list(range(1, takes + 1))
    assert producer.asked == takes + 1, "after a failure nothing more is tried: each try blocks for seconds"
    assert len(window) == 1
    tail.close()
