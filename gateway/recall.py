"""After a start: the last requests that were counted before, read again from the logs, for the page to show.

They are enriched with the tables and baselines that they were counted with, and counted nowhere.
"""

import asyncio
import heapq
import logging
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from operator import itemgetter
from pathlib import Path

from gateway.history import History, HistoryError
from gateway.log import LogReader
from stream.embedded import EmbeddedStream
from stream.events import EnrichedEvent, InvalidEvent, decode_event

__all__ = ["recall"]

_PAGE_ROWS = 50
_NEVER = datetime(1, 1, 1, tzinfo=UTC)

logger = logging.getLogger("trueclock.control")


async def recall(stream: EmbeddedStream, readers: Mapping[str, LogReader], data_dir: Path) -> None:
    """Show the stream the last requests of every log up to its cursor, all logs' in the order in which they ended."""
    ends = {name: stream.cursor(name).row for name in readers}
    if not any(ends.values()):
        return
    try:
        history = await asyncio.to_thread(History.load, data_dir, None, stream.tables)
    except HistoryError as error:
        logger.warning("the latest requests are shown from now on: %s", error)
        return
    logs = [_enriched(stream, reader, history, ends[name]) for name, reader in readers.items()]
    stream.requests.number(stream.counted - sum(min(end, stream.requests.size) for end in ends.values()))
    for number, (_, enriched) in enumerate(heapq.merge(*logs, key=itemgetter(0))):
        stream.remember(enriched)
        if number % _PAGE_ROWS == 0:
            await asyncio.sleep(0)
    stream.requests.number(stream.counted)


def _enriched(
    stream: EmbeddedStream, reader: LogReader, history: History, last: int
) -> Iterator[tuple[datetime, EnrichedEvent]]:
    """Yield the last events of a log up to row `last`, each with its end."""
    log_id, row = reader.identity(), max(last - stream.requests.size, 0)
    while rows := [(number, data) for number, data in reader.read(row, _PAGE_ROWS).rows if number <= last]:
        for number, data in rows:
            try:
                event = decode_event(data)
            except InvalidEvent:
                continue
            yield event.ended_at or _NEVER, history.enrich(log_id, number, event)
        row = rows[-1][0]
