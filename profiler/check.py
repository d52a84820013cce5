"""What may be wrong with a coefficient table: every rule on every row, sources, known violations, drift. Pure."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from profiler.check_rules import Finding, Level, check_row
from profiler.drift import Drift, drift
from profiler.published import as_known, not_verbatim
from stream.table_format import Row, Stack, TableError, parse_table

__all__ = ["Report", "StackReport", "check_stack", "check_table"]

_ORIGIN = ("hardware", "software", "date", "source")


@dataclass(frozen=True, slots=True)
class StackReport:
    """What was found in one stack; `before` is its older version, if any, `drift` what moved since."""

    stack: Stack
    findings: tuple[Finding, ...]
    drift: Drift | None = None
    before: Stack | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """What was found in one file: by stack, of the file as a whole (`general`), and why it is no table at all."""

    file: str
    stacks: tuple[StackReport, ...]
    general: tuple[Finding, ...] = ()
    unreadable: str | None = None

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Everything found, in the order of the file."""
        wrong = () if self.unreadable is None else (Finding("error", "format", self.unreadable),)
        return (*wrong, *(finding for stack in self.stacks for finding in stack.findings), *self.general)

    def count(self, level: Level) -> int:
        """How many findings there are of one level."""
        return sum(finding.level == level for finding in self.findings)


def check_table(content: bytes, file: str, against: tuple[bytes, str] | None = None) -> Report:
    """Check the content of the file called `file`, and its drift since the content and name `against`.

    What cannot be read as a table is an error of its own; raises TableError only for `against`.
    """
    old = () if against is None else _named(*against)
    try:
        stacks = _named(content, file)
    except TableError as error:
        return Report(file, (), unreadable=str(error))
    raw = json.loads(content.decode("utf-8-sig"))
    reports = tuple(_report(stack, raw, _before(stack, stacks, old)) for stack in stacks)
    return Report(file, reports, tuple(_gone(reports, old)))


def _report(stack: Stack, raw: dict[str, Any], old: Stack | None) -> StackReport:
    moved = drift(stack, old) if old is not None else None
    found = (*check_stack(stack), *_unsaid(stack, raw), *(_drifted(stack, moved) if moved else ()))
    return StackReport(stack, found, moved, old)


def _before(stack: Stack, stacks: Sequence[Stack], old: Sequence[Stack]) -> Stack | None:
    """The older version of a stack: the one of its name, or the only one where both files hold one."""
    if len(stacks) == len(old) == 1:
        return old[0]
    return next((each for each in old if each.name == stack.name), None)


def _gone(reports: Sequence[StackReport], old: Sequence[Stack]) -> Iterator[Finding]:
    """Stacks of the older version that were compared with nothing; one line where none was compared."""
    if len(reports) == len(old) == 1:
        return
    names = {report.stack.name for report in reports}
    if old and not any(each.name in names for each in old):
        both = f"{', '.join(sorted(names))} here, {', '.join(each.name for each in old)} there"
        text = f"nothing was compared with the older version, no stack has the same name in both: {both}"
        yield Finding("warning", "drift", text)
        return
    yield from (
        Finding("warning", "drift", "the stack is gone", stack=each.name) for each in old if each.name not in names
    )


def check_stack(stack: Stack) -> tuple[Finding, ...]:
    """Every rule on every row of a stack, what it says of its origin, and its known violations told as known."""
    found = [*_origin(stack), *_errors_unsaid(stack)]
    for row in stack.rows.values():
        found += check_row(stack, row)
    told = (as_known(replace(each, stack=stack.name), stack) for each in found)
    return (*told, *not_verbatim(stack))


def _origin(stack: Stack) -> Iterator[Finding]:
    missing = [name for name in _ORIGIN if not getattr(stack, name)]
    if missing:
        yield Finding("warning", "origin-missing", f"the stack does not say its {', '.join(missing)}")
    for row in stack.rows.values():
        if row.provenance == "predicted" and not (row.source or stack.source):
            yield Finding("error", "origin-missing", "predicted, without a source", row=row.name)


def _errors_unsaid(stack: Stack) -> Iterator[Finding]:
    silent = [row for row in stack.rows.values() if row.provenance != "predicted" and not _error_said(row)]
    if silent:
        text = f"{len(silent)} of {len(stack.rows)} rows say nothing of their error (fit_error, intervals)"
        yield Finding("warning", "error-unsaid", text, (len(silent), len(stack.rows)))


def _error_said(row: Row) -> bool:
    return row.fit_error is not None or row.fit is not None or bool(row.intervals)


def _unsaid(stack: Stack, raw: dict[str, Any]) -> Iterator[Finding]:
    """Rows that do not say their provenance, and are taken to be measured."""
    models = raw.get("stacks", {}).get(stack.name, raw).get("models", raw)
    silent = [name for name in stack.rows if "provenance" not in models.get(name, {})]
    if silent:
        text = f"{len(silent)} of {len(stack.rows)} rows do not say their provenance: taken as measured"
        yield Finding("warning", "provenance-missing", text, stack=stack.name)


def _drifted(stack: Stack, moved: Drift) -> Iterator[Finding]:
    for name in moved.removed:
        yield Finding("warning", "drift", "the row is gone", stack=stack.name, row=name)
    for name, change in moved.changed.items():
        yield Finding("warning", "drift", change.text, stack=stack.name, row=name)


def _named(content: bytes, file: str) -> tuple[Stack, ...]:
    """The stacks of a file; one without a name is called by the file's stem, as everywhere."""
    stacks = parse_table(content, file).stacks
    return tuple(stack if stack.name else replace(stack, name=Path(file).stem) for stack in stacks)
