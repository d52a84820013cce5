"""The lower envelope on timings whose truth is known: shapes, scale, noise, absurdities."""

import random
from math import exp
from statistics import median

import pytest

from stream.envelope import Envelope, fit_stream, fit_whole
from stream.runtime import Coefficients, runtime_function

BETA, OVERHEAD, PER_PROMPT = 0.02, 0.05, 2e-4


def first_token(prompt: int) -> float:
    return OVERHEAD + BETA + PER_PROMPT * prompt


def sizes(rng: random.Random) -> tuple[int, int]:
    return round(rng.lognormvariate(6.2, 1.0)) + 1, round(rng.lognormvariate(5.0, 0.8)) + 8


def contention(rng: random.Random, kind: str) -> float:
    noise = rng.gauss(1.0, 0.01)
    match kind:
        case "folded":
            return noise * exp(abs(rng.gauss(0.0, 0.5)))
        case "clipped":
            return noise * max(1.0, rng.lognormvariate(0.3, 0.4))
        case "phases":
            return noise * (1.0 if rng.random() < 0.3 else rng.uniform(1.5, 5.0))
        case _:
            return noise


def streams(seed: int, kind: str, count: int, absurd: float = 0.0) -> Envelope:
    rng = random.Random(seed)
    prompts, outputs = [], []
    for _ in range(count):
        prompt, output = sizes(rng)
        factor = contention(rng, kind)
        if rng.random() < absurd:
            factor *= rng.choice([1e-6, 0.01, 0.3, 50.0, 1e6])
        prompts.append((prompt, first_token(prompt) * factor))
        outputs.append((prompt, output, BETA * factor))
    return fit_stream(prompts, outputs, 0.05)


def seconds(envelope: Envelope, prompt: int, output: int) -> float:
    numbers = Coefficients(
        envelope.per_output_token.value,
        envelope.knots,
        envelope.prompt_seconds,
        envelope.overhead.value,
        envelope.context.value,
    )
    return runtime_function(numbers)(prompt, output)


@pytest.mark.parametrize("absurd", [0.0, 0.01])
@pytest.mark.parametrize("kind", ["none", "folded", "clipped", "phases"])
def test_the_truth_is_found_from_250_streams(kind: str, absurd: float) -> None:
    found = [streams(seed, kind, 250, absurd) for seed in range(5)]
    betas = [abs(each.per_output_token.value / BETA - 1) for each in found]
    firsts = [abs(seconds(each, prompt, 1) / first_token(prompt) - 1) for each in found for prompt in (200, 500, 1500)]
    assert median(betas) < 0.02
    assert max(betas) < 0.06
    assert median(firsts) < 0.025
    assert max(firsts) < 0.08


def test_intervals_cover_and_narrow() -> None:
    found = [streams(seed, "folded", 250) for seed in range(20)]
    covered = sum(each.per_output_token.low <= BETA <= each.per_output_token.high for each in found)
    assert covered >= 18
    assert sum(each.overhead.low <= OVERHEAD <= each.overhead.high for each in found) >= 14
    few = median(streams(seed, "folded", 40).uncertainty for seed in range(10))
    assert median(each.uncertainty for each in found) < few


def test_whole_durations_tell_the_runtime() -> None:
    rng = random.Random(1)
    durations = []
    for _ in range(400):
        prompt, output = sizes(rng)
        durations.append((prompt, output, (first_token(prompt) + BETA * (output - 1)) * contention(rng, "clipped")))
    found = fit_whole(durations, 0.05)
    assert found.per_output_token.value == pytest.approx(BETA, rel=0.03)
    assert seconds(found, 500, 150) == pytest.approx(first_token(500) + 149 * BETA, rel=0.03)


def test_gamma_only_where_the_timings_show_it() -> None:
    rng = random.Random(2)
    plain, grown = [], []
    for _ in range(300):
        prompt, output = sizes(rng)
        factor = contention(rng, "clipped")
        plain.append((prompt, output, BETA * factor))
        grown.append((prompt, output, (BETA + 4e-6 * (prompt + output / 2)) * factor))
    prompts = [(prompt, first_token(prompt)) for prompt, *_ in plain]
    assert fit_stream(prompts, plain, 0.05).context.value < 2e-7
    assert fit_stream(prompts, grown, 0.05).context.value == pytest.approx(4e-6, rel=0.1)


def test_twice_the_seconds_give_twice_the_estimate() -> None:
    rng = random.Random(3)
    rows = [(*sizes(rng), contention(rng, "folded")) for _ in range(200)]

    def fit(scale: float) -> Envelope:
        prompts = [(prompt, scale * first_token(prompt) * factor) for prompt, _, factor in rows]
        return fit_stream(prompts, [(prompt, output, scale * BETA * factor) for prompt, output, factor in rows], 0.05)

    once, twice = fit(1.0), fit(2.0)
    assert twice.per_output_token.value == pytest.approx(2 * once.per_output_token.value)
    assert seconds(twice, 700, 1) == pytest.approx(2 * seconds(once, 700, 1), rel=1e-6)
    assert twice.uncertainty == pytest.approx(once.uncertainty, rel=1e-6)


@pytest.mark.parametrize(
    "prompts",
    [[(500, 0.1)] * 40, [(500, 0.1), (501, 0.1)] * 20, [(1, 0.1)] * 40, [(10, 1e-9)] * 39 + [(9, 1e9)]],
)
def test_degenerate_timings_give_an_answer(prompts: list[tuple[int, float]]) -> None:
    found = fit_stream(prompts, [(500, 100, 0.01)] * 40, 0.05)
    assert found.per_output_token.value == pytest.approx(0.01, rel=0.02)
    assert min(found.prompt_seconds) >= 0.0
    assert list(found.knots) == sorted(set(found.knots))
    assert found.knots[0] >= 1


def test_embeddings_have_no_time_per_output_token() -> None:
    rng = random.Random(5)
    durations = [(prompt, 0, 0.01 + 1e-5 * prompt) for prompt in (rng.randint(10, 2000) for _ in range(100))]
    found = fit_whole(durations, 0.05)
    assert found.per_output_token.value == 0.0
    assert seconds(found, 1000, 0) == pytest.approx(0.02, rel=0.03)
