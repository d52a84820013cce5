"""What changed between two versions of a stack: rows added and removed, and by how much T(p, o) moved. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from stream.runtime import runtime_function
from stream.table_format import Row, Stack

__all__ = ["POINTS", "Change", "Drift", "drift"]

POINTS = ((1, 1), (128, 128), (512, 32), (1536, 256), (8192, 512))
"""The (prompt, output) tokens at which runtimes are compared: short, even, and long ones."""

_DESCRIBED = ("provenance", "proxy_of", "source", "note", "accelerators", "fit_error", "intervals")


@dataclass(frozen=True, slots=True)
class Change:
    """How one row moved: `ratios` is T now over T before at each of `POINTS`, `described` the texts that changed."""

    ratios: tuple[float, ...]
    described: tuple[str, ...]

    @property
    def largest(self) -> float:
        """The ratio farthest from 1."""
        return max(self.ratios, key=lambda ratio: max(ratio, 1 / ratio) if ratio else float("inf"))

    @property
    def moved(self) -> bool:
        """Whether any runtime changed."""
        return any(ratio != 1 for ratio in self.ratios)

    @property
    def text(self) -> str:
        """The change on one line."""
        return "; ".join([*self._runtimes(), *(f"{name} changed" for name in self.described)])

    def _runtimes(self) -> Iterator[str]:
        if self.moved:
            prompt, output = POINTS[self.ratios.index(self.largest)]
            yield f"T({prompt}, {output}) changed by {self.largest - 1:+.2%}, the most of {len(POINTS)} points"


@dataclass(frozen=True, slots=True)
class Drift:
    """The differences between two versions of a stack, by row. `unchanged` is how many rows have none."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: Mapping[str, Change]
    unchanged: int


def drift(new: Stack, old: Stack) -> Drift:
    """Compare two versions of a stack row by row."""
    both = [name for name in new.rows if name in old.rows]
    changes = {name: _change(new.rows[name], old.rows[name]) for name in both}
    changed = {name: change for name, change in changes.items() if change is not None}
    return Drift(
        added=tuple(name for name in new.rows if name not in old.rows),
        removed=tuple(name for name in old.rows if name not in new.rows),
        changed=changed,
        unchanged=len(both) - len(changed),
    )


def _change(new: Row, old: Row) -> Change | None:
    described = tuple(name for name in _DESCRIBED if getattr(new, name) != getattr(old, name))
    if new.coefficients == old.coefficients:
        return Change((1.0,) * len(POINTS), described) if described else None
    now, before = runtime_function(new.coefficients), runtime_function(old.coefficients)
    return Change(tuple(_ratio(now(*point), before(*point)) for point in POINTS), described)


def _ratio(now: float, before: float) -> float:
    return 1.0 if now == before else now / before if before else float("inf")
