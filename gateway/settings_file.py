"""A configuration file together with the tables that it names, and what they say of each model that it serves."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from gateway.config import Config, ConfigError, load_config
from gateway.routes import Route
from stream.coefficients import TableError, Tables, load_tables
from stream.events import RequestEvent
from stream.prices import NO_BILL

__all__ = ["costs_in_use", "covered_destinations", "load_settings_file", "needless_assumptions"]


def load_settings_file(
    path: Path,
    assume: Mapping[str, str] | None = None,
    stack: str | None = None,
    costs: Mapping[str, Any] | None = None,
    otherwise: Mapping[str, Any] | None = None,
) -> tuple[Config, Tables]:
    """Read a configuration file and its tables; what the command line says goes before the file's own.

    `costs` are `constants`, `region` and `prices` as `load_tables` takes them, as far as the command line gives them;
    `otherwise` are those to take where neither it nor the file does.

    Raise ConfigError, which names the file and, where something in it is at fault, the line.
    """
    config = load_config(path)
    assumed = {**config.assume, **(assume or {})}
    try:
        tables = load_tables(
            config.tables,
            stack=config.stack if stack is None else stack,
            aliases=config.aliases,
            assume=assumed,
            **{**(otherwise or {}), **config.costs, **(costs or {})},
        )
    except TableError as error:
        fetched = error.setting == ("prices",) and "prices" not in config.costs
        if fetched or _asked_for(error, assume or {}, stack, costs or {}):
            raise
        raise ConfigError(f"{_place(config, path, error)}: {error}") from None
    own = [name for name in config.assume if name not in (assume or {})]
    warnings = needless_assumptions(tables, own, lambda name: config.places["assume", name])
    return replace(config, warnings=(*config.warnings, *warnings)), tables


def _asked_for(error: TableError, assume: Mapping[str, str], stack: str | None, costs: Mapping[str, Any]) -> bool:
    """Whether the command line is at fault, and not the file."""
    match error.setting:
        case ("stack",):
            return stack is not None
        case ("assume", name):
            return name in assume
        case ("constants" | "region" | "prices" as name,):
            return name in costs
        case _:
            return False


def _place(config: Config, path: Path, error: TableError) -> str:
    """The line of the narrowest setting that is at fault: of a list's entry, else of the list, else the file."""
    setting = error.setting
    places = (config.places.get(setting[:length]) for length in range(len(setting), 0, -1))
    return next(filter(None, places), str(path))


def needless_assumptions(
    tables: Tables, names: Iterable[str], place: Callable[[str], str] = "--assume {}".format
) -> Iterator[str]:
    """A warning for each of the assumed models that has a row of its own; `place` says where it is assumed."""
    for name in names:
        row = tables.measured(name)
        if row is not None:
            own = "is a row itself" if row.name == name else f"has its own row, {row.name}"
            yield f"{place(name)}: this model {own} ({row.provenance}): that is used where a stack has it"


def covered_destinations(config: Config, tables: Tables) -> Iterator[str]:
    """A line for each entry: its name, where it leads, which rows say what it should take, and what it is billed as."""
    for name, place, route in config.destinations():
        leads = f"{name} -> {place}" + (f" as {route.model}" if route.model else "")
        known = f"{_coverage(tables, route.model, name)}; {_price(tables, route, name)}"
        yield leads if "*" in name else f"{leads}: {known}"
    for name in config.assume:
        if name not in config.exact:
            yield f"{name}: {_coverage(tables, name)}"


def costs_in_use(config: Config, tables: Tables) -> Iterator[str]:
    """Lines that say by which constants and prices the tables tell what requests cost."""
    constants, prices = tables.constants, tables.prices
    if constants is not None:
        carbon, priced = constants.grid.carbon_grams_per_kwh.value, len(constants.prices)
        own = f", {priced} price{'' if priced == 1 else 's'} of your own" if priced else ""
        yield f"electricity of {constants.region} ({constants.grid.label}): {carbon:g} g CO2e a kWh{own}"
    if prices is not None:
        fetched = "" if "prices" in config.costs else ", unless the data directory has others"
        yield f"prices of providers: {prices.about}{fetched}"


def _price(tables: Tables, route: Route, name: str) -> str:
    """Whether it is known what a request is billed."""
    provider = route.upstream.provider
    asked = RequestEvent(
        model=name, upstream_model=route.model, provider=provider, prompt_tokens=1, completion_tokens=1
    )
    bill = NO_BILL if tables.prices is None else tables.prices.bill(asked)
    return "no price by this name" if bill.dollars is None else f"billed as {bill.name}"


def _coverage(tables: Tables, *names: str | None) -> str:
    stacks: dict[str, list[str]] = {}
    for stack in tables.references:
        row = tables.row(stack, *names)
        if row is not None:
            stacks.setdefault(f"{row.provenance}, {row.name}", []).append(stack)
    if stacks:
        return "; ".join(f"{row} on {' and '.join(on)}" for row, on in stacks.items())
    near = next(filter(None, (tables.near(None, name) for name in names if name)), ())
    like = f" (near it: {', '.join(near)})" if near else ""
    return f"uncovered{like}: give it a row, an alias or `assume`"
