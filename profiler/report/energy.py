"""Joules: of a request alone, of its share of a busy server, and of an output token by how many are served at once."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from profiler.compare import PAPER_MODELS, PAPER_STACKS
from profiler.document import Heading, Part, Section, Table, Text
from profiler.energy import Serving
from profiler.energy_fit import bands, shipped
from profiler.energy_subject import subject
from profiler.hardware import hardware
from profiler.plot import Figure, Folded, Series
from profiler.report.inputs import Inputs
from profiler.report.stacks import OUTPUT, PROMPT
from profiler.report.words import UNKNOWN, band, number
from profiler.roofline import place
from profiler.spec import named
from stream.coefficients import Tables
from stream.cost import Basis, RowCosts

__all__ = ["section"]

_BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_BASES: dict[Basis, str] = {"dedicated": "alone", "served": "its share of a full batch"}
_FEW = 20  # so many models make a figure that is still seen at once
_REPLY = 500.0  # output tokens of a chat reply
_DEVICE = "h100"
_SERVED = (
    "meta-llama/llama-3.1-8b",
    "meta-llama/llama-3.1-70b",
    "qwen/qwen3-32b",
    "qwen/qwen3-30b-a3b",
    "openai/gpt-oss-120b",
)


@dataclass(frozen=True, slots=True)
class _Joules:
    """Of one model's request, with the ends of its band."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class _Model:
    """One model on one stack: watts of each accelerator while it decodes alone, and joules by basis."""

    name: str
    accelerators: int | None
    watts: float | None
    joules: Mapping[Basis, _Joules]


def section(inputs: Inputs) -> Section:
    """Predicted from the tables' watts; the paper measured no power."""
    tables, request = inputs.tables, f"a request of {PROMPT} prompt and {OUTPUT} output tokens"
    parts: list[Part] = [
        Text(
            f"Joules of {request}, of the server it runs on (its accelerators' watts times the server's factor),"
            " without cooling. Watts are predicted from bytes and FLOPs a second where no table tells them."
        )
    ]
    for stack in tables.references:
        models = PAPER_MODELS if stack in PAPER_STACKS else list(tables.stacks[stack].rows)
        found = sorted(_found(tables, stack, models), key=lambda each: each.joules["dedicated"].value)
        parts += _stack(stack, found) if found else []
    joules = _batches()
    return Section("Energy", [*parts, *_batch_parts(joules)], f"{_by_batch(joules)}.")


def _stack(stack: str, found: Sequence[_Model]) -> Iterator[Part]:
    yield Heading(stack)
    least, most = found[0], found[-1]
    span = f"{number(least.joules['dedicated'].value)} J ({least.name}) to {number(most.joules['dedicated'].value)} J"
    yield Text(f"A request alone takes from {span} ({most.name}).{_shared(found)}")
    bases = [basis for basis in _BASES if any(basis in each.joules for each in found)]
    names = [each.name for each in found]
    series = [_series(found, basis) for basis in bases]
    title = f"{stack}: joules of a request"
    figure = Figure(title, range(len(found)), series, x_label="model", y_label="joules", names=names)
    yield figure if len(found) <= _FEW else Folded(title, [figure])
    rows = [[each.name, str(each.accelerators or UNKNOWN), number(each.watts), *_cells(each, bases)] for each in found]
    yield Table(["model", "accelerators", "watts of each, decoding", *(f"J, {_BASES[basis]}" for basis in bases)], rows)


def _shared(found: Sequence[_Model]) -> str:
    both = [each.joules for each in found if "served" in each.joules]
    if not both:
        return ""
    less = [joules["dedicated"].value / joules["served"].value for joules in both]
    return f" Its share of a full batch takes {number(median(less))} times less in the median."


def _series(found: Sequence[_Model], basis: Basis) -> Series:
    held = [(place, each.joules[basis]) for place, each in enumerate(found) if basis in each.joules]
    value, low, high = ([getattr(joules, end) for _, joules in held] for end in ("value", "low", "high"))
    places = [place for place, _ in held]
    return Series(_BASES[basis], value, low, high, points=True, x=places, dash=basis == "served")


def _cells(model: _Model, bases: Sequence[Basis]) -> Iterator[str]:
    for basis in bases:
        joules = model.joules.get(basis)
        yield UNKNOWN if joules is None else band(joules.value, joules.low, joules.high)


def _found(tables: Tables, stack: str, models: Sequence[str]) -> Iterator[_Model]:
    for model in models:
        row = tables.row(stack, model)
        costs = None if row is None else tables.costs(stack, row)
        if row is None or costs is None:
            continue
        joules = {basis: found for basis in _BASES if (found := _joules(costs, basis)) is not None}
        if "dedicated" in joules:
            watts = costs.watts("dedicated")
            yield _Model(model, row.accelerators, None if watts is None else watts.output, joules)


def _joules(costs: RowCosts, basis: Basis) -> _Joules | None:
    work, factors = costs.dedicated if basis == "dedicated" else costs.served, costs.bands(basis)
    value = None if work is None else work(PROMPT, OUTPUT).energy_joules
    if value is None or factors is None:
        return None
    low, high = factors.energy_joules
    return _Joules(value, value * low, value * high)


def _batches() -> list[Series]:
    """Joules of an output token against requests at once, a series a model."""
    found = [(model, *(each.tolist() for each in bands(_servings(model), shipped()))) for model in _SERVED]
    return [Series(model, middle, low, high) for model, middle, low, high in found]


def _by_batch(joules: Sequence[Series]) -> str:
    first = joules[0]
    alone, many = (number(first.y[place]) for place in (0, -1))
    return (
        f"On H100s, prompts included, boards alone, {first.label} takes {alone} J an output token alone and {many} J"
        f" with {_BATCHES[-1]} requests at once (predicted)"
    )


def _batch_parts(joules: Sequence[Series]) -> Iterator[Part]:
    """Why alone and served are told apart."""
    yield Heading("Joules of an output token by requests at once")
    yield Text(f"{_by_batch(joules)}. Bands hold about 80%.")
    yield Figure(
        "H100: joules of an output token",
        list(_BATCHES),
        joules,
        x_label="requests at once",
        y_label="joules",
        log_x=True,
        log_y=True,
    )
    rows = [[each.label, *map(number, each.y)] for each in joules]
    yield Table(["J a token, with so many at once", *map(str, _BATCHES)], rows)


def _servings(model: str) -> list[Serving]:
    architecture = named(model)
    devices = place(architecture, hardware(_DEVICE)).tensor
    total, active = (architecture.total_parameters(active=active) / 1e9 for active in (False, True))
    asked = subject(model, "", total, active, architecture.weights)
    return [Serving(asked, _DEVICE, devices, 1, devices, float(batch), _REPLY) for batch in _BATCHES]
