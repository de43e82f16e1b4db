"""Seal the records of a batch again, in new batches with keys of their own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from django.db import connections

from ...models import BatchState, OutboxBatch, OutboxRecord
from ..context import DeliveryContext
from ..rules import release_matching
from .batches import PendingRecord, body_format, read_records, request_limits, write_batch
from .contract import translate_or_reject
from .lock import lock_for_sealing
from .packing import pack
from .stored_lines import read_intact
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

    A record that has a newer version is superseded instead. Evermuse must not have the records: for those of a batch in
    doubt, call :func:`reseal_in_doubt`. Call this function in the transaction that settles
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
        for packed in _packed(context, prepare_members(context, batch, part)):
            write_batch(context, packed, parent=batch, resends=resends, due_at=due_at)


def reseal_in_doubt(context: DeliveryContext, batch: OutboxBatch) -> None:
    """Seal the open members of a batch in doubt again, in new batches that are in doubt, too.

    Evermuse may have the old batch, and it may process that late. So no record is superseded: newer versions wait until
    the new batches have ended. Call this function in the transaction that settles ``batch``, under the sealing lock.
    """
    records = translate_or_reject(context, _lock_members(context, batch))
    for packed in _packed(context, records):
        write_batch(context, packed, parent=batch, resends=batch.resends, state=BatchState.IN_DOUBT)


def reseal_part(context: DeliveryContext, records: list[PendingRecord], parent: OutboxBatch) -> OutboxBatch:
    """Seal records of ``parent`` in one new batch: all of them, or the first half, quarter and so on that fits.

    Return the new batch.
    """
    limits, body = request_limits(context), body_format(context)
    while len(pack(records, limits, body)) < len(records):
        records = records[: len(records) // 2]
    return write_batch(context, records, parent=parent, resends=parent.resends).batch


def prepare_members(
    context: DeliveryContext,
    batch: OutboxBatch,
    pks: Sequence[int] | None = None,
    *,
    is_in_doubt: bool = False,
) -> list[PendingRecord]:
    """Make the open members of ``batch`` ready to be sealed again and return them in order. Needs the sealing lock.

    Supersede records that have a newer version, and bring the others into the workspace's contract. Records that match
    a standing rule become pending, unless Evermuse may have them. ``pks`` limits the members; None means all of them.

    If ``is_in_doubt`` is true, Evermuse may still process the batch. Then no record is superseded or becomes pending:
    newer versions wait until the new batches have ended.
    """
    members = _lock_members(context, batch, pks)
    if not is_in_doubt:
        members, has_rules = supersede_older(context, members)
        members = release_matching(context, batch, members) if has_rules else members
    return translate_or_reject(context, members)


def _lock_members(
    context: DeliveryContext, batch: OutboxBatch, pks: Sequence[int] | None = None
) -> list[PendingRecord]:
    """Lock the open members of ``batch`` and return them in order; reject those whose line was altered.

    The host can delete none of them meanwhile.
    """
    rows = OutboxRecord.rows.using(context.using).filter(batch=batch, closed_as__isnull=True)
    members = rows if pks is None else rows.filter(pk__in=pks)
    if connections[context.using].features.has_select_for_update:
        members = members.select_for_update()
    return read_intact(context, read_records(members.order_by("pk")), batch)


def _packed(context: DeliveryContext, records: list[PendingRecord]) -> Iterator[list[PendingRecord]]:
    """Yield the records request by request."""
    while records:
        packed = pack(records, request_limits(context), body_format(context))
        yield packed
        packed_ids = {record.pk for record in packed}
        records = [record for record in records if record.pk not in packed_ids]
