"""`gateway prices`: what providers bill for which model, where that is known from, and how to know it anew."""

import difflib
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple
from urllib.request import urlopen

import msgspec

from gateway.data_dir import PRICES_NAME
from stream.coefficients import load_costs
from stream.command import UsageError
from stream.events import RequestEvent
from stream.price_file import PriceFile, price_file
from stream.prices import Prices, load_prices
from stream.strict_json import TableError

__all__ = ["DEFAULT_URL", "refresh_prices", "show_prices"]

DEFAULT_URL = "https://raw.githubusercontent.com/BerriAI/litellm/main/model_prices_and_context_window.json"

_INSTALLED = "litellm"
_INSTALLED_FILE = "model_prices_and_context_window_backup.json"
_TIMEOUT_SECONDS = 30.0
_MOST_BYTES = 64 * 1024 * 1024
_SHOWN_CHANGES = 10
_NOT_KNOWN = 1

_decode = msgspec.json.Decoder(dict[str, Any]).decode


def show_prices(
    models: Sequence[str],
    data_dir: Path,
    path: Path | None,
    *,
    provider: str | None = None,
    constants: Path | None = None,
) -> int:
    """Print where the prices in use are from, and the entries of models; 1 where a model has none.

    With `provider` those of requests that it serves, else of any; `constants` is a file with prices of one's own.
    """
    kept = data_dir / PRICES_NAME
    path = kept if path is None and kept.exists() else path
    prices = load_costs(constants, prices=path)[1]
    print(f"{path or 'shipped prices'}: {prices.about}")
    return max([_show(prices, name, provider) for name in models], default=0)


def _show(prices: Prices, name: str, provider: str | None) -> int:
    found = prices.entry(name, provider)
    if found is None:
        known = (f"{each} ({prices.provider(each)})" if provider else each for each in _near(name, prices.names()))
        near = ", ".join(known)
        where = f" at provider {provider}" if provider else ""
        print(f"{name}: no price{where}{f'; there are {near}' if near else ''}")
        return _NOT_KNOWN
    entry, keys = found
    print(f"{entry if entry == name else f'{name}: as {entry}'} ({_whose(prices, entry)})")
    for key, value in sorted(keys.items()):
        print(f"  {key}: {_shown(value)}")
    reason = prices.bill(RequestEvent(model=name, provider=provider, prompt_tokens=1, completion_tokens=1)).reason
    if reason is not None:
        print(f"  not billed by it: {reason}")
    return 0


def _whose(prices: Prices, entry: str) -> str:
    if entry in prices.own:
        return "your own price, at any provider"
    return f"provider {prices.provider(entry) or 'not said'}"


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _near(name: str, known: Iterable[str]) -> list[str]:
    """Up to three names that end as a name does, or nearly; those of the same provider first."""
    by_end: dict[str, list[str]] = {}
    for each in known:
        by_end.setdefault(each.rpartition("/")[2].lower(), []).append(each)
    end = name.rpartition("/")[2].lower()
    close = difflib.get_close_matches(end, by_end, n=3)
    found = [each for like in close for each in by_end[like]]
    provider = name.partition("/")[0]
    return sorted(found, key=lambda each: each.partition("/")[0] != provider)[:3]


def refresh_prices(origin: str | None, data_dir: Path, out: Path | None = None, *, force: bool = False) -> int:
    """Put prices of a URL, a file or the installed litellm in the place of those at `out` (by default those of the data
    directory), if they are in order; without `force` only if they have half of the models that there were.
    """
    kept = data_dir / PRICES_NAME
    out = out or kept
    found = _fetched(origin or DEFAULT_URL)
    today = datetime.now(UTC).date().isoformat()
    new = Prices(*price_file(found.content, found.source, source=found.source, version=found.version, date=today))
    before, damage = _before(out)
    _check_gone(before, new.file, found.source, force=force)
    changes = [*_changes(before, new.file)]
    _replace(out, new.to_json().encode())
    for line in (*damage, f"{out}: {new.about}", *changes, _what_next(out, kept)):
        print(line)
    return 0


def _before(out: Path) -> tuple[PriceFile, list[str]]:
    """The prices that are replaced; those that cannot be read are as good as none, and the shipped ones stood in."""
    try:
        return load_prices(out if out.exists() else None).file, []
    except TableError as error:
        return load_prices().file, [f"{error}: replaced"]


def _check_gone(old: PriceFile, new: PriceFile, source: str, *, force: bool) -> None:
    """Refuse what is hardly the whole list."""
    gone, known = len(old.models.keys() - new.models.keys()), len(old.models)
    if gone > known / 2 and not force:
        stay = "--force takes these all the same; the prices in use stay as they are"
        raise UsageError(f"{source}: {gone} of {known} models would have no price any more: {stay}")


def _what_next(out: Path, kept: Path) -> str:
    if out.absolute() == kept.absolute():
        return "gateway run takes them at its next start; without this file it takes the shipped ones"
    return f"--prices {out} takes them"


class _Origin(NamedTuple):
    content: bytes
    source: str
    version: str


def _fetched(origin: str) -> _Origin:
    if origin == _INSTALLED:
        return _installed()
    if origin.startswith(("http://", "https://")):
        return _Origin(_downloaded(origin), origin, "")
    return _Origin(Path(origin).read_bytes(), origin, "")


def _installed() -> _Origin:
    """The map that the installed litellm carries, found without importing it: that takes seconds."""
    spec = find_spec(_INSTALLED)
    places = (spec and spec.submodule_search_locations) or ()
    path = next((path for place in places if (path := Path(place) / _INSTALLED_FILE).exists()), None)
    if path is None:
        raise UsageError(f"--from {_INSTALLED}: litellm is not installed here, or has no {_INSTALLED_FILE}")
    edition = version(_INSTALLED)
    return _Origin(path.read_bytes(), f"{_INSTALLED} {edition}, {_INSTALLED_FILE}", edition)


def _downloaded(url: str) -> bytes:
    try:
        with urlopen(url, timeout=_TIMEOUT_SECONDS) as reply:  # noqa: S310  # http and https only: see the caller
            content: bytes = reply.read(_MOST_BYTES + 1)
    except (OSError, ValueError) as error:  # URLError and HTTPError are OSErrors
        raise UsageError(f"{url}: {' '.join(str(error).split())}; the prices in use stay as they are") from None
    if len(content) > _MOST_BYTES:
        raise UsageError(f"{url}: more than {_MOST_BYTES} bytes, which no price map has")
    return content


def _replace(out: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle, temporary = tempfile.mkstemp(dir=out.parent, prefix=f".{out.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).replace(out)
        except BaseException:
            Path(temporary).unlink()
            raise
    except OSError as error:
        raise UsageError(f"{out}: cannot be written: {error.strerror}; the prices in use stay as they are") from None


def _changes(old: PriceFile, new: PriceFile) -> Iterator[str]:
    """What became of the models and their prices, in words."""
    added, gone = new.models.keys() - old.models.keys(), old.models.keys() - new.models.keys()
    changed = {}
    for name in sorted(new.models.keys() & old.models.keys()):
        before, after = _decode(old.models[name]), _decode(new.models[name])
        if before != after:
            changed[name] = ", ".join(_differences(before, after))
    yield f"{len(added)} models added, {len(gone)} gone, {len(changed)} changed"
    for names, sign in ((added, "+"), (gone, "-"), (changed, "~")):
        for name in sorted(names)[:_SHOWN_CHANGES]:
            yield f"  {sign} {name}{f': {changed[name]}' if name in changed else ''}"
        if len(names) > _SHOWN_CHANGES:
            yield f"  {sign} and {len(names) - _SHOWN_CHANGES} more"


def _differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    for key in sorted(before.keys() | after.keys()):
        if before.get(key) != after.get(key):
            yield f"{key} {_shown(before.get(key))} -> {_shown(after.get(key))}"
