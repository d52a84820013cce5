"""The sections of a report, in their order: each a function of the inputs, None where these have nothing for it."""

from collections.abc import Callable, Mapping

from profiler.document import Section
from profiler.report import accuracy, apis, capability, energy, evaluating, fits, noise, ranking, stacks, whatif
from profiler.report.inputs import Inputs

__all__ = ["SECTIONS"]

SECTIONS: Mapping[str, Callable[[Inputs], Section | None]] = {
    "whatif": whatif.section,
    "ranking": ranking.section,
    "apis": apis.section,
    "capability": capability.section,
    "evaluating": evaluating.section,
    "stacks": stacks.section,
    "energy": energy.section,
    "noise": noise.section,
    "fits": fits.section,
    "accuracy": accuracy.section,
}
"""By name, as `profiler report --only NAME` and the addresses in the page have it."""
