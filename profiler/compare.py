"""Models and stacks side by side: idealized runtimes and dollars of the same requests, ranked. Pure.

Dollars of a request are T(p, o) * accelerators * dollars per accelerator-hour / 3600, as the paper counts them: what
the hardware costs while it does nothing else (batch size 1). The price is the one that events are counted with
(`stream.cost.dollars_per_hour`), joules are the events' `dedicated` ones.

Bounds of T(p, o) are those of its parts: T(p, 1), the prompt and the first output token, has the row's interval of
`runtime_for_prompt_tokens`, and what T(p, o) takes beyond that has the interval of `runtime`. So at one output token,
where T is F, they are F's, and the longer the output, the nearer to those of `runtime` (a row that tells no interval of
F has these everywhere). The bounds of a mean over requests are the means of their bounds.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from stream.coefficients import Tables
from stream.constants import Constant
from stream.cost import RowCosts, dollars_per_hour
from stream.events import Provenance
from stream.table_format import Row

__all__ = [
    "PAPER_MODELS",
    "PAPER_STACKS",
    "Bounds",
    "CompareError",
    "Compared",
    "Requests",
    "bounds",
    "compare",
    "price_of",
    "priced",
    "ranked",
    "rows_of",
]

PAPER_STACKS = ("a100-megatron", "v100-megatron")
PAPER_MODELS = (
    "openai/davinci",
    "ai21/j1-large",
    "ai21/j1-grande",
    "ai21/j1-jumbo",
    "cohere/xlarge-20220609",
    "anthropic/stanford-online-all-v4-s3",
    "microsoft/TNLGv2_530B",
    "together/gpt-j-6b",
    "together/yalm",
    "together/bloom",
)
"""The ten models that Narayanan et al. (arXiv 2305.02440) compare, by their rows."""

_HOUR = 3600.0
_LISTED = 8

Requests = Mapping[tuple[int, int], int]
"""(prompt tokens, output tokens) -> how many requests had them."""

Bounds = Callable[[int, int], tuple[float, float]]
"""(prompt tokens, output tokens) -> the seconds between which T(p, o) is, with the chance that the row names."""


class CompareError(ValueError):
    """A comparison that cannot be made. One line: what is wrong and what to do."""


@dataclass(frozen=True, slots=True)
class Compared:
    """One model on one stack: means over the requests, in seconds and dollars, and ranks on the stack from 1.

    Seconds are of the model on its `accelerators` together (None where the table does not say how many).

    `low_seconds` and `high_seconds` bound the mean where the row tells its interval (`interval_level`: 0.8 for 80 %, if
    it tells that too); dollars are None where accelerators or price are unknown, joules (of the server) where its
    accelerators or what they draw are. `extrapolated` is the share of the requests whose prompt lies past the last
    profiled size. Equal values share a rank, and the next one counts them.
    """

    model: str
    stack: str
    row: str
    provenance: Provenance
    proxy_of: str | None
    accelerators: int | None
    mean_runtime_seconds: float
    low_seconds: float | None
    high_seconds: float | None
    interval_level: float | None
    runtime_rank: int
    dollars_per_accelerator_hour: float | None
    mean_dollars: float | None
    dollars_rank: int | None
    mean_energy_joules: float | None
    extrapolated: float


def compare(tables: Tables, stacks: Sequence[str], models: Sequence[str], requests: Requests) -> tuple[Compared, ...]:
    """Every model on every stack that has a row of it, a stack after the other, the fastest model first.

    `models` are rows or aliases. Raises CompareError for a model that none of the stacks has, or without requests.
    """
    if not requests:
        raise CompareError("no requests to compare: the trace is empty")
    found: list[Compared] = []
    for stack in stacks:
        rows = ((model, tables.row(stack, model)) for model in models)
        compared = [_compared(tables, stack, model, row, requests) for model, row in rows if row is not None]
        found += ranked(compared)
    missing = [model for model in models if model not in {each.model for each in found}]
    if missing:
        raise CompareError(_unknown(tables, stacks, missing[0]))
    return tuple(found)


def rows_of(tables: Tables, stacks: Iterable[str]) -> tuple[str, ...]:
    """The names of all rows on these stacks, each once."""
    return tuple(dict.fromkeys(name for stack in stacks for name in tables.stacks[stack].rows))


def price_of(tables: Tables, stack: str) -> Constant | None:
    """Dollars of an accelerator-hour of a stack, with range and source; None where nobody tells."""
    return None if tables.constants is None else dollars_per_hour(tables.stacks[stack], tables.constants)


def priced(tables: Tables, prices: Mapping[str, float]) -> Tables:
    """The same tables with these dollars per accelerator-hour, by stack; their version stays, as runtimes do."""
    if tables.constants is None or not prices:
        return tables
    given = {stack: Constant(dollars, dollars, dollars, "given") for stack, dollars in prices.items()}
    constants = replace(tables.constants, hourly={**tables.constants.hourly, **given})
    return replace(tables, constants=constants, known_costs={})


def bounds(tables: Tables, stack: str, row: Row) -> Bounds | None:
    """The bounds of a row's T(p, o), by the rule above; None where it tells no interval of T."""
    if tables.stacks[stack].kind != "reference":
        return None  # intervals of a baseline are of other things
    overall = _pair(row, "runtime")
    first = _pair(row, "runtime_for_prompt_tokens") or overall
    if overall is None or first is None:
        return None
    runtime = tables.runtime(stack, row)

    def of(prompt: int, output: int) -> tuple[float, float]:
        begin = runtime(prompt, 1)
        further = runtime(prompt, output) - begin
        return first[0] * begin + overall[0] * further, first[1] * begin + overall[1] * further

    return of


def _pair(row: Row, name: str) -> tuple[float, float] | None:
    interval = (row.intervals or {}).get(name)
    if not isinstance(interval, list | tuple) or len(interval) != 2:
        return None
    return float(interval[0]), float(interval[1])


def _unknown(tables: Tables, stacks: Sequence[str], model: str) -> str:
    near = list(dict.fromkeys(name for stack in stacks for name in tables.near(stack, model)))[:3]
    hint = f": did you mean {' or '.join(near)}?" if near else ""
    elsewhere = next((name for name in tables.stacks if name not in stacks and tables.row(name, model)), None)
    if elsewhere is not None:
        hint = f", but {elsewhere} has it: --stack {elsewhere}"
    if not hint:
        rows = rows_of(tables, stacks)
        hint = f": there are {', '.join(rows[:_LISTED])}{f' and {len(rows) - _LISTED} more' if rows[_LISTED:] else ''}"
    return f"unknown model {model!r} on {', '.join(stacks)}{hint}"


def _compared(tables: Tables, stack: str, model: str, row: Row, requests: Requests) -> Compared:
    runtime, count = tables.runtime(stack, row), sum(requests.values())
    seconds = sum(runtime(*point) * times for point, times in requests.items()) / count
    past = sum(times for (prompt, _), times in requests.items() if prompt > row.coefficients.last_knot)
    low, high = _mean_bounds(bounds(tables, stack, row), requests)
    price = price_of(tables, stack)
    hourly = None if price is None or row.accelerators is None else row.accelerators * price.value
    return Compared(
        model=model,
        stack=stack,
        row=row.name,
        provenance=row.provenance,
        proxy_of=row.proxy_of,
        accelerators=row.accelerators,
        mean_runtime_seconds=seconds,
        low_seconds=low,
        high_seconds=high,
        interval_level=None if low is None else (row.intervals or {}).get("level"),
        runtime_rank=0,
        dollars_per_accelerator_hour=None if price is None else price.value,
        mean_dollars=None if hourly is None else seconds * hourly / _HOUR,
        dollars_rank=None,
        mean_energy_joules=_mean_joules(tables.costs(stack, row), requests),
        extrapolated=past / count,
    )


def _mean_joules(costs: RowCosts | None, requests: Requests) -> float | None:
    if costs is None or costs.dedicated is None:
        return None
    each = [(times, costs.dedicated(*point).energy_joules) for point, times in requests.items()]
    known = [times * joules for times, joules in each if joules is not None]
    return sum(known) / sum(requests.values()) if len(known) == len(each) else None


def _mean_bounds(of: Bounds | None, requests: Requests) -> tuple[float | None, float | None]:
    if of is None:
        return None, None
    count = sum(requests.values())
    each = [(times, of(*point)) for point, times in requests.items()]
    return sum(times * low for times, (low, _) in each) / count, sum(times * high for times, (_, high) in each) / count


def ranked(compared: Sequence[Compared]) -> list[Compared]:
    """The models of one stack with their ranks among each other, the fastest first."""
    by_runtime = _ranks(compared, lambda each: each.mean_runtime_seconds)
    by_dollars = _ranks(compared, lambda each: each.mean_dollars)
    found = [
        replace(each, runtime_rank=by_runtime[each.model], dollars_rank=by_dollars.get(each.model)) for each in compared
    ]
    return sorted(found, key=lambda each: each.mean_runtime_seconds)


def _ranks(compared: Sequence[Compared], value: Callable[[Compared], float | None]) -> dict[str, int]:
    values = {each.model: number for each in compared if (number := value(each)) is not None}
    return {model: 1 + sum(other < number for other in values.values()) for model, number in values.items()}
