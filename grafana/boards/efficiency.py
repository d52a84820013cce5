"""The dashboard Efficiency: is it the model, the stack or contention; whose; can it be believed; what does it cost."""

from grafana_foundation_sdk.models import dashboard as model

from grafana import ratios
from grafana.board import GATEWAY_JOB, Row, board, drill, job, models, stack, upstream
from grafana.boards.efficiency_costs import believed, dollars, energy
from grafana.empty import NO_BASELINE, NO_DAY, NO_REQUESTS, NOT_COVERED, Empty
from grafana.panels import (
    COLOURS,
    HALF,
    QUARTER,
    THIRD,
    TIMES,
    WINDOW,
    About,
    Column,
    Panel,
    Query,
    figures,
    heat,
    lines,
    number,
    rows,
    said,
    stacked,
)
from grafana.promql import BOARD, Term, divided, quantile, selector, total
from stream import families as f

__all__ = ["efficiency"]

_RANGE = "$__range"
_CONTENTION_STEPS = ((None, "green"), (ratios.CONTENDED, "yellow"), (ratios.FAR_BEHIND, "red"))


def efficiency(readme: str) -> model.Dashboard:
    """Build it."""
    text = "How slow, and where the difference went: the model itself, the provider's stack, or contention."
    variables = (job(f.REQUESTS, GATEWAY_JOB), upstream(), models(), stack())
    return board("Efficiency", text, variables, (_where(), _whose(), believed(), dollars(), energy()), readme)


def _where() -> Row:
    return Row(
        "Is it the model, the stack or contention?",
        [
            _verdict(),
            _mean("Slowdown", ratios.SLOWDOWN, "Raw over idealized runtime, sums over sums, of the covered requests."),
            _mean(
                "Stack",
                ratios.STACK_FACTOR,
                "Denoised over idealized runtime: what the provider's hardware and software make of the model, "
                "alone. Below 1 it is faster than the reference stack.",
                NO_BASELINE,
            ),
            _mean(
                "Contention",
                ratios.CONTENTION,
                "Raw over denoised runtime: how much slower than the same provider with nobody else there. Near 1 is "
                "a quiet provider.",
                NO_BASELINE,
            ),
            _changes(),
            _shares_now(),
            _waterfall(),
            _shares(),
            _by_model("Slowdown by model", ratios.SLOWDOWN, "Raw over idealized runtime.", NOT_COVERED),
            _by_model(
                "Contention by model",
                ratios.CONTENTION,
                "Raw over denoised runtime. A rise here is the provider's load, not longer prompts.",
                NO_BASELINE,
            ),
            _heat(
                "Slowdown of single requests",
                f.SLOWDOWN,
                "Raw over idealized runtime, one value a request.",
                NOT_COVERED,
            ),
            _heat(
                "Contention of single requests",
                f.CONTENTION,
                "Raw over denoised runtime, one value a request.",
                NO_BASELINE,
            ),
        ],
    )


def _mean(title: str, ratio: ratios.Ratio, text: str, empty: Empty = NOT_COVERED) -> Panel:
    about = About(title, text + " Over the whole time shown.", TIMES, empty, QUARTER, 5)
    # Only contention is good or bad by itself: what a slowdown or a stack should be depends on the reference.
    steps = _CONTENTION_STEPS if ratio is ratios.CONTENTION else ()
    return number(about, Query(ratio.increase(BOARD, _RANGE), title), *steps, decimals=2)


def _shares_now() -> Panel:
    text = (
        "Shares of the seconds of the requests that have both an idealized and a denoised runtime, over the whole "
        "time shown. A share below zero was saved: a stack that is faster than the reference."
    )
    raw = ratios.RAW_OF_DECOMPOSED.increase(BOARD, _RANGE)
    queries = [Query(divided(part.increase(BOARD, _RANGE), raw), part.name) for part in ratios.PARTS]
    return figures(About("Where the seconds went", text, "percentunit", NO_BASELINE, HALF, 5), *queries, decimals=0)


_THIRD_OF_IT = 1 / 3
_WORDS = (
    (-1.5, -0.5, "as fast as expected", "green"),
    (-0.5, _THIRD_OF_IT, "the provider's stack", COLOURS["stack"]),
    (_THIRD_OF_IT, 1 - _THIRD_OF_IT, "stack and contention alike", COLOURS["raw"]),
    (1 - _THIRD_OF_IT, 1.5, "contention", COLOURS["contention"]),
    (1.5, 2.5, "not slow, but contended", COLOURS["contention"]),
    (2.5, 3.5, "stack and contention, not told apart yet", COLOURS["raw"]),
)


def _verdict() -> Panel:
    text = (
        "By the rule of the gateway's page, over the whole time shown: which part most of the seconds beyond the "
        f"model's own are, if the slowdown is {ratios.SLOW:g} or more ({ratios.SLOW_IF_NOT_MEASURED:g} where most "
        "idealized runtimes are predicted or assumed). The stack: look for another provider. Contention: wait, or send "
        "elsewhere. As fast as expected: only other prompts or a smaller model make it faster. Contended is a "
        f"contention of {ratios.CONTENDED:g} or more."
    )
    about = About("Slower than expected because of", text, "short", NO_REQUESTS, QUARTER, 5)
    return said(about, Query(_reason(), "reason"), *_WORDS)


def _reason() -> str:
    """Contention's share of the seconds of stack and contention; beyond 0 to 1 it is a code of `_WORDS`."""
    _, stack, contention = (f"clamp_min({part.increase(BOARD, _RANGE)}, 0)" for part in ratios.PARTS)
    beyond = f"({ratios.SLOWDOWN.over.increase(BOARD, _RANGE)} - {ratios.SLOWDOWN.under.increase(BOARD, _RANGE)})"
    split = f"({ratios.RAW_OF_DECOMPOSED.increase(BOARD, _RANGE)} - {ratios.PARTS[0].increase(BOARD, _RANGE)})"
    slowdown = f"({ratios.SLOWDOWN.increase(BOARD, _RANGE)})"
    contended = f"(({ratios.CONTENTION.increase(BOARD, _RANGE)}) >= {ratios.CONTENDED:g})"
    unsure = f"(({ratios.MEASURED.increase(BOARD, _RANGE)}) < bool 0.5)"
    slow = f"({slowdown} >= {ratios.SLOW:g} + {ratios.SLOW_IF_NOT_MEASURED - ratios.SLOW:g} * {unsure})"
    told = f"({stack} + {contention} > {beyond} - {split})"
    return "\nor\n".join(
        (
            f"{contention} / ({stack} + {contention} > 0) and {told} and {slow}",
            f"3 + 0 * {slow}",
            f"2 + 0 * {contended} and {slowdown}",
            f"-1 + 0 * {slowdown}",
            f"1 + 0 * {contended}",
            f"-1 + 0 * ({ratios.CONTENTION.increase(BOARD, _RANGE)})",
        )
    )


def _changes() -> Panel:
    text = (
        "Seconds of a mean request over the time shown, less those of the same span an hour and a day before: what is "
        "above zero has got slower. Of the requests with both runtimes."
    )

    def of(part: ratios.Part, offset: str = "") -> str:
        window = f"{_RANGE}] offset {offset}" if offset else f"{_RANGE}]"
        opened = divided(part.increase(BOARD, _RANGE), ratios.DECOMPOSED.of.increase(BOARD, _RANGE))
        return f"({opened.replace(f'{_RANGE}]', window)})"

    spans = (("1h", "an hour"), ("1d", "a day"))
    queries = [
        Query(f"{of(part)}\n  - {of(part, offset)}", f"{part.name}, against {before} before")
        for part in ratios.PARTS[1:]
        for offset, before in spans
    ]
    return figures(About("What changed", text, "s", NO_DAY, HALF, 5), *queries, decimals=2)


def _waterfall() -> Panel:
    text = (
        "Seconds of a mean request: the model by itself, what the provider's stack adds, what contention adds; "
        "together they are the raw runtime, the line. A part below zero was saved: it is drawn downwards, and the "
        "others then end above the line by as much."
    )
    requests = ratios.DECOMPOSED.of.rate(BOARD, WINDOW)
    queries = [Query(divided(part.rate(BOARD, WINDOW), requests), part.name) for part in ratios.PARTS]
    queries.append(Query(divided(ratios.RAW_OF_DECOMPOSED.rate(BOARD, WINDOW), requests), "raw"))
    about = About("Seconds a request: model, stack, contention", text, "s", NO_BASELINE, HALF, 9)
    return stacked(about, *queries, colours=True, over="raw")


def _shares() -> Panel:
    text = "The same as shares of the raw runtime, which do not move when requests get longer."
    raw = ratios.RAW_OF_DECOMPOSED.rate(BOARD, WINDOW)
    queries = [Query(divided(part.rate(BOARD, WINDOW), raw), part.name) for part in ratios.PARTS]
    about = About("Shares: model, stack, contention", text, "percentunit", NO_BASELINE, HALF, 9)
    return stacked(about, *queries, colours=True)


def _by_model(title: str, ratio: ratios.Ratio, text: str, empty: Empty) -> Panel:
    query = Query(ratio.rate(BOARD, WINDOW, "model"), "{{model}}")
    handed = ("job", "upstream", "stack")
    return lines(About(title, text, TIMES, empty), query, links=[drill("Efficiency", "model", handed=handed)])


def _heat(title: str, family: f.Family, text: str, empty: Empty) -> Panel:
    counts = total(f"rate({selector(family, BOARD, suffix='_bucket')}[{WINDOW}])", "le")
    text += " The colour is requests a second; two bands are two groups of requests."
    return heat(About(title, text, TIMES, empty, HALF, 9), Query(counts, "{{le}}"))


def _whose() -> Row:
    quantiles = [Query(quantile(share, f.SLOWDOWN, BOARD, WINDOW), f"p{share * 100:g}") for share in (0.5, 0.95, 0.99)]
    stacks = {label: matcher for label, matcher in BOARD.items() if label != "stack"}
    return Row(
        "Whose is it?",
        [
            _table(),
            _seconds(
                "Raw seconds by model", ratios.RAW_MEAN, "Of the covered requests. It moves with their length too."
            ),
            _seconds("Denoised seconds by model", ratios.DENOISED_MEAN, "The same provider with nobody else there."),
            _seconds(
                "Idealized seconds by model", ratios.IDEALIZED_MEAN, "Alone on the reference stack: the model's own."
            ),
            lines(
                About("Slowdown by upstream", "Raw over idealized runtime, by provider.", TIMES, NOT_COVERED),
                Query(ratios.SLOWDOWN.rate(BOARD, WINDOW, "upstream"), "{{upstream}}"),
                links=[drill("Efficiency", "upstream", handed=("job", "model", "stack"))],
            ),
            lines(
                About(
                    "Contention by upstream",
                    "Raw over denoised runtime, by provider.",
                    TIMES,
                    NO_BASELINE,
                ),
                Query(ratios.CONTENTION.rate(BOARD, WINDOW, "upstream"), "{{upstream}}"),
                links=[drill("Efficiency", "upstream", handed=("job", "model", "stack"))],
            ),
            lines(
                About(
                    "Slowdown, quantiles",
                    "Slowdown that half, 95% and 99% of requests stay below.",
                    TIMES,
                    NOT_COVERED,
                ),
                *quantiles,
            ),
            lines(
                About(
                    "Slowdown by reference stack",
                    "The same traffic against every reference stack that covers some of it. Each stack covers other "
                    "models: compare lines of one model.",
                    TIMES,
                    NOT_COVERED,
                ),
                Query(ratios.SLOWDOWN.rate(stacks, WINDOW, "stack"), "{{stack}}"),
            ),
            _stacks(),
            lines(
                About(
                    "The provider at its best: seconds an output token",
                    "The baseline's runtime per output token, without contention: a step is other hardware or "
                    "software. Empty until there is a baseline.",
                    "s",
                    NO_BASELINE,
                ),
                Query(
                    f"max by (upstream, model) ({selector(f.BASELINE_OUTPUT_TOKEN, BOARD)})", "{{upstream}} {{model}}"
                ),
            ),
            lines(
                About(
                    "Lasting changes of the provider's own best",
                    "Steps of the baseline in an hour, such as other hardware. Zero is what to expect.",
                    "short",
                ),
                Query(Term(f.STEPS).increase(BOARD, "1h", "upstream", "model"), "{{upstream}} {{model}}"),
            ),
        ],
    )


def _table() -> Panel:
    by = ("upstream", "model")
    lost = ratios.PARTS[2].increase(BOARD, _RANGE, *by)
    text = (
        "Each provider and model over the time shown. Seconds are means, each two with the ratio of both: raw and "
        "idealized of the covered requests, raw again and denoised of those with a baseline. Click a row to look at "
        "it alone. Cells are empty where the stack has no numbers of the model, or the provider no baseline yet."
    )
    handed = ("job", "stack")
    return rows(
        About("Providers and models", text, "short", NO_REQUESTS, 24, 9),
        by,
        Column("requests", Term(f.REQUESTS).increase(BOARD, _RANGE, *by), "short", 0),
        Column("raw", ratios.RAW_MEAN.increase(BOARD, _RANGE, *by), "s", 2),
        Column("idealized", ratios.IDEALIZED_MEAN.increase(BOARD, _RANGE, *by), "s", 2),
        Column("slowdown", ratios.SLOWDOWN.increase(BOARD, _RANGE, *by), TIMES, 2),
        Column("raw, with a baseline", ratios.RAW_OF_DENOISED_MEAN.increase(BOARD, _RANGE, *by), "s", 2),
        Column("denoised", ratios.DENOISED_MEAN.increase(BOARD, _RANGE, *by), "s", 2),
        Column("contention factor", ratios.CONTENTION.increase(BOARD, _RANGE, *by), TIMES, 2),
        Column("stack factor", ratios.STACK_FACTOR.increase(BOARD, _RANGE, *by), TIMES, 2),
        Column("seconds of contention", lost, "s", 1),
        sort="seconds of contention",
        links=[
            drill("Efficiency", *by, handed=handed, table=True),
            drill("Gateway", *by, table=True),
        ],
    )


def _seconds(title: str, ratio: ratios.Ratio, text: str) -> Panel:
    query = Query(ratio.rate(BOARD, WINDOW, "model"), "{{model}}")
    handed = ("job", "upstream", "stack")
    empty = NO_BASELINE if ratio.volume is ratios.DENOISED else NOT_COVERED
    about = About(title, "Seconds of a mean request. " + text, "s", empty, THIRD)
    return lines(about, query, links=[drill("Efficiency", "model", handed=handed)])


def _stacks() -> Panel:
    view = {label: matcher for label, matcher in BOARD.items() if label != "stack"}
    text = (
        "The same traffic against every reference stack that covers some of it, over the time shown. Each covers "
        "other models: compare for one model. Click a row to choose the stack."
    )
    return rows(
        About("Reference stacks", text, "short", NOT_COVERED, 24, 6),
        ("stack",),
        Column("covered requests", ratios.COVERED.of.increase(view, _RANGE, "stack"), "short", 0),
        Column("raw", ratios.RAW_MEAN.increase(view, _RANGE, "stack"), "s", 2),
        Column("idealized", ratios.IDEALIZED_MEAN.increase(view, _RANGE, "stack"), "s", 2),
        Column("slowdown", ratios.SLOWDOWN.increase(view, _RANGE, "stack"), TIMES, 2),
        Column("stack factor", ratios.STACK_FACTOR.increase(view, _RANGE, "stack"), TIMES, 2),
        Column("faster than idealized", ratios.FASTER_THAN_IDEALIZED.increase(view, _RANGE, "stack"), "percentunit", 1),
        sort="covered requests",
        links=[drill("Efficiency", "stack", handed=("job", "upstream", "model"), table=True)],
    )
