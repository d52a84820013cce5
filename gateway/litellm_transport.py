"""Requests to providers of other dialects, by way of litellm, off the proxy's event loop.

litellm is imported and run in one background thread with an event loop of its own:
importing it takes seconds, and a call through it costs the processor 26 times what
passing bytes on does. What comes back is OpenAI's dialect, as bytes, by `read`.

Only this module imports litellm, and only once there is something to send (or `warm`).
"""

import asyncio
import contextlib
import importlib
import logging
import os
import threading
from concurrent.futures import Future
from http import HTTPStatus
from time import monotonic
from typing import Any

from gateway.handoff import Handoff
from gateway.litellm_call import BrokenReply, call
from gateway.litellm_dialect import Asked
from gateway.routes import Route

__all__ = ["BrokenReply", "LitellmReply", "LitellmTransport"]

_STOP_SECONDS = 5.0
_PHRASES = {status.value: status.phrase for status in HTTPStatus}
_LOGGERS = ("LiteLLM", "LiteLLM Router", "LiteLLM Proxy", "httpx")


class LitellmReply:
    """One reply, as `gateway.upstream.Reply` says. Made by `send`."""

    def __init__(self, handoff: Handoff, under_way: "Future[None]") -> None:
        self.connected_at = self.sent_at = monotonic()
        self.status = 0
        self.reason = ""
        self.raw_headers: tuple[tuple[bytes, bytes], ...] = ()
        self._ended = False
        self._handoff = handoff
        self._under_way = under_way
        under_way.add_done_callback(self._over)

    async def open(self) -> None:
        """Wait for the head; leaving the wait, or a failure, cancels the call."""
        try:
            head = await self._handoff.head()
        except BaseException:
            self.close()
            raise
        self.status = head.status
        self.raw_headers = tuple((name.encode(), value.encode()) for name, value in head.headers)
        self.reason = _PHRASES.get(head.status, "")

    async def next_bytes(self) -> bytes:
        """The next bytes as they come, b"" at the end; `BrokenReply` where it broke off."""
        data = await self._handoff.get()
        self._ended = not data
        return data

    def at_end(self) -> bool:
        """Whether the whole body has been read."""
        return self._ended

    def close(self) -> None:
        """Cancel the upstream call, if it is still under way."""
        self._under_way.cancel()

    def _over(self, done: "Future[None]") -> None:
        # Cancelled, or failed in a way nobody foresaw: whoever reads must not wait for ever.
        if done.cancelled() or done.exception() is not None:
            self._handoff.finish(BrokenReply("the call was cancelled"))


class LitellmTransport:
    """The thread and its loop. `start`, then `send` from any other loop, then `close`."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._litellm: Any = None

    def start(self) -> None:
        """Start the thread (once); litellm is not imported yet."""
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(target=self._run, args=(self._loop,), name="litellm", daemon=True)
            self._thread.start()

    def warm(self) -> None:
        """Import litellm now, in the background, so that the first request does not wait for it."""
        self.start()
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._module)

    def close(self) -> None:
        """Cancel what is under way and stop the thread; bounded, since it may be importing."""
        loop, thread, self._loop, self._thread = self._loop, self._thread, None, None
        if loop is not None and thread is not None:
            loop.call_soon_threadsafe(loop.stop)
            thread.join(_STOP_SECONDS)

    async def send(self, route: Route, asked: Asked) -> LitellmReply:
        """Make the call; returns when the first chunk, or the whole answer, is there.

        What fails before that is a reply with an error's status. Cancelling `send` cancels the call. The caller's
        authorization is used where the entry has no key of its own.
        """
        if self._loop is None:
            raise BrokenReply("the litellm transport is not running")
        handoff = Handoff(self._loop)
        coroutine = call(self._module, handoff, route, asked)
        reply = LitellmReply(handoff, asyncio.run_coroutine_threadsafe(coroutine, self._loop))
        await reply.open()
        return reply

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        try:
            loop.run_forever()
        finally:
            loop.run_until_complete(self._finish())
            loop.close()

    async def _finish(self) -> None:
        """End all tasks of the loop, litellm's own too, and close its connections."""
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._litellm is not None:
            with contextlib.suppress(Exception):
                await self._litellm.close_litellm_async_clients()

    def _module(self) -> Any:
        if self._litellm is None:
            self._litellm = _import_litellm()
        return self._litellm


def _import_litellm() -> Any:
    """Import litellm, told to keep to itself: no price list fetched, no .env, no telemetry, no logs."""
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    os.environ.setdefault("LITELLM_MODE", "PRODUCTION")
    litellm: Any = importlib.import_module("litellm")
    litellm.telemetry = False
    litellm.suppress_debug_info = True
    litellm.drop_params = True
    litellm.num_retries = 0
    # Its aiohttp transport keeps a connection open after a cancelled call, and takes a broken
    # connection for the end of the reply (litellm 17365, 16294); httpx does neither.
    litellm.disable_aiohttp_transport = True
    for name in _LOGGERS:
        # Its messages quote requests and replies.
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    return litellm
