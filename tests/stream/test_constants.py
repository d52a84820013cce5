"""The constants of costs: what ships, what a file of one's own changes, and what is wrong with one."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from stream.coefficients import TableError, load_tables, tables_from_json, tables_to_json
from stream.constants import Constant, Constants, load_constants


def every(constants: Constants) -> list[Constant]:
    return [
        *(each for device in constants.accelerators.values() for each in (
            device.tdp_watts, device.dollars_per_hour, device.mean_watts, device.embodied_kilograms)),
        *(each for region in constants.regions.values() for each in (
            region.carbon_grams_per_kwh, region.water_litres_per_kwh)),
        constants.pue, constants.server_power_factor, constants.site_water_litres_per_kwh,
        constants.lifetime_years, constants.utilisation,
    ]  # fmt: skip


def test_every_constant_has_its_range_and_source() -> None:
    for constant in every(load_constants()):
        assert constant.low <= constant.value <= constant.high
        assert len(constant.source) > 10
        assert constant.value > 0


def test_every_shipped_stack_has_its_accelerator() -> None:
    tables, constants = load_tables(), load_constants()
    assert {constants.stacks[name] for name in tables.references} <= constants.accelerators.keys()


def own(tmp_path: Path, content: Any) -> Path:
    path = tmp_path / "costs.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_a_file_changes_what_it_names(tmp_path: Path) -> None:
    shipped = load_constants()
    content = {
        "region": "se",
        "pue": 1.1,
        "accelerators": {"h100": {"dollars_per_hour": {"value": 2, "low": 1.5, "high": 2.5, "source": "our contract"}}},
        "stacks": {"mine": {"accelerator": "h100", "dollars_per_hour": 1.25}},
    }
    found = load_constants(own(tmp_path, content))
    assert (found.region, found.pue) == ("se", Constant(1.1, 1.1, 1.1, "given"))
    assert found.accelerators["h100"].dollars_per_hour == Constant(2, 1.5, 2.5, "our contract")
    assert found.accelerators["h100"].tdp_watts == shipped.accelerators["h100"].tdp_watts
    assert (found.stacks["mine"], found.hourly["mine"].value) == ("h100", 1.25)
    assert found.stacks["a100-megatron"] == "a100-80gb"
    assert load_constants(own(tmp_path, content), "fr").region == "fr"


def test_new_ones_need_a_name_of_their_own_and_all_that_they_have(tmp_path: Path) -> None:
    content = {"accelerators": {"mi300x": WHOLE}, "regions": {"our-site": GRID}, "region": "our-site"}
    found = load_constants(own(tmp_path, content))
    assert (found.accelerators["mi300x"].label, found.grid.label) == ("mi300x", "our-site")


def test_a_file_may_name_shipped_stacks_that_are_not_in_use(tmp_path: Path) -> None:
    path = own(tmp_path, {"stacks": {"h100-predicted": {"accelerator": "b200"}}})
    assert load_tables([Path("a100-megatron")], constants=path).references == ("a100-megatron",)


def test_a_value_alone_has_no_range(tmp_path: Path) -> None:
    found = load_constants(own(tmp_path, {"pue": {"value": 1.3}}))
    assert found.pue == Constant(1.3, 1.3, 1.3, "given")


def test_constants_and_region_are_part_of_the_version(tmp_path: Path) -> None:
    tables = [load_tables(), load_tables(region="se"), load_tables(constants=own(tmp_path, {"pue": 1.05}))]
    assert len({each.version for each in tables}) == 3
    for each in tables:
        again = tables_from_json(tables_to_json(each))
        assert (again.version, again.constants) == (each.version, each.constants)


def test_tables_stored_before_there_were_costs_are_read(tmp_path: Path) -> None:
    stored = json.loads(tables_to_json(load_tables()))
    del stored["constants"], stored["prices"]
    again = tables_from_json(json.dumps(stored).encode())
    assert (again.constants, again.prices) == (None, None)


WHOLE = dict.fromkeys(("tdp_watts", "dollars_per_hour", "mean_watts", "embodied_kilograms"), 1)
GRID = dict.fromkeys(("carbon_grams_per_kwh", "water_litres_per_kwh"), 1)
WRONG: list[tuple[Any, str]] = [
    ("{", "line 1, column 2: not valid JSON"),
    ([], "$: expected an object, found an array"),
    ({"pues": 1.1}, "$.pues: expected one of the keys accelerators, embodied,"),
    ({"pue": "1.1"}, '$.pue: expected a number or {"value", "low", "high", "source"}, found "1.1"'),
    ({"pue": -1}, "$.pue: expected a number, 0 or more, found -1"),
    ({"pue": 0.9}, "$.pue: expected 1 or more, found 0.9 to 0.9"),
    ({"embodied": {"utilisation": 0}}, "$.embodied.utilisation: expected a number from 0.001 to 1, found 0 to 0"),
    ({"embodied": {"lifetime_years": 0}}, "$.embodied.lifetime_years: expected 0.01 or more, found 0 to 0"),
    ({"pue": {"value": 1, "low": 2, "high": 3}}, "$.pue: expected low <= value <= high, found 2, 1, 3"),
    ({"pue": {"low": 5}}, "$.pue: expected low <= value <= high, found 5, "),
    ({"region": "atlantis"}, "unknown region 'atlantis': there are world, "),
    ({"accelerators": {"h100": {"watts": 1}}}, "$.accelerators.h100.watts: expected one of the keys"),
    ({"accelerators": {"h101": {"mean_watts": 9}}}, "$.accelerators: unknown accelerator 'h101': there are a100-80gb, "),
    ({"accelerators": {"H100": WHOLE}}, "$.accelerators: unknown accelerator 'H100': there are a100-80gb, "),
    ({"accelerators": {"mine": {**WHOLE, "tdp_watts": "x"}}}, "$.accelerators.mine.tdp_watts: expected a number or"),
    ({"accelerators": {"h100": 700}}, "$.accelerators.h100: expected an object, found 700"),
    ({"regions": {"SE": {**GRID}}}, "$.regions: unknown region 'SE': there are world, "),
    ({"regions": {"sx": {"carbon_grams_per_kwh": 9}}}, "$.regions: unknown region 'sx': there are world, "),
    ({"stacks": {"h100-predictd": {"accelerator": "b200"}}}, "$.stacks: unknown stack 'h100-predictd': no table in use "),
    ({"stacks": {"mine": {"dollars_per_hour": 2}}}, "has it; there are a100-megatron, v100-megatron, h100-predicted, api"),
    ({"stacks": {"x": {"accelerator": "h1000"}}}, "$.stacks.x.accelerator: expected one of a100-80gb, "),
    ({"embodied": {"counted": 1}}, "$.embodied.counted: expected true or false, found 1"),
    ({"format": 2}, "$.format: expected 1, the only format this program reads, found 2"),
]  # fmt: skip


@pytest.mark.parametrize(("content", "expected"), WRONG, ids=[expected[:40] for _, expected in WRONG])
def test_a_wrong_file_is_one_clear_line(tmp_path: Path, content: Any, expected: str) -> None:
    path = own(tmp_path, content)
    with pytest.raises(TableError, match=re.escape(expected)) as caught:
        load_tables(constants=path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_what_is_at_fault_is_named(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="cannot be read: No such file") as missing:
        load_tables(constants=tmp_path / "none.json")
    assert missing.value.setting == ("constants",)
    with pytest.raises(TableError, match="unknown region 'x'") as region:
        load_tables(region="x")
    assert region.value.setting == ("region",)
    with pytest.raises(TableError, match=r"costs\.json: \$\.region: unknown region 'x'") as own_region:
        load_tables(constants=own(tmp_path, {"region": "x"}))
    assert own_region.value.setting == ("constants",)
    with pytest.raises(TableError, match=r"none\.json: cannot be read: No such file") as prices:
        load_tables(prices=tmp_path / "none.json")
    assert prices.value.setting == ("prices",)
    with pytest.raises(TableError, match=r"costs\.json: \$\.prices: m: input_cost: expected one of") as own_price:
        load_tables(constants=own(tmp_path, {"prices": {"m": {"input_cost": 1}}}))
    assert own_price.value.setting == ("constants",)
