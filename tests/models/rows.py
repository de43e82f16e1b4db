"""Rows for tests of the models, in any state."""

from __future__ import annotations

import uuid
from typing import Any

from django.utils import timezone

from evermuse_outbox.models import GroupState, OutboxBatch, OutboxGroup, OutboxRecord, group_key

NOW = timezone.now().replace(microsecond=0)
GROUP = {"workspace": "default", "type": "message", "product_id": "prod-abc"}


def add_batch(alias: str, state: str = "sealed", **columns: Any) -> OutboxBatch:
    """Add a batch in ``state``, with the columns that the state requires."""
    if state == "sending":
        columns = {"lease_token": uuid.uuid4(), "leased_until": NOW} | columns
    if state in ("accepted", "complete"):
        columns = {"remote_id": "remote", "next_poll_at": NOW} | columns
    defaults = {
        "contract": "reference",
        "body_format": "ndjson",
        "key": uuid.uuid4().hex,
        "sha256": "0" * 64,
        "record_count": 1,
        "byte_count": 2,
        "sealed_at": NOW,
        "due_at": NOW,
    }
    return OutboxBatch.objects.using(alias).create(**GROUP, **defaults | columns, state=state)


def add_record(alias: str, state: str = "pending", **columns: Any) -> OutboxRecord:
    """Add a record in ``state``; in flight needs the column ``batch``."""
    closed_as = None if state in ("pending", "in_flight", "delivered") else state
    defaults = {
        "identity": uuid.uuid4(),
        "contract": "reference",
        "payload": "{}",
        "size": 2,
        "enqueued_at": NOW,
        "closed_as": closed_as,
    }
    return OutboxRecord.rows.using(alias).create(**GROUP, **defaults | columns)


def add_group(alias: str, state: str = "suspected", **columns: Any) -> OutboxGroup:
    """Add the row of a group in trouble."""
    if state == GroupState.PAUSED:
        columns = {"blocked_until": NOW} | columns
    defaults = {"since": NOW, "error_signature": "no", "contract": "reference", "batches": 2, "records": 9}
    return OutboxGroup.objects.using(alias).create(
        scope=group_key(*GROUP.values()), **GROUP, **defaults | columns, state=state
    )
