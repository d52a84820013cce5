"""The kernels of LLM inference on a device: how long each takes, from what it moves and what it computes.

A kernel that moves `bytes` and computes `flops` takes

    launch + (memory^n + compute^n)^(1/n),   memory = bytes / bandwidth,   compute = flops / peak,

bandwidth and peak each at the efficiency that kernels of that sort reach. Where a stack's products are cut into
tiles, their compute time is that of whole tiles in whole waves over the device's processors: of the tiles there are,
those that are through first. Kernels that libraries chose for themselves and fused ones are smooth enough without.

Everything is pure; times are in seconds, shapes those of one device. Token counts may be numbers or arrays of them.
"""

import numpy as np
from numpy.typing import NDArray

from profiler.architectures import BYTES
from profiler.hardware import Hardware

__all__ = ["ACTIVATION", "Count", "attention", "experts", "moves", "product", "reduce", "smooth_maximum"]

Count = float | NDArray[np.float64]
"""A number, or one for every prompt size."""

ACTIVATION = 2.0
"""Bytes of an activation, a cached key or a cached value: 16 bits."""

_HIGH = 128  # rows of the tiles for all products but low ones
_TILES = np.array([[64, 64], [64, 128], [128, 64], [128, 128], [128, 256], [256, 128]], np.float64)
_TILE_ROWS, _TILE_COLUMNS = _TILES[:, :1], _TILES[:, 1:]
_ALIGNED = 8  # elements: dimensions of 16-bit products that tensor cores take as they are


def product(
    hardware: Hardware, rows: Count, out: Count, inner: Count, weights: str = "bf16", count: Count = 1.0
) -> Count:
    """`count` matrix products at once, each of `rows` x `inner` with `inner` x `out` weights."""
    moved = count * (out * inner * BYTES[weights] + rows * (out + inner) * ACTIVATION)
    peak = hardware.flops * hardware.compute * (hardware.fp8 if weights == "fp8" else 1)
    flops = _tiled(hardware, rows, out, inner, count) if hardware.tiled else 2 * count * out * inner * rows
    compute = flops * _slowed(hardware, out, inner) / peak
    memory = moved / (hardware.read * hardware.bandwidth)
    return hardware.launch + smooth_maximum(hardware.sharpness, memory, compute)


def attention(hardware: Hardware, moved: Count, flops: Count, tokens: Count = 1) -> Count:
    """Fused attention of `tokens` new tokens that moves `moved` bytes and computes `flops`."""
    slower = 1 + hardware.attention_pad / tokens * np.greater(tokens, 1)
    memory = moved / (hardware.attention_read * hardware.bandwidth)
    compute = flops * slower / (hardware.attention_compute * hardware.flops)
    return hardware.attention_launch + smooth_maximum(hardware.sharpness, memory, compute)


def experts(
    hardware: Hardware, rows: Count, hidden: float, width: float, count: int, active: int, weights: str
) -> Count:
    """`active` of `count` gated experts of `width` for each of `rows` tokens, the ways there and back included."""
    touched = count * (1 - (1 - active / count) ** rows)
    expert = 3 * hidden * width
    passes = rows * active
    peak = hardware.flops * hardware.experts_compute * (hardware.fp8 if weights == "fp8" else 1)
    moved = touched * expert * BYTES[weights] + passes * hidden * 4 * ACTIVATION
    flops = 2 * expert * (passes + touched * hardware.experts_pad)
    memory = moved / (hardware.experts_read * hardware.bandwidth)
    return hardware.experts_launch + smooth_maximum(hardware.sharpness, memory, flops / peak)


def reduce(hardware: Hardware, devices: int, moved: Count) -> Count:
    """An all-reduce of `moved` bytes over `devices`; nothing on one device."""
    if devices == 1:
        return 0.0
    sent = 2 * (devices - 1) / devices * moved
    launch = hardware.reduce_launch + hardware.reduce_hop * float(np.log2(devices))
    return launch + sent / (hardware.reduce_link * hardware.link)


def moves(hardware: Hardware, moved: Count) -> Count:
    """Small kernels that read and write `moved` bytes."""
    return moved / (hardware.read * hardware.bandwidth)


def smooth_maximum(sharpness: float, first: Count, second: Count) -> Count:
    """(x^n + y^n)^(1/n): nearly the larger, a little more where both are alike."""
    larger = np.maximum(first, second)
    ratio = np.minimum(first, second) / larger
    found: Count = larger * (1 + ratio**sharpness) ** (1 / sharpness)
    return found


def _tiled(hardware: Hardware, rows: Count, out: Count, inner: Count, count: Count) -> Count:
    """FLOPs that the whole device could have done until the last wave of tiles is through."""
    waves = np.ceil(np.ceil(rows / _TILE_ROWS) * np.ceil(out / _TILE_COLUMNS) * count / hardware.processors)
    edges = 1 + hardware.tile_edge * (1 / _TILE_ROWS + 1 / _TILE_COLUMNS)
    # Libraries take low tiles for low products only: the same weights would be loaded again for every row of tiles.
    suited = np.minimum(rows, _HIGH) <= _TILE_ROWS
    fastest = np.where(suited, waves * edges * _TILE_ROWS * _TILE_COLUMNS, np.inf).min(axis=0)
    done: Count = 2 * inner * hardware.processors * fastest
    return done if np.ndim(rows) or np.ndim(out) else float(np.ravel(done)[0])


def _slowed(hardware: Hardware, out: Count, inner: Count) -> Count:
    """How many times longer a product takes whose dimensions do not suit the tensor cores."""
    odd = (np.asarray(out) % _ALIGNED > 0) | (np.asarray(inner) % _ALIGNED > 0)
    return np.where(odd, hardware.misaligned, 1.0) if odd.ndim else (hardware.misaligned if odd else 1.0)
