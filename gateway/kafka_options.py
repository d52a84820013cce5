"""The options that say where events are forwarded to, and how."""

import argparse
import importlib.util
from dataclasses import replace

from gateway.routes import MOST_LINGER_MS, Config
from stream.command import UsageError
from stream.kafka import add_kafka_options, kafka_settings

__all__ = ["add_forwarding_options", "with_kafka"]


def add_forwarding_options(parser: argparse.ArgumentParser) -> None:
    """Add --kafka and all that belongs to it, for `with_kafka`."""
    add_kafka_options(parser)
    parser.add_argument(
        "--kafka-linger-ms", type=_linger, metavar="MS", help="longest wait of an event for others (default: 50)"
    )
    parser.add_argument(
        "--kafka-batch-events",
        type=_events,
        metavar="N",
        help="most events of a record, 1 for single ones (default: 500)",
    )


def _linger(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1
    if not 0 <= value <= MOST_LINGER_MS:
        raise argparse.ArgumentTypeError(f"{text!r} is no time: 0 to {MOST_LINGER_MS} milliseconds")
    return value / 1000


def _events(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of events: 1 or more")
    return int(text)


def with_kafka(config: Config, options: argparse.Namespace) -> Config:
    """The configuration as the options of `add_forwarding_options` change it; raise KafkaSettingsError, UsageError.

    Also where Kafka is wanted and its clients are not installed.
    """
    if config.kafka is None and options.kafka is None and options.kafka_properties is None:
        if options.topic_prefix or options.kafka_linger_ms is not None or options.kafka_batch_events is not None:
            raise UsageError("--topic-prefix, --kafka-linger-ms and --kafka-batch-events go with --kafka HOST:PORT")
        return config
    _check_installed()
    batching = config.batching
    if options.kafka_linger_ms is not None:
        batching = replace(batching, linger_seconds=options.kafka_linger_ms)
    if options.kafka_batch_events is not None:
        batching = replace(batching, most_events=options.kafka_batch_events)
    return replace(config, kafka=kafka_settings(options, config.kafka), batching=batching)


def _check_installed() -> None:
    missing = [name for name in ("kafka", "lz4") if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError("forwarding to Kafka needs kafka-python and lz4: pip install -e '.[cluster]' in its checkout")
