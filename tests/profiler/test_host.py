"""What a machine tells of itself: made-up trees of /proc and /sys, and this very machine."""

import json
import os
import platform
from collections.abc import Mapping
from pathlib import Path

import pytest

from profiler.host import busy, describe_host, hardware_name, package_versions

MEMINFO = "MemTotal:       16777216 kB\nMemFree:         100 kB\n"


def tree(root: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root


def processors(*places: tuple[int, int]) -> dict[str, str]:
    """Topology of processors: the package and core of each."""
    found = {}
    for number, (package, core) in enumerate(places):
        base = f"sys/devices/system/cpu/cpu{number}/topology"
        found |= {f"{base}/physical_package_id": f"{package}\n", f"{base}/core_id": f"{core}\n"}
    return found


X86 = """\
processor\t: 0
vendor_id\t: GenuineIntel
cpu family\t: 6
model name\t: Intel(R) Xeon(R)   Platinum 8480C
cpu MHz\t\t: 2000.000

processor\t: 1
model name\t: another
cpu MHz\t\t: 3000.000
"""


@pytest.mark.parametrize(
    ("cpuinfo", "name"),
    [
        (X86, "Intel(R) Xeon(R) Platinum 8480C"),
        ("CPU implementer\t: 0x41\nCPU part\t: 0xd4f\n", "ARM Neoverse V2"),
        ("CPU implementer\t: 0x48\nCPU part\t: 0xd01\n", "ARM 0x48 0xd01"),
        ("cpu\t\t: POWER9, altivec supported\nclock\t\t: 2300.000000MHz\n", "POWER9, altivec supported"),
        ("cpu model\t\t: MIPS 24Kc V7.4\n", "MIPS 24Kc V7.4"),
    ],
    ids=["x86", "arm", "unknown-arm", "power", "mips"],
)
def test_the_processor_is_named(tmp_path, cpuinfo, name):
    assert describe_host(tree(tmp_path, {"proc/cpuinfo": cpuinfo}), [0])["processor"] == name


def test_only_the_processors_that_may_be_used_count(tmp_path):
    four = processors((0, 0), (0, 0), (0, 1), (1, 0))
    found = describe_host(tree(tmp_path, four), [0, 1, 3])
    assert (found["logical_processors"], found["cores"]) == (3, 2)


def test_cores_that_are_not_told_are_left_out(tmp_path):
    found = describe_host(tmp_path, [0, 1])
    assert found["logical_processors"] == 2
    assert "cores" not in found


def test_memory_is_in_bytes(tmp_path):
    assert describe_host(tree(tmp_path, {"proc/meminfo": MEMINFO}), [0])["memory_bytes"] == 16 << 30


V2 = "0::/users/job\n"
V1 = "4:memory:/box\n3:cpuset:/\n2:cpu,cpuacct:/box\n"


@pytest.mark.parametrize(
    ("files", "processor_limit", "memory_limit"),
    [
        ({}, None, None),
        ({"proc/self/cgroup": V2, "sys/fs/cgroup/users/job/cpu.max": "max 100000\n"}, None, None),
        ({"proc/self/cgroup": V2, "sys/fs/cgroup/users/job/cpu.max": "150000 100000\n"}, 1.5, None),
        ({"proc/self/cgroup": V2, "sys/fs/cgroup/users/job/cpu.max": "800000 100000\n"}, None, None),
        (
            {
                "proc/self/cgroup": V2,
                "sys/fs/cgroup/users/cpu.max": "300000 100000\n",
                "sys/fs/cgroup/users/job/cpu.max": "max 100000\n",
                "sys/fs/cgroup/users/memory.max": f"{1 << 30}\n",
                "sys/fs/cgroup/users/job/memory.max": f"{2 << 30}\n",
            },
            3.0,
            1 << 30,
        ),
        ({"proc/self/cgroup": "0::/host/path\n", "sys/fs/cgroup/memory.max": f"{4 << 30}\n"}, None, 4 << 30),
        ({"proc/self/cgroup": "0::/../other\n", "other/cpu.max": "1 100000\n"}, None, None),
        (
            {
                "proc/self/cgroup": V1,
                "sys/fs/cgroup/cpu/box/cpu.cfs_quota_us": "50000\n",
                "sys/fs/cgroup/cpu/box/cpu.cfs_period_us": "100000\n",
                "sys/fs/cgroup/memory/box/memory.limit_in_bytes": f"{1 << 30}\n",
            },
            0.5,
            1 << 30,
        ),
        (
            {
                "proc/self/cgroup": V1,
                "sys/fs/cgroup/cpu/box/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/box/cpu.cfs_period_us": "100000\n",
                "sys/fs/cgroup/memory/box/memory.limit_in_bytes": "9223372036854771712\n",
            },
            None,
            None,
        ),
        ({"proc/self/cgroup": "nonsense\n", "sys/fs/cgroup/cpu.max": "nonsense\n"}, None, None),
    ],
    ids=[
        "none",
        "no-limit",
        "binds",
        "does-not-bind",
        "parents",
        "container",
        "above",
        "v1",
        "v1-no-limit",
        "nonsense",
    ],
)
def test_limits_of_control_groups_are_told_where_they_bind(tmp_path, files, processor_limit, memory_limit):
    found = describe_host(tree(tmp_path, {"proc/meminfo": MEMINFO, **files}), range(4))
    assert found.get("processor_limit") == processor_limit
    assert found.get("memory_limit_bytes") == memory_limit


def test_clock_and_governor_are_those_of_the_processors_used(tmp_path):
    cpu = "sys/devices/system/cpu"
    files = {
        "proc/cpuinfo": X86,
        f"{cpu}/cpu0/cpufreq/scaling_governor": "powersave\n",
        f"{cpu}/cpu0/cpufreq/scaling_cur_freq": "800000\n",
        f"{cpu}/cpu1/cpufreq/scaling_governor": "performance\n",
        f"{cpu}/cpu1/cpufreq/scaling_cur_freq": "3600000\n",
    }
    found = describe_host(tree(tmp_path, files), [1])
    assert (found["governor"], found["clock_mhz"]) == ("performance", 3600.0)
    assert describe_host(tmp_path, [0, 1])["governor"] == "performance, powersave"


def test_the_clock_is_also_in_cpuinfo(tmp_path):
    assert describe_host(tree(tmp_path, {"proc/cpuinfo": X86}), [0, 1])["clock_mhz"] == 2500.0


def test_the_last_cache_is_told(tmp_path):
    cache = "sys/devices/system/cpu/cpu2/cache"
    files = {
        f"{cache}/index0/level": "1\n",
        f"{cache}/index0/size": "32K\n",
        f"{cache}/index3/level": "3\n",
        f"{cache}/index3/size": "32M\n",
        f"{cache}/index2/level": "2\n",
        f"{cache}/index2/size": "1024K\n",
    }
    assert describe_host(tree(tmp_path, files), [2])["cache_bytes"] == 32 << 20


@pytest.mark.parametrize(
    "told", ['PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n', "PRETTY_NAME='Debian GNU/Linux 12 (bookworm)'\n"]
)
def test_the_system_is_named(tmp_path, told):
    found = describe_host(tree(tmp_path, {"etc/os-release": "ID=debian\n" + told}), [0])
    assert found["system"] == "Debian GNU/Linux 12 (bookworm)"


def test_a_machine_that_tells_nothing_is_described_all_the_same(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)  # as elsewhere than on Linux
    found = describe_host(tmp_path)
    assert found["logical_processors"] == os.cpu_count()
    assert found["python"].endswith(platform.python_version())
    assert found["kernel"]


def test_this_machine_tells_what_is_promised_and_no_more():
    told = describe_host()
    assert told["logical_processors"] >= 1
    assert all(f"`{key}`" in str(describe_host.__doc__) for key in told)
    assert json.loads(json.dumps(told)) == told
    assert platform.node() not in told.values()


def test_versions_of_what_is_installed():
    found = package_versions(["numpy", "no-such-package"])
    assert list(found) == ["numpy"]
    assert found["numpy"][0].isdecimal()


@pytest.mark.parametrize(
    ("board", "name"),
    [
        ("NVIDIA H200", "h200"),
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("NVIDIA A100-SXM4-80GB", "a100"),
        ("NVIDIA B200", "b200"),
        ("Tesla V100-SXM2-32GB", "v100"),
        ("NVIDIA A100-SXM4-40GB", "a100-sxm4-40gb"),
        ("NVIDIA H100 PCIe", "h100-pcie"),
        ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", "h100-80gb-hbm3-mig-1g-10gb"),
        ("NVIDIA GeForce RTX 4090", "rtx-4090"),
        ("NVIDIA RTX 6000 Ada Generation", "rtx-6000-ada"),
        ("AMD Instinct MI300X", "mi300x"),
        ("NVIDIA", "unknown"),
        ("", "cpu"),
        (None, "cpu"),
    ],
)
def test_boards_have_short_names(board, name):
    assert hardware_name(board) == name


def stat(*rows: tuple[int, ...]) -> str:
    lines = ["cpu " + " ".join(map(str, map(sum, zip(*rows, strict=True))))]
    lines += [f"cpu{number} " + " ".join(map(str, row)) for number, row in enumerate(rows)]
    return "\n".join([*lines, "intr 5 0 0", ""])


IDLE = (10, 0, 10, 1000, 0, 0, 0, 0, 0, 0)


@pytest.mark.parametrize(
    ("after", "own_seconds", "share"),
    [
        ([(10, 0, 10, 1100, 0, 0, 0, 0, 0, 0)] * 2, 0.0, 0.0),
        ([(50, 0, 10, 1060, 0, 0, 0, 0, 0, 0)] * 2, 0.0, 0.4),
        ([(110, 0, 10, 1000, 0, 0, 0, 0, 0, 0), (10, 0, 10, 1100, 0, 0, 0, 0, 0, 0)], 0.0, 0.5),
        ([(110, 0, 10, 1000, 0, 0, 0, 0, 0, 0), (10, 0, 10, 1100, 0, 0, 0, 0, 0, 0)], 1.0, 0.0),
        ([(10, 0, 10, 1000, 100, 0, 0, 0, 0, 0)] * 2, 0.0, 0.0),  # waiting for a disk
        ([(10, 0, 10, 1050, 0, 0, 0, 50, 0, 0)] * 2, 0.0, 0.5),  # stolen by another machine
        ([(30, 0, 10, 1080, 0, 0, 0, 0, 20, 0)] * 2, 0.0, 0.2),  # guests count as users already
        ([(11, 0, 10, 1099, 0, 0, 0, 0, 0, 0)] * 2, 0.5, 0.0),  # clocks that differ by a tick
        ([IDLE] * 2, 0.0, None),
    ],
)
def test_others_are_what_is_used_and_not_by_this_process(tmp_path, monkeypatch, after, own_seconds, share):
    monkeypatch.setattr(os, "sysconf", lambda _: 100)
    tree(tmp_path, {"proc/stat": stat(IDLE, IDLE)})
    own = iter([2.0, 2.0 + own_seconds])

    def sleep(seconds: float) -> None:
        assert seconds == 1
        tree(tmp_path, {"proc/stat": stat(*after)})

    found = busy(tmp_path, usable=[0, 1], seconds=1, sleep=sleep, own=lambda: next(own))
    assert found == (None if share is None else pytest.approx(share))


def test_only_processors_that_may_be_used_are_looked_at(tmp_path):
    tree(tmp_path, {"proc/stat": stat(IDLE, IDLE)})
    busy_other = stat((110, 0, 10, 1000, 0, 0, 0, 0, 0, 0), (10, 0, 10, 1100, 0, 0, 0, 0, 0, 0))
    found = busy(
        tmp_path, usable=[1], sleep=lambda _: tree(tmp_path, {"proc/stat": busy_other}) and None, own=lambda: 0.0
    )
    assert found == 0


def test_who_cannot_look_does_not_know(tmp_path):
    assert busy(tmp_path, usable=[0], sleep=lambda _: None) is None


def test_this_machine_is_busy_to_some_share():
    found = busy(seconds=0.05)
    assert found is None or 0 <= found <= 1
