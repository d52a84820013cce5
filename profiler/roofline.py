"""A roofline of LLM inference: what T(p, o) should be, from an architecture and a description of the hardware.

One model of a step for all stacks, old and new. On the device a layer is its kernels: the matrix products of
attention and feed-forward, attention itself, experts, the small kernels between them, and two all-reduces where
several devices share a layer (one, where attention and feed-forward start from the same input). The host launches
them meanwhile, without CUDA graphs kernel by kernel; so a step takes

    smax(layers * host, sum of the layers' kernels + output layer) + step + step_token * prompt tokens

with smax nearly a hard maximum. F(p) is a step over a prompt of p tokens, beta and gamma the constant and the
context's part of a step over one token.

Everything is pure. Token counts may be numbers or arrays of them; times are in seconds.
"""

from dataclasses import dataclass
from typing import overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from profiler.architectures import BYTES, Architecture, Experts
from profiler.hardware import Hardware
from profiler.kernels import ACTIVATION, Count, attention, moves, product, reduce, smooth_maximum
from profiler.kernels import experts as experts_kernel
from stream.runtime import Coefficients

__all__ = [
    "CONTEXT",
    "KNOTS",
    "USABLE_MEMORY",
    "Placement",
    "coefficients",
    "context_bytes",
    "context_copies",
    "divides",
    "place",
    "step_seconds",
    "weight_bytes",
]

KNOTS = (
    *(1, 16, 32, 64, 128, 256, 512, 768, 1024, 1536, 2048, 3072, 4096, 6144, 8192),
    *(12288, 16384, 24576, 32768, 49152, 65536, 98304, 131072),
)
"""Prompt sizes of the tables: half octaves where F is quadratic, so that straight lines between them are near it."""

CONTEXT = 32_768
"""Tokens of context that a placement has room for, and over which gamma is the mean growth."""

USABLE_MEMORY = 0.9
"""The share of a device's memory that serving stacks allow themselves by default, for weights and context."""


@dataclass(frozen=True, slots=True)
class Placement:
    """On how many devices a model runs: `tensor` share each layer, `stages` groups of them share the layers."""

    tensor: int
    stages: int = 1


def place(model: Architecture, hardware: Hardware) -> Placement:
    """The smallest power of two of devices that hold the weights and 32,768 tokens of context.

    Within a node the layers are split (tensor parallel), as far as the heads can be shared; what needs more takes
    several such groups in a row.
    """
    needed = weight_bytes(model) + CONTEXT * context_bytes(model)
    devices = 1
    while devices * USABLE_MEMORY * hardware.memory_bytes < needed:
        devices *= 2
    tensor = min(devices, hardware.devices_per_node)
    while not divides(model, tensor):
        tensor //= 2
    return Placement(tensor, devices // tensor)


def divides(model: Architecture, tensor: int) -> bool:
    """Whether so many devices can share the heads: of keys and values each then has some, or one that others have too.

    One device always can.
    """
    shared = model.kv_heads % tensor == 0 or tensor % model.kv_heads == 0
    return model.heads % tensor == 0 and shared


def weight_bytes(model: Architecture) -> float:
    """Bytes of all weights as shipped. Embeddings stay bf16, and with mxfp4 all but the experts."""
    rest = model.total_parameters() - model.embedding_parameters
    experts = model.experts
    if model.weights == "mxfp4" and experts is not None:
        packed = (model.layers - experts.dense_layers) * experts.count * 3 * model.hidden * experts.ffn
        return BYTES["mxfp4"] * packed + 2.0 * (model.total_parameters() - packed)
    return BYTES[model.weights] * rest + 2.0 * model.embedding_parameters


def context_bytes(model: Architecture) -> float:
    """Bytes of cached keys and values that one token of context adds, over all layers that keep all of it."""
    if model.latent is not None:
        return model.layers * (model.latent.kv_rank + model.latent.rope) * ACTIVATION
    return (model.layers - model.window_layers) * 2 * model.kv_heads * model.head_dim * ACTIVATION


def context_copies(model: Architecture, placement: Placement) -> float:
    """How many times a cached token is kept: devices share heads of keys and values, and copy what is left over."""
    return placement.tensor / min(placement.tensor, 1 if model.latent else model.kv_heads)


def coefficients(
    model: Architecture, hardware: Hardware, placement: Placement, knots: tuple[int, ...] = KNOTS
) -> Coefficients:
    """F at the knots, beta and gamma of one request alone.

    gamma is the mean growth over 32,768 tokens of context, or up to the last knot where that is nearer. Where the host
    is the slower one at first, or attention has windows, the growth is not even: nearer it is less (or more), and
    further more (or less).
    """
    reach = min(CONTEXT, knots[-1])
    near, far = (float(step_seconds(model, hardware, placement, 1, context)) for context in (0, reach))
    prompts = step_seconds(model, hardware, placement, np.array(knots), prompt=True)
    return Coefficients(
        per_output_token=near,
        knots=knots,
        prompt_seconds=tuple(prompts.tolist()),
        context=(far - near) / reach,
    )


@overload
def step_seconds(
    model: Architecture,
    hardware: Hardware,
    placement: Placement,
    tokens: int,
    context: int = 0,
    batch: float = 1,
    *,
    prompt: bool | None = None,
) -> float: ...
@overload
def step_seconds(
    model: Architecture,
    hardware: Hardware,
    placement: Placement,
    tokens: NDArray[np.int64],
    context: ArrayLike = 0,
    batch: ArrayLike = 1,
    *,
    prompt: bool | None = None,
) -> NDArray[np.float64]: ...
def step_seconds(
    model: Architecture,
    hardware: Hardware,
    placement: Placement,
    tokens: ArrayLike,
    context: ArrayLike = 0,
    batch: ArrayLike = 1,
    *,
    prompt: bool | None = None,
) -> float | NDArray[np.float64]:
    """Seconds of one step over `tokens` new tokens of each of `batch` requests, each with `context` before them.

    Arrays of one shape give an array. A step is that of a `prompt` (else of a further token) where it has more than
    one token, unless said otherwise. Constants of the hardware that are columns give a row for each of theirs.
    """
    shape = np.broadcast_shapes(np.shape(tokens), np.shape(context), np.shape(batch))
    new, before, requests = (
        np.broadcast_to(np.asarray(count, np.float64), shape).ravel() for count in (tokens, context, batch)
    )
    first = bool(np.any(new > 1)) if prompt is None else prompt
    seconds = _Step(model, hardware, placement, new, before, requests, first).seconds()
    seconds = seconds.reshape((*seconds.shape[:-1], *shape))
    return seconds if shape else float(seconds)


@dataclass(frozen=True, slots=True)
class _Step:
    """Steps' kernels. Shapes are those of one device of the tensor-parallel group; token counts one a step."""

    model: Architecture
    hardware: Hardware
    placement: Placement
    tokens: NDArray[np.float64]
    context: NDArray[np.float64]
    batch: NDArray[np.float64]
    prompt: bool

    def seconds(self) -> NDArray[np.float64]:
        model, hardware = self.model, self.hardware
        between = (self.placement.stages - 1) * self._rows * model.hidden * ACTIVATION / hardware.network
        own = hardware.step + hardware.step_token * self._rows * self.prompt
        work = self._layers() + self._output() + between
        return own + smooth_maximum(hardware.overlap, self._host() * np.ones_like(self.tokens), work)

    def _host(self) -> float:
        """The host's launches. They are made while the device works."""
        hardware = self.hardware
        layer = hardware.host_layer * (1 + hardware.host_prompt * self.prompt)
        return self.model.layers * (layer + hardware.host_reduce * (self.placement.tensor > 1))

    def _layers(self) -> Count:
        model = self.model
        reduces = 1 if model.parallel else 2
        layers = model.layers * (self._projections() + self._small() + reduces * self._reduce())
        layers += (model.layers - model.window_layers) * self._attention(0)
        layers += model.window_layers * self._attention(model.window) if model.window_layers else 0.0
        layers += model.dense_layers * self._feed_forward(model.ffn) if model.dense_layers else 0.0
        if model.experts is not None:
            layers += (model.layers - model.dense_layers) * self._mixture(model.experts)
        return layers

    def _output(self) -> Count:
        rows = self._rows if self.hardware.all_logits else self.batch
        return self._product(rows, self.model.vocabulary / self.placement.tensor, self.model.hidden, "bf16")

    @property
    def _rows(self) -> NDArray[np.float64]:
        return self.tokens * self.batch

    @property
    def _weights(self) -> str:
        return "bf16" if self.model.weights == "mxfp4" else self.model.weights

    def _product(self, rows: Count, out: float, inner: float, weights: str) -> Count:
        # With fp8 weights the activations are brought to fp8 by a kernel of its own.
        before = self.hardware.small if weights == "fp8" else 0.0
        return before + product(self.hardware, rows, out, inner, weights)

    def _projections(self) -> Count:
        model, tensor, latent = self.model, self.placement.tensor, self.model.latent
        heads = model.heads / tensor
        if latent is None:
            back = self._product(self._rows, model.hidden, heads * model.head_dim, self._weights)
            out = (heads + 2 * max(1.0, model.kv_heads / tensor)) * model.head_dim
            return back + self._product(self._rows, out, model.hidden, self._weights)
        back = self._product(self._rows, model.hidden, heads * model.head_dim, self._weights)
        down = self._product(self._rows, latent.q_rank + latent.kv_rank + latent.rope, model.hidden, self._weights)
        inner = latent.q_rank or model.hidden
        query = self._product(self._rows, heads * (latent.nope + latent.rope), inner, self._weights)
        # Decoding multiplies by the two halves of this matrix apart, which stay bf16; the bytes are the same.
        value = self._product(self._rows, heads * (latent.nope + latent.value), latent.kv_rank, "bf16")
        return back + down + query + value

    def _attention(self, window: int) -> Count:
        return self._fused_attention(window) if self.hardware.fused else self._plain_attention()

    def _fused_attention(self, window: int) -> Count:
        model, latent = self.model, self.model.latent
        heads = model.heads / self.placement.tensor
        cached = 2 * max(1.0, model.kv_heads / self.placement.tensor) * model.head_dim
        width: Count = 2 * model.head_dim
        if latent is not None:
            cached = latent.kv_rank + latent.rope
            # Decoding works on the compressed cache itself, which is wider than the heads it stands for.
            compressed, plain = 2 * latent.kv_rank + latent.rope, latent.nope + latent.rope + latent.value
            width = np.where(self.tokens > 1, plain, compressed)
        length = self.context + self.tokens
        reach = np.minimum(window, length) if window else length
        moved = (reach * cached + self.tokens * 2 * heads * model.head_dim) * ACTIVATION * self.batch
        flops = 2 * heads * width * self._pairs(reach) * self.batch
        return attention(self.hardware, moved, flops, self.tokens)

    def _pairs(self, reach: NDArray[np.float64]) -> NDArray[np.float64]:
        """How many (query, key) pairs there are: a triangle at the start, then a band as wide as the reach."""
        start = np.maximum(0.0, reach - self.context)
        return self.tokens * reach - start * start / 2

    def _plain_attention(self) -> Count:
        """Two products over all of the context, whatever is masked, and passes over the scores between them."""
        model, hardware, length = self.model, self.hardware, self.context + self.tokens
        count = self.batch * model.heads / self.placement.tensor
        scores = product(hardware, self.tokens, length, float(model.head_dim), count=count)
        values = product(hardware, self.tokens, float(model.head_dim), length, count=count)
        return scores + values + moves(hardware, hardware.softmax * count * self.tokens * length * ACTIVATION)

    def _feed_forward(self, width: float) -> Count:
        share, hidden, model = width / self.placement.tensor, self.model.hidden, self.model
        down = self._product(self._rows, hidden, share, self._weights)
        if not model.gated:
            return down + self._product(self._rows, share, hidden, self._weights)
        if self.hardware.fused:
            return down + self._product(self._rows, 2 * share, hidden, self._weights)
        return down + 2 * self._product(self._rows, share, hidden, self._weights)

    def _mixture(self, experts: Experts) -> Count:
        model, hardware = self.model, self.hardware
        width = experts.ffn / self.placement.tensor
        routed = experts_kernel(hardware, self._rows, model.hidden, width, experts.count, experts.active, model.weights)
        router = self._product(self._rows, experts.count, model.hidden, "bf16") + 2 * hardware.small
        shared = self._feed_forward(experts.shared_ffn) if experts.shared_ffn else 0.0
        return routed + router + shared

    def _small(self) -> Count:
        """Norms, rotation and cache write, activation, residual sums: launches, and passes over the activations."""
        model, hardware = self.model, self.hardware
        kernels = model.layer_norms + 3
        share = model.heads * model.head_dim / self.placement.tensor
        width = 2 * kernels * model.hidden + 3 * share
        if not hardware.fused:
            # Biases, transpositions and the activation each pass over their share of the activations as well.
            width += 11 * share + 3 * model.ffn / self.placement.tensor
        return kernels * hardware.small + moves(hardware, hardware.passes * self._rows * width * ACTIVATION)

    def _reduce(self) -> Count:
        return reduce(self.hardware, self.placement.tensor, self._rows * self.model.hidden * ACTIVATION)
