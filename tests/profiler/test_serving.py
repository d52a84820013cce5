"""Shares of a served batch, and watts: in order, within what the hardware allows, and near what servers measured."""

from dataclasses import replace
from itertools import pairwise

import pytest

from profiler.architectures import Architecture, architectures
from profiler.hardware import hardware, stacks
from profiler.prediction import predict
from profiler.roofline import KNOTS, Placement, context_bytes, context_copies, place, step_seconds, weight_bytes
from profiler.serving import BATCH, served_batch, shares
from profiler.watts import step_bytes, watts_of
from stream.coefficients import load_tables
from stream.runtime import Coefficients, runtime_function
from stream.table_format import Row

MODELS = architectures()
H100 = hardware("h100")
LLAMA = MODELS["meta-llama/llama-3.1-8b"]
ROWS = load_tables().stacks["h100-predicted"].rows
REACH = 32_768


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_a_share_is_less_than_a_request_alone(row: Row) -> None:
    served = row.served
    assert served is not None
    assert served.batch in {16, BATCH}
    share, alone = runtime_function(served.coefficients), runtime_function(row.coefficients)
    for prompt, most in ((1, 0.3), (128, 0.6), (1024, 1.0), (8192, 1.0), (40_000, 1.0), (131_072, 1.0)):
        assert share(prompt, 1) <= most * alone(prompt, 1)
    assert all(low <= high for low, high in pairwise(served.coefficients.prompt_seconds))
    # All requests together are slower than one: a step over all takes longer than one over one.
    assert served.batch * share(500, 200) > alone(500, 200)
    assert share(500, 200) < 0.4 * alone(500, 200)


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_no_board_draws_more_than_it_can(row: Row) -> None:
    assert row.served is not None
    for watts in (row.watts, row.served.watts):
        assert watts is not None
        assert 150 < watts.output < 700
        assert 150 < watts.prompt < 700
        low, high = watts.interval
        assert 0.5 < low < 1 < high < 2
    assert row.watts is not None
    assert row.watts.output < row.watts.prompt or row.accelerators == 1


def test_a_batch_is_what_fits() -> None:
    for model in MODELS.values():
        placement = place(model, H100)
        batch = served_batch(model, H100, placement)
        assert batch is not None
        memory = 0.9 * placement.tensor * placement.stages * H100.memory_bytes
        contexts = 2048 * context_bytes(model) * context_copies(model, placement)
        assert weight_bytes(model) + batch * contexts <= memory
    assert served_batch(MODELS["google/gemma-2-27b"], H100, Placement(1)) == 16
    assert served_batch(MODELS["meta-llama/llama-3.1-70b"], H100, Placement(1)) is None


def test_stacks_from_before_batches_have_no_share() -> None:
    for name, stack in stacks().items():
        assert (predict(LLAMA, stack).served is None) == (not stack.fused), name


def test_windows_take_what_they_hold() -> None:
    everywhere = replace(LLAMA, layers=200, kv_heads=32)
    near = replace(everywhere, window=256, window_layers=100)
    found = [served_batch(model, H100, Placement(2)) for model in (everywhere, near)]
    assert found == [4, 8]


def test_short_prompts_share_a_step_and_long_ones_take_several() -> None:
    seconds = dict(zip(KNOTS, shares(LLAMA, H100, Placement(1), 32, KNOTS, REACH).prompt_seconds, strict=True))

    def step(tokens: int, before: int, requests: float) -> float:
        return step_seconds(LLAMA, H100, Placement(1), tokens, before, requests, prompt=True)

    assert seconds[64] == pytest.approx(step(64, 0, 32) / 32)
    assert seconds[2048] == pytest.approx(step(2048, 0, 4) / 4)
    assert seconds[16_384] == pytest.approx(step(8192, 0, 1) + step(8192, 8192, 1))
    assert seconds[12_288] == pytest.approx(step(8192, 0, 1) + step(4096, 8192, 2) / 2)


def test_groups_one_after_another_work_at_the_same_time() -> None:
    one, two = (shares(LLAMA, H100, Placement(1, stages), 32, KNOTS, REACH) for stages in (1, 2))
    assert two.context == pytest.approx(one.context / 2, rel=0.01)
    # Weights are read for half of the requests at a time: no gain.
    assert two.per_output_token == pytest.approx(one.per_output_token, rel=0.02)
    assert two.prompt_seconds[-1] < 0.6 * one.prompt_seconds[-1]


MEASURED = [
    ("meta-llama/llama-3.1-8b", 1, 8.91),
    ("qwen/qwen3-14b", 1, 15.01),
    ("qwen/qwen3-32b", 2, 17.91),
    ("meta-llama/llama-3.1-70b", 4, 20.05),
]
"""Milliseconds between tokens at batch 32 on so many H100s, medians of ML.ENERGY leaderboard v3 (lm-arena-chat)."""


@pytest.mark.parametrize(("name", "devices", "milliseconds"), MEASURED, ids=[each[0] for each in MEASURED])
def test_servers_measured_at_this_batch(name: str, devices: int, milliseconds: float) -> None:
    share = shares(MODELS[name], H100, Placement(devices), 32, KNOTS, REACH)
    assert 32 * (share.per_output_token + 400 * share.context) * 1000 == pytest.approx(milliseconds, rel=0.1)


POWER = {
    "qwen/qwen3-14b": 494,
    "qwen/qwen3-8b": 478,
    "qwen/qwen3-30b-a3b": 468,
    "qwen/qwen3-235b-a22b": 434,
    "google/gemma-3-12b": 484,
    "meta-llama/llama-3.1-70b": 449,
    "meta-llama/llama-3.1-405b": 468,
}
"""Watts of each H100 meanwhile, of models on as many as in the table; prompts included. The same source."""


@pytest.mark.parametrize("name", POWER)
def test_power_measured_at_this_batch_is_within_the_interval(name: str) -> None:
    served = ROWS[name].served
    assert served is not None
    assert served.watts is not None
    low, high = served.watts.interval
    assert low * served.watts.output < POWER[name] < high * served.watts.output


# ---- bytes and watts


def mixture() -> Architecture:
    return MODELS["mistralai/mixtral-8x7b"]


def test_a_step_reads_the_experts_that_are_asked() -> None:
    model = mixture()
    all_of_them = weight_bytes(model) - 2 * model.vocabulary * model.hidden
    context = 1024 * context_bytes(model)
    assert step_bytes(model, 1000, 1) == pytest.approx(all_of_them + 1000 * context)
    one = step_bytes(model, 1, 1) - context
    assert one / 2 == pytest.approx(model.total_parameters(active=True), rel=0.001)


def test_a_tied_embedding_is_read_as_output_layer() -> None:
    model = MODELS["meta-llama/llama-3.2-1b"]
    assert step_bytes(model, 1, 1) == weight_bytes(model) + 1024 * context_bytes(model)


def test_more_work_a_second_draws_more() -> None:
    fast, slow = (Coefficients(beta, (1, 1024), (0.02, 5 * beta), context=0.0) for beta in (0.008, 0.08))
    found = [watts_of(LLAMA, "h100", 1, each) for each in (fast, slow)]
    assert found[0] is not None
    assert found[1] is not None
    assert found[0].output > found[1].output
    assert found[0].prompt > found[1].prompt


def test_a_device_whose_power_is_not_known() -> None:
    assert watts_of(LLAMA, "l40s", 1, Coefficients(0.02, (1,), (0.02,))) is None
