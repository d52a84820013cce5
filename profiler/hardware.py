"""Hardware and the software on it: public data of devices, and the calibrated constants of stacks on them.

`hardware.json` beside this module holds both. A **device** has numbers of data sheets only. A **stack** is a device
and the software on it: how it works (whether its attention is fused, whether it gives the output layer every token
of a prompt, whether its matrix products are cut into tiles) and constants that were fitted to measurements, each with a
physical meaning. `calibrated` is false where only public data were changed, and nothing was measured.

Times are in seconds, sizes in bytes, rates per second, efficiencies fractions of the device's public rate.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any, Literal

__all__ = ["Hardware", "HardwareError", "LeftOut", "Of", "Part", "device_name", "hardware", "present", "stacks"]

Of = Literal["model", "shape", "degree", "kernels"]
"""What was left out: a model; a model and its twins, those of nearly its shape; a tensor-parallel degree; kernels."""

Part = Literal["all", "first"]
"""Of which runtimes the errors are: of all, or of the first token's alone, which are F."""

_FILE = Path(__file__).with_name("hardware.json")
_WORDS: Mapping[Of, str] = {
    "model": "model",
    "shape": "model and its twins",
    "degree": "tensor-parallel degree",
    "kernels": "shapes of kernels",
}


class HardwareError(ValueError):
    """A hardware that is not known. One line: what was asked for, and what there is."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """How far off predictions were for what a calibration had not seen: relative errors, fractions.

    `median` is the median over what was left out of its median error, `worst` the largest; `interval` are the factors
    of a prediction between which about 80 % of the measured runtimes lie (conformal: what is left out is as likely as
    any to be the one that lies outside). `cases` are how many things were left out in turn (0: not said): of four or
    fewer the interval is that of the largest error seen.
    """

    of: Of
    part: Part
    median: float
    worst: float
    interval: tuple[float, float]
    cases: int = 0

    @property
    def what(self) -> str:
        """What was left out, in words."""
        return _WORDS[self.of] + (", first token" if self.part == "first" else "")


@dataclass(frozen=True, slots=True)
class Hardware:
    """A device, its links and the software on it. Up to `processors` public data, the others fitted or fixed.

    Of what a stack does not have the constant is neutral: 0 for a time, 1 for a factor.
    """

    name: str
    device: str
    software: str
    memory_bytes: float
    bandwidth: float
    flops: float  # 16-bit, dense
    link: float  # bytes a second to the other devices of a node, each direction
    network: float  # bytes a second from node to node, per device
    devices_per_node: int
    processors: int  # streaming multiprocessors

    fused: bool = True  # attention is one kernel that never writes its scores; so are the small kernels
    all_logits: bool = False  # the output layer gets every token of a prompt, not only the last
    tiled: bool = False  # products take whole waves of whole tiles

    host_layer: float = 0.0  # the host's launches of a layer: with CUDA graphs none
    host_prompt: float = 0.0  # how much longer those of a prompt take than those of a token, a fraction
    host_reduce: float = 0.0  # what several devices add to them
    overlap: float = 9.0  # n of the smooth maximum of host and device: they run at the same time
    step: float = 0.0  # per step: scheduling, sampling, the host
    step_token: float = 0.0  # per prompt token: what the host does with each

    sharpness: float = 3.0  # n of the smooth maximum of a kernel's memory and compute time
    launch: float = 0.0  # of a matrix product
    read: float = 1.0  # bandwidth efficiency
    compute: float = 1.0  # compute efficiency; with tiles, of an endless tile
    fp8: float = 1.0  # how many times faster fp8 computes than bf16
    tile_edge: float = 0.0  # rows (or columns) of a tile that loading its edges costs
    misaligned: float = 1.0  # how many times longer products with a dimension that is not a multiple of 8 take
    passes: float = 1.0  # of the activations that small kernels read and write, how many times as many move
    softmax: float = 0.0  # passes over the scores besides those of the two products, where attention is not fused

    attention_launch: float = 0.0
    attention_compute: float = 1.0
    attention_pad: float = 0.0  # prompt tokens that attention's start and end cost
    attention_read: float = 1.0
    experts_launch: float = 0.0
    experts_read: float = 1.0
    experts_compute: float = 1.0
    experts_pad: float = 0.0  # tokens by which the tiles of every expert touched overhang
    reduce_launch: float = 0.0
    reduce_hop: float = 0.0  # further launch time for every doubling of the devices
    reduce_link: float = 1.0
    small: float = 0.0  # a small kernel (norm, activation, rotation, router) in a CUDA graph

    fitted: tuple[str, ...] = ()  # the constants that measurements on this stack decided
    calibrated: bool = False
    calibrated_on: str = ""
    left_out: tuple[LeftOut, ...] = ()
    label: str = ""  # of the device, in words
    source: str = ""
    note: str = ""

    def error_of(self, of: Of, part: Part = "all") -> LeftOut | None:
        """How far off predictions were for what was left out of the calibration, if that is known."""
        return next((each for each in self.left_out if (each.of, each.part) == (of, part)), None)


def stacks() -> dict[str, Hardware]:
    """All stacks that ship with the program, by name."""
    return dict(_stacks())


def hardware(name: str) -> Hardware:
    """The stack of a name or alias, or the one meant by a device (a100, "NVIDIA A100 80GB", h100-sxm); any case.

    Raises HardwareError, one line that lists what there is and says what can be done without.
    """
    wanted = name.strip().lower().replace("_", "-").replace(" ", "-")
    known = _stacks()
    meant = wanted if wanted in known else device_name(name) or wanted
    found = known.get(_aliases().get(meant, meant))
    if found is None:
        short = {stack: f" (also {alias})" for alias, stack in _aliases().items()}
        there = ", ".join(f"{stack}{short.get(stack, '')}" for stack in known)
        raise HardwareError(
            f"hardware {name!r} is not known: there are {there}; profiler fit needs none of them, and"
            " profiler predict takes a FILE.json that describes another device"
        )
    return found


def present(device: str) -> Hardware | None:
    """The stack of a present server on a device (h200, a100, a100-80gb); None where none is known."""
    short = device.partition("-")[0]
    return _stacks().get(f"{short}-present") or _stacks().get(short)


def device_name(name: str) -> str | None:
    """The short name (a100, h200) of the device that `name` means in whatever spelling, None where it is another.

    An A100 with 40 GB or a PCIe card is another: its bandwidth differs.
    """
    plain = re.sub(r"[^a-z0-9]", "", name.lower()).removeprefix("nvidia").removeprefix("tesla")
    for device, public in _content()["devices"].items():
        short, gigabytes = device.partition("-")[0], round(public["memory_bytes"] / 1e9)
        if re.fullmatch(rf"([0-9]+x)?{short}(sxm[0-9]?|{gigabytes}gb|hbm[0-9]e?)*(x[0-9]+)?", plain):
            return str(short)
    return None


@cache
def _stacks() -> dict[str, Hardware]:
    content = _content()
    return {name: _stack(name, numbers, content["devices"]) for name, numbers in content["stacks"].items()}


@cache
def _aliases() -> dict[str, str]:
    return dict(_content()["aliases"])


@cache
def _content() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(_FILE.read_bytes())
    return content


def _stack(name: str, numbers: Mapping[str, Any], devices: Mapping[str, Mapping[str, Any]]) -> Hardware:
    public = {key: value for key, value in devices[numbers["device"]].items() if key in _NAMES and key != "source"}
    rest = {key: value for key, value in numbers.items() if key not in {"constants", "fitted", "left_out"}}
    return Hardware(
        name=name,
        fitted=tuple(numbers.get("fitted", ())),
        left_out=tuple(map(_left_out, numbers.get("left_out", ()))),
        **public,
        **numbers["constants"],
        **rest,
    )


def _left_out(found: Mapping[str, Any]) -> LeftOut:
    rest = {key: value for key, value in found.items() if key not in {"low", "high"}}
    return LeftOut(**rest, interval=(found["low"], found["high"]))


_NAMES = {each.name for each in fields(Hardware)}
