"""The gateway as a whole in one process: proxy, event log, embedded stream and own paths."""

from contextlib import AsyncExitStack, closing

from gateway.control import WorkerStatus
from gateway.control_side import open_control
from gateway.data_dir import lock_data_dir
from gateway.front import Front
from gateway.guard import Guard
from gateway.headers import Callers, load_salt
from gateway.listening import Servers
from gateway.log import LogWriter
from gateway.own_paths import OwnPaths
from gateway.proxy import Proxy
from gateway.reload import Loaded
from gateway.settings import Settings
from gateway.unused_logs import worker_log, worker_retention

__all__ = ["Gateway", "Settings"]


class Gateway:
    """A running gateway: `start`, then serve until `close`, which lets requests in flight finish."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._servers = Servers(settings.grace_seconds)
        self.url = ""

    async def start(self) -> None:
        """Open the data directory, bind the addresses and serve; raises StartError, LogError and the like."""
        async with AsyncExitStack() as opened:
            await self._open(opened)
            self._opened = opened.pop_all()

    async def _open(self, opened: AsyncExitStack) -> None:
        settings, config, watch = self.settings, self.settings.config, self.settings.watch
        opened.enter_context(lock_data_dir(settings.data_dir))
        log = opened.enter_context(closing(LogWriter(worker_log(settings.data_dir, 0), worker_retention(config))))
        callers = Callers(load_salt(settings.data_dir), config.callers)
        self.log, self.proxy = log, Proxy(config, log, callers, settings.source)
        opened.push_async_callback(self.proxy.close)
        status = WorkerStatus(lambda: self.proxy.active, lambda: log.counts)
        self.control, own = await open_control(opened, settings, [status])
        if watch is not None:
            self.control.follow_reloads(lambda: watch.reloads)
        opened.push_async_callback(self._servers.close)
        await self._bind(own)

    async def _bind(self, own: OwnPaths) -> None:
        settings, apart = self.settings, self.settings.admin
        guard = Guard(settings.host, settings.allowed_hosts)
        front = Front(self.proxy, own, guard, apart=apart is not None)
        own.address = self.url = await self._servers.listen(front.handle, settings.host, settings.port)
        self.admin_url = self.url
        if apart is not None:
            admin = Front(None, own, Guard(apart[0], settings.allowed_hosts))
            self.admin_url = await self._servers.listen(admin.handle, *apart)

    def use(self, loaded: Loaded) -> None:
        """Serve by another configuration from the next request on."""
        self.log.retention = worker_retention(loaded.config)
        self.proxy.use(loaded.config)
        self.control.use(loaded.config, loaded.tables, loaded.packed)

    async def close(self) -> None:
        """Stop accepting, let requests in flight finish within the grace time, write what is left."""
        await self._servers.finish(self.proxy.abandon)
        await self._opened.aclose()
