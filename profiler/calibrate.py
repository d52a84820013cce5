"""Calibration: the constants of a stack, from runtimes measured on it.

The most likely constants given the measurements and what is known without them (`PRIOR`: a centre and a spread of the
logarithm). The prior is one for all devices and is wide: a constant that the measurements do not show, as the
bandwidth where the host is the slower one, stays at what such stacks have in common. Errors are relative; those far
off count less (pseudo-Huber), and a model's measurements count as `_INDEPENDENT` independent ones at most, however
many there are, since what the roofline does not know moves neighbouring points alike.

Of stacks whose products are cut into tiles (those that ship calibrated on whole requests) a calibration starts from the
prior, never from earlier results, so that what is left out of it has left no trace in the constants. Stacks without
tiles stand on single kernels: there the constants they have are the prior's centre, and those are kept apart from
whatever requests are left out.

`python -m profiler.calibrated` calibrates what ships anew.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from profiler.hardware import Hardware, device_name, hardware, stacks
from profiler.roofline import Placement, step_seconds, weight_bytes
from profiler.samples import Measured, plain

__all__ = ["PRIOR", "calibrate", "plausible", "runtimes", "stack_of"]

PRIOR: dict[str, tuple[float, float]] = {
    "host_layer": (0.7e-3, 0.5),
    "host_prompt": (0.25, 0.8),
    "host_reduce": (80e-6, 1.0),
    "step": (1e-3, 1.0),
    "step_token": (8e-6, 0.5),
    "compute": (0.9, 0.12),
    "read": (0.75, 0.15),
    "reduce_hop": (15e-6, 1.0),
    "reduce_link": (0.4, 0.4),
}
"""Of every constant that is fitted: what it is without measurements, and how far off that may be (1.0: a factor e).

The centres are round numbers near what the calibrated stacks have in common, the spreads about how they differ."""

_KERNELS = 0.3
"""The same spread for stacks whose constants stand on single kernels: those are the centre then."""

_ERROR = 0.03  # relative error of a good prediction: beyond it errors count linearly
_INDEPENDENT = 20  # measurements of a model that tell something new, at most
_ALIKE = 32  # tokens of context that are counted together
_WEIGHTS_AT_MOST = 0.95  # of the memory. What a server allows itself is less, but this is about what cannot have been
_STEP = 1e-7  # of logarithms, for derivatives
_DOUBLINGS = 5
_WRONG = 0.1  # share of rows that may be impossible without the whole being


def calibrate(measured: Sequence[Measured], start: Hardware) -> Hardware:
    """`start` with the constants that it calls `fitted` calibrated on `measured`.

    With tiles their values before do not matter, without they are the prior's centre. `measured` must have
    architectures, and degrees that are possible (see `plausible`). A fraction of a second.
    """
    names, centre, spread = _prior(start)

    def residuals(logarithms: NDArray[np.float64]) -> NDArray[np.float64]:
        """A row for each row of constants: the model is evaluated for all of them at once."""
        columns: dict[str, Any] = dict(zip(names, np.exp(logarithms).T[:, :, None], strict=True))
        errors = [_errors(each, replace(start, **columns)) for each in measured]
        found: NDArray[np.float64] = np.concatenate([*errors, (logarithms - centre) / spread], axis=-1)
        return found

    def derivatives(logarithms: NDArray[np.float64]) -> NDArray[np.float64]:
        near = residuals(np.vstack([logarithms, logarithms + _STEP * np.eye(len(names))]))
        slopes: NDArray[np.float64] = (near[1:] - near[0]).T / _STEP
        return slopes

    found = least_squares(
        lambda logarithms: residuals(logarithms[None, :])[0],
        centre,
        derivatives,
        x_scale=spread,
        xtol=1e-4,
        ftol=1e-4,
    )
    values: list[Any] = np.exp(found.x).tolist()
    return replace(start, **dict(zip(names, values, strict=True)))


def runtimes(measured: Measured, hardware: Hardware) -> NDArray[np.float64]:
    """What the roofline gives for every row of `measured`, in seconds. Its architecture must be known.

    Constants of the hardware that are columns give a row for each of theirs.
    """
    model = measured.architecture
    assert model is not None
    placement = Placement(measured.tensor)
    parts, places = [], []
    for batch in np.unique(measured.batch).tolist():
        rows = measured.batch == batch
        prompt, output = measured.prompt[rows], measured.output[rows]
        sizes, which = np.unique(prompt, return_inverse=True)
        first = step_seconds(model, hardware, placement, sizes, 0, batch, prompt=True)
        # A further token has, on average, the prompt and half of the output before it; few tokens more are nothing.
        contexts, there = np.unique((prompt + output // 2) // _ALIKE * _ALIKE, return_inverse=True)
        further = step_seconds(model, hardware, placement, np.ones_like(contexts), contexts, batch, prompt=False)
        parts.append(first[..., which] + (output - 1) * further[..., there])
        places.append(np.flatnonzero(rows))
    found: NDArray[np.float64] = np.concatenate(parts, axis=-1)[..., np.argsort(np.concatenate(places))]
    return found


def stack_of(measured: Sequence[Measured], name: str | None = None) -> Hardware:
    """The shipped stack to start from for samples of one hardware: by its name, or else by what fits them best.

    The name of a device (a100, h100-80gb) may mean any stack on it: then it is the one whose runtimes, with the
    constants it ships with, are nearest. Raises HardwareError for a hardware that is not known.
    """
    name = name or measured[0].hardware
    meant = device_name(name)
    device = [each for each in stacks().values() if meant is not None and device_name(each.device) == meant]
    known = [each for each in measured if each.architecture is not None]
    if not device or not known or plain(name) in {plain(each.name) for each in device if each.name != each.device}:
        return hardware(name)
    return min(device, key=lambda each: _distance(known, each))


def plausible(measured: Measured, hardware: Hardware) -> Measured:
    """The same with the smallest power of two of devices that can have done it, where fewer are recorded.

    Too few are those whose memory does not hold the weights, or that would have had to read them faster than their
    bandwidth allows or to compute faster than their peak. Where 32 times as many are too few, it is not that.
    Runtimes that are infinite say nothing: then the weights alone decide.
    """
    if measured.architecture is None or _possible(measured, hardware):
        return measured
    more = (2 ** (measured.tensor.bit_length() + further) for further in range(_DOUBLINGS))
    better = (replace(measured, tensor=tensor) for tensor in more)
    return next((each for each in better if _possible(each, hardware)), measured)


def _prior(start: Hardware) -> tuple[tuple[str, ...], NDArray[np.float64], NDArray[np.float64]]:
    """The constants to fit, the centres of their logarithms, and their spreads."""
    known = {name: PRIOR.get(name, (getattr(start, name), _KERNELS)) for name in start.fitted}
    if not start.tiled:
        known = {name: (getattr(start, name), _KERNELS) for name in start.fitted}
    centres, spreads = zip(*known.values(), strict=True)
    return tuple(known), np.log(centres), np.array(spreads)


def _possible(measured: Measured, hardware: Hardware) -> bool:
    model = measured.architecture
    assert model is not None
    layers = model.total_parameters(active=True) - model.vocabulary * model.hidden
    work = 2 * layers / measured.tensor
    tokens = (measured.prompt * measured.batch).astype(np.float64)
    least = np.maximum(tokens * work / hardware.flops, measured.output * work / hardware.bandwidth)
    fits = weight_bytes(model) / measured.tensor <= _WEIGHTS_AT_MOST * hardware.memory_bytes
    return fits and float(np.mean(measured.seconds < least)) <= _WRONG


def _distance(measured: Sequence[Measured], stack: Hardware) -> float:
    logarithms = [np.abs(np.log(runtimes(each, stack) / each.seconds)) for each in measured]
    return float(np.median(np.concatenate(logarithms)))


def _errors(measured: Measured, hardware: Hardware) -> NDArray[np.float64]:
    """Relative errors in units of `_ERROR`, such that their squares sum to the pseudo-Huber loss."""
    errors = np.log(runtimes(measured, hardware) / measured.seconds) / _ERROR
    huber = np.sign(errors) * np.sqrt(2 * (np.sqrt(1 + errors**2) - 1))
    weighted: NDArray[np.float64] = huber * np.sqrt(min(1.0, _INDEPENDENT / len(measured.seconds)))
    return weighted
