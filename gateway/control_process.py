"""The control process of a gateway with workers: it serves the own paths, and forwards the logs to Kafka.

It ends when `life` does: a pipe that supervisor and workers hold open, so that it outlives the last of them and
counts what that wrote.
"""

import asyncio
import os
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass

from gateway.control import Control, Forwarding, WorkerStatus
from gateway.control_side import open_control
from gateway.front import Front
from gateway.guard import Guard
from gateway.listening import Servers, shared_sockets
from gateway.otlp import open_metrics, open_spans
from gateway.processes import Process
from gateway.reload import telling_what_fails
from gateway.settings import Settings
from gateway.shared_config import SharedConfig
from gateway.shared_status import SharedStatus, Slot, WorkerReport
from gateway.worker import closed
from stream.coefficients import Tables, tables_from_json
from stream.state import packed_tables, unpacked_tables

__all__ = ["ControlProcess"]

_HOST = "127.0.0.1"
_GRACE_SECONDS = 5.0  # for answers that are under way; requests have ended by then


@dataclass(frozen=True)
class ControlProcess:
    """What the control process is made of: the gateway's URL, the port at which workers ask it, what is shared."""

    settings: Settings
    status: SharedStatus
    latest: SharedConfig
    url: str
    port: int

    async def run(self, life: int, ready: Callable[[], None]) -> None:
        """Serve own paths until `life` closes; then count what is left, and close."""
        settings, apart = self.settings, self.settings.admin
        async with AsyncExitStack() as opened:
            forwarder = _forwarder(opened, settings)
            spans = open_spans(opened, settings)
            workers = [_status(slot) for slot in self.status.workers]
            control, own = await open_control(opened, settings, workers, self.status.restarts.read, forwarder)
            control.follow_reloads(self.status.reloads.read)
            control.processes.roles = self._roles()
            _follow_fleet(opened, settings, control)
            open_metrics(opened, settings, control, spans)
            following = asyncio.create_task(self._follow_config(control))
            opened.callback(following.cancel)
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

    def _roles(self) -> dict[str, Process]:
        *spent, own = (slot.read for slot in self.status.spent)
        slots = enumerate(self.status.workers)
        workers = {f"worker {number}": _process(slot, spent[number]) for number, slot in slots}
        return {**workers, "control": Process(os.getpid, own)}

    async def _follow_config(self, control: Control) -> None:
        """Take other configurations as the supervisor reads them; tables that stay the same are not stored again."""
        tables, packed = self.settings.tables, b""
        async for fresh in self.latest.following():
            with telling_what_fails():
                packed = packed or await asyncio.to_thread(packed_tables, tables)
                if fresh.packed != packed:
                    packed = fresh.packed
                    tables = await asyncio.to_thread(_unpacked, packed)
                control.use(fresh.config, tables, packed)


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


def _process(slot: Slot[WorkerReport], spent: Callable[[], float]) -> Process:
    return Process(lambda: slot.read().process, spent)


def _unpacked(packed: bytes) -> Tables:
    return tables_from_json(unpacked_tables(packed))
