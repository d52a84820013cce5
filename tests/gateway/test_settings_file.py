"""A configuration with its tables: where it is wrong, and what is said of each model that it serves."""

import json
from pathlib import Path
from typing import Any

import pytest

from gateway.config import ConfigError
from gateway.settings_file import costs_in_use, covered_destinations, load_settings_file, needless_assumptions
from stream.coefficients import TableError

ROW = {"runtime_per_output_token": 0.1, "runtime_for_prompt_tokens": {"1": 0.1}}
STACKS = {
    "x": {"models": {"open-7b": ROW, "other": {**ROW, "provenance": "predicted"}}},
    "y": {"models": {"open-7b": ROW, "zebra-8b": ROW}},
    "z": {"models": {"api": ROW}, "kind": "denoised"},
}


def write(folder: Path, own: str, **files: Any) -> Path:
    for name, content in {"good": {"stacks": STACKS}, **files}.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    path = folder / "config.yaml"
    path.write_text(f"# a comment\ntrueclock:\n{own}")
    return path


USED = "  tables: [good.json]\n  stack: x\n"
WRONG = [
    ("  tables:\n    - good.json\n    - bad.json\n", "5: trueclock.tables[1]: {}/bad.json: $.m: expected an object, found 7"),
    ("  stack: w\n  tables: [good.json]\n", "3: trueclock.stack: unknown stack 'w': there are x, y, z"),
    ("  stack: z\n  tables: [good.json]\n", "3: trueclock.stack: stack 'z' is denoised, which is never a reference: choose one of x, y"),
    ("  tables:\n    - good.json\n", "3: trueclock.tables: several stacks, choose the leading one (--stack, or stack in a configuration): x, y, z"),
    ("  tables: [one.json]\n", "3: trueclock.tables: stack 'o' is denoised, which is never a reference: no table given holds one"),
    (USED + "  aliases:\n    a: open-7b\n    b: open-8b\n", "7: trueclock.aliases.b: alias 'b': no table has a row or alias 'open-8b'; there are open-7b"),
    (USED + "  assume:\n    gpt-4o: open-8b\n", "6: trueclock.assume.gpt-4o: assume 'gpt-4o': no table has a row or alias 'open-8b'; there are open-7b"),
    (USED + "  assume: {'openai/*': other}\n", "5: trueclock.assume.openai/*: assume 'openai/*': expected the name of one model (wildcards do not work here)"),
    (USED + "  assume: {'': other}\n", "5: trueclock.assume.: assume '': expected the name of one model"),
    (USED + "  aliases: {'': other}\n", "5: trueclock.aliases.: alias '': expected the name of one model"),
    (USED + "  assume: {gpt-4o: api}\n", "5: trueclock.assume.gpt-4o: assume 'gpt-4o': no table has a row or alias 'api'"),
    (USED + "  assume: {gpt-4o: gpt-4o}\n", "5: trueclock.assume.gpt-4o: assume 'gpt-4o': no table has a row or alias 'gpt-4o'"),
]  # fmt: skip


@pytest.mark.parametrize(("own", "said"), WRONG, ids=[said[:40] for _, said in WRONG])
def test_what_the_tables_have_not_is_told_with_file_and_line(own: str, said: str, tmp_path: Path) -> None:
    only = {"stacks": {"o": {"models": {"m": ROW}, "kind": "denoised"}}}
    path = write(tmp_path, own, bad={"m": 7}, one=only)
    with pytest.raises(ConfigError) as caught:
        load_settings_file(path)
    assert str(caught.value).startswith(f"{path}:{said.format(tmp_path)}")
    assert "\n" not in str(caught.value)


MAP = {"m": {"input_cost_per_token": 1e-6, "output_cost_per_token": 2e-6}}
COSTS = {"region": "se", "prices": {"mine": {"input_cost_per_token": 1, "output_cost_per_token": 0}}}
WRONG_COSTS = [
    ("  region: atlantis\n", "5: trueclock.region: unknown region 'atlantis': there are world, us, "),
    ("  region: [se]\n", "5: trueclock.region: "),
    ("  constants: none.json\n", "5: trueclock.constants: no such file: {}/none.json"),
    ("  prices: none.json\n", "5: trueclock.prices: no such file: {}/none.json"),
    ("  constants: bad.json\n", "5: trueclock.constants: {}/bad.json: $.m: expected one of the keys accelerators, "),
    ("  prices: bad.json\n", "5: trueclock.prices: {}/bad.json: $.m: expected litellm's price map: "),
    ("  prices: map.json\n  constants: odd.json\n", "6: trueclock.constants: {}/odd.json: $.prices: m: dear: expected one of"),
    ("  constants: lost.json\n", "5: trueclock.constants: {}/lost.json: $.region: unknown region 'x': there are world, "),
]  # fmt: skip


@pytest.mark.parametrize(("own", "said"), WRONG_COSTS, ids=[said[:40] for _, said in WRONG_COSTS])
def test_wrong_costs_are_told_with_file_and_line(own: str, said: str, tmp_path: Path) -> None:
    path = write(tmp_path, USED + own, bad={"m": 7}, map=MAP, odd={"prices": {"m": {"dear": 1}}}, lost={"region": "x"})
    with pytest.raises(ConfigError) as caught:
        load_settings_file(path)
    assert str(caught.value).startswith(f"{path}:{said.format(tmp_path)}")
    assert "\n" not in str(caught.value)


def test_costs_are_the_files_unless_the_command_line_says_others(tmp_path: Path) -> None:
    path = write(tmp_path, USED + "  constants: costs.json\n  prices: map.json\n", costs=COSTS, map=MAP)
    config, tables = load_settings_file(path, otherwise={"prices": tmp_path / "never read.json"})
    assert list(costs_in_use(config, tables)) == [
        "electricity of se (Sweden): 36 g CO2e a kWh, 1 price of your own",
        f"prices of providers: 1 model, {tmp_path / 'map.json'}",
    ]
    config, tables = load_settings_file(path, costs={"region": "fr"})
    assert next(costs_in_use(config, tables)).startswith("electricity of fr (France): ")
    with pytest.raises(TableError, match=r"^unknown region 'x': there are world, "):
        load_settings_file(path, costs={"region": "x"})
    with pytest.raises(TableError, match=r"none\.json: cannot be read: No such file"):
        load_settings_file(path, costs={"prices": tmp_path / "none.json"})


def test_fetched_prices_are_not_the_files_fault(tmp_path: Path) -> None:
    path = write(tmp_path, USED, map=MAP, bad={"m": 7})
    config, tables = load_settings_file(path, otherwise={"prices": tmp_path / "map.json"})
    assert [*costs_in_use(config, tables)][1].startswith("prices of providers: 1 model, ")
    with pytest.raises(TableError, match=r"bad\.json: \$\.m: expected litellm's price map"):
        load_settings_file(path, otherwise={"prices": tmp_path / "bad.json"})


def test_what_the_command_line_assumes_goes_first_and_is_not_the_files_fault(tmp_path: Path) -> None:
    path = write(tmp_path, USED + "  assume: {gpt-4o: other, o1: other}\n")
    _, tables = load_settings_file(path, {"gpt-4o": "open-7b"})
    assert tables.assume == {"gpt-4o": "open-7b", "o1": "other"}
    with pytest.raises(TableError, match=r"^assume 'gpt-4o': no table has a row or alias 'none'$"):
        load_settings_file(path, {"gpt-4o": "none"})


def test_the_command_lines_stack_leads_and_is_not_the_files_fault(tmp_path: Path) -> None:
    path = write(tmp_path, USED)
    assert load_settings_file(path)[1].references == ("x", "y")
    assert load_settings_file(path, stack="y")[1].references == ("y", "x")
    with pytest.raises(TableError, match=r"^unknown stack 'w': there are x, y, z$"):
        load_settings_file(path, stack="w")
    with pytest.raises(TableError, match=r"^stack 'z' is denoised, which is never a reference: choose one of x, y$"):
        load_settings_file(path, stack="z")


def test_a_needless_assumption_is_told_once_where_it_counts(tmp_path: Path) -> None:
    path = write(tmp_path, USED + "  assume: {open-7b: other}\n")
    config, tables = load_settings_file(path, {"open-7b": "zebra-8b"})
    assert config.warnings == ()
    assert list(needless_assumptions(tables, ["open-7b", "gpt-4o"])) == [
        "--assume open-7b: this model is a row itself (measured): that is used where a stack has it"
    ]


def test_a_model_with_a_row_of_its_own_needs_no_assumption(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        USED + "  aliases: {known: other}\n  assume:\n    gpt-4o: open-7b\n    known: open-7b\n    open-7b: other\n",
    )
    config, tables = load_settings_file(path)
    where = "that is used where a stack has it"
    assert config.warnings == (
        f"{path}:8: trueclock.assume.known: this model has its own row, other (predicted): {where}",
        f"{path}:9: trueclock.assume.open-7b: this model is a row itself (measured): {where}",
    )
    assert tables.row("x", "known") is not None


def test_what_covers_each_model(tmp_path: Path) -> None:
    own = USED + "  aliases: {known: other}\n  assume: {gpt-4o: open-7b, o1: other}\n"
    path = write(tmp_path, own)
    entries = {"m": "open-7b", "a": "known", "gpt-4o": "gpt-4o", "open": "open-8b", "w/*": "*", "far": "zebra-9b"}
    listed = "".join(
        f"  - {{model_name: '{name}', litellm_params: {{model: 'openai/{to}'}}}}\n" for name, to in entries.items()
    )
    path.write_text(path.read_text() + f"model_list:\n{listed}")
    lines = list(covered_destinations(*load_settings_file(path)))
    assert [line.replace("https://api.openai.com", "OPENAI") for line in lines] == [
        "m -> OPENAI as open-7b: measured, open-7b on x and y; no price by this name",
        "a -> OPENAI as known: predicted, other on x; no price by this name",
        "gpt-4o -> OPENAI as gpt-4o: assumed, open-7b on x and y; billed as gpt-4o",
        "open -> OPENAI as open-8b: uncovered (near it: open-7b): give it a row, an alias or `assume`; no price by this name",
        "far -> OPENAI as zebra-9b: uncovered (near it: zebra-8b): give it a row, an alias or `assume`; no price by this name",
        "w/* -> OPENAI as *",
        "o1: assumed, other on x",
    ]
