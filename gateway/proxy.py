"""The proxy: one handler that forwards a request, passes the reply on as it is read, and records it once.

The order matters: an event is durable before the bytes that complete its reply go out, and nothing that
happens to the recording changes or fails a request.
"""

import asyncio
import logging
import time
from collections import defaultdict
from functools import partial
from time import monotonic
from typing import Any

from aiohttp import web
from aiohttp.web_request import BaseRequest

from gateway.ask import LARGE_BODY, USAGE_ROUTES, Ask, read_ask, route_of
from gateway.client_reply import ClientReply
from gateway.deadlines import Deadlines
from gateway.encoding import UndecodableBody
from gateway.exchange import Exchange
from gateway.headers import Callers, labels_of, to_upstream
from gateway.litellm_dialect import Asked
from gateway.litellm_transport import LitellmTransport
from gateway.log import LogWriter
from gateway.recorder import BytesPerToken, Recorder
from gateway.refusal import Refusal, refusal_reply
from gateway.reply import BodyReader, WholeBody
from gateway.routes import Config, Route, Upstream
from gateway.splice import rewritten
from gateway.target import climbs, origin_form
from gateway.trace_context import trace_headers
from gateway.upstream import Pool, Reply, UpstreamError
from stream.events import RequestEvent, encode_event

_ERROR_BODY_LIMIT = 1 << 16
_REPEATABLE = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"})
"""Methods that may be carried out twice (RFC 9110, 9.2.2)."""
_MOST_ATTEMPTS = 3
_TELL_SECONDS = 60.0

logger = logging.getLogger("trueclock.proxy")


class Proxy:
    """Serves every path that is an upstream's. Lives on one event loop."""

    def __init__(self, config: Config, log: LogWriter, callers: Callers, source: str = "gateway") -> None:
        self._config = config
        self._log = log
        self._callers = callers
        self._source = source
        self._pools: dict[tuple[str, float], Pool] = {}
        self._loop = asyncio.get_running_loop()
        self._deadlines = Deadlines()
        self._refuses_usage: set[str] = set()
        self._ratios: defaultdict[str, BytesPerToken] = defaultdict(BytesPerToken)
        self._told: dict[tuple[str | None, str], float] = {}
        self._litellm: LitellmTransport | None = None
        self._warm()
        self._retiring: asyncio.Task[None] | None = None
        self._running: set[asyncio.Task[Any]] = set()
        self._stopping = False

    @property
    def active(self) -> int:
        """Requests in flight."""
        return len(self._running)

    def _warm(self) -> None:
        """Have litellm imported if there is an entry that goes through it."""
        if self._litellm is None and any(upstream.transport == "litellm" for upstream in self._config.upstreams):
            self._litellm = LitellmTransport()
            self._litellm.warm()

    def use(self, config: Config) -> None:
        """Serve by another configuration from the next request on; those in flight end by the one they began with."""
        self._config, self._callers = config, self._callers.with_names(config.callers)
        self._refuses_usage.clear()  # an upstream may have been mended
        self._warm()
        if self._retiring is not None:
            self._retiring.cancel()  # its successor waits for the same requests, and for those since
        self._retiring = self._loop.create_task(self._retire(set(self._running)))

    async def _retire(self, running: set[asyncio.Task[Any]]) -> None:
        """Once nobody uses them any more, close the connections to upstreams that are no longer configured."""
        if running:
            await asyncio.wait(running)
        used = {_place(upstream) for upstream in self._config.upstreams}
        for key in self._pools.keys() - used:
            await self._pools.pop(key).close()

    async def handle(self, request: BaseRequest) -> web.StreamResponse:
        """Answer one request; however it ends, one event is recorded."""
        recorder = Recorder(monotonic(), time.time(), route_of(request.path), self._source)
        recorder.labels = labels_of(request.headers, self._callers)
        exchange = Exchange(request, recorder)
        task = asyncio.current_task(self._loop)
        assert task is not None
        self._running.add(task)
        try:
            return await self._answer(exchange, task)
        except (asyncio.CancelledError, ConnectionError):
            recorder.broke("gateway_stopped" if self._stopping else "client_disconnected", monotonic())
            raise
        finally:
            self._running.discard(task)
            if not recorder.finished:
                self._append(exchange.event(monotonic()))
            exchange.drop_reply()

    async def _answer(self, exchange: Exchange, task: asyncio.Task[Any]) -> web.StreamResponse:
        """Serve, and turn what fails into an error reply, or, once a reply has begun, into its breaking off."""
        try:
            return await self._serve(exchange, task)
        except Refusal as refusal:
            failure = refusal
        except UpstreamError as error:
            failure = Refusal(error.status, error.kind, str(error))
        except ConnectionError:
            raise  # the client has left
        except asyncio.CancelledError:
            if not self._deadlines.expired(task):
                raise
            limit = exchange.limit
            failure = Refusal(504, f"{limit}_timeout", f"the upstream took too long ({limit}_seconds)")
        except Exception:
            logger.exception("a request failed inside the gateway")
            failure = Refusal(500, "internal_error", "the gateway failed; its log says where")
        finally:
            self._deadlines.clear(task)
        return await self._fail(exchange, failure)

    async def _fail(self, exchange: Exchange, failure: Refusal) -> web.StreamResponse:
        recorder, client = exchange.recorder, exchange.client
        at = monotonic()
        recorder.broke(failure.code, at)
        self._tell(recorder.upstream, failure, at)
        if client is None:
            recorder.status = failure.status
            await self._record(exchange)
            return refusal_reply(failure)
        rest = b""
        if not recorder.finished:
            if recorder.reader is not None:
                rest = recorder.reader.finish(at) + recorder.reader.held
            await self._record(exchange)
        return await client.break_off(rest)

    def _tell(self, upstream: str | None, failure: Refusal, at: float) -> None:
        """Log an upstream's failure, once a minute of each kind: every one is an event and in the metrics."""
        key = (upstream, failure.code)
        if upstream is not None and failure.status >= 500 and at - self._told.get(key, -_TELL_SECONDS) >= _TELL_SECONDS:
            self._told[key] = at
            logger.warning("%s: %s (%s)", upstream, failure, failure.code)

    async def _serve(self, exchange: Exchange, task: asyncio.Task[Any]) -> ClientReply:
        recorder, config = exchange.recorder, self._config
        body = await exchange.read_body(config.body_limit_bytes)
        recorder.body_read, recorder.body_bytes = monotonic(), len(body)
        coding = exchange.request.headers.get("Content-Encoding", "")
        recorder.ask = await _ask(body, coding, config.body_limit_bytes)
        route = config.route(recorder.ask.model)
        if route is None:
            raise Refusal(404, "model_not_found", "no entry of model_list serves this model, and no default upstream")
        upstream = route.upstream
        recorder.provider, recorder.upstream, recorder.upstream_model = upstream.provider, upstream.name, route.model
        recorder.bytes_per_token = self._ratios[upstream.name]
        timeouts = upstream.timeouts
        if timeouts.total <= timeouts.first_byte:
            exchange.limit = "total"
        self._deadlines.set(task, min(timeouts.first_byte, timeouts.total))
        asked_for_usage = await self._open(exchange, route, body, coding)
        exchange.limit = "total"
        self._deadlines.set(task, timeouts.total - (monotonic() - recorder.body_read))
        return await self._pass_on(exchange, asked_for_usage=asked_for_usage)

    async def _open(self, exchange: Exchange, route: Route, body: bytes, coding: str) -> bool:
        """Send the request; true when the upstream was asked for usage on our own account.

        An upstream that refuses `stream_options` is asked once more without, and remembered if that was it.
        """
        recorder, ask = exchange.recorder, exchange.recorder.ask
        place = route.upstream.root or route.upstream.name
        model = route.model if route.model != ask.model else None
        wanting = ask.stream and not ask.include_usage and recorder.route in USAGE_ROUTES
        usage = wanting and place not in self._refuses_usage
        asking = body
        if not coding and (usage or model is not None):
            rewrite = partial(rewritten, body, model, usage=usage)
            asking, body = await asyncio.to_thread(rewrite) if len(body) > LARGE_BODY else rewrite()
        inject = asking is not body
        reply = await self._send(exchange, route, asking, identity=inject)
        if not inject or reply.status not in (400, 422):
            return inject
        if await exchange.says(b"stream_options", _ERROR_BODY_LIMIT):
            recorder.attempts[-1].ended = monotonic()
            exchange.drop_reply()
            again = await self._send(exchange, route, body, identity=False)
            if again.status not in (400, 422):  # else it was the client's own stream_options
                self._refuses_usage.add(place)
        return False

    async def _send(self, exchange: Exchange, route: Route, body: bytes, *, identity: bool) -> Reply:
        request, upstream = exchange.request, route.upstream
        attempt = exchange.recorder.attempt(upstream.name, monotonic())
        if upstream.transport == "litellm":
            reply: Reply = await self._translated(request, route, body)
        else:
            headers = to_upstream(request.raw_headers, upstream, identity=identity)
            pool = self._pool(upstream)
            target = self._target(request, upstream)[len(pool.origin) :]
            try:
                reply = await pool.send(request.method, target, headers, body)
            except UpstreamError as error:
                attempts = len(exchange.recorder.attempts)
                if not (error.on_old_connection and request.method in _REPEATABLE and attempts < _MOST_ATTEMPTS):
                    raise
                exchange.recorder.attempt_failed(error.kind, monotonic())
                return await self._send(exchange, route, body, identity=identity)
        exchange.reply = reply
        attempt.replied, attempt.connected, attempt.status = monotonic(), reply.connected_at, reply.status
        return reply

    @staticmethod
    def _target(request: BaseRequest, upstream: Upstream) -> str:
        path = origin_form(request.raw_path)
        if path is None:
            raise Refusal(400, "invalid_target", "the request's target is not a path")
        if upstream.has_path and climbs(path):
            raise Refusal(400, "invalid_target", "the request's target leads out of the upstream's base path")
        return upstream.target(path)

    async def _translated(self, request: BaseRequest, route: Route, body: bytes) -> Reply:
        assert self._litellm is not None
        headers = request.headers
        asked = Asked(request.raw_path, body, headers.get("Authorization"), trace_headers(headers))
        return await self._litellm.send(route, asked)

    def _pool(self, upstream: Upstream) -> Pool:
        key = _place(upstream)
        return self._pools.get(key) or self._pools.setdefault(key, Pool(*key))

    async def _pass_on(self, exchange: Exchange, *, asked_for_usage: bool) -> ClientReply:
        """Pass the reply on as it is read; its event is committed before its last bytes go."""
        reader, client = exchange.begin(asked_for_usage=asked_for_usage)
        recorder = exchange.recorder
        if not isinstance(reader, WholeBody):
            await client.write()  # a stream's head says that the upstream has begun
        next_bytes, feed, put = exchange.source(), reader.feed, client.put
        try:
            while data := await next_bytes():
                at = monotonic()
                if (out := feed(data, at)) and put(out):
                    await client.drained()
                if reader.complete:
                    await self._complete(exchange, reader, at)
        except UndecodableBody as error:
            raise UpstreamError("upstream_invalid_reply", str(error)) from None
        if not recorder.finished:
            at = monotonic()
            if out := reader.finish(at):
                await client.write(out)
            await self._complete(exchange, reader, at)
        await client.write_eof()
        return client

    async def _complete(self, exchange: Exchange, reader: BodyReader, at: float) -> None:
        """All is read but for what may follow [DONE]: make the event durable, then let go what was held back."""
        recorder, client = exchange.recorder, exchange.client
        assert client is not None
        if not recorder.finished:
            recorder.attempts[-1].ended = at
            if isinstance(reader, WholeBody):
                if reader.costly:
                    await asyncio.to_thread(reader.read_facts)
                else:
                    reader.read_facts()
            await self._record(exchange)
        held, reader.held = reader.held, b""
        await (client.write_eof(held) if exchange.at_end() else client.write(held))

    async def _record(self, exchange: Exchange) -> None:
        await self._append(exchange.event(monotonic()))

    def _append(self, event: RequestEvent) -> asyncio.Future[bool]:
        return self._log.append(time.time(), event.caller, encode_event(event))

    def abandon(self) -> None:
        """The gateway stops: break off what is still in flight."""
        self._stopping = True
        for task in self._running:
            task.cancel()

    async def close(self) -> None:
        """Close the upstream connections."""
        if self._retiring is not None:
            self._retiring.cancel()
        self._deadlines.close()
        if self._litellm is not None:
            await asyncio.to_thread(self._litellm.close)
        for pool in self._pools.values():
            await pool.close()


async def _ask(body: bytes, coding: str, limit: int) -> Ask:
    if len(body) > LARGE_BODY or coding:
        return await asyncio.to_thread(read_ask, body, coding, limit)
    return read_ask(body, coding, limit)


def _place(upstream: Upstream) -> tuple[str, float]:
    """What connections are kept by: where they lead, and how long one may take to be there (seconds)."""
    return upstream.root, upstream.timeouts.connect
