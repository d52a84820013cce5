"""Work in pieces on a loop that serves requests: each piece ends by asking whether it is the others' turn."""

import asyncio
import time

__all__ = ["Turns"]

_HOLD_SECONDS = 0.002


class Turns:
    """Gives the loop its turn when a piece of work has held it for long enough; `longest` says for how long at most."""

    def __init__(self, rest: float = 0.0) -> None:
        """The work begins now. `rest` is for how many seconds, at least, others have their turn each time.

        A request needs the loop several times over: without a rest it waits for a piece each time.
        """
        self.longest = 0.0
        self._rest = rest
        self._began = time.perf_counter()

    async def pause(self) -> None:
        """Let others go on if it is time to; one piece has ended."""
        held = time.perf_counter() - self._began
        self.longest = max(self.longest, held)
        if held > _HOLD_SECONDS:
            await asyncio.sleep(self._rest)
            self._began = time.perf_counter()
