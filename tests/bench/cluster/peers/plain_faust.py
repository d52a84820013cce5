"""Plain Faust, as its documentation has it, with the best settings that leave it so: an agent that awaits each send."""

import logging
import sys
import tempfile
from collections.abc import AsyncIterator

import faust
from work import BROKER, GROUP, SOURCE, TARGET, enriched

logging.disable(logging.INFO)  # Faust logs at DEBUG what it does with every record
app = faust.App(
    GROUP,
    broker=f"kafka://{BROKER}",
    consumer_auto_offset_reset="earliest",
    consumer_max_fetch_size=4 << 20,
    producer_linger=0.02,
    producer_max_batch_size=128 << 10,
    producer_compression_type="lz4",
    topic_disable_leader=True,
    web_enabled=False,
    datadir=tempfile.mkdtemp(),
)
source = app.topic(SOURCE, value_type=bytes, value_serializer="raw")
target = app.topic(TARGET, value_type=bytes, value_serializer="raw")


@app.agent(source)
async def job(records: AsyncIterator[bytes]) -> None:
    """Enrich."""
    async for value in records:
        for event in enriched(value):
            await target.send(value=event)


if __name__ == "__main__":
    sys.argv = [sys.argv[0], "worker", "--loglevel=warn"]
    app.main()
