"""One recorded request in words, for the command line and for `GET /trueclock/v1/explain/{id}`.

The event comes from the log, its tables and its baseline are those that applied to its row (`gateway.history`): so
that it has the values that were counted.
"""

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
from msgspec import structs

from gateway.find_event import AmbiguousId, EventNotFound, find_event, latest_event
from gateway.history import History, HistoryError
from gateway.log import LogError
from stream.baselines import Baseline
from stream.coefficients import Tables
from stream.events import EnrichedEvent, encode_enriched
from stream.explain import Explanation, UnknownStack, explain

__all__ = ["Missing", "explain_json", "print_explanation"]

Missing = Callable[[str | None, str | None], str | None]
"""(upstream, model) to why they have no baseline, None where they have one."""


class _Explained(msgspec.Struct, frozen=True):
    explanation: Explanation
    event: bytes

    def json(self) -> bytes:
        """Every field of the explanation, its text, and the enriched event, as one JSON object."""
        fields = structs.asdict(self.explanation)
        return msgspec.json.encode({**fields, "text": self.explanation.text, "event": msgspec.Raw(self.event)})


class _Counted(msgspec.Struct, frozen=True):
    """An event as it was counted: with the tables and the baseline of then, and the newest baseline of its pair."""

    enriched: EnrichedEvent
    tables: Tables
    baseline: Baseline | None
    latest: Baseline | None

    def explained(self, stack: str | None, missing: str | None = None) -> _Explained:
        explanation = explain(
            self.enriched, self.tables, self.baseline, stack=stack, missing=missing, later=self.latest
        )
        return _Explained(explanation, encode_enriched(self.enriched))

    def explained_now(self, stack: str | None, missing: str | None, now: Tables) -> _Explained:
        """As it is to be said to who may ask for any stack of the tables in use `now`."""
        if stack not in now.references or stack in self.tables.references:
            return self.explained(stack, missing)
        found = self.explained(None, missing)
        note = f"{stack} was not among the tables when this request was counted."
        notes = [*found.explanation.notes, note]
        return structs.replace(found, explanation=structs.replace(found.explanation, notes=notes))


def _look_up(data_dir: Path, wanted: str | None, now: Tables | None = None) -> _Counted:
    found = latest_event(data_dir) if wanted is None else find_event(data_dir, wanted)
    pair = (found.event.upstream, found.event.model)
    history = History.load(data_dir, pair, now)
    return _Counted(
        history.enrich(found.log_id, found.row, found.event),
        history.tables(found.log_id, found.row),
        history.baselines(found.log_id, found.row, pair).get(pair),
        history.latest(pair),
    )


async def explain_json(
    data_dir: Path, tables: Tables, wanted: str, *, stack: str | None = None, missing: Missing | None = None
) -> bytes:
    """The explanation of the event with this id (or unique beginning of one), as JSON; raises Refusal.

    `tables` are those in use.

    Disks are read in a thread of their own; one that looks through a whole log does not hold the loop up.
    """
    from gateway.refusal import Refusal  # the command line has no need of aiohttp, which comes with it

    try:
        counted = await asyncio.to_thread(_look_up, data_dir, wanted, tables)
        event = counted.enriched.event
        why = missing(event.upstream, event.model) if missing else None
        return counted.explained_now(stack, why, tables).json()
    except EventNotFound as error:
        raise Refusal(404, "event_not_found", str(error)) from None
    except AmbiguousId as error:
        raise Refusal(400, "ambiguous_id", str(error)) from None
    except UnknownStack as error:
        raise Refusal(400, "unknown_stack", str(error)) from None
    except (LogError, HistoryError) as error:
        raise Refusal(500, "log_unreadable", str(error)) from None


def print_explanation(data_dir: Path, wanted: str | None, *, stack: str | None = None, as_json: bool = False) -> int:
    """Write the explanation of an event, or the latest, to standard output, in words or as JSON."""
    explained = _look_up(data_dir, wanted).explained(stack)
    explanation = explained.explanation
    notes = (*explanation.notes, *explanation.costs)
    lines = [explanation.subject, *explanation.sentences, *(f"- {note}" for note in notes)]
    words = explained.json() if as_json else "\n".join(lines).encode("utf-8", "replace")
    sys.stdout.buffer.write(words + b"\n")
    return 0
