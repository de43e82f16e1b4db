"""Reject records: find the records that an answer names by position, and close them with their messages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...evermuse import limits
from ...evermuse.api import RecordError
from ...models import OutboxBatch, OutboxRecord, OutboxRejection
from ..context import DeliveryContext

LocatedErrors = dict[int, RecordError]
"""Position in the request → all errors of the record at that position, joined."""


def locate_errors(members: Sequence[int], errors: Sequence[RecordError]) -> LocatedErrors:
    """Join the errors of each position. Leave out positions that the request did not have."""
    located: LocatedErrors = {}
    for error in errors:
        if error.index >= len(members):
            continue
        previous = located.get(error.index)
        message = f"{previous.message}\n{error.message}" if previous else error.message
        located[error.index] = RecordError(error.index, previous.code if previous else error.code, message)
    return located


def reject_located(
    context: DeliveryContext, batch: OutboxBatch, members: Sequence[int], located: LocatedErrors
) -> None:
    """Reject the located records. ``members`` are the record ids in the order in which ``batch`` was sent."""
    now = context.clock.now()
    OutboxRecord.rows.using(context.using).reject(
        OutboxRejection(
            record_id=members[position],
            batch_id=batch.pk,
            position=position,
            code=error.code,
            message=error.message,
            rejected_at=now,
        )
        for position, error in located.items()
    )


def reject_open_members(context: DeliveryContext, batch: OutboxBatch, code: str, message: str) -> None:
    """Reject every open member of ``batch`` for the same reason."""
    now = context.clock.now()
    OutboxRecord.rows.using(context.using).reject(
        OutboxRejection(record_id=pk, batch_id=batch.pk, code=code, message=message, rejected_at=now)
        for pk in open_members(context, batch)
    )


def open_members(context: DeliveryContext, batch: OutboxBatch) -> tuple[int, ...]:
    """Return the ids of the records that are still in ``batch``, in order."""
    rows = OutboxRecord.rows.using(context.using).filter(batch=batch, closed_as__isnull=True)
    return tuple(rows.order_by("pk").values_list("pk", flat=True))


def errors_to_json(errors: Sequence[RecordError]) -> list[dict[str, Any]]:
    """Return the value of a batch's column ``errors``."""
    listed = errors[: limits.MAX_LISTED_ERRORS]
    return [{"index": error.index, "code": error.code, "message": error.message} for error in listed]
