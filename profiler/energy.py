"""Joules per output token of a server with many requests at once, from what is known before it runs.

A step gives each of `batch` requests a token, and encodes the prompt tokens that come in for each of them:

    t = slow * (roofline of the step + state) * experts * fp8 + sequence * batch
    J per token = devices * P(bytes / t, FLOPs / t) * t / batch

The roofline is that of `profiler.roofline`, its constants those of the device's present servers; `slow` and the others
are the server's (`Server`), fitted on measured energy alone. P is the board's power (`profiler.power`). Bytes are those
of weights, of the experts that the batch touches, of the context and of a hybrid's state. How many requests are in a
batch is not an input: it is as many as may be, or as many as memory has room for.

Everything is pure. Arrays have one element a configuration.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from profiler.architectures import BYTES
from profiler.energy_subject import Subject
from profiler.hardware import Hardware, device_name, hardware
from profiler.power import Power, board_power, energy_file
from profiler.roofline import USABLE_MEMORY, Placement, context_bytes, step_seconds, weight_bytes

__all__ = [
    "DEVICES",
    "PROMPT_TOKENS",
    "Demand",
    "Server",
    "Serving",
    "demand",
    "joules_per_token",
    "on_device",
    "server",
]

PROMPT_TOKENS = 200.0
"""Tokens of a chat prompt: the data do not say how many there were, and between 100 and 300 it matters little."""

DEVICES = {"h100": "h100", "h200": "h200", "b200": "b200", "a100": "a100-present"}
"""Devices, by their short names, and the stack of present servers on each."""

_HOME = "h100"  # where the constants were fitted
_ACTIVATIONS = 3e9  # bytes of a device's memory besides weights and context
_FILLED = 0.75  # of its final context that a request has while others come and go


class Serving(NamedTuple):
    """One configuration. `sequences` are the most requests at once of each of `replicas`, `output` tokens of a reply.

    `expert_devices` share the experts where they are more than a replica's devices.
    """

    subject: Subject
    device: str
    devices: int
    replicas: int
    expert_devices: int
    sequences: float
    output: float


@dataclass(frozen=True, slots=True)
class Demand:
    """What a step asks of each of the `devices` that serve a batch: bytes, FLOPs, seconds by the roofline.

    `batch` is how many requests are served at once; `state_seconds` are those of hybrids' states at full bandwidth.
    `mixture` and `fp8` are 1 or 0. `tdp` is the board's; `byte_share` and `flop_share` are what share of it a joule for
    each byte (FLOP) of the home device's takes on this one.
    """

    devices: NDArray[np.float64]
    batch: NDArray[np.float64]
    bytes: NDArray[np.float64]
    flops: NDArray[np.float64]
    seconds: NDArray[np.float64]
    state_seconds: NDArray[np.float64]
    mixture: NDArray[np.float64]
    fp8: NDArray[np.float64]
    tdp: NDArray[np.float64]
    byte_share: NDArray[np.float64]
    flop_share: NDArray[np.float64]

    def where(self, mask: NDArray[np.bool_]) -> "Demand":
        """The same of some configurations only."""
        return Demand(**{each.name: getattr(self, each.name)[mask] for each in fields(self)})


@dataclass(frozen=True, slots=True)
class Server:
    """A server's constants, each above 0. Joules are the home device's, as `profiler.power` means them.

    `slow`: times the roofline; `sequence`: seconds of a step for each request; `experts` and `fp8`: times as long with
    them; `state`: the share of the bandwidth that hybrids' states are moved with.
    """

    idle: float
    joules_per_byte: float
    joules_per_flop: float
    slow: float
    sequence: float
    experts: float
    fp8: float
    state: float


def server() -> Server:
    """The constants that ship."""
    return Server(**energy_file()["server"]["constants"])


def joules_per_token(asked: Demand, constants: Server) -> NDArray[np.float64]:
    """Joules of a configuration's accelerators for one output token, its share of the prompt included."""
    work = asked.seconds + asked.state_seconds / constants.state
    longer = constants.experts**asked.mixture * constants.fp8**asked.fp8
    seconds = constants.slow * work * longer + constants.sequence * asked.batch
    # As shares of the TDP: of another board the constants are those that take the same share at its own peak rates.
    one = Power(1.0, constants.idle, constants.joules_per_byte, constants.joules_per_flop)
    share = one.watts(asked.byte_share * asked.bytes / seconds, asked.flop_share * asked.flops / seconds)
    found: NDArray[np.float64] = asked.devices * asked.tdp * share * seconds / asked.batch
    return found


def on_device(power: Power, home: Hardware, other: Hardware, tdp_watts: float) -> Power:
    """The same board as another device: what a byte or a FLOP takes of the TDP goes with its share of the peak rate."""
    larger = tdp_watts / power.tdp_watts
    per_byte = power.joules_per_byte * larger * home.bandwidth / other.bandwidth
    return Power(tdp_watts, power.idle, per_byte, power.joules_per_flop * larger * home.flops / other.flops)


def demand(servings: Sequence[Serving]) -> Demand:
    """What these configurations ask of their devices."""
    groups: dict[Any, list[int]] = {}
    for number, each in enumerate(servings):
        groups.setdefault(each[:5], []).append(number)
    columns = np.zeros((len(fields(Demand)), len(servings)))
    for numbers in groups.values():
        columns[:, numbers] = _columns([servings[number] for number in numbers])
    return Demand(*columns)


def _columns(alike: Sequence[Serving]) -> NDArray[np.float64]:
    """Those of configurations that differ in sequences and output alone, a row for each field of Demand."""
    first = alike[0]
    stack = hardware(DEVICES[first.device])
    own = first.devices // first.replicas
    # Experts that more devices share than a replica has are all replicas' together.
    group = max(own, min(first.expert_devices, first.devices)) if first.subject.architecture.experts else own
    output = np.array([each.output for each in alike])
    most = np.array([each.sequences for each in alike]) * (group / own)
    batch = np.minimum(most, _room(first.subject, stack, group, output))
    return _work(first.subject, stack, group, batch, output)


def _room(asked: Subject, stack: Hardware, group: int, output: NDArray[np.float64]) -> NDArray[np.float64]:
    """How many requests' contexts the memory holds."""
    model = asked.architecture
    room = group * (USABLE_MEMORY * stack.memory_bytes - _ACTIVATIONS) - weight_bytes(model)
    context = _context(asked, PROMPT_TOKENS + output) * _FILLED + asked.state_bytes
    return np.maximum(1.0, room / context)


def _context(asked: Subject, tokens: NDArray[np.float64]) -> NDArray[np.float64]:
    model = asked.architecture
    windowed = model.window_layers * 2 * model.kv_heads * model.head_dim * 2.0
    return context_bytes(model) * tokens + windowed * np.minimum(tokens, model.window)


def _work(
    asked: Subject,
    stack: Hardware,
    group: int,
    batch: NDArray[np.float64],
    output: NDArray[np.float64],
) -> NDArray[np.float64]:
    model = asked.architecture
    fed = 1 + PROMPT_TOKENS / output  # tokens fed for each output token
    context = PROMPT_TOKENS + output / 2
    one = np.ones(len(batch), np.int64)
    # All tokens of a step go through the products together; the context is read once for each request.
    seconds = step_seconds(model, stack, Placement(group), one, context / fed, batch * fed, prompt=False)
    state = 2 * batch * asked.state_bytes  # read and written
    moved = _weights(asked, batch * fed) + batch * _context(asked, context) + state
    heads = 4.0 * model.heads * model.head_dim * model.layers
    flops = batch * (2 * fed * model.total_parameters(active=True) + heads * context)
    columns = (
        group,
        batch,
        moved / group,
        flops / group,
        seconds,
        state / group / stack.bandwidth,
        model.experts is not None,
        model.weights == "fp8",
        *_board(stack),
    )
    return np.array([np.broadcast_to(each, len(batch)) for each in columns], np.float64)


def _weights(asked: Subject, tokens: NDArray[np.float64]) -> NDArray[np.float64]:
    """Bytes of the weights that a step over so many tokens reads. Of the token embedding it reads next to nothing."""
    model = asked.architecture
    everything = weight_bytes(model) - (0 if model.tied else 2.0 * model.vocabulary * model.hidden)
    experts = model.experts
    if experts is None:
        return np.full(len(tokens), everything)
    layers = model.layers - experts.dense_layers
    each = layers * 3.0 * model.hidden * experts.ffn * BYTES[model.weights]
    touched = experts.count * (1 - (1 - experts.active / experts.count) ** tokens)
    return everything - (experts.count - touched) * each


def _board(stack: Hardware) -> tuple[float, float, float]:
    """TDP, and what a byte (a FLOP) of the home device's joules takes of it: 1 / TDP there."""
    home, tdp = hardware(DEVICES[_HOME]), board_power(stack.device).tdp_watts
    there = on_device(Power(board_power(_HOME).tdp_watts, 0.0, 1.0, 1.0), home, stack, tdp)
    return tdp, there.joules_per_byte / tdp, there.joules_per_flop / tdp


def short_name(device: str) -> str | None:
    """The short name of a device, None where no present server on it is known."""
    name = device_name(device)
    return name if name in DEVICES else None
