"""The server's constants that ship: `python -m profiler.energy_fitted FILE` prints them, as `energy.json` has them.

FILE are the measurements (`profiler energy --fit`), which do not ship.
"""

import json
import sys
from dataclasses import asdict
from pathlib import Path

from profiler.energy_csv import read_measured
from profiler.energy_fit import fit
from profiler.tables import significant

__all__ = ["server_json"]

_DIGITS = 3


def server_json(file: Path) -> str:
    """The constants, the band and the devices of a fit on the measurements in a file."""
    fitted = fit(*read_measured(file))
    constants = {name: significant(value, _DIGITS) for name, value in asdict(fitted.constants).items()}
    found = {"constants": constants, "spread": round(fitted.spread, _DIGITS), "devices": sorted(fitted.devices)}
    return json.dumps(found, indent=1)


if __name__ == "__main__":
    print(server_json(Path(sys.argv[1])))
