"""PromQL out of metric families: what is selected, rated, summed and divided is written in one place.

A selector gets its matchers from its family's labels and from the view: a board's variables, or none in a rule.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from stream.families import Family

__all__ = ["BOARD", "MATCHERS", "RULE", "Term", "View", "age", "divided", "quantile", "selector", "total"]

View = Mapping[str, str]
"""label -> matcher; `job` applies to every metric, the others where a family has the label"""

RULE: View = {}
"""Rules look at everything that is scraped."""

MATCHERS: View = {
    "job": 'job="$job"',
    "upstream": 'upstream=~"$upstream"',
    "model": 'model=~"$model"',
    "stack": 'stack="$stack"',
    "gen_ai_request_model": 'gen_ai_request_model=~"$model"',
    "instance": 'instance="$instance"',
}
"""What the variables of dashboards choose, by label."""

BOARD: View = {label: matcher for label, matcher in MATCHERS.items() if label != "instance"}
"""Most dashboards look at all instances of a job."""


def selector(family: Family, view: View, *matchers: str, suffix: str = "") -> str:
    """Select a family's series; `suffix` is `_count`, `_sum` or `_bucket` of a histogram, `matchers` come on top."""
    own = {matcher.partition("=")[0].rstrip("!") for matcher in matchers}
    of_view = [matcher for label, matcher in view.items() if _applies(label, family) and label not in own]
    inside = ", ".join((*of_view, *matchers))
    return f"{family.name}{suffix}{{{inside}}}" if inside else f"{family.name}{suffix}"


def _applies(label: str, family: Family) -> bool:
    return label in {"job", "instance"} or label in family.labels


def total(expression: str, *by: str) -> str:
    """Sum over all labels but `by`."""
    return f"sum by ({', '.join(by)}) ({expression})" if by else f"sum({expression})"


def divided(numerator: str, denominator: str) -> str:
    """A ratio that is absent, not NaN, where there is nothing to divide by."""
    return f"{numerator}\n  / ({denominator} > 0)"


def age(family: Family) -> str:
    """Seconds since the time that a gauge holds, when it was scraped: later, and its scrape's age would be added."""
    found = selector(family, BOARD)
    return f"timestamp({found}) - {found}"


@dataclass(frozen=True, slots=True)
class Term:
    """A counter's increase as part of a ratio: the family, of a histogram the `suffix`, and fixed matchers."""

    family: Family
    suffix: str = ""
    matchers: tuple[str, ...] = field(default=())

    def rate(self, view: View, window: str, *by: str) -> str:
        """Growth a second over the window, summed by labels."""
        return total(f"rate({self._selector(view)}[{window}])", *by)

    def increase(self, view: View, window: str, *by: str) -> str:
        """Growth over the window, summed by labels."""
        return total(f"increase({self._selector(view)}[{window}])", *by)

    def _selector(self, view: View) -> str:
        return selector(self.family, view, *self.matchers, suffix=self.suffix)


def quantile(share: float, family: Family, view: View, window: str, *by: str) -> str:
    """The value that this share of a histogram's observations stays below, over the window."""
    buckets = total(f"rate({selector(family, view, suffix='_bucket')}[{window}])", "le", *by)
    # Without observations it would be NaN, which is not >= 0 either.
    return f"histogram_quantile({share:g}, {buckets}) >= 0"
