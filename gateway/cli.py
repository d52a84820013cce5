"""The `gateway` command: run the gateway, show a demo, print or explain recorded events, check a configuration."""

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from gateway.kafka_options import add_forwarding_options
from gateway.otlp_options import add_otlp_option
from stream.coefficients import DEFAULT_STACK
from stream.command import (
    Parser,
    UsageError,
    add_assume_option,
    add_cost_options,
    add_version_option,
    port_number,
    run_quietly,
)
from stream.hosts import is_address

_RUN_WHAT = """\
Pass LLM traffic on, byte for byte, and record one event a request. Runs until SIGTERM or Ctrl-C; requests in
flight then have --grace-seconds to finish. Its first line says where it is."""
_DEMO_WHAT = """\
Run the gateway before a replayed provider, with traffic of a production trace, until Ctrl-C. Nothing of it is
kept: the events lie in a temporary directory."""
_EVENTS_WHAT = """\
Print the recorded events as JSON lines, enriched with the tables and baselines that the gateway used; also while it
runs, and when none does. Callers are names of the configuration, or c_... made of their keys (field `caller`)."""
_EXPLAIN_WHAT = """\
Say where one recorded request's time went (model, stack and contention), what it cost, and what else there is to know
of it: the latest one, without an ID. Also while the gateway runs, and when none does. `gateway events` prints ids; the
beginning of one is enough."""
_OUTCOMES_WHAT = """\
Post the outcomes of a file to a running gateway: whether the answers to problems were right, one JSON object a line,
or an array of them. To post a file again does no harm: of each id the outcome that was recorded last counts."""
_PRICES_WHAT = """\
Print what providers bill for models, by litellm's price map, and where it is known from: the prices of the data
directory, or else those shipped. Models are called as the map has them, such as gpt-4o or groq/openai/gpt-oss-120b.
A request is billed by an entry of the provider that served it: --provider says which entry that is.
With --refresh the prices are read anew, checked, and kept in the data directory; without prices.json there it is the
shipped ones again."""
_CHECK_WHAT = """\
Read a configuration file as `gateway run` does, and say where each model leads, and which row covers it."""
_RUN = """examples:
  gateway run                                        # /v1/... goes to OpenAI, with the caller's own key
  gateway run --upstream http://127.0.0.1:8000/v1    # a server of your own
  gateway run --config config.yaml                   # litellm's model_list, read as it is
  gateway run --assume gpt-4o=llama-3.1-70b          # a closed model, taken to cost what an open one does
  gateway run --stack h100-predicted                 # the reference stack that leads
  gateway run --workers 4                            # four processes that serve, and one that counts
  gateway run --kafka 10.0.0.7:9092                  # events also go to Kafka, for stream workers
  gateway run --otlp http://127.0.0.1:4318           # spans and metrics also go to an OpenTelemetry collector
  gateway run --host 0.0.0.0 --allowed-host llm.internal --admin 127.0.0.1:4001"""
_DEMO = """example:
  gateway demo --speed 5 --duration 60"""
_EVENTS = """examples:
  gateway events --since 15m
  gateway events --follow | stream enrich --stack v100-megatron
  gateway events --delete --caller c_0123456789abcdef"""
_EXPLAIN = """examples:
  gateway explain                                    # the latest request
  gateway explain 019ab3f0c2d4                       # an id, or the beginning of one"""
_OUTCOMES = """example:
  echo '{"problem": "gsm8k-17", "strategy": "majority", "correct": true}' > outcomes.jsonl
  gateway outcomes outcomes.jsonl"""
_PRICES = """examples:
  gateway prices gpt-4o claude-sonnet-4-5
  gateway prices gemini-2.5-pro --provider gcp.gemini --constants costs.json
  gateway prices --refresh                           # litellm's map of today
  gateway prices --refresh --from litellm            # that of the litellm installed here"""
_CHECK = """example:
  gateway check config.yaml"""


_MOST_WORKERS = 256


def default_data_dir() -> Path:
    """`$XDG_DATA_HOME/trueclock`."""
    home = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return Path(home) / "trueclock"


def _parser() -> Parser:
    parser = Parser(prog="gateway", description="trueclock: how long should that LLM call have taken?")
    add_version_option(parser)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_run(commands.add_parser("run", help="run the gateway", description=_RUN_WHAT, epilog=_RUN))
    _add_demo(
        commands.add_parser("demo", help="show it at work on replayed traffic", description=_DEMO_WHAT, epilog=_DEMO)
    )
    _add_events(
        commands.add_parser("events", help="print recorded events, enriched", description=_EVENTS_WHAT, epilog=_EVENTS)
    )
    _add_explain(
        commands.add_parser("explain", help="one request in words", description=_EXPLAIN_WHAT, epilog=_EXPLAIN)
    )
    _add_outcomes(commands.add_parser("outcomes", help="post outcomes", description=_OUTCOMES_WHAT, epilog=_OUTCOMES))
    _add_prices(commands.add_parser("prices", help="what providers bill", description=_PRICES_WHAT, epilog=_PRICES))
    check = commands.add_parser("check", help="check a configuration file", description=_CHECK_WHAT, epilog=_CHECK)
    check.add_argument("file", type=Path, metavar="FILE")
    return parser


def _add_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--host", type=_host, default="127.0.0.1", help="address to bind (default: %(default)s)")
    parser.add_argument("--port", type=port_number, default=4000, help="port, 0 for a free one (default: %(default)s)")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--upstream", metavar="URL", help="send everything there, with or without a trailing /v1")
    where.add_argument("--config", type=Path, metavar="FILE", help="config.yaml with litellm's model_list")
    add_assume_option(parser)
    parser.add_argument("--stack", metavar="NAME", help=f"the reference stack that leads (default: {DEFAULT_STACK})")
    add_cost_options(parser)
    _add_data_dir(parser)
    parser.add_argument(
        "--workers", type=_workers, default=0, metavar="N", help="processes that serve (default: one does everything)"
    )
    add_forwarding_options(parser)
    add_otlp_option(parser)
    parser.add_argument("--admin", metavar="HOST:PORT", help="page and metrics apart (default when not on loopback)")
    parser.add_argument(
        "--allowed-host", action="append", type=_host, default=[], metavar="NAME", help="a Host to serve"
    )
    parser.add_argument(
        "--grace-seconds", type=_positive, default=30.0, metavar="S",
        help="for requests in flight to finish after SIGTERM (default: %(default)g)",
    )  # fmt: skip
    parser.add_argument("--address-file", type=Path, metavar="FILE", help="write the gateway's address there")


def _add_demo(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--speed", type=_positive, default=1.0, help="compress arrivals (default: %(default)g)")
    parser.add_argument("--duration", type=_positive, metavar="S", help="stop after so many seconds")
    parser.add_argument("--port", type=port_number, default=4000, help="port, 0 for a free one (default: %(default)s)")
    parser.add_argument("--address-file", type=Path, metavar="FILE", help="write the gateway's address there")


def _add_events(parser: argparse.ArgumentParser) -> None:
    _add_data_dir(parser)
    parser.add_argument("--since", metavar="WHEN", help="RFC 3339, or 15m, 6h, 7d, 2w ago (default: everything)")
    parser.add_argument("--follow", action="store_true", help="go on as events come")
    parser.add_argument("--caller", metavar="NAME", help="only this caller's")
    parser.add_argument("--delete", action="store_true", help="erase the events of --caller")


def _add_explain(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "id", nargs="?", metavar="ID", help="the event's id, or its beginning, or its trace's (default: the latest)"
    )
    _add_data_dir(parser)
    parser.add_argument("--stack", metavar="NAME", help="the reference stack (default: the first that covers it)")
    parser.add_argument("--json", action="store_true", help="everything as one JSON object")


def _add_outcomes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE")
    parser.add_argument(
        "--url", default="http://127.0.0.1:4000", help="where the gateway's page is (default: %(default)s)"
    )


def _add_prices(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("models", nargs="*", metavar="MODEL", help="print this one's prices")
    parser.add_argument("--prices", type=Path, metavar="FILE", help="prices of that file")
    parser.add_argument("--provider", metavar="NAME", help="what it bills, such as openai (default: anybody's entry)")
    parser.add_argument("--constants", type=Path, metavar="FILE", help="a file with prices of your own")
    parser.add_argument("--refresh", action="store_true", help="read the prices anew")
    parser.add_argument(
        "--from", dest="origin", metavar="URL", help="or a FILE, or litellm (default: litellm's newest)"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="write there (default: prices.json of --data-dir)")
    parser.add_argument("--force", action="store_true", help="also prices that lack most of the models there were")
    _add_data_dir(parser)


def _add_data_dir(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data-dir", type=Path, default=default_data_dir(), metavar="DIR", help="event log (default: %(default)s)"
    )


def _host(text: str) -> str:
    if not text or "/" in text or (":" in text and not is_address(text)):
        raise argparse.ArgumentTypeError(f"{text!r} is no host: expected a name or an address, without scheme or port")
    return text


def _workers(text: str) -> int:
    if not text.isdigit() or not 0 < int(text) <= _MOST_WORKERS:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of workers (1 to {_MOST_WORKERS})")
    return int(text)


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return value


def _events(options: argparse.Namespace) -> int:
    from gateway.events_command import delete_events, print_events

    if options.delete:
        if options.caller is None or options.since or options.follow:
            raise UsageError("--delete goes with --caller, and with nothing else")
        return delete_events(options.data_dir, options.caller)
    return print_events(options.data_dir, options.since, options.caller, follow=options.follow)


def _explain(options: argparse.Namespace) -> int:
    from gateway.explain import print_explanation

    return print_explanation(options.data_dir, options.id, stack=options.stack, as_json=options.json)


def _outcomes(options: argparse.Namespace) -> int:
    from gateway.outcomes_command import post_outcomes

    return post_outcomes(options.file, options.url)


def _prices(options: argparse.Namespace) -> int:
    from gateway.prices_command import refresh_prices, show_prices

    if not options.refresh:
        if options.origin or options.out or options.force:
            raise UsageError("--from, --out and --force go with --refresh")
        provider, own = options.provider, options.constants
        return show_prices(options.models, options.data_dir, options.prices, provider=provider, constants=own)
    if options.models or options.prices or options.provider or options.constants:
        raise UsageError("--refresh goes with --from, --out, --force and --data-dir, and with nothing else")
    return refresh_prices(options.origin, options.data_dir, options.out, force=options.force)


def _check(options: argparse.Namespace) -> int:
    from gateway.kafka_options import with_kafka
    from gateway.otlp_options import with_otlp
    from gateway.settings_file import costs_in_use, covered_destinations, load_settings_file

    config, tables = load_settings_file(options.file)
    run = _parser().parse_args(["run", "--config", str(options.file)])
    with_otlp(with_kafka(config, run), run)  # whether what these need is there
    for warning in config.warnings:
        print(warning, file=sys.stderr)
    for line in covered_destinations(config, tables):
        print(line)
    print(f"anything else -> {config.default.root if config.default else 'refused (404)'}")
    print(f"reference stack {tables.reference}, tables {tables.version}")
    for line in costs_in_use(config, tables):
        print(line)
    return 0


def _run(options: argparse.Namespace) -> int:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # which asks to read what is just about to be read
    from gateway.run import run

    return run(options)


def _demo(options: argparse.Namespace) -> int:
    from gateway.run import demo

    return demo(options)


_COMMANDS = {
    "run": _run,
    "demo": _demo,
    "events": _events,
    "explain": _explain,
    "outcomes": _outcomes,
    "prices": _prices,
    "check": _check,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the `gateway` command and give its exit status."""
    options = _parser().parse_args(argv)
    return run_quietly(f"gateway {options.command}", lambda: _COMMANDS[options.command](options))


if __name__ == "__main__":
    sys.exit(main())
