"""What the others of a fleet have seen of a pair, and the union of that with what was seen here. Pure.

Of each source the latest record counts. The union is no larger than one sketch, and an observation that several saw
counts once: so it does not matter in which order the records of different sources come, nor how often.
"""

from collections.abc import Collection, Iterator, Sequence
from itertools import accumulate
from math import isqrt
from statistics import median_low
from typing import NamedTuple

from stream.baselines import Baseline, Key, Step
from stream.fleet import Published, UnreadableRecord, check_baseline, pair_of, read_record
from stream.observation import PACKED, fields, packed_time, when
from stream.pair import Learned, Pair
from stream.runtime import runtime_function
from stream.sketch import pieces, ring_size, size_among

__all__ = ["Heard", "Others", "Pooled", "contradicts", "is_new", "usual_time"]

_MOST_HELD = 30_000
"""Records, of all pairs together: of as many pairs and sources as may be, in 60 MB"""
_SURE = 20
"""Latest requests whose usual time is that of now, whatever the dates of a few"""
_SAME_STEP = 600.0
"""Seconds: changes that two find no further apart are one"""
_TYPICAL_OUTPUT = 100


class Held(NamedTuple):
    """What is kept of a record of another source. `at` is the usual time of its latest requests, 0 without any."""

    seen: int
    at: int
    version: int
    """of its baseline, 0 of none"""
    step: Step | None
    """the last lasting change that it knows of"""
    recent: bytes
    sample: bytes

    def cut(self, size: int) -> "Held":
        """Make do with fewer observations: the latest, and those of the smallest hashes."""
        ring = ring_size(size)
        return self._replace(recent=self.recent[-ring * PACKED :], sample=self.sample[: (size - ring) * PACKED])


_NOTHING = Held(0, 0, 0, None, b"", b"")


class Pooled(NamedTuple):
    """The union of some sketches, as one; `now` is the usual time of the latest requests.

    `others` counts the requests that others saw, but for those who stopped long ago.
    """

    now: int
    recent: bytes
    sample: bytes
    others: int


def usual_time(recent: bytes) -> int:
    """Return when the usual one of the latest requests ended, 0 without any.

    Neither one absurd date nor a clock set for a while moves it far.
    """
    return median_low(each[1] for each in fields(recent)) if recent else 0


def _held(published: Published) -> Held:
    """Keep of a record what the others need; a step that lies past its latest requests is one of an absurd date."""
    baseline, at = published.learned.baseline, usual_time(published.recent)
    steps = [] if baseline is None else [step for step in baseline.steps if step.at.timestamp() <= at]
    sample = b"".join(sorted(pieces(published.sample)))
    version, step = 0 if baseline is None else baseline.version, steps[-1] if steps else None
    return Held(published.counts.seen, at, version, step, published.recent, sample)


class Heard(NamedTuple):
    """What is new in a record: of how many more requests of which pair it is, and its baseline, if that is new.

    `step` is the last lasting change that it knows of, and whether it `suspects` another one.
    """

    key: Key
    more: int
    baseline: Baseline | None
    step: Step | None
    suspects: bool


class _Era(NamedTuple):
    """What counts of a pair: requests since the last lasting change, and of others who have seen any lately."""

    now: int
    since: bytes
    others: Collection[Held]

    def of(self, packed: bytes) -> list[bytes]:
        """Return the observations since then."""
        return [piece for piece in pieces(packed) if when(piece) >= self.since]

    def latest(self, own: bytes, size: int) -> list[bytes]:
        """Return the latest requests that all have seen, oldest first, as many as the ring of a sketch has."""
        came: dict[bytes, bytes] = {}
        for recent in (own, *(held.recent for held in self.others)):
            for piece, time in zip(reversed(seen := self.of(recent)), _arrivals(seen), strict=True):
                came[piece] = max(time, came.get(piece, time))
        ordered = sorted(came, key=lambda piece: came[piece] + when(piece) + piece)
        return ordered[-ring_size(size) :]


def _arrivals(seen: Sequence[bytes]) -> Iterator[bytes]:
    """Tell when requests came that one source saw in this order, the newest first.

    None came later than those after it, whatever a clock said that was ahead for a while; nor does one odd date count.
    """
    times = [when(piece) for piece in reversed(seen)]
    usual = [sorted(three)[1] for three in zip(times, times[1:], times[2:], strict=False)]
    return accumulate((usual[0], *usual, usual[-1]) if usual else times, min)


class Others:
    """What the others have seen: of each pair the latest record of each source."""

    def __init__(self, window_seconds: float) -> None:
        """Begin with nothing; observations further than `window_seconds` from the latest ones do not count."""
        self._window = window_seconds
        self.ignored = 0
        """records that could not be read, or for which there was no room"""
        self._held: dict[Key, dict[str, Held]] = {}
        self._count, self._size = 0, size_among(0)

    def take(self, source: str, key: bytes, value: bytes | None) -> Heard | None:
        """Keep a record, or with no value forget what it was of; None if it says nothing."""
        try:
            if not value:
                self._drop(source, pair_of(key))
                return None
            return self._keep(source, *read_record(key, value))
        except UnreadableRecord:
            self.ignored += 1
            return None

    def seen(self, key: Key) -> int:
        """How many requests of a pair the others have seen."""
        return sum(held.seen for held in self._held.get(key, {}).values())

    def pool(self, pair: Pair) -> Pooled:
        """Unite a pair's sketch with what others have seen of it."""
        era, sketch, size = self._era(pair), pair.sketch, pair.sketch.size
        latest = era.latest(sketch.recent(), size)
        others = (each for held in era.others for each in (held.recent, held.sample))
        rest = {piece for packed in (sketch.recent(), sketch.sample, *others) for piece in era.of(packed)}
        first, last = packed_time(era.now - self._window), packed_time(era.now + self._window)
        sample = sorted(piece for piece in rest.difference(latest) if first <= when(piece) <= last)
        smallest = sample[: size - ring_size(size)]
        return Pooled(era.now, b"".join(latest), b"".join(smallest), sum(held.seen for held in era.others))

    def recent(self, pair: Pair) -> bytes:
        """Return the latest requests of a pair, oldest first, with those that others saw."""
        own = pair.sketch.recent()
        return b"".join(self._era(pair).latest(own, pair.sketch.size)) if self.seen(pair.key) else own

    def _era(self, pair: Pair) -> _Era:
        others = self._held.get(pair.key, {}).values()
        now = _now(pair.sketch.recent(), others)
        fresh = [held for held in others if held.at >= now - self._window]
        steps = [*_steps(pair.learned), *(held.step for held in fresh if held.step is not None)]
        since = max((at for step in steps if (at := step.at.timestamp()) <= now), default=0.0)
        return _Era(now, packed_time(since), fresh)

    def _keep(self, source: str, key: Key, published: Published) -> Heard:
        old, new, baseline = self._held.get(key, {}).get(source, _NOTHING), _held(published), published.learned.baseline
        if baseline is not None and new.version == old.version:
            baseline = None
        if baseline is not None:
            check_baseline(baseline, key)
        if old is _NOTHING:
            if self._count >= _MOST_HELD:
                raise UnreadableRecord
            self._count += 1
            self._shrink()
        self._held.setdefault(key, {})[source] = new.cut(self._size)
        known = old.seen if old.seen <= new.seen else 0  # a source may have begun anew
        return Heard(key, new.seen - known, baseline, new.step, published.counts.onset > 0)

    def _drop(self, source: str, key: Key) -> None:
        sources = self._held.get(key, {})
        if sources.pop(source, None) is not None:
            self._count -= 1
            if not sources:
                del self._held[key]

    def _shrink(self) -> None:
        size = size_among(self._count)
        if size < self._size:
            self._size = size
            for sources in self._held.values():
                sources.update({source: held.cut(size) for source, held in sources.items()})


def _now(own: bytes, others: Collection[Held]) -> int:
    """Return the usual time of the latest requests: one's own if there are some, else the latest of the others'."""
    if len(own) >= _SURE * PACKED or not others:
        return usual_time(own)
    sure = [held.at for held in others if len(held.recent) >= _SURE * PACKED]
    return max(sure, default=0) or usual_time(own + b"".join(held.recent for held in others))


def _steps(learned: Learned) -> tuple[Step, ...]:
    """Return a pair's own lasting changes."""
    return (*(() if learned.baseline is None else learned.baseline.steps), *learned.changes)


def is_new(step: Step, learned: Learned) -> bool:
    """Whether a lasting change that another one found makes a baseline outdated."""
    baseline = learned.baseline
    if baseline is None or (baseline.since is not None and baseline.since >= step.at):
        return False
    if any(step.at <= each.at for each in learned.changes):
        return False
    return all(abs((step.at - each.at).total_seconds()) > _SAME_STEP for each in _steps(learned))


def contradicts(theirs: Baseline, ours: Baseline | None) -> bool:
    """Whether another one's baseline says something else, for a request of ours, than ours may have meant."""
    if ours is None:
        return True
    prompt = isqrt(ours.prompt_range[0] * ours.prompt_range[1])
    here, there = (runtime_function(each.coefficients)(prompt, _TYPICAL_OUTPUT) for each in (ours, theirs))
    low, high = ours.intervals.get("runtime", (1.0, 1.0))
    return not low * here <= there <= high * here
