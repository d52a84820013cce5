"""What requests cost: the paper's figures, the formulas by hand, laws, bands."""

import json
import math
import random
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.coefficients import Tables, load_tables, tables_from_json, tables_to_json
from stream.constants import load_constants
from stream.cost import RowCosts, row_costs
from stream.enrich import enrich
from stream.events import RequestEvent, decode_enriched, decode_event, encode_enriched
from stream.flops import Flops, forward_flops
from stream.runtime import INTERPOLATIONS, Coefficients, Interpolation, runtime_function
from stream.table_format import Row, Served, Stack, Watts

TABLES = load_tables()
PRICES = {"a100-megatron": 4.096, "v100-megatron": 3.06}
PAPER = {
    "openai/davinci": (8, 16),
    "ai21/j1-large": (1, 1),
    "ai21/j1-grande": (1, 2),
    "ai21/j1-jumbo": (8, 16),
    "cohere/xlarge-20220609": (4, 4),
    "anthropic/stanford-online-all-v4-s3": (4, 4),
    "microsoft/TNLGv2_530B": (24, 48),
    "huggingface/gptj_6b": (1, 1),
    "together/yalm": (4, 8),
    "together/bloom": (8, 16),
}
"""How many A100s and V100s each ran on."""


def straight(knots: dict[str, float], tokens: int) -> float:
    """F between the measured prompt sizes, written out once more."""
    sizes = sorted(map(int, knots))
    if tokens <= sizes[0]:
        return knots[str(sizes[0])]
    low = max(size for size in sizes if size <= tokens)
    high = min(size for size in sizes if size >= tokens)
    share = (tokens - low) / (high - low) if high > low else 0.0
    return knots[str(low)] * (1 - share) + knots[str(high)] * share


@pytest.mark.parametrize("stack", PRICES)
@pytest.mark.parametrize("model", PAPER)
def test_the_papers_idealized_cost(model: str, stack: str) -> None:
    content = json.loads((Path("stream/tables") / f"{stack}.json").read_text())["stacks"][stack]["models"][model]
    accelerators, rng = PAPER[model][stack == "v100-megatron"], random.Random(model)
    last = max(map(int, content["runtime_for_prompt_tokens"]))
    for _ in range(1000):
        prompt, output = rng.randint(1, last), rng.randint(1, 2048)
        first = straight(content["runtime_for_prompt_tokens"], prompt)
        seconds = first + (output - 1) * content["runtime_per_output_token"]
        event = RequestEvent(model=model, prompt_tokens=prompt, completion_tokens=output)
        found = enrich(event, TABLES)
        cost = found.dedicated if found.stack == stack else found.stacks[stack].dedicated
        assert cost is not None
        assert cost.dollars == pytest.approx(seconds * PRICES[stack] * accelerators / 3600, rel=1e-9)
        assert cost.accelerator_seconds == pytest.approx(seconds * accelerators, rel=1e-9)


# --- by hand


NUMBERS = Coefficients(per_output_token=0.01, knots=(100, 200), prompt_seconds=(0.1, 0.3), context=1e-6)
SHARE = Coefficients(per_output_token=0.002, knots=(100, 200), prompt_seconds=(0.05, 0.15))
ROW = Row(
    "m",
    NUMBERS,
    accelerators=2,
    intervals={"runtime": [0.8, 1.25]},
    watts=Watts(400.0, 300.0, (0.9, 1.1)),
    served=Served(8, SHARE, Watts(600.0, 500.0)),
)
CONSTANTS = load_constants()
OWN = replace(
    CONSTANTS,
    server_power_factor=CONSTANTS.server_power_factor._replace(value=1.5, low=1.5, high=1.5),
    pue=CONSTANTS.pue._replace(value=1.2, low=1.2, high=1.2),
    site_water_litres_per_kwh=CONSTANTS.site_water_litres_per_kwh._replace(value=0.5, low=0.5, high=0.5),
    regions={
        "here": replace(
            CONSTANTS.grid,
            carbon_grams_per_kwh=CONSTANTS.pue._replace(value=400.0, low=400.0, high=400.0),
            water_litres_per_kwh=CONSTANTS.pue._replace(value=2.0, low=1.0, high=4.0),
        )
    },
    region="here",
)
STACK = Stack("s", {"m": ROW}, accelerator="h100", dollars_per_accelerator_hour=3.6)


def costs(row: Row = ROW, stack: Stack = STACK) -> RowCosts:
    return row_costs(stack, row, OWN)


@pytest.mark.parametrize(
    ("stack", "device"),
    [("a100-megatron", "h100"), ("h100-predicted", "b200")],
    ids=["as constants say", "as tables say"],
)
def test_a_stack_on_another_accelerator_has_its_price_and_watts(tmp_path: Path, stack: str, device: str) -> None:
    path = tmp_path / "constants.json"
    path.write_text(json.dumps({"stacks": {stack: {"accelerator": device}}}))
    tables = load_tables(stack=stack, constants=path)
    again = tables_from_json(tables_to_json(tables))
    row = next(iter(tables.stacks[stack].rows.values()))
    new = CONSTANTS.accelerators[device]
    for each in (tables, again):
        known, before = each.costs(stack, row), TABLES.costs(stack, row)
        assert known is not None
        assert before is not None
        assert known.dedicated is not None
        assert before.dedicated is not None
        cost, old = known.dedicated(100, 10), before.dedicated(100, 10)
        assert cost.accelerator_seconds == old.accelerator_seconds
        assert cost.dollars == pytest.approx(cost.accelerator_seconds * new.dollars_per_hour.value / 3600)
        joules = cost.accelerator_seconds * new.mean_watts.value * CONSTANTS.server_power_factor.value
        assert cost.energy_joules == pytest.approx(joules)
        assert known.watts("dedicated") == Watts(
            new.mean_watts.value, new.mean_watts.value, new.mean_watts.factors, new.mean_watts.source
        )
        low = math.hypot(
            *(
                math.log(factors[0])
                for factors in (known.bands("dedicated").accelerator_seconds, new.dollars_per_hour.factors)
            )
        )  # type: ignore[union-attr]
        assert known.bands("dedicated").dollars[0] == pytest.approx(math.exp(-low), rel=1e-3)  # type: ignore[union-attr]


def test_the_accelerator_that_a_stack_has_anyway_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "constants.json"
    same = {"a100-megatron": "a100-80gb", "h100-predicted": "h100"}
    path.write_text(json.dumps({"stacks": {stack: {"accelerator": device} for stack, device in same.items()}}))
    tables = load_tables(constants=path)
    for stack in same:
        row = next(iter(tables.stacks[stack].rows.values()))
        known, before = tables.costs(stack, row), TABLES.costs(stack, row)
        assert known is not None
        assert before is not None
        assert known.dedicated is not None
        assert before.dedicated is not None
        assert known.dedicated(100, 10) == before.dedicated(100, 10)


def test_an_accelerator_for_a_table_that_names_none_leaves_its_price_and_watts() -> None:
    own = replace(OWN, stacks={"s": "h100"}, moved={"s": None})
    known = row_costs(replace(STACK, accelerator=None), ROW, own)
    assert known.dedicated is not None
    assert known.watts("dedicated") == ROW.watts
    assert known.dedicated(150, 11) == costs().dedicated(150, 11)  # type: ignore[misc]


def test_dedicated_by_hand() -> None:
    known = costs()
    assert known.dedicated is not None
    cost = known.dedicated(150, 11, 1)
    seconds = 0.2 + 10 * 0.01 + 1e-6 * sum(150 + i for i in range(1, 11))
    assert cost.batch == 1
    assert cost.accelerator_seconds == pytest.approx(2 * seconds)
    assert cost.dollars == pytest.approx(2 * seconds * 3.6 / 3600)
    joules = 1.5 * 2 * (400 * 0.2 + 300 * (seconds - 0.2))
    assert cost.energy_joules == pytest.approx(joules)
    assert cost.carbon_grams == pytest.approx(1.2 * joules / 3.6e6 * 400)
    assert cost.water_litres == pytest.approx(joules / 3.6e6 * (0.5 + 1.2 * 2.0))


def test_served_by_hand() -> None:
    known = costs()
    assert known.served is not None
    cost = known.served(150, 11, 1)
    assert cost.batch == 8
    assert cost.accelerator_seconds == pytest.approx(2 * (0.1 + 10 * 0.002))
    assert cost.energy_joules == pytest.approx(1.5 * 2 * (600 * 0.1 + 500 * 0.02))


def test_several_choices_encode_the_prompt_once_and_each_decode_their_share() -> None:
    known = costs()
    assert known.dedicated is not None
    cost = known.dedicated(150, 30, 3)
    each = 9 * 0.01 + 1e-6 * sum(150 + i for i in range(1, 10))
    assert cost.accelerator_seconds == pytest.approx(2 * (0.2 + 3 * each))
    assert known.dedicated(150, 3, 3).accelerator_seconds == pytest.approx(2 * 0.2)


def test_bands_add_up_by_their_squares() -> None:
    bands = costs().bands("dedicated")
    assert bands is not None
    assert bands.accelerator_seconds == (0.8, 1.25)
    low, high = OWN.accelerators["h100"].dollars_per_hour.factors
    assert bands.dollars[0] == pytest.approx(math.exp(-math.hypot(math.log(0.8), math.log(low))), rel=1e-3)
    assert bands.dollars[1] == pytest.approx(math.exp(math.hypot(math.log(1.25), math.log(high))), rel=1e-3)
    assert bands.energy_joules[1] == pytest.approx(math.exp(math.hypot(math.log(1.25), math.log(1.1))), rel=1e-3)
    assert bands.carbon_grams == bands.energy_joules  # the grid's range is a point here
    water = (0.5 + 1.2 * 4.0) / (0.5 + 1.2 * 2.0)
    assert bands.water_litres[1] == pytest.approx(
        math.exp(math.hypot(math.log(bands.energy_joules[1]), math.log(water))), rel=1e-3
    )
    assert msgspec.json.decode(costs().dedicated(1, 1, 1).bands) == {
        name: list(band) for name, band in bands._asdict().items()
    }  # type: ignore[misc]


def test_what_is_not_known_is_null() -> None:
    unknown = costs(replace(ROW, accelerators=None))
    assert (unknown.dedicated, unknown.served, unknown.bands("dedicated")) == (None, None, None)
    assert costs(replace(ROW, served=None)).served is None
    nowhere = row_costs(Stack("s", {}), replace(ROW, watts=None), OWN)
    assert nowhere.dedicated is not None
    cost = nowhere.dedicated(150, 11, 1)
    assert (cost.dollars, cost.energy_joules, cost.carbon_grams, cost.water_litres) == (None, None, None, None)
    assert cost.accelerator_seconds > 0


def test_without_watts_of_its_own_a_row_has_those_of_its_accelerator() -> None:
    known = costs(replace(ROW, watts=None))
    assert known.dedicated is not None
    cost, mean = known.dedicated(150, 1, 1), OWN.accelerators["h100"].mean_watts.value
    assert cost.energy_joules == pytest.approx(1.5 * 2 * mean * 0.2)


def test_what_a_file_says_of_a_device_goes_before_what_tables_say(tmp_path: Path) -> None:
    path = tmp_path / "costs.json"
    path.write_text('{"accelerators": {"a100-80gb": {"dollars_per_hour": 2, "mean_watts": 150, "tdp_watts": 300}}}')
    tables = load_tables(constants=path)
    again = tables_from_json(tables_to_json(tables))
    assert (again.version, again.constants) == (tables.version, tables.constants)
    event = RequestEvent(model="openai/davinci", prompt_tokens=1, completion_tokens=2)
    for loaded in (tables, again):
        cost = enrich(event, loaded).dedicated
        assert cost is not None
        assert loaded.constants is not None
        assert cost.dollars == pytest.approx(cost.accelerator_seconds * 2 / 3600)
        factor = loaded.constants.server_power_factor.value
        assert cost.energy_joules == pytest.approx(cost.accelerator_seconds * 150 * factor)
        on_v100 = enrich(event, loaded).stacks["v100-megatron"].dedicated
        assert on_v100 == enrich(event, TABLES).stacks["v100-megatron"].dedicated


def test_embodied_carbon_is_counted_where_that_is_asked_for() -> None:
    counted = replace(OWN, embodied_counted=True)
    plain, whole = row_costs(STACK, ROW, OWN), row_costs(STACK, ROW, counted)
    assert plain.dedicated is not None
    assert whole.dedicated is not None
    seconds = 365.25 * 86_400 * OWN.lifetime_years.value * OWN.utilisation.value
    grams = OWN.accelerators["h100"].embodied_kilograms.value * 1000 / seconds
    before, after = plain.dedicated(150, 11, 1), whole.dedicated(150, 11, 1)
    assert before.carbon_grams is not None
    assert after.carbon_grams == pytest.approx(before.carbon_grams + grams * before.accelerator_seconds)
    assert after.energy_joules == before.energy_joules


def test_the_band_of_carbon_has_that_of_its_embodied_part() -> None:
    counted = replace(OWN, embodied_counted=True, regions={"here": replace(OWN.grid, carbon_grams_per_kwh=NOTHING)})
    alone = row_costs(STACK, ROW, counted).bands("dedicated")
    assert alone is not None
    kilograms = OWN.accelerators["h100"].embodied_kilograms.factors[1]
    years, share = OWN.lifetime_years.factors[0], OWN.utilisation.factors[0]
    logs = (math.log(1.25), math.log(kilograms), -math.log(years), -math.log(share))
    assert alone.carbon_grams[1] == pytest.approx(math.exp(math.hypot(*logs)), rel=1e-3)
    both = row_costs(STACK, ROW, replace(OWN, embodied_counted=True)).bands("dedicated")
    plain = costs().bands("dedicated")
    assert both is not None
    assert plain is not None
    assert plain.carbon_grams[1] < both.carbon_grams[1] < alone.carbon_grams[1]


NOTHING = CONSTANTS.pue._replace(value=0.0, low=0.0, high=0.0)


@pytest.mark.parametrize("stated", ["wide", [0, 2], [2, 1], ["0.9", "1.1"], [0.9], [1e-300, 1e300], None])
def test_bands_are_finite_whatever_a_row_states(stated: object) -> None:
    extreme = OWN.pue._replace(value=1e-300, low=0.0, high=1e9)
    odd = replace(OWN, server_power_factor=extreme, pue=extreme)
    known = row_costs(STACK, replace(ROW, intervals={"runtime": stated}), odd).bands("dedicated")
    assert known is not None
    assert all(math.isfinite(factor) and factor >= 0 for band in known for factor in band)


@given(st.integers(0, 10_000), st.integers(0, 10_000), st.integers(1, 5), st.integers(1, 1000))
def test_more_tokens_never_cost_less(prompt: int, output: int, choices: int, more: int) -> None:
    known = costs()
    assert known.dedicated is not None
    base = known.dedicated(prompt, output, choices)
    for other in (known.dedicated(prompt + more, output, choices), known.dedicated(prompt, output + more, choices)):
        assert other.accelerator_seconds >= base.accelerator_seconds
        assert (other.dollars or 0) >= (base.dollars or 0)
        assert (other.energy_joules or 0) >= (base.energy_joules or 0) * (1 - 1e-12)


@given(st.integers(0, 100_000), st.integers(0, 10_000), st.sampled_from(INTERPOLATIONS))
def test_of_one_choice_the_seconds_are_those_of_the_runtime(prompt: int, output: int, way: Interpolation) -> None:
    known = row_costs(STACK, ROW, OWN, way)
    assert known.dedicated is not None
    seconds = runtime_function(NUMBERS, way)(prompt, output)
    assert known.dedicated(prompt, output, 1).accelerator_seconds == pytest.approx(2 * seconds, rel=1e-12)


# --- FLOPs


def counted(flops: Flops, prompt: int, output: int) -> float:
    """Position by position, as the definition says."""
    fed = prompt + max(output - 1, 0)
    pairs = sum(range(1, fed + 1))
    near = sum(min(position, flops.window) for position in range(1, fed + 1))
    return (
        fed * flops.per_token + output * flops.per_output_token + pairs * flops.per_pair + near * flops.per_window_pair
    )


@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 40), st.integers(1, 4))
def test_flops_are_those_of_every_position(prompt: int, output: int, window: int, choices: int) -> None:
    flops = Flops(1000.0, 300.0, 7.0, window, 3.0 if window else 0.0)
    found = forward_flops(flops, prompt, output)
    assert found == pytest.approx(counted(flops, prompt, output))
    several = forward_flops(flops, prompt, output * choices, choices)
    prompt_alone = counted(flops, prompt, 0)
    assert several == pytest.approx(prompt_alone + choices * (counted(flops, prompt, output) - prompt_alone))


# --- in events


def tables_with(row: Row) -> Tables:
    tables = load_tables(stack="a100-megatron")
    leading = replace(tables.stacks["a100-megatron"], rows={"m": row})
    return replace(tables, stacks={**tables.stacks, "a100-megatron": leading}, found={}, functions={}, known_costs={})


def test_the_margin_is_billed_over_served() -> None:
    tables = tables_with(replace(ROW, flops=Flops(1e9, 1e8, 10.0)))
    line = b'{"model":"m","upstream_model":"gpt-4o","provider":"openai","prompt_tokens":150,"completion_tokens":30,"choices":3,"longest_choice_tokens":12}'
    aliased = replace(tables, aliases={**tables.aliases, "gpt-4o": "m"})
    found = enrich(decode_event(line), aliased)
    assert found.billed_dollars == pytest.approx(150 * 2.5e-6 + 30 * 1e-5)
    assert found.billed_as == "gpt-4o"
    assert found.served is not None
    assert found.served.dollars is not None
    assert found.margin == pytest.approx(found.billed_dollars / found.served.dollars)
    assert found.flops == forward_flops(Flops(1e9, 1e8, 10.0), 150, 30, 3)
    assert found.dedicated is not None
    assert found.dedicated.accelerator_seconds > 2 * 0.2
    assert decode_enriched(encode_enriched(found)) == found


def test_several_choices_without_their_sum_have_no_cost() -> None:
    event = RequestEvent(model="m", prompt_tokens=10, longest_choice_tokens=5, choices=3)
    found = enrich(event, tables_with(ROW))
    assert found.idealized_runtime_seconds is not None
    assert (found.dedicated, found.served, found.flops) == (None, None, None)


def test_tables_without_constants_give_no_costs() -> None:
    bare = replace(tables_with(ROW), constants=None, prices=None)
    found = enrich(RequestEvent(model="m", prompt_tokens=10, completion_tokens=5), bare)
    assert (found.dedicated, found.billed_dollars, found.unbilled_reason) == (None, None, None)
    assert b'"dedicated":null' in encode_enriched(found)


def test_bands_are_json_of_their_own() -> None:
    found = enrich(RequestEvent(model="m", prompt_tokens=10, completion_tokens=5), tables_with(ROW))
    written = msgspec.json.decode(encode_enriched(found))
    assert written["dedicated"]["bands"]["accelerator_seconds"] == [0.8, 1.25]
