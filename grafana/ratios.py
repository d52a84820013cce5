"""The ratios, each defined once: panels, recording rules and alerts all take them from here.

Every one is a sum over a sum, both of the same requests; docs/metrics.md says which those are.
"""

from collections.abc import Callable
from dataclasses import dataclass

from grafana.promql import Term, View, divided
from stream import families as f

__all__ = ["CONTENDED", "FAR_BEHIND", "NO_FAILURES", "PARTS", "RATIOS", "VOLUMES", "Part", "Ratio", "Volume"]

_PAIR = ("upstream", "model")
_STACK = (*_PAIR, "stack")

NO_FAILURES = ("client_disconnected", "client_backpressure", "status_1xx", "status_3xx")
"""reasons that take a request out of the ratios without anything having failed"""

CONTENDED = 1.25
"""from which contention on a provider is contended: here as on the gateway's page"""
FAR_BEHIND = 2.0
"""from which contention on it is far behind its own best: worth an alert"""
SLOW, SLOW_IF_NOT_MEASURED = 1.15, 1.5
"""from which slowdown on it is slow, where the idealized runtimes are measured and where not: as on the page"""

_COMPLETED = Term(f.REQUESTS, matchers=('exclusion_reason=""',))
_COVERED = Term(f.SLOWDOWN, "_count")


@dataclass(frozen=True, slots=True)
class Volume:
    """Requests that a ratio rests on."""

    name: str
    labels: tuple[str, ...]
    of: Term


@dataclass(frozen=True, slots=True)
class Ratio:
    """A sum over a sum of the same requests; `volume` counts them, or those among which they are.

    A `share` counts requests that may not have occurred yet: where nothing has the numerator's labels it is 0.
    """

    name: str
    over: Term
    under: Term
    volume: Volume
    share: bool = False

    @property
    def labels(self) -> tuple[str, ...]:
        """What it can be told apart by."""
        return self.volume.labels

    def rate(self, view: View, window: str, *by: str) -> str:
        """The ratio over a window that moves along."""
        return self._of(lambda term: term.rate(view, window, *by))

    def increase(self, view: View, window: str, *by: str) -> str:
        """The ratio over one whole range."""
        return self._of(lambda term: term.increase(view, window, *by))

    def _of(self, grown: Callable[[Term], str]) -> str:
        over, under = grown(self.over), grown(self.under)
        return divided(f"({over}\n  or 0 * {under})" if self.share else over, under)


REQUESTS = Volume("requests", _PAIR, Term(f.REQUESTS))
COMPLETED = Volume("completed_requests", _PAIR, _COMPLETED)
COVERED = Volume("covered_requests", _STACK, _COVERED)
DENOISED = Volume("denoised_requests", _PAIR, Term(f.CONTENTION, "_count"))
DECOMPOSED = Volume("decomposed_requests", _STACK, Term(f.DECOMPOSED))
VOLUMES = (REQUESTS, COMPLETED, COVERED, DENOISED, DECOMPOSED)

SLOWDOWN = Ratio("slowdown", Term(f.RAW), Term(f.IDEALIZED), COVERED)
CONTENTION = Ratio("contention", Term(f.RAW_OF_DENOISED), Term(f.DENOISED), DENOISED)
STACK_FACTOR = Ratio("stack_factor", Term(f.DENOISED_OF_DECOMPOSED), Term(f.IDEALIZED_OF_DECOMPOSED), DECOMPOSED)
FASTER_THAN_IDEALIZED = Ratio("faster_than_idealized", Term(f.FASTER), _COVERED, COVERED, share=True)
FASTER_THAN_DENOISED = Ratio(
    "faster_than_denoised", Term(f.FASTER_THAN_DENOISED), Term(f.CONTENTION, "_count"), DENOISED, share=True
)
EXTRAPOLATED = Ratio("extrapolated", Term(f.EXTRAPOLATED), _COVERED, COVERED, share=True)
PREDICTED = Ratio(
    "predicted", Term(f.COVERED, matchers=('provenance="predicted"',)), Term(f.COVERED), COVERED, share=True
)
MARGIN = Ratio("billed_over_served", Term(f.BILLED_OF_MARGIN), Term(f.SERVED_OF_MARGIN), COVERED)
UNKNOWN_MODEL = Ratio(
    "unknown_model", Term(f.UNCOVERED, matchers=('reason="unknown_model"',)), _COMPLETED, COMPLETED, share=True
)
DENOISED_SHARE = Ratio("denoised_share", Term(f.CONTENTION, "_count"), _COMPLETED, COMPLETED, share=True)
ERRORS = Ratio(
    "errors",
    Term(f.REQUESTS, matchers=(f'exclusion_reason!~"|{"|".join(NO_FAILURES)}"',)),
    Term(f.REQUESTS),
    REQUESTS,
    share=True,
)
# 4xx, of the provider or the gateway, is what a client, a key or a quota brings about, and nobody's failure.
FAILURES = Ratio(
    "failures",
    Term(f.REQUESTS, matchers=(f'exclusion_reason!~"|{"|".join(NO_FAILURES)}"', 'status_class!~"4xx"')),
    Term(f.REQUESTS),
    REQUESTS,
    share=True,
)
REFUSALS = Ratio("refusals", Term(f.REQUESTS, matchers=('status_class="4xx"',)), Term(f.REQUESTS), REQUESTS, share=True)
RETRIES = Ratio("retries", Term(f.RETRIES), Term(f.REQUESTS), REQUESTS, share=True)
RAW_MEAN = Ratio("raw_seconds", Term(f.RAW), _COVERED, COVERED)
IDEALIZED_MEAN = Ratio("idealized_seconds", Term(f.IDEALIZED), _COVERED, COVERED)
DENOISED_MEAN = Ratio("denoised_seconds", Term(f.DENOISED), Term(f.CONTENTION, "_count"), DENOISED)
RAW_OF_DENOISED_MEAN = Ratio("raw_of_denoised_seconds", Term(f.RAW_OF_DENOISED), Term(f.CONTENTION, "_count"), DENOISED)
ESTIMATED = Ratio("estimated_usage", Term(f.ESTIMATED), Term(f.REQUESTS), REQUESTS, share=True)
MEASURED = Ratio("measured", Term(f.COVERED, matchers=('provenance="measured"',)), Term(f.COVERED), COVERED, share=True)
RATIOS = (
    *(SLOWDOWN, CONTENTION, STACK_FACTOR, FASTER_THAN_IDEALIZED, FASTER_THAN_DENOISED, EXTRAPOLATED, PREDICTED),
    *(RAW_MEAN, IDEALIZED_MEAN, DENOISED_MEAN),
    *(MARGIN, UNKNOWN_MODEL, DENOISED_SHARE, ERRORS, FAILURES, REFUSALS, RETRIES, ESTIMATED),
)


@dataclass(frozen=True, slots=True)
class Part:
    """Where the seconds of the decomposed requests went: one of the three that add up to their raw runtime."""

    name: str
    whole: Term
    less: Term | None = None

    def rate(self, view: View, window: str, *by: str) -> str:
        """Seconds a second, with their sign."""
        return self._of(lambda term: term.rate(view, window, *by))

    def increase(self, view: View, window: str, *by: str) -> str:
        """Seconds over one whole range, with their sign."""
        return self._of(lambda term: term.increase(view, window, *by))

    def _of(self, grown: Callable[[Term], str]) -> str:
        return grown(self.whole) if self.less is None else f"({grown(self.whole)}\n  - {grown(self.less)})"


RAW_OF_DECOMPOSED = Term(f.RAW_OF_DECOMPOSED)
PARTS = (
    Part("model", Term(f.IDEALIZED_OF_DECOMPOSED)),
    Part("stack", Term(f.DENOISED_OF_DECOMPOSED), Term(f.IDEALIZED_OF_DECOMPOSED)),
    Part("contention", RAW_OF_DECOMPOSED, Term(f.DENOISED_OF_DECOMPOSED)),
)
