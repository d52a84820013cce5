"""A file of runs as a coefficient table: all models of a stack, fitted together, with what was measured of each."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from profiler.fitted import stacks_of
from profiler.fitting import Fitted, enough, fit
from profiler.flops import flops_of
from profiler.hardware import present
from profiler.prediction import predict
from profiler.roofline import USABLE_MEMORY, weight_bytes
from profiler.runs import WHOLE, Runs, Setup
from profiler.tables import significant
from stream.runtime import Coefficients, runtime_function
from stream.table_format import Row, Stack, Watts

__all__ = ["MeasuredStack", "against_predictions", "measured_stack"]

_DIGITS = 4
_POWER_SPREAD = (0.95, 1.05)  # NVIDIA states +-5 % for the power and energy that its boards tell
_PHASES = {"prompt", "output"}
_COMPARED = (512, 1), (512, 64), (2048, 256)  # prompt and output tokens


@dataclass(frozen=True, slots=True)
class MeasuredStack:
    """A table's stack, and the fits that it was made of, in the same order."""

    stack: Stack
    fitted: tuple[Fitted, ...]


def measured_stack(measured: Sequence[Runs], date: str, source: str) -> MeasuredStack | None:
    """The stack of setups that are all of one, without those of which too little ran yet; None where none is left."""
    having = [(each, samples) for each in measured if (samples := each.samples()) is not None and enough(samples)]
    if not having:
        return None
    fitted = fit([samples for _, samples in having])
    first = having[0][0].setup
    (stack,) = stacks_of(
        fitted,
        name=first.stack,
        hardware=_hardware(first),
        software=", ".join(f"{name} {value}" for name, value in first.software.items()),
        date=date,
        source=source,
        accelerator=first.hardware.get("accelerator"),
    )
    rows = (_row(row, each) for row, (each, _) in zip(stack.rows.values(), having, strict=True))
    return MeasuredStack(replace(stack, rows={row.name: row for row in rows}), fitted)


def against_predictions(found: MeasuredStack) -> list[str]:
    """Of each model how many times as long it took as `predict` says; nothing where it does not know the hardware."""
    device = present(found.stack.accelerator or "")
    if device is None:
        return []
    return [
        f"{each.measured.model}: T is {', '.join(_ratios(each.coefficients, predict(known, device).coefficients))}"
        f" of what predict says for {device.name}"
        for each in found.fitted
        if (known := each.measured.architecture) is not None
    ]


def _ratios(measured: Coefficients, predicted: Coefficients) -> list[str]:
    here, there = runtime_function(measured), runtime_function(predicted)
    return [f"{here(*point) / there(*point):.2f}x at {point[0]} + {point[1]}" for point in _COMPARED]


def _hardware(setup: Setup) -> str:
    known = setup.hardware
    memory = known.get("memory_bytes")
    return f"{known['name']}, {memory / 1e9:.0f} GB" if memory else str(known["name"])


def _row(row: Row, measured: Runs) -> Row:
    setup, architecture = measured.setup, measured.setup.architecture
    power = measured.powers()
    watts = None
    if power.keys() >= _PHASES:
        prompt, output = (significant(power[phase], _DIGITS) for phase in ("prompt", "output"))
        watts = Watts(prompt, output, _POWER_SPREAD, "measured by NVML, of one board")
    return replace(
        row,
        accelerators=_devices(setup),
        flops=None if architecture is None else flops_of(architecture),
        watts=watts,
        note="; ".join(filter(None, (row.note, _ran(setup), *setup.notes))),
    )


def _ran(setup: Setup) -> str:
    kept = f"weights in {setup.dtype}" if setup.dtype else ""
    if list(setup.depths) == [WHOLE]:
        return kept
    depths = " and ".join(map(str, setup.depths))
    return f"{kept}; {depths} of its layers ran, extrapolated to the whole model"


def _devices(setup: Setup) -> int:
    """How many ran; of a model of which some layers ran, as many as hold its weights, one after the other."""
    memory = setup.hardware.get("memory_bytes")
    if list(setup.depths) == [WHOLE] or setup.architecture is None or not memory or not setup.hardware.get("board"):
        return setup.tensor_parallel
    bf16 = weight_bytes(replace(setup.architecture, weights="bf16"))
    needed = bf16 * (2 if setup.dtype == "float32" else 1)
    return setup.tensor_parallel * math.ceil(needed / (USABLE_MEMORY * float(memory) * setup.tensor_parallel))
