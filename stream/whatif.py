"""What if another model had answered: recorded requests on a reference stack, the accelerators, the cost. Pure.

Every request keeps its tokens and the moment at which it came. *Dedicated*: an instance of the model takes one request
at a time, for the seconds of its work (`stream.cost`). *Served*: an instance has as many slots as the stack's batch B,
and a request holds one for B times its share, which is about how long it takes in a full batch; instances that are not
full are faster, so that waits are bounded from above. Instances share one queue, first come, first served.

Growth compresses the recording's time: g times the requests an hour, bursts and lulls in the same proportions. Bands
come from the coefficients' error, which is the same for all requests and does not average out, not from resampling
the arrivals, whose clusters a bootstrap would tear apart; those of dollars, energy, carbon and water have the
constants' ranges too.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from math import ceil, fsum, sqrt
from operator import itemgetter
from typing import NamedTuple

from stream.coefficients import Tables
from stream.cost import Bands, Cost, Work
from stream.labels import clean_label
from stream.queueing import at_share, fewest, serve
from stream.recording import Recording, Shape
from stream.table_format import Row
from stream.whatif_answer import (
    Amount,
    Amounts,
    Answered,
    Arrivals,
    Billed,
    Fleet,
    Grown,
    Month,
    Spread,
    WhatIf,
    WhatIfError,
)
from stream.whatif_notes import assumptions, notes

__all__ = ["MONTH_SECONDS", "MOST_MONTHS", "SHARE", "Question", "what_if"]

MONTH_SECONDS = 365.25 / 12 * 86_400
"""A mean month."""

SHARE = 0.95
"""The share of requests that may not wait longer than the limit."""

MOST_MONTHS = 120
"""How far ahead growth may be asked for."""

_POINTS = 4  # of a projection besides the present, as each takes six searches
_MOST_MODELS = 10


class Question(NamedTuple):
    """Which model, on the tables' leading stack; how long 95 % may wait at most; growth a month (0.1: 10 %), if any."""

    model: str
    max_wait_seconds: float = 1.0
    growth: float | None = None
    months: int = 12


class _Queue(NamedTuple):
    """Requests in the order in which they came, at so many seconds from the first."""

    seconds: Sequence[float]
    shapes: Sequence[Shape]
    limit: float

    def grown(self, factor: float) -> "_Queue":
        return self._replace(seconds=[at / factor for at in self.seconds])

    @property
    def per_second(self) -> float | None:
        """The mean rate, from the gaps between requests; None without any."""
        whole = self.seconds[-1] if self.seconds else 0.0
        return (len(self.seconds) - 1) / whole if whole else None


def what_if(tables: Tables, question: Question, recording: Recording) -> WhatIf:
    """Answer a question; raise WhatIfError where the stack has no such model, or nothing was recorded."""
    row, accelerators = _row(tables, question.model)
    _check(recording)
    costs, runtime = tables.costs(tables.reference, row), tables.runtime(tables.reference, row)
    assert costs is not None  # as tables that were loaded have constants
    assert costs.dedicated is not None  # as the row says how many accelerators
    counts = Counter(recording.shapes)
    alone = {shape: runtime(shape.prompt_tokens, shape.longest_tokens) for shape in counts}
    dedicated = _Side(costs.dedicated, costs.bands("dedicated"), accelerators, counts)
    served = costs.served and _Side(costs.served, costs.bands("served"), accelerators, counts)
    queue = _queue(recording, question.max_wait_seconds)
    idealized = _spread(alone[shape] for shape in recording.shapes)
    months = _months(question, queue, dedicated, served)
    return WhatIf(
        model=question.model,
        row=row.name,
        stack=tables.reference,
        provenance=row.provenance,
        proxy_of=row.proxy_of,
        table_version=tables.version,
        accelerators_per_instance=accelerators,
        max_wait_seconds=question.max_wait_seconds,
        from_model=recording.from_model,
        requests=len(recording.shapes),
        left_out=dict(recording.left_out),
        extrapolated=sum(shape.prompt_tokens > row.coefficients.last_knot for shape in recording.shapes),
        models=_most(recording.models),
        prompt_tokens=sum(shape.prompt_tokens for shape in recording.shapes),
        output_tokens=sum(shape.output_tokens for shape in recording.shapes),
        arrivals=_arrivals(recording, queue),
        recorded_seconds=_spread(recording.seconds) if recording.seconds else None,
        idealized_seconds=idealized,
        flops=_total(costs.flops(*_of(shape)) for shape in recording.shapes),
        billed=Billed(len(recording.dollars), recording.billed, dict(recording.unbilled)),
        dedicated=dedicated.answered(queue),
        served=None if served is None else served.answered(queue),
        growth=question.growth,
        months=months,
        notes=tuple(
            notes(
                row,
                recording,
                _lengths(queue, months),
                idealized.p95,
                served=served is not None,
                grows=question.growth is not None,
            )
        ),
        assumptions=tuple(assumptions(tables, row)),
    )


class _Side:
    """All requests, dedicated or served: what each costs, and for how long it holds one of an instance's slots."""

    def __init__(self, work: Work, bands: Bands | None, accelerators: int, counts: Counter[Shape]) -> None:
        costs = {shape: work(*_of(shape)) for shape in counts}
        self.batch = next(iter(costs.values())).batch
        self._accelerators, self._bands, self._requests = accelerators, bands, counts.total()
        holds = self.batch / accelerators
        self._slot_seconds = {shape: holds * cost.accelerator_seconds for shape, cost in costs.items()}
        self._request_seconds = _spread(self._slot_seconds[shape] for shape in counts.elements())
        self._work = _amounts(costs, counts, bands)

    def answered(self, queue: _Queue) -> Answered:
        """The fleet for a recording as it was."""
        if not queue.seconds:
            return Answered(self.batch, self._work, self._request_seconds)
        instances, low, high = self._sizes(queue)
        return Answered(
            batch=self.batch,
            work=self._work,
            request_seconds=self._request_seconds,
            fleet=self._fleet(queue, instances),
            accelerators_low=low * self._accelerators,
            accelerators_high=high * self._accelerators,
            one_fewer=self._fleet(queue, instances - 1) if instances > 1 else None,
        )

    def grown(self, queue: _Queue, requests: float) -> Grown:
        """The fleet for a month of so many requests, that come as those of `queue` do."""
        instances, low, high = self._sizes(queue)
        accelerators = instances * self._accelerators
        return Grown(
            instances=instances,
            accelerators=accelerators,
            accelerators_low=low * self._accelerators,
            accelerators_high=high * self._accelerators,
            rent_dollars=self._rent(accelerators, MONTH_SECONDS),
            work=_scaled(self._work, requests / self._requests),
        )

    def _sizes(self, queue: _Queue) -> tuple[int, int, int]:
        """Fewest instances that keep the limit: as the coefficients say, and at the low and high end of their band."""
        services = self._services(queue)
        load = fsum(services) / (queue.seconds[-1] or 1.0) / self.batch
        found, near = [], load + sqrt(load)
        for factor in (1.0, *(self._bands.accelerator_seconds if self._bands else (1.0, 1.0))):
            scaled = [factor * each for each in services]
            near_by = ceil(factor * near)
            found.append(fewest(queue.seconds, scaled, queue.limit, share=SHARE, slots=self.batch, near=near_by))
            near = found[0]
        return found[0], found[1], found[2]

    def _fleet(self, queue: _Queue, instances: int) -> Fleet:
        services = self._services(queue)
        waits, end = serve(queue.seconds, services, instances * self.batch)
        accelerators = instances * self._accelerators
        return Fleet(
            instances=instances,
            accelerators=accelerators,
            utilisation=fsum(services) / (instances * self.batch * end) if end else None,
            wait_seconds=_spread(waits),
            seconds=end,
            dollars=self._rent(accelerators, end),
        )

    def _services(self, queue: _Queue) -> list[float]:
        return [self._slot_seconds[shape] for shape in queue.shapes]

    def _rent(self, accelerators: int, seconds: float) -> Amount | None:
        """What accelerators cost for a time, at the price that the work has for an accelerator-second."""
        used, dollars = self._work.accelerator_seconds, self._work.dollars
        if dollars is None or used is None or not used.value:
            return None
        share = accelerators * seconds / used.value
        return _times(dollars, share)


def _months(question: Question, queue: _Queue, dedicated: _Side, served: _Side | None) -> tuple[Month, ...]:
    """The projection, at the present and up to four months to come; empty without growth, or a rate to start from."""
    rate = queue.per_second
    if question.growth is None or rate is None:
        return ()
    found = []
    for month in sorted({round(question.months * point / _POINTS) for point in range(_POINTS + 1)}):
        factor = (1 + question.growth) ** month
        then, requests = queue.grown(factor), rate * factor * MONTH_SECONDS
        alone = dedicated.grown(then, requests)
        found.append(Month(month, factor, requests, alone, None if served is None else served.grown(then, requests)))
    return tuple(found)


def _row(tables: Tables, model: str) -> tuple[Row, int]:
    """The model's row, and on how many accelerators it runs."""
    stack = tables.reference
    row = tables.row(stack, model)
    if row is None:
        elsewhere = next((name for name in tables.references if tables.row(name, model)), None)
        near = " or ".join(tables.near(stack, model)) or _some(tables.stacks[stack].rows)
        hint = f", but {elsewhere} has it: --stack {elsewhere}" if elsewhere else f": there are {near}"
        raise WhatIfError(f"unknown model {model!r} on stack {stack}{hint}")
    if row.accelerators is None:
        how = "a --table whose row has `accelerators` says it"
        raise WhatIfError(f"{row.name} on stack {stack}: it is not known on how many accelerators it runs: {how}")
    return row, row.accelerators


def _some(names: Collection[str]) -> str:
    left = len(names) - _MOST_MODELS
    return ", ".join(list(names)[:_MOST_MODELS]) + (f" and {left} more" if left > 0 else "")


def _check(recording: Recording) -> None:
    if recording.shapes:
        return
    if not recording.left_out:
        raise WhatIfError("no events: nothing was read from standard input")
    if recording.others and set(recording.left_out) == {"other_model"}:
        known = _some([clean_label(name) for name, _ in recording.others.most_common()])
        raise WhatIfError(f"no request was for {recording.from_model!r} (--from-model): there are {known}")
    reasons = ", ".join(f"{number} {clean_label(reason)}" for reason, number in recording.left_out.most_common())
    raise WhatIfError(f"no completed request whose tokens are known: {reasons}")


def _queue(recording: Recording, limit: float) -> _Queue:
    timed = [(at, shape) for at, shape in zip(recording.moments, recording.shapes, strict=True) if at is not None]
    timed.sort(key=itemgetter(0))
    return _Queue([(at - timed[0][0]).total_seconds() for at, _ in timed], [shape for _, shape in timed], limit)


def _arrivals(recording: Recording, queue: _Queue) -> Arrivals | None:
    moments = [at for at in recording.moments if at is not None]
    return Arrivals(len(moments), min(moments), max(moments), queue.per_second) if moments else None


def _lengths(queue: _Queue, months: Iterable[Month]) -> list[tuple[int, float]]:
    """How long the recording lasts, now and compressed by growth; empty without timestamps."""
    return [
        (month, queue.seconds[-1] / factor)
        for month, factor in ((0, 1.0), *((each.month, each.factor) for each in months))
        if queue.seconds
    ]


def _of(shape: Shape) -> tuple[int, int, int]:
    """What costs take."""
    return shape.prompt_tokens, shape.output_tokens, shape.choices


def _most(models: Counter[str]) -> dict[str, int]:
    """The models that most requests were for, and how many were for others."""
    most = dict(models.most_common(_MOST_MODELS))
    others = models.total() - sum(most.values())
    return {**most, "other": most.get("other", 0) + others} if others else most


def _spread(values: Iterable[float]) -> Spread:
    ordered = sorted(values)
    total = fsum(ordered)
    percentiles = (at_share(ordered, share) for share in (0.5, 0.95, 0.99))
    return Spread(len(ordered), total, total / len(ordered), *percentiles)


def _amounts(costs: dict[Shape, Cost], counts: Counter[Shape], bands: Bands | None) -> Amounts:
    found: dict[str, Amount | None] = {}
    for name in Amounts.__struct_fields__:
        low, high = getattr(bands, name) if bands else (1.0, 1.0)
        each = (getattr(costs[shape], name) for shape in counts.elements())
        total = _total(each)
        found[name] = None if total is None else Amount(total, low * total, high * total)
    return Amounts(**found)


def _total(values: Iterable[float | None]) -> float | None:
    """Their sum; None where one is not known."""
    known = []
    for value in values:
        if value is None:
            return None
        known.append(value)
    return fsum(known)


def _times(amount: Amount, share: float) -> Amount:
    return Amount(amount.value * share, amount.low * share, amount.high * share)


def _scaled(amounts: Amounts, share: float) -> Amounts:
    each = ((name, getattr(amounts, name)) for name in Amounts.__struct_fields__)
    return Amounts(**{name: None if amount is None else _times(amount, share) for name, amount in each})
