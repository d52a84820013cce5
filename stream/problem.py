"""One problem: what it cost each model and strategy that worked on it, and how their attempts were judged. Pure.

A cell holds the requests of one (model, strategy) at the problem. Requests and outcomes come in any order, again, and
late: sums are exact, an id is counted once, of several outcomes of one id the last recorded is kept, and whose an
outcome is gets decided when somebody asks. So what is answered depends on what there is, and on nothing else.
"""

from collections.abc import Iterator
from hashlib import blake2b
from typing import NamedTuple

import msgspec

from stream.exact import Exact, exact_sum
from stream.outcomes import Outcome
from stream.problem_requests import Measures, ProblemRequest

__all__ = ["MEASURES", "Bounds", "Cell", "Judged", "Problem", "Total", "Verdict"]

MEASURES = (*Measures.__struct_fields__, "billed_dollars")
"""What strategies are compared by; all but the last are of a reference stack."""

_DIGEST = 8  # bytes: of 10,000 ids of a problem any two are the same once in 10^11 problems
_NAMELESS = b"-"  # makes the key of an outcome without an id longer than any digest
_MICROSECONDS = 1_000_000
_SHOWN_ID = 80  # characters of an outcome's id that are kept, for people to know it by


class Bounds(NamedTuple):
    """What one problem may hold. One that would hold more is overfull: what was left would be wrong without a word."""

    ids: int = 10_000
    """of its requests"""
    outcomes: int = 10_000
    cells: int = 256


class Total(msgspec.Struct, array_like=True):
    """The exact sum of one measure, over the requests of which it is known."""

    requests: int = 0
    exact: Exact = ()

    def add(self, amount: float | None) -> None:
        """Count one request's amount."""
        if amount is not None:
            self.requests += 1
            self.exact = exact_sum((*self.exact, amount))


class Cell(msgspec.Struct, array_like=True):
    """The requests of one model and strategy at one problem, those that failed among them."""

    model: str | None
    strategy: str | None
    requests: int = 0
    failed: int = 0
    samples: int = 0
    billed: Total = msgspec.field(default_factory=Total)
    stacks: dict[str, list[Total]] = {}
    """by stack, in the order of `Measures`"""
    ids: bytes = b""
    """the digests of its requests' ids, in a row: a problem is read and written for each of them"""

    @property
    def answered(self) -> int:
        """Requests that cost something."""
        return self.requests - self.failed

    def has(self, key: bytes) -> bool:
        """Whether a request with the id of this digest was counted."""
        place = self.ids.find(key)
        while place % _DIGEST and place >= 0:
            place = self.ids.find(key, place + 1)
        return place >= 0

    def count(self, request: ProblemRequest) -> None:
        """Count one request."""
        self.requests += 1
        if request.failed:
            self.failed += 1
            return
        self.samples += request.samples
        self.billed.add(request.billed_dollars)
        for stack, measures in request.stacks.items():
            totals = self.stacks.get(stack)
            if totals is None:
                totals = self.stacks[stack] = [Total() for _ in Measures.__struct_fields__]
            for total, name in zip(totals, Measures.__struct_fields__, strict=True):
                total.add(getattr(measures, name))

    def totals(self, stack: str) -> list[Total]:
        """The totals on one stack, in the order of MEASURES."""
        on_stack = self.stacks.get(stack)
        return [*(_NO_TOTALS if on_stack is None else on_stack), self.billed]


_NO_TOTALS = tuple(Total() for _ in Measures.__struct_fields__)


class Judged(msgspec.Struct, array_like=True, frozen=True):
    """An outcome as it is kept: microseconds since 1970, value, what it says of model and strategy, its id's head."""

    recorded: int
    value: float
    model: str | None
    strategy: str | None
    id: str | None = None

    @property
    def rank(self) -> tuple[int, float, str, str]:
        """Of two outcomes of the same id the higher counts: recorded later, else lower (the names make it total)."""
        return self.recorded, -self.value, self.model or "", self.strategy or ""


class Verdict(NamedTuple):
    """What the outcomes of a problem say, as far as it is known whose they are."""

    values: dict[int, list[float]]
    """by the number of the cell, one for each judged attempt"""
    ambiguous: list[Judged]
    without_requests: list[Judged]


class Problem(msgspec.Struct, array_like=True):
    """What is known of one problem."""

    last: int = 0
    """the latest moment that anything of it tells, microseconds since 1970; 0: none did"""
    overfull: bool = False
    cells: list[Cell] = []
    outcomes: dict[bytes, Judged] = {}
    """by digest of the id"""

    def observe(self, request: ProblemRequest, bounds: Bounds) -> None:
        """Count a request, once."""
        self.last = max(self.last, int((request.at or 0.0) * _MICROSECONDS))
        key = _digest(request.id) if request.id else b""
        if self.overfull or (key and any(cell.has(key) for cell in self.cells)):
            return
        number = self._cell(request.model, request.strategy)
        if number >= bounds.cells or (key and sum(len(cell.ids) for cell in self.cells) >= bounds.ids * _DIGEST):
            self._give_up()
            return
        if number == len(self.cells):
            self.cells.append(Cell(request.model, request.strategy))
        self.cells[number].ids += key
        self.cells[number].count(request)

    def judge(self, outcome: Outcome, bounds: Bounds) -> None:
        """Take an outcome, unless one of its id that was recorded later is here."""
        recorded = outcome.recorded_microseconds
        self.last = max(self.last, recorded)
        if self.overfull:
            return
        key = (
            _NAMELESS + _digest(repr((outcome.model, outcome.strategy))) if outcome.id is None else _digest(outcome.id)
        )
        shown = None if outcome.id is None else outcome.id[:_SHOWN_ID]
        judged = Judged(recorded, outcome.value, outcome.model, outcome.strategy, shown)
        before = self.outcomes.get(key)
        if before is None and len(self.outcomes) >= bounds.outcomes:
            self._give_up()
        elif before is None or judged.rank > before.rank:
            self.outcomes[key] = judged

    def verdict(self) -> Verdict:
        """Decide whose each outcome is: as it says, else as the request of its id, else the only one that answered."""
        values: dict[int, list[float]] = {}
        nameless: dict[int, Judged] = {}
        ambiguous: list[Judged] = []
        without: list[Judged] = []
        owners = self._owners() if self.outcomes else {}
        for key, judged in self.outcomes.items():
            number, *others = self._whose(owners.get(key), judged) or [-1]
            if number < 0:
                without.append(judged)
            elif others:
                ambiguous.append(judged)
            elif len(key) > _DIGEST:
                nameless[number] = max(judged, nameless.get(number, judged), key=lambda each: each.rank)
            else:
                values.setdefault(number, []).append(judged.value)
        for number, judged in nameless.items():
            values.setdefault(number, []).append(judged.value)
        return Verdict(values, ambiguous, without)

    def _owners(self) -> dict[bytes, int]:
        """The number of the cell of each request, by the digest of its id."""
        return {
            cell.ids[place : place + _DIGEST]: number
            for number, cell in enumerate(self.cells)
            for place in range(0, len(cell.ids), _DIGEST)
        }

    def _whose(self, own: int | None, judged: Judged) -> list[int]:
        """The numbers of the cells that an outcome may be of; `own` is that of the request with its id."""
        model, strategy = judged.model, judged.strategy
        if own is not None or (model is not None and strategy is not None):
            if own is not None:
                model = self.cells[own].model if model is None else model
                strategy = self.cells[own].strategy if strategy is None else strategy
            number = self._cell(model, strategy)
            return [number] if number < len(self.cells) else []
        return list(self._answered_by(model, strategy))

    def _answered_by(self, model: str | None, strategy: str | None) -> Iterator[int]:
        """The numbers of the cells with answers that fit; None fits all."""
        for number, cell in enumerate(self.cells):
            if cell.answered and model in (None, cell.model) and strategy in (None, cell.strategy):
                yield number

    def _cell(self, model: str | None, strategy: str | None) -> int:
        """The number of a cell; of one that is not there yet the next number."""
        for number, cell in enumerate(self.cells):
            if cell.strategy == strategy and cell.model == model:
                return number
        return len(self.cells)

    def _give_up(self) -> None:
        self.overfull = True
        self.cells, self.outcomes = [], {}


def _digest(text: str) -> bytes:
    return blake2b(text.encode(), digest_size=_DIGEST).digest()
