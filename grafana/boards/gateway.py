"""The dashboard Gateway: is traffic served, how fast, are its events safe, and how is the process."""

from grafana_foundation_sdk.models import dashboard as model

from grafana import names, ratios
from grafana.board import GATEWAY_JOB, Row, board, drill, job, models, upstream
from grafana.boards.gateway_inside import exported, onward, process, safe
from grafana.empty import ALL_COMPLETED, NO_REQUESTS, NO_STREAMS, NOTHING, Empty
from grafana.panels import (
    SIXTH,
    THIRD,
    WINDOW,
    About,
    Column,
    Panel,
    Query,
    heat,
    lines,
    number,
    rows,
    stacked,
)
from grafana.promql import BOARD, Term, quantile, selector, total
from stream import families as f

__all__ = ["gateway"]

_RANGE = "$__range"
_OF_SDK = (
    " By model alone: these are OpenTelemetry's names, which know providers, not the upstreams of the configuration; "
    "the variable Upstream does not apply."
)
_BAD = ((None, "green"), (1.0, "red"))


def gateway(readme: str) -> model.Dashboard:
    """Build it."""
    text = "Is traffic served, how fast, are its events safe, and how is the process."
    variables = (job(names.WORKERS, GATEWAY_JOB), upstream(), models())
    return board("Gateway", text, variables, (_served(), _fast(), safe(), onward(), exported(), process()), readme)


def _served() -> Row:
    requests = Term(f.REQUESTS)
    reasons = selector(f.REQUESTS, BOARD, 'exclusion_reason!=""')
    return Row(
        "Is traffic served?",
        [
            _one(
                "Requests a second",
                "All requests, mean of the time shown.",
                "reqps",
                total(f"rate({selector(f.REQUESTS, BOARD)}[{_RANGE}])"),
            ),
            _one(
                "Errors",
                "Share of requests that failed: a status of 400 or more, or a failure of upstream or gateway; not "
                "clients that left or read slowly.",
                "percentunit",
                ratios.ERRORS.increase(BOARD, _RANGE),
                (None, "green"),
                (0.01, "yellow"),
                (0.05, "red"),
            ),
            _one(
                "Retries",
                "Attempts after a request's first, over requests.",
                "percentunit",
                ratios.RETRIES.increase(BOARD, _RANGE),
            ),
            _one(
                "In flight",
                "Requests being served now, of all gateways.",
                "short",
                f"sum({selector(names.IN_FLIGHT, BOARD)})",
            ),
            _one("Gateways", "Instances that Prometheus can scrape.", "short", f"sum({selector(names.UP, BOARD)})"),
            _one(
                "Events lost",
                "Events of the time shown that are in no count: not written, deleted before they were taken, or "
                "unreadable. Zero is what to expect.",
                "short",
                f"sum(increase({selector(names.LOG_DROPPED, BOARD)}[{_RANGE}]))",
                *_BAD,
            ),
            stacked(
                About("Requests by status", "Requests a second; none is without a reply.", "reqps", NO_REQUESTS),
                Query(requests.rate(BOARD, WINDOW, "status_class"), "{{status_class}}"),
            ),
            stacked(
                About(
                    "Errors and requests broken off, by reason",
                    "Requests a second that failed, or whose clients left or read slowly: they enter no ratio.",
                    "reqps",
                    ALL_COMPLETED,
                ),
                Query(f"sum by (exclusion_reason) (rate({reasons}[{WINDOW}])) > 0", "{{exclusion_reason}}"),
            ),
            lines(
                About("Errors by upstream", "Share of requests that failed, by provider.", "percentunit", NO_REQUESTS),
                Query(ratios.ERRORS.rate(BOARD, WINDOW, "upstream"), "{{upstream}}"),
                links=[drill("Gateway", "upstream", handed=("job", "model"))],
            ),
            lines(
                About(
                    "Retries by upstream",
                    "Attempts after a request's first, over requests, by provider.",
                    "percentunit",
                    NO_REQUESTS,
                ),
                Query(ratios.RETRIES.rate(BOARD, WINDOW, "upstream"), "{{upstream}}"),
                links=[drill("Gateway", "upstream", handed=("job", "model"))],
            ),
            _by_model(),
        ],
    )


def _one(title: str, text: str, unit: str, expression: str, *steps: tuple[float | None, str]) -> Panel:
    empty = NO_REQUESTS if unit == "percentunit" else NOTHING  # shares are of requests
    return number(About(title, text, unit, empty, SIXTH, 4), Query(expression, title), *steps)


def _by_model() -> Panel:
    by = ("upstream", "model")
    return rows(
        About(
            "Providers and models",
            "Of the time shown. Click a row to look at it alone, or to see where its seconds went.",
            "short",
            NO_REQUESTS,
            24,
            8,
        ),
        by,
        Column("requests", Term(f.REQUESTS).increase(BOARD, _RANGE, *by), "short", 0),
        Column("errors", ratios.ERRORS.increase(BOARD, _RANGE, *by), "percentunit", 2),
        Column("retries", ratios.RETRIES.increase(BOARD, _RANGE, *by), "percentunit", 2),
        Column("estimated tokens", ratios.ESTIMATED.increase(BOARD, _RANGE, *by), "percentunit", 2),
        sort="requests",
        links=[drill("Efficiency", *by, table=True), drill("Gateway", *by, handed=("job",), table=True)],
    )


def _fast() -> Row:
    tokens = Term(f.TOKENS, "_sum")
    return Row(
        "How fast is it?",
        [
            _quantiles(
                "Time to the first token",
                f.FIRST_TOKEN,
                "Streams: to the first content, reasoning or tool-call delta." + _OF_SDK,
                NO_STREAMS,
            ),
            _quantiles(
                "Time per output token",
                f.OUTPUT_TOKEN,
                "Streams: time per visible output token after the first." + _OF_SDK,
                NO_STREAMS,
            ),
            _quantiles(
                "Duration that clients see",
                f.OPERATION,
                "All in, from the request's arrival to the reply's end." + _OF_SDK,
                NO_REQUESTS,
            ),
            _quantiles(
                "Raw runtime",
                f.SERVER,
                "What the upstream took: the last attempt's request sent, to its last byte." + _OF_SDK,
                NO_REQUESTS,
            ),
            _quantiles(
                "Time to the first byte of a stream", f.FIRST_CHUNK, "From the request sent." + _OF_SDK, NO_STREAMS
            ),
            lines(
                About(
                    "First token by model, p95",
                    "Time to the first token that 95% of streams stay below." + _OF_SDK,
                    "s",
                    NO_STREAMS,
                    THIRD,
                ),
                Query(quantile(0.95, f.FIRST_TOKEN, BOARD, WINDOW, "gen_ai_request_model"), "{{gen_ai_request_model}}"),
            ),
            stacked(
                About(
                    "Tokens a second",
                    "Input, cached ones too, and output, reasoning too." + _OF_SDK,
                    "short",
                    NO_REQUESTS,
                    THIRD,
                ),
                Query(tokens.rate(BOARD, WINDOW, "gen_ai_token_type"), "{{gen_ai_token_type}}"),
            ),
            _quantiles(
                "Time that the gateway adds",
                f.OVERHEAD,
                "The gateway's own part of a request: tenths of a millisecond are usual. Of all models and upstreams.",
                NO_REQUESTS,
            ),
            heat(
                About(
                    "Time that the gateway adds, single requests",
                    "Requests a second in each bucket, of all models and upstreams.",
                    "s",
                    NO_REQUESTS,
                    THIRD,
                ),
                Query(total(f"rate({selector(f.OVERHEAD, BOARD, suffix='_bucket')}[{WINDOW}])", "le"), "{{le}}"),
            ),
        ],
    )


def _quantiles(title: str, family: f.Family, text: str, empty: Empty) -> Panel:
    queries = [Query(quantile(share, family, BOARD, WINDOW), f"p{share * 100:g}") for share in (0.5, 0.95, 0.99)]
    return lines(About(title, text, "s", empty, THIRD), *queries)
