"""The `stream` command: enrich recorded events."""

import argparse
import base64
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO, cast

import msgspec

from stream.coefficients import Tables
from stream.command import Parser, add_table_options, run_quietly, tables_of
from stream.enrich import enrich
from stream.events import InvalidEvent, decode_event, encode_enriched

__all__ = ["main"]

_READ_BYTES = 1 << 17
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"

_DESCRIPTION = """\
Add to each request what it should have taken.

Reads events from standard input, one JSON object a line, and writes each with the added fields, in the same
order. {"model", "prompt_tokens", "completion_tokens", "duration_seconds"} is enough for an event. Lines that
cannot be read (blank ones too, but for those at the end) go to --dead as {"line", "reason", "record"}, or
without --dead to standard error, where the record itself is left out.

Exit status: 0, or 1 if a line could not be read (after all others are done), or 2 for wrong use."""

_EXAMPLES = """\
examples:
  gateway events --since 1h | stream enrich --stack v100-megatron
  stream enrich --dead dead.jsonl < events.jsonl > enriched.jsonl
  echo '{"model":"davinci","prompt_tokens":500,"completion_tokens":20,"duration_seconds":2.5}' | stream enrich"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the `stream` command and give its exit status."""
    parser = Parser(prog="stream", description="trueclock's stream core, on the command line.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    command = commands.add_parser(
        "enrich",
        help="add to each request what it should have taken",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
    )
    add_table_options(command)
    command.add_argument("--dead", type=Path, metavar="FILE", help="where unreadable lines go: appended to FILE")
    options = parser.parse_args(argv)
    return run_quietly("stream enrich", lambda: _enrich(options))


def _enrich(options: argparse.Namespace) -> int:
    tables = tables_of(options)
    with ExitStack() as files:
        dead = files.enter_context(options.dead.open("ab")) if options.dead else None
        letters = _DeadLetters(dead)
        source = cast("BufferedReader", sys.stdin.buffer)
        enrich_lines(source.read1, sys.stdout.buffer, tables, letters.add)
    if letters.count and dead:
        print(f"stream enrich: {letters.count} unreadable lines went to {options.dead}", file=sys.stderr)
    return 1 if letters.count else 0


class _DeadLetters:
    """Where unreadable lines go: whole to a file, or to standard error without the record (it is content)."""

    def __init__(self, file: BinaryIO | None) -> None:
        self.count = 0
        self._file = file

    def add(self, number: int, line: bytes, reason: str) -> None:
        self.count += 1
        letter: dict[str, object] = {"line": number, "reason": reason}
        if self._file is None:
            print(msgspec.json.encode(letter).decode(), file=sys.stderr)
            return
        try:
            letter["record"] = line.decode()
        except UnicodeDecodeError:
            letter["record_base64"] = base64.b64encode(line).decode()
        self._file.write(msgspec.json.encode(letter) + b"\n")
        self._file.flush()


def enrich_lines(
    read: Callable[[int], bytes], out: BinaryIO, tables: Tables, bury: Callable[[int, bytes, str], None]
) -> None:
    """Enrich what `read` gives until it ends; `bury(line number, line, reason)` takes unreadable lines.

    One write and flush for what one read gave: a followed stream goes on at once, a file at full speed.
    """
    number, blanks = 0, 0
    for batch in _line_batches(read):
        done: list[bytes] = []
        for line in batch:
            number += 1
            if not line.strip():
                blanks += 1
                continue
            for blank in range(number - blanks, number):
                bury(blank, b"", "blank line")
            blanks = 0
            try:
                done.append(encode_enriched(enrich(decode_event(line), tables)))
            except InvalidEvent as error:
                bury(number, line, str(error))
            except RecursionError:
                bury(number, line, "nested too deeply")
        if done:
            out.write(b"\n".join(done) + b"\n")
            out.flush()


def _line_batches(read: Callable[[int], bytes]) -> Iterator[list[bytes]]:
    pending: list[bytes] = []
    chunk = read(_READ_BYTES).removeprefix(_BYTE_ORDER_MARK)
    while chunk:
        first, *others = chunk.split(b"\n")
        pending.append(first)
        if others:
            yield [b"".join(pending), *others[:-1]]
            pending = [others[-1]]
        chunk = read(_READ_BYTES)
    if last := b"".join(pending):
        yield [last]


if __name__ == "__main__":
    sys.exit(main())
