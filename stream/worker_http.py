"""What a stream worker answers over HTTP: metrics, health, the fleet's windows and strategies, how far it is itself."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import msgspec
from aiohttp import web
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest

from stream import __version__
from stream.fleet_problems import NotThere
from stream.hosts import Hosts, url_of
from stream.query import QueryError
from stream.strategy_metrics import MOST_STACKS, StrategyMetrics
from stream.table_watch import TableWatch
from stream.windows_json import windows_answer
from stream.worker import StreamWorker
from stream.worker_metrics import WorkerMetrics

__all__ = ["WorkerHttp"]

_TEXT = "text/plain; version=0.0.4; charset=utf-8"
_FRESH = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
_encode = msgspec.json.Encoder().encode


class WorkerHttp:
    """The HTTP side of one worker; it only reads."""

    def __init__(self, worker: StreamWorker, tables: TableWatch) -> None:
        """Serve nothing yet."""
        self._worker, self._tables = worker, tables
        self._registry = CollectorRegistry()
        self._registry.register(worker.engine.metrics)
        self._registry.register(WorkerMetrics(worker, tables, __version__))
        self._comparison = StrategyMetrics(self._compared)
        self._registry.register(self._comparison)
        ProcessCollector(registry=self._registry)
        self._runner: web.ServerRunner | None = None
        self._hosts = Hosts("127.0.0.1")

    async def start(self, host: str, port: int) -> str:
        """Listen, and return the URL; raise OSError where that cannot be."""
        self._hosts = Hosts(host)
        self._runner = web.ServerRunner(web.Server(self._answer, access_log=None))
        await self._runner.setup()
        await web.TCPSite(self._runner, host.strip("[]"), port).start()
        return url_of(host, self._runner.addresses[0][1])

    async def stop(self) -> None:
        """Stop listening."""
        self._comparison.stop()
        if self._runner is not None:
            await self._runner.cleanup()

    async def _answer(self, request: Any) -> web.Response:
        headers = request.headers
        if not (self._hosts.serves(headers.get("Host", "")) and self._hosts.trusts(headers.get("Origin"))):
            return _error(403, "host_not_allowed", "this Host or Origin is not served here")
        if request.method not in ("GET", "HEAD"):
            refusal = _error(405, "method_not_allowed", f"{request.path[:80]} answers GET")
            refusal.headers["Allow"] = "GET, HEAD"
            return refusal
        match request.path:
            case "/metrics":
                await self._comparison.refresh()
                return web.Response(body=generate_latest(self._registry), headers={"Content-Type": _TEXT})
            case "/health/live":
                return web.Response(body=b"ok\n", content_type="text/plain")
            case "/health/ready":
                return self._ready()
            case "/trueclock/v1/status":
                return _json(self._status())
            case "/trueclock/v1/windows":
                return await self._windows(request.query_string)
            case "/trueclock/v1/strategies":
                return await self._strategies(request.query_string)
        return _error(404, "not_found", f"{request.path[:80]} is not one of the worker's paths")

    def _ready(self) -> web.Response:
        worker = self._worker
        if worker.ready and worker.failing is None:
            return web.Response(body=b"ok\n", content_type="text/plain")
        why = worker.trouble or ("partitions are being recovered" if worker.assigned else "joining the consumer group")
        return web.Response(status=503, body=f"{why}\n".encode(), content_type="text/plain")

    async def _windows(self, query: str) -> web.Response:
        windows, tables = self._worker.engine.windows, self._tables.tables
        return await _made(lambda: windows_answer(windows, query, tables, time.time()))

    async def _compared(self) -> dict[str, dict[str, Any]]:
        return await self._worker.problems.compared(self._tables.tables.references[:MOST_STACKS])

    async def _strategies(self, query: str) -> web.Response:
        problems, tables = self._worker.problems, self._tables.tables
        try:
            return await _made(lambda: problems.answer(query, tables, time.time()))
        except NotThere as error:
            return _error(503, "strategies_not_there", str(error))

    def _status(self) -> dict[str, Any]:
        worker, engine = self._worker, self._worker.engine
        return {
            "name": worker.name,
            "version": __version__,
            "topic": worker.topics.requests,
            "group": worker.group,
            "ready": worker.ready,
            "failing": worker.trouble,
            "partitions": sorted(worker.lanes),
            "lag_records": sum(worker.lag.values()),
            "lag_seconds": worker.lag_seconds,
            "table_version": self._tables.tables.version,
            "tables_failing": self._tables.failing,
            **msgspec.structs.asdict(engine.counts),
            "claims_lost": worker.claims_lost,
            "windows": {each: msgspec.structs.asdict(head) for each, head in engine.windows.own().items()},
            "baselines": len(engine.baselines),
            "problems": worker.problems.ledger.problems,
            "problems_failing": worker.problems.failing,
            "pinned": engine.pinned is not None,
        }


async def _made(look_up: Callable[[], Callable[[], bytes]]) -> web.Response:
    """Look up what is asked for, and make the answer of it in a thread."""
    try:
        answer = look_up()
    except QueryError as error:
        return _error(400, "bad_parameter", str(error))
    body = await asyncio.to_thread(answer)
    return web.Response(body=body, content_type="application/json", headers=_FRESH)


def _json(content: Any, status: int = 200) -> web.Response:
    return web.Response(status=status, body=_encode(content), content_type="application/json", headers=_FRESH)


def _error(status: int, code: str, message: str) -> web.Response:
    return _json({"error": {"code": code, "message": message}}, status)
