"""`profiler flops`: forward FLOPs of every request of a CSV file."""

import argparse
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from profiler.request_rows import COLUMNS, EstimateError, append_columns, opened, warn_of_models, whole_number
from stream.command import add_table_options, tables_of
from stream.flops import forward_flops

if TYPE_CHECKING:
    from stream.coefficients import Tables
    from stream.flops import Flops

__all__ = ["RESULT_COLUMNS", "Models", "add", "flops_csv"]

RESULT_COLUMNS = ("flops", "prompt_flops", "output_flops")
_CHOICES = "choices"

_DESCRIPTION = """\
Count the forward FLOPs of every request of a file with the columns model, prompt_tokens and output_tokens, among
others if you like; choices (how many completions share output_tokens) counts where it is there. Prints the same
rows with three columns appended: flops; prompt_flops, of encoding the prompt; output_flops, of the output layer
for every token generated, and of feeding all but the last. A multiply-add is 2; attention counts the pairs of
queries and keys that there are; of experts those that are active, and the router.

A model is a shipped one, by name or alias; a Hugging Face config.json, or a directory that holds one; numbers
written out (see profiler predict --help); or a row with FLOPs of a table, shipped or given."""

_EXAMPLES = """\
examples:
  profiler flops --csv requests.csv > counted.csv
  profiler flops --csv - --skip < requests.csv"""


def add(commands: Any) -> None:
    """Add it to the subparsers of the `profiler` command."""
    command: argparse.ArgumentParser = commands.add_parser(
        "flops",
        help="forward FLOPs of requests",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
    )
    command.add_argument("--csv", required=True, metavar="FILE", help="count every row of FILE (-: standard input)")
    command.add_argument("--skip", action="store_true", help="leave models that are not known empty, with a warning")
    add_table_options(command)
    command.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    models = Models(tables_of(options, any_kind=True), skip=options.skip)
    with opened(options.csv) as (source, out, called):
        flops_csv(source, out, models, called)
    warn_of_models("profiler flops", "left empty: not a known model", models.skipped)
    return 0


class Models:
    """FLOPs by what a file calls its models; with `skip`, names that nothing knows are counted, else an error."""

    def __init__(self, tables: "Tables", *, skip: bool = False) -> None:
        self.skipped: dict[str, int] = {}
        self._tables, self._skip = tables, skip
        self._found: dict[str, Flops | None] = {}

    def flops(self, name: str) -> "Flops | None":
        """The numbers of a model, None where it is skipped; raise ArchitectureError, one line that names near ones."""
        if name not in self._found:
            self._found[name] = self._look_up(name)
        found = self._found[name]
        if found is None:
            self.skipped[name] = self.skipped.get(name, 0) + 1
        return found

    def _look_up(self, name: str) -> "Flops | None":
        from profiler.config import ArchitectureError
        from profiler.flops import flops_of
        from profiler.spec import read_spec

        rows = [row for stack in self._tables.stacks if (row := self._tables.row(stack, name)) is not None]
        of_row = next((row.flops for row in rows if row.flops is not None), None)
        if of_row is not None:
            return of_row
        try:
            described = read_spec(name)
        except ArchitectureError as error:
            if self._skip:
                return None
            raise EstimateError(self._unknown(name, rows[0].name if rows else None, error)) from None
        if len(described) > 1:
            raise EstimateError(f"model {name!r}: expected one model a row")
        return flops_of(described[0].architecture)

    def _unknown(self, name: str, row: str | None, error: Exception) -> str:
        if row is not None:
            return f"model {name!r}: its row {row!r} says no FLOPs, since its architecture is not public"
        if "=" in name or name.endswith(".json"):
            return str(error).replace("--arch ", "model ")
        near = self._tables.near(None, name)
        hint = f": did you mean {' or '.join(near)}?" if near else " (--skip leaves it empty)"
        return f"unknown model {name!r}{hint}"


def flops_csv(source: Iterable[str], out: TextIO, models: Models, name: str) -> None:
    """Copy CSV rows with `RESULT_COLUMNS` appended, empty for models that are skipped.

    Raise EstimateError, naming `name` and the line, for a missing column, a count that is no whole number, and a
    model that is not known.
    """
    append_columns(source, out, name, RESULT_COLUMNS, lambda rows, header: _counted(rows, header, models))


def _counted(rows: Iterable[list[str]], header: Sequence[str], models: Models) -> Iterator[list[str]]:
    model, prompt, output = (header.index(column) for column in COLUMNS)
    choices = header.index(_CHOICES) if _CHOICES in header else None
    for row in rows:
        counts = _count(row[prompt], header[prompt]), _count(row[output], header[output])
        shared = 1 if choices is None or not row[choices].strip() else _count(row[choices], _CHOICES)
        flops = models.flops(row[model])
        yield [*row, *(_parts(flops, *counts, shared) if flops else ["", "", ""])]


def _count(text: str, column: str) -> int:
    try:
        count = whole_number(text)
    except ValueError as error:
        raise EstimateError(f"{column}: {error}") from None
    if column == _CHOICES and count < 1:
        raise EstimateError(f"{column}: expected 1 or more, found 0")
    return count


def _parts(flops: "Flops", prompt: int, output: int, choices: int) -> list[str]:
    whole, first = forward_flops(flops, prompt, output, choices), forward_flops(flops, prompt, 0)
    return [f"{each:.0f}" for each in (whole, first, whole - first)]
