"""Several processes as one gateway: workers that serve, and one control process, each replaced when it ends.

The supervisor holds the workers' listening sockets, so that connections which wait to be accepted outlive a worker.
What its processes live by are pipes that nobody writes to, and that close with their holders, however those end: the
workers end with the supervisor, and the control process with the last of them, so that it has counted what they
wrote.
"""

import socket
from collections.abc import Callable, Coroutine
from contextlib import ExitStack, suppress
from dataclasses import replace
from importlib import import_module
from itertools import chain
from pathlib import Path
from typing import Any

from msgspec import structs

from gateway.children import Child, Children
from gateway.control_process import ControlProcess
from gateway.data_dir import lock_data_dir
from gateway.listening import BACKLOG, free_port, shared_sockets
from gateway.loop import on_loop, settle
from gateway.reload import LOOK_SECONDS, ConfigWatch, telling_what_fails
from gateway.settings import Settings
from gateway.shared_config import SharedConfig
from gateway.shared_status import SharedStatus, fitting
from gateway.worker import Worker
from stream.hosts import url_of
from stream.json_log import log_to_stderr

__all__ = ["supervise"]

_ASKED_HOST = "127.0.0.1"
_CLOSING_SECONDS = 15.0
"""What processes have to write and close, beyond the grace for requests in flight."""


class _Pipe:
    """A pipe that nobody writes to: at `end` it is over once the last process that has it `open` is gone."""

    def __init__(self, opened: ExitStack) -> None:
        self.open, self.end = (opened.enter_context(each) for each in socket.socketpair())


class Supervisor:
    """The processes of one gateway. `settings` have the ports that were chosen where they had none."""

    def __init__(self, settings: Settings, opened: ExitStack) -> None:
        """Take the gateway's addresses; raise StartError where others have them."""
        self.settings = self._placed(settings, opened)
        self.url = url_of(settings.host, self.settings.port)
        self.admin_url = self.url if self.settings.admin is None else url_of(*self.settings.admin)
        self._status = SharedStatus(settings.workers)
        self._latest = SharedConfig()
        if settings.watch is not None:
            self._tell_reloads(settings.watch)
        self._workers_live, self._control_lives = _Pipe(opened), _Pipe(opened)
        self._control = self._control_child()
        self._workers = [self._worker(number) for number in range(settings.workers)]

    def _placed(self, settings: Settings, opened: ExitStack) -> Settings:
        """Bind every address, so that it stays this gateway's whichever of its processes is there."""

        def bound(host: str, port: int) -> list[socket.socket]:
            return [opened.enter_context(each) for each in shared_sockets(host, port)]

        port = free_port(settings.host, settings.port)
        self._listening = [bound(settings.host, port) for _ in range(settings.workers)]
        for each in chain(*self._listening):
            each.listen(BACKLOG)
        self._asked_port = free_port(_ASKED_HOST, 0)
        self._bound = bound(_ASKED_HOST, self._asked_port)
        admin = settings.admin
        if admin is not None:
            admin = admin[0], free_port(*admin)
            self._bound += bound(*admin)
        return replace(settings, port=port, admin=admin)

    def run(self, started: Callable[["Supervisor"], None], stopping: Callable[[], None]) -> None:
        """Keep all processes running until SIGTERM or SIGINT; raises StartError where one cannot start."""
        with suppress(ImportError):
            import_module("uvloop")  # once, here, rather than in each child
        with Children([self._control, *self._workers], self._ended) as family:
            try:
                if family.start():
                    started(self)
                    family.watch(self._follow_config, LOOK_SECONDS)
                    stopping()
            finally:
                for each in (*chain(*self._listening), self._workers_live.open, self._control_lives.open):
                    each.close()
                family.end(self.settings.grace_seconds + _CLOSING_SECONDS)

    def _follow_config(self, asked: bool) -> None:
        """Read what has changed of the configuration, for all processes: those to come are forked with it."""
        watch = self.settings.watch
        if watch is None:
            return
        loaded = watch.look(asked=asked)
        if loaded is not None:
            with telling_what_fails():
                self._latest.write(loaded)
                self.settings = replace(self.settings, config=loaded.config, tables=loaded.tables)
        self._tell_reloads(watch)

    def _tell_reloads(self, watch: ConfigWatch) -> None:
        failing = watch.reloads.failing
        self._status.reloads.write(structs.replace(watch.reloads, failing=failing and fitting(failing)))

    def _worker(self, number: int) -> Child:
        sockets = self._listening[number]
        asked = url_of(_ASKED_HOST, self._asked_port)
        live = self._workers_live.end

        def main(ready: Callable[[], None]) -> None:
            worker = Worker(self.settings, number, sockets, self._status.workers[number], asked, self._latest)
            # Held open until the worker ends: the control process lives by it.
            self._drop_all_but(*sockets, live, self._control_lives.open)
            _serve(f"worker {number}", worker.run, live.fileno(), ready)

        return Child(f"worker {number}", main)

    def _control_child(self) -> Child:
        live = self._control_lives.end

        def main(ready: Callable[[], None]) -> None:
            control = ControlProcess(self.settings, self._status, self._latest, self.url, self._asked_port)
            self._drop_all_but(live)
            _serve("control", control.run, live.fileno(), ready)

        return Child("control", main)

    def _drop_all_but(self, *kept: socket.socket) -> None:
        """In a child: let go of what others are to live by, or listen on."""
        pipes = chain(*((pipe.open, pipe.end) for pipe in (self._workers_live, self._control_lives)))
        for each in (*pipes, *chain(*self._listening), *self._bound):
            if each not in kept:
                each.close()

    def _ended(self, child: Child) -> None:
        """A process has ended: nothing of it is in flight any more."""
        restarts, replaced = self._status.restarts.read(), child.due is not None
        place = [*self._workers, self._control].index(child)
        self._status.spent[place].write(child.spent)
        if child is self._control:
            restarts.control += replaced
        else:
            restarts.worker += replaced
            slot = self._status.workers[place]
            report = slot.read()
            report.process = report.active = 0
            slot.write(report)
        self._status.restarts.write(restarts)


def _serve(
    name: str, run: Callable[[int, Callable[[], None]], Coroutine[Any, Any, None]], live: int, ready: Callable[[], None]
) -> None:
    """Run one process of the gateway, in it."""
    with suppress(OSError):
        Path("/proc/self/comm").write_text(f"gw {name}")  # what ps and top show of it, on Linux
    log_to_stderr(name)

    def settled() -> None:
        settle()
        ready()

    on_loop(run(live, settled))


def supervise(settings: Settings, started: Callable[[Supervisor], None], stopping: Callable[[], None]) -> None:
    """Run a gateway of several processes until SIGTERM or SIGINT; raises StartError."""
    with ExitStack() as opened:
        opened.enter_context(lock_data_dir(settings.data_dir))
        Supervisor(settings, opened).run(started, stopping)
