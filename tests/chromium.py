"""A real Chromium, driven over its own DevTools protocol: what tests and benches of the page share.

with Chromium() as browser:                                    # one process, for a module
    async with browser.page(url, width=400, dark=True) as page:   # a fresh profile and tab each
        await page.wait("document.title === 'trueclock'")
        assert await page.text("#headline") == "Not slow"

Nothing but Debian's `chromium` is needed: aiohttp speaks the protocol.
"""

import asyncio
import base64
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Self

import aiohttp

FOUND = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
_START_SECONDS = 60.0
_WAIT_SECONDS = 20.0
_OPTIONS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking",
    "--no-first-run", "--no-default-browser-check", "--disable-extensions", "--disable-sync", "--mute-audio",
    "--disable-component-update", "--disable-default-apps", "--hide-scrollbars", "--font-render-hinting=none",
    "--disable-background-timer-throttling", "--disable-renderer-backgrounding", "--remote-debugging-port=0",
)  # fmt: skip
_KEYS = {
    "Enter": 13, "Tab": 9, "Escape": 27, " ": 32, "Home": 36, "End": 35, "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39,
    "ArrowDown": 40,
}  # fmt: skip


class ProtocolError(AssertionError):
    """The browser refused a command, or the document went away under it."""


class Chromium:
    """One browser process with a profile of its own; `page` opens a tab in a fresh context."""

    def __init__(self, *options: str) -> None:
        self._options = options

    def __enter__(self) -> Self:
        assert FOUND is not None, "chromium is not installed"
        self._profile = tempfile.TemporaryDirectory(prefix="trueclock-chromium-", ignore_cleanup_errors=True)
        command = (FOUND, *_OPTIONS, *self._options, f"--user-data-dir={self._profile.name}", "about:blank")
        null = subprocess.DEVNULL
        self._process = subprocess.Popen(command, stdin=null, stdout=null, stderr=null, start_new_session=True)
        try:
            port, path = self._address()
        except BaseException:
            self.__exit__()
            raise
        self.socket = f"ws://127.0.0.1:{port}{path}"
        return self

    def _address(self) -> tuple[str, str]:
        file = Path(self._profile.name) / "DevToolsActivePort"
        deadline = time.monotonic() + _START_SECONDS
        while True:
            lines = file.read_text().split() if file.exists() else []
            if len(lines) == 2:
                return lines[0], lines[1]
            assert self._process.poll() is None, "chromium ended at its start"
            assert time.monotonic() < deadline, "chromium did not start"
            time.sleep(0.05)

    def __exit__(self, *_: object) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)  # its helpers too
        self._process.wait()
        self._profile.cleanup()

    @asynccontextmanager
    async def page(
        self, url: str, *, width: int = 1440, height: int = 900, dark: bool = False, before: str = ""
    ) -> AsyncIterator["Page"]:
        """A tab at `url`; `before` is a script that runs ahead of the page's own."""
        async with aiohttp.ClientSession() as session, session.ws_connect(self.socket, max_msg_size=0) as socket:
            page = Page(socket)
            try:
                await page.open(url, width, height, dark, before)
                yield page
            finally:
                await page.close()


class Page:
    """One tab. `problems` are uncaught errors, messages of level error, refused by policy or not loaded."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._number = 0
        self._session: str | None = None
        self._context = ""
        self.problems: list[str] = []
        self.loaded: list[str] = []
        self._listener = asyncio.ensure_future(self._listen())

    async def _listen(self) -> None:
        async for message in self._socket:
            told = json.loads(message.data)
            if (waiter := self._waiting.pop(told.get("id", 0), None)) is not None:
                if not waiter.done():
                    waiter.set_result(told)
            else:
                self._note(told.get("method", ""), told.get("params", {}))

    def _note(self, method: str, told: dict[str, Any]) -> None:
        if method == "Runtime.exceptionThrown":
            details = told["exceptionDetails"]
            self.problems.append(details.get("exception", {}).get("description") or details["text"])
        elif method == "Runtime.consoleAPICalled" and told["type"] in ("error", "assert"):
            self.problems.append(str([value.get("value") for value in told["args"]]))
        elif method == "Log.entryAdded" and told["entry"]["level"] == "error":
            self.problems.append(f"{told['entry']['text']} {told['entry'].get('url', '')}")
        elif method == "Network.requestWillBeSent":
            self.loaded.append(told["request"]["url"])

    async def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command of the protocol, and its result."""
        self._number += 1
        waiter: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting[self._number] = waiter
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        await self._socket.send_json(message)
        told = await asyncio.wait_for(waiter, 60)
        if "error" in told:
            raise ProtocolError(f"{method}: {told['error']}")
        return told["result"]  # type: ignore[no-any-return]

    async def open(self, url: str, width: int, height: int, dark: bool, before: str) -> None:
        """Open the tab; `Chromium.page` does this."""
        self._context = (await self.send("Target.createBrowserContext"))["browserContextId"]
        target = await self.send("Target.createTarget", url="about:blank", browserContextId=self._context)
        attached = await self.send("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            await self.send(f"{domain}.enable")
        await self.size(width, height)
        await self.theme(dark=dark)
        if before:
            await self.send("Page.addScriptToEvaluateOnNewDocument", source=before)
        await self.send("Page.navigate", url=url)

    async def close(self) -> None:
        """Close the tab and its context."""
        self._session = None
        if not self._socket.closed and not self._listener.done():
            await self.send("Target.disposeBrowserContext", browserContextId=self._context)
        self._listener.cancel()
        await asyncio.gather(self._listener, return_exceptions=True)

    async def size(self, width: int, height: int = 900) -> None:
        """Make the window so large, in CSS pixels."""
        await self.send(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False
        )

    async def theme(self, *, dark: bool, reduced_motion: bool = True) -> None:
        """Prefer dark or light."""
        features = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        if reduced_motion:
            features.append({"name": "prefers-reduced-motion", "value": "reduce"})
        await self.send("Emulation.setEmulatedMedia", features=features)

    async def run(self, expression: str) -> Any:
        """The value of a JavaScript expression; a promise is awaited."""
        told = await self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in told, told["exceptionDetails"]
        return told["result"].get("value")

    async def wait(self, expression: str, seconds: float = _WAIT_SECONDS) -> Any:
        """Wait until an expression is true, and return its value; meanwhile it may throw, or the page be reloaded."""
        deadline = asyncio.get_running_loop().time() + seconds
        tried = f"(() => {{ try {{ const it = {expression}; return it instanceof Node ? true : it }} catch {{ return null }} }})()"
        while True:
            with suppress(ProtocolError):
                if value := await self.run(tried):
                    return value
            if asyncio.get_running_loop().time() > deadline:
                body = await self.run("document.body?.innerText.slice(0, 1500)")
                raise AssertionError(f"still not so after {seconds} s: {expression}\n{self.problems}\n{body}")
            await asyncio.sleep(0.02)

    async def reload(self) -> None:
        """Load the page anew, and wait until the old one is gone."""
        await self.run("void (window.before = true)")
        await self.send("Page.reload")
        await self.wait("!window.before && document.readyState === 'complete'")

    async def text(self, selector: str) -> str:
        """The text of the first element that a selector finds."""
        return str(await self.run(f"document.querySelector({json.dumps(selector)}).textContent"))

    async def visible(self, selector: str) -> bool:
        """Whether the first element found takes any room."""
        return bool(await self.run(f"document.querySelector({json.dumps(selector)})?.getClientRects().length > 0"))

    async def click(self, selector: str) -> None:
        """Click the middle of an element with the mouse."""
        x, y = await self.run(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)});"
            "e.scrollIntoView({block: 'center', behavior: 'instant'}); const r = e.getBoundingClientRect();"
            "return [r.left + r.width / 2, r.top + r.height / 2]; })()"
        )
        await self.click_at(x, y)

    async def click_at(self, x: float, y: float) -> None:
        """Click at a place of the window."""
        common = {"x": x, "y": y}
        await self.send("Input.dispatchMouseEvent", type="mouseMoved", **common)
        for kind in ("mousePressed", "mouseReleased"):
            await self.send("Input.dispatchMouseEvent", type=kind, button="left", clickCount=1, **common)

    async def press(self, key: str) -> None:
        """Press and release one key."""
        common: dict[str, Any] = {"key": key, "code": key, "windowsVirtualKeyCode": _KEYS.get(key, 0)}
        text = {"Enter": "\r", " ": " "}.get(key)
        down = {"type": "keyDown", "text": text} if text else {"type": "rawKeyDown"}
        await self.send("Input.dispatchKeyEvent", **down, **common)
        await self.send("Input.dispatchKeyEvent", type="keyUp", **common)

    async def picture(self, *, whole: bool = False) -> bytes:
        """A PNG of the window, or of the whole page."""
        told = await self.send("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        return base64.b64decode(told["data"])

    async def heap(self) -> float:
        """Megabytes of live JavaScript objects, typed arrays and page elements, after a full collection."""
        await self.send("HeapProfiler.collectGarbage")
        used = await self.send("Runtime.getHeapUsage")
        parts = ("usedSize", "embedderHeapUsedSize", "backingStorageSize")
        return sum(float(used.get(part, 0)) for part in parts) / 1e6
