"""How noisy APIs are: the same request on several days, beside the low quantile of them, denoised and idealized T.

Two files ship: AI21's three models on three days of July 2022, and of five models how far apart trials of one request
lay (the coefficient of variation that the paper's authors print; the trials themselves are not public).
"""

import csv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from statistics import fmean, median

from profiler.document import Block, Heading, Part, Section, Table, Text
from profiler.plot import Figure, Series
from profiler.report.inputs import SHIPPED, Inputs
from profiler.report.scenarios import DENOISED_STACK
from stream.coefficients import DEFAULT_STACK, Tables
from stream.runtime import RuntimeFunction

__all__ = ["Timed", "Variation", "read_timings", "read_variations", "section"]

_OUTPUTS = "output tokens"


@dataclass(frozen=True, slots=True)
class Timed:
    """One request of a day. `requested_tokens` is the prompt that was asked for, the same on all days."""

    day: str
    model: str
    requested_tokens: int
    prompt_tokens: int
    output_tokens: int
    raw_seconds: float

    @property
    def request(self) -> tuple[str, int, int]:
        """What was asked: the same on several days."""
        return self.model, self.requested_tokens, self.output_tokens


@dataclass(frozen=True, slots=True)
class Variation:
    """The standard deviation of several trials of one request, over their mean."""

    model: str
    prompt_tokens: int
    output_tokens: int
    coefficient: float


def read_timings() -> tuple[Timed, ...]:
    """The shipped timings, by day, model, prompt and output."""
    rows = _rows("api-timings.csv")
    return tuple(
        Timed(
            row["day"],
            row["model"],
            int(row["requested_prompt_tokens"]),
            int(row["prompt_tokens"]),
            int(row["output_tokens"]),
            float(row["raw_seconds"]),
        )
        for row in rows
    )


def read_variations() -> tuple[Variation, ...]:
    """The shipped coefficients of variation, by model, prompt and output."""
    return tuple(
        Variation(
            row["model"],
            int(row["prompt_tokens"]),
            int(row["output_tokens"]),
            float(row["coefficient_of_variation"]),
        )
        for row in _rows("api-variation.csv")
    )


def section(inputs: Inputs) -> Section:
    """The shipped timings, and T of the tables beside them."""
    timings = read_timings()
    models = list(dict.fromkeys(each.model for each in timings))
    variations = read_variations()
    parts: list[Part] = [*_days(timings, inputs.tables)]
    parts.append(Heading("Runtime by output and prompt tokens"))
    parts += [_by_output(inputs.tables, model, timings) for model in models]
    parts.append(_by_prompt(inputs.tables, models, timings))
    parts.append(_discrepancy(inputs.tables, models, timings))
    parts += [Heading("Trials of one request"), *_trials(variations)]
    apart, spread = sorted(_apart(timings)), median(each.coefficient for each in variations)
    finding = (
        f"On the slowest of {len({each.day for each in timings})} days the same request to the same API took"
        f" {median(apart):.2f} times as long as on the fastest in the median, {apart[-1]:.1f} times at most; trials of"
        f" one request spread by {spread:.0%} of their mean."
    )
    return Section("Noise of APIs", parts, finding)


def _rows(file: str) -> list[dict[str, str]]:
    with (SHIPPED / file).open(encoding="utf-8", newline="") as source:
        return list(csv.DictReader(source))


def _days(timings: Sequence[Timed], tables: Tables) -> Iterator[Block]:
    """The same request day against day."""
    requests, apart = _requests(timings), _apart(timings)
    below = [
        each.raw_seconds < denoised(each.prompt_tokens, each.output_tokens)
        for each in timings
        if (denoised := _runtime(tables, DENOISED_STACK, each.model)) is not None
    ]
    days = sorted({each.day for each in timings})
    yield Text(
        f"Of {len(apart)} requests that were made on several of {len(days)} days ({', '.join(days)}) the slowest day"
        f" took {median(apart):.2f} times as long as the fastest in the median, {max(apart):.1f} times at most."
        f" {sum(below)} of {len(below)} timings lie below denoised T of {DENOISED_STACK}."
    )
    head = ("model", "requests", "slowest / fastest day, median", "largest", "mean / lowest", "lowest / denoised T")
    yield Table((*head, "lowest / idealized T"), [*_day_lines(requests, tables)])
    yield _day_pairs(timings, days)


def _apart(timings: Sequence[Timed]) -> list[float]:
    """Of each request that was made on several days, how many times as long the slowest took as the fastest."""
    return [max(_raw(each)) / min(_raw(each)) for each in _requests(timings).values() if len(each) > 1]


def _day_lines(requests: dict[tuple[str, int, int], list[Timed]], tables: Tables) -> Iterator[list[str]]:
    """Of each model: means over its requests, the lowest of the days in the place of a low quantile."""
    for model, group in groupby(sorted(requests.items()), key=lambda item: item[0][0]):
        each = [timings for _, timings in group if len(timings) > 1]
        apart = [max(_raw(one)) / min(_raw(one)) for one in each]
        over = median(fmean(_raw(one)) / min(_raw(one)) for one in each)
        beside = (_over(_runtime(tables, stack, model), each) for stack in (DENOISED_STACK, DEFAULT_STACK))
        yield [model, str(len(each)), f"{median(apart):.2f}", f"{max(apart):.2f}", f"{over:.2f}", *beside]


def _over(runtime: RuntimeFunction | None, requests: Sequence[Sequence[Timed]]) -> str:
    """Median of the lowest timing over T."""
    if runtime is None:
        return "-"
    least = [min(each, key=lambda one: one.raw_seconds) for each in requests]
    return f"{median(each.raw_seconds / runtime(each.prompt_tokens, each.output_tokens) for each in least):.2f}"


def _day_pairs(timings: Sequence[Timed], days: Sequence[str]) -> Table:
    """Each day's runtimes over the first day's, of the requests of both."""
    seconds = {(each.day, each.request): each.raw_seconds for each in timings}
    rows = []
    for day in days[1:]:
        ratios = sorted(
            value / seconds[days[0], request]
            for (here, request), value in seconds.items()
            if here == day and (days[0], request) in seconds
        )
        row = [f"{day} over {days[0]}", str(len(ratios)), f"{ratios[0]:.2f}", f"{median(ratios):.2f}"]
        rows.append([*row, f"{ratios[-1]:.2f}"])
    return Table(("day", "requests", "least", "median", "most"), rows)


def _requests(timings: Sequence[Timed]) -> dict[tuple[str, int, int], list[Timed]]:
    found: dict[tuple[str, int, int], list[Timed]] = {}
    for each in timings:
        found.setdefault(each.request, []).append(each)
    return found


def _raw(timings: Sequence[Timed]) -> list[float]:
    return [each.raw_seconds for each in timings]


def _runtime(tables: Tables, stack: str, model: str) -> RuntimeFunction | None:
    row = tables.row(stack, model) if stack in tables.stacks else None
    return None if row is None else tables.runtime(stack, row)


def _by_output(tables: Tables, model: str, timings: Sequence[Timed]) -> Figure:
    """One model: raw timings of all days, the lowest of them, and denoised T, a colour a prompt size."""
    mine = [each for each in timings if each.model == model]
    prompts, denoised = sorted({each.requested_tokens for each in mine}), _runtime(tables, DENOISED_STACK, model)
    outputs = sorted({each.output_tokens for each in mine})
    series = []
    for colour, prompt in enumerate(prompts):
        here = [each for each in mine if each.requested_tokens == prompt]
        series.append(_cloud(f"raw, prompt {prompt:,}", here, lambda each: each.output_tokens, colour))
        if denoised is not None:
            known = [denoised(prompt, output) for output in outputs]
            series.append(Series(f"denoised T, prompt {prompt:,}", known, x=outputs, colour=colour, dash=True))
    note = "Timings of all days, and T without contention (broken lines)."
    return Figure(f"{model}: runtime by output tokens", outputs, series, _OUTPUTS, note=note)


def _by_prompt(tables: Tables, models: Sequence[str], timings: Sequence[Timed]) -> Figure:
    """One output token: raw timings, denoised and idealized T, a colour a model."""
    prompts, series = sorted({each.requested_tokens for each in timings}), []
    for colour, model in enumerate(models):
        here = [each for each in timings if each.model == model and each.output_tokens == 1]
        series.append(_cloud(f"{model}, raw", here, lambda each: each.prompt_tokens, colour))
        for stack, name in ((DENOISED_STACK, "denoised T"), (DEFAULT_STACK, "idealized T")):
            runtime = _runtime(tables, stack, model)
            if runtime is not None:
                curve, is_dash = [runtime(prompt, 1) for prompt in prompts], stack == DENOISED_STACK
                series.append(Series(f"{model}, {name}", curve, x=prompts, colour=colour, dash=is_dash))
    return Figure("Runtime of one output token by prompt tokens", prompts, series)


def _discrepancy(tables: Tables, models: Sequence[str], timings: Sequence[Timed]) -> Figure:
    """How far raw is from idealized T: the paper's runtime discrepancy."""
    series = []
    for colour, model in enumerate(models):
        runtime = _runtime(tables, DEFAULT_STACK, model)
        if runtime is not None:
            here = [each for each in timings if each.model == model]
            off = [each.raw_seconds - runtime(each.prompt_tokens, each.output_tokens) for each in here]
            x = [each.output_tokens for each in here]
            series.append(Series(model, off, points=True, x=x, colour=colour))
    note = (
        f"Idealized: T on {DEFAULT_STACK}. Where contention and the stack cost the same whatever is asked, it is flat."
    )
    return Figure("Raw less idealized runtime by output tokens", [], series, _OUTPUTS, note=note)


def _cloud(label: str, timings: Sequence[Timed], x: Callable[[Timed], int], colour: int) -> Series:
    return Series(label, _raw(timings), points=True, x=[x(each) for each in timings], colour=colour)


def _trials(variations: Sequence[Variation]) -> Iterator[Part]:
    models = list(dict.fromkeys(each.model for each in variations))
    prompts = sorted({each.prompt_tokens for each in variations})
    outputs = sorted({each.output_tokens for each in variations})
    spread = sorted(each.coefficient for each in variations)
    yield Text(
        f"The paper's authors made each of {len(variations)} requests several times: the standard deviation was"
        f" {median(spread):.0%} of their mean in the median request, {spread[-1]:.0%} in the worst."
    )
    head = ("standard deviation / mean", *(f"prompt {prompt:,}" for prompt in prompts), "all")
    rows = []
    for model in models:
        mine = [each for each in variations if each.model == model]
        cells = [[each.coefficient for each in mine if each.prompt_tokens == prompt] for prompt in prompts]
        rows.append(
            [model, *(f"{fmean(cell):.2f}" if cell else "-" for cell in [*cells, [e.coefficient for e in mine]])]
        )
    yield Table(head, rows)
    series = [
        Series(model, [_mean(variations, model, output) for output in outputs], x=outputs, colour=colour)
        for colour, model in enumerate(models)
    ]
    note = "Mean over prompt sizes. Of the trials only these figures are public."
    yield Figure("Spread of trials by output tokens", outputs, series, _OUTPUTS, "standard deviation / mean", note)


def _mean(variations: Sequence[Variation], model: str, output: int) -> float | None:
    found = [each.coefficient for each in variations if (each.model, each.output_tokens) == (model, output)]
    return fmean(found) if found else None
