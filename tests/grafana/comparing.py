"""How a figure of the event log is compared with what Prometheus shows of it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tests.grafana.expressions import Query
from tests.grafana.recount import Figures, Key, Recount, quantile_within
from tests.prometheus_server import Sample

Place = tuple[str, str, str]
"""dashboard, panel, and legend or column"""
Entry = tuple[str, str]
"""panel, and legend or column; or dashboard and panel"""


@dataclass(frozen=True, slots=True)
class Exactly:
    """Figures told apart by labels; of a rate, those of a second."""

    labels: tuple[str, ...]
    of: Callable[[Recount], Figures]
    per_second: bool = False

    def faults(self, samples: Sequence[Sample], recount: Recount, seconds: float, within: float) -> list[str]:
        """What is not as the recount has it; a figure that is not there is 0."""
        shown = by_labels(samples, self.labels)
        counted = {key: value / (seconds if self.per_second else 1) for key, value in self.of(recount).items()}
        return [
            f"{dict(zip(self.labels, key, strict=True))}: shown {shown.get(key)}, counted {counted.get(key)}"
            for key in sorted(shown.keys() | counted.keys())
            if not near(shown.get(key, 0.0), counted.get(key, 0.0), within)
        ]


@dataclass(frozen=True, slots=True)
class Buckets:
    """How many requests a second lay at or below each bound."""

    of: Callable[[Recount], list[float]]

    def faults(self, samples: Sequence[Sample], recount: Recount, seconds: float, within: float) -> list[str]:
        """What is not as the recount has it."""
        numbers = self.of(recount)
        assert numbers
        found = [(float(sample.labels["le"]), sample.value * seconds) for sample in samples]
        return [
            f"<= {bound}: shown {shown}, counted {counted}"
            for bound, shown in found
            if not near(shown, counted := float(sum(number <= bound for number in numbers)), within)
        ] + ["no buckets"] * (not found)


@dataclass(frozen=True, slots=True)
class Quantile:
    """The value that a share of the requests stays below: in the bucket where the recount has it."""

    share: float
    of: Callable[[Recount], Mapping[Key, list[float]]]
    bounds: tuple[float, ...]
    labels: tuple[str, ...] = ()

    def faults(self, samples: Sequence[Sample], recount: Recount, seconds: float, within: float) -> list[str]:
        """What is not as the recount has it."""
        shown = by_labels(samples, self.labels)
        numbers = self.of(recount)
        spans = {key: quantile_within(values, self.share, self.bounds) for key, values in numbers.items() if values}
        assert spans
        return [
            f"{key}: shown {shown.get(key)}, counted {span}"
            for key in sorted(shown.keys() | spans.keys())
            for span in [spans.get(key, (0.0, 0.0))]
            if key not in shown or not span[0] * (1 - within) <= shown[key] <= span[1] * (1 + within)
        ]


Figure = Exactly | Buckets | Quantile


def near(shown: float, counted: float, within: float) -> bool:
    """Whether two numbers agree; a zero is exactly that but for rounding."""
    return abs(shown - counted) <= within * abs(counted) + 1e-12


def by_labels(samples: Sequence[Sample], labels: Sequence[str]) -> Figures:
    """Samples by the labels that tell them apart; without those that are no number."""
    found = {tuple(each.labels.get(name, "") for name in labels): each.value for each in samples}
    assert len(found) == len(samples), f"more series than {labels} tell apart: {samples}"
    return {key: value for key, value in found.items() if value == value}  # noqa: PLR0124 - NaN differs from itself


def place(query: Query) -> Place:
    """Where an expression stands."""
    return (query.board, query.panel, query.legend)
