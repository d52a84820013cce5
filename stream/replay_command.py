"""`stream replay`: old events of Kafka under other tables, into a topic of their own."""

import argparse
import asyncio
import logging
import re
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stream.baselines import NO_BASELINES, load_baselines
from stream.command import UsageError, add_assume_option, add_cost_options, add_table_options, run_quietly, tables_of
from stream.kafka import KafkaSettings, add_kafka_options, kafka_settings
from stream.since import SinceError, since_moment

if TYPE_CHECKING:
    from stream.replay import Counts

__all__ = ["add_replay_command"]

_TELL_SECONDS = 5.0
_TOPIC = re.compile(r"[a-zA-Z0-9._-]{1,249}", re.ASCII)

_DESCRIPTION = """\
Enrich old events once more, under other tables, and write them to a topic of their own.

Reads llm.requests from --since on, by the time at which the records were sent to Kafka, up to --until or to where it
ends as the replay begins. Each id is written once, as a record like those of llm.requests.enriched. Neither the stream
workers nor their topics are touched; what cannot be read is counted, as llm.requests.dead had it the first time.

Exit status: 0, or 1 if some could not be read (after all others are done), or 2 for wrong use or a lost broker."""

_EXAMPLES = """\
examples:
  stream replay --kafka 127.0.0.1:9092 --since 7d --table h200.json
  stream replay --kafka 127.0.0.1:9092 --since 2026-01-31T12:00:00Z --until 6h --stack v100-megatron --topic llm.v100
  stream replay --kafka 127.0.0.1:9092 --since 7d --table h200.json --append    # go on with one that was broken off"""


def add_replay_command(commands: Any) -> None:
    """Add it to the subparsers of the `stream` command."""
    command: argparse.ArgumentParser = commands.add_parser(
        "replay",
        help="enrich old events of Kafka once more, under other tables",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
    )
    add_kafka_options(command)
    command.add_argument("--since", required=True, metavar="WHEN", help="15m, 6h, 7d ago, or 2026-01-31T12:00:00Z")
    command.add_argument("--until", metavar="WHEN", help="as --since; default: up to now")
    add_table_options(command)
    add_cost_options(command)
    add_assume_option(command)
    command.add_argument(
        "--baselines", type=Path, metavar="FILE", help="what `stream denoise --json` wrote: gives denoised runtimes"
    )
    command.add_argument(
        "--topic",
        metavar="NAME",
        help="where they go, created if need be; default: llm.requests.replayed.TABLE-VERSION",
    )
    command.add_argument(
        "--append", action="store_true", help="into a topic that has some: ids that are there stay out"
    )
    command.set_defaults(run=lambda options: run_quietly("stream replay", lambda: _replay(options)))


def _replay(options: argparse.Namespace) -> int:
    settings, now = kafka_settings(options), time.time()
    since, until = _moment("--since", options.since, now), _moment("--until", options.until, now)
    if until is not None and since is not None and until <= since:
        raise UsageError(f"--until {options.until}: that is not after --since {options.since}")
    tables = tables_of(options)
    baselines = load_baselines(options.baselines) if options.baselines else NO_BASELINES
    topic = _topic(options.topic or f"{settings.topics.requests}.replayed.{tables.version}", settings)

    from stream.replay import Replay, replay

    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # what stops the replay is said on one line, by us
    plan = Replay(settings.topics.requests, topic, since or 0.0, until, options.append)
    began = time.monotonic()
    counts = asyncio.run(replay(settings, plan, tables, baselines, _Progress()))
    print(_summary(counts, plan.source, topic, time.monotonic() - began))
    return 1 if counts.unreadable or counts.too_large else 0


def _moment(option: str, text: str | None, now: float) -> float | None:
    try:
        return None if text is None else since_moment(text, now)
    except SinceError as error:
        raise UsageError(f"{option} {text}: {error}") from None


def _topic(name: str, settings: KafkaSettings) -> str:
    if not _TOPIC.fullmatch(name) or name in {".", ".."}:
        raise UsageError(f"--topic {name}: no name of a topic: letters, digits, '.', '_' and '-', 249 of them at most")
    if name in settings.topics:
        raise UsageError(f"--topic {name}: the gateways and stream workers write there; name one of its own")
    return name


class _Progress:
    """Says every few seconds on standard error how far it is."""

    def __init__(self) -> None:
        self._began = self._told = time.monotonic()

    def __call__(self, counts: "Counts") -> None:
        now = time.monotonic()
        if now - self._told < _TELL_SECONDS:
            return
        self._told = now
        share = counts.records / max(counts.of_records, 1)
        pace = counts.events / (now - self._began)
        print(
            f"stream replay: {share:.0%}, {counts.events:,} events, {pace:,.0f} a second", file=sys.stderr, flush=True
        )


def _summary(counts: "Counts", source: str, topic: str, seconds: float) -> str:
    left_out = {
        "duplicates": counts.duplicates,
        "unreadable": counts.unreadable,
        "too large for the broker": counts.too_large,
    }
    also = "".join(f", {count:,} {name}" for name, count in left_out.items() if count)
    return f"{counts.events:,} events of {source} are in {topic}{also and f'; left out{also[1:]}'}: {seconds:.1f} s"
