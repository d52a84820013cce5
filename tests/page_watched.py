"""A gateway that has counted made-up events, and its page in a real Chromium: what tests of the page share."""

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from stream.events import RequestEvent
from tests.chromium import Chromium, Page
from tests.harness import ServedGateway, ask, serve
from tests.page_events import write


@asynccontextmanager
async def watched(
    browser: Chromium,
    data_dir: Path,
    events: Sequence[RequestEvent],
    choices: str = "range=all",
    settings: dict[str, Any] | None = None,
    **window: Any,
) -> AsyncIterator[tuple[ServedGateway, Page]]:
    """A gateway that has counted the events, and its page showing all of them."""
    if events:
        write(data_dir, events)
    async with serve(data_dir=data_dir, **(settings or {})) as gateway:
        await gateway.counted(len(events))
        async with browser.page(f"{gateway.url}/#{choices}", **window) as page:
            await page.wait("document.documentElement.dataset.shown >= 1")
            yield gateway, page


async def summary(gateway: ServedGateway, query: str = "") -> Any:
    return (await ask(gateway.url, target=f"/trueclock/v1/summary?by=model,upstream{query}")).json


async def shown(page: Page, selector: str) -> float | None:
    """The number behind a text, as exact as the page has it."""
    text = await page.run(f"document.querySelector({json.dumps(selector)}).dataset.value")
    return float(text) if text else None
