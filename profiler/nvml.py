"""A board of NVIDIA's as its driver tells of it: what it is, its clocks, and the joules that it has used.

NVIDIA's own binding (`pynvml`, of the package nvidia-ml-py) is imported when the first board is asked for. Nothing here
changes a setting of a device. Seconds are those of the monotonic clock.
"""

import math
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

__all__ = ["Board", "BoardError", "Meter", "Power", "SampledEnergy"]

_SAMPLE_SECONDS = 0.05
_COUNTER_SECONDS = 0.1  # a counter of energy moves at least so often
_GRANULARITY = 0.02  # of a measurement, at most
_STUCK_SECONDS = 10.0  # without a joule: no board draws so little
_MISSING = ("LIBRARY_NOT_FOUND", "DRIVER_NOT_LOADED", "NOT_FOUND", "GPU_NOT_FOUND", "INVALID_ARGUMENT")
_UNTOLD = ("NOT_SUPPORTED", "FUNCTION_NOT_FOUND", "NO_PERMISSION", "NO_DATA", "NOT_READY")
_SLOWED = {  # nvml.h, nvmlClocksEventReasons
    0x002: "clocks were set",
    0x004: "power cap",
    0x008: "hardware slowdown",
    0x010: "sync boost",
    0x020: "thermal",
    0x040: "hardware thermal",
    0x080: "power brake",
    0x100: "display clocks",
    0x200: "board limit",
    0x400: "reliability",
}
_HINTS = {
    "LIB_RM_VERSION_MISMATCH": "; the driver was updated: restart the machine, or reload the driver",
    "NO_PERMISSION": "; this user may not open the device",
    "GPU_IS_LOST": "; the board no longer answers",
}


class BoardError(OSError):
    """The driver refused. One line: what was asked for, what it said, and what to do where that is known."""


class Board:
    """One board. Use it as a context manager, or close it."""

    def __init__(self, nvml: Any, handle: Any) -> None:
        """`open` and `of` make one."""
        self._nvml, self._handle = nvml, handle
        self._sampled: SampledEnergy | None = None
        self._counts: bool | None = None

    @classmethod
    def open(cls, index: int = 0) -> "Board | None":
        """The board of this number, as the driver counts them; None where there is no such board, driver or binding."""
        return _found(lambda nvml: nvml.nvmlDeviceGetHandleByIndex(index))

    @classmethod
    def of(cls, identity: str) -> "Board | None":
        """The board of a UUID (with or without "GPU-") or a PCI address, as others have them; None where there is none.

        Numbers of CUDA or torch need not be the driver's: `torch.cuda.get_device_properties(i).uuid` tells which it is.
        """
        if identity.count(":") or identity.startswith(("GPU-", "MIG-")):
            name = identity
        else:
            name = f"GPU-{identity}"
        return _found(
            lambda nvml: (nvml.nvmlDeviceGetHandleByPciBusId if ":" in name else nvml.nvmlDeviceGetHandleByUUID)(name)
        )

    def describe(self) -> dict[str, Any]:
        """What it is, with what it tells of: nothing here changes while it works, and nothing says which one it is.

        `name`, `driver`, `cuda` (of the driver), `memory_bytes`, `power_limit_watts`, `max_sm_mhz`, `max_memory_mhz`,
        and whether `ecc`, `mig` and `persistence` are on.
        """
        memory, limit = self._tell("DeviceGetMemoryInfo"), self._tell("DeviceGetEnforcedPowerLimit")
        cuda = self._tell("SystemGetCudaDriverVersion", of_board=False)
        ecc, mig, persistence = (self._tell(f"DeviceGet{each}Mode") for each in ("Ecc", "Mig", "Persistence"))
        found = {
            "name": self._tell("DeviceGetName"),
            "driver": self._tell("SystemGetDriverVersion", of_board=False),
            "cuda": cuda and f"{cuda // 1000}.{cuda % 1000 // 10}",
            "memory_bytes": memory and memory.total,
            "power_limit_watts": limit and limit / 1000,
            "max_sm_mhz": self._tell("DeviceGetMaxClockInfo", self._nvml.NVML_CLOCK_SM),
            "max_memory_mhz": self._tell("DeviceGetMaxClockInfo", self._nvml.NVML_CLOCK_MEM),
            "ecc": ecc and bool(ecc[0]),
            "mig": mig and bool(mig[0]),
            "persistence": None if persistence is None else bool(persistence),
        }
        return {key: value for key, value in found.items() if value is not None}

    def clocks(self) -> dict[str, Any]:
        """What it is doing at this moment: `sm_mhz`, `memory_mhz`, `celsius`, and `slowed`, why it is not faster.

        `slowed` is a list of words, such as "power cap" and "thermal"; empty where nothing holds it back.
        """
        reasons = self._tell("DeviceGetCurrentClocksEventReasons")
        if reasons is None:  # of drivers before 535
            reasons = self._tell("DeviceGetCurrentClocksThrottleReasons")
        found = {
            "sm_mhz": self._tell("DeviceGetClockInfo", self._nvml.NVML_CLOCK_SM),
            "memory_mhz": self._tell("DeviceGetClockInfo", self._nvml.NVML_CLOCK_MEM),
            "celsius": self._tell("DeviceGetTemperature", self._nvml.NVML_TEMPERATURE_GPU),
            "slowed": None if reasons is None else [word for bit, word in _SLOWED.items() if reasons & bit],
        }
        return {key: value for key, value in found.items() if value is not None}

    def watts(self) -> float:
        """What it draws; recent boards tell the mean of the last second. BoardError where it does not tell."""
        return float(self._ask("DeviceGetPowerUsage")) / 1000

    def joules(self) -> float:
        """A counter that only grows: differences are what it used. BoardError where it tells neither joules nor watts.

        The driver's own where there is one, which moves each 20 to 100 ms; else watts, sampled by a thread from the
        first call on and summed up.
        """
        if self._counts is not False:
            counted = self._tell("DeviceGetTotalEnergyConsumption")
            self._counts = counted is not None
            if counted is not None:
                return float(counted) / 1000
        if self._sampled is None:
            self._sampled = SampledEnergy(self.watts)
            self._sampled.start()
        return self._sampled.joules()

    def others(self) -> int:
        """How many other processes compute on it: they make a measurement too long.

        Ask before this process uses the board itself: in a container its number may be another to the driver.
        """
        processes = self._tell("DeviceGetComputeRunningProcesses") or []
        return sum(each.pid != os.getpid() for each in processes)

    def close(self) -> None:
        """Let go of the driver."""
        if self._sampled is not None:
            self._sampled.stop()
        with suppress(self._nvml.NVMLError):
            self._nvml.nvmlShutdown()

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Close."""
        self.close()

    def _ask(self, name: str, *details: Any) -> Any:
        try:
            return getattr(self._nvml, f"nvml{name}")(self._handle, *details)
        except self._nvml.NVMLError as error:
            raise _refused(self._nvml, f"nvml{name}", error) from None

    def _tell(self, name: str, *details: Any, of_board: bool = True) -> Any:
        """The driver's answer; None where this board or driver has none."""
        function = getattr(self._nvml, f"nvml{name}", None)
        if function is None:
            return None
        try:
            return function(self._handle, *details) if of_board else function(*details)
        except self._nvml.NVMLError as error:
            if _is(self._nvml, error, _UNTOLD):
                return None
            raise _refused(self._nvml, f"nvml{name}", error) from None


class SampledEnergy:
    """Joules from watts that are read again and again, with straight lines between."""

    def __init__(self, watts: Callable[[], float], clock: Callable[[], float] = time.monotonic) -> None:
        self._watts, self._clock = watts, clock
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="watts", daemon=True)
        self._joules, self._last = 0.0, (clock(), watts())

    def start(self) -> None:
        """Read in a thread from now on."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._ended.set()
        self._thread.join()

    def joules(self) -> float:
        """Joules since it was made; raises what `watts` raises."""
        with self._lock:
            (before, drawn), (now, draws) = self._last, (self._clock(), self._watts())
            self._joules += (drawn + draws) / 2 * (now - before)
            self._last = now, draws
            return self._joules

    def _sample(self) -> None:
        while not self._ended.wait(_SAMPLE_SECONDS):
            with suppress(BoardError):  # who asks for joules is told
                self.joules()


@dataclass(frozen=True, slots=True)
class Power:
    """What some work used: it was done `times` times in so many seconds, with so many joules."""

    seconds: float
    joules: float
    times: int

    @property
    def watts(self) -> float:
        """On average."""
        return self.joules / self.seconds


class Meter:
    """Measures what work on a board uses, to within 2 % of what its counter can tell."""

    def __init__(
        self,
        board: Board,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._board, self._clock, self._sleep = board, clock, sleep

    def measure(self, work: Callable[[], object], seconds: float = 1.0) -> Power:
        """Repeat `work`, which returns when the device has done it, for `seconds` and as much longer as it takes.

        The counter moves in steps. It is looked at after each repetition, and the measurement goes from one step to
        another: each is seen late by a repetition at most, and says too little by one step of the counter at most.
        BoardError where the counter stands still.
        """
        last, looked, began = self._board.joules(), self._clock(), self._clock()
        first: tuple[float, float] | None = None
        late, times, counted = 0.0, 0, 0
        while True:
            work()
            before, looked = looked, self._clock()
            joules, times = self._board.joules(), times + 1
            if joules > last:
                last, late = joules, max(late, min(looked - before, _COUNTER_SECONDS))
                if first is None:
                    first, counted = (looked, joules), times
                elif looked - first[0] >= max(seconds, 2 * late / _GRANULARITY):
                    return Power(looked - first[0], joules - first[1], times - counted)
            elif looked - began > max(seconds, 2 * _COUNTER_SECONDS / _GRANULARITY) + _STUCK_SECONDS:
                raise BoardError("the board's counter of joules stands still: its energy cannot be measured")

    def idle(self, seconds: float = 1.0) -> float:
        """Watts that it draws with nothing to do, as far as others leave it in peace."""
        return self.measure(lambda: self._sleep(_SAMPLE_SECONDS), seconds).watts


def _found(handle: Callable[[Any], Any]) -> Board | None:
    """The board of a handle, the driver being held open for it; None where something of it is missing."""
    try:
        import pynvml
    except ImportError:
        return None
    opened = False
    try:
        pynvml.nvmlInit()
        opened = True
        return Board(pynvml, handle(pynvml))
    except pynvml.NVMLError as error:
        if opened:
            with suppress(pynvml.NVMLError):
                pynvml.nvmlShutdown()
        if _is(pynvml, error, _MISSING):
            return None
        raise _refused(pynvml, "opening a board", error) from None


def _is(nvml: Any, error: Any, names: tuple[str, ...]) -> bool:
    return error.value in {getattr(nvml, f"NVML_ERROR_{name}", math.nan) for name in names}


def _refused(nvml: Any, asked: str, error: Any) -> BoardError:
    said = " ".join(str(error).split()).rstrip(".")
    hint = next((text for name, text in _HINTS.items() if _is(nvml, error, (name,))), "")
    return BoardError(f"NVIDIA's driver: {asked}: {said}{hint}")
