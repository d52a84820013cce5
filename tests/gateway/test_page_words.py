"""What the live page says of figures: its own functions, called in a real Chromium with made-up sums."""

import json
from collections.abc import Iterator

import pytest

from tests.chromium import FOUND, Chromium
from tests.harness import run, serve
from tests.page_figures import NOTHING, call, failed, group, known, last_minute, own_best

pytestmark = pytest.mark.skipif(FOUND is None, reason="chromium is not installed: apt-get install chromium")

# What is shown, the kind, the headline with whom it blames, and the sentence below it.
VERDICTS = [
    (NOTHING, "unknown", "No completed request in this time", ""),
    (
        NOTHING | {"completed": 4, "completed_raw_seconds": 8.0},
        "unknown",
        "Nothing to compare with yet",
        "2.00 s a request. No model here has an idealized runtime, and the provider's own best is not known yet.",
    ),
    (
        group(100, 1, 0.1, 0.9),
        "contention",
        "Slow: 2.00x the idealized runtime, mostly contention",
        "2.00 s a request: 1.00 s for the model, 0.10 s for the provider's stack, 0.90 s of contention.",
    ),
    (
        group(100, 1, 0.9, 0.1),
        "stack",
        "Slow: 2.00x the idealized runtime, mostly the provider's stack",
        "2.00 s a request: 1.00 s for the model, 0.90 s for the provider's stack, 0.10 s of contention.",
    ),
    (
        group(100, 1, 0.5, 0.5),
        "unsplit",
        "Slow: 2.00x the idealized runtime, stack and contention alike",
        "2.00 s a request: 1.00 s for the model, 0.50 s for the provider's stack, 0.50 s of contention.",
    ),
    (
        group(100, 1, 0.1, 0.9, split=10),  # too few to blame anybody
        "unsplit",
        "Slow: 2.00x the idealized runtime",
        (
            "2.00 s a request: 1.00 s for the model, 10 ms for the provider's stack, 90 ms of contention, 0.90 s of stack "
            "and contention, not told apart yet."
        ),
    ),
    (
        group(100, 1, 0.1, 0.9, split=0),
        "unsplit",
        "Slow: 2.00x the idealized runtime",
        "2.00 s a request: 1.00 s for the model, 1.00 s of stack and contention, not told apart yet.",
    ),
    (
        group(100, 4, -3, 1),
        "contention",
        "Not slow, 0.50x the idealized runtime, but contended: 2.00x the provider's own best",
        "2.00 s a request: 4.00 s for the model, less 3.00 s that the provider's stack saves, 1.00 s of contention.",
    ),
    (
        group(100, 4, -1.5, -0.5),
        "fine",
        "Faster than the reference: 0.50x the idealized runtime",
        (
            "2.00 s a request: 4.00 s for the model, less 1.50 s that the provider's stack saves, less 0.50 s by which it "
            "beats the provider's usual best."
        ),
    ),
    (
        group(100, 2, 0, 0),
        "fine",
        "Not slow: 1.00x the idealized runtime. The time is the models' own",
        "2.00 s a request: 2.00 s for the model, nothing to speak of for stack and contention.",
    ),
    (
        group(4, 1, 0, 4),
        "unknown",
        "Only 4 requests: 5.00x the idealized runtime",
        "5.00 s a request: 1.00 s for the model, nothing to speak of for the provider's stack, 4.00 s of contention.",
    ),
    (
        group(100, 2, 0.5, 0, provenance="predicted"),
        "fine",
        "Not clearly slow: 1.25x the predicted idealized runtime",
        "2.50 s a request: 2.00 s for the model, 0.50 s for the provider's stack, no contention to speak of.",
    ),
    (
        group(100, 1, 1, 0, provenance="assumed"),
        "stack",
        "Slow: 2.00x the assumed idealized runtime, mostly the provider's stack",
        "2.00 s a request: 1.00 s for the model, 1.00 s for the provider's stack, no contention to speak of.",
    ),
    (
        group(100, 1, 1, 0, completed=1000),
        "stack",
        "Slow: 2.00x the idealized runtime, mostly the provider's stack",
        (
            "2.00 s a request: 1.00 s for the model, 1.00 s for the provider's stack, no contention to speak of. Only 100 "
            "of 1,000 completed requests have an idealized runtime."
        ),
    ),
    (
        own_best(100, 1, 1),
        "contention",
        "Contended: 2.00x the provider's own best",
        (
            "2.00 s a request: 1.00 s at the provider's own best, 1.00 s of contention. No idealized runtime: model and "
            "stack are not told apart."
        ),
    ),
    (
        own_best(100, 1, -0.1, covered=10, raw_seconds=20.0, idealized_seconds=1.0, slowdown=20.0),
        "fine",
        "Little contention: 0.90x the provider's own best",
        (
            "0.90 s a request: 1.00 s at the provider's own best, less 0.10 s by which it beats the provider's usual "
            "best. Only 10 of 100 completed requests have an idealized runtime."
        ),
    ),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Chromium]:
    with Chromium() as found:
        yield found


def test_the_verdict_says_no_more_than_the_sums_do(browser: Chromium) -> None:
    async def scenario() -> None:
        async with serve() as gateway, browser.page(gateway.url) as page:
            await page.wait("document.documentElement.dataset.shown >= 1")
            for total, kind, headline, because in VERDICTS:
                told = await call(page, "verdict", "judge", total)
                words = told["headline"] + (f", {told['blame']}" if told.get("blame") else "")
                words = words.replace("\N{MULTIPLICATION SIGN}", "x")
                sentence = told["because"].replace("\N{NO-BREAK SPACE}", " ")
                assert (told["kind"], words, sentence) == (kind, headline, because)
                parts = await call(page, "waterfall", "partsOf", total)
                if parts["parts"]:
                    assert sum(part["seconds"] for part in parts["parts"]) == pytest.approx(parts["raw"])

    run(scenario())


FINE = group(95, 2, 0, 0)
CALM = "Not slow: 1.00x the idealized runtime. The time is the models' own"
# What is shown, sums of the last minute, the kind, the headline, and what is said of failures.
FAILURES = [
    (FINE, last_minute(5), "fine", CALM, ""),
    (failed(FINE, status_5xx=4), None, "fine", CALM, ""),  # the figures say it
    (failed(FINE, status_5xx=5), None, "fine", CALM, "5 of 100 requests failed (5%): status 5xx."),
    (
        failed(FINE, upstream_unreachable=4, status_4xx=5, client_disconnected=90),
        last_minute(1, status_5xx=70),
        "fine",
        CALM,
        "",  # 9 of 194
    ),
    (
        failed(FINE, upstream_unreachable=4, status_4xx=50, client_disconnected=9),
        last_minute(1, status_5xx=70),
        "fine",
        CALM,
        "54 of 158 requests failed (34%): 50 status 4xx, 4 upstream unreachable.",
    ),
    (
        failed(NOTHING, upstream_unreachable=41),
        None,
        "failing",
        "No request completes: 41 of 41 failed, upstream unreachable",
        "",
    ),
    (
        failed(NOTHING, status_5xx=3, upstream_unreachable=38, client_disconnected=2),
        None,
        "failing",
        "No request completes: 41 of 43 failed",
        "38 upstream unreachable, 3 status 5xx.",
    ),
    (
        failed(FINE, status_5xx=6),
        last_minute(0, status_5xx=6),
        "failing",
        "No request completes now: 6 failed in the last minute, status 5xx",
        "",
    ),
    (failed(FINE, status_5xx=4), last_minute(0, status_5xx=4), "fine", CALM, ""),  # too few for that
    (failed(NOTHING, client_disconnected=3), None, "unknown", "No completed request in this time", ""),
]


def test_failures_are_said_before_anything_else(browser: Chromium) -> None:
    async def scenario() -> None:
        async with serve() as gateway, browser.page(gateway.url) as page:
            await page.wait("document.documentElement.dataset.shown >= 1")
            for total, lately, kind, headline, failing in FAILURES:
                told = await call(page, "verdict", "judge", total, lately)
                words = told["headline"].replace("\N{MULTIPLICATION SIGN}", "x")
                assert (told["kind"], words, told["failing"]) == (kind, headline, failing)
            badges = "import('/trueclock/v1/page/models.js').then(it => it.badgesOf({}, null))"
            for total, found in [
                (FINE, []),
                (failed(FINE, status_5xx=5), [["bad", "5 of 100 failed (5%): status 5xx"]]),
                (
                    failed(FINE, status_5xx=4, client_disconnected=1),
                    [["faint", "4 of 100 failed (4%): status 5xx"], ["faint", "1 client disconnected"]],
                ),
                (
                    failed(FINE, status_5xx=6, status_4xx=4),
                    [["bad", "10 of 105 failed (10%)"], ["faint", "6 status 5xx"], ["faint", "4 status 4xx"]],
                ),
            ]:
                assert await page.run(badges.format(json.dumps(total))) == found
            for part, whole, text in [
                (1, 1000, "<1%"),
                (999, 1000, ">99%"),
                (9, 9, "100%"),
                (0, 9, "0%"),
                (12, 41, "29%"),
            ]:
                assert await call(page, "failures", "share", part, whole) == text

    run(scenario())


def test_what_no_baseline_can_tell_is_not_stated(browser: Chromium) -> None:
    """A part below the interval, or below a hundredth of raw, is nothing to speak of, and is blamed for nothing."""

    async def scenario() -> None:
        async with serve() as gateway, browser.page(gateway.url) as page:
            await page.wait("document.documentElement.dataset.shown >= 1")
            for stack, contention, doubt, ending in SPLITS:
                told = await call(page, "verdict", "split", group(100, 1, stack, contention), doubt)
                words = told.replace("\N{NO-BREAK SPACE}", " ")
                assert words.endswith(f"a request: 1.00 s for the model, {ending}."), (stack, contention, doubt, words)
            slow = group(100, 1, -0.1, 0.3)
            assert (await call(page, "verdict", "judge", slow, None, 0.05))["blame"] == "mostly contention"
            assert (await call(page, "verdict", "judge", slow, None, 0.5)).get("blame") is None
            calm = group(100, 4, -3, 0.3)
            assert "contended" in (await call(page, "verdict", "judge", calm, None, 0.1))["headline"]
            assert "contended" not in (await call(page, "verdict", "judge", calm, None, 0.4))["headline"]
            groups = [group(100, 1, 0, 0, baseline=known(0.97, 1.03)), group(100, 1, 0, 0, baseline=known(0.96, 1.01))]
            assert await call(page, "verdict", "doubtOf", groups) == pytest.approx(0.05 / 2)
            assert await call(page, "verdict", "doubtOf", [NOTHING]) == 0

    run(scenario())


# Seconds of stack and of contention, how well the best is known, what is said of both.
SPLITS = [
    (0.1, 0.2, 0.0, "0.10 s for the provider's stack, 0.20 s of contention"),
    (-0.0013, 0.2, 0.0, "nothing to speak of for the provider's stack, 0.20 s of contention"),
    (-0.1, 0.2, 0.05, "less 0.10 s that the provider's stack saves, 0.20 s of contention"),
    (-0.1, 0.2, 0.15, "nothing to speak of for the provider's stack, 0.20 s of contention"),
    (0.5, -0.05, 0.1, "0.50 s for the provider's stack, no contention to speak of"),
    (0.1, 0.05, 0.2, "nothing to speak of for stack and contention"),
]


def test_the_worst_is_told_of_seconds_beyond_one_basis(browser: Chromium) -> None:
    async def scenario() -> None:
        a = group(100, 1, 1, 1, name="a")
        b, c = group(100, 1, 1, 5, name="b"), own_best(100, 1, 9, name="c")
        async with serve() as gateway, browser.page(gateway.url) as page:
            await page.wait("document.documentElement.dataset.shown >= 1")
            told = await call(page, "verdict", "worst", [a, b, c], "idealized")
            assert (told["group"]["name"], told["share"]) == ("b", 6 / 8)
            told = await call(page, "verdict", "worst", [a, b, c], "denoised")
            assert (told["group"]["name"], told["share"]) == ("c", 9 / 15)
            assert await call(page, "verdict", "worst", [a, c], "idealized") is None  # one alone is all of it

    run(scenario())


def test_parts_over_time_sum_to_the_mean_of_all_completed_requests(browser: Chromium) -> None:
    """Ten requests: four with both runtimes, three only idealized, two only denoised, one with neither."""

    async def scenario() -> None:
        slot = {
            "requests": 10, "completed": 10, "raw": 4 * 5 + 3 * 4 + 2 * 3 + 7,
            "raw_of_idealized": 4 * 5 + 3 * 4, "idealized": 4 * 2 + 3 * 1.5,
            "raw_of_denoised": 4 * 5 + 2 * 3, "denoised": 4 * 1 + 2 * 2.5,
            "decomposed_raw": 4 * 5, "model_seconds": 4 * 2, "stack_seconds": 4 * -1, "contention_seconds": 4 * 4,
        }  # fmt: skip
        empty = dict.fromkeys(slot, 0)
        columns = {name: [slot[name], empty[name]] for name in slot}
        series = {"step_seconds": 10, "times": [100, 110], "groups": [columns], "steps": []}
        async with serve() as gateway, browser.page(gateway.url) as page:
            await page.wait("document.documentElement.dataset.shown >= 1")
            told = await page.run(
                f"import('/trueclock/v1/page/timeline.js').then(it => it.shape({json.dumps(series)}, () => true))"
            )
        assert {part: values[0] for part, values in told["bars"].items()} == {
            "model": 1.25,
            "stack": -0.4,
            "stack and contention": 0.75,
            "model and stack": 0.5,
            "contention": 1.7,
            "not split": 0.7,
        }
        assert told["raw"] == [4.5, None]
        assert all(values[1] is None for values in told["bars"].values())

    run(scenario())
