"""The last requests, one by one: what the page draws as points. Seconds and tokens; unknown is null."""

import math
import sys
from collections import deque
from collections.abc import Callable
from itertools import islice
from operator import attrgetter
from typing import Any

import msgspec

from stream.enrich import output_tokens
from stream.events import EnrichedEvent, StackView
from stream.sums import Labelled

__all__ = ["Recent"]

_COLUMNS = (
    "id", "ended", "upstream", "model", "raw", "denoised", "prompt_tokens", "output_tokens", "stream", "excluded",
)  # fmt: skip
_idealized = attrgetter("idealized_runtime_seconds")


class Recent:
    """A ring of rows of plain values, some 500 bytes a request, whatever an event holds; columns for who asks."""

    def __init__(self, size: int = 10_000) -> None:
        """Hold up to `size` requests, numbered from 0 on unless `number` says otherwise."""
        self.size = size
        self.next = 0
        """the number that the next request will have"""
        self._rows: deque[tuple[Any, ...]] = deque(maxlen=size)
        """values of _COLUMNS, then the idealized runtime on each stack"""
        self._latest: EnrichedEvent | None = None
        """which says what these stacks are: all events are shown on those of the same tables"""

    def number(self, following: int) -> None:
        """Number the requests anew, so that the next one has the number `following`."""
        self.next = following

    def observe(self, *requests: Labelled) -> None:
        """Add requests."""
        for enriched, upstream, model, excluded in requests:
            event = enriched.event
            ended, raw, output = event.ended_at, event.raw_runtime_seconds, event.longest_choice_tokens
            self._rows.append((
                event.id, None if ended is None else ended.timestamp(), upstream, model,
                event.duration_seconds if raw is None else raw, enriched.denoised_runtime_seconds,
                event.prompt_tokens, output_tokens(event) if output is None else output, event.stream, excluded or None,
                enriched.idealized_runtime_seconds, *map(_idealized, enriched.stacks.values()),
            ))  # fmt: skip
            self._latest = enriched
        self.next += len(requests)

    def restack(self, stacks: tuple[str, ...]) -> None:
        """Show what is held on other stacks, the first of which leads: those that requests come on from now on."""
        if self._latest is None or stacks == (before := (self._latest.stack, *self._latest.stacks)):
            return
        width = len(_COLUMNS)
        places = [width + before.index(name) if name in before else None for name in stacks]
        rows = ((*row[:width], *(None if place is None else row[place] for place in places)) for row in self._rows)
        self._rows = deque(rows, self.size)
        self._latest = _on(stacks, self._latest)

    def remember(
        self, enriched: EnrichedEvent, label: Callable[[str, str | None], str], stacks: tuple[str, ...]
    ) -> None:
        """Add a request counted before, in the order of the log; `label` knows the label values.

        `stacks` are those of the tables in use, the leading one first: on one that was not there then nothing is known.
        """
        if (enriched.stack, *enriched.stacks) != stacks:
            enriched = _on(stacks, enriched)
        event = enriched.event
        upstream, model = label("upstream", event.upstream), label("model", event.model)
        excluded = label("reason", enriched.exclusion_reason)
        self.observe((enriched, sys.intern(upstream), sys.intern(model), sys.intern(excluded)))

    def columns(self, stack: str, after: int, limit: int, since: float = -math.inf) -> dict[str, list[Any]]:
        """Return up to `limit` of the latest requests numbered `after` or higher, oldest first, as columns.

        With `since` (seconds since 1970) only those that ended then or later. An `after` that was never reached is
        one of another life of the counts: then all are returned.
        """
        held, latest = len(self._rows), self._latest
        first = max(0, after - (self.next - held) if after <= self.next else 0, held - limit)
        found = list(islice(self._rows, first, None))
        earlier = next((place for place, row in enumerate(found) if row[1] is None or row[1] >= since), len(found))
        stacks = () if latest is None else (latest.stack, *latest.stacks)
        names = (*_COLUMNS, *(("stack", name) for name in stacks))
        columns: list[list[Any]] = list(map(list, zip(*found[earlier:], strict=True))) or [[] for _ in names]
        named: dict[Any, list[Any]] = dict(zip(names, columns, strict=True))
        unknown: list[Any] = [None] * len(columns[0])
        return {**{name: named[name] for name in _COLUMNS}, "idealized": named.get(("stack", stack), unknown)}


def _on(stacks: tuple[str, ...], enriched: EnrichedEvent) -> EnrichedEvent:
    """Return an event as seen on other stacks, the first of which leads."""
    views = {**enriched.stacks, enriched.stack or "": StackView(enriched.idealized_runtime_seconds)}
    leading, *others = (views.get(name, StackView()) for name in stacks)
    return msgspec.structs.replace(
        enriched,
        stack=stacks[0],
        idealized_runtime_seconds=leading.idealized_runtime_seconds,
        stacks=dict(zip(stacks[1:], others, strict=True)),
    )
