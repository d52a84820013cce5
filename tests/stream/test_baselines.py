"""Baselines: snapshots, the denoised runtime they give, and the file that they are kept in."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.baselines import NO_BASELINES, Baseline, BaselineError, Baselines, Step, baselines_to_json, load_baselines
from stream.coefficients import load_tables
from stream.enrich import enrich
from stream.events import RequestEvent
from stream.runtime import runtime_seconds

KNOWN = Baseline(
    version=7,
    upstream="api.example",
    model="m",
    per_output_token=0.01,
    knots=(100, 1000, 2000),
    prompt_seconds=(0.02, 0.1, 0.3),
    overhead=0.05,
    context=1e-6,
    n=500,
    since=datetime(2026, 1, 31, 12, 0, tzinfo=UTC),
    prompt_range=(90, 2100),
    intervals={"runtime": (0.97, 1.02)},
    steps=(Step(at=datetime(2026, 1, 31, 13, 0, tzinfo=UTC), factor=0.5, version=6),),
)
PAIR = ("api.example", "m")


def request(**fields: object) -> RequestEvent:
    known = {"model": "m", "upstream": "api.example", "prompt_tokens": 1000, "completion_tokens": 101, "status": 200}
    return RequestEvent(**{**known, "raw_runtime_seconds": 2.5, **fields})  # type: ignore[arg-type]


def test_the_denoised_runtime_is_t_of_the_baseline() -> None:
    enriched = enrich(request(), load_tables(), Baselines([KNOWN]))
    denoised = runtime_seconds(KNOWN.coefficients, 1000, 101)
    assert enriched.denoised_runtime_seconds == pytest.approx(denoised, rel=1e-12)
    assert enriched.baseline_version == "7"
    assert enriched.contention_factor == pytest.approx(2.5 / denoised)
    assert (enriched.idealized_runtime_seconds, enriched.stack_factor) == (None, None)


def test_raw_is_idealized_times_both_factors_on_every_stack() -> None:
    davinci = Baseline(version=1, model="davinci", per_output_token=0.02, knots=(1,), prompt_seconds=(0.1,),
                       prompt_range=(1, 3000))  # fmt: skip
    event = request(model="davinci", upstream=None)
    enriched = enrich(event, load_tables(), Baselines([davinci]))
    views = [enriched, *(view for view in enriched.stacks.values() if view.idealized_runtime_seconds)]
    assert len(views) > 1
    for view in views:
        assert view.idealized_runtime_seconds is not None
        assert view.stack_factor is not None
        assert enriched.contention_factor is not None
        product = view.idealized_runtime_seconds * view.stack_factor * enriched.contention_factor
        assert product == pytest.approx(2.5)


@pytest.mark.parametrize(
    ("fields", "denoised", "version", "factor"),
    [
        ({"upstream": "elsewhere"}, False, None, False),
        ({"model": "other"}, False, None, False),
        ({"model": None}, False, None, False),
        ({"prompt_tokens": None}, False, "7", False),
        ({"completion_tokens": None}, False, "7", False),
        ({"prompt_tokens": 4200}, True, "7", True),
        ({"prompt_tokens": 4201}, False, "7", False),
        ({"status": 500}, True, "7", False),
        ({"error_class": "timeout"}, True, "7", False),
        ({"completion_tokens": 0}, True, "7", True),
        ({"prompt_tokens": 0}, True, "7", True),
        ({"raw_runtime_seconds": None}, True, "7", False),
    ],
)
def test_what_cannot_be_told_is_null(
    fields: dict[str, object], denoised: bool, version: str | None, factor: bool
) -> None:
    enriched = enrich(request(**fields), load_tables(), Baselines([KNOWN]))
    assert (enriched.denoised_runtime_seconds is not None) is denoised
    assert enriched.baseline_version == version
    assert (enriched.contention_factor is not None) is factor


def test_cached_prompt_tokens_are_not_encoded_again_but_attended_to() -> None:
    baselines = Baselines([KNOWN])
    whole = enrich(request(), load_tables(), baselines).denoised_runtime_seconds
    cached = enrich(request(cached_tokens=900), load_tables(), baselines).denoised_runtime_seconds
    assert whole is not None
    assert cached is not None
    assert whole - cached == pytest.approx(0.1 - 0.02)
    assert enrich(request(cached_tokens=10**6), load_tables(), baselines).denoised_runtime_seconds is not None


@given(st.integers(0, 4200), st.integers(0, 4200), st.integers(0, 4000))
def test_more_output_never_takes_less_and_a_cache_never_adds(prompt: int, cached: int, output: int) -> None:
    baselines = Baselines([KNOWN])

    def seconds(cached_tokens: int, output_tokens: int) -> float:
        found = baselines.denoised(PAIR, prompt, cached_tokens, output_tokens)[1]
        assert found is not None
        return found

    assert seconds(cached, output) <= seconds(cached, output + 1)
    assert seconds(min(cached, prompt), output) <= seconds(0, output)


def test_a_snapshot_is_never_changed() -> None:
    first = Baselines([KNOWN])
    newer = Baseline(version=9, model="other", per_output_token=1.0, knots=(1,), prompt_seconds=(1.0,))
    second = first.with_([newer])
    assert (len(first), first.version, len(second), second.version) == (1, 7, 2, 9)
    assert second[PAIR] is KNOWN
    assert (len(NO_BASELINES), NO_BASELINES.version) == (0, 0)


def test_a_file_gives_the_baselines_back_and_serves_as_a_table(tmp_path: Path) -> None:
    unnamed = Baseline(model="n", per_output_token=0.5, knots=(1,), prompt_seconds=(0.5,))
    file = tmp_path / "mine.json"
    file.write_bytes(baselines_to_json([KNOWN, unnamed]))
    assert dict(load_baselines(file)) == {PAIR: KNOWN, (None, "n"): unnamed}
    tables = load_tables([file])
    assert tables.reference == "mine"
    row = tables.row("mine", "api.example/m")
    assert row is not None
    assert row.coefficients == KNOWN.coefficients
    assert tables.row("mine", "n") is not None


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "not JSON"),
        ("[]", "$.models: expected"),
        ('{"models": []}', "$.models: expected"),
        ('{"models": {"m": 3}}', "$.models['m']: no baseline"),
        ('{"models": {"m": {"runtime_per_output_token": 1}}}', "'runtime_for_prompt_tokens' is missing"),
        ('{"models": {"m": {"runtime_per_output_token": -1, "runtime_for_prompt_tokens": {"1": 1}}}}', ">= 0"),
        ('{"models": {"m": {"runtime_per_output_token": 1, "runtime_for_prompt_tokens": {}}}}', "prompt sizes"),
        ('{"models": {"m": {"runtime_per_output_token": 1, "runtime_for_prompt_tokens": {"x": 1}}}}', "no baseline"),
    ],
)
def test_a_file_that_is_none_is_refused_in_one_line(tmp_path: Path, content: str, says: str) -> None:
    file = tmp_path / "bad.json"
    file.write_text(content)
    with pytest.raises(BaselineError) as error:
        load_baselines(file)
    assert says in str(error.value)
    assert str(error.value).startswith(str(file))
    assert "\n" not in str(error.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BaselineError, match="cannot be read: No such file"):
        load_baselines(tmp_path / "none.json")


def test_helms_own_rows_are_baselines_too(tmp_path: Path) -> None:
    file = tmp_path / "helm.json"
    row = {"runtime_per_output_token": 0.1, "runtime_for_prompt_tokens": {"512": 0.2, "1": 0.1}, "overhead": 0.3}
    file.write_text(json.dumps({"models": {"m": row}}))
    baseline = load_baselines(file)[None, "m"]
    assert (baseline.knots, baseline.prompt_seconds, baseline.overhead) == ((1, 512), (0.1, 0.2), 0.3)
