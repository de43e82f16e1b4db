"""A table that has grown: rows by the million, made in the database itself, each from one real row."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from .records import record

NUMBER = 987_654_321
"""Marks the place in the template's line where each row has a number of its own."""

BATCH = 1_000
SLICE = 100_000
"""Rows that one statement makes."""

SERIES = {"postgresql": "generate_series(1, {}) AS made(i)", "mysql": "seq_1_to_{}"}
COUNTER = {"postgresql": "made.i", "mysql": "seq"}
IDENTITY = {"postgresql": "md5({}::text)::uuid", "mysql": "md5({})"}


def add_delivered(count: int, *, days_ago: float, size: int = 1_500) -> None:
    """``count`` records in complete batches of 1,000 that ended that many days ago, with an attempt each."""
    for done in range(0, count, SLICE):
        _add_delivered(min(SLICE, count - done), days_ago, size)


def add_pending(count: int, *, size: int = 1_500) -> None:
    """``count`` records of one group that wait, enqueued now."""
    _add_records(count, size)


def _add_delivered(count: int, days_ago: float, size: int) -> None:
    from evermuse_outbox.models import OutboxAttempt

    batch = _batch(days_ago)
    number = f"({batch.pk} + {_i()})"
    batches = -(-count // BATCH)
    _multiply(batch, batches, key=f"concat('eob-', {number})", remote_id=f"concat('r-', {number})")
    attempt = OutboxAttempt(batch=batch, workspace="default", call="ingest", outcome="accepted", status=202)
    attempt.started_at = batch.finished_at
    attempt.save()
    _multiply(attempt, batches, batch_id=number)
    at = _quoted(batch.finished_at.replace(tzinfo=None).isoformat(" ") + _zone())
    _add_records(count, size, enqueued_at=at, batch_id=f"{batch.pk} + 1 + floor(({_i()} - 1) / {BATCH})")
    attempt.delete()
    type(batch).objects.filter(pk=batch.pk).delete()


def _batch(days_ago: float) -> Any:
    from django.utils import timezone

    from evermuse_outbox.models import OutboxBatch

    ended = timezone.now() - timedelta(days=days_ago)
    told = {"workspace": "default", "type": "message", "product_id": "prod-support", "contract": "reference"}
    counts = {
        "record_count": BATCH,
        "byte_count": BATCH * 1_500,
        "accepted_count": BATCH,
        "rejected_count": 0,
    }
    moments = dict.fromkeys(("sealed_at", "due_at", "accepted_at", "finished_at"), ended)
    written = {"body_format": "ndjson", "sha256": "0" * 64, "state": "complete", "remote_status": "COMPLETE"}
    return OutboxBatch.objects.create(**told, **counts, **moments, **written, key="template", remote_id="r")


def _add_records(count: int, size: int, **columns: str) -> None:
    from evermuse_outbox import outbox
    from evermuse_outbox.models import OutboxRecord

    template = outbox.enqueue(record(NUMBER, size))
    head, tail = (_quoted(part) for part in template.payload.split(f"message-{NUMBER}"))
    number = f"({template.pk} + {_i()})"
    payload = f"concat({head}, 'message-', {number}, {tail})"
    _multiply(template, count, identity=IDENTITY[_vendor()].format(number), payload=payload, **columns)
    OutboxRecord.rows.filter(pk=template.pk).delete()


def _multiply(row: Any, count: int, **columns: str) -> None:
    """``count`` copies of the row with ids that follow on its own, ``columns`` replaced by these expressions."""
    from django.db import connection

    table = row._meta.db_table
    columns = {"id": f"{row.pk} + {_i()}"} | columns
    names = [field.column for field in row._meta.concrete_fields]
    values = ", ".join(columns.get(name, f"old.{_name(name)}") for name in names)
    series = SERIES[_vendor()].format(count)
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {table} ({', '.join(map(_name, names))}) "
            f"SELECT {values} FROM {table} AS old CROSS JOIN {series} WHERE old.id = {row.pk}"
        )
        if _vendor() == "postgresql":
            cursor.execute(f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), {row.pk + count})")


def _vendor() -> str:
    from django.db import connection

    return connection.vendor


def _i() -> str:
    return COUNTER[_vendor()]


def _zone() -> str:
    return "+00" if _vendor() == "postgresql" else ""


def _name(column: str) -> str:
    from django.db import connection

    return connection.ops.quote_name(column)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
