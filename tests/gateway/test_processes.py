"""What the gateway's processes take of the machine: by their roles, and counting on where one is replaced."""

import asyncio
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway import processes
from gateway.processes import Process, Processes
from tests.gateway.test_own_paths import samples
from tests.gateway.test_workers import Workers, spread
from tests.harness import ask, chat, run, within
from tests.servers.openai_like import OpenAILike

NAME = "trueclock_gateway_process"
TICK = 1 / os.sysconf("SC_CLK_TCK")


def shown(roles: dict[str, Process]) -> dict[str, dict[str, float]]:
    """The values of each metric, by role."""
    return {
        family.name.removeprefix(f"{NAME}_"): {sample.labels["role"]: sample.value for sample in family.samples}
        for family in Processes(roles).collect()
    }


def cpu_of(pid: int) -> float:
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) * TICK


@pytest.fixture
def ended() -> Iterator[int]:
    """A process that has ended, and that nobody has waited for."""
    with subprocess.Popen([sys.executable, "-c", ""], stdin=subprocess.PIPE) as process:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        yield process.pid


def test_of_this_process_it_tells_what_the_system_does() -> None:
    before = resource.getrusage(resource.RUSAGE_SELF)
    found = shown({"gateway": Process(os.getpid)})
    after = resource.getrusage(resource.RUSAGE_SELF)
    low, high = (each.ru_utime + each.ru_stime for each in (before, after))
    assert low - 2 * TICK <= found["cpu_seconds"]["gateway"] <= high + 2 * TICK
    resident = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS:"))
    assert found["resident_memory_bytes"]["gateway"] == pytest.approx(int(resident.split()[1]) * 1024, rel=0.1)
    files = [os.open(os.devnull, os.O_RDONLY) for _ in range(7)]
    assert shown({"gateway": Process(os.getpid)})["open_fds"]["gateway"] == found["open_fds"]["gateway"] + 7
    for file in files:
        os.close(file)


def test_a_process_that_is_not_there_has_none(ended: int) -> None:
    roles = {
        "worker 0": Process(lambda: 0, lambda: 5.0),
        "worker 1": Process(lambda: ended),
        "control": Process(os.getpid),
    }
    found = shown(roles)
    assert {tuple(values) for values in found.values()} == {("control",)}
    os.waitpid(ended, 0)
    assert shown(roles).keys() == found.keys()
    assert {tuple(values) for values in shown(roles).values()} == {("control",)}


def test_it_counts_on_from_those_before(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "7" / "fd").mkdir(parents=True)
    (tmp_path / "7" / "fd" / "0").touch()
    fields = ["S", *("0" for _ in range(10)), "120", "30", *("0" for _ in range(8)), "1000", "0"]
    (tmp_path / "7" / "stat").write_text(f"7 (gw wor) S 9 9) {' '.join(fields)}\n")
    monkeypatch.setattr(processes, "_PROC", tmp_path)
    found = shown({"worker 0": Process(lambda: 7, lambda: 2.5)})
    assert found["cpu_seconds"] == {"worker 0": 2.5 + 150 * TICK}
    assert found["resident_memory_bytes"] == {"worker 0": 1000 * os.sysconf("SC_PAGE_SIZE")}
    assert found["open_fds"] == {"worker 0": 1}


def test_descriptors_that_may_not_be_seen_are_left_out_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "stat").write_bytes(Path("/proc/self/stat").read_bytes())
    monkeypatch.setattr(processes, "_PROC", tmp_path)
    found = shown({"worker 0": Process(lambda: 7)})
    assert found["open_fds"] == {}
    assert found["resident_memory_bytes"].keys() == found["cpu_seconds"].keys() == {"worker 0"}


def test_without_proc_there_is_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(processes, "_PROC", tmp_path / "none")
    assert set(map(tuple, shown({"gateway": Process(os.getpid)}).values())) == {()}


def test_a_gateway_shows_each_role_and_counts_on_where_processes_are_replaced(tmp_path: Path) -> None:
    """Also the control process, which is who tells of them, goes on from what was before it."""

    async def scenario() -> None:
        async with OpenAILike() as upstream, Workers("--upstream", upstream.url, data_dir=tmp_path) as gateway:
            await spread(gateway)
            while min((before := await cpu_by_role(gateway)).values()) < 5 * TICK:
                await asyncio.gather(*(chat(gateway.url) for _ in range(20)))
            for role, value in before.items():
                assert value == pytest.approx(cpu_of(gateway.pids[role]), abs=0.3)
            for role in before:
                await gateway.kill(role)
            for role, value in before.items():
                await within(counted_on(gateway, role, value))

    run(scenario())


async def counted_on(gateway: Workers, role: str, before: float) -> None:
    """Until a role has what it had before and its process's own: each tells of itself every tenth of a second."""
    while before + cpu_of(gateway.pids[role]) - 2 * TICK > (await cpu_by_role(gateway))[role]:
        await asyncio.sleep(0.05)


async def cpu_by_role(gateway: Workers) -> dict[str, float]:
    """CPU seconds by role, once each role has its process."""
    for _ in range(200):
        reply = await ask(gateway.url, target="/metrics")
        found = samples(reply.body, f"{NAME}_cpu_seconds_total") if reply.status == 200 else {}
        if {role for (role,) in found} == {"worker 0", "worker 1", "control"}:
            return {role: value for (role,), value in found.items()}
        await asyncio.sleep(0.05)
    raise AssertionError(found)
