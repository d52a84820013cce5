"""`profiler report`: one page and one Markdown file that show why the numbers can be believed."""

import argparse
import re
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stream.command import UsageError

if TYPE_CHECKING:
    from profiler.document import Document
    from profiler.report.inputs import Inputs

__all__ = ["add"]

_OUT = "report"
_PICTURES = "pictures"

_DESCRIPTION = f"""\
Write a report: the paper's ten models ranked, raw against idealized runtimes, efficiency against capability, what an
evaluation costs, stacks side by side, energy, how noisy APIs are, measured runtimes and their fits with residuals, how
far off the numbers are where nothing was measured; what if another model had answered, if there are --events.

All of it is computed from the data that ship and the files that are named; nothing is fetched. Written are
DIR/report.html, one file that any browser shows with nothing to load, and DIR/report.md with its pictures, SVG files in
DIR/{_PICTURES}. Pictures take matplotlib (pip install 'trueclock[report]'): without it Markdown has none, and the page
has its plots all the same."""

_EXAMPLES = """\
examples:
  profiler report --out report
  profiler report --samples runs.jsonl --table h200.json --out report
  profiler report --csv scenarios.csv --only capability --out mine
  gateway events --since 7d > events.jsonl && profiler report --events events.jsonl --model llama-3.1-70b"""


def add(commands: Any) -> None:
    """Add it to the subparsers of the `profiler` command."""
    command: argparse.ArgumentParser = commands.add_parser(
        "report", help="a page and Markdown with plots of it all", description=_DESCRIPTION, epilog=_EXAMPLES
    )
    command.add_argument(
        "--out", type=Path, default=Path(_OUT), metavar="DIR", help=f"the directory to write to (default: {_OUT})"
    )
    several: dict[str, Any] = {"action": "append", "default": [], "metavar": "FILE"}
    command.add_argument(
        "--samples", **several, type=Path, help="measured runtimes of one's own, .csv or .jsonl; may be repeated"
    )
    command.add_argument("--table", **several, help="a table of one's own beside the shipped ones; may be repeated")
    command.add_argument(
        "--csv",
        type=Path,
        metavar="FILE",
        help="scenarios of one's own: model, scenario, capability, tokens or seconds",
    )
    command.add_argument(
        "--events", type=Path, metavar="FILE", help="recorded requests, as `gateway events` prints them"
    )
    command.add_argument("--model", metavar="NAME", help="the row to imagine that the --events were answered by")
    only = {**several, "metavar": "SECTION"}
    command.add_argument("--only", **only, help="only this section; may be repeated")
    command.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    # NumPy comes with these: only now, so that --help answers at once.
    from profiler.document import html_document

    document = _document(_inputs(options), options.only)
    options.out.mkdir(parents=True, exist_ok=True)
    page = options.out / "report.html"
    page.write_text(html_document(document), encoding="utf-8")
    print(page)
    print(_markdown(document, options.out))
    return 0


def _inputs(options: argparse.Namespace) -> "Inputs":
    from profiler.report.inputs import Inputs
    from profiler.shipped import shipped_stacks, table_file
    from stream.coefficients import DEFAULT_STACK, load_tables

    if options.model is not None and options.events is None:
        raise UsageError("--model is for --events FILE")
    tables = load_tables(stack=DEFAULT_STACK, any_kind=True)
    if options.table:
        # One's own come last: of rows with the same name they win.
        paths = [*(shipped_stacks()[name] for name in tables.stacks), *map(table_file, options.table)]
        tables = load_tables(paths, stack=DEFAULT_STACK, any_kind=True)
    inputs = Inputs(tables, tuple(options.samples), options.csv, options.events, options.model)
    _ = inputs.own, inputs.told, inputs.recorded  # what is wrong with a file is said at once
    return inputs


def _document(inputs: "Inputs", only: list[str]) -> "Document":
    from profiler.document import Document, Text
    from profiler.report.sections import SECTIONS

    unknown = [name for name in only if name not in SECTIONS]
    if unknown:
        raise UsageError(f"--only {unknown[0]}: there are {', '.join(SECTIONS)}")
    made = {name: make(inputs) for name, make in SECTIONS.items() if not only or name in only}
    found = {name: section for name, section in made.items() if section is not None}
    if not found:
        raise UsageError(f"--only {only[0]}: nothing was named that it could show (see profiler report --help)")
    words = (
        "Idealized is the runtime of a request alone (batch size 1) on hardware and software that are the same for all"
        " models, the reference stack; raw is what an API took, denoised what it takes there without contention."
    )
    stands = (
        "Measurements, unless a section says otherwise, are those of Narayanan et al., “Cheaply Estimating Inference"
        " Efficiency Metrics for Autoregressive Transformer Models” (NeurIPS 2023, arXiv 2305.02440). Coefficient"
        f" tables {inputs.tables.version}: {', '.join(inputs.tables.stacks)}."
    )
    return Document("How long should it take? A report", [Text(words), Text(stands)], found)


def _markdown(document: "Document", folder: Path) -> Path:
    """Write the Markdown, with its pictures if they can be drawn."""
    from profiler.document import markdown_document, pictures
    from profiler.pictures import MissingLibrary, svg_pictures

    named = pictures(document)
    try:
        drawn = list(svg_pictures([figure for _, figure in named]))
    except MissingLibrary as error:
        print(f"profiler report: {error}; the Markdown has none", file=sys.stderr)
        drawn = []
    path = folder / "report.md"
    _remove_pictures(path)
    if drawn:
        (folder / _PICTURES).mkdir(exist_ok=True)
    for (name, _), text in zip(named, drawn, strict=False):
        (folder / _PICTURES / f"{name}.svg").write_text(text, encoding="utf-8")
    path.write_text(markdown_document(document, _PICTURES if drawn else None), encoding="utf-8")
    return path


def _remove_pictures(path: Path) -> None:
    """Remove those of a report that was written here before: the pictures that its Markdown shows, and no others."""
    if not path.is_file():
        return
    folder = path.parent / _PICTURES
    for name in re.findall(rf"\]\({_PICTURES}/([a-z0-9-]+\.svg)\)", path.read_text(encoding="utf-8", errors="replace")):
        (folder / name).unlink(missing_ok=True)
    with suppress(OSError):  # it is not there, or holds more
        folder.rmdir()
