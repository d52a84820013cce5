"""Whether a pair's provider has changed for good since its baseline: the latest requests are looked at now and then.

What counts as such a change is told by `stream.changes`; here a pair is asked, and begins anew after one.
"""

from datetime import UTC, datetime

from stream.baselines import Baselines, Step
from stream.changes import SLOWER, Excesses, find_change, is_suspicious, onset
from stream.estimate import excess
from stream.observation import ended, fields, unpack
from stream.pair import Pair
from stream.pool import Others
from stream.sketch import LARGEST

__all__ = ["begin_anew", "count_since", "has_changed", "is_suspect"]

_LOOK_AT = 48
"""The latest requests that are looked at first"""
_LASTING = 300
"""Seconds of event time for which a change for the slower must be seen at every look"""
_KNOWN_WELL = 150
"""Observations from which a baseline is fit to tell a change by; before, its own error might look like one"""


def has_changed(pair: Pair, baselines: Baselines, others: Others) -> bool:
    """Look for a lasting change: at the last few requests, and where these are suspicious at all recent ones.

    `baselines` are those in force; `others` may have seen requests too. After a change the pair begins anew,
    and is due for a fit.
    """
    counts, learned = pair.counts, pair.learned
    if not is_suspect(pair, baselines):
        counts.slower_since = counts.onset = 0
        learned.former, pair.relearned = None, pair.relearned or learned.former is not None
        return False
    own, recent, (_, edge) = pair.sketch.recent(), others.recent(pair), learned.reference
    if not recent:
        return False  # another one has seen a change that came after all of these
    latest, excesses = list(unpack(recent)), _excesses(pair, baselines, recent)
    counts.onset = counts.onset or onset(excesses, latest, edge.low + SLOWER)
    change = find_change(excesses, edge)
    if change is None:
        counts.slower_since = 0
        return False
    if change.factor >= 1.0 and not _lasts(pair, latest[change.place].at):
        return False
    # Of a change for the slower the ring may hold only the later part by now.
    at = counts.onset if change.factor > 1.0 else latest[change.place].at
    since = len(latest) - change.place if recent == own else count_since(pair, latest[change.place].at)
    begin_anew(pair, Step(datetime.fromtimestamp(at, UTC), change.factor, 0), since)
    return True


def count_since(pair: Pair, at: float) -> int:
    """Count the latest requests of a pair that ended at a time or after it."""
    return sum(each.at >= at for each in unpack(pair.sketch.recent()))


def begin_anew(pair: Pair, step: Step, latest: int) -> None:
    """Forget all but the latest observations, those since a lasting change; the next baseline knows of it."""
    counts, learned = pair.counts, pair.learned
    counts.slower_since = counts.onset = 0
    learned.former, learned.changes, pair.relearned = None, [step], True
    pair.sketch.forget_all_but(latest)
    counts.seen = len(pair.sketch)


def is_suspect(pair: Pair, baselines: Baselines) -> bool:
    """Whether the last few requests look as though something had changed since the baseline."""
    sketch, learned = pair.sketch, pair.learned
    reference, before = learned.reference
    if reference is None or reference.n < _KNOWN_WELL or learned.changes:
        return False
    if sketch.size < LARGEST:
        return False
    return is_suspicious(_excesses(pair, baselines, sketch.recent(_LOOK_AT)), before)


def _excesses(pair: Pair, baselines: Baselines, packed: bytes) -> Excesses:
    """Return `excess` of some observations over the baseline that changes are told by."""
    former = pair.learned.former
    return excess(baselines if former is None else Baselines([former]), pair.key, fields(packed))


def _lasts(pair: Pair, began: int) -> bool:
    """Whether a change for the slower has lasted: it may be a busy minute, of however many requests."""
    since = pair.counts.slower_since or began
    # Clocks are set back now and then.
    if abs(ended(pair.sketch.recent(1)) - since) >= _LASTING:
        return True
    pair.counts.slower_since = since
    return False
