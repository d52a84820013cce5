"""The event loop that a process of the gateway runs on, and what it does with memory once it serves."""

import asyncio
import gc
from collections.abc import Coroutine
from typing import Any

__all__ = ["on_loop", "settle"]


def on_loop(main: Coroutine[Any, Any, None]) -> None:
    """Run to the end on uvloop, or on asyncio's own loop where that is not installed."""
    try:
        import uvloop
    except ImportError:
        asyncio.run(main)
    else:
        uvloop.run(main)


def settle() -> None:
    """Start-up is over."""
    gc.freeze()  # what start-up made stays: full collections need not walk it
    gc.set_threshold(10_000, 20, 20)  # what a request leaves is hardly cyclic: 2% of its CPU went into looking
