"""`profiler check`: whether the numbers of coefficient tables can be meant so."""

import argparse
import json
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from profiler.check import Report, StackReport, check_table
from profiler.check_rules import Finding, Level
from profiler.drift import POINTS, Drift
from profiler.shipped import shipped_stacks, table_file
from stream.command import UsageError

__all__ = ["add"]

_DESCRIPTION = """\
Check coefficient tables: plausible seconds; origin, provenance and errors said; T(p, o) never falls with output
tokens, nor F(p) with prompt tokens in fits and predictions of ours; no single F far off its neighbours; intervals
that hold their value; proxies with the numbers of what they stand for; and with --against, what moved since an
older version. The known violations of published tables, which stay as they were published, are told as known: how
many of each sort, and with --verbose or --json each by itself.

An older version is compared stack by stack, by name; where both files hold one stack, whatever their names.

TABLE is a file, or the name of a shipped stack; without one all shipped tables are checked.

Exit status: 0 (warnings or none), 1 if there are errors, 2 for wrong use or a file that is not there."""

_EXAMPLES = """\
examples:
  profiler check my_table.json
  profiler check my_table.json --against my_table.old.json
  profiler check --verbose a100-megatron"""

_AS_PUBLISHED = {
    "fall": "F falls at {count}",
    "jump": "F jumps, or is far off its neighbours, at {count}",
    "first-token": "the first output token is quicker than a further one at {count}",
}
"""The codes of known violations of numbers, in words."""

_LEVELS: tuple[Level, ...] = ("error", "warning", "known")


def add(commands: Any) -> None:
    """Add it to the subparsers of the `profiler` command."""
    command: argparse.ArgumentParser = commands.add_parser(
        "check",
        help="whether the numbers of a table can be meant so",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
    )
    command.add_argument("tables", nargs="*", metavar="TABLE", help="a file, or a shipped stack (default: all of them)")
    command.add_argument("--against", metavar="OLD", help="an older version: tells what was added, removed, changed")
    command.add_argument("--verbose", action="store_true", help="every known violation by itself")
    command.add_argument("--json", action="store_true", help="everything found, as JSON")
    command.set_defaults(run=_check)


def _check(options: argparse.Namespace) -> int:
    tables = options.tables or list(shipped_stacks())
    if options.against and len(tables) != 1:
        raise UsageError("--against OLD goes with one TABLE")
    old = table_file(options.against) if options.against else None
    against = (old.read_bytes(), str(old)) if old else None
    reports = [_report(table_file(each), against) for each in tables]
    if options.json:
        print(json.dumps(_as_json(reports), indent=1))
    else:
        print("\n\n".join(_as_text(report, options.verbose) for report in reports))
    return 1 if any(report.count("error") for report in reports) else 0


def _report(path: Path, against: tuple[bytes, str] | None) -> Report:
    return check_table(path.read_bytes(), str(path), against)


def _as_text(report: Report, verbose: bool) -> str:
    lines = [] if report.unreadable is None else [f"error    {report.unreadable}"]
    lines += [line for stack in report.stacks for line in _stack_lines(report.file, stack, verbose)]
    lines += [_line(finding) for finding in report.general]
    counts = ", ".join(_counted(report.count(level), level) for level in _LEVELS)
    return "\n".join([*lines, counts + ("" if verbose or not report.count("known") else " (--verbose lists them)")])


def _counted(count: int, level: Level) -> str:
    if level == "known":
        return f"{count} known {'violation' if count == 1 else 'violations'}"
    return f"{count} {level}{'' if count == 1 else 's'}"


def _stack_lines(file: str, report: StackReport, verbose: bool) -> Iterator[str]:
    rows = report.stack.rows.values()
    knots = [knot for row in rows for knot in row.coefficients.knots]
    yield f"{file}: {report.stack.name}: {_rows(len(rows))}, prompts of {min(knots)} to {max(knots)} tokens"
    for level in _LEVELS:
        here = [finding for finding in report.findings if finding.level == level]
        yield from map(_line, here) if level != "known" or verbose else _summed_up(here)
    if report.drift and report.before:
        called = "" if report.before.name == report.stack.name else f", there called {report.before.name}"
        yield _drift_line(report.drift, called)


def _summed_up(known: list[Finding]) -> Iterator[str]:
    """One line for each sort of known violation; what is of no number is said in its own words."""
    counts = Counter(finding.code for finding in known)
    for code, count in counts.items():
        said = _AS_PUBLISHED.get(code)
        if said:
            yield f"known    {said.format(count='1 place' if count == 1 else f'{count} places')}, as published"
        else:
            yield from (f"{_line(finding)}, as published" for finding in known if finding.code == code)


def _line(finding: Finding) -> str:
    return f"{finding.level:<8} {_of(finding)}{finding.text}"


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count} rows"


def _of(finding: Finding) -> str:
    if finding.row:
        return f"{finding.row}: "
    return f"{finding.stack}: " if finding.code == "drift" and finding.stack else ""


def _drift_line(drift: Drift, called: str) -> str:
    added = f" ({', '.join(drift.added)})" if drift.added else ""
    moved = sum(change.moved for change in drift.changed.values())
    changed = f"{len(drift.changed)} changed ({moved} in their runtimes)"
    counts = f"{len(drift.removed)} removed, {changed}, {drift.unchanged} as they were"
    return f"against the older version{called}: {_rows(len(drift.added))} added{added}, {counts}"


def _as_json(reports: list[Report]) -> dict[str, Any]:
    counts = {level: sum(report.count(level) for report in reports) for level in _LEVELS}
    named = {"errors": counts["error"], "warnings": counts["warning"], "known": counts["known"]}
    return {**named, "tables": [_report_json(report) for report in reports]}


def _report_json(report: Report) -> dict[str, Any]:
    findings = [asdict(finding) for finding in report.findings]
    stacks = {each.stack.name: _stack_json(each) for each in report.stacks}
    return {"table": report.file, "stacks": stacks, "findings": findings}


def _stack_json(report: StackReport) -> dict[str, Any]:
    rows = {"rows": len(report.stack.rows)}
    if report.drift is None:
        return rows
    changed = {
        name: {
            "largest": _finite(change.largest),
            "ratios": list(map(_finite, change.ratios)),
            "knot": None if change.knot is None else [change.knot[0], _finite(change.knot[1])],
            "described": change.described,
        }
        for name, change in report.drift.changed.items()
    }
    drift = {
        "added": report.drift.added,
        "removed": report.drift.removed,
        "changed": changed,
        "unchanged": report.drift.unchanged,
        "points": POINTS,
    }
    return {**rows, "drift": drift}


def _finite(ratio: float | None) -> float | None:
    """JSON has no infinity: a runtime that was 0 has grown by no number of times."""
    return ratio if ratio is not None and math.isfinite(ratio) else None
