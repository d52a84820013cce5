"""What each panel's numbers are by the event log: for every expression of a dashboard its figure, or why there is none."""

from collections.abc import Mapping

from tests.grafana.comparing import Buckets, Entry, Exactly, Figure, Place, Quantile
from tests.grafana.figures import (
    ACCURACY,
    ADDED,
    EACH,
    FIRST,
    PAIR,
    PARTS,
    PROBLEMS_OF_EACH,
    RATIOS,
    WHOLE,
    a_right_answer,
    all_completed,
    all_covered,
    all_denoised,
    because,
    billed_dollars,
    contention,
    contentions,
    cost_of,
    costs,
    errors,
    estimated,
    everything,
    excluded,
    extrapolated,
    faster_than_denoised,
    faster_than_idealized,
    fates,
    first_tokens,
    frontier,
    frontiers,
    judged,
    known,
    margin,
    mean,
    number,
    on_each_stack,
    only,
    part,
    problems_held,
    provenances,
    quantiles,
    rate_of,
    reasons,
    retried,
    share,
    slowdown,
    slowdowns,
    stack_factor,
    status_classes,
    sums,
    tokens,
    uncovered,
    unsolved,
)
from tests.grafana.recount import Recount, billed, denoised, failed, raw, refused

EFFICIENCY: Mapping[Entry, Figure] = {
    ("Slowdown", "Slowdown"): slowdown(),
    ("Stack", "Stack"): stack_factor(),
    ("Contention", "Contention"): contention(),
    ("Slower than expected because of", "reason"): number(because),
    **{("Where the seconds went", name): part(name, of="raw") for name in ("model", "stack", "contention")},
    **{("Seconds a request: model, stack, contention", name): part(name, of="request") for name in PARTS},
    **{("Shares: model, stack, contention", name): part(name, of="raw") for name in ("model", "stack", "contention")},
    ("Slowdown by model", "{{model}}"): slowdown("model"),
    ("Contention by model", "{{model}}"): contention("model"),
    ("Slowdown of single requests", "{{le}}"): Buckets(slowdowns),
    ("Contention of single requests", "{{le}}"): Buckets(contentions),
    ("Providers and models", "requests"): sums(lambda _, e: 1.0, *PAIR),
    ("Providers and models", "raw"): mean(all_covered, lambda _, e: raw(e), *PAIR),
    ("Providers and models", "raw, with a baseline"): mean(all_denoised, lambda _, e: raw(e), *PAIR),
    ("Providers and models", "denoised"): mean(all_denoised, lambda _, e: denoised(e), *PAIR),
    ("Providers and models", "idealized"): mean(all_covered, Recount.idealized, *PAIR),
    ("Providers and models", "slowdown"): slowdown(*PAIR),
    ("Providers and models", "stack factor"): stack_factor(*PAIR),
    ("Providers and models", "contention factor"): contention(*PAIR),
    ("Providers and models", "seconds of contention"): sums(
        lambda _, e: raw(e) - denoised(e), *PAIR, events=lambda r: r.decomposed
    ),
    ("Raw seconds by model", "{{model}}"): mean(all_covered, lambda _, e: raw(e), "model"),
    ("Denoised seconds by model", "{{model}}"): mean(all_denoised, lambda _, e: denoised(e), "model"),
    ("Idealized seconds by model", "{{model}}"): mean(all_covered, Recount.idealized, "model"),
    ("Reference stacks", "covered requests"): on_each_stack(sums(lambda _, e: 1.0, events=all_covered)),
    ("Reference stacks", "raw"): on_each_stack(mean(all_covered, lambda _, e: raw(e))),
    ("Reference stacks", "idealized"): on_each_stack(mean(all_covered, Recount.idealized)),
    ("Reference stacks", "slowdown"): on_each_stack(slowdown()),
    ("Reference stacks", "stack factor"): on_each_stack(stack_factor()),
    ("Reference stacks", "faster than idealized"): on_each_stack(faster_than_idealized()),
    ("Slowdown by reference stack", "{{stack}}"): on_each_stack(slowdown()),
    ("Slowdown by upstream", "{{upstream}}"): slowdown("upstream"),
    ("Contention by upstream", "{{upstream}}"): contention("upstream"),
    **{
        ("Slowdown, quantiles", f"p{round(100 * at)}"): Quantile(at, lambda r: {(): slowdowns(r)}, RATIOS)
        for at in (0.5, 0.95, 0.99)
    },
    ("Requests with an idealized runtime, with a denoised one", "covered"): share(all_covered, all_completed),
    ("Requests with an idealized runtime, with a denoised one", "denoised"): share(all_denoised, all_completed),
    ("Where idealized runtimes come from", "{{provenance}}"): Exactly(("provenance",), provenances),
    ("Faster than expected, beyond the tables", "faster than idealized"): faster_than_idealized(),
    ("Faster than expected, beyond the tables", "faster than denoised"): faster_than_denoised(),
    ("Faster than expected, beyond the tables", "extrapolated"): extrapolated(),
    ("Not covered", "requests"): reasons("uncovered_reason", uncovered),
    ("Estimated tokens", "estimated"): estimated(),
    ("Dollars an hour: billed, and on the reference stack", "billed"): sums(
        lambda _, e: billed(e), rate=True, times=3600
    ),
    ("Dollars an hour: billed, and on the reference stack", "{{basis}}"): costs("dollars", times=3600),
    ("Margin by model: billed over served", "{{model}}"): margin("model"),
    ("Billed", "billed"): sums(lambda _, e: billed(e)),
    ("Served on the reference stack", "served"): number(lambda r: sum(map(r.cost("served", "dollars"), r.events))),
    ("Margin", "margin"): margin(),
    ("Accelerators, served", "accelerators"): Exactly(
        (), lambda r: {(): sum(map(r.cost("served", "accelerator_seconds"), r.events))}, per_second=True
    ),
    ("Not billed", "requests"): reasons("unbilled_reason", everything),
    ("Power", "{{basis}}"): costs("energy_joules"),
    ("Carbon an hour", "{{basis}}"): costs("carbon_grams", times=3600),
    ("Water an hour", "{{basis}}"): costs("water_litres", times=3600),
    ("Computation", "{{model}}"): sums(lambda r, e: float(r.view(e).get("flops") or 0.0), "model", rate=True),
}


GATEWAY: Mapping[Entry, Figure] = {
    ("Requests a second", "Requests a second"): sums(lambda _, e: 1.0, rate=True),
    ("Errors", "Errors"): errors(),
    ("Retries", "Retries"): retried(),
    ("Events lost", "Events lost"): number(lambda _: 0.0),
    ("Requests by status", "{{status_class}}"): Exactly(("status_class",), status_classes, per_second=True),
    ("Errors and requests broken off, by reason", "{{exclusion_reason}}"): Exactly(
        ("exclusion_reason",), excluded, True
    ),
    ("Errors by upstream", "{{upstream}}"): errors("upstream"),
    ("Retries by upstream", "{{upstream}}"): retried("upstream"),
    ("Providers and models", "requests"): sums(lambda _, e: 1.0, *PAIR),
    ("Providers and models", "errors"): errors(*PAIR),
    ("Providers and models", "retries"): retried(*PAIR),
    ("Providers and models", "estimated tokens"): estimated(*PAIR),
    **quantiles("Time to the first token", known("time_to_first_token_seconds"), FIRST),
    **quantiles("Time per output token", known("time_per_output_token_seconds"), EACH),
    **quantiles("Duration that clients see", known("duration_seconds"), WHOLE),
    **quantiles("Raw runtime", known("raw_runtime_seconds"), WHOLE),
    **quantiles(
        "Time to the first byte of a stream",
        known("time_to_first_byte_seconds", only(lambda _, e: e["stream"], everything)),
        FIRST,
    ),
    ("First token by model, p95", "{{gen_ai_request_model}}"): Quantile(
        0.95, first_tokens, FIRST, ("gen_ai_request_model",)
    ),
    ("Tokens a second", "{{gen_ai_token_type}}"): Exactly(("gen_ai_token_type",), tokens, per_second=True),
    **quantiles("Time that the gateway adds", known("gateway_overhead_seconds"), ADDED),
    ("Time that the gateway adds, single requests", "{{le}}"): Buckets(
        lambda r: known("gateway_overhead_seconds")(r)[()]
    ),
}


STREAM: Mapping[Entry, Figure] = {
    ("Events a second", "Events a second"): sums(lambda _, e: 1.0, rate=True),
    ("Dead letters", "Dead letters"): number(lambda r: r.others["dead"]),
    ("Events by what became of them", "{{outcome}}"): Exactly(("outcome",), fates, per_second=True),
    ("Requests of problems", "{{result}}"): Exactly(
        ("result",), lambda r: {("written",): float(sum(event["problem"] is not None for event in r.events))}, True
    ),
    ("Problems", "held"): number(problems_held),
    ("Duplicates", "duplicates"): number(lambda r: r.others["duplicate"] / sum(fates(r).values())),
}

A_PROBLEM, A_RIGHT_ANSWER = a_right_answer(cost_of("served", "dollars"), PROBLEMS_OF_EACH), a_right_answer(cost_of("served", "dollars"))  # fmt: skip
STRATEGIES: Mapping[Entry, Figure] = {
    ("Problems judged", "judged"): number(problems_held),
    ("Best accuracy", "accuracy"): number(lambda r: max(ACCURACY.of(r).values())),
    ("Cost of a pass, served", "Cost of a pass, served"): frontier(cost_of("served", "dollars")),
    ("Cost of a pass, billed", "Cost of a pass, billed"): frontier(billed_dollars),
    ("Unsolved", "unsolved"): number(unsolved),
    ("Outcomes that judge nothing", "outcomes"): number(lambda _: 0.0),
    ("Accuracy against served dollars", "$ a problem"): A_PROBLEM,
    ("Accuracy against served dollars", "accuracy"): ACCURACY,
    ("Accuracy against billed dollars", "$ a problem"): a_right_answer(billed_dollars, PROBLEMS_OF_EACH),
    ("Accuracy against billed dollars", "accuracy"): ACCURACY,
    ("Models and strategies", "problems"): PROBLEMS_OF_EACH,
    ("Models and strategies", "accuracy"): ACCURACY,
    ("Models and strategies", "unsolved"): judged(lambda answers: 1 - sum(answers) / len(answers)),
    ("Models and strategies", "served $ a problem"): A_PROBLEM,
    ("Models and strategies", "served $ a right answer"): A_RIGHT_ANSWER,
    ("Models and strategies", "billed $ a right answer"): a_right_answer(billed_dollars),
    ("Models and strategies", "joules a right answer"): a_right_answer(cost_of("served", "energy_joules")),
    ("Models and strategies", "seconds a right answer"): a_right_answer(Recount.idealized),
    ("Models and strategies", "FLOPs a right answer"): a_right_answer(lambda r, e: float(r.view(e)["flops"])),
    ("Accuracy", "{{model}} {{strategy}}"): ACCURACY,
    ("Served dollars of a right answer", "{{model}} {{strategy}}"): A_RIGHT_ANSWER,
    ("Problems judged by strategy", "{{model}} {{strategy}}"): PROBLEMS_OF_EACH,
    ("Frontier cost of a pass", "{{basis}}"): Exactly(("basis",), frontiers),
    ("Outcomes that judge nothing, by reason", "{{reason}}"): Exactly(("reason",), lambda _: {}),
    ("Strategies not shown", "not shown"): number(lambda _: 0.0),
}

FIGURES: Mapping[Place, Figure] = {
    **{("trueclock-efficiency", *where): figure for where, figure in EFFICIENCY.items()},
    **{("trueclock-gateway", *where): figure for where, figure in GATEWAY.items()},
    **{("trueclock-stream", *where): figure for where, figure in STREAM.items()},
}
SINCE_EVER: Mapping[Place, Figure] = {("trueclock-strategies", *where): figure for where, figure in STRATEGIES.items()}
"""those that are of all events, not of a window"""

NO_FIGURES: Mapping[Entry, str] = {
    ("trueclock-efficiency", "The provider at its best: seconds an output token"): "of the baseline, not of events",
    ("trueclock-efficiency", "Lasting changes of the provider's own best"): "of the baseline, not of events",
    ("trueclock-efficiency", "What changed"): "against an hour and a day before, which no live test has",
    ("trueclock-efficiency", "Lasting changes"): "of the baseline, not of events",
    ("trueclock-gateway", "Lasting changes"): "of the baseline, not of events",
    ("trueclock-gateway", "Names folded into other"): "of the labels, not of events",
}
"""panels of metrics of the events whose numbers are in no event"""

MAY_BE_ZERO: frozenset[Entry] = frozenset(
    {
        ("trueclock-gateway", "Events lost"),  # none are
        ("trueclock-efficiency", "Faster than expected, beyond the tables"),  # than the provider's best: by chance
    }
)
"""panels with figures that say nothing of the traffic but that something did not happen"""


RULES: Mapping[str, Figure] = {
    "requests:rate": rate_of(everything),
    "completed_requests:rate": rate_of(all_completed),
    "covered_requests:rate": rate_of(all_covered),
    "denoised_requests:rate": rate_of(all_denoised),
    "decomposed_requests:rate": rate_of(lambda r: r.decomposed),
    **{
        f"{name}_seconds:rate": rate_of(lambda r: r.decomposed, PARTS[name])
        for name in ("model", "stack", "contention")
    },
    "raw_seconds:ratio_rate": mean(all_covered, lambda _, e: raw(e), *PAIR),
    "denoised_seconds:ratio_rate": mean(all_denoised, lambda _, e: denoised(e), *PAIR),
    "idealized_seconds:ratio_rate": mean(all_covered, Recount.idealized, *PAIR),
    "slowdown:ratio_rate": slowdown(*PAIR),
    "contention:ratio_rate": contention(*PAIR),
    "stack_factor:ratio_rate": stack_factor(*PAIR),
    "faster_than_idealized:ratio_rate": faster_than_idealized(*PAIR),
    "faster_than_denoised:ratio_rate": faster_than_denoised(*PAIR),
    "extrapolated:ratio_rate": extrapolated(*PAIR),
    "predicted:ratio_rate": share(
        only(lambda r, e: r.view(e)["provenance"] == "predicted", all_covered), all_covered, *PAIR
    ),
    "billed_over_served:ratio_rate": margin(*PAIR),
    "unknown_model:ratio_rate": share(
        only(lambda _, e: e["uncovered_reason"] == "unknown_model", all_completed), all_completed, *PAIR
    ),
    "denoised_share:ratio_rate": share(all_denoised, all_completed, *PAIR),
    "errors:ratio_rate": errors(*PAIR),
    "failures:ratio_rate": share(only(lambda _, e: failed(e) and not refused(e), everything), everything, *PAIR),
    "refusals:ratio_rate": share(only(lambda _, e: refused(e), everything), everything, *PAIR),
    "retries:ratio_rate": retried(*PAIR),
    "estimated_usage:ratio_rate": estimated(*PAIR),
}
"""recording rules by what follows `trueclock_` in their names, less the window; by job, and on one stack"""
