"""A configuration that follows its files: read anew when one changes, or when asked; what cannot be used is not used.

A change counts once the files have stayed as they are for a while, so that a file that is being written is not read
half-way. While the files cannot be used they are tried again now and then: what they lack may have come from elsewhere.
"""

import asyncio
import logging
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path

import msgspec
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from gateway.config import NOWHERE
from gateway.routes import Config
from stream.coefficients import Tables
from stream.command import one_line
from stream.state import packed_tables
from stream.table_watch import Stamp, stamp

__all__ = ["LOOK_SECONDS", "ConfigWatch", "Loaded", "Reloads", "ReloadsCollector", "telling_what_fails"]

LOOK_SECONDS = 0.5
_SETTLED_SECONDS = 0.4
"""for which files have to stay as they are"""
_AGAIN_SECONDS = (5.0, 60.0)
"""until files that cannot be used are tried again: the first time, and at most"""
_MOST_BYTES = 16 << 20  # of a file; its entries are objects of many times its size
_SAME_SECOND = 2.0  # within which a file may be changed without its time telling so
_FIXED = ("kafka", "batching", "otlp")
"""What of a configuration is read at the start alone: connections to elsewhere stand on it."""
_KEYS = {
    "exact": "model_list", "wildcards": "model_list", "default": "upstream", "costs": "constants, region or prices",
    "retention_days": "retention", "retention_bytes": "retention",
}  # fmt: skip
"""What fields of a configuration are called in the file, where that is something else."""

logger = logging.getLogger("trueclock.gateway")


@dataclass(frozen=True)
class Loaded:
    """A configuration with the tables that it names."""

    config: Config
    tables: Tables

    @cached_property
    def packed(self) -> bytes:
        """The tables as the stream's state stores them: 80 kB, made in some 30 ms, which no start is to wait for."""
        return packed_tables(self.tables)


class Reloads(msgspec.Struct, array_like=True):
    """How often the configuration changed since start and how often it was refused, and since when it is in use.

    `failing` says why the files as they are now cannot be used; None where they are.
    """

    applied: int = 0
    refused: int = 0
    applied_at: float = 0.0
    failing: str | None = None


class ConfigWatch:
    """`loaded` is in use, and `reloads` says what became of its changes. Not for several threads at once."""

    def __init__(self, load: Callable[[], Loaded], files: Sequence[Path], settled: float = _SETTLED_SECONDS) -> None:
        """Load for the first time; `load` raises ValueError or OSError, on one line.

        `files` are those that it reads beside what the configuration names. A change counts once they have stayed as
        they are for `settled` seconds.
        """
        self._load = load
        self._files = files
        self._settled = settled
        began = time.time()
        self._taken = {path: stamp(path) for path in files}
        self.loaded = load()
        self._follow_named(began)
        self._seen, self._seen_at = self._taken, time.monotonic()
        self._tried_at, self._again = 0.0, _AGAIN_SECONDS[0]
        self.reloads = Reloads(applied_at=time.time())

    def look(self, *, asked: bool = False) -> Loaded | None:
        """Look at the files, and read them if they have changed or it is `asked` for; what is to be used from now on.

        Returns None where that is what was in use before. Never raises.
        """
        stamps, now = self._look(), time.monotonic()
        if stamps != self._seen:
            self._seen, self._seen_at = stamps, now
        changed = stamps != self._taken
        again = self.reloads.failing is not None and now - self._tried_at > self._again
        if not (asked or ((changed or again) and now - self._seen_at >= self._settled)):
            return None
        self._again = min(2 * self._again, _AGAIN_SECONDS[1]) if again and not changed else _AGAIN_SECONDS[0]
        self._taken, self._tried_at = stamps, now
        try:
            return self._read(asked=asked)
        except (ValueError, OSError) as error:
            self._refuse(one_line(error), fresh=changed, asked=asked)
        except Exception:
            logger.exception("reading the configuration has failed")
            self._refuse("reading it has failed: the gateway's log says where", fresh=changed, asked=asked)
        return None

    def _read(self, *, asked: bool) -> Loaded | None:
        for path in self._files:
            _check(path)
        began = time.time()
        fresh = self._load()
        if fresh.config.implied and not self.loaded.config.implied:
            raise ValueError(f"{self._files[0]}: {NOWHERE}")
        taken = self._take(fresh, asked=asked)
        self._follow_named(began)
        return taken

    def _take(self, fresh: Loaded, *, asked: bool) -> Loaded | None:
        config, before = fresh.config, self.loaded.config
        for warning in (*_not_now(before, config), *(each for each in config.warnings if each not in before.warnings)):
            logger.warning("%s", warning)
        fresh = replace(fresh, config=replace(config, **{name: getattr(before, name) for name in _FIXED}))
        if fresh.packed == self.loaded.packed:
            fresh = replace(fresh, tables=self.loaded.tables)
        changes = list(_changes(self.loaded, fresh))
        healed, self.reloads.failing = self.reloads.failing is not None, None
        self.loaded = fresh
        if changes:
            logger.info("the configuration has changed: %s", ", ".join(changes))
            self.reloads.applied += 1
            self.reloads.applied_at = time.time()
            return fresh
        if asked or healed:
            logger.info("the configuration is the one that is in use already")
        return None

    def _follow_named(self, began: float) -> None:
        """Follow what the configuration names now; what may have changed since the reading `began` is read again."""
        found, unsure = self._look(), (began - _SAME_SECOND) * 1e9
        sure = {path: now if now is None or now[-1] < unsure else (0,) for path, now in found.items()}
        self._taken = {path: self._taken.get(path, sure[path]) for path in found}

    async def follow(self, use: Callable[[Loaded], None], asked: asyncio.Event) -> None:
        """Look, off the loop, every half a second and whenever `asked`; `use` what is found. Until cancelled."""
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(asked.wait(), LOOK_SECONDS)
            now = asked.is_set()
            asked.clear()
            fresh = await asyncio.to_thread(self.look, asked=now)
            if fresh is not None:
                with telling_what_fails():
                    use(fresh)

    def _refuse(self, reason: str, *, fresh: bool, asked: bool) -> None:
        """Refuse what was read; `fresh` if it is there for the first time."""
        fresh = fresh or self.reloads.failing != reason
        if fresh or asked:
            logger.error("the configuration stays as it was: %s", reason)
        self.reloads.refused += fresh
        self.reloads.failing = reason

    def _look(self) -> dict[Path, Stamp]:
        config = self.loaded.config
        named = (path for path in config.costs.values() if isinstance(path, Path))
        return {path: stamp(path) for path in (*self._files, *config.tables, *named)}


def _check(path: Path) -> None:
    """Refuse what reading might wait for, or not come to an end with. A start reads it: somebody is watching."""
    try:
        found = path.stat()
    except OSError:
        return  # who reads it says so
    if not stat.S_ISREG(found.st_mode):
        raise ValueError(f"{path}: not a file that could be read again (a pipe, a device or a directory)")
    if found.st_size > _MOST_BYTES:
        raise ValueError(f"{path}: {found.st_size >> 20} MiB, where {_MOST_BYTES >> 20} are the most")


@contextmanager
def telling_what_fails() -> Iterator[None]:
    """What follows a configuration goes on following, whatever became of one."""
    try:
        yield
    except Exception:
        logger.exception("a configuration could not be used")


def _not_now(before: Config, after: Config) -> Iterator[str]:
    """Warnings of what has changed and cannot be used before the next start."""
    for name in _FIXED:
        if getattr(before, name) != getattr(after, name):
            label = {"batching": "kafka (linger.ms, batch.events)"}.get(name, name)
            yield f"{label} has changed: that takes effect at the next start"


def _changes(before: Loaded, after: Loaded) -> Iterator[str]:
    """What is different, by the names of the file; tables by their version, as a file of theirs may have changed."""
    names = (each.name for each in fields(Config) if each.compare)
    changed = (_KEYS.get(name, name) for name in names if getattr(before.config, name) != getattr(after.config, name))
    yield from dict.fromkeys(changed)
    if before.tables is not after.tables:
        yield f"table version {after.tables.version} for what is counted from now on"


class ReloadsCollector(Collector):
    """Metrics of the configuration; `read` says what became of its changes."""

    def __init__(self, read: Callable[[], Reloads]) -> None:
        self._read = read

    def collect(self) -> Iterator[Metric]:
        """Yield three families."""
        reloads = self._read()
        yield GaugeMetricFamily(
            "trueclock_config_last_reload_successful", "1, or 0 while the files as they are cannot be used.",
            float(reloads.failing is None),
        )  # fmt: skip
        yield GaugeMetricFamily(
            "trueclock_config_last_reload_success_timestamp_seconds", "Since when the configuration is in use.",
            reloads.applied_at,
        )  # fmt: skip
        family = CounterMetricFamily(
            "trueclock_config_reloads", "Changes of the configuration since start, by what became of them.",
            labels=["result"],
        )  # fmt: skip
        family.add_metric(["applied"], reloads.applied)
        family.add_metric(["refused"], reloads.refused)
        yield family
