"""What workers tell through shared memory: always a whole value, whoever is killed; and what a fork must not copy."""

import os
import subprocess
import sys
import textwrap

from gateway.log import LogCounts
from gateway.shared_status import Restarts, SharedStatus, WorkerReport
from tests.harness import ROOT


def output_of(script: str) -> str:
    """What a script prints: it forks, which a test's own process with its threads should not."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        cwd=ROOT, env={**os.environ, "PYTHONWARNINGS": "error"}, capture_output=True, text=True, timeout=60, check=True,
    ).stdout  # fmt: skip


def test_every_slot_holds_what_was_last_written() -> None:
    shared = SharedStatus(3)
    assert [slot.read() for slot in shared.workers] == [WorkerReport()] * 3
    assert shared.restarts.read() == Restarts()
    counts = LogCounts(written=5, dropped=2, commits=3, slowest_commit_seconds=0.25, failing="disk full")
    shared.workers[1].write(WorkerReport.of(77, 4, counts))
    shared.restarts.write(Restarts(worker=9))
    told = shared.workers[1].read()
    assert (told.process, told.active, told.counts) == (77, 4, counts)
    assert [shared.workers[number].read() for number in (0, 2)] == [WorkerReport()] * 2
    assert shared.restarts.read() == Restarts(worker=9, control=0)


def test_a_reason_of_any_length_and_script_fits() -> None:
    shared = SharedStatus(2)
    for text in ("x" * 5000, "\N{SNOWMAN}" * 5000, "\N{GRINNING FACE}" * 5000):
        shared.workers[0].write(WorkerReport.of(1, 2**40, LogCounts(2**50, 2**50, 2**50, 1e9, text)))
        assert shared.workers[0].read().failing == text[:199] + "…"
        assert shared.workers[1].read() == WorkerReport()
    shared.workers[0].write(WorkerReport.of(1, 0, LogCounts(failing="/dis\udcffk: full")))
    assert shared.workers[0].read().failing == "/dis?k: full"


def test_a_value_whose_writer_ended_half_way_is_not_taken() -> None:
    slot = SharedStatus(1).workers[0]
    slot.write(WorkerReport(process=1, active=7))
    assert slot.read().active == 7
    slot.write(WorkerReport(process=1, active=8))
    slot._memory[9] ^= 0xFF
    assert slot.read().active == 7
    slot.write(WorkerReport(process=2))
    assert slot.read() == WorkerReport(process=2)


def test_a_reader_never_sees_two_values_mixed() -> None:
    seen = output_of("""
        import os
        from gateway.shared_status import SharedStatus, WorkerReport
        slot, stop = SharedStatus(1).workers[0], SharedStatus(1).workers[0]
        if not os.fork():
            number = 0
            while not stop.read().active:
                number += 1
                # From 1 to 9 bytes each: the value's length changes too.
                number = number * 2 if number < 2**40 else 1
                slot.write(WorkerReport(number, number, number, number, number, 0.0, str(number)))
            os._exit(0)
        values = set()
        for _ in range(30_000):
            it = slot.read()
            assert it.process == it.active == it.written == it.dropped == it.commits, it
            assert it.failing in (None, str(it.process)), it
            values.add(it.process)
        stop.write(WorkerReport(active=1))
        os.wait()
        print(len(values))
        """)
    assert int(seen) > 1


def test_forked_workers_make_different_ids() -> None:
    ids = output_of("""
        import os
        from gateway.recorder import new_id
        new_id()
        for _ in range(5):
            if not os.fork():
                print(new_id()[12:], new_id()[12:], flush=True)
                os._exit(0)
            os.wait()
        print(new_id()[12:])
        """).split()
    assert len(set(ids)) == len(ids) == 11
