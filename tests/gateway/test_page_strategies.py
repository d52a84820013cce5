"""What a right answer costs, on the live page: accuracy against cost, the frontier, in a real Chromium on a gateway."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from stream.events import RequestEvent
from tests.chromium import FOUND, Chromium, Page
from tests.harness import ServedGateway, ask, run, serve
from tests.page_events import DAVINCI, JUMBO, LARGE, requests
from tests.page_figures import call
from tests.page_watched import watched

pytestmark = pytest.mark.skipif(FOUND is None, reason="chromium is not installed: apt-get install chromium")

PROBLEMS = 8
SAMPLES = {"greedy": 1, "majority": 5, "best-of-n": 3}
SECTION = "#strategies"
FASTER = """
  const wait = setTimeout, now = performance.now.bind(performance);
  window.setTimeout = (call, ms, ...rest) => wait(call, ms / 8, ...rest);
  performance.now = () => now() * 8;
"""  # its seconds are an eighth of one
OUTCOMES = "/trueclock/v1/outcomes"


@pytest.fixture(scope="module")
def browser() -> Iterator[Chromium]:
    with Chromium() as found:
        yield found


def attempts(number: int = PROBLEMS) -> list[RequestEvent]:
    """Requests of so many problems: two models, greedy by both, two further strategies by one."""
    tried = [(DAVINCI, "greedy"), (JUMBO, "greedy"), (JUMBO, "majority"), (JUMBO, "best-of-n")]
    found = []
    for seed, (provider, strategy) in enumerate(tried):
        events = requests([provider], number * SAMPLES[strategy], seed=seed, seconds=300)
        for index, event in enumerate(events):
            found.append(structs.replace(event, problem=f"sum-{index % number}", strategy=strategy))
    return found


def outcomes(number: int = PROBLEMS) -> bytes:
    """Majority is right on all but one problem, best-of-n on six, greedy on fewer; nothing solves the last."""
    right = {("majority", JUMBO): 7, ("best-of-n", JUMBO): 6, ("greedy", JUMBO): 5, ("greedy", DAVINCI): 4}
    return b"\n".join(
        json.dumps({"problem": f"sum-{n}", "strategy": strategy, "model": provider.model, "correct": n < best}).encode()
        for (strategy, provider), best in right.items()
        for n in range(number)
    )


@asynccontextmanager
async def compared(
    browser: Chromium, data_dir: Path, choices: str = "range=all", **window: Any
) -> AsyncIterator[tuple[ServedGateway, Page]]:
    """A gateway that holds strategies with outcomes, and its page with the section in view."""
    async with watched(browser, data_dir, attempts(), choices, before=FASTER, **window) as (gateway, page):
        await judge(gateway, outcomes())
        await page.run(f"document.querySelector('{SECTION}').scrollIntoView()")
        await page.wait("document.querySelectorAll('#strategy-table tbody tr').length === 4", 40)
        yield gateway, page


async def judge(gateway: ServedGateway, body: bytes) -> None:
    assert (await ask(gateway.url, "POST", OUTCOMES, body)).status == 202


async def told_of(gateway: ServedGateway, query: str = "") -> Any:
    return (await ask(gateway.url, target=f"/trueclock/v1/strategies{query}")).json


ROWS = """[...document.querySelectorAll('#strategy-table tbody tr')].map(row => [
  ...JSON.parse(row.dataset.key), row.querySelector('.star').textContent === '★',
  ...[...row.querySelectorAll('td.number')].map(cell => Number(cell.dataset.value ?? NaN))])"""
POINTS = """[...document.querySelectorAll('.strategy-box g[data-key]')].map(it => ({
  key: JSON.parse(it.dataset.key), x: Number(it.querySelector('circle').getAttribute('cx')),
  y: Number(it.querySelector('circle').getAttribute('cy')), pareto: it.querySelector('.pareto') !== null}))"""


def test_the_table_and_the_chart_say_what_the_gateway_says(browser: Chromium, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with compared(browser, tmp_path, "range=all&measure=dedicated_dollars") as (gateway, page):
            told = await told_of(gateway)
            expected = [
                [
                    row["model"], row["strategy"], row["measures"]["dedicated_dollars"]["pareto"],
                    *(row[name] for name in ("accuracy", "problems", "attempts", "samples")),
                    *(row["measures"]["dedicated_dollars"][name] for name in ("per_problem", "per_correct")),
                    row["unsolved_share"],
                ]
                for row in told["strategies"]
            ]  # fmt: skip
            assert await page.run(ROWS) == expected
            assert [row[1] for row in expected][:2] == ["majority", "best-of-n"]
            points = {tuple(point["key"]): point for point in await page.run(POINTS)}
            assert len(points) == 4
            ranked = sorted(expected, key=lambda row: row[7])
            assert [points[row[0], row[1]]["x"] for row in ranked] == sorted(point["x"] for point in points.values())
            ranked = sorted(expected, key=lambda row: -row[3])
            assert [points[row[0], row[1]]["y"] for row in ranked] == sorted(point["y"] for point in points.values())
            assert [points[row[0], row[1]]["pareto"] for row in expected] == [row[2] for row in expected]
            assert await page.run("document.querySelectorAll('.strategy-box .frontier').length") == 1
            names = await page.run("[...document.querySelectorAll('.strategy-box .label')].map(it => it.textContent)")
            assert f"majority, {JUMBO.model}" in names
            frontier = told["frontier"]["dedicated_dollars"]
            words = await page.text("#strategy-frontier")
            assert "infinite, as 1 of 8 judged problems is solved by none" in words
            assert frontier["unsolved"] == 1
            assert f"${frontier['solved_mean']:.3g}" in words
            assert page.problems == []

    run(scenario())


def test_the_measure_and_a_humans_cost_can_be_chosen(browser: Chromium, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with compared(browser, tmp_path) as (gateway, page):
            told = await told_of(gateway, "?human_dollars=0.5")
            offered = await page.run("[...document.querySelector('#strategy-measure').options].map(it => it.value)")
            assert {"dedicated_dollars", "idealized_seconds"} <= set(offered)
            assert "billed_dollars" not in offered  # no price of any of these models is known
            await choose(page, "#strategy-measure", "idealized_seconds")
            cost = {row[1]: row[7] for row in await page.run(ROWS) if row[0] == JUMBO.model}
            assert cost == {
                row["strategy"]: row["measures"]["idealized_seconds"]["per_problem"]
                for row in told["strategies"]
                if row["model"] == JUMBO.model
            }
            await choose(page, "#strategy-measure", "dedicated_dollars")
            await choose(page, "#strategy-human", "0.5")
            words = await page.wait(
                "(text => text.includes('human') && text)(document.querySelector('#strategy-frontier').textContent)"
            )
            assert words.startswith(f"Frontier cost of pass: ${told['frontier']['dedicated_dollars']['mean']:.3g}")
            assert "by a human at $0.500" in words
            assert await page.run("location.hash") == "#range=all&measure=dedicated_dollars&human=0.5"
            assert page.problems == []

    run(scenario())


async def choose(page: Page, selector: str, value: str) -> None:
    found = f"document.querySelector({json.dumps(selector)})"
    await page.run(f"{found}.value = {json.dumps(value)}; {found}.dispatchEvent(new Event('change'))")


def test_points_can_be_chosen_by_keyboard_and_mouse(browser: Chromium, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with compared(browser, tmp_path) as (_, page):
            await page.run("document.querySelector('.strategy-box').focus()")
            await page.press("ArrowRight")
            first = await page.text("#strategy-plot [aria-live]")
            assert "greedy" in first
            assert await page.text(".strategy-box .tip") == first
            assert await page.run("document.querySelectorAll('#strategy-table .chosen').length") == 1
            await page.press("End")
            assert "majority" in await page.text("#strategy-plot [aria-live]")
            chosen = await page.run("JSON.parse(document.querySelector('#strategy-table .chosen').dataset.key)")
            assert chosen == [JUMBO.model, "majority"]
            await page.run("document.activeElement.blur()")
            assert not await page.visible(".strategy-box .tip")
            await page.click('.strategy-box g[data-key*="best-of-n"] circle')
            assert "best-of-n" in await page.text(".strategy-box .tip")
            assert "8 problems" in await page.text(".strategy-box .tip")

    run(scenario())


def test_it_follows_outcomes_while_it_is_seen(browser: Chromium, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with compared(browser, tmp_path) as (gateway, page):
            better = {"problem": "sum-7", "strategy": "majority", "model": JUMBO.model, "correct": True}
            await judge(gateway, json.dumps(better).encode())
            await page.wait("document.querySelector('#strategy-table tbody td[data-value=\"1\"]')")
            await page.wait("!document.querySelector('#strategy-frontier').textContent.includes('solved by none')")
            await page.run("scrollTo(0, 0)")
            await page.wait("document.querySelector('#strategies').getBoundingClientRect().top > innerHeight")
            await asyncio.sleep(0.5)  # the observer's turn
            asked = [url for url in page.loaded if "/strategies" in url]
            shown = int(await page.run("document.documentElement.dataset.shown"))
            await page.wait(f"document.documentElement.dataset.shown >= {shown + 7}")
            assert [url for url in page.loaded if "/strategies" in url] == asked

    run(scenario())


def test_without_problems_it_says_how_to_begin(browser: Chromium, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with watched(browser, tmp_path, list(requests([LARGE], 10))) as (gateway, page):
            assert await page.visible(SECTION)
            assert not await page.visible("#strategy-found")
            assert not await page.visible("#strategy-choices")
            assert not await page.run("document.querySelector('#strategy-begin').open")
            await page.click("#strategy-begin summary")
            words = await page.text("#strategy-curl")
            assert "x-trueclock-problem" in words
            assert "x-trueclock-strategy" in words
            assert f"{gateway.url}{OUTCOMES}" in words
            assert [url for url in page.loaded if url.endswith("/strategies")] == []
            await judge(gateway, words.rpartition("-d '")[2].rstrip("'").encode())
            assert page.problems == []

    run(scenario())


def test_problems_without_outcomes_are_said_to_have_none(browser: Chromium, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with watched(browser, tmp_path, attempts()) as (_, page):
            await page.wait("document.querySelector('#strategy-state').textContent.includes('none with an outcome')")
            assert (await page.text("#strategy-state")).startswith(f"{PROBLEMS} problems")
            assert not await page.visible("#strategy-found")
            assert page.problems == []

    run(scenario())


def test_everything_can_be_read_at_any_width_in_dark_and_light(browser: Chromium, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with compared(browser, tmp_path) as (_, page):
            for width in (400, 720, 1000, 1280, 2200):
                await page.size(width)
                await page.run("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
                assert await page.run("document.documentElement.scrollWidth") <= width, width
                assert await page.run(OVERLAPS) == [], width
            for dark in (False, True):
                await page.theme(dark=dark)
                colours = await page.run(
                    "['.label', '.tick', '.axis'].map(name => getComputedStyle(document.querySelector(`.strategy-box ${name}`)).fill)"
                )
                text = await page.run(
                    "['--text', '--faint'].map(name => { const it = document.createElement('i'); it.style.color = `var(${name})`;"
                    " document.body.append(it); const { color } = getComputedStyle(it); it.remove(); return color; })"
                )
                assert colours == [text[0], text[1], text[0]]
            assert page.problems == []

    run(scenario())


# Names in the chart that cover each other, or leave it.
OVERLAPS = """(() => {
  const boxes = [...document.querySelectorAll('.strategy-box .label')].map(it => [it.textContent, it.getBBox()]);
  const { width } = document.querySelector('.strategy-box svg').getBoundingClientRect();
  const out = boxes.filter(([, b]) => b.x < 0 || b.x + b.width > width).map(([name]) => name);
  boxes.forEach(([name, a], i) => boxes.slice(i + 1).forEach(([other, b]) => {
    if (a.x < b.x + b.width && b.x < a.x + a.width && a.y + 3 < b.y + b.height && b.y + 3 < a.y + a.height) out.push([name, other]);
  }));
  return out;
})()"""

REFUSED = """
  const real = window.fetch;
  window.fetch = async (url, ...rest) => String(url).includes('/strategies')
    ? new Response(JSON.stringify({error: {message: 'trueclock: not now'}}), {status: 503}) : real(url, ...rest);
"""


def test_strategies_that_cannot_be_read_leave_the_rest_alone(browser: Chromium, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with watched(browser, tmp_path, attempts(), before=REFUSED) as (_, page):
            await page.wait("document.querySelector('#strategy-state').textContent.includes('not now')")
            await page.wait("document.querySelector('#state').dataset.state === 'live'")
            assert not await page.visible("#lost")
            assert page.problems == []

    run(scenario())


# --- the functions by themselves


def row(
    strategy: str, model: str | None = "m", accuracy: float | None = 0.5, cost: float | None = 2.0, **more: Any
) -> Any:
    """A strategy as the gateway tells of it."""
    measure = {"per_problem": cost, "per_correct": cost, "unknown_requests": 0 if cost else 3, "pareto": False}
    return {
        "model": model, "strategy": strategy, "problems": 10, "unjudged": 0, "attempts": 10, "correct": 5, "samples": 10,
        "accuracy": accuracy, "accuracy_low": 0.3, "accuracy_high": 0.7, "unsolved_share": 0.5,
        "measures": {"billed_dollars": measure, "flops": {**measure, "per_problem": 1e12}}, **more,
    }  # fmt: skip


def found(*rows: Any, mean: float | None = None, **more: Any) -> Any:
    frontier = {"mean": mean, "solved_mean": 1.5, "unsolved": 0, "unknown": 0, "human": None}
    frontier |= {name: more.pop(name) for name in list(more) if name in frontier}
    return {
        "judged": 10,
        "measures": ["flops", "billed_dollars"],
        "strategies": rows,
        "frontier": {"billed_dollars": frontier},
    } | more


FRONTIERS = [
    (found(mean=2.5), "$2.50, the mean over 10 judged problems of the least cost of a right answer over models and strategies."),
    (found(mean=None, unsolved=10, solved_mean=None), "infinite, as none of the problems is solved."),
    (found(mean=None, unsolved=2), "infinite, as 2 of 10 judged problems are solved by none. Over the others it is $1.50."),
    (found(mean=None, unknown=1), "not known, as at 1 problem the cost of what solved it is not."),
    (
        found(mean=2.5, unsolved=2, human=4),
        (
            "$2.50, the mean over 10 judged problems of the least cost of a right answer over models and strategies, or "
            "by a human at $4.00. 2 problems that none solved count at the human's cost."
        ),
    ),
]  # fmt: skip


def test_the_frontier_in_words(browser: Chromium) -> None:
    async def scenario() -> None:
        async with serve() as gateway, browser.page(gateway.url) as page:
            for told, words in FRONTIERS:
                said = await call(page, "strategies", "frontierOf", told, "billed_dollars")
                assert said == f"Frontier cost of pass: {words}"
            assert await call(page, "strategies", "frontierOf", found(judged=0), "billed_dollars") == ""

    run(scenario())


def test_what_is_left_out_is_told(browser: Chromium) -> None:
    async def scenario() -> None:
        async with serve() as gateway, browser.page(gateway.url) as page:
            told = found(
                row("a"), row("b", cost=None), unjudged_problems=1, failed=2, ambiguous=3, without_requests=1,
                dropped={"too_old": 4, "too_many": 0}, unlisted=2,
                unmatched=[
                    {"reason": "without_requests", "problem": "p", "strategy": "greddy", "model": None, "id": None},
                ],
            )  # fmt: skip
            notes = await call(page, "strategies", "notesOf", told, "billed_dollars")
            assert notes == [
                "Not drawn: 1 row whose billed dollars are not known for 3 requests.",
                (
                    "2 pairs of model and strategy not listed: only those that tried most problems are. A strategy's name is "
                    "the same for all problems."
                ),
                "1 problem without an outcome, in no figure here.",
                "2 requests failed, and added nothing to the costs.",
                (
                    "3 outcomes of problems that several models or strategies tried: name the model and strategy, or the "
                    "request's id."
                ),
                "1 outcome of which no request is known yet (the latest: p / greddy).",
                "No longer held: 4 (too old).",
            ]
            assert await call(page, "strategies", "notesOf", found(row("a")), "flops") == []
            assert await call(page, "strategies", "knownMeasures", told) == ["billed_dollars", "flops"]
            unpriced = found(row("b", cost=None))
            assert await call(page, "strategies", "knownMeasures", unpriced) == ["flops"]

    run(scenario())


def test_names_tell_rows_apart_and_say_no_more(browser: Chromium) -> None:
    async def scenario() -> None:
        async with serve() as gateway, browser.page(gateway.url) as page:
            one, two, other = row("greedy"), row("majority"), row("greedy", "n")
            for rows, names in (
                ([one, two], ["greedy", "majority"]),
                ([one, other], ["m", "n"]),
                ([one, two, other], ["greedy, m", "majority, m", "greedy, n"]),
                ([row("", None)], ["no strategy, no model"]),
            ):
                assert [await call(page, "strategies", "shortName", each, rows) for each in rows] == names

    run(scenario())


def test_the_frontier_is_a_staircase_and_the_axis_holds_the_intervals(browser: Chromium) -> None:
    async def scenario() -> None:
        async with serve() as gateway, browser.page(gateway.url) as page:
            points = [
                {"cost": cost, "accuracy": accuracy, "low": accuracy - 0.1, "high": accuracy + 0.1, "pareto": pareto}
                for cost, accuracy, pareto in ((4, 0.75, True), (1, 0.5, True), (2, 0.4, False), (2, 0.5, False))
            ]
            corners = await call(page, "strategy-plot", "staircase", points)
            assert corners == [[1, 0.5], [4, 0.5], [4, 0.75]]
            assert await call(page, "strategy-plot", "accuracyExtent", points) == [0.2, 0.9]
            alone = [{"low": 0.97, "high": 1}]
            assert await call(page, "strategy-plot", "accuracyExtent", alone) == [0.8, 1]
            assert await call(page, "strategy-plot", "accuracyExtent", [{"low": 0, "high": 0.03}]) == [0, 0.2]

    run(scenario())


def test_names_have_room_or_are_left_out(browser: Chromium) -> None:
    async def scenario() -> None:
        async with serve() as gateway, browser.page(gateway.url) as page:
            box = {"left": 0, "right": 200, "top": 0, "bottom": 100}
            crowd = [{"x": 100, "y": 50, "width": 80}] * 12
            places = await call(page, "strategy-plot", "placeLabels", crowd, box)
            kept = [(place["x"], place["y"], place["anchor"]) for place in places if place]
            assert 2 <= len(kept) < 12
            assert len(set(kept)) == len(kept)
            (wide,) = await call(page, "strategy-plot", "placeLabels", [{"x": 100, "y": 50, "width": 300}], box)
            assert wide is None
            line = [{"left": 0, "right": 100, "top": 30, "bottom": 60}]
            (beside,) = await call(page, "strategy-plot", "placeLabels", crowd[:1], box, line)
            assert beside["anchor"] == "start"

    run(scenario())
