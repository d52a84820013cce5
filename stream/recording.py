"""Recorded requests, as far as another model could be asked them: how many tokens, when they came, what was billed."""

from collections import Counter
from collections.abc import Callable
from datetime import datetime
from math import fsum
from typing import NamedTuple

from stream.enrich import exclusion_reason, output_tokens
from stream.events import RequestEvent
from stream.prices import Bill

__all__ = ["Recording", "Shape"]

_HELD_UP = "client_backpressure"  # completed all the same, only slowly read: its tokens are as good as any


class Shape(NamedTuple):
    """What a request's cost depends on: its prompt, its longest choice, the tokens of all its choices, their number."""

    prompt_tokens: int
    longest_tokens: int
    output_tokens: int
    choices: int


class Recording:
    """The completed requests whose tokens are known, and how many were left out, by reason.

    `moments` and `shapes` belong together; a moment is None where a request does not say when it came. `seconds` are
    the raw runtimes of those that tell them, `dollars` what those were billed whose price is known, `unbilled` why
    others were not. `bill` says that; with `from_model`, requests of other models are left out.
    """

    def __init__(self, bill: Callable[[RequestEvent], Bill], from_model: str | None = None) -> None:
        self.from_model = from_model
        self.shapes: list[Shape] = []
        self.moments: list[datetime | None] = []
        self.seconds: list[float] = []
        self.models: Counter[str] = Counter()
        self.dollars: list[float] = []
        self.unbilled: Counter[str] = Counter()
        self.left_out: Counter[str] = Counter()
        self.others: Counter[str] = Counter()
        self._bill = bill

    @property
    def billed(self) -> float | None:
        """Dollars of all that could be billed; None where nothing could."""
        return fsum(self.dollars) if self.dollars else None

    def add(self, event: RequestEvent) -> None:
        """Take one request, or count why not."""
        names = (event.model, event.served_model, event.upstream_model)
        if self.from_model is not None and self.from_model not in names:
            self.left_out["other_model"] += 1
            self.others[event.model or ""] += 1
            return
        reason, output = exclusion_reason(event), output_tokens(event)
        if reason is not None and reason != _HELD_UP:
            self.left_out[reason] += 1
        elif event.route is not None and event.route.endswith("/embeddings"):
            self.left_out["embedding"] += 1
        elif event.prompt_tokens is None or output is None:
            self.left_out["prompt_tokens_unknown" if event.prompt_tokens is None else "completion_tokens_unknown"] += 1
        else:
            self._take(event, event.prompt_tokens, output)

    def _take(self, event: RequestEvent, prompt: int, longest: int) -> None:
        choices = event.choices or 1
        total = longest * choices if event.completion_tokens is None else event.completion_tokens
        self.shapes.append(Shape(prompt, longest, total, choices))
        self.moments.append(event.started_at)
        self.models[event.model or ""] += 1
        if event.raw_seconds is not None:
            self.seconds.append(event.raw_seconds)
        bill = self._bill(event)
        if bill.dollars is None:
            self.unbilled[bill.reason or "unknown"] += 1
        else:
            self.dollars.append(bill.dollars)
