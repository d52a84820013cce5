"""What is believed of a model's F(p), beta and gamma before its own samples speak: a mean, and how far off it may be.

The mean is the roofline of the model's architecture on the hardware; or, where one of the two is not known, the smooth
growth a + b p + c p^2 that comes nearest to the samples. The unknowns are relative deviations from it: F(p) = mean(p)
(1 + r(p)), beta = step (1 + r(beta)). They are Gaussian, with a covariance in three parts:

- shared by all models of a hardware, the more alike the two are bound (by launches or by the device): what the
  roofline misses of a kernel at a prompt size, it misses in all of them;
- the model's own: a level, a smooth course over p, and what is rough from size to size;
- how far the roofline's steps (from one wave of tiles to the next) are true: a factor of them, shared and own.

Decoding is a step over one token, so beta's deviation goes with that of F(1). gamma's is the model's own. A growth is
itself only an estimate, made of the same samples: each of its parts, and beta, is unknown besides.

The scales are about those of the largest likelihood of the published A100 and V100 measurements, rounded (`rough`,
and of a growth `context` and `free`, were set by hand); other machines are smoother or rougher: a multiplier of
them all. Which mean it is, and which multiplier, the samples say
(`profiler.choice`). Everything is pure.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from profiler.calibrate import plausible
from profiler.hardware import Hardware
from profiler.roofline import Placement, step_seconds
from profiler.samples import Measured

__all__ = [
    "BENT",
    "CONTEXT_UNIT",
    "GROWTH",
    "ROOFLINE",
    "SMOOTH",
    "Floats",
    "Mean",
    "Places",
    "Scales",
    "bent_growth",
    "context_tokens",
    "covariance",
    "growth",
    "roofline",
    "total_seconds",
]

Floats = NDArray[np.float64]

CONTEXT_UNIT = 1e-3
"""gamma's deviation of 1 is a whole beta at 1 / CONTEXT_UNIT tokens of context."""

_COMPARED = 512  # prompt tokens at which models are compared for what bounds them
_COURSE = np.array([1.0, *range(16, 2049, 16)])  # prompt sizes over which the roofline's smooth course is drawn
_FAR = 2048  # tokens of context over which the roofline's gamma is taken


SMOOTH, BENT = "smooth growth", "bent growth"
"""The names of growths."""

_FEWEST_BENT = 5  # prompt sizes
_TERMS = 5  # of a growth: a, b, c, beta and gamma
_CLEAR = 9.0  # squares of standard deviations by which a gamma has to explain what else is misfit
_BENDS = 12  # places at most (and as many between) at which a growth may bend


@dataclass(frozen=True, slots=True)
class Mean:
    """The mean of one model, in seconds of what ran: F as a function of an array of sizes, beta and gamma.

    `course` is F without its steps. A growth has `shares`: those of a, b p and c p^2 in F, an array of (sizes, 3).
    """

    name: str
    prompt: Callable[[Floats], Floats]
    course: Callable[[Floats], Floats]
    step: float
    context: float
    shares: Callable[[Floats], Floats] | None = None

    @property
    def smooth(self) -> bool:
        """Whether it is the growth of samples, and not a roofline."""
        return self.shares is not None

    @property
    def bound(self) -> float:
        """How much longer than one token some hundreds take, in octaves: 0 where launches bound both."""
        one, some = self.course(np.array([1.0, _COMPARED]))
        return float(np.log2(some / one))

    def runtime(self, prompt: Floats, output: Floats) -> Floats:
        """T(p, o) of runs, arrays of one length."""
        return total_seconds(self.prompt(prompt), self.step, self.context, prompt, output)

    def steps(self, sizes: Floats) -> Floats:
        """How far the steps lie from the smooth course, as a fraction of F."""
        return self.course(sizes) / self.prompt(sizes) - 1


def roofline(measured: Measured, stack: Hardware) -> Mean | None:
    """The roofline of what ran; None without an architecture. Of the samples only impossible degrees are seen."""
    model = measured.architecture
    if model is None:
        return None
    placement = Placement(plausible(measured, stack).tensor)

    def prompt(sizes: Floats) -> Floats:
        return step_seconds(model, stack, placement, np.round(sizes).astype(np.int64), prompt=True)

    near, far = (float(step_seconds(model, stack, placement, 1, context)) for context in (0, _FAR))
    course = _nearest(_COURSE, prompt(_COURSE))[0]
    name = f"roofline {stack.name}"
    return Mean(name, prompt, lambda sizes: course(sizes).sum(axis=1), near, max(0.0, (far - near) / _FAR))


def context_tokens(prompt: Floats, output: Floats) -> Floats:
    """What gamma is multiplied by: the tokens before each further output token, summed, of runs."""
    tokens: Floats = (output - 1) * (2 * prompt + output) / 2
    return tokens


def total_seconds(first: Floats, step: float, context: float, prompt: Floats, output: Floats) -> Floats:
    """T of runs: F of each, and its further output tokens at beta `step` and gamma `context`."""
    seconds: Floats = first + (output - 1) * step + context_tokens(prompt, output) * context
    return seconds


def bent_growth(measured: Measured) -> Mean | None:
    """The `growth` with F = a + b max(p - k, 0) + c p^2: flat while weights are read, then bound by arithmetic.

    k is the size from which it comes nearest to the samples; None where there are too few sizes to tell.
    """
    sizes = np.unique(measured.prompt)
    if len(sizes) < _FEWEST_BENT:
        return None
    some = np.unique(np.linspace(0, len(sizes) - 3, _BENDS).round().astype(int))
    between = np.sqrt(sizes[some] * sizes[some + 1].astype(np.float64))
    means = [growth(measured, float(bend)) for bend in (*sizes[some[1:]], *between)]
    prompt, output = measured.prompt.astype(np.float64), measured.output.astype(np.float64)

    def misfit(mean: Mean) -> float:
        return float(np.sum((mean.runtime(prompt, output) / measured.seconds - 1) ** 2))

    return min(means, key=misfit)


def growth(measured: Measured, bend: float = 0.0) -> Mean:
    """The a + b p + c p^2 (F), beta and gamma, none below 0, that come nearest to a model's samples, relatively.

    With a `bend` F is flat up to so many tokens, but for c p^2.
    """
    prompt, output = measured.prompt.astype(np.float64), measured.output.astype(np.float64)
    further, tokens = output - 1, context_tokens(prompt, output)
    scale = max(1.0, float(tokens.max()))
    course, (step, context), misfit = _nearest(prompt, measured.seconds, further, tokens / scale, bend=bend)
    plain, (alone,), without = _nearest(prompt, measured.seconds, further, bend=bend)
    # Few prompt sizes hardly tell beta and gamma apart, and noise alone makes some gamma: then it is beta.
    if not step or without - misfit < _CLEAR * misfit / max(1, len(prompt) - _TERMS):
        course, step, context = plain, alone, 0.0

    def seconds(sizes: Floats) -> Floats:
        total: Floats = course(sizes).sum(axis=1)
        return total

    def shares(sizes: Floats) -> Floats:
        parts = course(sizes)
        share: Floats = parts / parts.sum(axis=1, keepdims=True)
        return share

    return Mean(BENT if bend else SMOOTH, seconds, seconds, step, context / scale, shares)


def _nearest(
    prompt: Floats, seconds: Floats, *others: Floats, bend: float = 0.0
) -> tuple[Callable[[Floats], Floats], list[float], float]:
    """Least squares of relative errors, none below 0: a, b p and c p^2 (columns), the factors of `others`, the misfit.

    The misfit is the sum of the squares of relative errors.
    """
    scale = float(prompt.max())
    beyond = np.maximum(prompt - bend, 0) / scale
    columns = np.column_stack([np.ones_like(prompt), beyond, (prompt / scale) ** 2, *others])
    found, distance = nnls(columns / seconds[:, None], np.ones_like(seconds))
    # A course that starts at nothing could not be deviated from.
    a, b, c = max(float(found[0]), 0.05 * float(seconds.min())), float(found[1]), float(found[2])

    def parts(sizes: Floats) -> Floats:
        share = sizes / scale
        return np.stack([np.full_like(share, a), b * np.maximum(sizes - bend, 0) / scale, c * share**2], axis=1)

    return parts, [float(each) for each in found[3:]], float(distance) ** 2


@dataclass(frozen=True, slots=True)
class Scales:
    """Standard deviations (fractions) and reaches of the deviations. Sizes are compared as log2(1 + p / `warp`).

    `level`: of all models alike; `shared`: smooth over sizes within `shared_reach` octaves and models within
    `shared_bound`; `kernel`: at one size only, models within `kernel_bound`; `steps`: of the factor of the roofline's
    steps. Then a model's own: `own_level`, `own` within `own_reach`, `own_steps`, `rough` at one size, `step` of beta
    against F(1); and, whatever the multiplier, `context` of gamma (in units of beta CONTEXT_UNIT), and `free` of beta
    and of each part of a growth.
    """

    warp: float = 32.0
    level: float = 0.05
    shared: float = 0.08
    shared_reach: float = 2.0
    shared_bound: float = 0.8
    kernel: float = 0.025
    kernel_bound: float = 0.7
    steps: float = 0.5
    own_level: float = 0.03
    own: float = 0.03
    own_reach: float = 0.5
    own_steps: float = 0.2
    rough: float = 0.006
    step: float = 0.02
    context: float = 0.01
    free: float = 0.0

    def times(self, multiplier: float) -> "Scales":
        """The same with all that lies off the mean so many times as far off."""
        return replace(self, **{name: multiplier * getattr(self, name) for name in _DEVIATIONS})


_DEVIATIONS = ("level", "shared", "kernel", "steps", "own_level", "own", "own_steps", "rough", "step")


ROOFLINE = Scales()
"""Around the roofline of a calibrated stack."""

GROWTH = Scales(
    level=0.0,
    shared=0.03,
    shared_reach=0.7,
    shared_bound=1.2,
    kernel=0.045,
    steps=0.0,
    own_level=0.01,
    own=0.03,
    own_reach=0.3,
    own_steps=0.0,
    step=0.03,
    context=0.03,
    free=1.0,
)
"""Around the smooth growth of a model's own samples."""


@dataclass(frozen=True, slots=True)
class Places:
    """Unknowns, one an element: of which model (a number), at which prompt size (beta: 0, gamma: -1).

    `bound` and `steps` are the mean's; `parts`, an array of (unknowns, 4), what a growth's parts and beta make of each.
    """

    model: NDArray[np.int64]
    size: Floats
    bound: Floats
    steps: Floats
    parts: Floats

    @classmethod
    def of(cls, model: int, mean: Mean, sizes: Floats) -> "Places":
        """Those of one model: F at `sizes`, then beta, then gamma."""
        size = np.append(sizes, (0.0, -1.0))
        steps = mean.steps(np.maximum(size, 1.0))
        parts = np.zeros((len(size), 4))
        if mean.shares is not None:
            parts[:-2, :3] = mean.shares(sizes)
            parts[-2, 3] = 1.0
        return cls(np.full(len(size), model), size, np.full(len(size), mean.bound), steps, parts)

    @classmethod
    def joined(cls, parts: "list[Places]") -> "Places":
        """All of several, in order."""
        columns = ([getattr(part, name) for part in parts] for name in ("model", "size", "bound", "steps", "parts"))
        return cls(*(np.concatenate(column) for column in columns))


def covariance(rows: Places, columns: Places, scales: Scales) -> Floats:
    """The prior covariance of deviations, an array of (rows, columns)."""
    model, size, bound, steps = (_pair(rows, columns, name) for name in ("model", "size", "bound", "steps"))
    octaves = [np.log2(1 + np.maximum(each, 1) / scales.warp) for each in size]
    apart, unlike = np.abs(octaves[0] - octaves[1]), np.abs(bound[0] - bound[1])
    own, same = model[0] == model[1], size[0] == size[1]
    together = scales.shared**2 * _matern(apart / scales.shared_reach) * _matern(unlike / scales.shared_bound)
    together += scales.level**2 + scales.steps**2 * steps[0] * steps[1]
    together += scales.kernel**2 * _matern(unlike / scales.kernel_bound) * (same & (size[0] > 0))
    alone = scales.own_level**2 + scales.own**2 * _matern(apart / scales.own_reach)
    alone += scales.own_steps**2 * steps[0] * steps[1]
    alone += same * np.where(size[0] > 0, scales.rough**2, scales.step**2)
    alone += scales.free**2 * (rows.parts @ columns.parts.T)
    context = scales.context**2 * (own & same)
    return np.where((size[0] < 0) | (size[1] < 0), np.where(same, context, 0.0), together + own * alone)


def _pair(rows: Places, columns: Places, name: str) -> tuple[Floats, Floats]:
    return getattr(rows, name)[:, None], getattr(columns, name)[None, :]


def _matern(distance: Floats) -> Floats:
    """The Matern 3/2 correlation: smooth, but no smoother than a runtime's course."""
    far = np.sqrt(3) * distance
    correlation: Floats = (1 + far) * np.exp(-far)
    return correlation
