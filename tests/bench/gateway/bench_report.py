"""From samples to ratios against bare aiohttp, beside the targets."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from bench_peers import BARE, TRUECLOCK
from bench_phases import Sample

Round = Mapping[str, Mapping[str, Sample]]  # gateway -> phase -> sample
Target = tuple[str, Callable[[float], bool]]
NO_TARGET: Target = ("", lambda _: True)


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: where its figure comes from, how it compares, and what trueclock must reach."""

    title: str
    phase: str
    field: str
    against: str = BARE
    difference: bool = False  # +52 us instead of 1.2x
    target: Target = NO_TARGET
    beyond: str = ""

    def compare(self, rounds: Sequence[Round], name: str) -> float | None:
        """Return the median over the rounds of this gateway's figure against the other's of that round."""
        pairs = [(self._figure(each, name), self._figure(each, self.against)) for each in rounds]
        both = [(own, other) for own, other in pairs if own is not None and other]
        if not both:
            return None
        return median(own - other if self.difference else own / other for own, other in both)

    def absolute(self, rounds: Sequence[Round], name: str) -> float | None:
        """Return the median figure of one gateway."""
        figures = [figure for each in rounds if (figure := self._figure(each, name)) is not None]
        return median(figures) if figures else None

    def format(self, value: float | None) -> str:
        """Write a comparison."""
        if value is None:
            return "-"
        return f"{value:+,.0f} us" if self.difference else f"{value:.2f}x"

    def _figure(self, each: Round, name: str) -> float | None:
        return each.get(name, {}).get(self.phase, {}).get(self.field)


ROWS = (
    Row(
        "requests/s, 64 clients",
        "json_c64",
        "per_second",
        target=(">= 0.85x", lambda x: x >= 0.85),
        beyond="> goproxy",
    ),
    Row(
        "  against LiteLLM",
        "json_c64",
        "per_second",
        "litellm",
        target=(">= 45x", lambda x: x >= 45),
        beyond="90x",
    ),
    Row("CPU us a request, 64 clients", "json_c64", "cpu_us_per_request"),
    Row(
        "p50, 1 client",
        "json_c1",
        "p50_us",
        difference=True,
        target=("<= +100 us", lambda x: x <= 100),
        beyond="+30 us",
    ),
    Row(
        "CPU us a chunk, usage asked",
        "paced_c64_usage",
        "cpu_us_per_chunk",
        target=("<= 1.15x", lambda x: x <= 1.15),
        beyond="< 1x",
    ),
    Row(
        "CPU us a chunk, usage not asked",
        "paced_c64",
        "cpu_us_per_chunk",
        target=("<= 1.15x", lambda x: x <= 1.15),
        beyond="< 1x",
    ),
    Row("RSS idle, MB", "idle", "rss_mb"),
    Row("RSS after the load, MB", "end", "rss_mb"),
)
RSS_LIMIT_MB = 120


def figures(rounds: Sequence[Round], names: Sequence[str]) -> dict[str, dict[str, dict[str, float | None]]]:
    """Return, by row and gateway, the median and the comparison: what the JSON file keeps."""
    return {
        row.title.strip(): {
            name: {"median": row.absolute(rounds, name), "compared": row.compare(rounds, name)} for name in names
        }
        for row in ROWS
    }


def missed(rounds: Sequence[Round]) -> list[str]:
    """Return the targets that trueclock misses, each with what was measured; never an unmeasured one."""
    found = []
    for row in ROWS:
        value = row.compare(rounds, TRUECLOCK)
        if value is not None and not row.target[1](value):
            found.append(f"{row.title.strip()} {row.format(value)} (target {row.target[0]})")
    for phase in ("idle", "end"):
        rss = Row("", phase, "rss_mb").absolute(rounds, TRUECLOCK)
        if rss is not None and rss >= RSS_LIMIT_MB:
            found.append(f"RSS {phase} {rss:.0f} MB (target < {RSS_LIMIT_MB} MB)")
    return found


def wrong(rounds: Sequence[Round]) -> list[str]:
    """Return what was not right about any gateway's replies: figures of failing requests mean nothing."""
    return [
        f"round {number}, {name}, {phase}: {field} {count:.0f}"
        for number, each in enumerate(rounds, 1)
        for name, phases in each.items()
        for phase, sample in phases.items()
        for field in ("failed", "usage_wrong")
        if (count := sample.get(field, 0)) and not forgiven(name, field)
    ]


def forgiven(name: str, field: str) -> bool:
    """LiteLLM proxy adds usage where none was asked: its habit, not a fault of the run."""
    return name == "litellm" and field == "usage_wrong"


def table(rounds: Sequence[Round], names: Sequence[str]) -> str:
    """Return the table as text: comparison and, in brackets, the figure itself."""
    head = ["", *names, "trueclock's target", "beyond"]
    lines = [head]
    for row in ROWS:
        cells = [f"{row.format(row.compare(rounds, name))} ({number(row.absolute(rounds, name))})" for name in names]
        target = f"< {RSS_LIMIT_MB} MB" if row.field == "rss_mb" else row.target[0]
        lines.append([row.title, *cells, target, row.beyond])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if not i else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )


def number(value: float | None) -> str:
    """Write a figure with three digits or more."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"
