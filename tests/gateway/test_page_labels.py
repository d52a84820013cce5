"""How the live page writes and colours things: its own functions, called in a real Chromium."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.chromium import FOUND, Chromium, Page
from tests.harness import run, serve
from tests.page_figures import NOTHING, call, group, known

pytestmark = pytest.mark.skipif(FOUND is None, reason="chromium is not installed: apt-get install chromium")


@pytest.fixture(scope="module")
def browser() -> Iterator[Chromium]:
    with Chromium() as found:
        yield found


def test_a_baseline_says_how_well_it_is_known_and_from_when_on_it_applies(browser: Chromium) -> None:
    async def scenario() -> None:
        step = {"at": "2026-01-01T00:00:00Z", "factor": 1.837, "version": 2}
        cases = [
            (group(9, 1, 0, 0, baseline=known(0.97, 1.03)), "baseline: 240 observations, \N{PLUS-MINUS SIGN}3%"),
            (
                group(9, 1, 0, 0, split=0, baseline=known(0.96, 1.03)),
                "baseline: 240 observations, \N{PLUS-MINUS SIGN}4%; applies from the next requests on",
            ),
            (
                group(9, 1, 0, 0, baseline=known(0.99, 1.001, steps=[step])),
                "baseline: 240 observations, \N{PLUS-MINUS SIGN}1%, step in the provider's best \N{MULTIPLICATION SIGN}1.84",
            ),
            (NOTHING | {"baseline": None, "baseline_missing": "not enough: 3"}, "no baseline: not enough: 3"),
            (NOTHING | {"baseline": None, "baseline_missing": None}, ""),
        ]
        async with serve() as gateway, browser.page(gateway.url) as page:
            await page.wait("document.documentElement.dataset.shown >= 1")
            for told, words in cases:
                assert await call(page, "models", "baselineOf", told) == words

    run(scenario())


def test_colours_are_a_matter_of_the_names(browser: Chromium) -> None:
    async def scenario() -> None:
        names = [f"vendor/model-{number}" for number in range(7)]
        async with serve() as gateway, browser.page(gateway.url) as page:
            await page.wait("document.documentElement.dataset.shown >= 1")
            before = await colours(page, names)
            assert sorted(before.values()) == list(range(7))
            assert await colours(page, names[::-1]) == before
            assert await colours(page, names, "another.test:41903") == before
            for number in range(1, 7):
                fewer = await colours(page, names[:number])
                assert sum(fewer[name] == before[name] for name in fewer) >= number - 2
            twice = await colours(page, ["same", "same"])
            assert len(twice) == 1
            many = await colours(page, [f"model-{number}" for number in range(9)])
            assert len(many) == len(set(many.values())) == 7

    run(scenario())


async def colours(page: Page, names: list[str], upstream: str = "api.test") -> Any:
    groups = [{"key": f"{upstream} {name}", "model": name} for name in names]
    found = await page.run(
        f"import('/trueclock/v1/page/colours.js').then(it => [...it.coloursOf({json.dumps(groups)}, 7)])"
    )
    return {key.partition(" ")[2]: colour for key, colour in found}


def test_no_label_of_an_axis_is_cut_off(browser: Chromium) -> None:
    async def scenario() -> None:
        async with serve() as gateway, browser.page(gateway.url) as page:
            await page.wait("document.documentElement.dataset.shown >= 1")
            for value in (0, 0.25, -0.25, 2.5, -12.5, 0.0025, -0.25e-1, 1000, -7500):
                text = await call(page, "timeline", "secondsTick", value)
                assert await width_of(page, text) + 6 <= await page.run(f"{TIMELINE}.SIDE)"), text
            assert await width_of(page, "20:00:00") / 2 <= await page.run(f"{TIMELINE}.RIGHT)")
            midnight = await page.run("import('/trueclock/v1/page/dom.js').then(it => it.clock(new Date(2026, 0, 1)))")
            assert midnight == "00:00:00"

    run(scenario())


TIMELINE = "import('/trueclock/v1/page/timeline.js').then(it => it"


async def width_of(page: Page, text: str) -> float:
    """Pixels, in the wider of the page's fonts."""
    told = json.dumps(text)
    return float(
        await page.run(
            "(() => { const c = document.createElement('canvas').getContext('2d');"
            "return Math.max(...[getComputedStyle(document.body).fontFamily, 'DejaVu Sans'].map(font => {"
            f"c.font = `12px ${{font}}`; return c.measureText({told}).width; }})); }})()"
        )
    )


def test_small_ratios_are_not_zero(browser: Chromium) -> None:
    async def scenario() -> None:
        async with serve() as gateway, browser.page(gateway.url) as page:
            await page.wait("document.documentElement.dataset.shown >= 1")
            for value, text in [
                (0.0018, "0.002x"),
                (0.0001, "<0.001x"),
                (0.094, "0.09x"),
                (0.46, "0.46x"),
                (12.34, "12.3x"),
            ]:
                assert (await call(page, "dom", "ratio", value)).replace("\N{MULTIPLICATION SIGN}", "x") == text

    run(scenario())
