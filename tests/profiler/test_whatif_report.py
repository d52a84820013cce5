"""`profiler whatif`: what it says, that names stay text, that a real Chromium draws it, and wrong input."""

import io
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from msgspec.structs import replace

from profiler.cli import main
from profiler.whatif_report import html_report, markdown_report
from stream.coefficients import load_tables
from stream.events import RequestEvent
from stream.prices import Bill
from stream.recording import Recording
from stream.whatif import Question, what_if
from stream.whatif_answer import Amount, Answered, Billed, WhatIf, encode_what_if
from tests.chromium import FOUND, Chromium
from tests.harness import run

START = datetime(2026, 1, 31, 12, tzinfo=UTC)
TABLES = load_tables(stack="h100-predicted")
HOSTILE = "<b>|`*\n[x](y)\u202e_\\|&lt;"


def answer(*, model: str = "gpt-4o", timed: bool = True, growth: float | None = 0.1) -> WhatIf:
    recording = Recording(lambda event: Bill(0.01, "gpt-4o", None))
    for place in range(300):
        moment = START + timedelta(seconds=place) if timed else None
        recording.add(
            RequestEvent(model=model, started_at=moment, prompt_tokens=900, completion_tokens=1 + place % 200)
        )
    recording.add(RequestEvent(model=model, status=500))
    return what_if(TABLES, Question("llama-3.1-70b", growth=growth), recording)


def cells(markdown: str, name: str) -> list[str]:
    line = next(line for line in markdown.splitlines() if line.startswith(f"| {name} |"))
    return [cell.strip() for cell in line.strip("|").split("|")][1:]


def test_markdown_says_what_the_answer_says() -> None:
    found = answer()
    text = markdown_report(found)
    assert text.startswith("# What if llama-3.1-70b had answered?\n\n300 recorded requests, 270,000 prompt and ")
    assert "from 2026-01-31 12:00 to 2026-01-31 12:04 UTC (4.98 minutes), for gpt-4o (300)." in text
    assert "They were billed $3." in text
    sides: list[Answered] = [each for each in (found.dedicated, found.served) if each]
    fleets = [each.fleet for each in sides if each.fleet]
    assert cells(text, "accelerators") == [f"{each.accelerators:,}" for each in fleets]
    assert cells(text, "utilisation") == [f"{each.utilisation:.0%}" for each in fleets]
    for side, shown in zip(sides, cells(text, "dollars of work"), strict=True):
        amount = side.work.dollars
        assert amount is not None
        numbers = [float(each.replace(",", "")) for each in re.findall(r"[\d.,]*\d", shown)]
        assert numbers == pytest.approx([amount.value, amount.low, amount.high], rel=0.006)
    assert [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("| month")][:4] == [
        "month 3",
        "month 6",
        "month 9",
        "month 12",
    ]
    assert "Left out: status\\_500 1." in text
    assert all(note in text for note in found.notes)
    assert all(each.source.replace("_", r"\_") in text for each in found.assumptions)


def test_what_is_not_known_is_left_out() -> None:
    text = markdown_report(answer(timed=False))
    assert "wait at most" not in text
    assert "| accelerators |" not in text
    assert "the work itself costs $" in text
    assert "a month" not in text
    assert "No request says when it started" in text
    assert "requests a month" not in markdown_report(answer(growth=None))
    some = replace(answer(), billed=Billed(200, 2.0, {"unknown_price": 100}))
    assert "They were billed $2, of 200 requests whose price is known." in markdown_report(some)
    none = replace(some, billed=Billed(0, None, {"unknown_price": 300}))
    assert "billed" not in markdown_report(none)


def test_no_board_is_said_to_draw_more_than_it_can() -> None:
    watts = [each for each in answer().assumptions if each.what.startswith("watts per accelerator, ")]
    assert len(watts) == 4
    assert all(each.low < each.value <= each.high <= 700 for each in watts)


def test_one_request_came_at_a_moment() -> None:
    recording = Recording(lambda event: Bill(0.01, "gpt-4o", None))
    recording.add(RequestEvent(model="gpt-4o", started_at=START, prompt_tokens=900, completion_tokens=9))
    text = markdown_report(what_if(TABLES, Question("llama-3.1-70b", growth=0.1), recording))
    told = "1 recorded request, 900 prompt and 9 output tokens, at 2026-01-31 12:00 UTC, for gpt-4o (1)."
    assert told in text
    assert "- Growth has no rate to start from: requests must have come at two moments at least.\n" in text


def test_both_forms_hold_the_same_words_and_tables() -> None:
    found = answer()
    page, text = html_report(found), markdown_report(found)
    for name in ("accelerators", "energy, kWh", "rent for the recording&#x27;s time"):
        assert f"<td>{name}</td>" in page
    assert page.index("wait at most") < page.index("<main>") < page.index("What it stands on")
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    assert page.count("<tr>") == sum("---:" not in line for line in lines)


def test_names_are_text_and_nothing_else() -> None:
    found = answer(model=HOSTILE)
    page, text = html_report(found), markdown_report(found)
    assert "<b>" not in page
    assert "&lt;b&gt;|`*\ufffd[x](y)\ufffd_\\|&amp;lt; (300)" in page
    assert r"&lt;b>\|\`\*" in text
    assert r"\[x](y)" in text
    assert r"\_\\\|&amp;lt; (300)" in text
    assert "\u202e" not in page + text


def test_the_page_needs_nothing_else() -> None:
    page = html_report(answer())
    assert not re.search(r'(src|href)="(?!data:)', page)
    assert "{{" not in page


def test_chromium_shows_tables_and_plots(tmp_path: Path) -> None:
    if FOUND is None:
        pytest.skip("chromium is not installed: apt-get install chromium")
    (tmp_path / "w.html").write_text(html_report(answer()), encoding="utf-8")

    async def scenario(browser: Chromium) -> None:
        async with browser.page((tmp_path / "w.html").as_uri(), width=1200) as shown:
            await shown.wait("document.documentElement.dataset.drawn === '2'")
            assert await shown.text("h1") == "What if llama-3.1-70b had answered?"
            assert await shown.run("document.querySelectorAll('.report table').length") == 4
            await shown.size(360)
            await shown.wait("document.documentElement.scrollWidth <= 360")
            assert shown.problems == []
            assert len(shown.loaded) == 1

    with Chromium() as browser:
        run(scenario(browser))


def test_the_command_writes_what_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = answer()
    file, page, text = (tmp_path / name for name in ("w.json", "w.html", "w.md"))
    file.write_bytes(encode_what_if(found))
    assert main(["whatif", str(file)]) == 0
    assert capsys.readouterr().out == markdown_report(found)
    assert main(["whatif", str(file), "--html", str(page), "--markdown", str(text)]) == 0
    assert capsys.readouterr().out == ""
    assert page.read_text(encoding="utf-8") == html_report(found)
    assert text.read_text(encoding="utf-8") == markdown_report(found)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(file.read_bytes())))
    assert main(["whatif", "-"]) == 0
    assert capsys.readouterr().out == markdown_report(found)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "w.json: No such file or directory"),
        ("", "w.json: expected what `stream whatif` prints: "),
        ('{"model": "gpt-4o", "prompt_tokens": 1}', "w.json: expected what `stream whatif` prints: "),
    ],
    ids=["none", "empty", "an event"],
)
def test_what_is_no_answer_is_one_clear_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], content: str | None, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    if content is not None:
        Path("w.json").write_text(content)
    assert main(["whatif", "w.json"]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith(f"profiler whatif: {said}")
    assert told.err.count("\n") == 1


def test_amounts_have_three_digits() -> None:
    from profiler.whatif_report import _band

    assert [_band(Amount(value, value, value)) for value in (0.0, 0.00001, 1.2345, 123.4, 98765.0)] == [
        "0",
        "1.00e-05",
        "1.23",
        "123",
        "98,800",
    ]
    assert _band(Amount(2.0, 1.0, 4.0), "$") == "$2 (1 to 4)"
    assert _band(None) == "-"
