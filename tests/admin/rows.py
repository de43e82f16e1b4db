"""Rows in any state, written with the models and without the delivery."""

from __future__ import annotations

import hashlib
import itertools
import json
import uuid
from datetime import timedelta

from django.utils import timezone

from evermuse_outbox.models import BatchState, OutboxAttempt, OutboxBatch, OutboxRecord, OutboxRejection

numbers = itertools.count(1)


def line(vendor_id: str = "T-1", text: str = "Hello") -> str:
    """Return a payload as the outbox stores it, with vendor ids near its start."""
    return json.dumps(
        {
            "_type": "message",
            "_schema_version": "1.0.0",
            "_event_at": "2026-01-01T00:00:00.000Z",
            "_vendor_ids": {"ticket": vendor_id, "account": "A-7"},
            "_product_id": "prod",
            "data": {"text": text},
        },
        ensure_ascii=False,
        separators=(",", ":"),
    )


def record(batch: OutboxBatch | None = None, **changes: object) -> OutboxRecord:
    """Create a record; it is pending if no batch is given."""
    number = next(numbers)
    values = {
        "workspace": "default",
        "type": "message",
        "product_id": "prod",
        "identity": uuid.uuid4(),
        "contract": "reference",
        "payload": line(f"T-{number}"),
        "enqueued_at": timezone.now(),
        "batch": batch,
    } | changes
    values.setdefault("size", len(str(values["payload"]).encode()))
    return OutboxRecord.rows.create(**values)


def batch(state: str = BatchState.SEALED, **changes: object) -> OutboxBatch:
    """Create a batch in ``state`` with the fields that its constraints require."""
    now = timezone.now()
    values = {
        "workspace": "default",
        "type": "message",
        "product_id": "prod",
        "contract": "reference",
        "body_format": "ndjson",
        "key": uuid.uuid4().hex,
        "sha256": hashlib.sha256(b"").hexdigest(),
        "record_count": 1,
        "byte_count": 100,
        "state": state,
        "sealed_at": now - timedelta(minutes=2),
        "due_at": now,
    }
    if state == BatchState.SENDING:
        values |= {"lease_token": uuid.uuid4(), "leased_until": now + timedelta(minutes=1)}
    if state in (BatchState.ACCEPTED, BatchState.COMPLETE):
        values |= {"remote_id": f"remote-{next(numbers)}", "accepted_at": now, "accepted_count": 1}
    if state in (BatchState.COMPLETE, BatchState.FAILED, BatchState.REFUSED, BatchState.SPLIT):
        values |= {"finished_at": now}
    return OutboxBatch.objects.create(**values | changes)


def rejected(**changes: object) -> OutboxRecord:
    """Create a record that Evermuse rejected, in the batch with which it was sent."""
    home = batch(BatchState.REFUSED, errors=[{"index": 0, "code": "BAD", "message": "No such product."}])
    row = record(home, closed_as="rejected", **changes)
    OutboxRejection.objects.create(
        record=row,
        batch=home,
        position=0,
        code="BAD",
        message="No such product.",
        rejected_at=timezone.now(),
    )
    return row


def attempt(of: OutboxBatch, **changes: object) -> OutboxAttempt:
    """Create an attempt of a batch."""
    values = {
        "batch": of,
        "workspace": of.workspace,
        "call": OutboxAttempt.Call.INGEST,
        "started_at": timezone.now(),
        "seconds": 0.12,
        "status": 202,
        "outcome": "accepted",
        "detail": '{"batchId":"x"}',
    }
    return OutboxAttempt.objects.create(**values | changes)
