"""Measuring: made-up machines of known truth are found out, tightly, and a killed measurement goes on where it was."""

import contextlib
import random
from collections import Counter
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from profiler.depths import weights
from profiler.fitting import fit
from profiler.journal import Journal, JournalError, read_journal
from profiler.machine import MachineError
from profiler.measuring import OUTPUTS, Budget, BudgetSpent, Repeated, grid, half_width, measure
from profiler.planner import Plan, Points
from profiler.runs import WHOLE, Point, Setup, read_runs
from stream.runtime import Coefficients, runtime_function
from tests.profiler.made_up import Bench, Clock, Truth, bench, setup

CONFIG = {
    "model_type": "llama",
    "num_hidden_layers": 24,
    "hidden_size": 64,
    "num_attention_heads": 8,
    "intermediate_size": 192,
    "vocab_size": 100,
}
DEPTHS = dict(zip((4, 8), weights(CONFIG, (4, 8)), strict=True))
SIZES = grid(1024)
P95 = 0.05
LEAST, MOST = 3, 12


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "runs.jsonl"


def planned(of: Bench, points: Points = SIZES) -> Plan | None:
    return measure(of.oracle, points, (), P95)


def told(plan: Plan | None) -> Any:
    """What a plan says, to be compared."""
    return plan and (plan.points, plan.seconds, plan.promised_p95, plan.known_p95)


def found(file: Path) -> Coefficients:
    return fit(read_runs(file))[0].coefficients


def errors(coefficients: Coefficients, truth: Truth) -> list[float]:
    """How far T lies from the truth, at sizes that were measured and others."""
    function = runtime_function(coefficients)
    wanted = [(prompt, output) for prompt in (1, 10, 100, 300, 700, 1024) for output in (1, 20, 100, 400)]
    return [abs(function(*point) / truth.seconds(*point, truth.layers) - 1) for point in wanted]


# --- points, tightness


def test_points_are_octaves_up_to_the_longest() -> None:
    assert np.unique(grid(1024).prompt).tolist() == [1, 4, 16, 32, 64, 128, 256, 512, 1024]
    assert np.unique(grid(700, 32).prompt).tolist() == [32, 64, 128, 256, 512, 700]
    assert np.unique(grid(1).prompt).tolist() == [1]
    assert sorted(set(grid(64).output.tolist())) == list(OUTPUTS)
    assert len(grid(64).prompt) == 5 * len(OUTPUTS)


def test_half_of_an_interval_holds_the_median_as_often_as_it_says() -> None:
    random = np.random.default_rng(0)
    for number, least in ((3, 0.79), (5, 0.83), (12, 0.87)):
        drawn = random.standard_normal((1500, number))
        held = [abs(median(each)) <= half_width(each) for each in drawn.tolist()]
        assert least <= np.mean(held) <= 0.95


def test_one_run_tells_nothing_of_its_spread() -> None:
    assert half_width([]) == half_width([1.0]) == float("inf")
    assert half_width([1.0, 1.0, 1.0]) == 0


@pytest.mark.parametrize(("noise", "expected"), [(0.0, {LEAST}), (0.2, {MOST})], ids=["calm", "wild"])
def test_a_point_runs_until_it_is_tight_and_no_more_than_so_often(file: Path, noise: float, expected: set[int]) -> None:
    of = bench(file, noise=noise, tight=0.001 if noise else 0.02)
    of.oracle.read(64, 9)
    assert set(Counter(of.kept()).values()) == expected


def test_noisier_points_run_more_often_and_end_tight(file: Path) -> None:
    numbers = []
    for noise in (0.005, 0.02, 0.05):
        of = bench(file.with_name(f"{noise}.jsonl"), noise=noise)
        for prompt in (1, 16, 64, 256):
            of.oracle.read(prompt, 9)
            number = len(of.runs.at((prompt, 9)))
            assert number == MOST or of.oracle.spread((prompt, 9)) <= 0.02
        numbers.append(len(of.kept()))
    assert numbers == sorted(numbers)
    assert numbers[0] < numbers[-1]


def test_long_runs_are_repeated_least(file: Path) -> None:
    of = bench(file, truth=Truth(beside=2.0), noise=0.2)
    of.oracle.read(1, 9)
    assert len(of.kept()) == LEAST


def test_the_answer_is_the_median(file: Path) -> None:
    of = bench(file, noise=0.1)
    assert of.oracle.read(64, 9) == median(run.seconds for run in of.runs.at((64, 9)))


# --- warm-ups, depths


def test_warm_ups_are_made_once_a_size_and_not_kept(file: Path) -> None:
    of = bench(file)
    for point in ((64, 129), (64, 1), (16, 1)):
        of.oracle.read(*point)
    assert of.kept() == [(WHOLE, (64, 129))] * 3 + [(WHOLE, (64, 1))] * 3 + [(WHOLE, (16, 1))] * 3
    assert of.made[0] == (WHOLE, (64, 4))
    assert len(of.made) - len(of.kept()) == 2


def test_depths_take_turns(file: Path) -> None:
    of = bench(file, setup(depths=DEPTHS), noise=0.02)
    of.oracle.read(64, 9)
    assert {point for _, point in of.kept()} == {(64, 9)}
    layers = [layers for layers, _ in of.kept()]
    assert layers == [4, 8] * (len(layers) // 2)


@given(
    beside=st.floats(0, 0.1),
    of_layer=st.floats(1e-5, 0.1),
    of_token=st.floats(0, 1e-3),
    prompt=st.sampled_from([1, 64]),
)
def test_what_is_linear_in_depth_is_extrapolated_exactly(
    tmp_path_factory: pytest.TempPathFactory, beside: float, of_layer: float, of_token: float, prompt: int
) -> None:
    truth = Truth(beside, of_layer, of_token)
    of = bench(tmp_path_factory.mktemp("depths") / "runs.jsonl", setup(depths=DEPTHS), truth=truth)
    assert of.oracle.read(prompt, 9) == pytest.approx(truth.seconds(prompt, 9, 24), rel=1e-6)
    samples, medians = of.runs.samples(), of.runs.medians()
    assert samples is not None
    assert medians is not None
    wanted = [truth.first(prompt, 24), truth.seconds(prompt, 9, 24)]
    assert medians.seconds == pytest.approx(wanted, rel=1e-6)
    assert samples.seconds == pytest.approx(np.repeat(wanted, len(samples.seconds) // 2), rel=1e-6)


# --- whole measurements


@pytest.mark.parametrize("depths", [{WHOLE: 1.0}, DEPTHS], ids=["whole", "depths"])
@pytest.mark.parametrize("noise", [0.0, 0.01])
def test_the_coefficients_are_those_of_the_truth(file: Path, noise: float, depths: dict[int, float]) -> None:
    truth = Truth()
    plan = planned(bench(file, setup(depths=depths), noise=noise))
    assert plan is not None
    assert plan.promised_p95 <= P95
    coefficients = found(file)
    assert coefficients.per_output_token == pytest.approx(truth.beta, rel=0.01 + noise * (1 if WHOLE in depths else 2))
    assert np.quantile(errors(coefficients, truth), 0.95) <= P95
    assert median(errors(coefficients, truth)) <= 0.02


@pytest.mark.parametrize("of_pair", [0.0, 1e-8, 4e-7])
@pytest.mark.parametrize("noise", [0.005, 0.02])
def test_what_context_costs_is_found_and_not_made_up(file: Path, noise: float, of_pair: float) -> None:
    """Nothing is known of the stack: the planner itself would decode at the shortest contexts alone."""
    truth = Truth(of_pair=of_pair)
    of = bench(file, truth=truth, noise=noise)
    assert planned(of) is not None
    assert list(dict.fromkeys(point for _, point in of.kept()))[:3] == [(1, 129), (1024, 129), (64, 129)]
    assert found(file).context * 1024 == pytest.approx(truth.gamma * 1024, abs=(0.01 + 2 * noise) * truth.beta, rel=0.2)
    assert max(errors(found(file), truth)) <= P95


def test_what_is_in_the_file_is_not_run_again(file: Path) -> None:
    first = bench(file, noise=0.02)
    before = told(planned(first))
    first.journal.close()
    again = bench(file, noise=0.02)
    assert told(planned(again)) == before
    assert again.made == []
    assert len(again.runs.at((1, 1))) == len(first.runs.at((1, 1)))


def test_another_setup_is_measured_anew_in_the_same_file(file: Path) -> None:
    first = bench(file)
    planned(first)
    other = bench(file, setup(software={"version": "2"}), journal=first.journal)
    planned(other)
    assert other.kept() == first.kept()
    assert len(other.made) >= len(first.made)
    assert len({entry["setup"] for entry in first.journal.entries}) == 2


# --- budget


def test_a_budget_is_not_passed_by_more_than_a_run_and_its_warm_up(file: Path) -> None:
    whole = bench(file.with_name("whole.jsonl"))
    planned(whole)
    took, longest = whole.clock.now - Clock.now, Truth().seconds(1024, 129, 24)
    for share in (0.1, 0.5, 0.9):
        of = bench(file.with_name(f"{share}.jsonl"), seconds=share * took)
        assert planned(of) is None
        assert of.clock.now - Clock.now <= share * took + 2 * longest
        assert of.kept() == whole.kept()[: len(of.kept())]
        assert of.kept()


def test_what_cannot_be_over_in_time_is_not_begun(file: Path) -> None:
    seconds = 2.5 * Truth().seconds(512, 129, 24)
    of = bench(file, seconds=seconds)
    with pytest.raises(BudgetSpent):
        of.oracle.read(512, 129)
    assert of.clock.now - Clock.now <= seconds
    assert len(of.kept()) == 2


def test_nothing_is_begun_with_nothing_left(file: Path) -> None:
    of = bench(file, seconds=1.0)
    of.clock.now += 2.0
    with pytest.raises(BudgetSpent):
        of.oracle.read(512, 129)
    assert of.made == []


def test_what_is_known_costs_no_budget(file: Path) -> None:
    first = bench(file)
    plan = told(planned(first))
    first.journal.close()
    assert told(planned(bench(file, seconds=1e-9))) == plan


def test_a_budget_without_end() -> None:
    budget = Budget(None, clock := Clock())
    clock.now += 1e9
    budget.check(1e9)
    assert budget.left == float("inf")


# --- faults


def test_a_machine_that_fails_is_told_and_what_it_ran_is_kept(file: Path) -> None:
    of = bench(file)
    of.machines[WHOLE].dies_after = 20
    with pytest.raises(MachineError, match="gone"):
        planned(of)
    assert 10 < len(of.kept()) < 20
    of.journal.close()
    again = bench(file)
    assert planned(again) is not None
    whole = bench(file.with_name("whole.jsonl"))
    planned(whole)
    assert again.kept() == whole.kept()


# --- killed, and gone on with


class Killed(BaseException):
    """What SIGKILL is to a process: nothing of it goes on."""


class Mortal(Journal):
    """A journal whose process is killed when it is about to write an entry, has written a part of it, or all."""

    def __init__(self, path: Path, entries: int, torn: float) -> None:
        super().__init__(path)
        self._left, self._torn = entries, torn

    def append(self, entry: Any) -> None:
        super().append(entry)
        self._left -= 1
        if self._left < 0:
            content = self.path.read_bytes()
            line = len(content) - content[:-1].rfind(b"\n") - 1
            with self.path.open("r+b") as file:
                file.truncate(len(content) - line + round(line * self._torn))
            raise Killed


def live(file: Path, of: Setup, *, noise: float, entries: int, torn: float) -> None:
    """Measure as a process does that is killed after it has written some entries."""
    journal = Mortal(file, entries, torn)
    with contextlib.suppress(Killed):
        planned(bench(file, of, noise=noise, journal=journal), SMALL)
    journal.close()


def points_of(file: Path) -> list[dict[str, Any]]:
    """The runs of a file as they were, without the times of the day."""
    runs = (entry for entry in read_journal(file) if entry["kind"] == "run")
    return [{key: value for key, value in entry.items() if key != "at"} for entry in runs]


SMALL = grid(64)


def undisturbed(folder: Path, of: Setup, noise: float) -> tuple[list[dict[str, Any]], Any]:
    whole = bench(folder / "whole.jsonl", of, noise=noise)
    plan = told(planned(whole, SMALL))
    whole.journal.close()
    return points_of(folder / "whole.jsonl"), plan


@settings(max_examples=25)
@given(
    lives=st.lists(st.tuples(st.integers(0, 30), st.floats(0, 1)), min_size=1, max_size=5),
    depths=st.sampled_from([{WHOLE: 1.0}, DEPTHS]),
    noise=st.sampled_from([0.0, 0.02]),
)
def test_killed_at_any_moments_the_file_is_the_same_in_the_end(
    tmp_path_factory: pytest.TempPathFactory, lives: list[tuple[int, float]], depths: dict[int, float], noise: float
) -> None:
    folder, of = tmp_path_factory.mktemp("killed"), setup(depths=depths)
    file = folder / "runs.jsonl"
    before: list[dict[str, Any]] = []
    for entries, torn in lives:
        live(file, of, noise=noise, entries=entries, torn=torn)
        found = points_of(file)
        assert found[: len(before)] == before, "what was there is there"
        before = found
    last = bench(file, of, noise=noise)
    plan = told(planned(last, SMALL))
    last.journal.close()
    assert (points_of(file), plan) == undisturbed(folder, of, noise)


def test_a_full_disk_ends_it_with_one_line_and_it_goes_on(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    of, written = bench(file), Journal.append

    def full(journal: Journal, entry: Any) -> None:
        if len(journal.entries) == 9:
            raise JournalError(f"{journal.path}: cannot be written: No space left on device")
        written(journal, entry)

    with monkeypatch.context() as patched:
        patched.setattr(Journal, "append", full)
        with pytest.raises(JournalError, match="No space left"):
            planned(of, SMALL)
    of.journal.close()
    again = bench(file)
    plan = told(planned(again, SMALL))
    again.journal.close()
    assert (points_of(file), plan) == undisturbed(file.parent, setup(), 0.0)


def test_the_planner_asks_the_same_after_a_resume(file: Path) -> None:
    """Also where what was asked is in the file in another order, or more is there than it asks for."""
    asked: list[Point] = []

    class Listening(Repeated):
        def read(self, prompt_tokens: int, output_tokens: int) -> float:
            asked.append((prompt_tokens, output_tokens))
            return super().read(prompt_tokens, output_tokens)

    first = bench(file, noise=0.02)
    first.oracle.read(16, 33)
    first.oracle.read(1, 9)
    for _ in range(2):
        oracle = Listening(first.runs, first.machines.__getitem__, 0.02, Budget())
        assert measure(oracle, SMALL, (), P95) is not None
    half = len(asked) // 2
    assert asked[:half] == asked[half:]
    assert len(set(asked[:half])) == half


def test_luck_is_repeatable() -> None:
    """The law above would say little if it were not."""
    assert random.Random("a").random() == random.Random("a").random()
