"""Stored counts of state version 1 in the shape of version 2, exactly."""

import msgspec

from stream.counts import PairCounts
from stream.quantiles import Spread
from stream.sums import StackSums, Sums

__all__ = ["migrate_pair"]


class _Stack(msgspec.Struct):
    raw: float = 0.0
    idealized: float = 0.0
    requests: int = 0
    faster: int = 0
    extrapolated: int = 0
    row: str | None = None
    slowdown: list[float] = []

    def sums(self) -> StackSums:
        return StackSums(self.requests, self.raw, self.idealized, self.faster, self.extrapolated)


class _Pair(msgspec.Struct):
    requests: dict[str, dict[str, int]] = {}
    uncovered: dict[str, int] = {}
    stacks: dict[str, _Stack] = {}
    completed: int = 0
    completed_raw: float = 0.0
    estimated: int = 0
    raw_of_denoised: float = 0.0
    denoised: float = 0.0
    contention: list[float] | None = None


def migrate_pair(value: bytes) -> bytes:
    """Return a stored (upstream, model) of version 1 as version 2 stores it.

    Version 1 kept no fine buckets of raw runtimes and no provenances: quantiles are of what came later, and the
    covered requests' provenance is `unknown`. It never had baselines, and so no denoised runtimes.
    """
    old = msgspec.json.decode(value, type=_Pair)
    sums = Sums(
        requests=sum(sum(reasons.values()) for reasons in old.requests.values()),
        estimated=old.estimated,
        uncovered=old.uncovered,
        raw=Spread(old.completed, old.completed_raw),
        stacks={name: stack.sums() for name, stack in old.stacks.items()},
    )
    for reasons in old.requests.values():
        for reason, number in reasons.items():
            if reason:
                sums.excluded[reason] = sums.excluded.get(reason, 0) + number
    new = PairCounts(
        sums=sums,
        requests=old.requests,
        slowdown={name: stack.slowdown for name, stack in old.stacks.items()},
        rows={name: stack.row for name, stack in old.stacks.items() if stack.row},
        provenance={name: {"unknown": stack.requests} for name, stack in old.stacks.items() if stack.requests},
    )
    return msgspec.json.encode(new)
