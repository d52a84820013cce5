"""The denoiser: what every provider at its best would need, learned from its own traffic, event by event.

Each (upstream, model) has a sketch of a few hundred observations (`stream.sketch`), a lower envelope fitted to them
now and then (`stream.envelope`), and with it a baseline. `Denoiser.baselines` is an immutable snapshot that only
`refresh` replaces. Everything is a function of the events in their order: no clock, no I/O, no random numbers.

A pair costs 28 bytes an observation, 640 of them while there are few pairs, 64 when there are many; a baseline some
2 kB more. Lasting changes (`stream.changes`) are told only where a sketch is of full size.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from itertools import islice
from operator import attrgetter
from statistics import median_low

import msgspec
from msgspec import structs

from stream.baselines import NO_BASELINES, Baseline, Baselines, Key, Step
from stream.changes import SLOWER, Change, Excesses, find_change, is_suspicious
from stream.estimate import ENOUGH_STREAMED, MOST_STREAMED, MOST_UNCERTAIN, estimate, excess, profile
from stream.events import EnrichedEvent
from stream.metrics import StateError
from stream.observation import Observation, ended, fields, pack, unpack
from stream.pair import Learned, Pair, restored
from stream.sketch import Sketch

__all__ = ["Denoiser"]

_SIZES = ((1536, 640), (3072, 320), (6144, 160))
"""Up to so many pairs each has so many observations ..."""
_SMALLEST = 64
"""... and this many above: 10,000 pairs take 60 MB, however many requests they have seen"""
_SHRUNK_AT_ONCE = 2
_MAKE_ROOM_AMONG = 16
"""Who makes room is the one of these that was seen least recently: to sort all of them would cost more"""

_LOOK_EVERY, _LOOK_AT = 96, 48
"""A lasting change is looked for after so many requests of a pair, in so many of the latest at first"""
_LASTING = 300
"""Seconds of event time for which a change for the slower must be seen at every look"""
_OFTEN = 480
"""Events up to which a pair is fitted whenever they have doubled; then, with a sketch nearly full, more rarely.
Where a fit said nothing new, as it was too uncertain, the next one comes when a third more have been seen."""
_RARELY = 4000
_KNOWN_WELL = 150
"""Observations from which a baseline is fit to tell a change by; before, its own error might look like one"""
_TOO_FAST, _TOO_FAST_LEAST = 0.87, 4
"""A request below this share of its denoised runtime is faster than its provider is known to be; so many at least,
and as many as a low quantile needs to move, and the pair is fitted out of turn"""

_MOST_STEPS = 20
_MOST_WAITS, _WAIT = 2, 128

_encode = msgspec.msgpack.Encoder().encode


def _size_of(pairs: int) -> int:
    return next((size for most, size in _SIZES if pairs <= most), _SMALLEST)


def _next_fit(seen: int, unsure: bool) -> int:
    if unsure:
        return seen + seen // 3 + 1
    return 2 * seen if seen < _OFTEN else seen + min(3 * seen, _RARELY)


def _onset(excesses: Excesses, observations: Sequence[Observation], edge: float) -> int:
    """Return the time of the first of some observations after which none comes near an edge."""
    near = [place for place, value in excesses if value <= edge]
    return observations[min(near[-1] + 1, len(observations) - 1) if near else 0].at


class _Totals(msgspec.Struct, array_like=True):
    clock: int = 0
    """counts the events that told something"""
    version: int = 0
    dropped: int = 0
    hand: int = 0
    """the slot to look at next, whether its sketch is too large or its pair is to make room"""


class Denoiser:
    """Learns baselines from enriched events. `baselines` are those in force; `pairs` counts what is watched."""

    def __init__(self, window_seconds: float = 86_400.0, quantile: float = 0.05, max_pairs: int = 10_000) -> None:
        """Start with nothing; observations further than `window_seconds` from the latest ones are forgotten."""
        self.baselines: Baselines = NO_BASELINES
        self._window, self._quantile, self._max_pairs = window_seconds, quantile, max_pairs
        self._pairs: dict[Key, Pair] = {}
        self._slots: list[Pair] = []
        self._size = _size_of(0)
        self._totals = _Totals()
        self._due: dict[int, Pair] = {}
        """by slot, the longest waiting first"""
        self._changed: dict[int, Pair] = {}
        self._evicted: set[Key] = set()

    @property
    def pairs(self) -> int:
        """How many (upstream, model) pairs are watched."""
        return len(self._slots)

    @property
    def dropped(self) -> int:
        """How many pairs had to make room for others since the beginning."""
        return self._totals.dropped

    def observe(self, enriched: EnrichedEvent) -> None:
        """Learn from one event; whatever tells nothing of its upstream is passed over."""
        event = enriched.event
        if enriched.exclusion_reason is not None or event.model is None:
            return
        packed = pack(event)
        if packed is None:
            return
        key = (event.upstream, event.model)
        pair = self._pairs.get(key) or self._admit(key)
        pair.sketch.add(packed)
        self._changed[pair.slot] = pair
        totals, counts = self._totals, pair.counts
        totals.clock += 1
        counts.last = totals.clock
        counts.seen += 1
        factor = enriched.contention_factor
        if factor is not None and factor < _TOO_FAST:
            self._notice(pair)
        if counts.seen >= counts.due:
            self._make_due(pair)
        if not counts.seen % _LOOK_EVERY and (not (second := ended(packed)) or second != counts.looked):
            counts.looked = second  # thousands a second change nothing so soon
            self._look(pair)

    def refresh(self, limit: int | None = None, *, force: bool = False) -> list[Baseline]:
        """Refit the pairs that are due, the longest waiting first and at most `limit`; return what is new.

        A fit takes 1 to 3 ms. With `force` every pair is due. What changed noticeably gets the next version number;
        the rest stays as it was.
        """
        if force:
            for pair in self._slots:
                self._make_due(pair)
        waiting = list(islice(self._due.values(), limit))
        found = [baseline for pair in waiting if (baseline := self._refit(pair)) is not None]
        if self._evicted:
            self.baselines = Baselines(each for key, each in self.baselines.items() if key not in self._evicted)
            self._evicted.clear()
        if found:
            self.baselines = self.baselines.with_(found)
        return found

    def missing(self, upstream: str | None, model: str | None) -> str | None:
        """Say why a pair has no baseline; None if it has one."""
        pair = self._pairs.get((upstream, model))
        if pair is None:
            return "not enough: no completed request yet whose tokens and time are known"
        if pair.learned.baseline is not None:
            return None
        seen, due = pair.counts.seen, pair.counts.due
        if seen >= due:
            return f"about to be estimated from {seen} completed requests"
        if pair.learned.missing is None:
            return f"not enough: {seen} of {ENOUGH_STREAMED} completed requests"
        return f"{pair.learned.missing}; tried again at {due} completed requests, {seen} so far"

    def changed(self) -> list[tuple[str, bytes]]:
        """Return `(key, value)` of what changed since the last call, to be stored; keys are used again."""
        if not self._changed:
            return []
        rows = [("totals", _encode(self._totals))]
        for _, pair in sorted(self._changed.items()):
            rows += pair.rows()
        self._changed.clear()
        return rows

    def restore(self, rows: Iterable[tuple[str, bytes]]) -> None:
        """Go on from the rows that `changed` gave (the newest of each key), exactly; else StateError."""
        stored = dict(rows)
        try:
            self._restore(stored)
        except (msgspec.MsgspecError, ValueError, KeyError, IndexError) as error:
            raise StateError(f"denoiser state: cannot be read: {error}") from None

    def merge(self, other: "Denoiser") -> None:
        """Take in what another denoiser saw of other events; every pair that it saw is due for a fit."""
        totals = self._totals
        totals.version = max(totals.version, other.baselines.version)
        for theirs in other.watched():
            pair = self._pairs.get(theirs.key) or self._admit(theirs.key)
            pair.sketch.merge(theirs.sketch)
            totals.clock += 1
            pair.counts.last = totals.clock
            pair.counts.seen += theirs.counts.seen
            if theirs.learned.baseline is not None:
                steps = {*pair.learned.changes, *theirs.learned.baseline.steps}
                pair.learned.changes, pair.relearned = sorted(steps, key=attrgetter("at")), True
            self._make_due(pair)
            self._changed[pair.slot] = pair

    def watched(self) -> list[Pair]:
        """Return the pairs, the least recently seen one first."""
        return sorted(self._slots, key=attrgetter("counts.last"))

    def _admit(self, key: Key) -> Pair:
        slot = len(self._slots)
        if slot < self._max_pairs:
            self._slots.append(Pair(slot, key, Sketch(self._size)))
            self._size = _size_of(slot + 1)
        else:
            slot = self._make_room()
            self._slots[slot] = Pair(slot, key, Sketch(self._size))
        # Older sketches shrink with each new pair, whether they are asked for again or not.
        for older in self._next_slots(_SHRUNK_AT_ONCE):
            if older.sketch.shrink(self._size):
                self._changed[older.slot] = older
        found = self._pairs[key] = self._slots[slot]
        return found

    def _make_room(self) -> int:
        """Give up one pair that was not seen for long; return its slot."""
        pair = min(self._next_slots(_MAKE_ROOM_AMONG), key=attrgetter("counts.last"))
        del self._pairs[pair.key]
        self._due.pop(pair.slot, None)
        self._evicted.add(pair.key)
        self._totals.dropped += 1
        return pair.slot

    def _next_slots(self, count: int) -> list[Pair]:
        slots, first = self._slots, self._totals.hand
        self._totals.hand = (first + count) % len(slots)
        return [slots[number % len(slots)] for number in range(first, first + count)]

    def _make_due(self, pair: Pair) -> None:
        if pair.slot not in self._due:
            self._due[pair.slot] = pair
            pair.counts.due_since = self._totals.clock

    def _notice(self, pair: Pair) -> None:
        """Count a request that is faster than its baseline allows; have the pair fitted early once there are enough."""
        counts = pair.counts
        counts.too_fast += 1
        if counts.too_fast >= max(self._quantile * min(counts.seen, MOST_STREAMED), _TOO_FAST_LEAST):
            self._make_due(pair)

    def _look(self, pair: Pair) -> None:
        """Look for a lasting change: at the last few requests, and where these are suspicious at the whole ring."""
        counts, learned = pair.counts, pair.learned
        if not self._suspects(pair):
            counts.slower_since = counts.onset = 0
            learned.former, pair.relearned = None, pair.relearned or learned.former is not None
            return
        recent, (_, edge) = pair.sketch.recent(), learned.reference
        latest, excesses = list(unpack(recent)), self._excesses(pair, recent)
        counts.onset = counts.onset or _onset(excesses, latest, edge.low + SLOWER)
        change = find_change(excesses, edge)
        if change is None:
            counts.slower_since = 0
            return
        if not self._lasts(pair, change, latest):
            return
        # Of a change for the slower the ring may hold only the later part by now.
        at = datetime.fromtimestamp(counts.onset if change.factor > 1.0 else latest[change.place].at, UTC)
        counts.slower_since = counts.onset = 0
        learned.former, learned.changes, pair.relearned = None, [Step(at, change.factor, 0)], True
        pair.sketch.forget_all_but(len(latest) - change.place)
        counts.seen = len(pair.sketch)
        self._make_due(pair)

    def _excesses(self, pair: Pair, packed: bytes) -> list[tuple[int, float]]:
        """Return `excess` of some observations over the baseline that changes are told by."""
        former = pair.learned.former
        baselines = self.baselines if former is None else Baselines([former])
        return excess(baselines, pair.key, fields(packed))

    def _lasts(self, pair: Pair, change: Change, latest: list[Observation]) -> bool:
        """Whether a change has lasted: one for the slower may be a busy minute, of however many requests."""
        if change.factor < 1.0:
            return True
        since = pair.counts.slower_since or latest[change.place].at
        # Clocks are set back now and then.
        if abs(latest[-1].at - since) >= _LASTING:
            return True
        pair.counts.slower_since = since
        return False

    def _suspects(self, pair: Pair) -> bool:
        """Whether the last few requests look as though something had changed since the baseline."""
        sketch, learned = pair.sketch, pair.learned
        reference, before = learned.reference
        if reference is None or reference.n < _KNOWN_WELL or learned.changes:
            return False
        if sketch.size < _SIZES[0][1]:
            return False
        return is_suspicious(self._excesses(pair, sketch.recent(_LOOK_AT)), before)

    def _waits(self, pair: Pair) -> bool:
        """Whether to put a fit off: what has just begun to change is fitted better once that is certain."""
        counts = pair.counts
        if not _OFTEN < counts.due <= counts.seen or counts.waited >= _MOST_WAITS or not self._suspects(pair):
            return False
        counts.waited += 1
        counts.due = counts.seen + _WAIT
        return True

    def _refit(self, pair: Pair) -> Baseline | None:
        """Fit a pair anew; return its baseline if there is one that says something new."""
        counts, learned = pair.counts, pair.learned
        del self._due[pair.slot]
        counts.due_since = 0
        self._changed[pair.slot] = pair
        if self._waits(pair):
            return None
        observations = self._observations(pair)
        # What is there already is followed while it can be, rather than left as it once was.
        bound = MOST_UNCERTAIN if learned.baseline is None else 2 * MOST_UNCERTAIN
        found = estimate(pair.key, observations, self._quantile, bound)
        learned.missing, pair.relearned = found.missing, True
        contradicted = counts.too_fast >= _TOO_FAST_LEAST
        stays = not contradicted and learned.surer_than(found)
        counts.waited = counts.too_fast = 0
        after = _next_fit(counts.seen, stays or found.uncertainty > MOST_UNCERTAIN)
        # A fit out of turn does not put the next one off.
        counts.due = min(counts.due, after) if counts.due > counts.seen else after
        if found.baseline is None or stays or not (contradicted or learned.differs(found.baseline)):
            return None
        new = self._publish(pair, found.baseline, found.uncertainty, observations)
        if contradicted and not learned.changes:
            # The few that led to this fit may be the first of many: that is for the next looks to tell.
            pair.learned.former, pair.learned.before_former = learned.reference
        return new

    def _publish(
        self, pair: Pair, found: Baseline, uncertainty: float, observations: Sequence[Observation]
    ) -> Baseline:
        """Give a baseline its version and the changes that led to it."""
        totals, learned = self._totals, pair.learned
        totals.version += 1
        changes = (structs.replace(step, version=totals.version) for step in learned.changes)
        known = () if learned.baseline is None else learned.baseline.steps
        new = structs.replace(found, version=totals.version, steps=(*known, *changes)[-_MOST_STEPS:])
        before = profile(excess(Baselines([new]), pair.key, observations))
        pair.learned = Learned(new, before, uncertainty)
        return new

    def _observations(self, pair: Pair) -> list[Observation]:
        """Return what a pair's sketch holds of the window, the latest ring first; forget the rest."""
        recent = list(unpack(pair.sketch.recent()))
        # The usual one of the latest times is now: neither one absurd date nor a clock set for a while moves it far.
        now = median_low(each.at for each in recent)
        first, last = now - self._window, now + self._window
        pair.sketch.forget_times_outside(first, last)
        return [each for each in (*recent, *unpack(pair.sketch.sample)) if first <= each.at <= last]

    def _restore(self, stored: dict[str, bytes]) -> None:
        if "totals" not in stored:
            return
        totals = msgspec.msgpack.decode(stored["totals"], type=_Totals)
        slots = [restored(slot, stored.__getitem__) for slot in range(sum(key.startswith("pair/") for key in stored))]
        self._totals, self._slots, self._size = totals, slots, _size_of(len(slots))
        self._pairs = {pair.key: pair for pair in slots}
        waiting = sorted((pair for pair in slots if pair.counts.due_since), key=attrgetter("counts.due_since", "slot"))
        self._due = {pair.slot: pair for pair in waiting}
        self.baselines = Baselines(each for pair in slots if (each := pair.learned.baseline) is not None)
