"""The end of a program that serves: by SIGTERM or Ctrl-C."""

import asyncio
import signal

__all__ = ["stopped"]

_NUMBERS = (signal.SIGTERM, signal.SIGINT)


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
