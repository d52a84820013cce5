"""Machines that are made up: their truth is known, their noise repeatable, and time passes only while they run."""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from profiler.journal import Journal
from profiler.machine import MachineError, Run
from profiler.measuring import Budget, Repeated
from profiler.runs import WHOLE, Point, Runs, Setup


@dataclass(frozen=True, slots=True)
class Truth:
    """Seconds of a model of `layers` layers: a part besides them, and each layer's."""

    beside: float = 0.002
    of_layer: float = 0.0004
    of_prompt_token: float = 4e-6
    of_pair: float = 1e-8
    layers: int = 24

    def first(self, prompt: int, layers: int) -> float:
        """F(p) of a model of so many layers."""
        return self.beside + layers * (self.of_layer + self.of_prompt_token * prompt)

    def seconds(self, prompt: int, output: int, layers: int) -> float:
        """T(p, o)."""
        further = sum(prompt + each for each in range(1, output))
        step = self.beside + layers * self.of_layer
        return self.first(prompt, layers) + (output - 1) * step + layers * self.of_pair * further

    @property
    def beta(self) -> float:
        """Of the whole model."""
        return self.beside + self.layers * self.of_layer

    @property
    def gamma(self) -> float:
        """Of the whole model."""
        return self.layers * self.of_pair


@dataclass
class Clock:
    """Seconds that machines add to."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class MadeUp:
    """A machine of one depth. The same run has the same noise whenever it is made: it hangs on its point and number."""

    truth: Truth
    layers: int
    clock: Clock
    noise: float = 0.0
    number: Callable[[Point, int], int] = lambda *_: 0
    made: list[tuple[int, Point]] = field(default_factory=list)
    dies_after: float = float("inf")

    def run(self, prompt_tokens: int, output_tokens: int) -> Run:
        point = prompt_tokens, output_tokens
        if len(self.made) >= self.dies_after:
            raise MachineError("box: gone: is it running there?")
        self.made.append((self.layers, point))
        luck = random.Random(repr((point, self.layers, self.number(point, self.layers))))
        deep = self.layers or self.truth.layers
        first = self.truth.first(prompt_tokens, deep) * (1 + luck.gauss(0, self.noise))
        rest = self.truth.seconds(*point, deep) - self.truth.first(prompt_tokens, deep)
        run = Run(*point, first, first + rest * (1 + luck.gauss(0, self.noise)))
        self.clock.now += run.seconds
        return run


def setup(model: str = "made-up", depths: Mapping[int, float] | None = None, **more: Any) -> Setup:
    """A setup of a stack that nobody knows."""
    given: dict[str, Any] = {"hardware": {"name": "box"}, "software": {"version": "1"}, **more}
    return Setup(model=model, stack="box-stack", depths=depths or {WHOLE: 1.0}, **given)


@dataclass
class Bench:
    """What measures a made-up machine: a journal, its runs, and the oracle, as a process would have them."""

    journal: Journal
    runs: Runs
    oracle: Repeated
    machines: dict[int, MadeUp]
    clock: Clock

    @property
    def made(self) -> list[tuple[int, Point]]:
        """All runs, warm-ups too, in order."""
        return next(iter(self.machines.values())).made

    def kept(self) -> list[tuple[int, Point]]:
        """Depths and points of the runs in the file, in order."""
        return [
            (entry["layers"], (entry["prompt_tokens"], entry["output_tokens"]))
            for entry in self.journal.entries
            if entry["kind"] == "run"
        ]


def bench(
    path: Path,
    of: Setup | None = None,
    *,
    truth: Truth | None = None,
    noise: float = 0.0,
    tight: float = 0.02,
    seconds: float | None = None,
    journal: Journal | None = None,
) -> Bench:
    """Go on with a file, or begin it."""
    of, clock = of or setup(), Clock()
    journal = journal or Journal(path)
    runs = Runs(journal, of, {"trueclock": "0"})
    made: list[tuple[int, Point]] = []
    machines = {
        layers: MadeUp(truth or Truth(), layers, clock, noise, lambda *at: len(runs.at(*at)), made)
        for layers in of.depths
    }
    oracle = Repeated(runs, machines.__getitem__, tight, Budget(seconds, clock))
    return Bench(journal, runs, oracle, machines, clock)
