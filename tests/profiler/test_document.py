"""Documents: the same words and tables in both forms, figures in their places, and texts that stay texts."""

import re
from pathlib import Path

import pytest

from profiler.document import (
    Document,
    Heading,
    Points,
    Section,
    Table,
    Text,
    as_markdown,
    html_document,
    markdown_document,
    pictures,
)
from profiler.plot import Figure, Folded, Series
from tests.chromium import FOUND, Chromium
from tests.harness import run

HOSTILE = "<b>|`*\n[x](y)_\\&lt;"
PLAIN = Figure("T by o", [1, 2], [Series("fit", [1, 2], [0.5, 1], [2, 3])])
BARS = Figure("T by o", [1, 2], [Series("measured", [1, 2], [0.5, 1], [2, 3], points=True)])
NAMED = Figure("ranked", [0, 1], [Series("a", [1, 2], points=True), Series("b", [3, 1], points=True, dash=True)],
               x_label="model", names=["first", "the second"])  # fmt: skip
FOLDED = Folded("More <of> it", [Figure("folded", [1, 2], [Series("fit", [3, 4])])])
DOCUMENT = Document(
    "A <title>",
    [Text("before")],
    {
        "fits": Section(
            "Fits", [Text("one"), PLAIN, BARS, Heading("Then"), Text("two"), Points(["a", "b"])], "They <fit>."
        ),
        "ranks": Section(
            "Who's first, of 2?", [Table(["model", "s"], [["m", "1"], ["n", "2"]]), NAMED, FOLDED], "m is."
        ),
    },
)


def test_figures_have_names_of_their_own() -> None:
    assert [name for name, _ in pictures(DOCUMENT)] == ["fits-t-by-o", "fits-t-by-o-2", "ranks-ranked"]
    assert [figure for _, figure in pictures(DOCUMENT)] == [PLAIN, BARS, NAMED]


def test_markdown_reads_in_order() -> None:
    text = markdown_document(DOCUMENT, "pictures")
    assert text == (
        "# A &lt;title>\n\n## What it says\n\n- [Fits](#fits): They &lt;fit>.\n"
        "- [Who's first, of 2?](#whos-first-of-2): m is.\n\nbefore\n\n## Fits\n\none\n\n![T by o](pictures/fits-t-by-o.svg)\n\n"
        "![T by o](pictures/fits-t-by-o-2.svg)\n\n### Then\n\ntwo\n\n- a\n- b\n\n## Who's first, of 2?\n\n"
        "| model | s |\n| --- | ---: |\n| m | 1 |\n| n | 2 |\n\n![ranked](pictures/ranks-ranked.svg)\n\n"
        "In the page alone: More &lt;of> it (1).\n"
    )
    without = markdown_document(DOCUMENT, None)
    assert "![" not in without
    assert without.replace("\n", "") == re.sub(r"!\[.*?\)", "", text).replace("\n", "")


def test_the_page_reads_in_the_same_order() -> None:
    page = html_document(DOCUMENT)
    marks = [">What it says<", "They &lt;fit&gt;.", ">before<", ">Fits</h2>", ">one<",
             'data-count="2"', "<h3>Then</h3>", ">two<", "first, of 2?</h2>",
             "<td>m</td>", 'data-count="1"', ">More &lt;of&gt; it (1)<", 'data-count="1"></div></details>', "</main>"]  # fmt: skip
    places = [page.index(mark) for mark in marks]
    assert places == sorted(places)
    assert '<li><a href="#ranks">Who&#x27;s first, of 2?</a>: m is.</li>' in page
    assert '<h2 id="ranks">' in page


@pytest.mark.parametrize(
    "block",
    [Text(HOSTILE), Heading(HOSTILE), Points([HOSTILE]), Table([HOSTILE, "n"], [[HOSTILE, HOSTILE]])],
    ids=["text", "heading", "points", "table"],
)
def test_texts_stay_texts(block: Text | Heading | Points | Table) -> None:
    figure = Figure(HOSTILE, [1], [Series(HOSTILE, [1])])
    document = Document(HOSTILE, [block], {"s": Section(HOSTILE, [block, figure])})
    page, text = html_document(document), markdown_document(document, "p")
    assert "<b>" not in page
    assert r"&lt;b>\|\`\* \[x](y)\_\\&amp;lt;" in as_markdown(block)
    assert "<b>" not in text
    assert [name for name, _ in pictures(document)] == ["s-b-x-y-lt"]


def test_the_last_column_may_be_words() -> None:
    assert as_markdown(Table(["a", "b", "c"], [], sourced=True)).splitlines()[1] == "| --- | ---: | --- |"


def test_chromium_shows_it(tmp_path: Path) -> None:
    if FOUND is None:
        pytest.skip("chromium is not installed: apt-get install chromium")
    (tmp_path / "d.html").write_text(html_document(DOCUMENT), encoding="utf-8")
    inked = """(place => {
      const canvas = document.querySelectorAll('canvas')[place];
      const pixels = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
      let count = 0;
      for (let i = 0; i < pixels.length; i += 4) {
        const off = [31, 99, 173].map((ink, part) => Math.abs(pixels[i + part] - ink));
        count += pixels[i + 3] > 100 && Math.max(...off) < 70;
      }
      return count;
    })"""

    async def scenario(browser: Chromium) -> None:
        async with browser.page((tmp_path / "d.html").as_uri(), width=1200) as shown:
            await shown.wait("document.documentElement.dataset.drawn === '3'")
            assert await shown.run("document.querySelectorAll('.figures canvas').length") == 3
            inner = "[...document.querySelectorAll('.figures')].map(each => each.querySelectorAll('canvas').length)"
            assert await shown.run(inner) == [2, 1, 0], "what is folded is drawn when it is opened"
            assert await shown.run("document.querySelectorAll('section h3').length") == 4
            for place in range(3):
                assert await shown.run(f"{inked}({place})") > 20, place
            bar = "charts[1].plot.series.map(each => each.show)"
            before = await shown.run(f"{inked}(1)")
            await shown.run("charts[1].plot.setSeries(3, {show: false})")
            assert await shown.run(bar) == [True, False, False, False]
            await shown.wait(f"{inked}(1) < {before} - 20")
            ranked = "charts[2].plot.axes[0].values(charts[2].plot, [0, 1])"
            assert await shown.run(ranked) == ["first", "the second"]
            top, bottom = await shown.run("[0, 1].map(each => charts[2].plot.valToPos(each, 'x'))")
            assert top < bottom, "the first is on top"
            await shown.click(".figures:nth-last-child(2) section summary")
            row = "document.querySelector('.figures:nth-last-child(2) .values tbody tr').textContent"
            await shown.wait(f"{row} === 'first13'")
            await shown.click(".folded > summary")
            await shown.wait("document.querySelectorAll('.folded canvas').length === 1")
            assert await shown.run("document.querySelector('.folded canvas').clientWidth > 200")
            await shown.click(".folded > summary")
            await shown.size(360)
            await shown.wait("document.documentElement.scrollWidth <= 360")
            assert shown.problems == []
            assert len(shown.loaded) == 1

    with Chromium() as browser:
        run(scenario(browser))
