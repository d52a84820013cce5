"""Families of `stream.metrics` and `stream.strategy_metrics`: name, labels, help, buckets; see `docs/metrics.md`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from stream import histogram as hist

_PAIR = ("upstream", "model")
_STACK = ("upstream", "model", "stack")
_OPERATION = ("gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model")


@dataclass(frozen=True, slots=True)
class Family:
    """One metric family; `bounds` are a histogram's bucket bounds and empty for the others."""

    name: str
    labels: tuple[str, ...]
    help: str
    bounds: Sequence[float] = ()

    @property
    def kind(self) -> Literal["counter", "gauge", "histogram"]:
        """The Prometheus type; a counter's name says so."""
        if self.bounds:
            return "histogram"
        return "counter" if self.name.endswith("_total") else "gauge"


REQUESTS = Family("trueclock_requests_total", (*_PAIR, "status_class", "exclusion_reason"), "All requests.")
RAW = Family("trueclock_raw_runtime_seconds_total", _STACK, "Raw runtime of the requests covered on this stack.")
IDEALIZED = Family("trueclock_idealized_runtime_seconds_total", _STACK, "Idealized runtime of the same requests.")
SLOWDOWN = Family("trueclock_slowdown_ratio", _STACK, "Raw over idealized runtime, by request.", hist.RATIO)
FASTER = Family("trueclock_faster_than_idealized_total", _STACK, "Covered requests with raw below idealized runtime.")
EXTRAPOLATED = Family(
    "trueclock_extrapolated_requests_total", _STACK, "Covered requests of a size beyond the table's knots."
)
RAW_OF_DENOISED = Family(
    "trueclock_raw_of_denoised_runtime_seconds_total", _PAIR, "Raw runtime of requests with denoised runtime."
)
DENOISED = Family("trueclock_denoised_runtime_seconds_total", _PAIR, "Denoised runtime of the same requests.")
CONTENTION = Family("trueclock_contention_ratio", _PAIR, "Raw over denoised runtime, by request.", hist.RATIO)
FASTER_THAN_DENOISED = Family(
    "trueclock_faster_than_denoised_total", _PAIR, "Requests with raw below denoised runtime."
)
DECOMPOSED = Family(
    "trueclock_decomposed_requests_total", _STACK, "Covered requests on this stack with denoised runtime."
)
RAW_OF_DECOMPOSED = Family(
    "trueclock_raw_of_decomposed_runtime_seconds_total", _STACK, "Raw runtime of the decomposed requests."
)
IDEALIZED_OF_DECOMPOSED = Family(
    "trueclock_idealized_of_decomposed_runtime_seconds_total", _STACK, "Idealized runtime of the same requests."
)
DENOISED_OF_DECOMPOSED = Family(
    "trueclock_denoised_of_decomposed_runtime_seconds_total", _STACK, "Denoised runtime of the same requests."
)
COVERED = Family(
    "trueclock_covered_requests_total",
    (*_STACK, "provenance"),
    "Covered requests, by where the idealized runtime comes from.",
)
_COST = (*_STACK, "basis")
COST_DOLLARS = Family(
    "trueclock_idealized_cost_dollars_total", _COST, "What the requests cost on this stack's accelerators."
)
ACCELERATOR_SECONDS = Family(
    "trueclock_idealized_accelerator_seconds_total", _COST, "Time of all accelerators that the requests take."
)
ENERGY = Family("trueclock_idealized_energy_joules_total", _COST, "Energy that the servers draw for the requests.")
CARBON = Family("trueclock_idealized_carbon_grams_total", _COST, "CO2e of that energy.")
WATER = Family(
    "trueclock_idealized_water_litres_total", _COST, "Water of that energy, on site and at the grid's plants."
)
FLOPS = Family("trueclock_idealized_flops_total", _STACK, "Forward FLOPs of the requests.")
BILLED = Family(
    "trueclock_billed_cost_dollars_total", _PAIR, "What the provider bills for the requests, by list price."
)
UNBILLED = Family("trueclock_unbilled_requests_total", (*_PAIR, "reason"), "Requests whose list price is not known.")
BILLED_OF_MARGIN = Family(
    "trueclock_billed_of_margin_dollars_total", _STACK, "Billed dollars of requests whose served dollars are known."
)
SERVED_OF_MARGIN = Family("trueclock_served_of_margin_dollars_total", _STACK, "Served dollars of the same requests.")
STEPS = Family("trueclock_baseline_steps_total", _PAIR, "Lasting changes of the provider's own best.")
BASELINE_VERSION = Family("trueclock_baseline_version", _PAIR, "Version of the baseline in force.")
BASELINE_OBSERVATIONS = Family("trueclock_baseline_observations", _PAIR, "Requests that the baseline rests on.")
BASELINE_OUTPUT_TOKEN = Family(
    "trueclock_baseline_runtime_per_output_token_seconds", _PAIR, "Runtime per output token without contention."
)
BASELINE_OVERHEAD = Family("trueclock_baseline_overhead_seconds", _PAIR, "Overhead without contention.")
BASELINE_UNTIL = Family(
    "trueclock_baseline_last_observation_timestamp_seconds", _PAIR, "When the baseline's last request ended."
)
UNCOVERED = Family(
    "trueclock_uncovered_requests_total",
    (*_PAIR, "reason"),
    "Completed requests without an idealized runtime on the primary stack.",
)
ESTIMATED = Family(
    "trueclock_estimated_usage_total", _PAIR, "Requests whose tokens are estimated, not the upstream's count."
)
RETRIES = Family("trueclock_retries_total", _PAIR, "Attempts at an upstream after a request's first.")
OVERHEAD = Family(
    "trueclock_gateway_overhead_seconds",
    (),
    "Time that the gateway added to a request.",
    hist.OVERHEAD_SECONDS,
)
OVERFLOW = Family(
    "trueclock_series_overflow_total", ("label",), "Label values folded into 'other' to bound the series."
)
OPERATION = Family(
    "gen_ai_client_operation_duration_seconds",
    (*_OPERATION, "error_type"),
    "What the client saw, all in.",
    hist.OPERATION_SECONDS,
)
FIRST_CHUNK = Family(
    "gen_ai_client_operation_time_to_first_chunk_seconds",
    _OPERATION,
    "From the request sent to the first chunk of a streamed reply.",
    hist.FIRST_TOKEN_SECONDS,
)
TOKENS = Family("gen_ai_client_token_usage", (*_OPERATION, "gen_ai_token_type"), "Tokens of a request.", hist.TOKENS)
SERVER = Family(
    "gen_ai_server_request_duration_seconds",
    (*_OPERATION, "error_type"),
    "Raw runtime of a request.",
    hist.OPERATION_SECONDS,
)
FIRST_TOKEN = Family(
    "gen_ai_server_time_to_first_token_seconds",
    _OPERATION,
    "From the request sent to the first content, reasoning or tool-call delta.",
    hist.FIRST_TOKEN_SECONDS,
)
OUTPUT_TOKEN = Family(
    "gen_ai_server_time_per_output_token_seconds",
    _OPERATION,
    "Time per visible output token after the first.",
    hist.OUTPUT_TOKEN_SECONDS,
)

FAMILIES = (
    *(REQUESTS, RAW, IDEALIZED, SLOWDOWN, FASTER, EXTRAPOLATED, COVERED, UNCOVERED, ESTIMATED, RETRIES),
    *(RAW_OF_DENOISED, DENOISED, CONTENTION, FASTER_THAN_DENOISED),
    *(DECOMPOSED, RAW_OF_DECOMPOSED, IDEALIZED_OF_DECOMPOSED, DENOISED_OF_DECOMPOSED),
    *(STEPS, BASELINE_VERSION, BASELINE_OBSERVATIONS, BASELINE_OUTPUT_TOKEN, BASELINE_OVERHEAD, BASELINE_UNTIL),
    *(COST_DOLLARS, ACCELERATOR_SECONDS, ENERGY, CARBON, WATER, FLOPS),
    *(BILLED, UNBILLED, BILLED_OF_MARGIN, SERVED_OF_MARGIN),
    *(OVERHEAD, OVERFLOW),
    *(OPERATION, FIRST_CHUNK, TOKENS, SERVER, FIRST_TOKEN, OUTPUT_TOKEN),
)
"""Every family of enriched events, in the order of exposition."""

_STRATEGY = ("model", "strategy")
_STRATEGY_ON = (*_STRATEGY, "stack")
_FRONTIER = ("stack", "basis")
JUDGED = Family("trueclock_strategy_judged_problems", _STRATEGY, "Problems of this strategy with an outcome.")
UNSOLVED = Family("trueclock_strategy_unsolved_problems", _STRATEGY, "Those of them without any success.")
SUCCESS_RATES = Family("trueclock_strategy_success_rate_sum", _STRATEGY, "Sum of the success rates at these problems.")
CORRECT = Family("trueclock_strategy_correct_attempts", _STRATEGY, "Sum of their attempts' values, 0 to 1 each.")
STRATEGY_DOLLARS = Family(
    "trueclock_strategy_cost_dollars", (*_STRATEGY_ON, "basis"), "What all requests for these problems cost."
)
STRATEGY_ENERGY = Family(
    "trueclock_strategy_energy_joules", (*_STRATEGY_ON, "basis"), "Energy that the servers draw for these requests."
)
STRATEGY_FLOPS = Family("trueclock_strategy_flops", _STRATEGY_ON, "Forward FLOPs of these requests.")
STRATEGY_SECONDS = Family(
    "trueclock_strategy_idealized_seconds", _STRATEGY_ON, "Idealized runtimes of these requests, added."
)
FRONTIER_DOLLARS = Family(
    "trueclock_frontier_cost_of_pass_dollars", _FRONTIER, "Mean of the least cost of a pass at each solved problem."
)
FRONTIER_UNSOLVED = Family("trueclock_frontier_unsolved_problems", _FRONTIER, "Judged problems that nothing solves.")
JUDGED_PROBLEMS = Family("trueclock_judged_problems", (), "Problems with an outcome of any strategy.")
UNMATCHED = Family("trueclock_unmatched_outcomes", ("reason",), "Outcomes that judge nothing, by reason.")
STRATEGIES_LEFT_OUT = Family(
    "trueclock_strategies_left_out", (), "Pairs of model and strategy beyond the 50 with most judged problems."
)

STRATEGIES = (
    *(JUDGED, UNSOLVED, SUCCESS_RATES, CORRECT),
    *(STRATEGY_DOLLARS, STRATEGY_ENERGY, STRATEGY_FLOPS, STRATEGY_SECONDS),
    *(FRONTIER_DOLLARS, FRONTIER_UNSOLVED, JUDGED_PROBLEMS, UNMATCHED, STRATEGIES_LEFT_OUT),
)
"""Every family of `stream.strategy_metrics`, in the order of exposition."""
