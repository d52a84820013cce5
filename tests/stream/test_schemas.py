"""What is on the wire stays readable: the schemas' files are those of the code, and nothing they promise is broken."""

import copy
import json
from collections.abc import Callable
from pathlib import Path

import jsonschema
import pytest

from stream.events import (
    ADDED_FIELDS,
    REQUEST_FIELDS,
    StackView,
    decode_enriched,
    decode_event,
    encode_enriched,
    encode_event,
)
from tests.stream import wire_schemas
from tests.stream.wire_schemas import FOLDER, Schema, broken, shown

SCHEMAS = wire_schemas.wire_schemas()
REQUEST, ENRICHED = "request-event-1.json", "enriched-event-1.json"
WRITTEN = Path(__file__).parent / "v1"


def lines(name: str) -> list[bytes]:
    return (WRITTEN / name).read_bytes().splitlines()


@pytest.mark.parametrize("name", [REQUEST, ENRICHED])
def test_a_schema_keeps_what_its_file_promises(name: str) -> None:
    assert list(broken(json.loads((FOLDER / name).read_text()), SCHEMAS[name])) == []


def test_the_files_are_those_of_the_code() -> None:
    """Where this fails and the test above does not: write them anew, as tests/stream/wire_schemas.py says."""
    assert {file.name for file in FOLDER.iterdir()} == SCHEMAS.keys()
    assert {name: (FOLDER / name).read_text() for name in SCHEMAS} == {n: shown(s) for n, s in SCHEMAS.items()}


def test_the_schemas_name_every_field() -> None:
    assert list(SCHEMAS[REQUEST]["properties"]) == list(REQUEST_FIELDS)
    assert list(SCHEMAS[ENRICHED]["properties"]) == [*REQUEST_FIELDS, *ADDED_FIELDS]
    assert list(SCHEMAS[ENRICHED]["$defs"]["StackView"]["properties"]) == list(StackView.__struct_fields__)


def without(schema: Schema) -> None:
    del schema["properties"]["id"]


def of_another_type(schema: Schema) -> None:
    schema["properties"]["status"] = {"type": "string"}


def of_a_smaller_range(schema: Schema) -> None:
    schema["properties"]["raw_runtime_seconds"]["anyOf"][0]["maximum"] = 60.0


def required_now(schema: Schema) -> None:
    schema["required"].append("id")


def new_and_required(schema: Schema) -> None:
    schema["properties"]["region"] = {"type": "string"}
    schema["required"].append("region")


def without_a_view(schema: Schema) -> None:
    del schema["$defs"]["StackView"]


def another_view(schema: Schema) -> None:
    del schema["$defs"]["StackView"]["properties"]["coverage"]


CHANGES: list[tuple[Callable[[Schema], None], str]] = [
    (without, "id is gone"),
    (of_another_type, "status is another than before"),
    (of_a_smaller_range, "raw_runtime_seconds is another than before"),
    (required_now, "id is required, which it was not"),
    (new_and_required, "region is required, which it was not"),
    (without_a_view, "StackView is gone"),
    (another_view, "StackView: coverage is gone"),
]


@pytest.mark.parametrize(("change", "said"), CHANGES)
def test_a_change_that_breaks_readers_is_found(change: Callable[[Schema], None], said: str) -> None:
    old, new = SCHEMAS[ENRICHED], copy.deepcopy(SCHEMAS[ENRICHED])
    change(new)
    assert list(broken(old, new)) == [said]


def test_a_new_field_that_may_be_missing_breaks_nothing() -> None:
    new = copy.deepcopy(SCHEMAS[ENRICHED])
    new["properties"]["region"] = {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None}
    assert list(broken(SCHEMAS[ENRICHED], new)) == []


def test_no_file_is_written_that_breaks_readers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    changed = copy.deepcopy(SCHEMAS)
    of_another_type(changed[ENRICHED])
    monkeypatch.setattr(wire_schemas, "FOLDER", tmp_path)
    assert wire_schemas.main() == 0
    monkeypatch.setattr(wire_schemas, "wire_schemas", lambda: changed)
    assert wire_schemas.main() == 1
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {n: shown(s) for n, s in SCHEMAS.items()}


@pytest.mark.parametrize("line", lines("request-events.ndjson"))
def test_a_request_event_of_v1_is_read_and_written_as_it_was(line: bytes) -> None:
    written = json.loads(encode_event(decode_event(line)))
    known = json.loads(line)
    assert {name: written[name] for name in known} == known
    assert set(written) - set(known) <= set(REQUEST_FIELDS)
    jsonschema.validate(known, SCHEMAS[REQUEST])


@pytest.mark.parametrize("line", lines("enriched-events.ndjson"))
def test_an_enriched_event_of_v1_is_read_and_written_as_it_was(line: bytes) -> None:
    written = json.loads(encode_enriched(decode_enriched(line)))
    known = json.loads(line)
    views = {stack: {name: written["stacks"][stack][name] for name in view} for stack, view in known["stacks"].items()}
    assert {**{name: written[name] for name in known}, "stacks": views} == known
    assert set(written) - set(known) <= {*REQUEST_FIELDS, *ADDED_FIELDS}
    jsonschema.validate(known, SCHEMAS[ENRICHED])
    decode_event(line)


@pytest.mark.parametrize(
    "line",
    [
        b"{}",
        b'{"model":1}',
        b'{"model":"m","status":"200"}',
        b'{"model":"m","prompt_tokens":-1}',
        b'{"model":"m","tags":[1]}',
    ],
)
def test_what_is_no_event_is_none_by_the_schema_either(line: bytes) -> None:
    with pytest.raises(ValueError):
        decode_event(line)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(json.loads(line), SCHEMAS[REQUEST])
