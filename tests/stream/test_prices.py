"""Billed dollars: litellm's own results, whose price it is, what has none and why, and files of prices."""

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from stream.events import RequestEvent
from stream.price_file import price_file
from stream.price_rates import PRICE_KEY, price_of
from stream.prices import Bill, PriceError, Prices, load_prices, prices_from_json
from stream.strict_json import TableError
from tests.harness import ROOT

GOLDEN = json.loads((ROOT / "tests" / "golden" / "litellm_prices.json").read_text())
WITHIN = 1e-12
AT_NOTHING = {
    name
    for name, entry in GOLDEN["models"].items()
    if not any(entry.get(key) for key in ("input_cost_per_token", "output_cost_per_token", "tiered_pricing"))
    and entry["litellm_provider"] != "ollama"
}
"""Models that litellm's map has at 0."""
ENTRY = {"input_cost_per_token": 2e-6, "output_cost_per_token": 8e-6, "cache_read_input_token_cost": 5e-7}


def prices(**models: dict[str, Any]) -> Prices:
    return Prices(*price_file(json.dumps(models).encode(), "prices.json"))


def event(**fields: Any) -> RequestEvent:
    return RequestEvent(**{"model": "m", "prompt_tokens": 1000, "completion_tokens": 100, **fields})


def dollars(of: Prices, **fields: Any) -> float:
    bill = of.bill(event(**fields))
    assert bill.dollars is not None, bill
    return bill.dollars


# --- litellm's results


def test_bills_are_litellms() -> None:
    of = Prices(*price_file(json.dumps(GOLDEN["models"]).encode(), "litellm's map"))
    assert len(GOLDEN["models"]) > 300
    assert len(GOLDEN["cases"]) > 1000
    for name, tier, at, prompt, cached, written, output, reasoning, expected in GOLDEN["cases"]:
        asked = event(
            model=name, tags=(f"service_tier={tier}",) if tier else (), ended_at=at and datetime.fromisoformat(at),
            prompt_tokens=prompt, cached_tokens=cached, completion_tokens=output, reasoning_tokens=reasoning,
            cache_written_tokens=written,
        )  # fmt: skip
        if name in AT_NOTHING:
            assert (of.bill(asked), expected) == (Bill(None, name, "unknown_price"), 0)
        else:
            assert of.bill(asked) == Bill(pytest.approx(expected, rel=WITHIN, abs=0), name, None)


@pytest.mark.parametrize(("provider", "model", "expected"), GOLDEN["named"])
def test_a_model_is_found_as_its_provider_calls_it(provider: str, model: str, expected: float) -> None:
    found = dollars(load_prices(), provider=provider, upstream_model=model, model="what the client calls it")
    assert found == pytest.approx(expected, rel=WITHIN)


def test_every_shipped_entry_can_be_read_and_is_of_a_text() -> None:
    shipped = load_prices()
    assert len(shipped.file.models) > 3000
    assert shipped.file.source.startswith("litellm ")
    again, read = price_file(shipped.to_json().encode(), "prices.json")
    assert again == shipped.to_json().encode()
    for name, raw in read.models.items():
        entry = json.loads(bytes(raw))
        price = price_of(name, entry)
        assert price.reason in (None, "not_priced_by_tokens", "unknown_price")
        assert any(PRICE_KEY.fullmatch(key) for key in entry) or price.reason or "tiered_pricing" in entry


# --- what is multiplied with what


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, 1000 * 2e-6 + 100 * 8e-6),
        ({"cached_tokens": 400}, 600 * 2e-6 + 400 * 5e-7 + 100 * 8e-6),
        ({"cached_tokens": 0}, 1000 * 2e-6 + 100 * 8e-6),
        ({"cached_tokens": 4000}, 1000 * 5e-7 + 100 * 8e-6),  # more than there were: they are part of the prompt
        ({"reasoning_tokens": 60}, 1000 * 2e-6 + 100 * 8e-6),
        ({"completion_tokens": 300, "choices": 3}, 1000 * 2e-6 + 300 * 8e-6),
        ({"usage_source": "estimated"}, 1000 * 2e-6 + 100 * 8e-6),
        ({"error_class": "client_disconnected", "status": 200}, 1000 * 2e-6 + 100 * 8e-6),
        ({"tags": ("service_tier=flex",)}, 1000 * 2e-6 + 100 * 8e-6),  # no such price: the standard one
        ({"tags": ("service_tier=priority",)}, 1000 * 3e-6 + 100 * 8e-6),
        ({"tags": ("team=a", "service_tier=batch")}, 1000 * 1e-6 + 100 * 4e-6),
        ({"service_tier": "priority"}, 1000 * 3e-6 + 100 * 8e-6),  # as the reply says
        ({"service_tier": "priority", "tags": ("team=a",)}, 1000 * 3e-6 + 100 * 8e-6),
        ({"service_tier": "priority", "tags": ("service_tier=default",)}, 1000 * 2e-6 + 100 * 8e-6),
        ({"service_tier": "default"}, 1000 * 2e-6 + 100 * 8e-6),
        ({"cache_written_tokens": 200}, 800 * 2e-6 + 200 * 2.5e-6 + 100 * 8e-6),
    ],
)
def test_each_kind_of_token_has_its_price(fields: dict[str, Any], expected: float) -> None:
    batch = {"input_cost_per_token_batches": 1e-6, "output_cost_per_token_batches": 4e-6}
    more = {"cache_creation_input_token_cost": 2.5e-6, "input_cost_per_token_priority": 3e-6}
    assert dollars(prices(m={**ENTRY, **batch, **more}), **fields) == pytest.approx(expected, rel=WITHIN)


@pytest.mark.parametrize(
    ("prompt", "provider", "expected"),
    [
        (200_000, "acme", 200_000 * 2e-6 + 100 * 8e-6),
        (200_001, "acme", 200_001 * 4e-6 + 100 * 8e-6),  # all tokens, not those above
        (500_000, "acme", 500_000 * 4e-6 + 100 * 8e-6),
        (500_001, "acme", 500_001 * 4e-6 + 100 * 9e-6),  # what a threshold does not say stays
        (200_000, "xai", 200_000 * 4e-6 + 100 * 8e-6),
    ],
)
def test_above_a_threshold_all_tokens_have_its_price(prompt: int, provider: str, expected: float) -> None:
    above = {"input_cost_per_token_above_200k_tokens": 4e-6, "output_cost_per_token_above_500000_tokens": 9e-6}
    of = prices(m={**ENTRY, **above, "litellm_provider": provider})
    assert dollars(of, prompt_tokens=prompt) == pytest.approx(expected, rel=WITHIN)


@pytest.mark.parametrize(("prompt", "each"), [(0, 1e-6), (1, 1e-6), (32_000, 1e-6), (32_001, 2e-6), (10**6, 2e-6)])
def test_tiers_by_length(prompt: int, each: float) -> None:
    tiers = [
        {"input_cost_per_token": 2e-6, "output_cost_per_token": 6e-6, "range": [32e3, 128e3]},
        {"input_cost_per_token": 1e-6, "output_cost_per_token": 3e-6, "range": [0, 32e3]},
    ]
    of = prices(m={"tiered_pricing": tiers})
    assert dollars(of, prompt_tokens=prompt) == pytest.approx(prompt * each + 100 * 3 * each, rel=WITHIN)


@pytest.mark.parametrize(
    ("moment", "each"),
    [
        ("2026-03-02T18:00:00+00:00", 1e-6),  # a Monday
        ("2026-03-02T23:59:59+08:00", 2e-6),  # 15:59 in UTC
        ("2026-03-03T00:29:59+00:00", 1e-6),
        ("2026-03-03T00:30:00+00:00", 2e-6),
        ("2026-03-07T12:00:00+00:00", 1e-6),  # a Saturday, all day
        (None, 2e-6),
    ],
)
def test_off_peak_hours_are_those_in_which_the_request_ended(moment: str | None, each: float) -> None:
    windows = [{"hours_utc": "00:00-00:00", "weekdays": [6, 7]}, {"hours_utc": ["nonsense"]}]
    off_peak = {"input_cost_per_token": 1e-6, "hours_utc": "16:00-00:30", "windows": windows}
    of = prices(m={"input_cost_per_token": 2e-6, "output_cost_per_token": 0.0, "off_peak_pricing": off_peak})
    asked = event(ended_at=moment and datetime.fromisoformat(moment), started_at=datetime(2026, 3, 2, 9, tzinfo=UTC))
    if moment is None:
        asked = event()
    assert of.bill(asked).dollars == pytest.approx(1000 * each, rel=WITHIN)


@given(
    some.integers(0, 10**6), some.integers(0, 10**6), some.integers(0, 10**5), some.integers(0, 10**5),
    some.sampled_from(sorted(GOLDEN["models"].keys() - AT_NOTHING)),
)  # fmt: skip
def test_a_cache_and_reasoning_never_make_a_bill_negative_and_more_output_never_cheaper(
    prompt: int, cached: int, output: int, reasoning: int, name: str
) -> None:
    of = ALL
    asked = {
        "model": name,
        "prompt_tokens": prompt,
        "cached_tokens": cached,
        "reasoning_tokens": min(reasoning, output),
    }
    less, more = (dollars(of, completion_tokens=tokens, **asked) for tokens in (output, output + 1))
    assert 0 <= less <= more


ALL = Prices(*price_file(json.dumps(GOLDEN["models"]).encode(), "litellm's map"))


# --- whose price it is


MAP = {
    "gpt-x": {**ENTRY, "litellm_provider": "openai"},
    "gpt-x-2026-01-02": {**ENTRY, "input_cost_per_token": 9e-6, "litellm_provider": "openai"},
    "azure/gpt-x": {**ENTRY, "input_cost_per_token": 3e-6, "litellm_provider": "azure"},
    "groq/openai/oss": {**ENTRY, "litellm_provider": "groq"},
    "gem": {**ENTRY, "litellm_provider": "vertex_ai-language-models"},
    "gemini/gem": {**ENTRY, "litellm_provider": "gemini"},
    "ft:gpt-x": {**ENTRY, "litellm_provider": "openai"},
    "ft:gpt-x-2026-01-02": {**ENTRY, "litellm_provider": "openai"},
    "azure/gpt-x-mini": {**ENTRY, "litellm_provider": "azure"},
    "ollama/local": {"input_cost_per_token": 0.0, "output_cost_per_token": 0.0, "litellm_provider": "ollama"},
}


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"model": "gpt-x"}, "gpt-x"),
        ({"model": "openai/gpt-x"}, "gpt-x"),
        ({"model": "alias", "upstream_model": "gpt-x", "provider": "openai"}, "gpt-x"),
        ({"model": "alias", "served_model": "gpt-x", "provider": "openai"}, "gpt-x"),
        ({"model": "gpt-x", "upstream_model": "gpt-x-2026-01-02"}, "gpt-x-2026-01-02"),
        ({"model": "gpt-x-2031-12-31", "provider": "openai"}, "gpt-x"),
        ({"model": "gpt-x-20311231"}, "gpt-x"),
        ({"model": "gpt-x@20311231"}, "gpt-x"),
        ({"model": "gpt-x", "provider": "azure.ai.openai"}, "azure/gpt-x"),
        ({"model": "openai/oss", "provider": "groq"}, "groq/openai/oss"),
        ({"model": "groq/openai/oss"}, "groq/openai/oss"),
        ({"model": "groq/openai/oss", "provider": "groq"}, "groq/openai/oss"),
        ({"model": "gem", "provider": "gcp.gemini"}, "gemini/gem"),
        ({"model": "gem", "provider": "gcp.vertex_ai"}, "gem"),
        ({"model": "local", "provider": "ollama"}, "ollama/local"),
        # what somebody trained further, by what it was trained from
        ({"model": "ft:gpt-x-2026-01-02:acme::abc", "provider": "openai"}, "ft:gpt-x-2026-01-02"),
        ({"model": "ft:gpt-x-2031-01-02:acme:ours:abc:ckpt-step-9", "provider": "openai"}, "ft:gpt-x"),
        ({"model": "ft:gpt-y:acme::abc", "provider": "openai"}, None),
        # deployments, by the model that the reply names
        ({"upstream_model": "gpt-x", "served_model": "gpt-x-mini", "provider": "azure.ai.openai"}, "azure/gpt-x-mini"),
        ({"upstream_model": "ours", "served_model": "gpt-x-2031-12-31", "provider": "azure.ai.openai"}, "azure/gpt-x"),
        ({"upstream_model": "gpt-x", "served_model": "gpt-x.ft-1", "provider": "azure.ai.openai"}, None),
        ({"upstream_model": "gpt-x", "provider": "azure.ai.openai"}, "azure/gpt-x"),
        # an alias: the client says gpt-x, something else answers
        ({"model": "gpt-x", "upstream_model": "llama", "served_model": "llama", "provider": "openai"}, None),
        ({"model": "gpt-x", "upstream_model": "ours", "provider": "azure.ai.openai"}, None),
        # others serve models of that name, too, at prices that nobody knows
        ({"model": "gpt-x", "provider": "vllm"}, None),
        ({"model": "gpt-x", "provider": "acme"}, None),
        ({"model": "groq/gpt-x"}, None),
        ({"model": "azure/openai/oss"}, None),
        # and none that are merely alike
        ({"model": "gpt-x-mini"}, None),
        ({"model": "gpt"}, None),
        ({"model": "GPT-X"}, None),
        ({"model": "gpt-x-0613"}, None),
        ({"model": "gpt-x-latest"}, None),
    ],
)
def test_the_very_model_or_none(fields: dict[str, Any], name: str | None) -> None:
    bill = prices(**MAP).bill(event(**fields))
    assert bill.name == name
    assert (bill.dollars is None, bill.reason) == ((True, "unknown_price") if name is None else (False, None))


def test_what_is_free_is_known_to_be() -> None:
    nothing = {"input_cost_per_token": 0.0, "output_cost_per_token": 0.0}
    of = prices(**MAP, m={**nothing, "litellm_provider": "acme"}, asks={**nothing, "mode": "moderation"})
    assert of.bill(event(model="ollama/local")) == Bill(0.0, "ollama/local", None)
    assert of.bill(event(model="asks")) == Bill(0.0, "asks", None)
    assert of.bill(event(model="m")) == Bill(None, "m", "unknown_price")  # free, or not known: the map says 0 of both
    assert of.with_own({"m": nothing}).bill(event(model="m")) == Bill(0.0, "m", None)


def test_prices_of_ones_own_go_first_whoever_serves_the_model() -> None:
    of = prices(**MAP).with_own({"alias": {"input_cost_per_token": 1.0, "output_cost_per_token": 0}})
    assert of.bill(event(model="alias", upstream_model="gpt-x-2026-01-02", provider="vllm")).name == "alias"
    assert dollars(of, model="alias", completion_tokens=0) == 1000.0
    assert prices(**MAP).with_own({}).own == {}
    embeds = {"input_cost_per_token": 1e-6, "mode": "embedding"}
    assert dollars(of.with_own({"mine": embeds}), model="mine", completion_tokens=None) == 1e-3


def test_whose_an_entry_is() -> None:
    of = load_prices().with_own({"alias": ENTRY})
    names = ("gpt-4o", "gemini/gemini-2.5-pro", "azure/gpt-4o", "groq/openai/gpt-oss-120b", "alias")
    assert [of.provider(name) for name in names] == ["openai", "gcp.gemini", "azure.ai.openai", "groq", None]
    assert prices(m=ENTRY, **{"acme/m": ENTRY}).provider("m") is None
    assert prices(m=ENTRY, **{"acme/m": ENTRY}).provider("acme/m") == "acme"


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"input_cost_per_tokens": 1e-6}, "input_cost_per_tokens: expected one of litellm's keys"),
        ({"input_cost_per_token": -1e-6}, ">= 0"),
        ({"input_cost_per_token": "1e-6"}, "$.input_cost_per_token: expected float"),
        ({"input_cost_per_token_flex": True}, "expected float"),
        ({"tiered_pricing": {}}, "$.tiered_pricing: expected array"),
        ({}, "needs input_cost_per_token and output_cost_per_token too (0 where that is free)"),
        ({"input_cost_per_token": 1e-6}, "needs output_cost_per_token too (0 where that is free)"),
        ({"output_cost_per_token": 1e-6}, "needs input_cost_per_token too"),
        ({"input_cost_per_token": 1e-6, "output_cost_per_token": None}, "needs output_cost_per_token too"),
        ({"mode": "embedding"}, "needs input_cost_per_token too"),
        ({"tiered_pricing": [{"range": [0, 9], "input_cost_per_token": 1e-6}]}, "needs output_cost_per_token too"),
    ],
)
def test_prices_of_ones_own_that_mean_nothing(entry: dict[str, Any], said: str) -> None:
    with pytest.raises(PriceError) as refused:
        load_prices().with_own({"mine": entry})
    assert str(refused.value).startswith("prices: mine: ")
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


# --- what has no bill, and why


@pytest.mark.parametrize(
    ("fields", "bill"),
    [
        ({"model": None}, Bill(None, None, "no_model")),
        ({"model": ""}, Bill(None, None, "no_model")),
        ({"model": "other"}, Bill(None, None, "unknown_price")),
        ({"status": 500}, Bill(None, "m", "failed")),
        ({"status": 429, "prompt_tokens": None}, Bill(None, "m", "failed")),
        ({"status": 429, "model": "other"}, Bill(None, None, "failed")),
        ({"prompt_tokens": None}, Bill(None, "m", "tokens_unknown")),
        ({"completion_tokens": None}, Bill(None, "m", "tokens_unknown")),
        ({"completion_tokens": None, "error_class": "timeout", "status": None}, Bill(None, "m", "failed")),
        (
            {"prompt_tokens": None, "error_class": "client_disconnected", "status": 200},
            Bill(None, "m", "tokens_unknown"),
        ),
        ({"completion_tokens": None, "route": "/v1/embeddings"}, Bill(0.002, "m", None)),
        ({"completion_tokens": None, "model": "embeds"}, Bill(0.002, "embeds", None)),
        ({"model": "seconds"}, Bill(None, "seconds", "not_priced_by_tokens")),
        ({"model": "seconds", "prompt_tokens": None}, Bill(None, "seconds", "not_priced_by_tokens")),
        ({"model": "request"}, Bill(None, "request", "not_priced_by_tokens")),
        ({"model": "free-but-by-the-character"}, Bill(None, "free-but-by-the-character", "not_priced_by_tokens")),
        ({"tags": ("service_tier=batch",)}, Bill(None, "m", "unknown_price")),
        ({"tags": ("service_tier=batch",), "model": "embeds"}, Bill(0.001, "embeds", None)),
    ],
)
def test_without_a_bill_there_is_a_reason(fields: dict[str, Any], bill: Bill) -> None:
    models = {
        "m": ENTRY,
        "embeds": {
            "input_cost_per_token": 2e-6, "input_cost_per_token_batches": 1e-6, "output_cost_per_token": 0.0,
            "mode": "embedding",
        },
        "seconds": {"input_cost_per_second": 0.01},
        "request": {**ENTRY, "input_cost_per_request": 0.005},
        "free-but-by-the-character": {"input_cost_per_token": 0, "output_cost_per_character": 1e-6},
    }  # fmt: skip
    assert prices(**models).bill(event(**fields)) == bill


def test_names_that_clients_make_up_are_not_kept() -> None:
    of = prices(m=ENTRY)
    for number in range(5000):
        of.bill(event(model=f"made-up-{number}"))
    of.bill(event(model="x" * 500))
    assert len(of._found) <= 4096
    assert of.bill(event()).name == "m"


# --- files


def test_litellms_map_is_read_as_it_is_and_only_what_prices_text_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "map.json"
    more = {"max_tokens": 5, "supports_vision": True, "source": "https://acme.example", "input_cost_per_image": 1.0}
    path.write_text(
        json.dumps(
            {
                "sample_spec": {"input_cost_per_token": 0.0, "mode": "one of: chat"},
                "m": {**ENTRY, **more, "mode": "chat", "litellm_provider": "acme"},
                "paints": {**ENTRY, "mode": "image_generation"},
                "nothing": {"mode": "chat"},
                "embeds": {"input_cost_per_token": 1e-6, "output_cost_per_token": None, "mode": "embedding"},
            }
        )
    )
    read = load_prices(path)
    assert sorted(read.names()) == ["embeds", "m"]
    assert read.entry("m") == ("m", {**ENTRY, "input_cost_per_image": 1.0, "litellm_provider": "acme"})
    assert read.entry("embeds") == ("embeds", {"input_cost_per_token": 1e-6, "mode": "embedding"})
    assert read.file.source == str(path)


def test_prices_survive_being_stored() -> None:
    of = load_prices().with_own({"mine": ENTRY})
    again = prices_from_json(json.loads(json.dumps(of.to_json())), "tables.json").with_own({"mine": ENTRY})
    assert again.version == of.version
    assert again.bill(event(model="gpt-4o")) == of.bill(event(model="gpt-4o")) != Bill(None, None, None)
    assert again.bill(event(model="mine")) == of.bill(event(model="mine"))


def test_the_version_is_that_of_the_content() -> None:
    assert (
        prices(m=ENTRY).version == prices(m=ENTRY).version != prices(m={**ENTRY, "output_cost_per_token": 9e-6}).version
    )


BAD_FILES = {
    "no file": (None, "cannot be read: No such file or directory"),
    "no JSON": (b"<html>", "not valid JSON: invalid character"),
    "cut off": (b'{"m": {"input_cost_per_token": 1e-6', "not valid JSON"),
    "no object": (b"[1]", "$: expected object, got array"),
    "no map": (b'{"hello": 1}', "$.hello: expected litellm's price map"),
    "no price": (b'{"hello": {"mode": "chat"}}', "found no price of a token"),
    "another format": (b'{"format": 2, "models": {}}', "$.format: expected 1, the only format this program reads, found 2"),
    "no models": (b'{"format": 1, "models": []}', "$.models: expected object, got array"),
    "a text": (b'{"m": {"input_cost_per_token": "1e-6"}}', "$.models.m: $.input_cost_per_token: expected float"),
    "negative": (b'{"m": {"input_cost_per_token": -1}}', "$.models.m: $.input_cost_per_token: expected float >= 0"),
    "dear": (b'{"m": {"input_cost_per_token": 1e30}}', "expected float <= 1000"),
    "tiers": (b'{"m": {"tiered_pricing": [{"range": [1]}], "input_cost_per_token": 1}}', "$.models.m: $.tiered_pricing"),
    "hours": (b'{"m": {"off_peak_pricing": {"hours_utc": 3}, "input_cost_per_token": 1}}', "$.models.m: $.off_peak"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_bad_file_is_one_clear_line(case: str, tmp_path: Path) -> None:
    content, said = BAD_FILES[case]
    path = tmp_path / "prices.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(TableError) as refused:
        load_prices(path)
    message = str(refused.value)
    assert message.startswith(f"{path}: ")
    assert said in message
    assert "\n" not in message


def test_what_was_stored_and_is_damaged_is_one_clear_line() -> None:
    with pytest.raises(PriceError, match=r"^tables\.json: \$\.prices: expected the text of a price file$"):
        prices_from_json({"m": {}}, "tables.json")
    with pytest.raises(PriceError, match=r"^tables\.json: \$\.prices: not valid JSON"):
        prices_from_json("{", "tables.json")


def test_litellm_is_not_imported() -> None:
    code = "import sys, stream.prices; stream.prices.load_prices(); print({'litellm', 'zoneinfo', 'yaml'} & {*sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "set()\n"
