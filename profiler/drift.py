"""What changed between two versions of a stack: rows added and removed, and by how much T(p, o) moved. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from stream.runtime import prompt_function, runtime_function
from stream.table_format import Row, Stack

__all__ = ["POINTS", "Change", "Drift", "drift"]

POINTS = ((1, 1), (128, 128), (512, 32), (1536, 256), (8192, 512))
"""The (prompt, output) tokens at which runtimes are compared: short, even, and long ones.

One whose prompt lies past the last knots of both versions is left out: both would only be extrapolating there.
"""

_DESCRIBED = ("provenance", "proxy_of", "source", "note", "accelerators", "fit_error", "intervals")


@dataclass(frozen=True, slots=True)
class Change:
    """How one row moved.

    `ratios` is T now over T before at each of `POINTS` (None: left out), `described` the texts that changed. `knot` is
    the prompt size at which F changed most, of the profiled sizes of both versions, and F now over F before there
    (None: F is the same at all of them).
    """

    ratios: tuple[float | None, ...]
    described: tuple[str, ...]
    knot: tuple[int, float] | None = None

    @property
    def largest(self) -> float:
        """The ratio farthest from 1."""
        return max(self._used, key=_farness)

    @property
    def moved(self) -> bool:
        """Whether any coefficient changed that runtimes come from."""
        return self.knot is not None or any(ratio != 1 for ratio in self._used)

    @property
    def _used(self) -> list[float]:
        return [ratio for ratio in self.ratios if ratio is not None]

    @property
    def text(self) -> str:
        """The change on one line."""
        told = [*self._runtimes(), *(f"{name} changed" for name in self.described)]
        return "; ".join(told) or "coefficients changed, though no runtime that was compared"

    def _runtimes(self) -> Iterator[str]:
        if self.largest != 1:
            prompt, output = POINTS[self.ratios.index(self.largest)]
            yield f"T({prompt}, {output}) changed by {self.largest - 1:+.2%}, the most of {len(self._used)} points"
        if self.knot is not None and _farness(self.knot[1]) > _farness(self.largest):
            prompt, ratio = self.knot
            yield f"F({prompt}) changed by {ratio - 1:+.2%}, the most of all profiled sizes"


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
    profiled = max(new.coefficients.last_knot, old.coefficients.last_knot)
    used = [point if point[0] <= profiled else None for point in POINTS]
    if new.coefficients == old.coefficients:
        return Change(tuple(point and 1.0 for point in used), described) if described else None
    now, before = runtime_function(new.coefficients), runtime_function(old.coefficients)
    ratios = tuple(None if point is None else _ratio(now(*point), before(*point)) for point in used)
    return Change(ratios, described, _at_knots(new, old))


def _at_knots(new: Row, old: Row) -> tuple[int, float] | None:
    now, before = prompt_function(new.coefficients), prompt_function(old.coefficients)
    ratios = {knot: _ratio(now(knot), before(knot)) for knot in (*new.coefficients.knots, *old.coefficients.knots)}
    knot = max(ratios, key=lambda each: _farness(ratios[each]))
    return None if ratios[knot] == 1 else (knot, ratios[knot])


def _ratio(now: float, before: float) -> float:
    return 1.0 if now == before else now / before if before else float("inf")


def _farness(ratio: float) -> float:
    """How far a ratio is from 1, upwards or downwards."""
    return max(ratio, 1 / ratio) if ratio else float("inf")
