"""Records that Evermuse rejected: found by their positions, and closed with what was said of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...evermuse.limits import MAX_LISTED_ERRORS
from ...evermuse.outcomes import RecordError
from ...models import OutboxBatch, OutboxRecord, OutboxRejection
from ..context.context import DeliveryContext

Located = dict[int, RecordError]
"""Position in the request → all that was said of the record there."""


def locate(members: Sequence[int], errors: Sequence[RecordError]) -> Located:
    """Position → its errors in one, for the positions that exist."""
    located: Located = {}
    for error in errors:
        if error.index >= len(members):
            continue
        before = located.get(error.index)
        message = f"{before.message}\n{error.message}" if before else error.message
        located[error.index] = RecordError(error.index, before.code if before else error.code, message)
    return located


def reject_located(
    context: DeliveryContext, batch: OutboxBatch, members: Sequence[int], located: Located
) -> None:
    """The located ones of ``members``, which ``batch`` was sent with, → rejected."""
    now = context.clock.now()
    OutboxRecord.rows.using(context.using).reject(
        OutboxRejection(
            record_id=members[position],
            batch=batch,
            position=position,
            code=error.code,
            message=error.message,
            rejected_at=now,
        )
        for position, error in located.items()
    )


def reject_open(context: DeliveryContext, batch: OutboxBatch, code: str, message: str) -> None:
    """Every record that is still in ``batch`` → rejected, all for the same reason."""
    now = context.clock.now()
    OutboxRecord.rows.using(context.using).reject(
        OutboxRejection(record_id=pk, batch=batch, code=code, message=message, rejected_at=now)
        for pk in open_members(context, batch)
    )


def open_members(context: DeliveryContext, batch: OutboxBatch) -> tuple[int, ...]:
    """The ids of the records that are still in ``batch``, in order."""
    rows = OutboxRecord.rows.using(context.using).filter(batch=batch, closed_as__isnull=True)
    return tuple(rows.order_by("pk").values_list("pk", flat=True))


def errors_json(errors: Sequence[RecordError]) -> list[dict[str, Any]]:
    """The errors as a batch keeps them."""
    return [{"index": e.index, "code": e.code, "message": e.message} for e in errors[:MAX_LISTED_ERRORS]]
