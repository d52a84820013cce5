"""`stream outcomes`: from recorded events and their outcomes to strategies compared, as a table or as JSON."""

import argparse
import math
import sys
from collections.abc import Callable
from contextlib import nullcontext
from io import BufferedReader
from pathlib import Path
from typing import Any, cast

import msgspec

from stream.coefficients import Tables
from stream.command import UsageError, add_assume_option, add_cost_options, add_table_options, run_quietly, tables_of
from stream.enrich import enrich
from stream.events import EnrichedEvent, InvalidEvent, decode_enriched
from stream.lines import numbered_lines
from stream.outcomes_text import outcomes_text
from stream.problems import InvalidOutcome, Ledger, ProblemRequest, decode_outcome, split_outcomes
from stream.strategies import MEASURES, in_dollars, strategies

__all__ = ["add_outcomes_command"]

_SHOWN = ("idealized_seconds", "dedicated_dollars", "billed_dollars")

_DESCRIPTION = """\
Compare strategies and models by how often they are right and by what a right answer costs.

--events holds events, one JSON object a line, whose `problem` (header x-trueclock-problem) ties them to outcomes;
those that are enriched already are taken as they are, all others are enriched with the tables. --outcomes holds
outcomes, one JSON object a line or one JSON array: {"problem", "correct": true|false or "score": 0..1} and, where
they are known, "id" (the request's, or one of your own), "strategy", "model" and "recorded_at". Of several of one
problem and id the last recorded counts.

Lines that cannot be read are named on standard error. Exit status: 0, or 1 if a line could not be read (after all
others are done), or 2 for wrong use."""

_EXAMPLES = """\
examples:
  gateway events --since 7d | stream outcomes --events - --outcomes outcomes.jsonl
  stream outcomes --events events.jsonl --outcomes outcomes.json --stack v100-megatron --measure flops
  stream outcomes --events events.jsonl --outcomes outcomes.jsonl --human-dollars 2.5 --json > strategies.json"""


def add_outcomes_command(commands: Any) -> None:
    """Add it to the subparsers of the `stream` command."""
    command: argparse.ArgumentParser = commands.add_parser(
        "outcomes",
        help="compare strategies by accuracy and by the cost of a right answer",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
    )
    command.add_argument("--events", required=True, metavar="FILE", help="recorded events; - for standard input")
    command.add_argument("--outcomes", required=True, type=Path, metavar="FILE", help="how their answers were judged")
    command.add_argument("--json", action="store_true", help="everything, for other programs")
    command.add_argument(
        "--measure",
        action="append",
        choices=MEASURES,
        metavar="NAME",
        help=f"what the table shows, of {', '.join(MEASURES)}; may be repeated (default: {', '.join(_SHOWN)})",
    )
    command.add_argument(
        "--human-dollars",
        type=float,
        metavar="X",
        help="what a person costs who solves any of the problems, for each: joins the frontier of the dollars",
    )
    add_table_options(command)
    add_cost_options(command)
    add_assume_option(command)
    command.set_defaults(run=lambda options: run_quietly("stream outcomes", lambda: _outcomes(options)))


def _outcomes(options: argparse.Namespace) -> int:
    human = options.human_dollars
    if human is not None and not (human >= 0 and math.isfinite(human)):
        raise UsageError(f"--human-dollars: {human:g} is no amount; give a number, 0 or more")
    tables = tables_of(options)
    ledger, faults = Ledger(), _Faults()
    faults.file = str(options.outcomes)
    _read_outcomes(options.outcomes.read_bytes(), ledger, faults)
    faults.file = options.events
    with nullcontext(sys.stdin.buffer) if options.events == "-" else Path(options.events).open("rb") as events:
        _read_events(cast("BufferedReader", events).read1, tables, ledger, faults)
    found = strategies(ledger, tables.reference, in_dollars(human))
    if options.json:
        sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(found)) + b"\n")
    else:
        print(outcomes_text(found, options.measure or _SHOWN))
    return 1 if faults.count else 0


class _Faults:
    """Names what cannot be read on standard error; the record itself is left out, being content."""

    def __init__(self) -> None:
        self.file = ""
        self.count = 0

    def add(self, place: str, reason: str) -> None:
        self.count += 1
        print(msgspec.json.encode({"file": self.file, "place": place, "reason": reason}).decode(), file=sys.stderr)

    def bury(self, number: int, _line: bytes, reason: str) -> None:
        self.add(f"line {number}", reason)


def _read_outcomes(data: bytes, ledger: Ledger, faults: _Faults) -> None:
    for place, record in split_outcomes(data):
        try:
            ledger.judge(decode_outcome(record, 0.0))
        except InvalidOutcome as error:
            faults.add(place, str(error))


def _read_events(read: Callable[[int], bytes], tables: Tables, ledger: Ledger, faults: _Faults) -> None:
    for batch in numbered_lines(read, faults.bury):
        for number, line in batch:
            try:
                request = ProblemRequest.of(_enriched(line, tables))
            except (InvalidEvent, RecursionError) as error:
                faults.bury(number, line, str(error) if isinstance(error, InvalidEvent) else "nested too deeply")
                continue
            if request is not None:
                ledger.observe(request)


def _enriched(line: bytes, tables: Tables) -> EnrichedEvent:
    found = decode_enriched(line)
    return enrich(found.event, tables) if found.table_version is None else found
