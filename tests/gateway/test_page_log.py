"""What the live page says of the event log and of the forwarder to Kafka, and that workers serve it as one process does."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.chromium import FOUND, Chromium, Page
from tests.gateway.test_workers import Workers
from tests.harness import chat, run, serve, within
from tests.servers.openai_like import OpenAILike

pytestmark = pytest.mark.skipif(FOUND is None, reason="chromium is not installed: apt-get install chromium")

LOG: dict[str, Any] = {
    "rows": 1200, "bytes": 2_500_000, "backlog": 0, "dropped": {"disk": 0, "retention": 0, "unreadable": 0},
    "failing": None, "slowest_commit_seconds": 0.002,
}  # fmt: skip
FORWARDER: dict[str, Any] = {"topic": "llm.requests", "acknowledged": 1200, "lost": 0, "missed": 0, "failing": None}
OWN = "Event log: rows 1,200 · size 2.5 MB · backlog 0 · dropped disk 0 · dropped retention 0 · dropped unreadable 0 · slowest commit 2.0 ms"
FORWARDED = "Kafka: topic llm.requests · acknowledged 1,200 · lost 0 · missed 0"
# What is reported, the line at the bottom, what is on top.
SAID = [
    (LOG, OWN, ""),
    (LOG | {"forwarder": FORWARDER}, f"{OWN}. {FORWARDED}", ""),
    (
        LOG | {"dropped": {"disk": 3}, "failing": "disk full"},
        None,
        "Some events are not recorded; requests go on. dropped disk 3, failing disk full",
    ),
    (
        LOG | {"forwarder": FORWARDER | {"failing": "127.0.0.1:1: refused"}},
        None,
        "Kafka does not have all events; requests go on. failing 127.0.0.1:1: refused",
    ),
    (
        LOG | {"dropped": {"disk": 3}, "forwarder": FORWARDER | {"missed": 2}},
        None,
        "Some events are not recorded; requests go on. dropped disk 3. Kafka does not have all events; requests go on. missed 2",
    ),
]

# At once, or the page's own turn would come between.
SHOWN = """import('/trueclock/v1/page/lists.js').then(it => {
    it.showLog(%s);
    const [log, trouble] = ['log', 'trouble'].map(name => document.getElementById(name));
    return [log.textContent, trouble.hidden, trouble.textContent];
})"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Chromium]:
    with Chromium() as started:
        yield started


def test_a_configuration_that_was_refused_is_told_of_on_top(browser: Chromium) -> None:
    async def scenario() -> None:
        async with serve() as gateway, browser.page(gateway.url) as page:
            await page.wait("document.documentElement.dataset.shown >= 1")
            refused = json.dumps({"failing": "config.yaml:3: no such key"})
            _, hidden, said = await page.run(SHOWN % f"{json.dumps(LOG)}, {refused}")
            assert (hidden, said) == (False, "The configuration was not changed: config.yaml:3: no such key")

    run(scenario())


def test_the_log_and_the_forwarder_are_told_of_and_what_fails_is_on_top(browser: Chromium) -> None:
    async def scenario() -> None:
        async with serve() as gateway, browser.page(gateway.url) as page:
            await page.wait("document.documentElement.dataset.shown >= 1")
            for log, line, trouble in SAID:
                found, hidden, top = await page.run(SHOWN % json.dumps(log))
                assert line is None or found.replace("\u00a0", " ") == line
                assert hidden == (not trouble)
                assert not trouble or top == trouble

    run(scenario())


def test_the_page_of_workers_is_live_and_goes_on_when_the_control_process_is_replaced(
    browser: Chromium, tmp_path: Path
) -> None:
    async def shown(page: Page, count: int) -> None:
        while f"rows {count} " not in await page.run("document.getElementById('log').textContent"):
            await asyncio.sleep(0.05)

    async def scenario() -> None:
        async with OpenAILike() as upstream, Workers("--upstream", upstream.url, data_dir=tmp_path) as gateway:
            async with browser.page(gateway.url) as page:
                await page.wait("document.documentElement.dataset.shown >= 1")
                for count in (1, 2, 3):
                    assert (await chat(gateway.url)).status == 200
                    await within(shown(page, count))
                    await gateway.kill("control")

    run(scenario())
