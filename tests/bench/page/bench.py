"""The live page in Chromium on a real gateway: first paint with 10,000 requests, and its memory over an hour.

    python tests/bench/page/bench.py [--short]

First paint: navigation to the first contentful paint, and to all figures, charts and points drawn; the median of
`ROUNDS` loads, each in a fresh profile. Smoothness: the longest task of the page's own thread, and frames a second,
while 50 requests a second come in. Memory: 180,000 requests, an hour of 50 a second, arrive `FASTER` times as fast,
and the page's clock runs as much faster, so that it reads and draws some 2,000 times; live heap (objects, typed
arrays, elements) after a full collection.
"""

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from tests.chromium import FOUND, Chromium, Page
from tests.harness import ServedGateway, serve
from tests.page_events import DAVINCI, JUMBO, LARGE, UNKNOWN, requests, write

POINTS = 10_000
ROUNDS = 5
RATE = 50
FASTER = 20
PROVIDERS = (JUMBO, JUMBO, DAVINCI, LARGE, UNKNOWN)
_FASTER = f"""
  const wait = setTimeout, now = performance.now.bind(performance);
  window.setTimeout = (call, ms, ...rest) => wait(call, ms / {FASTER}, ...rest);
  performance.now = () => now() * {FASTER};
"""
_WATCH = """
  window.longest = 0;
  new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) window.longest = Math.max(window.longest, entry.duration);
  }).observe({type: 'longtask', buffered: true});
"""


async def first_paint(browser: Chromium, gateway: ServedGateway, rounds: int) -> None:
    """Print milliseconds from navigation to paint and to everything drawn."""
    paints, shown, tasks = [], [], []
    for _ in range(rounds):
        async with browser.page(f"{gateway.url}/#range=all", before=_WATCH) as page:
            await page.wait("performance.getEntriesByName('shown').length")
            shown.append(await page.run("performance.getEntriesByName('shown')[0].startTime"))
            paints.append(await page.wait("performance.getEntriesByName('first-contentful-paint')[0]?.startTime"))
            points = await page.run("document.querySelector('.scatter-box').getAttribute('aria-label')")
            tasks.append(await page.run("window.longest"))
    print(f"first contentful paint   {statistics.median(paints):6.0f} ms (worst {max(paints):.0f})")
    print(f"all figures and points   {statistics.median(shown):6.0f} ms (worst {max(shown):.0f})   [{points[:57]}]")
    print(f"longest task while so    {statistics.median(tasks):6.0f} ms (worst {max(tasks):.0f})")


async def smoothness(browser: Chromium, gateway: ServedGateway, data_dir: Path, seconds: float) -> None:
    """Print frames a second and the longest task while requests come in."""
    async with browser.page(gateway.url, before=_WATCH) as page:
        await page.wait("document.documentElement.dataset.shown >= 2")
        await page.run(
            "window.longest = 0; window.frames_ = 0; (function count() { window.frames_ += 1;"
            " requestAnimationFrame(count); })()"
        )
        began = time.monotonic()
        for number in range(int(seconds)):
            write(data_dir, list(requests(PROVIDERS, RATE, seed=number, seconds=1)))
            await asyncio.sleep(max(0.0, began + number + 1 - time.monotonic()))
        frames, longest = await page.run("[window.frames_, window.longest]")
        print(
            f"under {RATE} requests/s        {frames / (time.monotonic() - began):6.1f} frames/s, longest task {longest:.0f} ms"
        )


async def memory(browser: Chromium, gateway: ServedGateway, data_dir: Path, minutes: int) -> None:
    """Print the live heap through an hour, 20 times as fast."""
    async with browser.page(gateway.url, before=_FASTER) as page:
        await page.wait("document.documentElement.dataset.shown >= 2")
        await page.send("Network.disable")  # whose record of replies would grow
        seed, heaps = 1000, [await _heap(page, 0)]
        for minute in range(minutes):
            began = time.monotonic()
            for step in range(60):
                seed += 1
                write(data_dir, list(requests(PROVIDERS, RATE, seed=seed, seconds=1)))
                await asyncio.sleep(max(0.0, began + (step + 1) / FASTER - time.monotonic()))
            if (minute + 1) % max(minutes // 6, 1) == 0:
                heaps.append(await _heap(page, minute + 1))
        drawn = await page.run("Number(document.documentElement.dataset.shown)")
        print(
            f"after {minutes * 60 * RATE:,} requests and {drawn:,} readings: {heaps[-1] - heaps[1]:+.1f} MB since the first sixth"
        )


async def _heap(page: Page, minute: int) -> float:
    heap = await page.heap()
    nodes = await page.run("document.getElementsByTagName('*').length")
    print(f"  minute {minute:3}: {heap:5.1f} MB live, {nodes} elements")
    return heap


async def main(short: bool) -> None:
    with tempfile.TemporaryDirectory() as folder, Chromium() as browser:
        data_dir = Path(folder)
        write(data_dir, list(requests(PROVIDERS, POINTS, seconds=800)))
        settings: dict[str, Any] = {"data_dir": data_dir}
        async with serve(**settings) as gateway:
            await gateway.counted(POINTS)
            await first_paint(browser, gateway, 2 if short else ROUNDS)
            await smoothness(browser, gateway, data_dir, 5 if short else 20)
            await memory(browser, gateway, data_dir, 6 if short else 60)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="a tenth of the hour")
    if FOUND is None:
        sys.exit("chromium is not installed: apt-get install chromium")
    asyncio.run(main(parser.parse_args().short))
