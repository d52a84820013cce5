"""What the gateway's processes take of the machine, as Linux tells it: CPU time, memory, open files."""

import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

__all__ = ["Process", "Processes"]

_PROC = Path("/proc")
_STATE, _USER, _SYSTEM, _PAGES = 0, 11, 12, 21  # of /proc/PID/stat, counted from behind the name
_ENDED = (b"Z", b"X")  # what waits for its parent: it has no memory any more


@dataclass(frozen=True, slots=True)
class Process:
    """Who has a role: its number (0: nobody now), and the CPU seconds of all those that had the role before."""

    number: Callable[[], int]
    spent: Callable[[], float] = lambda: 0.0


@dataclass(frozen=True, slots=True)
class _Usage:
    """CPU seconds, resident bytes; open file descriptors, where the system lets us see them."""

    cpu: float
    memory: float
    files: int | None


class Processes(Collector):
    """Metrics of each process by its role; one that has gone, or on a system without /proc, has none."""

    def __init__(self, roles: Mapping[str, Process]) -> None:
        """Look for these whenever they are asked for."""
        self.roles = roles

    def collect(self) -> Iterable[Metric]:
        """Yield every family."""
        name = "trueclock_gateway_process"
        cpu = CounterMetricFamily(f"{name}_cpu_seconds", "User and system time, by role.", labels=["role"])
        memory = GaugeMetricFamily(f"{name}_resident_memory_bytes", "Resident memory, by role.", labels=["role"])
        files = GaugeMetricFamily(f"{name}_open_fds", "Open file descriptors, by role.", labels=["role"])
        for role, process in self.roles.items():
            number = process.number()
            spent = process.spent()  # asked for after the number, so that it has all before that one
            if (usage := _usage(number)) is None:
                continue
            cpu.add_metric([role], spent + usage.cpu)
            memory.add_metric([role], usage.memory)
            if usage.files is not None:
                files.add_metric([role], usage.files)
        yield from (cpu, memory, files)


def _usage(process: int) -> _Usage | None:
    if not process:
        return None
    place, files = _PROC / str(process), None
    with suppress(OSError), os.scandir(place / "fd") as found:
        files = sum(1 for _ in found)
    try:
        stat = (place / "stat").read_bytes().rpartition(b")")[2].split()  # the name before may hold anything
    except OSError:
        return None
    if stat[_STATE] in _ENDED:
        return None
    cpu = (int(stat[_USER]) + int(stat[_SYSTEM])) / os.sysconf("SC_CLK_TCK")
    return _Usage(cpu, float(int(stat[_PAGES]) * os.sysconf("SC_PAGE_SIZE")), files)
