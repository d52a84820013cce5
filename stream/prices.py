"""What providers bill for a request: dollars by litellm's price map, read as data. Pure; litellm is not imported.

Prices are looked up by name and by who served the model, never by resemblance: a model that the map does not name has
no price, which is counted, never taken as 0. `docs/costs.md` says what the dollars hold and what they do not.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from stream.events import RequestEvent
from stream.price_file import PriceError, PriceFile, check_entry, price_file
from stream.price_rates import Price, Rates, price_of, provider_family, rates_at
from stream.strict_json import read_file

__all__ = ["NO_BILL", "Bill", "PriceError", "Prices", "load_prices", "prices_from_json"]

_SHIPPED = Path(__file__).with_name("prices.json")

# Models are named by clients: past these bounds a look-up is made anew instead of remembered.
_REMEMBERED = 4096
_LONGEST_NAME = 400

_SERVICE_TIER = "service_tier="

# litellm's providers, whose names begin the map's own, for OpenTelemetry's where they are called otherwise.
_PROVIDERS: Mapping[str, tuple[str, ...]] = {
    "openai": ("openai", "text-completion-openai"),
    "azure.ai.openai": ("azure", "azure_text"),
    "azure.ai.inference": ("azure_ai",),
    "aws.bedrock": ("bedrock", "bedrock_converse", "bedrock_mantle"),
    "cohere": ("cohere", "cohere_chat"),
    "gcp.gemini": ("gemini",),
    "gcp.vertex_ai": ("vertex_ai",),
    "ibm.watsonx.ai": ("watsonx",),
    "mistral_ai": ("mistral", "codestral", "text-completion-codestral"),
    "vllm": ("hosted_vllm",),
    "x_ai": ("xai",),
}
_DATED = re.compile(r"[-@](?:20\d{6}|20\d\d-\d\d-\d\d)$")
_FINE_TUNED = re.compile(r"(ft:[^:]+):.*")  # `ft:gpt-4o-mini-2024-07-18:acme::abc` is priced as what it was made of
_NAMES_DEPLOYMENTS = frozenset({"azure.ai.openai", "azure.ai.inference"})
"""Providers that are asked for a deployment, which its owner names as he likes: the reply says what model it is."""

# Where a price of 0 is meant: what runs on one's own machine. Of others the map has 0 for what it does not know, too.
_OWN_MACHINE = frozenset({"ollama", "lemonade"})
_decode = msgspec.json.Decoder(dict[str, Any]).decode

_Key = tuple[str | None, str | None, str | None, str | None]


class Bill(NamedTuple):
    """Dollars of a request, and the entry that they come from; without dollars, the `reason`.

    Reasons: `failed` (the upstream refused it, or never answered), `no_model`, `unknown_price`,
    `not_priced_by_tokens`, `tokens_unknown`.
    """

    dollars: float | None
    name: str | None
    reason: str | None


NO_BILL = Bill(None, None, None)
_new = tuple.__new__  # half the time of Bill(...)


class Prices:
    """Prices of models, and the memo of look-ups in them. `version` is a hash of the file's content."""

    def __init__(self, content: bytes, file: PriceFile, own: Mapping[str, Mapping[str, Any]] | None = None) -> None:
        """`own` are prices that go before the file's, by exact name."""
        self._content, self.file = content, file
        self.own = dict(own or {})
        self.version = hashlib.sha256(content).hexdigest()[:12]
        self._found: dict[_Key, Price] = {}

    def with_own(self, prices: Mapping[str, Mapping[str, Any]]) -> "Prices":
        """These prices with others before them, by exact name; raise PriceError for what is no price."""
        for name, entry in prices.items():
            check_entry(name, entry)
        return Prices(self._content, self.file, {**self.own, **prices}) if prices else self

    def to_json(self) -> str:
        """The file as text, without `own`, for `prices_from_json`."""
        return self._content.decode()

    def bill(self, event: RequestEvent) -> Bill:
        """What was billed for a request; never raises. Costs 0.4 us (timeit, one core) for a model seen before."""
        key = (event.provider, event.upstream_model, event.served_model, event.model)
        price = self._found.get(key)
        if price is None:
            price = self._find(key)
        prompt, output, status = event.prompt_tokens, event.completion_tokens, event.status
        if prompt is None or output is None or price.reason is not None or (status is not None and status // 100 != 2):
            return self._unusual(event, price)
        rates = price.flat
        tier = _service_tier(event) if event.tags else event.service_tier
        if tier is not None or price.off_peak is not None:
            rates = price.rates(prompt, tier, event.ended_at or event.started_at)
            if rates is None:
                return Bill(None, price.name, "unknown_price")
        elif rates is None:
            rates = rates_at(price.usual, prompt)
        cached, written, reasoning = event.cached_tokens, event.cache_written_tokens, event.reasoning_tokens
        if cached or reasoning or written:
            dollars = _dollars(rates, prompt, cached or 0, written or 0, output, reasoning or 0)
        else:
            dollars = prompt * rates.input + output * rates.output
        return _new(Bill, (dollars, price.name, None))

    def entry(self, name: str, provider: str | None = None) -> tuple[str, Mapping[str, Any]] | None:
        """The entry that prices a model, with its name."""
        found = next(self._entries((provider, name, None, None)), None)
        return None if found is None else (found, self._entry(found))

    def provider(self, name: str) -> str | None:
        """Whose requests an entry prices, as `RequestEvent.provider` has it; None: anybody's, as of one's own."""
        if name in self.own:
            return None
        family = provider_family(self._entry(name)) or name.rpartition("/")[0].partition("/")[0]
        return next((known for known, prefixes in _PROVIDERS.items() if family in prefixes), family or None)

    @property
    def about(self) -> str:
        """Of how many models, where from, of which day."""
        known = len(self.file.models)
        return ", ".join(filter(None, (f"{known} model{'' if known == 1 else 's'}", self.file.source, self.file.date)))

    def names(self) -> list[str]:
        """Names of all entries."""
        return [*self.own, *self.file.models]

    def _unusual(self, event: RequestEvent, price: Price) -> Bill:
        prompt, output, status = event.prompt_tokens, event.completion_tokens, event.status
        if status is not None and status // 100 != 2:
            return Bill(None, price.name, "failed")
        if price.reason is not None:
            return Bill(None, price.name, price.reason)
        embeds = price.entry.get("mode") == "embedding" or (event.route or "").endswith("/embeddings")
        if prompt is None or (output is None and not embeds):
            # What broke off after a 2xx is billed, for tokens that nobody told.
            unanswered = status is None and event.error_class is not None
            return Bill(None, price.name, "failed" if unanswered else "tokens_unknown")
        return self.bill(msgspec.structs.replace(event, completion_tokens=0))

    def _find(self, key: _Key) -> Price:
        name = next(self._entries(key), None)
        if name is not None:
            entry = self._entry(name)
            price = price_of(name, entry, free=name in self.own or _is_free(entry))
        else:
            price = Price(None, "unknown_price" if any(key[1:]) else "no_model")
        if sum(len(part) for part in key if part) <= _LONGEST_NAME:
            if len(self._found) >= _REMEMBERED:
                self._found.clear()
            self._found[key] = price
        return price

    def _entry(self, name: str) -> Mapping[str, Any]:
        own = self.own.get(name)
        return _decode(self.file.models[name]) if own is None else own

    def _entries(self, key: _Key) -> Iterator[str]:
        """Names of entries that are the very model, the likeliest first."""
        provider, *given = key
        yield from (name for name in given if name in self.own)
        prefixes = _PROVIDERS.get(provider, (provider,)) if provider else ()
        for name in _spellings(_names(*key)):
            for prefix in prefixes:
                if f"{prefix}/{name}" in self.file.models:
                    yield f"{prefix}/{name}"
            if name in self.file.models and self._is_of(name, prefixes):
                yield name
            head, _, rest = name.partition("/")
            if rest in self.file.models and (not prefixes or head in prefixes) and self._is_of(rest, (head,)):
                yield rest

    def _is_of(self, name: str, prefixes: tuple[str, ...]) -> bool:
        """Whether an entry is one of the provider's: others serve models of the same name at other prices."""
        return not prefixes or provider_family(self._entry(name)) in prefixes or name.partition("/")[0] in prefixes


def _names(provider: str | None, asked: str | None, served: str | None, model: str | None) -> list[str]:
    """What the provider may call the model. The client's name is one of those only where nobody put another in its
    place: an alias says nothing of who serves it.
    """
    if served and provider in _NAMES_DEPLOYMENTS:
        return [served]
    return [name for name in (asked or model, served) if name]


def _spellings(names: list[str]) -> Iterator[str]:
    """Names, then the same without what is its owner's of a fine-tuned model's, then without a date at the end."""
    tuned = [match[1] for match in map(_FINE_TUNED.fullmatch, names) if match]
    yield from (*names, *tuned)
    yield from (_DATED.sub("", name) for name in (*names, *tuned) if _DATED.search(name))


def _is_free(entry: Mapping[str, Any]) -> bool:
    """Whether an entry of the map says 0 because that is the price."""
    return provider_family(entry) in _OWN_MACHINE or entry.get("mode") == "moderation"


def _dollars(rates: Rates, prompt: int, cached: int, written: int, output: int, reasoning: int) -> float:
    """Tokens read from and written to a cache are among the prompt's, those of reasoning among the output."""
    of_input, of_cached, of_written, of_output, of_reasoning = rates
    # Counts that do not fit are cut, in a third of the time of min().
    cached = prompt if cached > prompt else cached  # noqa: FURB136
    reasoning = output if reasoning > output else reasoning  # noqa: FURB136
    dollars = (prompt - cached) * of_input + cached * of_cached + (output - reasoning) * of_output
    if reasoning:
        dollars += reasoning * of_reasoning
    return dollars + min(written, prompt - cached) * (of_written - of_input) if written else dollars


def _service_tier(event: RequestEvent) -> str | None:
    """What the tag `service_tier=flex` (or priority, batch, ...) says, else the reply."""
    said = (tag[len(_SERVICE_TIER) :] for tag in event.tags if tag.startswith(_SERVICE_TIER))
    return next(said, event.service_tier)


def load_prices(path: Path | None = None) -> Prices:
    """The shipped prices, or those of a file (ours, or litellm's map); raise TableError, one line."""
    if path is None:
        return _shipped()
    return Prices(*price_file(read_file(path, "prices"), str(path)))


@cache
def _shipped() -> Prices:
    content = _SHIPPED.read_bytes()
    return Prices(content, msgspec.json.decode(content, type=PriceFile))


def prices_from_json(text: Any, file: str) -> Prices:
    """Read what `Prices.to_json` gave; raise PriceError, naming `file`, where it is damaged."""
    if not isinstance(text, str):
        raise PriceError(f"{file}: $.prices: expected the text of a price file")
    return Prices(*price_file(text.encode(), f"{file}: $.prices"))
