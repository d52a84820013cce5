"""From counts to Prometheus metric families: run when somebody scrapes, never on the hot path."""

from collections.abc import Callable, Iterable, Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from stream import families as f
from stream import histogram as hist
from stream.baselines import Baseline
from stream.cost_sums import Amounts, CostSums, whole
from stream.counts import GlobalCounts, OperationCounts, PairCounts
from stream.sums import StackSums

_Labels = tuple[str, ...]
_Numbers = Iterable[tuple[_Labels, float]]
_Histograms = Iterable[tuple[_Labels, list[float]]]


def families(
    pairs: Mapping[_Labels, PairCounts],
    operations: Mapping[_Labels, OperationCounts],
    whole: GlobalCounts,
    baselines: Mapping[tuple[str, str], Baseline],
) -> Iterator[Metric]:
    """Yield every family of `stream.families`, also those without series, each with its series sorted.

    The first part of each key of `pairs` and `operations` is a kind, the rest are label values.
    """
    by_pair = sorted(((key[1:], counts) for key, counts in pairs.items()), key=lambda item: item[0])
    by_operation = sorted(((key[1:], counts) for key, counts in operations.items()), key=lambda item: item[0])
    yield from _of_pairs(by_pair)
    yield from _of_denoised([(key, pair) for key, pair in by_pair if pair.sums.denoised_requests])
    yield from _of_baselines(by_pair, sorted(baselines.items(), key=lambda item: item[0]))
    yield from _of_costs(by_pair)
    yield _histogram(f.OVERHEAD, [((), whole.overhead)])
    yield _counter(f.OVERFLOW, (((label,), number) for label, number in sorted(whole.overflow.items())))
    yield from _of_operations(by_operation)


def _of_pairs(pairs: list[tuple[_Labels, PairCounts]]) -> Iterator[Metric]:
    yield _counter(f.REQUESTS, _requests(pairs))
    yield _counter(f.RAW, _by_stack(pairs, lambda sums: sums.raw))
    yield _counter(f.IDEALIZED, _by_stack(pairs, lambda sums: sums.idealized))
    slowdowns = (((*key, stack), pair.slowdown[stack]) for key, pair in pairs for stack in sorted(pair.slowdown))
    yield _histogram(f.SLOWDOWN, slowdowns)
    yield _counter(f.FASTER, _by_stack(pairs, lambda sums: sums.faster))
    yield _counter(f.EXTRAPOLATED, _by_stack(pairs, lambda sums: sums.extrapolated))
    yield _counter(f.COVERED, _provenances(pairs))
    reasons = (((*key, why), n) for key, pair in pairs for why, n in sorted(pair.sums.uncovered.items()))
    yield _counter(f.UNCOVERED, reasons)
    yield _counter(f.ESTIMATED, ((key, pair.sums.estimated) for key, pair in pairs))
    yield _counter(f.RETRIES, ((key, pair.sums.retries) for key, pair in pairs))


def _of_denoised(pairs: list[tuple[_Labels, PairCounts]]) -> Iterator[Metric]:
    yield _counter(f.RAW_OF_DENOISED, ((key, pair.sums.raw_of_denoised) for key, pair in pairs))
    yield _counter(f.DENOISED, ((key, pair.sums.denoised) for key, pair in pairs))
    yield _histogram(f.CONTENTION, ((key, pair.contention) for key, pair in pairs if pair.contention is not None))
    yield _counter(f.FASTER_THAN_DENOISED, ((key, pair.sums.faster_than_denoised) for key, pair in pairs))
    yield _counter(f.DECOMPOSED, _by_stack(pairs, lambda sums: sums.decomposed))
    yield _counter(f.RAW_OF_DECOMPOSED, _by_stack(pairs, lambda sums: sums.decomposed_raw))
    yield _counter(f.IDEALIZED_OF_DECOMPOSED, _by_stack(pairs, lambda sums: sums.decomposed_idealized))
    yield _counter(f.DENOISED_OF_DECOMPOSED, _by_stack(pairs, lambda sums: sums.decomposed_denoised))


def _of_baselines(
    pairs: list[tuple[_Labels, PairCounts]], baselines: list[tuple[tuple[str, str], Baseline]]
) -> Iterator[Metric]:
    yield _counter(f.STEPS, ((key, pair.steps) for key, pair in pairs if pair.steps or pair.sums.denoised_requests))
    yield gauge(f.BASELINE_VERSION, ((key, each.version) for key, each in baselines))
    yield gauge(f.BASELINE_OBSERVATIONS, ((key, each.n) for key, each in baselines))
    yield gauge(f.BASELINE_OUTPUT_TOKEN, ((key, each.per_output_token) for key, each in baselines))
    yield gauge(f.BASELINE_OVERHEAD, ((key, each.overhead) for key, each in baselines))
    yield gauge(f.BASELINE_UNTIL, ((key, each.until.timestamp()) for key, each in baselines if each.until is not None))


def _of_costs(pairs: list[tuple[_Labels, PairCounts]]) -> Iterator[Metric]:
    yield _counter(f.COST_DOLLARS, _by_basis(pairs, lambda known: (known.dollars_requests, known.dollars)))
    yield _counter(f.ACCELERATOR_SECONDS, _by_basis(pairs, lambda known: (known.requests, known.accelerator_seconds)))
    yield _counter(f.ENERGY, _by_basis(pairs, lambda known: (known.energy_requests, known.energy_joules)))
    yield _counter(f.CARBON, _by_basis(pairs, lambda known: (known.energy_requests, known.carbon_grams)))
    yield _counter(f.WATER, _by_basis(pairs, lambda known: (known.energy_requests, known.water_litres)))
    yield _counter(f.FLOPS, _costs(pairs, lambda costs: (costs.flops_requests, costs.flops)))
    yield _counter(f.BILLED, ((key, pair.sums.billed) for key, pair in pairs if pair.sums.billed_requests))
    unbilled = (((*key, why), n) for key, pair in pairs for why, n in sorted(pair.sums.unbilled.items()))
    yield _counter(f.UNBILLED, unbilled)
    yield _counter(f.BILLED_OF_MARGIN, _costs(pairs, lambda costs: (costs.margin_requests, costs.margin_billed)))
    yield _counter(f.SERVED_OF_MARGIN, _costs(pairs, lambda costs: (costs.margin_requests, costs.margin_served)))


def _costs(pairs: list[tuple[_Labels, PairCounts]], known: Callable[[CostSums], tuple[int, float]]) -> _Numbers:
    """A number of each stack on which it is known of any request."""
    for key, pair in pairs:
        for stack, costs in sorted(pair.sums.costs.items()):
            requests, amount = known(costs)
            if requests:
                yield (*key, stack), amount


def _by_basis(pairs: list[tuple[_Labels, PairCounts]], known: Callable[[Amounts], tuple[int, float]]) -> _Numbers:
    for key, pair in pairs:
        for stack, costs in sorted(pair.sums.costs.items()):
            for basis, by_band in (("dedicated", costs.dedicated), ("served", costs.served)):
                requests, amount = known(whole(by_band))
                if requests:
                    yield (*key, stack, basis), amount


def _of_operations(operations: list[tuple[_Labels, OperationCounts]]) -> Iterator[Metric]:
    yield _histogram(f.OPERATION, _by_error(operations, lambda counts: counts.duration))
    yield _histogram(f.FIRST_CHUNK, _present(operations, lambda counts: counts.first_chunk))
    yield _histogram(f.TOKENS, _tokens(operations))
    yield _histogram(f.SERVER, _by_error(operations, lambda counts: counts.server))
    yield _histogram(f.FIRST_TOKEN, _present(operations, lambda counts: counts.first_token))
    yield _histogram(f.OUTPUT_TOKEN, _present(operations, lambda counts: counts.per_token))


def _requests(pairs: list[tuple[_Labels, PairCounts]]) -> _Numbers:
    for key, pair in pairs:
        for status_class, reasons in sorted(pair.requests.items()):
            for reason, number in sorted(reasons.items()):
                yield (*key, status_class, reason), number


def _by_stack(pairs: list[tuple[_Labels, PairCounts]], number: Callable[[StackSums], float]) -> _Numbers:
    return (
        ((*key, stack), number(pair.sums.stacks[stack])) for key, pair in pairs for stack in sorted(pair.sums.stacks)
    )


def _provenances(pairs: list[tuple[_Labels, PairCounts]]) -> _Numbers:
    for key, pair in pairs:
        for stack, kinds in sorted(pair.provenance.items()):
            for kind, number in sorted(kinds.items()):
                yield (*key, stack, kind), number


def _by_error(
    operations: list[tuple[_Labels, OperationCounts]],
    histograms: Callable[[OperationCounts], Mapping[str, list[float]]],
) -> _Histograms:
    for key, counts in operations:
        by_error = histograms(counts)
        for error in sorted(by_error):
            yield (*key, error), by_error[error]


def _present(
    operations: list[tuple[_Labels, OperationCounts]],
    histogram: Callable[[OperationCounts], list[float] | None],
) -> _Histograms:
    for key, counts in operations:
        found = histogram(counts)
        if found is not None:
            yield key, found


def _tokens(operations: list[tuple[_Labels, OperationCounts]]) -> _Histograms:
    for key, counts in operations:
        if counts.input_tokens is not None:
            yield (*key, "input"), counts.input_tokens
        if counts.output_tokens is not None:
            yield (*key, "output"), counts.output_tokens


def _counter(family: f.Family, numbers: _Numbers) -> Metric:
    metric = CounterMetricFamily(family.name, family.help, labels=family.labels)
    for labels, number in numbers:
        metric.add_metric(labels, number)
    return metric


def gauge(family: f.Family, numbers: _Numbers) -> Metric:
    """Make a family of its samples: label values, in the family's order, and a number each."""
    metric = GaugeMetricFamily(family.name, family.help, labels=family.labels)
    for labels, number in numbers:
        metric.add_metric(labels, number)
    return metric


def _histogram(family: f.Family, histograms: _Histograms) -> Metric:
    metric = HistogramMetricFamily(family.name, family.help, labels=family.labels)
    for labels, histogram in histograms:
        metric.add_metric(labels, hist.cumulative(histogram, family.bounds), histogram[0])
    return metric
