"""The calibrated constants that ship: `python -m profiler.calibrated > hardware.json` makes the file anew.

Stacks that say they are `calibrated_on` a file of `profiler/samples` get their fitted constants from it, and how far
off the roofline was for what was left out of the calibration. All else of `profiler/hardware.json` stays as it is:
public data, constants that were not fitted, and stacks that were calibrated on single kernels.
"""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from profiler.calibrate import calibrate, plausible
from profiler.hardware import Hardware, LeftOut, stacks
from profiler.leave_out import leave_out_degrees, leave_out_models, leave_out_shapes, left_out
from profiler.samples import Measured, read_samples

__all__ = ["calibrated", "hardware_json", "judged", "samples_of"]

_FOLDER = Path(__file__).parent
_DIGITS = 4


def samples_of(stack: Hardware) -> list[Measured]:
    """The samples that ship of a stack, with the tensor-parallel degrees that they can have had."""
    samples = read_samples(_FOLDER / "samples" / stack.calibrated_on)
    device = stack.name.partition("-")[0]
    return [plausible(each, stack) for each in samples if each.hardware.startswith(device)]


def calibrated(stack: Hardware) -> Hardware:
    """The stack calibrated on its samples, to four digits."""
    found = calibrate(samples_of(stack), stack)
    rounded: dict[str, Any] = {name: _rounded(getattr(found, name)) for name in stack.fitted}
    return replace(found, **rounded)


def judged(stack: Hardware) -> dict[str, LeftOut]:
    """How far off the roofline is for models left out; where there is one alone, for tensor-parallel degrees.

    Of runtimes at batch size 1, which is what tables are about; the calibration has seen other batch sizes too.
    """
    samples = samples_of(stack)
    alone = [each.batch == 1 for each in samples]
    first = [(each.batch == 1) & (each.output == 1) for each in samples]
    if len({each.model for each in samples}) == 1:
        what, found = "tensor-parallel degree", leave_out_degrees(samples, stack)
    else:
        what, found = "model", leave_out_models(samples, stack)
    errors = [left_out(what, found, alone), left_out(f"{what}, first token", found, first)]
    if what == "model":
        errors.append(left_out("model and its twins", leave_out_shapes(samples, stack), alone))
    return {error.what: error for error in errors}


def hardware_json() -> str:
    """The file `hardware.json`, calibrated anew."""
    content: dict[str, Any] = json.loads((_FOLDER / "hardware.json").read_bytes())
    for name, stack in stacks().items():
        if stack.calibrated_on.endswith(".csv"):
            found, numbers = calibrated(stack), content["stacks"][name]
            numbers["constants"].update({constant: getattr(found, constant) for constant in stack.fitted})
            numbers["left_out"] = {what: _numbers(error) for what, error in judged(stack).items()}
    return json.dumps(content, indent=1) + "\n"


def _numbers(error: LeftOut) -> dict[str, float]:
    low, high = error.interval
    found = {"median": error.median, "worst": error.worst, "low": low, "high": high}
    return {name: round(value, 3) for name, value in found.items()}


def _rounded(number: float) -> float:
    return float(f"{number:.{_DIGITS}g}")


if __name__ == "__main__":
    sys.stdout.write(hardware_json())
