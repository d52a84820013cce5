"""The denoiser: what every provider at its best would need, learned from its own traffic, event by event.

Each (upstream, model) has a sketch of a few hundred observations (`stream.sketch`), a lower envelope fitted to them
now and then (`stream.envelope`), and with it a baseline. `Denoiser.baselines` is an immutable snapshot that only
`refresh` replaces. Everything is a function of the events in their order: no clock, no I/O, no random numbers.

A pair costs 28 bytes an observation, 640 of them while there are few pairs, 64 when there are many; a baseline some
2 kB more. Lasting changes (`stream.watch`) are told only where a sketch is of full size.
"""

from collections.abc import Iterable, Sequence
from itertools import islice
from operator import attrgetter

import msgspec
from msgspec import UNSET, structs

from stream.baselines import NO_BASELINES, Baseline, Baselines, Key
from stream.estimate import ENOUGH_STREAMED, MOST_STREAMED, MOST_UNCERTAIN, estimate, excess, profile
from stream.events import EnrichedEvent
from stream.fleet import UnreadableRecord, announced, key_of, news_first, read_own, take_back
from stream.metrics import StateError
from stream.observation import Observation, ended, pack, unpack
from stream.pair import Learned, Pair, restored
from stream.pool import Others, contradicts, is_new, usual_time
from stream.sketch import LARGEST, Sketch, size_among
from stream.watch import begin_anew, count_since, has_changed, is_suspect

__all__ = ["Denoiser"]

_SHRUNK_AT_ONCE = 2
_MAKE_ROOM_AMONG = 16
"""Who makes room is the one of these that was seen least recently: to sort all of them would cost more"""

_LOOK_EVERY = 96
"""A lasting change is looked for after so many requests of a pair"""
_OFTEN = 480
"""Events up to which a pair is fitted whenever they have doubled; then, with a sketch nearly full, more rarely.
Where a fit said nothing new, as it was too uncertain, the next one comes when a third more have been seen."""
_RARELY = 4000
_TOO_FAST, _TOO_FAST_LEAST = 0.87, 4
"""A request below this share of its denoised runtime is faster than its provider is known to be; so many at least,
and as many as a low quantile needs to move, and the pair is fitted out of turn"""

_MOST_STEPS = 20
_UNPUBLISHED = 1000
"""More versions than a worker can have given, and not have published, when it ends"""
_MOST_WAITS, _WAIT = 2, 128

_encode = msgspec.msgpack.Encoder().encode


def _next_fit(seen: int, unsure: bool) -> int:
    if unsure:
        return seen + seen // 3 + 1
    return 2 * seen if seen < _OFTEN else seen + min(3 * seen, _RARELY)


class _Totals(msgspec.Struct, array_like=True):
    clock: int = 0
    """counts the events that told something"""
    version: int = 0
    dropped: int = 0
    hand: int = 0
    """the slot to look at next, whether its sketch is too large or its pair is to make room"""


class Denoiser:
    """Learns baselines from enriched events. `baselines` are those in force; `pairs` counts what is watched."""

    def __init__(
        self,
        window_seconds: float = 86_400.0,
        quantile: float = 0.05,
        max_pairs: int = 10_000,
        origin: str | None = None,
    ) -> None:
        """Start with nothing; observations further than `window_seconds` from the latest ones are forgotten.

        `origin` is the name under which a fleet knows this one, and is part of its versions' names.
        """
        self.baselines: Baselines = NO_BASELINES
        self._window, self._quantile, self._max_pairs = window_seconds, quantile, max_pairs
        self._pairs: dict[Key, Pair] = {}
        self._slots: list[Pair] = []
        self._size = size_among(0)
        self._totals = _Totals()
        self._due: dict[int, Pair] = {}
        """by slot, the longest waiting first"""
        self._changed: dict[int, Pair] = {}
        self._evicted: set[Key] = set()
        self._origin = origin
        self._others = Others(window_seconds)
        self._gone: set[Key] = set()
        """published, and watched no longer"""

    @property
    def pairs(self) -> int:
        """How many (upstream, model) pairs are watched."""
        return len(self._slots)

    @property
    def dropped(self) -> int:
        """How many pairs had to make room for others since the beginning."""
        return self._totals.dropped

    @property
    def ignored(self) -> int:
        """How many records of the fleet could not be read, or were too many."""
        return self._others.ignored

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
            if has_changed(pair, self.baselines, self._others):
                self._make_due(pair)

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
        others = self._others.seen(pair.key)
        seen, due = pair.counts.seen + others, pair.counts.due + others
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

    def publish(self, limit: int = 50, *, force: bool = False) -> list[tuple[bytes, bytes | None]]:
        """Return `(key, value)` of what the fleet is to know; the value is None of what is watched no longer.

        That are the pairs with a new baseline and, up to `limit` pairs, those of which much was seen since they were
        last told of; with `force` all of which anything was. 25 kB a pair.
        """
        if self._origin is None:
            return []
        gone = sorted(key_of(self._origin, key) for key in self._gone if key not in self._pairs)
        self._gone.clear()
        totals, told = self._totals, news_first(self._slots, limit, force=force)
        records = [
            announced(self._origin, pair, totals.version, totals.clock, self._others.seen(pair.key)) for pair in told
        ]
        return [*((key, None) for key in gone), *records]

    def share(self, source: str, key: bytes, value: bytes | None) -> None:
        """Take in what another one published, for the next fits; what cannot be read is `ignored`."""
        heard = self._others.take(source, key, value)
        if heard is None:
            return
        pair = self._pairs.get(heard.key)
        if pair is not None:
            pair.counts.due -= heard.more
        elif heard.more and len(self._slots) < self._max_pairs and size_among(len(self._slots) + 1) == LARGEST:
            pair = self._admit(heard.key)
        else:
            return
        self._changed[pair.slot] = pair
        if heard.step is not None and is_new(heard.step, pair.learned):
            begin_anew(pair, heard.step, count_since(pair, heard.step.at.timestamp()))
            self._make_due(pair)
        elif (heard.suspects or pair.counts.onset) and has_changed(pair, self.baselines, self._others):
            self._make_due(pair)
        news = heard.baseline is not None and contradicts(heard.baseline, pair.learned.baseline)
        if news or pair.counts.seen >= pair.counts.due:
            self._make_due(pair)

    def own(self, key: bytes, value: bytes) -> None:
        """Take back what was published under this name before a restart, unless the pair has been seen since."""
        try:
            found, published = read_own(key, value)
        except UnreadableRecord:
            self._others.ignored += 1
            return
        pair, totals = self._pairs.get(found), self._totals
        if pair is not None and (pair.counts.seen or pair.told.clock):
            return
        pair = pair or self._admit(found)
        self._due.pop(pair.slot, None)
        take_back(pair, published, self._others.seen(found))
        pair.sketch.shrink(self._size)
        totals.clock = max(totals.clock, published.clock)
        totals.version = max(totals.version, (published.version // _UNPUBLISHED + 1) * _UNPUBLISHED)
        if pair.learned.baseline is not None:
            self.baselines = self.baselines.with_([pair.learned.baseline])
        self._changed[pair.slot] = pair
        if pair.counts.due_since or pair.counts.seen >= pair.counts.due:
            self._make_due(pair)

    def watched(self) -> list[Pair]:
        """Return the pairs, the least recently seen one first."""
        return sorted(self._slots, key=attrgetter("counts.last"))

    def _admit(self, key: Key) -> Pair:
        slot = len(self._slots)
        if slot < self._max_pairs:
            self._slots.append(Pair(slot, key, Sketch(self._size)))
            self._size = size_among(slot + 1)
        else:
            slot = self._make_room()
            self._slots[slot] = Pair(slot, key, Sketch(self._size))
        # Older sketches shrink with each new pair, whether they are asked for again or not.
        for older in self._next_slots(_SHRUNK_AT_ONCE):
            if older.sketch.shrink(self._size):
                self._changed[older.slot] = older
        found = self._pairs[key] = self._slots[slot]
        found.counts.due -= self._others.seen(key)
        return found

    def _make_room(self) -> int:
        """Give up one pair that was not seen for long; return its slot."""
        pair = min(self._next_slots(_MAKE_ROOM_AMONG), key=attrgetter("counts.last"))
        del self._pairs[pair.key]
        self._due.pop(pair.slot, None)
        self._evicted.add(pair.key)
        if pair.told.clock:
            self._gone.add(pair.key)
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

    def _waits(self, pair: Pair) -> bool:
        """Whether to put a fit off: what has just begun to change is fitted better once that is certain."""
        counts = pair.counts
        if not _OFTEN - self._others.seen(pair.key) < counts.due <= counts.seen or counts.waited >= _MOST_WAITS:
            return False
        if not is_suspect(pair, self.baselines):
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
        observations, others = self._observations(pair)
        # What is there already is followed while it can be, rather than left as it once was.
        bound = MOST_UNCERTAIN if learned.baseline is None else 2 * MOST_UNCERTAIN
        found = estimate(pair.key, observations, self._quantile, bound)
        learned.missing, pair.relearned = found.missing, True
        contradicted = counts.too_fast >= _TOO_FAST_LEAST
        stays = not contradicted and learned.surer_than(found)
        counts.waited = counts.too_fast = 0
        after = _next_fit(counts.seen + others, stays or found.uncertainty > MOST_UNCERTAIN) - others
        # A fit out of turn does not put the next one off.
        counts.due = min(counts.due, after) if counts.due > counts.seen else after
        if found.baseline is None or stays or not (contradicted or learned.differs(found.baseline)):
            return None
        new = self._issue(pair, found.baseline, found.uncertainty, observations)
        if contradicted and not learned.changes:
            # The few that led to this fit may be the first of many: that is for the next looks to tell.
            pair.learned.former, pair.learned.before_former = learned.reference
        return new

    def _issue(self, pair: Pair, found: Baseline, uncertainty: float, observations: Sequence[Observation]) -> Baseline:
        """Give a baseline its version and the changes that led to it."""
        totals, learned = self._totals, pair.learned
        totals.version += 1
        changes = (structs.replace(step, version=totals.version) for step in learned.changes)
        known = () if learned.baseline is None else learned.baseline.steps
        steps = (*known, *changes)[-_MOST_STEPS:]
        new = structs.replace(found, version=totals.version, origin=self._origin or UNSET, steps=steps)
        before = profile(excess(Baselines([new]), pair.key, observations))
        pair.learned = Learned(new, before, uncertainty)
        return new

    def _observations(self, pair: Pair) -> tuple[list[Observation], int]:
        """Return what is held of a pair and of the window, the latest ones first, and how many requests others saw.

        A sketch forgets the rest.
        """
        recent = pair.sketch.recent()
        now = usual_time(recent)
        pair.sketch.forget_times_outside(now - self._window, now + self._window)
        if self._others.seen(pair.key):
            now, recent, sample, others = self._others.pool(pair)
        else:
            sample, others = pair.sketch.sample, 0
        first, last = now - self._window, now + self._window
        return [each for each in (*unpack(recent), *unpack(sample)) if first <= each.at <= last], others

    def _restore(self, stored: dict[str, bytes]) -> None:
        if "totals" not in stored:
            return
        totals = msgspec.msgpack.decode(stored["totals"], type=_Totals)
        slots = [restored(slot, stored.__getitem__) for slot in range(sum(key.startswith("pair/") for key in stored))]
        self._totals, self._slots, self._size = totals, slots, size_among(len(slots))
        self._pairs = {pair.key: pair for pair in slots}
        waiting = sorted((pair for pair in slots if pair.counts.due_since), key=attrgetter("counts.due_since", "slot"))
        self._due = {pair.slot: pair for pair in waiting}
        self.baselines = Baselines(each for pair in slots if (each := pair.learned.baseline) is not None)
