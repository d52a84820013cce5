"""The published method gives the published numbers, all decimals, and says so where it cannot give any."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler.paper import paper_coefficients, paper_intervals
from profiler.samples import Measured, SamplesError, read_samples
from stream.coefficients import load_tables

ROOT = Path(__file__).parents[2]
MEASURED = read_samples(ROOT / "profiler/samples/measured-runtimes.csv")
SHIPPED = load_tables()
PUBLISHED = [
    (each, row.coefficients)
    for each in MEASURED
    if (row := SHIPPED.stacks[f"{each.hardware}-megatron"].rows.get(each.model)) is not None
]
OUTPUTS = (1, 2, 4, 8, 12, 16, 24, 32, 48, 64)


def measured(runs: list[tuple[int, int, float]], **more: object) -> Measured:
    prompt, output, seconds = (np.array(column) for column in zip(*runs, strict=True))
    made = Measured("a100", "m", 1, prompt, output, seconds.astype(float), np.ones_like(prompt))
    return replace(made, **more)  # type: ignore[arg-type]


def test_all_published_models_are_there() -> None:
    assert len(MEASURED) == 16
    assert len(PUBLISHED) == 15  # no table of openai/ada on V100 was published


@pytest.mark.parametrize(("each", "published"), PUBLISHED, ids=[each.name for each, _ in PUBLISHED])
def test_the_published_tables_come_out(each: Measured, published: object) -> None:
    found = paper_coefficients(each)
    assert found == published
    assert repr(found) == repr(published)  # as written: 0.123, not 0.12300000000000001
    intervals = paper_intervals(found, each)
    assert intervals.pop("level") == 0.8
    assert list(intervals) == ["runtime_per_output_token", "runtime_for_prompt_tokens", "runtime"]
    for low, high in intervals.values():  # type: ignore[misc]
        assert 0.5 < low <= 1 <= high < 2


@given(
    st.integers(1, 900),
    st.integers(1, 90),
    st.lists(st.integers(1, 5000), min_size=1, max_size=5, unique=True),
    st.sampled_from([1.0, 3.0, 2.5]),
)
def test_exact_runtimes_give_their_coefficients(first: int, further: int, prompts: list[int], scale: float) -> None:
    growth = {prompt: first + index for index, prompt in enumerate(sorted(prompts))}
    runs = [(p, o, (f + (o - 1) * further) / 1000 / scale) for p, f in growth.items() for o in OUTPUTS]
    found = paper_coefficients(measured(runs, scale=scale))
    assert dict(zip(found.knots, found.prompt_seconds, strict=True)) == {p: f / 1000 for p, f in growth.items()}
    assert found.per_output_token == further / 1000


def test_no_prompt_is_faster_than_the_smallest() -> None:
    runs = [(p, o, f + 0.04 * o) for p, f in ((1, 0.06), (16, 0.05), (64, 0.07)) for o in OUTPUTS]
    assert paper_coefficients(measured(runs)).prompt_seconds == (0.1, 0.1, 0.11)


def test_a_point_measured_twice_counts_twice() -> None:
    once = [(1, 1, 0.1), (1, 2, 0.2), (1, 3, 0.6)]
    assert paper_coefficients(measured(once)).per_output_token == 0.25
    assert paper_coefficients(measured([*once, once[-1]])).per_output_token == 0.264


def test_other_batches_do_not_count() -> None:
    runs = [(1, o, 0.1 * o) for o in (1, 2, 3)]
    mixed = measured([*runs, (1, 3, 9.0)], batch=np.array([1, 1, 1, 8]))
    assert paper_coefficients(mixed) == paper_coefficients(measured(runs))


def test_intervals_leave_out_what_nothing_was_measured_of() -> None:
    later = measured([(1, o, 0.1 * o) for o in (2, 3)])
    assert list(paper_intervals(paper_coefficients(later), later)) == ["level", "runtime_per_output_token", "runtime"]
    flat = measured([(1, o, 0.1) for o in (1, 2)])
    assert list(paper_intervals(paper_coefficients(flat), flat)) == ["level", "runtime_for_prompt_tokens", "runtime"]


FAULTS = [
    (measured([(1, 1, 0.1), (2, 1, 0.2)]), "every run gave 1 output tokens: the method paper needs at least two"),
    (measured([(1, 1, 0.1)], batch=np.array([2])), "no runs of batch size 1"),
    (measured([(1, 1, 0.5), (1, 2, 0.1)]), "the method paper finds a negative time"),
    (measured([(1, 8, 0.1), (1, 9, 5.0)]), "the method paper finds a negative time"),
]


@pytest.mark.parametrize(("samples", "said"), FAULTS, ids=["one length", "no batch 1", "beta", "F"])
def test_what_cannot_be_fitted_is_one_clear_line(samples: Measured, said: str) -> None:
    with pytest.raises(SamplesError, match=said) as caught:
        paper_coefficients(samples)
    assert str(caught.value).startswith("m on a100, tensor parallel 1: ")
