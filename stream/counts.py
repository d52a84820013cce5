"""The counts behind the metrics: plain structs that JSON keeps exactly, one per group of label values.

Each knows how requests, several at once, add to it. Units: seconds, tokens; histograms as in `stream.histogram`.
"""

from collections.abc import Sequence

import msgspec

from stream import histogram as hist
from stream.events import RequestEvent
from stream.quantiles import Spread
from stream.sums import Batch, Covered, Sums


class PairCounts(msgspec.Struct, omit_defaults=True):
    """All requests of one (upstream, model)."""

    sums: Sums = msgspec.field(default_factory=Sums)
    requests: dict[str, dict[str, int]] = {}
    """status_class -> exclusion_reason -> requests"""
    slowdown: dict[str, list[float]] = {}
    """stack -> histogram"""
    contention: list[float] | None = None
    rows: dict[str, str] = {}
    """stack -> the table's row that the last covered request had"""
    provenance: dict[str, dict[str, int]] = {}
    """stack -> provenance -> covered requests"""
    steps: int = 0
    """lasting changes of the baseline"""

    def __post_init__(self) -> None:
        """Refuse stored histograms over other bounds."""
        hist.check(self.contention, hist.RATIO)
        for ratios in self.slowdown.values():
            hist.check(ratios, hist.RATIO)

    def count(self, batch: Batch) -> None:
        """Count requests."""
        self.sums.count(batch)
        completed = batch.requests - len(batch.odd)
        if completed:
            self._count_requests("2xx", "", completed)
        for status_class, exclusion in batch.odd:
            self._count_requests(status_class, exclusion, 1)
        for stack, covered in batch.covered.items():
            self._count_covered(stack, covered)
        for ratio in batch.contention:
            self.contention = hist.observe(self.contention, hist.RATIO, ratio)

    def _count_covered(self, stack: str, covered: Sequence[Covered]) -> None:
        """Count the factors as enrichment gave them, and whose rows they come from."""
        ratios, kinds = self.slowdown.get(stack), self.provenance.setdefault(stack, {})
        for _, _, _, view in covered:
            if view.slowdown is not None:
                ratios = hist.observe(ratios, hist.RATIO, view.slowdown)
            kind = view.provenance or "unknown"
            kinds[kind] = kinds.get(kind, 0) + 1
        if ratios is not None:
            self.slowdown[stack] = ratios
        self.rows[stack] = covered[-1][3].table_row or ""

    def _count_requests(self, status_class: str, exclusion: str, number: int) -> None:
        reasons = self.requests.setdefault(status_class, {})
        reasons[exclusion] = reasons.get(exclusion, 0) + number


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
    spread: Spread = msgspec.field(default_factory=Spread)
    """of the overhead, finer than the histogram"""

    def __post_init__(self) -> None:
        """Refuse a stored histogram over other bounds."""
        hist.check(self.overhead, hist.OVERHEAD_SECONDS)

    def count(self, overheads: Sequence[tuple[float, int]]) -> None:
        """Count seconds that the gateway added to requests, each with its bucket in a Spread."""
        for seconds, _ in overheads:
            hist.observe(self.overhead, hist.OVERHEAD_SECONDS, seconds)
        self.spread.count(overheads)


class Labels(msgspec.Struct):
    """The label values that have a place, by label, sorted."""

    values: dict[str, list[str]]


Counts = PairCounts | OperationCounts | GlobalCounts
