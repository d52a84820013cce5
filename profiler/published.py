"""What is known of the published tables that ship with the program: their numbers and the violations in them.

They stay as they were published, and F falls somewhere in most of their rows. `known_violations.json` beside this
module lists such violations by stack, row and rule, with the numbers by which each is told again, and for every row
a digest of its coefficients.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, replace
from functools import cache
from pathlib import Path
from typing import Any

from profiler.check_rules import Finding
from stream.runtime import Coefficients
from stream.table_format import Stack

__all__ = ["NUMBERS", "as_known", "digest", "known_violations", "not_verbatim"]

NUMBERS = "numbers"
_FILE = Path(__file__).with_name("known_violations.json")
_PAPER = "2305.02440"
_ROUNDING = 1e-9

Known = Mapping[str, Mapping[str, Any]]
"""Of one stack: row -> `NUMBERS` -> digest, and row -> code -> evidence of each violation; "" is the stack itself."""


@cache
def known_violations() -> Mapping[str, Known]:
    """What is known, by stack."""
    stacks: dict[str, Known] = json.loads(_FILE.read_bytes())["stacks"]
    return stacks


def digest(numbers: Coefficients) -> str:
    """A short text that changes with any of the numbers."""
    return hashlib.sha256(json.dumps(astuple(numbers)).encode()).hexdigest()[:12]


def as_known(finding: Finding, stack: Stack) -> Finding:
    """Tell a violation by its row and numbers, so that those of a published table are known under any stack's name."""
    everywhere = known_violations()
    for known in everywhere.values() if finding.row else [everywhere.get(stack.name, {})]:
        for evidence in known.get(finding.row or "", {}).get(finding.code, ()):
            if finding.evidence and _same(finding.evidence, evidence):
                return replace(finding, level="known")
    return finding


def _same(found: Sequence[float], evidence: Sequence[float]) -> bool:
    near = (abs(a - b) <= _ROUNDING for a, b in zip(found, evidence, strict=False))
    return len(found) == len(evidence) and all(near)


def not_verbatim(stack: Stack) -> Iterator[Finding]:
    """Rows whose numbers are no longer the published ones, in a stack that names those as its source."""
    if _PAPER not in (stack.source or ""):
        return
    for name, known in known_violations().get(stack.name, {}).items():
        row = stack.rows.get(name)
        if row is not None and row.fit is None and digest(row.coefficients) != known[NUMBERS]:
            text = "no longer the published numbers, though the stack names their source"
            yield Finding("error", "not-verbatim", text, stack=stack.name, row=name)
