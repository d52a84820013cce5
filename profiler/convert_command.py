"""`profiler convert`: between our tables and HELM's JSON."""

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, get_args

from profiler.convert import choose_stack, from_helm, helm_text, not_held
from profiler.shipped import table_file
from profiler.tables import table_text, write_stack
from stream.command import UsageError
from stream.events import Provenance
from stream.table_format import StackKind, TableFile, read_table

__all__ = ["add"]

_DESCRIPTION = """\
Convert a coefficient table to HELM's JSON and back.

--to helm: the coefficients of one stack, as stanford-crfm/helm reads them. What that form cannot hold (gamma, where
numbers come from, their errors) is named on standard error. HELM also runs differently between prompt sizes:
--interpolation helm of other commands shows how.
--to trueclock: a table of HELM's becomes a stack with a name and an origin. With --out its rows join the stacks
that the file holds already; without, the whole file is printed.

TABLE is a file, or the name of a shipped stack."""

_EXAMPLES = """\
examples:
  profiler convert a100-megatron --to helm > inference_idealized_runtimes.json
  profiler convert helm.json --to trueclock --stack my-a100 --hardware "NVIDIA A100-80GB" --out my_table.json"""

_TEXTS = ("hardware", "software", "date", "source", "note")


def add(commands: Any) -> None:
    """Add it to the subparsers of the `profiler` command."""
    command: argparse.ArgumentParser = commands.add_parser(
        "convert",
        help="between our tables and HELM's JSON",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
    )
    command.add_argument("table", metavar="TABLE", help="a file, or a shipped stack")
    command.add_argument("--to", required=True, choices=("helm", "trueclock"), help="the form wanted")
    command.add_argument("--stack", metavar="NAME", help="helm: which stack of several; trueclock: the new one's name")
    command.add_argument("--out", type=Path, metavar="FILE", help="where to write (default: standard output)")
    for text in _TEXTS:
        command.add_argument(f"--{text}", metavar="TEXT", help=f"trueclock: the stack's {text}")
    command.add_argument(
        "--provenance", choices=get_args(Provenance), help="trueclock: of all rows (default: measured)"
    )
    command.add_argument("--kind", choices=get_args(StackKind), help="trueclock: of the stack (default: reference)")
    command.set_defaults(run=_convert)


def _convert(options: argparse.Namespace) -> int:
    path = table_file(options.table)
    read = read_table(path)
    if options.to == "helm":
        _to_helm(options, read, str(path))
    else:
        _to_trueclock(options, read, str(path))
    return 0


def _to_helm(options: argparse.Namespace, read: TableFile, file: str) -> None:
    given = [name for name in (*_TEXTS, "provenance", "kind") if getattr(options, name) is not None]
    if given:
        raise UsageError(f"--{given[0]} goes with --to trueclock: HELM's form has no place for it")
    stack = choose_stack(read.stacks, options.stack, file)
    _warn(f"HELM's form cannot hold {line}" for line in not_held(stack))
    if options.out is None:
        sys.stdout.write(helm_text(stack))
    else:
        options.out.write_text(helm_text(stack), encoding="utf-8")


def _to_trueclock(options: argparse.Namespace, read: TableFile, file: str) -> None:
    if any(stack.name for stack in read.stacks):
        raise UsageError(f"{file}: is in our form already")
    if not options.stack:
        raise UsageError("missing: --stack NAME (HELM's form does not name its stack)")
    described = {name: getattr(options, name) for name in _TEXTS}
    provenance: Provenance = options.provenance or "measured"
    stack = from_helm(read.stacks[0].rows, options.stack, provenance, kind=options.kind or "reference", **described)
    unsaid = [f"--{name}" for name in ("hardware", "software", "date", "source") if not described[name]]
    if unsaid:
        _warn([f"the stack does not say where it comes from: {', '.join(unsaid)}"])
    if options.out is None:
        sys.stdout.write(table_text([stack]))
    else:
        write_stack(options.out, stack)


def _warn(lines: Iterable[str]) -> None:
    for line in lines:
        print(f"profiler convert: warning: {line}", file=sys.stderr)
