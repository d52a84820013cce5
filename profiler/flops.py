"""Forward FLOPs from an architecture: what `stream.flops` counts with.

Every weight that a token passes is a multiply-add: projections, feed-forward (of a mixture the active experts, the
shared one and the router), the output layer on generated tokens. Latent attention (DeepSeek) is counted in its plain
form: keys and values of a new token are expanded once and kept so. Servers that keep the compressed form multiply by
wider heads instead, which is their choice, not the model's. Layers that attend within chunks (Llama 4) are counted as
layers with a window as wide: the same up to the first chunk's end, more behind it.
"""

from profiler.architectures import Architecture
from stream.flops import Flops

__all__ = ["flops_of"]

_MULTIPLY_ADD = 2


def flops_of(model: Architecture) -> Flops:
    """The numbers that count the FLOPs of any request to `model`."""
    output = model.vocabulary * model.hidden
    pair = _MULTIPLY_ADD * model.heads * _pair_width(model)
    return Flops(
        per_token=float(_MULTIPLY_ADD * (model.total_parameters(active=True) - output)),
        per_output_token=float(_MULTIPLY_ADD * output),
        per_pair=float(pair * (model.layers - model.window_layers)),
        window=model.window if model.window_layers else 0,
        per_window_pair=float(pair * model.window_layers),
    )


def _pair_width(model: Architecture) -> int:
    """Elements of one head that a query meets in a key and its value."""
    latent = model.latent
    return 2 * model.head_dim if latent is None else latent.nope + latent.rope + latent.value
