"""The circuit breaker of a group: pause a group in which Evermuse refuses every record for the same reason.

Evermuse refuses every record of a group if its project id is wrong, or if the API key may not use the contract.
The records are not at fault then. Without the breaker, isolation would use up the rate limit to reject them all.
So batches that are refused in full are counted for each group, until Evermuse accepts a record of it:

* From ``SUSPICIOUS_BATCHES`` batches on, each further request of the group tries a single record out of order.
* From ``BAD_RECORDS`` refused records on, the group is paused. The records that were rejected since the first of these
  refusals become pending again.
* If the records are not refused but fail, while batches of other groups pass, fewer of them are enough: a batch and
  three single records.
* Every ``PROBE_INTERVAL`` seconds, one record is sent alone as a *probe*. The pause ends when a probe is accepted or a
  person resumes the group.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import Enum, auto
from typing import Any

from django.db.models import Q

from ...evermuse.api import describe_cause_of_failures, describe_likely_cause, make_error_signature
from ...foreign_text import get_logger, headline
from ...models import (
    BatchState,
    GroupQuerySet,
    GroupState,
    OutboxBatch,
    OutboxGroup,
    OutboxRecord,
    OutboxRejection,
    group_key,
)
from ..context import DeliveryContext
from .workspace_breaker import PROBE_INTERVAL

logger = get_logger(__name__)

SUSPICIOUS_BATCHES = 3
"""Batches of a group refused in full, one after the other, before single records are tried."""

BAD_RECORDS = 10
"""Refused records that pause a suspicious group. If half of the records are good, ten refusals in a row happen once
in a thousand times."""

FAILED_BATCHES, FAILED_RECORDS = 1, 3
"""The same two numbers if batches fail while those of other groups pass. A batch has failed several times before it
counts. Three different records that all fail alone are hardly the only bad ones of a good group."""

CLEARED_FOR = timedelta(days=1)
"""After a pause, the same error counts as an error of single records for this time, because a record was accepted."""

RECENT_REJECTIONS = 5_000
"""How many of the latest rejections are searched, when a group is paused, for records that become pending again."""


WITHDRAWABLE = (BatchState.SEALED, BatchState.ISOLATING)
"""States in which a batch can be withdrawn if it is not in doubt. If Evermuse may have the records, they must not be
pending: then they could be discarded, and an older version could follow. See also ``isolation``."""


class Suspicion(Enum):
    """Whether a group is at fault, after another refusal."""

    NONE = auto()
    """The group is not at fault, as far as is known."""
    SUSPECTED = auto()
    """The group may be at fault, so the next request tries a single record."""
    PAUSED = auto()
    """The group is at fault, so its records are pending until a probe is accepted."""


def count_refusal(
    context: DeliveryContext,
    batch: OutboxBatch,
    error: str,
    *,
    in_full: bool,
    bad_records: int,
    is_failure: bool = False,
) -> Suspicion:
    """Count a refused batch against its group and pause the group if it has too many. Needs the sealing lock.

    Args:
        context: the delivery context.
        batch: the refused batch.
        error: the message of the refusal.
        in_full: whether no record of the batch is known to be good.
        bad_records: how many records of the batch are known to be bad.
        is_failure: whether the batch was not refused but failed while others passed.
    """
    if not in_full:
        clear_suspicion(context, batch)
        return Suspicion.NONE
    rows = _rows_of(context, batch)
    row = rows.filter(Q(contract=batch.contract) | Q(state=GroupState.HELD)).first()
    if row and row.state in (GroupState.PAUSED, GroupState.HELD):
        rows.delay_probe(row, context.clock.after(PROBE_INTERVAL))
        # Batches of the group that started isolating since the pause.
        withdraw_batches(context.using, row, context.clock.now())
        return Suspicion.PAUSED
    signature = make_error_signature(error)
    if row and _is_error_of_single_records(context, row, signature):
        return Suspicion.NONE
    row = _save_count(context, batch, row, signature, bad_records)
    batches, records = (FAILED_BATCHES, FAILED_RECORDS) if is_failure else (SUSPICIOUS_BATCHES, BAD_RECORDS)
    if row.batches < batches:
        return Suspicion.NONE
    if row.records < records:
        return Suspicion.SUSPECTED
    _pause(context, row, error, is_failure=is_failure)
    return Suspicion.PAUSED


def clear_suspicion(context: DeliveryContext, batch: OutboxBatch) -> None:
    """End the suspicion or pause of a batch's group, because Evermuse has accepted a record of it.

    A group that was paused keeps its row for ``CLEARED_FOR``. Otherwise a group with many bad records and a few good
    ones would be paused again and again.
    """
    rows = _rows_of(context, batch)
    row = rows.exclude(state=GroupState.CLEARED).first()
    if row and rows.clear(row, context.clock.now()):
        logger.info(
            "group %s is out of trouble: Evermuse accepted a record", row, extra=context.log_ids(group=row)
        )


def paused_groups(context: DeliveryContext) -> dict[tuple[str, str], OutboxGroup]:
    """Return the paused and held groups of the workspace by ``_type`` and ``_product_id``.

    Another CONTRACT ends a pause, but not a hold.
    """
    rows = OutboxGroup.objects.using(context.using).paused(context.workspace_name)
    of_contract = rows.filter(Q(contract=context.workspace.contract) | Q(state=GroupState.HELD))
    return {(row.type, row.product_id): row for row in of_contract}


def groups_without_probe(
    context: DeliveryContext, paused: Mapping[tuple[str, str], OutboxGroup]
) -> set[tuple[str, str]]:
    """Return the paused groups of which no record may be probed yet, and those that a person holds."""
    now = context.clock.now()
    return {group for group, row in paused.items() if row.blocked_until is None or row.blocked_until > now}


def claim_group_probe(context: DeliveryContext, row: OutboxGroup) -> bool:
    """Claim the right to try one record of a paused group. Return False if it is too early or another caller has it."""
    if row.blocked_until is None or row.blocked_until > context.clock.now():
        return False
    until = context.clock.after(context.settings.lease)
    return OutboxGroup.objects.using(context.using).claim_probe(row, until)


def _rows_of(context: DeliveryContext, batch: OutboxBatch) -> GroupQuerySet:
    return OutboxGroup.objects.using(context.using).for_group(batch.workspace, batch.type, batch.product_id)


def _is_error_of_single_records(context: DeliveryContext, row: OutboxGroup, signature: str) -> bool:
    was_cleared = row.state == GroupState.CLEARED and row.error_signature == signature
    return was_cleared and context.clock.now() - row.since < CLEARED_FOR


def _save_count(
    context: DeliveryContext, batch: OutboxBatch, row: OutboxGroup | None, signature: str, bad_records: int
) -> OutboxGroup:
    """Save the refusal in the group's row; start a new count for another error or contract."""
    rows = _rows_of(context, batch)
    # A part of a batch does not count as a batch, because the complete batch was counted before.
    batches = int(batch.parent_id is None)
    is_counting = row is not None and row.state == GroupState.SUSPECTED and row.error_signature == signature
    if row and is_counting and rows.count_refusal(row, batches=batches, records=bad_records):
        return row
    row = OutboxGroup(
        scope=group_key(batch.workspace, batch.type, batch.product_id),
        workspace=batch.workspace,
        type=batch.type,
        product_id=batch.product_id,
        since=context.clock.now(),
        error_signature=signature,
        contract=batch.contract,
        batches=batches,
        records=bad_records,
    )
    rows.suspect(row)
    return row


def _pause(context: DeliveryContext, row: OutboxGroup, error: str, *, is_failure: bool) -> None:
    """Pause the group. Records of its unsent batches, and those rejected since its first refusal, become pending."""
    message = "; ".join(error.splitlines())
    if is_failure:
        reason = f"its records failed alone, too, while other groups were accepted: {message}"
        advice = describe_cause_of_failures()
    else:
        counted = f"{row.batches} batches in a row were refused with the same error"
        reason = f"{counted}, and no record was accepted: {message}"
        advice = describe_likely_cause(error, row.contract)
    until = context.clock.after(PROBE_INTERVAL)
    OutboxGroup.objects.using(context.using).pause(row, until, reason, advice)
    withdraw_batches(context.using, row, context.clock.now())
    _reopen_rejected_records(context, row)
    ids = context.log_ids(group=row)
    logger.warning("group %s is paused. %s %s", row, headline(reason), advice, extra=ids)


def withdraw_batches(using: str, row: OutboxGroup, now: datetime) -> None:
    """Withdraw the group's batches that are not under way, so that their records become pending again.

    Needs the sealing lock.
    """
    rows = OutboxBatch.objects.using(using)
    batches = rows.filter(workspace=row.workspace, type=row.type, product_id=row.product_id)
    for batch in batches.filter(state__in=WITHDRAWABLE, in_doubt=False):
        # A database may compare text without regard to case; Evermuse compares exactly.
        if (batch.type, batch.product_id) == (row.type, row.product_id):
            withdraw_batch(using, batch, now, "Its group was paused; its records are pending again.")


def withdraw_batch(using: str, batch: OutboxBatch, now: datetime, message: str) -> bool:
    """Withdraw a batch in a state of :data:`WITHDRAWABLE` that is not in doubt; its records become pending again.

    Return False, and change nothing, if a worker has leased it or if Evermuse may have its records. Needs the sealing
    lock.
    """
    if has_failed_before(using, batch) or not OutboxBatch.objects.using(using).withdraw(batch, now, message):
        return False
    OutboxRecord.rows.using(using).release(batch)
    return True


def has_failed_before(using: str, batch: OutboxBatch) -> bool:
    """Return whether Evermuse accepted a batch with these records and reported FAILED: it may have stored some."""
    parent = batch.parent_id
    while parent:
        row = OutboxBatch.objects.using(using).filter(pk=parent).values_list("state", "parent_id").first()
        state, parent = row or (None, None)  # finished batches are purged
        if state == BatchState.FAILED:
            return True
    return False


def _reopen_rejected_records(context: DeliveryContext, row: OutboxGroup) -> None:
    """Make the records pending again that were rejected since the group's first refusal."""
    recent = OutboxRejection.objects.using(context.using).order_by("-pk")[:RECENT_REJECTIONS]
    rejected = {rejection.record_id for rejection in recent if rejection.rejected_at >= row.since}
    rows = OutboxRecord.rows.using(context.using)
    records: Any = rows.rejected().group(row.workspace, row.type, row.product_id).filter(pk__in=rejected)
    versions = records.with_versions().values_list("pk", "newer", "product_id")
    rows.reopen([pk for pk, newer, product in versions if not newer and product == row.product_id])
