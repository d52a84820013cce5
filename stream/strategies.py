"""Strategies and models by how often they are right and what that costs: accuracy, cost of a pass, frontiers. Pure.

At one problem, (model, strategy) took some requests and had some attempts judged:

    success rate R = sum of values / attempts       cost of an attempt = total / attempts
    cost of a pass = cost of an attempt / R = total / sum of values          (arXiv 2504.13359)

All sums are rounded once, so answers do not depend on the order in which anything came. `docs/strategies.md` has the
definitions, with an example worked out by hand.
"""

import heapq
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import islice
from math import fsum, sqrt
from typing import Any

from stream.exact import Sum
from stream.pareto import pareto
from stream.problem import MEASURES, Cell, Judged, Problem, Verdict
from stream.problems import Ledger

__all__ = ["MEASURES", "in_dollars", "strategies", "strategies_by_stack", "wilson"]

_Z = 1.959963984540054  # of the normal distribution 95 % lie within so many standard deviations
_DOLLARS = tuple(name for name in MEASURES if name.endswith("_dollars"))
_MOST = 1000  # pairs of model and strategy that are listed: with more of them a name is an id
_AT_ONCE = 500
_UNMATCHED = 10


def strategies(ledger: Ledger, stack: str, human: Mapping[str, float] | None = None) -> dict[str, Any]:
    """What is known of all problems of a ledger, measured on one reference stack, ready to be written as JSON.

    `human` is what a person who solves any problem costs for each, by measure (see `in_dollars`).
    """
    *_, answers = strategies_by_stack(ledger, (stack,), human)
    assert answers is not None
    return answers[stack]


def strategies_by_stack(
    ledger: Ledger, stacks: Iterable[str], human: Mapping[str, float] | None = None
) -> Iterator[dict[str, dict[str, Any]] | None]:
    """Work `strategies` out on several stacks in steps of a millisecond at most: None after each, at last the answers.

    All list the same strategies in the same order. Between the steps others may go on, but nothing may be counted in
    this ledger: give a copy of one that goes on.
    """
    listed = yield from _listed(ledger)
    books = {stack: _Books(stack, human or {}, listed) for stack in stacks}
    for name, problem in ledger.each():
        verdict = problem.verdict()
        for each in books.values():
            each.count(name, problem, verdict)
            yield None
    answers = {}
    for stack, each in books.items():
        comparison = yield from each.comparison()
        answers[stack] = {**each.overview(), "dropped": dict(ledger.dropped), **comparison}
    yield answers


def in_dollars(human: float | None) -> dict[str, float]:
    """A person's dollars for each problem, as the cost in every measure that is in dollars."""
    return {} if human is None else dict.fromkeys(_DOLLARS, human)


def wilson(share: float, number: int) -> tuple[float, float]:
    """The 95 % interval of a share that was found among `number` (Wilson 1927): never beyond 0 and 1."""
    spread = _Z * _Z / number
    middle = (share + spread / 2) / (1 + spread)
    half = _Z / (1 + spread) * sqrt(share * (1 - share) / number + spread / (4 * number))
    # At its ends the interval ends there too, which rounding would miss.
    return max(middle - half, 0.0) if share else 0.0, min(middle + half, 1.0) if share < 1 else 1.0


def _listed(ledger: Ledger) -> Generator[None, None, frozenset[bytes] | None]:
    """The digests of those pairs of model and strategy that tried most problems, as many as are listed; None: all."""
    tried: Counter[bytes] = Counter()
    for _, problem in ledger.each():
        tried.update(_digest(cell) for cell in problem.cells)
        yield
    if len(tried) <= _MOST:
        return None
    most: list[tuple[int, bytes]] = []
    each = ((number, digest) for digest, number in tried.items())
    while some := list(islice(each, _AT_ONCE)):
        most = heapq.nlargest(_MOST, most + some)
        yield
    return frozenset(digest for _, digest in most)


def _digest(cell: Cell) -> bytes:
    return blake2b(repr((cell.model, cell.strategy)).encode(), digest_size=8).digest()


@dataclass
class _Unmatched:
    """Outcomes that judge nothing, for one reason; the latest of them are kept, to be looked at."""

    number: int = 0
    latest: list[tuple[str, Judged]] = field(default_factory=list)
    """with the problem's name"""

    def count(self, problem: str, outcomes: list[Judged]) -> None:
        """Count those of a problem."""
        if outcomes:
            self.number += len(outcomes)
            both = [*self.latest, *((problem, judged) for judged in outcomes)]
            self.latest = heapq.nlargest(_UNMATCHED, both, key=_recency)

    def described(self, reason: str) -> Iterator[dict[str, Any]]:
        """Say what the latest name."""
        for problem, judged in self.latest:
            named = {"problem": problem, "strategy": judged.strategy, "model": judged.model, "id": judged.id}
            yield {"reason": reason, **named}


def _recency(both: tuple[str, Judged]) -> tuple[Any, ...]:
    problem, judged = both
    return judged.recorded, problem, judged.id or "", judged.rank


@dataclass
class _Costs:
    """One measure over the judged problems of a strategy."""

    total: Sum = field(default_factory=Sum)
    """of all requests of which it is known"""
    passes: Sum = field(default_factory=Sum)
    """the cost of a pass at every problem that has one"""
    unknown: int = 0
    """requests of which it is not known"""


@dataclass
class _Strategy:
    """One strategy of one model, over all problems."""

    model: str | None
    strategy: str | None
    problems: int = 0
    requests: int = 0
    failed: int = 0
    samples: int = 0
    attempts: int = 0
    correct: Sum = field(default_factory=Sum)
    rates: Sum = field(default_factory=Sum)
    """the success rate at each judged problem"""
    solved: int = 0
    costs: tuple[_Costs, ...] = field(default_factory=lambda: tuple(_Costs() for _ in MEASURES))

    def count(self, cell: Cell) -> None:
        """Count a problem's requests."""
        self.problems += 1
        self.requests += cell.requests
        self.failed += cell.failed
        self.samples += cell.samples

    def judged(self, cell: Cell, values: list[float], stack: str) -> list[float | None] | None:
        """Count a judged problem; return what a pass costs in each measure, None if nothing passed."""
        correct = fsum(values)
        self.attempts += len(values)
        self.correct.add(*values)
        self.rates.add(correct / len(values))
        self.solved += correct > 0
        passes: list[float | None] = []
        for costs, total in zip(self.costs, cell.totals(stack), strict=True):
            unknown = cell.answered - total.requests
            costs.unknown += unknown
            costs.total.add(*total.exact)
            found = None if unknown or not correct else fsum(total.exact) / correct
            passes.append(found)
            if found is not None:
                costs.passes.add(found)
        return passes if correct else None

    @property
    def accuracy(self) -> float | None:
        """The mean success rate of the judged problems."""
        return self.rates.mean

    def described(self) -> dict[str, Any]:
        """All but the measures."""
        judged, accuracy = self.rates.terms, self.accuracy
        low, high = (None, None) if accuracy is None else wilson(accuracy, judged)
        return {
            "model": self.model,
            "strategy": self.strategy,
            "problems": self.problems,
            "unjudged": self.problems - judged,
            "requests": self.requests,
            "failed": self.failed,
            "samples": self.samples,
            "attempts": self.attempts,
            "correct": self.correct.value,
            "accuracy": accuracy,
            "accuracy_low": low,
            "accuracy_high": high,
            "unsolved_share": (judged - self.solved) / judged if judged else None,
        }

    def measured(self, costs: _Costs) -> dict[str, Any]:
        """One measure: null where it is not known of every request of the judged problems."""
        judged, correct = self.rates.terms, self.correct.value
        total = costs.total.value if judged and not costs.unknown else None
        return {
            "total": total,
            "per_problem": None if total is None else total / judged,
            "per_correct": None if total is None or not correct else total / correct,
            "cost_of_pass_mean": costs.passes.mean if costs.passes.terms == judged else None,
            "unknown_requests": costs.unknown,
        }


@dataclass
class _Frontier:
    """One measure's least cost of a pass at each judged problem."""

    human: float | None
    least: Sum = field(default_factory=Sum)
    """at those that a strategy solved"""
    costs: Sum = field(default_factory=Sum)
    """at those, and the person's at the others"""
    others: int = 0
    """judged problems without such a cost"""
    unknown: int = 0
    """problems that a strategy solved for a cost which is not known"""

    def count(self, passes: list[float | None]) -> None:
        """Count a judged problem, given the costs of those strategies that solved it."""
        known = [each for each in passes if each is not None]
        self.unknown += len(known) < len(passes)
        if known:
            self.least.add(least := min(known) if self.human is None else min(*known, self.human))
            self.costs.add(least)
        else:
            self.others += 1
            self.costs.add(self.human or 0.0)

    def described(self, unsolved: int) -> dict[str, Any]:
        """The means, null where a problem has no cost that is known."""
        return {
            "mean": None if self.others and self.human is None else self.costs.mean,
            "solved_mean": self.least.mean,
            "unsolved": unsolved,
            "unknown": self.unknown,
            "human": self.human,
        }


class _Books:
    """Adds problems up."""

    def __init__(self, stack: str, human: Mapping[str, float], listed: frozenset[bytes] | None) -> None:
        self._stack = stack
        self._listed = listed
        self._unlisted: set[bytes] = set()
        self._requests = self._failed = self._outcomes = 0
        self._strategies: dict[tuple[str | None, str | None], _Strategy] = {}
        self._frontiers = [_Frontier(human.get(name)) for name in MEASURES]
        self._problems = self._judged = self._unsolved = 0
        self._ambiguous, self._without_requests = _Unmatched(), _Unmatched()

    def count(self, name: str, problem: Problem, verdict: Verdict) -> None:
        """Count a problem, and what its outcomes say."""
        self._outcomes += sum(map(len, verdict.values.values()))
        self._ambiguous.count(name, verdict.ambiguous)
        self._without_requests.count(name, verdict.without_requests)
        self._problems += bool(problem.cells)
        solved: list[list[float | None]] = []
        for number, cell in enumerate(problem.cells):
            strategy = self._strategy(cell)
            strategy.count(cell)
            self._requests += cell.requests
            self._failed += cell.failed
            values = verdict.values.get(number)
            if values and (passes := strategy.judged(cell, values, self._stack)):
                solved.append(passes)
        if verdict.values:
            self._judged += 1
            self._unsolved += not solved
            for place, frontier in enumerate(self._frontiers):
                frontier.count([passes[place] for passes in solved])

    def _strategy(self, cell: Cell) -> _Strategy:
        """The strategy to count a cell for; of one that is not listed nothing is kept."""
        key = cell.model, cell.strategy
        found = self._strategies.get(key)
        if found is not None:
            return found
        made = _Strategy(*key)
        if self._listed is None or (digest := _digest(cell)) in self._listed:
            self._strategies[key] = made
        else:
            self._unlisted.add(digest)
        return made

    def overview(self) -> dict[str, Any]:
        """How much there is of everything."""
        ambiguous, without = self._ambiguous, self._without_requests
        return {
            "stack": self._stack,
            "problems": self._problems,
            "judged": self._judged,
            "unjudged_problems": self._problems - self._judged,
            "requests": self._requests,
            "failed": self._failed,
            "outcomes": self._outcomes + ambiguous.number + without.number,
            "ambiguous": ambiguous.number,
            "without_requests": without.number,
            "unmatched": [*ambiguous.described("ambiguous"), *without.described("without_requests")],
            "unlisted": len(self._unlisted),
        }

    def comparison(self) -> Generator[None, None, dict[str, Any]]:
        """The strategies, the most accurate first, and the frontiers; in steps."""
        ranked = sorted(self._strategies.values(), key=_rank)
        described: list[dict[str, Any]] = []
        for strategy in ranked:
            described.append({**strategy.described(), "measures": {}})
            yield
        for place, name in enumerate(MEASURES):
            measured = []
            for strategy in ranked:
                measured.append(strategy.measured(strategy.costs[place]))
                yield
            points = [(own.accuracy, found["per_problem"]) for own, found in zip(ranked, measured, strict=True)]
            for entry, found, on in zip(described, measured, pareto(points), strict=True):
                entry["measures"][name] = {**found, "pareto": on}
        frontiers = zip(MEASURES, self._frontiers, strict=True)
        return {
            "measures": list(MEASURES),
            "strategies": described,
            "frontier": {name: frontier.described(self._unsolved) for name, frontier in frontiers},
        }


def _rank(strategy: _Strategy) -> tuple[float, str, str]:
    accuracy = strategy.accuracy
    return 1.0 if accuracy is None else -accuracy, strategy.model or "", strategy.strategy or ""
