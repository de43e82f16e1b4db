"""Generate valid records of a given size, each with a different identity."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from random import Random
from typing import Any

WORDS = ("the ticket", "was closed", "after a long talk", "about prices,", "parts", "and the next delivery")
FIRST = datetime(2026, 3, 1)  # noqa: DTZ001 -- in UTC
"""``_event_at`` of record 0. The events of consecutive records are one millisecond apart."""
EMPTY = 420
"""Approximate size of a record without its text, in bytes of JSON."""


def record(
    number: int, size: int = 1_500, *, product: str = "prod-support", kind: str = "message"
) -> dict[str, Any]:
    """Return a record of about ``size`` bytes of JSON. ``number`` determines its identity and its text."""
    return {
        "_type": kind,
        "_schema_version": "1.0.0",
        "_event_at": f"{(FIRST + timedelta(milliseconds=number)).isoformat(timespec='seconds')}Z",
        "_vendor_ids": {"desk": f"message-{number}"},
        "_product_id": product,
        "_project_id": "proj-support",
        "_nature": "evidence",
        "_thread_id": f"ticket-{number // 5}",
        "_participants": [{"id": f"customer-{number % 997}", "role": "external", "email": "ann@example.com"}],
        "_tags": ["support"],
        "data": {"subject": f"Ticket {number // 5}", "text": _text(number, max(0, size - EMPTY))},
    }


def records(count: int, size: int = 1_500, *, first: int = 0, **fields: Any) -> Iterator[dict[str, Any]]:
    """Return an iterator of ``count`` records. The first one has the number ``first``."""
    return (record(number, size, **fields) for number in range(first, first + count))


_sources: dict[int, str] = {}


def _text(number: int, size: int) -> str:
    """Return a slice of a long text, with an offset that depends on the number.

    A slice costs much less time than the code that is measured.
    """
    if size not in _sources:
        rng = Random(7)
        _sources[size] = " ".join(rng.choice(WORDS) for _ in range(size // 4 + 2_000))
    start = number * 7 % 997
    return _sources[size][start : start + size]
