"""What a model never measured should take on a hardware: coefficients from its architecture, and how far to trust them.

    prediction = predict(named("llama-3.1-8b"), hardware("h100"))
    prediction.coefficients, prediction.intervals, prediction.notes

The roofline gives F(p), beta and gamma; the hardware says how far it was off for models that its calibration had not
seen, which is the interval; notes say what widens it, and whether the model fits. Everything is pure.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from profiler.architectures import BYTES, Architecture
from profiler.bands import Band, band
from profiler.config import ArchitectureError
from profiler.flops import flops_of
from profiler.hardware import Hardware
from profiler.roofline import (
    CONTEXT,
    KNOTS,
    USABLE_MEMORY,
    Placement,
    coefficients,
    context_bytes,
    divides,
    place,
    weight_bytes,
)
from profiler.serving import BATCH, served_batch, shares
from profiler.tables import rounded
from profiler.watts import watts_of
from stream.runtime import Coefficients
from stream.table_format import Row, Served, Stack

__all__ = ["WIDTHS", "Prediction", "placed", "predict", "predicted_stack", "stands_on"]

WIDTHS = {"bf16": "16-bit", "fp16": "16-bit"}
"""What weights are called where it makes no difference of which kind they are."""

_KEEP = 4  # significant digits
_LEAST_CONTEXT = 2048  # tokens that a placement must leave room for
_SERVED_NOTE = (
    f"Served: {BATCH} requests at once, as far as they fit; the intervals hold for these seconds too. Watts: of one"
    " accelerator's board, for prompts of 1,024 tokens and as much context."
)


@dataclass(frozen=True, slots=True)
class Prediction:
    """One model on one hardware: seconds, the band of their error, and what to know of them.

    `fits` tells whether weights and 2,048 tokens of context fit what servers use of the devices' memory; `served` is
    one request's share where many are served at once, None where that is not known.
    """

    architecture: Architecture
    hardware: Hardware
    placement: Placement
    coefficients: Coefficients
    band: Band
    fits: bool
    notes: tuple[str, ...] = ()
    served: Served | None = None

    @property
    def devices(self) -> int:
        """Accelerators in use."""
        return self.placement.tensor * self.placement.stages

    @property
    def intervals(self) -> Mapping[str, Any]:
        """Factors of the prediction between which the truth lies with a chance of 80 %, as a table's row has them."""
        return self.band.intervals

    def row(self, name: str | None = None) -> Row:
        """The row of a coefficient table, marked as predicted."""
        return Row(
            name=name or self.architecture.name,
            coefficients=self.coefficients,
            provenance="predicted",
            fit_error=self.band.median,
            intervals=self.intervals,
            accelerators=self.devices,
            flops=flops_of(self.architecture),
            watts=watts_of(self.architecture, self.hardware.device, self.devices, self.coefficients),
            served=self.served,
            source=self.architecture.source,
            note=". ".join((placed(self), *self.notes)),
        )


def predict(
    model: Architecture,
    hardware: Hardware,
    *,
    tensor: int | None = None,
    weights: str | None = None,
    longest: int | None = None,
    notes: Iterable[str] = (),
) -> Prediction:
    """Predict one model; `tensor` devices share each layer (None: as few as hold it), `weights` are one of `BYTES`.

    F ends at `longest` tokens, what the model was made for, where that is known. `notes` are what is known of the
    architecture already. Raises ArchitectureError for weights that cannot be, and for devices that cannot share it.
    """
    model = _with_weights(model, weights)
    placement = place(model, hardware) if tensor is None else _shared(model, tensor)
    knots = _knots(longest)
    alone = rounded(coefficients(model, hardware, placement, knots), _KEEP)
    fits = _fits(model, hardware, placement)
    said = [*notes, *_weight_notes(model, hardware)]
    if knots[-1] < KNOTS[-1]:
        said.append(f"made for {knots[-1]:,} tokens at most: F ends there")
    if placement.tensor > hardware.devices_per_node:
        node = f"more than the {hardware.devices_per_node} of a node"
        said.append(f"{placement.tensor} devices are {node}: links between nodes are slower than is reckoned here")
    if not fits:
        said.append(f"does not fit the memory of {placement.tensor} of these devices")
    return Prediction(
        architecture=model,
        hardware=hardware,
        placement=placement,
        coefficients=alone,
        band=band(model, hardware),
        fits=fits,
        notes=tuple(said),
        served=_served(model, hardware, placement, alone),
    )


def predicted_stack(predictions: Iterable[Prediction], name: str, date: str, names: Iterable[str | None] = ()) -> Stack:
    """A table's stack of predictions that are all for one hardware; `names` stand in for the models' own."""
    found = tuple(predictions)
    hardware = found[0].hardware
    called = (*names, *[None] * len(found))
    rows = (each.row(own) for each, own in zip(found, called, strict=False))
    chosen = all(each.placement == place(each.architecture, hardware) for each in found)
    return Stack(
        name=name,
        rows={row.name: row for row in rows},
        hardware=hardware.label
        + ("; for each model the smallest power of two of them that holds it" if chosen else ""),
        software=f"{hardware.software}, batch size 1",
        date=date,
        source="predicted from the architecture by trueclock's roofline (profiler/roofline.py)"
        + (f"; {hardware.source}" if hardware.source else ""),
        note=f"Predicted, not measured. Intervals are factors of the prediction, 80 %. {stands_on(hardware)}"
        + (f" {_SERVED_NOTE}" if any(each.served for each in found) else ""),
        accelerator=hardware.device,
    )


def placed(prediction: Prediction) -> str:
    """On what it runs, in words."""
    spread = f"tensor parallel {prediction.placement.tensor}"
    if prediction.placement.stages > 1:
        spread += f", {prediction.placement.stages} pipeline stages"
    kept = prediction.architecture.weights
    weights = "mxfp4 experts, 16-bit otherwise" if kept == "mxfp4" else f"{WIDTHS.get(kept, kept)} weights"
    return f"{prediction.devices} x {prediction.hardware.label} ({spread}), {weights}"


def stands_on(hardware: Hardware) -> str:
    """What the constants of a hardware rest on, in a sentence."""
    if not hardware.calibrated:
        return "Not calibrated: public data of the device, and constants of others."
    return f"Calibrated on {hardware.calibrated_on}."


def _with_weights(model: Architecture, weights: str | None) -> Architecture:
    wanted = weights or model.weights
    if wanted not in BYTES:
        raise ArchitectureError(f"{model.name}: weights {wanted!r} are not known: one of {', '.join(BYTES)}")
    if wanted == "mxfp4" and model.experts is None:
        raise ArchitectureError(f"{model.name}: mxfp4 is a form of experts, and it has none: int4 is near it")
    return replace(model, weights=wanted)


def _shared(model: Architecture, tensor: int) -> Placement:
    if divides(model, tensor):
        return Placement(tensor)
    heads = f"{model.heads} attention heads"
    if model.kv_heads != model.heads:
        heads += f" ({model.kv_heads} of keys and values)"
    can = ", ".join(str(count) for count in range(1, model.heads + 1) if divides(model, count))
    raise ArchitectureError(f"{model.name}: {tensor} devices cannot share its {heads}: tensor parallel can be {can}")


def _served(model: Architecture, hardware: Hardware, placement: Placement, alone: Coefficients) -> Served | None:
    batch = served_batch(model, hardware, placement)
    if batch is None:
        return None
    knots = alone.knots
    numbers = rounded(shares(model, hardware, placement, batch, knots, min(CONTEXT, knots[-1])), _KEEP)
    # Long prompts take several steps there, which costs a little; but each could be encoded in one, alone, as well.
    numbers = replace(numbers, prompt_seconds=tuple(map(min, numbers.prompt_seconds, alone.prompt_seconds)))
    devices = placement.tensor * placement.stages
    return Served(batch, numbers, watts_of(model, hardware.device, devices, numbers, batch))


def _knots(longest: int | None) -> tuple[int, ...]:
    if longest is None or longest >= KNOTS[-1]:
        return KNOTS
    return (*(knot for knot in KNOTS if knot < longest), longest)


def _fits(model: Architecture, hardware: Hardware, placement: Placement) -> bool:
    needed = weight_bytes(model) + _LEAST_CONTEXT * context_bytes(model)
    return needed <= placement.tensor * placement.stages * USABLE_MEMORY * hardware.memory_bytes


def _weight_notes(model: Architecture, hardware: Hardware) -> list[str]:
    if model.weights == "fp8" and hardware.fp8 <= 1:
        return [f"{hardware.label} does not compute in fp8: it saves reading weights only"]
    if model.weights in {"int8", "int4"}:
        return ["quantised weights save reading only: the products are taken to run in 16 bits"]
    return []
