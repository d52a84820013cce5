"""Efficiency against capability: fronts by each measure, how they change, and the paper's ranks."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler.document import Section, Table, Text
from profiler.plot import Figure, Folded
from profiler.report import capability
from profiler.report.capability import MEASURES, PAPER_SCENARIOS, averaged, front, ranks, scored
from profiler.report.inputs import Inputs
from profiler.report.scenarios import costed, read_scenarios
from stream.coefficients import DEFAULT_STACK, Tables, load_tables

TABLES = load_tables()
PAPER = scored(costed(TABLES, DEFAULT_STACK, read_scenarios(PAPER_SCENARIOS)))
HEAD = "model,scenario,prompt_tokens,output_tokens,capability,raw_seconds\n"


@pytest.fixture(scope="module")
def section() -> Section:
    return capability.section(Inputs(TABLES))


def own(folder: Path, text: str, tables: Tables = TABLES) -> Section:
    path = folder / "mine.csv"
    path.write_text(HEAD + text, encoding="utf-8")
    return capability.section(Inputs(tables, scenarios=path))


def words(section: Section) -> str:
    return "\n".join(part.text for part in section.parts if isinstance(part, Text))


def titles(section: Section) -> list[str]:
    return [part.title for part in section.parts if isinstance(part, Figure)]


def names(scenario: str, measure: str) -> list[str]:
    return [each.model.rsplit("/", 1)[-1] for each in front(PAPER[scenario], measure)]


@pytest.mark.parametrize(
    ("scenario", "raw", "denoised", "idealized"),
    [
        (
            "boolq",
            ["davinci", "stanford-online-all-v4-s3"],
            ["davinci", "stanford-online-all-v4-s3"],
            ["j1-large", "j1-grande", "stanford-online-all-v4-s3"],
        ),
        ("imdb", ["davinci", "j1-large"], ["davinci", "j1-large"], ["j1-large"]),
        (
            "mmlu:subject=college_chemistry",
            ["davinci", "j1-large", "stanford-online-all-v4-s3"],
            ["yalm", "davinci", "j1-large", "stanford-online-all-v4-s3"],
            ["gpt-j-6b", "j1-large", "stanford-online-all-v4-s3"],
        ),
        (
            "raft:subset=terms_of_service",
            ["j1-large", "davinci", "j1-jumbo", "j1-grande", "gpt-j-6b"],
            ["davinci", "j1-grande", "gpt-j-6b"],
            ["j1-large", "j1-grande", "gpt-j-6b"],
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_fronts_are_those_that_the_paper_draws(
    scenario: str, raw: list[str], denoised: list[str], idealized: list[str]
) -> None:
    """Its figures mark the models on the front with squares; by idealized dollars they are the same as by runtime."""
    assert names(scenario, "raw") == raw
    assert names(scenario, "denoised") == denoised
    assert names(scenario, "idealized") == idealized
    assert names(scenario, "dollars") == idealized


def test_the_fastest_api_is_not_the_fastest_model() -> None:
    """davinci is on every front of raw runtimes, and on none of idealized ones: what the paper found."""
    assert all("davinci" in names(scenario, "raw") for scenario in PAPER)
    assert not any("davinci" in names(scenario, "idealized") for scenario in PAPER)


def test_ranks_are_those_that_the_authors_print() -> None:
    found = ranks(PAPER, lambda accuracy, seconds: accuracy / seconds)
    order = {model.rsplit("/", 1)[-1]: [min(own) - 1, max(own) - 1] for model, own in found.items()}
    assert order == {
        "gpt-j-6b": [1, 2],
        "j1-large": [0, 5],
        "j1-grande": [0, 3],
        "stanford-online-all-v4-s3": [2, 4],
        "xlarge-20220609": [1, 4],
        "j1-jumbo": [3, 6],
        "davinci": [5, 6],
        "bloom": [7, 8],
        "TNLGv2_530B": [7, 9],
        "yalm": [8, 9],
    }
    means = {model.rsplit("/", 1)[-1]: sum(own) / len(own) - 1 for model, own in found.items()}
    assert (means["j1-large"], means["j1-grande"], means["davinci"], means["yalm"]) == (1.25, 2.0, 5.75, 8.75)


def test_dollars_are_of_the_accelerators_that_the_paper_gives_each() -> None:
    values = {each.model: each.values for each in PAPER["boolq"]}
    seconds, dollars = (values["openai/davinci"][name] for name in ("idealized", "dollars"))
    assert seconds is not None
    assert dollars == pytest.approx(seconds * 8 * 4.096 / 3.6), "for 1,000 requests"
    seconds, dollars = (values["microsoft/TNLGv2_530B"][name] for name in ("idealized", "dollars"))
    assert seconds is not None
    assert dollars == pytest.approx(seconds * 24 * 4.096 / 3.6)


def test_the_mean_is_over_scenarios_that_all_its_models_have() -> None:
    mean, common = averaged(PAPER)
    assert len(mean) == 10
    assert set(common) == set(PAPER)
    davinci = next(each for each in mean if each.model == "openai/davinci")
    told = [each.capability for points in PAPER.values() for each in points if each.model == "openai/davinci"]
    assert davinci.capability == pytest.approx(sum(told) / 4)
    turing = next(each for each in mean if each.model == "microsoft/TNLGv2_530B")
    assert turing.values["denoised"] is None  # it is nowhere published


def test_what_ships_is_shown(section: Section) -> None:
    text = words(section)
    assert "On 4 of 4 of the paper's scenarios the front of idealized runtimes is not that of raw runtimes." in text
    assert "openai/davinci 4" in text
    measures = ("raw", "idealized")
    assert titles(section) == [f"Capability and {name}: mean of {n} scenarios" for n in (4, 43) for name in measures]
    folded = {figure.title for part in section.parts if isinstance(part, Folded) for figure in part.figures}
    assert {"Capability and raw: boolq", "Capability and idealized: boolq"} <= folded
    assert {"Capability and runtime: mean of 4 scenarios", "Capability and joules: mean of 43 scenarios"} <= folded
    finding = "by idealized as by raw runtime on 4 of 4 of the paper's scenarios (openai/davinci is on 4 raw fronts by"
    assert finding in section.finding
    heads = [part.head[0] for part in section.parts if isinstance(part, Table)]
    assert heads == [
        "mean of 4 scenarios",
        "scenario",
        "model",
        "mean of 43 scenarios",
        "on the front of so many scenarios",
    ]


def test_scenarios_of_ones_own_take_their_place(tmp_path: Path) -> None:
    text = "llama-3.1-8b,a,100,20,0.5,1\nllama-3.1-70b,a,100,20,0.7,0.2\nqwen3-8b,a,120,20,0.4,2\nmine,a,1,1,0.9,2\n"
    made = own(tmp_path, text)
    said = words(made)
    assert "On 1 of 1 of one's own scenarios, on h100-predicted, the front" in said
    assert "On the idealized front only: llama-3.1-8b 1." in said
    assert "Idealized seconds are T of 3 rows, unknown (mine) of 1 rows." in said
    assert "on 1 of 1 of one's own scenarios, on h100-predicted." in made.finding
    points = [each for part in made.parts if isinstance(part, Figure) for each in part.series if each.points]
    assert {each.label for each in points} == {"mine", "llama-3.1-70b", "llama-3.1-8b", "qwen3-8b"}
    assert all(each.beside for each in points)
    table = next(part for part in made.parts if isinstance(part, Table))
    rows = {row[0]: dict(zip(table.head, row, strict=True)) for row in table.rows}
    assert list(rows) == ["mine", "llama-3.1-70b", "llama-3.1-8b", "qwen3-8b"]
    assert rows["llama-3.1-8b"]["idealized"].endswith(" *")
    assert not rows["llama-3.1-8b"]["raw"].endswith(" *")
    assert rows["mine"]["idealized"] == "-"


def test_a_table_of_ones_own_is_taken_before_a_shipped_one(tmp_path: Path) -> None:
    table = tmp_path / "mine.json"
    row = '{"runtime_per_output_token": 0.01, "runtime_for_prompt_tokens": {"64": 0.1}, "accelerators": 1}'
    table.write_text(f'{{"format": 1, "stacks": {{"mine": {{"models": {{"llama-3.1-8b": {row}}}}}}}}}')
    shipped = Path(capability.__file__).parents[2] / "stream" / "tables"
    files = [shipped / f"{name}.json" for name in (DEFAULT_STACK, "h100-predicted")]
    tables = load_tables([*files, table], stack=DEFAULT_STACK)
    assert "scenarios, on mine," in words(own(tmp_path, "llama-3.1-8b,a,100,20,0.5,1\n", tables))


def test_without_raw_runtimes_there_is_no_front_to_compare(tmp_path: Path) -> None:
    made = own(tmp_path, "llama-3.1-8b,a,100,20,0.5,\nllama-3.1-70b,a,100,20,0.7,\n")
    assert "none has two models whose raw and idealized runtimes are both known" in words(made)
    assert made.finding.endswith("no fronts to compare.")
    assert titles(made) == ["Capability and idealized: a"]


points = st.lists(st.tuples(st.floats(0, 1), st.floats(0.001, 100)), min_size=1, max_size=12)


@given(points)
def test_no_model_beats_one_on_the_front(found: list[tuple[float, float]]) -> None:
    values = {measure.name: None for measure in MEASURES}
    known = [
        capability.Point(str(place), accuracy, values | {"raw": seconds})
        for place, (accuracy, seconds) in enumerate(found)
    ]
    best = front(known, "raw")
    assert best
    costs = [each.values["raw"] or 0 for each in best]
    assert costs == sorted(costs)
    for one in best:
        for other in known:
            cheaper = (other.values["raw"] or 0) < (one.values["raw"] or 0) * (1 - 1e-6)
            assert not (cheaper and other.capability > one.capability + 1e-6)
