"""Check stored lines before they are sealed again: a host can alter them with SQL of its own."""

from __future__ import annotations

import json
from typing import Any

from ...evermuse.records import make_identity
from ...models import OutboxBatch, OutboxRecord, OutboxRejection
from ..context import DeliveryContext

MESSAGE = "The stored line was altered after the record was enqueued, and it cannot be sent: {reason}."


def check_stored_lines(context: DeliveryContext, batch: OutboxBatch) -> None:
    """Reject the open members of ``batch`` whose line cannot be sent; store the size of lines that were altered.

    The hash of a batch does not show which of its lines were altered. So each line is checked.
    """
    rows = OutboxRecord.rows.using(context.using)
    rejections = []
    for record in rows.filter(batch=batch, closed_as__isnull=True).order_by("pk"):
        size = len(record.payload.encode())
        if reason := _find_fault(record, is_altered=size != record.size):
            message = MESSAGE.format(reason=reason)
            rejections.append(
                OutboxRejection(
                    record_id=record.pk,
                    batch_id=batch.pk,
                    code="NOT_SENDABLE",
                    message=message,
                    rejected_at=context.clock.now(),
                )
            )
        elif size != record.size:
            rows.filter(pk=record.pk).update(size=size)
    if rejections:
        rows.reject(rejections)


def _find_fault(record: OutboxRecord, *, is_altered: bool) -> str:
    """Return why the line cannot be sent; an empty text if it can. Its group and its identity must be the record's."""
    try:
        envelope = json.loads(record.payload)
        if "\n" in record.payload or "\r" in record.payload:
            return "it has several lines"
        if (envelope["_type"], envelope["_product_id"]) != (record.type, record.product_id):
            return "it belongs to another group"
        if is_altered and _identity(record, envelope) != record.identity:
            return "it is about another record"
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return "it is no envelope in JSON"
    return ""


def _identity(record: OutboxRecord, envelope: dict[str, Any]) -> Any:
    return make_identity(record.workspace, record.type, envelope["_event_at"], envelope["_vendor_ids"])
