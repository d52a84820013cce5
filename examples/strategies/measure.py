"""How long this machine takes for the models, and the table made of it: `profiler fit`, with FLOPs added."""

import csv
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from examples.strategies.model import CONTEXT, WORDS, Model, Shape
from profiler.architectures import Architecture
from profiler.flops import flops_of
from profiler.tables import write_stack
from stream.table_format import read_table

__all__ = ["STACK", "make_table"]

STACK = "this-machine"
_HARDWARE = "cpu-core"
_PROMPTS, _OUTPUTS = (1, 8, 16, 26), (1, 2, 6, 16)
_REPEATED = 7


def make_table(models: Mapping[str, Model], folder: Path) -> Path:
    """Measure the models, alone; write samples.csv and table.json into a folder, and return the latter."""
    samples, table = folder / "samples.csv", folder / "table.json"
    with samples.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["hardware", "model", "prompt_tokens", "output_tokens", "runtime_seconds"])
        writer.writerows(row for name, model in models.items() for row in _measured(name, model))
    fit = [sys.executable, "-m", "profiler.cli", "fit", str(samples), "--stack", STACK, "--out", str(table)]
    subprocess.run([*fit, "--software", "NumPy, batch size 1"], check=True, stdout=subprocess.DEVNULL)  # noqa: S603 - ours
    (stack,) = read_table(table).stacks
    rows = {name: replace(row, flops=flops_of(_architecture(models[name].shape))) for name, row in stack.rows.items()}
    write_stack(table, replace(stack, rows=rows, accelerator=_HARDWARE))
    return table


def _measured(name: str, model: Model) -> Iterator[tuple[str, str, int, int, float]]:
    """Rows of the samples: of each size the quickest of some runs, as others at work here only make it slower."""
    sizes = [(prompt, output) for prompt in _PROMPTS for output in _OUTPUTS if prompt + output <= CONTEXT]
    for prompt, output in sizes:
        yield _HARDWARE, name, prompt, output, min(_seconds(model, prompt, output) for _ in range(_REPEATED))


def _seconds(model: Model, prompt: int, output: int) -> float:
    began = time.perf_counter()
    model.generate([1] * prompt, longest=output, stop=())
    return time.perf_counter() - began


def _architecture(shape: Shape) -> Architecture:
    return Architecture(
        name="",
        layers=shape.layers,
        hidden=shape.hidden,
        heads=shape.heads,
        kv_heads=shape.heads,
        head_dim=shape.hidden // shape.heads,
        ffn=shape.ffn,
        vocabulary=len(WORDS),
        parameters=0.0,
        source="examples/strategies",
        tied=True,
        gated=False,
    )
