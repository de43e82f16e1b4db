"""The same INSERTs by the ORM, for databases that this package has no SQL for."""

from __future__ import annotations

from collections.abc import Sequence

from .. import OutboxRecord
from .rows import COLUMNS, Row


def insert_row(using: str, row: Row) -> OutboxRecord:
    """Insert one row and return the record."""
    record = OutboxRecord(**dict(zip(COLUMNS, row, strict=True)))
    record.save(using=using, force_insert=True)
    return record


def insert_rows(using: str, rows: Sequence[Row]) -> None:
    """Insert rows in the given order."""
    records = [OutboxRecord(**dict(zip(COLUMNS, row, strict=True))) for row in rows]
    OutboxRecord.rows.using(using).bulk_create(records)
