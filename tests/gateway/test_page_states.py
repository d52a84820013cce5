"""The live page in a real Chromium: widths, dark and light, contrast, keyboard, empty, uncovered, connection lost."""

import json
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stream.coefficients import load_tables
from tests.chromium import FOUND, Chromium, Page
from tests.harness import ask, run, serve, until
from tests.page_events import DAVINCI, JUMBO, LARGE, UNKNOWN, Provider, requests, write

pytestmark = pytest.mark.skipif(FOUND is None, reason="chromium is not installed: apt-get install chromium")

LONG = Provider("a-model-" + "with-a-name-that-does-not-end-" * 5, "somewhere-" * 12 + ".test")
HOSTILE = Provider('<img src=x onerror="document.title=1">"}}\n\\', "<script>document.title=1</script>")
FAILING = replace(LARGE, failing=0.3)
EVERYTHING = (JUMBO, DAVINCI, FAILING, UNKNOWN, LONG, HOSTILE)

# Relative luminance and contrast as WCAG 2.2 has them, over every visible piece of text; the background is what the
# elements around it paint, one over the other.
CONTRAST = """(() => {
  const parse = (text) => {
    const numbers = text.match(/-?[\\d.]+(e-?\\d+)?/g).map(Number);
    if (text.startsWith('color(srgb')) return [...numbers.slice(0, 3).map(n => n * 255), numbers[3] ?? 1];
    return [...numbers.slice(0, 3), numbers[3] ?? 1];
  };
  const over = (top, below) => top.slice(0, 3).map((n, i) => n * top[3] + below[i] * (1 - top[3])).concat(1);
  const background = (element) => {
    const own = parse(getComputedStyle(element).backgroundColor);
    if (own[3] === 1) return own;
    return over(own, element.parentElement ? background(element.parentElement) : [255, 255, 255, 1]);
  };
  const light = (colour) => colour.slice(0, 3).map(n => n / 255)
    .map(n => n <= 0.04045 ? n / 12.92 : ((n + 0.055) / 1.055) ** 2.4)
    .reduce((sum, n, i) => sum + n * [0.2126, 0.7152, 0.0722][i], 0);
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    const text = walker.currentNode.textContent.trim();
    if (!text || !element.checkVisibility({visibilityProperty: true}) || element.closest('.visually-hidden, noscript')) continue;
    const behind = background(element);
    const [a, b] = [light(over(parse(getComputedStyle(element).color), behind)), light(behind)];
    found.push([(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), text.slice(0, 40)]);
  }
  return found;
})()"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Chromium]:
    with Chromium() as found:
        yield found


async def settled(page: Page, count: int) -> None:
    await page.wait(f"document.querySelector('#figure-requests').dataset.value === '{count}'")


def test_no_width_scrolls_sideways_and_hostile_names_are_text(browser: Chromium, tmp_path: Path) -> None:
    async def scenario() -> None:
        write(tmp_path, list(requests(EVERYTHING, 200)))
        async with (
            serve(data_dir=tmp_path) as gateway,
            browser.page(f"{gateway.url}/#range=all", width=400, height=800) as page,
        ):
            await settled(page, 200)
            for width in (400, 720, 1000, 1440, 2200):
                await page.size(width)
                wide = await page.wait("document.documentElement.scrollWidth")
                assert wide <= width, width
            assert await page.run("document.title") == "trueclock"
            names = await page.run("[...document.querySelectorAll('button.name')].map(each => each.textContent)")
            assert HOSTILE.model in names
            assert LONG.model in names
            await page.size(400, 800)
            await page.click("#recent-rows button")
            await page.wait("document.querySelector('#inspector-body').dataset.id")
            assert await page.run("document.documentElement.scrollWidth") <= 400
            assert await page.run("document.querySelector('#inspector').scrollWidth") <= 400
            assert page.problems == []

    run(scenario())


def test_all_text_can_be_read_in_dark_and_in_light(browser: Chromium, tmp_path: Path) -> None:
    async def scenario() -> None:
        events = list(requests(EVERYTHING, 200))
        write(tmp_path, events)
        pictures = []
        choices = f"range=all&request={events[0].id}&of=" + json.dumps(
            [JUMBO.upstream, JUMBO.model], separators=(",", ":")
        )
        async with serve(data_dir=tmp_path) as gateway, browser.page(f"{gateway.url}/#{choices}") as page:
            await settled(page, 200)
            await page.wait("document.querySelector('#inspector-body').dataset.id")
            await page.wait("document.querySelector('#model-rows .chosen')")
            await page.run("document.querySelectorAll('details').forEach(each => each.open = true)")
            await page.wait("document.querySelector('#timeline-table tbody tr')")
            for dark in (False, True):
                await page.theme(dark=dark)
                await page.run("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
                contrasts = await page.run(CONTRAST)
                assert len(contrasts) > 300
                assert min(contrasts)[0] >= 4.5, sorted(contrasts)[:5]
                pictures.append(await page.picture())
        assert pictures[0] != pictures[1]

    run(scenario())


def test_every_stop_of_the_keyboard_is_seen_and_named(browser: Chromium, tmp_path: Path) -> None:
    async def scenario() -> None:
        write(tmp_path, list(requests([JUMBO, UNKNOWN], 30)))
        async with serve(data_dir=tmp_path) as gateway, browser.page(f"{gateway.url}/#range=all") as page:
            await settled(page, 30)
            stops = []
            while len(stops) < 100:
                await page.press("Tab")
                stop = await page.run(
                    "(() => { const it = document.activeElement; if (it === document.body) return null;"
                    " const ring = it.type === 'radio' ? it.nextElementSibling : it;"
                    " const name = it.ariaLabel || it.labels?.[0]?.textContent || it.textContent;"
                    " return [it.id || it.name || it.className || it.tagName,"
                    " getComputedStyle(ring).outlineStyle !== 'none', Boolean(name.trim())]; })()"
                )
                if stop is None:
                    break
                stops.append(stop)
            names = [stop[0] for stop in stops]
            assert {"range", "stack", "axis", "scatter-box", "timeline-of", "name"} <= set(names)
            assert [stop for stop in stops if not stop[1] or not stop[2]] == []

    run(scenario())


def test_charts_say_the_same_as_tables(browser: Chromium, tmp_path: Path) -> None:
    async def scenario() -> None:
        write(tmp_path, list(requests([JUMBO, DAVINCI], 60)))
        async with serve(data_dir=tmp_path) as gateway, browser.page(f"{gateway.url}/#range=all") as page:
            await settled(page, 60)
            await page.wait("document.querySelector('#ratios').getAttribute('aria-label')?.includes('slowdown')")
            await page.run("document.querySelectorAll('.as-table').forEach(each => each.open = true)")
            rows = await page.wait(
                "[...document.querySelectorAll('#scatter-table tbody tr')].map(row => [...row.children].map(c => c.textContent))"
            )
            assert {row[0] for row in rows} == {JUMBO.model, DAVINCI.model}
            assert sum(int(row[1]) for row in rows) == 60
            assert await page.run("document.querySelectorAll('.mini').length") == 2
            assert "raw" in await page.run("document.querySelector('.mini').getAttribute('aria-label')")

    run(scenario())


def test_an_empty_page_says_what_to_do(browser: Chromium, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serve(data_dir=tmp_path) as gateway, browser.page(gateway.url, width=400) as page:
            await page.wait("document.querySelector('#state').dataset.state === 'live'")
            assert await page.visible("#empty")
            assert f"{gateway.url}/v1" in await page.text("#empty")
            for part in ("verdict", "models", "scatter-panel", "timeline-panel", "recent", "advice", "demo"):
                assert not await page.visible(f"#{part}"), part
            assert await page.run("document.documentElement.scrollWidth") <= 400
            assert page.problems == []

    run(scenario())


def test_a_time_without_requests_says_that_there_were_some_before(browser: Chromium, tmp_path: Path) -> None:
    async def scenario() -> None:
        old = [event for event in requests([JUMBO], 20, seconds=90_000) if event.ended_at][:10]
        write(tmp_path, old)
        async with serve(data_dir=tmp_path) as gateway, browser.page(gateway.url) as page:
            await gateway.counted(10)
            await page.wait("document.querySelector('#empty-title').textContent === 'No requests in this time'")
            assert await page.visible("#empty-range")
            assert not await page.visible("#empty-how")

    run(scenario())


def test_only_uncovered_models(browser: Chromium, tmp_path: Path) -> None:
    """Nothing is idealized: the page says so and what to do, and shows raw against denoised once that is known."""

    async def scenario() -> None:
        write(tmp_path, list(requests([UNKNOWN], 300)))
        async with serve(data_dir=tmp_path) as gateway, browser.page(f"{gateway.url}/#range=all") as page:
            await settled(page, 300)
            assert await page.run("document.querySelector('#figure-slowdown').dataset.value") == ""
            advice = await page.text("#advice")
            assert UNKNOWN.model in advice
            assert f"assume: {{{UNKNOWN.model}: " in advice
            assert "uncovered" in advice
            assert "no idealized runtime" in await page.text("#model-rows .badges")
            await baselines_known(gateway)
            write(tmp_path, list(requests([UNKNOWN], 60, seed=2, seconds=5)))
            await page.wait("document.querySelector('#figure-contention').dataset.value")
            assert await page.wait("document.querySelector('#scatter-axis input:checked').value === 'denoised'")
            assert "denoised" in await page.text("#scatter-title")
            await page.wait(
                "Number(document.querySelector('.scatter-box').getAttribute('aria-label').split(' ')[0]) > 0"
            )
            assert "model and stack" in await page.text("#waterfall")
            assert "own best" in await page.text("#headline")
            assert page.problems == []

    run(scenario())


async def baselines_known(gateway: Any) -> None:
    await until(lambda: len(gateway.control.stream.metrics.baselines) > 0)


def test_an_outage_is_no_calm_page(browser: Chromium, tmp_path: Path) -> None:
    async def scenario() -> None:
        write(tmp_path, list(requests([replace(JUMBO, failing=1.0), replace(DAVINCI, failing=1.0)], 41)))
        async with serve(data_dir=tmp_path) as gateway, browser.page(f"{gateway.url}/#range=all") as page:
            await settled(page, 41)
            assert await page.text("#headline") == "No request completes: 41 of 41 failed, status 503"
            assert await page.text("#figure-failed") == "100%"
            assert "requests fail" in await page.text("#state")
            for dark in (False, True):
                await page.theme(dark=dark)
                alarm = await page.run(COLOUR.replace("it", "'#headline'"))
                assert alarm == await page.run(COLOUR.replace("it", "'#model-rows .badge.bad'"))
                assert alarm != await page.run(COLOUR.replace("it", "'#figure-requests'"))
                contrasts = await page.run(CONTRAST)
                assert min(contrasts)[0] >= 4.5, sorted(contrasts)[:5]
            for part in ("verdict-seconds", "timeline-panel", "scatter-panel"):
                assert not await page.visible(f"#{part}"), part
            assert await page.run("document.querySelectorAll('#recent-rows .badge.bad').length") > 0
            assert page.problems == []

    run(scenario())


COLOUR = "getComputedStyle(document.querySelector(it)).color"


def test_what_fails_is_said_beside_what_completes(browser: Chromium, tmp_path: Path) -> None:
    async def scenario() -> None:
        write(tmp_path, list(requests([JUMBO, replace(LARGE, failing=1.0)], 60)))
        async with serve(data_dir=tmp_path) as gateway, browser.page(f"{gateway.url}/#range=all", width=400) as page:
            await settled(page, 60)
            groups = (await ask(gateway.url, target="/trueclock/v1/summary?by=model,upstream")).json["groups"]
            (large,) = (group for group in groups if group["model"] == LARGE.model)
            failed = large["failed"]
            assert 5 < failed == large["requests"] < 60
            assert f"{failed} of 60 requests failed" in await page.text("#failing")
            assert await page.text("#figure-failed-sub") == f"{failed} of 60"
            badges = await page.run(
                "[...document.querySelectorAll('#model-rows .badge.bad')].map(it => it.textContent)"
            )
            assert badges == [f"{failed} of {failed} failed (100%): status 503"]
            assert "idealized runtime" in await page.text("#headline")
            assert await page.text("#state") == "live"
            assert await page.run("document.documentElement.scrollWidth") <= 400

    run(scenario())


def test_a_lost_connection_is_told_and_found_again(browser: Chromium, tmp_path: Path) -> None:
    async def scenario() -> None:
        write(tmp_path, list(requests([JUMBO], 30)))
        async with AsyncExitStack() as open_pages:
            async with serve(data_dir=tmp_path) as gateway:
                port = int(gateway.url.rpartition(":")[2])
                page = await open_pages.enter_async_context(browser.page(f"{gateway.url}/#range=all"))
                await settled(page, 30)
            await page.wait("document.querySelector('#state').dataset.state === 'lost'")
            assert await page.visible("#lost")
            assert "No answer from the gateway" in await page.text("#lost")
            assert await page.run("document.querySelector('#figure-requests').dataset.value") == "30"
            low = min(await page.run(CONTRAST))
            assert low[0] >= 4.5, low
            write(tmp_path, list(requests([JUMBO], 5, seed=2, seconds=1)))
            async with serve(data_dir=tmp_path, port=port):
                await page.wait("document.querySelector('#state').dataset.state === 'live'")
                await settled(page, 35)
                await page.wait("document.querySelector('.scatter-box').getAttribute('aria-label').startsWith('35 ')")
                assert not await page.visible("#lost")
            assert all("ERR_CONNECTION_REFUSED" in problem for problem in page.problems)

    run(scenario())


def test_another_gateway_at_the_same_address_is_shown_as_it_is(browser: Chromium, tmp_path: Path) -> None:
    """Its tables lack the stack that was shown, and its counts begin anew."""

    async def scenario() -> None:
        predicted = Provider("meta-llama/Llama-3.1-70B-Instruct")
        first, second = tmp_path / "first", tmp_path / "second"
        for folder, provider, number in ((first, predicted, 30), (second, JUMBO, 7)):
            folder.mkdir()
            write(folder, list(requests([provider], number)))
        async with AsyncExitStack() as open_pages:
            async with serve(data_dir=first) as gateway:
                port = int(gateway.url.rpartition(":")[2])
                page = await open_pages.enter_async_context(browser.page(f"{gateway.url}/#range=all"))
                await settled(page, 30)
                await page.wait("document.querySelector('#stack').value === 'h100-predicted'")
            await page.wait("document.querySelector('#state').dataset.state === 'lost'")
            tables = load_tables()
            known = tuple(name for name in tables.references if name != "h100-predicted")
            tables = replace(tables, references=known, found={}, functions={})
            async with serve(data_dir=second, port=port, tables=tables):
                await settled(page, 7)
                await page.wait("document.querySelector('#stack').value === 'a100-megatron'")
                await page.wait("document.querySelector('.scatter-box').getAttribute('aria-label').startsWith('7 ')")
                assert "j1-jumbo" in await page.text("#scatter-legend")

    run(scenario())


def test_ten_thousand_requests(browser: Chromium, tmp_path: Path) -> None:
    async def scenario() -> None:
        write(tmp_path, list(requests(EVERYTHING, 11_000)))
        async with serve(data_dir=tmp_path) as gateway:
            await gateway.counted(11_000)
            async with browser.page(f"{gateway.url}/#range=all") as page:
                await settled(page, 11_000)
                shown = await page.run("document.querySelector('.scatter-box').getAttribute('aria-label')")
                told = (await ask(gateway.url, target="/trueclock/v1/requests")).json
                assert len(told["id"]) == 10_000
                covered = [
                    excluded is None and idealized is not None
                    for excluded, idealized in zip(told["excluded"], told["idealized"], strict=True)
                ]
                assert int(shown.split()[0].replace(",", "")) == sum(covered)
                assert page.problems == []

    run(scenario())
