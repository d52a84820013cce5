"""OpenAI's chat completions on one side, litellm's call and its answers on the other: pure.

Nothing here imports litellm. `call_arguments` makes the keyword arguments of one call,
`chunk_bytes` and `completion_bytes` write what comes back, `error_reply` maps what was
raised.
"""

from collections.abc import Collection, Mapping
from http import HTTPStatus
from types import MappingProxyType
from typing import Any, NamedTuple

import msgspec

from gateway.routes import Route

__all__ = [
    "DONE",
    "Asked",
    "BadCall",
    "ErrorReply",
    "call_arguments",
    "chunk_bytes",
    "completion_bytes",
    "error_body",
    "error_event",
    "error_reply",
]

DONE = b"data: [DONE]\n\n"

# What a client may say. litellm takes its own settings (api_base, fallbacks, callbacks, credentials)
# from the same keyword arguments, and a client must not be able to send the key elsewhere.
_CLIENT_MAY_SET = frozenset({
    "audio", "frequency_penalty", "function_call", "functions", "logit_bias", "logprobs",
    "max_completion_tokens", "max_tokens", "messages", "modalities", "n", "parallel_tool_calls", "prediction",
    "presence_penalty", "prompt_cache_key", "reasoning_effort", "response_format", "safety_identifier", "seed",
    "service_tier", "stop", "stream", "stream_options", "temperature", "thinking", "tool_choice", "tools",
    "top_k", "top_logprobs", "top_p", "user", "verbosity", "web_search_options",
})  # fmt: skip
# Providers that sign with credentials of a cloud: the caller's bearer token is not one of theirs.
_SIGNED = frozenset({"bedrock", "sagemaker", "sagemaker_chat", "sagemaker_nova", "vertex_ai", "vertex_ai_beta", "oci"})
_NO_SECRETS = frozenset({"model", "api_base", "base_url", "api_version", "custom_llm_provider", "aws_region_name"})
_SHORTEST_SECRET = 8
_NO_RETRIES = {"num_retries": 0, "max_retries": 0, "drop_params": True}
_MESSAGE_CHARS = 2_000
_ERROR_STATUSES = range(400, 600)
_KINDS = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


class Asked(NamedTuple):
    """A client's request: its path (with or without a query) and body, its Authorization, the headers of its trace."""

    path: str
    body: bytes
    authorization: str | None = None
    trace: Mapping[str, str] = MappingProxyType({})


class BadCall(ValueError):
    """A request that cannot be made into a call; the text is for the client."""


class ErrorReply(msgspec.Struct, frozen=True):
    """An error as a reply: status, the one-line message, and the seconds of a Retry-After."""

    status: int
    message: str
    retry_after: str | None = None


def call_arguments(route: Route, asked: Asked) -> dict[str, Any]:
    """The arguments of `litellm.acompletion` for a request; `BadCall` where there are none."""
    if asked.path.partition("?")[0] != "/v1/chat/completions":
        provider = route.upstream.params["custom_llm_provider"]
        raise BadCall(f"{provider} goes through litellm, which here serves /v1/chat/completions only")
    given = _json_object(asked.body)
    if not isinstance(given.get("messages"), list):
        raise BadCall("messages: expected a list")
    params = dict(route.upstream.params)
    provider = params.pop("custom_llm_provider")
    wanted = {key: value for key, value in given.items() if key in _CLIENT_MAY_SET and value is not None}
    own = {"model": f"{provider}/{route.model}", "timeout": route.upstream.timeouts.total}
    if asked.trace:
        own["extra_headers"] = {**asked.trace, **(params.get("extra_headers") or {})}
    return params | _caller_key(provider, params, asked.authorization) | wanted | own | _NO_RETRIES


def _json_object(body: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise BadCall("the body is not a JSON object") from None


def _caller_key(provider: str, params: Mapping[str, Any], authorization: str | None) -> dict[str, str]:
    """The caller's own key, where the entry has none."""
    scheme, _, token = (authorization or "").partition(" ")
    if "api_key" in params or provider in _SIGNED or scheme.lower() != "bearer" or not token.strip():
        return {}
    return {"api_key": token.strip()}


def secrets_of(route: Route, authorization: str | None) -> list[str]:
    """What a message to the client must not quote: an entry's parameters but for those that say where to, a key."""
    params = route.upstream.params
    given = [value for name, value in params.items() if isinstance(value, str) and name not in _NO_SECRETS]
    given.append((authorization or "").partition(" ")[2].strip())
    return [value for value in given if len(value) >= _SHORTEST_SECRET]


def chunk_bytes(chunk: Mapping[str, Any]) -> bytes:
    """One chunk (dumped without its nulls) as an event.

    litellm's usage chunk has one empty choice, where OpenAI's has none.
    """
    choices = chunk.get("choices") or []
    if chunk.get("usage") and not any(_says_something(choice) for choice in choices):
        choices = []
    full = [{"finish_reason": None, **choice} for choice in choices]
    return b"data: " + msgspec.json.encode({**chunk, "choices": full}) + b"\n\n"


def _says_something(choice: Mapping[str, Any]) -> bool:
    return bool(choice.get("finish_reason") or choice.get("delta"))


def completion_bytes(answer: Mapping[str, Any]) -> bytes:
    """A whole completion (dumped without its nulls) as JSON; a tool call's content is null, not absent."""
    choices = [{**choice, "message": {"content": None, **choice.get("message", {})}} for choice in answer["choices"]]
    return msgspec.json.encode({**answer, "choices": choices})


def error_reply(error: Exception, secrets: Collection[str]) -> ErrorReply:
    """What the client gets for an exception of litellm's: never a traceback, never one of the `secrets`."""
    if isinstance(error, BadCall):
        return ErrorReply(400, str(error))
    if isinstance(error, TimeoutError):
        return ErrorReply(504, "the provider did not answer in time")
    message = str(error).partition("Traceback (most recent call last)")[0]
    for secret in secrets:
        message = message.replace(secret, "***")
    line = " ".join(message.split())[:_MESSAGE_CHARS] or type(error).__name__
    return ErrorReply(_status(error), line, _retry_after(error))


def _status(error: Exception) -> int:
    """The status litellm found; a connection that failed is 502, a timeout of its own 504."""
    by_name = {"APIConnectionError": 502, "Timeout": 504}.get(type(error).__name__)
    status = getattr(error, "status_code", None)
    return by_name or (status if isinstance(status, int) and status in _ERROR_STATUSES else 502)


def _retry_after(error: Exception) -> str | None:
    headers = getattr(error, "litellm_response_headers", None) or {}
    value = headers.get("retry-after")
    return value if isinstance(value, str) and value.isprintable() else None


def error_body(reply: ErrorReply) -> bytes:
    """An error as OpenAI writes it."""
    fallback = "invalid_request_error" if reply.status < HTTPStatus.INTERNAL_SERVER_ERROR else "server_error"
    kind = _KINDS.get(reply.status, fallback)
    error = {"message": reply.message, "type": kind, "param": None, "code": None}
    return msgspec.json.encode({"error": error})


def error_event(reply: ErrorReply) -> bytes:
    """An error in mid-stream, as an event."""
    return b"data: " + error_body(reply) + b"\n\n"
