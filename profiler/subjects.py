"""What `profiler measure` measures: a model in this process, at one or several depths, or one behind an URL."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from profiler.architectures import Architecture
from profiler.depths import choose, truncated, weights
from profiler.endpoint import Endpoint
from profiler.machine import Machine
from profiler.measuring import OUTPUTS
from profiler.runs import WHOLE, Setup
from profiler.shapes import Shape

__all__ = ["Local", "Remote", "Stack", "Subject", "local"]


_WEIGHTS = {"bfloat16": "bf16", "float16": "fp16"}


class Subject(Protocol):
    """A setup, and the machines that make its runs: they are made when the first is asked for."""

    setup: Setup
    shortest: int
    longest: int

    def machine(self, layers: int) -> Machine:
        """The machine of a depth; MachineError where there can be none."""

    def close(self) -> None:
        """Free what they hold."""


@dataclass(frozen=True, slots=True)
class Stack:
    """Where and how models run in this process: all that their setups have in common."""

    name: str
    device: str
    dtype: str
    compiled: bool
    hardware: Mapping[str, Any]
    software: Mapping[str, Any]
    room_bytes: float


@dataclass(slots=True)
class Local:
    """A transformer with random weights; shallower ones share its layers."""

    setup: Setup
    shape: Shape
    stack: Stack
    longest: int
    shortest: int = 1
    made: dict[int, Any] = field(default_factory=dict)

    def machine(self, layers: int) -> Machine:
        """Make the deepest when the first is asked for, and the others of it."""
        if not self.made:
            self._make()
        found: Machine = self.made[layers]
        return found

    def whole(self) -> "Local":
        """The same with all its layers."""
        return Local(replace(self.setup, depths={WHOLE: 1.0}), self.shape, self.stack, self.longest)

    def close(self) -> None:
        """Free the memory."""
        deepest = self.made.pop(max(self.made), None) if self.made else None
        self.made.clear()  # the others hold its layers
        if deepest is not None:
            deepest.close()

    def _make(self) -> None:
        from profiler.measure import Transformer

        stack, config = self.stack, self.shape.config
        depths = sorted(self.setup.depths, reverse=True)
        whole = config if depths == [WHOLE] else truncated(config, depths[0])
        deepest = Transformer(whole, dtype=stack.dtype, device=stack.device, compiled=stack.compiled)
        self.made[depths[0]] = deepest
        for layers in depths[1:]:
            self.made[layers] = deepest.shallow(truncated(config, layers))


def local(shape: Shape, stack: Stack, longest: int, layers: Sequence[int] = ()) -> Local:
    """A model to be measured on a stack, at the depths `layers`, by default whole if it fits.

    Raises DepthError where not even some of its layers fit, or where depths do not tell the whole.
    """
    total, longest = shape.architecture.layers, min(longest, shape.longest or longest)
    depths = tuple(layers) or choose(
        shape.config, shape.architecture, stack.dtype, stack.room_bytes, tokens=longest + max(OUTPUTS)
    )
    factors = dict(zip(depths, weights(shape.config, depths), strict=True))
    if depths == (total,):
        factors = {WHOLE: 1.0}
    setup = Setup(
        model=shape.name,
        stack=stack.name,
        hardware=stack.hardware,
        software=stack.software,
        dtype=stack.dtype,
        architecture=_as_it_runs(shape.architecture, stack.dtype),
        depths=factors,
        notes=shape.notes,
    )
    return Local(setup, shape, stack, longest)


def _as_it_runs(architecture: Architecture, dtype: str) -> Architecture:
    """With the weights of a dtype."""
    return replace(architecture, weights=_WEIGHTS.get(dtype, "bf16"))


@dataclass(slots=True)
class Remote:
    """A model behind an URL."""

    setup: Setup
    endpoint: Endpoint
    longest: int
    shortest: int = 32

    def machine(self, layers: int) -> Machine:  # noqa: ARG002 - it has all of them
        """The endpoint, which has all its layers."""
        return self.endpoint

    def close(self) -> None:
        """Close its connection."""
        self.endpoint.close()
