"""Raw samples: every run that was made, with what it was made on, as lines of a `Journal`.

- `setup`: what decides how long runs take: model, stack, hardware, software, dtype, degree, architecture, and
  `depths`: how many layers ran, to the factor of their runtimes in that of the whole model ({"0": 1.0}: all). Its
  `setup` is an id, a hash of all that; a new driver is a new setup, and measured anew.
- `session`: a process that measured a setup: when, and what may differ from day to day (clocks, others' load).
- `run`: one run of a setup at one depth (`layers`), with the point that was asked for where its tokens are others.
- `power`: joules that one accelerator used over some seconds of one phase, `prompt` or `output`.

The samples of such a file are its runs. Where depths are several, they are those of the whole model: the factors times
the runs that were made one after the other at each depth.
"""

import hashlib
import json
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import msgspec
import numpy as np

from profiler.architectures import Architecture
from profiler.journal import Journal, JournalError, read_journal
from profiler.machine import Run
from profiler.measured import Measured, SamplesError

__all__ = ["WHOLE", "Point", "Runs", "Setup", "read_runs", "whole_seconds"]

FORMAT = 1

WHOLE = 0
"""The depth of a model that ran with all its layers."""

Point = tuple[int, int]
"""Prompt and output tokens."""


@dataclass(frozen=True, slots=True)
class Setup:
    """What decides how long runs take. `stack` is hardware and software in one name, the name of the table's stack.

    `depths` maps how many layers ran to the factor of their runtimes in that of the whole model.
    """

    model: str
    stack: str
    hardware: Mapping[str, Any]
    software: Mapping[str, Any]
    dtype: str | None = None
    tensor_parallel: int = 1
    architecture: Architecture | None = None
    depths: Mapping[int, float] = field(default_factory=lambda: {WHOLE: 1.0})
    notes: Sequence[str] = ()

    @property
    def id(self) -> str:
        """A short hash of everything that decides a runtime: of all but words."""
        record = {**self.record(), "notes": None}
        if record["architecture"] is not None:
            record["architecture"] = {**record["architecture"], "name": None, "source": None}
        return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()[:12]

    def record(self) -> dict[str, Any]:
        """All of it as JSON."""
        architecture = None if self.architecture is None else asdict(self.architecture)
        depths = {str(layers): factor for layers, factor in self.depths.items()}
        whole = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {**whole, "architecture": architecture, "depths": depths, "notes": list(self.notes)}


@dataclass(frozen=True, slots=True)
class _Power:
    """Joules that one accelerator used over some seconds of a phase."""

    phase: str
    seconds: float
    joules: float


@dataclass(slots=True)
class _Kept:
    """What a file holds of one setup, in order."""

    setup: Setup | None = None
    runs: defaultdict[tuple[int, Point], list[Run]] = field(default_factory=lambda: defaultdict(list))
    powers: list[_Power] = field(default_factory=list)


class Runs:
    """The runs of one setup in a journal: those that are there, and those that are added."""

    def __init__(self, journal: Journal, setup: Setup, session: Mapping[str, Any]) -> None:
        """Go on with `setup`, or begin it. `session` is what to remember of this time.

        JournalError where an entry of the journal is malformed, or none can be added.
        """
        self.setup = setup
        self._journal = journal
        self._id = setup.id
        kept = _kept(journal.entries, journal.path).get(self._id, _Kept())
        self._made, self._powers = kept.runs, kept.powers
        if kept.setup is None:
            journal.append({"kind": "setup", "setup": self._id, "format": FORMAT, **setup.record()})
        self._session = session
        self._begun = False

    def at(self, point: Point, layers: int = WHOLE) -> list[Run]:
        """The runs made of a point at a depth, oldest first."""
        return self._made.get((layers, point), [])

    @property
    def number(self) -> int:
        """How many runs there are."""
        return sum(map(len, self._made.values()))

    def points(self) -> list[Point]:
        """The points that ran at every depth, in the order in which they first ran."""
        known = dict.fromkeys(point for _, point in self._made)
        return [point for point in known if all(self._made.get((depth, point)) for depth in self.setup.depths)]

    def add(self, point: Point, run: Run, layers: int = WHOLE, **more: Any) -> None:
        """Keep a run; `more` goes into its entry. JournalError where it cannot be written."""
        made = self._made[layers, point]
        asked = {} if point == (run.prompt_tokens, run.output_tokens) else {"asked": list(point)}
        self._append("run", {"layers": layers, "number": len(made), **asdict(run), **asked, **more})
        made.append(run)

    def add_power(self, phase: str, point: Point, seconds: float, joules: float, **more: Any) -> None:
        """Keep joules used over some seconds of a `phase`, "prompt" or "output", in which runs of `point` were made."""
        tokens = {"prompt_tokens": point[0], "output_tokens": point[1]}
        self._append("power", {"phase": phase, **tokens, "seconds": seconds, "joules": joules, **more})
        self._powers.append(_Power(phase, seconds, joules))

    def powers(self) -> dict[str, float]:
        """Mean watts of one accelerator by phase, of those that were measured."""
        found = {}
        for phase in dict.fromkeys(each.phase for each in self._powers):
            of_it = [each for each in self._powers if each.phase == phase]
            found[phase] = sum(each.joules for each in of_it) / sum(each.seconds for each in of_it)
        return found

    def samples(self) -> Measured | None:
        """All runs as samples of the whole model; None where there are none yet."""
        return _measured(self.setup, self._made)

    def medians(self) -> Measured | None:
        """The median of each point instead: what a planner that is told medians can expect of another model."""
        return _measured(self.setup, self._made, medians=True)

    def _append(self, kind: str, fields: Mapping[str, Any]) -> None:
        if not self._begun:
            self._begun = True
            self._append("session", self._session)
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        self._journal.append({"kind": kind, "setup": self._id, **fields, "at": at})


def read_runs(path: Path) -> tuple[Measured, ...]:
    """The samples of a file of runs, one `Measured` a setup that has any, in order; SamplesError where it has none."""
    try:
        kept = _kept(read_journal(path), path)
    except JournalError as error:
        raise SamplesError(str(error)) from None
    found = [_measured(each.setup, each.runs) for each in kept.values() if each.setup is not None]
    samples = tuple(each for each in found if each is not None)
    if not samples:
        raise SamplesError(f"{path}: no runs in it")
    return samples


def _kept(entries: Sequence[Mapping[str, Any]], path: Path) -> dict[str, _Kept]:
    """What a file holds of each setup, by its id; JournalError names the line that is none of ours."""
    found: dict[str, _Kept] = {}
    for number, entry in enumerate(entries, 1):
        try:
            _keep(entry, found)
        except (LookupError, ValueError) as error:
            why = f"its setup {error} is not above it" if isinstance(error, LookupError) else error
            raise JournalError(f"{path}: line {number}: no {entry['kind']} as measuring writes it: {why}") from None
    return found


def _keep(entry: Mapping[str, Any], found: dict[str, _Kept]) -> None:
    kind = entry["kind"]
    if kind not in {"setup", "run", "power"}:
        return
    setup = msgspec.convert(entry.get("setup"), str)
    if kind == "setup":
        if entry.get("format") != FORMAT:
            raise ValueError(f"format {entry.get('format')!r}: this version reads {FORMAT}")
        found.setdefault(setup, _Kept()).setup = msgspec.convert(entry, Setup, str_keys=True)
    elif kind == "run":
        run, layers = _run(entry), msgspec.convert(entry.get("layers", WHOLE), int)
        point = msgspec.convert(entry.get("asked", (run.prompt_tokens, run.output_tokens)), tuple[int, int])
        found[setup].runs[layers, point].append(run)
    else:
        power = msgspec.convert(entry, _Power)
        if not (power.seconds > 0 and math.isfinite(power.joules / power.seconds)):
            raise ValueError(f"{power.joules} J in {power.seconds} s")
        found[setup].powers.append(power)


def _run(entry: Mapping[str, Any]) -> Run:
    run = msgspec.convert(entry, Run)
    if min(run.prompt_tokens, run.output_tokens) < 1 or not 0 < run.first_seconds <= run.seconds < math.inf:
        tokens = f"{run.prompt_tokens} + {run.output_tokens} tokens"
        raise ValueError(f"{tokens} in {run.seconds} s, the first after {run.first_seconds} s")
    return run


def _measured(
    setup: Setup, made: Mapping[tuple[int, Point], Sequence[Run]], *, medians: bool = False
) -> Measured | None:
    runs = list(_whole(setup.depths, made, medians=medians))
    rows = [(run.prompt_tokens, 1, run.first_seconds) for run in runs]
    rows += [(run.prompt_tokens, run.output_tokens, run.seconds) for run in runs if run.output_tokens > 1]
    if not rows:
        return None
    prompt, output, seconds = (np.array(column) for column in zip(*rows, strict=True))
    return Measured(
        hardware=setup.stack,
        model=setup.model,
        tensor=setup.tensor_parallel,
        prompt=prompt.astype(np.int64),
        output=output.astype(np.int64),
        seconds=seconds.astype(np.float64),
        batch=np.ones(len(rows), np.int64),
        architecture=setup.architecture,
    )


def _whole(
    depths: Mapping[int, float], made: Mapping[tuple[int, Point], Sequence[Run]], *, medians: bool
) -> Iterator[Run]:
    """Runs of the whole model: as they were, or those that runs one after the other at all depths point to.

    So what noise becomes on the way from some layers to all is in them. With `medians` it is one for each point.
    """
    factors = list(depths.values())
    for point in dict.fromkeys(point for _, point in made):
        there = [made.get((layers, point), ()) for layers in depths]
        if medians and all(there):
            yield _joined(factors, list(map(_median, there)))
        elif not medians:
            yield from there[0] if factors == [1.0] else (_joined(factors, each) for each in zip(*there, strict=False))


def _median(runs: Sequence[Run]) -> Run:
    first, seconds = median(run.first_seconds for run in runs), median(run.seconds for run in runs)
    return replace(runs[0], first_seconds=first, seconds=seconds)


def _joined(factors: Sequence[float], runs: Sequence[Run]) -> Run:
    """The run of the whole model that those at its depths point to."""
    first = whole_seconds(factors, [run.first_seconds for run in runs])
    seconds = whole_seconds(factors, [run.seconds for run in runs])
    return replace(runs[0], first_seconds=first, seconds=max(first, seconds))


def whole_seconds(factors: Sequence[float], seconds: Sequence[float]) -> float:
    """Seconds of the whole model from those at some depths; noise cannot make it faster than the slowest of them."""
    return max(sum(factor * each for factor, each in zip(factors, seconds, strict=True)), *seconds, 0.0)
