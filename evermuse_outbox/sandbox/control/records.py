"""The records inside of a request: their exact bytes, and a summary of each. They are parsed only when shown."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from .history import Entry, text_of

ARRAY_START = re.compile(r'\s*(?:\{\s*"records"\s*:\s*)?\[')

BETWEEN = re.compile(r"[\s,]*")

PREVIEW = 200
"""Characters of the field ``data`` in a summary."""


def split_records(entry: Entry) -> list[bytes]:
    """Return the bytes of each record of a request, as they were sent."""
    if "ndjson" in content_type(entry):
        return entry.body.removesuffix(b"\n").split(b"\n") if entry.body else []
    return [
        text.encode("utf-8", "surrogatepass") for text in split_array(entry.body.decode("utf-8", "replace"))
    ]


def content_type(entry: Entry) -> str:
    """Return the Content-Type header of a request in lower case."""
    return next((value.lower() for name, value in entry.headers if name.lower() == "content-type"), "")


def split_array(text: str) -> list[str]:
    """Return the elements of a JSON array, or of the array ``records``, as text. Other JSON is one element."""
    start = ARRAY_START.match(text)
    if start is None:
        return [text] if text.strip() else []
    decoder, position = json.JSONDecoder(), start.end()
    parts: list[str] = []
    while True:
        position = BETWEEN.match(text, position).end()  # type: ignore[union-attr]  # it also matches nothing
        try:
            _, end = decoder.raw_decode(text, position)
        except (ValueError, RecursionError):  # the end of the array, or no JSON
            return parts
        parts.append(text[position:end])
        position = end


def summarise_records(entry: Entry) -> Iterator[dict[str, Any]]:
    """Yield a summary of each record of a request."""
    errors = entry.errors or parse(entry.response).get("errors") or []  # a replay is not validated again
    messages = {error["index"]: error["message"] for error in errors}
    for index, line in enumerate(split_records(entry)):
        if index in messages:
            state = "rejected"
        elif entry.is_finished:
            state = "accepted" if entry.arrival.batch_id else "refused"
        else:
            state = "in progress"
        yield summarise(line) | {
            "request": entry.number,
            "index": index,
            "state": state,
            "message": messages.get(index, ""),
            "bytes": len(line),
        }


def summarise(line: bytes) -> dict[str, Any]:
    """Return the identity and the begin of the content of a record."""
    record = parse(line)
    vendor_ids = record.get("_vendor_ids")
    ids = vendor_ids if isinstance(vendor_ids, Mapping) else {}
    preview = (
        json.dumps(record.get("data"), ensure_ascii=False)
        if record
        else line[:PREVIEW].decode("utf-8", "replace")
    )
    return {
        "type": text_of(record.get("_type"))[:PREVIEW],
        "product": text_of(record.get("_product_id"))[:PREVIEW],
        "event_at": text_of(record.get("_event_at"))[:PREVIEW],
        "vendor_ids": ", ".join(f"{name}={value}" for name, value in ids.items())[:PREVIEW],
        "preview": preview[:PREVIEW],
    }


def parse(line: bytes) -> Mapping[str, Any]:
    """Return a record, or an empty mapping if it is no JSON object."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return record if isinstance(record, dict) else {}
