"""litellm's `model_list`: each entry becomes a `Route` to an `Upstream`.

What can be applied to a request whose bytes pass through is applied (base, key,
organization, extra headers, timeout); the rest of an entry's litellm_params is
named in a warning. Entries of providers with another dialect keep all of them, for
the litellm transport.
"""

import importlib.util
import re
from collections.abc import Callable, Mapping
from typing import TypeAlias

from gateway.base_url import BaseUrl, base_url
from gateway.providers import DIALECT, TRANSLATED, Provider, provider_name, split_model
from gateway.routes import Route, Timeouts, Upstream, Wildcard
from gateway.yaml_lines import ConfigError, Node, nearest

__all__ = ["Entries", "read_model_list", "seconds"]

_APPLIED = (
    "model", "custom_llm_provider", "api_base", "base_url", "api_key", "organization", "timeout",
    "extra_headers",
)  # fmt: skip
# Parameters of litellm's router: they mean nothing to one call.
_ROUTER = frozenset({
    "rpm", "tpm", "itpm", "otpm", "weight", "order", "max_parallel_requests", "max_budget", "budget_duration",
    "tags", "max_retries", "num_retries", "stream_timeout", "default_api_key_rpm_limit",
    "default_api_key_tpm_limit", "model_info", "cooldown_time", "use_in_pass_through",
})  # fmt: skip
_FRAMING = frozenset({
    "host", "content-length", "transfer-encoding", "connection", "keep-alive", "upgrade", "te", "trailer",
    "expect", "proxy-connection", "content-encoding",
})  # fmt: skip
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")

Entries: TypeAlias = tuple[dict[str, tuple[Route, ...]], tuple[Wildcard, ...]]
Warn = Callable[[ConfigError], None]


def read_model_list(node: Node, timeouts: Timeouts, warn: Warn) -> Entries:
    """The routes by exact name, and the wildcards with the longest pattern first."""
    exact: dict[str, list[Route]] = {}
    wild: dict[str, list[Route]] = {}
    shared: dict[Upstream, Upstream] = {}
    for item in node.items():
        name, route = _Entry(item, timeouts, warn).read()
        # Entries of one base and key share one Upstream: its connections and what was learnt of it.
        upstream = shared.setdefault(route.upstream, route.upstream)
        (wild if "*" in name else exact).setdefault(name, []).append(Route(upstream, route.model))
    wildcards = (Wildcard(pattern, tuple(routes)) for pattern, routes in wild.items())
    longest_first = tuple(sorted(wildcards, key=lambda wildcard: -len(wildcard.pattern)))
    return {name: tuple(routes) for name, routes in exact.items()}, longest_first


def seconds(node: Node) -> float:
    """A duration in seconds, of at least a millisecond."""
    return node.number(least=0.001)


class _Entry:
    """One entry of the list, and how its errors name it: `model_list[1] 'claude'`."""

    def __init__(self, item: Node, timeouts: Timeouts, warn: Warn) -> None:
        self._item = item
        self._fields = item.mapping(("model_name", "litellm_params", "model_info"))
        self._timeouts = timeouts
        self._warn = warn
        self._name = _required(item, self._fields, "model_name").text()
        self._place = f"{item.where} {self._name!r}"
        params = _required(item, self._fields, "litellm_params").mapping()
        self._params = {key: value for key, value in params.items() if not value.empty}

    def read(self) -> tuple[str, Route]:
        """The served name and where it leads."""
        model_node = _required(self._fields["litellm_params"], self._params, "model")
        self._check_stars(model_node)
        given = model_node.text()
        provider, model = split_model(given, self._line("custom_llm_provider"))
        if provider is None:
            raise self._unknown_provider(model_node, given)
        if provider not in DIALECT:
            return self._name, Route(self._translated(provider, given), model)
        return self._name, self._dialect(provider, DIALECT[provider], model)

    def _line(self, key: str) -> str | None:
        return (_line(self._params[key]) or None) if key in self._params else None

    def _check_stars(self, model_node: Node) -> None:
        if self._name.count("*") > 1:
            raise self._item.error("only one * is understood in a model_name", self._place)
        if "*" in model_node.text() and "*" not in self._name:
            raise model_node.error("the model has a * but the model_name has none", self._place)

    def _unknown_provider(self, node: Node, given: str) -> ConfigError:
        head = given.partition("/")[0]
        near = nearest(head, DIALECT.keys() | TRANSLATED)
        todo = f"for a server of OpenAI's dialect write 'openai/{given}' and its api_base"
        return node.error(f"the provider {head!r} is not known{near}; {todo}", self._place)

    def _dialect(self, provider: str, known: Provider, model: str) -> Route:
        self._warn_of_unapplied()
        base = self._base(provider, known)
        prefix = "" if "*" in model or model.startswith("accounts/") else known.model_prefix
        upstream = Upstream(
            name=base.name,
            provider=provider_name(provider),
            root=base.root,
            drops_v1=base.drops_v1 or (known.drops_v1 and base.bare),
            api_key=self._line("api_key"),
            headers=self._headers(),
            timeouts=self._own_timeouts(),
        )
        return Route(upstream, prefix + model)

    def _base(self, provider: str, known: Provider) -> BaseUrl:
        node = self._params.get("api_base") or self._params.get("base_url")
        url = node.text() if node else known.base
        if not url:
            raise self._item.error(f"{provider} has no default address: give api_base its URL", self._place)
        try:
            return base_url(url)
        except ConfigError as error:
            raise (node or self._item).error(str(error)) from None

    def _headers(self) -> tuple[tuple[str, str], ...]:
        nodes = self._params["extra_headers"].mapping() if "extra_headers" in self._params else {}
        headers = [(name, _header_value(name, node)) for name, node in nodes.items()]
        organization = self._line("organization")
        return (*headers, *((("OpenAI-Organization", organization),) if organization else ()))

    def _own_timeouts(self) -> Timeouts:
        if "timeout" not in self._params:
            return self._timeouts
        total, given = seconds(self._params["timeout"]), self._timeouts
        return Timeouts(min(given.connect, total), min(given.first_byte, total), total)

    def _warn_of_unapplied(self) -> None:
        others = [key for key in self._params if key not in _APPLIED]
        for key in others:
            near = nearest(key, _APPLIED, cutoff=0.8)
            if near:
                raise self._params[key].error(f"unknown parameter{near}")
        if others:
            what = f"litellm_params {', '.join(others)}: ignored, requests go out as the client sent them"
            self._warn(self._item.error(what, self._place))

    def _translated(self, provider: str, given: str) -> Upstream:
        if importlib.util.find_spec("litellm") is None:
            line = self._params["model"].line
            todo = "goes through litellm, which is not installed; pip install -e '.[litellm]' in its checkout"
            raise self._item.error(f"{given} (line {line}) {todo}", self._place)
        dropped = [key for key in self._params if key in _ROUTER]
        if dropped:
            what = f"litellm_params {', '.join(dropped)}: ignored, they are for litellm's own router"
            self._warn(self._item.error(what, self._place))
        params = {key: node.plain() for key, node in self._params.items() if key not in _ROUTER}
        base = self._params.get("api_base") or self._params.get("base_url")
        return Upstream(
            name=_name_of(base) or provider,
            provider=provider_name(provider),
            root="",
            api_key=self._line("api_key"),
            timeouts=self._own_timeouts(),
            transport="litellm",
            params=params | {"custom_llm_provider": provider},
        )


def _required(owner: Node, fields: Mapping[str, Node], key: str) -> Node:
    if key not in fields or fields[key].empty:
        raise owner.error(f"{key} is missing")
    return fields[key]


def _name_of(base: Node | None) -> str | None:
    url = base.text() if base else None
    if base is None or not url:
        return None
    try:
        return base_url(url).name
    except ConfigError as error:
        raise base.error(str(error)) from None


def _header_value(name: str, node: Node) -> str:
    """The value of an extra header; its name and value must fit HTTP and leave the framing alone."""
    if not _HEADER_NAME.fullmatch(name):
        raise node.error("not a header name")
    if name.lower() in _FRAMING:
        raise node.error("this header belongs to the connection and cannot be set")
    return _line(node)


def _line(node: Node) -> str:
    """A text that goes into a header; the line's end that a mounted secret comes with is left off."""
    value = node.text().removesuffix("\n").removesuffix("\r")
    if not value.isascii() or any(char in value for char in "\r\n\0") or value != value.strip():
        raise node.error("a header's value is one line of ASCII without spaces around it")
    return value
