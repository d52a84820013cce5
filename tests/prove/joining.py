"""What a restart and further workers do to a denoiser: state saved and restored, states merged, records exchanged."""

import random
from collections.abc import Callable

from stream.baselines import Baseline, Baselines
from stream.coefficients import load_tables
from stream.denoise import Denoiser
from stream.enrich import enrich
from stream.events import EnrichedEvent
from stream.fleet import source_of
from stream.simulate import Simulation

REQUESTS = 1000
SAVED_EVERY = 50
SIZES = ((100, 50), (1000, 150), (3000, 400))
"""Prompt and output tokens at which two estimates are compared"""

_TABLES = load_tables()


def _events(seed: int, scenario: str) -> list[EnrichedEvent]:
    return [enrich(simulated.event, _TABLES) for simulated in Simulation(seed, REQUESTS, scenario)]


def restart_differs(seed: int, scenario: str = "mixed") -> bool:
    """Whether a denoiser restored half way, and again later, ends with other baselines than one that ran through."""
    through, stopped = Denoiser(), Denoiser()
    rows: dict[str, bytes] = {}
    for number, enriched in enumerate(_events(seed, scenario), 1):
        through.observe(enriched)
        stopped.observe(enriched)
        if number % SAVED_EVERY == 0:
            through.refresh()
            through.changed()
            stopped.refresh()
            rows.update(stopped.changed())
            if number in (REQUESTS // 2, REQUESTS * 3 // 4):
                kept, stopped = stopped.baselines, Denoiser()
                stopped.restore(list(rows.items()))
                if kept != stopped.baselines:
                    return True
    return dict(through.baselines) != dict(stopped.baselines)


def merged_errors(seed: int, scenario: str = "default") -> float:
    """How far T of two workers' states merged is from that of one which saw all: the largest relative difference."""
    whole, halves = Denoiser(), (Denoiser(), Denoiser())
    for number, enriched in enumerate(_events(seed, scenario)):
        whole.observe(enriched)
        halves[number % 2].observe(enriched)
    merged, other = halves
    merged.merge(other)
    whole.refresh()
    merged.refresh()
    return max(_difference(merged.baselines, whole.baselines, prompt, output) for prompt, output in SIZES)


class Topic:
    """What `llm.baselines` holds after compaction; whoever reads is given every record, in order."""

    def __init__(self) -> None:
        self.records: dict[bytes, bytes] = {}
        self._readers: list[Callable[[bytes, bytes | None], None]] = []

    def follow(self, read: Callable[[bytes, bytes | None], None]) -> None:
        """Give a reader all there is, and what comes from now on."""
        for key, value in self.records.items():
            read(key, value)
        self._readers.append(read)

    def leave(self, read: Callable[[bytes, bytes | None], None]) -> None:
        """Give a reader nothing more."""
        self._readers.remove(read)

    def publish(self, denoiser: Denoiser, *, force: bool = False) -> None:
        """Write what a denoiser has to tell."""
        for key, value in denoiser.publish(force=force):
            self.records.pop(key, None)
            if value is not None:
                self.records[key] = value
            for read in self._readers:
                read(key, value)


class Worker:
    """A denoiser that follows the topic as a stream worker does."""

    def __init__(self, name: str, topic: Topic) -> None:
        self.name, self.topic = name, topic
        self.denoiser = Denoiser(origin=name)
        topic.follow(self.read)

    def read(self, key: bytes, value: bytes | None) -> None:
        """Take a record: one of its own, or another one's."""
        source = source_of(key) or ""
        if source != self.name:
            self.denoiser.share(source, key, value)
        elif value is not None:
            self.denoiser.own(key, value)


class Workers:
    """Several workers that share the traffic and tell each other, as an estimator: `baselines` are the next event's."""

    def __init__(self, simulation: Simulation, count: int = 2, restart_every: int = 0) -> None:
        """Begin `count` of them, one of which is killed and begins again after every `restart_every` saves."""
        self.topic = Topic()
        self.workers = [Worker(f"worker-{number}", self.topic) for number in range(count)]
        self._random, self._restart_every, self._saves = random.Random(count), restart_every, 0
        self._next = self.workers[0]

    @property
    def baselines(self) -> Baselines:
        """Those of the worker that the next event goes to."""
        return self._next.denoiser.baselines

    def observe(self, enriched: EnrichedEvent) -> None:
        """Give an event to its worker."""
        self._next.denoiser.observe(enriched)
        self._next = self._random.choice(self.workers)

    def refresh(self) -> list[Baseline]:
        """Have all work out baselines anew, and tell each other."""
        found = [each for worker in self.workers for each in worker.denoiser.refresh()]
        for worker in self.workers:
            self.topic.publish(worker.denoiser)
        self._saves += 1
        if self._restart_every and self._saves % self._restart_every == 0:
            self._restart(self._saves // self._restart_every % len(self.workers))
        return found

    def _restart(self, number: int) -> None:
        killed = self.workers[number]
        self.topic.leave(killed.read)
        self.workers[number] = Worker(killed.name, self.topic)
        if self._next is killed:
            self._next = self.workers[number]


def _difference(one: Baselines, other: Baselines, prompt: int, output: int) -> float:
    worst = 0.0 if other and one.keys() == other.keys() else 1.0
    for key in other:
        (_, found), (_, wanted) = (each.denoised(key, prompt, 0, output) for each in (one, other))
        if (found is None) != (wanted is None):
            worst = 1.0
        elif found is not None and wanted is not None:
            worst = max(worst, abs(found / wanted - 1))
    return worst
