"""Why a request's time is no measure of its upstream, in words: what happened, when, and whose doing it was. Pure."""

from stream.events import RequestEvent
from stream.wording import seconds

__all__ = ["STATUSES", "fault"]

_FAULTS = {
    "client_disconnected": "The client went away {when}: that is neither the provider's doing nor a measure of it.",
    "client_backpressure": (
        "The client read slowly: the reply waited {waited} for it, so that its time is the client's as well as the "
        "provider's."
    ),
    "gateway_stopped": "The gateway was stopped {when}, while the request was under way.",
    "internal_error": "The gateway itself failed {when}; its own log says where.",
    "connect_timeout": "No connection to the provider came about in time (connect_seconds), {when}.",
    "first_byte_timeout": "The provider did not answer in time: the gateway gave up {when} (first_byte_seconds).",
    "total_timeout": "The reply took too long: the gateway gave up {when} (total_seconds).",
    "upstream_unreachable": "The provider could not be reached: no connection was made.",
    "upstream_tls_error": "The provider could not be reached: its TLS handshake failed.",
    "upstream_invalid_reply": "What the provider answered is not HTTP, {when}.",
    "upstream_disconnected": "The provider closed the connection {when}.",
    "upstream_broken": "The provider broke off its reply {when}.",
    "error_in_reply": "The provider failed: its reply began well, but reports an error, {when}.",
    "truncated": "The provider's stream ended early, without its end mark or a finish reason, {when}.",
    "body_too_large": "The gateway refused the request: its body was larger than body_limit_bytes.",
    "model_not_found": "The gateway refused the request: no entry of its configuration serves this model.",
    "invalid_target": "The gateway refused the request: its target cannot be passed on.",
}
STATUSES = {
    400: "it takes the request for malformed, which is the caller's to mend",
    401: "the key is missing or wrong, which is the caller's or the configuration's to mend",
    402: "the account has no credit left, so pay",
    403: "the key may not do this, which is the caller's or the configuration's to mend",
    404: "it knows no such model or path, which is the caller's or the configuration's to mend",
    408: "it gave up waiting for the request",
    413: "the request is too large, which is the caller's to mend",
    422: "it takes the request for malformed, which is the caller's to mend",
    429: "a rate limit or quota is used up, so ask less, or for more",
    500: "it failed itself",
    502: "something behind it failed",
    503: "it is overloaded or out of order",
    504: "something behind it took too long",
    529: "it is overloaded",
}
"""The statuses that ask for different acts and so are reasons of their own, such as `status_429`: what each means."""


def fault(event: RequestEvent, reason: str) -> str:
    """One sentence for an exclusion reason, such as `client_disconnected` or `status_429`."""
    if event.error_class is None and reason.startswith("status_"):
        return _status(event)
    sentence = _FAULTS.get(reason, "The request did not complete {when}: {reason}.")
    return sentence.format(when=_when(event), waited=seconds(event.backpressure_seconds or 0.0), reason=reason)


def _status(event: RequestEvent) -> str:
    status = event.status or 0
    kind = {4: "refused", 5: "failed"}.get(status // 100, "did not give a result")
    why = STATUSES.get(status)
    return f"The provider {kind} with status {status}" + (f": {why}." if why else ".")


def _when(event: RequestEvent) -> str:
    """How long after the request was sent it was, and how far the reply had come."""
    raw = event.raw_seconds
    after = "" if raw is None else f"after {seconds(raw)}, "
    first = event.time_to_first_token_seconds
    if first is not None:
        return f"{after}when tokens had been coming since {seconds(first)}"
    if event.time_to_first_byte_seconds is not None:
        return f"{after}when the reply had begun" + (" but no token had come" if event.stream else "")
    return f"{after}before the reply began"
