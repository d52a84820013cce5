"""Coefficient tables as a whole: which stacks there are, which one leads, and which row a model name means.

The shipped tables lie in `stream/tables`, one file a stack; `aliases.json` there maps names under which models
are served to rows of the very same model (no near relatives, no guesses).
"""

import difflib
import hashlib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from stream.constants import Constants, constants_from_json, load_constants
from stream.cost import RowCosts, row_costs
from stream.prices import PriceError, Prices, load_prices, prices_from_json
from stream.runtime import INTERPOLATIONS, Interpolation, RuntimeFunction, runtime_function
from stream.table_format import (
    FORMAT,
    Row,
    Stack,
    TableError,
    TableFile,
    parse_table,
    read_table,
    stack_to_json,
)

__all__ = [
    "DEFAULT_STACK",
    "Row",
    "Stack",
    "TableError",
    "Tables",
    "load_costs",
    "load_tables",
    "tables_from_json",
    "tables_to_json",
]

DEFAULT_STACK = "a100-megatron"

_SHIPPED = Path(__file__).with_name("tables")
_SHIPPED_STACKS = (DEFAULT_STACK, "v100-megatron", "h100-predicted", "api-2022")


@dataclass(frozen=True, slots=True)
class Tables:
    """An immutable set of stacks. `version` is a hash of all that decides a runtime.

    `reference` is the leading stack; `references` are the reference stacks, the leading one first, and never a
    denoised one. `assume` maps served names of models that nobody outside can measure to the row (or an alias of
    it) whose numbers stand in for them. `constants` and `prices` say what costs what; tables that were stored before
    there were any have none. The last fields are memos of pure look-ups, kept here to end with them.
    """

    stacks: Mapping[str, Stack]
    reference: str
    references: tuple[str, ...]
    interpolation: Interpolation
    aliases: Mapping[str, str]
    assume: Mapping[str, str]
    version: str
    constants: Constants | None = field(default=None, compare=False, repr=False)
    prices: Prices | None = field(default=None, compare=False, repr=False)
    found: dict[Any, Any] = field(default_factory=dict, compare=False, repr=False)
    functions: dict[tuple[str, str], RuntimeFunction] = field(default_factory=dict, compare=False, repr=False)
    known_costs: dict[tuple[str, str], RowCosts] = field(default_factory=dict, compare=False, repr=False)

    def row(self, stack: str, *names: str | None) -> Row | None:
        """Find the row on `stack` of the first of `names` that has one, each by itself, then by its alias.

        Where none has, the first that is assumed to be as a row there is gets that row, its provenance `assumed`.
        """
        for name in names:
            row = None if name is None else self._own(stack, name)
            if row is not None:
                return row
        for name in names if self.assume else ():
            row = None if name is None else self._own(stack, self.assume.get(name, ""))
            if row is not None:
                return replace(row, provenance="assumed")
        return None

    def _own(self, stack: str, name: str) -> Row | None:
        rows = self.stacks[stack].rows
        return rows.get(name) or rows.get(self.aliases.get(name, ""))

    def measured(self, name: str) -> Row | None:
        """The row that a name has of its own, on the first reference stack where it has one, by name or alias."""
        return next(filter(None, (self._own(stack, name) for stack in self.references)), None)

    def runtime(self, stack: str, row: Row) -> RuntimeFunction:
        """T(p, o) of a row, in these tables' interpolation."""
        key = (stack, row.name)
        if key not in self.functions:
            self.functions[key] = runtime_function(row.coefficients, self.interpolation)
        return self.functions[key]

    def costs(self, stack: str, row: Row) -> RowCosts | None:
        """What requests of a row cost; None where no constants are known."""
        if self.constants is None:
            return None
        key = (stack, row.name)
        if key not in self.known_costs:
            self.known_costs[key] = row_costs(self.stacks[stack], row, self.constants, self.interpolation)
        return self.known_costs[key]

    def near(self, stack: str | None, name: str) -> list[str]:
        """Name up to three rows or aliases on `stack` (None: on any reference stack) that look like `name`."""
        rows = _row_names(self.stacks[each] for each in (self.references if stack is None else [stack]))
        return _near(name, _names(rows, self.aliases))


def _names(rows: Collection[str], aliases: Mapping[str, str]) -> list[str]:
    return [*rows, *(alias for alias, target in aliases.items() if target in rows)]


def _near(name: str, known: Iterable[str]) -> list[str]:
    by_lower = {known_name.lower(): known_name for known_name in known}
    lower = name.lower()
    inside = [key for key in by_lower if lower and lower in key]
    close = difflib.get_close_matches(lower, by_lower, n=3)
    return [by_lower[key] for key in dict.fromkeys([*close, *inside])][:3]


def load_tables(
    paths: Sequence[Path] = (),
    *,
    stack: str | None = None,
    aliases: Mapping[str, str] | None = None,
    assume: Mapping[str, str] | None = None,
    interpolation: Interpolation = "linear",
    any_kind: bool = False,
    constants: Path | None = None,
    region: str | None = None,
    prices: Path | None = None,
) -> Tables:
    """Read tables; raise TableError, one clear line, for whatever is wrong with them.

    Without `paths` these are the shipped ones; paths given replace them, and of several the later wins per
    model. A path that is no file but the name of a shipped stack means that one's file. A file whose rows belong
    to no named stack gives them to `stack` or else, where other files name stacks, to the leading one of those, or
    else to a stack called by the (first such) file's stem. The leading stack is `stack`, else the only one, else
    a100-megatron. `aliases` come on top of the shipped ones, `assume` is
    for names that have none; both map a served name to a row or an alias of one. A denoised stack may lead only
    with `any_kind`, which is for asking what it says. `constants` is a file with constants of one's own, `region` the
    grid in use, `prices` a file in place of the shipped prices.
    """
    if interpolation not in INTERPOLATIONS:
        raise TableError(f"interpolation: expected {' or '.join(INTERPOLATIONS)}, found {interpolation!r}")
    shipped = tuple(_SHIPPED / f"{name}.json" for name in _SHIPPED_STACKS)
    files = [(path, _read(path, number)) for number, path in enumerate(map(_file, paths or shipped))]
    stacks = _merge(files, stack)
    reference = _leading(stacks, stack)
    if stacks[reference].kind != "reference" and not any_kind:
        raise TableError(_never_a_reference(stacks, reference), "stack" if stack else "tables")
    known = _all_aliases(stacks, aliases or {})
    references = (each for each in stacks.values() if each.kind == "reference")
    _check("assume", "assume", assume or {}, _row_names(references), known)
    costs, listed = load_costs(constants, region, prices)
    _check_stacks(costs, stacks, constants)
    return _tables(stacks, reference, known, assume or {}, interpolation, costs, listed)


def _check_stacks(constants: Constants, stacks: Mapping[str, Stack], path: Path | None) -> None:
    """Refuse constants of a stack that neither ships nor is in use: they would be of none, without a word."""
    known = {**stacks, **load_constants().stacks}
    for name in constants.content["stacks"]:
        if name not in known:
            there = ", ".join(_near(name, known) or known)
            where = f"{path}: $.stacks: unknown stack {name!r}"
            raise TableError(f"{where}: no table in use has it; there are {there}", "constants")


def load_costs(
    constants: Path | None = None, region: str | None = None, prices: Path | None = None
) -> tuple[Constants, Prices]:
    """What accelerators and tokens cost, as `load_tables` takes it; TableError says which setting is at fault."""
    try:
        known = load_constants(constants, region)
    except TableError as error:
        raise TableError(str(error), *(error.setting or ("constants",))) from None
    try:
        listed = load_prices(prices)
    except TableError as error:
        raise TableError(str(error), "prices") from None
    try:
        return known, listed.with_own(known.prices)
    except PriceError as error:
        raise TableError(f"{constants}: $.{error}", "constants") from None


def _file(path: str | Path) -> Path:
    """The file that is meant: itself, or where there is none of that name, that of the shipped stack so called."""
    path = Path(path)
    is_shipped = path.name in _SHIPPED_STACKS and not path.exists()
    return _SHIPPED / f"{path.name}.json" if is_shipped else path


def _read(path: Path, number: int) -> TableFile:
    try:
        return read_table(path)
    except TableError as error:
        raise TableError(str(error), "tables", number) from None


def tables_to_json(tables: Tables) -> bytes:
    """Write tables so that `tables_from_json` gives them back; the result is a table file of its own."""
    # The prices are a text within it: there are thousands, which only this program reads again. With an indent it would
    # take twice the time, at every start.
    prices = {} if tables.prices is None else {"prices": tables.prices.to_json()}
    return json.dumps({"reference": tables.reference, **_content(tables), **prices}).encode() + b"\n"


def tables_from_json(data: bytes, file: str = "tables.json") -> Tables:
    """Read what `tables_to_json` wrote; raise TableError, naming `file`, where it is damaged."""
    read = parse_table(data, file)
    stacks = {stack.name: stack for stack in read.stacks}
    settings = read.settings
    interpolation = settings.get("interpolation")
    if settings.get("reference") not in stacks:
        raise TableError(f"{file}: $.reference: expected one of {', '.join(stacks)}")
    if interpolation not in INTERPOLATIONS:
        raise TableError(f"{file}: $.interpolation: expected {' or '.join(INTERPOLATIONS)}")
    aliases = _name_map(settings.get("aliases"), f"{file}: $.aliases")
    assume = _name_map(settings.get("assume", {}), f"{file}: $.assume")
    constants = prices = None
    if "constants" in settings:
        constants = constants_from_json(settings["constants"], f"{file}: $.constants")
        prices = prices_from_json(settings["prices"], file).with_own(constants.prices) if "prices" in settings else None
    return _tables(stacks, settings["reference"], aliases, assume, interpolation, constants, prices)


def _name_map(value: Any, where: str) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(target, str) for target in value.values()):
        raise TableError(f"{where}: expected an object of names")
    return value


def _tables(
    stacks: Mapping[str, Stack],
    reference: str,
    aliases: Mapping[str, str],
    assume: Mapping[str, str],
    interpolation: Interpolation,
    constants: Constants | None,
    prices: Prices | None,
) -> Tables:
    others = [name for name, stack in stacks.items() if stack.kind == "reference" and name != reference]
    leading = [reference] if stacks[reference].kind == "reference" else []
    tables = Tables(
        stacks=MappingProxyType(dict(stacks)),
        reference=reference,
        references=(*leading, *others),
        interpolation=interpolation,
        aliases=MappingProxyType(dict(aliases)),
        assume=MappingProxyType(dict(assume)),
        version="",
        constants=constants,
        prices=prices,
    )
    known = {"prices": prices.version} if prices is not None else {}
    canonical = json.dumps({**_content(tables), **known}, sort_keys=True, separators=(",", ":"))
    return replace(tables, version=hashlib.sha256(canonical.encode()).hexdigest()[:12])


def _content(tables: Tables) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "interpolation": tables.interpolation,
        "aliases": dict(tables.aliases),
        **({"assume": dict(tables.assume)} if tables.assume else {}),
        **({"constants": dict(tables.constants.content)} if tables.constants is not None else {}),
        "stacks": {name: stack_to_json(stack) for name, stack in tables.stacks.items()},
    }


def _merge(files: Iterable[tuple[Path, TableFile]], asked: str | None) -> dict[str, Stack]:
    files = list(files)
    named = {stack.name: stack for _, file in files for stack in file.stacks if stack.name}
    stems = [path.stem for path, file in files for stack in file.stacks if not stack.name]
    nameless = asked or (_leading(named, None) if named and stems else next(iter(stems), ""))
    merged: dict[str, Stack] = {}
    for _, file in files:
        for stack in file.stacks:
            name = stack.name or nameless
            before = merged.get(name)
            rows = {**(before.rows if before else {}), **stack.rows}
            # A nameless file only lends rows to a stack that others name: its own description is not theirs.
            described = named[name] if not stack.name and name in named else stack
            merged[name] = replace(described, name=name, rows=MappingProxyType(rows))
    return merged


def _leading(stacks: Mapping[str, Stack], asked: str | None) -> str:
    if asked is not None:
        if asked not in stacks:
            raise TableError(f"unknown stack {asked!r}: there are {', '.join(stacks)}{_replaced(asked)}", "stack")
        return asked
    if len(stacks) > 1 and DEFAULT_STACK not in stacks:
        choice = f"choose the leading one (--stack, or stack in a configuration): {', '.join(stacks)}"
        raise TableError(f"several stacks, {choice}", "tables")
    return DEFAULT_STACK if DEFAULT_STACK in stacks else next(iter(stacks))


def _replaced(asked: str) -> str:
    """What to do where a shipped stack is asked for beside tables of one's own."""
    if asked not in _SHIPPED_STACKS:
        return ""
    return f"; tables given replace the shipped ones: give {asked} as a table too (--table {asked})"


def _never_a_reference(stacks: Mapping[str, Stack], name: str) -> str:
    references = [other for other, stack in stacks.items() if stack.kind == "reference"]
    choice = f"choose one of {', '.join(references)}" if references else "no table given holds one"
    return f"stack {name!r} is {stacks[name].kind}, which is never a reference: {choice}"


def _all_aliases(stacks: Mapping[str, Stack], own: Mapping[str, str]) -> dict[str, str]:
    shipped: dict[str, str] = json.loads((_SHIPPED / "aliases.json").read_bytes())["aliases"]
    rows = _row_names(stacks.values())
    _check("alias", "aliases", own, rows, shipped)
    return {**shipped, **{name: target if target in rows else shipped[target] for name, target in own.items()}}


def _check(
    what: str, setting: str, names: Mapping[str, str], rows: Collection[str], aliases: Mapping[str, str]
) -> None:
    """Refuse what leads to no row, and names that no model has: those would never match, without a word."""
    for name, target in names.items():
        if not name or "*" in name:
            wanted = "expected the name of one model (wildcards do not work here)"
            raise TableError(f"{what} {name!r}: {wanted}", setting, name)
        if target not in rows and aliases.get(target) not in rows:
            near = _like(target, _names(rows, aliases))
            raise TableError(f"{what} {name!r}: no table has a row or alias {target!r}{near}", setting, name)


def _row_names(stacks: Iterable[Stack]) -> dict[str, None]:
    return dict.fromkeys(name for stack in stacks for name in stack.rows)


def _like(name: str, known: Iterable[str]) -> str:
    near = _near(name, known)
    return f"; there are {', '.join(near)}" if near else ""
