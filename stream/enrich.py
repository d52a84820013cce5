"""enrich: a request event, the tables and the baselines give the event with what it should have taken. Pure, total.

Whatever the event holds, the answer is a value: a model without a row is `uncovered` with its reason, a
request that did not complete carries an `exclusion_reason` and no factors.
"""

import msgspec

from stream.baselines import NO_BASELINES, Baselines
from stream.coefficients import Tables
from stream.cost import RowCosts
from stream.events import Cost, Coverage, EnrichedEvent, Provenance, RequestEvent, StackView
from stream.faults import STATUSES
from stream.prices import NO_BILL
from stream.runtime import RuntimeFunction

__all__ = ["enrich", "exclusion_reason", "output_tokens"]

# Models are named by clients: past these bounds a look-up is made anew instead of remembered.
_REMEMBERED = 4096
_LONGEST_NAME = 200

BACKPRESSURE_SHARE = 0.05
"""A client that held its reply up for more than this share of the raw runtime ..."""

BACKPRESSURE_SECONDS = 0.05
"""... and for more than this many seconds has slowed the upstream down: the runtime is not the upstream's."""

SHORTEST_SECONDS = 1e-9
"""Idealized and denoised runtimes below this give no ratio, as it would say nothing and might overflow."""

_GENERATION_ROUTES = (
    "/completions",
    "/embeddings",
    "/responses",
    "/messages",
    ":generateContent",
    ":streamGenerateContent",
)

_Name = str | None
_Row = tuple[str, Provenance, int, float, RuntimeFunction, RowCosts | None]
_Runtimes = tuple[float, float | None]
"""raw and denoised runtime of a completed request, which alone has factors"""
_Found = tuple[tuple[str, _Row | None], ...]


def enrich(event: RequestEvent, tables: Tables, baselines: Baselines = NO_BASELINES) -> EnrichedEvent:
    """Add the idealized runtimes on every reference stack, the leading one's at the top level, and the denoised
    runtime, where there is a baseline, and what the request costs and was billed; never raises.
    """
    key = (event.upstream_model, event.served_model, event.model)
    found = tables.found.get(key)
    if found is None:
        found = _find(key, tables)
    excluded = exclusion_reason(event)
    raw: float | None = None
    if excluded is None:
        raw = event.raw_runtime_seconds
        if raw is None and event.duration_seconds is not None:
            raw = event.duration_seconds
            event = msgspec.structs.replace(event, raw_runtime_seconds=raw)
    output = output_tokens(event)
    pair = (event.upstream, event.model)
    version, denoised = baselines.denoised(pair, event.prompt_tokens, event.cached_tokens, output)
    factors = None if raw is None else (raw, denoised)
    prices = tables.prices
    billed, billed_as, unbilled = NO_BILL if prices is None else prices.bill(event)
    views = {name: _view(event, row, output, factors, billed) for name, row in found}
    leading = views.pop(tables.reference, _NO_VIEW)
    return EnrichedEvent(
        event=event,
        denoised_runtime_seconds=denoised,
        idealized_runtime_seconds=leading.idealized_runtime_seconds,
        idealized_runtime_cached_seconds=leading.idealized_runtime_cached_seconds,
        stack=tables.reference,
        table_row=leading.table_row,
        table_version=tables.version,
        baseline_version=version,
        provenance=leading.provenance,
        coverage=leading.coverage,
        uncovered_reason=leading.uncovered_reason,
        exclusion_reason=excluded,
        stack_factor=leading.stack_factor,
        contention_factor=raw / denoised if raw is not None and denoised and denoised > SHORTEST_SECONDS else None,
        slowdown=leading.slowdown,
        faster_than_idealized=leading.faster_than_idealized,
        billed_dollars=billed,
        billed_as=billed_as,
        unbilled_reason=unbilled,
        flops=leading.flops,
        dedicated=leading.dedicated,
        served=leading.served,
        margin=leading.margin,
        stacks=views,
    )


_NO_VIEW = StackView(uncovered_reason="no_reference_stack")


def exclusion_reason(event: RequestEvent) -> str | None:
    """Why a request's time is no measure of its upstream; None for a completed 2xx request."""
    if event.error_class is not None:
        return event.error_class
    status = event.status
    if status is not None and not 200 <= status < 300:
        return f"status_{status}" if status in STATUSES else f"status_{status // 100}xx"
    held_up = event.backpressure_seconds
    if held_up is not None and held_up > BACKPRESSURE_SECONDS:
        raw = event.raw_seconds
        if raw is not None and held_up > BACKPRESSURE_SHARE * raw:
            return "client_backpressure"
    return None


def output_tokens(event: RequestEvent) -> int | None:
    """Tokens that count as o in T(p, o): the longest choice's tokens, else an even share of all; None where unknown."""
    if event.longest_choice_tokens is not None:
        return event.longest_choice_tokens
    total, choices = event.completion_tokens, event.choices
    if total is None:
        # An embedding has no output by nature, and its usage does not say so.
        return 0 if event.route is not None and event.route.endswith("/embeddings") else None
    if choices is None or choices == 1:
        return total
    return -(-total // choices)


def _find(key: tuple[_Name, _Name, _Name], tables: Tables) -> _Found:
    found: _Found = tuple((stack, _row(stack, key, tables)) for stack in tables.references)
    if sum(len(name) for name in key if name) <= _LONGEST_NAME:
        if len(tables.found) >= _REMEMBERED:
            tables.found.clear()
        tables.found[key] = found
    return found


def _row(stack: str, key: tuple[_Name, _Name, _Name], tables: Tables) -> _Row | None:
    row = tables.row(stack, *key)
    if row is None:
        return None
    numbers = row.coefficients
    runtime, costs = tables.runtime(stack, row), tables.costs(stack, row)
    return row.name, row.provenance, numbers.last_knot, numbers.context, runtime, costs


def _view(
    event: RequestEvent, row: _Row | None, output: int | None, known: _Runtimes | None, billed: float | None
) -> StackView:
    prompt = event.prompt_tokens
    if row is None or prompt is None or output is None:
        return _uncovered(event, row, output)
    name, provenance, last_knot, context, runtime, costs = row
    idealized = runtime(prompt, output)
    cached = event.cached_tokens
    cached_seconds = None if cached is None else idealized
    if cached and prompt > 1:
        # The last prompt token is always computed anew, and generation attends to cached tokens all the same.
        cached = min(cached, prompt - 1)
        cached_seconds = runtime(prompt - cached, output)
        if context and output > 1:
            cached_seconds += context * cached * (output - 1)
    coverage: Coverage = "covered" if prompt <= last_knot else "extrapolated"
    slowdown = stack_factor = faster = None
    if known is not None:
        raw, denoised = known
        faster = raw < idealized
        if idealized > SHORTEST_SECONDS:
            slowdown = raw / idealized
            stack_factor = None if denoised is None else denoised / idealized
    flops, dedicated, served, margin = _NO_COSTS if costs is None else _costs(event, costs, prompt, output, billed)
    return StackView(
        idealized, cached_seconds, name, provenance, coverage, None, stack_factor, slowdown, faster,
        flops, dedicated, served, margin,
    )  # fmt: skip


_Costs = tuple[float | None, Cost | None, Cost | None, float | None]
_NO_COSTS: _Costs = (None, None, None, None)


def _costs(event: RequestEvent, costs: RowCosts, prompt: int, output: int, billed: float | None) -> _Costs:
    """FLOPs, both costs and the margin: of the tokens of all choices, where o counts those of the longest."""
    choices = event.choices or 1
    if choices > 1:
        if event.completion_tokens is None:
            return _NO_COSTS
        output = event.completion_tokens
    dedicated = costs.dedicated and costs.dedicated(prompt, output, choices)
    served = costs.served and costs.served(prompt, output, choices)
    margin = None
    if billed is not None and served is not None and served.dollars:
        margin = billed / served.dollars
    return costs.flops(prompt, output, choices), dedicated, served, margin


def _uncovered(event: RequestEvent, row: _Row | None, output: int | None) -> StackView:
    reason = _uncovered_reason(event, row, output)
    if row is None:
        return _NO_ROW[reason]
    return StackView(table_row=row[0], provenance=row[1], uncovered_reason=reason)


_NO_ROW = {reason: StackView(uncovered_reason=reason) for reason in ("not_generation", "unknown_model", "no_model")}


def _uncovered_reason(event: RequestEvent, row: _Row | None, output: int | None) -> str:
    counted = event.prompt_tokens is not None or output is not None
    if not counted and event.route is not None and not event.route.endswith(_GENERATION_ROUTES):
        return "not_generation"
    if row is None:
        named = event.upstream_model or event.served_model or event.model
        return "unknown_model" if named else "no_model"
    return "prompt_tokens_unknown" if event.prompt_tokens is None else "completion_tokens_unknown"
