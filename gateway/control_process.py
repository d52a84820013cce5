"""The control process of a gateway with workers: it serves the own paths, and forwards the logs to Kafka.

It ends when `life` does: a pipe that supervisor and workers hold open, so that it outlives the last of them and
counts what that wrote.
"""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass

from gateway.control import Control, Forwarding, WorkerStatus
from gateway.control_side import open_control
from gateway.front import Front
from gateway.guard import Guard
from gateway.listening import Servers, shared_sockets
from gateway.settings import Settings
from gateway.shared_status import SharedStatus, Slot, WorkerReport
from gateway.worker import closed

__all__ = ["ControlProcess"]

_HOST = "127.0.0.1"
_GRACE_SECONDS = 5.0  # for answers that are under way; requests have ended by then


@dataclass(frozen=True)
class ControlProcess:
    """What the control process is made of: the gateway's URL and the port at which workers ask it."""

    settings: Settings
    status: SharedStatus
    url: str
    port: int

    async def run(self, life: int, ready: Callable[[], None]) -> None:
        """Serve own paths until `life` closes; then count what is left, and close."""
        settings, apart = self.settings, self.settings.admin
        async with AsyncExitStack() as opened:
            forwarder = _forwarder(opened, settings)
            workers = [_status(slot) for slot in self.status.workers]
            control, own = await open_control(opened, settings, workers, self.status.restarts.read, forwarder)
            _follow_fleet(opened, settings, control)
            own.address = self.url
            servers = Servers(_GRACE_SECONDS)
            opened.push_async_callback(servers.close)
            asked = Front(None, own, Guard(_HOST))
            await servers.serve(asked.handle, shared_sockets(_HOST, self.port))
            if apart is not None:
                admin = Front(None, own, Guard(apart[0], settings.allowed_hosts))
                await servers.serve(admin.handle, shared_sockets(*apart))
            ready()
            await closed(life)


def _forwarder(opened: AsyncExitStack, settings: Settings) -> Forwarding | None:
    """Start what forwards the logs to Kafka, where that is set, until `opened` is closed."""
    config = settings.config
    if config.kafka is None:
        return None
    from gateway.forwarder_outcomes import Forwarders

    forwarder = Forwarders(settings.data_dir, config.kafka, config.batching)
    forwarder.start()
    opened.push_async_callback(asyncio.to_thread, forwarder.close)
    return forwarder


def _follow_fleet(opened: AsyncExitStack, settings: Settings, control: Control) -> None:
    """Have the denoiser learn from what stream workers have seen, where Kafka is set, until `opened` is closed."""
    if settings.config.kafka is None:
        return
    from gateway.fleet import FleetReader

    reader = FleetReader(settings.config.kafka, control.stream.share)
    control.registry.register(reader)
    reader.start()
    opened.push_async_callback(asyncio.to_thread, reader.close)


def _status(slot: Slot[WorkerReport]) -> WorkerStatus:
    return WorkerStatus(lambda: slot.read().active, lambda: slot.read().counts, lambda: slot.read().process > 0)
