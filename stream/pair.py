"""What a denoiser knows of one (upstream, model): its counts, its sketch and its baseline; and how that is saved."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import msgspec

from stream.baselines import Baseline, Key, Step
from stream.estimate import ENOUGH_STREAMED, Estimate, Profile, changed_noticeably, outdated
from stream.sketch import Shape, Sketch

__all__ = ["Counts", "Learned", "Pair", "Told", "restored"]

_MUCH_WORSE = 3.0

_encode = msgspec.msgpack.Encoder().encode


class Counts(msgspec.Struct, array_like=True):
    """How often a pair was seen since the start or a step, and when it is fitted next."""

    seen: int = 0
    due: int = ENOUGH_STREAMED
    """fitted again when as many have been seen"""
    due_since: int = 0
    """the denoiser's clock when that came to be, 0 before"""
    waited: int = 0
    """how often a fit was put off since the last one"""
    last: int = 0
    """the denoiser's clock at its last event"""
    too_fast: int = 0
    """requests since the last fit that its baseline does not allow"""
    slower_since: int = 0
    """event time since when every look found it changed for the slower, 0: the last one did not"""
    onset: int = 0
    """event time since when no request came near the old edge, 0: the last few did"""
    looked: int = -1
    """event time at which a change was last looked for"""


class Learned(msgspec.Struct):
    """What the fits of a pair found."""

    baseline: Baseline | None = None
    before: Profile = Profile(0.0, 0.0)
    """the edge of what the baseline was found with"""
    uncertainty: float = 0.0
    """half the width of its T's interval, as a share"""
    changes: list[Step] = []
    """found, and waiting for the baseline that knows of them"""
    missing: str | None = None
    """why the last fit gave no baseline"""
    former: Baseline | None = None
    """the baseline that a fit out of turn has replaced: whether anything lasting has changed is told by that"""
    before_former: Profile = Profile(0.0, 0.0)

    @property
    def reference(self) -> tuple[Baseline | None, Profile]:
        """The baseline that changes are told by, and the edge of what it was found with."""
        return (self.baseline, self.before) if self.former is None else (self.former, self.before_former)

    def surer_than(self, found: Estimate) -> bool:
        """Whether a fit is so uncertain beside the one in force that it is no reason to change that."""
        old, new = self.baseline, found.baseline
        if old is None or self.changes or found.uncertainty <= _MUCH_WORSE * self.uncertainty:
            return False
        return new is None or not outdated(old, new)

    def differs(self, found: Baseline) -> bool:
        """Whether a new estimate says anything new."""
        return self.baseline is None or bool(self.changes) or changed_noticeably(self.baseline, found)


class _Row(msgspec.Struct, array_like=True):
    upstream: str | None
    model: str
    counts: Counts
    shape: Shape


class Told(NamedTuple):
    """What others were told of a pair: requests seen, the baseline, and the denoiser's clock at that time."""

    seen: int = 0
    baseline: Baseline | None = None
    clock: int = 0


class Pair:
    """One (upstream, model) that is watched. `relearned` says whether `learned` has changed since it was saved."""

    __slots__ = ("counts", "key", "learned", "relearned", "sketch", "slot", "told")

    def __init__(
        self, slot: int, key: Key, sketch: Sketch, counts: Counts | None = None, learned: Learned | None = None
    ) -> None:
        """Watch a pair, of which nothing is known unless it is given."""
        self.slot, self.key, self.sketch = slot, key, sketch
        self.counts, self.learned = counts or Counts(), learned or Learned()
        self.relearned = learned is None
        self.told = Told()

    def rows(self) -> Iterator[tuple[str, bytes]]:
        """Give `(key, value)` of what changed since the last call."""
        upstream, model = self.key
        row = _Row(upstream, model or "", self.counts, self.sketch.shape)
        yield f"pair/{self.slot}", _encode(row)
        if self.relearned:
            yield f"learned/{self.slot}", _encode(self.learned)
            self.relearned = False
        yield from self.sketch.rows(self.slot)


def restored(slot: int, read: Callable[[str], bytes]) -> Pair:
    """Go on from the rows of one slot; raise KeyError, ValueError or MsgspecError where they cannot be read."""
    row = msgspec.msgpack.decode(read(f"pair/{slot}"), type=_Row)
    learned = msgspec.msgpack.decode(read(f"learned/{slot}"), type=Learned)
    return Pair(slot, (row.upstream, row.model), Sketch.restored(row.shape, slot, read), row.counts, learned)
