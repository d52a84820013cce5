"""Work in pieces on a loop that serves requests: each piece ends by asking whether it is the others' turn."""

import asyncio
import time

__all__ = ["Turns"]

_HOLD_SECONDS = 0.002


class Turns:
    """Gives the loop its turn when a piece of work has held it for long enough; `longest` says for how long at most."""

    def __init__(self) -> None:
        """The work begins now."""
        self.longest = 0.0
        self._began = time.perf_counter()

    async def pause(self) -> None:
        """Let others go on if it is time to; one piece has ended."""
        held = time.perf_counter() - self._began
        self.longest = max(self.longest, held)
        if held > _HOLD_SECONDS:
            await asyncio.sleep(0)
            self._began = time.perf_counter()
