"""Processes that are replaced when they end: when, how often, and what is said of it."""

import json
import logging
import os
import signal
import subprocess
import sys
import textwrap

import pytest

from gateway.children import Child
from tests.harness import ROOT


def ends(child: Child, *lived: float, code: int = 1) -> list[float]:
    """Have it end after so many seconds each time; the pauses until it begins again."""
    pauses, now = [], 1000.0
    for seconds in lived:
        child.begin(77, now)
        now += seconds
        child.end(code, now)
        assert child.due is not None
        pauses.append(child.due - now)
        now = child.due
    return pauses


def test_what_has_lived_is_replaced_at_once_and_what_keeps_ending_is_given_time() -> None:
    child = Child("worker 0", lambda ready: ready())
    assert ends(child, 60, 60, 60) == [0, 0, 0]
    pauses = ends(child, *[0.1] * 12)
    assert pauses[:1] == [pytest.approx(0.05)]
    assert pauses == sorted(pauses)
    assert pauses[-1] == 5
    assert ends(child, 60) == [0]


def test_it_says_how_each_ended_and_once_that_it_goes_on_so(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    child = Child("worker 0", lambda ready: ready())
    ends(child, 60, code=-signal.SIGKILL)
    child.begin(78, 0.0)
    child.fault = "events-0.sqlite: nobody knows what this is"
    child.end(1, 0.1)
    ends(child, *[0.1] * 20, code=3)
    said = [record.message for record in caplog.records]
    assert said == [
        "worker 0 (process 77) has ended (killed by SIGKILL): it is replaced",
        "worker 0 (process 78) has ended (exit status 1: events-0.sqlite: nobody knows what this is): it is replaced",
        "worker 0 (process 77) has ended (exit status 3): it is replaced",
        "worker 0 keeps ending (exit status 3): it is tried again every few seconds from now on",
    ]
    caplog.clear()
    ends(child, 60, 60)
    assert len(caplog.records) == 2


PARENT = """
import os, signal, sys, time
from gateway.children import Child, Children
from stream.json_log import log_to_stderr
log_to_stderr()
read, write = os.pipe()
"""


def parent(script: str) -> tuple[str, list[str]]:
    """Run a script that begins as PARENT: what it printed, and what was logged."""
    done = subprocess.run(
        [sys.executable, "-c", PARENT + textwrap.dedent(script)],
        cwd=ROOT, env={**os.environ, "PYTHONWARNINGS": "error"}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout, [json.loads(line)["message"] for line in done.stderr.splitlines()]


def test_children_are_replaced_until_a_signal_comes_and_heed_none_themselves() -> None:
    said, logged = parent("""
        mine, (started, start) = os.getpid(), os.pipe()
        def main(ready):
            assert os.getppid() == mine
            assert {signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)} == {signal.SIG_IGN}
            assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == set()
            os.write(write, b".")
            ready()
            os.read(started, 1)  # or it would have ended as it started
            if len(ended) == 2:
                os.kill(mine, signal.SIGTERM)
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(0.1)
                os.write(write, b"done")
            raise SystemExit(len(ended))
        ended = []
        with Children([Child("one", main)], ended.append) as children:
            assert children.start()
            os.write(start, b"...")
            children.watch(lambda asked: None, 10)
            children.end(20)
        print([child.name for child in ended], os.read(read, 100))
        """)
    assert said == "['one', 'one', 'one'] b'...done'\n"
    assert len([line for line in logged if "it is replaced" in line]) == 2


def test_it_looks_every_so_often_and_at_once_where_sighup_asks_for_it() -> None:
    said, _ = parent("""
        mine = os.getpid()
        def main(ready):
            ready()
            time.sleep(60)
        looks = []
        def look(asked):
            looks.append(asked)
            if asked:
                os.kill(mine, signal.SIGTERM)
            elif looks.count(False) == 3:
                os.kill(mine, signal.SIGHUP)
        with Children([Child("one", main)], lambda ended: None) as children:
            assert children.start()
            children.watch(look, 0.01)
            children.end(0.05)
        print(looks)
        """)
    assert said == "[False, False, False, True]\n"


def test_what_does_not_end_in_time_is_killed() -> None:
    said, logged = parent("""
        def main(ready):
            ready()
            time.sleep(60)
        child = Child("one", main)
        with Children([child], lambda ended: None) as children:
            assert children.start()
            process = child.process
            children.end(0.05)
        print(process)
        """)
    assert logged == [f"one (process {said.strip()}) has not ended in time: killed"]


def test_what_cannot_start_stops_the_start_with_its_reason() -> None:
    said, logged = parent("""
        from gateway.settings import StartError
        def main(ready):
            raise StartError("no room\\nhere")
        def odd(ready):
            raise AssertionError("nobody thought of this")
        for run in (main, odd):
            with Children([Child("one", run)], lambda ended: None) as children:
                try:
                    children.start()
                except StartError as error:
                    print(error)
                children.end(5)
        """)
    assert said.splitlines() == ["no room here", "one ended as it started (exit status 1): its log says why"]
    assert logged == ["one has failed"]


def test_of_all_that_cannot_start_one_says_why() -> None:
    said, _ = parent("""
        from gateway.settings import StartError
        def main(ready):
            os.write(write, b".")
            raise StartError("no room here")
        with Children([Child(name, main) for name in "abc"], lambda ended: None) as family:
            fork = family._fork
            def slowly(child):  # all have ended before the first is looked at
                fork(child)
                os.waitid(os.P_PID, child.process, os.WEXITED | os.WNOWAIT)
            family._fork = slowly
            try:
                family.start()
            except StartError as error:
                print(error)
            family.end(5)
        print(os.read(read, 100))
        """)
    assert said.splitlines() == ["no room here", "b'...'"]


def test_a_system_without_a_process_to_give_ends_a_start_but_not_what_runs() -> None:
    said, logged = parent("""
        import errno
        from gateway import children
        from gateway.settings import StartError
        children._NO_PROCESS_PAUSE = 0.01
        fork, refused = os.fork, []
        def none():
            refused.append(1)
            if len(refused) > 4:
                os.fork = fork
            raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        def main(ready):
            ready()
            os.read(started, 1)
            time.sleep(0 if first else 60)
        def ended(child):
            first.clear()
            os.fork = none
        first, (started, start) = [1], os.pipe()
        with Children([Child("one", main)], ended) as family:
            assert family.start()
            os.write(start, b"..")
            while first or not family._children[0].process:
                family._wait()
            print(len(refused), signal.pthread_sigmask(signal.SIG_BLOCK, ()))
            family._kill()
            family.end(5)
        os.fork = none
        with Children([Child("one", main)], ended) as family:
            try:
                family.start()
            except StartError as error:
                print(error, signal.pthread_sigmask(signal.SIG_BLOCK, ()))
        """)
    assert said.splitlines() == ["5 set()", "one cannot be started: Resource temporarily unavailable set()"]
    assert [line for line in logged if "cannot" in line] == [
        "one cannot be started: Resource temporarily unavailable; it is tried again every second"
    ]
