"""The same models on all stacks that have them: one typical request, the first token, and each further one."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from profiler.compare import bounds
from profiler.document import Part, Section, Table, Text
from profiler.hardware import hardware
from profiler.plot import Figure, Series
from profiler.prediction import predict
from profiler.report.inputs import Inputs
from profiler.report.words import UNKNOWN, listed, number, plural, span
from stream.coefficients import Tables
from stream.runtime import Coefficients, runtime_function

__all__ = ["OUTPUT", "PROMPT", "section"]

PROMPT, OUTPUT = 512, 64
"""A typical request, in tokens."""

_NAMED = 3  # stacks in the finding: one's own come last
_PRESENT = ("h100", "h100, predicted from the shape")


@dataclass(frozen=True, slots=True)
class _Found:
    """Seconds of one model on one stack: the typical request with its band, F there, and beta."""

    seconds: float
    first: float
    further: float
    low: float | None = None
    high: float | None = None


def section(inputs: Inputs) -> Section | None:
    """None where no model is on two stacks."""
    found = _found(inputs)
    models = [name for name in _models(inputs.tables) if sum(name in here for here in found.values()) > 1]
    if not models:
        return None
    kept = {stack: here for stack, here in found.items() if any(name in here for name in models)}
    request = f"{PROMPT} prompt and {OUTPUT} output tokens"
    findings = list(_findings(kept, models))
    parts: list[Part] = [
        Text(f"One request of {request}, alone, on every stack that has the model."),
        *(Text(f"{short} ({ratios}), of {of}.") for short, ratios, of in findings),
        _figure(f"T of {request}", kept, models, "seconds"),
        _figure(f"F({PROMPT}): the first token", kept, models, "first"),
        _figure("beta: each further token", kept, models, "further"),
        *_tables(kept, models),
    ]
    short = "; ".join(short for short, *_ in findings[-_NAMED:])
    return Section("Stacks side by side", parts, f"A request of {request}: {short}.")


def _models(tables: Tables) -> list[str]:
    """Rows of any stack, each once: of proxies none, and of several names of the same numbers the last."""
    rows = [row for stack in tables.stacks.values() for row in stack.rows.values()]
    proxies = {row.name for row in rows if row.proxy_of}
    names = dict.fromkeys(row.name for row in rows if row.name not in proxies)
    return list({_numbers(tables, name): name for name in names}.values())


def _numbers(tables: Tables, name: str) -> tuple[Coefficients | None, ...]:
    rows = (stack.rows.get(name) for stack in tables.stacks.values())
    return tuple(None if row is None else row.coefficients for row in rows)


def _found(inputs: Inputs) -> dict[str, dict[str, _Found]]:
    """By stack and model. Of the paper's shapes, which nobody runs today, what a present server would make."""
    tables, found = inputs.tables, dict[str, dict[str, _Found]]()
    for name in tables.stacks:
        for model in _models(tables):
            row = tables.row(name, model)
            if row is None or row.proxy_of:
                continue
            runtime, within = tables.runtime(name, row), bounds(tables, name, row)
            edges = (None, None) if within is None else within(PROMPT, OUTPUT)
            further = (runtime(PROMPT, OUTPUT) - runtime(PROMPT, 1)) / (OUTPUT - 1)
            found.setdefault(name, {})[model] = _Found(runtime(PROMPT, OUTPUT), runtime(PROMPT, 1), further, *edges)
    present, label = _PRESENT
    found[label] = {
        each.model: _predicted(predict(each.architecture, hardware(present), tensor=each.tensor).coefficients)
        for each in inputs.published
        if each.architecture is not None and each.hardware == "a100" and each.scale == 1
    }
    return found


def _predicted(coefficients: Coefficients) -> _Found:
    runtime = runtime_function(coefficients)
    whole, first = runtime(PROMPT, OUTPUT), runtime(PROMPT, 1)
    return _Found(whole, first, (whole - first) / (OUTPUT - 1))


def _findings(found: Mapping[str, Mapping[str, _Found]], models: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    """Every stack against the first before it that has models in common with it; the span, and which models."""
    for before, stack in enumerate(found):
        shared = {
            first: [name for name in models if name in found[first] and name in found[stack]]
            for first in list(found)[:before]
        }
        first, both = next(((first, both) for first, both in shared.items() if both), ("", []))
        if not both:
            continue
        ratios = [found[stack][name].seconds / found[first][name].seconds for name in both]
        middle = f"{stack} takes {number(median(ratios))} times as long as {first} in the median"
        yield middle, span(ratios), f"{plural(len(both), 'model')}: {listed(both)}"


def _figure(title: str, found: Mapping[str, Mapping[str, _Found]], models: Sequence[str], what: str) -> Figure:
    series = []
    for place, (stack, here) in enumerate(found.items()):
        places = [at for at, name in enumerate(models) if name in here]
        held = [here[models[at]] for at in places]
        banded = what == "seconds" and any(each.low is not None for each in held)
        series.append(
            Series(
                stack,
                [getattr(each, what) for each in held],
                [each.low for each in held] if banded else None,
                [each.high for each in held] if banded else None,
                points=True,
                x=places,
                colour=place,
                dash="predicted" in stack,
            )
        )
    return Figure(title, range(len(models)), series, x_label="model", names=models)


def _tables(found: Mapping[str, Mapping[str, _Found]], models: Sequence[str]) -> Iterator[Table]:
    measures = {"T, s": ("seconds", 1.0), f"F({PROMPT}), ms": ("first", 1e3), "beta, ms": ("further", 1e3)}
    for title, (what, unit) in measures.items():
        rows = []
        for name in models:
            held = [here.get(name) for here in found.values()]
            rows.append([name, *(UNKNOWN if each is None else number(unit * getattr(each, what)) for each in held)])
        yield Table([title, *found], rows)
