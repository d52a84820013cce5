"""Pictures: SVG that is well formed, always the same bytes, drawn as the page draws; and no matplotlib elsewhere."""

import ast
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from profiler.pictures import INKS, MissingLibrary, svg_pictures
from profiler.plot import COLOURS, Figure, Series

ROOT = Path(__file__).parents[2]
SVG = "{http://www.w3.org/2000/svg}"
LINE = Series("fit", [0.01, 1.0], [0.005, 0.5], [0.02, 2.0], colour=1)
CLOUD = Series("fit, measured", [0.011, 0.02, 0.9], points=True, x=[1, 1, 1000], colour=1)
FIGURES = [
    Figure("$1 < a & b$", [1, 1000], [LINE, CLOUD, Series("other", [2, 3], dash=True)], note="a note of $x^2$\nand more"),
    Figure("below", [1, 2], [Series("s", [-1, 5])], x_label="o", y_label="error, %"),
    Figure("ranked", [0, 1], [Series("a", [1, 2], [0.5, 1.5], [2, 3], points=True),
                              Series("b", [3, 1], points=True, dash=True)], names=["one", "the $other"]),
    Figure("nothing", [], []),
    Figure("beside", [], [Series(f"m{i}", [value], points=True, x=[1e9 * i], beside=True)
                          for i, value in enumerate([0.5, 0.6, 0.61], 1)] + [Series("front", [0.5, 0.6], x=[1e9, 2e9])],
           from_zero=False, log_y=False),
    Figure("listed", [1, 2], [Series("seen", [1, 2]), Series("not drawn", [1e6, 1e7], drawn=False)]),
]  # fmt: skip


def texts(svg: str) -> list[str]:
    return ["".join(each.itertext()).strip() for each in ET.fromstring(svg).iter(f"{SVG}text")]


@pytest.fixture(scope="module")
def drawn() -> list[str]:
    return list(svg_pictures(FIGURES))


def test_the_same_figures_give_the_same_bytes(drawn: list[str]) -> None:
    assert list(svg_pictures(FIGURES)) == drawn
    assert not any(re.search(r"<dc:date>|matplotlib v", each) for each in drawn)


def test_they_say_what_the_figures_say(drawn: list[str]) -> None:
    first = texts(drawn[0])
    for said in ("$1 < a & b$", "a note of $x^2$", "and more", "prompt tokens", "seconds", "fit", "other"):
        assert said in first
    assert "fit, measured" not in first, "the legend tells a line and its points together"
    assert {"1", "10", "100", "1,000", "0.1"} <= set(first), "both axes are logarithmic, as on the page"
    assert {"below", "o", "error, %", "0"} <= set(texts(drawn[1]))
    ranked = texts(drawn[2])
    assert {"one", "the $other", "a", "b"} <= set(ranked)
    assert ranked.index("one") < ranked.index("the $other")
    assert "nothing" in texts(drawn[3])
    assert "not drawn" not in texts(drawn[-1])
    assert "2" in texts(drawn[-1]), "nor does its axis know of what is not drawn"


def test_a_name_stands_beside_its_point(drawn: list[str]) -> None:
    beside = texts(drawn[4])
    assert [beside.count(each) for each in ("m1", "m2", "m3", "front")] == [1, 1, 1, 1]
    assert "0" not in beside, "the axis begins where its values do"
    assert {"10⁹", "1.5 × 10⁹"} & set(beside)  # noqa: RUF001


def test_they_look_as_on_the_page(drawn: list[str]) -> None:
    page = (ROOT / "profiler" / "plot.html").read_text(encoding="utf-8")
    light = page[: page.index("@media (prefers-color-scheme: dark)")]
    assert tuple(re.findall(r"--colour-\d: (#\w+)", light)) == INKS
    assert len(INKS) == COLOURS
    assert INKS[1] in drawn[0]
    assert "fill: #ffffff" in drawn[0], "a white panel, whatever is around it"


def test_without_matplotlib_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingLibrary, match=r"^pictures need matplotlib: pip install 'trueclock\[report\]'$"):
        next(svg_pictures(FIGURES))


def test_matplotlib_stays_in_its_place() -> None:
    for path in [each for package in ("gateway", "profiler", "stream") for each in (ROOT / package).rglob("*.py")]:
        known = {
            name.partition(".")[0]
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            for name in (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else []
            )
        }
        assert ("matplotlib" in known) == (path.name == "pictures.py" and path.parent.name == "profiler"), path
    code = "import sys, profiler.pictures, profiler.report.sections; print('matplotlib' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "False\n")
