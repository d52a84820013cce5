"""What a gateway is told as it starts, and why it cannot start."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.reload import ConfigWatch
from gateway.routes import Config
from stream.coefficients import Tables
from stream.hosts import is_loopback

__all__ = ["Settings", "StartError", "admin_address"]

_LAST_PORT = 65_535


class StartError(Exception):
    """The gateway cannot start; `str(error)` is one line: what, where, what to do."""


@dataclass(frozen=True)
class Settings:
    """What `gateway run` and `gateway demo` are told. `admin` is None where the own paths share the address.

    `workers` is 0 for one process that does everything. `watch` follows the files that `config` and `tables` are from.
    """

    config: Config
    tables: Tables
    data_dir: Path
    host: str = "127.0.0.1"
    port: int = 4000
    admin: tuple[str, int] | None = None
    allowed_hosts: tuple[str, ...] = ()
    grace_seconds: float = 30.0
    source: str = "gateway"
    notes: Callable[[], dict[str, Any]] | None = None
    workers: int = 0
    watch: ConfigWatch | None = None


def admin_address(host: str, port: int, admin: str | None) -> tuple[str, int] | None:
    """Where the own paths are served: on the gateway's own address when that is loopback, else apart."""
    if admin is None:
        if not is_loopback(host) and port == _LAST_PORT:
            raise StartError(f"there is no port after {port} for page and metrics: name one with --admin HOST:PORT")
        return None if is_loopback(host) else ("127.0.0.1", port + 1 if port else 0)
    name, _, number = admin.rpartition(":")
    if not name or not number.isdigit() or int(number) > _LAST_PORT:
        raise StartError(f"--admin {admin}: expected HOST:PORT")
    return name, int(number)
