"""Groups in which everything is refused alike: no record is at fault there, so that none may be used up.

A contract that the key is not served under, or a wrong project id, makes Evermuse refuse every record of a group.
Dividing would burn the quota to reject them all. So what is refused in full is counted, a group at a time, until
something is accepted. From :data:`BATCHES` batches on, the next requests of the group each try one record out of
turn, and with :data:`RECORDS` records refused for certain the group is paused: what was rejected on the way goes
back into the queue, and a record is tried each :data:`~.pace.PROBE` seconds until one is accepted or a person
resumes it.
"""

from __future__ import annotations

import logging
from datetime import timedelta
from enum import Enum, auto
from typing import Any

from ...evermuse.diagnosis import alike, likely_cause
from ...models import (
    BatchState,
    GroupState,
    OutboxBatch,
    OutboxGroup,
    OutboxRecord,
    OutboxRejection,
)
from ...models.group import GroupQuerySet, scope_of
from ..context.context import DeliveryContext
from .permits import PROBE

logger = logging.getLogger(__name__)

BATCHES = 3
"""Batches refused in full, one after the other, from which on records are tried out of turn."""

RECORDS = 10
"""Records refused for certain that pause the group then. Where every second record is good, ten in a row are
refused once in a thousand times."""

CLEARED_FOR = timedelta(days=1)
"""How long after a pause the same complaint counts as that of single records: something was accepted beside it."""

NEWEST = 5_000
"""Rejections that are looked through for those that were no record's fault."""


class Suspicion(Enum):
    """What is held against a group after another refusal."""

    NONE = auto()
    SUSPECTED = auto()
    PAUSED = auto()


def weigh(
    context: DeliveryContext, batch: OutboxBatch, error_signature: str, *, in_full: bool, certain: int
) -> Suspicion:
    """Counts a refused batch against its group; call it with the workspace's turn taken.

    ``in_full`` says that no record of it is known to be good, ``certain`` how many are known to be bad.
    """
    rows = _row(context, batch)
    row = rows.filter(contract=batch.contract).first()
    if not in_full:
        clear(context, batch)
        return Suspicion.NONE
    if row and row.state == GroupState.PAUSED:
        rows.update(blocked_until=context.clock.after(PROBE))
        _withdraw(context, row)  # what began to be divided since
        return Suspicion.PAUSED
    if row and _is_of_single_records(context, row, alike(error_signature)):
        return Suspicion.NONE
    row = _counted(context, batch, row, alike(error_signature), certain)
    if row.batches < BATCHES:
        return Suspicion.NONE
    if row.records < RECORDS:
        return Suspicion.SUSPECTED
    _pause(context, row, error_signature)
    return Suspicion.PAUSED


def clear(context: DeliveryContext, batch: OutboxBatch) -> None:
    """Evermuse has accepted something of the batch: its group is out of trouble.

    Where it was paused, it is kept in mind: what is refused with the same complaint from now on is refused for its
    own sake, or a group of many bad records with good ones among them would be paused again and again.
    """
    rows = _row(context, batch)
    row = rows.exclude(state=GroupState.CLEARED).first()
    if row and rows.clear(row, context.clock.now()):
        logger.info("the group %s is out of trouble", row)


def _is_of_single_records(context: DeliveryContext, row: OutboxGroup, error_signature: str) -> bool:
    was_cleared = row.state == GroupState.CLEARED and row.error_signature == error_signature
    return was_cleared and context.clock.now() - row.since < CLEARED_FOR


def paused_groups(context: DeliveryContext) -> dict[tuple[str, str], OutboxGroup]:
    """The paused groups of the workspace by ``_type`` and ``_product_id``; a change of CONTRACT ends a pause."""
    rows = OutboxGroup.objects.using(context.using).paused(context.workspace_name)
    return {(row.type, row.product_id): row for row in rows.filter(contract=context.workspace.contract)}


def may_probe(context: DeliveryContext, row: OutboxGroup) -> bool:
    """Whether the caller is the one to try a record of the paused group now."""
    if row.blocked_until is None or row.blocked_until > context.clock.now():
        return False
    until = context.clock.after(context.settings.lease)
    return OutboxGroup.objects.using(context.using).claim_probe(row, until)


def _row(context: DeliveryContext, batch: OutboxBatch) -> GroupQuerySet:
    return OutboxGroup.objects.using(context.using).named(batch.workspace, batch.type, batch.product_id)


def _counted(
    context: DeliveryContext, batch: OutboxBatch, row: OutboxGroup | None, error_signature: str, certain: int
) -> OutboxGroup:
    """The row with this refusal in it: a new one where the complaint or the contract is another."""
    if row is None or row.state == GroupState.CLEARED or row.error_signature != error_signature:
        row = OutboxGroup(
            scope=scope_of(batch.workspace, batch.type, batch.product_id),
            workspace=batch.workspace,
            type=batch.type,
            product_id=batch.product_id,
            since=context.clock.now(),
            error_signature=error_signature,
            contract=batch.contract,
        )
    # Parts of a batch that was counted are no further batches.
    row.batches += batch.parent_id is None
    row.records += certain
    row.save(using=context.using)
    return row


def _pause(context: DeliveryContext, row: OutboxGroup, error_signature: str) -> None:
    said = "; ".join(error_signature.splitlines())
    reason = f"{row.batches} batches in a row were refused alike, with no record accepted: {said}"
    advice = likely_cause(error_signature, row.contract)
    until = context.clock.after(PROBE)
    OutboxGroup.objects.using(context.using).pause(row, until, reason, advice)
    _withdraw(context, row)
    _take_back_rejections(context, row)
    logger.warning("the group %s is paused. %s %s", row, reason, advice)


def _withdraw(context: DeliveryContext, row: OutboxGroup) -> None:
    """What is sealed and was never sent, or waits to be divided, goes back into the queue."""
    rows = OutboxBatch.objects.using(context.using)
    mine = rows.filter(workspace=row.workspace, type=row.type, product_id=row.product_id)
    for batch in mine.filter(state__in=(BatchState.SEALED, BatchState.ISOLATING)):
        # A database may compare without regard to case; Evermuse does not.
        if (batch.type, batch.product_id) != (row.type, row.product_id):
            continue
        if rows.withdraw(batch, context.clock.now(), "Its group was paused; its records wait again."):
            OutboxRecord.rows.using(context.using).release(batch)


def _take_back_rejections(context: DeliveryContext, row: OutboxGroup) -> None:
    """Records that were rejected on the way here for what was no fault of theirs → pending: all since the first
    refusal, as nothing of the group was accepted meanwhile."""
    newest = OutboxRejection.objects.using(context.using).order_by("-pk")[:NEWEST]
    blamed = {rejection.record_id for rejection in newest if rejection.rejected_at >= row.since}
    records = OutboxRecord.rows.using(context.using)
    mine: Any = records.rejected().group(row.workspace, row.type, row.product_id).filter(pk__in=blamed)
    versions = mine.with_versions().values_list("pk", "newer", "product_id")
    records.reopen([pk for pk, newer, product in versions if not newer and product == row.product_id])
