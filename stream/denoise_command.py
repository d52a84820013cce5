"""`stream denoise`: from recorded events to what each provider at its best needs, as a table."""

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from io import BufferedReader
from typing import Any, cast

from stream.baselines import Baseline, baselines_to_json
from stream.coefficients import Tables, load_tables
from stream.command import UsageError, run_quietly
from stream.denoise import Denoiser
from stream.enrich import enrich
from stream.events import InvalidEvent, decode_event
from stream.labels import clean_label
from stream.lines import Bury, DeadLetters, numbered_lines

__all__ = ["add_denoise_command"]

_REFRESHED_EVERY = 64  # events
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}

_DESCRIPTION = """\
Estimate, from recorded requests, what each upstream would need for each model without contention: overhead, F(p)
for prompt sizes, seconds per output token and per token of context, from its least contended requests.

Reads events from standard input, one JSON object a line, in the order in which they came. Pairs of upstream and
model with too little to go by are named on standard error, with what is missing; so are lines that cannot be read.

Exit status: 0, or 1 if a line could not be read (after all others are done), or 2 for wrong use."""

_EXAMPLES = """\
examples:
  gateway events --since 7d | stream denoise
  gateway events | stream denoise --json > baselines.json
  gateway events | stream enrich --baselines baselines.json"""


def add_denoise_command(commands: Any) -> None:
    """Add it to the subparsers of the `stream` command."""
    command: argparse.ArgumentParser = commands.add_parser(
        "denoise",
        help="estimate what each provider at its best needs",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
    )
    command.add_argument("--json", action="store_true", help="a coefficient table, with intervals, for other commands")
    command.add_argument(
        "--window", default="24h", metavar="TIME", help="how far back observations count, such as 90m (default: 24h)"
    )
    command.add_argument(
        "--quantile", type=float, default=0.05, help="how low is least contended, 0.01 to 0.25 (default: 0.05)"
    )
    command.set_defaults(run=lambda options: run_quietly("stream denoise", lambda: _denoise(options)))


def _denoise(options: argparse.Namespace) -> int:
    if not 0.01 <= options.quantile <= 0.25:
        raise UsageError(f"--quantile: {options.quantile:g} is not between 0.01 and 0.25")
    denoiser = Denoiser(_seconds(options.window), options.quantile)
    letters, watched = DeadLetters(), _Watched(denoiser, load_tables())
    watched.read(cast("BufferedReader", sys.stdin.buffer).read1, letters.add)
    denoiser.refresh(force=True)
    baselines = sorted(denoiser.baselines.values(), key=lambda each: (each.upstream or "", each.model))
    if options.json:
        sys.stdout.buffer.write(baselines_to_json(baselines))
    elif baselines:
        print(_table(baselines))
    for upstream, model in watched.seen:
        if reason := denoiser.missing(upstream, model):
            print(f"{_name(upstream, model)}: {reason}", file=sys.stderr)
    return 1 if letters.count else 0


def _seconds(text: str) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text, re.ASCII)
    if found is None or not float(found[1]):
        raise UsageError(f"--window: {text!r} is no time; give a number and s, m, h or d, such as 24h")
    return float(found[1]) * _UNITS[found[2]]


class _Watched:
    """Feeds a denoiser, and remembers which pairs there were."""

    def __init__(self, denoiser: Denoiser, tables: Tables) -> None:
        self.seen: dict[tuple[str | None, str | None], None] = {}
        self._denoiser, self._tables = denoiser, tables

    def read(self, read: Callable[[int], bytes], bury: Bury) -> None:
        count = 0
        for batch in numbered_lines(read, bury):
            for number, line in batch:
                try:
                    enriched = enrich(decode_event(line), self._tables, self._denoiser.baselines)
                except InvalidEvent as error:
                    bury(number, line, str(error))
                    continue
                self._denoiser.observe(enriched)
                self.seen[enriched.event.upstream, enriched.event.model] = None
                count += 1
                if not count % _REFRESHED_EVERY:
                    self._denoiser.refresh()


_HEAD = ("upstream/model", "n", "basis", "overhead", "F(p)", "per output token", "per context token", "steps")


def _table(baselines: Sequence[Baseline]) -> str:
    rows = [_HEAD, *map(_row, baselines)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _row(baseline: Baseline) -> tuple[str, ...]:
    middle = len(baseline.knots) // 2
    low, high = baseline.intervals["runtime_for_prompt_tokens"]
    prompt, seconds = baseline.knots[middle], baseline.prompt_seconds[middle]
    return (
        _name(baseline.upstream, baseline.model),
        str(baseline.n),
        baseline.basis,
        _between(baseline.overhead, baseline.intervals["overhead"]),
        f"F({prompt}) = {_between(seconds, (low * seconds, high * seconds))}",
        _between(baseline.per_output_token, baseline.intervals["runtime_per_output_token"]),
        f"{baseline.context:.2g} s" if baseline.context else "-",
        ", ".join(f"x{step.factor:.2f} at {step.at:%Y-%m-%d %H:%M}" for step in baseline.steps) or "-",
    )


def _between(seconds: float, interval: tuple[float, float]) -> str:
    low, high = (f"{each * 1000:.3g}" for each in interval)
    return f"{seconds * 1000:.3g} ms ({low}-{high})"


def _name(upstream: str | None, model: str | None) -> str:
    """Both come from the wire: nothing in them may steer a terminal."""
    return clean_label(f"{upstream}/{model}" if upstream else str(model))
