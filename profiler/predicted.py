"""The table `h100-predicted`: what open models in use should take on H100s, from the roofline.

`python -m profiler.predicted` prints the file that ships as `stream/tables/h100-predicted.json`.
"""

import json
import sys
from typing import Any

from profiler.architectures import Architecture, architectures
from profiler.kernels import H100
from profiler.roofline import Placement, coefficients, place
from stream.runtime import Coefficients

__all__ = ["NARROW", "STACK", "WIDE", "predicted_row", "predicted_table"]

STACK = "h100-predicted"

NARROW: dict[str, Any] = {
    "fit_error": 0.03,
    "intervals": {
        "runtime_per_output_token": [0.85, 1.15],
        "runtime_for_prompt_tokens": [0.8, 1.6],
        "runtime": [0.8, 1.3],
    },
}
"""The error of dense models in bf16. `fit_error` is the median relative error of a further token of models left out
of the fit (batch size 8), `intervals` are factors of the prediction between which a present serving stack should lie;
`samples/README.md` says what of."""

WIDE: dict[str, Any] = {
    "fit_error": 0.34,
    "intervals": {
        "runtime_per_output_token": [0.8, 1.8],
        "runtime_for_prompt_tokens": [0.7, 1.8],
        "runtime": [0.7, 1.8],
    },
}
"""The same with experts or quantised weights: the kernels of servers differ more here than models do."""

_KEEP = 4  # significant digits


def predicted_table() -> str:
    """The whole file: JSON with a line a field, so that changes can be read."""
    rows = ",\n".join(f"        {json.dumps(name)}: {_lines(model)}" for name, model in architectures().items())
    head = "\n".join(f'      "{key}": {json.dumps(value)},' for key, value in _DESCRIPTION.items())
    stack = f'    "{STACK}": {{\n{head}\n      "models": {{\n{rows}\n      }}\n    }}'
    return f'{{\n  "format": 1,\n  "stacks": {{\n{stack}\n  }}\n}}\n'


_DESCRIPTION = {
    "hardware": "NVIDIA H100 SXM 80 GB; the smallest power of two of them that holds the model",
    "software": "a present serving stack (CUDA graphs, fused kernels; vLLM, TensorRT-LLM), batch size 1",
    "date": "2026-11",
    "source": "predicted from the architecture by trueclock's roofline (profiler/roofline.py); kernel times by"
    " NVIDIA's aiconfigurator (Apache-2.0), see profiler/samples/README.md",
    "note": "Predicted, not measured. Intervals are factors of the prediction, from models left out of the fit.",
}


def predicted_row(model: Architecture) -> dict[str, Any]:
    """One model's row, as the table format has it."""
    placement = place(model, H100)
    numbers = coefficients(model, H100, placement)
    error = NARROW if model.experts is None and model.weights == "bf16" else WIDE
    return {
        **_rounded(numbers),
        "provenance": "predicted",
        **error,
        "source": model.source,
        "note": _note(model, placement),
    }


def _rounded(numbers: Coefficients) -> dict[str, Any]:
    seconds = zip(numbers.knots, numbers.prompt_seconds, strict=True)
    return {
        "runtime_per_output_token": _round(numbers.per_output_token),
        "context_seconds_per_token2": _round(numbers.context),
        "runtime_for_prompt_tokens": {str(knot): _round(f) for knot, f in seconds},
    }


def _round(number: float) -> float:
    return float(f"{number:.{_KEEP}g}")


def _note(model: Architecture, placement: Placement) -> str:
    devices = placement.tensor * placement.stages
    spread = f"tensor parallel {placement.tensor}"
    if placement.stages > 1:
        spread += f", {placement.stages} pipeline stages"
    weights = "mxfp4 experts, bf16 otherwise" if model.weights == "mxfp4" else f"{model.weights} weights"
    return f"{devices} H100 ({spread}), {weights}"


def _lines(model: Architecture) -> str:
    fields = (f'          "{key}": {json.dumps(value)}' for key, value in predicted_row(model).items())
    return "{\n" + ",\n".join(fields) + "\n        }"


if __name__ == "__main__":
    sys.stdout.write(predicted_table())
