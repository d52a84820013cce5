"""Strategies compared as people read it: a line each, the best first, then the frontier and what is not known."""

from collections.abc import Iterator, Sequence
from typing import Any

from stream.wording import count, printable

__all__ = ["outcomes_text"]

_HEADS = ("model", "strategy", "problems", "accuracy", "unsolved")
_MEASURED = ("per problem", "per right answer")
_GAP = "   "


def outcomes_text(found: dict[str, Any], measures: Sequence[str]) -> str:
    """The table of what `strategies` found, with these measures side by side."""
    return "\n".join(
        [_summary(found), *(_table(found, measures) if found["strategies"] else ()), *_notes(found, measures)]
    )


def _summary(found: dict[str, Any]) -> str:
    return (
        f"{count(found['problems'], 'problem')} ({found['judged']} judged), {count(found['requests'], 'request')}, "
        f"{count(found['outcomes'], 'outcome')}; costs on {found['stack']}"
    )


def _table(found: dict[str, Any], measures: Sequence[str]) -> Iterator[str]:
    rows = [_row(each, measures) for each in found["strategies"]]
    last = ["frontier", "", "", "", "", *(cell for name in measures for cell in ("", _mean(found["frontier"][name])))]
    heads = [*_HEADS, *(_MEASURED * len(measures))]
    widths = [max(map(len, column)) for column in zip(heads, *rows, last, strict=True)]
    for place, name in enumerate(measures):
        widths[6 + 2 * place] += max(0, len(name) - sum(widths[5 + 2 * place : 7 + 2 * place]) - len(_GAP))
    yield _above(measures, widths)
    yield from (_line(cells, widths) for cells in (heads, *rows, last))


def _above(measures: Sequence[str], widths: Sequence[int]) -> str:
    cells = [" " * (sum(widths[:5]) + len(_GAP) * 4)]
    for place, name in enumerate(measures):
        cells.append(name.rjust(sum(widths[5 + 2 * place : 7 + 2 * place]) + len(_GAP)))
    return _GAP.join(cells)


def _row(each: dict[str, Any], measures: Sequence[str]) -> list[str]:
    unsolved = each["unsolved_share"]
    return [
        printable(each["model"] or "-"),
        printable(each["strategy"] or "-"),
        str(each["problems"] - each["unjudged"]),
        _accuracy(each),
        "-" if unsolved is None else f"{unsolved:.0%}",
        *(cell for name in measures for cell in _measured(each["measures"][name])),
    ]


def _measured(measure: dict[str, Any]) -> tuple[str, str]:
    star = "*" if measure["pareto"] else " "
    return _number(measure["per_problem"]) + star, _number(measure["per_correct"])


def _accuracy(each: dict[str, Any]) -> str:
    if each["accuracy"] is None:
        return "-"
    return f"{each['accuracy']:.3f} ({each['accuracy_low']:.3f}-{each['accuracy_high']:.3f})"


def _mean(frontier: dict[str, Any]) -> str:
    """The frontier's cost of a pass; in brackets where it leaves out problems without one."""
    if frontier["mean"] is not None or frontier["solved_mean"] is None:
        return _number(frontier["mean"])
    return f"({_number(frontier['solved_mean'])})"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    names = [cell.ljust(width) for cell, width in zip(cells[:2], widths, strict=False)]
    return _GAP.join([*names, *(cell.rjust(width) for cell, width in zip(cells[2:], widths[2:], strict=True))]).rstrip()


def _notes(found: dict[str, Any], measures: Sequence[str]) -> Iterator[str]:
    if not found["problems"]:
        yield "no event names a problem: send it as the header x-trueclock-problem"
    if found["judged"]:
        yield "accuracy with its 95 % interval; *: on the Pareto frontier, none is as accurate for less"
        yield from _frontier_notes(found, measures)
    if found["unjudged_problems"]:
        yield f"{count(found['unjudged_problems'], 'problem')} without a judged attempt: in no figure of the table"
    yield from _loose_ends(found)
    if found["unlisted"]:
        yield (
            f"{count(found['unlisted'], 'pair')} of model and strategy not listed, which tried fewest problems: "
            "a strategy's name is the same for all problems"
        )
    if found["failed"]:
        yield f"{count(found['failed'], 'request')} refused, or the upstream was not reached: counted, without cost"
    for reason, number in found["dropped"].items():
        yield f"{count(number, 'problem')} left out: {reason}"


def _frontier_notes(found: dict[str, Any], measures: Sequence[str]) -> Iterator[str]:
    any_frontier, *_ = found["frontier"].values()
    human = next((each["human"] for each in found["frontier"].values() if each["human"] is not None), None)
    by = "model and strategy" if human is None else f"model, strategy, or person (at {_number(human)} dollars each)"
    yield f"frontier: the mean over problems of the least cost of a pass, by any {by}"
    if any_frontier["unsolved"]:
        yield f"{count(any_frontier['unsolved'], 'problem')} solved by none: a mean in brackets leaves them out"
    yield from _unknown_notes(found, measures)


def _unknown_notes(found: dict[str, Any], measures: Sequence[str]) -> Iterator[str]:
    for name in measures:
        unknown = sum(each["measures"][name]["unknown_requests"] for each in found["strategies"])
        if unknown:
            yield f"{name} of {count(unknown, 'request')} not known: no figure (-) for the strategies they are part of"
        if missed := found["frontier"][name]["unknown"]:
            yield f"{name}: what solved {count(missed, 'problem')} without a known cost is not on the frontier"


def _loose_ends(found: dict[str, Any]) -> Iterator[str]:
    for reason in ("ambiguous", "without_requests"):
        if found[reason]:
            yield _LOOSE[reason].format(count(found[reason], "outcome"))
            yield from (_named(each) for each in found["unmatched"] if each["reason"] == reason)


_LOOSE = {
    "ambiguous": "{} of more than one model or strategy: name them in the outcome, or the request's id; the latest:",
    "without_requests": "{} without requests: no event is of such a problem, model and strategy; the latest:",
}


def _named(outcome: dict[str, Any]) -> str:
    names = ("problem", "strategy", "model", "id")
    return "  " + ", ".join(f"{name} {printable(outcome[name])}" for name in names if outcome[name] is not None)
