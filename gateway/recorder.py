"""Sans-I/O recorder of one request's life: started, sent, replied, read, ended or broken → one RequestEvent.

Times are monotonic seconds that the shell passes in. Nothing of a request's or a reply's content is kept.
"""

import os
import random
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from gateway.ask import GENERATION_ROUTES, MAX_CHOICES, NOTHING, Ask
from gateway.reply import BodyReader, EventStreamBody
from gateway.trace_context import TraceParent
from gateway.usage import MAX_TEXT, Facts, Usage
from stream.events import RequestEvent

_random = random.Random()  # noqa: S311 - seeded by the system; ids are to be unique, not secret (os.urandom: 6 µs)
os.register_at_fork(after_in_child=_random.seed)  # or workers that are forked would all make the same ids


@dataclass(slots=True)
class Labels:
    """What a request says of itself in headers, and who sent it: bounded strings, no secrets."""

    caller: str | None = None
    tags: tuple[str, ...] = ()
    problem: str | None = None
    strategy: str | None = None
    trace: TraceParent | None = None


@dataclass(slots=True)
class Attempt:
    """One request to an upstream. Monotonic seconds; None: not reached."""

    upstream: str
    began: float
    connected: float | None = None
    sent: float | None = None
    replied: float | None = None
    ended: float | None = None
    status: int | None = None
    error: str | None = None

    def taken(self) -> float:
        """Seconds spent connecting and from the request sent to the end, so far as it came."""
        sent = self.began if self.sent is None else self.sent
        connecting = 0.0 if self.connected is None else max(min(self.connected, sent) - self.began, 0.0)
        return connecting + (0.0 if self.ended is None else max(self.ended - sent, 0.0))

    def summary(self) -> dict[str, Any]:
        """The attempt as events show it."""
        start = self.sent if self.sent is not None else self.began
        seconds = None if self.ended is None else max(self.ended - start, 0.0)
        return {"upstream": self.upstream, "status": self.status, "error_class": self.error, "seconds": seconds}


class BytesPerToken:
    """How many bytes of request body one upstream counts as a prompt token, from its requests with usage."""

    ENOUGH = 20

    def __init__(self) -> None:
        self._seen = self._bytes = self._tokens = 0

    def observe(self, body_bytes: int, prompt_tokens: int) -> None:
        """Learn from one request whose usage the upstream said."""
        self._seen += 1
        self._bytes += body_bytes
        self._tokens += prompt_tokens

    def estimate(self, body_bytes: int) -> int | None:
        """Prompt tokens of a request without usage; None until ENOUGH requests were seen."""
        if self._seen < self.ENOUGH or not self._bytes:
            return None
        return round(body_bytes * self._tokens / self._bytes)


def new_id() -> str:
    """32 hexadecimal digits that sort by time: milliseconds since 1970, then 80 random bits."""
    return f"{time.time_ns() // 1_000_000:012x}{_random.getrandbits(80):020x}"


@dataclass(slots=True)
class Recorder:
    """Collects one request's times and facts; `event` turns them into its RequestEvent, once."""

    started: float
    started_at: float  # seconds since 1970
    route: str
    source: str = "gateway"
    ask: Ask = NOTHING
    labels: Labels = field(default_factory=Labels)
    provider: str | None = None
    upstream: str | None = None
    upstream_model: str | None = None
    body_bytes: int = 0
    body_read: float | None = None
    attempts: list[Attempt] = field(default_factory=list)
    reader: BodyReader | None = None
    status: int | None = None
    error: str | None = None
    backpressure: float = 0.0
    bytes_per_token: BytesPerToken | None = None
    finished: bool = False

    def attempt(self, upstream: str, at: float) -> Attempt:
        """A request to an upstream begins."""
        self.attempts.append(Attempt(upstream, at))
        return self.attempts[-1]

    def broke(self, error: str, at: float) -> None:
        """The request did not complete: `error` is a class such as client_disconnected or upstream_broken."""
        if self.error is None:
            self.error = error
        self.attempt_failed(error, at)

    def attempt_failed(self, error: str, at: float) -> None:
        """The request to the upstream failed; another one may follow."""
        if self.attempts and self.attempts[-1].ended is None:
            self.attempts[-1].ended = at
            self.attempts[-1].error = error

    def event(self, ended: float) -> RequestEvent:
        """Everything known, at the moment when the reply is complete but for its last byte."""
        self.finished = True
        last = self.attempts[-1] if self.attempts else None
        if last is not None and last.ended is None:
            last.ended = ended
        tokens = self._tokens()
        raw = None
        if last is not None and last.sent is not None and last.ended is not None:
            raw = max(last.ended - last.sent, 0.0)
        duration = max(ended - self.started, 0.0)
        connect = None if last is None or last.connected is None else max(last.connected - last.began, 0.0)
        start = datetime.fromtimestamp(self.started_at, UTC)
        trace_id, parent_span_id, trace_sampled = self.labels.trace or (None, None, None)
        return RequestEvent(
            id=new_id(),
            started_at=start,
            ended_at=datetime.fromtimestamp(self.started_at + duration, UTC),
            source=self.source,
            route=self.route,
            provider=self.provider,
            upstream=self.upstream,
            upstream_model=self.upstream_model,
            model=None if self.ask.model is None else self.ask.model[:MAX_TEXT],
            stream=self.ask.stream,
            status=self.status,
            error_class=self.error or self._silent_failure(),
            raw_runtime_seconds=raw,
            duration_seconds=duration,
            connect_seconds=connect,
            backpressure_seconds=self.backpressure,
            gateway_overhead_seconds=self._overhead(duration),
            attempts=tuple(attempt.summary() for attempt in self.attempts),
            caller=self.labels.caller,
            tags=self.labels.tags,
            problem=self.labels.problem,
            strategy=self.labels.strategy,
            trace_id=trace_id,
            parent_span_id=parent_span_id,
            trace_sampled=trace_sampled,
            **tokens,
            **self._stream_times(last, tokens),
        )

    def _overhead(self, duration: float) -> float | None:
        """The gateway's own share: all the time that is neither the client's, the network's nor an upstream's."""
        if self.body_read is None:
            return None
        upload = self.body_read - self.started
        return max(duration - upload - sum(attempt.taken() for attempt in self.attempts), 0.0)

    @property
    def _succeeded(self) -> bool:
        return self.status is not None and 200 <= self.status < 300

    def _silent_failure(self) -> str | None:
        """A 2xx that says itself, or shows by its end, that it did not complete."""
        reader = self.reader
        if reader is None or not self._succeeded:
            return None
        if reader.facts.error:
            return "error_in_reply"
        if not isinstance(reader, EventStreamBody) or reader.done or not (reader.deltas and reader.readable):
            return None
        return None if reader.facts.finish_reason else "truncated"

    def _tokens(self) -> dict[str, Any]:
        reader = self.reader
        facts = Facts() if reader is None else reader.facts
        counted = reader.deltas if isinstance(reader, EventStreamBody) else {}
        usage, source = facts.usage, "upstream"
        if usage is None or self._said_early(usage, counted):
            usage, source = self._estimate(usage, counted), "estimated"
        elif usage.prompt and self.bytes_per_token is not None and self.body_bytes:
            self.bytes_per_token.observe(self.body_bytes, usage.prompt)
        choices = facts.choices or self.ask.choices or len(counted)
        return {
            "served_model": facts.model,
            "service_tier": facts.service_tier,
            "finish_reason": facts.finish_reason,
            "prompt_tokens": usage.prompt if usage else None,
            "cached_tokens": usage.cached if usage else None,
            "cache_written_tokens": usage.written if usage else None,
            "completion_tokens": usage.completion if usage else None,
            "reasoning_tokens": usage.reasoning if usage else None,
            "usage_source": source if usage else None,
            "choices": min(choices, MAX_CHOICES) or None,
            "longest_choice_tokens": _longest(usage, counted, facts.choices or self.ask.choices or 1),
        }

    def _said_early(self, usage: Usage, counted: dict[int, int]) -> bool:
        """Whether the usage was a stream's first word (Anthropic's, or zeros), and its last was never read."""
        reader = self.reader
        if not isinstance(reader, EventStreamBody) or reader.done or reader.facts.finish_reason:
            return False
        return not reader.readable or sum(counted.values()) > (usage.completion or 0)

    def _estimate(self, said: Usage | None, counted: dict[int, int]) -> Usage | None:
        """Tokens of a reply that did not say them all: a token a chunk, and the upstream's usual prompt ratio."""
        generates = self.ask.model is not None and self.route in GENERATION_ROUTES
        if not (generates and self.attempts and self.reader is not None and self._succeeded):
            return said
        prompt = (said.prompt or None) if said else None
        if prompt is None and self.bytes_per_token is not None:
            prompt = self.bytes_per_token.estimate(self.body_bytes)
        counts = isinstance(self.reader, EventStreamBody) and self.reader.readable
        completion = sum(counted.values()) if counts else None
        if prompt is None and completion is None:
            return said
        return Usage(prompt=prompt, cached=said.cached if said else None, completion=completion)

    def _stream_times(self, last: Attempt | None, tokens: dict[str, Any]) -> dict[str, Any]:
        if last is None or last.sent is None:
            return {}
        times: dict[str, Any] = {}
        reader, began = self.reader, last.replied
        if isinstance(reader, EventStreamBody) and reader.first_read_at is not None:
            began = reader.first_read_at  # servers send a stream's head before they know what follows
        if began is not None:
            times["time_to_first_byte_seconds"] = max(began - last.sent, 0.0)
        if isinstance(reader, EventStreamBody):
            times["chunk_gaps"] = reader.gaps()
            if reader.first_token_at is not None:
                times["time_to_first_token_seconds"] = max(reader.first_token_at - last.sent, 0.0)
                times["time_per_output_token_seconds"] = _time_per_output_token(reader, tokens)
        return times


def _longest(usage: Usage | None, counted: dict[int, int], choices: int) -> int | None:
    """Tokens of the longest choice; of several, its share of the chunks. None where chunks do not tell."""
    if usage is None or usage.completion is None:
        return None
    if choices == 1 and len(counted) <= 1:
        return usage.completion
    total = sum(counted.values())
    return -(-usage.completion * max(counted.values()) // total) if total else None


def _time_per_output_token(reader: EventStreamBody, tokens: dict[str, Any]) -> float | None:
    """(last token time − first token time) / (visible tokens of the longest choice − 1), seconds.

    None where it cannot be told: also when all tokens came in one read.
    """
    if reader.first_token_at is None or reader.last_token_at is None or reader.last_token_at <= reader.first_token_at:
        return None
    visible = tokens["longest_choice_tokens"]
    if visible is None:
        return None
    if not reader.reasoning_streamed:
        visible -= tokens["reasoning_tokens"] or 0
    return (reader.last_token_at - reader.first_token_at) / (visible - 1) if visible > 1 else None
