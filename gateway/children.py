"""Processes forked from this one and replaced when they end, until a signal says that it is over.

The parent has one thread and no event loop, so that it may fork at any time. Its children do not heed the signals of
a terminal or of a service manager, which go to all of them: how each is to end is the parent's affair.
"""

import gc
import json
import logging
import os
import select
import signal
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from types import FrameType
from typing import NoReturn, Self

from gateway.settings import StartError
from stream.stopping import Terminal

__all__ = ["Child", "Children"]

_ASKING = (signal.SIGTERM, signal.SIGINT)
_SIGNALS = (*_ASKING, signal.SIGHUP, signal.SIGCHLD)
_STEADY_SECONDS = 5.0
"""A process that ended sooner may well do so again."""
_TOLD = 3  # ends in a row, each soon, that get a line of their own
_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 5.0
_NO_PROCESS_PAUSE = 1.0
_LAST_SECONDS = 1.0  # for the system to end what was killed
_MOST_TEXT = 300  # characters, of at most twelve bytes each: what is longer than 4096 a pipe may not keep whole

logger = logging.getLogger("trueclock.gateway")


@dataclass(slots=True)
class Child:
    """One process: `main` runs in it, given what to call once it is ready."""

    name: str
    main: Callable[[Callable[[], None]], None]
    process: int = field(default=0, init=False)
    ready: bool = field(default=False, init=False)
    fault: str = field(default="", init=False)
    spent: float = field(default=0.0, init=False)
    """CPU seconds of its processes that have ended"""
    _started: float = field(default=0.0, init=False)
    _soon: int = field(default=0, init=False)
    due: float | None = field(default=None, init=False)

    def begin(self, process: int, now: float) -> None:
        """It runs as `process`."""
        self.process, self._started = process, now
        self.ready, self.fault, self.due = False, "", None

    def end(self, code: int, now: float) -> None:
        """It ended: say so, and when the next is due."""
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
        why = f"{how}: {self.fault}" if self.fault else how
        self._soon = self._soon + 1 if now - self._started < _STEADY_SECONDS else 1
        if self._soon <= _TOLD:
            logger.warning("%s (process %d) has ended (%s): it is replaced", self.name, self.process, why)
        elif self._soon == _TOLD + 1:
            logger.error("%s keeps ending (%s): it is tried again every few seconds from now on", self.name, why)
        pause = _FIRST_PAUSE * 2.0 ** (self._soon - _TOLD) if self._soon > 1 else 0.0
        self.process, self.due = 0, now + min(pause, _LONGEST_PAUSE)

    def put_off(self, why: str, now: float) -> None:
        """The system has no process for it: say so once, and when to ask again."""
        if self.fault != why:
            logger.error("%s cannot be started: %s; it is tried again every second", self.name, why)
        self.fault, self.due = why, now + _NO_PROCESS_PAUSE


class Children:
    """Runs children; `ended` is called each time that one has, before another takes its place."""

    def __init__(self, children: Sequence[Child], ended: Callable[[Child], None]) -> None:
        self._children = children
        self._ended = ended
        self._asked = False
        self._terminal = Terminal()
        self._looking = False
        """whether files are to be read, as SIGHUP asks for"""
        self._started = False
        self._ending = False
        self._unread = b""

    def __enter__(self) -> Self:
        with ExitStack() as opened:
            self._woken, self._waking = (opened.enter_context(end) for end in socket.socketpair())
            self._reports, self._reporting = os.pipe()
            opened.callback(os.close, self._reports)
            opened.callback(os.close, self._reporting)
            for end in (self._woken, self._waking):
                end.setblocking(False)
            os.set_blocking(self._reports, False)
            opened.callback(
                signal.set_wakeup_fd, signal.set_wakeup_fd(self._waking.fileno(), warn_on_full_buffer=False)
            )
            for number in _SIGNALS:
                handler = self._ask if number in _ASKING else _nothing
                opened.callback(signal.signal, number, signal.signal(number, handler))
            signal.signal(signal.SIGHUP, self._look)
            self._opened = opened.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def start(self) -> bool:
        """Start all and wait until they are ready; False when a signal came first. Raises StartError."""
        for child in self._children:
            self._fork(child)
        while not (self._asked or all(child.ready for child in self._children)):
            self._wait()
            for child in self._children:
                if not (child.process or self._asked):
                    raise StartError(child.fault)
        self._started = True
        return not self._asked

    def watch(self, look: Callable[[bool], None], seconds: float) -> None:
        """Replace what ends, until SIGTERM or SIGINT; `look` every so many seconds, and where SIGHUP asks for it."""
        while not self._asked:
            self._wait(seconds)
            asked, self._looking = self._looking, False
            look(asked)

    def end(self, seconds: float) -> None:
        """Wait until all have ended, as they were told to; kill those that have not in time."""
        self._ending = True
        deadline = time.monotonic() + seconds
        while any(child.process for child in self._children):
            left = deadline - time.monotonic()
            if left <= 0:
                late = ", ".join(f"{child.name} (process {child.process})" for child in self._children if child.process)
                logger.error("%s has not ended in time: killed", late)
                self._kill()
            self._wait(max(left, _LAST_SECONDS))

    def _kill(self) -> None:
        for child in self._children:
            if child.process:
                with suppress(ProcessLookupError):
                    os.kill(child.process, signal.SIGKILL)

    def _ask(self, number: int, _frame: FrameType | None) -> None:
        """A first signal asks for the end; a second one is the end."""
        if self._asked:
            self._kill()
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self._asked = True

    def _look(self, number: int, frame: FrameType | None) -> None:
        """SIGHUP: somebody asks to have the files read, or the terminal is gone."""
        if not self._terminal.is_gone():
            self._looking = True
        elif not self._asked:  # the shell may send it too
            self._ask(number, frame)

    def _fork(self, child: Child) -> None:
        gc.freeze()  # or collections in the children would copy the pages that they share
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        try:
            process = os.fork()
            if not process:
                self._become(child)
        except OSError as error:  # no memory or too many processes, just now: the others are to go on
            if not self._started:
                raise StartError(f"{child.name} cannot be started: {error.strerror}") from None
            child.put_off(str(error.strerror), time.monotonic())
        else:
            child.begin(process, time.monotonic())
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)

    def _become(self, child: Child) -> NoReturn:
        """Be the child, in its process; nothing of the parent's is left to run."""
        status = 1
        try:
            signal.set_wakeup_fd(-1)
            for number in (*_ASKING, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
            os.close(self._reports)
            self._woken.close()
            self._waking.close()
            child.main(partial(self._report, child, ""))
            status = 0
        except (StartError, ValueError, OSError) as error:
            self._report(child, " ".join(str(error).split()))
        except BaseException:
            logger.exception("%s has failed", child.name)
        finally:
            os._exit(status)

    def _report(self, child: Child, fault: str) -> None:
        with suppress(BrokenPipeError):  # nobody is there to be told
            os.write(self._reporting, json.dumps([child.name, fault[:_MOST_TEXT]]).encode() + b"\n")

    def _wait(self, seconds: float | None = None) -> None:
        """Wait until something happens, and see to it."""
        now = time.monotonic()
        dues = [] if self._ending else [child.due - now for child in self._children if child.due is not None]
        wait = min([*dues, *([] if seconds is None else [seconds])], default=None)
        seen = [self._woken.fileno(), self._reports]
        select.select(seen, [], [], wait if wait is None else max(wait, 0.0))
        with suppress(BlockingIOError):
            self._woken.recv(4096)
        ended = self._reaped()
        self._read_reports()
        for child, code in ended:
            self._see_to(child, code)
        now = time.monotonic()
        for child in self._children:
            if child.due is not None and child.due <= now and not (self._asked or self._ending):
                self._fork(child)

    def _reaped(self) -> list[tuple[Child, int]]:
        ended = []
        for child in self._children:
            if child.process:
                process, status, usage = os.wait4(child.process, os.WNOHANG)
                if process:
                    child.spent += usage.ru_utime + usage.ru_stime
                    ended.append((child, os.waitstatus_to_exitcode(status)))
        return ended

    def _read_reports(self) -> None:
        with suppress(BlockingIOError):
            self._unread += os.read(self._reports, 1 << 16)
        *lines, self._unread = self._unread.split(b"\n")
        for line in lines:
            name, fault = json.loads(line)
            child = next(child for child in self._children if child.name == name)
            child.ready, child.fault = not fault, fault

    def _see_to(self, child: Child, code: int) -> None:
        if self._started and not (self._asked or self._ending):
            child.end(code, time.monotonic())
        else:
            child.process = 0
            child.fault = child.fault or f"{child.name} ended as it started (exit status {code}): its log says why"
        self._ended(child)


def _nothing(_number: int, _frame: FrameType | None) -> None:
    """Wake the parent: that is all a signal about a child is to do."""
