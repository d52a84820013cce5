"""How far a prediction may be off: the interval that holds the truth with a chance of 80 %, for a model on a stack.

Two sorts of stacks. Those **calibrated on whole requests** know how far off they were for models left out of the
calibration (`Hardware.left_out`, conformal over models), and that is the interval. Those of **present servers** are
calibrated on kernels, and what whole requests there are to check them with is little; their intervals (`SERVED`) are
set by hand to hold it, wider than what was measured, since servers differ. Either is widened where a model is of a
sort that was not measured, by as much as such a step cost where it was. `profiler/samples/README.md` has the figures.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from profiler.architectures import Architecture
from profiler.hardware import Hardware

__all__ = ["LEVEL", "SERVED", "Band", "band"]

LEVEL = 0.8

Factors = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Band:
    """Error of a prediction: its median, and factors of it that hold 80 % of the truth, part by part.

    `token` is that of a further token (beta), `prompt` that of F, `runtime` that of T. `median` is None where nothing
    was measured that could tell.
    """

    median: float | None
    token: Factors
    prompt: Factors
    runtime: Factors

    @property
    def intervals(self) -> Mapping[str, Any]:
        """As a table's row has them."""
        parts = {
            "runtime_per_output_token": self.token,
            "runtime_for_prompt_tokens": self.prompt,
            "runtime": self.runtime,
        }
        return {"level": LEVEL, **{name: list(pair) for name, pair in parts.items()}}

    def wider(self, factors: Factors) -> "Band":
        """The same with its ends moved by these factors, to three decimals."""
        low, high = factors

        def moved(pair: Factors) -> Factors:
            return round(pair[0] * low, 3), round(pair[1] * high, 3)

        return Band(self.median, moved(self.token), moved(self.prompt), moved(self.runtime))


SERVED: Mapping[str, Band] = {
    "plain": Band(0.03, token=(0.85, 1.15), prompt=(0.8, 1.6), runtime=(0.8, 1.3)),
    "fp8": Band(0.08, token=(0.85, 1.25), prompt=(0.8, 1.6), runtime=(0.8, 1.4)),
    "special": Band(0.26, token=(0.8, 1.9), prompt=(0.7, 1.8), runtime=(0.75, 1.85)),
}
"""Present servers, by the sort of model: dense in 16 bits, dense in fp8, and experts or weights of 8 or 4 bits."""

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

_FIRST = "first token"  # in the name of a left-out error that is of F alone

_UNMEASURED = Band(None, token=(0.6, 1.9), prompt=(0.6, 1.9), runtime=(0.6, 1.9))
"""Where nothing was left out: about what constants of one stack are off on another."""


def band(model: Architecture, hardware: Hardware) -> Band:
    """The band of one model's prediction on a stack."""
    sort = _sort(model)
    if hardware.name in _FURTHER:
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
    """The band of what was left out of a calibration on whole requests: models, else other things of one model.

    F is further off than T where an entry of `left_out` for first tokens says so.
    """
    first = next((error for what, error in hardware.left_out.items() if _FIRST in what), None)
    others = {what: error for what, error in hardware.left_out.items() if _FIRST not in what}
    models = next((error for what, error in others.items() if "model" in what), None)
    error = models or next(iter(others.values()), None)
    if error is None:
        return _UNMEASURED
    prompt = first.interval if first else error.interval
    found = Band(error.median, token=error.interval, prompt=prompt, runtime=error.interval)
    return found if models else found.wider(_OTHER_MODELS)
