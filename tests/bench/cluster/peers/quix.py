"""Quix Streams, on librdkafka, which is C with threads of its own."""

import tempfile

from quixstreams import Application
from work import BROKER, GROUP, SOURCE, TARGET, enriched

app = Application(
    broker_address=BROKER,
    consumer_group=GROUP,
    auto_offset_reset="earliest",
    auto_create_topics=False,
    loglevel="WARNING",
    producer_extra_config={"linger.ms": 20, "compression.type": "lz4", "batch.size": 1 << 20},
    state_dir=tempfile.mkdtemp(),
)
source = app.topic(SOURCE, value_deserializer="bytes")
target = app.topic(TARGET, value_serializer="bytes")
events = app.dataframe(source).apply(enriched, expand=True)
events.to_topic(target)

if __name__ == "__main__":
    app.run()
