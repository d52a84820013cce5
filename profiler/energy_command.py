"""`profiler energy`: joules that servers take for an output token, from how they are set up."""

import argparse
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

__all__ = ["add"]

_DESCRIPTION = """\
Predict how many joules the accelerators of a server take for one output token, prompts included.

--csv: one row a configuration, with the columns of the ML.ENERGY leaderboard: model_id, total_params_billions,
gpu_model, num_gpus and max_num_seqs; and, where known, architecture, activated_params_billions,
weight_precision, data_parallel, expert_parallel, tensor_parallel and avg_output_len. Nothing else is read.
Prints the same rows with joules_per_token, joules_per_token_low and joules_per_token_high appended at the end
(even if the input has columns of these names); between the last two lie about 80 % of the truth. Without --fit
the constants are those that ship; with it they are fitted on the rows of FILE, which have the column
energy_per_token_joules as well.

Models whose architecture is not known are guessed from their parameter counts, with wider bands."""

_EXAMPLES = """\
examples:
  profiler energy --csv configurations.csv
  profiler energy --csv test.csv --fit measured.csv --out predicted.csv"""


def add(commands: Any) -> None:
    """Add it to the subparsers of the `profiler` command."""
    command: argparse.ArgumentParser = commands.add_parser(
        "energy", help="joules for an output token of a server", description=_DESCRIPTION, epilog=_EXAMPLES
    )
    command.add_argument("--csv", type=Path, required=True, metavar="FILE", help="configurations of servers")
    command.add_argument("--fit", type=Path, metavar="FILE", help="measured configurations to fit the constants on")
    command.add_argument("--out", type=Path, metavar="FILE", help="write there (default: standard output)")
    command.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    # NumPy comes with these: only now, so that --help answers at once.
    from profiler.energy_csv import read_measured, read_table, write_predicted
    from profiler.energy_fit import fit, shipped

    table = read_table(options.csv)
    if table.missing:
        print(
            f"profiler energy: warning: {options.csv}: no column {', '.join(table.missing)}: assumed", file=sys.stderr
        )
    fitted = shipped() if options.fit is None else fit(*read_measured(options.fit))
    with ExitStack() as files:
        out = sys.stdout
        if options.out is not None:
            out = files.enter_context(options.out.open("w", encoding="utf-8", newline=""))
        write_predicted(table, fitted, out)
    return 0
