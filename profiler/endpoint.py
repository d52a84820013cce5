"""A running OpenAI-compatible server as a `Machine`: one streamed request a run, timed by the gateway's own reader.

A run's seconds are those of the gateway's raw runtime, from the request fully sent to the last byte read, over a
connection that is kept open; its tokens are those that the reply's usage says. Synchronous: an event loop of its own
turns while a request is under way.
"""

import asyncio
import time
from collections.abc import Coroutine, Mapping
from time import monotonic
from types import TracebackType
from typing import Any, Literal, Protocol, Self, TypeVar

import msgspec

from gateway.ask import Ask
from gateway.config import ConfigError, default_config
from gateway.encoding import UndecodableBody, decoder
from gateway.recorder import Attempt, Recorder
from gateway.reply import COPY_LIMIT, BodyReader, EventStreamBody, WholeBody
from gateway.upstream import HttpReply, Pool, UpstreamError
from profiler.endpoint_error import EndpointError, refused
from profiler.endpoint_prompts import Prompts
from profiler.machine import Run
from stream import __version__
from stream.events import RequestEvent

__all__ = ["ROUTES", "Endpoint", "EndpointError", "Purse", "Route"]

Found = TypeVar("Found")
Route = Literal["chat", "completions"]
ROUTES: Mapping[Route, str] = {"chat": "/v1/chat/completions", "completions": "/v1/completions"}

_CALIBRATION = (16, 144)
"""Words of the two prompts that tell the template's tokens and those of a word"""

_ERROR_BYTES = 1 << 14
_FITS_THE_SOCKET = 1 << 15
_OTHER_FIELDS = frozenset({400, 422})
_MORE, _MORE_TOKENS = 2.0, 16
_CUT = 0.75  # of what a request is charged at most: what is on its way when it is cut off has its room


class Purse(Protocol):
    """Is asked before each request, and told afterwards: who pays for them."""

    def reserve(self, prompt_tokens: int, output_tokens: int) -> None:
        """A request of at most so many tokens is about to be sent; raise to stop it."""

    def settle(self, event: RequestEvent) -> None:
        """The last one reserved came whole, with its usage; one that is not settled had an unknown price."""


class _Free:
    def reserve(self, prompt_tokens: int, output_tokens: int) -> None:
        pass

    def settle(self, event: RequestEvent) -> None:
        pass


class Endpoint:
    """A model behind an URL. `route` is where it is asked, `timeout` how many seconds a reply may take.

    `key` goes into the Authorization header and nowhere else. `model` None is the first that the server lists.
    `purse` is asked before every request, those that calibrate too. Raises EndpointError (a MachineError).
    """

    def __init__(
        self,
        url: str,
        model: str | None = None,
        key: str | None = None,
        *,
        route: Route = "chat",
        timeout: float = 300.0,
        purse: Purse | None = None,
        seed: int | None = None,
    ) -> None:
        try:
            upstream = default_config(url).default
        except ConfigError as error:
            raise EndpointError(f"{error} (the endpoint's URL)", fatal=True) from None
        assert upstream is not None
        self._upstream, self._route, self._timeout, self._key = upstream, route, timeout, key
        self.purse: Purse = purse or _Free()
        self._prompts = Prompts(seed)
        self._fields, self._known_fields = 0, False
        self._longer, self._more = 1.0, 0
        self._server: str | None = None
        self._served: str | None = None
        self._ready = False
        self._runner = asyncio.Runner()
        self._pool: Pool | None = None
        try:
            self.model = model or self._runner.run(self._first_model())
        except BaseException:
            self.close()
            raise

    @property
    def host(self) -> str:
        """The server's host and port, as the gateway calls an upstream."""
        return self._upstream.name

    @property
    def provider(self) -> str:
        """Who that is by its host, as `RequestEvent.provider` has it."""
        return self._upstream.provider

    def run(self, prompt_tokens: int, output_tokens: int) -> Run:
        """Make one run; the tokens are nearly those asked for, and the Run tells them exactly."""
        event = self.request(prompt_tokens, output_tokens)
        prompt, output, seconds = event.prompt_tokens, event.completion_tokens, event.raw_runtime_seconds
        assert prompt is not None
        assert output is not None
        assert seconds is not None
        first = event.time_to_first_token_seconds
        return Run(prompt, output, seconds if first is None else min(first, seconds), seconds)

    def request(self, prompt_tokens: int, output_tokens: int) -> RequestEvent:
        """Make one run; return all that the gateway would have recorded of it."""
        if not self._ready:
            self.calibrate()
        words = self._prompts.words(prompt_tokens)
        return self._runner.run(self._asked(words, output_tokens))

    def calibrate(self) -> None:
        """Learn how many tokens words have here, by two requests for one output token; `request` does it if needed."""
        for words in _CALIBRATION:
            self._runner.run(self._asked(words, 1))
        self._ready = True

    def describe(self) -> dict[str, str]:
        """What is known of the server, for provenance: no path, no key. What replies say is there once one came."""
        served = (
            self._served and self._served.rstrip("/").rpartition("/")[2] if _is_path(self._served) else self._served
        )
        said = {"endpoint": self.host, "route": self._route, "server": self._server, "served_model": served}
        return {name: value for name, value in said.items() if value is not None}

    def close(self) -> None:
        """Close the connection."""
        if self._pool is not None:
            self._runner.run(self._pool.close())
            self._pool = None
        self._runner.close()

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Close."""
        self.close()

    async def _asked(self, words: int, output_tokens: int) -> RequestEvent:
        """One request; again with fewer fields while the server has taken none yet and refuses some."""
        text = self._prompts.text(words, long=output_tokens > 1)
        most = self._prompts.most_tokens(words, text), self._most_output(output_tokens)
        while True:
            body = msgspec.json.encode(self._body(text, output_tokens))
            try:
                event = await self._once(body, most)
                break
            except EndpointError as error:
                last = self._fields + 1 == len(_FIELDS)
                if self._known_fields or error.status not in _OTHER_FIELDS or last:
                    raise
                self._fields += 1
        self._known_fields = True
        self._prompts.learn(words, event.prompt_tokens or 0)
        more = (event.completion_tokens or 0) - output_tokens
        self._more, self._longer = max(self._more, more), max(self._longer, 1 + more / max(output_tokens, _MORE_TOKENS))
        self._served = event.served_model or self._served
        return event

    def _most_output(self, output_tokens: int) -> int:
        """More output tokens than will be billed, by what was billed before."""
        longest = max(_MORE, 1.1 * self._longer) * output_tokens
        return int(max(longest, output_tokens + self._more) + _MORE_TOKENS)

    def _body(self, text: str, output_tokens: int) -> dict[str, Any]:
        prompt = {"prompt": text} if self._route == "completions" else {"messages": [{"role": "user", "content": text}]}
        fields = {name: output_tokens if value is None else value for name, value in _FIELDS[self._fields].items()}
        return {"model": self.model, **prompt, "stream": True, **fields}

    async def _once(self, body: bytes, most: tuple[int, int]) -> RequestEvent:
        """One request, and once more where a kept connection turns out to have been closed meanwhile."""
        for _ in range(3):
            await asyncio.sleep(0)  # what came while no loop turned, such as the connection's end, is seen first
        while True:
            self.purse.reserve(*most)
            try:
                event = await self._within(self._timed(body, int(_CUT * most[1])))
            except UpstreamError as error:
                if error.on_old_connection:
                    continue
                raise self._unanswered(error) from None
            self.purse.settle(event)
            return event

    async def _within(self, call: Coroutine[Any, Any, Found]) -> Found:
        try:
            async with asyncio.timeout(self._timeout):
                return await call
        except TimeoutError:
            raise self._failed(f"no whole reply within {self._timeout:g} s (--timeout)") from None

    async def _timed(self, body: bytes, longest: int) -> RequestEvent:
        recorder = Recorder(monotonic(), time.time(), ROUTES[self._route], "profiler", Ask(self.model, stream=True))
        recorder.provider, recorder.upstream = self._upstream.provider, self._upstream.name
        attempt = recorder.attempt(self._upstream.name, monotonic())
        reply = await self._send("POST", ROUTES[self._route], body)
        try:
            attempt.connected, attempt.replied = reply.connected_at, monotonic()
            attempt.status = recorder.status = reply.status
            if reply.status != 200:
                raise refused(self.host, self.model, reply, await _start(reply), self._key)
            self._server = _header(reply, b"server") or self._server
            recorder.reader = self._reader(reply)
            await self._read(reply, recorder.reader, attempt, longest)
            # A clock read after the write may be read late, when the process was held up in between: such a run would
            # seem too short, and a low quantile prefers just those. What fits the socket is timed from before it.
            attempt.sent = reply.connected_at if len(body) <= _FITS_THE_SOCKET else reply.sent_at
        finally:
            if not reply.at_end():
                reply.close()
        return self._whole(recorder.event(monotonic()), recorder.reader)

    async def _read(self, reply: HttpReply, reader: BodyReader, attempt: Attempt, longest: int) -> None:
        """Feed the reader to the reply's end, whose time counts; a reply that has no end is cut off."""
        while data := await reply.next_bytes():
            at = monotonic()
            reader.feed(data, at)
            if reader.complete and attempt.ended is None:
                attempt.ended = at
            endless = isinstance(reader, EventStreamBody) and sum(reader.deltas.values()) > longest
            if endless and not reader.complete:
                raise self._failed(f"the reply was cut off after {longest} chunks, far more than were asked for")
        if attempt.ended is None:
            reader.finish(monotonic())
            attempt.ended = monotonic()
        if isinstance(reader, WholeBody):
            reader.read_facts()

    def _reader(self, reply: HttpReply) -> BodyReader:
        coding = _header(reply, b"content-encoding") or ""
        if (_header(reply, b"content-type") or "").startswith("text/event-stream"):
            try:
                return EventStreamBody(strip=False, decoder=decoder(coding, COPY_LIMIT))
            except UndecodableBody as error:
                raise self._failed(str(error)) from None
        return WholeBody(None, coding, keep=True)

    def _whole(self, event: RequestEvent, reader: BodyReader) -> RequestEvent:
        """The event, if the reply came whole and says its tokens."""
        if event.error_class == "error_in_reply":
            raise self._failed("the reply is an error, though its status is 200: the server's log may say more")
        if event.error_class is not None:
            raise self._failed("the reply broke off before its end")
        if event.usage_source != "upstream" or not event.prompt_tokens:
            what = "streams" if isinstance(reader, EventStreamBody) else "replies"
            raise self._failed(
                f"its {what} say no usage (stream_options.include_usage), so that tokens are not known: "
                "only servers that count them can be measured"
            )
        if not event.completion_tokens:
            raise self._failed("no output token came, though some were asked for")
        return event

    async def _send(self, method: str, path: str, body: bytes = b"") -> HttpReply:
        if self._pool is None:
            self._pool = Pool(self._upstream.root, self._upstream.timeouts.connect)
        headers = [(b"Accept-Encoding", b"identity"), (b"User-Agent", f"trueclock/{__version__}".encode())]
        if body:
            headers.append((b"Content-Type", b"application/json"))
        if self._key:
            headers.append((b"Authorization", b"Bearer " + self._key.encode()))
        target = self._upstream.target(path)[len(self._pool.origin) :]
        return await self._pool.send(method, target, headers, body)

    async def _first_model(self) -> str:
        try:
            reply, content = await self._within(self._listed())
        except UpstreamError as error:
            raise self._unanswered(error) from None
        if reply.status != 200:
            why = refused(self.host, None, reply, content, self._key)
            raise EndpointError(f"{why}: GET /v1/models, to know a model's name (or give it: --model)", fatal=True)
        try:
            name = msgspec.json.decode(content)["data"][0]["id"]
        except (msgspec.MsgspecError, LookupError, TypeError):
            name = None
        if not isinstance(name, str):
            raise self._failed("GET /v1/models lists no model: name one (--model)", fatal=True)
        return name

    async def _listed(self) -> tuple[HttpReply, bytes]:
        reply = await self._send("GET", "/v1/models")
        try:
            return reply, await _start(reply, COPY_LIMIT)
        finally:
            if not reply.at_end():
                reply.close()

    def _unanswered(self, error: UpstreamError) -> EndpointError:
        if error.kind == "upstream_broken":
            return self._failed("the reply broke off before its end")
        return self._failed(f"{error}: is it running there?" if error.kind == "upstream_unreachable" else str(error))

    def _failed(self, what: str, *, fatal: bool = False) -> EndpointError:
        return EndpointError(f"{self.host}: {what}" if self.host not in what else what, fatal=fatal)


_USAGE = {"stream_options": {"include_usage": True}}
_FIELDS: tuple[dict[str, Any], ...] = (
    {"max_tokens": None, "min_tokens": None, "ignore_eos": True, "temperature": 0, **_USAGE},
    {"max_tokens": None, "temperature": 0, **_USAGE},
    {"max_completion_tokens": None, **_USAGE},
    {"max_tokens": None},
)
"""What is asked for beside the prompt, None being the output tokens: a server that knows most gets most. Not all take
vLLM's fields; OpenAI's newer models want another name for the tokens, and no temperature."""


def _is_path(name: str | None) -> bool:
    """Whether a model's name is where it lies on the server's disk, which is nobody's business."""
    return name is not None and name.startswith(("/", "~", "."))


async def _start(reply: HttpReply, limit: int = _ERROR_BYTES) -> bytes:
    """The beginning of a reply's body, which may end early."""
    parts: list[bytes] = []
    while sum(map(len, parts)) < limit and (data := await reply.next_bytes()):
        parts.append(data)
    return b"".join(parts)


def _header(reply: HttpReply, wanted: bytes) -> str | None:
    values = (value for name, value in reply.raw_headers if name.lower() == wanted)
    return next((value.decode("latin-1").strip()[:100].lower() for value in values), None)
