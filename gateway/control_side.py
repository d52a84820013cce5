"""The control side with all that runs beside it: what serves the own paths, in whichever process that is."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import AsyncExitStack, ExitStack, closing, suppress

from gateway.control import STOPPED, Control, Forwarding, WorkerStatus
from gateway.own_paths import OwnPaths
from gateway.settings import Settings
from gateway.shared_status import Restarts
from gateway.unused_logs import expire_unused
from stream import __version__

__all__ = ["open_control"]

_CATCH_UP_SECONDS = 0.5

logger = logging.getLogger("trueclock.gateway")


async def open_control(
    opened: AsyncExitStack,
    settings: Settings,
    workers: list[WorkerStatus],
    restarts: Callable[[], Restarts] = Restarts,
    forwarder: Forwarding | None = None,
) -> tuple[Control, OwnPaths]:
    """Open the control side on this loop and have it follow the logs, until `opened` is closed.

    It has caught up with them then, unless that takes long.
    """
    made = Control(settings.data_dir, settings.tables, workers, __version__, restarts, forwarder)
    control = opened.enter_context(closing(made))
    control.outcomes.open()
    unused = opened.enter_context(ExitStack())
    control.unused = expire_unused(unused, settings.data_dir, len(workers), settings.config.retention_days)
    following = asyncio.create_task(control.run())
    following.add_done_callback(_report)
    opened.push_async_callback(_cancelled, following)
    # After a kill the figures are those of the last save: to show these first would look as if counters were reset.
    with suppress(TimeoutError):
        await asyncio.wait_for(control.caught_up.wait(), _CATCH_UP_SECONDS)
    return control, OwnPaths(control, settings.notes)


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])


def _report(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception() is not None:
        logger.error(STOPPED, exc_info=task.exception())
