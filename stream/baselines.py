"""Baselines: what each provider at its best needs for each model, and the denoised runtime that this gives.

A `Baseline` is the estimate for one (upstream, model), immutable and versioned; `Baselines` is a snapshot of all of
them. Whoever holds the snapshot that an event was enriched with gets the same denoised runtime again.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from stream.events import Seconds
from stream.runtime import Coefficients, PromptFunction, prompt_function

__all__ = [
    "NO_BASELINES",
    "Baseline",
    "BaselineError",
    "Baselines",
    "Basis",
    "Step",
    "baselines_to_json",
    "load_baselines",
]

Basis = Literal["stream", "whole"]
Key = tuple[str | None, str | None]
"""(upstream, model), as the event has them"""

FURTHEST = 2
"""A prompt longer than this many times the longest one observed is past what a baseline can say."""


class BaselineError(ValueError):
    """A file of baselines that cannot be used; `str(error)` is one line: file, path inside it, what was expected."""


class Step(msgspec.Struct, frozen=True):
    """A lasting change of the provider's own best: another hardware or software, or the first quiet hour seen."""

    at: datetime
    """event time of the first request after it"""
    factor: float
    """runtime after the change over runtime before it, of a typical request: below 1 is faster"""
    version: int
    """the first baseline that knows of it"""


class Baseline(msgspec.Struct, frozen=True, kw_only=True):
    """One (upstream, model) without contention: the coefficients of T(p, o), and what they rest on. Seconds, tokens.

    `intervals` holds (low, high): seconds for `overhead`, `runtime_per_output_token` and
    `context_seconds_per_token2`; factors of the estimate for `runtime_for_prompt_tokens` and `runtime` (all of T).
    """

    version: int = 0
    """grows over all pairs together; 0 until given"""
    origin: str | UnsetType = UNSET
    """who gave the version, where several do"""
    upstream: str | None = None
    model: str
    per_output_token: Seconds
    knots: tuple[int, ...]
    prompt_seconds: tuple[Seconds, ...]
    overhead: Seconds = 0.0
    context: Seconds = 0.0
    basis: Basis = "stream"
    """time to first token and per output token of streams, or whole durations"""
    n: int = 0
    """requests in the window; of them `n_prompt` and `n_output` told of prompts and of output tokens"""
    n_prompt: int = 0
    n_output: int = 0
    quantile: float = 0.05
    since: datetime | None = None
    until: datetime | None = None
    prompt_range: tuple[int, int] = (1, 1)
    """the shortest and the longest prompt observed"""
    intervals: dict[str, tuple[float, float]] = {}
    steps: tuple[Step, ...] = ()

    @property
    def version_name(self) -> str:
        """The version as events have it, "17", or "worker-1:17" of a known origin."""
        return f"{self.origin}:{self.version}" if self.origin else str(self.version)

    @property
    def coefficients(self) -> Coefficients:
        """The numbers as a table row has them."""
        return Coefficients(self.per_output_token, self.knots, self.prompt_seconds, self.overhead, self.context)


class _Entry:
    """A baseline with its F(p), which is worked out when first asked for: most of thousands never are."""

    __slots__ = ("_prompt", "baseline", "version")

    def __init__(self, baseline: Baseline) -> None:
        self.baseline = baseline
        self.version = baseline.version_name
        self._prompt: PromptFunction | None = None

    def __reduce__(self) -> tuple[type["_Entry"], tuple[Baseline]]:
        return _Entry, (self.baseline,)

    def seconds(self, prompt_tokens: int, cached_tokens: int, output_tokens: int) -> float | None:
        baseline = self.baseline
        if prompt_tokens > FURTHEST * baseline.prompt_range[1]:
            return None
        if self._prompt is None:
            self._prompt = prompt_function(baseline.coefficients)
        computed = prompt_tokens
        if cached_tokens and prompt_tokens:
            # The last prompt token is always computed anew, however much of the prompt a cache holds.
            computed = max(prompt_tokens - cached_tokens, 1)
        seconds = baseline.overhead + self._prompt(computed)
        if output_tokens > 1:
            further = output_tokens - 1
            # Generation attends to cached tokens all the same.
            context = further * (2 * prompt_tokens + output_tokens) / 2
            seconds += further * baseline.per_output_token + context * baseline.context
        return seconds


class Baselines(Mapping[Key, Baseline]):
    """An immutable snapshot: (upstream, model) to Baseline. `version` is the largest one in it, 0 of none."""

    __slots__ = ("_entries", "version")

    def __init__(self, baselines: Iterable[Baseline] = ()) -> None:
        """Hold these; of several for one pair the last counts."""
        self._entries: dict[Key, _Entry] = {(each.upstream, each.model): _Entry(each) for each in baselines}
        self.version = max((entry.baseline.version for entry in self._entries.values()), default=0)

    def __getitem__(self, key: Key) -> Baseline:
        """Look up a pair; KeyError for one without a baseline."""
        return self._entries[key].baseline

    def __iter__(self) -> Iterator[Key]:
        """Iterate over the pairs."""
        return iter(self._entries)

    def __len__(self) -> int:
        """Count the pairs."""
        return len(self._entries)

    def with_(self, baselines: Iterable[Baseline]) -> "Baselines":
        """Return a snapshot with these in place of what it had for their pairs."""
        newer = Baselines(baselines)
        newer._entries = {**self._entries, **newer._entries}
        newer.version = max(self.version, newer.version)
        return newer

    def denoised(
        self, key: Key, prompt_tokens: int | None, cached_tokens: int | None, output_tokens: int | None
    ) -> tuple[str | None, float | None]:
        """Return the baseline's version, None where the pair has none, and the denoised runtime in seconds.

        Prompt tokens that the provider took from its cache are left out of F(p): the cache is its own software, so
        what it saves is the stack's doing. None for unknown tokens, and for prompts far past all that was observed.
        """
        entry = self._entries.get(key)
        if entry is None:
            return None, None
        if prompt_tokens is None or output_tokens is None:
            return entry.version, None
        return entry.version, entry.seconds(prompt_tokens, cached_tokens or 0, output_tokens)

    def runtime(self, key: Key) -> Callable[[int, int, int], float | None]:
        """Return a pair's `denoised`, for many (prompt, cached, output) tokens of it; KeyError without a baseline."""
        return self._entries[key].seconds


NO_BASELINES = Baselines()


def baselines_to_json(baselines: Iterable[Baseline]) -> bytes:
    """Write a table, `{"models": {"UPSTREAM/MODEL": row}}`: it serves wherever a table does, and as baselines."""
    rows = {f"{each.upstream}/{each.model}" if each.upstream else each.model: _row(each) for each in baselines}
    return json.dumps({"models": rows}, indent=1).encode() + b"\n"


def _row(baseline: Baseline) -> dict[str, Any]:
    record: dict[str, Any] = msgspec.to_builtins(baseline)
    knots, seconds = record.pop("knots"), record.pop("prompt_seconds")
    return {
        "runtime_per_output_token": record.pop("per_output_token"),
        "runtime_for_prompt_tokens": {str(knot): each for knot, each in zip(knots, seconds, strict=True)},
        "overhead": record.pop("overhead"),
        "context_seconds_per_token2": record.pop("context"),
        **record,
    }


def load_baselines(path: Path) -> Baselines:
    """Read what `baselines_to_json` wrote; raise BaselineError for anything else."""
    try:
        content = msgspec.json.decode(path.read_bytes())
    except OSError as error:
        raise BaselineError(f"{path}: cannot be read: {error.strerror}") from None
    except msgspec.MsgspecError as error:
        raise BaselineError(f"{path}: not JSON: {error}") from None
    rows = content.get("models") if isinstance(content, dict) else None
    if not isinstance(rows, dict):
        raise BaselineError(f'{path}: $.models: expected an object of rows, as "stream denoise --json" writes it')
    return Baselines(_read_row(path, name, row) for name, row in rows.items())


def _read_row(path: Path, name: str, row: Any) -> Baseline:
    try:
        record = dict(row)
        prompt = record.pop("runtime_for_prompt_tokens")
        record["per_output_token"] = record.pop("runtime_per_output_token")
        record["context"] = record.pop("context_seconds_per_token2", 0.0)
        known = sorted((int(knot), seconds) for knot, seconds in prompt.items())
        record["knots"], record["prompt_seconds"] = [knot for knot, _ in known], [seconds for _, seconds in known]
        record.setdefault("model", name)
        record.setdefault("prompt_range", (known[0][0], known[-1][0]) if known else (1, 1))
        baseline = msgspec.convert(record, Baseline)
    except (msgspec.MsgspecError, KeyError, TypeError, ValueError, AttributeError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else " ".join(str(error).split())
        raise BaselineError(f"{path}: $.models[{name!r}]: no baseline: {reason}") from None
    if not known or known[0][0] < 1:
        raise BaselineError(f"{path}: $.models[{name!r}].runtime_for_prompt_tokens: expected prompt sizes from 1 on")
    return baseline
