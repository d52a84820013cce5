"""A host of its own for tests, in which systemd is process 1: namespaces of this machine, over a copy of its root.

with SystemdHost(tmp_path) as host:
    host.run("systemctl", "start", "some.service")

Everything that is written there lies in memory and is gone afterwards; the network is this machine's, so that tests
choose free ports. It takes root with CAP_SYS_ADMIN, overlayfs, cgroup2 and systemd; `missing` says what is not there.
"""

import os
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Self

_SYSTEMD = Path("/lib/systemd/systemd")
_TOOLS = {"unshare": "util-linux", "nsenter": "util-linux", "systemctl": "systemd", "journalctl": "systemd"}
_CAP_SYS_ADMIN = 21
_TARGET = """\
[Unit]
Requires=systemd-journald.service
After=systemd-journald.service
"""
# Its own /dev: journald would otherwise put its socket into this machine's. /proc/sys is not its to change.
_BOOT = r"""
set -e
base=$1
shift
mount -t tmpfs -o mode=0755 tmpfs "$base"
mkdir "$base/upper" "$base/work" "$base/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$base/upper,workdir=$base/work" "$base/root"
cd "$base/root"
mount -t tmpfs -o mode=0755 tmpfs dev
for name in null zero full random urandom tty; do
    : >"dev/$name"
    mount --bind "/dev/$name" "dev/$name"
done
ln -s /proc/self/fd dev/fd
ln -s pts/ptmx dev/ptmx
mkdir dev/shm
mount -t tmpfs -o mode=1777 tmpfs dev/shm
mount -t proc proc proc
mount --bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=0755 tmpfs run
mount -t tmpfs -o mode=1777 tmpfs tmp
for pair in "$@"; do
    mkdir -p "./${pair#*=}"
    mount --bind "${pair%%=*}" "./${pair#*=}"
    mount -o remount,bind,ro "./${pair#*=}"
done
rm -rf etc/systemd/system lib/systemd/system/*.wants var/lib/private
mkdir -m 0755 etc/systemd/system
printf '%s' "$TARGET" >etc/systemd/system/host.target
for name in sysinit basic; do  # this machine's hardware, modules and file systems are none of its affairs
    echo '[Unit]' >"etc/systemd/system/$name.target"
done
: >etc/machine-id
mkdir former
pivot_root . former
umount -l former
mount --make-rshared /
exec env -i container=trueclock PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    /lib/systemd/systemd --system --unit=host.target --show-status=no --log-target=journal
"""


def missing() -> str | None:
    """Why no such host can be made here, None if one can."""
    if os.geteuid() != 0 or not _capable():
        return "a host of its own takes root with CAP_SYS_ADMIN"
    for tool, package in _TOOLS.items():
        if shutil.which(tool) is None:
            return f"{tool} is not installed: apt-get install {package}"
    if not _SYSTEMD.exists():
        return f"{_SYSTEMD} is not there: apt-get install systemd"
    known = Path("/proc/filesystems").read_text().split()
    absent = [name for name in ("overlay", "cgroup2") if name not in known]
    if absent:
        return f"this kernel has no {' and no '.join(absent)}"
    return None if _cgroup_root() else "cgroup2 is mounted nowhere"


def _capable() -> bool:
    status = Path("/proc/self/status").read_text()
    return bool(int(status.split("CapEff:")[1].split()[0], 16) >> _CAP_SYS_ADMIN & 1)


def _cgroup_root() -> Path | None:
    """Where cgroup2 is mounted, in whichever of its forms."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, place, kind, *_ = line.split()
        if kind == "cgroup2":
            return Path(place)
    return None


class SystemdHost:
    """The host. `folder` is an empty directory; `bound` are folders of this machine to be seen elsewhere in it, not written."""

    def __init__(self, folder: Path, bound: dict[Path, str] | None = None) -> None:
        self.folder = folder
        self._bound = [f"{here}={there}" for here, there in (bound or {}).items()]
        root = _cgroup_root()
        assert root is not None, missing()
        self._cgroup = root / f"trueclock-{os.getpid()}-{time.monotonic_ns()}"
        self._outer: subprocess.Popen[str]
        self.process = 0

    def __enter__(self) -> Self:
        self._cgroup.mkdir()
        try:
            self._start()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def run(self, *command: str, seconds: float = 90.0) -> subprocess.CompletedProcess[str]:
        """Run a command in it, as its root; return status and output."""
        inside = ["nsenter", f"--target={self.process}", "--all", *command]
        return subprocess.run(inside, check=False, capture_output=True, text=True, timeout=seconds)

    def path(self, path: str) -> Path:
        """One of its files, as this machine sees it."""
        return Path(f"/proc/{self.process}/root{path}")

    def _start(self) -> None:
        join = f'echo $$ >{self._cgroup}/cgroup.procs && exec "$@"'
        spaces = ["--mount", "--pid", "--uts", "--ipc", "--cgroup", "--propagation=private"]
        command = ["sh", "-c", join, "sh", "unshare", *spaces, "--fork", "--kill-child", "sh", "-c", _BOOT, "boot"]
        environment = {**os.environ, "TARGET": _TARGET}
        with (self.folder.parent / f"{self.folder.name}.log").open("w") as log:
            self._outer = subprocess.Popen(
                [*command, str(self.folder), *self._bound], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env=environment, text=True,
            )  # fmt: skip
        deadline = time.monotonic() + 30
        while not self._booted():
            if self._outer.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"systemd did not start: {Path(log.name).read_text()[-2000:]}")
            time.sleep(0.05)

    def _booted(self) -> bool:
        """Whether systemd is there and has reached its target."""
        children = Path(f"/proc/{self._outer.pid}/task/{self._outer.pid}/children")
        with suppress(OSError, ValueError):
            self.process = int(children.read_text())
            if Path(f"/proc/{self.process}/comm").read_text() == "systemd\n":
                return self.run("systemctl", "is-active", "host.target").stdout == "active\n"
        return False

    def _end(self) -> None:
        """Process 1 of a namespace takes all others of it along."""
        with suppress(ProcessLookupError, AttributeError):
            os.kill(self.process or self._outer.pid, signal.SIGKILL)
            self._outer.wait(10)
        for path in sorted(self._cgroup.rglob("*"), reverse=True):
            if path.is_dir():
                self._remove(path)
        self._remove(self._cgroup)

    @staticmethod
    def _remove(cgroup: Path) -> None:
        """Remove a cgroup; its processes may take a moment to go."""
        for _ in range(100):
            with suppress(OSError):
                cgroup.rmdir()
            if not cgroup.exists():
                return
            time.sleep(0.05)
