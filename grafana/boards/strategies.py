"""The dashboard Strategies: how often each is right, what a right answer costs, and which are worth their price."""

from grafana_foundation_sdk.models import dashboard as model

from grafana.board import GATEWAY_JOB, Row, Variable, board, job, stack
from grafana.empty import NO_OUTCOME
from grafana.panels import HALF, SIXTH, About, Column, Panel, Query, lines, number, points, rows
from grafana.promql import MATCHERS, divided, selector
from stream import families as f

__all__ = ["strategies"]

_BY = ("model", "strategy")
_UNKNOWN = " Absent where it is not known of every request: a model that the stack has no numbers of, a price unknown."


def strategies(readme: str) -> model.Dashboard:
    """Build it."""
    text = "How often each strategy is right, what a right answer costs, and which are worth their price."
    one = Variable(
        "instance",
        f.JUDGED,
        "Instance",
        "A gateway knows the problems of its own traffic, every stream worker those of the fleet: never add them.",
        view=("job",),
    )
    chosen = Variable("model", f.JUDGED, "Model", "Models, as clients name them.", many=True, view=("job", "instance"))
    variables = (job(f.JUDGED, GATEWAY_JOB), one, chosen, stack(f.STRATEGY_SECONDS))
    return board("Strategies", text, variables, (_worth(), _over_time()), readme)


def _each(family: f.Family, *matchers: str) -> str:
    """A figure of each model and strategy."""
    return f"max by (model, strategy) ({selector(family, MATCHERS, *matchers)})"


def _per(family: f.Family, under: f.Family, *matchers: str) -> str:
    return divided(_each(family, *matchers), _each(under))


_ACCURACY = _per(f.SUCCESS_RATES, f.JUDGED)
_SERVED, _BILLED = 'basis="served"', 'basis="billed"'


def _worth() -> Row:
    dollars = f.STRATEGY_DOLLARS
    return Row(
        "Which is worth its price?",
        [
            number(
                About("Problems judged", "Problems with an outcome of any strategy.", "short", NO_OUTCOME, SIXTH, 4),
                Query(f"sum({selector(f.JUDGED_PROBLEMS, MATCHERS)})", "judged"),
            ),
            number(
                About(
                    "Best accuracy",
                    "Mean success rate of the most accurate strategy.",
                    "percentunit",
                    NO_OUTCOME,
                    SIXTH,
                    4,
                ),
                Query(f"max({_ACCURACY})", "accuracy"),
            ),
            _frontier("Cost of a pass, served", _SERVED),
            _frontier("Cost of a pass, billed", _BILLED),
            number(
                About("Unsolved", "Problems that no strategy solves.", "short", NO_OUTCOME, SIXTH, 4),
                Query(f"max({selector(f.FRONTIER_UNSOLVED, MATCHERS, _SERVED)})", "unsolved"),
            ),
            number(
                About(
                    "Outcomes that judge nothing",
                    "Outcomes that fit several models or strategies, or none: GET /trueclock/v1/strategies names the "
                    "latest in unmatched. Zero is what to expect.",
                    "short",
                    NO_OUTCOME,
                    SIXTH,
                    4,
                ),
                Query(f"sum({selector(f.UNMATCHED, MATCHERS)})", "outcomes"),
                (None, "green"),
                (1.0, "yellow"),
            ),
            _scatter("Accuracy against served dollars", _SERVED, "served on the reference stack"),
            _scatter("Accuracy against billed dollars", _BILLED, "billed by list price"),
            rows(
                About(
                    "Models and strategies",
                    "Totals over the judged problems, since ever. A right answer costs the total over all right "
                    "attempts: a "
                    "ratio of sums. Compare strategies that were asked the same problems." + _UNKNOWN,
                    "short",
                    NO_OUTCOME,
                    24,
                    10,
                ),
                _BY,
                Column("problems", _each(f.JUDGED), "short", 0),
                Column("accuracy", _ACCURACY, "percentunit", 1),
                Column("unsolved", _per(f.UNSOLVED, f.JUDGED), "percentunit", 1),
                Column("served $ a problem", _per(dollars, f.JUDGED, _SERVED), "currencyUSD", 6),
                Column("served $ a right answer", _per(dollars, f.CORRECT, _SERVED), "currencyUSD", 6),
                Column("billed $ a right answer", _per(dollars, f.CORRECT, _BILLED), "currencyUSD", 6),
                Column("joules a right answer", _per(f.STRATEGY_ENERGY, f.CORRECT, _SERVED), "joule", 1),
                Column("seconds a right answer", _per(f.STRATEGY_SECONDS, f.CORRECT), "s", 2),
                Column("FLOPs a right answer", _per(f.STRATEGY_FLOPS, f.CORRECT), "sci", 2),
                sort="accuracy",
            ),
        ],
    )


def _frontier(title: str, basis: str) -> Panel:
    text = (
        "The frontier cost of a pass: what the solved problems cost on average if each goes to whoever is best at it."
        + _UNKNOWN
    )
    cost = f"max({selector(f.FRONTIER_DOLLARS, MATCHERS, basis)})"
    return number(About(title, text, "currencyUSD", NO_OUTCOME, SIXTH, 4), Query(cost, title), decimals=6)


def _scatter(title: str, basis: str, of: str) -> Panel:
    text = (
        f"Each point is a model and strategy: dollars a problem, {of}, and how often it is right. Up and to the left "
        f"is "
        "better; what has another above and to its left is not worth its price." + _UNKNOWN
    )
    dollars = Column("$ a problem", _per(f.STRATEGY_DOLLARS, f.JUDGED, basis), "currencyUSD")
    return points(
        About(title, text, "short", NO_OUTCOME, HALF, 10), _BY, dollars, Column("accuracy", _ACCURACY, "percentunit")
    )


def _over_time() -> Row:
    def of(title: str, text: str, unit: str, expression: str) -> Panel:
        return lines(About(title, text, unit, NO_OUTCOME), Query(expression, "{{model}} {{strategy}}"))

    cost = selector(f.FRONTIER_DOLLARS, MATCHERS)
    return Row(
        "How does it change?",
        [
            of("Accuracy", "Mean success rate over the judged problems so far.", "percentunit", _ACCURACY),
            of(
                "Served dollars of a right answer",
                "Total over right attempts, so far." + _UNKNOWN,
                "currencyUSD",
                _per(f.STRATEGY_DOLLARS, f.CORRECT, _SERVED),
            ),
            of("Problems judged by strategy", "So far.", "short", _each(f.JUDGED)),
            lines(
                About("Frontier cost of a pass", "So far, by basis." + _UNKNOWN, "currencyUSD", NO_OUTCOME),
                Query(f"max by (basis) ({cost})", "{{basis}}"),
            ),
            lines(
                About("Outcomes that judge nothing, by reason", "So far.", "short", NO_OUTCOME),
                Query(selector(f.UNMATCHED, MATCHERS), "{{reason}}"),
            ),
            lines(
                About(
                    "Strategies not shown",
                    "Pairs of model and strategy beyond the 50 with most judged problems, which alone are shown.",
                    "short",
                    NO_OUTCOME,
                ),
                Query(selector(f.STRATEGIES_LEFT_OUT, MATCHERS), "not shown"),
            ),
        ],
    )
