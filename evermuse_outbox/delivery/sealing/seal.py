"""Seal pending records: lock the oldest records of a group, pack them and write them as a batch.

All of it is part of one short transaction under the sealing lock. The POST comes after its commit.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from django.db import connections

from ...evermuse import limits
from ...models import (
    BatchState,
    OutboxBatch,
    OutboxGroup,
    OutboxRecord,
    OutboxWorkspace,
    RecordQuerySet,
    is_after,
)
from ..context import DeliveryContext
from ..gates import claim_group_probe
from ..scheduling import Entry, Group, ResumePoint, RunQueue, pending_records
from .batches import PendingRecord, SealedBatch, body_format, read_records, request_limits, write_batch
from .contract import translate_or_reject
from .packing import pack
from .stored_lines import read_intact
from .versions import supersede_and_select_sendable, supersede_duplicates

MAX_PAGES, PAGE_GROWTH = 5, 4
"""Pages of pending records that are read for one batch. Records that are blocked by an earlier version may fill the
first ones. The first page is one request. Each further page is four times as large, up to
``limits.MAX_BATCH_RECORDS``."""

PROBED_RECORDS = 100
"""A probe of a paused group takes one of this many newest records, each time another one."""

ALMOST_FULL = 0.9
"""Share of the bytes or attachments of a request from which on the next record might not fit."""


def seal_first(
    context: DeliveryContext,
    workspace: OutboxWorkspace,
    queue: RunQueue,
    paused: Mapping[Group, OutboxGroup],
    entries: Iterable[Entry],
) -> SealedBatch | None:
    """Seal and lease a batch of the first entry that yields one; return None if no entry does.

    Needs the sealing lock. The run queue learns the result of each entry.

    Args:
        context: the delivery context.
        workspace: the locked row of the workspace.
        queue: the run queue.
        paused: the paused groups. Of such a group, only one record is sealed, as a probe.
        entries: the groups to try, in order.
    """
    for entry in entries:
        row = paused.get(entry.group)
        sealed = _seal_probe(context, row, entry.group) if row else _seal_group(context, queue, entry.group)
        if sealed:
            queue.note_sealed(entry, _full_size(context, sealed.batch), workspace.seal_count)
            return sealed
        queue.note_nothing_sealed(entry, context.clock.now().timestamp())
    return None


def _seal_group(context: DeliveryContext, queue: RunQueue, group: Group) -> SealedBatch | None:
    """Seal and lease a batch of the group, or return None if none of its records can be sent now."""
    request = request_limits(context)
    waiting = pending_records(context, group, queue.resume_points.get(group))
    read: list[PendingRecord] = []
    sendable: list[PendingRecord] = []
    for page in _locked_pages(context, waiting, request.records):
        records = _exactly_of(group, page)
        read += records
        selected = translate_or_reject(context, supersede_and_select_sendable(context, records))
        sendable = supersede_duplicates(context, sendable + selected) if sendable else selected
        if len(sendable) >= request.records:
            break
    while packed := pack(sendable, request, body_format(context)):
        if intact := read_intact(context, packed):
            _save_resume_point(context, queue, group, read, packed)
            return write_batch(context, intact, state=BatchState.SENDING)
        altered = {record.pk for record in packed}
        sendable = [record for record in sendable if record.pk not in altered]
    return None


def _seal_probe(context: DeliveryContext, row: OutboxGroup, group: Group) -> SealedBatch | None:
    """Seal one record of a paused group, to find out whether it is still refused."""
    if not claim_group_probe(context, row):
        return None
    newest = pending_records(context, group).order_by("-enqueued_at", "-pk")
    position = row.probes % PROBED_RECORDS
    page = read_records(newest[position : position + 1]) or read_records(newest[:1])
    sendable = supersede_and_select_sendable(context, read_intact(context, _exactly_of(group, page)))
    records = translate_or_reject(context, sendable)
    return write_batch(context, records, state=BatchState.SENDING) if records else None


def _locked_pages(
    context: DeliveryContext, waiting: RecordQuerySet, size: int
) -> Iterator[list[PendingRecord]]:
    """Yield the waiting records page by page and lock them. Skip records that another transaction has locked."""
    if connections[context.using].features.has_select_for_update_skip_locked:
        waiting = waiting.select_for_update(skip_locked=True)
    page: list[PendingRecord] = []
    for _ in range(MAX_PAGES):
        page = read_records(_after(context, waiting, page)[:size])
        yield page
        if len(page) < size:
            return
        size = min(PAGE_GROWTH * size, limits.MAX_BATCH_RECORDS)


def _after(context: DeliveryContext, waiting: RecordQuerySet, page: list[PendingRecord]) -> RecordQuerySet:
    """Return the waiting records after the last one of a page."""
    if not page:
        return waiting
    last = OutboxRecord.rows.using(context.using).only("enqueued_at").get(pk=page[-1].pk)
    return waiting.filter(is_after("enqueued_at", last.enqueued_at, last.pk))


def _exactly_of(group: Group, records: list[PendingRecord]) -> list[PendingRecord]:
    """Return the records of exactly this group. A database may compare without regard to case; Evermuse does not."""
    return [record for record in records if (record.type, record.product_id) == group]


def _save_resume_point(
    context: DeliveryContext,
    queue: RunQueue,
    group: Group,
    read: list[PendingRecord],
    packed: list[PendingRecord],
) -> None:
    """Remember the first record that was read and not packed, if the queue names the group again.

    If all were packed, remember the last one.
    """
    if not queue.has_entry_of(group):
        return
    packed_ids = {record.pk for record in packed}
    first_left = next((record for record in read if record.pk not in packed_ids), read[-1])
    rows = OutboxRecord.rows.using(context.using).values_list("enqueued_at", flat=True)
    queue.resume_points[group] = ResumePoint(rows.get(pk=first_left.pk), first_left.pk)


def _full_size(context: DeliveryContext, batch: OutboxBatch) -> int:
    """Return how many records filled the request; 0 if it had room for more."""
    settings = context.settings
    is_full = (
        batch.record_count >= settings.max_batch_records
        or batch.byte_count >= ALMOST_FULL * settings.max_batch_bytes
        or batch.attachment_count >= ALMOST_FULL * settings.max_batch_attachments
    )
    return batch.record_count if is_full else 0
