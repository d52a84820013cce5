"""`profiler predict`: what models never measured should take on a hardware, from their architectures."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from profiler.architectures import BYTES
from stream.command import UsageError

if TYPE_CHECKING:
    from profiler.prediction import Prediction

__all__ = ["add"]

_DESCRIPTION = """\
Predict F(p), beta and gamma of models never measured, from their architectures and a hardware whose constants
were calibrated on what was measured. Prints them with their 80 % band and what they stand on; with --out also
writes them to a coefficient table, marked as predicted, which every command that takes --table understands.

SPEC is one of
  llama-3.1-8b            a shipped model, by name or alias; `all` for every one
  path/to/config.json     a Hugging Face config.json, or a directory that holds one
  layers=32,hidden=4096,heads=32,kv_heads=8,ffn=14336,vocabulary=128256
                          numbers written out; further ones are head_dim, gated, tied, parallel (true or false),
                          window, window_layers, layer_norms, weights, name; of experts: experts, active,
                          expert_ffn, shared_ffn, dense_layers; of latent attention: q_rank, kv_rank, nope,
                          rope, value

A FILE.json for --hardware describes a device that is not calibrated, with the constants of a stack that it is like:
  {"name": "l40s", "label": "NVIDIA L40S 48 GB", "like": "h100", "memory_bytes": 48e9, "bandwidth": 864e9,
   "flops": 362e12, "link": 32e9, "processors": 142}"""

_EXAMPLES = """\
examples:
  profiler predict --arch llama-3.1-8b --hardware h100
  profiler predict --arch ~/models/my-model --hardware a100 --tensor-parallel 4 --out mine.json
  profiler predict --arch layers=48,hidden=6144,heads=48,ffn=24576,vocabulary=50304,gated=false --hardware a100
  profiler predict --arch all --hardware h200 --out h200.json"""

_HARDWARE = "such as a100, v100, h100, h200, b200; or a FILE.json that describes another device"
_SHOWN = (128, 512, 2048, 8192)  # prompt tokens, knots of the tables


def add(commands: Any) -> None:
    """Add it to the subparsers of the `profiler` command."""
    command: argparse.ArgumentParser = commands.add_parser(
        "predict",
        help="coefficients of models never measured, from their architectures",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
    )
    command.add_argument("--arch", action="append", required=True, metavar="SPEC", help="a model; may be repeated")
    command.add_argument("--hardware", required=True, metavar="H", help=_HARDWARE)
    command.add_argument(
        "--tensor-parallel",
        type=_devices,
        metavar="N",
        help="devices that share each layer (default: the smallest power of two that holds the model)",
    )
    command.add_argument("--dtype", choices=tuple(BYTES), help="how the weights are kept (default: as the model ships)")
    command.add_argument("--name", help="the row's name (default: the model's), of one --arch")
    command.add_argument("--stack", metavar="NAME", help="the stack's name in the table (default: HARDWARE-predicted)")
    command.add_argument("--out", type=Path, metavar="TABLE.json", help="write or add to this coefficient table")
    command.add_argument("--json", action="store_true", help="print JSON")
    command.set_defaults(run=_run)


def _devices(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= 1024):
        raise argparse.ArgumentTypeError(f"expected a whole number from 1 to 1024, found {text!r}")
    return int(text)


def _run(options: argparse.Namespace) -> int:
    from profiler.hardware_file import read_hardware
    from profiler.prediction import predict
    from profiler.spec import read_spec

    stack, weights = read_hardware(options.hardware), options.dtype
    described = [each for spec in options.arch for each in read_spec(spec, weights)]
    if options.name and len(described) > 1:
        raise UsageError(f"--name names one model: found {len(described)}")
    predictions = [
        predict(
            each.architecture,
            stack,
            tensor=options.tensor_parallel,
            weights=weights,
            longest=each.longest,
            notes=each.notes,
        )
        for each in described
    ]
    if options.out is not None:
        _write(options, predictions)
    print(_json(options, predictions) if options.json else _text(options, predictions))
    for name in [each.architecture.name for each in described if not each.called and not options.name]:
        hint = f"the row is called {name!r}, after its file: --name gives it the name that it is served under"
        print(f"profiler predict: {hint}", file=sys.stderr)
    return 0


def _write(options: argparse.Namespace, predictions: "list[Prediction]") -> None:
    from datetime import UTC, datetime

    from profiler.prediction import predicted_stack
    from profiler.tables import write_stack

    date = f"{datetime.now(UTC):%Y-%m-%d}"
    write_stack(options.out, predicted_stack(predictions, _stack_name(options, predictions), date, [options.name]))


def _stack_name(options: argparse.Namespace, predictions: "list[Prediction]") -> str:
    return options.stack or f"{predictions[0].hardware.name}-predicted"


def _json(options: argparse.Namespace, predictions: "list[Prediction]") -> str:
    import json

    from profiler.predict_text import record

    stack = {"stack": _stack_name(options, predictions), "hardware": predictions[0].hardware.name}
    return json.dumps(
        {**stack, "models": {options.name or p.architecture.name: record(p) for p in predictions}}, indent=1
    )


def _text(options: argparse.Namespace, predictions: "list[Prediction]") -> str:
    from profiler.predict_text import many, one

    text = one(predictions[0], options.name, _SHOWN) if len(predictions) == 1 else many(predictions, _SHOWN)
    if options.out is None:
        return text
    rows = f"{len(predictions)} {'row' if len(predictions) == 1 else 'rows'}"
    return f"{text}\n\n{rows} of the stack {_stack_name(options, predictions)} written to {options.out}"
