"""What else there is to know of one request, a sentence each: streams, caches, reasoning, rows, baselines. Pure."""

from collections.abc import Sequence

from stream.baselines import FURTHEST, Baseline
from stream.coefficients import Row, Tables
from stream.enrich import output_tokens
from stream.events import EnrichedEvent, RequestEvent, StackView
from stream.runtime import Coefficients, runtime_seconds
from stream.wording import count, printable, ratio, seconds

__all__ = ["band", "baseline_notes", "gateway_note", "notes_of", "stream_note", "uncovered_note"]

_WORTH_SECONDS = 0.05
_WORTH_SHARE = 0.05
"""Below both, time beside the raw runtime is left out of the sentences (the numbers have it all the same)."""

_UNKNOWN = "not known: no idealized runtime"
_UNCOVERED = {
    "no_model": "The request named no model, so that there is nothing to compare it with.",
    "prompt_tokens_unknown": f"How many prompt tokens it had is {_UNKNOWN}.",
    "completion_tokens_unknown": f"How many output tokens it had is {_UNKNOWN}.",
    "not_generation": "This route generates no tokens, so that no model's time can be told from it.",
    "no_reference_stack": "No table in use holds a reference stack, so that there is no idealized runtime.",
}


def uncovered_note(event: RequestEvent, view: StackView, tables: Tables, stack: str) -> list[str]:
    """Why there is no idealized runtime, and what to do; nothing of requests that failed before they had tokens."""
    if event.prompt_tokens is None and not _completed(event):
        return []
    if view.uncovered_reason != "unknown_model":
        return [_UNCOVERED[view.uncovered_reason]] if view.uncovered_reason in _UNCOVERED else []
    names = _names(event)
    named = next(filter(None, names), "")
    has = [other for other in tables.references if tables.row(other, *names)]
    if has:
        return [f"No row of {stack} says what {named!r} costs by nature, but one of {' and '.join(has)} does."]
    near = tables.near(None, named)
    like = f" (names like it: {', '.join(near)})" if near else ""
    what = "name its row in `aliases`, a row to stand in for it in `assume`, or give a table with `tables`"
    return [f"No row of any table says what {named!r} costs by nature{like}: {what}."]


def _names(event: RequestEvent) -> tuple[str | None, ...]:
    """The names that a row is looked up by, in their order."""
    return event.upstream_model, event.served_model, event.model


def _completed(event: RequestEvent) -> bool:
    return event.error_class is None and (event.status is None or 200 <= event.status < 300)


def stream_note(
    event: RequestEvent, baseline: Baseline | None, row: Row | None, tables: Tables, stack: str
) -> list[str]:
    """Time to first token and per output token, beside what they are without contention and by nature."""
    first, each = event.time_to_first_token_seconds, event.time_per_output_token_seconds
    if first is None:
        return []
    firsts, eaches = [], []
    prompt = event.prompt_tokens
    if baseline is not None and baseline.basis == "stream":
        computed = None if prompt is None else max(prompt - (event.cached_tokens or 0), min(prompt, 1))
        firsts.append(("the provider's own best", computed and runtime_seconds(baseline.coefficients, computed, 1)))
        eaches.append(("the provider's own best", _each(baseline.coefficients, event)))
    if row is not None:
        firsts.append(("idealized", prompt and tables.runtime(stack, row)(prompt, 1)))
        eaches.append(("idealized", _each(row.coefficients, event)))
    # Reasoning that was not shown came before the first token that was: no first token to compare with.
    said = f"The first token came after {seconds(first)}{_beside([] if event.reasoning_tokens else firsts)}"
    return [f"{said}."] if each is None else [f"{said}; each further one took {seconds(each)}{_beside(eaches)}."]


def _beside(known: Sequence[tuple[str, float | None]]) -> str:
    said = [f"{name} {seconds(value)}" for name, value in known if value]
    return f" ({', '.join(said)})" if said else ""


def _each(coefficients: Coefficients, event: RequestEvent) -> float:
    """TPOT at the middle of the output: beta + gamma (p + o / 2), seconds."""
    context = (event.prompt_tokens or 0) + (output_tokens(event) or 0) / 2
    return coefficients.per_output_token + coefficients.context * context


def gateway_note(event: RequestEvent) -> list[str]:
    """What the client waited for beside the raw runtime, where it is worth a sentence."""
    raw, duration = event.raw_runtime_seconds, event.duration_seconds
    earlier = event.attempts[:-1]
    tries = f"{count(len(earlier), 'earlier try').replace('trys', 'tries')} at the provider failed"
    tried = [f"{tries} ({_errors(event)})."] if earlier else []
    return tried if raw is None or duration is None else [*tried, *_beside_raw(event, duration, raw)]


def _errors(event: RequestEvent) -> str:
    found = (attempt.get("error_class") or f"status {attempt.get('status')}" for attempt in event.attempts[:-1])
    return ", ".join(dict.fromkeys(map(str, found)))


def _beside_raw(event: RequestEvent, duration: float, raw: float) -> list[str]:
    beside = duration - raw
    if beside < max(_WORTH_SECONDS, _WORTH_SHARE * raw):
        return []
    numbers = [attempt.get("seconds") for attempt in event.attempts[:-1]]
    known = {
        "connecting": event.connect_seconds or 0.0,
        "earlier tries": sum(number for number in numbers if isinstance(number, int | float)),
        "the gateway": event.gateway_overhead_seconds or 0.0,
    }
    if event.gateway_overhead_seconds is not None:
        known["its own upload"] = beside - sum(known.values())
    said = [f"{what} ({seconds(value)})" for what, value in known.items() if value >= _WORTH_SHARE * beside]
    what = f"for {', '.join(said)}" if said else seconds(beside)
    return [f"Beside that the client waited {what}: {seconds(duration)} in all."]


def notes_of(event: RequestEvent, view: StackView, row: Row | None, tables: Tables, stack: str) -> list[str]:
    """Caches, reasoning, choices, estimates, what the row rests on, and the gateway's own time."""
    notes = _token_notes(event, view, stack)
    if row is not None and view.idealized_runtime_seconds is not None:
        notes += _row_notes(event, view, row, tables, stack)
    if event.gateway_overhead_seconds is not None:
        notes.append(f"The gateway itself took {seconds(event.gateway_overhead_seconds)}.")
    return notes


def _token_notes(event: RequestEvent, view: StackView, stack: str) -> list[str]:
    notes = []
    if event.cached_tokens:
        prompt = "" if event.prompt_tokens is None else f" of {count(event.prompt_tokens, 'prompt token')}"
        rest = view.idealized_runtime_cached_seconds
        without = "" if rest is None else f": with only the others it would be {seconds(rest)} on {stack}"
        notes.append(f"{event.cached_tokens:,}{prompt} came from the provider's cache; idealized encodes all{without}.")
    if event.reasoning_tokens:
        whole = "" if event.completion_tokens is None else f" of {count(event.completion_tokens, 'output token')}"
        late = " Where it is not shown, the first visible token comes after it." if event.stream else ""
        notes.append(f"{event.reasoning_tokens:,}{whole} were reasoning.{late}")
    if event.choices is not None and event.choices > 1:
        share = "" if event.longest_choice_tokens is not None else ", taken to be an even share"
        notes.append(f"It had {event.choices} choices; the longest decides{share}.")
    if event.usage_source == "estimated":
        notes.append("The reply did not say its tokens: they are the gateway's estimate, and all else is one too.")
    return notes


def _row_notes(event: RequestEvent, view: StackView, row: Row, tables: Tables, stack: str) -> list[str]:
    notes = []
    plain = tables.stacks[stack].rows[row.name]
    if row.provenance == "assumed":
        assumed = next(name for name in _names(event) if tables.row(stack, name))
        notes.append(
            f"By `assume`, {assumed!r} is taken to cost what {row.name} does ({plain.provenance}{_error(plain)}): "
            "whether it does, nobody outside can measure."
        )
    elif row.provenance == "predicted":
        notes.append(f"What {row.name} costs on {stack} is predicted, not measured{_error(row)}.")
    if row.proxy_of:
        notes.append(f"{row.name} was not measured itself: the numbers are those of {row.proxy_of}.")
    if view.coverage == "extrapolated":
        last = row.coefficients.last_knot
        notes.append(f"The prompt is longer than any profiled on {stack} ({last:,} tokens): extrapolated.")
    return notes


def band(row: Row) -> tuple[float, float] | None:
    """Between which multiples of a row's runtimes the truth may lie, where the row says so."""
    runtime = (row.intervals or {}).get("runtime")
    if isinstance(runtime, list | tuple) and len(runtime) == 2 and all(isinstance(x, int | float) for x in runtime):
        return runtime[0], runtime[1]
    return None


def _error(row: Row) -> str:
    limits = band(row)
    if limits is not None:
        return f"; the truth may be {ratio(limits[0])} to {ratio(limits[1])} times that"
    return "" if row.fit_error is None else f"; typical error {row.fit_error:.0%}"


def baseline_notes(
    enriched: EnrichedEvent, baseline: Baseline | None, missing: str | None, later: Baseline | None
) -> list[str]:
    """What the provider's own best rests on, or why there is none."""
    event = enriched.event
    if baseline is None:
        return _no_baseline(enriched, missing, later)
    if None in (event.prompt_tokens, output_tokens(event)):
        return []
    pair = printable(f"{event.model} at {event.upstream}" if event.upstream else f"{event.model}")
    kind = "streams" if baseline.basis == "stream" else "whole replies"
    low, high = baseline.prompt_range
    number = f"The provider's own best (baseline {baseline.version}) rests on {count(baseline.n, 'request')} to {pair}"
    notes = [f"{number} ({kind}, prompts of {low:,} to {high:,} tokens)."]
    if enriched.denoised_runtime_seconds is None:
        return [*notes, f"This prompt is more than {FURTHEST} times as long as any of those: they say nothing of it."]
    if baseline.steps:
        step = baseline.steps[-1]
        notes.append(
            f"Since {step.at:%Y-%m-%d %H:%M} UTC that best takes {ratio(step.factor)} times what it took before."
        )
    return notes


def _no_baseline(enriched: EnrichedEvent, missing: str | None, later: Baseline | None) -> list[str]:
    event = enriched.event
    if event.model is None or None in (event.prompt_tokens, output_tokens(event)):
        return []
    if later is not None:
        return ["The provider's own best was not known yet when this request was made; it is now."]
    why = missing or "it takes some dozens of completed requests to the same model"
    return [f"The provider's own best is not known yet ({why}): until then stack and contention stay one."]
