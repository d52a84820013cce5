"""What a restart and a second worker do to a denoiser: state saved and restored, and two states merged."""

from stream.baselines import Baselines
from stream.coefficients import load_tables
from stream.denoise import Denoiser
from stream.enrich import enrich
from stream.events import EnrichedEvent
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


def _difference(one: Baselines, other: Baselines, prompt: int, output: int) -> float:
    worst = 0.0 if other and one.keys() == other.keys() else 1.0
    for key in other:
        (_, found), (_, wanted) = (each.denoised(key, prompt, 0, output) for each in (one, other))
        if (found is None) != (wanted is None):
            worst = 1.0
        elif found is not None and wanted is not None:
            worst = max(worst, abs(found / wanted - 1))
    return worst
