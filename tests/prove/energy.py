#!/usr/bin/env python3
"""Judge `profiler energy` on measured configurations of servers: models that a fit never saw.

    python tests/prove/energy.py --csv ml_energy_lm-arena-chat.csv                # ten random halves of the models
    python tests/prove/energy.py --csv ml_energy_lm-arena-chat.csv --splits 50 --each

The file (ML.ENERGY's leaderboard v3, H100) does not ship. Each split fits on half of the models and tests on the rest,
through the command line, which is given no column but those allowed; models of one architecture stay together. Fails
where the median error of all tested rows exceeds 15 %, the 80 % bands hold fewer than 70 % of them, or their median
width (high / low) is above 2.5.
"""

import argparse
import csv
import io
import random
import sys
import tempfile
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from profiler.cli import main as profiler

ALLOWED = (
    *("model_id", "architecture", "activated_params_billions", "total_params_billions", "weight_precision"),
    *("gpu_model", "num_gpus", "data_parallel", "expert_parallel", "tensor_parallel", "max_num_seqs", "avg_output_len"),
)
TARGET = "energy_per_token_joules"
ERROR, HELD, WIDTH = 0.15, 0.7, 2.5

Row = dict[str, str]


@dataclass(frozen=True)
class Judged:
    """Tested rows: relative errors, whether the band held the truth, and how wide it was."""

    errors: list[float]
    held: list[bool]
    widths: list[float]

    @property
    def figures(self) -> tuple[float, float, float]:
        """Median error, share held, median width."""
        return median(self.errors), sum(self.held) / len(self.held), median(self.widths)

    @property
    def passes(self) -> bool:
        """Whether all three are within their bounds."""
        error, held, width = self.figures
        return error <= ERROR and held >= HELD and width <= WIDTH


def family(model: str) -> str:
    """Models of one architecture: Llama 3.1 and 3.3 of 70B, and the same weights in another precision."""
    return model.lower().removesuffix("-fp8").replace("llama-3.3-70b", "llama-3.1-70b")


def halves(rows: Sequence[Row], seed: int) -> tuple[list[Row], list[Row]]:
    """Rows of a random half of the families, and those of the others."""
    families = sorted({family(row["model_id"]) for row in rows})
    chosen = set(random.Random(seed).sample(families, len(families) // 2))
    fitted = [row for row in rows if family(row["model_id"]) in chosen]
    return fitted, [row for row in rows if family(row["model_id"]) not in chosen]


def judge(fitted: Sequence[Row], tested: Sequence[Row]) -> Judged:
    """Fit on the first, predict the second, and compare."""
    predicted = predict(fitted, tested)
    truth = [float(row[TARGET]) for row in tested]
    pairs = list(zip(predicted, truth, strict=True))
    return Judged(
        errors=[abs(middle / true - 1) for (middle, _, _), true in pairs],
        held=[low <= true <= high for (_, low, high), true in pairs],
        widths=[high / low for (_, low, high), _ in pairs],
    )


def predict(fitted: Sequence[Row], tested: Sequence[Row]) -> list[tuple[float, float, float]]:
    """What the command says of the tested rows: joules per token, low and high."""
    with tempfile.TemporaryDirectory() as folder:
        fit, test = Path(folder, "fit.csv"), Path(folder, "test.csv")
        write(fit, fitted, (*ALLOWED, TARGET))
        write(test, tested, ALLOWED)
        printed = io.StringIO()
        with redirect_stdout(printed):
            status = profiler(["energy", "--csv", str(test), "--fit", str(fit)])
    if status:
        sys.exit(status)
    names = ("joules_per_token", "joules_per_token_low", "joules_per_token_high")
    rows = csv.DictReader(io.StringIO(printed.getvalue()))
    return [(float(row[names[0]]), float(row[names[1]]), float(row[names[2]])) for row in rows]


def write(path: Path, rows: Sequence[Row], columns: Sequence[str]) -> None:
    """Those columns of the rows."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)


def read(path: Path) -> list[Row]:
    """All rows of a file."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def together(judged: Sequence[Judged]) -> Judged:
    """All tested rows of all splits."""
    return Judged(
        [error for each in judged for error in each.errors],
        [held for each in judged for held in each.held],
        [width for each in judged for width in each.widths],
    )


def said(judged: Judged) -> str:
    """The three figures on a line."""
    error, held, width = judged.figures
    return f"median error {error:.1%}, 80 % bands hold {held:.0%}, median width {width:.2f}"


def main() -> int:
    """Judge, and tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--csv", type=Path, required=True)
    parser.add_argument("--splits", type=int, default=10)
    parser.add_argument("--first", type=int, default=0, help="the first split's seed")
    parser.add_argument("--each", action="store_true", help="print every split")
    options = parser.parse_args()
    rows = read(options.csv)
    judged = [judge(*halves(rows, seed)) for seed in range(options.first, options.first + options.splits)]
    if options.each:
        for seed, one in enumerate(judged, options.first):
            print(f"split {seed}: {said(one)}")
    medians = sorted(one.figures[0] for one in judged)
    whole = together(judged)
    print(f"{options.splits} splits: {said(whole)}; median errors of splits {medians[0]:.1%} to {medians[-1]:.1%}")
    return 0 if whole.passes else 1


if __name__ == "__main__":
    sys.exit(main())
