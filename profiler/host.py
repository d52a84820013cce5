"""What a measurement was made on: the machine and its software, as it tells them itself. Nothing that says whose it is.

Read from Linux's /proc and /sys; elsewhere what Python knows. What a machine does not tell is left out. Never a name of
the host or of a user, a path, or an address.
"""

import os
import platform
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib import metadata
from pathlib import Path, PurePosixPath
from statistics import median
from typing import Any

from profiler.hardware import device_name

__all__ = ["busy", "describe_host", "hardware_name", "package_versions"]

_ROOT = Path("/")
_LOOK_SECONDS = 0.25
_STATES = 8  # of a processor in /proc/stat: user, nice, system, idle, iowait, irq, softirq, steal
_IDLE = (3, 4)
_NO_MODEL = ("GeForce", "Tesla", "Instinct", "Radeon", "Generation", "NVIDIA", "AMD", "(R)", "(TM)")
_ARM_CORES = {  # x86 tells a model's name, ARM two numbers: https://developer.arm.com, MIDR_EL1 of each core
    ("0x41", "0xd08"): "ARM Cortex-A72",
    ("0x41", "0xd0b"): "ARM Cortex-A76",
    ("0x41", "0xd0c"): "ARM Neoverse N1",
    ("0x41", "0xd40"): "ARM Neoverse V1",
    ("0x41", "0xd49"): "ARM Neoverse N2",
    ("0x41", "0xd4f"): "ARM Neoverse V2",
    ("0xc0", "0xac3"): "Ampere-1",
}


def describe_host(root: Path = _ROOT, usable: Iterable[int] | None = None) -> dict[str, Any]:
    """What this machine is: a dictionary for JSON, with those of the following that it tells.

    `processor` (its model), `architecture`, `logical_processors` and `cores` that this process may use,
    `processor_limit` (how many at once, where a control group allows fewer), `cache_bytes` (of the last level, one of
    them), `memory_bytes`, `memory_limit_bytes` (a control group's, where it is less), `governor`, `system`, `kernel`,
    `python`; and `clock_mhz` of this moment, the one that changes by itself.

    `usable` are the processors' numbers, as `os.sched_getaffinity` has them; `root` is where /proc and /sys are.
    """
    numbers = sorted(_affinity() if usable is None else usable)
    memory = _memory_bytes(root)
    found = {
        "processor": _processor(root),
        "architecture": platform.machine(),
        "logical_processors": len(numbers),
        "cores": _cores(root, numbers),
        "processor_limit": _less(_least(_processor_limits(root)), len(numbers)),
        "cache_bytes": _cache_bytes(root, numbers),
        "memory_bytes": memory,
        "memory_limit_bytes": _less(_least(_memory_limits(root)), memory),
        "governor": _governor(root, numbers),
        "clock_mhz": _clock(root, numbers),
        "system": _system(root),
        "kernel": f"{platform.system()} {platform.release()}".strip(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
    }
    return {key: value for key, value in found.items() if value}


def package_versions(names: Iterable[str]) -> dict[str, str]:
    """Versions of those packages that are installed, by name."""
    found = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def hardware_name(board_name: str | None) -> str:
    """A short name for stacks: "h200" of "NVIDIA H200", "rtx-4090" of "NVIDIA GeForce RTX 4090", "cpu" of no board.

    Devices of `hardware.json` have their names there; one that only resembles them keeps what tells it apart.
    """
    if not board_name or not board_name.strip():
        return "cpu"
    known = device_name(board_name)
    if known is not None:
        return known
    plain = board_name
    for word in _NO_MODEL:
        plain = re.sub(rf"(?<![a-z]){re.escape(word)}(?![a-z])", " ", plain, flags=re.IGNORECASE)
    return re.sub(r"[^a-z0-9]+", "-", plain.lower()).strip("-") or "unknown"


def busy(
    root: Path = _ROOT,
    *,
    usable: Iterable[int] | None = None,
    seconds: float = _LOOK_SECONDS,
    sleep: Callable[[float], None] = time.sleep,
    own: Callable[[], float] = time.process_time,
) -> float | None:
    """The share (0 to 1) of the processors that this process may use which others use just now; None if not known.

    Others are other processes, and other machines on the same host where the kernel tells so ("steal").
    It looks for `seconds`; what this process itself uses meanwhile (`own`) does not count.
    """
    numbers = set(_affinity() if usable is None else usable)
    before, own_before = _processor_times(root, numbers), own()
    if before is None:
        return None
    sleep(seconds)
    after, used = _processor_times(root, numbers), own() - own_before
    if after is None or after[0] <= before[0]:
        return None
    second = os.sysconf("SC_CLK_TCK")
    others = (after[1] - before[1]) - used * second
    return min(max(others / (after[0] - before[0]), 0.0), 1.0)


def _affinity() -> set[int]:
    try:
        return os.sched_getaffinity(0)
    except AttributeError:  # not on Linux
        return set(range(os.cpu_count() or 1))


def _text(path: Path) -> str:
    """What a file holds, nothing where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _fields(text: str, separator: str = ":") -> Iterator[tuple[str, str]]:
    for line in text.splitlines():
        key, found, value = line.partition(separator)
        if found:
            yield key.strip(), value.strip()


def _processor(root: Path) -> str:
    found = dict(reversed(list(_fields(_text(root / "proc/cpuinfo")))))  # the first processor's
    for key in ("model name", "cpu model", "cpu"):
        if name := found.get(key):
            return " ".join(name.split())
    arm = found.get("CPU implementer", ""), found.get("CPU part", "")
    return _ARM_CORES.get(arm) or (f"ARM {arm[0]} {arm[1]}" if all(arm) else platform.processor())


def _cores(root: Path, numbers: Sequence[int]) -> int | None:
    """Cores that the processors are threads of."""
    places = set()
    for number in numbers:
        topology = _processor_files(root, number) / "topology"
        places.add((_text(topology / "physical_package_id").strip(), _text(topology / "core_id").strip()))
    return len(places) if places and ("", "") not in places else None


def _processor_files(root: Path, number: int) -> Path:
    return root / f"sys/devices/system/cpu/cpu{number}"


def _cache_bytes(root: Path, numbers: Sequence[int]) -> int | None:
    sizes = {}
    for index in _processor_files(root, numbers[0] if numbers else 0).glob("cache/index*"):
        size = re.fullmatch(r"(\d+)([KMG])", _text(index / "size").strip())
        level = _text(index / "level").strip()
        if size and level.isdecimal():
            sizes[int(level)] = int(size[1]) << {"K": 10, "M": 20, "G": 30}[size[2]]
    return sizes[max(sizes)] if sizes else None


def _governor(root: Path, numbers: Sequence[int]) -> str:
    found = (_text(_processor_files(root, number) / "cpufreq/scaling_governor").strip() for number in numbers)
    return ", ".join(sorted(set(filter(None, found))))


def _clock(root: Path, numbers: Sequence[int]) -> float | None:
    """Megahertz of this moment, in the middle of the processors."""
    scaled = (_text(_processor_files(root, number) / "cpufreq/scaling_cur_freq").strip() for number in numbers)
    clocks = [int(each) / 1000 for each in scaled if each.isdecimal()]
    if not clocks:
        told = (value for key, value in _fields(_text(root / "proc/cpuinfo")) if key == "cpu MHz")
        clocks = [float(each) for each in told if re.fullmatch(r"\d+(\.\d+)?", each)]
    return round(median(clocks), 1) if clocks else None


def _memory_bytes(root: Path) -> int | None:
    words = dict(_fields(_text(root / "proc/meminfo"))).get("MemTotal", "").split()
    return int(words[0]) << 10 if words and words[0].isdecimal() else None


def _system(root: Path) -> str:
    told = dict(_fields(_text(root / "etc/os-release"), "="))
    return told.get("PRETTY_NAME", "").strip("\"'") or platform.system()


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """Directories of the control groups that this process is in, of both versions, from its own up to the root's."""
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if controllers and controller not in controllers.split(","):
            continue
        base = root / "sys/fs/cgroup" / (controller if controllers else "")
        group = PurePosixPath("/" if ".." in path else path)  # "..": above what can be seen here
        for each in (group, *group.parents):
            # In a container the path is often the host's, and only the root of the tree is there.
            yield base / str(each).strip("/")


def _processor_limits(root: Path) -> Iterator[float]:
    for group in _groups(root, "cpu"):
        pairs = (
            _text(group / "cpu.max").split(),
            [_text(group / f"cpu.cfs_{each}_us").strip() for each in ("quota", "period")],
        )
        for pair in pairs:
            if len(pair) == 2 and all(each.isdecimal() and int(each) for each in pair):  # "max" and -1: no limit
                yield int(pair[0]) / int(pair[1])


def _memory_limits(root: Path) -> Iterator[float]:
    for group in _groups(root, "memory"):
        for name in ("memory.max", "memory.limit_in_bytes"):
            limit = _text(group / name).strip()
            if limit.isdecimal():
                yield int(limit)


def _least(limits: Iterator[float]) -> float | None:
    return min(limits, default=None)


def _less(limit: float | None, whole: float | None) -> float | None:
    """A limit, if it binds."""
    return None if limit is None or (whole is not None and limit >= whole) else limit


def _processor_times(root: Path, numbers: set[int]) -> tuple[int, int] | None:
    """Ticks of all these processors since the start, and those of them in which they worked."""
    whole = worked = 0
    for line in _text(root / "proc/stat").splitlines():
        name, *rest = line.split()
        if not (re.fullmatch(r"cpu\d+", name) and int(name[3:]) in numbers):
            continue
        ticks = [int(each) for each in rest[:_STATES]]
        whole += sum(ticks)
        worked += sum(ticks) - sum(ticks[at] for at in _IDLE if at < len(ticks))
    return (whole, worked) if whole else None
