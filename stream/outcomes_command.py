"""`stream outcomes`: from recorded events and their outcomes to strategies compared, as a table or as JSON."""

import argparse
import math
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from io import BufferedReader
from pathlib import Path
from typing import Any, cast

import msgspec

from stream.coefficients import Tables
from stream.command import (
    UsageError,
    add_assume_option,
    add_cost_options,
    add_table_options,
    cost_files,
    run_quietly,
    tables_of,
)
from stream.enrich import enrich
from stream.events import EnrichedEvent, InvalidEvent, decode_enriched
from stream.lines import numbered_lines
from stream.outcomes_text import outcomes_text
from stream.problems import InvalidOutcome, Ledger, ProblemRequest, decode_outcome, split_outcomes
from stream.strategies import MEASURES, in_dollars, strategies

__all__ = ["add_outcomes_command"]

_SHOWN = ("served_dollars", "billed_dollars", "dedicated_dollars")

_DESCRIPTION = """\
Compare strategies and models by how often they are right and by what a right answer costs.

--events holds events, one JSON object a line, whose `problem` (header x-trueclock-problem) ties them to outcomes;
those that are enriched already (as `gateway events` prints them) are taken as they are, all others are enriched with
the tables. With --table, --constants, --prices, --region, --assume or --interpolation all are enriched anew. Without
--stack costs are on the stack that most of the enriched events lead with.

--outcomes holds outcomes, one JSON object a line or one JSON array: {"problem", "correct": true|false or "score": 0..1}
and, where they are known, "id" (the request's, or one of your own), "strategy", "model" and "recorded_at". Of several
of one problem and id the last recorded counts.

Lines that cannot be read are named on standard error. Exit status: 0, or 1 if a line could not be read (after all
others are done), or 2 for wrong use."""

_EXAMPLES = """\
examples:
  gateway events --since 7d | stream outcomes --events - --outcomes outcomes.jsonl
  stream outcomes --events events.jsonl --outcomes outcomes.json --stack v100-megatron --measure flops
  stream outcomes --events events.jsonl --outcomes outcomes.jsonl --constants constants.json --measure served_dollars
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
        help=f"what the table shows, of {', '.join(MEASURES)}; may be repeated "
        f"(default: {', '.join(_SHOWN)}, billed only where it is known)",
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
    # Without a default, so that one that is given is known from one that is not.
    command.set_defaults(interpolation=None)
    command.set_defaults(run=lambda options: run_quietly("stream outcomes", lambda: _outcomes(options)))


def _outcomes(options: argparse.Namespace) -> int:
    human = options.human_dollars
    if human is not None and not (human >= 0 and math.isfinite(human)):
        raise UsageError(f"--human-dollars: {human:g} is no amount; give a number, 0 or more")
    anew = bool(options.table or options.assume or options.interpolation or cost_files(options))
    options.interpolation = options.interpolation or "linear"
    enriched = _Enriching(tables_of(options), anew=anew)
    ledger, faults = Ledger(), _Faults()
    faults.file = str(options.outcomes)
    _read_outcomes(options.outcomes.read_bytes(), ledger, faults)
    faults.file = options.events
    with nullcontext(sys.stdin.buffer) if options.events == "-" else Path(options.events).open("rb") as events:
        _read_events(cast("BufferedReader", events).read1, enriched, ledger, faults)
    found = strategies(ledger, options.stack or enriched.leading, in_dollars(human))
    if options.json:
        sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(found)) + b"\n")
    else:
        print(outcomes_text(found, options.measure or _shown(found)))
    return 1 if faults.count else 0


def _shown(found: dict[str, Any]) -> list[str]:
    """The measures to show where nobody says which: what is billed only where that is known of a strategy."""
    billed = any(each["measures"]["billed_dollars"]["total"] is not None for each in found["strategies"])
    return [name for name in _SHOWN if billed or name != "billed_dollars"]


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


class _Enriching:
    """Enriches events, those that are enriched already only where that is to be done `anew`."""

    def __init__(self, tables: Tables, *, anew: bool) -> None:
        self._tables = tables
        self._anew = anew
        self._leads: Counter[str] = Counter()
        """the stacks that they led with as they came"""

    def __call__(self, line: bytes) -> EnrichedEvent:
        """Read an event; raises InvalidEvent."""
        found = decode_enriched(line)
        if found.stack is not None and found.event.problem:
            self._leads[found.stack] += 1
        return enrich(found.event, self._tables) if self._anew or found.table_version is None else found

    @property
    def leading(self) -> str:
        """The stack that most of them led with; else, or where the tables are others, that of the tables."""
        known = [name for name in self._leads if not self._anew or name in self._tables.references]
        return max(sorted(known), key=self._leads.__getitem__, default=self._tables.reference)


def _read_outcomes(data: bytes, ledger: Ledger, faults: _Faults) -> None:
    wall = time.time()
    for place, record in split_outcomes(data):
        try:
            ledger.judge(decode_outcome(record, 0.0, wall))
        except InvalidOutcome as error:
            faults.add(place, str(error))


def _read_events(read: Callable[[int], bytes], enriched: _Enriching, ledger: Ledger, faults: _Faults) -> None:
    for batch in numbered_lines(read, faults.bury):
        for number, line in batch:
            try:
                request = ProblemRequest.of(enriched(line))
            except (InvalidEvent, RecursionError) as error:
                faults.bury(number, line, str(error) if isinstance(error, InvalidEvent) else "nested too deeply")
                continue
            if request is not None:
                ledger.observe(request)
