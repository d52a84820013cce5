"""The answer of `stream whatif`: its form, strict both ways, so that whoever renders it can trust what it reads."""

from datetime import datetime

import msgspec

from stream.events import Provenance

__all__ = [
    "Amount",
    "Amounts",
    "Answered",
    "Arrivals",
    "Assumed",
    "Billed",
    "Fleet",
    "Grown",
    "Month",
    "Spread",
    "WhatIf",
    "WhatIfError",
    "decode_what_if",
    "encode_what_if",
]


class WhatIfError(ValueError):
    """A question without an answer, or what is no answer to one. One line: what is wrong and what to do."""


class Amount(msgspec.Struct, frozen=True):
    """A number and the band in which it lies."""

    value: float
    low: float
    high: float


class Amounts(msgspec.Struct, frozen=True):
    """What an amount of work costs; null what the row or the constants do not tell."""

    accelerator_seconds: Amount | None = None
    dollars: Amount | None = None
    energy_joules: Amount | None = None
    carbon_grams: Amount | None = None
    water_litres: Amount | None = None


class Spread(msgspec.Struct, frozen=True):
    """How seconds are spread over requests; each percentile is the value of one of them."""

    requests: int
    total: float
    mean: float
    p50: float
    p95: float
    p99: float


class Fleet(msgspec.Struct, frozen=True):
    """Instances and what they do with the recording: from its first arrival (`seconds` long) until all is done.

    `dollars` rents all of them for that time. `utilisation` is the share of it, and of their slots, that is work.
    """

    instances: int
    accelerators: int
    utilisation: float | None
    wait_seconds: Spread
    seconds: float
    dollars: Amount | None


class Answered(msgspec.Struct, frozen=True):
    """All requests with `batch` at once on an instance: the work itself, and the smallest fleet that keeps the limit.

    `request_seconds` are those for which a request holds its slot: what it takes from its start, without waiting.
    `accelerators_low` and `accelerators_high` are of that fleet where every request took the low or high end of its
    band. `one_fewer` does not keep it (null where one instance is enough). Without timestamps there is no fleet.
    """

    batch: int
    work: Amounts
    request_seconds: Spread
    fleet: Fleet | None = None
    accelerators_low: int | None = None
    accelerators_high: int | None = None
    one_fewer: Fleet | None = None


class Grown(msgspec.Struct, frozen=True):
    """A month of grown traffic: the smallest fleet, its rent for the month, and what the work itself costs."""

    instances: int
    accelerators: int
    accelerators_low: int
    accelerators_high: int
    rent_dollars: Amount | None
    work: Amounts


class Month(msgspec.Struct, frozen=True):
    """A point of the projection, `month` months from the recording, with `factor` times its requests."""

    month: int
    factor: float
    requests: float
    dedicated: Grown
    served: Grown | None


class Arrivals(msgspec.Struct, frozen=True):
    """When requests came; `per_second` is null where all came at once."""

    requests: int
    first: datetime
    last: datetime
    per_second: float | None


class Billed(msgspec.Struct, frozen=True):
    """What the recorded requests were billed, those of them whose price is known; `unbilled` counts the others."""

    requests: int
    dollars: float | None
    unbilled: dict[str, int]


class Assumed(msgspec.Struct, frozen=True):
    """A constant, the range in which it lies, and who says so."""

    what: str
    value: float
    low: float
    high: float
    source: str


class WhatIf(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="what-if"):
    """The whole answer, as `stream whatif` prints it. Seconds, joules, grams, litres, dollars."""

    format: int = 1
    model: str
    row: str
    stack: str
    provenance: Provenance
    proxy_of: str | None
    table_version: str
    accelerators_per_instance: int
    max_wait_seconds: float
    from_model: str | None
    requests: int
    left_out: dict[str, int]
    extrapolated: int
    models: dict[str, int]
    prompt_tokens: int
    output_tokens: int
    arrivals: Arrivals | None
    recorded_seconds: Spread | None
    idealized_seconds: Spread
    flops: float | None
    billed: Billed
    dedicated: Answered
    served: Answered | None
    growth: float | None
    months: tuple[Month, ...]
    notes: tuple[str, ...]
    assumptions: tuple[Assumed, ...]


encode_what_if = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(WhatIf).decode


def decode_what_if(data: bytes) -> WhatIf:
    """Read what `encode_what_if` wrote; raise WhatIfError for anything else."""
    try:
        return _decode(data)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        said = " ".join(str(error).replace("`", "").split())
        raise WhatIfError(f"expected what `stream whatif` prints: {said}") from None
