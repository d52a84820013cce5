"""One request in words: how much of its time is the model, the stack, contention, and what else there is to know.

    3.2 s: 1.1 s is the model, 0.4 s the stack, 1.7 s contention; the provider's own best for this size is 1.5 s ± 0.1.

Pure: whoever looks up the event, its tables and the baseline it was enriched with (`gateway.explain`) asks here.
"""

from itertools import pairwise
from typing import Any

import msgspec

from stream.baselines import Baseline
from stream.coefficients import Row, Tables
from stream.events import EnrichedEvent, StackView
from stream.explain_costs import cost_notes
from stream.explain_notes import band, baseline_notes, gateway_note, notes_of, stream_note, uncovered_note
from stream.faults import fault
from stream.wording import Scale, count, printable, ratio, seconds, spread

__all__ = ["Explanation", "Part", "UnknownStack", "explain"]


class UnknownStack(ValueError):
    """No reference stack has this name; `str(error)` says which there are."""


class Part(msgspec.Struct, frozen=True):
    """A part of the raw runtime in seconds, signed: model, stack, contention, or two of them in one."""

    part: str
    seconds: float


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be said of one request. Seconds; null where unknown. The parts add up to `raw_seconds`."""

    id: str
    subject: str
    """what was asked of whom"""
    sentences: list[str]
    """where the time went"""
    notes: list[str]
    """what else there is to know of it"""
    costs: list[str]
    """what it cost, and what was billed for it"""
    parts: list[Part]
    raw_seconds: float | None
    """null unless the request completed"""
    denoised_seconds: float | None
    denoised_interval: tuple[float, float] | None
    idealized_seconds: float | None
    stack: str | None
    gateway: dict[str, Any]
    """seconds beside the raw runtime: `duration` of it all, `overhead`, `connect`, `backpressure`, `retries`,
    `earlier_attempts`"""

    @property
    def text(self) -> str:
        """The sentences as one paragraph."""
        return " ".join(self.sentences)


def explain(
    enriched: EnrichedEvent,
    tables: Tables,
    baseline: Baseline | None = None,
    *,
    stack: str | None = None,
    missing: str | None = None,
    later: Baseline | None = None,
) -> Explanation:
    """Explain an event that was enriched with these tables and this baseline (None: its pair had none then).

    `stack`: the reference stack to compare with, else the leading one, else the first that covers the event;
    UnknownStack if there is no such. `missing` says why there is no baseline; `later` is one that came afterwards.
    """
    event = enriched.event
    stack, view = _chosen(enriched, stack)
    row = tables.row(stack, event.upstream_model, event.served_model, event.model)
    idealized, denoised = view.idealized_runtime_seconds, enriched.denoised_runtime_seconds
    raw = event.raw_seconds if enriched.exclusion_reason is None else None
    interval = _interval(baseline, denoised)
    parts = _parts(raw, denoised, idealized)
    sentences = _main(enriched, view, stack, parts, interval)
    if raw is not None:
        sentences += _faster(raw, denoised, idealized, interval, row, stack)
        sentences += stream_note(event, baseline, row, tables, stack)
    sentences += gateway_note(event)
    return Explanation(
        id=event.id,
        subject=_subject(enriched),
        sentences=sentences,
        notes=[
            *uncovered_note(event, view, tables, stack),
            *notes_of(event, view, row, tables, stack),
            *baseline_notes(enriched, baseline, missing, later),
        ],
        costs=cost_notes(enriched, view, stack, tables, row),
        parts=parts,
        raw_seconds=raw,
        denoised_seconds=denoised,
        denoised_interval=interval,
        idealized_seconds=idealized,
        stack=stack,
        gateway=_gateway(enriched),
    )


def _chosen(enriched: EnrichedEvent, asked: str | None) -> tuple[str, StackView]:
    leading = enriched.stack or ""
    views = {leading: _leading(enriched), **enriched.stacks}
    if asked is not None:
        if asked not in views:
            raise UnknownStack(f"unknown stack {asked!r}: there are {', '.join(views)}")
        return asked, views[asked]
    covering = (name for name, view in views.items() if view.idealized_runtime_seconds is not None)
    name = next(covering, leading)
    return name, views[name]


def _leading(enriched: EnrichedEvent) -> StackView:
    return StackView(**{name: getattr(enriched, name) for name in StackView.__struct_fields__})


def _interval(baseline: Baseline | None, denoised: float | None) -> tuple[float, float] | None:
    if baseline is None or denoised is None or "runtime" not in baseline.intervals:
        return None
    low, high = baseline.intervals["runtime"]
    return low * denoised, high * denoised


def _parts(raw: float | None, denoised: float | None, idealized: float | None) -> list[Part]:
    if raw is None:
        return []
    if denoised is None:
        return [] if idealized is None else [Part("model", idealized), Part("stack and contention", raw - idealized)]
    if idealized is None:
        return [Part("model and stack", denoised), Part("contention", raw - denoised)]
    return [Part("model", idealized), Part("stack", denoised - idealized), Part("contention", raw - denoised)]


def _subject(enriched: EnrichedEvent) -> str:
    event = enriched.event
    who = event.model or event.served_model or "a request without a model"
    where = f" at {event.upstream}" if event.upstream else ""
    tokens = [
        count(number, f"{kind} token")
        for number, kind in ((event.prompt_tokens, "prompt"), (event.completion_tokens, "output"))
        if number is not None
    ]
    size = f", {' and '.join(tokens)}" if tokens else ""
    ended = f", ended {event.ended_at:%Y-%m-%d %H:%M:%S} UTC" if event.ended_at else ""
    return f"{printable(who + where)}{size}{', streamed' if event.stream else ''}{ended}"


def _main(
    enriched: EnrichedEvent, view: StackView, stack: str, parts: list[Part], interval: tuple[float, float] | None
) -> list[str]:
    event, reason = enriched.event, enriched.exclusion_reason
    idealized, denoised = view.idealized_runtime_seconds, enriched.denoised_runtime_seconds
    if reason is not None:
        return [fault(event, reason), *_would_have_taken(idealized, denoised, stack)]
    raw = event.raw_seconds
    if raw is None:
        return ["How long it took was not recorded.", *_would_have_taken(idealized, denoised, stack)]
    scale = Scale(raw, [part.seconds for part in parts])
    if not parts:
        return [f"{scale(raw)}: what of it is the model, the stack or contention cannot be told."]
    marks = [mark for mark in (idealized, denoised, raw) if mark is not None]
    shares = _shares(parts, marks, scale)
    best = "" if denoised is None else f"; the provider's own best for this size is {_best(denoised, interval, scale)}"
    said = [f"{scale(raw)}: {shares}{best}."]
    if view.slowdown is not None and view.stack_factor and enriched.contention_factor is not None:
        stacks, contention = ratio(view.stack_factor), ratio(enriched.contention_factor)
        said.append(f"As ratios: slowdown {ratio(view.slowdown)} = stack {stacks} × contention {contention}.")  # noqa: RUF001 - the sign meant
    return said


def _shares(parts: list[Part], marks: list[float], scale: Scale) -> str:
    """`1.1 s is the model, 0.4 s the stack, 1.7 s contention`: differences of rounded marks, so that they add up."""
    rounded = [0.0, *map(scale.rounded, marks)]
    shown = (after - before for before, after in pairwise(rounded))
    return ", ".join(f"{scale(share)} {_NAMES[part.part]}" for share, part in zip(shown, parts, strict=True))


_NAMES = {
    "model": "is the model",
    "stack": "the stack",
    "contention": "contention",
    "stack and contention": "stack and contention together",
    "model and stack": "is model and stack together",
}


def _best(denoised: float, interval: tuple[float, float] | None, scale: Scale) -> str:
    return scale(denoised) if interval is None else spread(denoised, *interval, scale)


def _would_have_taken(idealized: float | None, denoised: float | None, stack: str) -> list[str]:
    known = [] if denoised is None else [f"{seconds(denoised)} at the provider's own best"]
    known += [] if idealized is None else [f"{seconds(idealized)} alone on {stack}"]
    return [f"For the tokens there were, it should have taken {' and '.join(known)}."] if known else []


def _faster(
    raw: float,
    denoised: float | None,
    idealized: float | None,
    interval: tuple[float, float] | None,
    row: Row | None,
    stack: str,
) -> list[str]:
    """What is no error, but worth a sentence: faster than idealized, or than the provider's own best."""
    found = []
    limits = None if row is None else band(row)
    surely = 0.0 if idealized is None else idealized * (limits or (1.0, 1.0))[0]
    if idealized is not None and raw < idealized:
        why = f"The speed is the API's: {_api(row)}." if raw < surely else "That is within the error of that number."
        found.append(f"That is faster than idealized: alone on {stack} the model takes {seconds(idealized)}. {why}")
    elif denoised is not None and (interval or (denoised, denoised))[1] < surely:
        found.append(f"The provider at its best is faster than {stack}: {_api(row)}.")
    if denoised is not None and raw < denoised:
        low = denoised if interval is None else interval[0]
        within, beyond = "within what that estimate is good for", "a better moment than it rests on, or a change there"
        how = within if raw >= low else beyond
        found.append(f"It beat the provider's own best of {seconds(denoised)}: {how}.")
    return found


def _api(row: Row | None) -> str:
    """What an API that is faster than a row may owe that to."""
    assumed = row is not None and row.provenance == "assumed"
    model = "or a model that costs less than is assumed" if assumed else "not the model"
    return f"newer hardware, speculative decoding, caching or other optimisation, {model}"


def _gateway(enriched: EnrichedEvent) -> dict[str, Any]:
    event = enriched.event
    earlier = [attempt.get("seconds") for attempt in event.attempts[:-1]]
    return {
        "duration": event.duration_seconds,
        "overhead": event.gateway_overhead_seconds,
        "connect": event.connect_seconds,
        "backpressure": event.backpressure_seconds,
        "retries": len(earlier),
        "earlier_attempts": sum(taken for taken in earlier if isinstance(taken, int | float)) if earlier else None,
    }
