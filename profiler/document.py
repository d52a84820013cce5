"""Documents for people: words, tables and figures, as Markdown or as one HTML page that needs nothing else."""

import html
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from profiler.plot import Figure, Folded, page_of

__all__ = [
    "Block",
    "Document",
    "Heading",
    "Part",
    "Points",
    "Section",
    "Table",
    "Text",
    "as_html",
    "as_markdown",
    "html_document",
    "markdown_document",
    "markdown_text",
    "pictures",
]

_SAYS = "What it says"
_MARKDOWN = str.maketrans({**{sign: f"\\{sign}" for sign in r"\|*_`[~"}, "&": "&amp;", "<": "&lt;", "\n": " "})


class Heading(NamedTuple):
    """The title of what follows."""

    text: str


class Text(NamedTuple):
    """A paragraph."""

    text: str


class Points(NamedTuple):
    """A list of short texts."""

    texts: Sequence[str]


class Table(NamedTuple):
    """Rows of cells; the first cell of each is its name, the others are numbers, but for the last one of `sourced`."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    sourced: bool = False


Block = Heading | Text | Points | Table
"""What is written; texts are plain, whatever they hold."""

Part = Block | Figure | Folded


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a document: its blocks and figures in the order of reading, and in one sentence what it finds."""

    title: str
    parts: Sequence[Part]
    finding: str = ""


@dataclass(frozen=True, slots=True)
class Document:
    """Sections by their names, which are short and plain: they become addresses and parts of file names."""

    title: str
    introduction: Sequence[Block]
    sections: Mapping[str, Section]


def html_document(document: Document) -> str:
    """One HTML page: what its sections find, then each with its figures in their places."""
    return page_of(_html_parts(document), document.title)


def markdown_document(document: Document, folder: str | None) -> str:
    """The same as Markdown, its figures as files in `folder`, by their names in `pictures`; None leaves them out."""
    named = iter(pictures(document))
    lines = [
        f"# {markdown_text(document.title)}",
        f"## {_SAYS}",
        "\n".join(map(_markdown_finding, document.sections.values())),
    ]
    lines += map(as_markdown, document.introduction)
    for section in document.sections.values():
        lines.append(f"## {markdown_text(section.title)}")
        for part in section.parts:
            if isinstance(part, Folded):
                lines.append(markdown_text(f"In the page alone: {part.title} ({len(part.figures)})."))
            elif not isinstance(part, Figure):
                lines.append(as_markdown(part, level=3))
            else:
                name, _ = next(named)
                lines += [] if folder is None else [f"![{markdown_text(part.title)}]({folder}/{name}.svg)"]
    return "\n\n".join(lines) + "\n"


def pictures(document: Document) -> list[tuple[str, Figure]]:
    """The figures that Markdown shows, in their order, each with a name: that of its section, and its title."""
    taken: set[str] = set()
    found = []
    for name, section in document.sections.items():
        for figure in (part for part in section.parts if isinstance(part, Figure)):
            wanted = f"{name}-{_plain(figure.title)}"
            own = next(each for each in _numbered(wanted) if each not in taken)
            taken.add(own)
            found.append((own, figure))
    return found


def as_markdown(block: Block, level: int = 2) -> str:
    """A block as Markdown, whose tables are those of GitHub; a heading is of `level`."""
    if isinstance(block, Table):
        sides = ["---", *("---:" for _ in block.head[1:])]
        if block.sourced:
            sides[-1] = "---"
        lines = [block.head, sides, *block.rows]
        return "\n".join(f"| {' | '.join(map(markdown_text, line))} |" for line in lines)
    if isinstance(block, Points):
        return "\n".join(f"- {markdown_text(text)}" for text in block.texts)
    return f"{'#' * level + ' ' if isinstance(block, Heading) else ''}{markdown_text(block.text)}"


def markdown_text(text: str) -> str:
    """A text that Markdown shows as it is."""
    return text.translate(_MARKDOWN)


def as_html(block: Block, level: int = 2) -> str:
    """A block as HTML; a heading is of `level`."""
    if isinstance(block, Table):
        head = "".join(f"<th>{html.escape(cell)}</th>" for cell in block.head)
        rows = ("".join(f"<td>{html.escape(cell)}</td>" for cell in row) for row in block.rows)
        body = "".join(f"<tr>{row}</tr>" for row in rows)
        return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    if isinstance(block, Points):
        return f"<ul>{''.join(f'<li>{html.escape(text)}</li>' for text in block.texts)}</ul>"
    tag = f"h{level}" if isinstance(block, Heading) else "p"
    return f"<{tag}>{html.escape(block.text)}</{tag}>"


def _html_parts(document: Document) -> Iterator[str | Figure | Folded]:
    says = "".join(_html_finding(name, each) for name, each in document.sections.items())
    yield f'<h2>{_SAYS}</h2><ul class="says">{says}</ul>' + "".join(map(as_html, document.introduction))
    for name, section in document.sections.items():
        yield f'<h2 id="{name}">{html.escape(section.title)}</h2>'
        yield from (part if isinstance(part, Figure | Folded) else as_html(part, level=3) for part in section.parts)


def _html_finding(name: str, section: Section) -> str:
    return f'<li><a href="#{name}">{html.escape(section.title)}</a>: {html.escape(section.finding)}</li>'


def _markdown_finding(section: Section) -> str:
    # The address that GitHub gives a heading.
    address = re.sub(r"[^\w\- ]", "", section.title.lower()).replace(" ", "-")
    return f"- [{markdown_text(section.title)}](#{address}): {markdown_text(section.finding)}"


def _plain(title: str) -> str:
    """A title as a file's name: lower case, letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")


def _numbered(name: str) -> Iterable[str]:
    yield name
    number = 2
    while True:
        yield f"{name}-{number}"
        number += 1
