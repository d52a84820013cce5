"""CSV files of requests, copied with columns appended: what `profiler estimate` and `profiler flops` have in common."""

import csv
import io
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TextIO

__all__ = ["COLUMNS", "EstimateError", "append_columns", "opened", "warn_of_models", "whole_number"]

COLUMNS = ("model", "prompt_tokens", "output_tokens")
"""What a file must tell of a request."""

_WARNED_MODELS = 50
_MOST_DIGITS = 12
_SHOWN_CHARACTERS = 100

Copied = Callable[[Iterator[list[str]], Sequence[str]], Iterable[list[Any]]]
"""(rows as wide as the header, names of the columns) -> the same rows with more cells"""


class EstimateError(ValueError):
    """A question that has no answer. One line: what is wrong, where, and what to do."""


@contextmanager
def opened(name: str) -> Iterator[tuple[TextIO, TextIO, str]]:
    """A file to read (-: standard input), standard output, and what to call the file."""
    with ExitStack() as files:
        data = sys.stdin.buffer if name == "-" else files.enter_context(Path(name).open("rb"))
        # surrogateescape: cells that are not ours to read come out as the bytes they were.
        source = io.TextIOWrapper(data, "utf-8-sig", errors="surrogateescape", newline="")
        out = files.enter_context(_output())
        yield source, out, "standard input" if name == "-" else name


def _output() -> TextIO:
    return open(sys.stdout.fileno(), "w", encoding="utf-8", errors="surrogateescape", newline="", closefd=False)


def append_columns(source: Iterable[str], out: TextIO, name: str, added: Sequence[str], copied: Copied) -> None:
    """Copy CSV rows with the columns `added` at their end, whose cells `copied` finds; blank lines are left out.

    The input's columns and their order are kept, those that are called as the added ones too. Raise EstimateError,
    naming `name` and the line, for a missing column, a row of another width, and whatever `copied` raises it for.
    """
    reader, writer = csv.reader(source), csv.writer(out, lineterminator="\n")
    try:
        header = next(reader, [])
        columns = [column.strip() for column in header]
        missing = [column for column in COLUMNS if column not in columns]
        if missing:
            found = f"found {_shortened(', '.join(header))}" if header else "the file is empty"
            raise EstimateError(f"no column {', '.join(missing)}: {found}")
        writer.writerow([*header, *added])
        writer.writerows(copied(_whole(reader, len(header)), columns))
    except csv.Error as error:
        raise EstimateError(f"{name}: line {reader.line_num}: not readable as CSV: {error}") from None
    except EstimateError as error:
        raise EstimateError(f"{name}: line {max(reader.line_num, 1)}: {error}") from None


def _shortened(text: str) -> str:
    """The beginning of what may be anything, such as JSON."""
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}... (is this CSV?)"


def _whole(rows: Iterable[list[str]], width: int) -> Iterator[list[str]]:
    for row in rows:
        if len(row) == width:
            yield row
        elif row:
            raise EstimateError(f"expected {width} columns, found {len(row)}")


def whole_number(text: str) -> int:
    """Read a token count, "512" or "512.0"; raise ValueError, one line, for anything else."""
    whole, _, fraction = text.strip().partition(".")
    digits = whole.isascii() and whole.isdigit() and not fraction.strip("0")
    if not digits or len(whole) > _MOST_DIGITS:
        raise ValueError(f"expected a whole number of tokens, 0 or more, found {text[:40]!r}")
    return int(whole)


def warn_of_models(command: str, what: str, rows_of: Mapping[str, int]) -> None:
    """Say on standard error of how many rows of which models something is so."""
    for model, rows in list(rows_of.items())[:_WARNED_MODELS]:
        print(f"{command}: warning: {model!r}: {rows} {'row' if rows == 1 else 'rows'} {what}", file=sys.stderr)
    if len(rows_of) > _WARNED_MODELS:
        print(f"{command}: warning: {len(rows_of) - _WARNED_MODELS} more models {what}", file=sys.stderr)
