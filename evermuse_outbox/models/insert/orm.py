"""The same INSERTs by the ORM, for databases that this package has no SQL for."""

from __future__ import annotations

from collections.abc import Sequence

from ...database_clock import database_now
from .. import OutboxRecord
from .rows import COLUMNS, Row


def insert_row(using: str, row: Row, trace_context: str | None) -> OutboxRecord:
    """Insert one row and return the record."""
    record = _unsaved(using, row, trace_context)
    record.save(using=using, force_insert=True)
    return record


def insert_rows(using: str, rows: Sequence[Row], trace_context: str | None) -> None:
    """Insert rows in the given order."""
    records = [_unsaved(using, row, trace_context) for row in rows]
    OutboxRecord.rows.using(using).bulk_create(records)


def _unsaved(using: str, row: Row, trace_context: str | None) -> OutboxRecord:
    # Django has no expression for the current time that is right in every time zone of a session.
    columns = dict(zip(COLUMNS[:-1], row, strict=True))
    return OutboxRecord(**columns, enqueued_at=database_now(using), trace_context=trace_context)
