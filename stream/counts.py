"""The counts behind the metrics: plain structs that JSON keeps exactly, one per group of label values.

Each knows how one request adds to it. Units: seconds, tokens; histograms as in `stream.histogram`.
"""

from bisect import bisect_left
from typing import Any

import msgspec

from stream import histogram as hist
from stream.events import EnrichedEvent, RequestEvent, StackView
from stream.labels import OTHER

_STATUS_CLASSES = {status: f"{status // 100}xx" for status in range(100, 600)}


class StackCounts(msgspec.Struct):
    """Covered requests of one (upstream, model) on one reference stack."""

    raw: float = 0.0
    idealized: float = 0.0
    requests: int = 0
    faster: int = 0
    extrapolated: int = 0
    row: str | None = None
    """the table's row that the last of them had"""
    slowdown: list[float] = msgspec.field(default_factory=lambda: hist.new(hist.RATIO))

    def __post_init__(self) -> None:
        """Refuse a stored histogram over other bounds."""
        hist.check(self.slowdown, hist.RATIO)

    def count(self, raw: float, idealized: float, view: EnrichedEvent | StackView) -> None:
        """Count one covered request; its factors are those that enrichment gave it on this stack."""
        self.requests += 1
        self.raw += raw
        self.idealized += idealized
        self.row = view.table_row
        if view.coverage == "extrapolated":
            self.extrapolated += 1
        if view.faster_than_idealized:
            self.faster += 1
        ratio = view.slowdown
        if ratio is not None:
            self.slowdown[0] += ratio
            self.slowdown[bisect_left(hist.RATIO, ratio) + 1] += 1.0


class PairCounts(msgspec.Struct, omit_defaults=True):
    """All requests of one (upstream, model)."""

    requests: dict[str, dict[str, int]] = {}
    """status_class -> exclusion_reason -> requests"""
    uncovered: dict[str, int] = {}
    """uncovered_reason -> completed requests"""
    stacks: dict[str, StackCounts] = {}
    completed: int = 0
    completed_raw: float = 0.0
    """completed requests and their raw runtime, covered or not: what the page shows of uncovered models"""
    estimated: int = 0
    raw_of_denoised: float = 0.0
    denoised: float = 0.0
    contention: list[float] | None = None

    def __post_init__(self) -> None:
        """Refuse a stored histogram over other bounds."""
        hist.check(self.contention, hist.RATIO)

    def count(self, r: RequestEvent, exclusion: str) -> str:
        """Count one request; return its error type, empty for a request that succeeded."""
        # Without a status a request is completed, unless something else is said of it.
        unsaid = "none" if exclusion else "2xx"
        status_class = unsaid if r.status is None else _STATUS_CLASSES.get(r.status, OTHER)
        reasons = self.requests.get(status_class)
        if reasons is None:
            reasons = self.requests.setdefault(status_class, {})
        reasons[exclusion] = reasons.get(exclusion, 0) + 1
        if r.usage_source == "estimated":
            self.estimated += 1
        # A slow client's backpressure excludes a request from the ratios, but is no error.
        return exclusion if r.error_class is not None or status_class != "2xx" else ""

    def count_denoised(self, raw: float, denoised: float, contention: float | None) -> None:
        """Count a completed request whose denoised runtime is known; `contention` is raw over denoised."""
        self.raw_of_denoised += raw
        self.denoised += denoised
        if self.contention is None:
            self.contention = hist.new(hist.RATIO)
        if contention is not None:
            hist.observe(self.contention, hist.RATIO, contention)

    def summary(self, stack: str | None) -> dict[str, Any]:
        """Return the sums and the ratio of sums on `stack`, for JSON; a ratio of nothing is null."""
        counts = self.stacks.get(stack or "") or StackCounts()
        reasons = sorted(self.uncovered.items(), key=lambda item: (-item[1], item[0]))
        return {
            "requests": sum(sum(reasons.values()) for reasons in self.requests.values()),
            "completed": self.completed,
            "completed_raw_seconds": self.completed_raw,
            "covered": counts.requests,
            "table_row": counts.row,
            "extrapolated": counts.extrapolated,
            "raw_seconds": counts.raw,
            "idealized_seconds": counts.idealized,
            "slowdown": counts.raw / counts.idealized if counts.idealized > 0 else None,
            "faster_than_idealized": counts.faster,
            "uncovered": sum(self.uncovered.values()),
            "uncovered_reason": reasons[0][0] if reasons else None,
            "estimated_usage": self.estimated,
        }


class OperationCounts(msgspec.Struct, omit_defaults=True):
    """OpenTelemetry's histograms of one (operation, provider, model), each made by its first value."""

    duration: dict[str, list[float]] = {}
    """error_type -> histogram"""
    server: dict[str, list[float]] = {}
    first_chunk: list[float] | None = None
    input_tokens: list[float] | None = None
    output_tokens: list[float] | None = None
    first_token: list[float] | None = None
    per_token: list[float] | None = None

    def __post_init__(self) -> None:
        """Refuse stored histograms over other bounds."""
        for seconds in (*self.duration.values(), *self.server.values()):
            hist.check(seconds, hist.OPERATION_SECONDS)
        hist.check(self.first_chunk, hist.FIRST_TOKEN_SECONDS)
        hist.check(self.input_tokens, hist.TOKENS)
        hist.check(self.output_tokens, hist.TOKENS)
        hist.check(self.first_token, hist.FIRST_TOKEN_SECONDS)
        hist.check(self.per_token, hist.OUTPUT_TOKEN_SECONDS)

    def count(self, r: RequestEvent, error: str) -> None:
        """Count whatever is known of one request; `error` is its error type, empty when it succeeded."""
        raw = r.raw_runtime_seconds  # without fallback: the time of a request that no upstream got is no runtime
        if raw is not None:
            hist.observe_in(self.server, error, hist.OPERATION_SECONDS, raw)
        if r.duration_seconds is not None:
            hist.observe_in(self.duration, error, hist.OPERATION_SECONDS, r.duration_seconds)
        if r.prompt_tokens is not None:
            self.input_tokens = hist.observe(self.input_tokens, hist.TOKENS, r.prompt_tokens)
        if r.completion_tokens is not None:
            self.output_tokens = hist.observe(self.output_tokens, hist.TOKENS, r.completion_tokens)
        seconds = r.time_to_first_byte_seconds
        if r.stream and seconds is not None:
            self.first_chunk = hist.observe(self.first_chunk, hist.FIRST_TOKEN_SECONDS, seconds)
        seconds = r.time_to_first_token_seconds
        if seconds is not None:
            self.first_token = hist.observe(self.first_token, hist.FIRST_TOKEN_SECONDS, seconds)
        seconds = r.time_per_output_token_seconds
        if seconds is not None:
            self.per_token = hist.observe(self.per_token, hist.OUTPUT_TOKEN_SECONDS, seconds)


class GlobalCounts(msgspec.Struct):
    """What has no model: the gateway's overhead, and the label values folded, by label."""

    overhead: list[float] = msgspec.field(default_factory=lambda: hist.new(hist.OVERHEAD_SECONDS))
    overflow: dict[str, int] = {}

    def __post_init__(self) -> None:
        """Refuse a stored histogram over other bounds."""
        hist.check(self.overhead, hist.OVERHEAD_SECONDS)


class Labels(msgspec.Struct):
    """The label values that have a place, by label, sorted."""

    values: dict[str, list[str]]


Counts = PairCounts | OperationCounts | GlobalCounts
