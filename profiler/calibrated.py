"""The calibrated constants that ship: `python -m profiler.calibrated > hardware.json` makes the file anew.

Stacks that say they are `calibrated_on` a file of `profiler/samples` get their fitted constants from it, and how far
off the roofline was for what was left out of the calibration. All else of `profiler/hardware.json` stays as it is:
public data, constants that were not fitted, and stacks that were calibrated on single kernels.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from profiler.calibrate import calibrate, plausible
from profiler.hardware import Hardware, LeftOut, Of, stacks
from profiler.judge import Judged
from profiler.leave_out import leave_out_degrees, leave_out_models, leave_out_shapes, left_out
from profiler.samples import Measured, read_samples
from profiler.tables import significant

__all__ = ["calibrated", "hardware_json", "summaries"]

_FOLDER = Path(__file__).parent
_DIGITS = 4
_DECIMALS = 3  # of errors and factors


def _samples_of(stack: Hardware) -> list[Measured]:
    """The samples that ship of a stack, as recorded."""
    samples = read_samples(_FOLDER / "samples" / stack.calibrated_on)
    device = stack.name.partition("-")[0]
    return [each for each in samples if each.hardware.startswith(device)]


def calibrated(stack: Hardware) -> Hardware:
    """The stack calibrated on its samples, to four digits."""
    found = calibrate([plausible(each, stack) for each in _samples_of(stack)], stack)
    rounded: dict[str, Any] = {name: significant(getattr(found, name), _DIGITS) for name in stack.fitted}
    return replace(found, **rounded)


def _judged(stack: Hardware) -> tuple[LeftOut, ...]:
    """How far off the roofline is for models left out, with and without twins; of one model alone, for degrees."""
    samples = _samples_of(stack)
    if len({each.model for each in samples}) == 1:
        return summaries("degree", leave_out_degrees(samples, stack), samples)
    models = summaries("model", leave_out_models(samples, stack), samples)
    return (*models, *summaries("shape", leave_out_shapes(samples, stack), samples))


def summaries(of: Of, found: Sequence[Judged], samples: Sequence[Measured]) -> tuple[LeftOut, LeftOut]:
    """Of what was left out, the errors of all runtimes and of first tokens.

    At batch size 1, which is what tables are about; the calibration has seen other batch sizes too.
    """
    alone = [each.batch == 1 for each in samples]
    first = [(each.batch == 1) & (each.output == 1) for each in samples]
    return left_out(of, "all", found, alone), left_out(of, "first", found, first)


def hardware_json() -> str:
    """The file `hardware.json`, calibrated anew."""
    content: dict[str, Any] = json.loads((_FOLDER / "hardware.json").read_bytes())
    for name, stack in stacks().items():
        if stack.calibrated_on.endswith(".csv"):
            found, numbers = calibrated(stack), content["stacks"][name]
            numbers["constants"].update({constant: getattr(found, constant) for constant in stack.fitted})
            numbers["left_out"] = [_numbers(error) for error in _judged(stack)]
    return json.dumps(content, indent=1) + "\n"


def _numbers(error: LeftOut) -> dict[str, Any]:
    low, high = error.interval
    found = {"median": error.median, "worst": error.worst, "low": low, "high": high}
    shares = {name: round(value, _DECIMALS) for name, value in found.items()}
    return {"of": error.of, "part": error.part, "cases": error.cases, **shares}


if __name__ == "__main__":
    sys.stdout.write(hardware_json())
