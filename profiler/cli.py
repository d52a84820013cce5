"""The `profiler` command: how coefficients come to be, what they say, and why to believe them.

Each command lies in a module of its own, whose `add(commands)` adds a parser and sets `run(options) -> exit status`;
what a command needs besides (numpy among it) it imports when it runs, so that `--help` answers at once.
"""

import os
import sys
from collections.abc import Sequence

from profiler import (
    check_command,
    compare_command,
    convert_command,
    crossval_command,
    energy_command,
    estimate_command,
    fit_command,
    flops_command,
    measure_command,
    plan_command,
    predict_command,
    probe_command,
    report_command,
    whatif_command,
)
from stream.command import Parser, add_version_option, run_quietly

__all__ = ["main"]

_COMMANDS = (
    estimate_command,
    measure_command,
    fit_command,
    crossval_command,
    plan_command,
    predict_command,
    probe_command,
    check_command,
    convert_command,
    compare_command,
    flops_command,
    energy_command,
    report_command,
    whatif_command,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the `profiler` command and give its exit status."""
    # Before NumPy is imported: the matrices are small, and on a busy machine its threads only wait for each other.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    parser = Parser(prog="profiler", description="trueclock's offline side: where the numbers come from.")
    add_version_option(parser)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for each in _COMMANDS:
        each.add(commands)
    options = parser.parse_args(argv)
    return run_quietly(f"profiler {options.command}", lambda: options.run(options))


if __name__ == "__main__":
    sys.exit(main())
