"""The live page's models in a real Chromium, on a real gateway: assumed ones, steps, colours, thresholds."""

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from stream.coefficients import load_tables
from tests.chromium import FOUND, Chromium
from tests.harness import run, serve, until
from tests.page_events import DAVINCI, JUMBO, UNKNOWN, requests, write
from tests.page_watched import summary, watched

pytestmark = pytest.mark.skipif(FOUND is None, reason="chromium is not installed: apt-get install chromium")


@pytest.fixture(scope="module")
def browser() -> Iterator[Chromium]:
    with Chromium() as found:
        yield found


def test_an_assumed_model_is_marked_wherever_it_is_shown(browser: Chromium, tmp_path: Path) -> None:
    async def scenario() -> None:
        settings = {"tables": load_tables(assume={UNKNOWN.model: JUMBO.model})}
        events = list(requests([UNKNOWN], 40))
        async with watched(browser, tmp_path, events, settings=settings) as (gateway, page):
            (group,) = (await summary(gateway))["groups"]
            assert group["provenance"] == "assumed"
            assert "assumed" in await page.text("#model-rows .badges")
            advice = await page.text("#advice")
            assert UNKNOWN.model in advice
            assert JUMBO.model in advice
            assert await page.text("#scatter-panel .legend") != ""

    run(scenario())


def test_a_step_in_the_best_is_marked(browser: Chromium, tmp_path: Path) -> None:
    async def scenario() -> None:
        now = time.time()
        slower = replace(JUMBO, overhead=0.5, per_token=0.11, prompt_seconds=0.0005)
        async with watched(browser, tmp_path, list(requests([JUMBO], 500, until=now - 600))) as (gateway, page):
            known = gateway.control.stream.metrics.baselines
            # The first baseline is of the first few: only a well-known one can tell a change from its own error.
            await until(lambda: [baseline for baseline in known.values() if baseline.n >= 400])
            write(tmp_path, list(requests([slower], 400, seed=2, until=now - 60, seconds=540)))
            (step,) = await until(lambda: [step for baseline in known.values() for step in baseline.steps])
            told = await page.wait("document.querySelector('#steps').textContent")
            assert JUMBO.model in told
            assert f"\N{MULTIPLICATION SIGN}{step.factor:.2f}, slower" in told
            await page.wait(
                "document.querySelector('#model-rows .baseline').textContent.includes(\"step in the provider's best\")"
            )
            assert "may have been the step" in await page.text("#steps-note")
            assert await page.visible("#steps-note")
            assert page.problems == []

    run(scenario())


def test_requests_from_before_an_assumption_are_not_advised_again(browser: Chromium, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with watched(browser, tmp_path, list(requests([UNKNOWN], 30, until=time.time() - 60))) as (_, page):
            advice = await page.text("#advice")
            assert f"assume: {{{UNKNOWN.model}: " in advice
            assert f"gateway run --assume {UNKNOWN.model}=" in advice
        tables = load_tables(assume={UNKNOWN.model: JUMBO.model})
        async with (
            serve(data_dir=tmp_path, tables=tables) as gateway,
            browser.page(f"{gateway.url}/#range=all") as page,
        ):
            write(tmp_path, list(requests([UNKNOWN], 10, seed=2, seconds=20)))
            await page.wait("document.querySelector('#advice-rows').textContent.includes('10 requests')")
            advice = await page.text("#advice")
            assert "assume: {" not in advice
            assert "--assume" not in advice
            assert "30 from when it had no row are uncovered" in advice
            assert await page.run("document.querySelectorAll('#advice-rows li').length") == 1

    run(scenario())


def test_thresholds_are_explained(browser: Chromium, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with watched(browser, tmp_path, list(requests([JUMBO], 20))) as (_, page):
            words = await page.text("#thresholds")
            assert "1.15" in words
            assert "1.25" in words
            assert await page.run("document.querySelector('#headline').title") == words

    run(scenario())


def test_colours_stay_over_a_reload(browser: Chromium, tmp_path: Path) -> None:
    async def scenario() -> None:
        events = list(requests([JUMBO, DAVINCI], 40))
        async with watched(browser, tmp_path, events) as (_, page):
            before = await page.run(MARKERS)
            assert len({marker for _, marker in before}) == 2
            write(tmp_path, list(requests([DAVINCI], 60, seed=2, seconds=20)))  # now the other has most requests
            await page.wait("document.querySelector('#figure-requests').dataset.value === '100'")
            await page.reload()
            await page.wait("document.querySelectorAll('#model-rows tr').length === 2")
            after = await page.run(MARKERS)
            assert after != before
            assert sorted(after) == sorted(before)

    run(scenario())


MARKERS = """[...document.querySelectorAll('#model-rows tr')].map(row =>
  [row.querySelector('button.name').textContent, row.querySelector('.marker').className])"""
