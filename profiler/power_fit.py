"""The constants of a board's power, from requests whose power was read while they ran; and their energy from them.

A request is two phases: its prompt, all tokens at once, then token by token. Of each the bytes and FLOPs of a board are
known from the architecture, so that with the phases' times (measured, or the roofline's) power and energy follow. What
was read is one figure a request; it is taken as the mean over its time.

The most likely constants given the readings and what is known without them (`PRIOR`). Errors are relative, those far
off count less, and so many readings of one degree count as `_INDEPENDENT` independent ones at most.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from profiler.architectures import Architecture
from profiler.power import Power
from profiler.roofline import context_bytes, weight_bytes

__all__ = ["PRIOR", "Requests", "fit_power", "request_joules", "requests_of"]

PRIOR = {"idle": (0.25, 0.05), "byte": (0.85, 0.1), "flop": (1.25, 0.3)}
"""What `idle` is without readings, and how far off it may be; and the same of what the whole bandwidth, and the whole
peak, would take of the TDP. A processor that waits draws a quarter of its limit, one at its peak more than the limit
allows, and one whose memory alone is busy nearly all of it: about what the H100 of ML.ENERGY shows."""

_ERROR = 0.03
_INDEPENDENT = 10


@dataclass(frozen=True, slots=True)
class Requests:
    """Requests (of one batch, all at once), one element each: seconds of both phases, and a board's bytes and FLOPs."""

    boards: NDArray[np.float64]
    prompt_seconds: NDArray[np.float64]
    prompt_bytes: NDArray[np.float64]
    prompt_flops: NDArray[np.float64]
    token_seconds: NDArray[np.float64]
    token_bytes: NDArray[np.float64]
    token_flops: NDArray[np.float64]

    @property
    def seconds(self) -> NDArray[np.float64]:
        """Of both phases together."""
        return self.prompt_seconds + self.token_seconds


def requests_of(
    model: Architecture,
    boards: NDArray[np.float64],
    prompt: NDArray[np.float64],
    output: NDArray[np.float64],
    batch: NDArray[np.float64],
    first_seconds: NDArray[np.float64],
    further_seconds: NDArray[np.float64],
) -> Requests:
    """Requests from their token counts, the seconds of a prompt and those of each further token, all arrays.

    Matrix products and the context read are counted, attention's own FLOPs are not. All boards share each layer.
    """
    steps = output - 1
    embedding = model.vocabulary * model.hidden
    weights = weight_bytes(model) - (0.0 if model.tied else 2.0 * embedding)
    per_token = 2.0 * (model.total_parameters(active=True) - embedding)
    context = batch * (prompt + output / 2) * context_bytes(model)
    return Requests(
        boards=boards,
        prompt_seconds=first_seconds,
        prompt_bytes=weights / boards,
        prompt_flops=per_token * batch * prompt / boards,
        token_seconds=steps * further_seconds,
        token_bytes=steps * (weights + context) / boards,
        token_flops=steps * per_token * batch / boards,
    )


def request_joules(power: Power, requests: Requests) -> NDArray[np.float64]:
    """Joules of all boards for each request (batch)."""
    first, further = requests.prompt_seconds, requests.token_seconds
    watts = power.watts(requests.prompt_bytes / first, requests.prompt_flops / first)
    later = power.watts(requests.token_bytes / further, requests.token_flops / further)
    found: NDArray[np.float64] = requests.boards * (watts * first + later * further)
    return found


def fit_power(
    requests: Requests, share: NDArray[np.float64], tdp_watts: float, bandwidth: float, flops: float
) -> Power:
    """The constants that these readings speak for. `share` is the power read, as a share of the TDP of each board.

    `bandwidth` and `flops` are the board's public peak rates.
    """
    centres, spreads = (np.array(column) for column in zip(*PRIOR.values(), strict=True))
    _, which, counts = np.unique(requests.boards, return_inverse=True, return_counts=True)
    weights = np.sqrt(np.minimum(1.0, _INDEPENDENT / counts[which]))

    def power(values: NDArray[np.float64]) -> Power:
        idle, byte, flop = values.tolist()
        return Power(tdp_watts, idle, byte * tdp_watts / bandwidth, flop * tdp_watts / flops)

    def residuals(values: NDArray[np.float64]) -> NDArray[np.float64]:
        mean = request_joules(power(values), requests) / (requests.boards * requests.seconds * tdp_watts)
        errors = np.log(mean / share) / _ERROR
        huber = np.sign(errors) * np.sqrt(2 * (np.sqrt(1 + errors**2) - 1))
        return np.concatenate([huber * weights, (values - centres) / spreads])

    return power(least_squares(residuals, centres, bounds=(1e-3, 10.0), xtol=1e-8, ftol=1e-8).x)
