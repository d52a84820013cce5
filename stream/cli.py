"""The `stream` command: enrich recorded events, learn from them, simulate some."""

import argparse
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO, cast

import msgspec

from stream.baselines import NO_BASELINES, Baselines, load_baselines
from stream.coefficients import Tables
from stream.command import (
    Parser,
    add_assume_option,
    add_cost_options,
    add_table_options,
    add_version_option,
    run_quietly,
    tables_of,
)
from stream.denoise_command import add_denoise_command
from stream.enrich import enrich
from stream.events import InvalidEvent, decode_event, encode_enriched
from stream.lines import Bury, DeadLetters, numbered_lines
from stream.outcomes_command import add_outcomes_command
from stream.replay_command import add_replay_command
from stream.simulate_command import add_simulate_command
from stream.whatif_command import add_whatif_command
from stream.wording import printable
from stream.worker_command import add_worker_command

__all__ = ["main"]

_DESCRIPTION = """\
Add to each request what it should have taken.

Reads events from standard input, one JSON object a line, and writes each with the added fields, in the same
order. {"model", "prompt_tokens", "completion_tokens", "duration_seconds"} is enough for an event. Events that are
enriched already, as `gateway events` prints them, are enriched anew, with these tables and this --stack. Lines that
cannot be read (blank ones too, but for those at the end) go to --dead as {"line", "reason", "record"}, or
without --dead to standard error, where the record itself is left out.

Exit status: 0, or 1 if a line could not be read (after all others are done), or 2 for wrong use."""

_EXAMPLES = """\
examples:
  gateway events --since 1h | stream enrich --stack v100-megatron
  stream enrich --dead dead.jsonl < events.jsonl > enriched.jsonl
  stream enrich --assume gpt-4o=llama-3.1-70b --baselines baselines.json < events.jsonl
  echo '{"model":"davinci","prompt_tokens":500,"completion_tokens":20,"duration_seconds":2.5}' | stream enrich"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the `stream` command and give its exit status."""
    parser = Parser(prog="stream", description="trueclock's stream core, on the command line.")
    add_version_option(parser)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    command = commands.add_parser(
        "enrich",
        help="add to each request what it should have taken",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
    )
    add_table_options(command)
    add_cost_options(command)
    add_assume_option(command)
    command.add_argument(
        "--baselines", type=Path, metavar="FILE", help="what `stream denoise --json` wrote: gives denoised runtimes"
    )
    command.add_argument("--dead", type=Path, metavar="FILE", help="where unreadable lines go: appended to FILE")
    command.set_defaults(run=lambda options: run_quietly("stream enrich", lambda: _enrich(options)))
    add_denoise_command(commands)
    add_simulate_command(commands)
    add_worker_command(commands)
    add_replay_command(commands)
    add_whatif_command(commands)
    add_outcomes_command(commands)
    options = parser.parse_args(argv)
    status: int = options.run(options)
    return status


def _enrich(options: argparse.Namespace) -> int:
    tables = tables_of(options)
    look = None if options.stack else _Leading(tables)
    baselines = load_baselines(options.baselines) if options.baselines else NO_BASELINES
    with ExitStack() as files:
        dead = files.enter_context(options.dead.open("ab")) if options.dead else None
        letters = DeadLetters(dead)
        source = cast("BufferedReader", sys.stdin.buffer)
        enrich_lines(source.read1, sys.stdout.buffer, tables, letters.add, baselines, look)
    if letters.count and dead:
        print(f"stream enrich: {letters.count} unreadable lines went to {options.dead}", file=sys.stderr)
    return 1 if letters.count else 0


class _Led(msgspec.Struct):
    stack: str | None = None


_led = msgspec.json.Decoder(_Led).decode


class _Leading:
    """Says once, on standard error, that events were enriched with another leading stack than is asked for."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._said = False

    def __call__(self, line: bytes) -> None:
        """Look at an event."""
        if self._said or b'"table_version":"' not in line:
            return
        try:
            led = _led(line).stack
        except (msgspec.MsgspecError, ValueError, RecursionError):
            return
        if led is not None and led != self._tables.reference:
            known = led in self._tables.references
            keep = f"--stack {led} keeps that" if known else "which these tables do not have (--table)"
            print(f"stream enrich: these events lead with {printable(led)}; {printable(keep)}", file=sys.stderr)
            self._said = True


def enrich_lines(
    read: Callable[[int], bytes],
    out: BinaryIO,
    tables: Tables,
    bury: Bury,
    baselines: Baselines = NO_BASELINES,
    look: Callable[[bytes], None] | None = None,
) -> None:
    """Enrich what `read` gives until it ends; `bury(line number, line, reason)` takes unreadable lines.

    `look` is shown each line as it comes.

    One write and flush for what one read gave: a followed stream goes on at once, a file at full speed.
    """
    for batch in numbered_lines(read, bury):
        done: list[bytes] = []
        for number, line in batch:
            if look is not None:
                look(line)
            try:
                done.append(encode_enriched(enrich(decode_event(line), tables, baselines)))
            except InvalidEvent as error:
                bury(number, line, str(error))
            except RecursionError:
                bury(number, line, "nested too deeply")
        if done:
            out.write(b"\n".join(done) + b"\n")
            out.flush()


if __name__ == "__main__":
    sys.exit(main())
