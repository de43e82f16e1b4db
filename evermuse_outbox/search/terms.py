"""The terms of a record, as hashes. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from hashlib import blake2b
from typing import Any

DATA = ',"data":'
"""Text before the last field of a stored line. The terms are in the fields before it."""


def term_hash(text: str) -> int:
    """Return a signed 64-bit hash of a term. Case and outer spaces do not matter."""
    digest = blake2b(text.strip().casefold().encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


def read_terms(line: str) -> set[int]:
    """Return the hashes of all terms in a stored line; an empty set if the line is no envelope."""
    try:
        envelope = load_head(line)
        return {term_hash(text) for text in _terms(envelope) if isinstance(text, str) and text.strip()}
    except (ValueError, TypeError, AttributeError, RecursionError):  # a host can alter a line with SQL
        return set()


def is_head_complete(head: str) -> bool:
    """Return whether the first characters of a line contain all fields with terms."""
    before, separator, _ = head.partition(DATA)
    return bool(separator) and _parse(before + "}") is not None


def load_head(line: str) -> Mapping[str, Any]:
    """Return the fields before ``data``, which can be large. Without them, parse the complete line."""
    # In a nested object the same text leaves braces open, so the shortened line is no JSON.
    before, separator, _ = line.partition(DATA)
    head = _parse(before + "}") if separator else None
    envelope: Mapping[str, Any] = json.loads(line) if head is None else head
    return envelope


def _parse(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _terms(envelope: Mapping[str, Any]) -> Iterator[Any]:
    yield from (envelope.get("_vendor_ids") or {}).values()
    yield envelope.get("_thread_id")
    for participant in envelope.get("_participants") or ():
        yield participant.get("id")
        yield participant.get("email")
