"""What requests cost, on the live page: cards, columns of models and the inspector, in a real Chromium on a gateway."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stream.coefficients import Tables, load_tables
from tests.chromium import FOUND, Chromium, Page
from tests.harness import ask, run, serve
from tests.page_events import DAVINCI, JUMBO, UNKNOWN, requests
from tests.page_figures import NOTHING, call
from tests.page_watched import shown, summary, watched

pytestmark = pytest.mark.skipif(FOUND is None, reason="chromium is not installed: apt-get install chromium")

SIZE = "document.documentElement.scrollWidth"
AMOUNTS = {"energy": "energy_joules", "carbon": "carbon_grams", "water": "water_litres"}
FLOPS = {"per_token": 2e11, "per_output_token": 1e9, "per_pair": 4e6}
SERVED = {"batch": 16, "runtime_per_output_token": 0.004, "runtime_for_prompt_tokens": {"1": 0.002, "1920": 0.05}}
ROW = {"runtime_per_output_token": 0.03, "runtime_for_prompt_tokens": {"1": 0.05, "1920": 0.5}, "accelerators": 8}
STACKS = {
    "costed": {"accelerator": "h100", "models": {name: {**ROW, "flops": FLOPS, "served": SERVED} for name in (JUMBO.model, DAVINCI.model)}},
    "alone": {"accelerator": "v100-32gb", "models": {JUMBO.model: ROW}},
    "untold": {"models": {JUMBO.model: {key: value for key, value in ROW.items() if key != "accelerators"}}},
}  # fmt: skip
PRICE = {"input_cost_per_token": 2e-06, "output_cost_per_token": 8e-06, "mode": "chat"}


@pytest.fixture(scope="module")
def browser() -> Iterator[Chromium]:
    with Chromium() as found:
        yield found


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Tables:
    """A stack with everything, one without served figures, one that tells nothing; one of three models has a price."""
    folder = tmp_path_factory.mktemp("tables")
    own, constants = folder / "own.json", folder / "constants.json"
    own.write_text(json.dumps({"format": 1, "stacks": STACKS}))
    constants.write_text(json.dumps({"pue": 1.25, "prices": {JUMBO.model: PRICE}}))
    return load_tables([own], stack="costed", constants=constants)


def test_cards_say_what_the_summary_says(browser: Chromium, tmp_path: Path, tables: Tables) -> None:
    async def scenario() -> None:
        events = list(requests([JUMBO, DAVINCI, UNKNOWN], 120))
        async with watched(browser, tmp_path, events, settings={"tables": tables}) as (gateway, page):
            total = (await summary(gateway))["total"]
            cost = total["cost"]
            assert await shown(page, "#cost-served") == cost["served"]["dollars"] > 0
            assert await shown(page, "#cost-dedicated") == cost["dedicated"]["dollars"] > 0
            assert await shown(page, "#cost-billed") == cost["billed"]["dollars"] > 0
            assert await shown(page, "#cost-margin") == cost["margin"]["ratio"] > 0
            assert await shown(page, "#cost-flops") == cost["flops"] > 0
            for basis in ("served", "dedicated"):
                await page.run(f"document.querySelector('#cost-basis input[value={basis}]').click()")
                for name, amount in AMOUNTS.items():
                    assert await shown(page, f"#cost-{name}") == cost[basis][amount] > 0
                words = await page.text("#cost-cards")
                assert f"Energy, {basis}" in words
                assert f"Water, {basis}" in words
            assert await page.run("location.hash") == "#range=all&basis=dedicated"
            assert "16 at once" in words
            assert f"of {cost['served']['requests']} of 120" in words
            without = sum(number for why, number in cost["billed"]["unbilled"].items() if why == "unknown_price")
            assert 0 < without == 120 - cost["billed"]["requests"]
            assert f"{without} requests without a known price" in words
            assert f"of {cost['margin']['requests']} requests" in words
            assert "--constants" in await page.text("#cost-missing")
            assert page.problems == []

    run(scenario())


def test_the_models_table_has_columns_of_costs(browser: Chromium, tmp_path: Path, tables: Tables) -> None:
    async def scenario() -> None:
        events = list(requests([JUMBO, DAVINCI, UNKNOWN], 90))
        window: dict[str, Any] = {"settings": {"tables": tables}, "width": 1280}
        async with watched(browser, tmp_path, events, **window) as (gateway, page):
            assert not await page.visible("td.of-cost")
            await page.run("document.querySelector('#models-view input[value=cost]').click()")
            assert await page.visible("td.of-cost")
            assert not await page.visible("td.of-time")
            told = await summary(gateway)
            rows = {row.pop("name"): row for row in await page.run(ROWS)}
            for group in told["groups"]:
                assert {name: number(rows[group["model"]][name]) for name in COLUMNS} == expected(group["cost"])
            assert "served" in await page.text("#models thead")
            for width in (400, 1000, 1280, 2200):
                await page.size(width)
                assert await page.run(SIZE) <= width
            assert await page.run("location.hash") == "#range=all&view=cost"
            await page.reload()
            await page.wait("document.querySelector('td.of-cost')?.getClientRects().length > 0")
            assert page.problems == []

    run(scenario())


COLUMNS = ("flops", "energy", "dollars", "billed", "margin")
ROWS = """[...document.querySelectorAll('#model-rows tr')].map(row => ({
  name: row.querySelector('button.name').textContent,
  ...Object.fromEntries([...row.querySelectorAll('td.of-cost')].map(cell => [cell.dataset.field, cell.dataset.value])),
}))"""


def number(text: str) -> float | None:
    return float(text) if text else None


def expected(cost: dict[str, Any]) -> dict[str, float | None]:
    served, margin = cost["served"] or {}, cost["margin"] or {}
    return {
        "flops": cost["flops"],
        "energy": served.get("energy_joules"),
        "dollars": served.get("dollars"),
        "billed": cost["billed"]["dollars"],
        "margin": margin.get("ratio"),
    }


def test_what_is_not_there_is_said_with_what_to_do(browser: Chromium, tmp_path: Path, tables: Tables) -> None:
    async def scenario() -> None:
        events = list(requests([JUMBO], 40))
        choices = "range=all&stack=alone"
        async with watched(browser, tmp_path, events, choices, settings={"tables": tables}) as (gateway, page):
            cost = (await summary(gateway, "&stack=alone"))["total"]["cost"]
            assert await shown(page, "#cost-served") is None
            assert await shown(page, "#cost-margin") is None
            assert await shown(page, "#cost-dedicated") == cost["dedicated"]["dollars"]
            assert await shown(page, "#cost-energy") == cost["dedicated"]["energy_joules"]
            assert await page.run("document.querySelector('#cost-basis input[value=served]').disabled")
            words = await page.text("#cost-missing")
            assert "alone has no served figures" in words
            assert '"served"' in words
            assert "FLOPs" in words
            await page.run("document.querySelector('#stack').value = 'untold'")
            await page.run("document.querySelector('#stack').dispatchEvent(new Event('change'))")
            await page.wait("document.querySelector('#cost-missing').textContent.includes('how many accelerators')")
            assert await shown(page, "#cost-dedicated") is None
            assert await shown(page, "#cost-energy") is None
            assert await shown(page, "#cost-billed") == cost["billed"]["dollars"]
            assert page.problems == []

    run(scenario())


def test_nothing_covered_and_no_price(browser: Chromium, tmp_path: Path, tables: Tables) -> None:
    async def scenario() -> None:
        async with watched(browser, tmp_path, list(requests([UNKNOWN], 20)), settings={"tables": tables}) as (_, page):
            cards = await page.run("[...document.querySelectorAll('#cost-cards dd[id]')].map(it => it.dataset.value)")
            assert cards == [""] * 8
            words = await page.text("#cost-missing")
            assert "No completed request has an idealized runtime on costed" in words
            assert "20 requests of models that the price list does not have" in words
            assert page.problems == []

    run(scenario())


def test_the_constants_in_use_stand_with_their_sources(browser: Chromium, tmp_path: Path, tables: Tables) -> None:
    async def scenario() -> None:
        events = list(requests([JUMBO], 20))
        async with watched(browser, tmp_path, events, settings={"tables": tables}) as (gateway, page):
            await page.click("#cost-sources summary")
            rows = await page.wait(
                "(it => it.length && it.map(row => [...row.children].map(cell => cell.textContent)))"
                "([...document.querySelectorAll('#constants tbody tr')])"
            )
            constants = (await summary(gateway))["constants"]
            grid = constants["carbon_grams_per_kwh"]
            told = {row[0]: row[1:] for row in rows}
            assert told["Grams of CO2e a kWh, of the grid"] == [
                f"{grid['value']:g}",
                f"{grid['low']:g} to {grid['high']:g}",
                grid["source"],
            ]
            assert told["Power usage effectiveness (PUE)"] == ["1.25", "", "given"]
            assert told["Accelerator of this stack"] == [constants["accelerator"]]
            assert told["Watts of an accelerator, served, for the output"][0] == f"{constants['mean_watts']['value']:g}"
            of_row = 4  # alone and served, for the prompt and for the output
            assert len(rows) == len([value for value in constants.values() if value is not None]) + of_row
            watts = {"prompt": 600, "output": 400, "interval": [0.5, 2], "source": None}
            told = await call(page, "cost-sources", "wattsOf", {"dedicated": None, "served": watts})
            assert [name for name, _ in told] == [
                f"Watts of an accelerator, served, for the {part}" for part in ("prompt", "output")
            ]
            assert told[1][1] == {"value": 400, "low": 200, "high": 800, "source": "the row of the table"}
            assert await call(page, "cost-sources", "wattsOf", None) == []

    run(scenario())


def test_one_request_on_every_stack(browser: Chromium, tmp_path: Path, tables: Tables) -> None:
    async def scenario() -> None:
        events = list(requests([JUMBO], 10))
        choices = f"range=all&request={events[4].id}"
        window: dict[str, Any] = {"settings": {"tables": tables}, "width": 400}
        async with watched(browser, tmp_path, events, choices, **window) as (gateway, page):
            await page.wait("document.querySelector('.request-costs')")
            event = (await ask(gateway.url, target=f"/trueclock/v1/explain/{events[4].id}")).json["event"]
            views = {event["stack"]: event, **event["stacks"]}
            rows = await page.run(REQUEST_ROWS)
            assert [(stack, basis) for stack, basis, _ in rows] == [
                ("costed", "served"), ("costed", "dedicated"), ("alone", "dedicated")
            ]  # fmt: skip
            for stack, basis, values in rows:
                cost = views[stack][basis]
                amounts = ("dollars", "energy_joules", "carbon_grams", "water_litres")
                assert [float(value) for value in values] == [cost[name] for name in amounts]
            facts = await page.text("#inspector .facts")
            assert f", as {event['billed_as']}" in facts
            assert f"{event['margin']:.2f}\N{MULTIPLICATION SIGN} on costed" in facts
            assert "FLOP" in facts
            assert await page.run(SIZE) <= 400
            assert await page.run("document.querySelector('#inspector').scrollWidth") <= 400
            assert page.problems == []

    run(scenario())


REQUEST_ROWS = """[...document.querySelectorAll('.request-costs tbody tr')].map(row =>
  [row.dataset.stack, row.dataset.basis, [...row.querySelectorAll('td')].map(cell => cell.dataset.value)])"""

WITHOUT_COSTS = """
  const real = window.fetch;
  window.fetch = async (url, ...rest) => {
    const reply = await real(url, ...rest);
    if (!String(url).includes('/summary')) return reply;
    const told = await reply.json();
    for (const name of ['constants', 'problems']) delete told[name];
    for (const group of [told.total, ...told.groups]) delete group.cost;
    return new Response(JSON.stringify(told), {status: reply.status});
  };
"""


def test_a_summary_without_costs_is_shown_as_before(browser: Chromium, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with watched(browser, tmp_path, list(requests([JUMBO], 20)), before=WITHOUT_COSTS) as (_, page):
            for part in ("costs", "strategies", "models-view"):
                assert not await page.visible(f"#{part}"), part
            assert await shown(page, "#figure-requests") == 20
            assert page.problems == []

    run(scenario())


# How amounts are written, by the function that does.
WRITTEN: dict[str, list[tuple[Any, str]]] = {
    "dollars": [
        (None, "\N{EN DASH}"), (0, "$0"), (0.00000000004, "<$0.0000001"), (0.0000123, "$0.000012"), (0.00512, "$0.00512"),
        (0.0123456, "$0.0123"), (0.9994, "$0.999"), (0.9996, "$1.00"), (12.345, "$12.35"), (1234.5, "$1,235"),
        (2_340_000, "$2.34 M"),
    ],
    "energy": [(None, "\N{EN DASH}"), (0, "0 Wh"), (3.6e-3, "1.00 µWh"), (1800, "500 mWh"), (3600, "1.00 Wh"), (4.5e6, "1.25 kWh")],
    "grams": [(0.00012, "120 µg"), (0.25, "250 mg"), (12.34, "12.3 g"), (999.7, "1.00 kg"), (2.5e6, "2.50 t")],
    "litres": [(0.00005, "50.0 µl"), (0.0125, "12.5 ml"), (3.5, "3.50 l"), (1200, "1.20 m³")],
    "flops": [(0, "0 FLOP"), (12, "12.0 FLOP"), (3.2e12, "3.20 TFLOP"), (7.25e17, "725 PFLOP"), (4e27, "4,000 YFLOP")],
    "workTime": [(12.34, "12.3 s"), (899, "899 s"), (5400, "1.50 h")],
    "trimmed": [("$0.00500", "$0.005"), ("$1.00", "$1"), ("200 Wh", "200 Wh"), ("2.50 kWh", "2.5 kWh"), ("$1,000", "$1,000")],
}  # fmt: skip


def test_amounts_are_written_in_about_three_digits(browser: Chromium) -> None:
    async def scenario() -> None:
        async with serve() as gateway, browser.page(gateway.url) as page:
            for function, cases in WRITTEN.items():
                for value, text in cases:
                    told = await call(page, "units", function, value)
                    assert told.replace("\N{NO-BREAK SPACE}", " ") == text, (function, value)

    run(scenario())


def costs(dedicated: int = 0, served: int = 0, **more: Any) -> dict[str, Any]:
    """The costs of a group with so many dedicated and served requests."""
    amounts = dict.fromkeys(("accelerator_seconds", "dollars", "energy_joules", "carbon_grams", "water_litres"), 1.0)
    some = {number: {"requests": number, "batch": 1, "bands": {}, **amounts} for number in (dedicated, served)}
    none: dict[str, Any] = {
        "flops": None,
        "flops_requests": 0,
        "billed": {"requests": 0, "dollars": None, "unbilled": {}},
        "margin": None,
    }
    return {
        **none,
        "dedicated": some[dedicated] if dedicated else None,
        "served": some[served] if served else None,
        **more,
    }


def test_why_a_card_is_empty(browser: Chromium) -> None:
    async def scenario() -> None:
        async with serve() as gateway, browser.page(gateway.url) as page:
            group = NOTHING | {"completed": 10, "covered": 10}
            assert await reasons(page, NOTHING | {"completed": 10, "cost": costs()}) == {
                "served": "none covered", "dedicated": "none covered", "billed": "nothing was billed",
                "margin": "needs served figures", "energy": "none covered", "carbon": "none covered",
                "water": "none covered", "flops": "none covered",
            }  # fmt: skip
            assert (await reasons(page, group | {"cost": costs(10)}))["served"] == "no served figures on this stack"
            assert (await reasons(page, group | {"cost": costs()}))["dedicated"] == "accelerators not known"
            assert (await reasons(page, group | {"cost": costs(10, 9)}))["margin"] == "nothing billed is known"
            left = {"requests": 1, "dollars": 0.5, "unbilled": {"failed": 3, "tokens_unknown": 2}}
            told = await call(page, "costs", "cardsOf", group | {"cost": costs(10, 9, billed=left)}, "served")
            assert told["billed"]["subs"][1] == "2 requests without a known price"
            billed = {"requests": 1, "dollars": 0.5, "unbilled": {"failed": 3}}
            told = await call(page, "costs", "cardsOf", group | {"cost": costs(10, 9, billed=billed)}, "served")
            assert told["margin"]["subs"] == ["no request has both"]
            assert told["billed"]["subs"] == ["$0.500 a request, of 1", "every price is known"]
            unpowered = costs(10)
            unpowered["dedicated"] |= {"energy_joules": None, "dollars": None}
            told = await call(page, "costs", "cardsOf", group | {"cost": unpowered}, "dedicated")
            assert told["energy"]["subs"] == ["the accelerator is not known"]
            assert told["dedicated"]["subs"][0] == "no price of an hour is known"

    run(scenario())


async def reasons(page: Page, total: Any) -> dict[str, str]:
    basis = await call(page, "costs", "basisOf", total["cost"], None)
    cards = await call(page, "costs", "cardsOf", total, basis)
    return {name: card["subs"][0] for name, card in cards.items() if card["value"] is None}
