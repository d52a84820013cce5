"""The topics' names.

Output of one partition of `requests` goes to the same partition of `enriched`, `dead` and `windows`: so none of these
may have fewer partitions than `requests` has.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["TopicError", "TopicNameError", "Topics"]

_LONGEST = 249  # bytes of a topic's name, Kafka's own bound
_LETTERS = re.compile(r"[A-Za-z0-9._-]*")


class TopicError(ValueError):
    """The topics cannot be used as they are; `str(error)` is one line: what, where, what to do."""


class TopicNameError(TopicError):
    """A prefix that makes no topic name."""


@dataclass(frozen=True, slots=True)
class Topics:
    """The topics' names: each is `prefix` and a fixed name. Raise TopicNameError for a prefix that cannot be one."""

    prefix: str = ""

    def __post_init__(self) -> None:
        """Check the prefix."""
        if not _LETTERS.fullmatch(self.prefix) or max(map(len, self)) > _LONGEST:
            raise TopicNameError(
                f"{self.prefix!r} is no prefix of topics: letters, digits, '.', '_', '-', {_LONGEST} with the name"
            )

    @property
    def requests(self) -> str:
        """The events, as the gateways forward them."""
        return f"{self.prefix}llm.requests"

    @property
    def enriched(self) -> str:
        """The enriched events, one a record, each once."""
        return f"{self.prefix}llm.requests.enriched"

    @property
    def dead(self) -> str:
        """What could not be forwarded or read, with the reason."""
        return f"{self.prefix}llm.requests.dead"

    @property
    def baselines(self) -> str:
        """What each worker has learned for denoised runtimes: compacted, one partition."""
        return f"{self.prefix}llm.baselines"

    @property
    def windows(self) -> str:
        """Sums per window of time, upstream and model: compacted."""
        return f"{self.prefix}llm.windows"

    @property
    def outcomes(self) -> str:
        """What came of attempts at problems, as the gateways were told."""
        return f"{self.prefix}llm.outcomes"

    @property
    def problems(self) -> str:
        """The requests that were attempts at problems, each with what it costs."""
        return f"{self.prefix}llm.problems"

    def __iter__(self) -> Iterator[str]:
        """All of them."""
        events = self.requests, self.enriched, self.dead
        return iter((*events, self.baselines, self.windows, self.outcomes, self.problems))
