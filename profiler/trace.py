"""Traces: how many tokens requests had, read from CSV files; their times are of no matter here."""

import csv
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from profiler.request_rows import whole_number

__all__ = ["FORMS", "TraceError", "read_trace"]

FORMS = (
    ("prompt_tokens", "output_tokens"),
    ("prompt_tokens", "completion_tokens"),
    ("ContextTokens", "GeneratedTokens"),
)
"""The columns that tell prompt and output tokens: ours, those of our events, those of the Azure LLM Inference Trace."""


class TraceError(ValueError):
    """A trace that cannot be used. One line: the file, the line in it, what was expected."""


def read_trace(path: Path) -> Counter[tuple[int, int]]:
    """How many requests had so many (prompt, output) tokens; lines that begin with # are comments.

    Raises TraceError for what cannot be understood, OSError where there is no such file.
    """
    with path.open(encoding="utf-8-sig", newline="") as file:
        try:
            return Counter(_requests(file, str(path)))
        except UnicodeDecodeError as error:
            raise TraceError(f"{path}: byte {error.start}: expected UTF-8 text") from None
        except csv.Error as error:
            raise TraceError(f"{path}: not readable as CSV: {error}") from None


def _requests(lines: Iterable[str], file: str) -> Iterator[tuple[int, int]]:
    numbered = ((number, line) for number, line in enumerate(lines, 1) if line.strip() and not line.startswith("#"))
    _, first = next(numbered, (0, ""))
    header = [name.strip() for name in next(csv.reader([first]), [])]
    at_prompt, at_output = _places(header, file)
    for number, line in numbered:
        cells = next(csv.reader([line]))
        if len(cells) != len(header):
            raise TraceError(f"{file}: line {number}: expected {len(header)} columns, found {len(cells)}")
        try:
            yield whole_number(cells[at_prompt]), whole_number(cells[at_output])
        except ValueError as error:
            raise TraceError(f"{file}: line {number}: {error}") from None


def _places(header: list[str], file: str) -> tuple[int, int]:
    for prompt, output in FORMS:
        if prompt in header and output in header:
            return header.index(prompt), header.index(output)
    wanted = " or ".join(f"{prompt} and {output}" for prompt, output in FORMS)
    found = f"found {', '.join(header)}" if header else "the file is empty"
    raise TraceError(f"{file}: line 1: no columns {wanted}: {found}")
