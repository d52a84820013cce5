"""Where a request goes: upstreams, and the table from served model names to them.

Plain frozen values and one lookup, `Config.route`. Nothing here reads a file, an
environment variable or a socket: `gateway.config` builds these from `config.yaml`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any, Literal

from gateway.otlp_settings import OtlpSettings
from stream.kafka import KafkaSettings
from stream.records import LINGER_MS, MOST_EVENTS

__all__ = ["MOST_LINGER_MS", "Batching", "Config", "Route", "Timeouts", "Upstream", "Wildcard"]

MIB = 1024 * 1024
MOST_LINGER_MS = 60_000


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Bounds on one upstream call, in seconds."""

    connect: float = 10.0
    first_byte: float = 600.0
    total: float = 3600.0


@dataclass(frozen=True, slots=True)
class Upstream:
    """One place that answers requests.

    `name` is a metric label (`host[:port]`, or the provider of a litellm entry);
    `provider` is OpenTelemetry's `gen_ai.provider.name`. `root` is the base URL
    without a trailing slash and without a trailing `/v1`; with `drops_v1` the
    client's leading `/v1` is not part of the upstream's paths either (its base
    ends otherwise, such as `/v1beta/openai`). `api_key` replaces the caller's
    Authorization, None passes that on. `headers` are added to each request.
    `params` are an entry's litellm_params, for the litellm transport only.
    """

    name: str
    provider: str
    root: str
    drops_v1: bool = False
    api_key: str | None = field(default=None, repr=False)
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    timeouts: Timeouts = Timeouts()
    transport: Literal["bytes", "litellm"] = "bytes"
    params: Mapping[str, Any] = field(default_factory=dict, repr=False, hash=False)

    @property
    def has_path(self) -> bool:
        """Whether the base is more than a host, so that a path might lead out of it."""
        return "/" in self.root.partition("://")[2]

    def target(self, raw_path: str) -> str:
        """The full URL for a request line's path and query, which stay as they came."""
        if self.drops_v1 and raw_path.startswith("/v1") and raw_path[3:4] in ("", "/", "?"):
            return self.root + raw_path[3:]
        if not raw_path.startswith("/"):
            # Without it "@host" or ":80" would name another host than the configured one.
            return f"{self.root}/{raw_path}"
        return self.root + raw_path


@dataclass(frozen=True, slots=True)
class Route:
    """An upstream and the model name it is to be asked for (None: as the client sent it)."""

    upstream: Upstream
    model: str | None = None


@dataclass(frozen=True, slots=True)
class Wildcard:
    """A `model_name` with one `*`; the part it stands for goes into a `*` of the upstream's model."""

    pattern: str
    routes: tuple[Route, ...]

    def captured(self, model: str) -> str | None:
        """What the `*` stands for in `model`, or None when the pattern does not match."""
        before, _, after = self.pattern.partition("*")
        fits = len(model) >= len(before) + len(after) and model.startswith(before) and model.endswith(after)
        return model[len(before) : len(model) - len(after)] if fits else None


@dataclass(frozen=True, slots=True)
class Batching:
    """How events are put together to Kafka records: at most so many, none waiting longer for others (seconds)."""

    linger_seconds: float = LINGER_MS / 1000
    most_events: int = MOST_EVENTS


@dataclass(frozen=True)
class Config:
    """Everything `gateway run` can be told. Immutable but for the round-robin turns.

    `default` answers for models that no entry names; `exact` and `wildcards` (the
    longest pattern first) are the entries. `retention_days` and `retention_bytes`
    bound the event log; `stack`, `tables`, `aliases` and `assume` are for the
    coefficient tables, `costs` (`constants`, `region`, `prices`) for what comes with them,
    and `places` says where in the file they are; `callers` maps a caller's key to its name;
    `kafka` is where events are forwarded to, if anywhere, and `batching` how; `otlp` is what is
    exported, if anything; `warnings` are lines to log at start; `implied` says that the file
    names neither an upstream nor an entry, so that `default` is OpenAI.
    """

    default: Upstream | None
    exact: Mapping[str, tuple[Route, ...]] = field(default_factory=dict)
    wildcards: tuple[Wildcard, ...] = ()
    body_limit_bytes: int = 64 * MIB
    retention_days: float = 7.0
    retention_bytes: int = 1024 * MIB
    stack: str | None = None
    tables: tuple[Path, ...] = ()
    aliases: Mapping[str, str] = field(default_factory=dict)
    assume: Mapping[str, str] = field(default_factory=dict)
    costs: Mapping[str, Any] = field(default_factory=dict)
    places: Mapping[tuple[str | int, ...], str] = field(default_factory=dict, repr=False, compare=False)
    callers: Mapping[str, str] = field(default_factory=dict, repr=False)
    kafka: KafkaSettings | None = None
    batching: Batching = Batching()
    otlp: OtlpSettings | None = None
    warnings: tuple[str, ...] = ()
    implied: bool = field(default=False, compare=False)
    _turns: dict[str, Iterator[Route]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Set up one endless round of routes for each name."""
        rounds = {name: cycle(routes) for name, routes in self.exact.items()}
        rounds.update((wildcard.pattern, cycle(wildcard.routes)) for wildcard in self.wildcards)
        object.__setattr__(self, "_turns", rounds)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle what was given: the rounds begin anew elsewhere."""
        return partial(Config, **{each.name: getattr(self, each.name) for each in fields(self) if each.init}), ()

    @property
    def model_names(self) -> tuple[str, ...]:
        """The names of all entries, wildcards too, in the file's order within each kind."""
        return (*self.exact, *(wildcard.pattern for wildcard in self.wildcards))

    def destinations(self) -> Iterator[tuple[str, str, Route]]:
        """Each entry's name, the root (or provider) that it leads to, and its route."""
        entries = [*self.exact.items(), *((wildcard.pattern, wildcard.routes) for wildcard in self.wildcards)]
        for name, routes in entries:
            for route in routes:
                upstream = route.upstream
                place = upstream.root if upstream.transport == "bytes" else f"{upstream.provider} (litellm)"
                yield name, place, route

    @property
    def upstreams(self) -> tuple[Upstream, ...]:
        """Every upstream once, the default first."""
        named = [route.upstream for routes in self.exact.values() for route in routes]
        named += [route.upstream for wildcard in self.wildcards for route in wildcard.routes]
        unique: list[Upstream] = []
        for upstream in ([self.default] if self.default else []) + named:
            if not any(upstream is seen for seen in unique):
                unique.append(upstream)
        return tuple(unique)

    def route(self, model: str | None) -> Route | None:
        """Where a request for `model` goes; None: this gateway serves no such model.

        Exact names, then wildcards, then the default. A request without a model
        goes to the default, else to the first entry whose bytes pass through.
        """
        if model is None:
            return self._modelless()
        if model in self.exact:
            return next(self._turns[model])
        for wildcard in self.wildcards:
            captured = wildcard.captured(model)
            if captured is not None:
                return _filled(next(self._turns[wildcard.pattern]), captured)
        return Route(self.default) if self.default else None

    def _modelless(self) -> Route | None:
        if self.default:
            return Route(self.default)
        return next((Route(up) for up in self.upstreams if up.transport == "bytes"), None)


def _filled(route: Route, captured: str) -> Route:
    """The route with its model's `*` replaced by what the client's name had there."""
    if route.model is None or "*" not in route.model:
        return route
    return Route(route.upstream, route.model.replace("*", captured, 1))
