"""What accelerators, energy, carbon and water cost: constants, each with its range and source, all of them overridable.

They ship as `constants.json` beside this module. A file of one's own holds those that differ, in the same shape:

    {"region": "se", "pue": 1.12, "accelerators": {"h100": {"dollars_per_hour": {"value": 2, "low": 2, "high": 3}}}}

A constant is a number, or {"value", "low", "high", "source"}. docs/costs.md lists them.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from stream.strict_json import (
    LARGEST,
    At,
    TableError,
    number,
    object_,
    only_keys,
    ordinary,
    parse,
    read_file,
    shown,
    text,
)

__all__ = ["Accelerator", "Constant", "Constants", "Region", "constants_from_json", "load_constants"]

_SHIPPED = Path(__file__).with_name("constants.json")
_FORMAT = 1
_OWN = "given"

_OF_ACCELERATOR = ("tdp_watts", "dollars_per_hour", "mean_watts", "embodied_kilograms")
_OF_REGION = ("carbon_grams_per_kwh", "water_litres_per_kwh")
_OF_EMBODIED = ("lifetime_years", "utilisation")
_PLAIN = ("server_power_factor", "pue", "site_water_litres_per_kwh")
# A site draws no less than its servers, these no less than what is in them; nothing works longer than it lasts.
_BOUNDS = {
    "pue": (1.0, LARGEST),
    "server_power_factor": (1.0, LARGEST),
    "lifetime_years": (0.01, LARGEST),
    "utilisation": (0.001, 1.0),
}
_CONSTANT_KEYS = frozenset({"value", "low", "high", "source"})
_KEYS = frozenset({"format", "region", "accelerators", "stacks", "regions", "embodied", "prices", "note", *_PLAIN})
_KEPT = frozenset({"own", "moved"})
"""Beside them what `load_constants` keeps of a file of one's own: see `Accelerator.own` and `Constants.moved`."""


class Constant(NamedTuple):
    """A number, the range in which it lies, and who says so."""

    value: float
    low: float
    high: float
    source: str

    @property
    def factors(self) -> tuple[float, float]:
        """The range, as factors of the value."""
        return (self.low / self.value, self.high / self.value) if self.value else (1.0, 1.0)


@dataclass(frozen=True, slots=True)
class Accelerator:
    """A device: board power at most and on average, what an hour costs, and what making it (and its server) emitted."""

    label: str
    tdp_watts: Constant
    dollars_per_hour: Constant
    mean_watts: Constant
    embodied_kilograms: Constant
    own: frozenset[str] = frozenset()
    """of these the ones that a file of one's own gives: they go before what tables say"""


@dataclass(frozen=True, slots=True)
class Region:
    """A grid: grams of CO2e, and litres of water, for a kilowatt-hour of its electricity."""

    label: str
    carbon_grams_per_kwh: Constant
    water_litres_per_kwh: Constant


@dataclass(frozen=True, slots=True)
class Constants:
    """All of them. `stacks` names the accelerator of a stack, `prices` what providers bill, by model, as litellm does.

    `moved` are the stacks whose accelerator a file of one's own gives, with the one that ships; `hourly` are dollars an
    hour that it gives for a stack. `server_power_factor` is what a server draws over what its accelerators draw, `pue`
    what its site draws over that. With `embodied_counted`, carbon has the share of making the hardware, spread over
    `lifetime_years` of which it works the share `utilisation`.
    """

    content: Mapping[str, Any]
    """as a file holds it, for storing"""
    region: str
    regions: Mapping[str, Region]
    accelerators: Mapping[str, Accelerator]
    stacks: Mapping[str, str]
    moved: Mapping[str, str | None]
    hourly: Mapping[str, Constant]
    server_power_factor: Constant
    pue: Constant
    site_water_litres_per_kwh: Constant
    embodied_counted: bool
    lifetime_years: Constant
    utilisation: Constant
    prices: Mapping[str, Mapping[str, Any]]

    @property
    def grid(self) -> Region:
        """The region in use."""
        return self.regions[self.region]


def load_constants(path: Path | None = None, region: str | None = None) -> Constants:
    """The shipped constants, with what a file and a `region` (which goes before the file's) change; else TableError."""
    if path is None and region is None:
        return _shipped()
    content: dict[str, Any] = dict(_shipped().content)
    if path is not None:
        own, at = object_(parse(read_file(path, "constants"), str(path)), At(str(path))), At(str(path))
        only_keys(own, _KEYS, at)
        _check_names(own, "accelerators", _OF_ACCELERATOR, at)
        _check_names(own, "regions", _OF_REGION, at)
        content = {**_merged(content, own), "own": _of_devices(own), "moved": _of_stacks(own)}
    found = constants_from_json(content, str(path or _SHIPPED.name))
    if region is None:
        return found
    if region not in found.regions:
        raise TableError(_unknown(region, found.regions), "region")
    return replace(found, region=region, content=MappingProxyType({**found.content, "region": region}))


def _unknown(region: str | None, known: Iterable[str]) -> str:
    return f"unknown region {region!r}: there are {', '.join(known)}"


def _check_names(own: Mapping[str, Any], kind: str, needed: tuple[str, ...], at: At) -> None:
    """Refuse a known name in another case, and a new one that lacks something: it is a slip of the pen."""
    known = _shipped().content[kind]
    by_lower = {name.lower() for name in known}
    for name, given in _records(own, kind).items():
        if name not in known and (name.lower() in by_lower or any(key not in given for key in needed)):
            there = f"there are {', '.join(known)}; a new one needs a name of its own, and {', '.join(needed)}"
            raise TableError(f"{at.file}: {(at / kind).path}: unknown {kind.removesuffix('s')} {name!r}: {there}")


def _of_devices(own: Mapping[str, Any]) -> dict[str, list[str]]:
    """What a file of one's own gives of each accelerator."""
    found = _records(own, "accelerators")
    return {name: [key for key in _OF_ACCELERATOR if key in given] for name, given in found.items()}


def _of_stacks(own: Mapping[str, Any]) -> dict[str, str | None]:
    """The stacks whose accelerator a file of one's own gives, and which one of them ships."""
    shipped = _shipped().stacks
    return {name: shipped.get(name) for name, given in _records(own, "stacks").items() if given.get("accelerator")}


def _records(own: Mapping[str, Any], kind: str) -> dict[str, dict[str, Any]]:
    """The entries of a file of one's own, as far as they are in the right shape, which is looked at later."""
    found = own.get(kind)
    entries = found.items() if isinstance(found, dict) else ()
    return {name: given for name, given in entries if isinstance(given, dict)}


@cache
def _shipped() -> Constants:
    return constants_from_json(json.loads(_SHIPPED.read_bytes()), _SHIPPED.name)


def _merged(before: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Put one's own over what there is; a constant is replaced whole, so that no range stays of another value."""
    merged = dict(before)
    for key, value in own.items():
        known = merged.get(key)
        nested = isinstance(value, dict) and isinstance(known, Mapping) and "value" not in value
        merged[key] = _merged(known, value) if nested and known is not None else value
    return merged


def constants_from_json(content: Any, file: str) -> Constants:
    """Check what `Constants.content` holds, or a file does; raise TableError, one line."""
    at = At(file)
    top = object_(content, at)
    only_keys(top, _KEYS | _KEPT, at)
    if top.get("format", _FORMAT) != _FORMAT:
        (at / "format").wrong(f"{_FORMAT}, the only format this program reads, found {shown(top.get('format'))}")
    regions = {name: _region(value, at / "regions" / name) for name, value in _each(top, "regions", at)}
    own = object_(top.get("own", {}), at / "own")
    accelerators = {
        name: _accelerator(value, frozenset(own.get(name, ())), at / "accelerators" / name)
        for name, value in _each(top, "accelerators", at)
    }
    region = text(top.get("region"), at / "region")
    if region not in regions:
        raise TableError(f"{file}: $.region: {_unknown(region, regions)}")
    stacks, hourly = _stacks(top, accelerators, at)
    embodied = _record(top.get("embodied"), {"counted", *_OF_EMBODIED}, at / "embodied")
    if not isinstance(embodied.get("counted"), bool):
        (at / "embodied" / "counted").wrong(f"true or false, found {shown(embodied.get('counted'))}")
    return Constants(
        content=MappingProxyType(top),
        region=region,
        regions=regions,
        accelerators=accelerators,
        stacks=stacks,
        moved=object_(top.get("moved", {}), at / "moved"),
        hourly=hourly,
        embodied_counted=embodied["counted"],
        prices={name: object_(value, at / "prices" / name) for name, value in _each(top, "prices", at)},
        **{key: _bounded(top, key, at) for key in _PLAIN},
        **{key: _bounded(embodied, key, at / "embodied") for key in _OF_EMBODIED},
    )


def _each(top: Mapping[str, Any], key: str, at: At) -> list[tuple[str, Any]]:
    return list(object_(top.get(key, {}), at / key).items())


def _stacks(
    top: Mapping[str, Any], known: Mapping[str, Accelerator], at: At
) -> tuple[dict[str, str], dict[str, Constant]]:
    """Which accelerator each stack has, and what an hour of it costs, where that is said."""
    stacks, hourly = {}, {}
    for name, value in _each(top, "stacks", at):
        here = at / "stacks" / name
        record = _record(value, {"accelerator", "dollars_per_hour"}, here)
        accelerator = text(record.get("accelerator"), here / "accelerator")
        if accelerator is not None:
            if accelerator not in known:
                (here / "accelerator").wrong(f"one of {', '.join(known)}, found {shown(accelerator)}")
            stacks[name] = accelerator
        if "dollars_per_hour" in record:
            hourly[name] = _constant(record["dollars_per_hour"], here / "dollars_per_hour")
    return stacks, hourly


def _accelerator(value: Any, own: frozenset[str], at: At) -> Accelerator:
    record = _record(value, {"label", *_OF_ACCELERATOR}, at)
    label = text(record.get("label"), at / "label") or at.path.rpartition(".")[2]
    return Accelerator(label, **{key: _constant(record.get(key), at / key) for key in _OF_ACCELERATOR}, own=own)


def _region(value: Any, at: At) -> Region:
    record = _record(value, {"label", *_OF_REGION}, at)
    label = text(record.get("label"), at / "label") or at.path.rpartition(".")[2]
    return Region(label, **{key: _constant(record.get(key), at / key) for key in _OF_REGION})


def _record(value: Any, keys: set[str], at: At) -> dict[str, Any]:
    record = object_(value, at)
    only_keys(record, keys, at)
    return record


def _constant(value: Any, at: At) -> Constant:
    if ordinary(value):
        plain = number(value, at)
        return Constant(plain, plain, plain, _OWN)
    if not isinstance(value, dict):
        at.wrong(f'a number or {{"value", "low", "high", "source"}}, found {shown(value)}')
    only_keys(value, _CONSTANT_KEYS, at)
    found = number(value.get("value"), at / "value")
    low, high = (number(value.get(key, found), at / key) for key in ("low", "high"))
    if not low <= found <= high:
        at.wrong(f"low <= value <= high, found {low:g}, {found:g}, {high:g}")
    return Constant(found, low, high, text(value.get("source"), at / "source") or _OWN)


def _bounded(record: Mapping[str, Any], key: str, at: At) -> Constant:
    """A constant that may not have every value: see `_BOUNDS`."""
    found = _constant(record.get(key), at / key)
    least, most = _BOUNDS.get(key, (0.0, LARGEST))
    if not least <= found.low <= found.high <= most:
        bounds = f"{least:g} or more" if most == LARGEST else f"a number from {least:g} to {most:g}"
        (at / key).wrong(f"{bounds}, found {found.low:g} to {found.high:g}")
    return found
