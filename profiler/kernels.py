"""The kernels of LLM inference on a device: how long each takes, from what it moves and what it computes.

A kernel that moves `bytes` and computes `flops` takes

    launch + (memory^n + compute^n)^(1/n),   memory = bytes / bandwidth,   compute = flops / peak,

bandwidth and peak each at the efficiency that kernels of that sort reach. The constants of `H100` are fitted to
published measurements of single kernels and of whole servers; `samples/README.md` says which, and how far off the
result is. Everything is pure; times are in seconds, shapes those of one device.
"""

from dataclasses import dataclass

__all__ = ["ACTIVATION", "BYTES", "H100", "Hardware", "attention", "experts", "product", "reduce"]

BYTES = {"bf16": 2.0, "fp8": 1.0, "mxfp4": 0.53125}
"""Bytes of a weight; mxfp4 has 4 bits and an 8-bit scale for every 32."""

ACTIVATION = 2.0
"""Bytes of an activation, a cached key or a cached value: bf16."""


@dataclass(frozen=True, slots=True)
class Hardware:
    """One device, its links and the software on it. The first five are public data, the others are fitted.

    Rates are per second, times in seconds, efficiencies fractions of the public rate.
    """

    memory_bytes: float
    bandwidth: float
    flops: float  # bf16, dense; fp8 has twice as many
    link: float  # bytes a second, each direction
    network: float  # bytes a second from node to node, per device
    devices_per_node: int
    sharpness: float  # n of the smooth maximum
    launch: float  # of a matrix product
    read: float  # bandwidth efficiency of a matrix product
    compute: float  # and its compute efficiency
    fp8: float  # how many times faster fp8 computes than bf16 (the data sheet says 2)
    attention_launch: float
    attention_compute: float
    attention_pad: float  # prompt tokens that attention's start and end cost
    attention_read: float
    experts_launch: float
    experts_read: float
    experts_compute: float
    experts_pad: float  # tokens by which the tiles of every expert touched overhang
    reduce_launch: float
    reduce_link: float
    small: float  # a small kernel (norm, activation, rotation, router) in a CUDA graph
    step: float  # per step: scheduling, sampling, the host


H100 = Hardware(
    memory_bytes=80e9,
    bandwidth=3.35e12,
    flops=989e12,
    link=450e9,
    network=50e9,
    devices_per_node=8,
    sharpness=3.0,
    launch=5.6e-6,
    read=0.905,
    compute=0.835,
    fp8=1.25,
    attention_launch=12.5e-6,
    attention_compute=0.64,
    attention_pad=1300,
    attention_read=0.73,
    experts_launch=32e-6,
    experts_read=0.95,
    experts_compute=0.49,
    experts_pad=50,
    reduce_launch=3.1e-6,
    reduce_link=0.67,
    small=5.2e-6,
    step=0.15e-3,
)
"""NVIDIA H100 SXM: data sheet (80 GB, 3.35 TB/s, 989 bf16 TFLOP/s, NVLink 450 GB/s each way), and what was fitted."""


def product(hardware: Hardware, rows: float, out: float, inner: float, weights: str) -> float:
    """A matrix product of `rows` x `inner` with `inner` x `out` weights."""
    moved = out * inner * BYTES[weights] + rows * (out + inner) * ACTIVATION
    peak = hardware.flops * hardware.compute * (hardware.fp8 if weights == "fp8" else 1)
    memory = moved / (hardware.read * hardware.bandwidth)
    return _kernel(hardware, hardware.launch, memory, 2 * out * inner * rows / peak)


def attention(hardware: Hardware, moved: float, flops: float, tokens: int = 1) -> float:
    """Attention of `tokens` new tokens that moves `moved` bytes and computes `flops`."""
    slower = 1 + hardware.attention_pad / tokens if tokens > 1 else 1.0
    return _kernel(
        hardware,
        hardware.attention_launch,
        moved / (hardware.attention_read * hardware.bandwidth),
        flops * slower / (hardware.attention_compute * hardware.flops),
    )


def experts(
    hardware: Hardware, rows: float, hidden: float, width: float, count: int, active: int, weights: str
) -> float:
    """`active` of `count` gated experts of `width` for each of `rows` tokens, the ways there and back included."""
    touched = count * (1 - (1 - active / count) ** rows)
    expert = 3 * hidden * width
    passes = rows * active
    peak = hardware.flops * hardware.experts_compute * (hardware.fp8 if weights == "fp8" else 1)
    moved = touched * expert * BYTES[weights] + passes * hidden * 4 * ACTIVATION
    flops = 2 * expert * (passes + touched * hardware.experts_pad)
    memory = moved / (hardware.experts_read * hardware.bandwidth)
    return _kernel(hardware, hardware.experts_launch, memory, flops / peak)


def reduce(hardware: Hardware, devices: int, moved: float) -> float:
    """An all-reduce of `moved` bytes over `devices`; nothing on one device."""
    if devices == 1:
        return 0.0
    sent = 2 * (devices - 1) / devices * moved
    return hardware.reduce_launch + sent / (hardware.reduce_link * hardware.link)


def _kernel(hardware: Hardware, launch: float, memory: float, compute: float) -> float:
    n = hardware.sharpness
    return launch + float((memory**n + compute**n) ** (1 / n))
