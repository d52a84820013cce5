"""A denoiser that is easy to predict: after every fifth request of a pair a new baseline, every third one a step."""

from collections.abc import Iterable
from datetime import datetime

import msgspec

from stream.baselines import Baseline, Step
from stream.denoise import Denoiser
from stream.events import EnrichedEvent

EVERY = 5


class ScriptedDenoiser(Denoiser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[str, int] = {}
        self.due: list[tuple[str | None, str]] = []
        self.steps: dict[str, tuple[Step, ...]] = {}
        self.version = 0
        self.dirty = False
        self.ended: datetime | None = None

    def observe(self, enriched: EnrichedEvent) -> None:
        self.dirty = True
        event = enriched.event
        key = f"{event.upstream}/{event.model}"
        self.seen[key] = self.seen.get(key, 0) + 1
        if self.seen[key] % EVERY == 0 and event.model is not None:
            self.due.append((event.upstream, event.model))
        self.ended = event.ended_at

    def refresh(self, limit: int | None = None) -> list[Baseline]:
        found = []
        for upstream, model in self.due[:limit]:
            self.version += 1
            self.dirty = True
            key = f"{upstream}/{model}"
            if self.version % 3 == 0 and self.ended is not None:
                self.steps[key] = (*self.steps.get(key, ()), Step(self.ended, 1.5, self.version))
            found.append(
                Baseline(
                    version=self.version, upstream=upstream, model=model, per_output_token=0.01 * self.version,
                    knots=(1, 1000), prompt_seconds=(0.1, 0.3), overhead=0.05, n=self.seen[key],
                    prompt_range=(1, 1000), steps=self.steps.get(key, ()),
                )
            )  # fmt: skip
        self.due = self.due[len(found) :]
        return found

    def changed(self) -> list[tuple[str, bytes]]:
        if not self.dirty:
            return []
        self.dirty = False
        return [("all", msgspec.json.encode([self.seen, self.due, self.version, self.steps]))]

    def restore(self, rows: Iterable[tuple[str, bytes]]) -> None:
        types = tuple[dict[str, int], list[tuple[str | None, str]], int, dict[str, tuple[Step, ...]]]
        for _, value in rows:
            self.seen, self.due, self.version, self.steps = msgspec.json.decode(value, type=types)
