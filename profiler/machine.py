"""What can be measured: anything that makes runs."""

from dataclasses import dataclass
from typing import Protocol

__all__ = ["Machine", "MachineError", "Run"]


class MachineError(ValueError):
    """A run that could not be made. One line: what failed, where, and what to do."""


@dataclass(frozen=True, slots=True)
class Run:
    """One generation, alone: the tokens that there really were, and seconds since its start.

    One run tells two runtimes: T(p, 1), until the first output token, and T(p, o), until the last.
    """

    prompt_tokens: int
    output_tokens: int
    first_seconds: float
    seconds: float


class Machine(Protocol):
    """A model on a stack: in this process, or behind an URL."""

    def run(self, prompt_tokens: int, output_tokens: int) -> Run:
        """Encode so many prompt tokens and give so many output tokens; MachineError where that fails."""
