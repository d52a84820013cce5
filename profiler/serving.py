"""One request's share of a server that has many at once: what `served` says in a table's row.

A present server gives an output token to each of its requests in a step, and encodes prompts in steps of at most
8,192 tokens, vLLM's default on these devices: short prompts share such a step, long ones take several. The share of
one request is the step's seconds over the requests in it, so that shares of all requests add up to the server's time.
Where groups of devices follow one another, each works on a part of the requests meanwhile.

The batch is 32, where the roofline was held against servers (ML.ENERGY leaderboard v3, H100s): a busy server, and few
enough requests that each still gets its tokens quickly. Models of which 32 requests of 2,048 tokens do not fit beside
their weights serve the largest power of two that do. Ten dense configurations in 16 bits took 0.99 (median) of what
the roofline says of a further token at batch 8, 1.03 at 16, 1.12 at 32: more requests cost the server's own
scheduling, which no kernel shows. `_CROWDED` makes up for it; what remains (0.94 to 1.09 of them, 0.87 to 1.57 of
models with experts) lies within the intervals of batch 1, which hold for served seconds as well. Stacks calibrated on
whole requests, many at once among them, have it in their constants.
"""

import numpy as np

from profiler.architectures import Architecture
from profiler.hardware import Hardware
from profiler.kernels import ACTIVATION
from profiler.roofline import USABLE_MEMORY, Placement, context_bytes, context_copies, step_seconds, weight_bytes
from stream.runtime import Coefficients

__all__ = ["BATCH", "served_batch", "shares"]

BATCH = 32
"""Requests at once."""

_ROOM = 2048  # tokens of prompt and output that every one of them must have room for
_STEP_TOKENS = 8192
_CROWDED = 0.12 / 32  # a request


def served_batch(model: Architecture, hardware: Hardware, placement: Placement) -> int | None:
    """How many requests are served at once; None where servers of that stack had no batches, or nothing fits.

    Stacks without fused attention are of the time when requests were run one by one, and known so alone.
    """
    if not hardware.fused:
        return None
    devices = placement.tensor * placement.stages
    room = devices * USABLE_MEMORY * hardware.memory_bytes - weight_bytes(model)
    fit = room / (_request_bytes(model) * context_copies(model, placement))
    return None if fit < 1 else min(BATCH, 2 ** int(np.log2(fit)))


def shares(
    model: Architecture, hardware: Hardware, placement: Placement, batch: int, knots: tuple[int, ...], reach: int
) -> Coefficients:
    """Seconds of one request's share: F at the knots, beta, and gamma as its growth over `reach` tokens of context."""
    alone = batch == 1 or hardware.host_layer
    crowded = (1 + (0.0 if alone else _CROWDED * batch)) / batch
    together = batch / placement.stages
    near, far = (crowded * step_seconds(model, hardware, placement, 1, context, together) for context in (0, reach))
    prompts = tuple(_prompt_share(model, hardware, placement, batch, knot) for knot in knots)
    return Coefficients(near, knots, prompts, context=(far - near) / reach)


def _prompt_share(model: Architecture, hardware: Hardware, placement: Placement, batch: int, prompt: int) -> float:
    """Seconds that a prompt has of the steps in which it is encoded, each filled up with others of its length."""
    before = np.arange(0, prompt, _STEP_TOKENS)
    pieces = np.minimum(_STEP_TOKENS, prompt - before)
    together = np.minimum(batch / placement.stages, _STEP_TOKENS / pieces)
    seconds = step_seconds(model, hardware, placement, pieces, before, together, prompt=True) / together
    return float(seconds.sum()) / placement.stages


def _request_bytes(model: Architecture) -> float:
    """Bytes of what is kept of one request's context, of windows as much as they hold."""
    window = min(_ROOM, model.window) * model.window_layers * 2 * model.kv_heads * model.head_dim * ACTIVATION
    return _ROOM * context_bytes(model) + window
