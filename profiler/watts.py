"""What one accelerator draws while it serves a model: the bytes and FLOPs of a request, over its seconds, as power.

`profiler.power` has the boards' watts by bytes and FLOPs a second. A step reads the weights (of experts those that any
of its requests is sent to, of the embedding one row each) and every request's context; all devices share that alike.
A row has one number for prompts and one for output, those of prompts of 1,024 tokens and of as much context: longer
ones differ by less than the intervals say.
"""

from profiler.architectures import BYTES, Architecture
from profiler.flops import flops_of
from profiler.hardware import HardwareError
from profiler.power import board_watts
from profiler.roofline import context_bytes, weight_bytes
from profiler.tables import significant
from stream.flops import forward_flops
from stream.runtime import Coefficients, prompt_function
from stream.table_format import Watts

__all__ = ["step_bytes", "watts_of"]

_TOKENS = 1024
_STEP_TOKENS = 8192
_DIGITS = 4


def watts_of(model: Architecture, device: str, devices: int, seconds: Coefficients, batch: int = 1) -> Watts | None:
    """Watts of each of `devices` while they encode and decode; None for a device whose power is not known.

    `seconds` are one request's, of `batch` at once its share.
    """
    flops, prompt = flops_of(model), prompt_function(seconds)(_TOKENS)
    encoded = forward_flops(flops, _TOKENS, 1)
    further = forward_flops(flops, _TOKENS, 2) - encoded
    token = seconds.per_output_token + seconds.context * _TOKENS
    together = min(float(batch), _STEP_TOKENS / _TOKENS)
    try:
        first, then = (
            board_watts(device, moved / devices / taken, computed / devices / taken)
            for moved, computed, taken in (
                (step_bytes(model, together, _TOKENS) / together, encoded, prompt),
                (step_bytes(model, batch, 1) / batch, further, token),
            )
        )
    except HardwareError:
        return None
    interval = min(first.low, then.low), max(first.high, then.high)
    return Watts(significant(first.watts, _DIGITS), significant(then.watts, _DIGITS), interval)


def step_bytes(model: Architecture, batch: float, tokens: int) -> float:
    """Bytes of weights, and of 1,024 tokens of context, that a step over `tokens` of each of `batch` requests reads."""
    rows = batch * tokens
    looked_up = 0 if model.tied else model.vocabulary * model.hidden
    read = weight_bytes(model) - 2.0 * looked_up
    experts = model.experts
    if experts is not None:
        idle = (1 - experts.active / experts.count) ** rows
        of_experts = 3 * model.hidden * experts.ffn * experts.count * (model.layers - experts.dense_layers)
        read -= idle * of_experts * BYTES[model.weights]
    return read + batch * _TOKENS * context_bytes(model)
