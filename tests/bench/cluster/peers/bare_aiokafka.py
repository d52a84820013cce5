"""A loop on aiokafka: fetch, enrich, send, wait for the acknowledgements, commit."""

import asyncio

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from work import BROKER, GROUP, SOURCE, TARGET, enriched


async def main() -> None:
    """Go on for ever."""
    options = {"auto_offset_reset": "earliest", "enable_auto_commit": False, "max_partition_fetch_bytes": 4 << 20}
    consumer = AIOKafkaConsumer(SOURCE, bootstrap_servers=BROKER, group_id=GROUP, **options)
    producer = AIOKafkaProducer(
        bootstrap_servers=BROKER, acks="all", compression_type="lz4", linger_ms=5, max_batch_size=1 << 20
    )
    async with consumer, producer:
        while True:
            for records in (await consumer.getmany(timeout_ms=200, max_records=500)).values():
                for record in records:
                    for event in enriched(record.value):
                        await producer.send(TARGET, event)
            await producer.flush()
            await consumer.commit()


if __name__ == "__main__":
    asyncio.run(main())
