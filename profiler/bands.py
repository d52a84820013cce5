"""How far a prediction may be off: the interval that holds the truth with a chance of 80 %, for a model on a stack.

Two sorts of stacks. Those **calibrated on whole requests** know how far off they were for models left out of the
calibration together with those of nearly their shape (`Hardware.left_out`, conformal over models), and that is the
interval. Those of **present servers** are calibrated on kernels, and what whole requests there are to check them with
is little; their intervals (`SERVED`) are set by hand to hold it, wider than what was measured, since servers differ.
Either is widened where a model is of a sort that was not measured, by as much as such a step cost where it was.

gamma shows by itself in hardly any measurement: its factors are set by hand throughout.
`profiler/samples/README.md` has the figures.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from profiler.architectures import Architecture
from profiler.hardware import Hardware, Of
from profiler.tables import LEVEL

__all__ = ["SERVED", "Band", "band"]

Factors = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Band:
    """Error of a prediction: its median, and factors of it that hold 80 % of the truth, part by part.

    `token` is that of a further token (beta), `context` that of gamma, `prompt` that of F, `runtime` that of T.
    `median` is None where nothing was measured that could tell.
    """

    median: float | None
    token: Factors
    context: Factors
    prompt: Factors
    runtime: Factors

    @property
    def intervals(self) -> Mapping[str, Any]:
        """As a table's row has them."""
        parts = {
            "runtime_per_output_token": self.token,
            "context_seconds_per_token2": self.context,
            "runtime_for_prompt_tokens": self.prompt,
            "runtime": self.runtime,
        }
        return {"level": LEVEL, **{name: list(pair) for name, pair in parts.items()}}

    def wider(self, factors: Factors) -> "Band":
        """The same with its ends moved by these factors, to three decimals."""
        low, high = factors

        def moved(pair: Factors) -> Factors:
            return round(pair[0] * low, 3), round(pair[1] * high, 3)

        parts = (self.token, self.context, self.prompt, self.runtime)
        return Band(self.median, *map(moved, parts))


SERVED: Mapping[str, Band] = {
    "plain": Band(0.03, token=(0.85, 1.15), context=(0.6, 1.6), prompt=(0.8, 1.6), runtime=(0.8, 1.3)),
    "fp8": Band(0.08, token=(0.85, 1.25), context=(0.6, 1.6), prompt=(0.8, 1.6), runtime=(0.8, 1.4)),
    "special": Band(0.26, token=(0.8, 1.9), context=(0.6, 2.0), prompt=(0.7, 1.8), runtime=(0.75, 1.85)),
}
"""Present servers, by the sort of model: dense in 16 bits, dense in fp8, and experts or weights of 8 or 4 bits.

gamma's hold what single kernels of attention were off by: one in ten by more than 30 to 39 %."""

_FURTHER: Mapping[str, Factors] = {
    "h100": (1.0, 1.0),
    "h200": (0.95, 1.08),
    "a100-present": (0.95, 1.1),
    "b200": (0.9, 1.2),
}
"""Present servers that take the intervals of `SERVED`, and how much wider: servers were measured on the H100 alone."""

_SPECIAL: Factors = (0.93, 1.45)
"""How much further off models of a special sort were on the H100 than plain ones: the ratio of two of `SERVED`."""

_UNLIKE: Factors = (0.93, 1.08)
"""How much further off models with grouped heads or windows may be where none of those measured had them."""

_OTHER_MODELS: Factors = (0.85, 1.2)
"""How much further off models may be where one alone was measured: about as far as the worst left out elsewhere."""

_TELLING: tuple[Of, ...] = ("shape", "model", "degree")
"""What was left out that tells of other models: the first of these that there is."""

_HIDDEN: Factors = (0.0, 2.0)
"""gamma's factors where the host launches kernel by kernel: while it is the slower one, context costs nothing."""

_UNMEASURED = Band(None, token=(0.6, 1.9), context=(0.5, 2.0), prompt=(0.6, 1.9), runtime=(0.6, 1.9))
"""Where nothing was left out: about what constants of one stack are off on another."""


def band(model: Architecture, hardware: Hardware) -> Band:
    """The band of one model's prediction on a stack."""
    sort = _sort(model)
    if hardware.calibrated and hardware.name in _FURTHER:
        return SERVED[sort].wider(_FURTHER[hardware.name])
    found = _measured(hardware)
    if not hardware.fused and (model.kv_heads < model.heads or model.window_layers):
        found = found.wider(_UNLIKE)
    return found.wider(_SPECIAL) if sort != "plain" else found


def _sort(model: Architecture) -> str:
    if model.experts is not None or model.weights not in {"bf16", "fp16", "fp8"}:
        return "special"
    return "fp8" if model.weights == "fp8" else "plain"


def _measured(hardware: Hardware) -> Band:
    """The band of what was left out of a calibration on whole requests: models, else degrees of one model.

    Models that were left out with their twins tell more of a model never measured than those left out alone. F is
    further off than T where the errors of first tokens say so.
    """
    error = next(filter(None, map(hardware.error_of, _TELLING)), None)
    if error is None:
        return replace(_UNMEASURED, context=_HIDDEN) if hardware.host_layer else _UNMEASURED
    first = hardware.error_of(error.of, "first") or error
    context = _HIDDEN if hardware.host_layer else _UNMEASURED.context
    found = Band(error.median, error.interval, context, first.interval, error.interval)
    return found.wider(_OTHER_MODELS) if error.of == "degree" else found
