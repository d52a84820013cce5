"""`stream whatif`: recorded requests, answered by another model on a reference stack."""

import argparse
import math
import sys
from io import BufferedReader
from typing import Any, cast

from stream.command import UsageError, add_assume_option, add_cost_options, add_table_options, run_quietly, tables_of
from stream.events import InvalidEvent, decode_event
from stream.lines import DeadLetters, numbered_lines
from stream.recording import Recording
from stream.whatif import MOST_MONTHS, Question, what_if
from stream.whatif_answer import encode_what_if

__all__ = ["add_whatif_command"]

_DESCRIPTION = """\
What if another model had answered these requests: its idealized seconds on a reference stack, the fewest accelerators
that keep 95% of the requests from waiting longer than --max-wait, and dollars, energy, carbon and water, each with its
band; beside it what was billed. With --growth, the same for the months to come.

Reads events from standard input, one JSON object a line, in any order, and takes the completed ones whose tokens are
known; prints JSON, which `profiler whatif` makes a page or Markdown of.

Exit status: 0, or 1 if a line could not be read (after all others are done), or 2 for wrong use."""

_EXAMPLES = """\
examples:
  gateway events --since 7d | stream whatif --model llama-3.1-70b --stack h100-predicted
  gateway events --since 7d | stream whatif --model llama-3.1-8b --stack h100-predicted --from-model gpt-4o-mini
  stream whatif --model davinci --max-wait 5 --growth 0.1 < events.jsonl | profiler whatif - --html out.html"""


def add_whatif_command(commands: Any) -> None:
    """Add it to the subparsers of the `stream` command."""
    command: argparse.ArgumentParser = commands.add_parser(
        "whatif",
        help="what if another model had answered: accelerators, dollars, energy",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
    )
    command.add_argument("--model", required=True, metavar="NAME", help="a row of the stack, or an alias of one")
    command.add_argument("--from-model", metavar="NAME", help="only the requests that were for this model")
    command.add_argument(
        "--max-wait", type=float, default=1.0, metavar="S", help="seconds that 95%% may wait at most (default: 1)"
    )
    command.add_argument(
        "--growth", type=float, metavar="SHARE", help="more requests from month to month, such as 0.1 for 10%%"
    )
    command.add_argument("--months", type=int, default=12, metavar="N", help="how far ahead to grow (default: 12)")
    add_table_options(command)
    add_cost_options(command)
    add_assume_option(command)
    command.set_defaults(run=lambda options: run_quietly("stream whatif", lambda: _whatif(options)))


def _whatif(options: argparse.Namespace) -> int:
    question = _question(options)
    tables = tables_of(options)
    assert tables.prices is not None  # as tables that were loaded have prices
    recording, letters = Recording(tables.prices.bill, options.from_model), DeadLetters()
    for batch in numbered_lines(cast("BufferedReader", sys.stdin.buffer).read1, letters.add):
        for number, line in batch:
            try:
                recording.add(decode_event(line))
            except InvalidEvent as error:
                letters.add(number, line, str(error))
    sys.stdout.buffer.write(encode_what_if(what_if(tables, question, recording)) + b"\n")
    return 1 if letters.count else 0


def _question(options: argparse.Namespace) -> Question:
    if not (math.isfinite(options.max_wait) and options.max_wait >= 0):
        raise UsageError(f"--max-wait: expected seconds, 0 or more, found {options.max_wait:g}")
    if options.growth is not None and not -0.9 <= options.growth <= 1:
        raise UsageError(f"--growth: expected -0.9 to 1 (0.1: 10% more a month), found {options.growth:g}")
    if not 1 <= options.months <= MOST_MONTHS:
        raise UsageError(f"--months: expected 1 to {MOST_MONTHS}, found {options.months}")
    return Question(options.model, options.max_wait, options.growth, options.months)
