"""`profiler report`: what it writes of the data that ship and of one's own, that it is always the same, and wrong input."""

import json
import re
import socket
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

import pytest

from profiler.cli import main
from profiler.report.sections import SECTIONS
from profiler.report.words import band, listed, number, percent, seconds, spread
from tests.chromium import FOUND, Chromium
from tests.harness import run

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PUBLISHED = ROOT / "profiler" / "samples" / "measured-runtimes.csv"
OPTIONAL = {"whatif"}  # sections that need a file of one's own


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of what ships, in a fresh directory, without a network."""
    folder = tmp_path_factory.mktemp("report") / "new" / "report"

    def refused(*_: object) -> None:
        raise AssertionError("no network")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", refused)
        assert main(["report", "--out", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def text(whole: Path) -> str:
    return (whole / "report.md").read_text(encoding="utf-8")


def tables(text: str) -> Iterator[list[dict[str, str]]]:
    """The tables of a Markdown file, a dict a row."""
    for block in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        head, _, *rows = ([cell.strip() for cell in line[1:-1].split(" | ")] for line in block.splitlines())
        yield [dict(zip(head, row, strict=True)) for row in rows]


def section(text: str, title: str) -> str:
    return text[text.index(f"\n## {title}\n") :].split("\n## ", 2)[1]


def row(text: str, title: str, model: str, *columns: str) -> dict[str, str]:
    found = (each for table in tables(section(text, title)) for each in table if set(columns) <= set(each))
    return next(each for each in found if next(iter(each.values())) == model)


def test_every_section_is_there(whole: Path, text: str) -> None:
    page = (whole / "report.html").read_text(encoding="utf-8")
    ids = re.findall(r'<h2 id="([\w-]+)">', page)
    assert ids == [name for name in SECTIONS if name not in OPTIONAL]
    assert len(re.findall(r"^## ", text, re.MULTILINE)) == 1 + len(ids)


def test_it_begins_with_what_each_section_finds(whole: Path, text: str) -> None:
    page = (whole / "report.html").read_text(encoding="utf-8")
    ids = re.findall(r'<h2 id="([\w-]+)">', page)
    assert re.findall(r'<li><a href="#([\w-]+)">[^<]+</a>: [^<]+\.</li>', page) == ids
    first = text.split("\n## ")[1]
    links = re.findall(r"^- \[(.+?)\]\(#([a-z0-9-]+)\): .+\.$", first, re.MULTILINE)
    titles = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert ["What it says", *(title for title, _ in links)] == titles
    assert links[0] == ("The paper's ten models, ranked", "the-papers-ten-models-ranked")
    for said in (
        "together/gpt-j-6b (1.37 s) is the fastest of 10 and microsoft/TNLGv2\\_530B (8.24 s) the slowest",
        "220 (21%) were answered faster than the model alone",
        "on 4 of 4 of the paper's scenarios",
        "73 of 82 of HELM's scenarios",
        "for 57x less money",
        "v100-megatron takes 1.24 times as long as a100-megatron in the median",
        "a100: of 2,160 runs of 8 models half lie within 0.1% of the fit",
        "a100: a model that was never run is off by 2.0% in the median, by 6.0% at worst",
    ):
        assert said in first, said


def test_the_markdown_shows_every_picture_there_is(whole: Path, text: str) -> None:
    shown = re.findall(r"!\[.*?\]\((pictures/[a-z0-9-]+\.svg)\)", text)
    assert sorted(shown) == sorted(f"pictures/{path.name}" for path in (whole / "pictures").iterdir())
    assert 30 < len(set(shown)) == len(shown) <= 40
    for name in shown:
        ET.parse(whole / name)
    page = (whole / "report.html").read_text(encoding="utf-8")
    held = re.search(r'<script type="application/json" id="figures">(.*?)</script>', page, re.DOTALL)
    assert held
    folded = sum(int(count) for count in re.findall(r"^In the page alone: .+ \((\d+)\)\.$", text, re.MULTILINE))
    assert len(json.loads(held[1])) == len(shown) + folded


def test_nothing_is_fetched(whole: Path, text: str) -> None:
    page = (whole / "report.html").read_text(encoding="utf-8")
    assert not re.search(r'(src|href)="(?!data:|#)', page)
    assert "default-src 'none'" in page
    assert "http" not in text


def test_it_says_what_was_measured(text: str) -> None:
    fits = "Fits and their residuals"
    assert "\n\nOf 2,160 runs of 8 models half lie within" in text
    davinci = row(text, fits, "openai/davinci", "R²")
    assert davinci["runs"] == "270"
    assert float(davinci["R²"]) > 0.999
    assert float(davinci["beta, ms"]) == pytest.approx(81, abs=0.5)
    assert "Of 890 runs of 8 models" in text


def test_it_says_how_far_off_it_is(text: str) -> None:
    found = section(text, "Where nothing was measured")
    assert "a model's runtimes are off by 2.0% for the median model and 6.0% for the worst" in found
    assert "a model's runtimes are off by 3.3% for the median model and 8.0% for the worst" in found
    ours, lines, helm = next(table for table in tables(found) if "how F is found between prompt sizes" in table[0])
    errors = [float(each["mean error"].rstrip("%")) for each in (ours, lines, helm)]
    assert errors == sorted(errors)
    assert errors[0] < 2.5
    assert next(iter(lines.values())).startswith("published coefficients, ")
    assert "chosen with these models in view, from some sixty variants" in found


def test_the_ten_are_ranked_as_they_are_compared(text: str) -> None:
    found = section(text, "The paper's ten models, ranked")
    [ranks] = [table for table in tables(found) if len(table) == 10]
    assert [each["model"].replace("\\", "") for each in ranks][::9] == ["together/gpt-j-6b", "microsoft/TNLGv2_530B"]
    davinci = next(line for line in found.splitlines() if line.startswith("| openai/davinci "))
    # 0.178 + 63 * 0.081 s on 8 A100s at $4.096; 0.3 + 63 * 0.101 s on 16 V100s at $3.06
    assert davinci == "| openai/davinci | 8 | 5.28 | 9 | 48.1 | 9 | 16 | 6.66 | 9 | 90.6 | 9 |  |"
    assert "v100-megatron is slower for 10 of the 10" in found


def test_stacks_stand_side_by_side(text: str) -> None:
    found = row(text, "Stacks side by side", "openai/davinci", "T, s")
    assert (found["a100-megatron"], found["v100-megatron"]) == ("5.28", "6.66")
    assert float(found["h100, predicted from the shape"]) < float(found["a100-megatron"])
    assert "gooseai/gpt-j-6b" not in section(text, "Stacks side by side"), "the same numbers under another name"


def test_energy_is_told_alone_and_shared(text: str) -> None:
    found = row(text, "Energy", "meta-llama/llama-3.1-8b", "J, alone")
    alone, shared = (float(found[name].split()[0]) for name in ("J, alone", "J, its share of a full batch"))
    assert 5 < alone / shared < 32
    batches = row(text, "Energy", "meta-llama/llama-3.1-8b", "256")
    joules = [float(value) for value in list(batches.values())[1:]]
    assert joules == sorted(joules, reverse=True)
    assert 0.07 <= joules[-1] <= 0.45  # what was measured on H100s, by batch size


def test_it_is_always_the_same(tmp_path: Path, whole: Path) -> None:
    for name in ("ranking", "stacks"):
        assert main(["report", "--only", name, "--out", str(tmp_path)]) == 0
    for path in (tmp_path / "pictures").iterdir():
        assert path.read_bytes() == (whole / "pictures" / path.name).read_bytes()
    before = {path.name: path.read_bytes() for path in tmp_path.glob("report.*")}
    assert main(["report", "--only", "stacks", "--out", str(tmp_path)]) == 0
    assert {path.name: path.read_bytes() for path in tmp_path.glob("report.*")} == before


def test_of_an_older_report_no_picture_is_left(tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    assert main(["report", "--only", "ranking", "--only", "stacks", "--out", str(tmp_path)]) == 0
    (pictures / "ranking-mine.svg").write_text("mine")
    assert main(["report", "--only", "stacks", "--out", str(tmp_path)]) == 0
    left = {path.name for path in pictures.iterdir()}
    assert {name for name in left if not name.startswith("stacks-")} == {"ranking-mine.svg"}
    assert len(left) == 4


def test_chromium_draws_it_all(whole: Path) -> None:
    if FOUND is None:
        pytest.skip("chromium is not installed: apt-get install chromium")
    figures = len(list((whole / "pictures").iterdir()))

    async def scenario(browser: Chromium) -> None:
        async with browser.page((whole / "report.html").as_uri(), width=1200) as shown:
            await shown.wait(f"document.documentElement.dataset.drawn === '{figures}'")
            assert await shown.run("document.querySelectorAll('canvas').length") == figures
            await shown.run("document.querySelectorAll('.folded').forEach(each => { each.open = true })")
            await shown.wait("charts.every(each => each.plot)")
            assert await shown.run("charts.length") > figures
            empty = "charts.filter(each => each.plot.data[0].length === 0).map(each => each.figure.title)"
            assert await shown.run(empty) == []
            await shown.size(360)
            await shown.wait("document.documentElement.scrollWidth <= 360")
            assert shown.problems == []
            assert len(shown.loaded) == 1

    with Chromium() as browser:
        run(scenario(browser))


# --- files of one's own


def test_own_samples_and_tables_stand_beside_the_shipped(tmp_path: Path) -> None:
    lines = PUBLISHED.read_text().splitlines()
    models = ("ai21/j1-large", "ai21/j1-grande", "openai/davinci")
    mine = [
        re.sub("^a100,", "h200-mine,", line) for line in lines if line.startswith(tuple(f"a100,{m}," for m in models))
    ]
    samples, table, out = tmp_path / "mine.csv", tmp_path / "mine.json", tmp_path / "out"
    samples.write_text("\n".join([lines[0], *mine]))
    assert main(["fit", str(samples), "--out", str(table)]) == 0
    few = tmp_path / "few.csv"
    points = [(prompt, output) for prompt in (16, 64) for output in (1, 9)]
    rows = [f"mine,m,{prompt},{output},{0.1 + prompt / 1000 + output / 50}" for prompt, output in points]
    few.write_text("\n".join(["hardware,model,prompt_tokens,output_tokens,runtime_seconds", *rows]))
    only = [each for name in ("fits", "accuracy", "stacks") for each in ("--only", name)]
    files = ["--samples", str(samples), "--samples", str(few), "--table", str(table)]
    assert main(["report", *files, "--out", str(out), *only]) == 0
    text = (out / "report.md").read_text(encoding="utf-8")
    assert "mine.csv: h200-mine: of 810 runs of 3 models half lie within" in text, "one's own are found first"
    assert "### mine.csv: h200-mine\n\nOf 810 runs of 3 models" in text
    assert "Beside what a present server should take (NVIDIA H200" in text
    found = row(text, "Stacks side by side", "openai/davinci", "T, s")
    assert float(found["h200-mine"]) == pytest.approx(float(found["a100-megatron"]), rel=0.01)
    assert re.search(r"h200-mine takes (0\.99\d|1|1\.0\d) times as long as a100-megatron in the median", text)
    # What is too little for a section is left out of it.
    assert "### few.csv: mine\n\nOf 4 runs of 1 model half lie within" in section(text, "Fits and their residuals")
    judged = section(text, "Where nothing was measured")
    assert "few.csv" not in judged
    # Nothing is published of what is one's own.
    own, _, shipped = judged.partition("### a100")
    assert "| method paper, straight lines between |" in own
    assert "| method paper, as HELM reads its tables |" in own
    assert "profiler crossval --leave-out prompt-size takes all." in own
    assert "published coefficients" not in own
    assert "| published coefficients, straight lines between |" in shipped
    assert "method paper" not in shipped


def test_recorded_events_are_asked_what_if(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    event = '{"model": "gpt-4o", "prompt_tokens": 900, "completion_tokens": 90, "started_at": "2026-01-31T12:00:%02dZ"}'
    events = tmp_path / "events.jsonl"
    events.write_text("\n".join(event % second for second in range(60)) + "\n")
    command = ["report", "--events", str(events), "--only", "whatif", "--out", str(tmp_path)]
    assert main(command) == 0
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "## What if llama-3.1-70b had answered?\n\n60 recorded requests, 54,000 prompt and 5,400 output" in text
    assert "on h100-predicted" in text
    assert main([*command, "--model", "openai/davinci"]) == 0
    assert "on a100-megatron" in (tmp_path / "report.md").read_text(encoding="utf-8")
    capsys.readouterr()
    assert main([*command, "--model", "llama-3.1-70c"]) == 2
    assert "no reference stack has a row 'llama-3.1-70c': did you mean llama-3.1-70b" in capsys.readouterr().err


def test_without_matplotlib_the_page_is_written_all_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main(["report", "--only", "ranking", "--out", str(tmp_path / "r")]) == 0
    told = capsys.readouterr()
    assert told.err == (
        "profiler report: pictures need matplotlib: pip install 'trueclock[report]'; the Markdown has none\n"
    )
    assert sorted(path.name for path in (tmp_path / "r").iterdir()) == ["report.html", "report.md"]
    text = (tmp_path / "r" / "report.md").read_text(encoding="utf-8")
    assert "![" not in text
    assert "| openai/davinci | 8 |" in text


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--samples", "none.csv"], "none.csv: cannot be read: No such file or directory"),
        (["--samples", "bad.csv"], "bad.csv: line 2: output_tokens: expected a whole number"),
        (["--table", "none.json"], "none.json"),
        (["--csv", "none.csv", "--only", "ranking"], "none.csv: cannot be read: No such file or directory"),
        (["--events", "none.jsonl", "--only", "whatif"], "none.jsonl: No such file or directory"),
        (["--events", "bad.jsonl", "--only", "whatif"], "bad.jsonl: line 2: "),
        (["--only", "none"], "--only none: there are whatif, ranking, "),
        (["--only", "whatif"], "--only whatif: nothing was named that it could show"),
        (["--model", "davinci"], "--model is for --events FILE"),
        (["--only", "ranking", "--out", "file"], "file: File exists"),
        (["--only", "ranking", "--out", "file/in"], "file/in: Not a directory"),
    ],
    ids=["no samples", "samples", "no table", "no scenarios", "no events", "events", "section", "nothing", "model", "file", "below a file"],
)  # fmt: skip
def test_wrong_use_is_one_clear_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], options: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bad.csv").write_text("hardware,model,prompt_tokens,output_tokens,runtime_seconds\nx,m,1,one,0.1\n")
    Path("bad.jsonl").write_text('{"model": "m", "prompt_tokens": 1, "completion_tokens": 1}\nnot json\n')
    Path("file").write_text("")
    assert main(["report", *options]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith(f"profiler report: {said}")
    assert told.err.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.csv", "bad.jsonl", "file"]


# --- words


def test_numbers_are_short() -> None:
    values = [number(value) for value in (None, 0, 0.00012345, 0.12345, 1.2, 12.345, 1234.5, 99999)]
    assert values == ["-", "0", "1.23e-04", "0.123", "1.2", "12.3", "1,230", "100,000"]
    assert [percent(share) for share in (0.0123, 0.456, -0.02)] == ["1.2%", "46%", "-2.0%"]
    assert [seconds(value) for value in (0.0123, 12.3)] == ["12.3 ms", "12.3 s"]
    assert band(2.0, 1.0, 4.0) == "2 (1 to 4)"
    assert band(2.0, 2.0, 2.0) == band(2.0, None, None) == "2"
    assert listed(f"m{place}" for place in range(8)) == "m0, m1, m2, m3, m4, m5 and 2 more"
    assert spread([4, 1, 2, 2, 9, 16], 3) == [1, 4, 16]
    assert spread([2, 1], 3) == [1, 2]


# --- docs/report.md


def texts(path: Path) -> list[str]:
    return ["".join(each.itertext()).strip() for each in ET.parse(path).iter("{http://www.w3.org/2000/svg}text")]


def test_the_documented_pictures_are_those_of_today(whole: Path) -> None:
    documented = sorted(DOCS.glob("report-*.svg"))
    assert len(documented) >= 4
    for path in documented:
        # Coordinates are matplotlib's affair, what is said is ours.
        assert texts(path) == texts(whole / "pictures" / path.name.removeprefix("report-")), path.name
    assert sum(path.stat().st_size for path in documented) < 400_000


def test_prompt_sizes_are_cited_and_documented_as_they_are(text: str) -> None:
    found = section(text, "Where nothing was measured")
    ways = [each for each in tables(found) if "how F is found between prompt sizes" in each[0]]
    counts = re.findall(r"F at 32 of (\d+) prompt sizes", found)
    cited = re.findall(r"takes all \d+: ([\d.]+%), and ([\d.]+%) .*?, ([\d.]+%) as HELM reads them", found)
    profiling, report = ((DOCS / f"{name}.md").read_text(encoding="utf-8") for name in ("profiling", "report"))
    [every] = [each for each in tables(profiling) if "V100 mean" in each[0]]
    [documented] = [each for each in tables(report) if "all 200" in each[0]]
    assert counts == ["200", "73"]
    assert len(cited) == 2
    for place, (a100, v100) in enumerate(zip(*cited, strict=True)):
        assert (a100, v100) == (every[place]["A100 mean"], every[place]["V100 mean"])
        some = [each[place]["mean error"] for each in ways]
        assert [*documented[place].values()][1:] == [some[0], a100, some[1], v100]


def test_the_documentation_names_what_there_is() -> None:
    text = (DOCS / "report.md").read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s#:]+)\)", text):
        assert (DOCS / target).is_file(), target
    listed = re.findall(r"^\| `([\w-]+)` \|", text, re.MULTILINE)
    assert listed == list(SECTIONS)
    shown = {path.name for path in DOCS.glob("report-*.svg")}
    assert shown == set(re.findall(r"\]\((report-[\w-]+\.svg)\)", text))
