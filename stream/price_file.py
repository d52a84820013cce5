"""Files of prices: reading them strictly, and making one of litellm's `model_prices_and_context_window.json`.

A file is `{"format": 1, "source", "version", "date", "models": {NAME: entry}}`, one model a line, with those models of
litellm's map that answer with text and those keys of theirs that decide what text costs. litellm's map itself can be
read in its place.
"""

import re
from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Raw

from stream.price_rates import PRICE_KEY
from stream.strict_json import TableError

__all__ = ["PriceError", "PriceFile", "check_entry", "price_file"]

_TEXT_MODES = frozenset({"chat", "completion", "responses", "embedding", "rerank", "moderation", None})
_OTHER_UNIT = re.compile(
    r"input_cost_per_request|(?:(?:input|output)_)?cost_per_(?:second|request|character|query|image|video_per_second)"
)
_FORMAT = 1
_SAMPLE = "sample_spec"  # of the map: it explains the keys
_WHAT = "litellm's price map: names of models, each with an object of prices"

Dollars = Annotated[float, Meta(ge=0, le=1000)]


class PriceError(TableError):
    """Prices that cannot be used. One line: the file, the place in it, what was expected."""


class PriceFile(msgspec.Struct, frozen=True, kw_only=True):
    """What a file holds. `source`, `version` and `date` say where the prices come from."""

    format: int
    source: str = ""
    version: str = ""
    date: str = ""
    models: dict[str, Raw]


class _Prices(msgspec.Struct, kw_only=True):
    input_cost_per_token: Dollars | None = None
    output_cost_per_token: Dollars | None = None
    output_cost_per_reasoning_token: Dollars | None = None
    cache_read_input_token_cost: Dollars | None = None
    cache_creation_input_token_cost: Dollars | None = None


class _Tier(_Prices, kw_only=True):
    range: tuple[float, float] = (0, 0)


class _Window(msgspec.Struct):
    hours_utc: str | list[str] = ""
    weekdays: list[int] | None = None


class _OffPeak(_Prices, kw_only=True):
    hours_utc: str | list[str] | None = None
    windows: list[_Window] | None = None
    weekday_timezone: str | None = None


class _Entry(_Prices, kw_only=True):
    litellm_provider: str | None = None
    mode: str | None = None
    tiered_pricing: list[_Tier] | None = None
    off_peak_pricing: _OffPeak | None = None


_OUTPUT = "output_cost_per_token"
_NEEDED = ("input_cost_per_token", _OUTPUT)
_WITHOUT_OUTPUT = frozenset({"embedding", "rerank", "moderation"})

_OWN_KEYS = frozenset(_Entry.__struct_fields__)
_decode_file = msgspec.json.Decoder(PriceFile).decode
_decode_top = msgspec.json.Decoder(dict[str, Raw]).decode
_decode_entry = msgspec.json.Decoder(dict[str, Any]).decode
_check = msgspec.json.Decoder(_Entry).decode
_encode = msgspec.json.Encoder(order="sorted").encode


def price_file(
    content: bytes, file: str, *, source: str = "", version: str = "", date: str = ""
) -> tuple[bytes, PriceFile]:
    """Read and check a file; raise PriceError. Of litellm's map, which does not say where it is from (`source`,
    `version`, `date`), the content is a file made of it.
    """
    top = _top(content, file)
    if "models" not in top or "format" not in top:
        head = {"date": date, "format": _FORMAT, "source": source or file, "version": version}
        content = _encode(head)[:-1] + b',"models":{\n' + b",\n".join(_lines(top, file)) + b"\n}}\n"
    read = _read(content, file)
    for name, entry in read.models.items():
        try:
            _check(entry)
        except msgspec.ValidationError as error:
            raise PriceError(f"{file}: $.models.{name}: {_said(error)}") from None
    return content, read


def _lines(litellm_map: dict[str, Raw], file: str) -> list[bytes]:
    """One line a model, sorted, so that two files can be compared."""
    kept: dict[str, bytes] = {}
    for name, raw in litellm_map.items():
        try:
            entry = _kept(_decode_entry(raw))
        except msgspec.ValidationError:
            raise PriceError(f"{file}: $.{name}: expected {_WHAT}") from None
        if entry and name != _SAMPLE:
            kept[name] = _encode(entry)
    if not any(b"_cost_per_token" in entry for entry in kept.values()):
        raise PriceError(f"{file}: $: expected {_WHAT}; found no price of a token")
    return [_encode(name) + b":" + kept[name] for name in sorted(kept)]


def check_entry(name: str, entry: Mapping[str, Any]) -> None:
    """Check what somebody says that a model costs; raise PriceError. A key that means nothing would go unseen."""
    for key in entry:
        if key not in _OWN_KEYS and not PRICE_KEY.fullmatch(key):
            raise PriceError(f"prices: {name}: {key}: expected one of litellm's keys, such as input_cost_per_token")
    try:
        msgspec.convert(dict(entry), _Entry)
        msgspec.convert({k: v for k, v in entry.items() if PRICE_KEY.fullmatch(k)}, dict[str, Dollars | None])
    except msgspec.ValidationError as error:
        raise PriceError(f"prices: {name}: {_said(error)}") from None
    _check_whole(name, entry)


def _check_whole(name: str, entry: Mapping[str, Any]) -> None:
    """Refuse a price of input alone: output would be billed at 0, without a word."""
    steps = [{_OUTPUT: entry.get(_OUTPUT), **tier} for tier in entry.get("tiered_pricing") or ()] or [{**entry}]
    needed = _NEEDED[:1] if entry.get("mode") in _WITHOUT_OUTPUT else _NEEDED
    for prices in steps:
        missing = [key for key in needed if prices.get(key) is None]
        if missing:
            raise PriceError(f"prices: {name}: needs {' and '.join(missing)} too (0 where that is free)")


def _top(content: bytes, file: str) -> dict[str, Raw]:
    try:
        return _decode_top(content)
    except msgspec.ValidationError as error:
        raise PriceError(f"{file}: {_said(error)}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        said = str(error).removeprefix("JSON is malformed: ")
        raise PriceError(f"{file}: not valid JSON: {said}") from None


def _read(content: bytes, file: str) -> PriceFile:
    try:
        read = _decode_file(content)
    except msgspec.ValidationError as error:
        raise PriceError(f"{file}: {_said(error)}") from None
    if read.format != _FORMAT:
        raise PriceError(
            f"{file}: $.format: expected {_FORMAT}, the only format this program reads, found {read.format}"
        )
    return read


def _said(error: msgspec.ValidationError) -> str:
    """The words of msgspec, the place first: `$.models: expected an object, found ...`."""
    what, _, place = str(error).replace("`", "").partition(" - at ")
    return f"{place or '$'}: {what[:1].lower()}{what[1:]}"


def _kept(entry: dict[str, Any]) -> dict[str, Any]:
    """What decides the price of a text; nothing of models that are for something else, or have no price."""
    if entry.get("mode") not in _TEXT_MODES:
        return {}
    prices = {key: value for key, value in entry.items() if PRICE_KEY.fullmatch(key) and value is not None}
    prices |= {key: entry[key] for key in ("tiered_pricing", "off_peak_pricing") if entry.get(key)}
    prices |= {key: value for key, value in entry.items() if _OTHER_UNIT.fullmatch(key) and value}
    about = {key: entry[key] for key in ("litellm_provider", "mode") if entry.get(key) not in (None, "chat")}
    return {**prices, **about} if prices else {}
