"""What a reply says of itself: token counts, served model, finish reason, content deltas.

Pure functions from decoded JSON to facts, for the dialects that pass through as bytes: OpenAI's chat
completions, completions, embeddings and responses, and Anthropic's messages. Replies are other people's
data: every getter tolerates any type in any place, and what cannot be read is None, never 0.
"""

from dataclasses import dataclass, field
from typing import Any

import msgspec
from msgspec import UNSET

MAX_TOKENS = 10**12
"""More than this is no count of tokens, and no event would take it."""
MAX_TEXT = 256
"""Characters kept of a name that somebody else chose."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one request; None: not said.

    `prompt` includes `cached`, read from a prompt cache, and `written` to one; `completion` includes `reasoning`.
    """

    prompt: int | None = None
    cached: int | None = None
    completion: int | None = None
    reasoning: int | None = None
    written: int | None = None


class ChunkDelta(msgspec.Struct, gc=False):
    """`delta` of a choice of a streamed chunk."""

    content: Any = None
    reasoning_content: Any = None
    reasoning: Any = None
    tool_calls: Any = None
    function_call: Any = None
    refusal: Any = None


class ChunkChoice(msgspec.Struct, gc=False):
    """One choice of a streamed chunk."""

    index: int = 0
    delta: ChunkDelta | None = None
    text: Any = None
    finish_reason: str | None = None


class Chunk(msgspec.Struct, gc=False):
    """A streamed chunk of chat completions or completions: decoded so, it costs a quarter of a dict's time."""

    choices: list[ChunkChoice]
    model: str | None = None
    usage: Any = UNSET
    error: Any = None
    service_tier: str | None = None


decode_chunk = msgspec.json.Decoder(Chunk).decode
"""Reads the usual event; raises msgspec.ValidationError for any other, which `event_facts` reads."""


@dataclass(slots=True)
class Delta:
    """What one stream event carries for one choice."""

    index: int
    content: bool = False
    reasoning: bool = False


@dataclass(slots=True)
class Facts:
    """What one reply document, or one stream event, says."""

    usage: Usage | None = None
    model: str | None = None
    finish_reason: str | None = None
    service_tier: str | None = None
    error: bool = False
    choices: int | None = None
    deltas: list[Delta] = field(default_factory=list)


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str | None:
    return value[:MAX_TEXT] if isinstance(value, str) and value else None


def _count(value: Any) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MAX_TOKENS:
        return None
    return int(value) if value == int(value) else None


def usage_of(raw: Any) -> Usage | None:
    """Read a `usage` object of any of the dialects; None when it says nothing of tokens."""
    said = _object(raw)
    prompt = _count(said.get("prompt_tokens"))
    completion = _count(said.get("completion_tokens"))
    if prompt is None and completion is None:
        return _anthropic_or_responses(said)
    details = _object(said.get("prompt_tokens_details"))
    made = _object(said.get("completion_tokens_details"))
    if completion is None and _count(said.get("total_tokens")) == prompt:
        completion = 0  # embeddings: the total says that nothing was generated
    reasoning = _count(made.get("reasoning_tokens"))
    cached = _count(details.get("cached_tokens"))
    apart = _reported_apart(said, prompt, completion)
    if completion is not None and apart and apart != cached and reasoning in (None, apart):
        completion, reasoning = completion + apart, apart
    # As litellm and others who translate Anthropic's replies report it.
    written = _count(details.get("cache_creation_tokens"))
    written = _count(said.get("cache_creation_input_tokens")) if written is None else written
    return Usage(prompt, cached, completion, reasoning, written)


def _reported_apart(said: dict[str, Any], prompt: int | None, completion: int | None) -> int:
    """Tokens of the total that are neither prompt nor completion: reasoning, as Google and xAI report it."""
    total = _count(said.get("total_tokens"))
    if total is None or prompt is None or completion is None:
        return 0
    return max(total - prompt - completion, 0)


def _anthropic_or_responses(said: dict[str, Any]) -> Usage | None:
    prompt, completion = _count(said.get("input_tokens")), _count(said.get("output_tokens"))
    if prompt is None and completion is None:
        return None
    details, made = said.get("input_tokens_details"), _object(said.get("output_tokens_details"))
    cached, written = _count(_object(details).get("cached_tokens")), None
    if details is None:  # Anthropic reports cached and cache-written tokens apart from input_tokens
        read, written = _count(said.get("cache_read_input_tokens")), _count(said.get("cache_creation_input_tokens"))
        cached = read
        prompt = None if prompt is None else _count(prompt + (read or 0) + (written or 0))
    return Usage(prompt, cached, completion, _count(made.get("reasoning_tokens")), written)


def merge(first: Usage | None, later: Usage | None) -> Usage | None:
    """Usage that came in pieces (Anthropic: input at the start, output at the end): the later word wins."""
    if first is None or later is None:
        return later or first
    pairs = zip(
        (later.prompt, later.cached, later.completion, later.reasoning, later.written),
        (first.prompt, first.cached, first.completion, first.reasoning, first.written),
        strict=True,
    )
    return Usage(*(new if new is not None else old for new, old in pairs))


def _finish(choices: Any) -> str | None:
    reasons = (_text(_object(choice).get("finish_reason")) for choice in choices)
    return next((reason for reason in reasons if reason), None)


def reply_facts(document: Any) -> Facts:
    """Facts of a whole (not streamed) reply document."""
    said = _object(document)
    choices = said.get("choices")
    return Facts(
        usage=usage_of(said.get("usage")),
        model=_text(said.get("model")),
        finish_reason=_finish(choices) if isinstance(choices, list) else _ending(said),
        service_tier=_service_tier(said),
        error=bool(said.get("error")),
        choices=len(choices) if isinstance(choices, list) else None,
    )


def _service_tier(said: dict[str, Any]) -> str | None:
    """At which tier a request was served, and is billed; Anthropic says it among the usage."""
    return _text(said.get("service_tier")) or _text(_object(said.get("usage")).get("service_tier"))


def _ending(said: dict[str, Any]) -> str | None:
    """How a reply of Anthropic's messages, or of the responses API, ended."""
    return _text(said.get("stop_reason") if said.get("object") != "response" else said.get("status"))


def chunk_facts(chunk: Chunk) -> Facts:
    """Facts of a chunk that is not merely one more delta."""
    return Facts(
        usage=None if chunk.usage is UNSET else usage_of(chunk.usage),
        model=_text(chunk.model),
        finish_reason=next((_text(choice.finish_reason) for choice in chunk.choices if choice.finish_reason), None),
        service_tier=_text(chunk.service_tier),
        error=bool(chunk.error),
        deltas=[choice_delta(choice) for choice in chunk.choices],
    )


def choice_delta(choice: ChunkChoice) -> Delta:
    """What one choice of a chunk carries: any visible content, any streamed reasoning."""
    said = choice.delta
    if said is None:
        return Delta(choice.index, content=bool(choice.text))
    return Delta(
        choice.index,
        content=bool(said.content or said.tool_calls or said.function_call or said.refusal or choice.text),
        reasoning=bool(said.reasoning_content or said.reasoning),
    )


def event_facts(document: Any) -> Facts:
    """Facts of an event that is no usual chunk: Anthropic's, the responses API's, or somebody's slip."""
    said = _object(document)
    choices = said.get("choices")
    if not isinstance(choices, list):
        return _typed_event_facts(said)
    readable = []
    for place, choice in enumerate(choices):
        try:
            readable.append(msgspec.convert({"index": place, **_object(choice)}, ChunkChoice))
        except msgspec.ValidationError:
            continue
    others = (said.get(key) for key in ("model", "usage", "error", "service_tier"))
    return chunk_facts(Chunk(readable, *others))


def _typed_event_facts(said: dict[str, Any]) -> Facts:
    kind = _text(said.get("type")) or ""
    inner = _object(said.get("response")) or _object(said.get("message")) or said
    facts = Facts(
        usage=usage_of(inner.get("usage")),
        model=_text(inner.get("model")),
        service_tier=_service_tier(inner),
        error=bool(said.get("error")) or kind in ("error", "response.failed"),
    )
    delta = said.get("delta")
    if kind in ("response.completed", "response.incomplete", "message_stop"):
        facts.finish_reason = _text(inner.get("status")) or "stop"
    elif kind == "message_delta":
        facts.finish_reason = _text(_object(delta).get("stop_reason"))
    elif kind.startswith("response.") and kind.endswith(".delta") and delta:
        facts.deltas = [Delta(0, content="reasoning" not in kind, reasoning="reasoning" in kind)]
    elif kind == "content_block_delta":
        part = _object(delta)
        facts.deltas = [
            Delta(0, content=bool(part.get("text") or part.get("partial_json")), reasoning=bool(part.get("thinking")))
        ]
    return facts
