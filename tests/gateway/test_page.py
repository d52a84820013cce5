"""The live page in a real Chromium, on a real gateway: its figures, its choices, the request inspector."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.chromium import FOUND, Chromium, Page
from tests.harness import ask, chat, run, serve, until
from tests.page_events import DAVINCI, JUMBO, LARGE, UNKNOWN, Provider, requests, write
from tests.page_watched import shown, summary, watched
from tests.servers.openai_like import OpenAILike

pytestmark = pytest.mark.skipif(FOUND is None, reason="chromium is not installed: apt-get install chromium")

EVERYTHING = (JUMBO, LARGE, DAVINCI, UNKNOWN)


@pytest.fixture(scope="module")
def browser() -> Iterator[Chromium]:
    with Chromium() as found:
        yield found


ROWS = """[...document.querySelectorAll('#model-rows tr')].map(row => ({
  name: row.querySelector('button.name').textContent, upstream: row.querySelector('.upstream').textContent,
  text: row.innerText, mean: row.querySelector('.mean').dataset.value,
  ...Object.fromEntries([...row.querySelectorAll('td.number')].map(cell => [cell.dataset.field, cell.dataset.value])),
}))"""


def test_the_page_says_what_the_summary_says(browser: Chromium, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with watched(browser, tmp_path, list(requests(EVERYTHING, 400))) as (gateway, page):
            known = gateway.control.stream.metrics
            await until(lambda: len(known.baselines) >= 2)
            write(tmp_path, list(requests(EVERYTHING, 200, seed=2, seconds=20)))
            await page.wait("document.querySelector('#figure-requests').dataset.value === '600'")
            assert "±" in await page.text("#model-rows")
            told = await summary(gateway)
            total = told["total"]
            assert total["denoised_requests"] >= total["decomposed_requests"] > 0
            assert await shown(page, "#figure-requests") == total["requests"] == 600
            assert await shown(page, "#figure-raw") == total["raw_p50"]
            assert await shown(page, "#figure-slowdown") == total["slowdown"]
            assert await shown(page, "#figure-contention") == total["contention"]
            assert await shown(page, "#figure-faster") == total["faster_than_idealized"]
            assert await page.text("#figure-slowdown") == f"{total['slowdown']:.2f}\N{MULTIPLICATION SIGN}"
            rows = {(row["name"], row["upstream"]): row for row in await page.run(ROWS)}
            assert len(rows) == len(told["groups"]) == len(EVERYTHING)
            for group in told["groups"]:
                row = rows[group["model"], group["upstream"]]
                assert {name: number(row[name]) for name in expected(group)} == expected(group)
            parts = {part: await waterfall(page, part) for part in ("model", "stack", "contention", "raw")}
            sums = {part: total[f"{part}_seconds"] for part in ("stack", "contention", "raw")}
            sums["model"] = total["idealized_seconds"]
            assert parts == {part: seconds / total["covered"] for part, seconds in sums.items()}
            untold = await waterfall(page, "mixed-stack-contention")
            assert untold == pytest.approx(parts["raw"] - parts["model"] - parts["stack"] - parts["contention"])
            assert page.problems == []
            assert all(url.startswith((gateway.url, "data:")) for url in page.loaded)

    run(scenario())


async def waterfall(page: Page, part: str) -> float | None:
    return await shown(page, f"#waterfall .line-{part} .value")


def number(text: str) -> float | None:
    return float(text) if text else None


def expected(group: dict[str, Any]) -> dict[str, float | None]:
    return {
        "requests": group["requests"],
        "p50": group["raw_p50"],
        "p95": group["raw_p95"],
        "denoised": mean(group["denoised_seconds"], group["denoised_requests"]),
        "idealized": mean(group["idealized_seconds"], group["covered"]),
        "slowdown": group["slowdown"],
        "contention": group["contention"],
        "faster": group["faster_than_idealized"] if group["covered"] else None,
    }


def mean(total: float, count: int) -> float | None:
    return total / count if count else None


def test_before_a_baseline_stack_and_contention_are_one_part(browser: Chromium, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with watched(browser, tmp_path, list(requests([JUMBO, DAVINCI], 40))) as (gateway, page):
            lines = await page.run(
                "[...document.querySelectorAll('#waterfall li')].map(line => [line.querySelector('.part').textContent,"
                " Number(line.querySelector('.value').dataset.value), line.querySelector('.value').textContent,"
                " line.querySelector('.bar').classList.contains('negative')])"
            )
            *parts, (raw_name, raw, _, _) = lines
            assert raw_name == "raw"
            assert sum(part[1] for part in parts) == pytest.approx(raw)
            total = (await summary(gateway))["total"]
            assert total["decomposed_requests"] == 0
            assert [part[0] for part in parts] == ["model", "stack and contention"]
            assert raw == total["raw_seconds"] / total["covered"]
            for _, size, text, negative in parts:
                assert negative == (size < 0) == text.startswith("\N{MINUS SIGN}")

    run(scenario())


def test_it_follows_the_traffic(browser: Chromium, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with (
            OpenAILike() as upstream,
            serve(upstream.url, data_dir=tmp_path) as gateway,
            browser.page(gateway.url) as page,
        ):
            await page.wait("document.querySelector('#state').dataset.state === 'live'")
            assert await page.visible("#empty")
            for count in (1, 3):
                while len(upstream.requests) < count:
                    await chat(gateway.url, "davinci")
                await page.wait(f"document.querySelector('#figure-requests').dataset.value === '{count}'")
                await page.wait(f"document.querySelectorAll('#recent-rows tr').length === {count}")
            assert not await page.visible("#empty")
            assert "davinci" in await page.text("#model-rows")
            assert page.problems == []

    run(scenario())


def test_the_reference_stack_can_be_switched(browser: Chromium, tmp_path: Path) -> None:
    async def scenario() -> None:
        events = list(requests([JUMBO, LARGE], 100))
        async with watched(browser, tmp_path, events) as (gateway, page):
            first = (await summary(gateway))["stack"]
            assert await page.run("document.querySelector('#stack').value") == first
            await choose(page, "#stack", "v100-megatron")
            told = await summary(gateway, "&stack=v100-megatron")
            await page.wait(
                f"document.querySelector('#figure-slowdown').dataset.value === '{told['total']['slowdown']}'"
            )
            assert await page.run("location.hash") == "#range=all&stack=v100-megatron"
            newest = told["recent"][0]["idealized_runtime_seconds"]
            assert newest not in (None, (await summary(gateway))["recent"][0]["idealized_runtime_seconds"])
            assert await page.text("#recent-rows td:last-child") == await page.run(
                f"import('/trueclock/v1/page/dom.js').then(it => it.seconds({newest}))"
            )
            await page.reload()
            await page.wait("document.querySelector('#stack').value === 'v100-megatron'")
            assert await shown(page, "#figure-slowdown") == told["total"]["slowdown"]

    run(scenario())


async def choose(page: Page, selector: str, value: str) -> None:
    await page.run(
        f"(() => {{ const it = document.querySelector({json.dumps(selector)}); it.value = {json.dumps(value)};"
        " it.dispatchEvent(new Event('change', {bubbles: true})); })()"
    )


def test_the_stack_that_covers_most_is_shown_unless_one_was_chosen(browser: Chromium, tmp_path: Path) -> None:
    async def scenario() -> None:
        predicted = Provider("meta-llama/Llama-3.1-70B-Instruct", "vllm.test")
        events = list(requests([predicted, predicted, predicted, JUMBO], 80))
        async with watched(browser, tmp_path, events) as (gateway, page):
            stacks = {stack["name"]: stack["covered"] for stack in (await summary(gateway))["stacks"]}
            best = max(stacks, key=lambda name: stacks[name])
            assert stacks[best] > stacks["a100-megatron"] > 0
            await page.wait(f"document.querySelector('#stack').value === '{best}'")
            assert "predicted" in await page.text("#model-rows .badge.unsure")
            async with browser.page(f"{gateway.url}/#range=all&stack=a100-megatron") as chosen:
                await chosen.wait("document.documentElement.dataset.shown >= 2")
                assert await chosen.run("document.querySelector('#stack').value") == "a100-megatron"
                assert f"gateway run --stack {best}" in await chosen.text("#advice")

    run(scenario())


def test_the_time_range_can_be_chosen(browser: Chromium, tmp_path: Path) -> None:
    async def scenario() -> None:
        old = list(requests([JUMBO], 60, seconds=9000))
        async with watched(browser, tmp_path, old, choices="") as (gateway, page):
            counts = {}
            for value, since in (("15m", "&since=15m"), ("1h", "&since=1h"), ("6h", "&since=6h"), ("all", "")):
                await page.click(f"#range input[value='{value}']")
                told = (await summary(gateway, since))["total"]
                counts[value] = told["requests"]
                await page.wait(f"document.querySelector('#figure-requests').dataset.value === '{told['requests']}'")
                assert await page.run("new URLSearchParams(location.hash.slice(1)).get('range') ?? '15m'") == value
            assert 0 < counts["15m"] < counts["1h"] < counts["6h"] == counts["all"] == 60

    run(scenario())


def test_a_point_is_inspected_by_mouse(browser: Chromium, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with watched(browser, tmp_path, list(requests([JUMBO, DAVINCI], 300))) as (gateway, page):
            await page.wait("document.querySelector('.scatter-box')?.getAttribute('aria-label')?.startsWith('300 ')")
            x, y = await find_point(page)
            await page.click_at(x, y)
            found = await page.wait("document.querySelector('#inspector-body').dataset.id")
            told = (await ask(gateway.url, target=f"/trueclock/v1/explain/{found}")).json
            words = await page.text("#inspector-body")
            assert told["sentences"][0] in words
            assert told["event"]["model"] in words
            sizes = await page.run(
                "[...document.querySelectorAll('#inspector .value')].map(each => Number(each.dataset.value))"
            )
            assert sizes[:-1] == [part["seconds"] for part in told["parts"]]
            assert sizes[-1] == told["raw_seconds"]
            await page.click("#inspector-close")
            assert not await page.visible("#inspector")

    run(scenario())


async def find_point(page: Page) -> tuple[float, float]:
    """Move the mouse along the diagonal until a request is under it."""
    left, top, width, height = await page.run(
        "(() => { const box = document.querySelector('.scatter-box'); box.scrollIntoView({block: 'center'});"
        " const r = box.getBoundingClientRect(); return [r.left, r.top, r.width, r.height]; })()"
    )
    for step in range(1, 40):
        x, y = left + width * step / 40, top + height * (1 - step / 40)
        await page.send("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
        if await page.visible(".tip"):
            return x, y
    raise AssertionError("no point near the diagonal")


def test_a_request_is_inspected_by_keyboard(browser: Chromium, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with watched(browser, tmp_path, list(requests([JUMBO], 50))) as (_, page):
            await page.wait("document.querySelector('.scatter-box')?.getAttribute('aria-label')?.startsWith('50 ')")
            await tab_to(page, ".scatter-box")
            await page.press("ArrowLeft")
            last = await page.text(".tip")
            await page.press("ArrowLeft")
            assert await page.text(".tip") != last
            await page.press("End")
            assert await page.text(".tip") == last
            assert (await page.text(".scatter [aria-live]")) == last
            await page.press("Enter")
            await page.wait("document.querySelector('#inspector-body').dataset.id")
            assert await page.run("document.querySelector('#inspector').contains(document.activeElement)")
            assert "request=" in await page.run("location.hash")
            await page.press("Escape")
            assert not await page.visible("#inspector")
            assert await page.run("document.activeElement.className") == "scatter-box"
            await tab_to(page, "#recent-rows button")
            newest = await page.run("document.activeElement.dataset.id")
            await page.press("Enter")
            await page.wait(f"document.querySelector('#inspector-body').dataset.id === '{newest}'")

    run(scenario())


async def tab_to(page: Page, selector: str) -> None:
    for _ in range(60):
        await page.press("Tab")
        if await page.run(f"document.activeElement.matches({json.dumps(selector)})"):
            return
    raise AssertionError(f"{selector} is not reached by Tab")


def test_a_link_to_a_request_opens_it(browser: Chromium, tmp_path: Path) -> None:
    async def scenario() -> None:
        events = list(requests([JUMBO], 10))
        choices = f"range=all&request={events[3].id}"
        async with watched(browser, tmp_path, events, choices) as (_, page):
            await page.wait(f"document.querySelector('#inspector-body').dataset.id === '{events[3].id}'")
            assert page.problems == []

    run(scenario())


def test_a_request_that_is_gone_is_said_to_be_gone(browser: Chromium, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with watched(browser, tmp_path, list(requests([JUMBO], 5)), "request=0123456789ab") as (_, page):
            await page.wait("document.querySelector('#inspector-body').textContent.includes('cannot be explained')")
            assert "0123456789ab" in await page.text("#inspector-body")

    run(scenario())


def test_one_model_over_time(browser: Chromium, tmp_path: Path) -> None:
    async def scenario() -> None:
        events = list(requests([JUMBO, DAVINCI], 100, seconds=240))
        async with watched(browser, tmp_path, events, choices="") as (gateway, page):
            series = (await ask(gateway.url, target="/trueclock/v1/series?since=15m&by=model,upstream")).json
            (davinci,) = (group for group in series["groups"] if group["model"] == DAVINCI.model)
            await page.run(
                "[...document.querySelectorAll('button.name')].find(b => b.textContent.includes('davinci')).click()"
            )
            await page.wait("document.querySelector('#ratios').getAttribute('aria-label').startsWith('openai/davinci')")
            await page.run("document.querySelector('#timeline-table').parentElement.open = true")
            rows = await page.wait(
                "[...document.querySelectorAll('#timeline-table tbody tr')].map(row => row.children[1].textContent)"
            )
            assert sum(map(int, rows)) == sum(davinci["requests"])
            assert await page.run("document.querySelectorAll('#model-rows .chosen').length") == 1

    run(scenario())


def test_an_address_with_choices_that_are_none_shows_the_usual(browser: Chromium, tmp_path: Path) -> None:
    async def scenario() -> None:
        choices = "range=forever&stack=no-such-stack&of=%7Bnot-json"
        async with watched(browser, tmp_path, list(requests([JUMBO], 20)), choices) as (gateway, page):
            await page.wait("document.querySelector('#state').dataset.state === 'live'")
            assert await shown(page, "#figure-requests") == 20
            assert await page.run("document.querySelector('#stack').value") == (await summary(gateway))["stack"]
            assert await page.run("document.querySelector('#range input:checked').value") == "15m"
            assert "all models" in await page.run("document.querySelector('#ratios').getAttribute('aria-label')")

    run(scenario())
