"""Records that Evermuse accepts, for tests to vary, and the helpers that enqueue them."""

from __future__ import annotations

from collections.abc import Container
from typing import Any

from evermuse_outbox import outbox
from evermuse_outbox.evermuse.records import make_checksum
from evermuse_outbox.models import OutboxRecord


def record(number: int | str = 1, **changes: Any) -> dict[str, Any]:
    """Return a valid message with that number; a change to None removes the field."""
    fields = {
        "_type": "message",
        "_schema_version": "1.0.0",
        "_event_at": "2026-02-24T12:34:56Z",
        "_vendor_ids": {"message_id": f"msg-{number}"},
        "_product_id": "prod-abc",
        "_project_id": "proj-123",
        "_nature": "evidence",
        "data": {"text": f"Hello {number}"},
    }
    return {name: value for name, value in (fields | changes).items() if value is not None}


def enqueue(
    alias: str, *numbers: int | str, invalid: Container[int | str] = (), **changes: Any
) -> list[OutboxRecord]:
    """Enqueue messages with these numbers in one call and return their rows in the same order.

    The stored lines of the numbers in ``invalid`` are changed so that Evermuse rejects them.
    """
    outbox.enqueue_many((record(number, **changes) for number in numbers), using=alias)
    # A bulk insert returns no ids on MariaDB, so the rows are read back.
    rows = list(OutboxRecord.rows.using(alias).order_by("-pk")[: len(numbers)])[::-1]
    make_invalid(*(row for number, row in zip(numbers, rows, strict=True) if number in invalid))
    return rows


def make_invalid(*rows: OutboxRecord) -> None:
    """Change stored lines so that Evermuse rejects them; validation would not let them through."""
    for row in rows:
        payload = row.payload.replace('"_nature":"evidence"', '"_nature":"nonsense"')
        assert payload != row.payload
        store_line(row, payload)


def store_line(row: OutboxRecord, line: str) -> None:
    """Change the stored line of a record as if it had been enqueued like that."""
    encoded = line.encode()
    row.payload, row.size = line, len(encoded)
    row.checksum = make_checksum(encoded, row.workspace, row.type, row.product_id)
    row.save(update_fields=["payload", "size", "checksum"])
