"""Between our tables and HELM's JSON, `{NAME: {"runtime_per_output_token", "runtime_for_prompt_tokens", "overhead"}}`.

HELM's form holds the coefficients of one stack without its name, and nothing of where they come from. What it holds
goes there and back unchanged; what it cannot hold is said. Pure.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from stream.events import Provenance
from stream.runtime import Coefficients, runtime_seconds
from stream.table_format import Row, Stack, TableError

__all__ = ["choose_stack", "from_helm", "helm_rows", "helm_text", "not_held"]

_OF_STACK = ("hardware", "software", "date", "source", "note", "dollars_per_accelerator_hour")
_OF_ROWS = ("proxy_of", "fit", "fit_error", "intervals", "accelerators", "source", "note")
_LONG = (1536, 512)
"""The (prompt, output) tokens at which the loss of gamma is told: a long request of HELM's."""


def helm_text(stack: Stack) -> str:
    """The text of a HELM table with the coefficients of a stack, laid out as HELM's own files are."""
    return json.dumps(helm_rows(stack), indent=1) + "\n"


def helm_rows(stack: Stack) -> dict[str, Any]:
    """The rows as HELM has them. `overhead` is there in all rows or, where none has any, in none, as in HELM's own."""
    overhead = any(row.coefficients.overhead for row in stack.rows.values())
    return {name: _helm_row(row.coefficients, overhead) for name, row in stack.rows.items()}


def _helm_row(numbers: Coefficients, overhead: bool) -> dict[str, Any]:
    knots = zip(numbers.knots, numbers.prompt_seconds, strict=True)
    return {
        "runtime_per_output_token": numbers.per_output_token,
        "runtime_for_prompt_tokens": {str(knot): seconds for knot, seconds in knots},
        **({"overhead": numbers.overhead} if overhead else {}),
    }


def not_held(stack: Stack) -> Iterator[str]:
    """What a stack says and HELM's form cannot, a line each: numbers that change a runtime first."""
    rows = stack.rows.values()
    with_context = [row for row in rows if row.coefficients.context]
    if with_context:
        less = max(_lost_with_gamma(row.coefficients) for row in with_context)
        at = f"{_LONG[0]} prompt and {_LONG[1]} output tokens"
        yield f"context_seconds_per_token2 of {_rows(with_context)}: runtimes at {at} are up to {less:.1%} shorter"
    grown = [row for row in rows if row.coefficients.quadratic]
    if grown:
        yield f"quadratic of {_rows(grown)}: the growth past the last prompt size is fitted to the others again"
    foreign = [row for row in rows if row.provenance != "measured"]
    if foreign:
        kinds = ", ".join(dict.fromkeys(row.provenance for row in foreign))
        yield f"the provenance of {_rows(foreign)} ({kinds}): they will look measured"
    said = [name for name in _OF_STACK if getattr(stack, name) is not None]
    if said:
        yield f"{', '.join(said)} of the stack"
    held = {name: sum(getattr(row, name) is not None for row in rows) for name in _OF_ROWS}
    if any(held.values()):
        yield ", ".join(f"{name} of {count} {'row' if count == 1 else 'rows'}" for name, count in held.items() if count)


def _rows(rows: Sequence[Row]) -> str:
    return rows[0].name if len(rows) == 1 else f"{len(rows)} rows"


def _lost_with_gamma(numbers: Coefficients) -> float:
    return 1 - runtime_seconds(replace(numbers, context=0.0), *_LONG) / runtime_seconds(numbers, *_LONG)


def from_helm(rows: Mapping[str, Row], name: str, provenance: Provenance = "measured", **described: Any) -> Stack:
    """A stack of rows that belong to none yet; `described` is what a Stack says of itself (hardware, source, ...)."""
    named = {row.name: replace(row, provenance=provenance) for row in rows.values()}
    return Stack(name=name, rows=MappingProxyType(named), **described)


def choose_stack(stacks: Sequence[Stack], wanted: str | None, file: str) -> Stack:
    """The stack called `wanted`, or the only one; raise TableError where that is none or not clear."""
    names = ", ".join(stack.name for stack in stacks)
    if wanted is None and len(stacks) == 1:
        return stacks[0]
    if wanted is None:
        raise TableError(f"{file}: holds several stacks: choose one with --stack: {names}")
    found = [stack for stack in stacks if stack.name == wanted]
    if not found:
        raise TableError(f"{file}: no stack {wanted!r}: it holds {names or 'one without a name'}")
    return found[0]
