"""How long the replayed provider takes: published denoised runtimes, measured contention, an episode.

Pure: time and randomness are passed in. Units: seconds, tokens. The data are in `gateway/replay_data`, with
their sources; NOTICE has the licences.
"""

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from stream.coefficients import Tables, load_tables
from stream.runtime import prompt_function

DENOISED_STACK = "api-2022"
MODELS = (
    "ai21/j1-large",
    "ai21/j1-grande",
    "ai21/j1-jumbo",
    "anthropic/stanford-online-all-v4-s3",
    "cohere/xlarge-20220609",
    "openai/davinci",
)
"""Those with a denoised and an idealized row. `openai/davinci` was measured to be faster than idealized."""

FASTER_THAN_IDEALIZED = "openai/davinci"
_FACTORS = Path(__file__).parent / "replay_data" / "contention_factors.json"


@dataclass(frozen=True, slots=True)
class Episode:
    """Scripted contention of one model: from `first` on, `factor` for `lasts` of every `every` seconds."""

    model: str = "ai21/j1-large"
    factor: float = 3.0
    first: float = 8.0
    every: float = 60.0
    lasts: float = 20.0

    def active(self, elapsed: float) -> bool:
        """Whether it is on, `elapsed` seconds after the replay began."""
        return elapsed >= self.first and (elapsed - self.first) % self.every < self.lasts


@dataclass(frozen=True, slots=True)
class ServiceTime:
    """When a reply's tokens come, in seconds after the request: the first, then one each `per_token`."""

    first_token: float
    per_token: float

    def token(self, index: int) -> float:
        """When token `index` (0 is the first) comes."""
        return self.first_token + index * self.per_token

    def whole(self, output_tokens: int) -> float:
        """When the last of `output_tokens` (at least 1) comes."""
        return self.token(output_tokens - 1)


class ReplayedProvider:
    """The replayed provider's timing, by model."""

    def __init__(self, episode: Episode | None = None, seed: int | None = None, tables: Tables | None = None) -> None:
        """Read the shipped tables (or take `tables`, which must have the stack api-2022) and the factors."""
        self.episode = episode or Episode()
        stack = (tables or load_tables()).stacks[DENOISED_STACK]
        self._rows = {model: stack.rows[model].coefficients for model in MODELS}
        self._prompts = {model: prompt_function(row) for model, row in self._rows.items()}
        self._factors = contention_factors()
        self._random = random.Random(seed)  # noqa: S311 - a replay, no secret

    @property
    def models(self) -> tuple[str, ...]:
        """The names it answers to."""
        return tuple(self._rows)

    def service_time(self, model: str, prompt_tokens: int, elapsed: float, *, denoised: bool = False) -> ServiceTime:
        """Time one request that arrives `elapsed` seconds after the start; KeyError for an unknown model.

        Published denoised T(p, o), times one contention factor drawn from the measured ones, times the
        episode's if it is on when the request arrives; with `denoised` both factors are 1.
        """
        row = self._rows[model]
        factor = 1.0
        if not denoised:
            factor = self._random.choice(factors_of(self._factors, model))
            if model == self.episode.model and self.episode.active(elapsed):
                factor *= self.episode.factor
        first = row.overhead + self._prompts[model](prompt_tokens)
        return ServiceTime(first * factor, row.per_output_token * factor)


def contention_factors() -> Mapping[str, Sequence[float]]:
    """Read the measured contention factors by model; each is at least 1."""
    factors: Mapping[str, Sequence[float]] = json.loads(_FACTORS.read_bytes())["factors"]
    return factors


def factors_of(factors: Mapping[str, Sequence[float]], model: str) -> Sequence[float]:
    """Return the model's own factors, or those of all measured models where it was not measured itself."""
    return factors.get(model) or [factor for measured in factors.values() for factor in measured]
