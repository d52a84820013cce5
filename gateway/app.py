"""The gateway as a whole: one process with proxy, event log, embedded stream and own paths."""

import asyncio
import fcntl
import logging
from collections.abc import Callable
from contextlib import AsyncExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import web
from aiohttp.web_request import BaseRequest

from gateway.addresses import is_loopback
from gateway.control import STOPPED, Control, WorkerStatus
from gateway.guard import Guard
from gateway.headers import Callers, load_salt
from gateway.log import LogWriter, Retention
from gateway.own_paths import OwnPaths, is_health, is_own
from gateway.proxy import Proxy
from gateway.refusal import Refusal, refusal_reply
from gateway.routes import Config
from gateway.target import origin_form
from stream import __version__
from stream.coefficients import Tables

logger = logging.getLogger("trueclock.gateway")
_silent = logging.getLogger("trueclock.http")  # what aiohttp says of malformed HTTP would quote it
_silent.setLevel(logging.CRITICAL + 1)

_LINE = 1 << 16
_LAST_PORT = 65_535


class StartError(Exception):
    """The gateway cannot start; `str(error)` is one line: what, where, what to do."""


@dataclass(frozen=True)
class Settings:
    """What `gateway run` and `gateway demo` are told. `admin` is None where the own paths share the address."""

    config: Config
    tables: Tables
    data_dir: Path
    host: str = "127.0.0.1"
    port: int = 4000
    admin: tuple[str, int] | None = None
    allowed_hosts: tuple[str, ...] = ()
    grace_seconds: float = 30.0
    source: str = "gateway"
    notes: Callable[[], dict[str, Any]] | None = None


class Gateway:
    """A running gateway: `start`, then serve until `close`, which lets requests in flight finish."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._runners: list[web.ServerRunner] = []
        self.url = ""

    async def start(self) -> None:
        """Open the data directory, bind the addresses and serve; raises StartError, LogError and the like."""
        async with AsyncExitStack() as opened:
            await self._open(opened)
            self._opened = opened.pop_all()

    async def _open(self, opened: AsyncExitStack) -> None:
        settings, config = self.settings, self.settings.config
        opened.enter_context(lock_data_dir(settings.data_dir))
        retention = Retention(config.retention_days, config.retention_bytes)
        log = opened.enter_context(closing(LogWriter(settings.data_dir / "events-0.sqlite", retention)))
        callers = Callers(load_salt(settings.data_dir), config.callers)
        self.proxy = Proxy(config, log, callers, settings.source)
        opened.push_async_callback(self.proxy.close)
        status = WorkerStatus(lambda: self.proxy.active, log.counts)
        self.control = opened.enter_context(closing(Control(settings.data_dir, settings.tables, [status], __version__)))
        self._own = OwnPaths(self.control, settings.notes)
        following = asyncio.create_task(self.control.run())
        following.add_done_callback(_report)
        opened.push_async_callback(_cancelled, following)
        await self._bind(opened)
        self._own.address = self.url

    async def _bind(self, opened: AsyncExitStack) -> None:
        settings = self.settings
        shared = settings.admin is None
        front = _Front(
            self.proxy, self._own if shared else None, self._own, Guard(settings.host, settings.allowed_hosts)
        )
        self.url = await self._listen(opened, front.handle, settings.host, settings.port)
        if settings.admin is not None:
            host, port = settings.admin
            admin = _Front(None, self._own, self._own, Guard(host, settings.allowed_hosts))
            self.admin_url = await self._listen(opened, admin.handle, host, port)
        else:
            self.admin_url = self.url

    async def _listen(self, opened: AsyncExitStack, handler: Callable[[BaseRequest], Any], host: str, port: int) -> str:
        server = web.Server(
            handler,
            handler_cancellation=True,  # what makes aiohttp cancel the upstream when the client leaves
            auto_decompress=False,
            access_log=None,
            logger=_silent,
            max_line_size=_LINE,
            max_field_size=_LINE,
        )
        runner = web.ServerRunner(server, shutdown_timeout=self.settings.grace_seconds)
        await runner.setup()
        opened.push_async_callback(runner.cleanup)
        self._runners.append(runner)
        site = web.TCPSite(runner, host.strip("[]"), port, backlog=1024)
        try:
            await site.start()
        except OSError as error:
            reason = (error.strerror or "").rpartition(": ")[2]  # asyncio's own repeats the address
            raise StartError(f"cannot listen on {host}:{port}: {reason}; choose another --host or --port") from None
        bound = runner.addresses[0][1]
        shown = "127.0.0.1" if host in ("0.0.0.0", "::", "localhost") else host  # noqa: S104 - shown, not bound
        return f"http://[{shown}]:{bound}" if ":" in shown and not shown.startswith("[") else f"http://{shown}:{bound}"

    async def close(self) -> None:
        """Stop accepting, let requests in flight finish within the grace time, write what is left."""
        finishing = asyncio.gather(*(runner.cleanup() for runner in self._runners))
        await asyncio.wait([finishing], timeout=self.settings.grace_seconds)
        self.proxy.abandon()
        await finishing
        await self._opened.aclose()


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])


def _report(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception() is not None:
        logger.error(STOPPED, exc_info=task.exception())


class _Front:
    """The handler of one listening address: guard, own paths, proxy."""

    def __init__(self, proxy: Proxy | None, own: OwnPaths | None, health: OwnPaths, guard: Guard) -> None:
        self._proxy = proxy
        self._own = own
        self._health = health
        self._guard = guard

    async def handle(self, request: BaseRequest) -> web.StreamResponse:
        path, _, query = (origin_form(request.raw_path) or "").partition("?")
        try:
            self._guard.check(request)
            if is_own(path):
                return await self._answer(request, path, query)
            if self._proxy is None:
                raise Refusal(404, "not_found", "this address serves the gateway's own paths alone")
        except Refusal as refusal:
            return refusal_reply(refusal)
        return await self._proxy.handle(request)

    async def _answer(self, request: BaseRequest, path: str, query: str) -> web.Response:
        if self._own is not None:
            return await self._own.answer(request, path, query)
        if is_health(path):
            return await self._health.answer(request, path, query)
        raise Refusal(404, "not_found", "page, /metrics and /trueclock are served on the --admin address")


def admin_address(host: str, port: int, admin: str | None) -> tuple[str, int] | None:
    """Where the own paths are served: on the gateway's own address when that is loopback, else apart."""
    if admin is None:
        if not is_loopback(host) and port == _LAST_PORT:
            raise StartError(f"there is no port after {port} for page and metrics: name one with --admin HOST:PORT")
        return None if is_loopback(host) else ("127.0.0.1", port + 1 if port else 0)
    name, _, number = admin.rpartition(":")
    if not name or not number.isdigit() or int(number) > _LAST_PORT:
        raise StartError(f"--admin {admin}: expected HOST:PORT")
    return name, int(number)


def lock_data_dir(data_dir: Path) -> Any:
    """Take the data directory for this process; the system lets go of it however the process ends."""
    try:
        data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = (data_dir / "gateway.lock").open("a")
    except OSError as error:
        raise StartError(
            f"{data_dir}: cannot be used as data directory: {error.strerror}; choose another --data-dir"
        ) from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        raise StartError(f"{data_dir}: another gateway is using it; stop that, or choose another --data-dir") from None
    return lock
