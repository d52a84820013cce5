"""A roofline of LLM inference: what T(p, o) should be, from an architecture and a description of the hardware.

A layer is its kernels: the matrix products of attention and feed-forward, attention itself, experts, the small
kernels between them, and two all-reduces where several devices share a layer. A step is its layers, the output
layer and a constant. F(p) is a step over p tokens; beta and gamma are the constant and the context's part of a
step over one token. Batch size 1, as everywhere for idealized runtimes.

Everything is pure.
"""

from dataclasses import dataclass

from profiler.architectures import Architecture, Experts
from profiler.kernels import ACTIVATION, BYTES, Hardware, attention, product, reduce
from profiler.kernels import experts as experts_kernel
from stream.runtime import Coefficients

__all__ = ["KNOTS", "Placement", "coefficients", "context_bytes", "place", "step_seconds", "weight_bytes"]

KNOTS = (
    *(1, 16, 32, 64, 128, 256, 512, 768, 1024, 1536, 2048, 3072, 4096, 6144, 8192),
    *(12288, 16384, 24576, 32768, 49152, 65536, 98304, 131072),
)
"""Prompt sizes of the tables: half octaves where F is quadratic, so that straight lines between them are near it."""

_PLACED_CONTEXT = 32_768
_USABLE_MEMORY = 0.9  # what serving stacks allow themselves by default


@dataclass(frozen=True, slots=True)
class Placement:
    """On how many devices a model runs: `tensor` share each layer, `stages` groups of them share the layers."""

    tensor: int
    stages: int = 1


def place(model: Architecture, hardware: Hardware) -> Placement:
    """The smallest power of two of devices that hold the weights and 32,768 tokens of context.

    Within a node the layers are split (tensor parallel); what needs more takes several such groups in a row.
    """
    needed = weight_bytes(model) + _PLACED_CONTEXT * context_bytes(model)
    devices = 1
    while devices * _USABLE_MEMORY * hardware.memory_bytes < needed:
        devices *= 2
    tensor = min(devices, hardware.devices_per_node)
    return Placement(tensor, devices // tensor)


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


def coefficients(model: Architecture, hardware: Hardware, placement: Placement) -> Coefficients:
    """F at the knots, beta and gamma of one request alone."""
    near, far = (step_seconds(model, hardware, placement, 1, context) for context in (0, KNOTS[-1]))
    prompts = (step_seconds(model, hardware, placement, knot) for knot in KNOTS)
    return Coefficients(
        per_output_token=near,
        knots=KNOTS,
        prompt_seconds=tuple(prompts),
        context=(far - near) / KNOTS[-1],
    )


def step_seconds(
    model: Architecture, hardware: Hardware, placement: Placement, tokens: int, context: int = 0, batch: int = 1
) -> float:
    """Seconds of one step over `tokens` new tokens of each of `batch` requests, each with `context` before them."""
    return _Step(model, hardware, placement, tokens, context, batch).seconds()


@dataclass(frozen=True, slots=True)
class _Step:
    """One step's kernels. Shapes are those of one device of the tensor-parallel group."""

    model: Architecture
    hardware: Hardware
    placement: Placement
    tokens: int
    context: int
    batch: int

    def seconds(self) -> float:
        model, hardware = self.model, self.hardware
        with_experts = model.layers - model.dense_layers
        layers = model.layers * (self._projections() + self._small() + 2 * self._reduce())
        layers += (model.layers - model.window_layers) * self._attention(0)
        layers += model.window_layers * self._attention(model.window)
        layers += model.dense_layers * self._feed_forward(model.ffn)
        if model.experts is not None:
            layers += with_experts * self._mixture(model.experts)
        output = self._product(self.batch, model.vocabulary / self.placement.tensor, model.hidden, "bf16")
        between = (self.placement.stages - 1) * self._rows * model.hidden * ACTIVATION / hardware.network
        return hardware.step + layers + output + between

    @property
    def _rows(self) -> int:
        return self.tokens * self.batch

    @property
    def _weights(self) -> str:
        return "bf16" if self.model.weights == "mxfp4" else self.model.weights

    def _product(self, rows: float, out: float, inner: float, weights: str) -> float:
        # With fp8 weights the activations are brought to fp8 by a kernel of its own.
        before = self.hardware.small if weights == "fp8" else 0.0
        return before + product(self.hardware, rows, out, inner, weights)

    def _projections(self) -> float:
        model, tensor, latent = self.model, self.placement.tensor, self.model.latent
        heads = model.heads / tensor
        back = self._product(self._rows, model.hidden, heads * model.head_dim, self._weights)
        if latent is None:
            out = (heads + 2 * max(1.0, model.kv_heads / tensor)) * model.head_dim
            return back + self._product(self._rows, out, model.hidden, self._weights)
        down = self._product(self._rows, latent.q_rank + latent.kv_rank + latent.rope, model.hidden, self._weights)
        query = self._product(self._rows, heads * (latent.nope + latent.rope), latent.q_rank, self._weights)
        # Decoding multiplies by the two halves of this matrix apart, which stay bf16; the bytes are the same.
        value = self._product(self._rows, heads * (latent.nope + latent.value), latent.kv_rank, "bf16")
        return back + down + query + value

    def _attention(self, window: int) -> float:
        model, latent = self.model, self.model.latent
        heads = model.heads / self.placement.tensor
        cached = 2 * max(1.0, model.kv_heads / self.placement.tensor) * model.head_dim
        width = 2 * model.head_dim
        if latent is not None:
            cached = latent.kv_rank + latent.rope
            # Decoding works on the compressed cache itself, which is wider than the heads it stands for.
            width = latent.nope + latent.rope + latent.value if self.tokens > 1 else 2 * latent.kv_rank + latent.rope
        length = self.context + self.tokens
        reach = min(window, length) if window else length
        moved = (reach * cached + self.tokens * 2 * heads * model.head_dim) * ACTIVATION * self.batch
        flops = 2 * heads * width * self._pairs(reach) * self.batch
        return attention(self.hardware, moved, flops, self.tokens)

    def _pairs(self, reach: int) -> float:
        """How many (query, key) pairs there are: a triangle at the start, then a band as wide as the reach."""
        start = max(0, reach - self.context)
        return self.tokens * reach - start * start / 2

    def _feed_forward(self, width: float) -> float:
        share, hidden = width / self.placement.tensor, self.model.hidden
        up = self._product(self._rows, 2 * share, hidden, self._weights)
        return up + self._product(self._rows, hidden, share, self._weights)

    def _mixture(self, experts: Experts) -> float:
        model, hardware = self.model, self.hardware
        width = experts.ffn / self.placement.tensor
        routed = experts_kernel(hardware, self._rows, model.hidden, width, experts.count, experts.active, model.weights)
        router = self._product(self._rows, experts.count, model.hidden, "bf16") + 2 * hardware.small
        shared = self._feed_forward(experts.shared_ffn) if experts.shared_ffn else 0.0
        return routed + router + shared

    def _small(self) -> float:
        """Norms, rotation and cache write, activation, residual sums: launches, and passes over the activations."""
        model, hardware = self.model, self.hardware
        kernels = model.layer_norms + 3
        width = (2 * kernels * model.hidden + 3 * model.heads * model.head_dim / self.placement.tensor) * ACTIVATION
        return kernels * hardware.small + self._rows * width / (hardware.read * hardware.bandwidth)

    def _reduce(self) -> float:
        return reduce(self.hardware, self.placement.tensor, self._rows * self.model.hidden * ACTIVATION)
