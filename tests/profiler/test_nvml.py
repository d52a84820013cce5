"""NVIDIA's own binding over a driver that is none (fake_nvml.c): what a board tells, and what it refuses."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler import nvml
from profiler.nvml import Board, BoardError, Meter, Power, SampledEnergy

SOURCE = Path(__file__).with_name("fake_nvml.c")
ROOT = SOURCE.parents[2]
NOT_SUPPORTED, NO_PERMISSION, DRIVER_NOT_LOADED, MISMATCH, UNKNOWN = "3", "4", "9", "18", "999"

BEGIN = """
import json
from profiler.nvml import *
def told(value): print(json.dumps(value))
"""

Ask = Callable[..., Any]


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Ask:
    """Run a few lines in a process that finds the driver; what they tell, or the error that ended them."""
    compiler = shutil.which("gcc")
    if compiler is None:
        pytest.skip("gcc is not installed: apt-get install gcc")
    library = tmp_path_factory.mktemp("driver") / "libnvidia-ml.so.1"
    command = [compiler, "-shared", "-fPIC", "-nostdlib", "-fno-builtin", "-o", str(library), str(SOURCE)]
    subprocess.run(command, check=True, timeout=60)

    def run(lines: str, **environment: str) -> Any:
        usual = {key: value for key, value in os.environ.items() if key != "LD_LIBRARY_PATH"}
        done = subprocess.run(
            [sys.executable, "-c", BEGIN + lines],
            check=False,
            env={**usual, "LD_LIBRARY_PATH": str(library.parent), "PYTHONPATH": str(ROOT), **environment},
            capture_output=True,
            text=True,
            timeout=60,
        )
        return json.loads(done.stdout) if done.returncode == 0 else done.stderr.strip().splitlines()[-1]

    return run


def test_a_board_says_what_it_is(ask):
    assert ask("with Board.open() as board: told(board.describe())") == {
        "name": "NVIDIA H200",
        "driver": "580.159.04",
        "cuda": "13.2",
        "memory_bytes": 150_754_820_096,
        "power_limit_watts": 700.0,
        "max_sm_mhz": 1980,
        "max_memory_mhz": 3201,
        "ecc": True,
        "mig": False,
        "persistence": True,
    }


def test_what_it_does_not_tell_is_left_out(ask):
    untold = ("nvmlDeviceGetEccMode", "nvmlDeviceGetMigMode", "nvmlDeviceGetEnforcedPowerLimit")
    found = ask("told(Board.open().describe())", **dict.fromkeys(untold, NOT_SUPPORTED))
    assert found.keys() >= {"name", "driver", "persistence"}
    assert not found.keys() & {"ecc", "mig", "power_limit_watts"}


@pytest.mark.parametrize(
    ("reasons", "words"),
    [
        (0, []),
        (1, []),  # idle: not held back
        (4, ["power cap"]),
        (4 | 32, ["power cap", "thermal"]),
        (8 | 64 | 128, ["hardware slowdown", "hardware thermal", "power brake"]),
    ],
)
def test_clocks_say_why_they_are_low(ask, reasons, words):
    found = ask("told(Board.open().clocks())", REASONS=str(reasons))
    assert found == {"sm_mhz": 1755, "memory_mhz": 3201, "celsius": 61, "slowed": words}


def test_an_older_driver_has_the_reasons_under_another_name(ask):
    environment = {"nvmlDeviceGetCurrentClocksEventReasons": "13", "REASONS": "32"}
    assert ask("told(Board.open().clocks()['slowed'])", **environment) == ["thermal"]
    assert "slowed" not in ask(
        "told(Board.open().clocks())", **environment, nvmlDeviceGetCurrentClocksThrottleReasons=NOT_SUPPORTED
    )


def test_joules_are_the_drivers_counter(ask):
    assert ask("board = Board.open(); told([board.joules() for _ in range(3)])") == [1.5, 3.0, 4.5]


SAMPLED = """
import time
with Board.open() as board:
    before = time.monotonic()
    first = board.joules()
    after = time.monotonic()
    time.sleep(0.2)
    begun = time.monotonic()
    second = board.joules()
    told([first, second, begun - after, time.monotonic() - before])
"""


@pytest.mark.parametrize("code", [NOT_SUPPORTED, NO_PERMISSION, "13"])
def test_without_a_counter_watts_are_summed_up(ask, code):
    first, second, shortest, longest = ask(SAMPLED, nvmlDeviceGetTotalEnergyConsumption=code, MILLIWATTS="300000")
    assert 300 * shortest <= second - first <= second <= 300 * longest + 1e-6


def test_neither_joules_nor_watts_is_an_error(ask):
    refused = {"nvmlDeviceGetTotalEnergyConsumption": NOT_SUPPORTED, "nvmlDeviceGetPowerUsage": NO_PERMISSION}
    assert ask("Board.open().joules()", **refused) == (
        "profiler.nvml.BoardError: NVIDIA's driver: nvmlDeviceGetPowerUsage: Insufficient Permissions;"
        " this user may not open the device"
    )


def test_watts_are_of_now(ask):
    assert ask("told(Board.open().watts())", MILLIWATTS="123456") == pytest.approx(123.456)


@pytest.mark.parametrize("others", [0, 3])
def test_other_processes_are_counted(ask, others):
    assert ask("told(Board.open().others())", OTHERS=str(others)) == others


def test_others_that_may_not_be_seen_are_none(ask):
    assert ask("told(Board.open().others())", nvmlDeviceGetComputeRunningProcesses_v3=NO_PERMISSION) == 0


@pytest.mark.parametrize(
    "environment", [{"BOARDS": "0"}, {"nvmlInitWithFlags": DRIVER_NOT_LOADED}], ids=["no-board", "no-driver"]
)
def test_no_board_is_none(ask, environment):
    found = ask("told([Board.open() is None, Board.of('GPU-fa4e0000') is None])", **environment)
    assert found == [True, True]


def test_no_library_is_none(ask, tmp_path):
    (tmp_path / "libnvidia-ml.so.1").write_text(
        "not a library\n", encoding="ascii"
    )  # where a real one is, this is first
    assert ask("told(Board.open() is None)", LD_LIBRARY_PATH=str(tmp_path)) is True


def test_no_binding_is_none(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert Board.open() is None


@pytest.mark.parametrize(
    ("identity", "name"),
    [
        ("GPU-fa4e0001-0000-0000-0000-000000000001", "NVIDIA H100 80GB HBM3"),
        ("fa4e0001-0000-0000-0000-000000000001", "NVIDIA H100 80GB HBM3"),  # as torch has it
        ("00000000:0F:00.0", "NVIDIA H200"),
        ("00000000:FF:00.0", None),
        ("GPU-no-such", None),
    ],
)
def test_a_board_is_found_by_what_others_call_it(ask, identity, name):
    lines = f"board = Board.of({identity!r}); told(board and board.describe()['name'])"
    assert ask(lines, BOARDS="2") == name


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        (
            {"nvmlInitWithFlags": MISMATCH},
            (
                "opening a board: RM has detected an NVML/RM version mismatch"
                "; the driver was updated: restart the machine, or reload the driver"
            ),
        ),
        (
            {"nvmlDeviceGetHandleByIndex_v2": NO_PERMISSION},
            "opening a board: Insufficient Permissions; this user may not open the device",
        ),
        ({"nvmlInitWithFlags": UNKNOWN}, "opening a board: Unknown Error"),
        ({"nvmlInitWithFlags": "77"}, "opening a board: Something is wrong"),
    ],
)
def test_what_the_driver_refuses_is_one_line(ask, environment, said):
    assert ask("Board.open()", **environment) == f"profiler.nvml.BoardError: NVIDIA's driver: {said}"


def test_a_lost_board_is_an_error_not_a_gap(ask):
    assert "nvmlDeviceGetName: GPU is lost; the board no longer answers" in ask(
        "Board.open().describe()", nvmlDeviceGetName="15"
    )


def test_no_setting_is_ever_changed():
    text = Path(nvml.__file__).read_text(encoding="utf-8")
    called = set(re.findall(r"\.nvml([A-Z]\w+)|\"((?:Device|System)[A-Z]\w+)", text))
    assert len(called) > 10
    assert all(re.fullmatch(r"Init|Shutdown|(Device|System)Get\w*", one or other) for one, other in called)


class Clock:
    """Time that passes only where it is said."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def pass_by(self, seconds: float) -> None:
        self.now += seconds


class Counter:
    """A board that draws so many watts, and whose counter moves every so many seconds."""

    def __init__(self, clock: Clock, watts: float, step: float) -> None:
        self.clock, self.watts, self.step = clock, watts, step

    def joules(self) -> float:
        return self.watts * (self.clock.now // self.step) * self.step


def meter(clock: Clock, watts: float, step: float) -> Meter:
    board: Any = Counter(clock, watts, step)
    return Meter(board, clock, clock.pass_by)


@given(
    watts=st.floats(20, 1000),
    step=st.floats(0.005, 0.1),
    work=st.floats(0.0002, 0.5),
    seconds=st.floats(0.0, 3.0),
)
def test_power_is_right_however_coarse_the_counter(watts, step, work, seconds):
    clock = Clock()
    found = meter(clock, watts, step).measure(lambda: clock.pass_by(work), seconds)
    assert found.watts == pytest.approx(watts, rel=0.021)
    assert found.seconds == pytest.approx(found.times * work)
    assert found.seconds >= seconds


def test_short_work_is_repeated_long_work_is_not():
    clock = Clock()
    assert meter(clock, 300, 0.02).measure(lambda: clock.pass_by(0.001), 1.0).times >= 1000
    assert meter(clock, 300, 0.02).measure(lambda: clock.pass_by(30.0), 1.0).times == 1


def test_idle_watts_need_no_work():
    assert meter(Clock(), 75, 0.1).idle() == pytest.approx(75, rel=0.021)


@pytest.mark.parametrize("steps", [0, 1, 5])
def test_a_counter_that_stands_still_ends_the_measurement(steps):
    clock = Clock()

    class Stuck:
        def __init__(self) -> None:
            self.read = 0

        def joules(self) -> float:
            self.read += 1
            return float(min(self.read, steps))

    board: Any = Stuck()
    with pytest.raises(BoardError, match="stands still"):
        Meter(board, clock).measure(lambda: clock.pass_by(0.01))


@given(st.lists(st.tuples(st.floats(0.01, 5), st.floats(0, 1000)), min_size=1, max_size=8), st.floats(0, 1000))
def test_sampled_joules_are_the_area_under_straight_lines(later, first):
    clock, draws = Clock(), [first]
    sampled = SampledEnergy(lambda: draws[-1], clock)
    area = 0.0
    for seconds, watts in later:
        area += seconds * (draws[-1] + watts) / 2
        clock.pass_by(seconds)
        draws.append(watts)
        assert sampled.joules() == pytest.approx(area)


def test_power_is_joules_over_seconds():
    assert Power(2.0, 500.0, 10).watts == 250
