"""docs/whatif.md holds: its commands run, and it names what the answer has."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

from stream.whatif import SHARE
from stream.whatif_answer import Answered, WhatIf

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "whatif.md").read_text(encoding="utf-8")


def test_the_commands_run(tmp_path: Path) -> None:
    [block] = re.findall(r"^```sh\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    for line in block.splitlines():
        program, rest = line.split(" ", 1)
        command = f"{shlex.quote(sys.executable)} -m {program}.cli {rest}"
        environment = {"PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, shell=True, cwd=tmp_path, env=environment, capture_output=True, check=False)
        assert (done.returncode, done.stderr) == (0, b""), line
    answer = json.loads((tmp_path / "whatif.json").read_bytes())
    assert (answer["requests"], answer["max_wait_seconds"], answer["growth"]) == (2000, 2.0, 0.1)
    assert (tmp_path / "whatif.md").read_text(encoding="utf-8").startswith("# What if llama-3.1-70b had answered?\n")
    assert "</html>" in (tmp_path / "whatif.html").read_text(encoding="utf-8")


def test_it_names_what_there_is() -> None:
    section = TEXT[TEXT.index("## The answer") :]
    known = {*WhatIf.__struct_fields__, *Answered.__struct_fields__, "kind"}
    assert set(re.findall(r"`(\w+)`", section)) <= known
    assert f"{SHARE:.0%} of the requests wait at most" in TEXT
    for target in re.findall(r"\]\(([^)\s#]+)\)", TEXT):
        assert (ROOT / "docs" / target).is_file(), target
