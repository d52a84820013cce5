"""The end of a program that serves, by SIGTERM or Ctrl-C, and what SIGHUP asks of it."""

import asyncio
import os
import signal

__all__ = ["Terminal", "reread", "stopped"]

_NUMBERS = (signal.SIGTERM, signal.SIGINT)


class Terminal:
    """The terminal that a program was started on, if it was: as that goes, the kernel sends SIGHUP too."""

    def __init__(self) -> None:
        self._on = [number for number in range(3) if os.isatty(number)]

    def is_gone(self) -> bool:
        """Whether it was there, and is no more."""
        return bool(self._on) and not any(os.isatty(number) for number in self._on)


def stopped() -> asyncio.Event:
    """An event that SIGTERM or SIGINT sets; a second signal ends the process at once."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def asked() -> None:
        for number in _NUMBERS:
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_DFL)
        stop.set()

    for number in _NUMBERS:
        loop.add_signal_handler(number, asked)
    return stop


def reread(stop: asyncio.Event) -> asyncio.Event:
    """An event that SIGHUP sets, which asks to have files read anew; if the terminal is gone it sets `stop`."""
    asked, terminal = asyncio.Event(), Terminal()
    asyncio.get_running_loop().add_signal_handler(
        signal.SIGHUP, lambda: stop.set() if terminal.is_gone() else asked.set()
    )
    return asked
