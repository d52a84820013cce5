"""The report on APIs: raw against idealized runtimes, what raw is made of, and how noisy it is."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from profiler.cli import main
from profiler.document import Points, Section, Table, Text
from profiler.plot import Figure
from profiler.report import apis, noise
from profiler.report.inputs import Inputs
from profiler.report.recorded import Runtimes, by_model, runtimes_of
from profiler.report.scenarios import costed, read_scenarios
from stream.coefficients import DEFAULT_STACK, load_tables
from stream.enrich import enrich
from stream.events import EnrichedEvent, RequestEvent, encode_enriched, encode_event

TABLES = load_tables()


@pytest.fixture(scope="module")
def section() -> Section:
    return apis.section(Inputs(TABLES))


def figure(section: Section, title: str) -> Figure:
    return next(part for part in section.parts if isinstance(part, Figure) and part.title == title)


def table(section: Section, column: str) -> dict[str, list[str]]:
    found = next(part for part in section.parts if isinstance(part, Table) and column in part.head)
    return {row[0]: list(row[1:]) for row in found.rows}


def words(section: Section) -> str:
    return "\n".join(part.text for part in section.parts if isinstance(part, Text))


def event(raw: float, model: str = "davinci", status: int = 200) -> RequestEvent:
    return RequestEvent(
        model=model,
        started_at=datetime(2026, 1, 1, tzinfo=UTC),
        status=status,
        prompt_tokens=512,
        completion_tokens=16,
        raw_runtime_seconds=raw,
        duration_seconds=raw,
    )


def test_so_many_scenarios_were_faster_than_ideal(section: Section) -> None:
    found = apis.published_pairs(read_scenarios(apis.API_SCENARIOS))
    assert (len(found), sum(each.faster for each in found)) == (1048, 220)
    assert "Of 1,048 scenarios that carry both runtimes, 220 (21%) were answered faster" in words(section)
    scatter = figure(section, "Idealized against raw runtime")
    assert [(each.label, len(each.y)) for each in scatter.series] == [
        ("slower than ideal (828)", 828),
        ("faster than ideal (220)", 220),
        ("y = x", 2),
    ]
    slower, faster, line = scatter.series
    assert slower.x is not None
    assert faster.x is not None
    assert all(ideal is not None and raw >= ideal for raw, ideal in zip(slower.x, slower.y, strict=True))
    assert all(ideal is not None and raw < ideal for raw, ideal in zip(faster.x, faster.y, strict=True))
    assert line.x == line.y


def test_models_are_told_apart(section: Section) -> None:
    lines = table(section, "faster than ideal")
    assert sum(int(line[0]) for line in lines.values()) == 1048
    assert sum(int(line[1].split(" ")[0]) for line in lines.values()) == 220
    assert lines["openai/text-davinci-001"][:3] == ["140", "99 (71%)", "0.65"]
    assert lines["anthropic/stanford-online-helpful-v4-s3"][1] == "0 (0%)"


def test_the_distribution_rises_to_all(section: Section) -> None:
    for curve in figure(section, "How far raw is from idealized").series:
        assert curve.x is not None
        assert list(curve.x) == sorted(curve.x)
        assert curve.y[-1] == 1


def test_raw_is_the_model_and_the_stack_and_contention(section: Section) -> None:
    lines = table(section, "contention factor")
    assert set(lines) == {"openai/davinci", "openai/curie", "ai21/j1-large", "ai21/j1-grande", "ai21/j1-jumbo"}
    for line in lines.values():
        assert sum(int(part.rstrip("%")) for part in line[2:5]) == pytest.approx(100, abs=2)
    known = costed(TABLES, DEFAULT_STACK, read_scenarios(apis.API_SCENARIOS))
    mine = apis.parts_of(known)["openai/davinci"]
    raw, denoised = (sum(getattr(each, name) or 0 for each in mine) for name in ("raw_seconds", "denoised_seconds"))
    assert lines["openai/davinci"][6] == f"{raw / denoised:.2f}"


def test_our_t_stands_beside_the_files(section: Section) -> None:
    lines = table(section, "file / T, median")
    assert lines["openai/curie"][-1] == "openai/curie (proxy of ai21/j1-large)"
    assert all(0.9 < float(line[1]) < 1.1 for line in lines.values())
    assert "1.025 times T" in words(section)


def test_recorded_events_are_compared_too(tmp_path: Path) -> None:
    slow, fast, failed = event(2.0), event(0.05), event(2.0, status=500)
    known = enrich(event(3.0), TABLES)
    path = tmp_path / "events.jsonl"
    lines = [encode_event(slow), encode_event(fast), encode_event(failed), encode_enriched(known), b""]
    path.write_bytes(b"\n".join([*lines, encode_event(event(1.0, "nobody's"))]))
    made = apis.section(Inputs(TABLES, events=path))
    assert "Of 3 requests that carry both runtimes, 1 (33%) were answered faster" in words(made)
    assert table(made, "faster than ideal")["davinci"][:2] == ["3", "1 (33%)"]


def test_events_without_runtimes_are_said_to_be_none(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(encode_event(event(1.0, "nobody's")))
    assert "There are no requests whose raw and idealized runtimes are both known." in words(
        apis.section(Inputs(TABLES, events=path))
    )


def test_denoised_runtimes_of_events_make_parts() -> None:
    known = enrich(event(3.0), TABLES)
    values = {name: getattr(known, name) for name in known.__struct_fields__} | {"denoised_runtime_seconds": 1.5}
    [found] = runtimes_of([EnrichedEvent(**values)], TABLES)
    assert (found.raw_seconds, found.denoised_seconds, found.faster) == (3.0, 1.5, False)


def test_models_come_by_how_often_they_do() -> None:
    found = by_model([Runtimes("b", 1, 2), Runtimes("a", 1, 2), Runtimes("c", 1, 2), Runtimes("c", 4, 2)])
    assert list(found) == ["c", "a", "b"]
    assert [each.ratio for each in found["c"]] == [0.5, 2]


def test_many_points_are_thinned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apis, "_DRAWN", 100)
    made = apis.section(Inputs(TABLES))
    scatter = figure(made, "Idealized against raw runtime")
    assert scatter.note.startswith("Points: 1,048 scenarios, of which some are drawn.")
    assert max(len(each.y) for each in scatter.series) <= 100


def test_an_unreadable_event_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(encode_event(event(1.0)) + b"\n{\n")
    assert main(["report", "--only", "apis", "--events", str(path), "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.startswith(f"profiler report: {path}: line 2: ")


def test_the_timings_that_ship() -> None:
    timings = noise.read_timings()
    assert len(timings) == 215
    assert len({each.request for each in timings}) == 84
    assert {each.day for each in timings} == {"2022-07-10", "2022-07-11", "2022-07-19"}
    assert len(noise.read_variations()) == 175


def test_days_are_held_against_each_other() -> None:
    made = noise.section(Inputs(TABLES))
    assert words(made).startswith("Of 69 requests that were made on several of 3 days")
    assert set(table(made, "lowest / denoised T")) == {"ai21/j1-large", "ai21/j1-grande", "ai21/j1-jumbo"}
    assert table(made, "median")["2022-07-11 over 2022-07-10"][0] == "62"
    # As the authors print it for their ten runs of J1-Large with one prompt token.
    assert table(made, "prompt 1,536")["ai21/j1-large"][0] == "0.13"
    titles = [part.title for part in made.parts if isinstance(part, Figure)]
    assert "ai21/j1-jumbo: runtime by output tokens" in titles
    assert not any(isinstance(part, Points) for part in made.parts)
