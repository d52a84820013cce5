"""`stream simulate`: events of a provider whose truth is known, on standard output."""

import argparse
import sys
from pathlib import Path
from typing import Any

from stream.baselines import baselines_to_json
from stream.command import UsageError, run_quietly
from stream.events import encode_event
from stream.simulate import SCENARIOS, Simulation

__all__ = ["add_simulate_command"]

_LISTED = "list"

_DESCRIPTION = """\
Write events of a simulated provider, one JSON object a line, in the order in which they end.

The same seed gives the same bytes on every platform, and the same provider in every scenario. --truth writes the
true coefficients as a table, in the format of `stream denoise --json`, to compare estimates with."""


def _epilog() -> str:
    width = max(map(len, SCENARIOS))
    lines = "\n".join(f"  {name:{width}}  {scenario.about}" for name, scenario in SCENARIOS.items())
    return f"""\
scenarios:
{lines}

examples:
  stream simulate --seed 7 --requests 2000 --scenario onoff --truth truth.json > events.jsonl
  stream denoise --json < events.jsonl > estimate.json
  stream enrich --baselines truth.json < events.jsonl"""


def add_simulate_command(commands: Any) -> None:
    """Add it to the subparsers of the `stream` command."""
    command: argparse.ArgumentParser = commands.add_parser(
        "simulate",
        help="write events of a simulated provider whose truth is known",
        description=_DESCRIPTION,
        epilog=_epilog(),
    )
    command.add_argument("--seed", type=int, default=1, metavar="N", help="which provider (default: 1)")
    command.add_argument("--requests", type=int, default=1000, metavar="K", help="how many (default: 1000)")
    command.add_argument("--scenario", default="default", metavar="NAME", help=f"one of those below, or {_LISTED}")
    command.add_argument("--truth", type=Path, metavar="FILE", help="where the true coefficients go")
    command.add_argument(
        "--rate", type=float, default=1.0, metavar="PER_SECOND", help="requests per second (default: 1)"
    )
    command.set_defaults(run=lambda options: run_quietly("stream simulate", lambda: _simulate(options)))


def _simulate(options: argparse.Namespace) -> int:
    if options.scenario == _LISTED:
        print(_epilog().partition("\n\n")[0])
        return 0
    simulation = _simulation(options)
    if options.truth is not None:
        options.truth.write_bytes(baselines_to_json(simulation.baselines()))
    for simulated in simulation:
        sys.stdout.buffer.write(encode_event(simulated.event) + b"\n")
    return 0


def _simulation(options: argparse.Namespace) -> Simulation:
    if options.scenario not in SCENARIOS:
        raise UsageError(f"--scenario {options.scenario}: expected one of {', '.join(SCENARIOS)}")
    if options.requests < 1:
        raise UsageError(f"--requests {options.requests}: expected 1 or more")
    if not 1e-4 <= options.rate <= 1e5:
        raise UsageError(f"--rate {options.rate}: expected requests per second, from 0.0001 to 100,000")
    return Simulation(options.seed, options.requests, options.scenario, options.rate)
