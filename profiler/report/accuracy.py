"""How far off the numbers are where nothing was measured: models, and prompt sizes, left out and predicted."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from profiler.config import ArchitectureError
from profiler.crossval import interior_sizes, leave_out_published, leave_out_sizes
from profiler.document import Heading, Part, Section, Table, Text
from profiler.energy import DEVICES
from profiler.fitted import called, row_names
from profiler.fitting import runtimes
from profiler.hardware import Hardware, HardwareError, device_name, hardware
from profiler.judge import Judged, errors_of, judge
from profiler.leave_out import leave_out_models
from profiler.plot import Figure, Series
from profiler.prediction import predict
from profiler.report.inputs import Inputs
from profiler.report.words import number, percent, plural
from profiler.samples import Measured, SamplesError

__all__ = ["section"]

_SIZES = 32  # of one hardware: each is a fit of its own
_ALL = {"a100": ("1.8%", "4.2%", "11.4%"), "v100": ("4.6%", "13.2%", "24.1%")}
"""Mean errors of the fit and of the published coefficients, read in two ways, at every size of what ships: those of
docs/profiling.md, which `profiler crossval` finds."""
_HERE = "profiler fit, as here"
_NAMED = 2  # stacks in the finding


def section(inputs: Inputs) -> Section:
    """Of the paper's measurements, and of one's own as far as there is something to leave out."""
    parts: list[Part] = [
        Text(
            "A whole model is predicted from its architecture by a roofline whose constants are fitted to the others; a"
            " prompt size by a fit to the other sizes and models."
        ),
        Text(
            "Of the paper's measurements even what is left out had a part in the choices before that. The roofline's"
            " form, and the centres that its constants are drawn towards, were chosen with these models in view, from"
            " some sixty variants; how far a fit may deviate, and the roofline that it starts from, on all of these"
            " runs. So these errors are somewhat flattered (docs/profiling.md)."
        ),
    ]
    findings = []
    for title, samples, shipped in _stacks(inputs):
        models, sizes = _left_out(samples), _sizes(samples, shipped=shipped)
        said = [*_models(title, samples, models), *_present(title, samples), *_inner(title, sizes)]
        parts += [Heading(title), *said] if said else []
        short = [*([_off_models(judge(models))] if models else []), *([_off_sizes(sizes)] if sizes else [])]
        findings += [f"{title}: {'; '.join(short)}"] if short else []
    return Section("Where nothing was measured", parts, f"{'. '.join(findings[:_NAMED])}.")


def _stacks(inputs: Inputs) -> Iterator[tuple[str, list[Measured], bool]]:
    """One's own first: the runs alone of each hardware, and whether they are those that ship."""
    own = [(f"{path.name}: ", samples, False) for path, samples in inputs.own.items()]
    for prefix, samples, shipped in [*own, ("", inputs.published, True)]:
        alone = [each.where(each.batch == 1) for each in samples if (each.batch == 1).any()]
        for stack in dict.fromkeys(each.hardware for each in alone):
            yield f"{prefix}{stack}", [each for each in alone if each.hardware == stack], shipped


def _left_out(samples: Sequence[Measured]) -> list[Judged]:
    try:
        return leave_out_models(samples)
    except (SamplesError, HardwareError):
        return []  # no architectures, or no roofline: nothing can be predicted


def _off_models(overall: dict[str, Any]) -> str:
    median, worst = (percent(overall["overall"][name]) for name in ("median_model", "worst_model"))
    return f"a model that was never run is off by {median} in the median, by {worst} at worst"


def _models(title: str, samples: Sequence[Measured], judged: Sequence[Judged]) -> Iterator[Part]:
    if not judged:
        return
    overall = judge(judged)
    held = overall["coverage"]["mean"] if "coverage" in overall else None
    bands = "" if held is None else f"; its 80% bands held {percent(held)} of the runs"
    medians = f"{percent(overall['overall']['median_model'])} for the median model"
    worst = f"{percent(overall['overall']['worst_model'])} for the worst"
    yield Text(f"Predicted without ever having been run, a model's runtimes are off by {medians} and {worst}{bands}.")
    yield Table(_HEAD, [[model, *_numbers(errors)] for model, errors in overall["models"].items()])
    truth = dict(zip(called(samples), samples, strict=True))
    yield _scatter(title, judged, truth)
    yield _by_prompt(f"{title}: models left out", judged)


_HEAD = ("left out", "mean error", "median", "p95", "points")


def _numbers(errors: dict[str, float | int]) -> list[str]:
    return [*(percent(float(errors[name])) for name in ("mean", "median", "p95")), f"{errors['points']:,}"]


def _present(title: str, samples: Sequence[Measured]) -> Iterator[Part]:
    """Against what a present server on this device should take: no run of these went into that."""
    device = samples[0].hardware.partition("-")[0].lower()  # a stack's name begins with it
    if device not in DEVICES or any(device_name(each.hardware) for each in samples):
        return  # plain devices ran the software of their time, which a present server is not
    stack = hardware(DEVICES[device])
    series, rows = [], []
    for name, each in zip(row_names(samples), samples, strict=True):
        ratio = _over_predicted(each, stack)
        if ratio is not None:
            series.append(Series(name, ratio.tolist(), points=True, x=each.prompt.tolist()))
            rows.append([name, *(number(float(at)) for at in np.quantile(ratio, [0.5, 0.05, 0.95]))])
    if not rows:
        return
    yield Text(
        f"Beside what a present server should take ({stack.label}; predicted, and no run of these went into it):"
    )
    yield Table(("measured over predicted", "median", "5%", "95%"), rows)
    note = "1: as long as predicted for a present server."
    yield Figure(f"{title}: beside a present server", [], series, y_label="measured over predicted", note=note)


def _over_predicted(measured: Measured, stack: Hardware) -> NDArray[np.float64] | None:
    if measured.architecture is None:
        return None
    try:
        found = predict(measured.architecture, stack, tensor=measured.tensor)
    except ArchitectureError:
        return None  # so many devices cannot share it
    return measured.seconds / runtimes(found.coefficients, replace(measured, scale=1.0))


def _scatter(title: str, judged: Sequence[Judged], truth: dict[str, Measured]) -> Figure:
    """Predicted against measured: on the line they are the same."""
    series = []
    for each in judged:
        seconds = truth[each.model].seconds * truth[each.model].scale
        predicted = seconds * (1 + each.errors)
        series.append(Series(each.model, predicted.tolist(), points=True, x=seconds.tolist()))
    ends = [value for each in series for value in (*(each.x or ()), *each.y) if value is not None]
    diagonal = [min(ends), max(ends)]
    series.append(Series("predicted as measured", diagonal, x=diagonal, dash=True, colour=7))
    return Figure(
        f"{title}: models left out, predicted and measured",
        diagonal,
        series,
        x_label="measured, seconds",
        y_label="predicted, seconds",
        log_x=True,
        log_y=True,
    )


def _by_prompt(title: str, judged: Sequence[Judged]) -> Figure:
    series = [
        Series(each.model, (100 * each.errors).tolist(), points=True, x=each.prompt.tolist())
        for each in judged
        if each.prompt is not None and len(each.errors)
    ]
    note = "Above 0 the prediction is too long, below too short."
    return Figure(f"{title}, errors", [], series, y_label="error, %", note=note, log_y=False)


@dataclass(frozen=True, slots=True)
class _Sizes:
    """Prompt sizes left out: the errors of each way to find F there. `some` of `count` were tried.

    `every`: the mean errors of the same ways at all of them, where they are known.
    """

    judged: Sequence[Judged]
    errors: dict[str, dict[str, float | int]]
    some: int
    count: int
    every: tuple[str, ...] = ()

    @property
    def mean(self) -> str:
        """How far off the fit is."""
        return percent(float(self.errors[_HERE]["mean"]))

    @property
    def tried(self) -> str:
        """At how many sizes."""
        return (
            plural(self.count, "prompt size")
            if self.some == self.count
            else f"{self.some} of {self.count} prompt sizes"
        )


def _sizes(samples: Sequence[Measured], *, shipped: bool) -> _Sizes | None:
    """None where no size lies between others."""
    cases = [(number, size) for number, each in enumerate(samples) for size in interior_sizes(each)]
    if not cases:
        return None
    chosen = {cases[place] for place in np.linspace(0, len(cases) - 1, min(_SIZES, len(cases))).round().astype(int)}
    judged = leave_out_sizes(samples, chosen)
    ways = {_HERE: judged, **_papers(samples, chosen, shipped=shipped)}
    errors = {way: np.concatenate([each.errors for each in found]) for way, found in ways.items()}
    complete = {way: errors_of(each) for way, each in errors.items() if len(each) == len(chosen)}
    every = _ALL.get(samples[0].hardware, ()) if shipped else ()
    return _Sizes(judged, complete, len(chosen), len(cases), every)


def _off_sizes(sizes: _Sizes) -> str:
    return f"F at {sizes.tried}, each never seen by the fit, is off by {sizes.mean} in the mean"


def _inner(title: str, sizes: _Sizes | None) -> Iterator[Part]:
    if sizes is None:
        return
    yield Text(f"F at {sizes.tried}, each never seen by the fit, is off by {sizes.mean} in the mean.{_rest(sizes)}")
    rows = [[way, *_numbers(errors)] for way, errors in sizes.errors.items()]
    yield Table(("how F is found between prompt sizes", *_HEAD[1:]), rows)
    yield _by_prompt(f"{title}: prompt sizes left out", sizes.judged)


def _rest(sizes: _Sizes) -> str:
    """Where the figure of all sizes is to be had, and what it is if that is known."""
    if sizes.some == sizes.count:
        return ""
    where = " These are spread over all there are; profiler crossval --leave-out prompt-size takes all"
    if not sizes.every:
        return f"{where}."
    ours, lines, helm = sizes.every
    return (
        f"{where} {sizes.count}: {ours}, and {lines} with the published coefficients and straight lines between, {helm}"
        " as HELM reads them (docs/profiling.md)."
    )


def _papers(samples: Sequence[Measured], chosen: set[tuple[int, int]], *, shipped: bool) -> dict[str, list[Judged]]:
    """The paper's method, whose coefficients are published for the measurements that ship and for no others."""
    found = leave_out_published(samples, chosen)
    if shipped:
        lines, helm = "published coefficients, straight lines between", "published coefficients, as HELM reads them"
    else:
        lines, helm = "method paper, straight lines between", "method paper, as HELM reads its tables"
    return {lines: found["linear"], helm: found["paper"]}
