"""Seal pending records: lock the oldest records of a group, pack them and write them as a batch.

All of it is part of one short transaction under the sealing lock. The POST comes after its commit.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from ...models import BatchState, OutboxBatch, OutboxWorkspace
from ..context import DeliveryContext
from ..deferral import expire_due
from ..gates import claim_group_probe, paused_groups
from ..ordering import order_of
from ..rules import withhold_matching
from ..scheduling import Entry, Group, RunQueue, pending_records
from .batches import PendingRecord, SealedBatch, body_format, read_records, request_limits, write_batch
from .contract import translate_or_reject
from .packing import pack
from .pages import Page, read_chosen_pages, read_locked_pages
from .stored_lines import read_intact
from .versions import sole_versions, supersede_and_select_sendable, supersede_duplicates

PROBED_RECORDS = 100
"""A probe of a paused group takes one of this many newest records, each time another one."""

MAX_WITHHELD = 1_000
"""Records that standing rules withhold in one transaction, before no further page is read. So a rule that matches
millions of records delays no batch of another group for long."""

ALMOST_FULL = 0.9
"""Share of the bytes or attachments of a request from which on the next record might not fit."""


def seal_first(
    context: DeliveryContext,
    workspace: OutboxWorkspace,
    queue: RunQueue,
    entries: Iterable[Entry],
) -> SealedBatch | None:
    """Seal and lease a batch of the first entry that yields one; return None if no entry does.

    Needs the sealing lock. The run queue learns the result of each entry. Of a paused group, only one record is sealed,
    as a probe.

    Args:
        context: the delivery context.
        workspace: the locked row of the workspace.
        queue: the run queue.
        entries: the groups to try, in order.
    """
    for entry in entries:
        if queue.withheld >= MAX_WITHHELD:
            return None
        withheld_before = queue.withheld
        sealed = _seal_group(context, queue, entry.group, workspace.seal_count)
        if sealed:
            full_size, now = _full_size(context, sealed.batch), context.clock.now().timestamp()
            queue.note_sealed(entry, full_size, workspace.seal_count, now)
            return sealed
        if queue.withheld > withheld_before:
            queue.note_withheld(entry)
        else:
            queue.note_nothing_sealed(entry, context.clock.now().timestamp())
    return None


def _seal_group(context: DeliveryContext, queue: RunQueue, group: Group, number: int) -> SealedBatch | None:
    """Seal and lease a batch of the group, or return None if none of its records can be sent now."""
    # One time for all: otherwise a record could expire between the look at its expiry and the time of the sealing.
    context = replace(context, clock=context.clock.stopped())
    request = request_limits(context)
    choose = order_of(context, group, queue, number)
    read = (
        read_chosen_pages(context, group, choose, request.records)
        if choose
        else read_locked_pages(
            context, group, pending_records(context, group, queue.resume_points.get(group)), request.records
        )
    )
    pages: list[Page] = []
    sendable: list[PendingRecord] = []
    for page in read:
        if page.is_paused:
            return _seal_probe(context, group)
        page = _without_withheld(context, queue, _without_expired(context, page))
        pages.append(page)
        unblocked = supersede_and_select_sendable(context, page.records, page.sole)
        selected = translate_or_reject(context, unblocked)
        sendable = supersede_duplicates(context, sendable + selected) if sendable else selected
        if len(sendable) >= request.records or queue.withheld >= MAX_WITHHELD:
            break
    while packed := pack(sendable, request, body_format(context)):
        if intact := read_intact(context, packed):
            if not choose:  # in another order, the records before a packed one may still be pending
                _save_resume_point(queue, group, pages, packed)
            return write_batch(context, intact, state=BatchState.SENDING)
        altered = {record.pk for record in packed}
        sendable = [record for record in sendable if record.pk not in altered]
    return None


def _without_expired(context: DeliveryContext, page: Page) -> Page:
    """Let the records of the page expire whose time is over, and return the page without them."""
    if not page.is_any_due:
        return page
    pks = [record.pk for record in page.records]
    expired = expire_due(context.using, pks, context.clock.now())
    return replace(page, records=[record for record in page.records if record.pk not in expired])


def _without_withheld(context: DeliveryContext, queue: RunQueue, page: Page) -> Page:
    """Return the page without the records that a standing rule withholds, if any rule applies to the workspace."""
    if not page.has_rules:
        return page
    left = withhold_matching(context, page.records)
    queue.withheld += len(page.records) - len(left)
    return replace(page, records=left)


def _seal_probe(context: DeliveryContext, group: Group) -> SealedBatch | None:
    """Seal one record of a paused group, to find out whether it is still refused."""
    row = paused_groups(context).get(group)
    if row is None or not claim_group_probe(context, row):
        return None
    newest = pending_records(context, group).order_by("-enqueued_at", "-pk")
    position = row.probes % PROBED_RECORDS
    page = read_records(newest[position : position + 1]) or read_records(newest[:1])
    exact = [record for record in page if (record.type, record.product_id) == group]
    expired = expire_due(context.using, [record.pk for record in exact], context.clock.now())
    unexpired = [record for record in exact if record.pk not in expired]
    intact = read_intact(context, withhold_matching(context, unexpired))
    sendable = supersede_and_select_sendable(context, intact, sole_versions(context, intact))
    records = translate_or_reject(context, sendable)
    return write_batch(context, records, state=BatchState.SENDING) if records else None


def _save_resume_point(queue: RunQueue, group: Group, pages: list[Page], packed: list[PendingRecord]) -> None:
    """Remember the first record that was read and not packed, if the queue names the group again.

    If all were packed, remember the last one.
    """
    if not queue.has_entry_of(group):
        return
    packed_ids = {record.pk for record in packed}
    read = [(page, record) for page in pages for record in page.records]
    page, record = next((pair for pair in read if pair[1].pk not in packed_ids), read[-1])
    queue.resume_points[group] = page.position_of(record)


def _full_size(context: DeliveryContext, batch: OutboxBatch) -> int:
    """Return how many records filled the request; 0 if it had room for more."""
    settings = context.settings
    is_full = (
        batch.record_count >= settings.max_batch_records
        or batch.byte_count >= ALMOST_FULL * settings.max_batch_bytes
        or batch.attachment_count >= ALMOST_FULL * settings.max_batch_attachments
    )
    return batch.record_count if is_full else 0
