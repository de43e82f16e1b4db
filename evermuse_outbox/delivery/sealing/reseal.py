"""Seal the records of a batch again, in new batches with keys of their own."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from ...models import OutboxBatch, OutboxRecord
from ..context import DeliveryContext
from .batches import PendingRecord, body_format, read_records, request_limits, write_batch
from .contract import translate_or_reject
from .lock import lock_for_sealing
from .packing import pack
from .versions import supersede_older


def reseal_parts(
    context: DeliveryContext,
    batch: OutboxBatch,
    parts: Sequence[Sequence[int]],
    *,
    resends: int = 0,
    due_at: datetime | None = None,
) -> None:
    """Seal the open members of ``batch`` again, each part in as many new batches as it needs.

    A record that has a newer version is superseded instead. Call this function in the transaction that settles
    ``batch``. It takes the sealing lock, so that no newer version is sealed meanwhile.

    Args:
        context: the delivery context.
        batch: the batch that the records are moved from.
        parts: the record ids of each part.
        resends: how often these records were sent again after Evermuse reported FAILED.
        due_at: when the new batches may be sent; None for now.
    """
    lock_for_sealing(context)
    for part in parts:
        records = prepare_members(context, batch, part)
        while records:
            packed = pack(records, request_limits(context), body_format(context))
            write_batch(context, packed, parent=batch, resends=resends, due_at=due_at)
            packed_ids = {record.pk for record in packed}
            records = [record for record in records if record.pk not in packed_ids]


def reseal_part(context: DeliveryContext, records: list[PendingRecord], parent: OutboxBatch) -> None:
    """Seal records of ``parent`` in one new batch: all of them, or the first half, quarter and so on that fits."""
    limits, body = request_limits(context), body_format(context)
    while len(pack(records, limits, body)) < len(records):
        records = records[: len(records) // 2]
    write_batch(context, records, parent=parent, resends=parent.resends)


def prepare_members(
    context: DeliveryContext, batch: OutboxBatch, pks: Sequence[int] | None = None
) -> list[PendingRecord]:
    """Make the open members of ``batch`` ready to be sealed again and return them in order. Needs the sealing lock.

    Supersede records that have a newer version, and bring the others into the workspace's contract. ``pks`` limits the
    members; None means all of them.
    """
    rows = OutboxRecord.rows.using(context.using).filter(batch=batch, closed_as__isnull=True)
    members = rows if pks is None else rows.filter(pk__in=pks)
    latest = supersede_older(context, read_records(members.order_by("pk")))
    return translate_or_reject(context, latest)
