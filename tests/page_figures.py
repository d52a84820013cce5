"""Made-up sums, as the summary has them of a group, and calls of the live page's own functions with them."""

import json
from typing import Any

from tests.chromium import Page

NOTHING = {
    "requests": 0, "completed": 0, "failed": 0, "excluded": {}, "completed_raw_seconds": 0.0, "covered": 0, "raw_seconds": 0.0,
    "idealized_seconds": 0.0, "slowdown": None, "provenance": None, "denoised_requests": 0,
    "raw_of_denoised_seconds": 0.0, "denoised_seconds": 0.0, "contention": None, "decomposed_requests": 0,
    "decomposed_raw_seconds": 0.0, "model_seconds": 0.0, "stack_seconds": 0.0, "contention_seconds": 0.0,
}  # fmt: skip


def group(number: int, model: float, stack: float, contention: float, split: int | None = None, **more: Any) -> Any:
    """The sums of so many alike requests, all covered, `split` of them (None: all) with a denoised runtime."""
    raw, own = model + stack + contention, number if split is None else split
    return NOTHING | {
        "requests": number,
        "completed": number,
        "completed_raw_seconds": number * raw,
        "covered": number,
        "raw_seconds": number * raw,
        "idealized_seconds": number * model,
        "slowdown": raw / model,
        "provenance": "measured",
        "denoised_requests": own,
        "raw_of_denoised_seconds": own * raw,
        "denoised_seconds": own * (model + stack),
        "contention": raw / (model + stack) if own else None,
        "decomposed_requests": own,
        "decomposed_raw_seconds": own * raw,
        "model_seconds": own * model,
        "stack_seconds": own * stack,
        "contention_seconds": own * contention,
        **more,
    }


def own_best(number: int, best: float, contention: float, **more: Any) -> Any:
    """The sums of so many alike requests of a model without an idealized runtime."""
    found = group(number, best, 0.0, contention)
    covered = ("covered", "raw_seconds", "idealized_seconds", "slowdown", "provenance")
    split = ("decomposed_requests", "decomposed_raw_seconds", "model_seconds", "stack_seconds", "contention_seconds")
    return found | {name: NOTHING[name] for name in (*covered, *split)} | more


def failed(total: Any, **excluded: int) -> Any:
    """The sums with so many more requests, excluded for these reasons."""
    number = sum(excluded.values())
    left = excluded.get("client_disconnected", 0)
    return total | {"requests": total["requests"] + number, "failed": number - left, "excluded": excluded}


def last_minute(completed: int, **excluded: int) -> Any:
    return {"completed": completed, "failed": sum(excluded.values()), "excluded": excluded}


def known(low: float, high: float, **more: Any) -> Any:
    return {"n": 240, "intervals": {"runtime": [low, high]}, "steps": [], **more}


async def call(page: Page, module: str, function: str, *arguments: Any) -> Any:
    told = ", ".join(json.dumps(argument) for argument in arguments)
    return await page.run(f"import('/trueclock/v1/page/{module}.js').then(it => it.{function}({told}))")
