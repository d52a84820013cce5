"""`config.yaml`: litellm's `model_list` read as it is, and our own section `trueclock:`.

`load_config(path)` gives a `Config` or raises `ConfigError`, one line with file,
line, entry and what to do; `default_config(url)` is the configuration without a
file. docs/configuration.md describes every key.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gateway.base_url import base_url
from gateway.kafka_config import kafka_config
from gateway.model_list import Entries, read_model_list, seconds
from gateway.otlp_config import otlp_config
from gateway.providers import DIALECT, Provider, provider_name
from gateway.routes import Config, Route, Timeouts, Upstream
from gateway.yaml_lines import ConfigError, Node, read_yaml

__all__ = ["NOWHERE", "Config", "ConfigError", "Route", "Timeouts", "Upstream", "default_config", "load_config"]

OPENAI = "https://api.openai.com"
_ALL_TO_OPENAI = f"to send everything to OpenAI, write upstream: {OPENAI} below trueclock"
NOWHERE = f"it names neither upstream nor model_list: {_ALL_TO_OPENAI}"
"""of a file that says nothing about where requests go"""

_LITELLMS_OWN = frozenset({
    "litellm_settings", "general_settings", "router_settings", "environment_variables", "credential_list",
    "callback_settings", "mcp_servers", "mcp_tools", "mcp_aliases", "guardrails", "prompts", "policies",
    "policy_attachments", "plugins", "files_settings", "finetune_settings", "assistant_settings",
    "vector_store_registry", "search_tools", "sandbox_tools", "default_vertex_config", "agents", "agent_list",
    "worker_registry", "include",
})  # fmt: skip
_SECTIONS = ("model_list", "trueclock")
_OWN_KEYS = (
    "upstream", "timeouts", "body_limit_bytes", "retention", "stack", "tables", "aliases", "assume", "constants",
    "region", "prices", "callers", "kafka", "otlp",
)  # fmt: skip
_PLACED = ("stack", "tables", "constants", "region", "prices")
_TIMEOUTS = {"connect_seconds": "connect", "first_byte_seconds": "first_byte", "total_seconds": "total"}


def default_config(upstream_url: str | None = None) -> Config:
    """The configuration without a file: everything to one upstream (OpenAI), the caller's own key."""
    return Config(default=_plain_upstream(upstream_url or OPENAI, Timeouts()))


def load_config(path: Path) -> Config:
    """Read `path`; environment variables that it names are looked up now."""
    root = read_yaml(path)
    given = {} if root.empty else root.mapping((*_SECTIONS, *_LITELLMS_OWN))
    sections = _written(given)
    given_own = sections["trueclock"].mapping(_OWN_KEYS) if "trueclock" in sections else {}
    own = _written(given_own)
    timeouts = _timeouts(own)
    ignored = (node for key, node in sections.items() if key in _LITELLMS_OWN)
    warnings = [str(node.error("a setting of litellm's own, ignored")) for node in ignored]
    exact, wildcards = _entries(sections, timeouts, warnings)
    implied = not ("upstream" in own or exact or wildcards)
    if implied:
        _check_not_cut_off(path, {**given, **given_own}, own)
    return Config(
        default=_default(own, timeouts, any_entry=bool(exact or wildcards)),
        exact=exact,
        wildcards=wildcards,
        warnings=tuple(warnings),
        implied=implied,
        **_limits(own),
        stack=own["stack"].text() if "stack" in own else None,
        tables=_tables(own, path.parent),
        aliases=_texts(own, "aliases"),
        assume=_texts(own, "assume"),
        costs=_costs(own, path.parent),
        places=_places(own),
        callers=_callers(own),
        **(kafka_config(own["kafka"], path.parent) if "kafka" in own else {}),
        otlp=otlp_config(own["otlp"]) if "otlp" in own else None,
    )


def _written(nodes: Mapping[str, Node]) -> dict[str, Node]:
    """The keys that hold something: a key with nothing after it counts as absent."""
    return {key: node for key, node in nodes.items() if not node.empty}


def _check_not_cut_off(path: Path, given: Mapping[str, Node], own: Mapping[str, Node]) -> None:
    """Refuse what looks like the beginning of a file: callers' keys would go to OpenAI, where they never went."""
    for key in ("upstream", "model_list"):
        if key in given:
            raise given[key].error(f"nothing is named: {_ALL_TO_OPENAI}")
    if not own:
        raise ConfigError(f"{path}: {NOWHERE}")


def _plain_upstream(url: str, timeouts: Timeouts) -> Upstream:
    """The upstream at `url`: its provider is known by its host, else it is `openai`, the dialect."""
    base = base_url(url)
    name, known = _provider_at(base.name)
    drops_v1 = base.drops_v1 or (known.drops_v1 and base.bare)
    return Upstream(base.name, provider_name(name), base.root, drops_v1=drops_v1, timeouts=timeouts)


def _provider_at(host: str) -> tuple[str, Provider]:
    known = (pair for pair in DIALECT.items() if pair[1].base and base_url(pair[1].base).name == host)
    return next(known, ("openai", Provider()))


def _default(own: Mapping[str, Node], timeouts: Timeouts, *, any_entry: bool) -> Upstream | None:
    if "upstream" not in own:
        return None if any_entry else _plain_upstream(OPENAI, timeouts)
    url = own["upstream"].text()
    try:
        return _plain_upstream(url, timeouts)
    except ConfigError as error:
        raise own["upstream"].error(str(error)) from None


def _entries(sections: Mapping[str, Node], timeouts: Timeouts, warnings: list[str]) -> Entries:
    if "model_list" not in sections:
        return {}, ()
    return read_model_list(sections["model_list"], timeouts, lambda warning: warnings.append(str(warning)))


def _timeouts(own: Mapping[str, Node]) -> Timeouts:
    given = own["timeouts"].mapping(_TIMEOUTS) if "timeouts" in own else {}
    return Timeouts(**{_TIMEOUTS[key]: seconds(node) for key, node in given.items()})


def _limits(own: Mapping[str, Node]) -> dict[str, Any]:
    limits: dict[str, Any] = {}
    if "body_limit_bytes" in own:
        limits["body_limit_bytes"] = own["body_limit_bytes"].integer(least=1)
    retention = own["retention"].mapping(("days", "bytes")) if "retention" in own else {}
    if "days" in retention:
        limits["retention_days"] = retention["days"].number(least=0.001)
    if "bytes" in retention:
        limits["retention_bytes"] = retention["bytes"].integer(least=1)
    return limits


def _tables(own: Mapping[str, Node], folder: Path) -> tuple[Path, ...]:
    nodes = own["tables"].items() if "tables" in own else []
    return tuple(_table(node, folder / node.text()) for node in nodes)


def _costs(own: Mapping[str, Node], folder: Path) -> dict[str, Any]:
    """The files of constants and prices, and the region."""
    files = {key: _table(own[key], folder / own[key].text()) for key in ("constants", "prices") if key in own}
    return {**files, "region": own["region"].text()} if "region" in own else dict(files)


def _table(node: Node, path: Path) -> Path:
    if not path.is_file():
        raise node.error(f"no such file: {path}")
    return path


def _texts(own: Mapping[str, Node], key: str) -> dict[str, str]:
    nodes = own[key].mapping() if key in own else {}
    return {name: node.text() for name, node in nodes.items()}


def _places(own: Mapping[str, Node]) -> dict[tuple[str | int, ...], str]:
    """File, line and place of all that names tables, stacks or rows: what is wrong with those shows later."""
    nodes: dict[tuple[str | int, ...], Node] = {(key,): own[key] for key in _PLACED if key in own}
    for key in ("aliases", "assume"):
        nodes.update(((key, name), node) for name, node in (own[key].mapping() if key in own else {}).items())
    tables = own["tables"].items() if "tables" in own else []
    nodes.update((("tables", number), node) for number, node in enumerate(tables))
    return {setting: node.place for setting, node in nodes.items()}


def _callers(own: Mapping[str, Node]) -> dict[str, str]:
    """The callers' names by key: written the other way round, since a name is what can be shown."""
    names: dict[str, str] = {}
    for name, key in _texts(own, "callers").items():
        node = own["callers"].mapping()[name]
        if not key:
            raise node.error("the key is empty")
        if key in names:
            raise node.error(f"the same key as {names[key]!r}'s")
        names[key] = name
    return names
