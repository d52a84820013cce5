"""ProblemRequest: what is kept of a request that worked on a problem, on its own JSON object. Pure.

It is what the sums of strategies are made of: who asked what for which problem, and what that cost.
"""

from typing import Annotated

import msgspec
from msgspec import Meta

from stream.events import EnrichedEvent, RequestEvent, StackView
from stream.outcomes import LONGEST_NAME, fitting_name

__all__ = ["InvalidProblemRequest", "Measures", "ProblemRequest", "decode_problem_request", "encode_problem_request"]

_LARGEST = 1e200  # of one request: so that no sum of them is ever infinite
_UNREACHED = frozenset({"connect_timeout", "upstream_tls_error", "upstream_unreachable"})

_Amount = Annotated[float, Meta(ge=0, le=_LARGEST)] | None
_Name = Annotated[str, Meta(max_length=LONGEST_NAME)]


class InvalidProblemRequest(ValueError):
    """A record that is no ProblemRequest; one line."""


class Measures(msgspec.Struct, array_like=True, frozen=True):
    """What one request takes on one reference stack; None where that is not known."""

    idealized_seconds: _Amount = None
    flops: _Amount = None
    dedicated_dollars: _Amount = None
    served_dollars: _Amount = None
    dedicated_energy_joules: _Amount = None
    served_energy_joules: _Amount = None


class ProblemRequest(msgspec.Struct, frozen=True, omit_defaults=True):
    """One request that worked on a problem."""

    id: _Name
    """empty: it has none, and is never known again"""
    problem: Annotated[_Name, Meta(min_length=1)]
    strategy: _Name | None = None
    model: _Name | None = None
    at: Annotated[float, Meta(ge=0, le=253_402_300_800)] | None = None
    """when it ended, else when it began: seconds since 1970"""
    samples: Annotated[int, Meta(ge=1, le=10**6)] = 1
    """answers that it asked for: its choices"""
    failed: bool = False
    """the upstream refused it or was not reached: so nothing was generated, and nothing is paid for"""
    billed_dollars: _Amount = None
    stacks: dict[str, Measures] = {}

    @classmethod
    def of(cls, enriched: EnrichedEvent) -> "ProblemRequest | None":
        """What is kept of an event; None where it names no problem."""
        event = enriched.event
        problem = _name(event.problem)
        if problem is None:
            return None
        stacks = {name: _measures(view) for name, view in enriched.stacks.items()}
        return cls(
            id=_name(event.id) or "",
            problem=problem,
            strategy=_name(event.strategy),
            model=_name(event.model),
            at=_moment(event),
            samples=event.choices or 1,
            failed=_failed(event),
            billed_dollars=_amount(enriched.billed_dollars),
            stacks=stacks if enriched.stack is None else {enriched.stack: _measures(enriched), **stacks},
        )


_decode = msgspec.json.Decoder(ProblemRequest).decode
_encode = msgspec.json.Encoder().encode


def encode_problem_request(request: ProblemRequest) -> bytes:
    """Write one JSON object on one line."""
    return _encode(request)


def decode_problem_request(data: bytes | str) -> ProblemRequest:
    """Read what `encode_problem_request` wrote; raise InvalidProblemRequest for anything else."""
    try:
        return _decode(data)
    except (msgspec.MsgspecError, ValueError, OverflowError, RecursionError) as error:
        raise InvalidProblemRequest(" ".join(f"no request of a problem: {error}".split())) from None


def _measures(view: EnrichedEvent | StackView) -> Measures:
    dedicated, served = view.dedicated, view.served
    return Measures(
        _amount(view.idealized_runtime_seconds),
        _amount(view.flops),
        None if dedicated is None else _amount(dedicated.dollars),
        None if served is None else _amount(served.dollars),
        None if dedicated is None else _amount(dedicated.energy_joules),
        None if served is None else _amount(served.energy_joules),
    )


def _amount(value: float | None) -> float | None:
    """What a sum may take; an event that somebody else enriched may hold anything."""
    return value if value is not None and 0 <= value <= _LARGEST else None


def _failed(event: RequestEvent) -> bool:
    if event.error_class is not None:
        return event.error_class in _UNREACHED
    return event.status is not None and not 200 <= event.status < 300


def _moment(event: RequestEvent) -> float | None:
    moment = event.ended_at or event.started_at
    return None if moment is None else max(moment.timestamp(), 0.0)


def _name(text: str | None) -> str | None:
    return fitting_name(text) if text else None
