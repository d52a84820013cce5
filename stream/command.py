"""What the command lines share: errors on one line, table options, and a quiet end when a pipe closes."""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from stream import __version__
from stream.coefficients import DEFAULT_STACK, Tables, load_tables
from stream.runtime import INTERPOLATIONS

__all__ = [
    "EXIT_WRONG_USE",
    "Parser",
    "UsageError",
    "add_assume_option",
    "add_cost_options",
    "add_table_options",
    "add_version_option",
    "cost_files",
    "one_line",
    "port_number",
    "run_quietly",
    "tables_of",
]

EXIT_WRONG_USE = 2
_EXIT_INTERRUPTED = 130
_EXIT_PIPE_CLOSED = 141
_LAST_PORT = 65_535


class UsageError(ValueError):
    """The caller's mistake. `str(error)` is one line: what is wrong, where, and what to do."""


class Parser(argparse.ArgumentParser):
    """An argument parser whose help keeps its line breaks and whose errors are one line, exit status 2."""

    def __init__(self, **options: Any) -> None:
        """Take what ArgumentParser takes; option names must be written out."""
        options.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(allow_abbrev=False, **options)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As ArgumentParser does, but refuse what is unknown here, where --help has the names: not the parent."""
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return found, unknown

    def error(self, message: str) -> NoReturn:
        """Say what is wrong on one line."""
        self.exit(EXIT_WRONG_USE, f"{self.prog}: {' '.join(message.split())} (see {self.prog} --help)\n")


def add_version_option(parser: argparse.ArgumentParser) -> None:
    """Add --version."""
    parser.add_argument("--version", action="version", version=f"trueclock {__version__}")


def add_table_options(parser: argparse.ArgumentParser) -> None:
    """Add --stack, --table and --interpolation."""
    parser.add_argument("--stack", help=f"the leading stack (default: {DEFAULT_STACK}, or --table's own)")
    parser.add_argument(
        "--table",
        action="append",
        default=[],
        type=Path,
        metavar="FILE",
        help="a table (or shipped stack) in place of the shipped ones; of several, the later wins per model",
    )
    parser.add_argument(
        "--interpolation",
        choices=INTERPOLATIONS,
        default="linear",
        help="how F(p) runs between profiled prompt sizes; helm: as stanford-crfm/helm (default: linear)",
    )


def add_cost_options(parser: argparse.ArgumentParser) -> None:
    """Add --constants, --region and --prices."""
    parser.add_argument(
        "--constants",
        type=Path,
        metavar="FILE",
        help="what accelerators, energy, carbon and water cost, where it differs",
    )
    parser.add_argument("--region", metavar="NAME", help="the electricity grid, such as se (default: world)")
    parser.add_argument(
        "--prices", type=Path, metavar="FILE", help="what providers bill, in place of the shipped prices"
    )


def cost_files(options: argparse.Namespace) -> dict[str, Any]:
    """What of the options of `add_cost_options` is given, as `load_tables` takes it."""
    given = {name: getattr(options, name, None) for name in ("constants", "region", "prices")}
    return {name: value for name, value in given.items() if value is not None}


def add_assume_option(parser: argparse.ArgumentParser) -> None:
    """Add --assume NAME=ROW: `options.assume` is then a dict."""
    parser.add_argument(
        "--assume",
        action=_Assume,
        default={},
        metavar="NAME=ROW",
        help="a model nobody outside can measure is assumed to be as that row (or alias of one); may be repeated",
    )


class _Assume(argparse.Action):
    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option: str | None = None
    ) -> None:
        name, _, row = values.partition("=")
        if not (name and row):
            parser.error(f"argument {option}: expected NAME=ROW, such as gpt-4o=llama-3.1-70b, found {values!r}")
        namespace.assume = {**namespace.assume, name: row}


def port_number(text: str) -> int:
    """Read an option's port, 0 for a free one; for `type=` of an argument."""
    if not text.isdigit() or int(text) > _LAST_PORT:
        raise argparse.ArgumentTypeError(f"{text!r} is no port (0 to {_LAST_PORT})")
    return int(text)


def tables_of(options: argparse.Namespace, *, any_kind: bool = False) -> Tables:
    """Load the tables that the options of `add_table_options` (and `add_assume_option`) name; raise TableError."""
    return load_tables(
        options.table,
        stack=options.stack,
        assume=getattr(options, "assume", None),
        interpolation=options.interpolation,
        any_kind=any_kind,
        **cost_files(options),
    )


def run_quietly(name: str, command: Callable[[], int]) -> int:
    """Run a command and give its exit status; its faults become one line on standard error."""
    try:
        status = command()
        # Here rather than as the interpreter ends, where a full disk would be a traceback.
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        return _EXIT_INTERRUPTED
    except BrokenPipeError:
        # The interpreter flushes standard output once more as it ends, and would complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _EXIT_PIPE_CLOSED
    except (ValueError, OSError) as error:
        print(f"{name}: {one_line(error)}", file=sys.stderr)
        return EXIT_WRONG_USE


def one_line(error: Exception) -> str:
    """What is wrong, where it is, and no more."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return " ".join(str(error).split())
