"""Why a panel may rightly be empty: what stands in it then, and what its description says of it."""

from dataclasses import dataclass

__all__ = [
    "ALL_BILLED",
    "ALL_COMPLETED",
    "ALL_COVERED",
    "NOTHING",
    "NOT_COVERED",
    "NO_BASELINE",
    "NO_CONFIGURATION",
    "NO_COST",
    "NO_DAY",
    "NO_EVENTS",
    "NO_KAFKA",
    "NO_MARGIN",
    "NO_OTLP",
    "NO_OUTCOME",
    "NO_PRICE",
    "NO_REQUESTS",
    "NO_SHAPE",
    "NO_STREAMS",
    "Empty",
]


@dataclass(frozen=True, slots=True)
class Empty:
    """`text` takes the place of the figures; `why` goes on after "Empty" in the description, and is no reason if ''."""

    text: str
    why: str = ""


NOTHING = Empty("no data")
"""of what is always there where something is scraped"""
NO_REQUESTS = Empty("no requests", "while there are no requests")
NO_EVENTS = Empty("no events", "while no events come")
NO_STREAMS = Empty("no streams", "while nothing is streamed")
ALL_COMPLETED = Empty("every request completed", "while every request completes")
NOT_COVERED = Empty(
    "nothing covered on this stack", "where the reference stack has no numbers of the models; Not covered names them"
)
NO_BASELINE = Empty(
    "no numbers on this stack, or no baseline yet",
    "until a provider has a baseline (30 streams, or 60 whole replies, of a model), and for models that the "
    "reference stack has no numbers of",
)
NO_DAY = Empty("nothing to compare with", "where there was no request, or no baseline, then or now")
ALL_COVERED = Empty("every request is covered", "when every request is covered")
NO_COST = Empty(
    "no costs known on this stack", "where the stack's rows of the models do not say what it takes to run them"
)
NO_SHAPE = Empty("no model with a known shape", "where no row says what the model computes")
NO_PRICE = Empty("no price known", "for models without a list price")
NO_MARGIN = Empty(
    "no request with both known",
    "for models without a list price, or whose share of a batch the reference stack does not state",
)
ALL_BILLED = Empty("the price of every request is known", "when every request has a known price")
NO_CONFIGURATION = Empty("a demo has none", "for a demo, which has no configuration to watch")
NO_KAFKA = Empty("no --kafka here", "without --kafka")
NO_OTLP = Empty("no --otlp here", "without --otlp")
NO_OUTCOME = Empty("no outcome was posted", "until outcomes are posted (docs/strategies.md)")
