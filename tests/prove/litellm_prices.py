#!/usr/bin/env python3
"""Hold our bills against litellm's own calculator, on entries of its own map.

    python tests/prove/litellm_prices.py            # needs the extra `litellm`; a minute
    python tests/prove/litellm_prices.py --write    # renew tests/golden/litellm_prices.json with what it bills

Entries are drawn so that every form of price in the map occurs; usages at random, many of them at and about the
thresholds, at random moments, since some prices depend on the hour.
"""

import argparse
import json
import os
import random
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from typing import Any

from proving import ROOT, Claims

from stream.events import RequestEvent
from stream.price_file import price_file
from stream.price_rates import PRICE_KEY, provider_family
from stream.prices import Prices, load_prices

GOLDEN = ROOT / "tests" / "golden" / "litellm_prices.json"
WITHIN = 1e-12
EACH_FORM, USAGES, SEED = 25, 2, 7
MODES = ("chat", "completion", "responses", "embedding")
TIERS = ("flex", "balanced", "priority", "ultrafast")
ALSO = ("tiered_pricing", "off_peak_pricing", "litellm_provider", "mode")
FIELDS = ("name", "service_tier", "at", "prompt", "cached", "written", "output", "reasoning", "dollars")
NAMED = [
    ("openai", "openai", "gpt-4o"),
    ("openai", "openai", "gpt-4o-2024-05-13"),
    ("openai", "openai", "text-embedding-3-small"),
    ("anthropic", "anthropic", "claude-sonnet-4-5"),
    ("gcp.gemini", "gemini", "gemini-2.5-pro"),
    ("gcp.vertex_ai", "vertex_ai", "gemini-2.5-pro"),
    ("gcp.vertex_ai", "vertex_ai", "claude-sonnet-4-5"),
    ("mistral_ai", "mistral", "mistral-large-latest"),
    ("azure.ai.openai", "azure", "gpt-4o"),
    ("aws.bedrock", "bedrock", "anthropic.claude-3-5-haiku-20241022-v1:0"),
    ("deepseek", "deepseek", "deepseek-reasoner"),
    ("groq", "groq", "openai/gpt-oss-120b"),
    ("together_ai", "together_ai", "Qwen/Qwen2.5-72B-Instruct"),
    ("x_ai", "xai", "grok-4.5"),
    ("ollama", "ollama", "llama3"),
]


def forms(entry: dict[str, Any]) -> set[str]:
    """The forms of price that an entry has: thresholds, tiers, batches, hours, reasoning, a cache."""
    found = {key for key in (*ALSO[:2], "output_cost_per_reasoning_token") if key in entry}
    for match in filter(None, map(PRICE_KEY.fullmatch, entry)):
        found |= {f"{match['suffix']} {match['tier']}", match[0].partition("_cost")[0]}
    return found | {provider_family(entry)} & {"xai", "fireworks_ai", "dashscope", "deepseek"}


def chosen(rng: random.Random, prices: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Entries of every form, up to so many of each."""
    by_form: dict[str, list[str]] = {}
    for name, entry in prices.items():
        for form in forms(entry):
            by_form.setdefault(form, []).append(name)
    names = {name for _, of in sorted(by_form.items()) for name in rng.sample(sorted(of), min(EACH_FORM, len(of)))}
    return {name: prices[name] for name in sorted(names)}


def edges(entry: dict[str, Any]) -> list[int]:
    """Lengths of prompts at which an entry's prices change."""
    found = [match for match in map(PRICE_KEY.fullmatch, entry) if match and match["suffix"]]
    above = [int(match["above"]) * (1000 if match["thousands"] else 1) for match in found]
    return above + [int(edge) for tier in entry.get("tiered_pricing", ()) for edge in tier["range"] if edge]


def usage(rng: random.Random, entry: dict[str, Any]) -> list[int]:
    """Tokens of a prompt, of those the cached and the cache-written, of the output, of those the reasoning ones."""
    near = [edge + step for edge in edges(entry) for step in (-1, 0, 1)]
    prompt = rng.choice(near) if near and rng.random() < 0.6 else int(10 ** rng.uniform(0, 6))
    output = rng.choice((0, int(10 ** rng.uniform(0, 5))))
    cached = rng.choice((0, 0, rng.randint(0, prompt)))
    written = rng.choice((0, 0, rng.randint(0, prompt - cached)))
    return [prompt, cached, written, output, rng.choice((0, rng.randint(0, output)))]


def litellms(name: str, entry: dict[str, Any], tokens: Sequence[int], tier: str | None, moment: datetime) -> float:
    """Dollars by litellm."""
    import litellm
    from litellm.cost_calculator import batch_cost_calculator
    from litellm.litellm_core_utils.llm_cost_calc.utils import generic_cost_per_token

    prompt, cached, written, output, reasoning = tokens
    used = litellm.Usage(
        prompt_tokens=prompt,
        completion_tokens=output,
        total_tokens=prompt + output,
        prompt_tokens_details={"cached_tokens": cached, "cache_creation_tokens": written},
        completion_tokens_details={"reasoning_tokens": reasoning},
    )
    provider = provider_family(entry)
    if tier == "batch":
        return sum(batch_cost_calculator(used, name, provider))
    return sum(generic_cost_per_token(name, used, provider, service_tier=tier, current_time=moment))


def ours(prices: Prices, case: Sequence[Any]) -> float | None:
    """Dollars by us."""
    name, tier, at, prompt, cached, written, output, reasoning = case[:8]
    event = RequestEvent(
        model=name,
        tags=(f"service_tier={tier}",) if tier else (),
        ended_at=at and datetime.fromisoformat(at),
        prompt_tokens=prompt,
        cached_tokens=cached,
        completion_tokens=output,
        reasoning_tokens=reasoning,
        cache_written_tokens=written,
    )
    return prices.bill(event).dollars


def tiers(entry: dict[str, Any]) -> Iterator[str | None]:
    """The service tiers to ask for: the standard one, and those that the entry has prices of."""
    yield None
    yield from (tier for tier in TIERS if any(key.endswith(tier) for key in entry))
    if {"input_cost_per_token_batches", "output_cost_per_token_batches"} <= entry.keys():
        yield "batch"


def text_prices() -> dict[str, dict[str, Any]]:
    """The map's entries with prices of tokens, and the keys that decide them; those that it means by their names."""
    import litellm

    found = {}
    for name, entry in litellm.model_cost.items():
        kept = {key: value for key, value in entry.items() if PRICE_KEY.fullmatch(key) or key in ALSO}
        itself = f"{provider_family(entry)}/{name}" not in litellm.model_cost
        if itself and entry.get("mode") in MODES and {"input_cost_per_token", "tiered_pricing"} & kept.keys():
            found[name] = kept
    return found


def asked(rng: random.Random, models: dict[str, dict[str, Any]]) -> list[list[Any]]:
    """Requests, and what litellm bills for each: as FIELDS says."""
    cases = []
    for name, entry in models.items():
        for tier in (tier for tier in tiers(entry) for _ in range(USAGES)):
            tokens = usage(rng, entry)
            moment = datetime(2026, 3, 2, tzinfo=UTC) + timedelta(minutes=rng.randrange(7 * 24 * 60))
            at = moment.isoformat() if "off_peak_pricing" in entry else None
            cases.append([name, tier, at, *tokens, litellms(name, entry, tokens, tier, moment)])
    return cases


def by_name() -> list[list[Any]]:
    """Models as their providers call them, and what litellm bills for 1,000 and 100 tokens of each."""
    import litellm

    return [
        [provider, model, sum(litellm.cost_per_token(model, 1000, 100, custom_llm_provider=theirs))]
        for provider, theirs, model in NAMED
    ]


def error(ours: float | None, theirs: float) -> float:
    """How far we are off, as a fraction; infinite where we have no price. What the map has at 0 is unknown to us."""
    if ours is None:
        return float("inf") if theirs else 0.0
    return abs(ours - theirs) / (theirs or 1.0)


def golden(models: dict[str, Any], cases: list[list[Any]], named: list[list[Any]]) -> str:
    """The file that the test compares with: a line an entry, and one a request."""
    head = json.dumps({"litellm": version("litellm"), "fields": FIELDS})[:-1]
    entries = ",\n".join(f"{json.dumps(name)}: {json.dumps(entry, sort_keys=True)}" for name, entry in models.items())
    lists = ((key, ",\n".join(map(json.dumps, each))) for key, each in (("cases", cases), ("named", named)))
    return "".join(
        [head, f', "models": {{\n{entries}\n}}', *(f',\n"{key}": [\n{lines}\n]' for key, lines in lists), "}\n"]
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Ask both, compare, and with --write keep what litellm says; 0 when every claim holds, 1 when one fails."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help=f"renew {GOLDEN.relative_to(ROOT)}")
    options = parser.parse_args(argv)
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # not from the network
    everything = text_prices()
    models = chosen(random.Random(SEED), everything)
    cases, named = asked(random.Random(SEED), models), by_name()
    claims = Claims("litellm_prices")
    prices = Prices(*price_file(json.dumps(everything).encode(), "the map"))
    errors = [error(ours(prices, case), case[-1]) for case in cases]
    worst = max(range(len(cases)), key=errors.__getitem__)
    what = f"{len(cases)} requests of {len(models)} models cost what litellm says"
    claims.claim(what, errors[worst] <= WITHIN, f"worst {errors[worst]:.1e}, {cases[worst]}")
    for provider, model, dollars in named:
        bill = load_prices().bill(
            RequestEvent(provider=provider, upstream_model=model, model="x", prompt_tokens=1000, completion_tokens=100)
        )
        claims.claim(f"{model} of {provider}", error(bill.dollars, dollars) <= WITHIN, bill)
    if options.write:
        GOLDEN.write_text(golden(models, cases, named), encoding="utf-8")
    return claims.finish(f"litellm {version('litellm')}, {len(everything)} entries")


if __name__ == "__main__":
    sys.exit(main())
