"""`profiler probe`: what an API that nobody can look into needs without contention, by asking it, within a budget."""

import argparse
import sys
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from profiler.endpoint_options import add_endpoint_options, key_of
from profiler.probe_plan import OUTPUTS, ROUNDS, SIZES, points, schedule
from stream.command import UsageError

if TYPE_CHECKING:
    from profiler.endpoint import Endpoint
    from profiler.probe import Stopped
    from profiler.probe_fit import Probed
    from profiler.probe_ledger import Ledger, Tariff
    from profiler.probe_plan import Point, Repeat
    from profiler.probe_table import About
    from stream.baselines import Baseline
    from stream.table_format import Fit

__all__ = ["add"]

_NAME = "profiler probe"
_FAILED, _SPENT = 1, 3

_DESCRIPTION = """\
Learn what an API needs without contention: overhead, F(p) and beta, from requests of a few sizes, each repeated and
spread over time, by their lower edge. Or, with --events, from what `gateway events` recorded: that costs nothing.

URL is any OpenAI-compatible server. What it will cost is said before anything is asked, by the list price of the model
(--prices), by --dollars-per-million, or --free for servers of one's own; --budget is never passed: what a request may
cost at most must fit into what is left before it is sent. Every reply is kept in --samples: the same command goes on
from there, and asks for nothing twice.

Exit status: 0 when all was asked for, 3 when the budget was spent first, 1 when requests failed or too little is known
(what is known is told all the same), 2 for wrong use."""

_EXAMPLES = """\
examples:
  profiler probe https://api.openai.com --model gpt-4o-mini --key-env OPENAI_API_KEY --out openai.json
  profiler probe http://127.0.0.1:8000 --free --minutes 2 --out mine.json --baselines mine-baselines.json
  gateway events --since 7d | profiler probe --events - --out openai.json"""


def add(commands: Any) -> None:
    """Add it to the subparsers of the `profiler` command."""
    command: argparse.ArgumentParser = commands.add_parser(
        "probe", help="coefficients of a black-box API", description=_DESCRIPTION, epilog=_EXAMPLES
    )
    command.add_argument("url", nargs="?", metavar="URL", help="the server, with or without /v1")
    add_endpoint_options(command)
    asked = command.add_argument_group("what to ask")
    asked.add_argument("--prompt-tokens", type=_numbers, metavar="P,P,..", help="prompt sizes (default: 32 .. 2048)")
    asked.add_argument("--output-tokens", type=_numbers, metavar="O,O,..", help="output tokens that tell beta (32,128)")
    asked.add_argument("--rounds", type=_positive, default=ROUNDS, help=f"repeats of each point (default: {ROUNDS})")
    asked.add_argument("--minutes", type=float, default=10.0, help="spread over so long; 0: no pauses (default: 10)")
    asked.add_argument("--quantile", type=float, default=0.05, help="the denoiser's, for what lies between"
                       " the points, and for --events (default: 0.05)")  # fmt: skip
    money = command.add_argument_group("what it may cost")
    money.add_argument("--budget", type=float, default=1.0, metavar="DOLLARS", help="never more, all runs on --samples"
                       " together (default: 1)")  # fmt: skip
    price = money.add_mutually_exclusive_group()
    price.add_argument("--dollars-per-million", type=float, nargs=2, metavar=("PROMPT", "OUTPUT"), help="its price")
    price.add_argument("--free", action="store_true", help="a server of one's own")
    price.add_argument("--prices", type=Path, metavar="FILE", help="list prices in place of the shipped ones")
    money.add_argument("--yes", action="store_true", help="do not ask before spending")
    recorded = command.add_argument_group("from recorded events instead")
    recorded.add_argument("--events", metavar="FILE", help="events as `gateway events` prints them (-: standard input)")
    recorded.add_argument("--window", default="24h", metavar="TIME", help="how far back they count (default: 24h)")
    recorded.add_argument("--upstream", metavar="NAME", help="of this upstream alone; without --events: what the"
                          " gateway calls it (default: its host)")  # fmt: skip
    kept = command.add_argument_group("what is kept")
    kept.add_argument("--samples", type=Path, metavar="FILE.jsonl", help="every reply (default: probe-MODEL.jsonl)")
    kept.add_argument("--out", type=Path, metavar="TABLE.json", help="the coefficient table to write or to add to")
    kept.add_argument("--baselines", type=Path, metavar="FILE.json", help="the same for `stream enrich --baselines`")
    kept.add_argument("--stack", help="the stack's name in the table (default: the upstream's)")
    command.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from profiler.journal import Journal
    from profiler.machine import MachineError

    if not 0.01 <= options.quantile <= 0.25:
        raise UsageError(f"--quantile: {options.quantile:g} is not between 0.01 and 0.25")
    if options.events is not None:
        return _from_events(options)
    _check(options)
    key = key_of(options.key_env)
    try:
        from profiler.endpoint import Endpoint

        with Endpoint(options.url, options.model, key, route=options.route, timeout=options.timeout) as endpoint:
            tariff = _tariff(options, endpoint)
            path = options.samples or Path(f"probe-{_file_name(endpoint.model)}.jsonl")
            with Journal(path) as journal:
                return _probe(options, endpoint, journal, tariff)
    except MachineError as error:
        print(f"{_NAME}: {error}", file=sys.stderr)
        return _FAILED


def _check(options: argparse.Namespace) -> None:
    if options.url is None:
        raise UsageError("give the URL of a server, or --events FILE")
    if not 0 <= options.minutes <= 10_000:
        raise UsageError(f"--minutes: {options.minutes:g} is not between 0 and 10000")
    if not options.budget > 0:
        raise UsageError(f"--budget: {options.budget:g} dollars pay for nothing")
    if not options.timeout > 0:
        raise UsageError(f"--timeout: {options.timeout:g} s is no time for a reply")


def _probe(options: argparse.Namespace, endpoint: "Endpoint", journal: Any, tariff: "Tariff") -> int:
    from profiler.probe_fit import probed
    from profiler.probe_ledger import Ledger, setup_of

    wanted = points(options.prompt_tokens or SIZES, options.output_tokens or OUTPUTS)
    ledger = Ledger(journal, setup_of(endpoint.host, endpoint.model, options.route), tariff, options.budget)
    repeats = schedule(wanted, options.rounds, ledger.taken, Random())  # noqa: S311
    _announce(options, endpoint, ledger, tariff, repeats)
    if repeats and not (options.yes or options.free) and not _agreed():
        return _FAILED
    endpoint.purse = ledger
    stopped = _asked(options, endpoint, ledger, repeats)
    found = probed(options.upstream or endpoint.host, endpoint.model, ledger.samples, options.quantile)
    _report(found, ledger, stopped, wanted)
    if found.baseline is not None:
        _write(options, _about(options, endpoint, ledger), [(found.baseline, found.fit)])
    if stopped.money:
        return _SPENT
    return _FAILED if stopped.reason is not None or not found.sure else 0


def _tariff(options: argparse.Namespace, endpoint: "Endpoint") -> "Tariff":
    """The price of the model; UsageError where nobody says it."""
    from profiler.probe_ledger import Tariff
    from stream.prices import load_prices

    prices = load_prices(options.prices)
    own = [0.0, 0.0] if options.free else options.dollars_per_million
    if own is not None:
        entry = {"input_cost_per_token": own[0] / 1e6, "output_cost_per_token": own[1] / 1e6}
        prices = prices.with_own({endpoint.model: entry})
    tariff = Tariff(prices, endpoint.provider, endpoint.model)
    if tariff.dollars(1, 1) is None:
        raise UsageError(
            f"no price is known of {endpoint.model!r} at {endpoint.host}: give --dollars-per-million PROMPT OUTPUT,"
            " or --free if the server is your own"
        )
    return tariff


def _announce(
    options: argparse.Namespace, endpoint: "Endpoint", ledger: "Ledger", tariff: "Tariff", repeats: "tuple[Repeat, ...]"
) -> None:
    """Say what will be asked and what it will cost, before anything is."""
    if not repeats:
        print(f"{endpoint.model} at {endpoint.host}: all was asked for already ({ledger.requests} requests)")
        return
    tokens = [point for _, point in repeats]
    prompt, output = sum(each for each, _ in tokens), sum(each for _, each in tokens)
    print(
        f"{endpoint.model} at {endpoint.host}: {len(repeats)} requests and 2 to calibrate, over {options.minutes:g} min"
    )
    print(f"about {prompt:,} prompt and {output:,} output tokens")
    if ledger.requests:
        print(f"goes on: {ledger.requests} requests were made before")
    if options.free:
        return
    dollars = sum(tariff.dollars(*each) or 0.0 for each in tokens)
    millions = [1000 * (tariff.dollars(*each) or 0.0) for each in ((1000, 0), (0, 1000))]
    whose = "as you say" if options.dollars_per_million else f"the list price of {tariff.source}"
    print(f"about ${dollars:.4f}, at ${millions[0]:g} and ${millions[1]:g} a million tokens of either, {whose}")
    print(f"never more than ${options.budget:g}, of which ${ledger.spent:.4f} is spent")


def _agreed() -> bool:
    if not sys.stdin.isatty():
        raise UsageError("nobody is there to say yes to that: give --yes")
    print("Spend it? [y/N] ", end="", flush=True)
    return sys.stdin.readline().strip().lower() in {"y", "yes"}


def _asked(
    options: argparse.Namespace, endpoint: "Endpoint", ledger: "Ledger", repeats: "tuple[Repeat, ...]"
) -> "Stopped":
    from profiler.endpoint_error import EndpointError
    from profiler.probe import Stopped, ask
    from profiler.progress import Progress

    with Progress("probe") as progress:

        def watch(done: int, left: float) -> None:
            spent = "" if options.free else f", ${ledger.spent:.4f}"
            progress.update(done / len(repeats), f"{done} of {len(repeats)} requests{spent}", left)

        try:
            return ask(endpoint, ledger, repeats, 60 * options.minutes, watch)
        except EndpointError as error:
            if not ledger.samples:
                raise
            return Stopped(str(error))


def _report(found: "Probed", ledger: "Ledger", stopped: "Stopped", wanted: "tuple[Point, ...]") -> None:
    from profiler.probe_table import found_lines, seen_lines

    print("\n".join(seen_lines(found.seen, found.baseline)))
    if found.baseline is not None:
        print("\n".join(found_lines(found.baseline)))
    replies = sum(sample.point is not None for sample in ledger.samples)
    print(f"{replies} replies at {len(wanted)} points, {ledger.requests} requests in all, ${ledger.spent:.4f} spent")
    if stopped.reason is not None:
        what = "the budget is spent" if stopped.money else "stopped"
        _warn(f"{what}: {stopped.reason}")
    if stopped.failed:
        _warn(f"{stopped.failed} requests failed, the last one: {stopped.last_error}")
    if found.cached:
        _warn(f"{found.cached} prompts came from the provider's cache, in part: they tell of output tokens alone")
    if found.missing is not None:
        _warn(f"no coefficients: {found.missing}")
    elif not found.sure:
        _warn(
            f"T is known to ± {found.uncertainty:.0%} only, too few requests met little contention: give more --rounds"
            " over more --minutes, and the same --samples"
        )


def _about(options: argparse.Namespace, endpoint: "Endpoint", ledger: "Ledger") -> "About":
    from profiler.probe_table import About

    said = endpoint.describe()
    known = ", ".join(f"{name} {said[name]}" for name in ("server", "served_model") if name in said)
    return About(
        stack=options.stack or options.upstream or endpoint.host,
        host=endpoint.host,
        source=f"{len(ledger.samples)} requests by trueclock (profiler probe), route {options.route}",
        **({"software": f"unknown, the provider's own; it says: {known}"} if known else {}),
    )


def _from_events(options: argparse.Namespace) -> int:
    from profiler.probe_events import from_events
    from profiler.probe_table import About, found_lines
    from profiler.progress import DurationError, parse_duration
    from stream.lines import DeadLetters

    if options.url is not None:
        raise UsageError("give a URL or --events, not both")
    try:
        window = parse_duration(options.window)
    except DurationError as error:
        raise UsageError(f"--window: {error}") from None
    letters = DeadLetters()
    with _opened(options.events) as file:
        found = from_events(
            file.read1, letters.add, options.quantile, window, upstream=options.upstream, model=options.model
        )
    by_upstream: dict[str, list[tuple[Baseline, Fit | None]]] = {}
    for baseline in found.baselines:
        by_upstream.setdefault(baseline.upstream or "recorded", []).append((baseline, None))
        print(f"{baseline.model} at {baseline.upstream or 'no upstream'}: {baseline.n} requests")
        print("\n".join(found_lines(baseline)))
    for pair, reason in found.missing.items():
        _warn(f"{pair}: {reason}")
    if options.stack is not None and len(by_upstream) > 1:
        raise UsageError(f"--stack names one stack, the events are of {', '.join(by_upstream)}: choose with --upstream")
    source = f"recorded requests, by trueclock (profiler probe --events), quantile {options.quantile:g}"
    for upstream, rows in by_upstream.items():
        _write(options, About(options.stack or upstream, upstream, source), rows)
    if not found.baselines and not found.missing:
        _warn(f"{options.events}: no events of that upstream or model")
    return 0 if found.baselines and not letters.count else _FAILED


def _opened(name: str) -> Any:
    return Path(name).open("rb") if name != "-" else open(sys.stdin.fileno(), "rb", closefd=False)


def _write(options: argparse.Namespace, about: "About", rows: "list[tuple[Baseline, Fit | None]]") -> None:
    from profiler.probe_table import stack_of
    from profiler.tables import write_stack

    if options.out is not None:
        write_stack(options.out, stack_of(about, rows))
        print(f"{options.out}: stack {about.stack}: {len(rows)} row{'s'[: len(rows) != 1]} written")
    if options.baselines is not None:
        from stream.baselines import NO_BASELINES, baselines_to_json, load_baselines

        before = load_baselines(options.baselines) if options.baselines.exists() else NO_BASELINES
        merged = before.with_([each for each, _ in rows])
        options.baselines.write_bytes(baselines_to_json(merged.values()))
        print(f"{options.baselines}: {len(merged)} baseline{'s'[: len(merged) != 1]}")


def _numbers(text: str) -> tuple[int, ...]:
    parts = text.split(",")
    if not all(part.isascii() and part.isdigit() and 0 < int(part) <= 10**6 for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r}: expected whole numbers from 1 on, with commas, such as 64,512")
    return tuple(map(int, parts))


def _positive(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 < int(text) <= 10_000:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of rounds from 1 to 10000")
    return int(text)


def _file_name(model: str) -> str:
    return "".join(char if char.isalnum() or char in "._-" else "-" for char in model)[-80:].strip("-.") or "model"


def _warn(text: str) -> None:
    print(f"{_NAME}: warning: {text}", file=sys.stderr)
