"""Groups in which everything is refused alike: no record is at fault there, so that none may be used up.

A contract that the key is not served under, or a wrong project id, makes Evermuse refuse every record of a group.
Dividing would burn the quota to reject them all. So what is refused in full is counted, a group at a time, until
something is accepted. From :data:`BATCHES` batches on, the next requests of the group each try one record out of
turn, and with :data:`RECORDS` records refused for certain the group is paused: what was rejected on the way goes
back into the queue, and a record is tried each :data:`PROBE` seconds until one is accepted or a person resumes it.
"""

from __future__ import annotations

import logging
from enum import Enum, auto
from typing import Any

from ..evermuse.diagnosis import alike, likely_cause
from ..models import (
    BatchState,
    GroupState,
    OutboxBatch,
    OutboxGroup,
    OutboxRecord,
    OutboxRejection,
)
from ..models.group import GroupQuerySet, scope_of
from .channel import Channel

logger = logging.getLogger(__name__)

BATCHES = 3
"""Batches refused in full, one after the other, that make a group suspected."""

RECORDS = 10
"""Records refused for certain that pause a suspected group. Where every second record is good, ten in a row are
refused once in a thousand times."""

PROBE = 60.0
"""Seconds between two tries of a paused group."""

NEWEST = 5_000
"""Rejections that are looked through for those that were no record's fault."""


class Suspicion(Enum):
    """What is held against a group after another refusal."""

    NONE = auto()
    SUSPECTED = auto()
    PAUSED = auto()


def weigh(channel: Channel, batch: OutboxBatch, complaint: str, *, in_full: bool, certain: int) -> Suspicion:
    """Counts a refused batch against its group; call it with the workspace's turn taken.

    ``in_full`` says that no record of it is known to be good, ``certain`` how many are known to be bad.
    """
    rows = _row(channel, batch)
    row = rows.first()
    if not in_full:
        rows.resume()
        return Suspicion.NONE
    if row and row.state == GroupState.PAUSED and row.contract == batch.contract:
        rows.update(held_until=channel.clock.after(PROBE))
        return Suspicion.PAUSED
    row = _counted(channel, batch, row, alike(complaint), certain)
    if row.batches < BATCHES:
        return Suspicion.NONE
    if row.records < RECORDS:
        return Suspicion.SUSPECTED
    _pause(channel, row, complaint)
    return Suspicion.PAUSED


def clear(channel: Channel, batch: OutboxBatch) -> None:
    """Evermuse has accepted something of the batch: its group is out of trouble."""
    rows = _row(channel, batch)
    if rows.exists() and rows.resume():
        logger.info("the group %s · %s is out of trouble", batch.type, batch.product_id)


def paused_groups(channel: Channel) -> dict[tuple[str, str], OutboxGroup]:
    """The paused groups of the workspace by ``_type`` and ``_product_id``; a change of CONTRACT ends a pause."""
    rows = OutboxGroup.objects.using(channel.using).paused(channel.name)
    return {(row.type, row.product_id): row for row in rows.filter(contract=channel.workspace.contract)}


def may_probe(channel: Channel, row: OutboxGroup) -> bool:
    """Whether the caller is the one to try a record of the paused group now."""
    if row.held_until is None or row.held_until > channel.clock.now():
        return False
    until = channel.clock.after(channel.settings.lease)
    return OutboxGroup.objects.using(channel.using).claim_probe(row, until)


def _row(channel: Channel, batch: OutboxBatch) -> GroupQuerySet:
    return OutboxGroup.objects.using(channel.using).named(batch.workspace, batch.type, batch.product_id)


def _counted(
    channel: Channel, batch: OutboxBatch, row: OutboxGroup | None, complaint: str, certain: int
) -> OutboxGroup:
    """The row with this refusal in it: a new one where the complaint or the contract is another."""
    if row is None or (row.complaint, row.contract) != (complaint, batch.contract):
        row = OutboxGroup(
            scope=scope_of(batch.workspace, batch.type, batch.product_id),
            workspace=batch.workspace,
            type=batch.type,
            product_id=batch.product_id,
            since=channel.clock.now(),
            complaint=complaint,
            contract=batch.contract,
        )
    # Parts of a batch that was counted are no further batches.
    row.batches += batch.parent_id is None
    row.records += certain
    row.save(using=channel.using)
    return row


def _pause(channel: Channel, row: OutboxGroup, complaint: str) -> None:
    said = "; ".join(complaint.splitlines())
    reason = f"{row.batches} batches in a row were refused alike, with no record accepted: {said}"
    advice = likely_cause(complaint, row.contract)
    until = channel.clock.after(PROBE)
    OutboxGroup.objects.using(channel.using).pause(row, until, reason, advice)
    _withdraw(channel, row)
    _take_back_rejections(channel, row)
    logger.warning("the group %s is paused. %s %s", row, reason, advice)


def _withdraw(channel: Channel, row: OutboxGroup) -> None:
    """What is sealed and was never sent, or waits to be divided, goes back into the queue."""
    rows = OutboxBatch.objects.using(channel.using)
    mine = rows.filter(workspace=row.workspace, type=row.type, product_id=row.product_id)
    for batch in mine.filter(state__in=(BatchState.SEALED, BatchState.DIVIDING)):
        if rows.withdraw(batch, channel.clock.now(), "Its group was paused; its records wait again."):
            OutboxRecord.rows.using(channel.using).release(batch)


def _take_back_rejections(channel: Channel, row: OutboxGroup) -> None:
    """Records that were rejected on the way here for what was no fault of theirs → pending."""
    newest = OutboxRejection.objects.using(channel.using).order_by("-pk")[:NEWEST]
    blamed = {r.record_id for r in newest if r.rejected_at >= row.since and alike(r.message) == row.complaint}
    records = OutboxRecord.rows.using(channel.using)
    mine: Any = records.rejected().group(row.workspace, row.type, row.product_id).filter(pk__in=blamed)
    versions = mine.with_versions().values_list("pk", "newer")
    records.reopen([pk for pk, newer in versions if not newer])
