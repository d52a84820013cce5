"""`gateway run` and `gateway demo`: from options to a serving process, its first line, its end."""

import argparse
import asyncio
import logging
import tempfile
from contextlib import suppress
from functools import partial
from pathlib import Path

from gateway.app import Gateway
from gateway.config import Config, default_config
from gateway.data_dir import PRICES_NAME, fetched_prices
from gateway.kafka_options import with_kafka
from gateway.loop import on_loop, settle
from gateway.otlp_options import with_otlp
from gateway.reload import ConfigWatch, Loaded
from gateway.settings import Settings, StartError, admin_address
from gateway.settings_file import load_settings_file, needless_assumptions
from stream.coefficients import TableError, Tables, load_tables
from stream.command import UsageError, cost_files
from stream.hosts import is_loopback
from stream.json_log import log_to_stderr
from stream.stopping import reread, stopped

logger = logging.getLogger("trueclock.gateway")


def run(options: argparse.Namespace) -> int:
    """Serve until SIGTERM or SIGINT."""
    watch = ConfigWatch(partial(_loaded, options), _files(options))
    config, tables = watch.loaded.config, watch.loaded.tables
    try:
        settings = Settings(
            config=config,
            tables=tables,
            data_dir=options.data_dir,
            host=options.host,
            port=options.port,
            admin=admin_address(options.host, options.port, options.admin),
            allowed_hosts=tuple(options.allowed_host),
            workers=options.workers or int(config.kafka is not None or config.otlp is not None),
            watch=watch,
            grace_seconds=options.grace_seconds,
        )
        log_to_stderr()
        for warning in (*config.warnings, *needless_assumptions(tables, options.assume)):
            logger.warning("%s", warning)
        if settings.workers:
            _supervise(settings, options.address_file)
        else:
            on_loop(_serve(settings, options.address_file))
    except StartError as error:
        raise UsageError(str(error)) from None
    return 0


def _loaded(options: argparse.Namespace) -> Loaded:
    config, tables = _configured(options)
    return Loaded(with_otlp(with_kafka(config, options), options), tables)


def _files(options: argparse.Namespace) -> list[Path]:
    """The files that the options name, and the prices that may be fetched while the gateway runs."""
    named = (getattr(options, name) for name in ("config", "constants", "prices"))
    return [*filter(None, named), options.data_dir / PRICES_NAME]


def _configured(options: argparse.Namespace) -> tuple[Config, Tables]:
    """The configuration and the tables. Prices that were fetched to the data directory stand behind those given."""
    fetched, given = fetched_prices(options.data_dir), cost_files(options)
    try:
        if options.config:
            return load_settings_file(options.config, options.assume, options.stack, given, fetched)
        return default_config(options.upstream), load_tables(
            assume=options.assume, stack=options.stack, **{**fetched, **given}
        )
    except TableError as error:
        if error.setting != ("prices",) or "prices" in given:
            raise
        raise UsageError(f"{error}; `gateway prices --refresh` fetches them anew") from None


def demo(options: argparse.Namespace) -> int:
    """Serve replayed traffic from a temporary directory, until Ctrl-C or --duration."""
    log_to_stderr()
    with tempfile.TemporaryDirectory(prefix="trueclock-demo-") as data_dir:
        try:
            on_loop(_demo(options, Path(data_dir)))
        except StartError as error:
            raise UsageError(str(error)) from None
    return 0


async def _serve(settings: Settings, address_file: Path | None) -> None:
    stop = stopped()
    gateway = Gateway(settings)
    await gateway.start()
    settle()
    _announce(settings, gateway.url, gateway.admin_url, address_file)
    assert settings.watch is not None
    following = asyncio.create_task(settings.watch.follow(gateway.use, reread(stop)))
    await stop.wait()
    following.cancel()
    _say_that_it_stops(settings)
    await gateway.close()


def _supervise(settings: Settings, address_file: Path | None) -> None:
    from gateway.supervisor import supervise

    supervise(
        settings,
        lambda gateway: _announce(settings, gateway.url, gateway.admin_url, address_file),
        lambda: _say_that_it_stops(settings),
    )


def _say_that_it_stops(settings: Settings) -> None:
    logger.info("stopping: requests in flight have %g s to finish", settings.grace_seconds)


def _destination(config: Config) -> str:
    names = len(config.model_names)
    entries = f"{names} model_list {'entry' if names == 1 else 'entries'}" if names else ""
    root = config.default.root if config.default else ""
    return " and ".join(part for part in (entries, root) if part)


def _announce(settings: Settings, url: str, admin_url: str, address_file: Path | None) -> None:
    """The first line names the gateway's own address, and nothing else does so before."""
    for path in (address_file, settings.data_dir / "address"):
        if path is not None:
            try:
                path.write_text(url + "\n")
            except OSError as error:
                logger.warning("%s: the address cannot be written: %s", path, error.strerror)
    destination = "a replayed provider" if settings.notes else _destination(settings.config)
    print(f"trueclock is at {url} and passes requests on to {destination}", flush=True)
    print(f"  point your app at {url}/v1, open {admin_url}/ and {admin_url}/metrics", flush=True)
    leading, *others = settings.tables.references
    lead = f"; --stack NAME lets {' or '.join(others)} lead" if others and settings.notes is None else ""
    print(f"  events are kept in {settings.data_dir}, idealized runtimes are those of {leading}{lead}", flush=True)
    if not is_loopback(settings.host):
        logger.warning("%s is reachable from outside: callers are not authenticated (README, Security)", settings.host)


async def _demo(options: argparse.Namespace, data_dir: Path) -> None:
    from gateway.demo import Demo

    stop = stopped()
    show = Demo(options.speed)
    upstream = await show.start()
    settings = Settings(
        config=default_config(upstream),
        tables=load_tables(),
        data_dir=data_dir,
        port=options.port,
        source="replay",
        grace_seconds=1.0,
        notes=show.notes,
    )
    gateway = Gateway(settings)
    await gateway.start()
    _announce(settings, gateway.url, gateway.admin_url, options.address_file)
    print("  Ctrl-C stops the demo", flush=True)
    traffic = asyncio.create_task(show.traffic(gateway.url, stop))
    with suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), options.duration)
    stop.set()
    traffic.cancel()
    with suppress(asyncio.CancelledError):
        await traffic
    await gateway.close()
    await show.close()
