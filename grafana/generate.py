"""Write the dashboards and rules, or say whether those written are still what the code says.

python -m grafana.generate
python -m grafana.generate --check
python -m grafana.generate --readme https://git.example.org/trueclock/README.md --out DIR
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from grafana.boards.efficiency import efficiency
from grafana.boards.gateway import gateway
from grafana.boards.strategies import strategies
from grafana.boards.stream import stream
from grafana.rules_file import rules_text

__all__ = ["files", "main"]

README = "README.md"
"""where alerts say that their runbook is, unless told the address at which you keep it"""


def files(readme: str = README) -> dict[str, str]:
    """The text of every generated file, by its path below this folder."""
    boards = (efficiency, gateway, stream, strategies)
    made = {f"dashboards/{build.__name__}.json": _json(build(readme)) for build in boards}
    return {**made, "rules/trueclock.yaml": rules_text(readme)}


def main(arguments: Sequence[str] | None = None) -> int:
    """Write them, or compare; 1 if what is there differs."""
    parser = argparse.ArgumentParser(prog="python -m grafana.generate", description=__doc__)
    parser.add_argument("--check", action="store_true", help="only compare, and name what differs")
    parser.add_argument("--readme", default=README, metavar="URL", help="address of the README with the runbook")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, metavar="DIR", help="where to write")
    options = parser.parse_args(arguments)
    stale = []
    for name, text in files(options.readme).items():
        path: Path = options.out / name
        if path.exists() and path.read_text() == text:
            continue
        stale.append(name)
        if not options.check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    for name in stale:
        print(f"{name}: {'differs from the code' if options.check else 'written'}")
    return int(options.check and bool(stale))


def _json(board: object) -> str:
    return json.dumps(board, cls=JSONEncoder, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.exit(main())
