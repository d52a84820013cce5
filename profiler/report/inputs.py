"""What a report is made of: files as they were named, read when a section first asks for them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from profiler.fitting import Fitted, fit
from profiler.report.scenarios import Scenario, read_scenarios
from profiler.samples import Measured, read_samples
from stream.coefficients import Tables
from stream.command import UsageError
from stream.events import EnrichedEvent, InvalidEvent, decode_enriched

__all__ = ["SHIPPED", "Inputs"]

SHIPPED = Path(__file__).parents[1] / "samples"
"""The measurements that ship."""


@dataclass(frozen=True)
class Inputs:
    """`tables`: the shipped stacks and one's own. `samples`, `scenarios` and `events`: files of one's own, or none.

    `model` is the row that whatever was recorded is imagined to have been answered by. What is read of a file is kept:
    sections share it.
    """

    tables: Tables
    samples: Sequence[Path] = ()
    scenarios: Path | None = None
    events: Path | None = None
    model: str | None = None

    @cached_property
    def published(self) -> tuple[Measured, ...]:
        """The paper's own measurements, of all its hardware."""
        return read_samples(SHIPPED / "measured-runtimes.csv")

    @cached_property
    def fitted(self) -> tuple[Fitted, ...]:
        """The default fit of the paper's measurements."""
        return fit(self.published)

    @cached_property
    def own(self) -> dict[Path, tuple[Measured, ...]]:
        """The samples of each file of one's own."""
        return {path: read_samples(path) for path in self.samples}

    @cached_property
    def told(self) -> tuple[Scenario, ...]:
        """Scenarios of one's own."""
        return read_scenarios(self.scenarios) if self.scenarios else ()

    @cached_property
    def recorded(self) -> tuple[EnrichedEvent, ...]:
        """The recorded requests, a JSON object a line; UsageError where a line is none."""
        return tuple(_events(self.events)) if self.events else ()


def _events(path: Path) -> Iterator[EnrichedEvent]:
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        if line.strip():
            try:
                yield decode_enriched(line)
            except InvalidEvent as error:
                raise UsageError(f"{path}: line {number}: {error}") from None
