"""The format of coefficient tables: strict reading of one file, and the rows and stacks it holds.

A file is `{"format": 1, "stacks": {STACK: {"hardware", "software", "date", "source", "models": {NAME: row}}}}`.
`{"models": {NAME: row}}` and a bare `{NAME: row}`, such as HELM's own JSON, hold one stack without a name.
A row is HELM's: `runtime_per_output_token` (s), `runtime_for_prompt_tokens` (prompt tokens as string keys to
seconds) and `overhead` (s); plus, all optional, `context_seconds_per_token2`, `quadratic` [a, b, c],
`provenance`, `proxy_of`, `fit` (how it meets what was measured), `fit_error` (a fraction), `intervals` (factors of
the value), `accelerators` (how many the model ran on), `flops` (`stream.flops`), `watts` (of one accelerator), `served`
(one request's share where a batch is served), `source`, `note`; and what a baseline says of itself
(`stream.baselines`), which is passed over here. A stack may also say `dollars_per_accelerator_hour` and, by a name that
`stream.constants` knows, its `accelerator`.
"""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, get_args

from stream.baselines import Baseline
from stream.events import Provenance
from stream.flops import Flops
from stream.runtime import Coefficients
from stream.strict_json import (
    LARGEST,
    At,
    TableError,
    count,
    number,
    object_,
    one_of,
    only_keys,
    optional,
    ordinary,
    parse,
    read_file,
    shown,
    text,
)  # fmt: skip

__all__ = [
    "FORMAT", "Fit", "Row", "Served", "Stack", "StackKind", "TableError", "TableFile", "Watts", "parse_table",
    "read_table", "stack_to_json",
]  # fmt: skip

FORMAT = 1

StackKind = Literal["reference", "denoised"]

_STACK_TEXTS = ("hardware", "software", "date", "source", "note", "accelerator")
_PRICE = "dollars_per_accelerator_hour"
_STACK_KEYS = frozenset({*_STACK_TEXTS, _PRICE, "kind", "models"})
_ROW_KEYS = frozenset({
    "runtime_per_output_token", "runtime_for_prompt_tokens", "overhead", "context_seconds_per_token2", "quadratic",
    "provenance", "proxy_of", "fit", "fit_error", "intervals", "accelerators", "flops", "watts", "served", "source",
    "note",
})  # fmt: skip
_FIT_KEYS = frozenset({"method", "points", "r2", "median_error", "p95_error", "max_error"})
_BASELINE_KEYS = frozenset(Baseline.__struct_fields__) - frozenset(Coefficients.__dataclass_fields__)
_QUADRATIC_TERMS = 3
_WATTS_KEYS = frozenset({"prompt", "output", "interval", "source"})
_SERVED_KEYS = frozenset(
    {"batch", "runtime_per_output_token", "runtime_for_prompt_tokens", "context_seconds_per_token2", "watts"}
)
_FLOPS_KEYS = frozenset(Flops.__dataclass_fields__)
_LARGEST_FLOPS = 1e18  # of a token


@dataclass(frozen=True, slots=True)
class Fit:
    """How a row's T meets the runs it was fitted to: the median, 95th percentile and largest of |T / measured - 1|.

    `points` counts the runs; `r2` is R^2, at most 1, and below 0 where their mean would do better.
    """

    method: str
    points: int
    r2: float
    median_error: float
    p95_error: float
    max_error: float


@dataclass(frozen=True, slots=True)
class Watts:
    """Mean power of one accelerator's board while it encodes a prompt and while it gives output tokens.

    `interval` are the factors of either between which it lies, as far as is known.
    """

    prompt: float
    output: float
    interval: tuple[float, float] = (1.0, 1.0)
    source: str | None = None


@dataclass(frozen=True, slots=True)
class Served:
    """One request's share of an instance that serves `batch` requests at once.

    `coefficients` are those of its seconds: of a step over the whole batch, each request has a part of 1 / `batch`.
    """

    batch: int
    coefficients: Coefficients
    watts: Watts | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """One model's coefficients on one stack, and where they come from. `fit_error` is a fraction (0.03: 3 %).

    `accelerators` is how many devices one instance of the model ran on.
    """

    name: str
    coefficients: Coefficients
    provenance: Provenance = "measured"
    proxy_of: str | None = None
    fit_error: float | None = None
    intervals: Mapping[str, Any] | None = None
    source: str | None = None
    note: str | None = None
    fit: Fit | None = None
    accelerators: int | None = None
    flops: Flops | None = None
    watts: Watts | None = None
    served: Served | None = None


@dataclass(frozen=True, slots=True)
class Stack:
    """Rows measured on one hardware and software. Only the kind `reference` may stand for a model's cost."""

    name: str
    rows: Mapping[str, Row]
    hardware: str | None = None
    software: str | None = None
    date: str | None = None
    source: str | None = None
    note: str | None = None
    accelerator: str | None = None
    kind: StackKind = "reference"
    dollars_per_accelerator_hour: float | None = None


@dataclass(frozen=True, slots=True)
class TableFile:
    """What one file holds: stacks, or one stack without a name (named ""); `settings` are the other keys."""

    stacks: tuple[Stack, ...]
    settings: Mapping[str, Any]


def read_table(path: Path) -> TableFile:
    """Read and check one file; raise TableError with the file, the path inside it and what was expected."""
    return parse_table(read_file(path), str(path))


def parse_table(content: bytes, file: str) -> TableFile:
    """Check the content of one file, which errors call `file`."""
    top, at = object_(parse(content, file), At(file)), At(file)
    if _holds("models", top):
        _format(top, at)
        return TableFile((_stack("", _without(top, "format"), at),), {})
    if "format" in top or _holds("stacks", top):
        _format(top, at)
        stacks = object_(top.get("stacks"), at / "stacks") or (at / "stacks").wrong("at least one stack")
        if "" in stacks:
            (at / "stacks").wrong("a name for every stack")
        found = tuple(_stack(name, stack, at / "stacks" / name) for name, stack in stacks.items())
        return TableFile(found, _without(top, "format", "stacks"))
    return TableFile((Stack("", _rows(top, at)),), {})


def stack_to_json(stack: Stack) -> dict[str, Any]:
    """Give a stack as the file format has it, so that reading it again gives the same stack."""
    described = {key: getattr(stack, key) for key in (*_STACK_TEXTS, "kind", _PRICE)}
    return {**_given(described), "models": {name: _row_to_json(row) for name, row in stack.rows.items()}}


def _row_to_json(row: Row) -> dict[str, Any]:
    numbers = row.coefficients
    return {
        **_coefficients_to_json(numbers),
        "overhead": numbers.overhead,
        "context_seconds_per_token2": numbers.context,
        **_given({"quadratic": numbers.quadratic and list(numbers.quadratic)}),
        **_given({key: getattr(row, key) for key in ("provenance", "proxy_of")}),
        **_given({"fit": row.fit and asdict(row.fit), "fit_error": row.fit_error}),
        **_given({"intervals": row.intervals and dict(row.intervals)}),
        **_given({"accelerators": row.accelerators, "flops": row.flops and asdict(row.flops)}),
        **_given(
            {"watts": row.watts and _watts_to_json(row.watts), "served": row.served and _served_to_json(row.served)}
        ),
        **_given({key: getattr(row, key) for key in ("source", "note")}),
    }


def _coefficients_to_json(numbers: Coefficients) -> dict[str, Any]:
    knots = zip(numbers.knots, numbers.prompt_seconds, strict=True)
    return {
        "runtime_per_output_token": numbers.per_output_token,
        "runtime_for_prompt_tokens": {str(knot): seconds for knot, seconds in knots},
    }


def _served_to_json(served: Served) -> dict[str, Any]:
    return {
        "batch": served.batch,
        **_coefficients_to_json(served.coefficients),
        "context_seconds_per_token2": served.coefficients.context,
        **_given({"watts": served.watts and _watts_to_json(served.watts)}),
    }


def _watts_to_json(watts: Watts) -> dict[str, Any]:
    interval = list(watts.interval)
    return {"prompt": watts.prompt, "output": watts.output, "interval": interval, **_given({"source": watts.source})}


def _given(fields: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if value is not None}


def _without(record: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in record.items() if key not in keys}


def _holds(key: str, top: dict[str, Any]) -> bool:
    """Tell a wrapper's key from a bare table's model that happens to bear its name."""
    inner = top.get(key)
    return key in top and not (isinstance(inner, dict) and "runtime_per_output_token" in inner)


def _format(top: dict[str, Any], at: At) -> None:
    number = top.get("format", FORMAT)
    if isinstance(number, bool) or number != FORMAT:
        (at / "format").wrong(f"{FORMAT}, the only format this program reads, found {shown(number)}")


def _stack(name: str, value: Any, at: At) -> Stack:
    record = object_(value, at)
    only_keys(record, _STACK_KEYS, at)
    texts = {key: text(record.get(key), at / key) for key in _STACK_TEXTS}
    return Stack(
        name=name,
        rows=_rows(record.get("models"), at / "models"),
        kind=one_of(record.get("kind", "reference"), get_args(StackKind), at / "kind"),
        dollars_per_accelerator_hour=optional(number, record.get(_PRICE), at / _PRICE),
        **texts,
    )


def _rows(value: Any, at: At) -> Mapping[str, Row]:
    models = object_(value, at) or at.wrong("at least one model")
    return MappingProxyType({name: _row(name, row, at / name) for name, row in models.items()})


def _row(name: str, value: Any, at: At) -> Row:
    row = object_(value, at)
    only_keys([key for key in row if key not in _BASELINE_KEYS], _ROW_KEYS, at)
    intervals = row.get("intervals")
    return Row(
        name=name,
        coefficients=_coefficients(row, at),
        provenance=one_of(row.get("provenance", "measured"), get_args(Provenance), at / "provenance"),
        proxy_of=text(row.get("proxy_of"), at / "proxy_of"),
        fit_error=optional(number, row.get("fit_error"), at / "fit_error"),
        intervals=optional(object_, intervals, at / "intervals"),
        source=text(row.get("source"), at / "source"),
        note=text(row.get("note"), at / "note"),
        fit=optional(_fit, row.get("fit"), at / "fit"),
        accelerators=optional(count, row.get("accelerators"), at / "accelerators"),
        flops=optional(_flops, row.get("flops"), at / "flops"),
        watts=optional(_watts, row.get("watts"), at / "watts"),
        served=optional(_served, row.get("served"), at / "served"),
    )


def _fit(value: Any, at: At) -> Fit:
    record = object_(value, at)
    only_keys(record, _FIT_KEYS, at)
    return Fit(
        method=text(record.get("method"), at / "method") or (at / "method").wrong("the name of a method"),
        points=count(record.get("points"), at / "points"),
        r2=_r2(record.get("r2"), at / "r2"),
        **{key: number(record.get(key), at / key) for key in ("median_error", "p95_error", "max_error")},
    )


def _flops(value: Any, at: At) -> Flops:
    record = object_(value, at)
    only_keys(record, _FLOPS_KEYS, at)
    per = {key: number(record.get(key, 0.0), at / key, _LARGEST_FLOPS) for key in _FLOPS_KEYS if key != "window"}
    return Flops(**per, window=0 if record.get("window", 0) == 0 else count(record["window"], at / "window"))


def _watts(value: Any, at: At) -> Watts:
    record = object_(value, at)
    only_keys(record, _WATTS_KEYS, at)
    prompt, output = (number(record.get(key), at / key) for key in ("prompt", "output"))
    interval = _interval(record.get("interval", [1.0, 1.0]), at / "interval")
    return Watts(prompt, output, interval, text(record.get("source"), at / "source"))


def _interval(value: Any, at: At) -> tuple[float, float]:
    if not isinstance(value, list) or len(value) != 2 or not all(map(ordinary, value)) or not 0 < value[0] <= value[1]:
        at.wrong(f"two numbers [low, high], above 0, found {shown(value)}")
    return number(value[0], at), number(value[1], at)


def _served(value: Any, at: At) -> Served:
    record = object_(value, at)
    only_keys(record, _SERVED_KEYS, at)
    watts = optional(_watts, record.get("watts"), at / "watts")
    return Served(count(record.get("batch"), at / "batch"), _coefficients(record, at), watts)


def _r2(value: Any, at: At) -> float:
    if not ordinary(value) or not -LARGEST <= value <= 1:
        at.wrong(f"a number, 1 or less, found {shown(value)}")
    return float(value)


def _coefficients(row: dict[str, Any], at: At) -> Coefficients:
    prompts = at / "runtime_for_prompt_tokens"
    knots = object_(row.get("runtime_for_prompt_tokens"), prompts) or prompts.wrong("at least one prompt size")
    seconds = sorted((_knot(key, prompts / key), number(f, prompts / key)) for key, f in knots.items())
    return Coefficients(
        per_output_token=number(row.get("runtime_per_output_token"), at / "runtime_per_output_token"),
        knots=tuple(knot for knot, _ in seconds),
        prompt_seconds=tuple(f for _, f in seconds),
        overhead=number(row.get("overhead", 0.0), at / "overhead"),
        context=number(row.get("context_seconds_per_token2", 0.0), at / "context_seconds_per_token2"),
        quadratic=optional(_quadratic, row.get("quadratic"), at / "quadratic"),
    )


def _quadratic(value: Any, at: At) -> tuple[float, float, float]:
    if not isinstance(value, list) or len(value) != _QUADRATIC_TERMS:
        at.wrong(f"three numbers [a, b, c], found {shown(value)}")
    a, b, c = (number(term, at) for term in value)
    return a, b, c


def _knot(key: str, at: At) -> int:
    if not re.fullmatch(r"[1-9][0-9]{0,11}", key, re.ASCII):
        at.wrong("a whole number of tokens, 1 or more, as key")
    return int(key)
