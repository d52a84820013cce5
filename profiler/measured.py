"""What was measured of one model on one hardware: runs, as arrays."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from profiler.architectures import Architecture

__all__ = ["Measured", "SamplesError", "choose_hardware", "plain"]


class SamplesError(ValueError):
    """Samples that cannot be used. One line: the file, where in it, what was expected."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What one model took on one hardware with one tensor-parallel degree, run by run.

    `prompt`, `output`, `batch` (requests at once) and `seconds` are arrays of one length, in the order of the file; a
    point measured twice is there twice. `seconds` are those of what ran: the whole model takes `scale` times as long.
    `architecture` is that of what ran, None where nothing tells.
    """

    hardware: str
    model: str
    tensor: int
    prompt: NDArray[np.int64]
    output: NDArray[np.int64]
    seconds: NDArray[np.float64]
    batch: NDArray[np.int64]
    architecture: Architecture | None = None
    scale: float = 1.0

    def where(self, mask: NDArray[np.bool_]) -> "Measured":
        """The same with those rows only for which `mask` is true."""
        columns = {name: getattr(self, name)[mask] for name in ("prompt", "output", "seconds", "batch")}
        return replace(self, **columns)

    @property
    def name(self) -> str:
        """The model and what else tells it from others of the same file."""
        return f"{self.model} on {self.hardware}, tensor parallel {self.tensor}"


def choose_hardware(samples: Sequence[Measured], wanted: str | None, file: str) -> tuple[Measured, ...]:
    """Those on the hardware `wanted` (a100 also finds a100-80gb); all with None. SamplesError where there are none."""
    if wanted is None:
        return tuple(samples)
    found = [each for each in samples if plain(each.hardware) == plain(wanted)]
    found = found or [each for each in samples if plain(each.hardware).startswith(plain(wanted))]
    if not found:
        known = ", ".join(dict.fromkeys(each.hardware for each in samples))
        raise SamplesError(f"{file}: no samples of hardware {wanted!r}: found {known}")
    return tuple(found)


def plain(name: str) -> str:
    """A name without case, spaces, dashes and underscores, to compare it."""
    return "".join(character for character in name.lower() if character.isalnum())
