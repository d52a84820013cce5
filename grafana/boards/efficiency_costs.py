"""Rows of the dashboard Efficiency: can it be believed, what does it cost, what does it take."""

from grafana import names, ratios
from grafana.board import Row
from grafana.empty import ALL_BILLED, ALL_COVERED, NO_COST, NO_MARGIN, NO_PRICE, NO_REQUESTS, NO_SHAPE, NOT_COVERED
from grafana.panels import (
    HALF,
    QUARTER,
    THIRD,
    TIMES,
    WINDOW,
    About,
    Column,
    Panel,
    Query,
    lines,
    number,
    rows,
    stacked,
)
from grafana.promql import BOARD, Term, divided, selector
from stream import families as f

__all__ = ["believed", "dollars", "energy"]

_RANGE = "$__range"
_SERVED = 'basis="served"'


def believed() -> Row:
    """What the figures rest on."""
    completed = ratios.COMPLETED.of
    covered = f"({ratios.COVERED.of.rate(BOARD, WINDOW)}\n  or 0 * {completed.rate(BOARD, WINDOW)})"
    uncovered = selector(f.UNCOVERED, BOARD)
    return Row(
        "Can it be believed?",
        [
            lines(
                About(
                    "Requests with an idealized runtime, with a denoised one",
                    "Shares of the completed requests. Covered: the reference stack has numbers of the model. "
                    "Denoised: the provider has a baseline.",
                    "percentunit",
                    NO_REQUESTS,
                    THIRD,
                ),
                Query(divided(covered, completed.rate(BOARD, WINDOW)), "covered"),
                Query(ratios.DENOISED_SHARE.rate(BOARD, WINDOW), "denoised"),
            ),
            stacked(
                About(
                    "Where idealized runtimes come from",
                    "Shares of the covered requests by provenance: measured, predicted from hardware and model, or "
                    "assumed of a closed model by the configuration.",
                    "percentunit",
                    NOT_COVERED,
                    THIRD,
                ),
                Query(
                    f"{Term(f.COVERED).rate(BOARD, WINDOW, 'provenance')}\n"
                    f"  / on () group_left () ({Term(f.COVERED).rate(BOARD, WINDOW)} > 0)",
                    "{{provenance}}",
                ),
            ),
            lines(
                About(
                    "Faster than expected, beyond the tables",
                    "Shares: raw below the idealized runtime (on a stack that is slower than the provider's that is "
                    "usual), raw below the denoised one (a few per cent are usual), and prompts longer than the "
                    "table was measured at.",
                    "percentunit",
                    NOT_COVERED,
                    THIRD,
                ),
                Query(ratios.FASTER_THAN_IDEALIZED.rate(BOARD, WINDOW), "faster than idealized"),
                Query(ratios.FASTER_THAN_DENOISED.rate(BOARD, WINDOW), "faster than denoised"),
                Query(ratios.EXTRAPOLATED.rate(BOARD, WINDOW), "extrapolated"),
            ),
            rows(
                About(
                    "Not covered",
                    "Completed requests without an idealized runtime on the leading stack, by model and reason.",
                    "short",
                    ALL_COVERED,
                    HALF,
                ),
                ("model", "reason"),
                Column("requests", f"sum by (model, reason) (increase({uncovered}[{_RANGE}])) > 0", "short", 0),
                sort="requests",
            ),
            lines(
                About(
                    "Estimated tokens",
                    "Share of requests whose token counts are estimates, since the upstream sent none.",
                    "percentunit",
                    NO_REQUESTS,
                    QUARTER,
                ),
                Query(ratios.ESTIMATED.rate(BOARD, WINDOW), "estimated"),
            ),
            rows(
                About(
                    "Tables in use",
                    "The version of the tables behind the idealized runtimes, and how many instances use it. More "
                    "than one: some have not taken the new ones.",
                    "short",
                    width=QUARTER,
                ),
                ("version",),
                Column("instances", f"count by (version) ({selector(names.TABLES, BOARD)})", "short", 0),
            ),
        ],
    )


def dollars() -> Row:
    """Billed, and on the reference stack."""
    by_basis = Term(f.COST_DOLLARS).rate(BOARD, WINDOW, "basis")
    return Row(
        "What does it cost?",
        [
            lines(
                About(
                    "Dollars an hour: billed, and on the reference stack",
                    "What providers bill by list price; what the requests cost on the reference stack's "
                    "accelerators, served in a batch or dedicated (each alone). Never add the two. Not of the same "
                    "requests: for that see the margin.",
                    "currencyUSD",
                    NO_COST,
                ),
                Query(f"3600 * {Term(f.BILLED).rate(BOARD, WINDOW)}", "billed"),
                Query(f"3600 * {by_basis}", "{{basis}}"),
            ),
            lines(
                About(
                    "Margin by model: billed over served",
                    "What is billed over what the same requests cost served on the reference stack.",
                    TIMES,
                    NO_MARGIN,
                ),
                Query(ratios.MARGIN.rate(BOARD, WINDOW, "model"), "{{model}}"),
            ),
            number(
                About("Billed", "Dollars of the time shown, by list price.", "currencyUSD", NO_PRICE, QUARTER, 5),
                Query(Term(f.BILLED).increase(BOARD, _RANGE), "billed"),
            ),
            number(
                About(
                    "Served on the reference stack",
                    "Dollars of the time shown, as a share of a batch.",
                    "currencyUSD",
                    NO_COST,
                    QUARTER,
                    5,
                ),
                Query(Term(f.COST_DOLLARS, matchers=(_SERVED,)).increase(BOARD, _RANGE), "served"),
            ),
            number(
                About(
                    "Margin",
                    "Billed over served, of the same requests.",
                    TIMES,
                    NO_MARGIN,
                    QUARTER,
                    5,
                ),
                Query(ratios.MARGIN.increase(BOARD, _RANGE), "margin"),
                decimals=1,
            ),
            number(
                About(
                    "Accelerators, served",
                    "Accelerators that would be busy all the time with this traffic on the reference stack.",
                    "short",
                    NO_COST,
                    QUARTER,
                    5,
                ),
                Query(
                    f"{Term(f.ACCELERATOR_SECONDS, matchers=(_SERVED,)).increase(BOARD, _RANGE)} / $__range_s",
                    "accelerators",
                ),
                decimals=2,
            ),
            rows(
                About(
                    "Not billed",
                    "Requests of which it is not known what was billed, by model and reason; failed ones belong here.",
                    "short",
                    ALL_BILLED,
                    24,
                    6,
                ),
                ("model", "reason"),
                Column("requests", f"{Term(f.UNBILLED).increase(BOARD, _RANGE, 'model', 'reason')} > 0", "short", 0),
                sort="requests",
            ),
        ],
    )


def energy() -> Row:
    """Energy and what comes of it, on the reference stack."""

    def of(title: str, family: f.Family, text: str, unit: str, *, hourly: bool) -> Panel:
        query = f"{'3600 * ' if hourly else ''}{Term(family).rate(BOARD, WINDOW, 'basis')}"
        return lines(About(title, text, unit, NO_COST, QUARTER), Query(query, "{{basis}}"))

    text = " On the reference stack: served is a share of a batch, dedicated each request alone; never add the two."
    return Row(
        "What does it take: energy, carbon, water?",
        [
            of(
                "Power",
                f.ENERGY,
                "Joules a second that the servers draw, without their site." + text,
                "watt",
                hourly=False,
            ),
            of("Carbon an hour", f.CARBON, "Grams of CO2e an hour, the site included." + text, "massg", hourly=True),
            of(
                "Water an hour",
                f.WATER,
                "Litres an hour, on site and at the power plants." + text,
                "litre",
                hourly=True,
            ),
            lines(
                About(
                    "Computation",
                    "Forward FLOPs a second; the same whatever the hardware.",
                    "flops",
                    NO_SHAPE,
                    QUARTER,
                ),
                Query(Term(f.FLOPS).rate(BOARD, WINDOW, "model"), "{{model}}"),
            ),
        ],
    )
