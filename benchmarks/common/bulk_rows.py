"""Add millions of outbox rows quickly: save one row through Django, and let the database copy it with SQL."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from .records import FIRST, record

NUMBER = 987_654_321
"""Number of the template record. In each copy it is replaced by another number."""

BATCH = 1_000
"""Records per batch."""

SLICE = 100_000
"""Rows per statement. It limits the size of a transaction, and callers update their progress bar after it."""

SERIES = {"postgresql": "generate_series(1, {}) AS made(i)", "mysql": "seq_1_to_{}"}
COUNTER = {"postgresql": "made.i", "mysql": "seq"}
MINUTE = {
    "postgresql": "to_char(timestamp '{1}' + {0} * interval '1 ms', 'YYYYMMDDHH24MI')",
    "mysql": "date_format(timestamp '{1}' + interval {0} * 1000 microsecond, '%Y%m%d%H%i')",
}
IDENTITY = {
    "postgresql": "concat({minute}, '7', left(md5({0}::text), 3), '8', right(md5({0}::text), 15))::uuid",
    "mysql": "concat(left({minute}, 8), '-', right({minute}, 4), '-7', left(md5({0}), 3), "
    "'-8', mid(md5({0}), 4, 3), '-', right(md5({0}), 12))",
}
"""SQL for an identity in the format of ``evermuse_outbox.evermuse.records.make_identity``.

It begins with the minute of the event and ends with a hash."""
ZONE = {"postgresql": "+00", "mysql": ""}


def add_delivered(count: int, *, days_ago: float, size: int = 1_500, using: str = "default") -> None:
    """Add ``count`` records in complete batches of 1,000 records. Each batch has one attempt."""
    for done in range(0, count, SLICE):
        _RowCopier.for_database(using)._add_delivered(min(SLICE, count - done), days_ago, size)


def add_pending(count: int, *, size: int = 1_500, using: str = "default") -> None:
    """Add ``count`` pending records of one group, enqueued now."""
    _RowCopier.for_database(using)._add_records(count, size)


@dataclass(frozen=True)
class _RowCopier:
    """Copies rows in one database. ``i`` is the SQL expression for the number of the copy, from 1."""

    connection: Any
    i: str

    @classmethod
    def for_database(cls, using: str) -> _RowCopier:
        from django.db import connections

        return cls(connections[using], COUNTER[connections[using].vendor])

    def _add_delivered(self, count: int, days_ago: float, size: int) -> None:
        from evermuse_outbox.models import OutboxAttempt

        batch = self._create_batch(days_ago)
        number = f"({batch.pk} + {self.i})"
        batches = -(-count // BATCH)
        self._copy(batch, batches, key=f"concat('eob-', {number})", remote_id=f"concat('r-', {number})")
        request = {"call": "ingest", "outcome": "accepted", "status": 202, "started_at": batch.finished_at}
        attempt = OutboxAttempt(batch=batch, workspace="default", **request)
        attempt.save(using=self.connection.alias)
        self._copy(attempt, batches, batch_id=number)
        enqueued_at = _quoted(
            batch.finished_at.replace(tzinfo=None).isoformat(" ") + ZONE[self.connection.vendor]
        )
        batch_id = f"{batch.pk} + 1 + floor(({self.i} - 1) / {BATCH})"
        self._add_records(count, size, enqueued_at=enqueued_at, batch_id=batch_id)
        attempt.delete()
        type(batch).objects.using(self.connection.alias).filter(pk=batch.pk).delete()

    def _create_batch(self, days_ago: float) -> Any:
        from django.utils import timezone

        from evermuse_outbox.models import OutboxBatch

        finished_at = timezone.now() - timedelta(days=days_ago)
        group = {
            "workspace": "default",
            "type": "message",
            "product_id": "prod-support",
            "contract": "reference",
        }
        counts = {
            "record_count": BATCH,
            "byte_count": BATCH * 1_500,
            "accepted_count": BATCH,
            "rejected_count": 0,
        }
        moments = dict.fromkeys(("sealed_at", "due_at", "accepted_at", "finished_at"), finished_at)
        states = {
            "body_format": "ndjson",
            "sha256": "0" * 64,
            "state": "complete",
            "remote_status": "COMPLETE",
        }
        rows = OutboxBatch.objects.using(self.connection.alias)
        return rows.create(**group, **counts, **moments, **states, key="template", remote_id="r")

    def _add_records(self, count: int, size: int, **columns: str) -> None:
        from evermuse_outbox import outbox
        from evermuse_outbox.models import OutboxRecord

        template = outbox.enqueue(record(NUMBER, size), using=self.connection.alias)
        head, tail = (_quoted(part) for part in template.payload.split(f"message-{NUMBER}"))
        number = f"({template.pk} + {self.i})"
        minute = MINUTE[self.connection.vendor].format(number, FIRST.isoformat(" "))
        columns["identity"] = IDENTITY[self.connection.vendor].format(number, minute=minute)
        line = f"concat({head}, 'message-', {number}, {tail})"
        self._copy(template, count, payload=line, size=f"octet_length({line})", checksum="NULL", **columns)
        OutboxRecord.rows.using(self.connection.alias).filter(pk=template.pk).delete()

    def _copy(self, row: Any, count: int, **columns: str) -> None:
        """Insert ``count`` copies of a row. ``columns`` maps columns to SQL expressions for their new values.

        The ids of the copies follow the id of the row.
        """
        table, name = row._meta.db_table, self.connection.ops.quote_name
        columns = {"id": f"{row.pk} + {self.i}"} | columns
        names = [field.column for field in row._meta.concrete_fields]
        values = ", ".join(columns.get(column, f"old.{name(column)}") for column in names)
        series = SERIES[self.connection.vendor].format(count)
        with self.connection.cursor() as cursor:
            cursor.execute(
                f"INSERT INTO {table} ({', '.join(map(name, names))}) "
                f"SELECT {values} FROM {table} AS old CROSS JOIN {series} WHERE old.id = {row.pk}"
            )
            if self.connection.vendor == "postgresql":
                cursor.execute(f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), {row.pk + count})")


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
