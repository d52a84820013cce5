"""The JSON Schemas of what is on the wire, as the code has them, and what of an older one a newer one would break.

PYTHONPATH=. python tests/stream/wire_schemas.py    # write stream/schemas/*.json anew, if that breaks nothing
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from stream.events import SCHEMA_VERSION, EnrichedEvent

FOLDER = Path(__file__).parents[2] / "stream" / "schemas"
Schema = dict[str, Any]


def wire_schemas() -> dict[str, Schema]:
    """Return the schemas by the names of their files. A reader keeps fields that they do not name."""
    parts = msgspec.json.decode(msgspec.json.encode(msgspec.json.schema(EnrichedEvent)["$defs"]))
    recorded = {name: value for name, value in parts["RequestEvent"]["properties"].items() if name != "extra"}
    added = {name: value for name, value in parts["EnrichedEvent"]["properties"].items() if name != "event"}
    view = {name: {"type": "object", "properties": parts[name]["properties"]} for name in ("StackView", "Cost")}
    return {
        f"request-event-{SCHEMA_VERSION}.json": _schema("request-event", recorded, {}),
        f"enriched-event-{SCHEMA_VERSION}.json": _schema("enriched-event", recorded | added, view),
    }


def _schema(name: str, properties: Schema, parts: Schema) -> Schema:
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:trueclock:{name}:{SCHEMA_VERSION}",
        "description": "docs/fields.md describes every field. Fields that are not listed here are kept as they came.",
        "type": "object",
        "properties": properties,
        "required": ["model"],
        **({"$defs": parts} if parts else {}),
    }


def broken(old: Schema, new: Schema) -> Iterator[str]:
    """Say what a reader or writer of `old` would stumble over in `new`: only optional fields may be added."""
    for name, found in old["properties"].items():
        if name not in new["properties"]:
            yield f"{name} is gone"
        elif new["properties"][name] != found:
            yield f"{name} is another than before"
    for name in new.get("required", []):
        if name not in old.get("required", []):
            yield f"{name} is required, which it was not"
    for name, part in old.get("$defs", {}).items():
        if name not in new.get("$defs", {}):
            yield f"{name} is gone"
        else:
            yield from (f"{name}: {what}" for what in broken(part, new["$defs"][name]))


def shown(schema: Schema) -> str:
    """Return a schema as its file has it: a field a line."""
    fields = [f"  {json.dumps(name)}: {json.dumps(found)}" for name, found in schema["properties"].items()]
    inner = "{\n" + ",\n".join(fields) + "\n }"
    whole = {name: json.dumps(found) for name, found in schema.items()} | {"properties": inner}
    rest = [f" {json.dumps(name)}: {text}" for name, text in whole.items()]
    return "{\n" + ",\n".join(rest) + "\n}\n"


def main() -> int:
    """Write all files, or none where what v1 wrote would not be readable any more."""
    schemas = wire_schemas()
    for name, schema in schemas.items():
        file = FOLDER / name
        problems = list(broken(json.loads(file.read_text()), schema)) if file.exists() else []
        if problems:
            print(f"{file}: {'; '.join(problems)}. That takes a new schema_version.", file=sys.stderr)
            return 1
    for name, schema in schemas.items():
        (FOLDER / name).write_text(shown(schema))
    return 0


if __name__ == "__main__":
    sys.exit(main())
