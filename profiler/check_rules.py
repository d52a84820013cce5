"""What may be wrong with one row of a coefficient table: one function a rule, each yielding what it finds. Pure.

A rule knows the row and its stack. It says `error` where the numbers cannot be meant so, or where a fit or a
prediction of ours breaks what it promises; `warning` where someone should look.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain, pairwise
from typing import Any, Literal

from stream.constants import load_constants
from stream.cost import accelerator_of
from stream.runtime import runtime_function
from stream.table_format import Row, Stack

__all__ = ["Finding", "Level", "check_row", "promises_order"]

Level = Literal["error", "warning", "known"]

_SLOW_TOKEN, _SLOWEST_TOKEN = 1.0, 5.0  # seconds an output token: a large model on a CPU; nothing that serves
_FAST_TOKEN, _FASTEST_TOKEN = 1e-4, 1e-5
_SLOW_PROMPT = (10.0, 0.05)  # seconds, and seconds a token: reading a prompt on a CPU
_SLOW_OVERHEAD = 10.0
_FULL_CONTEXT = 1000
_TOKEN_BY_TOKEN = (10.0, 100.0)  # times what one output token after another would take: strange, impossible
_QUICK_FIRST = 0.7  # of a further output token, which is the same work and less reading
_OFF_THE_LINE, _ANOTHER_UNIT = 1.5, 30.0
_STEEPEST = 1.3  # times quadratic growth
_LARGE_ERROR = 0.1
_MEASURED_APART = 1.1  # a share and the whole may be off by that much
_SECONDS = {"runtime_per_output_token", "overhead", "context_seconds_per_token2"}
"""Of a baseline's intervals those in seconds: all others are factors of the value."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing found: `text` is a line, `evidence` the numbers by which it is told again (known violations)."""

    level: Level
    code: str
    text: str
    evidence: tuple[float, ...] = ()
    stack: str = ""
    row: str | None = None


def promises_order(row: Row) -> bool:
    """Whether F(p) may never fall: in our fits and predictions. The paper's method, as its tables, follows noise."""
    return row.provenance == "predicted" or (row.fit is not None and row.fit.method != "paper")


def _units(row: Row) -> Iterator[Finding]:
    """Seconds are meant: a table in milliseconds is 1,000 times beyond what hardware does."""
    beta, numbers = row.coefficients.per_output_token, row.coefficients
    first, seconds = numbers.knots[0], numbers.prompt_seconds[0]
    if beta > _SLOW_TOKEN:
        text = f"{beta:g} s an output token: are these milliseconds?"
        yield Finding(_grade(beta > _SLOWEST_TOKEN), "units", text)
    if 0 < beta < _FAST_TOKEN:
        text = f"{beta:g} s an output token: no hardware is that fast"
        yield Finding(_grade(beta < _FASTEST_TOKEN), "units", text)
    if seconds > _SLOW_PROMPT[0] + _SLOW_PROMPT[1] * first:
        text = f"F({first}) = {seconds:g} s: are these milliseconds?"
        yield Finding("error", "units", text)
    if numbers.overhead > _SLOW_OVERHEAD:
        text = f"overhead {numbers.overhead:g} s: are these milliseconds?"
        yield Finding("error", "units", text)


def _one_unit(row: Row) -> Iterator[Finding]:
    """F, beta and gamma are of one unit: a prompt is never read more slowly than it would be written."""
    numbers = row.coefficients
    beta = numbers.per_output_token
    times, prompt = max((seconds / (knot * beta), knot) for knot, seconds in _points(row)) if beta else (0.0, 0)
    if times > _TOKEN_BY_TOKEN[0]:
        text = f"F({prompt}) is {times:,.0f} times as long as {prompt} output tokens: F and beta in one unit?"
        yield Finding(_grade(times > _TOKEN_BY_TOKEN[1]), "units", text)
    growth = numbers.context * _FULL_CONTEXT
    if beta and growth > beta:
        text = f"{_FULL_CONTEXT:,} tokens of context add {growth:g} s to an output token of {beta:g} s: seconds?"
        yield Finding("error", "units", text)


def _first_token(row: Row) -> Iterator[Finding]:
    """The first output token takes the pass that every further one takes, and the prompt's besides."""
    beta, first = row.coefficients.per_output_token, row.coefficients.knots[0]
    seconds = row.coefficients.prompt_seconds[0]
    if seconds < _QUICK_FIRST * beta:
        text = f"F({first}) = {seconds:g} s is less than a further output token takes ({beta:g} s)"
        yield Finding("warning", "first-token", text, (first, seconds, beta))


def _order_in_outputs(row: Row) -> Iterator[Finding]:
    """T(p, o) never falls with o: asked of the function itself, whatever the coefficients are."""
    runtime = runtime_function(row.coefficients)
    outputs = (0, 1, 2, 16, 256, 4096)
    for prompt in (1, row.coefficients.last_knot, 2 * row.coefficients.last_knot):
        for fewer, more in pairwise(outputs):
            if runtime(prompt, more) < runtime(prompt, fewer):
                text = f"T falls from {fewer} to {more} output tokens after {prompt} prompt tokens"
                yield Finding("error", "order-in-outputs", text)


def _order_in_prompts(row: Row) -> Iterator[Finding]:
    """F(p) never falls with p: an error in what promises it, noise in what was measured and published so."""
    level = _grade(promises_order(row))
    for (prompt, seconds), (longer, less) in pairwise(_points(row)):
        if less < seconds:
            text = f"F falls from {seconds:g} s at {prompt} prompt tokens to {less:g} s at {longer}"
            yield Finding(level, "fall", text, (prompt, seconds, longer, less))


def _jumps(row: Row) -> Iterator[Finding]:
    """A single F far off the line between its neighbours, or growing faster than attention's square of p."""
    points = _points(row)
    for (low, f_low), (prompt, seconds), (high, f_high) in zip(points, points[1:], points[2:], strict=False):
        line = f_low + (f_high - f_low) * (prompt - low) / (high - low)
        if line and not 1 / _OFF_THE_LINE < seconds / line < _OFF_THE_LINE:
            text = f"F({prompt}) = {seconds:g} s, where its neighbours suggest {line:.3g} s"
            another_unit = not 1 / _ANOTHER_UNIT < seconds / line < _ANOTHER_UNIT
            yield Finding(_grade(another_unit), "jump", text, (prompt, seconds))
    for (prompt, seconds), (longer, more) in pairwise(points):
        if more > _STEEPEST * seconds * (longer / prompt) ** 2:
            text = f"F jumps from {seconds:g} s at {prompt} prompt tokens to {more:g} s at {longer}"
            yield Finding("warning", "jump", text, (prompt, seconds, longer, more))


def _grade(impossible: bool) -> Level:
    return "error" if impossible else "warning"


def _points(row: Row) -> list[tuple[int, float]]:
    return list(zip(row.coefficients.knots, row.coefficients.prompt_seconds, strict=True))


def _intervals(stack: Stack, row: Row) -> Iterator[Finding]:
    """Intervals are pairs low <= value <= high; predictions have them, and the error of what was left out."""
    for name, interval in (row.intervals or {}).items():
        wrong = _level_wrong(interval) if name == "level" else _interval_wrong(stack, row, name, interval)
        if wrong:
            yield Finding("error", "interval", f"intervals.{name}: {wrong}")
    if row.provenance == "predicted" and not (row.intervals and row.fit_error is not None):
        text = "a prediction without fit_error or intervals: how far may it be off?"
        # Where nothing was measured that could tell, a judged interval alone is said, and that is worth knowing.
        yield Finding("warning" if row.intervals else "error", "error-missing", text)


def _level_wrong(level: Any) -> str | None:
    fine = isinstance(level, int | float) and 0 < level < 1
    return None if fine else f"expected a share between 0 and 1, found {level!r}"


def _interval_wrong(stack: Stack, row: Row, name: str, interval: Any) -> str | None:
    numbers = isinstance(interval, list | tuple) and all(type(each) in {int, float} for each in interval)
    if not numbers or len(interval) != 2:
        return "expected two numbers [low, high]"
    low, high = interval
    absolute = stack.kind == "denoised" and name in _SECONDS
    value = _value(row, name) if absolute else 1.0
    if not 0 <= low <= value <= high:
        what = f"the value {value:g} s" if absolute else "1, the value itself"
        return f"[{low:g}, {high:g}] does not hold {what}"
    return None


def _value(row: Row, name: str) -> float:
    numbers = row.coefficients
    return {"overhead": numbers.overhead, "context_seconds_per_token2": numbers.context}.get(
        name, numbers.per_output_token
    )


def _errors(row: Row) -> Iterator[Finding]:
    """What a fit says of itself: there, in order, and small enough to be used."""
    if row.fit_error is not None and row.fit_error > _LARGE_ERROR and row.provenance != "predicted":
        text = f"the median error of the fit is {row.fit_error:.0%}"
        yield Finding("warning", "error-large", text)
    if row.fit is None:
        return
    fit = row.fit
    if not fit.median_error <= fit.p95_error <= fit.max_error:
        text = "fit: expected median_error <= p95_error <= max_error"
        yield Finding("error", "error-impossible", text)


def _proxy(stack: Stack, row: Row) -> Iterator[Finding]:
    """A row that stands for another model's measurement has exactly its numbers."""
    if row.proxy_of is None:
        return
    of = stack.rows.get(row.proxy_of)
    if of is None:
        text = f"proxy_of {row.proxy_of!r}, of which the stack has no row"
        yield Finding("warning", "proxy", text)
    elif of is row or of.proxy_of is not None:
        text = f"proxy_of {row.proxy_of!r}, which is no measurement of its own"
        yield Finding("error", "proxy", text)
    elif of.coefficients != row.coefficients:
        yield Finding("error", "proxy", f"proxy_of {row.proxy_of!r}, but other numbers than that")


def _served(row: Row) -> Iterator[Finding]:
    """A share of a server with many requests is less than what a request takes that has it to itself."""
    if row.served is None:
        return
    share, alone = row.served.coefficients, row.coefficients
    whole_prompts = dict(_points(row))
    pairs = [("an output token", share.per_output_token, alone.per_output_token)]
    prompts = zip(share.knots, share.prompt_seconds, strict=True)
    pairs += [(f"F({knot})", part, whole_prompts[knot]) for knot, part in prompts if knot in whole_prompts]
    for what, part, whole in pairs:
        if part > whole:
            text = f"{what} is {part:g} s of a served batch and {whole:g} s alone: one request's share, not the step?"
            yield Finding(_grade(part > _MEASURED_APART * whole), "served", text)


def _power(stack: Stack, row: Row) -> Iterator[Finding]:
    """No board draws more than it is made for."""
    board = accelerator_of(stack, load_constants())
    told = [watts for watts in (row.watts, row.served and row.served.watts) if watts]
    most = max((max(watts.prompt, watts.output) for watts in told), default=0.0)
    if board is not None and most > board.tdp_watts.high:
        text = f"{most:g} W, but one {board.label} draws {board.tdp_watts.high:g} W at most: watts of one accelerator?"
        yield Finding("error", "watts", text)


_ROW_RULES = (_units, _one_unit, _first_token, _order_in_outputs, _order_in_prompts, _jumps, _errors, _served)
_STACK_RULES = (_intervals, _proxy, _power)


def check_row(stack: Stack, row: Row) -> Iterator[Finding]:
    """What all rules find in one row of a stack, each finding bearing the row's and the stack's name."""
    of_row = (found for rule in _ROW_RULES for found in rule(row))
    of_both = (found for rule in _STACK_RULES for found in rule(stack, row))
    for found in chain(of_row, of_both):
        yield replace(found, stack=stack.name, row=row.name)
