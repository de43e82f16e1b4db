"""Rows in any state, written to the database without the delivery."""

from __future__ import annotations

from typing import Any

from django.utils import timezone

from evermuse_outbox import outbox
from evermuse_outbox.models import (
    BatchState,
    GroupState,
    OutboxBatch,
    OutboxGroup,
    OutboxRecord,
    RecordState,
    group_key,
)
from evermuse_outbox.models.record_states import CLOSING
from tests.records import record


def batch_in(alias: str, state: str, **changes: Any) -> OutboxBatch:
    """Create a batch in that state with the fields that its constraints require."""
    now = timezone.now()
    fields: dict[str, Any] = {
        "workspace": "default",
        "type": "message",
        "product_id": "prod-abc",
        "contract": "reference",
        "body_format": "ndjson",
        "key": f"key-{OutboxBatch.objects.using(alias).count()}",
        "sha256": "0" * 64,
        "record_count": 1,
        "byte_count": 1,
        "sealed_at": now,
        "due_at": now,
        "state": state,
    }
    if state == BatchState.SENDING:
        fields |= {"lease_token": "00000000-0000-0000-0000-000000000001", "leased_until": now}
    if state in (BatchState.ACCEPTED, BatchState.COMPLETE):
        fields |= {"remote_id": "remote-1"}
    return OutboxBatch.objects.using(alias).create(**fields | changes)


def record_in(alias: str, state: str, batch: OutboxBatch | None = None, **changes: Any) -> OutboxRecord:
    """Create a record in that state of :class:`RecordState`, in ``batch`` or in a suitable batch."""
    ends = {RecordState.IN_FLIGHT: BatchState.SENDING, RecordState.DELIVERED: BatchState.COMPLETE}
    if batch is None and state in ends:
        batch = batch_in(alias, ends[RecordState(state)])
    closed_as = state if state in CLOSING else None
    row = outbox.enqueue(record(f"{state}-{OutboxRecord.rows.using(alias).count()}"), using=alias)
    OutboxRecord.rows.using(alias).filter(pk=row.pk).update(batch=batch, closed_as=closed_as, **changes)
    return OutboxRecord.objects.using(alias).get(pk=row.pk)


def group(alias, state=GroupState.PAUSED, **changes):
    """Create a row of a group with the fields that its constraints require."""
    names = {"workspace": "default", "type": "message", "product_id": "prod-abc"}
    names |= {name: changes[name] for name in names if name in changes}
    fields = {
        "scope": group_key(*names.values()),
        **names,
        "state": state,
        "since": timezone.now(),
        "error_signature": "no such project",
        "contract": "reference",
        "batches": 3,
        "records": 10,
        "blocked_until": timezone.now() if state == GroupState.PAUSED else None,
        "reason": "3 batches in a row were refused alike. No such project",
        "advice": "Look at the project id.",
    }
    return OutboxGroup.objects.using(alias).create(**fields | changes)
