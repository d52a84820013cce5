"""A measurement that is killed again and again: what its file of runs must hold, and who kills it."""

import json
import random
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.prove.proving import ENV, ROOT, ProofError

Place = tuple[str, int, tuple[int, int]]  # setup, layers, the point that was asked for


def whole_lines(path: Path) -> bytes:
    """What a reader sees of a file that grows: its whole lines."""
    content = path.read_bytes() if path.exists() else b""
    return content[: content.rfind(b"\n") + 1]


def runs_of(content: bytes) -> Iterator[tuple[Place, int]]:
    """Each run in a file: where, and its number there."""
    for line in content.splitlines():
        entry: dict[str, Any] = json.loads(line)
        if entry["kind"] == "run":
            point = entry.get("asked", (entry["prompt_tokens"], entry["output_tokens"]))
            yield (entry["setup"], entry["layers"], (point[0], point[1])), entry["number"]


def faults(content: bytes, told: Sequence[bytes] = ()) -> list[str]:
    """What is wrong with a file of runs; `told` is what was seen of it before each kill."""
    found = [f"after kill {number} a line that was there is gone" for number, seen in enumerate(told, 1)
             if not content.startswith(seen)]  # fmt: skip
    numbers: dict[Place, list[int]] = {}
    for place, number in runs_of(content):
        numbers.setdefault(place, []).append(number)
    for place, there in numbers.items():
        found += [f"{place}: run {number} is missing" for number in sorted(set(range(max(there))) - set(there))]
        found += [f"{place}: run {number} is there twice" for number in sorted(set(there)) if there.count(number) > 1]
    ended, last = set(), None
    for (setup, _, point), _ in runs_of(content):
        if last not in {None, (setup, point)}:
            ended.add(last)
        last = setup, point
        if last in ended:
            found.append(f"{last}: complete, and run again")
    return found


@dataclass
class Killer:
    """Starts a command that writes `file`, and kills it with -9."""

    command: Sequence[str]
    file: Path
    log: Path
    luck: random.Random
    told: list[bytes] = field(default_factory=list)

    def kill(self, most_lines: int, patience: float = 120) -> bool:
        """Start it, kill it at a random moment while it writes so many further lines; False: it ended before that."""
        before, wanted = whole_lines(self.file).count(b"\n"), self.luck.randint(0, most_lines)
        with self.log.open("ab") as output:
            process = subprocess.Popen(self.command, stdout=output, stderr=output, cwd=ROOT, env=ENV)
        try:
            deadline = time.monotonic() + patience
            while whole_lines(self.file).count(b"\n") < before + wanted and process.poll() is None:
                if time.monotonic() > deadline:
                    raise ProofError(f"it does not measure: {self.log.read_text()[-500:]}")
                time.sleep(0.002)
            time.sleep(self.luck.uniform(0, 0.05 if wanted else 1.0))  # none wanted: while it starts
            ended = process.poll() is not None
            seen = whole_lines(self.file)
        finally:
            process.kill()
            process.wait()
        if not ended:
            self.told.append(seen)
        return not ended

    def end(self) -> int:
        """Go on to the end; the exit status."""
        with self.log.open("ab") as output:
            done = subprocess.run(self.command, stdout=output, stderr=output, cwd=ROOT, env=ENV, check=False)
        return done.returncode
