"""Records of a wanted size, all different."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from random import Random
from typing import Any

WORDS = ("the ticket", "was closed", "after a long talk", "about prices,", "parts", "and the next delivery")
FIRST = datetime(2026, 3, 1)  # noqa: DTZ001 -- in UTC
"""When the first of them happened; a thousand follow in a second."""
EMPTY = 420
"""Bytes of a record's line without its text, about."""


def record(
    number: int, size: int = 1_500, *, product: str = "prod-support", kind: str = "message"
) -> dict[str, Any]:
    """One record whose line has about ``size`` bytes; ``number`` makes its identity."""
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
    """``count`` records from number ``first`` on."""
    return (record(number, size, **fields) for number in range(first, first + count))


_sources: dict[int, str] = {}


def _text(number: int, size: int) -> str:
    """A piece of one long text, another one for each number; cutting costs nothing beside what is measured."""
    if size not in _sources:
        rng = Random(7)
        _sources[size] = " ".join(rng.choice(WORDS) for _ in range(size // 4 + 2_000))
    start = number * 7 % 997
    return _sources[size][start : start + size]
