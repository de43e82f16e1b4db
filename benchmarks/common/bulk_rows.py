"""A table that has grown: rows by the million, made in the database itself, each from one real row."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from .records import FIRST, record

NUMBER = 987_654_321
"""Marks the place in the template's line where each row has a number of its own."""

BATCH = 1_000
SLICE = 100_000
"""Rows that one statement makes."""

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
"""As :func:`evermuse_outbox.evermuse.envelope.identity` makes them: the minute first, and then a hash."""
ZONE = {"postgresql": "+00", "mysql": ""}


def add_delivered(count: int, *, days_ago: float, size: int = 1_500, using: str = "default") -> None:
    """``count`` records in complete batches of 1,000 that ended that many days ago, with an attempt each."""
    for done in range(0, count, SLICE):
        _Grower.on(using)._add_delivered(min(SLICE, count - done), days_ago, size)


def add_pending(count: int, *, size: int = 1_500, using: str = "default") -> None:
    """``count`` records of one group that wait, enqueued now."""
    _Grower.on(using)._add_records(count, size)


@dataclass(frozen=True)
class _Grower:
    """Makes rows in one database; ``i`` is the running number in its SQL."""

    connection: Any
    i: str

    @classmethod
    def on(cls, using: str) -> _Grower:
        from django.db import connections

        return cls(connections[using], COUNTER[connections[using].vendor])

    def _add_delivered(self, count: int, days_ago: float, size: int) -> None:
        from evermuse_outbox.models import OutboxAttempt

        batch = self._batch(days_ago)
        number = f"({batch.pk} + {self.i})"
        batches = -(-count // BATCH)
        self._multiply(batch, batches, key=f"concat('eob-', {number})", remote_id=f"concat('r-', {number})")
        called = {"call": "ingest", "outcome": "accepted", "status": 202, "started_at": batch.finished_at}
        attempt = OutboxAttempt(batch=batch, workspace="default", **called)
        attempt.save(using=self.connection.alias)
        self._multiply(attempt, batches, batch_id=number)
        at = _quoted(batch.finished_at.replace(tzinfo=None).isoformat(" ") + ZONE[self.connection.vendor])
        batch_id = f"{batch.pk} + 1 + floor(({self.i} - 1) / {BATCH})"
        self._add_records(count, size, enqueued_at=at, batch_id=batch_id)
        attempt.delete()
        type(batch).objects.using(self.connection.alias).filter(pk=batch.pk).delete()

    def _batch(self, days_ago: float) -> Any:
        from django.utils import timezone

        from evermuse_outbox.models import OutboxBatch

        ended = timezone.now() - timedelta(days=days_ago)
        told = {
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
        moments = dict.fromkeys(("sealed_at", "due_at", "accepted_at", "finished_at"), ended)
        written = {
            "body_format": "ndjson",
            "sha256": "0" * 64,
            "state": "complete",
            "remote_status": "COMPLETE",
        }
        rows = OutboxBatch.objects.using(self.connection.alias)
        return rows.create(**told, **counts, **moments, **written, key="template", remote_id="r")

    def _add_records(self, count: int, size: int, **columns: str) -> None:
        from evermuse_outbox import outbox
        from evermuse_outbox.models import OutboxRecord

        template = outbox.enqueue(record(NUMBER, size), using=self.connection.alias)
        head, tail = (_quoted(part) for part in template.payload.split(f"message-{NUMBER}"))
        number = f"({template.pk} + {self.i})"
        minute = MINUTE[self.connection.vendor].format(number, FIRST.isoformat(" "))
        columns["identity"] = IDENTITY[self.connection.vendor].format(number, minute=minute)
        self._multiply(template, count, payload=f"concat({head}, 'message-', {number}, {tail})", **columns)
        OutboxRecord.rows.using(self.connection.alias).filter(pk=template.pk).delete()

    def _multiply(self, row: Any, count: int, **columns: str) -> None:
        """``count`` copies of the row with ids that follow on its own, ``columns`` replaced by these expressions."""
        table, name = row._meta.db_table, self.connection.ops.quote_name
        columns = {"id": f"{row.pk} + {self.i}"} | columns
        names = [field.column for field in row._meta.concrete_fields]
        values = ", ".join(columns.get(each, f"old.{name(each)}") for each in names)
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
