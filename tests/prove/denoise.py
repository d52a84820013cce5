#!/usr/bin/env python3
"""Judge the denoiser against simulated providers whose truth is known.

    python tests/prove/denoise.py                         # 20 seeds of every scenario, alone and in fleets: minutes
    python tests/prove/denoise.py --short                 # 4 seeds of each, for CI
    python tests/prove/denoise.py --scenario whole,queue --seeds 5 --each

Every simulation's truth (overhead, F, beta, gamma, contention) is drawn from its seed. Errors are those of the
baselines in force after 500 requests; seconds of contention are counted live, as the events pass. Estimates given
before a provider was ever seen at its best are `blind`: they are counted, and not judged.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from math import ceil, inf
from statistics import median
from typing import Any

from joining import Workers, merged_errors, restart_differs
from judging import BOUND, STAYS, Errors, Frozen, Make, Mean, Oracle, Verdict, denoiser, judge
from proving import Claims

from stream.simulate import SCENARIOS

MARK = 500
MARKS = 60, 100, 200, MARK
ENOUGH_SEEDS = 10
ERROR_MEDIAN, ERROR_P90 = 0.05, 0.10
CONTENTION = 0.10
RECOVERY = 1000
WRONG, WRONG_EARLY, WRONG_OF_FEW = 0.01, 0.02, 0.05
WRONG_AMID_CHANGE = {"mixed": 0.02, "stream": 0.02}
"""Of the estimates given, the share that may be further than BOUND from the truth: as a rule; of the first ones; where
phases or changes make yesterday's truth wrong until the next refit; and of so few simulations that one counts much"""

PROMPT_SHARE = 0.005, 0.01
"""What F may be off by where no reply is streamed, as a share of T: it is a few per cent of the durations, which are
all there is to see of it, and cannot be known better than these; in a fleet of what others have told of by then"""

COVERED = 0.85
"""The share of the 95 % intervals that must hold the truth, from the first ones on"""

ACCURATE = ("default", "lognormal", "onoff", "queue", "whole", "stream", "cached", "reasoning", "hardware", "many")
ROBUST = ("absurd", "clock", "cached", "tiny", "failures", "onoff", "stream", "mixed")
EARLY, EARLY_SCENARIOS = 150, ("default", "queue", "whole", "cached", "reasoning", "absurd")
REQUESTS = {"hardware": 4000, "many": 4000, "mixed": 6000}
USUAL_REQUESTS = 1000
CONTROL_SEEDS = range(1, 6)

FLEETS: dict[str, Make] = {
    "2 workers": partial(Workers, count=2),
    "4 workers": partial(Workers, count=4),
    "4 workers, killed in turn": partial(Workers, count=4, restart_every=5),
}
FLEET_PROMPT_SHARE = 0.01, 0.02
FLEET_SCENARIOS = ("default", "queue", "whole", "many", "hardware", "absurd", "mixed")


def p90(values: Sequence[float]) -> float:
    """Return the smallest value that nine in ten do not exceed."""
    return sorted(values)[ceil(0.9 * len(values)) - 1]


@dataclass(frozen=True, slots=True)
class Score:
    """One scenario over all seeds; errors are relative. Absent estimates count as infinitely wrong."""

    scenario: str
    verdicts: Sequence[Verdict]
    title: str = ""

    @property
    def name(self) -> str:
        """What claims call it."""
        return self.title or self.scenario

    def errors(self, part: Callable[[Errors], float]) -> list[float]:
        """One error of every pair that came to MARK requests."""
        found = [errors for verdict in self.verdicts for errors in verdict.at.get(MARK, [])]
        return [inf if errors is None else part(errors) for errors in found]

    @property
    def contention(self) -> list[float]:
        """Estimated over true seconds of contention, of each simulation that had any."""
        return [verdict.contention for verdict in self.verdicts if verdict.contention is not None]

    @property
    def pooled(self) -> float:
        """The same, of all simulations together."""
        true = sum(verdict.true_contention for verdict in self.verdicts)
        return sum(verdict.estimated_contention for verdict in self.verdicts) / true if true else inf

    @property
    def given(self) -> int:
        """Requests with an estimate."""
        return sum(verdict.given for verdict in self.verdicts)

    @property
    def wrong(self) -> float:
        """Of the estimates given, the share that is further than BOUND from the truth."""
        return sum(verdict.wrong for verdict in self.verdicts) / (self.given or 1)

    @property
    def recovered(self) -> list[float]:
        """Requests after the change until the errors stay small, of each simulation."""
        found = [verdict.recovered for verdict in self.verdicts if verdict.after_change]
        return [inf if requests is None else requests for requests in found]

    def row(self) -> str:
        """One line of the table."""
        prompt, output = self.errors(lambda each: each.prompt), self.errors(lambda each: each.per_output)
        context, total = self.errors(lambda each: each.context), self.errors(lambda each: each.total)
        shares = self.contention
        cells = [
            _both(prompt),
            _both(output),
            _both(context),
            _both(total),
            _both([abs(share - 1) for share in shares]),
            f"{self.pooled:.3f}" if shares else "-",
            f"{self.given / sum(verdict.completed for verdict in self.verdicts):.0%}",
            f"{sum(verdict.blind for verdict in self.verdicts) / (self.given or 1):.1%}",
            f"{self.wrong:.2%}",
            f"{max(verdict.worst for verdict in self.verdicts):.0%}",
        ]
        return f"{self.scenario:10}" + "".join(f"{cell:>17}" for cell in cells)


HEAD = f"{'scenario':10}" + "".join(
    f"{cell:>17}"
    for cell in (
        "F",
        "beta",
        "beta+gamma",
        "T",
        "contention",
        "pooled",
        "given",
        "of them blind",
        f"off > {BOUND:.0%}",
        "worst",
    )
)


def _both(values: Sequence[float]) -> str:
    return f"{median(values):.1%} / {p90(values):.1%}" if values else "-"


def score(scenario: str, seeds: Sequence[int], make: Make = denoiser) -> Score:
    """Judge one scenario; a save after every event where there are few."""
    if scenario == "tiny":
        return Score(scenario, judged(seeds, scenario=scenario, requests=EARLY, make=make, saved_every=1))
    requests = REQUESTS.get(scenario, USUAL_REQUESTS)
    return Score(scenario, judged(seeds, scenario=scenario, requests=requests, make=make, recovery=RECOVERY))


def judged(seeds: Sequence[int], **settings: Any) -> list[Verdict]:
    """Judge one simulation a seed, on as many processors as there are."""
    with ProcessPoolExecutor() as pool:
        return list(pool.map(partial(judge, marks=MARKS, **settings), seeds))


def few(found: Sequence[object]) -> bool:
    """Whether there are too few simulations for more than their median: one bad seed of four proves nothing."""
    return len(found) < ENOUGH_SEEDS


def accurate(claims: Claims, found: Score) -> None:
    """State the claims of accuracy for one scenario."""
    usual = ERROR_MEDIAN, ERROR_P90
    prompt = ("F", found.errors(lambda each: each.prompt), usual)
    if found.scenario == "whole":
        share = FLEET_PROMPT_SHARE if found.title else PROMPT_SHARE
        prompt = ("F as a share of T", found.errors(lambda each: each.prompt_share), share)
    for name, errors, (middle, high) in (
        prompt,
        ("beta", found.errors(lambda each: each.per_output), usual),
        ("T", found.errors(lambda each: each.total), usual),
    ):
        good = bool(errors) and median(errors) <= middle and (few(errors) or p90(errors) <= high)
        text = f"{found.name}: {name} after {MARK} requests, median <= {middle:.1%}, p90 <= {high:.1%}"
        claims.claim(text, good, _both(errors))
    shares = [abs(share - 1) for share in found.contention]
    good = bool(shares) and median(shares) <= CONTENTION and (few(shares) or abs(found.pooled - 1) <= CONTENTION)
    text = f"{found.pooled:.3f} of the true seconds; each simulation off by {_both(shares)}"
    claims.claim(f"{found.name}: contention within 10 %", good, text)


def robust(claims: Claims, found: Score, most: float = WRONG) -> None:
    """State that wrong estimates are rare: where there is too little to go by, there is none."""
    most = max(most, WRONG_AMID_CHANGE.get(found.scenario, 0.0), WRONG_OF_FEW if few(found.verdicts) else 0.0)
    text = f"{found.name}: an estimate is within {BOUND:.0%} of the truth, or there is none; but for {most:.0%}"
    claims.claim(text, found.wrong <= most, f"{found.wrong:.2%} of {found.given:,}")


def early(claims: Claims, seeds: Sequence[int]) -> None:
    """State the same of the very first estimates, each in force as soon as it can be."""
    for scenario in EARLY_SCENARIOS:
        found = Score(f"{scenario}'s first {EARLY}", judged(seeds, scenario=scenario, requests=EARLY, saved_every=1))
        robust(claims, found, WRONG_EARLY)


def recovers(claims: Claims, found: Score) -> None:
    """State how soon a change of hardware is followed."""
    requests = found.recovered
    text = f"median {median(requests):.0f}, p90 {p90(requests):.0f}, at most {max(requests):.0f} requests"
    good = (median(requests) if few(requests) else p90(requests)) <= RECOVERY
    claims.claim(f"{found.name}: errors stay within {STAYS:.0%} from {RECOVERY} requests on", good, text)


def covers(claims: Claims, scores: Sequence[Score]) -> None:
    """Print how often the intervals hold the truth, and state that it is nearly as often as they say."""
    verdicts = [verdict for found in scores if found.scenario in ACCURATE for verdict in found.verdicts]
    print(f"\n{'intervals':10}" + "".join(f"{cell:>17}" for cell in ("beta", "F", "T", "of")))
    worst = 1.0
    for mark in MARKS:
        held = [each for verdict in verdicts for each in verdict.held.get(mark, [])]
        shares = [sum(part) / len(held) for part in zip(*held, strict=True)]
        worst = min([worst, *shares])
        print(f"after {mark:4}" + "".join(f"{share:17.0%}" for share in shares) + f"{len(held):17}")
    claims.claim(f"the 95 % intervals hold the truth, at least {COVERED:.0%} of them", worst >= COVERED, f"{worst:.0%}")


def joins(claims: Claims, seeds: Sequence[int]) -> None:
    """State that neither a restart nor two workers make a difference."""
    differ = [seed for seed in seeds if restart_differs(seed)]
    claims.claim("a restart half way gives the identical baselines", not differ, f"seeds {list(seeds)}")
    errors = [merged_errors(seed) for seed in seeds]
    text = f"T of two halves merged within {max(errors):.2%} of the whole's"
    claims.claim("two halves merged are as good as the whole", max(errors) <= ERROR_MEDIAN, text)


def shares(claims: Claims, seeds: Sequence[int]) -> None:
    """State the same of workers that share the traffic and tell each other what they learned."""
    for name, make in FLEETS.items():
        print(f"\n{name}\n{HEAD}", flush=True)
        for scenario in FLEET_SCENARIOS:
            found = score(scenario, seeds, make)
            print(found.row(), flush=True)
            told = replace(found, title=f"{name}, {scenario}")
            if scenario in ACCURATE:
                accurate(claims, told)
            if scenario in ROBUST:
                robust(claims, told)
            if scenario == "hardware":
                recovers(claims, told)
            broke = [verdict.broke for verdict in found.verdicts if verdict.broke is not None]
            claims.claim(f"{told.name}: no simulation breaks the estimators", not broke, "; ".join(broke[:3]))


def controls(claims: Claims) -> None:
    """Show that the judge can fail, and that the truth itself passes."""
    truth, mean = score("default", CONTROL_SEEDS, Oracle), score("default", CONTROL_SEEDS, Mean)
    doubled = score("default", CONTROL_SEEDS, partial(Oracle, factor=1.0 + 1.5 * BOUND))
    frozen = score("hardware", CONTROL_SEEDS[:2], Frozen)
    errors = [*truth.errors(lambda each: each.worst), *(abs(share - 1) for share in truth.contention)]
    claims.claim("control: the truth itself passes", max(errors) < 0.02 and not truth.wrong, f"{max(errors):.2%}")
    off = abs(mean.pooled - 1)
    claims.claim("control: the mean runtime misses the contention target", off > CONTENTION, f"off by {off:.0%}")
    claims.claim("control: an estimate too high by 22 % is seen as wrong", doubled.wrong > 0.9, f"{doubled.wrong:.0%}")
    never = p90(frozen.recovered)
    claims.claim("control: an estimator that stops learning never recovers", never > RECOVERY, never)


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, help="how many; default 20, 4 with --short")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="the first one; default 1")
    parser.add_argument("--scenario", default=",".join(SCENARIOS), help="some of them, with commas")
    parser.add_argument("--each", action="store_true", help="print every simulation")
    parser.add_argument(
        "--short", action="store_true", help=f"4 seeds; below {ENOUGH_SEEDS} medians are judged, p90 only shown"
    )
    options = parser.parse_args(argv)
    options.seeds = range(options.seed, options.seed + (options.seeds or (4 if options.short else 20)))
    options.scenarios = options.scenario.split(",")
    if unknown := [name for name in options.scenarios if name not in SCENARIOS]:
        parser.error(f"unknown scenario {unknown[0]!r}: there are {', '.join(SCENARIOS)}")
    return options


def show_each(found: Score, seeds: Sequence[int]) -> None:
    """Print every simulation of a scenario on a line."""
    for seed, verdict in zip(seeds, found.verdicts, strict=True):
        errors = [str(each and tuple(f"{part:.1%}" for part in each.parts)) for each in verdict.at.get(MARK, [])]
        share = "-" if verdict.contention is None else f"{verdict.contention:.3f}"
        print(
            f"  seed {seed:3}: F, beta, beta+gamma, T {' '.join(errors)}; contention {share}; "
            f"given {verdict.given}/{verdict.completed}, wrong {verdict.wrong}, worst {verdict.worst:.0%}; "
            f"recovered {verdict.recovered}"
        )


def main(argv: Sequence[str] | None = None) -> int:
    """Judge; return 0 when every claim holds, 1 when one fails."""
    options, claims, began = arguments(argv), Claims("denoise"), time.monotonic()
    print(
        f"errors: median / p90 over {len(options.seeds)} seeds from {options.seed}, after {MARK} requests\n{HEAD}",
        flush=True,
    )
    scores = []
    for scenario in options.scenarios:
        scores.append(score(scenario, options.seeds))
        print(scores[-1].row(), flush=True)
        if options.each:
            show_each(scores[-1], options.seeds)
    for found in scores:
        if found.scenario in ACCURATE:
            accurate(claims, found)
        if found.scenario in ROBUST:
            robust(claims, found)
        if found.scenario == "hardware":
            recovers(claims, found)
    covers(claims, scores)
    broke = [verdict.broke for found in scores for verdict in found.verdicts if verdict.broke is not None]
    claims.claim("no simulation breaks the estimator", not broke, "; ".join(broke[:3]))
    early(claims, options.seeds)
    joins(claims, options.seeds[:4])
    shares(claims, options.seeds)
    controls(claims)
    events = sum(REQUESTS.get(found.scenario, USUAL_REQUESTS) for found in scores) * len(options.seeds)
    return claims.finish(f"{events:,} simulated requests in {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    sys.exit(main())
