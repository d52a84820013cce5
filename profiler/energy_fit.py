"""The constants of a server, fitted on measured joules per token; and how far off they are for a model never seen.

The most likely constants given the measurements and what is known without them (`PRIOR`: a centre and a spread of the
logarithm, wide where nothing is). Errors are relative, those far off count less (pseudo-Huber), and a model's
measurements count as `_INDEPENDENT` independent ones at most: what the form does not know moves them alike.

The band is conformal over models: each shape of model is left out in turn, and the factor that holds 80 % of what was
left out holds about 80 % of a further one's. Models with experts or a state are further off than others, those known by
their parameter counts alone further still, and so are devices that nothing was measured on: by set factors (`_scale`).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from profiler.energy import Demand, Server, Serving, demand, joules_per_token, server
from profiler.leave_out import conformal
from profiler.power import energy_file

__all__ = ["PRIOR", "Fitted", "bands", "fit", "shipped"]

PRIOR: dict[str, tuple[float, float]] = {
    "idle": (0.3, 0.2),
    "joules_per_byte": (140e-12, 0.2),
    "joules_per_flop": (2e-12, 0.2),
    "slow": (1.0, 0.1),
    "sequence": (60e-6, 0.25),
    "experts": (1.3, 0.3),
    "fp8": (1.15, 0.15),
    "state": (0.45, 0.3),
}
"""Of every constant what it is without measurements, and how far off that may be (1.0: a factor e).

Round numbers. Joules alone hardly tell a server that is slow from one that draws much: `sequence` and `joules_per_flop`
are as narrow as they are for watts and seconds to come out near by themselves (`docs/energy.md`)."""

_ERROR = 0.08  # relative error of a good prediction: beyond it errors count linearly
_INDEPENDENT = 6
_FEW = 3  # shapes of models: of fewer, none can be left out
_UNSEEN = 0.15  # half the logarithm of the band's width then
_LEAST = 0.1  # and at least, whatever was left out: a few models may lie close together by chance
_SPECIAL, _GUESSED, _ELSEWHERE = 3.0, 1.5, 1.5


class Fitted(NamedTuple):
    """A server's constants; `spread` is the logarithm of the band's factors for a plain model; `devices` were seen."""

    constants: Server
    spread: float
    devices: frozenset[str]


def shipped() -> Fitted:
    """The constants and the band that ship."""
    found = energy_file()["server"]
    return Fitted(server(), found["spread"], frozenset(found["devices"]))


def fit(servings: Sequence[Serving], joules: Sequence[float]) -> Fitted:
    """The constants that these measured joules per token speak for, and how far off they are: a second or less.

    The order of the measurements does not matter.
    """
    order = sorted(range(len(joules)), key=lambda number: (repr(servings[number]), joules[number]))
    ordered, measured = [servings[number] for number in order], np.array([joules[number] for number in order])
    asked = demand(ordered)
    families = np.array([each.subject.family for each in ordered])
    devices = frozenset(each.device for each in ordered)
    constants = _constants(asked, measured, families)
    return Fitted(constants, _spread(asked, measured, families, _scale(ordered, devices)), devices)


def bands(servings: Sequence[Serving], fitted: Fitted) -> tuple[NDArray[np.float64], ...]:
    """Joules per token, and the ends of the band that holds about 80 % of the truth."""
    middle = joules_per_token(demand(servings), fitted.constants)
    factor = np.exp(fitted.spread * _scale(servings, fitted.devices))
    return middle, middle / factor, middle * factor


def _scale(servings: Sequence[Serving], devices: frozenset[str]) -> NDArray[np.float64]:
    """How many times further off than a plain known model on a device that was seen."""

    def one(each: Serving) -> float:
        sort = (_SPECIAL if each.subject.special else 1.0) * (1.0 if each.subject.known else _GUESSED)
        return sort * (1.0 if each.device in devices else _ELSEWHERE)

    return np.array([one(each) for each in servings])


def _constants(asked: Demand, measured: NDArray[np.float64], families: NDArray[np.str_]) -> Server:
    centres, spreads = (np.array(column) for column in zip(*PRIOR.values(), strict=True))
    centre = np.log(centres)
    _, which, counts = np.unique(families, return_inverse=True, return_counts=True)
    weights = np.sqrt(np.minimum(1.0, _INDEPENDENT / counts[which]))

    def residuals(logarithms: NDArray[np.float64]) -> NDArray[np.float64]:
        errors = np.log(joules_per_token(asked, _server(logarithms)) / measured) / _ERROR
        huber = np.sign(errors) * np.sqrt(2 * (np.sqrt(1 + errors**2) - 1))
        return np.concatenate([huber * weights, (logarithms - centre) / spreads])

    return _server(least_squares(residuals, centre, x_scale=spreads, xtol=1e-6, ftol=1e-6).x)


def _server(logarithms: NDArray[np.float64]) -> Server:
    values: list[float] = np.exp(logarithms).tolist()
    return Server(**dict(zip(PRIOR, values, strict=True)))


def _spread(
    asked: Demand, measured: NDArray[np.float64], families: NDArray[np.str_], scale: NDArray[np.float64]
) -> float:
    """Half the logarithm of the band's width for a plain model: errors of shapes left out, in units of their scale."""
    shapes = np.unique(families)
    if len(shapes) < _FEW:
        return _UNSEEN
    errors = []
    for shape in shapes:
        left = families == shape
        constants = _constants(asked.where(~left), measured[~left], families[~left])
        errors.append(np.log(joules_per_token(asked.where(left), constants) / measured[left]) / scale[left])
    return max(_LEAST, conformal(errors))
