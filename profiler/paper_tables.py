"""What the paper's tables ship with besides its numbers: FLOPs of the models, and watts.

`python -m profiler.paper_tables STACK` prints `stream/tables/STACK.json` (a100-megatron, v100-megatron) as it ships:
the published numbers as they are, FLOPs of models whose shapes are public (`paper_architectures.json`, beside this
module), and what the boards draw, from bytes and FLOPs over the published seconds. A proxy draws what the measured
model draws. Nobody measured these stacks beyond one request at a time, so nothing is said of served requests.
"""

import json
import sys
from dataclasses import replace
from pathlib import Path

from profiler.architectures import architectures
from profiler.flops import flops_of
from profiler.hardware import hardware
from profiler.shipped import table_file
from profiler.tables import significant, table_text
from profiler.watts import watts_of
from stream.table_format import Row, read_table

__all__ = ["paper_table"]

_FILE = Path(__file__).with_name("paper_architectures.json")
_DIGITS = 3
_OTHER_STACK = (0.9, 1.15)
"""How much further off watts may be here: they were measured under vLLM, and for one model."""


def paper_table(name: str) -> str:
    """The whole file of one of the paper's stacks."""
    [stack] = read_table(table_file(name)).stacks
    device = hardware(name).device
    rows = {row: _told(each, device) for row, each in stack.rows.items()}
    return table_text([replace(stack, rows=rows)])


def _told(row: Row, device: str) -> Row:
    models, unpublished = architectures(_FILE), json.loads(_FILE.read_bytes())["unpublished"]
    own, ran = models.get(row.name), models.get(row.proxy_of or row.name)
    watts = watts_of(ran, device, row.accelerators, row.coefficients) if ran and row.accelerators else None
    return replace(
        row,
        flops=flops_of(own) if own is not None and row.name not in unpublished else None,
        watts=watts and replace(watts, interval=_wider(watts.interval)),
    )


def _wider(interval: tuple[float, float]) -> tuple[float, float]:
    low, high = (significant(end * by, _DIGITS) for end, by in zip(interval, _OTHER_STACK, strict=True))
    return low, high


if __name__ == "__main__":
    sys.stdout.write(paper_table(sys.argv[1]))
