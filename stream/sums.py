"""The sums that page, summary and metrics show of a group of requests, since ever or in one slot of time.

The same code adds an event to either, so that both say the same of the same events. Sums are plain running sums of
seconds, in the order of the events; adding groups adds their sums. Their fields stand in stored rows by position:
new ones go to the end, with a default.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

import msgspec

from stream.cost_sums import Costed, CostSums
from stream.events import EnrichedEvent, StackView
from stream.quantiles import Spread

__all__ = ["Batch", "Covered", "Labelled", "Observation", "StackSums", "Sums"]

Covered = tuple[float, float, float | None, EnrichedEvent | StackView]
"""of a request that a stack covers: its raw, idealized and denoised runtime, and what else is said of it there"""

Labelled = tuple[EnrichedEvent, str, str, str]
"""an event with its upstream, model and exclusion reason as label values"""


class Batch:
    """Requests of one (upstream, model) that are counted together: what of them is worked out once.

    They are counted since ever and in a slot of time: so every request is looked at once, and added up twice.
    """

    __slots__ = (
        "billed", "contention", "costed", "covered", "denoised", "estimated", "model", "odd", "raw", "requests",
        "retries", "unbilled", "uncovered", "upstream",
    )  # fmt: skip

    def __init__(self, upstream: str, model: str) -> None:
        """Begin with no requests of these label values."""
        self.upstream, self.model = upstream, model
        self.requests = self.estimated = self.retries = 0
        self.odd: list[tuple[str, str]] = []
        """status class and exclusion reason of all but those that completed, with 2xx or no status at all"""
        self.uncovered: list[str] = []
        """why completed ones are not covered on the leading stack"""
        self.raw: list[tuple[float, int]] = []
        """raw runtimes of completed ones, with their buckets"""
        self.denoised: list[tuple[float, float]] = []
        """raw and denoised runtimes"""
        self.contention: list[float] = []
        """raw over denoised runtimes"""
        self.covered: defaultdict[str, list[Covered]] = defaultdict(list)
        """by stack"""
        self.costed: defaultdict[str, list[Costed]] = defaultdict(list)
        """by stack: whatever became of them, their tokens were computed"""
        self.billed: list[float] = []
        """dollars"""
        self.unbilled: list[str] = []
        """why it is not known what was billed"""


class Observation(NamedTuple):
    """Events of one slot of time that are counted together."""

    ended: datetime | None
    """the first one's end"""
    batches: list[Batch]
    """one for each (upstream, model)"""
    overheads: list[tuple[float, int]]
    """seconds that the gateway added, with their buckets"""
    labelled: list[Labelled]
    """every one of them"""


class StackSums(msgspec.Struct, array_like=True):
    """Covered requests on one reference stack. Decomposed ones are those with a denoised runtime as well."""

    requests: int = 0
    raw: float = 0.0
    idealized: float = 0.0
    faster: int = 0
    extrapolated: int = 0
    decomposed: int = 0
    decomposed_raw: float = 0.0
    decomposed_idealized: float = 0.0
    decomposed_denoised: float = 0.0

    def count(self, covered: Sequence[Covered]) -> None:
        """Count covered requests."""
        # In locals, as adding to a struct's field takes three times as long.
        all_raw, all_idealized = self.raw, self.idealized
        decomposed_raw, decomposed_idealized = self.decomposed_raw, self.decomposed_idealized
        decomposed_denoised, decomposed = self.decomposed_denoised, 0
        for raw, idealized, denoised, view in covered:
            all_raw += raw
            all_idealized += idealized
            if raw < idealized:
                self.faster += 1
            if view.coverage == "extrapolated":
                self.extrapolated += 1
            if denoised is not None:
                decomposed += 1
                decomposed_raw += raw
                decomposed_idealized += idealized
                decomposed_denoised += denoised
        self.requests += len(covered)
        self.raw, self.idealized = all_raw, all_idealized
        self.decomposed += decomposed
        self.decomposed_raw, self.decomposed_idealized = decomposed_raw, decomposed_idealized
        self.decomposed_denoised = decomposed_denoised

    def add(self, more: "StackSums") -> None:
        """Count all that `more` has counted."""
        self.requests += more.requests
        self.raw += more.raw
        self.idealized += more.idealized
        self.faster += more.faster
        self.extrapolated += more.extrapolated
        if more.decomposed:
            self.decomposed += more.decomposed
            self.decomposed_raw += more.decomposed_raw
            self.decomposed_idealized += more.decomposed_idealized
            self.decomposed_denoised += more.decomposed_denoised


class Sums(msgspec.Struct, array_like=True):
    """Requests of one group: how many, what became of them, and what the completed ones took."""

    requests: int = 0
    estimated: int = 0
    excluded: dict[str, int] = {}
    """exclusion_reason -> requests"""
    uncovered: dict[str, int] = {}
    """uncovered_reason -> completed requests"""
    raw: Spread = msgspec.field(default_factory=Spread)
    """raw runtimes of the completed requests, covered or not"""
    denoised_requests: int = 0
    raw_of_denoised: float = 0.0
    denoised: float = 0.0
    faster_than_denoised: int = 0
    stacks: dict[str, StackSums] = {}
    billed_requests: int = 0
    billed: float = 0.0
    """dollars"""
    unbilled: dict[str, int] = {}
    """unbilled_reason -> requests"""
    costs: dict[str, CostSums] = {}
    """by stack"""
    retries: int = 0
    """attempts at an upstream after the first, of all requests together"""

    def count(self, batch: Batch) -> None:
        """Count requests."""
        self.requests += batch.requests
        self.estimated += batch.estimated
        self.retries += batch.retries
        for _, reason in batch.odd:
            if reason:
                self.excluded[reason] = self.excluded.get(reason, 0) + 1
        for reason in batch.uncovered:
            self.uncovered[reason] = self.uncovered.get(reason, 0) + 1
        self.raw.count(batch.raw)
        self.denoised_requests += len(batch.denoised)
        for raw, denoised in batch.denoised:
            self.raw_of_denoised += raw
            self.denoised += denoised
            if raw < denoised:
                self.faster_than_denoised += 1
        for stack, covered in batch.covered.items():
            sums = self.stacks.get(stack)
            if sums is None:
                sums = self.stacks[stack] = StackSums()
            sums.count(covered)
        self._count_costs(batch)

    def _count_costs(self, batch: Batch) -> None:
        self.billed_requests += len(batch.billed)
        for dollars in batch.billed:
            self.billed += dollars
        for reason in batch.unbilled:
            self.unbilled[reason] = self.unbilled.get(reason, 0) + 1
        for stack, costed in batch.costed.items():
            costs = self.costs.get(stack)
            if costs is None:
                costs = self.costs[stack] = CostSums()
            costs.count(costed)

    def add(self, more: "Sums") -> None:
        """Count all that `more` has counted."""
        self.requests += more.requests
        self.estimated += more.estimated
        self.retries += more.retries
        _add(self.excluded, more.excluded)
        _add(self.uncovered, more.uncovered)
        self.raw.add(more.raw)
        if more.denoised_requests:
            self.denoised_requests += more.denoised_requests
            self.raw_of_denoised += more.raw_of_denoised
            self.denoised += more.denoised
            self.faster_than_denoised += more.faster_than_denoised
        for stack, sums in more.stacks.items():
            own = self.stacks.get(stack)
            if own is None:
                own = self.stacks[stack] = StackSums()
            own.add(sums)
        self.billed_requests += more.billed_requests
        self.billed += more.billed
        _add(self.unbilled, more.unbilled)
        for stack, costs in more.costs.items():
            self.costs.setdefault(stack, CostSums()).add(costs)

    def on(self, stack: str) -> StackSums:
        """Return the sums on one stack, empty ones where nothing was covered there."""
        return self.stacks.get(stack) or StackSums()


def _add(into: dict[str, int], more: Mapping[str, int]) -> None:
    for key, number in more.items():
        into[key] = into.get(key, 0) + number
