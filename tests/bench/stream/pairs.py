"""Many (upstream, model) pairs in one Denoiser: what they take of memory, and of the state on disk."""

import gc
import random
from pathlib import Path

from msgspec import structs

from stream.coefficients import load_tables
from stream.denoise import Denoiser
from stream.enrich import enrich
from stream.events import EnrichedEvent
from stream.simulate import Simulation

_SAVED_EVERY, _REFITS = 1000, 2  # events; a few refits and the changed rows, as the embedded stream saves


def resident_mb() -> float:
    """Resident memory of this process."""
    text = Path("/proc/self/status").read_text()
    return int(text.split("VmRSS:")[1].split()[0]) / 1024


def memory(pairs: int, each: int, most: int) -> dict[str, float]:
    """Observe `each` events of `pairs` pairs, of which a Denoiser keeps at most `most`; megabytes.

    `mb` is what the process grew by; `saved_mb` the size of all rows that it would store.
    """
    tables, rng = load_tables(), random.Random(1)
    templates: list[EnrichedEvent] = [enrich(simulated.event, tables) for simulated in Simulation(1, 1000, rate=0.02)]
    denoiser, sizes = Denoiser(max_pairs=most), dict[str, int]()
    gc.collect()
    before, seen = resident_mb(), 0
    for _ in range(each):
        for pair in range(pairs):
            template = templates[rng.randrange(len(templates))]
            event = structs.replace(template.event, upstream=f"host-{pair % 100}.example", model=f"model-{pair}")
            denoiser.observe(structs.replace(template, event=event))
            seen += 1
            if seen % _SAVED_EVERY == 0:
                denoiser.refresh(_REFITS)
                sizes.update((key, len(value)) for key, value in denoiser.changed())
    sizes.update((key, len(value)) for key, value in denoiser.changed())
    gc.collect()
    return {"mb": resident_mb() - before, "saved_mb": sum(sizes.values()) / 1e6}
