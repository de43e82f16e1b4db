"""Write the table of a record's fields from their rules, in place of ``<!-- fields -->``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from evermuse_outbox.evermuse.records import FIELDS, record_schema

PLACEHOLDER = "<!-- fields -->"

HEAD = "| field | type and limits | example | effect |\n| --- | --- | --- | --- |\n"
LIMITS = {
    "minLength": "at least {:,} characters",
    "maxLength": "at most {:,} characters",
    "minItems": "at least {:,} items",
    "maxItems": "at most {:,} items",
    "minProperties": "at least {:,} ids",
    "minimum": "at least {:,}",
    "maximum": "at most {:,}",
    "format": "format {}",
}


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace the placeholder of the page with the table."""
    return markdown.replace(PLACEHOLDER, table()) if PLACEHOLDER in markdown else markdown


def table() -> str:
    """Return a Markdown table with one row for each field, in the order of a record."""
    described: dict[str, tuple[dict[str, Any], bool]] = {}
    for contract in ("reference", "openapi"):
        for path, schema, is_required in fields_of(record_schema(contract)):
            earlier = described.get(path)
            described[path] = (schema, is_required and (earlier is None or earlier[1]))
    return HEAD + "\n".join(row_of(path, *described[path]) for path in FIELDS)


def fields_of(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any], bool]]:
    """Yield the path, the schema and whether it is required of each field inside."""
    for name, inner in schema.get("properties", {}).items():
        inside = f"{path}.{name}" if path else name
        yield inside, inner, name in schema["required"]
        yield from fields_of(inner, inside)
        yield from fields_of(inner.get("items", {}), f"{inside}[]")


def row_of(path: str, schema: dict[str, Any], is_required: bool) -> str:
    """Return the row of one field."""
    effect, example = FIELDS[path]
    shown = json.dumps(example, ensure_ascii=False)
    required = "**required**, " if is_required and not path.startswith("_project_id") else ""
    return f"| `{path}` | {required}{words_of(schema)} | `{shown}` | {effect} |"


def words_of(schema: dict[str, Any]) -> str:
    """Return the type of a value and its limits in words."""
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    words = [schema["type"]]
    words += [_limit(name, schema[name]) for name in LIMITS if name in schema]
    inner = schema.get("items") or schema.get("additionalProperties") or {}
    inside = f", of {words_of(inner)}" if inner and "properties" not in inner else ""
    return ", ".join(words) + inside


def _limit(name: str, value: Any) -> str:
    return (
        "not empty"
        if name.startswith("min") and name != "minimum" and value == 1
        else LIMITS[name].format(value)
    )
