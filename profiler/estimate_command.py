"""`profiler estimate`: seconds that requests take alone on a stack, one or a CSV file of them."""

import argparse
import sys
from typing import Any

from profiler.estimate import estimate, estimate_csv
from profiler.request_rows import opened, warn_of_models, whole_number
from stream.coefficients import Tables
from stream.command import UsageError, add_table_options, tables_of

__all__ = ["add"]

_NAME = "profiler estimate"

_DESCRIPTION = """\
Estimate how many seconds a request takes alone on a stack.

One request: --model, --prompt-tokens and --output-tokens; prints one number, in seconds. Many: --csv, a file
with the columns model, prompt_tokens and output_tokens, among others if you like; prints the same rows with
the column runtime_seconds appended at the end (even if the input has one of that name), empty where no table
has the model. Warnings go to standard error and do not change the exit status; wrong use gives status 2."""

_EXAMPLES = """\
examples:
  profiler estimate --model openai/davinci --prompt-tokens 500 --output-tokens 20
  profiler estimate --model j1-jumbo --stack v100-megatron --prompt-tokens 500 --output-tokens 20
  profiler estimate --csv requests.csv --table my_table.json > estimated.csv"""


def add(commands: Any) -> None:
    """Add it to the subparsers of the `profiler` command."""
    command: argparse.ArgumentParser = commands.add_parser(
        "estimate",
        help="seconds that a request takes alone on a stack",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
    )
    command.add_argument("--model", help="a row of the table, or an alias of one")
    command.add_argument("--prompt-tokens", metavar="P", help="tokens of the prompt")
    command.add_argument("--output-tokens", metavar="O", help="tokens of the output")
    command.add_argument("--csv", metavar="FILE", help="estimate every row of FILE (-: standard input)")
    add_table_options(command)
    command.set_defaults(run=_estimate)


def _estimate(options: argparse.Namespace) -> int:
    single = {"--model": options.model, "--prompt-tokens": options.prompt_tokens}
    single["--output-tokens"] = options.output_tokens
    given = [name for name, value in single.items() if value is not None]
    if options.csv is not None and given:
        raise UsageError(f"give either --csv or {given[0]}, not both")
    if options.csv is None and len(given) < len(single):
        missing = [name for name in single if name not in given]
        raise UsageError(f"missing: {', '.join(missing)} (or give --csv FILE)")
    tables = tables_of(options, any_kind=True)
    if options.csv is None:
        _estimate_one(options, tables)
    else:
        _estimate_file(options.csv, tables)
    return 0


def _estimate_one(options: argparse.Namespace, tables: Tables) -> None:
    prompt = _tokens("--prompt-tokens", options.prompt_tokens)
    output = _tokens("--output-tokens", options.output_tokens)
    seconds, extrapolated = estimate(tables, options.model, prompt, output)
    print(seconds)
    if extrapolated:
        said = f"{prompt} prompt tokens lie beyond the profiled sizes of {options.model}: extrapolated"
        print(f"{_NAME}: warning: {said}", file=sys.stderr)


def _estimate_file(name: str, tables: Tables) -> None:
    with opened(name) as (source, out, called):
        summary = estimate_csv(source, out, tables, called)
    warn_of_models(_NAME, "left empty: no row on " + tables.reference, summary.uncovered)
    warn_of_models(_NAME, "extrapolated: prompts beyond the profiled sizes", summary.extrapolated)


def _tokens(option: str, text: str) -> int:
    try:
        return whole_number(text)
    except ValueError as error:
        raise UsageError(f"{option}: {error}") from None
