"""One worker of several: proxy and event log of its own; own paths are the control process's.

It ends when `life` does: a pipe that the supervisor holds open, and that closes with it however it ends.
"""

import asyncio
import os
import socket
from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack, closing
from dataclasses import dataclass

from gateway.front import Front
from gateway.guard import Guard
from gateway.headers import Callers, load_salt
from gateway.listening import Servers
from gateway.log import LogCounts, LogWriter
from gateway.proxy import Proxy
from gateway.relay import Relay
from gateway.reload import telling_what_fails
from gateway.settings import Settings
from gateway.shared_config import SharedConfig
from gateway.shared_status import Slot, WorkerReport
from gateway.unused_logs import worker_log, worker_retention

__all__ = ["Worker", "closed"]

_TELL_SECONDS = 0.1


async def closed(pipe: int) -> None:
    """Wait until nobody holds the other end of a pipe open any more."""
    loop = asyncio.get_running_loop()
    over = loop.create_future()
    loop.add_reader(pipe, over.set_result, None)
    try:
        await over
    finally:
        loop.remove_reader(pipe)


@dataclass(frozen=True)
class Worker:
    """What one worker is made of: its number and sockets, its slot of the shared memory, where own paths are.

    `latest` is where the configuration is that was read last.
    """

    settings: Settings
    number: int
    sockets: Iterable[socket.socket]
    slot: Slot[WorkerReport]
    control: str
    latest: SharedConfig

    async def run(self, life: int, ready: Callable[[], None]) -> None:
        """Serve until `life` closes, then let requests in flight finish; raises LogError for a log of a newer kind."""
        settings, config = self.settings, self.settings.config
        async with AsyncExitStack() as opened:
            path = worker_log(settings.data_dir, self.number)
            log = opened.enter_context(closing(LogWriter(path, worker_retention(config, settings.workers))))
            _go_on(log.counts, self.slot.read())
            callers = Callers(load_salt(settings.data_dir), config.callers)
            proxy = Proxy(config, log, callers, settings.source)
            opened.push_async_callback(proxy.close)
            opened.callback(lambda: self._tell(proxy, log))
            relay = Relay(self.control)
            opened.push_async_callback(relay.close)
            servers = Servers(settings.grace_seconds)
            opened.push_async_callback(servers.close)
            guard = Guard(settings.host, settings.allowed_hosts)
            front = Front(proxy, relay, guard, apart=settings.admin is not None)
            await servers.serve(front.handle, self.sockets)
            telling = asyncio.create_task(self._keep_telling(proxy, log))
            following = asyncio.create_task(self._follow_config(proxy, log))
            ready()
            await closed(life)
            following.cancel()
            await servers.finish(proxy.abandon)
            telling.cancel()

    async def _keep_telling(self, proxy: Proxy, log: LogWriter) -> None:
        while True:
            self._tell(proxy, log)
            await asyncio.sleep(_TELL_SECONDS)

    async def _follow_config(self, proxy: Proxy, log: LogWriter) -> None:
        """Take other configurations as the supervisor reads them."""
        async for fresh in self.latest.following():
            with telling_what_fails():
                log.retention = worker_retention(fresh.config, self.settings.workers)
                proxy.use(fresh.config)

    def _tell(self, proxy: Proxy, log: LogWriter) -> None:
        self.slot.write(WorkerReport.of(os.getpid(), proxy.active, log.counts))


def _go_on(counts: LogCounts, before: WorkerReport) -> None:
    """Count on from where a worker of this number ended."""
    counts.written, counts.dropped, counts.commits = before.written, before.dropped, before.commits
    counts.slowest_commit_seconds = before.slowest_commit_seconds
