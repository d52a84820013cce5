"""Images without Docker: buildah builds them from a Dockerfile, and what comes out runs as a container would run it.

builder = Builder(work)
builder.base(base_name())                        # what the Dockerfile begins with, of Debian's packages
builder("build", "--pull=never", "--tag", TAG, ROOT)
image = builder.unpacked(TAG)
image.run("gateway", "--version")                # as its own user, its root read-only, with its volume
"""

import ctypes
import json
import os
import re
import shlex
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proving import ROOT, ProofError

CLONE_NEWNET = 0x40000000
PACKAGES = "ca-certificates,netbase,python3,python3-pip,python3-venv,tzdata"
NEEDLESS = ("/usr/share/doc", "/usr/share/locale", "/usr/share/man")
PREPARE = """
set -e
rm -rf "$1"/dev/* "$1"/usr/lib/python3*/EXTERNALLY-MANAGED "$1"/var/cache/apt/*
ln -s python3 "$1/usr/bin/python"
cp /etc/ssl/certs/ca-certificates.crt "$1/etc/ssl/certs/ca-certificates.crt"  # whom this machine trusts
printf '[global]\\ncert = /etc/ssl/certs/ca-certificates.crt\\n' >"$1/etc/pip.conf"
"""
# What a container's runtime does: the image read-only, /dev, /proc and /tmp of its own, and the volume.
ENTER = """
set -e
root=$1 volume=$2 data=$3 user=$4
shift 4
mount --bind "$root" "$root"
mount -t tmpfs tmpfs "$root/dev"
for name in null zero full random urandom; do
    : >"$root/dev/$name"
    mount --bind "/dev/$name" "$root/dev/$name"
done
ln -s /proc/self/fd "$root/dev/fd"
mount -t proc proc "$root/proc"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
mount --bind "$data" "$root$volume"
mount -o remount,bind,ro "$root"
exec setpriv --no-new-privs chroot --userspec="$user" "$root" "$@"
"""


class Builder:
    """buildah with images and containers in a folder of its own."""

    def __init__(self, work: Path) -> None:
        self.work = work
        storage = work / "storage.conf"
        folders = f'graphroot = "{work / "graph"}"\nrunroot = "{work / "run"}"\n'
        storage.write_text(f'[storage]\ndriver = "vfs"\n{folders}')
        self.env = {**os.environ, "CONTAINERS_STORAGE_CONF": str(storage), "BUILDAH_ISOLATION": "chroot"}

    def __call__(self, *options: object) -> str:
        """Run one of its commands and return what it printed."""
        return command("buildah", *options, env=self.env)

    def base(self, name: str) -> None:
        """Make the image that the Dockerfile begins with."""
        suite = re.search(r"^VERSION_CODENAME=(\w+)$", Path("/etc/os-release").read_text(), re.MULTILINE)
        if suite is None:
            raise ProofError("this machine is no Debian, whose packages the base image is made of")
        container = self("from", "scratch").strip()
        root = self("mount", container).strip()
        options = ("--mode=root", "--variant=minbase", "--format=directory", f"--include={PACKAGES}")
        command("mmdebstrap", *options, *(f"--dpkgopt=path-exclude={each}/*" for each in NEEDLESS), suite[1], root)
        command("sh", "-c", PREPARE, "sh", root)
        self("config", "--env", "PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", container)
        self("commit", "--quiet", container, name)
        self("rm", container)

    def unpacked(self, name: str) -> "Image":
        """An image's files, with a volume that is filled as a new one is: with owner and mode."""
        config: dict[str, Any] = json.loads(self("inspect", "--type", "image", name))["Docker"]["config"]
        container = self("from", "--pull=never", name).strip()
        image = Image(Path(self("mount", container).strip()), self.work / "data", config)
        (volume,) = config["Volumes"]
        command("cp", "-a", f"{image.root}{volume}", image.data)
        return image


def command(*words: object, env: dict[str, str] | None = None) -> str:
    """Run a command that must do, and return what it printed."""
    done = subprocess.run([*map(str, words)], capture_output=True, text=True, check=False, env=env)
    if done.returncode:
        raise ProofError(f"{words[0]} {words[1]} failed ({done.returncode}): {(done.stdout + done.stderr)[-2000:]}")
    return done.stdout


def build_arguments() -> dict[str, str]:
    """The Dockerfile's build arguments, with their defaults."""
    return dict(re.findall(r"^ARG (\w+)=(\S+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE))


def base_name() -> str:
    """The full name of the image that the Dockerfile begins with, by its own defaults."""
    arguments = build_arguments()
    first = re.search(r"^FROM (\S+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert first is not None
    name = re.sub(r"\$\{(\w+)\}", lambda found: arguments[found[1]], first[1])
    return f"docker.io/library/{name}"


@dataclass
class Image:
    """An image that lies unpacked, and how it says that it is run."""

    root: Path
    data: Path
    config: dict[str, Any]

    def words(self, arguments: Sequence[str]) -> list[str]:
        """The command that runs something in it, as its own user, with its own environment and nothing else."""
        (volume,) = self.config["Volumes"]
        enter = ["unshare", "--mount", "--pid", "--ipc", "--uts", "--fork", "--kill-child", "--propagation=private"]
        enter += ["sh", "-c", ENTER, "sh", str(self.root), volume, str(self.data), self.config["User"]]
        inside = f'cd {shlex.quote(self.config["WorkingDir"])} && exec "$@"'
        return [*enter, "env", "-i", *self.config["Env"], "sh", "-c", inside, "sh", *arguments]

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command in it to its end."""
        return subprocess.run(self.words(arguments), capture_output=True, text=True, check=False, timeout=60)

    @contextmanager
    def running(self, *arguments: str) -> Iterator[int]:
        """A command that runs in it, as its process is numbered here; killed at the end. Its output is in `log`."""
        with self.log.open("ab") as log:
            process = subprocess.Popen(self.words(arguments), stdout=log, stderr=log)
        try:
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
            while not (inner := children.read_text()):
                time.sleep(0.01)
            yield int(inner)
        finally:
            process.kill()
            process.wait()

    @property
    def log(self) -> Path:
        """What its commands said."""
        return self.data.with_suffix(".log")


def leave_network() -> None:
    """Give this process, and what it starts from now on, a network that has nothing but a loopback."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET):
        raise ProofError(f"no network of its own: {os.strerror(ctypes.get_errno())}")
    command("ip", "link", "set", "lo", "up")
