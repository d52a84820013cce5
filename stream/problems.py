"""The ledger of problems: what was asked for each, what it cost, and whether the answers were right. Pure: no clock.

Rows, one a problem, are what is stored; nearly all problems are held as those bytes, and opened when something of them
comes. What is held is bounded: problems without anything new for 30 days go, then the oldest of too many, and a problem
that is too large for exact answers (`problem.Bounds`) is given up, as a sum that misses some would look like any other.
All of these are counted in `dropped`, by reason. Who is next to go is known from a heap, which is put right when one
comes to its top: so a client that names a new problem with each request costs as much as any other.
"""

import heapq
import sys
from collections.abc import Iterable, Iterator

import msgspec

from stream.outcomes import InvalidOutcome, Outcome, decode_outcome, encode_outcome, split_outcomes
from stream.problem import MEASURES, Bounds, Problem
from stream.problem_requests import (
    InvalidProblemRequest,
    Measures,
    ProblemRequest,
    decode_problem_request,
    encode_problem_request,
)

__all__ = [
    "MEASURES", "REASONS", "Bounds", "InvalidOutcome", "InvalidProblemRequest", "Ledger", "LedgerError", "Measures",
    "Outcome", "Problem", "ProblemRequest", "decode_outcome", "decode_problem_request", "encode_outcome",
    "encode_problem_request", "split_outcomes",
]  # fmt: skip

REASONS = ("expired", "too_many", "too_large", "overfull")
"""of `Ledger.dropped`, which has those alone that there were"""

_DAY = 86_400_000_000  # microseconds
_MICROSECONDS = 1_000_000
_OPEN = 64
_BESIDES = 300  # bytes that a problem takes in memory besides its name and its row
_KEY = "problem:"
_DROPPED = "dropped"

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Problem).decode
_decode_dropped = msgspec.msgpack.Decoder(dict[str, int]).decode


class LedgerError(ValueError):
    """A stored row that this version cannot go on from; one line."""


class Ledger:
    """All problems. `dropped` counts those that are no more: `expired`, `too_many`, `too_large`, or `overfull`."""

    def __init__(
        self, days: float = 30, most_problems: int = 100_000, most_bytes: int = 96 << 20, bounds: Bounds | None = None
    ) -> None:
        """Begin with none; `most_bytes` is the memory that all may take, `bounds` are for each problem."""
        self.dropped: dict[str, int] = {}
        self._kept_for = int(days * _DAY)
        self._most, self._most_bytes = most_problems, most_bytes
        self._bounds = bounds or Bounds()
        self._open: dict[str, Problem] = {}
        self._rows: dict[str, bytes] = {}
        """of the others"""
        self._last: dict[str, int] = {}
        """of all: when anything was last heard of it, microseconds since 1970; 0 where nothing of it tells"""
        self._queue: list[tuple[int, str]] = []
        """a heap of all but the new ones, by a moment no later than their last"""
        self._stirred: dict[str, bool] = {}
        """those of which something came since they were pruned, and whether they are new"""
        self._size = 0
        """of `_rows`, with all that goes with them: bytes"""
        self._changed: dict[str, None] = {}
        self._told = dict(self.dropped)

    @property
    def problems(self) -> int:
        """How many are held, those with nothing but outcomes too."""
        return len(self._last)

    def observe(self, request: ProblemRequest) -> None:
        """Count a request, once: what comes with the same id and problem later changes nothing."""
        problem = self._opened(request.problem)
        full = problem.overfull
        problem.observe(request, self._bounds)
        self._touched(request.problem, problem, was_full=full)

    def judge(self, outcome: Outcome) -> None:
        """Take an outcome; of those with its problem and id the one recorded last counts, in whatever order."""
        problem = self._opened(outcome.problem)
        full = problem.overfull
        problem.judge(outcome, self._bounds)
        self._touched(outcome.problem, problem, was_full=full)

    def _touched(self, name: str, problem: Problem, *, was_full: bool) -> None:
        self._stirred.setdefault(name, name not in self._last)
        self._last[name] = problem.last
        self._changed[name] = None
        if problem.overfull and not was_full:
            self._drop_one("overfull")

    def _drop_one(self, reason: str) -> None:
        self.dropped[reason] = self.dropped.get(reason, 0) + 1

    def _opened(self, name: str) -> Problem:
        found = self._open.get(name)
        if found is None:
            found = self._open[name] = self._take_row(name)
            if len(self._open) > _OPEN:
                self._pack(next(iter(self._open)))
        return found

    def _take_row(self, name: str) -> Problem:
        row = self._rows.pop(name, None)
        if row is None:
            return Problem()
        self._size -= _room(name, row)
        return _decode(row)

    def _pack(self, name: str) -> None:
        row = self._rows[name] = _encode(self._open.pop(name))
        self._size += _room(name, row)

    def _pack_all(self) -> None:
        for name in list(self._open):
            self._pack(name)

    def each(self) -> Iterator[tuple[str, Problem]]:
        """Yield every problem that is not overfull, with its name; nothing may be counted meanwhile."""
        self._pack_all()
        both = ((name, _decode(row)) for name, row in self._rows.items())
        return ((name, problem) for name, problem in both if not problem.overfull)

    def copy(self) -> "Ledger":
        """The ledger as it is now, in little time: for another thread to ask, while this one goes on."""
        self._pack_all()
        copy = Ledger()
        copy._rows, copy._last, copy.dropped = dict(self._rows), dict(self._last), dict(self.dropped)
        return copy

    def prune(self, now: float) -> None:
        """Drop problems of which nothing was heard for long, and the oldest of too many; `now` in seconds since 1970.

        A problem that tells no moment, or one that is yet to come, is dated now.
        """
        for _ in self.pruning(now):
            pass

    def pruning(self, now: float) -> Iterator[None]:
        """Prune in small steps, between which others may go on, but nothing may be counted."""
        moment = int(now * _MICROSECONDS)
        while self._stirred:
            name, new = self._stirred.popitem()
            if not 0 < self._last[name] <= moment:
                self._date(name, moment)
            if new:
                heapq.heappush(self._queue, (self._last[name], name))
            yield
        while self._queue:
            last, name = self._queue[0]
            if last != self._last[name]:
                heapq.heapreplace(self._queue, (self._last[name], name))
            elif reason := self._needless(last, moment):
                heapq.heappop(self._queue)
                self._drop(name, reason)
            else:
                return
            yield

    def _date(self, name: str, moment: int) -> None:
        self._opened(name).last = self._last[name] = moment
        self._changed[name] = None

    def _needless(self, last: int, moment: int) -> str | None:
        """Why the oldest problem is to go; None if it may stay."""
        if last < moment - self._kept_for:
            return "expired"
        if len(self._last) > self._most:
            return "too_many"
        return "too_large" if self._size > self._most_bytes else None

    def _drop(self, name: str, reason: str) -> None:
        problem = self._open.pop(name, None) or self._take_row(name)
        del self._last[name]
        self._changed[name] = None
        if not problem.overfull:  # which is counted already
            self._drop_one(reason)

    def changed(self) -> list[tuple[str, bytes | None]]:
        """Return the rows (key, value) that changed since the last call; None for one that is no more."""
        names, self._changed = self._changed, {}
        rows: list[tuple[str, bytes | None]] = [(_KEY + name, self._row(name)) for name in names]
        if self.dropped != self._told:
            self._told = dict(self.dropped)
            rows.append((_DROPPED, _encode(self.dropped)))
        return rows

    def _row(self, name: str) -> bytes | None:
        problem = self._open.get(name)
        return self._rows.get(name) if problem is None else _encode(problem)

    def restore(self, rows: Iterable[tuple[str, bytes]]) -> None:
        """Go on from the rows that `changed` gave (the newest of each key), exactly; else raise LedgerError."""
        for key, row in rows:
            try:
                if key == _DROPPED:
                    self.dropped = _decode_dropped(row)
                    self._told = dict(self.dropped)
                    continue
                if not key.startswith(_KEY):
                    raise ValueError("no problem has such a key")
                name, last = key.removeprefix(_KEY), _decode(row).last
            except (msgspec.MsgspecError, ValueError) as error:
                raise LedgerError(f"problems: row {key[:80]!r} cannot be read: {error}") from None
            self._size += _room(name, row)
            self._rows[name], self._last[name], self._stirred[name] = row, last, True


def _room(name: str, row: bytes) -> int:
    """Bytes that a problem takes in memory."""
    return sys.getsizeof(name) + sys.getsizeof(row) + _BESIDES
