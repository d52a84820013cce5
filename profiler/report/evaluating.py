"""What evaluating costs: running every request on dedicated hardware, against profiling a few points and estimating.

The paper's authors reckon 57x (stanford-crfm/helm-efficiency, notebooks/idealized_metrics_cost_analysis.ipynb, December
2023). Directly: every request of a set on eight A100s, 50 times over. By the method: one model's grid of (p, o) on
them, 50 times over. And on both sides the API's bill for answering every request once. Only the sums of the set are
public; the grid ships, so that its side can be reckoned again. Ours charges every model its own grid, and its own
accelerators, and leaves the API out: what is saved is accelerator time.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

import numpy as np

from profiler.compare import price_of
from profiler.document import Block, Heading, Part, Points, Section, Table, Text
from profiler.offline import points_of, trial
from profiler.plot import Figure, Series
from profiler.report.apis import API_SCENARIOS
from profiler.report.capability import PAPER_SCENARIOS
from profiler.report.inputs import Inputs
from profiler.report.scenarios import read_scenarios
from profiler.report.words import number
from profiler.samples import Measured, choose_hardware
from stream.coefficients import DEFAULT_STACK, Tables

__all__ = ["PUBLISHED", "Profiled", "Published", "grid_seconds", "profiled", "saving", "section"]

_HOUR = 3600.0
_P95 = 0.05  # what the planner promises, as docs/profiling.md
_MANY = 1_000
_A_RUN = 1.0  # seconds
_GRID_AND_PLAN = ("grid", "runs", "plan", "runs")
_COUNTS = (1, 10, 100, 1_000, 10_000, 100_000, 1_000_000)


@dataclass(frozen=True, slots=True)
class Published:
    """The paper's own reckoning. Dollars; `hour` of eight A100-80GB; `prompt` and `output` of 1,000 tokens."""

    direct: float = 30_877.35
    profiling: float = 291.16
    answers: float = 250.91
    trials: int = 50
    hour: float = 40.96
    prompt: float = 0.0015
    output: float = 0.002
    model: str = "openai/davinci"

    def saving(self, times: float = 1.0) -> float:
        """How many times cheaper the method is, for so many times the requests."""
        return times * (self.direct + self.answers) / (self.profiling + times * self.answers)


PUBLISHED = Published()


@dataclass(frozen=True, slots=True)
class Profiled:
    """What one model takes. `request_seconds`: idealized, the mean of the paper's scenarios, on `accelerators`.

    `grid` and `plan` are accelerator-seconds of its whole grid and of the runs that suffice, one run a point, on the
    `devices` that share each layer.
    """

    model: str
    accelerators: int
    devices: int
    request_seconds: float
    grid_runs: int
    grid: float
    plan_runs: int
    plan: float

    @property
    def direct(self) -> float:
        """Accelerator-seconds of a request."""
        return self.accelerators * self.request_seconds

    def slower(self) -> "Profiled":
        """The same if every run, and every request, took a second more: it has to be started, and set up."""
        return replace(
            self,
            request_seconds=self.request_seconds + _A_RUN,
            grid=self.grid + self.devices * self.grid_runs * _A_RUN,
            plan=self.plan + self.devices * self.plan_runs * _A_RUN,
        )


def section(inputs: Inputs) -> Section:
    """The paper's reckoning, then ours."""
    a100 = choose_hardware(inputs.published, "a100", "the shipped runtimes")
    found = profiled(a100, inputs.tables)
    parts: list[Part] = [Heading("The paper's 57x"), *_published(a100)]
    parts += [Heading("From public data, every model on its own grid"), *_ours(found, inputs.tables)]
    whole, few = (_times(saving(found, _MANY, planned=planned)) for planned in (False, True))
    finding = (
        f"The paper evaluates for {PUBLISHED.saving():.0f}x less money by its method than directly. From public data,"
        f" {_MANY:,} requests to each of {len(found)} models: {whole} accelerator time where each model's whole grid is"
        f" profiled, {few} where the runs that suffice for {_P95:.0%} are."
    )
    return Section("Cost of evaluating", parts, finding)


def grid_seconds(samples: Sequence[Measured], model: str) -> tuple[int, float]:
    """How many runs a model's grid has, and their seconds, as they ran."""
    mine = [each for each in samples if each.model == model]
    return sum(len(each.seconds) for each in mine), float(sum(each.seconds.sum() for each in mine))


def profiled(samples: Sequence[Measured], tables: Tables) -> list[Profiled]:
    """The models that were measured and are in the paper's scenarios, and what the planner needs of each."""
    scenarios = read_scenarios(PAPER_SCENARIOS)
    found = []
    for place, measured in enumerate(samples):
        row = tables.row(DEFAULT_STACK, measured.model)
        means = [each.idealized_seconds for each in scenarios if each.model == measured.model]
        known = [seconds for seconds in means if seconds is not None]
        if row is None or row.accelerators is None or not known:
            continue
        planner, oracle = trial(samples, place)
        plan = planner.run(oracle, _P95)
        grid = float(sum(oracle.points.values()))
        runs, used = len(plan.points), sum(plan.seconds)
        points = len(points_of(measured).prompt)
        here = (points, measured.tensor * grid, runs, measured.tensor * used)
        found.append(Profiled(measured.model, row.accelerators, measured.tensor, fmean(known), *here))
    return found


def saving(found: Sequence[Profiled], requests: float, *, planned: bool) -> float:
    """Accelerator time of so many requests of each model, over that of profiling all models."""
    return requests * sum(each.direct for each in found) / _spent(found, planned=planned)


def _spent(found: Sequence[Profiled], *, planned: bool) -> float:
    return sum(each.plan if planned else each.grid for each in found)


def _published(samples: Sequence[Measured]) -> Iterator[Block]:
    runs, seconds = grid_seconds(samples, PUBLISHED.model)
    again = seconds * PUBLISHED.trials * PUBLISHED.hour / _HOUR
    least, most = PUBLISHED.saving(0.01), PUBLISHED.saving(1e9)
    yield Text(
        f"The paper's number is {PUBLISHED.saving():.2f}x. It is of one set of requests, whose sum alone is public, and"
        f" grows with their number: {least:.1f}x for a hundredth of them, {most:.0f}x at most, as the API's answers are"
        f" billed on both sides. The hardware alone is {PUBLISHED.direct / PUBLISHED.profiling:.0f}x."
    )
    head = ("dollars", "the paper's", "from the shipped runtimes")
    whole = (PUBLISHED.direct + PUBLISHED.answers) / (again + PUBLISHED.answers)
    yield Table(
        head,
        [
            [f"hardware, every request {PUBLISHED.trials} times", _dollars(PUBLISHED.direct), "- (not public)"],
            [f"hardware, {runs} points {PUBLISHED.trials} times", _dollars(PUBLISHED.profiling), _dollars(again)],
            ["API, every request once, on both sides", _dollars(PUBLISHED.answers), "- (not public)"],
            ["times cheaper", f"{PUBLISHED.saving():.2f}", f"{whole:.2f}, with the paper's other sums"],
        ],
    )
    yield Points(list(_why(seconds)))


def _why(seconds: float) -> Iterator[str]:
    """What has to be known of the paper's number."""
    direct = PUBLISHED.direct * _HOUR / PUBLISHED.hour / PUBLISHED.trials
    requests = PUBLISHED.answers / _answer()
    yield (
        f"Directly: {direct:,.0f} s of eight A100s, once, for 112 runs of models on scenarios. The grid of"
        f" {PUBLISHED.model}: {seconds:,.1f} s. One grid is charged, whatever models the requests were for."
    )
    yield (
        f"How many requests those were is not public. At the mean tokens of the paper's four scenarios the API's bill"
        f" stands for about {number(requests, 2)} (of {direct / requests:.2f} s each)."
    )
    yield (
        f"Every model is charged eight A100s at ${PUBLISHED.hour} an hour, and the API's answers at ${PUBLISHED.prompt}"
        f" and ${PUBLISHED.output} for 1,000 prompt and output tokens (GPT-3.5 Turbo's)."
    )


def _answer() -> float:
    """Dollars of one answer at the paper's prices: the mean of the paper's scenarios, where their tokens are known."""
    paper = {each.scenario for each in read_scenarios(PAPER_SCENARIOS)}
    known = [
        PUBLISHED.prompt * each.prompt_tokens + PUBLISHED.output * each.output_tokens
        for each in read_scenarios(API_SCENARIOS)
        if each.scenario in paper and each.prompt_tokens is not None and each.output_tokens is not None
    ]
    return fmean(known) / 1000


def _dollars(amount: float) -> str:
    return f"${amount:,.2f}"


def _ours(found: Sequence[Profiled], tables: Tables) -> Iterator[Part]:
    direct = sum(each.direct for each in found)
    grid, plan = (_spent(found, planned=planned) for planned in (False, True))
    yield Text(_finding(found))
    yield Table(
        ("accelerator-seconds", "accelerators", f"{_MANY:,} requests", *_GRID_AND_PLAN, "pays from: grid; plan"),
        [*map(_line, found), _total(found, direct, grid, plan)],
    )
    price = price_of(tables, DEFAULT_STACK)
    if price is not None:
        evaluated, whole, planned = (
            _dollars(seconds / _HOUR * price.value) for seconds in (_MANY * direct, grid, plan)
        )
        yield Text(
            f"At ${price.value} an accelerator-hour: {evaluated} for {_MANY:,} requests a model, {whole} for all grids,"
            f" {planned} for the runs that suffice."
        )
    yield _curve(found)
    yield Table(
        ("requests a model", *(f"{count:,}" for count in _COUNTS)),
        [
            ["whole grid", *(_times(saving(found, count, planned=False)) for count in _COUNTS)],
            ["runs that suffice", *(_times(saving(found, count, planned=True)) for count in _COUNTS)],
        ],
    )


def _finding(found: Sequence[Profiled]) -> str:
    direct, slower = sum(each.direct for each in found), [each.slower() for each in found]
    grid, plan = (_spent(found, planned=planned) for planned in (False, True))
    whole, few = (_times(saving(found, _MANY, planned=planned)) for planned in (False, True))
    whole_slower, few_slower = (_times(saving(slower, _MANY, planned=planned)) for planned in (False, True))
    return (
        f"Against evaluating {_MANY:,} requests to each of {len(found)} models, alone on the accelerators that the"
        f" paper gives each, profiling every model's whole grid takes {whole} accelerator time, and the runs that"
        f" suffice for {_P95:.0%} (profiler plan) {few}; with a second more for every run and every request"
        f" {whole_slower} and {few_slower}. It pays from {grid / direct:,.0f} requests a model, or from"
        f" {plan / direct:,.1f}. How often each is repeated changes nothing of it. Ours is less than the paper's number"
        " for its many requests and one grid for all; and more, as the whole grid is"
        f" {grid / plan:,.0f} times what suffices."
    )


def _times(factor: float) -> str:
    """A saving in words that are true below 1 too."""
    return f"{number(factor)}x less" if factor >= 1 else f"{number(1 / factor)}x more"


def _line(each: Profiled) -> list[str]:
    used, grid, plan = map(number, (each.direct * _MANY, each.grid, each.plan))
    return [
        *(each.model, str(each.accelerators), used, grid, str(each.grid_runs), plan, str(each.plan_runs)),
        f"{each.grid / each.direct:,.0f}; {each.plan / each.direct:,.1f}",
    ]


def _total(found: Sequence[Profiled], direct: float, grid: float, plan: float) -> list[str]:
    runs = (str(sum(each.grid_runs for each in found)), str(sum(each.plan_runs for each in found)))
    seconds = [number(each) for each in (direct * _MANY, grid, plan)]
    return [
        "all",
        "",
        seconds[0],
        seconds[1],
        runs[0],
        seconds[2],
        runs[1],
        f"{grid / direct:,.0f}; {plan / direct:,.1f}",
    ]


def _curve(found: Sequence[Profiled]) -> Figure:
    """By all requests of all models together: the paper's x is of all its requests."""
    x = [float(count) for count in np.geomspace(len(found), 1e7, 60)]
    each = [count / len(found) for count in x]
    paper = PUBLISHED.answers / _answer()
    series = [
        Series("ours, whole grids", [saving(found, count, planned=False) for count in each], colour=0),
        Series("ours, runs that suffice", [saving(found, count, planned=True) for count in each], colour=1),
        Series("the paper's sums", [PUBLISHED.saving(count / paper) for count in x], colour=2, dash=True),
        Series("the paper's 57x", [PUBLISHED.saving()], points=True, x=[paper], colour=2, beside=True),
        Series("breaks even", [1.0, 1.0], x=[x[0], x[-1]], colour=7, dash=True),
    ]
    note = "Ours: accelerator time. The paper's: dollars, with those of the API's answers on both sides (see above)."
    title, label = "How many times cheaper profiling is", "requests evaluated, of all models together"
    return Figure(title, x, series, label, "times cheaper", note, log_x=True, log_y=True)
