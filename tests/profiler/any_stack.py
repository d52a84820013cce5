"""Stacks of any numbers that the table format allows, for laws that hold for all of them."""

from dataclasses import replace
from types import MappingProxyType

from hypothesis import strategies as st

from stream.flops import Flops
from stream.runtime import Coefficients
from stream.table_format import Fit, Row, Served, Stack, Watts

__all__ = ["coefficients", "rows", "stacks"]

NUMBERS = st.floats(0, 1e9, allow_subnormal=False)
TEXTS = st.none() | st.text(max_size=9)
NAMES = st.text(min_size=1, max_size=9).filter(lambda name: name not in {"format", "models", "stacks"})
FITS = st.builds(Fit, st.just("posterior"), st.integers(1, 9), st.floats(-9, 1), NUMBERS, NUMBERS, NUMBERS)
FLOPS = st.builds(Flops, NUMBERS, NUMBERS, NUMBERS, st.integers(1, 9999), NUMBERS)
WATTS = st.builds(Watts, NUMBERS, NUMBERS, st.just((0.8, 1.25)), TEXTS)
INTERVALS = st.dictionaries(st.sampled_from(["runtime", "overhead", "level"]), st.lists(NUMBERS, max_size=3) | NUMBERS)


@st.composite
def coefficients(draw: st.DrawFn, *, helm: bool = False) -> Coefficients:
    """Any coefficients; with `helm` such as HELM's form can hold."""
    points = draw(st.dictionaries(st.integers(1, 10**6), NUMBERS, min_size=1, max_size=5))
    return Coefficients(
        per_output_token=draw(NUMBERS),
        knots=tuple(sorted(points)),
        prompt_seconds=tuple(points[knot] for knot in sorted(points)),
        overhead=draw(NUMBERS),
        context=0.0 if helm else draw(NUMBERS),
        quadratic=None if helm else draw(st.none() | st.tuples(NUMBERS, NUMBERS, NUMBERS)),
    )


@st.composite
def served(draw: st.DrawFn) -> Served:
    """Any share of a served batch."""
    numbers = replace(draw(coefficients()), overhead=0.0, quadratic=None)
    return Served(draw(st.integers(1, 256)), numbers, draw(st.none() | WATTS))


@st.composite
def rows(draw: st.DrawFn, name: str, *, helm: bool = False) -> Row:
    """Any row called so; with `helm` one of which only the coefficients are known."""
    numbers = draw(coefficients(helm=helm))
    if helm:
        return Row(name, numbers)
    return Row(
        name=name,
        coefficients=numbers,
        provenance=draw(st.sampled_from(["measured", "predicted", "assumed"])),
        proxy_of=draw(TEXTS),
        fit_error=draw(st.none() | NUMBERS),
        intervals=draw(st.none() | INTERVALS),
        source=draw(TEXTS),
        note=draw(TEXTS),
        fit=draw(st.none() | FITS),
        accelerators=draw(st.none() | st.integers(1, 64)),
        flops=draw(st.none() | FLOPS),
        watts=draw(st.none() | WATTS),
        served=draw(st.none() | served()),
    )


@st.composite
def stacks(draw: st.DrawFn, *, helm: bool = False) -> Stack:
    """Any stack, called "any"; with `helm` one of rows whose coefficients HELM's form can hold, and no more."""
    found = [draw(rows(name, helm=helm)) for name in draw(st.lists(NAMES, min_size=1, max_size=3, unique=True))]
    return Stack(
        name="any",
        rows=MappingProxyType({row.name: row for row in found}),
        hardware=draw(TEXTS),
        date=draw(TEXTS),
        source=draw(TEXTS),
        kind=draw(st.sampled_from(["reference", "denoised"])),
        dollars_per_accelerator_hour=None if helm else draw(st.none() | NUMBERS),
    )
