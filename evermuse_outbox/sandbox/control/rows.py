"""The rows of the lists of requests and records, and their filters."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from .history import Entry
from .records import split_records, summarise_records

# --- Filters ------------------------------------------------------------------------------------------


def matches(entry: Entry, query: Mapping[str, str]) -> bool:
    """Return whether a request has the method, the type and the product of a query."""
    expected = (query.get("method"), query.get("type"), query.get("product"))
    values = (entry.arrival.method, entry.type, entry.product_id)
    return all(not wanted or wanted == value for wanted, value in zip(expected, values, strict=True))


def has_text(entry: Entry, query: Mapping[str, str]) -> bool:
    """Return whether a request contains the text of a query in any of its parts."""
    text = query.get("text", "").lower()
    parts = f"{entry.arrival.path} {entry.arrival.batch_id} {entry.arrival.idempotency_key} {entry.arrival.message}"
    return not text or text in parts.lower() or contains(entry.body, text)


def contains(content: bytes, text: str) -> bool:
    """Return whether JSON contains a text, without regard to case, as it is or escaped."""
    lowered = content.lower()
    return text.encode("utf-8", "replace") in lowered or json.dumps(text)[1:-1].encode() in lowered


def matching_records(entry: Entry, query: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """Yield the summaries of the records of a request that have the state and the text of a query."""
    text = query.get("text", "").lower()
    lines = split_records(entry) if text else []
    for record in summarise_records(entry):
        has_state = query.get("state", record["state"]) == record["state"]
        if has_state and (not text or contains(lines[record["index"]], text)):
            yield record


def choices(entries: list[Entry], states: Mapping[int, str]) -> dict[str, list[str]]:
    """Return the values to filter by."""
    return {
        "type": sorted({entry.type for entry in entries} - {""}),
        "product": sorted({entry.product_id for entry in entries} - {""}),
        "state": sorted(set(states.values())),
    }


# --- Rows ---------------------------------------------------------------------------------------------


def state_of(entry: Entry, batch_states: Mapping[str, str]) -> str:
    """Return the status of the batch of a request, or how the request ended without one."""
    status = entry.arrival.status
    if not entry.is_finished:
        return "in progress"
    if status is None:
        return "dropped"
    if status >= 400:
        return "refused" if status < 500 else "error"
    if entry.arrival.method == "POST":
        return batch_states.get(entry.arrival.batch_id, "answered").lower()
    return "answered"


def summarise_request(entry: Entry, state: str) -> dict[str, Any]:
    """Return the row of a request."""
    arrival = entry.arrival
    end = arrival.answered_at
    row = {
        "number": entry.number,
        "at": arrival.at,
        "seconds": None if end is None else round(end - arrival.at, 3),
        "method": arrival.method,
        "path": arrival.path,
        "type": entry.type,
        "product": entry.product_id,
        "records": arrival.records,
        "accepted": arrival.accepted,
        "rejected": arrival.rejected,
        "bytes": arrival.size,
        "status": arrival.status,
        "state": state,
        "error": arrival.error,
        "message": arrival.message,
        "batch_id": arrival.batch_id,
        "idempotency_key": arrival.idempotency_key,
        "is_replay": arrival.replayed,
        "has_fault": arrival.fault is not None,
        "breaks_contract": arrival.breaks_contract,
    }
    return dict(printable(row))


def printable(content: Any) -> Any:
    """Return JSON without lone surrogates, which UTF-8 cannot encode."""
    if isinstance(content, str):
        return content.encode("utf-8", "replace").decode()
    if isinstance(content, dict):
        return {name: printable(value) for name, value in content.items()}
    return [printable(item) for item in content] if isinstance(content, list | tuple) else content
