"""The table `h100-predicted`: what open models in use should take on H100s, from the roofline.

`python -m profiler.predicted` prints the file that ships as `stream/tables/h100-predicted.json`; for other hardware
`profiler predict --arch all --hardware H --out TABLE.json` writes its like.
"""

import sys

from profiler.architectures import architectures
from profiler.hardware import hardware
from profiler.prediction import predict, predicted_stack
from profiler.tables import table_text

__all__ = ["STACK", "predicted_table"]

STACK = "h100-predicted"

_DATE = "2026-11"


def predicted_table() -> str:
    """The whole file: JSON with a line a field, so that changes can be read."""
    h100 = hardware("h100")
    predictions = [predict(model, h100) for model in architectures().values()]
    return table_text([predicted_stack(predictions, STACK, _DATE)])


if __name__ == "__main__":
    sys.stdout.write(predicted_table())
