"""What if another model had answered the recorded requests."""

from dataclasses import replace

from profiler.document import Section
from profiler.report.inputs import Inputs
from profiler.whatif_report import conclusion, report_parts
from stream.command import UsageError
from stream.labels import clean_label
from stream.recording import Recording
from stream.whatif import Question, what_if

__all__ = ["section"]

_MODEL = "llama-3.1-70b"


def section(inputs: Inputs) -> Section | None:
    """None without recorded events."""
    if not inputs.recorded:
        return None
    model, tables = inputs.model or _MODEL, inputs.tables
    stack = next((name for name in tables.references if tables.row(name, model) is not None), None)
    if stack is None:
        near = tables.near(None, model)
        hint = f": did you mean {' or '.join(near)}?" if near else ""
        raise UsageError(f"--model: no reference stack has a row {model!r}{hint}")
    assert tables.prices is not None  # as tables that were loaded have prices
    recording = Recording(tables.prices.bill)
    for event in inputs.recorded:
        recording.add(event.event)
    answer = what_if(replace(tables, reference=stack), Question(model, growth=0.1), recording)
    return Section(f"What if {clean_label(model)} had answered?", list(report_parts(answer)), conclusion(answer))
