"""Recording rules: every ratio, and the requests that it rests on, over five minutes and over an hour."""

from collections.abc import Iterator
from dataclasses import dataclass

from grafana.promql import RULE
from grafana.ratios import PARTS, RATIOS, VOLUMES, Part, Ratio, Volume

__all__ = ["WINDOWS", "Recording", "name_of", "recordings"]

WINDOWS = ("5m", "1h")
_PARTS_LABELS = ("upstream", "model", "stack")


@dataclass(frozen=True, slots=True)
class Recording:
    """A recording rule."""

    record: str
    expr: str


def recordings(window: str) -> Iterator[Recording]:
    """All of one window."""
    for volume in VOLUMES:
        by = ("job", *volume.labels)
        yield Recording(name_of(volume, window), volume.of.rate(RULE, window, *by))
    for part in PARTS:
        yield Recording(name_of(part, window), part.rate(RULE, window, "job", *_PARTS_LABELS))
    for ratio in RATIOS:
        yield Recording(name_of(ratio, window), ratio.rate(RULE, window, "job", *ratio.labels))


def name_of(what: Ratio | Volume | Part, window: str) -> str:
    """The name under which it is recorded: its labels, what it is, and over which window."""
    match what:
        case Ratio():
            return f"job_{'_'.join(what.labels)}:trueclock_{what.name}:ratio_rate{window}"
        case Volume():
            return f"job_{'_'.join(what.labels)}:trueclock_{what.name}:rate{window}"
        case Part():
            return f"job_{'_'.join(_PARTS_LABELS)}:trueclock_{what.name}_seconds:rate{window}"
