"""The format of coefficient tables: strict reading of one file, and the rows and stacks it holds.

A file is `{"format": 1, "stacks": {STACK: {"hardware", "software", "date", "source", "models": {NAME: row}}}}`.
`{"models": {NAME: row}}` and a bare `{NAME: row}`, such as HELM's own JSON, hold one stack without a name.
A row is HELM's: `runtime_per_output_token` (s), `runtime_for_prompt_tokens` (prompt tokens as string keys to
seconds) and `overhead` (s); plus, all optional, `context_seconds_per_token2`, `quadratic` [a, b, c],
`provenance`, `proxy_of`, `fit` (how it meets what was measured), `fit_error` (a fraction), `intervals` (factors of
the value), `accelerators` (how many the model ran on), `source`, `note`; and what a baseline says of itself
(`stream.baselines`), which is passed over here. A stack may also say `dollars_per_accelerator_hour`.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NoReturn, TypeVar, get_args

from stream.baselines import Baseline
from stream.events import Provenance
from stream.runtime import Coefficients

__all__ = ["FORMAT", "Fit", "Row", "Stack", "StackKind", "TableError", "TableFile", "read_table", "stack_to_json"]

FORMAT = 1

Checked = TypeVar("Checked")

StackKind = Literal["reference", "denoised"]

_STACK_TEXTS = ("hardware", "software", "date", "source", "note")
_PRICE = "dollars_per_accelerator_hour"
_STACK_KEYS = frozenset({*_STACK_TEXTS, _PRICE, "kind", "models"})
_ROW_KEYS = frozenset(
    {
        "runtime_per_output_token",
        "runtime_for_prompt_tokens",
        "overhead",
        "context_seconds_per_token2",
        "quadratic",
        "provenance",
        "proxy_of",
        "fit",
        "fit_error",
        "intervals",
        "accelerators",
        "source",
        "note",
    }
)
_FIT_KEYS = frozenset({"method", "points", "r2", "median_error", "p95_error", "max_error"})
_BASELINE_KEYS = frozenset(Baseline.__struct_fields__) - frozenset(Coefficients.__dataclass_fields__)
_QUADRATIC_TERMS = 3
_SHOWN_CHARACTERS = 40
_LARGEST = 1e9  # seconds: keeps infinities, which no measurement yields, out of every sum


class TableError(ValueError):
    """A coefficient table that cannot be used. One line: the file, the path inside it, what was expected.

    `setting` names what asked for it, so that a configuration can say where: ("stack",), ("tables", number),
    ("aliases", name), ("assume", name); empty where nothing did.
    """

    def __init__(self, message: str, *setting: str | int) -> None:
        super().__init__(message)
        self.setting = setting


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
    kind: StackKind = "reference"
    dollars_per_accelerator_hour: float | None = None


@dataclass(frozen=True, slots=True)
class TableFile:
    """What one file holds: stacks, or one stack without a name (named ""); `settings` are the other keys."""

    stacks: tuple[Stack, ...]
    settings: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _At:
    """A place in a file, for errors."""

    file: str
    path: str = "$"

    def __truediv__(self, key: str) -> "_At":
        plain = re.fullmatch(r"[\w/:@+.-]+", key)
        return _At(self.file, f"{self.path}.{key}" if plain else f"{self.path}[{json.dumps(key)}]")

    def wrong(self, expected: str) -> NoReturn:
        raise TableError(f"{self.file}: {self.path}: expected {expected}")


def read_table(path: Path) -> TableFile:
    """Read and check one file; raise TableError with the file, the path inside it and what was expected."""
    try:
        content = path.read_bytes()
    except IsADirectoryError:
        raise TableError(f"{path}: is a directory; expected a coefficient table (a JSON file)") from None
    except OSError as error:
        raise TableError(f"{path}: cannot be read: {error.strerror or error}") from None
    return parse_table(content, str(path))


def parse_table(content: bytes, file: str) -> TableFile:
    """Check the content of one file, which errors call `file`."""
    top, at = _object(_parse(content, file), _At(file)), _At(file)
    if _holds("models", top):
        _format(top, at)
        return TableFile((_stack("", _without(top, "format"), at),), {})
    if "format" in top or _holds("stacks", top):
        _format(top, at)
        stacks = _object(top.get("stacks"), at / "stacks") or (at / "stacks").wrong("at least one stack")
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
    knots = zip(numbers.knots, numbers.prompt_seconds, strict=True)
    return {
        "runtime_per_output_token": numbers.per_output_token,
        "runtime_for_prompt_tokens": {str(knot): seconds for knot, seconds in knots},
        "overhead": numbers.overhead,
        "context_seconds_per_token2": numbers.context,
        **_given({"quadratic": numbers.quadratic and list(numbers.quadratic)}),
        **_given({key: getattr(row, key) for key in ("provenance", "proxy_of")}),
        **_given({"fit": row.fit and asdict(row.fit), "fit_error": row.fit_error}),
        **_given({"intervals": row.intervals and dict(row.intervals)}),
        **_given({key: getattr(row, key) for key in ("accelerators", "source", "note")}),
    }


def _given(fields: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if value is not None}


def _without(record: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in record.items() if key not in keys}


def _parse(content: bytes, file: str) -> Any:
    try:
        text = content.decode("utf-8-sig")
        return json.loads(text, object_pairs_hook=_unrepeated, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise TableError(f"{file}: line {error.lineno}, column {error.colno}: not valid JSON: {error.msg}") from None
    except UnicodeDecodeError as error:
        raise TableError(f"{file}: byte {error.start}: expected UTF-8 text") from None
    except RecursionError:
        raise TableError(f"{file}: nested too deeply") from None
    except ValueError as error:
        raise TableError(f"{file}: {error}") from None


def _unrepeated(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"expected every key of an object once, found {json.dumps(twice)} again")
    return record


def _refuse_constant(constant: str) -> NoReturn:
    raise ValueError(f"expected numbers that are finite, found {constant}")


def _holds(key: str, top: dict[str, Any]) -> bool:
    """Tell a wrapper's key from a bare table's model that happens to bear its name."""
    inner = top.get(key)
    return key in top and not (isinstance(inner, dict) and "runtime_per_output_token" in inner)


def _format(top: dict[str, Any], at: _At) -> None:
    number = top.get("format", FORMAT)
    if isinstance(number, bool) or number != FORMAT:
        (at / "format").wrong(f"{FORMAT}, the only format this program reads, found {_shown(number)}")


def _stack(name: str, value: Any, at: _At) -> Stack:
    record = _object(value, at)
    _only_keys(record, _STACK_KEYS, at)
    texts = {key: _text(record.get(key), at / key) for key in _STACK_TEXTS}
    return Stack(
        name=name,
        rows=_rows(record.get("models"), at / "models"),
        kind=_one_of(record.get("kind", "reference"), get_args(StackKind), at / "kind"),
        dollars_per_accelerator_hour=_optional(_number, record.get(_PRICE), at / _PRICE),
        **texts,
    )


def _rows(value: Any, at: _At) -> Mapping[str, Row]:
    models = _object(value, at) or at.wrong("at least one model")
    return MappingProxyType({name: _row(name, row, at / name) for name, row in models.items()})


def _row(name: str, value: Any, at: _At) -> Row:
    row = _object(value, at)
    _only_keys([key for key in row if key not in _BASELINE_KEYS], _ROW_KEYS, at)
    intervals = row.get("intervals")
    return Row(
        name=name,
        coefficients=_coefficients(row, at),
        provenance=_one_of(row.get("provenance", "measured"), get_args(Provenance), at / "provenance"),
        proxy_of=_text(row.get("proxy_of"), at / "proxy_of"),
        fit_error=_optional(_number, row.get("fit_error"), at / "fit_error"),
        intervals=_optional(_object, intervals, at / "intervals"),
        source=_text(row.get("source"), at / "source"),
        note=_text(row.get("note"), at / "note"),
        fit=_optional(_fit, row.get("fit"), at / "fit"),
        accelerators=_optional(_count, row.get("accelerators"), at / "accelerators"),
    )


def _fit(value: Any, at: _At) -> Fit:
    record = _object(value, at)
    _only_keys(record, _FIT_KEYS, at)
    return Fit(
        method=_text(record.get("method"), at / "method") or (at / "method").wrong("the name of a method"),
        points=_count(record.get("points"), at / "points"),
        r2=_r2(record.get("r2"), at / "r2"),
        **{key: _number(record.get(key), at / key) for key in ("median_error", "p95_error", "max_error")},
    )


def _r2(value: Any, at: _At) -> float:
    if not _ordinary(value) or not -_LARGEST <= value <= 1:
        at.wrong(f"a number, 1 or less, found {_shown(value)}")
    return float(value)


def _coefficients(row: dict[str, Any], at: _At) -> Coefficients:
    prompts = at / "runtime_for_prompt_tokens"
    knots = _object(row.get("runtime_for_prompt_tokens"), prompts) or prompts.wrong("at least one prompt size")
    seconds = sorted((_knot(key, prompts / key), _number(f, prompts / key)) for key, f in knots.items())
    return Coefficients(
        per_output_token=_number(row.get("runtime_per_output_token"), at / "runtime_per_output_token"),
        knots=tuple(knot for knot, _ in seconds),
        prompt_seconds=tuple(f for _, f in seconds),
        overhead=_number(row.get("overhead", 0.0), at / "overhead"),
        context=_number(row.get("context_seconds_per_token2", 0.0), at / "context_seconds_per_token2"),
        quadratic=_optional(_quadratic, row.get("quadratic"), at / "quadratic"),
    )


def _quadratic(value: Any, at: _At) -> tuple[float, float, float]:
    if not isinstance(value, list) or len(value) != _QUADRATIC_TERMS:
        at.wrong(f"three numbers [a, b, c], found {_shown(value)}")
    a, b, c = (_number(term, at) for term in value)
    return a, b, c


def _knot(key: str, at: _At) -> int:
    if not re.fullmatch(r"[1-9][0-9]{0,11}", key, re.ASCII):
        at.wrong("a whole number of tokens, 1 or more, as key")
    return int(key)


def _number(value: Any, at: _At) -> float:
    if not _ordinary(value) or not 0 <= value <= _LARGEST:
        at.wrong(f"a number, 0 or more, found {_shown(value)}")
    return float(value)


def _ordinary(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _count(value: Any, at: _At) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= _LARGEST:
        at.wrong(f"a whole number, 1 or more, found {_shown(value)}")
    return value


def _object(value: Any, at: _At) -> dict[str, Any]:
    if not isinstance(value, dict):
        at.wrong(f"an object, found {_shown(value)}")
    return value


def _text(value: Any, at: _At) -> str | None:
    if value is not None and not isinstance(value, str):
        at.wrong(f"text, found {_shown(value)}")
    return value


def _one_of(value: Any, choices: tuple[Any, ...], at: _At) -> Any:
    if value not in choices:
        at.wrong(f"one of {', '.join(map(str, choices))}, found {_shown(value)}")
    return value


def _optional(check: Callable[[Any, _At], Checked], value: Any, at: _At) -> Checked | None:
    return None if value is None else check(value, at)


def _only_keys(record: Iterable[str], known: AbstractSet[str], at: _At) -> None:
    for key in record:
        if key not in known:
            (at / key).wrong(f"one of the keys {', '.join(sorted(known))}")


def _shown(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "an array"
    text = json.dumps(value)
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 3] + "..."
