"""The plots' page: complete in itself, what it holds, and that a real Chromium draws it."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from profiler.plot import Figure, Series, page, write_page
from tests.chromium import FOUND, Chromium
from tests.harness import run

CURVE = Series("fit", [1, 2, 4], [0.9, 1.8, 3.6], [1.1, 2.2, 4.4], colour=2)
CLOUD = Series("measured", [2.1, 1.9, 0.95], points=True, x=[10, 10, 1], colour=2)
FIGURE = Figure("a <model> & 'more'", [1, 10, 1000], [CURVE, CLOUD], note="R² 0.99 </script>")


def held(text: str) -> list[dict[str, Any]]:
    found = re.search(r'<script type="application/json" id="figures">(.*?)</script>', text, re.DOTALL)
    assert found
    figures: list[dict[str, Any]] = json.loads(found[1])
    return figures


def test_series_of_different_places_share_one_ascending_axis() -> None:
    (figure,) = held(page([FIGURE]))
    assert [series["label"] for series in figure["series"]] == ["fit, high", "fit, low", "fit", "measured"]
    assert [series.get("edge") for series in figure["series"]] == ["high", "low", None, None]
    assert {series["colour"] for series in figure["series"]} == {2}
    assert figure["data"] == [
        [1, 10, 10, 1000],
        [1.1, 2.2, None, 4.4],
        [0.9, 1.8, None, 3.6],
        [1, 2, None, 4],
        [0.95, 2.1, 1.9, None],
    ]


def test_texts_cannot_leave_their_place() -> None:
    text = page([FIGURE], title="<b>{{figures}}")
    assert "<title>&lt;b&gt;{{figures}}</title>" in text
    assert "R² 0.99 \\u003c/script>" in text or "R\\u00b2 0.99 \\u003c/script>" in text
    assert held(text)[0]["title"] == "a <model> & 'more'"


def test_the_page_needs_nothing_else() -> None:
    text = page([FIGURE])
    assert "uPlot (v1.6" in text  # its notice goes with it
    assert not re.search(r'(src|href)="(?!data:)', text)
    assert "{{" not in text.replace("{{title}}", "")


@pytest.mark.parametrize(
    ("x", "y", "asked", "expected"),
    [
        ([1, 10], [1, 2], None, (False, False)),
        ([1, 100], [1, 2], None, (True, False)),
        ([0, 100], [1, 200], None, (False, True)),
        ([1, 2], [1, 2], True, (True, True)),
        ([0, 2], [-1, 2], True, (False, False)),
        ([1, 1000], [1, 1000], False, (False, False)),
        ([], [], None, (False, False)),
        ([1, 1000], [None, None], True, (False, False)),
    ],
    ids=["short", "x", "y", "asked", "not above 0", "refused", "empty", "gaps"],
)
def test_axes_are_logarithmic_where_due(
    x: list[float], y: list[float | None], asked: bool | None, expected: tuple[bool, bool]
) -> None:
    (figure,) = held(page([Figure("f", x, [Series("s", y)], log_x=asked, log_y=asked)]))
    assert (figure["log_x"], figure["log_y"]) == expected


def test_numbers_that_are_none_are_left_out() -> None:
    (figure,) = held(page([Figure("f", [1, 2, 3], [Series("s", [float("nan"), 1 / 3, float("inf")])])]))
    assert figure["data"] == [[2], [0.333333]]


def test_a_series_needs_a_place_for_every_value() -> None:
    with pytest.raises(ValueError, match="shorter"):
        page([Figure("f", [1, 2], [Series("s", [1])])])


def test_what_a_legend_tells() -> None:
    curves = [
        Series("fit", [1, 2], [0.5, 1], [2, 3], colour=1),
        Series("fit, measured", [1, None], points=True, colour=1),
        Series("fit, measured", [1, 2], points=True, colour=2),
        Series("one", [None, 2], points=True, beside=True),
        Series("listed", [1, 2], drawn=False),
        Series("empty", [None, float("nan")], [1, 1], [2, 2]),
    ]
    (figure,) = held(page([Figure("f", [1, 2], curves)]))
    told = [(each["label"], each["told"]) for each in figure["series"]]
    assert told == [
        ("fit, high", False),
        ("fit, low", False),
        ("fit", True),
        ("fit, measured", False),
        ("fit, measured", True),
        ("one", False),
        ("listed", False),
    ], "what has no value is nowhere"
    assert [each["colour"] for each in figure["series"]] == [1, 1, 1, 1, 2, 3, 4]
    assert len(figure["data"]) == 1 + len(figure["series"])


def test_figures_of_one_scale_share_their_axis() -> None:
    low, high = Series("low", [1, 2], [0.5, 1], [2, 3]), Series("high", [90, 100])
    only_listed = Series("listed", [1e6, 1e7], drawn=False)
    figures = [Figure("f", [1, 2], [series, only_listed], y_scale="s") for series in (low, high)]
    found = held(page([*figures, Figure("alone", [1, 2], [low], y_scale="t"), Figure("own", [1, 2], [low])]))
    assert [figure["y_range"] for figure in found] == [[0.5, 100], [0.5, 100], None, None]
    assert [figure["log_y"] for figure in found] == [True, True, False, False]
    assert [series["drawn"] for series in found[0]["series"]] == [True, True, True, False]
    assert found[0]["data"][-1] == [1e6, 1e7], "its table has it"


@pytest.fixture(scope="module")
def browser() -> Iterator[Chromium]:
    if FOUND is None:
        pytest.skip("chromium is not installed: apt-get install chromium")
    with Chromium() as found:
        yield found


COLOURED = """(selector => {
  const canvas = document.querySelectorAll('canvas')[selector];
  const pixels = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
  const seen = new Set();
  for (let i = 0; i < pixels.length; i += 4) if (pixels[i + 3] > 250) seen.add(`${pixels[i]},${pixels[i+1]},${pixels[i+2]}`);
  return [...seen];
})"""


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_chromium_draws_it(browser: Chromium, tmp_path: Path, dark: bool) -> None:
    many = [Figure(f"model {i}", [1, 10, 1000], [CURVE, CLOUD], note="n") for i in range(3)]
    write_page(tmp_path / "plot.html", [*many, Figure("empty", [], []), FIGURE], "fits")
    inks = {False: "11,127,134", True: "53,195,201"}  # --colour-2

    async def scenario() -> None:
        async with browser.page((tmp_path / "plot.html").as_uri(), width=1200, dark=dark) as shown:
            await shown.wait("document.documentElement.dataset.drawn === '5'")
            assert await shown.text("h1") == await shown.run("document.title") == "fits"
            assert await shown.run("document.querySelectorAll('canvas').length") == 5
            assert inks[dark] in await shown.run(f"{COLOURED}(0)")
            await shown.theme(dark=not dark)
            await shown.wait(f"{COLOURED}(0).includes('{inks[not dark]}')")
            legend = await shown.run("[...document.querySelectorAll('.u-legend')][0].innerText")
            assert "measured" in legend
            assert ", high" not in legend
            await shown.click("section:last-child summary")
            row = "document.querySelector('section:last-child .values tbody tr').textContent"
            await shown.wait(f"{row} === '11.10.910.95'")
            await shown.size(360)
            await shown.wait(
                "document.documentElement.scrollWidth <= 360 && document.querySelector('canvas').width < 360"
            )
            assert shown.problems == []
            assert len(shown.loaded) == 1

    run(scenario())


LEGEND = "[...document.querySelectorAll('section:first-child .u-series')].filter(row => row.checkVisibility({visibilityProperty: true}))"
SCALE = "charts.map(each => [each.plot.scales.y.min, each.plot.scales.y.max])"


def test_a_legend_has_values_only_where_the_pointer_is(browser: Chromium, tmp_path: Path) -> None:
    broken = Series("broken", [3, 3, 3], dash=True)
    write_page(tmp_path / "plot.html", [Figure("8x7b", [1, 10, 1000], [CURVE, CLOUD, broken])], "one")

    async def scenario() -> None:
        async with browser.page((tmp_path / "plot.html").as_uri(), width=1400) as shown:
            await shown.wait("document.documentElement.dataset.drawn === '1'")
            labels = await shown.run(f"{LEGEND}.map(row => row.innerText.trim())")
            assert labels == ["fit", "measured", "broken"]
            dashes = f"{LEGEND}.map(row => row.querySelector('svg > *').getAttribute('stroke-dasharray'))"
            assert await shown.run(dashes) == [None, None, "6 4"]
            height = "document.documentElement.scrollHeight"
            before = await shown.run(height)
            await shown.run("charts[0].plot.setCursor({left: 1, top: 50})")
            await shown.wait("document.querySelector('.uplot.hovered') !== null")
            values = f"{LEGEND}.map(row => [...row.children].map(each => each.innerText.trim()))"
            pointed = [["prompt tokens", "1"], ["fit", "1"], ["measured", "0.95"], ["broken", "3"]]
            assert await shown.run(values) == pointed
            assert await shown.run(height) == before
            await shown.run("charts[0].plot.setCursor({left: -10, top: -10})")
            await shown.wait(f"{LEGEND}.length === 3")
            await shown.run("charts[0].plot.setSeries(3, {show: false})")
            assert await shown.run("charts[0].plot.series.map(each => each.show)") == [
                True,
                False,
                False,
                False,
                True,
                True,
            ]
            assert shown.problems == []

    run(scenario())


def test_a_line_and_its_points_come_and_go_together(browser: Chromium, tmp_path: Path) -> None:
    curves = [Series("fit", [1, 2], [0.5, 1], [2, 3], colour=1), Series("fit, measured", [1, 2], points=True, colour=1)]
    write_page(tmp_path / "plot.html", [Figure("f", [1, 2], [*curves, Series("other", [3, 3])])])

    async def scenario() -> None:
        async with browser.page((tmp_path / "plot.html").as_uri(), width=1400) as shown:
            await shown.wait("document.documentElement.dataset.drawn === '1'")
            assert await shown.run(f"{LEGEND}.map(row => row.innerText.trim())") == ["fit", "other"]
            await shown.run("charts[0].plot.setSeries(3, {show: false})")
            visible = "charts[0].plot.series.map(each => each.show)"
            assert await shown.run(visible) == [True, False, False, False, False, True]

    run(scenario())


def test_on_a_narrow_screen_names_are_shorter(browser: Chromium, tmp_path: Path) -> None:
    names = [
        "somebody/a-name",
        "somebody-elses/model-with-a-long-name",
        "nobody/one-that-is-too-long-without-its-owner-too",
    ]
    figure = Figure("f", [0, 1, 2], [Series("s", [1, 2, 3], points=True)], names=names)
    write_page(tmp_path / "plot.html", [figure])
    shown_names = "charts[0].plot.axes[0].values(charts[0].plot)"

    async def scenario() -> None:
        async with browser.page((tmp_path / "plot.html").as_uri(), width=1400) as shown:
            await shown.wait("document.documentElement.dataset.drawn === '1'")
            assert await shown.run(shown_names) == names
            await shown.size(400)
            await shown.wait("charts[0].plot.width < 400")
            _, second, third = await shown.run(shown_names)
            assert second == "model-with-a-long-name"
            assert third.startswith("one-that-is-too-long")
            assert third.endswith("…")

    run(scenario())


INKED = """(text => {
  const own = CanvasRenderingContext2D.prototype.fillText;
  window.inked = [];
  CanvasRenderingContext2D.prototype.fillText = function (text, x, y) {
    window.inked.push([text, x, y - 6, x + this.measureText(text).width, y + 6]);
    return own.apply(this, arguments);
  };
})()"""


def test_names_stand_beside_their_points_and_not_on_each_other(browser: Chromium, tmp_path: Path) -> None:
    near = [(1.0, 2.0), (1.01, 2.01), (1.02, 1.99), (1.0, 1.98), (9.9, 3.0)]
    points = [Series(f"a long name {i}", [y], points=True, x=[x], beside=True) for i, (x, y) in enumerate(near)]
    figure = Figure("f", [], [*points, Series("front", [1, 3], x=[1, 9])], from_zero=False)
    write_page(tmp_path / "plot.html", [figure])

    async def scenario() -> None:
        page = browser.page((tmp_path / "plot.html").as_uri(), width=900, before=INKED)
        async with page as shown:
            await shown.wait("document.documentElement.dataset.drawn === '1'")
            names = await shown.run("inked.filter(each => each[0].startsWith('a long'))")
            assert sorted(name for name, *_ in names) == [each.label for each in points]
            for place, (_, left, top, right, bottom) in enumerate(names):
                assert right <= await shown.run("document.querySelector('canvas').width")
                for _, *other in names[:place]:
                    assert right <= other[0] or other[2] <= left or bottom <= other[1] or other[3] <= top
            assert await shown.run(f"{LEGEND}.map(row => row.innerText.trim())") == ["front"]
            assert await shown.run("charts[0].plot.scales.y.min > 0.5")

    run(scenario())


def test_logarithmic_axes_have_as_many_numbers_as_there_is_room(browser: Chromium, tmp_path: Path) -> None:
    wide = Figure("wide", [1e-5, 1e14], [Series("s", [1, 1])], log_x=True)
    narrow = Figure("narrow", [0.06, 0.7], [Series("s", [1, 1])], log_x=True)
    write_page(tmp_path / "plot.html", [wide, narrow])
    numbers = "inked.map(each => each[0]).filter(text => /\\d/.test(text))"

    async def scenario() -> None:
        page = browser.page((tmp_path / "plot.html").as_uri(), width=1400, before=INKED)
        async with page as shown:
            await shown.wait("document.documentElement.dataset.drawn === '2'")
            said = await shown.run(numbers)
            assert {"10⁻⁵", "0.001", "1", "1,000", "10¹⁴", "0.1", "0.2", "0.5"} <= set(said)
            assert not any("e" in each for each in said)

    run(scenario())


def test_charts_have_the_room_and_the_scales_they_need(browser: Chromium, tmp_path: Path) -> None:
    one, two = Series("one", [5, 6]), Series("two", [7, 9])
    stacks = [Figure("f", [1, 2], [series], y_scale="s") for series in (one, two)]
    write_page(tmp_path / "plot.html", [*stacks, Figure("below", [1, 2], [Series("s", [-1, 5])])])
    write_page(tmp_path / "single.html", [Figure("f", [1, 2], [one])])
    width = (
        "document.querySelector('canvas').getBoundingClientRect().width / document.querySelector('main').clientWidth"
    )

    async def scenario() -> None:
        async with browser.page((tmp_path / "plot.html").as_uri(), width=1400) as shown:
            await shown.wait("document.documentElement.dataset.drawn === '3'")
            first, second, third = await shown.run(SCALE)
            assert first == second == [0, pytest.approx(9.45)]
            assert third[0] < -1
            assert await shown.run(width) < 0.5
            ligatures = "getComputedStyle(document.querySelector('.u-legend .u-label')).fontVariantLigatures"
            assert await shown.run(ligatures) == "none"
            tops = await shown.run(
                "[...document.querySelectorAll('.chart')].map(each => each.getBoundingClientRect().top)"
            )
            assert tops[0] == tops[1] < tops[2]
        async with browser.page((tmp_path / "single.html").as_uri(), width=1400) as shown:
            await shown.wait("document.documentElement.dataset.drawn === '1'")
            assert await shown.run(width) > 0.95
            assert await shown.run(SCALE) == [[0, pytest.approx(6.3)]]

    run(scenario())
