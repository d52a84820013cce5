"""The live figures as JSON, under /trueclock/v1/: `summary`, `series`, `requests`, `strategies`; one request explained.

Answers are worked out in pieces, so that requests on the same loop wait for milliseconds at most; each is of one
moment all the same, since what goes on meanwhile is not looked at again.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import unquote

import msgspec

from gateway.comparison import Comparisons
from gateway.control import Control
from gateway.explain import explain_json
from gateway.refusal import Refusal
from gateway.turns import Turns
from stream.coefficients import Tables
from stream.events import EnrichedEvent, StackView, encode_enriched, plain
from stream.quantiles import Spread
from stream.query import Query, QueryError, moment
from stream.rollup import Slot, Window, read_slot
from stream.summary import Group, Overview, grouped, parts
from stream.sums import Sums

__all__ = ["PREFIX", "Api"]

PREFIX = "/trueclock/v1/"
_MOST_REQUESTS = 10_000
_MOST_TIMES = 1000  # steps of a series; a clock that was wrong for a while may have left slots of other years
_SERIES = (
    "requests", "raw", "completed", "raw_of_idealized", "idealized", "raw_of_denoised", "denoised",
    "decomposed_raw", "model_seconds", "stack_seconds", "contention_seconds",
)  # fmt: skip
_BRIEF = (
    "id", "ended_at", "upstream", "model", "stream", "status", "error_class", "prompt_tokens", "completion_tokens",
    "raw_runtime_seconds", "denoised_runtime_seconds", "idealized_runtime_seconds", "slowdown", "coverage",
    "uncovered_reason", "provenance", "exclusion_reason",
)  # fmt: skip

_NOT_THERE = StackView()

_encode = msgspec.json.Encoder().encode


class Api:
    """Answers with figures. `notes` says what a demo replays; `address` is the URL that apps are to use."""

    def __init__(self, control: Control, notes: Callable[[], Mapping[str, Any]] | None) -> None:
        self._control = control
        self._stream = control.stream
        self._latest_overview = self._overview_of(control.stream.tables)
        self._comparisons = Comparisons(control.stream.ledger)
        self._notes = notes
        self._answers = {
            "summary": (self._summary, ("since", "by", "stack")),
            "series": (self._series, ("since", "by", "stack")),
            "requests": (self._requests, ("after", "limit", "since", "stack")),
            "strategies": (self._strategies, ("stack", "human_dollars")),
        }
        self.address = ""

    @property
    def _overview(self) -> Overview:
        """That of the tables in use. An answer that is put together in several turns takes it once."""
        if self._latest_overview.tables is not self._stream.tables:
            self._latest_overview = self._overview_of(self._stream.tables)
        return self._latest_overview

    def _overview_of(self, tables: Tables) -> Overview:
        return Overview(tables, self._stream.metrics, self._stream.denoiser)

    async def answer(self, path: str, query: str) -> bytes | None:
        """Answer a path below PREFIX, as JSON; None for one that is not here; raises Refusal."""
        try:
            return await self._answer(path.removeprefix(PREFIX), query)
        except QueryError as error:
            raise Refusal(400, "bad_parameter", str(error)) from None

    async def _answer(self, name: str, query: str) -> bytes | None:
        tables, now = self._stream.tables, time.time()
        if name in self._answers:
            answer, known = self._answers[name]
            return await answer(Query(query, known, tables.references, tables.reference, now))
        if name.startswith("explain/"):
            asked = Query(query, ("stack",), tables.references, tables.reference, now)
            wanted = unquote(name.removeprefix("explain/"))
            missing = self._stream.denoiser.missing
            return await explain_json(self._control.data_dir, tables, wanted, stack=asked.named_stack, missing=missing)
        return None

    async def _summary(self, asked: Query) -> bytes:
        turns, overview = Turns(), self._overview
        since, pairs, overhead = await self._counted(asked, turns)
        total = next(iter(grouped(pairs, ())), Group({}, Sums(), []))
        await turns.pause()
        groups = []
        for group in grouped(pairs, asked.by) if asked.by else ():
            groups.append(overview.describe(group, asked.stack))
            await turns.pause()
        return _encode(
            {
                "since": since,
                "until": moment(asked.now),
                "by": asked.by,
                "stack": asked.stack,
                "stacks": overview.stacks(total.sums),
                "constants": overview.constants(asked.stack),
                "total": overview.describe(total, asked.stack),
                "groups": groups,
                "gateway_overhead": overhead.summary(),
                **self._gateway(asked.stack),
            }
        )

    def _gateway(self, stack: str) -> dict[str, Any]:
        """Return what has no window: the latest requests, the log's state, and what is replayed."""
        return {
            "recent": [_brief(event, stack) for event in reversed(self._stream.recent)],
            "in_flight": self._control.active(),
            "log": self._control.log_status(),
            "configuration": {"failing": self._control.reloads().failing},
            "problems": {"held": self._stream.ledger.problems, "outcomes": self._stream.outcomes.row},
            "address": self.address,
            "version": self._control.version,
            "demo": self._notes() if self._notes else None,
        }

    async def _counted(self, asked: Query, turns: Turns) -> tuple[str | None, list[tuple[str, str, Sums]], Spread]:
        """Return since when, (upstream, model, sums) of all pairs, and the gateway's overhead."""
        if asked.since is None:
            metrics = self._stream.metrics
            return None, [(up, model, pair.sums) for up, model, pair in metrics.pairs()], metrics.overhead
        window = self._stream.rollup.window(asked.since, asked.now)
        whole = Slot()
        for _, packed in window.slots:
            whole.add(read_slot(packed))
            await turns.pause()
        return moment(window.start), list(whole.groups()), whole.overhead

    async def _series(self, asked: Query) -> bytes:
        turns, rollup = Turns(), self._stream.rollup
        window = rollup.window(max(rollup.held_since(asked.now), asked.since or 0.0), asked.now)
        times = _times(window, asked.now)
        columns: dict[tuple[str, ...], dict[str, list[float]]] = {}
        for start, packed in window.slots:
            if start < times[0]:
                continue
            place = (start - times[0]) // window.step
            for group in grouped(read_slot(packed).groups(), asked.by):
                found = columns.get(tuple(group.by.values()))
                if found is None:
                    found = columns[tuple(group.by.values())] = {name: [0] * len(times) for name in _SERIES}
                for name, number in zip(_SERIES, _point(group.sums, asked.stack), strict=True):
                    found[name][place] += number
                await turns.pause()
        groups = []
        for values, found in columns.items():
            groups.append(_encode({**dict(zip(asked.by, values, strict=True)), **found}))
            await turns.pause()
        head = {
            "since": moment(max(window.start, times[0])),
            "step_seconds": window.step,
            "stack": asked.stack,
            "times": times,
        }
        steps = _encode(self._overview.steps(times[0]))
        return _encode(head)[:-1] + b',"groups":[' + b",".join(groups) + b'],"steps":' + steps + b"}"

    async def _strategies(self, asked: Query) -> bytes:
        return await self._comparisons.answer(asked.stack, asked.amount("human_dollars"))

    async def _requests(self, asked: Query) -> bytes:
        requests, overview, turns = self._stream.requests, self._overview, Turns()
        after = asked.number("after", 0, 0, 10**18)
        limit = asked.number("limit", _MOST_REQUESTS, 1, _MOST_REQUESTS)
        head = {"next": requests.next, "stack": asked.stack}
        columns = requests.columns(asked.stack, after, limit, asked.since or 0.0)
        await turns.pause()
        columns["provenance"] = overview.provenances(columns, asked.stack)
        encoded = [_encode(head)[:-1]]
        for name, column in columns.items():
            encoded.append(_encode(name) + b":" + _encode(column))
            await turns.pause()
        return b",".join(encoded) + b"}"


def _times(window: Window, now: float) -> list[int]:
    """Return when each step begins, seconds since 1970: up to the one of `now`, at least one."""
    start = window.start // window.step * window.step
    return list(range(start, max(int(now), start) + 1, window.step))[-_MOST_TIMES:]


def _point(sums: Sums, stack: str) -> tuple[float, ...]:
    """Return a slot's numbers, as _SERIES names them."""
    on = sums.on(stack)
    return (
        *(sums.requests, sums.raw.sum, sums.raw.number, on.raw, on.idealized),
        *(sums.raw_of_denoised, sums.denoised, *parts(on).values()),
    )


def _brief(event: EnrichedEvent, stack: str) -> dict[str, Any]:
    """Return what a list says of a request, on a stack."""
    whole = msgspec.json.decode(encode_enriched(event))
    if stack != event.stack:
        whole |= plain(event.stacks.get(stack, _NOT_THERE))
    return {name: whole.get(name) for name in _BRIEF}
