"""`profiler whatif`: the answer of `stream whatif` as Markdown, or as a page with plots."""

import argparse
import sys
from pathlib import Path
from typing import Any

from stream.whatif_answer import WhatIf, WhatIfError, decode_what_if

__all__ = ["add"]

_DESCRIPTION = """\
What `stream whatif` found, for people: how many accelerators, how much, what growth makes of it, and what all of it
stands on. Markdown on standard output, unless a file is named: --html is one file that any browser shows, with nothing
to load, --markdown the same as text."""

_EXAMPLES = """\
examples:
  stream whatif --model davinci < events.jsonl | profiler whatif -
  stream whatif --model davinci --growth 0.1 < events.jsonl > whatif.json
  profiler whatif whatif.json --html whatif.html --markdown whatif.md"""


def add(commands: Any) -> None:
    """Add it to the subparsers of the `profiler` command."""
    command: argparse.ArgumentParser = commands.add_parser(
        "whatif",
        help="what `stream whatif` found, as Markdown or a page",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
    )
    command.add_argument("file", metavar="FILE", help="what `stream whatif` printed (-: standard input)")
    command.add_argument("--html", type=Path, metavar="OUT.html", help="write a page")
    command.add_argument("--markdown", type=Path, metavar="OUT.md", help="write Markdown")
    command.set_defaults(run=_whatif)


def _whatif(options: argparse.Namespace) -> int:
    from profiler.whatif_report import html_report, markdown_report

    answer = _answer(options.file)
    if options.html:
        options.html.write_text(html_report(answer), encoding="utf-8")
    if options.markdown:
        options.markdown.write_text(markdown_report(answer), encoding="utf-8")
    if not (options.html or options.markdown):
        print(markdown_report(answer), end="")
    return 0


def _answer(name: str) -> WhatIf:
    data = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    try:
        return decode_what_if(data)
    except WhatIfError as error:
        raise WhatIfError(f"{'standard input' if name == '-' else name}: {error}") from None
